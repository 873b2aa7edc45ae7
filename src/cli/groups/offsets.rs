//! What a group has committed.

use std::collections::BTreeMap;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use troupe_protocol::kafka::messages::offset_fetch_request::OffsetFetchRequestGroup;
use troupe_protocol::kafka::messages::{
    OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse,
};

use super::super::client::{AdminClient, ClientError, Connection, topic_name};
use super::super::coordinator::{self, Kind, group_id};
use super::partitions::Partition;

/// The first version of OffsetFetch with several groups (KIP-709).
const FETCH_SEVERAL: i16 = 8;

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
