//! The share coordinator of one partition of `__share_group_state`: an actor on that partition's thread, which keeps
//! the states of share partitions.
//!
//! A state changes when its write is begun, and whoever asks is answered when all writes before are done. When a write
//! fails, the states are read from the log again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture,
};
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::ShareKey;
use super::states::States;
use super::stored::{Change, Stored};
use crate::internal_topic::handle::{self, Stop};
use crate::internal_topic::writes::{KeyValue, Writes};
use crate::internal_topic::{ReplayError, replay};
use crate::partition::messages::DeleteRecords;
use crate::partition::{Answer, PartitionHandle, Reply};
use crate::runtime::Clock;

/// Requests that wait for a coordinator at most, before the asker waits too.
const MAILBOX_CAPACITY: usize = 256;
/// How long to wait before the states are loaded again, when that failed.
const RELOAD_DELAY: Duration = Duration::from_secs(1);
/// A log is only shortened when so many records more than it has states would go.
const MIN_RECORDS_TO_PRUNE: i64 = 1_000;

/// What a share coordinator can be asked. While it loads, it answers COORDINATOR_LOAD_IN_PROGRESS.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Request {
    /// The state of a share partition, if there is one.
    Read {
        key: ShareKey,
        reply: Reply<Option<Stored>>,
    },
    /// Sets a state, whether there was one or not.
    Initialize {
        key: ShareKey,
        leader_epoch: i32,
        start_offset: i64,
        reply: Reply<Stored>,
    },
    /// Changes a state.
    Write {
        key: ShareKey,
        change: Change,
        reply: Reply<()>,
    },
    /// The states of a group.
    OfGroup {
        group: Arc<str>,
        reply: Reply<Vec<(ShareKey, Stored)>>,
    },
    /// Deletes the states of a group: of one topic, or all.
    Delete {
        group: Arc<str>,
        topic_id: Option<Uuid>,
        reply: Reply<()>,
    },
    /// These topics are no more.
    ForgetTopics { topics: Arc<BTreeSet<Uuid>> },
}

/// What waits for a write, or for those before it.
enum Completion {
    State(Reply<Stored>, Stored),
    Read(Reply<Option<Stored>>, Option<Stored>),
    OfGroup(Reply<Vec<(ShareKey, Stored)>>, Vec<(ShareKey, Stored)>),
    Done(Reply<()>),
    /// Nobody waits.
    Forgotten,
    /// All that is before this offset can go.
    Pruned(i64),
}

/// What a share coordinator starts from.
pub(crate) struct Start {
    pub(crate) partition: PartitionHandle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) loaded: watch::Sender<bool>,
    /// How much of the log is read at once (`share.coordinator.load.buffer.size`).
    pub(crate) load_bytes: usize,
    /// `share.coordinator.snapshot.update.records.per.snapshot`
    pub(crate) updates_per_snapshot: usize,
    /// How often the log is shortened (`share.coordinator.state.topic.prune.interval.ms`).
    pub(crate) prune_interval: Duration,
}

/// The actor.
pub(crate) struct ShareCoordinator {
    start: Start,
    /// Nothing while they are loaded.
    states: Option<States>,
    writes: Writes<Completion>,
}

impl Actor for ShareCoordinator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        ctx.run_interval(self.start.prune_interval, Self::prune);
        self.load(ctx);
    }
}

impl Handler<Request> for ShareCoordinator {
    type Result = ();

    fn handle(&mut self, request: Request, ctx: &mut Self::Context) {
        let now_ms = self.start.clock.now_ms();
        let updates_per_snapshot = self.start.updates_per_snapshot;
        let Some(states) = &mut self.states else {
            return refuse(request);
        };
        let (records, completion) = perform(states, request, updates_per_snapshot, now_ms);
        self.enqueue(records, completion, ctx);
    }
}

impl Handler<Stop> for ShareCoordinator {
    type Result = ();

    fn handle(&mut self, Stop: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Does what a request wants with the states: what is to be written, and who waits for that.
fn perform(
    states: &mut States,
    request: Request,
    updates_per_snapshot: usize,
    now_ms: i64,
) -> (Answer<Vec<KeyValue>>, Completion) {
    let storable = |record: Result<KeyValue, _>| match record {
        Ok(record) => Ok(vec![record]),
        Err(_) => Err(ErrorCode::InvalidRequest),
    };
    match request {
        Request::Read { key, reply } => {
            let stored = states.get(&key).cloned();
            (Ok(Vec::new()), Completion::Read(reply, stored))
        }
        Request::Initialize {
            key,
            leader_epoch,
            start_offset,
            reply,
        } => {
            let record = states.initialize(&key, leader_epoch, start_offset, now_ms);
            let stored = states.get(&key).cloned();
            let stored = stored.unwrap_or_else(|| Stored::new(0, leader_epoch, start_offset));
            (storable(record), Completion::State(reply, stored))
        }
        Request::Write { key, change, reply } => {
            let record = states.change(&key, &change, updates_per_snapshot, now_ms);
            let records = match record {
                Some(record) => storable(record),
                None => Err(ErrorCode::UnknownTopicOrPartition),
            };
            (records, Completion::Done(reply))
        }
        Request::OfGroup { group, reply } => {
            let found = states.of_group(&group);
            let found = found.map(|(key, stored)| (key.clone(), stored.clone()));
            (Ok(Vec::new()), Completion::OfGroup(reply, found.collect()))
        }
        Request::Delete {
            group,
            topic_id,
            reply,
        } => {
            let of_topic = |key: &ShareKey| topic_id.is_none_or(|id| key.topic_id == id);
            let records = states.remove(|key| key.group == group && of_topic(key));
            (Ok(records), Completion::Done(reply))
        }
        Request::ForgetTopics { topics } => {
            let records = states.remove(|key| topics.contains(&key.topic_id));
            (Ok(records), Completion::Forgotten)
        }
    }
}

impl ShareCoordinator {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            start,
            states: None,
            writes: Writes::default(),
        }
    }

    fn load(&mut self, ctx: &mut Context<Self>) {
        let partition = self.start.partition.clone();
        let load_bytes = self.start.load_bytes;
        let loading = async move {
            let mut states = States::default();
            replay(&partition, load_bytes, |batch, record| {
                states.take(batch, record)
            })
            .await?;
            Ok::<_, ReplayError>(states)
        };
        ctx.spawn(loading.into_actor(self).map(|loaded, coordinator, ctx| {
            let partition = coordinator.start.partition.topic_partition();
            match loaded {
                Ok(states) => {
                    let count = states.len();
                    tracing::debug!(%partition, count, "share partitions are loaded");
                    coordinator.states = Some(states);
                    coordinator.start.loaded.send_replace(true);
                }
                Err(error) => {
                    tracing::error!(%partition, %error, "share partitions can't be loaded; trying again");
                    ctx.run_later(RELOAD_DELAY, Self::load);
                }
            }
        }));
    }

    fn enqueue(
        &mut self,
        records: Answer<Vec<KeyValue>>,
        completion: Completion,
        ctx: &mut Context<Self>,
    ) {
        match records {
            Ok(records) => {
                self.writes.push(records, completion);
                self.write(ctx);
            }
            Err(error) => self.complete(completion, Err(error)),
        }
    }

    /// Starts the next write, unless one is under way.
    fn write(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.start.clock.now_ms();
        let Some(append) = self.writes.start(&self.start.partition, now_ms) else {
            return;
        };
        ctx.spawn(append.into_actor(self).map(|result, coordinator, ctx| {
            for (completion, failed) in coordinator.writes.finish() {
                coordinator.complete(completion, failed.map_or(result, Err));
            }
            if let Err(error) = result {
                let partition = coordinator.start.partition.topic_partition();
                tracing::warn!(%partition, %error, "share partitions could not be stored");
                coordinator.reload(ctx);
            }
            coordinator.write(ctx);
        }));
    }

    /// Forgets what is not stored for certain.
    fn reload(&mut self, ctx: &mut Context<Self>) {
        if self.states.take().is_some() {
            self.start.loaded.send_replace(false);
            ctx.run_later(RELOAD_DELAY, Self::load);
        }
    }

    fn complete(&mut self, completion: Completion, result: Answer<()>) {
        match completion {
            Completion::State(reply, stored) => answer(reply, result.map(|()| stored)),
            Completion::Read(reply, stored) => answer(reply, result.map(|()| stored)),
            Completion::OfGroup(reply, found) => answer(reply, result.map(|()| found)),
            Completion::Done(reply) => answer(reply, result),
            Completion::Forgotten => {}
            Completion::Pruned(before_offset) if result.is_ok() => {
                let partition = self.start.partition.clone();
                actix_rt::spawn(async move {
                    let deleted = partition.ask(|reply| DeleteRecords {
                        before_offset,
                        reply,
                    });
                    if let Err(error) = deleted.await {
                        let partition = partition.topic_partition();
                        tracing::warn!(%partition, %error, "old states of share partitions stay");
                    }
                });
            }
            Completion::Pruned(_) => {}
        }
    }

    /// Writes all states whole when that makes the log much shorter, and has the rest deleted.
    fn prune(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.start.clock.now_ms();
        let progress = self.start.partition.progress();
        let Some(states) = &mut self.states else {
            return;
        };
        let records = progress
            .log_end_offset
            .saturating_sub(progress.log_start_offset);
        let needed = i64::try_from(states.len()).unwrap_or(i64::MAX);
        if records.saturating_sub(needed) < MIN_RECORDS_TO_PRUNE {
            return;
        }
        let snapshots = states.snapshots(now_ms);
        let completion = Completion::Pruned(progress.log_end_offset);
        self.enqueue(Ok(snapshots), completion, ctx);
    }
}

fn refuse(request: Request) {
    const LOADING: ErrorCode = ErrorCode::CoordinatorLoadInProgress;
    match request {
        Request::Read { reply, .. } => answer(reply, Err(LOADING)),
        Request::Initialize { reply, .. } => answer(reply, Err(LOADING)),
        Request::Write { reply, .. } => answer(reply, Err(LOADING)),
        Request::OfGroup { reply, .. } => answer(reply, Err(LOADING)),
        Request::Delete { reply, .. } => answer(reply, Err(LOADING)),
        // What is loaded may hold states of those topics; nobody will ask for them.
        Request::ForgetTopics { .. } => {}
    }
}

/// Answers, if somebody still waits.
fn answer<T>(reply: Reply<T>, answer: Answer<T>) {
    // Whoever does not wait any more needs no answer.
    let _ = reply.send(answer);
}

/// Reaches a share coordinator.
pub(crate) type CoordinatorHandle = handle::CoordinatorHandle<ShareCoordinator>;
