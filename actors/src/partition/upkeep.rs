//! What changes a replica beside its records: role, configuration, flushes, retention, the end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use troupe_protocol::kafka::errors::ErrorCode;

use super::actor::log_config;
use super::leader::Leadership;
use super::messages::{
    BecomeLeader, Close, Delete, DeleteRecords, Description, Flush, Maintain, Resign, UpdateConfig,
};
use super::{Answer, Partition};
use crate::log::{Expired, Flush as LogFlush};

impl Partition {
    /// Leads from now on.
    pub(super) fn become_leader(&mut self, message: BecomeLeader, ctx: &mut Context<Self>) {
        let answer = self.lead(&message);
        self.settle();
        self.watch_isr(ctx);
        let _ = message.reply.send(answer);
    }

    fn lead(&mut self, message: &BecomeLeader) -> Answer<()> {
        let begins = self.replica.lead(&Leadership {
            leader_epoch: message.leader_epoch,
            partition_epoch: message.partition_epoch,
            isr: &message.isr,
            replicas: &message.replicas,
            lag_max: self.surroundings.replica_lag_time_max,
            now: self.surroundings.clock.monotonic(),
        })?;
        if begins {
            let transactions = Arc::clone(&self.transactions);
            transactions.reset(self.log()?.producers());
            let assigned = self.log()?.assign_epoch(message.leader_epoch);
            if let Err(error) = assigned {
                // It leads all the same: what is there can be read.
                self.fail("writing the leader epochs", &error);
            }
        }
        Ok(())
    }

    /// Leads no more, until told to again.
    pub(super) fn resign(&mut self, message: Resign, _: &mut Context<Self>) {
        self.replica.resign();
        self.send_producers_away();
        self.settle();
        let _ = message.reply.send(Ok(()));
    }

    /// Takes a new configuration of the topic.
    pub(super) fn update_config(&mut self, message: UpdateConfig, ctx: &mut Context<Self>) {
        self.config = message.config;
        self.replica
            .set_min_in_sync(self.config.min_insync_replicas);
        if let Some(log) = &mut self.log {
            log.update_config(log_config(&self.config));
        }
        let compacted = self.config.cleanup_policy.compact;
        self.identity.compacted.store(compacted, Ordering::Release);
        self.settle();
        self.start_flush_timer(ctx);
    }

    /// Drops records below an offset.
    pub(super) fn delete_records(&mut self, message: DeleteRecords, ctx: &mut Context<Self>) {
        let answer = self.raise_log_start(message.before_offset, ctx);
        self.settle();
        let _ = message.reply.send(answer);
    }

    fn raise_log_start(&mut self, before_offset: i64, ctx: &mut Context<Self>) -> Answer<i64> {
        let start = self.replica.delete_before(before_offset)?;
        match self.log()?.raise_log_start(start) {
            Ok(_) => {
                self.replica.log_starts_at(start);
                // What lies below as a whole goes at once: whoever deletes records wants the room.
                self.delete_expired(ctx);
                Ok(self.replica.log_start_offset())
            }
            Err(error) => Err(self.fail("deleting records", &error)),
        }
    }

    /// Deletes what retention allows, forgets producers that are silent for long and looks for followers that lag. A log that refuses writes still
    /// makes room.
    pub(super) fn maintain(&mut self, _: Maintain, ctx: &mut Context<Self>) {
        let now_ms = self.surroundings.clock.now_ms();
        let expiration_ms = self.surroundings.producer_id_expiration_ms;
        if let Some(log) = &mut self.log {
            log.expire_producers(now_ms, expiration_ms);
            self.transactions.expire(now_ms, expiration_ms);
        }
        self.delete_expired(ctx);
        self.shrink_isr(ctx);
        self.settle();
    }

    fn delete_expired(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.surroundings.clock.now_ms();
        let high_watermark = self.replica.high_watermark();
        let Some(log) = &mut self.log else {
            return;
        };
        let expired = log.delete_expired(now_ms, high_watermark);
        self.replica.log_starts_at(log.log_start_offset());
        match expired {
            Ok(expired) => self.take_leave(expired, ctx),
            Err(error) => {
                self.fail("deleting old segments", &error);
            }
        }
    }

    /// Says what retention did, and why it did not do more.
    fn take_leave(&mut self, expired: Expired, ctx: &mut Context<Self>) {
        let partition = &self.identity.topic_partition;
        if let Some((base_offset, timestamp)) = expired.kept_for_future_timestamp {
            tracing::warn!(%partition, base_offset, timestamp, "kept: a record's timestamp lies in the future");
        }
        for segment in &expired.deleted {
            let (base_offset, size_bytes, reason) =
                (segment.base_offset, segment.size_bytes, segment.reason);
            tracing::info!(%partition, base_offset, size_bytes, ?reason, "deleted a segment");
        }
        let files = expired
            .deleted
            .into_iter()
            .flat_map(|segment| segment.files)
            .collect();
        self.remove_later(files, ctx);
    }

    /// Removes files that were marked as deleted, after `file.delete.delay.ms`: a reader may have just been told of
    /// them. What is left at a stop is removed at the next start.
    pub(super) fn remove_later(&mut self, paths: Vec<PathBuf>, ctx: &mut Context<Self>) {
        if paths.is_empty() {
            return;
        }
        let delay = Duration::from_millis(
            u64::try_from(self.config.file_delete_delay_ms).unwrap_or_default(),
        );
        ctx.run_later(delay, move |partition, _| {
            let storage = partition.surroundings.storage.clone();
            partition.surroundings.blocking.start(move || {
                for path in paths {
                    if let Err(error) = storage.remove_file(&path) {
                        tracing::warn!(path = %path.display(), "could not remove a deleted file: {error}");
                    }
                }
            });
        });
    }

    /// Flushes when `flush.ms` have passed since the first record that is not flushed.
    pub(super) fn start_flush_timer(&mut self, ctx: &mut Context<Self>) {
        let Some(flush_ms) = u64::try_from(self.config.flush_ms)
            .ok()
            .filter(|&ms| ms < i64::MAX as u64)
        else {
            return;
        };
        if self.flush.start_timer() {
            ctx.run_later(Duration::from_millis(flush_ms), |partition, ctx| {
                if partition.flush.timer_ended() {
                    partition.guarded(ctx, |partition, ctx| partition.start_flush(ctx));
                }
            });
        }
    }

    /// Flushes because somebody asks.
    pub(super) fn flush(&mut self, message: Flush, ctx: &mut Context<Self>) {
        let end = self.replica.log_end_offset();
        if self.replica.progress().failed {
            let _ = message.reply.send(Err(ErrorCode::KafkaStorageError));
        } else if self.recovery_point() >= end {
            let _ = message.reply.send(Ok(self.recovery_point()));
        } else {
            self.flush_replies.push((end, message.reply));
            self.start_flush(ctx);
        }
    }

    /// Begins to flush everything appended so far, on the blocking pool; appends go on meanwhile.
    pub(super) fn start_flush(&mut self, ctx: &mut Context<Self>) {
        let Some(log) = &mut self.log else {
            return;
        };
        if !self.flush.begin() {
            return;
        }
        let flush = match log.begin_flush() {
            Ok(flush) => flush,
            Err(error) => {
                self.fail("flushing the log", &error);
                return;
            }
        };
        let incarnation = self.incarnation;
        let syncing = self
            .surroundings
            .blocking
            .run(move || flush.sync().map(|()| flush));
        let work = async move {
            let synced = syncing.await;
            synced.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
        };
        ctx.spawn(work.into_actor(self).map(move |result, partition, ctx| {
            if partition.incarnation == incarnation {
                partition.guarded(ctx, |partition, ctx| partition.flush_ended(result, ctx));
            }
        }));
    }

    fn flush_ended(&mut self, result: io::Result<LogFlush>, ctx: &mut Context<Self>) {
        self.flush.end();
        let Some(log) = &mut self.log else {
            return;
        };
        match result {
            Ok(flush) => log.flushed(&flush),
            Err(error) => {
                log.flush_failed();
                self.fail("flushing the log", &error);
                return;
            }
        }
        let flushed = log.recovery_point();
        self.identity
            .recovery_point
            .store(flushed, Ordering::Release);
        while let Some((end, waiter)) = self.by_flush.release(flushed) {
            self.acknowledge(end, waiter);
        }
        for (_, reply) in self
            .flush_replies
            .extract_if(.., |(end, _)| *end <= flushed)
        {
            let _ = reply.send(Ok(flushed));
        }
        self.answer_flushed(flushed);
        if !self.by_flush.is_empty()
            || !self.flush_replies.is_empty()
            || !self.replicated_replies.is_empty()
        {
            self.start_flush(ctx);
        }
    }

    pub(super) fn recovery_point(&self) -> i64 {
        self.identity.recovery_point.load(Ordering::Acquire)
    }

    /// Closes the log so that it can be opened without recovery, and stops.
    pub(super) fn close(&mut self, message: Close, ctx: &mut Context<Self>) {
        let answer = self.close_log();
        self.stop(ctx);
        let _ = message.reply.send(answer);
    }

    fn close_log(&mut self) -> Answer<Description> {
        let mut description = self.description();
        let log = self.log.take().ok_or(ErrorCode::KafkaStorageError)?;
        if description.progress.failed {
            return Err(ErrorCode::KafkaStorageError);
        }
        log.close()
            .map_err(|error| self.fail("closing the log", &error))?;
        description.recovery_point = description.progress.log_end_offset;
        self.identity
            .recovery_point
            .store(description.recovery_point, Ordering::Release);
        Ok(description)
    }

    /// Stops, and marks the directory as deleted.
    pub(super) fn delete(&mut self, message: Delete, ctx: &mut Context<Self>) {
        self.stop(ctx);
        let dir = &self.identity.dir;
        let renamed = self
            .surroundings
            .storage
            .rename(dir, &message.to)
            .and_then(|()| {
                dir.parent()
                    .map_or(Ok(()), |parent| self.surroundings.storage.sync_dir(parent))
            });
        let _ = message.reply.send(renamed.map_err(|error| {
            tracing::error!(dir = %dir.display(), "could not delete the replica: {error}");
            ErrorCode::KafkaStorageError
        }));
    }
}
