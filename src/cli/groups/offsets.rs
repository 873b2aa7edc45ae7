//! What a group has committed, and where the logs begin and end.

use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsTopic,
};
use troupe_protocol::kafka::messages::metadata_response::MetadataResponseBroker;
use troupe_protocol::kafka::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use troupe_protocol::kafka::messages::offset_fetch_request::OffsetFetchRequestGroup;
use troupe_protocol::kafka::messages::{
    BrokerId, ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse,
};

use super::super::client::{AdminClient, ClientError, Connection, topic_name};
use super::super::coordinator::{self, Kind, group_id};
use super::partitions::Partition;

/// The first version of OffsetFetch with several groups (KIP-709).
const FETCH_SEVERAL: i16 = 8;
/// The timestamps that ask for the beginning and the end of a log.
pub(super) const EARLIEST: i64 = -2;
pub(super) const LATEST: i64 = -1;
/// What the broker answers when no record is as late as the timestamp.
pub(super) const NO_OFFSET: i64 = -1;
const NO_REPLICA: BrokerId = BrokerId(-1);

/// Asks for all offsets that a group has committed.
pub(super) async fn committed(
    client: &mut AdminClient,
    group: &str,
) -> Result<BTreeMap<Partition, i64>, ClientError> {
    let request = |broker: &Connection| {
        let request = OffsetFetchRequest::default();
        let version = broker.version::<OffsetFetchRequest>();
        if version.is_none_or(|version| version < FETCH_SEVERAL) {
            return request.with_group_id(group_id(group)).with_topics(None);
        }
        let asked = OffsetFetchRequestGroup::default().with_group_id(group_id(group));
        request.with_groups(vec![asked.with_topics(None)])
    };
    let code = |response: &OffsetFetchResponse| match response.groups.first() {
        Some(group) => group.error_code,
        None => response.error_code,
    };
    let (_, response) = coordinator::ask(client, Kind::Group, group, request, code).await?;
    let mut offsets = BTreeMap::new();
    let mut note = |topic: &str, partition, offset, code| {
        if code == ErrorCode::None.code() && offset >= 0 {
            offsets.insert((topic.to_owned(), partition), offset);
        }
    };
    for topic in response.topics {
        for told in topic.partitions {
            note(
                &topic.name,
                told.partition_index,
                told.committed_offset,
                told.error_code,
            );
        }
    }
    for topic in response.groups.into_iter().flat_map(|group| group.topics) {
        for told in topic.partitions {
            note(
                &topic.name,
                told.partition_index,
                told.committed_offset,
                told.error_code,
            );
        }
    }
    Ok(offsets)
}

/// Commits offsets for a group without members.
pub(super) async fn commit(
    client: &mut AdminClient,
    group: &str,
    offsets: &BTreeMap<Partition, i64>,
) -> Result<(), ClientError> {
    let mut topics: BTreeMap<&String, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(Default::default()));
        topics.entry(topic).or_default().push(partition);
    }
    let topic = |(name, partitions): (&&String, &Vec<_>)| {
        OffsetCommitRequestTopic::default()
            .with_name(topic_name((*name).clone()))
            .with_partitions(partitions.clone())
    };
    let request = |_: &Connection| {
        OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_retention_time_ms(-1)
            .with_topics(topics.iter().map(topic).collect())
    };
    coordinator::ask(client, Kind::Group, group, request, |response| {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let mut codes = partitions.map(|told| told.error_code);
        codes.find(|code| *code != 0).unwrap_or_default()
    })
    .await?;
    Ok(())
}

/// An offset of a log, or why it is not known.
pub(super) type LogOffset = Result<i64, ErrorCode>;

/// Asks the leaders of partitions for an offset by time in milliseconds, or for [`EARLIEST`] or [`LATEST`].
pub(super) async fn of_logs(
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
