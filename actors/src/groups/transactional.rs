//! What transactions have to do with groups: they commit offsets, and end.

use std::sync::Arc;

use actix::Context;
use troupe_protocol::kafka::errors::ErrorCode;

use super::coordinator::Coordinator;
use super::group::Step;
use super::offsets::{CommittedOffset, TopicPartition};
use super::requests::{MemberRef, answer};
use super::writes::Completion;
use crate::internal_topic::writes::Membership;
use crate::partition::{Answer, Reply};
use crate::transactions::Marker;

impl Coordinator {
    pub(super) fn check_transactional_commit(
        &mut self,
        group: &Arc<str>,
        member: &MemberRef,
        generation: i32,
    ) -> Answer<()> {
        if let Some(group) = self.consumer(group) {
            if generation < 0 && member.member_id.is_empty() {
                // The producer does not say for whom it commits.
                return Ok(());
            }
            let checked = group.check_commit(&member.member_id, generation, true);
            return checked.map_err(|error| match error {
                // The request knows of no epochs.
                ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
                error => error,
            });
        }
        let config = Arc::clone(&self.start.config);
        let step = Step::new(&config, self.now());
        let group = self.committing_group(group, generation)?;
        let instance_id = member.instance_id.as_deref();
        group.check_transactional_commit(&member.member_id, instance_id, generation, &step)
    }

    /// Writes offsets as part of a producer's transaction. They count once that is committed.
    pub(super) fn commit_in_transaction(
        &mut self,
        group: Arc<str>,
        membership: Membership,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        reply: Reply<()>,
        ctx: &mut Context<Self>,
    ) {
        let partitions = offsets.iter().map(|(partition, _)| partition);
        self.open_transactions.begin(&group, partitions);
        let records = Self::offset_records(&group, &offsets);
        let completion = Completion::TransactionalCommit {
            group,
            producer_id: membership.producer.id,
            offsets,
            reply,
        };
        match records {
            Ok(records) => self
                .writes
                .push_transactional(records, membership, completion),
            Err(error) => {
                tracing::error!(%error, "offsets can't be stored");
                self.writes.push_failed(completion);
            }
        }
        self.write(ctx);
    }

    /// Does what follows when the log has these offsets, or has not.
    pub(super) fn committed_in_transaction(
        &mut self,
        group: &Arc<str>,
        producer_id: i64,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        result: Answer<()>,
    ) {
        if result.is_ok() {
            self.open_transactions.written(producer_id, group, offsets);
        } else {
            let partitions = offsets.iter().map(|(partition, _)| partition);
            self.open_transactions.failed(group, partitions);
        }
    }

    /// Writes the marker that ends a transaction, behind what the transaction has committed.
    pub(super) fn end_transaction(
        &mut self,
        marker: Marker,
        reply: Reply<()>,
        ctx: &mut Context<Self>,
    ) {
        let completion = Completion::EndTransaction { marker, reply };
        self.writes.push_marker(marker, completion);
        self.write(ctx);
    }

    /// Makes offsets count, or forgets them, when the log has the marker.
    pub(super) fn ended_transaction(
        &mut self,
        marker: Marker,
        reply: Reply<()>,
        result: Answer<()>,
    ) {
        if result.is_ok() {
            let open = &mut self.open_transactions;
            for (group, partition, committed) in open.end(marker.producer.id, marker.committed) {
                // Its group may have been deleted meanwhile.
                self.group_or_new(&group);
                if let Some(entry) = self.entry(&group) {
                    entry.offsets.put(partition, committed);
                }
            }
        }
        answer(reply, result);
    }
}
