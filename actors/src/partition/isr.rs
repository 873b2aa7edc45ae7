//! Changes of the in-sync set: the leader proposes them, others write them down.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::oneshot;

use super::Partition;
use crate::replication::isr::{IsrChange, IsrChanged, IsrRefused};

/// Between two looks for followers that lag, at least.
const CHECK_AT_MOST_EVERY: Duration = Duration::from_millis(1);

impl Partition {
    /// Looks for followers that lag every half `replica.lag.time.max.ms`, for as long as this replica leads others.
    pub(super) fn watch_isr(&mut self, ctx: &mut Context<Self>) {
        if self.watches_isr || !self.replica.has_followers() {
            return;
        }
        self.watches_isr = true;
        let every = self.surroundings.replica_lag_time_max / 2;
        ctx.run_later(every.max(CHECK_AT_MOST_EVERY), |partition, ctx| {
            partition.watches_isr = false;
            partition.guarded(ctx, |partition, ctx| {
                partition.shrink_isr(ctx);
                partition.settle();
                partition.watch_isr(ctx);
            });
        });
    }

    /// Proposes the in-sync set without the followers that lag.
    pub(super) fn shrink_isr(&mut self, ctx: &mut Context<Self>) {
        let now = self.surroundings.clock.monotonic();
        if let Some(isr) = self.replica.shrunk_isr(now) {
            self.propose(isr, ctx);
        }
    }

    /// Proposes the in-sync set with a follower that has caught up.
    pub(super) fn expand_isr(&mut self, broker: i32, ctx: &mut Context<Self>) {
        if let Some(isr) = self.replica.expanded_isr(broker) {
            self.propose(isr, ctx);
        }
    }

    fn propose(&mut self, isr: Vec<i32>, ctx: &mut Context<Self>) {
        let Some(changes) = &self.surroundings.isr_changes else {
            return;
        };
        let (leader_epoch, partition_epoch) =
            (self.replica.leader_epoch(), self.replica.partition_epoch());
        let (reply, answer) = oneshot::channel();
        let change = IsrChange {
            topic_partition: self.identity.topic_partition.clone(),
            leader_epoch,
            partition_epoch,
            isr: isr.clone(),
            reply,
        };
        if changes.try_send(change).is_err() {
            // No room: the next fetch or the next look proposes it again.
            return;
        }
        self.replica.isr_changing_to(&isr);
        ctx.spawn(answer.into_actor(self).map(move |answer, partition, ctx| {
            let answer = answer.unwrap_or(Err(IsrRefused::Unavailable));
            partition.guarded(ctx, |partition, _| {
                partition.isr_answered((leader_epoch, partition_epoch), answer);
            });
        }));
    }

    fn isr_answered(
        &mut self,
        (leader_epoch, partition_epoch): (i32, i32),
        answer: Result<IsrChanged, IsrRefused>,
    ) {
        if leader_epoch != self.replica.leader_epoch() {
            return;
        }
        let partition = &self.identity.topic_partition;
        match answer {
            Ok(IsrChanged {
                partition_epoch,
                isr,
            }) => {
                tracing::info!(%partition, partition_epoch, ?isr, "in-sync replicas");
                self.replica.isr_changed(partition_epoch, isr);
            }
            Err(refused) => {
                tracing::warn!(%partition, partition_epoch, ?refused, "a change of the in-sync replicas is not written");
                let superseded = refused == IsrRefused::Superseded;
                self.replica.isr_refused(partition_epoch, superseded);
            }
        }
        self.settle();
    }
}
