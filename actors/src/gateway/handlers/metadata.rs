//! Metadata: where the topics are. Creates those that are missing, when it may.
//!
//! A topic that is created here is answered for when it can be used, so that the oldest clients, which ask four
//! times within 400 ms, find it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::metadata_request::MetadataRequestTopic;
use troupe_protocol::kafka::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use troupe_protocol::kafka::messages::{BrokerId, MetadataRequest, MetadataResponse};
use uuid::Uuid;

use super::common::{
    CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, broker_ids, reachable_brokers,
    text, topic_name,
};
use crate::controller::topics::NewTopic;
use crate::gateway::request::RequestContext;
use crate::metadata::{MetadataImage, NO_LEADER, PartitionImage, TopicImage, topic_name_error};

/// Answers with all topics, or with those that are asked for.
pub(crate) async fn handle(cx: RequestContext, request: MetadataRequest) -> MetadataResponse {
    let answer_operations = request.include_topic_authorized_operations;
    let topics = match &request.topics {
        // Version 0 has no null: there, an empty list asks for everything.
        None => all_topics(&cx, answer_operations),
        Some(topics) if topics.is_empty() && cx.version == 0 => all_topics(&cx, answer_operations),
        Some(topics) => {
            let created = create_missing(&cx, topics, request.allow_auto_topic_creation).await;
            let image = cx.broker.image();
            topics
                .iter()
                .map(|topic| asked_topic(&cx, &image, topic, &created, answer_operations))
                .collect()
        }
    };
    let image = cx.broker.image();
    let brokers = reachable_brokers(&cx, &image).map(|(broker, host, port)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(host)
            .with_port(port)
            .with_rack(broker.rack.as_deref().map(text))
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(&image.cluster_id)))
        .with_controller_id(BrokerId(image.controller_id))
        .with_topics(topics)
        .with_cluster_authorized_operations(if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED
        })
}

fn all_topics(cx: &RequestContext, operations: bool) -> Vec<MetadataResponseTopic> {
    let image = cx.broker.image();
    image
        .topics()
        .map(|topic| found(cx, &image, topic, operations))
        .collect()
}

/// Returns the name of a topic that is not asked for by its id. One with an id may have an empty name besides (the
/// consumers of Kafka 4 do so), which means nothing then.
fn asked_name(asked: &MetadataRequestTopic) -> Option<&str> {
    let name = asked.name.as_deref().map(|name| &**name);
    name.filter(|_| asked.topic_id.is_nil())
}

/// Creates the asked topics that are missing; returns why one was not.
async fn create_missing(
    cx: &RequestContext,
    topics: &[MetadataRequestTopic],
    allowed_by_client: bool,
) -> BTreeMap<String, ErrorCode> {
    // The flag came with version 4; before, every client allowed it.
    let allowed =
        cx.broker.config.auto_create_topics_enable && (allowed_by_client || cx.version < 4);
    let image = cx.broker.image();
    let missing: BTreeSet<&str> = topics
        .iter()
        .filter_map(asked_name)
        .filter(|name| image.topic(name).is_none() && topic_name_error(name).is_none())
        .collect();
    if !allowed || missing.is_empty() {
        return BTreeMap::new();
    }
    let new = missing.iter().map(|name| NewTopic {
        name: (*name).to_owned(),
        partitions: -1,
        replication_factor: -1,
        ..NewTopic::default()
    });
    let outcomes = cx.broker.topic_creation.create(new.collect()).await;
    missing
        .into_iter()
        .zip(outcomes)
        .filter_map(|(name, outcome)| match outcome.err()?.code {
            // Somebody else was faster.
            ErrorCode::TopicAlreadyExists => None,
            code => Some((name.to_owned(), code)),
        })
        .collect()
}

fn asked_topic(
    cx: &RequestContext,
    image: &MetadataImage,
    asked: &MetadataRequestTopic,
    refused: &BTreeMap<String, ErrorCode>,
    operations: bool,
) -> MetadataResponseTopic {
    let Some(name) = asked_name(asked) else {
        return match image.topic_by_id(asked.topic_id) {
            Some(topic) => found(cx, image, topic, operations),
            None => missing(ErrorCode::UnknownTopicId).with_topic_id(asked.topic_id),
        };
    };
    if let Some(topic) = image.topic(name) {
        return found(cx, image, topic, operations);
    }
    let code = if topic_name_error(name).is_some() {
        ErrorCode::InvalidTopicException
    } else {
        refused
            .get(name)
            .copied()
            .unwrap_or(ErrorCode::UnknownTopicOrPartition)
    };
    missing(code)
        .with_name(Some(topic_name(name)))
        .with_topic_id(Uuid::nil())
}

fn missing(code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(code.code())
        .with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
}

fn found(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &Arc<TopicImage>,
    operations: bool,
) -> MetadataResponseTopic {
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(index, partition)| answer_partition(cx.version, image, index, partition));
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topic.is_internal)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(if operations {
            TOPIC_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED
        })
}

fn answer_partition(
    version: i16,
    image: &MetadataImage,
    index: i32,
    partition: &PartitionImage,
) -> MetadataResponsePartition {
    let is_live = |id: &i32| image.brokers.contains_key(id);
    let live = |ids: &[i32]| ids.iter().copied().filter(is_live).collect::<Vec<_>>();
    let leader_is_live = is_live(&partition.leader);
    let (replicas, isr) = if version == 0 {
        // The oldest clients look every id up among the brokers of the same answer, and throw when it is not there.
        (live(&partition.replicas), live(&partition.isr))
    } else {
        (partition.replicas.clone(), partition.isr.clone())
    };
    let filtered = replicas.len() < partition.replicas.len() || isr.len() < partition.isr.len();
    let code = if !leader_is_live {
        ErrorCode::LeaderNotAvailable
    } else if filtered {
        ErrorCode::ReplicaNotAvailable
    } else {
        ErrorCode::None
    };
    let offline: Vec<i32> = partition
        .replicas
        .iter()
        .copied()
        .filter(|id| !is_live(id))
        .collect();
    MetadataResponsePartition::default()
        .with_error_code(code.code())
        .with_partition_index(index)
        .with_leader_id(BrokerId(if leader_is_live {
            partition.leader
        } else {
            NO_LEADER
        }))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(broker_ids(&replicas))
        .with_isr_nodes(broker_ids(&isr))
        .with_offline_replicas(broker_ids(&offline))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::BrokerNode;

    fn image_of(brokers: &[i32]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for &id in brokers {
            let node = BrokerNode {
                id,
                endpoints: Vec::new(),
                rack: None,
                epoch: 0,
            };
            image.brokers.insert(id, Arc::new(node));
        }
        image
    }

    fn partition(leader: i32, replicas: &[i32]) -> PartitionImage {
        PartitionImage {
            leader,
            leader_epoch: 3,
            replicas: replicas.to_vec(),
            isr: replicas.to_vec(),
            local: None,
        }
    }

    #[test]
    fn a_dead_leader_is_told_as_none() {
        let answer = answer_partition(12, &image_of(&[1]), 0, &partition(2, &[1, 2]));
        assert_eq!(answer.error_code, ErrorCode::LeaderNotAvailable.code());
        assert_eq!(answer.leader_id, BrokerId(-1));
        assert_eq!(answer.replica_nodes, broker_ids(&[1, 2]));
        assert_eq!(answer.offline_replicas, broker_ids(&[2]));
    }

    #[test]
    fn version_0_names_live_brokers_only() {
        let answer = answer_partition(0, &image_of(&[1]), 0, &partition(1, &[1, 2]));
        assert_eq!(answer.error_code, ErrorCode::ReplicaNotAvailable.code());
        assert_eq!(answer.leader_id, BrokerId(1));
        assert_eq!(answer.replica_nodes, broker_ids(&[1]));
        assert_eq!(answer.isr_nodes, broker_ids(&[1]));
    }
}
