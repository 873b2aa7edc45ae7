//! The partition actor: owns the log, asks the replica what follows, answers those who wait.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, Context, Handler, Message};
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::flush::FlushState;
use super::handle::{Identity, PartitionHandle};
use super::messages::{
    Append, AppendReplicated, BecomeFollower, BecomeLeader, BeginCleaning, Close, Delete,
    DeleteRecords, Describe, DescribeProducers, EndCleaning, EpochEndOffset, FindCleanable, Flush,
    ListOffset, ListSegmentOffsets, Locate, Maintain, Position, Progress, Read, ReplaceSegments,
    Resign, Truncate, UpdateConfig, WriteMarker,
};
use super::replica::{LogBounds, Replica};
use super::transactions::Transactions;
use super::waiters::Waiters;
use super::{Answer, Reply, TopicPartition};
use crate::config::TopicConfig;
use crate::log::{Log, LogConfig, Start};
use crate::replication::isr::IsrChanges;
use crate::runtime::{Blocking, Clock, current_thread};
use crate::storage::Storage;

/// Messages that wait for a partition at most; senders beyond wait with theirs.
const MAILBOX_CAPACITY: usize = 1024;

/// A partition that panics again this soon after it was rebuilt is not rebuilt once more.
const REBUILD_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// What a replica is opened with.
pub(crate) struct Opening {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) topic_id: Uuid,
    /// The replica's own directory.
    pub(crate) dir: PathBuf,
    /// This broker's id.
    pub(crate) broker: i32,
    pub(crate) config: Arc<TopicConfig>,
    /// How the log was left.
    pub(crate) start: Start,
    /// High watermark as last known, 0 for never.
    pub(crate) high_watermark: i64,
    pub(crate) surroundings: Surroundings,
}

/// What is the same for every replica of a broker.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) blocking: Blocking,
    /// `producer.id.expiration.ms`.
    pub(crate) producer_id_expiration_ms: i64,
    /// `replica.lag.time.max.ms`.
    pub(crate) replica_lag_time_max: Duration,
    /// Who writes changes of in-sync sets down; without it none is proposed.
    pub(crate) isr_changes: Option<IsrChanges>,
}

/// One replica of one partition.
pub struct Partition {
    pub(super) identity: Arc<Identity>,
    pub(super) config: Arc<TopicConfig>,
    pub(super) surroundings: Surroundings,
    /// None once the log could not be opened again after a panic.
    pub(super) log: Option<Log>,
    /// Counts the logs that were opened, so that the end of a flush of an earlier one is not taken for this one's.
    pub(super) incarnation: u64,
    pub(super) replica: Replica,
    pub(super) transactions: Arc<Transactions>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) by_high_watermark: Waiters,
    pub(super) by_flush: Waiters,
    pub(super) flush: FlushState,
    /// Those who asked for a flush, with the offset that has to be flushed.
    pub(super) flush_replies: Vec<(i64, Reply<i64>)>,
    /// Appends of a follower that have to be flushed before the leader hears of them, with their ends.
    pub(super) replicated_replies: Vec<(i64, Reply<Position>)>,
    /// Whether the timer runs that looks for followers that lag.
    pub(super) watches_isr: bool,
    rebuilt_at: Option<Duration>,
}

impl Partition {
    /// Opens the log, recovering it when it was not closed cleanly, and starts the actor on the current thread.
    pub(crate) fn open(opening: Opening) -> io::Result<PartitionHandle> {
        let config_compacts = opening.config.cleanup_policy.compact;
        let identity = Arc::new(Identity {
            topic_partition: opening.topic_partition,
            topic_id: opening.topic_id,
            dir: opening.dir,
            thread: current_thread(),
            recovery_point: AtomicI64::new(0),
            lost_records: AtomicU64::new(0),
            cleaned_to: AtomicI64::new(0),
            compacted: AtomicBool::new(config_compacts),
        });
        let Opening {
            config,
            surroundings,
            start,
            ..
        } = opening;
        let log = open_log(&identity, &config, &surroundings, start)?;
        let mut replica = Replica::new(opening.broker, bounds(&log), opening.high_watermark);
        replica.set_min_in_sync(config.min_insync_replicas);
        let transactions = Arc::new(Transactions::default());
        transactions.reset(log.producers());
        let (progress, receiver) = watch::channel(replica.progress());
        let partition = Self {
            identity: identity.clone(),
            config,
            surroundings,
            log: Some(log),
            incarnation: 0,
            replica,
            transactions: Arc::clone(&transactions),
            progress,
            by_high_watermark: Waiters::default(),
            by_flush: Waiters::default(),
            flush: FlushState::default(),
            flush_replies: Vec::new(),
            replicated_replies: Vec::new(),
            watches_isr: false,
            rebuilt_at: None,
        };
        let address = partition.start();
        Ok(PartitionHandle::new(
            identity,
            address,
            receiver,
            transactions,
        ))
    }

    /// Returns the log, or KAFKA_STORAGE_ERROR when there is none any more.
    pub(super) fn log(&mut self) -> Answer<&mut Log> {
        self.log.as_mut().ok_or(ErrorCode::KafkaStorageError)
    }

    /// Publishes where the replica stands, then answers whoever waited for that.
    pub(super) fn settle(&mut self) {
        if let Some(log) = &mut self.log {
            let high_watermark = self.replica.high_watermark();
            self.replica
                .set_last_stable_offset(log.last_stable_offset(high_watermark));
        }
        let now = self.replica.progress();
        // Who waits for records is not woken when nothing changed.
        self.progress
            .send_if_modified(|published| std::mem::replace(published, now) != now);
        let reached = self.replica.high_watermark();
        while let Some((_, waiter)) = self.by_high_watermark.release(reached) {
            let answer = self.replica.check_replicated().map(|()| waiter.appended);
            // A producer that hung up is no error.
            let _ = waiter.reply.send(answer);
        }
    }

    /// Refuses writes from now on, and says why once.
    pub(super) fn fail(&mut self, doing: &str, error: &dyn std::fmt::Display) -> ErrorCode {
        if self.replica.fail() {
            tracing::error!(
                partition = %self.identity.topic_partition,
                dir = %self.identity.dir.display(),
                "{doing} failed, writes are refused until the broker is started again: {error}"
            );
        }
        for waiter in self.by_flush.drain() {
            let _ = waiter.reply.send(Err(ErrorCode::KafkaStorageError));
        }
        self.send_flushers_away();
        self.settle();
        ErrorCode::KafkaStorageError
    }

    /// Ends the replica: everyone who waits learns that it does not lead any more.
    pub(super) fn stop(&mut self, ctx: &mut Context<Self>) {
        self.log = None;
        self.send_producers_away();
        let stopped = Progress {
            is_leader: false,
            ..self.replica.progress()
        };
        self.progress.send_replace(stopped);
        ctx.stop();
    }

    /// Tells producers that wait that this replica does not lead any more.
    pub(super) fn send_producers_away(&mut self) {
        for waiter in self.by_flush.drain().chain(self.by_high_watermark.drain()) {
            let _ = waiter.reply.send(Err(ErrorCode::NotLeaderOrFollower));
        }
    }

    /// Tells those who wait for a flush that there is none.
    fn send_flushers_away(&mut self) {
        for (_, reply) in self.flush_replies.drain(..) {
            let _ = reply.send(Err(ErrorCode::KafkaStorageError));
        }
        for (_, reply) in self.replicated_replies.drain(..) {
            let _ = reply.send(Err(ErrorCode::KafkaStorageError));
        }
    }

    /// Does a piece of work; after a panic in it the log is closed and opened anew.
    ///
    /// Whatever was in memory may be half changed then, so all of it is thrown away and read from the files again. The
    /// asker's reply is dropped by the panic, which it sees.
    pub(super) fn guarded(
        &mut self,
        ctx: &mut Context<Self>,
        work: impl FnOnce(&mut Self, &mut Context<Self>),
    ) {
        if catch_unwind(AssertUnwindSafe(|| work(self, ctx))).is_err() {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        let partition = self.identity.topic_partition.clone();
        self.log = None;
        self.incarnation += 1;
        self.flush = FlushState::default();
        for waiter in self.by_flush.drain().chain(self.by_high_watermark.drain()) {
            let _ = waiter.reply.send(Err(ErrorCode::KafkaStorageError));
        }
        self.send_flushers_away();
        let now = self.surroundings.clock.monotonic();
        let too_soon = self
            .rebuilt_at
            .is_some_and(|at| now.saturating_sub(at) < REBUILD_AT_MOST_EVERY);
        self.rebuilt_at = Some(now);
        if too_soon {
            tracing::error!(%partition, "panicked again soon after it was rebuilt");
            self.fail("handling a message", &"it panicked");
            return;
        }
        tracing::error!(%partition, "panicked while handling a message, rebuilding from the log");
        let start = Start {
            recovery_point: self.recovery_point(),
            log_start_offset: self.replica.log_start_offset(),
            cleaned_to: self.identity.cleaned_to.load(Ordering::Acquire),
            clean_shutdown: false,
        };
        let opened = catch_unwind(AssertUnwindSafe(|| {
            open_log(&self.identity, &self.config, &self.surroundings, start)
        }));
        match opened {
            Ok(Ok(log)) => {
                self.replica.replace_log(bounds(&log));
                self.transactions.reset(log.producers());
                self.log = Some(log);
                self.settle();
            }
            Ok(Err(error)) => {
                self.fail("opening the log", &error);
            }
            Err(_) => {
                self.fail("opening the log", &"it panicked");
            }
        }
    }
}

fn open_log(
    identity: &Identity,
    config: &TopicConfig,
    surroundings: &Surroundings,
    start: Start,
) -> io::Result<Log> {
    let (log, recovery) = Log::open(
        surroundings.storage.clone(),
        &identity.dir,
        log_config(config),
        start,
        surroundings.clock.now_ms(),
    )?;
    if !recovery.is_empty() {
        tracing::info!(partition = %identity.topic_partition, "recovered the log: {recovery}");
    }
    identity
        .recovery_point
        .store(log.recovery_point(), Ordering::Release);
    identity
        .cleaned_to
        .store(log.cleaned_to(), Ordering::Release);
    Ok(log)
}

/// Picks from a topic's configuration what its logs obey.
pub(super) fn log_config(config: &TopicConfig) -> LogConfig {
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms,
        segment_jitter_ms: config.segment_jitter_ms,
        segment_index_bytes: config.segment_index_bytes,
        index_interval_bytes: config.index_interval_bytes,
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        file_delete_delay_ms: config.file_delete_delay_ms,
        preallocate: config.preallocate,
        cleanup_delete: config.cleanup_policy.delete,
        cleanup_compact: config.cleanup_policy.compact,
        delete_retention_ms: config.delete_retention_ms,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
        min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
    }
}

pub(super) fn bounds(log: &Log) -> LogBounds {
    LogBounds {
        start: log.log_start_offset(),
        end: log.log_end_offset(),
    }
}

impl Actor for Partition {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

/// Connects each message with the method that handles it.
macro_rules! handlers {
    ($($message:ty => $method:ident,)*) => {
        $(impl Handler<$message> for Partition {
            type Result = <$message as Message>::Result;

            fn handle(&mut self, message: $message, ctx: &mut Self::Context) {
                self.guarded(ctx, |partition, ctx| partition.$method(message, ctx));
            }
        })*
    };
}

handlers! {
    Append => append,
    WriteMarker => write_marker,
    Read => read,
    ListOffset => list_offset,
    ListSegmentOffsets => list_segment_offsets,
    EpochEndOffset => epoch_end_offset,
    DescribeProducers => describe_producers,
    DeleteRecords => delete_records,
    BecomeLeader => become_leader,
    BecomeFollower => become_follower,
    Locate => locate,
    AppendReplicated => append_replicated,
    Truncate => truncate,
    Resign => resign,
    UpdateConfig => update_config,
    Describe => describe,
    Flush => flush,
    Maintain => maintain,
    FindCleanable => find_cleanable,
    BeginCleaning => begin_cleaning,
    ReplaceSegments => replace_segments,
    EndCleaning => end_cleaning,
    Close => close,
    Delete => delete,
}
