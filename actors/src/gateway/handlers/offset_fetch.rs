//! OffsetFetch: version 0 from the znodes of the oldest consumers, all others from `__consumer_offsets`.

use std::sync::Arc;

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic,
};
use troupe_protocol::kafka::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use troupe_protocol::kafka::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::common::{text, topic_name};
use super::offset_commit::session;
use crate::coordination::{CoordinationClient, paths};
use crate::gateway::request::RequestContext;
use crate::groups::offsets::{CommittedOffset, TopicPartition};
use crate::groups::requests::{FetchedOffset, Request};
use crate::partition::Answer;

/// First version for several groups.
const FIRST_WITH_GROUPS: i16 = 8;
/// First version with an error for the whole group.
const FIRST_WITH_ERROR: i16 = 2;

/// Returns what is committed: in the partitions that are asked for, or in all.
pub(crate) async fn handle(cx: RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if cx.version == 0 {
        return from_znodes(&cx, &request).await;
    }
    if cx.version >= FIRST_WITH_GROUPS {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in &request.groups {
            groups.push(one_of_many(&cx, group, request.require_stable).await);
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let topics = request.topics.as_deref();
    let asked =
        topics.map(|topics| asked(topics.iter().map(|t| (&**t.name, &*t.partition_indexes))));
    match from_coordinator(&cx, &request.group_id, None, asked, request.require_stable).await {
        Ok(found) => OffsetFetchResponse::default().with_topics(answer(found)),
        Err(error) if cx.version >= FIRST_WITH_ERROR => {
            OffsetFetchResponse::default().with_error_code(error.code())
        }
        Err(error) => {
            let topics = topics.unwrap_or_default();
            OffsetFetchResponse::default().with_topics(refused(topics, error))
        }
    }
}

fn asked<'a>(topics: impl Iterator<Item = (&'a str, &'a [i32])>) -> Vec<TopicPartition> {
    let mut asked = Vec::new();
    for (name, indexes) in topics {
        let name: Arc<str> = Arc::from(name);
        asked.extend(indexes.iter().map(|&index| (Arc::clone(&name), index)));
    }
    asked
}

async fn from_coordinator(
    cx: &RequestContext,
    group: &str,
    reader: Option<(Arc<str>, i32)>,
    partitions: Option<Vec<TopicPartition>>,
    require_stable: bool,
) -> Answer<Vec<FetchedOffset>> {
    let group = Arc::from(group);
    let coordinator = cx.broker.groups.of(&group)?;
    coordinator
        .ask(|reply| Request::Offsets {
            group,
            reader,
            partitions,
            require_stable,
            reply,
        })
        .await
}

/// Offset, leader epoch and note as they are answered; -1 where nothing is committed.
fn parts(committed: Option<&CommittedOffset>) -> (i64, i32, Option<StrBytes>) {
    match committed {
        Some(committed) => (
            committed.offset,
            committed.leader_epoch,
            Some(text(&committed.metadata)),
        ),
        None => (-1, -1, Some(StrBytes::new())),
    }
}

fn answer(found: Vec<FetchedOffset>) -> Vec<OffsetFetchResponseTopic> {
    let mut topics: Vec<OffsetFetchResponseTopic> = Vec::new();
    for ((topic, index), committed) in found {
        let error = committed.as_ref().err().copied();
        let committed = committed.ok().flatten();
        let (offset, leader_epoch, metadata) = parts(committed.as_ref());
        let partition = OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(error.unwrap_or(ErrorCode::None).code())
            .with_committed_offset(offset)
            .with_committed_leader_epoch(leader_epoch)
            .with_metadata(metadata);
        match topics.last_mut().filter(|last| *last.name.0 == *topic) {
            Some(last) => last.partitions.push(partition),
            None => topics.push(
                OffsetFetchResponseTopic::default()
                    .with_name(topic_name(&topic))
                    .with_partitions(vec![partition]),
            ),
        }
    }
    topics
}

fn refused(topics: &[OffsetFetchRequestTopic], error: ErrorCode) -> Vec<OffsetFetchResponseTopic> {
    let refuse = |&index: &i32| unknown(index, error);
    topics
        .iter()
        .map(|topic| {
            OffsetFetchResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(topic.partition_indexes.iter().map(refuse).collect())
        })
        .collect()
}

fn unknown(index: i32, error: ErrorCode) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_metadata(Some(StrBytes::new()))
        .with_error_code(error.code())
}

async fn one_of_many(
    cx: &RequestContext,
    group: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let topics = group.topics.as_deref();
    let asked =
        topics.map(|topics| asked(topics.iter().map(|t| (&**t.name, &*t.partition_indexes))));
    let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    let reader = group.member_id.as_ref();
    let reader = reader.map(|id| (Arc::from(&**id), group.member_epoch));
    match from_coordinator(cx, &group.group_id, reader, asked, require_stable).await {
        Ok(found) => response.with_topics(answer_of_many(found)),
        Err(error) => response.with_error_code(error.code()),
    }
}

fn answer_of_many(found: Vec<FetchedOffset>) -> Vec<OffsetFetchResponseTopics> {
    answer(found)
        .into_iter()
        .map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(partition.partition_index)
                    .with_committed_offset(partition.committed_offset)
                    .with_committed_leader_epoch(partition.committed_leader_epoch)
                    .with_metadata(partition.metadata)
                    .with_error_code(partition.error_code)
            });
            OffsetFetchResponseTopics::default()
                .with_name(topic.name)
                .with_partitions(partitions.collect())
        })
        .collect()
}

async fn from_znodes(cx: &RequestContext, request: &OffsetFetchRequest) -> OffsetFetchResponse {
    let topics = request.topics.as_deref().unwrap_or_default();
    let coordination = match session(cx, &request.group_id) {
        Ok(coordination) => coordination,
        Err(error) => return OffsetFetchResponse::default().with_topics(refused(topics, error)),
    };
    let image = cx.broker.image();
    let mut answers = Vec::with_capacity(topics.len());
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for &index in &topic.partition_indexes {
            let known = image.partition(&topic.name, index).is_some();
            let path = paths::consumer_offset(&request.group_id, &topic.name, index);
            let offset = if known {
                stored_offset(&coordination, &path).await
            } else {
                Err(ErrorCode::UnknownTopicOrPartition)
            };
            partitions.push(match offset {
                Ok(offset) => unknown(index, ErrorCode::None).with_committed_offset(offset),
                Err(error) => unknown(index, error),
            });
        }
        answers.push(
            OffsetFetchResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions),
        );
    }
    OffsetFetchResponse::default().with_topics(answers)
}

/// Reads an offset from its node.
///
/// # Errors
/// UNKNOWN_TOPIC_OR_PARTITION when there is none: that is how this version says so.
async fn stored_offset(coordination: &CoordinationClient, path: &str) -> Answer<i64> {
    match coordination.get(path).await {
        Ok(Some((data, _))) => std::str::from_utf8(&data)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or(ErrorCode::UnknownServerError),
        Ok(None) => Err(ErrorCode::UnknownTopicOrPartition),
        Err(error) => {
            tracing::warn!(path, %error, "an offset can't be read");
            Err(ErrorCode::UnknownServerError)
        }
    }
}
