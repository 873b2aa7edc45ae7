//! The coordinator of the transactional ids of one partition of `__transaction_state`: an actor on that partition's
//! thread.
//!
//! It decides nothing: [`Transaction`] does. It loads the ids, stores what changes, has markers written for what has
//! ended, and looks for what has timed out or expired; what happens while a write is under way goes into the next one
//! together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;

use super::loader::Loader;
use super::markers::Markers;
use super::records;
use super::requests::{Outcome, Request, answer, refuse};
use super::state::State;
use super::transaction::{Step, Transaction, Value};
use crate::internal_topic::handle::Stop;
use crate::internal_topic::writes::Writes;
use crate::internal_topic::{ReplayError, replay};
use crate::partition::{Answer, PartitionHandle, Reply};
use crate::runtime::Clock;

/// Requests that wait for a coordinator at most, before the gateway waits too.
const MAILBOX_CAPACITY: usize = 256;
/// How long to wait before something is tried again that failed: loading, or storing the end of a transaction.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// When a coordinator looks for what.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// How much of the log is read at once (`transaction.state.log.load.buffer.size`).
    pub(crate) load_bytes: usize,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`
    pub(crate) time_out_interval: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub(crate) expiry_interval: Duration,
    /// `transactional.id.expiration.ms`
    pub(crate) expiration_ms: i64,
}

/// What a coordinator starts from.
pub(crate) struct Start {
    pub(crate) partition: PartitionHandle,
    /// The leader epoch of that partition.
    pub(crate) epoch: i32,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) markers: Markers,
    pub(crate) loaded: watch::Sender<bool>,
}

/// What waits for a value to be stored, and hears how it went.
type Then = Box<dyn FnOnce(Answer<()>)>;

/// The actor.
pub(crate) struct Coordinator {
    start: Start,
    /// By id; nothing while they are loaded.
    ids: Option<BTreeMap<Arc<str>, Transaction>>,
    writes: Writes<(Arc<str>, Then)>,
}

impl Actor for Coordinator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        let schedule = Arc::clone(&self.start.schedule);
        ctx.run_interval(schedule.time_out_interval, Self::time_out);
        ctx.run_interval(schedule.expiry_interval, Self::expire);
        self.load(ctx);
    }
}

impl Handler<Request> for Coordinator {
    type Result = ();

    fn handle(&mut self, request: Request, ctx: &mut Self::Context) {
        if self.ids.is_some() {
            self.perform(request);
            self.write(ctx);
        } else {
            refuse(request);
        }
    }
}

impl Handler<Stop> for Coordinator {
    type Result = ();

    fn handle(&mut self, Stop: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Coordinator {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            start,
            ids: None,
            writes: Writes::default(),
        }
    }

    fn now_ms(&self) -> i64 {
        self.start.clock.now_ms()
    }

    fn load(&mut self, ctx: &mut Context<Self>) {
        let partition = self.start.partition.clone();
        let max_bytes = self.start.schedule.load_bytes;
        let loading = async move {
            let mut loader = Loader::default();
            replay(&partition, max_bytes, |batch, record| {
                loader.take(batch, record)
            })
            .await?;
            Ok::<_, ReplayError>(loader)
        };
        ctx.spawn(loading.into_actor(self).map(|loaded, coordinator, ctx| {
            let partition = coordinator.start.partition.topic_partition();
            match loaded {
                Ok(loader) => {
                    let ids = loader.finish();
                    tracing::debug!(%partition, ids = ids.len(), "transactions are loaded");
                    coordinator.take_up(ids, ctx);
                }
                Err(error) => {
                    tracing::error!(%partition, %error, "transactions can't be loaded; trying again");
                    ctx.run_later(RETRY_DELAY, Self::load);
                }
            }
        }));
    }

    /// Goes on where the log ends: what was ending gets its markers again.
    fn take_up(&mut self, ids: BTreeMap<Arc<str>, Transaction>, ctx: &mut Context<Self>) {
        let all: Vec<Arc<str>> = ids.keys().cloned().collect();
        self.ids = Some(ids);
        for id in all {
            self.send_markers(&id, ctx);
        }
        self.start.loaded.send_replace(true);
    }

    fn transaction(&mut self, id: &str) -> Answer<&mut Transaction> {
        let ids = self.ids.as_mut();
        ids.and_then(|ids| ids.get_mut(id))
            .ok_or(ErrorCode::InvalidProducerIdMapping)
    }

    fn perform(&mut self, request: Request) {
        let now_ms = self.now_ms();
        match request {
            Request::Init {
                id,
                init,
                fresh_id,
                reply,
            } => {
                let step = self
                    .transaction_or_new(&id, fresh_id, now_ms)
                    .map_or(Ok(Step::NeedsProducerId), |transaction| {
                        transaction.init(init, fresh_id, now_ms)
                    });
                self.follow(&id, step, reply);
            }
            Request::Add {
                id,
                producer,
                partitions,
                transaction_version,
                reply,
            } => {
                let step = self.transaction(&id).and_then(|transaction| {
                    transaction.add(producer, &partitions, transaction_version, now_ms)
                });
                self.follow_add(&id, step, reply);
            }
            Request::Verify {
                id,
                producer,
                partitions,
                reply,
            } => {
                let transaction = self.transaction(&id);
                answer(
                    reply,
                    transaction.and_then(|transaction| transaction.verify(producer, &partitions)),
                );
            }
            Request::End {
                id,
                end,
                fresh_id,
                reply,
            } => {
                let transaction = self.transaction(&id);
                let step =
                    transaction.and_then(|transaction| transaction.end(end, fresh_id, now_ms));
                self.follow(&id, step, reply);
            }
            Request::Describe { id, reply } => {
                let transaction = self.transaction(&id);
                let described = transaction.map(|transaction| transaction.value().clone());
                answer(
                    reply,
                    described.map_err(|_| ErrorCode::TransactionalIdNotFound),
                );
            }
            Request::List { reply } => answer(reply, Ok(self.list())),
        }
    }

    /// Returns the transactional id, made with a fresh producer id if there is none; `None` without such an id.
    fn transaction_or_new(
        &mut self,
        id: &Arc<str>,
        fresh_id: Option<i64>,
        now_ms: i64,
    ) -> Option<&mut Transaction> {
        let ids = self.ids.as_mut()?;
        if let Some(fresh_id) = fresh_id {
            ids.entry(Arc::clone(id))
                .or_insert_with(|| Transaction::new(fresh_id, now_ms));
        }
        ids.get_mut(id)
    }

    fn follow(&mut self, id: &Arc<str>, step: Answer<Step>, reply: Reply<Outcome>) {
        match step {
            Ok(Step::Answer(producer)) => answer(reply, Ok(Outcome::Producer(producer))),
            Ok(Step::NeedsProducerId) => answer(reply, Ok(Outcome::NeedsProducerId)),
            Ok(Step::Store(producer)) => self.store(id, move |stored| {
                answer(reply, stored.map(|()| Outcome::Producer(producer)));
            }),
            Ok(Step::Fence) => self.store(id, move |stored| {
                let concurrent = Err(ErrorCode::ConcurrentTransactions);
                answer(reply, stored.and(concurrent));
            }),
            Err(error) => answer(reply, Err(error)),
        }
    }

    fn follow_add(&mut self, id: &Arc<str>, step: Answer<Step>, reply: Reply<()>) {
        match step {
            Ok(Step::Store(_)) => self.store(id, move |stored| answer(reply, stored)),
            Ok(_) => answer(reply, Ok(())),
            Err(error) => answer(reply, Err(error)),
        }
    }

    fn list(&self) -> Vec<(Arc<str>, Value)> {
        let ids = self.ids.iter().flatten();
        ids.map(|(id, transaction)| (Arc::clone(id), transaction.value().clone()))
            .collect()
    }

    /// Takes up for the next write what a transactional id wants stored.
    fn store(&mut self, id: &Arc<str>, then: impl FnOnce(Answer<()>) + 'static) {
        let pending = self.transaction(id).ok();
        let Some(value) = pending.and_then(|transaction| transaction.pending()) else {
            return then(Err(ErrorCode::UnknownServerError));
        };
        let stored = (value.state != State::Dead).then(|| records::value(value));
        let record = records::key(id).and_then(|key| Ok((key, stored.transpose()?)));
        let then: (Arc<str>, Then) = (Arc::clone(id), Box::new(then));
        match record {
            Ok(record) => self.writes.push(vec![record], then),
            Err(error) => {
                tracing::error!(transactional_id = %id, %error, "a transaction can't be stored");
                self.writes.push_failed(then);
            }
        }
    }

    /// Starts the next write, unless one is under way.
    fn write(&mut self, ctx: &mut Context<Self>) {
        let Some(append) = self.writes.start(&self.start.partition, self.now_ms()) else {
            return;
        };
        ctx.spawn(append.into_actor(self).map(|result, coordinator, ctx| {
            for ((id, then), failed) in coordinator.writes.finish() {
                let result = failed.map_or(result, Err);
                coordinator.stored(&id, result);
                then(result);
                match result {
                    Ok(()) => coordinator.send_markers(&id, ctx),
                    // A transaction that could not be completed is still ending. In no other case are its markers due: a
                    // second one, come late, would end the next transaction.
                    Err(_) if coordinator.is_ending(&id) => {
                        ctx.run_later(RETRY_DELAY, move |coordinator, ctx| {
                            coordinator.send_markers(&id, ctx);
                        });
                    }
                    Err(_) => {}
                }
            }
            coordinator.write(ctx);
        }));
    }

    fn is_ending(&mut self, id: &str) -> bool {
        let transaction = self.transaction(id);
        transaction.is_ok_and(|transaction| transaction.to_end().is_some())
    }

    /// Takes over what is in the log now. An id without value is forgotten.
    fn stored(&mut self, id: &Arc<str>, result: Answer<()>) {
        let Ok(transaction) = self.transaction(id) else {
            return;
        };
        transaction.stored(result.is_ok());
        let forgotten = transaction.value().state == State::Dead || transaction.is_new();
        if let (true, Some(ids)) = (forgotten, &mut self.ids) {
            ids.remove(id);
        }
        if let Err(error) = result {
            tracing::warn!(transactional_id = %id, %error, "a transaction could not be stored");
        }
    }

    /// Has the markers of a transaction written, if it is ending, and completes it then.
    fn send_markers(&mut self, id: &Arc<str>, ctx: &mut Context<Self>) {
        let ending = self.transaction(id).ok();
        let Some(ending) = ending.and_then(|transaction| transaction.to_end()) else {
            return;
        };
        let markers = self.start.markers.clone();
        let epoch = self.start.epoch;
        let id = Arc::clone(id);
        let writing = async move { markers.write_all(ending, epoch).await };
        ctx.spawn(writing.into_actor(self).map(move |written, coordinator, ctx| {
            match written {
                Ok(()) => coordinator.complete(&id, ctx),
                Err(error) => {
                    tracing::error!(transactional_id = %id, %error, "a transaction can't be completed here: its partitions were told otherwise");
                }
            }
        }));
    }

    fn complete(&mut self, id: &Arc<str>, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        if !self
            .transaction(id)
            .is_ok_and(|transaction| transaction.complete(now_ms))
        {
            return;
        }
        self.store(id, |_| {});
        self.write(ctx);
    }

    /// Aborts transactions that take too long.
    fn time_out(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let overdue = self.select(|transaction| transaction.time_out(now_ms));
        for id in overdue {
            tracing::info!(transactional_id = %id, "a transaction has timed out and is aborted");
            self.store(&id, |_| {});
        }
        self.write(ctx);
    }

    /// Forgets transactional ids that nobody has used for long.
    fn expire(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let expiration_ms = self.start.schedule.expiration_ms;
        let expired = self.select(|transaction| {
            let expired = transaction.is_expired(expiration_ms, now_ms);
            if expired {
                transaction.kill();
            }
            expired
        });
        for id in expired {
            tracing::info!(transactional_id = %id, "a transactional id has expired");
            self.store(&id, |_| {});
        }
        self.write(ctx);
    }

    fn select(&mut self, mut select: impl FnMut(&mut Transaction) -> bool) -> Vec<Arc<str>> {
        let ids = self.ids.iter_mut().flatten();
        ids.filter_map(|(id, transaction)| select(transaction).then(|| Arc::clone(id)))
            .collect()
    }
}
