//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455).

use std::collections::BTreeMap;
use std::sync::Arc;

use troupe_protocol::kafka::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use troupe_protocol::kafka::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use troupe_protocol::kafka::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::common::{broker_ids, text, topic_name};
use crate::gateway::request::RequestContext;
use crate::partition::TopicPartition;

/// Has partitions go to other brokers, or back.
pub(crate) async fn alter(
    cx: RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let mut asked = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let replicas = partition.replicas.as_ref();
            let replicas = replicas.map(|ids| ids.iter().map(|id| id.0).collect());
            let name = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            asked.insert(name, replicas);
        }
    }
    let altered = cx.broker.controller.alter_reassignments(asked);
    let response = AlterPartitionReassignmentsResponse::default();
    let outcomes = match altered.await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            return response
                .with_error_code(error.code.code())
                .with_error_message(Some(text(&error.message)));
        }
    };
    let partitions = outcomes.into_iter().map(|(partition, outcome)| {
        let mut answer =
            ReassignablePartitionResponse::default().with_partition_index(partition.partition);
        if let Err(error) = outcome {
            answer.error_code = error.code.code();
            answer.error_message = Some(text(&error.message));
        }
        (partition.topic, answer)
    });
    let topics = by_topic(partitions).map(|(name, partitions)| {
        ReassignableTopicResponse::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions)
    });
    response.with_responses(topics.collect())
}

/// Lists what is on its way to other brokers.
pub(crate) async fn list(
    cx: RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let asked = request.topics.map(|topics| {
        let named = topics.iter().flat_map(|topic| {
            let partitions = topic.partition_indexes.iter();
            partitions.map(|&partition| TopicPartition::new(topic.name.as_str(), partition))
        });
        named.collect()
    });
    let response = ListPartitionReassignmentsResponse::default();
    let underway = match cx.broker.controller.list_reassignments(asked).await {
        Ok(underway) => underway,
        Err(error) => {
            return response
                .with_error_code(error.code.code())
                .with_error_message(Some(text(&error.message)));
        }
    };
    let partitions = underway.into_iter().map(|(partition, assignment)| {
        let answer = OngoingPartitionReassignment::default()
            .with_partition_index(partition.partition)
            .with_replicas(broker_ids(&assignment.replicas))
            .with_adding_replicas(broker_ids(&assignment.adding))
            .with_removing_replicas(broker_ids(&assignment.removing));
        (partition.topic, answer)
    });
    let topics = by_topic(partitions).map(|(name, partitions)| {
        OngoingTopicReassignment::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions)
    });
    response.with_topics(topics.collect())
}

fn by_topic<T>(
    partitions: impl Iterator<Item = (Arc<str>, T)>,
) -> impl Iterator<Item = (Arc<str>, Vec<T>)> {
    let mut topics = BTreeMap::<_, Vec<T>>::new();
    for (topic, answer) in partitions {
        topics.entry(topic).or_default().push(answer);
    }
    topics.into_iter()
}
