//! DescribeCluster and DescribeTopicPartitions (KIP-700, KIP-966).

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::describe_cluster_response::DescribeClusterBroker;
use troupe_protocol::kafka::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use troupe_protocol::kafka::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
};

use super::common::{
    CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, broker_ids, reachable_brokers,
    text, topic_name,
};
use crate::gateway::request::RequestContext;
use crate::metadata::{MetadataImage, NO_LEADER, PartitionImage, TopicImage, topic_name_error};

/// The endpoint type that stands for brokers.
const BROKERS: i8 = 1;
/// The endpoint type that stands for controllers, which only KRaft has apart.
const CONTROLLERS: i8 = 2;

/// Partitions in one answer at most, as Kafka's `max.request.partition.size.limit` has it.
const PARTITIONS_PER_ANSWER: i32 = 2_000;

/// Answers with the brokers.
pub(crate) async fn describe(
    cx: RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if cx.version >= 1
        && let Some((code, message)) = endpoint_error(request.endpoint_type)
    {
        return DescribeClusterResponse::default()
            .with_error_code(code.code())
            .with_error_message(Some(text(&message)))
            .with_endpoint_type(BROKERS);
    }
    let image = cx.broker.image();
    let brokers = reachable_brokers(&cx, &image).map(|(broker, host, port)| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(broker.id))
            .with_host(host)
            .with_port(port)
            .with_rack(broker.rack.as_deref().map(text))
    });
    DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(text(&image.cluster_id))
        .with_controller_id(BrokerId(image.controller_id))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED
        })
}

/// Says why an endpoint type can't be described here.
fn endpoint_error(kind: i8) -> Option<(ErrorCode, String)> {
    match kind {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "This listener leads to brokers, not controllers.".to_owned(),
        )),
        other => Some((
            ErrorCode::UnsupportedEndpointType,
            format!("Unsupported endpoint type {other}"),
        )),
    }
}

/// Answers with topics, by name, from the cursor on, until the answer is full.
pub(crate) async fn describe_topic_partitions(
    cx: RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = cx.broker.image();
    let mut names: Vec<String> = if request.topics.is_empty() {
        image.topics().map(|topic| topic.name.to_string()).collect()
    } else {
        request
            .topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    };
    names.sort();
    names.dedup();
    let (first_topic, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.to_string(), cursor.partition_index.max(0)),
        None => (String::new(), 0),
    };
    names.retain(|name| *name >= first_topic);
    let mut room = match request.response_partition_limit {
        limit if limit > 0 => limit.min(PARTITIONS_PER_ANSWER),
        _ => PARTITIONS_PER_ANSWER,
    };
    let mut topics = Vec::new();
    let mut next = None;
    for name in &names {
        let start = if *name == first_topic {
            first_partition
        } else {
            0
        };
        if room == 0 {
            next = Some(cursor(name, 0));
            break;
        }
        let Some(topic) = image.topic(name) else {
            topics.push(unknown(name));
            continue;
        };
        let answer = describe_topic(&image, topic, start, room);
        let answered = i32::try_from(answer.partitions.len()).unwrap_or(room);
        room -= answered;
        topics.push(answer);
        let end = start.saturating_add(answered);
        if topic.partition(end).is_some() {
            next = Some(cursor(name, end));
            break;
        }
    }
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next)
}

fn cursor(topic: &str, partition: i32) -> Cursor {
    Cursor::default()
        .with_topic_name(topic_name(topic))
        .with_partition_index(partition)
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = if topic_name_error(name).is_some() {
        ErrorCode::InvalidTopicException
    } else {
        ErrorCode::UnknownTopicOrPartition
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(topic_name(name)))
        .with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
}

fn describe_topic(
    image: &MetadataImage,
    topic: &TopicImage,
    start: i32,
    room: i32,
) -> DescribeTopicPartitionsResponseTopic {
    let skip = usize::try_from(start).unwrap_or(0);
    let take = usize::try_from(room).unwrap_or(0);
    let partitions = (0..).zip(&topic.partitions).skip(skip).take(take);
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topic.is_internal)
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
        .with_partitions(
            partitions
                .map(|(index, partition)| describe_partition(image, index, partition))
                .collect(),
        )
}

/// Describes a partition. Eligible leader replicas are a KRaft matter: there are none. Null, which the schema allows,
/// breaks the admin client of Kafka 3.9.
fn describe_partition(
    image: &MetadataImage,
    index: i32,
    partition: &PartitionImage,
) -> DescribeTopicPartitionsResponsePartition {
    let is_live = |id: &i32| image.brokers.contains_key(id);
    let leader = Some(partition.leader).filter(is_live);
    let code = match leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    let offline: Vec<i32> = partition
        .replicas
        .iter()
        .copied()
        .filter(|id| !is_live(id))
        .collect();
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(code.code())
        .with_partition_index(index)
        .with_leader_id(BrokerId(leader.unwrap_or(NO_LEADER)))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(broker_ids(&partition.replicas))
        .with_isr_nodes(broker_ids(&partition.isr))
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
        .with_offline_replicas(broker_ids(&offline))
}
