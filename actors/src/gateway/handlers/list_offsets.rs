//! ListOffsets: offsets by time (KIP-79, KIP-734), and the list of segment starts that version 0 asks for.
//!
//! There is no tiered storage: the earliest local offset (-4) is the earliest, and the latest tiered one (-5) is -1.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::legacy_messages::list_offsets_request::ListOffsetsPartition as PartitionV0;
use troupe_protocol::kafka::legacy_messages::list_offsets_response::{
    ListOffsetsPartitionResponse as PartitionResponseV0,
    ListOffsetsTopicResponse as TopicResponseV0,
};
use troupe_protocol::kafka::legacy_messages::{
    ListOffsetsRequest as RequestV0, ListOffsetsResponse as ResponseV0,
};
use troupe_protocol::kafka::messages::list_offsets_request::ListOffsetsPartition;
use troupe_protocol::kafka::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use troupe_protocol::kafka::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::leaders::led_here;
use crate::gateway::request::RequestContext;
use crate::metadata::MetadataImage;
use crate::partition::messages::{FoundOffset, ListOffset, ListSegmentOffsets, OffsetSpec, Reader};
use crate::partition::{Answer, PartitionHandle};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const READ_COMMITTED: i8 = 1;
const NOTHING: FoundOffset = FoundOffset {
    offset: -1,
    timestamp: -1,
    leader_epoch: -1,
};

/// Answers versions 1 and later: one offset for each partition.
pub(crate) async fn handle(cx: RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = cx.broker.image();
    let reader = reader(request.replica_id.0, request.isolation_level);
    let twice = named_twice(&request);
    let topics = request.topics.iter().map(|topic| async {
        let (cx, image, name) = (&cx, &*image, topic.name.as_str());
        let partitions = topic.partitions.iter().map(|partition| async {
            let repeated = twice.contains(&(name, partition.partition_index));
            let found = if repeated {
                Err(ErrorCode::InvalidRequest)
            } else {
                find(cx, image, name, partition, reader).await
            };
            answer(cx.version, partition.partition_index, found)
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(join_all(partitions).await)
    });
    ListOffsetsResponse::default().with_topics(join_all(topics).await)
}

/// Returns the partitions that a request names more than once, which Kafka answers with an error.
fn named_twice(request: &ListOffsetsRequest) -> BTreeSet<(&str, i32)> {
    let mut seen = BTreeSet::new();
    let topics = request.topics.iter();
    let all = topics.flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(|partition| (topic.name.as_str(), partition.partition_index))
    });
    all.filter(|partition| !seen.insert(*partition)).collect()
}

fn reader(replica_id: i32, isolation_level: i8) -> Reader {
    match replica_id {
        0.. => Reader::Follower { broker: replica_id },
        -2 => Reader::Debug,
        _ if isolation_level == READ_COMMITTED => Reader::CommittedConsumer,
        _ => Reader::Consumer,
    }
}

async fn find(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &str,
    partition: &ListOffsetsPartition,
    reader: Reader,
) -> Answer<FoundOffset> {
    let handle = replica(cx, image, topic, partition.partition_index, reader)?;
    let Some(spec) = spec(partition.timestamp, cx.version)? else {
        return Ok(NOTHING);
    };
    let current_leader_epoch = partition.current_leader_epoch;
    handle
        .ask(|reply| ListOffset {
            spec,
            reader,
            current_leader_epoch,
            reply,
        })
        .await
}

/// Returns the replica that answers: the leader, or for debugging whichever is here.
fn replica(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &str,
    index: i32,
    reader: Reader,
) -> Answer<PartitionHandle> {
    let local = image
        .partition(topic, index)
        .and_then(|partition| partition.local.as_ref());
    match local {
        Some(local) if reader == Reader::Debug => Ok(local.clone()),
        _ => led_here(cx, image, topic, index),
    }
}

/// Returns what a timestamp stands for; `None` for an offset that never exists here.
fn spec(timestamp: i64, version: i16) -> Answer<Option<OffsetSpec>> {
    match timestamp {
        0.. => Ok(Some(OffsetSpec::Timestamp(timestamp))),
        LATEST => Ok(Some(OffsetSpec::Latest)),
        EARLIEST => Ok(Some(OffsetSpec::Earliest)),
        MAX_TIMESTAMP if version >= 7 => Ok(Some(OffsetSpec::MaxTimestamp)),
        EARLIEST_LOCAL if version >= 8 => Ok(Some(OffsetSpec::Earliest)),
        LATEST_TIERED if version >= 9 => Ok(None),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

fn answer(version: i16, index: i32, found: Answer<FoundOffset>) -> ListOffsetsPartitionResponse {
    let error = match found {
        Ok(_) => ErrorCode::None,
        Err(ErrorCode::OffsetNotAvailable) if version <= 4 => ErrorCode::LeaderNotAvailable,
        Err(error) => error,
    };
    let found = found.unwrap_or(NOTHING);
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(error.code())
        .with_offset(found.offset)
        .with_timestamp(found.timestamp)
        .with_leader_epoch(if version >= 4 { found.leader_epoch } else { -1 })
}

/// Answers version 0: several offsets for each partition, newest first.
pub(crate) async fn handle_v0(cx: RequestContext, request: RequestV0) -> ResponseV0 {
    let image = cx.broker.image();
    let reader = reader(request.replica_id.0, 0);
    let topics = request.topics.iter().map(|topic| async {
        let (cx, image, name) = (&cx, &*image, topic.name.as_str());
        let partitions = topic.partitions.iter().map(|partition| async {
            let listed = list(cx, image, name, partition, reader).await;
            let error = listed.as_ref().err().copied().unwrap_or(ErrorCode::None);
            PartitionResponseV0::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.code())
                .with_old_style_offsets(listed.unwrap_or_default())
        });
        TopicResponseV0::default()
            .with_name(topic.name.clone())
            .with_partitions(join_all(partitions).await)
    });
    ResponseV0::default().with_topics(join_all(topics).await)
}

async fn list(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &str,
    partition: &PartitionV0,
    reader: Reader,
) -> Answer<Vec<i64>> {
    let handle = replica(cx, image, topic, partition.partition_index, reader)?;
    if partition.timestamp < EARLIEST {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let timestamp = partition.timestamp;
    let max_offsets = usize::try_from(partition.max_num_offsets).unwrap_or(0);
    handle
        .ask(|reply| ListSegmentOffsets {
            timestamp,
            max_offsets,
            reply,
        })
        .await
}

#[cfg(test)]
mod tests {
    use troupe_protocol::kafka::messages::list_offsets_request::ListOffsetsTopic;

    use super::*;

    #[test]
    fn special_times_need_their_version() {
        assert_eq!(spec(1_234, 1), Ok(Some(OffsetSpec::Timestamp(1_234))));
        assert_eq!(
            (spec(-1, 1), spec(-2, 1)),
            (Ok(Some(OffsetSpec::Latest)), Ok(Some(OffsetSpec::Earliest)))
        );
        for (time, since, means) in [
            (-3, 7, Some(OffsetSpec::MaxTimestamp)),
            (-4, 8, Some(OffsetSpec::Earliest)),
            (-5, 9, None),
        ] {
            assert_eq!(spec(time, since), Ok(means));
            assert_eq!(spec(time, since - 1), Err(ErrorCode::UnsupportedVersion));
        }
        assert_eq!(spec(-6, 10), Err(ErrorCode::UnsupportedVersion));
    }

    #[test]
    fn old_versions_get_the_errors_they_know() {
        let code = |version| answer(version, 0, Err(ErrorCode::OffsetNotAvailable)).error_code;
        assert_eq!((code(4), code(5)), (5, 78));
        let found = answer(
            3,
            0,
            Ok(FoundOffset {
                offset: 7,
                timestamp: 8,
                leader_epoch: 9,
            }),
        );
        assert_eq!(
            (found.offset, found.timestamp, found.leader_epoch),
            (7, 8, -1)
        );
    }

    #[test]
    fn a_partition_named_twice_is_found() {
        let partitions =
            [0, 1, 0].map(|index| ListOffsetsPartition::default().with_partition_index(index));
        let topic = ListOffsetsTopic::default().with_partitions(partitions.to_vec());
        let request = ListOffsetsRequest::default().with_topics(vec![topic]);
        assert_eq!(
            named_twice(&request).into_iter().collect::<Vec<_>>(),
            [("", 0)]
        );
    }
}
