//! TxnOffsetCommit: offsets that count once a producer's transaction is committed (KIP-98, KIP-447).
//!
//! Up to version 4 the producer has added the partition of `__consumer_offsets` by AddOffsetsToTxn; from version 5 on
//! that happens here (KIP-890).

use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use troupe_protocol::kafka::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use troupe_protocol::kafka::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use troupe_protocol::kafka::records::batch::NO_SEQUENCE;

use super::group_membership::member_ref;
use super::open_transaction::{self, Begun};
use super::transactions::offsets_partition;
use crate::gateway::request::RequestContext;
use crate::groups::offsets::{CommittedOffset, TopicPartition, check_metadata};
use crate::groups::requests::Request;
use crate::internal_topic::writes::Membership;
use crate::partition::{Answer, Verification};
use crate::transactions::{Producer, for_writers};

/// First version that adds the group's partition to the transaction.
const FIRST_WITH_IMPLICIT_ADD: i16 = 5;
/// First version that knows TRANSACTION_ABORTABLE.
const FIRST_WITH_ABORTABLE: i16 = 4;

/// Commits what can be committed: partitions that exist, with notes that are not too long.
pub(crate) async fn handle(
    cx: RequestContext,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let checked = check(&cx, &request);
    let outcome = commit(&cx, &request, &checked).await;
    let outcome = match outcome.err().unwrap_or(ErrorCode::None) {
        ErrorCode::TransactionAbortable if cx.version < FIRST_WITH_ABORTABLE => {
            ErrorCode::InvalidTxnState
        }
        code => code,
    };
    // What was refused for itself keeps its reason.
    let codes = checked.iter().map(|code| match code {
        ErrorCode::None => outcome,
        code => *code,
    });
    respond(&request, codes)
}

fn respond(
    request: &TxnOffsetCommitRequest,
    mut codes: impl Iterator<Item = ErrorCode>,
) -> TxnOffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let code = codes.next().unwrap_or(ErrorCode::UnknownServerError);
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code.code())
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    TxnOffsetCommitResponse::default().with_topics(topics)
}

/// Lists the partitions of a request in its order.
fn partitions(
    request: &TxnOffsetCommitRequest,
) -> impl Iterator<
    Item = (
        &TxnOffsetCommitRequestTopic,
        &TxnOffsetCommitRequestPartition,
    ),
> {
    request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(move |partition| (topic, partition))
    })
}

/// Checks each partition for itself.
fn check(cx: &RequestContext, request: &TxnOffsetCommitRequest) -> Vec<ErrorCode> {
    let image = cx.broker.image();
    let max_bytes = cx.broker.groups.config().offset_metadata_max_bytes;
    partitions(request)
        .map(|(topic, partition)| {
            let found = image.partition(&topic.name, partition.partition_index);
            if found.is_none() {
                return ErrorCode::UnknownTopicOrPartition;
            }
            let note = partition.committed_metadata.as_deref().unwrap_or_default();
            check_metadata(note, max_bytes)
                .err()
                .unwrap_or(ErrorCode::None)
        })
        .collect()
}

async fn commit(
    cx: &RequestContext,
    request: &TxnOffsetCommitRequest,
    checked: &[ErrorCode],
) -> Answer<()> {
    let offsets = offsets(cx, request, checked);
    if offsets.is_empty() {
        return Ok(());
    }
    let group: Arc<str> = Arc::from(&**request.group_id);
    if group.is_empty() || group.len() > usize::from(i16::MAX.unsigned_abs()) {
        return Err(ErrorCode::InvalidGroupId);
    }
    let producer = Producer {
        id: *request.producer_id,
        epoch: request.producer_epoch,
    };
    let coordinator = cx.broker.groups.of(&group)?;
    let verification = enter_transaction(cx, request, producer).await?;
    let member = member_ref(&request.member_id, request.group_instance_id.as_ref());
    let generation = request.generation_id;
    coordinator
        .ask(|reply| Request::TransactionalCommit {
            group,
            member,
            generation,
            membership: Membership {
                producer,
                verification,
            },
            offsets,
            reply,
        })
        .await
}

fn offsets(
    cx: &RequestContext,
    request: &TxnOffsetCommitRequest,
    checked: &[ErrorCode],
) -> Vec<(TopicPartition, CommittedOffset)> {
    let now_ms = cx.broker.runtime.clock.now_ms();
    let allowed = partitions(request)
        .zip(checked)
        .filter(|(_, code)| !code.is_error());
    allowed
        .map(|((topic, partition), _)| {
            let note = partition.committed_metadata.as_deref().unwrap_or_default();
            let committed = CommittedOffset {
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: note.into(),
                committed_ms: now_ms,
                expires_ms: None,
            };
            let name = Arc::from(&**topic.name);
            ((name, partition.partition_index), committed)
        })
        .collect()
}

/// Sees to it that the group's partition is in the transaction.
async fn enter_transaction(
    cx: &RequestContext,
    request: &TxnOffsetCommitRequest,
    producer: Producer,
) -> Answer<Verification> {
    let wanted = offsets_partition(cx, &request.group_id)?;
    let image = cx.broker.image();
    let found = image.partition(&wanted.topic, wanted.partition);
    let partition = found
        .and_then(|found| found.local.as_ref())
        .ok_or(ErrorCode::NotCoordinator)?;
    let begun = Begun {
        transactional_id: &request.transactional_id,
        producer,
        adds: cx.version >= FIRST_WITH_IMPLICIT_ADD,
    };
    let verified = open_transaction::verify(cx, &begun, &[(partition, NO_SEQUENCE)]).await;
    let mut verified = verified.into_iter();
    let verified = verified
        .next()
        .unwrap_or(Err(ErrorCode::UnknownServerError));
    verified.map_err(for_writers)
}
