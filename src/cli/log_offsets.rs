//! Where the logs begin and end, and which offset belongs to a time.

use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsTopic,
};
use troupe_protocol::kafka::messages::metadata_response::MetadataResponseBroker;
use troupe_protocol::kafka::messages::{BrokerId, ListOffsetsRequest};

use super::client::{AdminClient, ClientError, topic_name};

/// A topic and a partition of it.
pub(crate) type Partition = (String, i32);

/// The timestamps that ask for the beginning and the end of a log.
pub(crate) const EARLIEST: i64 = -2;
pub(crate) const LATEST: i64 = -1;
/// What the broker answers when no record is as late as the timestamp.
pub(crate) const NO_OFFSET: i64 = -1;
const NO_REPLICA: BrokerId = BrokerId(-1);

/// An offset of a log, or why it is not known.
pub(crate) type LogOffset = Result<i64, ErrorCode>;

/// Asks the leaders of partitions for an offset by time in milliseconds, or for [`EARLIEST`] or [`LATEST`].
pub(crate) async fn of_logs(
    client: &mut AdminClient,
    partitions: &BTreeSet<Partition>,
    timestamp: i64,
) -> Result<BTreeMap<Partition, LogOffset>, ClientError> {
    let unknown = partitions.iter().cloned();
    let mut offsets: BTreeMap<_, LogOffset> = unknown
        .map(|partition| (partition, Err(ErrorCode::UnknownTopicOrPartition)))
        .collect();
    let topics: BTreeSet<String> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
    if topics.is_empty() {
        return Ok(offsets);
    }
    let metadata = client.metadata(Some(topics.into_iter().collect())).await?;
    let mut led: BTreeMap<BrokerId, Vec<Partition>> = BTreeMap::new();
    for topic in metadata.topics {
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        for told in topic.partitions {
            let partition = (name.clone(), told.partition_index);
            if let Some(offset) = offsets.get_mut(&partition) {
                *offset = Err(ErrorCode::LeaderNotAvailable);
                led.entry(told.leader_id).or_default().push(partition);
            }
        }
    }
    for broker in metadata.brokers {
        if let Some(partitions) = led.remove(&broker.node_id) {
            offsets.extend(of_leader(client, &broker, partitions, timestamp).await);
        }
    }
    Ok(offsets)
}

async fn of_leader(
    client: &mut AdminClient,
    leader: &MetadataResponseBroker,
    partitions: Vec<Partition>,
    timestamp: i64,
) -> Vec<(Partition, LogOffset)> {
    let mut topics: BTreeMap<&String, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (topic, partition) in &partitions {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(*partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        topics.entry(topic).or_default().push(asked);
    }
    let topic = |(name, partitions): (&String, _)| {
        ListOffsetsTopic::default()
            .with_name(topic_name(name.clone()))
            .with_partitions(partitions)
    };
    let request = ListOffsetsRequest::default()
        .with_replica_id(NO_REPLICA)
        .with_topics(topics.into_iter().map(topic).collect());
    let answer = match client.broker(&leader.host, leader.port).await {
        Ok(connection) => connection.call(request).await,
        Err(error) => Err(error),
    };
    let Ok(answer) = answer else {
        let unreachable = |partition| (partition, Err(ErrorCode::LeaderNotAvailable));
        return partitions.into_iter().map(unreachable).collect();
    };
    let mut offsets = Vec::new();
    for topic in answer.topics {
        for told in topic.partitions {
            let offset = match ClientError::check(told.error_code, None) {
                Ok(()) => Ok(told.offset),
                Err(error) => Err(error.code().unwrap_or(ErrorCode::UnknownServerError)),
            };
            offsets.push(((topic.name.to_string(), told.partition_index), offset));
        }
    }
    offsets
}
