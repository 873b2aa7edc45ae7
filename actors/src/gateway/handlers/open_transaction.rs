//! Sees to it that a transaction is open before something is appended in it (KIP-890).

use std::time::Duration;

use troupe_protocol::kafka::errors::ErrorCode;

use crate::gateway::request::RequestContext;
use crate::partition::{Answer, PartitionHandle, TopicPartition, Verification};
use crate::transactions::Producer;

/// The transaction that something is to be appended in.
pub(super) struct Begun<'a> {
    pub(super) transactional_id: &'a str,
    pub(super) producer: Producer,
    /// Whether partitions come into the transaction by that.
    pub(super) adds: bool,
}

/// Makes sure that the transaction is open in partitions, with the coordinator's word for those that do not know it: all
/// of them in one question. Each comes with the sequence that is to be appended first, and gets an answer of its own.
///
/// The last transaction of the producer may still be completed: then this waits a little.
///
/// # Errors
/// Those of the coordinator; PRODUCER_FENCED may be INVALID_PRODUCER_EPOCH already.
pub(super) async fn verify(
    cx: &RequestContext,
    begun: &Begun<'_>,
    partitions: &[(&PartitionHandle, i32)],
) -> Vec<Answer<Verification>> {
    let enabled = cx
        .broker
        .current_config
        .borrow()
        .transaction_partition_verification_enable;
    if !enabled && !begun.adds {
        return vec![Ok(Verification::NotNeeded); partitions.len()];
    }
    let backoff = cx.broker.transactions.backoff();
    let mut waited = Duration::ZERO;
    loop {
        // The marker that is waited for voids the guards of this attempt: the next one takes its own.
        let answers = try_to_verify(cx, begun, partitions).await;
        let concurrent = answers.contains(&Err(ErrorCode::ConcurrentTransactions));
        if !concurrent || !begun.adds || waited >= backoff.limit {
            return answers;
        }
        actix_rt::time::sleep(backoff.step).await;
        waited = waited.saturating_add(backoff.step);
    }
}

async fn try_to_verify(
    cx: &RequestContext,
    begun: &Begun<'_>,
    partitions: &[(&PartitionHandle, i32)],
) -> Vec<Answer<Verification>> {
    let Producer { id, epoch } = begun.producer;
    let now_ms = cx.broker.runtime.clock.now_ms();
    let guarded = partitions.iter().map(|&(partition, sequence)| {
        let guard = partition.begin_verification((id, epoch, sequence), now_ms);
        (partition, guard)
    });
    let guarded: Vec<_> = guarded.collect();
    let unknown = guarded.iter().filter(|(_, guard)| guard.is_some());
    let unknown = unknown.map(|(partition, _)| partition.topic_partition().clone());
    let mut answers = ask(cx, begun, unknown.collect()).await.into_iter();
    let verifications = guarded.into_iter().map(|(partition, guard)| {
        let Some(guard) = guard else {
            return Ok(Verification::Ongoing);
        };
        let answer = answers.next().unwrap_or(Err(ErrorCode::UnknownServerError));
        if answer.is_err_and(|error| !error.is_retriable()) {
            partition.verification_refused(id, guard);
        }
        answer.map(|()| Verification::Verified(guard))
    });
    verifications.collect()
}

/// Asks the coordinator, who answers for each partition.
async fn ask(
    cx: &RequestContext,
    begun: &Begun<'_>,
    partitions: Vec<TopicPartition>,
) -> Vec<Answer<()>> {
    if partitions.is_empty() {
        return Vec::new();
    }
    let (id, producer) = (begun.transactional_id, begun.producer);
    let coordinators = &cx.broker.transactions;
    coordinators
        .before_write(id, producer, partitions, begun.adds)
        .await
}
