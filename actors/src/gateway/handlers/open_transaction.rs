//! Sees to it that a transaction is open before something is appended in it (KIP-890).

use std::collections::BTreeSet;

use crate::gateway::request::RequestContext;
use crate::partition::{Answer, PartitionHandle, Verification};
use crate::transactions::Producer;

/// What is to be appended.
pub(super) struct Begun<'a> {
    pub(super) transactional_id: &'a str,
    pub(super) producer: Producer,
    /// The sequence that it begins with.
    pub(super) sequence: i32,
    pub(super) partition: &'a PartitionHandle,
    /// Whether the partition comes into the transaction by that.
    pub(super) adds: bool,
}

/// Makes sure that the transaction is open, with the coordinator's word when the partition does not know it.
///
/// # Errors
/// Those of the coordinator; PRODUCER_FENCED may be INVALID_PRODUCER_EPOCH already.
pub(super) async fn verify(cx: &RequestContext, begun: Begun<'_>) -> Answer<Verification> {
    let enabled = cx
        .broker
        .current_config
        .borrow()
        .transaction_partition_verification_enable;
    if !enabled && !begun.adds {
        return Ok(Verification::NotNeeded);
    }
    let Producer { id, epoch } = begun.producer;
    let now_ms = cx.broker.runtime.clock.now_ms();
    let partition = begun.partition;
    let Some(guard) = partition.begin_verification((id, epoch, begun.sequence), now_ms) else {
        return Ok(Verification::Ongoing);
    };
    match ask(cx, &begun).await {
        Ok(()) => Ok(Verification::Verified(guard)),
        Err(error) => {
            if !error.is_retriable() {
                partition.verification_refused(id, guard);
            }
            Err(error)
        }
    }
}

async fn ask(cx: &RequestContext, begun: &Begun<'_>) -> Answer<()> {
    let coordinators = &cx.broker.transactions;
    let (id, producer) = (begun.transactional_id, begun.producer);
    let partition = begun.partition.topic_partition().clone();
    if begun.adds {
        let partitions = BTreeSet::from([partition]);
        return coordinators.add_written(id, producer, partitions).await;
    }
    let answers = coordinators.verify(id, producer, vec![partition]).await?;
    answers.into_iter().collect()
}
