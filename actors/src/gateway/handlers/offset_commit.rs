//! OffsetCommit: version 0 into the znodes of the oldest consumers, all others into `__consumer_offsets`.

use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use troupe_protocol::kafka::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use troupe_protocol::kafka::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::group_membership::member_ref;
use crate::coordination::{CoordinationClient, paths};
use crate::gateway::request::RequestContext;
use crate::groups::offsets::{CommittedOffset, TopicPartition, check_metadata};
use crate::groups::requests::Request;
use crate::partition::Answer;

/// First version in which members of consumer groups may commit: the generation is their epoch.
const FIRST_WITH_MEMBER_EPOCH: i16 = 9;

/// Commits what can be committed: partitions that exist, with notes that are not too long.
pub(crate) async fn handle(
    cx: RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let mut checked = check(&cx, &request);
    let outcome = if cx.version == 0 {
        to_znodes(&cx, &request, &mut checked).await
    } else {
        to_coordinator(&cx, &request, &checked).await
    };
    if let Err(error) = outcome {
        // What was refused for itself keeps its reason.
        for code in checked.iter_mut().filter(|code| !code.is_error()) {
            *code = error;
        }
    }
    let mut codes = checked.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let code = codes.next().unwrap_or(ErrorCode::UnknownServerError);
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    OffsetCommitResponse::default().with_topics(topics)
}

/// Lists the partitions of a request in its order.
fn partitions(
    request: &OffsetCommitRequest,
) -> impl Iterator<Item = (&OffsetCommitRequestTopic, &OffsetCommitRequestPartition)> {
    request.topics.iter().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(move |partition| (topic, partition))
    })
}

fn note(partition: &OffsetCommitRequestPartition) -> &str {
    partition.committed_metadata.as_deref().unwrap_or_default()
}

/// Checks each partition for itself.
fn check(cx: &RequestContext, request: &OffsetCommitRequest) -> Vec<ErrorCode> {
    let image = cx.broker.image();
    let max_bytes = cx.broker.groups.config().offset_metadata_max_bytes;
    partitions(request)
        .map(|(topic, partition)| {
            if image
                .partition(&topic.name, partition.partition_index)
                .is_none()
            {
                return ErrorCode::UnknownTopicOrPartition;
            }
            let checked = check_metadata(note(partition), max_bytes);
            checked.err().unwrap_or(ErrorCode::None)
        })
        .collect()
}

async fn to_coordinator(
    cx: &RequestContext,
    request: &OffsetCommitRequest,
    checked: &[ErrorCode],
) -> Answer<()> {
    let now_ms = cx.broker.runtime.clock.now_ms();
    let retention_ms = request.retention_time_ms;
    let expires_ms = (retention_ms >= 0).then(|| now_ms.saturating_add(retention_ms));
    let offsets: Vec<(TopicPartition, CommittedOffset)> = partitions(request)
        .zip(checked)
        .filter(|(_, code)| !code.is_error())
        .map(|((topic, partition), _)| {
            let committed = CommittedOffset {
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: note(partition).into(),
                committed_ms: now_ms,
                expires_ms,
            };
            let name = Arc::from(&**topic.name);
            ((name, partition.partition_index), committed)
        })
        .collect();
    if offsets.is_empty() {
        return Ok(());
    }
    let group: Arc<str> = Arc::from(&**request.group_id);
    if group.len() > usize::from(i16::MAX.unsigned_abs()) {
        return Err(ErrorCode::InvalidGroupId);
    }
    let coordinator = cx.broker.groups.of(&group)?;
    let member = member_ref(&request.member_id, request.group_instance_id.as_ref());
    let generation = request.generation_id_or_member_epoch;
    coordinator
        .ask(|reply| Request::Commit {
            group,
            member,
            generation,
            knows_epochs: cx.version >= FIRST_WITH_MEMBER_EPOCH,
            offsets,
            reply,
        })
        .await
}

async fn to_znodes(
    cx: &RequestContext,
    request: &OffsetCommitRequest,
    checked: &mut [ErrorCode],
) -> Answer<()> {
    let coordination = session(cx, &request.group_id)?;
    for ((topic, partition), code) in partitions(request).zip(checked) {
        if code.is_error() {
            continue;
        }
        let path =
            paths::consumer_offset(&request.group_id, &topic.name, partition.partition_index);
        let offset = partition.committed_offset.to_string();
        if let Err(error) = coordination.put(&path, offset.as_bytes()).await {
            tracing::warn!(path, %error, "an offset can't be committed");
            *code = ErrorCode::UnknownServerError;
        }
    }
    Ok(())
}

/// Borrows the session for the offsets of a group.
///
/// # Errors
/// INVALID_GROUP_ID when the id can't be the name of a node.
pub(super) fn session(cx: &RequestContext, group: &str) -> Answer<CoordinationClient> {
    if group.is_empty() || matches!(group, "." | "..") || group.contains(['/', '\0']) {
        return Err(ErrorCode::InvalidGroupId);
    }
    let lent = cx.broker.session.lend();
    lent.map_err(|_| ErrorCode::UnknownServerError)
}
