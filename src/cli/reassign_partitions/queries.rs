//! What the tool asks the brokers.

use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use troupe_protocol::kafka::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use troupe_protocol::kafka::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ListPartitionReassignmentsRequest,
};

use super::super::client::{AdminClient, topic_name};
use super::super::exceptions;
use super::super::log_offsets::Partition;
use super::super::tool::ToolError;
use super::files::Assignment;

/// How long the controller may take, in milliseconds.
const TIMEOUT_MS: i32 = 60_000;

/// A move under way.
#[derive(Debug, Default)]
pub(super) struct Move {
    /// All replicas: those that stay, come and go.
    pub(super) replicas: Vec<i32>,
    pub(super) adding: Vec<i32>,
    pub(super) removing: Vec<i32>,
}

/// Returns the moves under way, of some partitions or of all.
pub(super) async fn moves(
    client: &mut AdminClient,
    partitions: Option<BTreeSet<Partition>>,
) -> Result<BTreeMap<Partition, Move>, ToolError> {
    let topic = |(name, partitions)| {
        ListPartitionReassignmentsTopics::default()
            .with_name(topic_name(name))
            .with_partition_indexes(partitions)
    };
    let topics = partitions.map(|partitions| by_topic(partitions).map(topic).collect());
    let request = ListPartitionReassignmentsRequest::default()
        .with_timeout_ms(TIMEOUT_MS)
        .with_topics(topics);
    let response = client.controller().await?.call(request).await?;
    check(response.error_code, response.error_message.as_ref())?;
    let ids = |ids: Vec<BrokerId>| ids.into_iter().map(|id| id.0).collect();
    let mut moves = BTreeMap::new();
    for topic in response.topics {
        for told in topic.partitions {
            let found = Move {
                replicas: ids(told.replicas),
                adding: ids(told.adding_replicas),
                removing: ids(told.removing_replicas),
            };
            moves.insert((topic.name.to_string(), told.partition_index), found);
        }
    }
    Ok(moves)
}

fn by_topic(
    partitions: impl IntoIterator<Item = Partition>,
) -> impl Iterator<Item = (String, Vec<i32>)> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(partition);
    }
    topics.into_iter()
}

fn check(code: i16, message: Option<&StrBytes>) -> Result<(), ToolError> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        _ => Err(ToolError::Told(exceptions::told(code, message))),
    }
}

/// Returns the ids of the brokers that are there.
pub(super) async fn brokers(client: &mut AdminClient) -> Result<BTreeSet<i32>, ToolError> {
    let metadata = client.metadata(Some(Vec::new())).await?;
    Ok(metadata
        .brokers
        .iter()
        .map(|broker| broker.node_id.0)
        .collect())
}

/// Returns where all partitions of the topics are that there are.
pub(super) async fn replicas(
    client: &mut AdminClient,
    topics: BTreeSet<String>,
) -> Result<Assignment, ToolError> {
    let mut assignment = Assignment::new();
    if topics.is_empty() {
        return Ok(assignment);
    }
    let metadata = client.metadata(Some(topics.into_iter().collect())).await?;
    for topic in metadata.topics {
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        for told in topic.partitions {
            let replicas = told.replica_nodes.into_iter().map(|id| id.0).collect();
            assignment.insert((name.clone(), told.partition_index), replicas);
        }
    }
    Ok(assignment)
}

/// Begins moves, or ends them where no replicas are given; returns why some were refused.
pub(super) async fn alter(
    client: &mut AdminClient,
    moves: BTreeMap<Partition, Option<Vec<i32>>>,
) -> Result<BTreeMap<Partition, String>, ToolError> {
    let mut topics: BTreeMap<String, Vec<ReassignablePartition>> = BTreeMap::new();
    let asked: BTreeSet<Partition> = moves.keys().cloned().collect();
    for ((topic, index), replicas) in moves {
        let replicas = replicas.map(|ids| ids.into_iter().map(BrokerId).collect());
        let partition = ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas);
        topics.entry(topic).or_default().push(partition);
    }
    let topic = |(name, partitions)| {
        let topic = ReassignableTopic::default().with_name(topic_name(name));
        topic.with_partitions(partitions)
    };
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(TIMEOUT_MS)
        .with_topics(topics.into_iter().map(topic).collect());
    let response = client.controller().await?.call(request).await?;
    if response.error_code != ErrorCode::None.code() {
        let text = exceptions::text_of(response.error_code, response.error_message.as_ref());
        return Ok(asked
            .into_iter()
            .map(|partition| (partition, text.clone()))
            .collect());
    }
    let mut refused = BTreeMap::new();
    for topic in response.responses {
        for told in topic.partitions {
            if told.error_code != ErrorCode::None.code() {
                let text = exceptions::text_of(told.error_code, told.error_message.as_ref());
                refused.insert((topic.name.to_string(), told.partition_index), text);
            }
        }
    }
    Ok(refused)
}
