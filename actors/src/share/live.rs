//! A share partition at work: an actor on the thread of the partition whose records it hands out.
//!
//! It decides nothing: [`SharePartition`] does. It does one thing after the other: reads the log, has changes stored
//! before it answers, looks at locks when they end. It comes up when it is first asked, and goes with the leadership of
//! the partition, or when a change could not be stored; the next one begins with what is stored.

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message,
    SpawnHandle, WrapFuture,
};
use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::{BatchHeader, batches};

use super::aborted::aborted_batches;
use super::coordinator::{self, CoordinatorHandle};
use super::partition::{
    AcknowledgementBatch, AcquiredRecords, Acquisition, Limits, SharePartition,
};
use super::stored::Stored;
use super::{OffsetReset, ShareKey};
use crate::partition::messages::{ListOffset, OffsetSpec, Progress, Read, ReadResult, Reader};
use crate::partition::{Answer, PartitionHandle, Reply};
use crate::runtime::Clock;

/// Requests that wait for a share partition at most, before the asker waits too.
const MAILBOX_CAPACITY: usize = 64;

/// What a share partition can be asked.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Request {
    /// Locks records for a member and returns them.
    Acquire {
        acquire: Acquire,
        reply: Reply<Acquired>,
    },
    /// Takes a member's acknowledgements.
    Acknowledge {
        member: Arc<str>,
        batches: Vec<AcknowledgementBatch>,
        limits: Limits,
        reply: Reply<()>,
    },
    /// Takes back what a member holds.
    Release { member: Arc<str>, reply: Reply<()> },
    /// Ends this: the stored state is set by somebody else.
    Stop { reply: Reply<()> },
}

/// Who acquires, and how much.
#[derive(Debug, Clone)]
pub(crate) struct Acquire {
    pub(crate) member: Arc<str>,
    pub(crate) max_bytes: u64,
    pub(crate) max_records: i64,
    pub(crate) batch_size: i64,
    /// A consumer, or one that is read_committed.
    pub(crate) reader: Reader,
    pub(crate) limits: Limits,
}

/// What was acquired; nothing when there is nothing now.
#[derive(Debug, Default)]
pub(crate) struct Acquired {
    /// Whole batches that hold the records, and others perhaps.
    pub(crate) records: Bytes,
    pub(crate) ranges: Vec<AcquiredRecords>,
}

/// What a share partition starts from.
pub(crate) struct Start {
    pub(crate) key: ShareKey,
    pub(crate) partition: PartitionHandle,
    pub(crate) leader_epoch: i32,
    pub(crate) coordinator: CoordinatorHandle,
    pub(crate) reset: OffsetReset,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    /// Raised whenever there may be more to acquire.
    pub(crate) changed: watch::Sender<u64>,
}

/// The actor.
pub(crate) struct LivePartition {
    start: Start,
    state: SharePartition,
    /// What is stored of it.
    stored: Stored,
    alarm: Option<(i64, SpawnHandle)>,
}

impl Actor for LivePartition {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        let restoring = restore(
            self.start.key.clone(),
            self.start.partition.clone(),
            self.start.leader_epoch,
            self.start.coordinator.clone(),
            self.start.reset,
            self.start.clock.now_ms(),
        );
        ctx.wait(restoring.into_actor(self).map(|restored, live, ctx| {
            let key = &live.start.key;
            match restored {
                Ok(stored) => {
                    tracing::debug!(%key, start_offset = stored.start_offset, "a share partition comes up");
                    live.state = SharePartition::restored(&stored);
                    live.stored = stored;
                }
                Err(error) => {
                    tracing::warn!(%key, %error, "a share partition does not come up");
                    ctx.stop();
                }
            }
        }));
        let led = led(self.start.partition.watch(), self.start.leader_epoch);
        ctx.spawn(led.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

impl Handler<Request> for LivePartition {
    type Result = ();

    fn handle(&mut self, request: Request, ctx: &mut Self::Context) {
        match request {
            Request::Acquire { acquire, reply } => self.acquire(acquire, reply, ctx),
            Request::Acknowledge {
                member,
                batches,
                limits,
                reply,
            } => {
                let mut next = self.state.clone();
                match next.acknowledge(&member, &batches, &limits) {
                    Ok(()) => self.store(next, Some(reply), ctx),
                    Err(error) => answer(reply, Err(error)),
                }
            }
            Request::Release { member, reply } => {
                let mut next = self.state.clone();
                next.release_member(&member);
                self.store(next, Some(reply), ctx);
            }
            Request::Stop { reply } => {
                answer(reply, Ok(()));
                ctx.stop();
            }
        }
    }
}

impl LivePartition {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            start,
            state: SharePartition::new(0),
            stored: Stored::new(0, 0, 0),
            alarm: None,
        }
    }

    fn now_ms(&self) -> i64 {
        let monotonic = self.start.clock.monotonic().as_millis();
        i64::try_from(monotonic).unwrap_or(i64::MAX)
    }

    /// Wakes those who wait for records.
    fn wake(&self) {
        self.start
            .changed
            .send_modify(|version| *version = version.wrapping_add(1));
    }

    fn acquire(&mut self, acquire: Acquire, reply: Reply<Acquired>, ctx: &mut Context<Self>) {
        let progress = self.start.partition.progress();
        self.state.log_starts_at(progress.log_start_offset);
        let from = self.state.next_fetch_offset(&acquire.limits);
        let bound = match acquire.reader {
            Reader::CommittedConsumer => progress.last_stable_offset,
            _ => progress.high_watermark,
        };
        let Some(from) = from.filter(|from| *from < bound) else {
            return answer(reply, Ok(Acquired::default()));
        };
        let reading = read(
            self.start.partition.clone(),
            from,
            acquire.max_bytes,
            acquire.reader,
        );
        ctx.wait(reading.into_actor(self).map(move |read, live, ctx| {
            let acquired = match read {
                Ok((records, aborted)) => live.lock(&acquire, from, records, &aborted),
                // The log has lost its beginning meanwhile; the next look starts from there.
                Err(ErrorCode::OffsetOutOfRange) => Ok(Acquired::default()),
                Err(error) => Err(error),
            };
            answer(reply, acquired);
            live.set_alarm(ctx);
        }));
    }

    /// Acquires from what was read.
    fn lock(
        &mut self,
        acquire: &Acquire,
        from: i64,
        records: Bytes,
        aborted: &[(i64, i64)],
    ) -> Answer<Acquired> {
        let mut headers = Vec::new();
        for batch in batches(&records) {
            let batch = batch.map_err(|_| ErrorCode::CorruptMessage)?;
            headers.push(*batch.header());
        }
        let bounds: Vec<(i64, i64)> = headers
            .iter()
            .map(|header| (header.base_offset, header.last_offset()))
            .collect();
        let acquisition = Acquisition {
            member: Arc::clone(&acquire.member),
            now_ms: self.now_ms(),
            max_records: acquire.max_records,
            batch_size: acquire.batch_size,
        };
        let mut ranges = self
            .state
            .acquire(&acquisition, from, &bounds, &acquire.limits);
        for (first, last) in aborted_batches(&headers, aborted) {
            if self.state.archive_acquired(first, last, &acquire.member) {
                cut(&mut ranges, first, last);
                // What comes after may be for this member or another.
                self.wake();
            }
        }
        Ok(Acquired {
            records: covering(&records, &headers, &ranges),
            ranges,
        })
    }

    /// Has a next state stored, then takes it over and answers.
    fn store(&mut self, next: SharePartition, reply: Option<Reply<()>>, ctx: &mut Context<Self>) {
        let change =
            self.stored
                .change_to(self.start.leader_epoch, next.start_offset(), &next.stored());
        let Some(change) = change else {
            return self.take_over(next, reply, ctx);
        };
        let coordinator = self.start.coordinator.clone();
        let key = self.start.key.clone();
        let writing = async move {
            let written = change.clone();
            let stored = coordinator.ask_when_loaded(|reply| coordinator::Request::Write {
                key,
                change: written,
                reply,
            });
            (stored.await, change)
        };
        ctx.wait(
            writing
                .into_actor(self)
                .map(|(stored, change), live, ctx| match stored {
                    Ok(()) => {
                        live.stored.apply(&change);
                        live.take_over(next, reply, ctx);
                    }
                    Err(error) => {
                        let key = &live.start.key;
                        tracing::warn!(%key, %error, "a share partition could not be stored");
                        if let Some(reply) = reply {
                            answer(reply, Err(told(error)));
                        }
                        ctx.stop();
                    }
                }),
        );
    }

    fn take_over(
        &mut self,
        next: SharePartition,
        reply: Option<Reply<()>>,
        ctx: &mut Context<Self>,
    ) {
        self.state = next;
        self.wake();
        self.set_alarm(ctx);
        if let Some(reply) = reply {
            answer(reply, Ok(()));
        }
    }

    /// Plans the next look at the locks.
    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let Some(due_ms) = self.state.next_timeout_ms() else {
            return;
        };
        if let Some((planned_ms, alarm)) = self.alarm {
            if planned_ms <= due_ms {
                return;
            }
            ctx.cancel_future(alarm);
        }
        let wait_ms = due_ms.saturating_sub(self.now_ms()).max(0);
        let wait = Duration::from_millis(wait_ms.unsigned_abs());
        let alarm = ctx.run_later(wait, |live, ctx| {
            live.alarm = None;
            let mut next = live.state.clone();
            if next.time_out(live.now_ms(), &live.start.limits) {
                live.store(next, None, ctx);
            } else {
                live.set_alarm(ctx);
            }
        });
        self.alarm = Some((due_ms, alarm));
    }
}

/// Finds what is stored of a share partition, or stores where it begins.
async fn restore(
    key: ShareKey,
    partition: PartitionHandle,
    leader_epoch: i32,
    coordinator: CoordinatorHandle,
    reset: OffsetReset,
    now_ms: i64,
) -> Answer<Stored> {
    let asked = key.clone();
    let found =
        coordinator.ask_when_loaded(|reply| coordinator::Request::Read { key: asked, reply });
    if let Some(stored) = found.await?.filter(|stored| stored.start_offset >= 0) {
        return Ok(stored);
    }
    let spec = match reset {
        OffsetReset::Earliest => OffsetSpec::Earliest,
        OffsetReset::Latest => OffsetSpec::Latest,
        OffsetReset::ByDuration { ms } => OffsetSpec::Timestamp(now_ms.saturating_sub(ms).max(0)),
    };
    let list = |spec| {
        partition.ask(move |reply| ListOffset {
            spec,
            reader: Reader::Consumer,
            current_leader_epoch: -1,
            reply,
        })
    };
    let mut start = list(spec).await?.offset;
    if start < 0 {
        // Nothing is as young as that.
        start = list(OffsetSpec::Latest).await?.offset;
    }
    coordinator
        .ask_when_loaded(|reply| coordinator::Request::Initialize {
            key,
            leader_epoch,
            start_offset: start.max(0),
            reply,
        })
        .await
}

/// Waits until the partition is not led here in this epoch any more, or again.
async fn led(mut progress: watch::Receiver<Progress>, leader_epoch: i32) {
    let leadership = progress.borrow().leaderships;
    let still = |progress: &Progress| {
        progress.is_leader
            && progress.leader_epoch == leader_epoch
            && progress.leaderships == leadership
    };
    // The sender is gone when the replica is.
    let _ = progress.wait_for(|progress| !still(progress)).await;
}

async fn read(
    partition: PartitionHandle,
    offset: i64,
    max_bytes: u64,
    reader: Reader,
) -> Answer<(Bytes, Vec<(i64, i64)>)> {
    let (reply, reading) = oneshot::channel();
    let read = Read {
        offset,
        max_bytes,
        at_least_one: true,
        reader,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        reply,
    };
    partition.send(read).await?;
    let result: ReadResult = reading.await.map_err(|_| ErrorCode::NotLeaderOrFollower)?;
    if result.error.is_error() {
        return Err(result.error);
    }
    let Some(records) = result.records else {
        return Ok((Bytes::new(), Vec::new()));
    };
    // This actor lives on the thread of the log: blocking here is what that thread is for.
    match records.read() {
        Ok(bytes) => Ok((bytes.into(), result.aborted)),
        Err(error) => {
            let partition = partition.topic_partition();
            tracing::error!(%partition, %error, "records can't be read");
            Err(ErrorCode::KafkaStorageError)
        }
    }
}

/// Takes offsets out of ranges.
fn cut(ranges: &mut Vec<AcquiredRecords>, first: i64, last: i64) {
    let before = std::mem::take(ranges);
    for range in before {
        if range.first < first {
            ranges.push(AcquiredRecords {
                last: range.last.min(first.saturating_sub(1)),
                ..range
            });
        }
        if range.last > last {
            ranges.push(AcquiredRecords {
                first: range.first.max(last.saturating_add(1)),
                ..range
            });
        }
    }
}

/// Returns the batches from the first to the last acquired record.
fn covering(records: &Bytes, headers: &[BatchHeader], ranges: &[AcquiredRecords]) -> Bytes {
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
        return Bytes::new();
    };
    let (mut start, mut end, mut at) = (0, 0, 0_usize);
    for header in headers {
        let after = at.saturating_add(header.size).min(records.len());
        if header.last_offset() < first.first {
            start = after;
        }
        if header.base_offset <= last.last {
            end = after;
        }
        at = after;
    }
    records.slice(start.min(end)..end)
}

/// Says what members are told when a change can't be stored.
fn told(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::NotCoordinator
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress => ErrorCode::NotLeaderOrFollower,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::KafkaStorageError => error,
        _ => ErrorCode::UnknownServerError,
    }
}

/// Answers, if somebody still waits.
fn answer<T>(reply: Reply<T>, answer: Answer<T>) {
    // Whoever does not wait any more needs no answer.
    let _ = reply.send(answer);
}

/// Reaches a share partition. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LiveHandle {
    addr: Addr<LivePartition>,
    changed: watch::Receiver<u64>,
    partition: PartitionHandle,
}

impl LiveHandle {
    pub(super) fn new(
        addr: Addr<LivePartition>,
        changed: watch::Receiver<u64>,
        partition: PartitionHandle,
    ) -> Self {
        Self {
            addr,
            changed,
            partition,
        }
    }

    /// Tells whether it still runs.
    pub(super) fn is_running(&self) -> bool {
        self.addr.connected()
    }

    /// Sends the request that `build` makes around a reply, and waits for that reply.
    ///
    /// # Errors
    /// The share partition's own answer, or NOT_LEADER_OR_FOLLOWER when it has ended.
    pub(crate) async fn ask<T>(&self, build: impl FnOnce(Reply<T>) -> Request) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.addr.send(build(reply)).await;
        sent.map_err(|_| ErrorCode::NotLeaderOrFollower)?;
        answer.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
    }

    /// Takes note of how things are, for [`changed`](Wakeup::changed).
    pub(crate) fn watch(&self) -> Wakeup {
        let mut changed = self.changed.clone();
        let mut progress = self.partition.watch();
        changed.mark_unchanged();
        progress.mark_unchanged();
        Wakeup { changed, progress }
    }
}

/// Waits for more to acquire.
pub(crate) struct Wakeup {
    changed: watch::Receiver<u64>,
    progress: watch::Receiver<Progress>,
}

impl Wakeup {
    /// Waits until there may be more to acquire than when this was made.
    pub(crate) async fn changed(mut self) {
        // What is gone is found out by asking.
        tokio::select! {
            _ = self.changed.changed() => {}
            _ = self.progress.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64) -> AcquiredRecords {
        AcquiredRecords {
            first,
            last,
            delivery_count: 1,
        }
    }

    #[test]
    fn offsets_are_cut_out_of_ranges() {
        let mut ranges = vec![range(0, 9), range(10, 19)];
        cut(&mut ranges, 5, 11);
        assert_eq!(ranges, [range(0, 4), range(12, 19)]);
        cut(&mut ranges, 14, 15);
        assert_eq!(ranges, [range(0, 4), range(12, 13), range(16, 19)]);
        cut(&mut ranges, 0, 100);
        assert_eq!(ranges, []);
    }
}
