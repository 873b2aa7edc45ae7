//! The coordinator of the groups of one partition of `__consumer_offsets`: an actor on that partition's thread.
//!
//! It decides nothing: the groups do. It loads the groups, keeps who waits for an answer, looks at groups when they
//! are due, and writes; what happens while a write is under way goes into the next one together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture,
};
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;

use super::consumer::topics::Topics;
use super::entry::{Entry, Kind};
use super::group::{Effect, Group, GroupConfig, GroupDescription, Joined, Now, Step, Synced};
use super::join::JoinRequest;
use super::loader::load;
use super::member::Ticket;
use super::offsets::Offsets;
use super::open_transactions::OpenTransactions;
use super::records;
use super::requests::{MemberRef, Request, answer, refuse};
use super::session::SyncRequest;
use super::timers::Timers;
use super::writes::{Completion, DeletionReply};
use crate::internal_topic::fields::TooLong;
use crate::internal_topic::handle::Stop;
use crate::internal_topic::writes::{KeyValue, Writes};
use crate::partition::{Answer, PartitionHandle, Reply};
use crate::runtime::Clock;

/// Requests that wait for a coordinator at most, before the gateway waits too.
const MAILBOX_CAPACITY: usize = 256;
/// How long to wait before the groups are loaded again, when that failed.
const RELOAD_DELAY: Duration = Duration::from_secs(1);

/// What a coordinator starts from.
pub(crate) struct Start {
    pub(crate) topics: watch::Receiver<Arc<Topics>>,
    pub(crate) partition: PartitionHandle,
    pub(crate) config: Arc<GroupConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) loaded: watch::Sender<bool>,
    /// How much of the log is read at once (`offsets.load.buffer.size`).
    pub(crate) load_bytes: usize,
    /// How often to look for offsets that have expired (`offsets.retention.check.interval.ms`).
    pub(crate) expiry_interval: Duration,
}

/// The actor.
pub(crate) struct Coordinator {
    pub(super) start: Start,
    /// By id; nothing while they are loaded.
    pub(super) groups: Option<BTreeMap<Arc<str>, Entry>>,
    pub(super) timers: Timers,
    /// When the next look at the timers is planned.
    alarm: Option<(i64, SpawnHandle)>,
    joins: HashMap<Ticket, Reply<Joined>>,
    syncs: HashMap<Ticket, Reply<Synced>>,
    next_ticket: Ticket,
    pub(super) writes: Writes<Completion>,
    /// Offsets that are not committed for good.
    pub(super) open_transactions: OpenTransactions,
}

impl Actor for Coordinator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        ctx.run_interval(self.start.expiry_interval, Self::expire);
        self.load(ctx);
    }
}

impl Handler<Request> for Coordinator {
    type Result = ();

    fn handle(&mut self, request: Request, ctx: &mut Self::Context) {
        if self.groups.is_some() {
            let request = self.perform_for_shares(request, ctx);
            if let Some(request) = request.and_then(|one| self.perform_for_consumers(one, ctx)) {
                self.perform(request, ctx);
            }
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
            groups: None,
            timers: Timers::default(),
            alarm: None,
            joins: HashMap::new(),
            syncs: HashMap::new(),
            next_ticket: 0,
            writes: Writes::default(),
            open_transactions: OpenTransactions::default(),
        }
    }

    pub(super) fn now(&self) -> Now {
        let monotonic = self.start.clock.monotonic().as_millis();
        Now {
            wall_ms: self.start.clock.now_ms(),
            monotonic_ms: i64::try_from(monotonic).unwrap_or(i64::MAX),
        }
    }

    fn load(&mut self, ctx: &mut Context<Self>) {
        let loading = load(self.start.partition.clone(), self.start.load_bytes);
        ctx.spawn(loading.into_actor(self).map(|loaded, coordinator, ctx| {
            let partition = coordinator.start.partition.topic_partition();
            match loaded {
                Ok(mut loader) => {
                    coordinator.open_transactions = loader.open_transactions();
                    let groups = {
                        let config = &coordinator.start.config.consumer;
                        loader.finish(config, coordinator.now())
                    };
                    tracing::debug!(%partition, groups = groups.len(), "groups are loaded");
                    coordinator.take_up(groups, ctx);
                }
                Err(error) => {
                    tracing::error!(%partition, %error, "groups can't be loaded; trying again");
                    ctx.run_later(RELOAD_DELAY, Self::load);
                }
            }
        }));
    }

    fn take_up(&mut self, groups: BTreeMap<Arc<str>, Entry>, ctx: &mut Context<Self>) {
        for (id, entry) in &groups {
            if let Some(deadline_ms) = entry.next_deadline_ms() {
                self.timers.set(id, deadline_ms);
            }
        }
        self.groups = Some(groups);
        self.start.loaded.send_replace(true);
        self.set_alarm(ctx);
    }

    pub(super) fn entry(&mut self, id: &str) -> Option<&mut Entry> {
        self.groups.as_mut()?.get_mut(id)
    }

    /// Returns a classic group.
    pub(super) fn group(&mut self, id: &str) -> Option<&mut Group> {
        self.entry(id)?.classic()
    }

    pub(super) fn group_or_new(&mut self, id: &Arc<str>) {
        let now = self.now();
        if let Some(groups) = &mut self.groups {
            groups.entry(Arc::clone(id)).or_insert_with(|| {
                let group = Group::new(Arc::clone(id), now);
                Entry::new(Kind::Classic(group), Offsets::default())
            });
        }
    }

    fn perform(&mut self, request: Request, ctx: &mut Context<Self>) {
        match request {
            Request::Join { group, join, reply } => self.join(&group, join, reply, ctx),
            Request::Sync { group, sync, reply } => self.sync(&group, sync, reply, ctx),
            Request::Heartbeat {
                group,
                member,
                generation,
                reply,
            } => answer(reply, self.heartbeat(&group, &member, generation)),
            Request::Leave {
                group,
                members,
                reply,
            } => {
                let left = members.iter().map(|member| self.leave(&group, member, ctx));
                answer(reply, Ok(left.collect()));
            }
            Request::Commit {
                group,
                member,
                generation,
                knows_epochs,
                offsets,
                reply,
            } => match self.check_commit(&group, &member, generation, knows_epochs) {
                Ok(()) => self.commit(group, offsets, reply, ctx),
                Err(error) => answer(reply, Err(error)),
            },
            Request::TransactionalCommit {
                group,
                member,
                generation,
                membership,
                offsets,
                reply,
            } => match self.check_transactional_commit(&group, &member, generation) {
                Ok(()) => self.commit_in_transaction(group, membership, offsets, reply, ctx),
                Err(error) => answer(reply, Err(error)),
            },
            Request::EndTransaction { marker, reply } => self.end_transaction(marker, reply, ctx),
            Request::Offsets {
                group,
                reader,
                partitions,
                require_stable,
                reply,
            } => {
                let told = self.check_reader(&group, reader);
                let told = told.map(|()| self.told_offsets(&group, partitions, require_stable));
                answer(reply, told);
            }
            Request::DeleteOffsets {
                group,
                partitions,
                reply,
            } => self.delete_offsets(&group, partitions, reply, ctx),
            Request::Describe { group, reply } => {
                let group = self.group(&group);
                answer(reply, Ok(group.map(|group| group.describe())));
            }
            Request::List { reply } => answer(reply, Ok(self.list())),
            Request::DeleteGroup { group, reply } => self.delete_group(&group, reply, ctx),
            Request::ForgetTopics { topics } => self.forget_topics(&topics, ctx),
            // Those are performed already.
            Request::ConsumerHeartbeat { .. }
            | Request::DescribeConsumers { .. }
            | Request::ShareHeartbeat { .. }
            | Request::DescribeShare { .. } => {}
        }
    }

    /// Lets a group take a step, and does what follows from it. Nothing when there is no such group.
    pub(super) fn step<T>(
        &mut self,
        id: &str,
        ctx: &mut Context<Self>,
        act: impl FnOnce(&mut Group, &mut Step<'_>) -> T,
    ) -> Option<T> {
        let config = Arc::clone(&self.start.config);
        let mut step = Step::new(&config, self.now());
        let group = self.group(id)?;
        let result = act(group, &mut step);
        let id = Arc::clone(group.id());
        self.plan(&id);
        for effect in step.effects {
            self.follow(&id, effect);
        }
        self.set_alarm(ctx);
        self.write(ctx);
        Some(result)
    }

    /// Plans the next look at a group, or forgets one that never came to be anything.
    pub(super) fn plan(&mut self, id: &Arc<str>) {
        let Some(entry) = self.entry(id) else { return };
        match entry.next_deadline_ms() {
            Some(deadline_ms) => self.timers.set(id, deadline_ms),
            None => self.forget_if_void(id),
        }
    }

    /// Forgets a group that never came to be anything.
    pub(super) fn forget_if_void(&mut self, id: &str) {
        if let Some(groups) = &mut self.groups
            && groups.get(id).is_some_and(Entry::is_void)
            && !self.open_transactions.concern(id)
        {
            groups.remove(id);
        }
    }

    fn follow(&mut self, group: &Arc<str>, effect: Effect) {
        match effect {
            Effect::Joined(ticket, joined) => {
                if let Some(reply) = self.joins.remove(&ticket) {
                    answer(reply, Ok(joined));
                }
            }
            Effect::Synced(ticket, synced) => {
                if let Some(reply) = self.syncs.remove(&ticket) {
                    answer(reply, Ok(synced));
                }
            }
            Effect::Store(value, purpose) => {
                let record = records::group_key(group)
                    .and_then(|key| Ok((key, Some(records::group_value(&value)?))));
                let group = Arc::clone(group);
                self.enqueue(
                    record.map(|record| vec![record]),
                    Completion::Group { group, purpose },
                );
            }
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.next_ticket
    }

    fn join(
        &mut self,
        group: &Arc<str>,
        join: JoinRequest,
        reply: Reply<Joined>,
        ctx: &mut Context<Self>,
    ) {
        if join.member_id.is_empty() {
            self.group_or_new(group);
        }
        if self.group(group).is_none() {
            return answer(reply, Err(ErrorCode::UnknownMemberId));
        }
        let ticket = self.ticket();
        self.joins.insert(ticket, reply);
        self.step(group, ctx, |group, step| group.join(join, ticket, step));
    }

    fn sync(
        &mut self,
        group: &Arc<str>,
        sync: SyncRequest,
        reply: Reply<Synced>,
        ctx: &mut Context<Self>,
    ) {
        if self.group(group).is_none() {
            return answer(reply, Err(ErrorCode::UnknownMemberId));
        }
        let ticket = self.ticket();
        self.syncs.insert(ticket, reply);
        self.step(group, ctx, |group, step| group.sync(sync, ticket, step));
    }

    /// The most frequent request by far: no timers are touched.
    fn heartbeat(&mut self, group: &str, member: &MemberRef, generation: i32) -> Answer<()> {
        let config = Arc::clone(&self.start.config);
        let step = Step::new(&config, self.now());
        let group = self.group(group).ok_or(ErrorCode::UnknownMemberId)?;
        let instance_id = member.instance_id.as_deref();
        group.heartbeat(&member.member_id, instance_id, generation, &step)
    }

    fn leave(&mut self, group: &str, member: &MemberRef, ctx: &mut Context<Self>) -> Answer<()> {
        let instance_id = member.instance_id.as_deref();
        self.step(group, ctx, |group, step| {
            group.leave(&member.member_id, instance_id, step)
        })
        .unwrap_or(Err(ErrorCode::UnknownMemberId))
    }

    fn list(&self) -> Vec<(Arc<str>, GroupDescription)> {
        let groups = self.groups.iter().flatten();
        groups
            .map(|(id, entry)| (Arc::clone(id), entry.summary()))
            .collect()
    }

    /// Plans the next look at the timers.
    pub(super) fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let Some(due_ms) = self.timers.first() else {
            return;
        };
        if let Some((planned_ms, alarm)) = self.alarm {
            if planned_ms <= due_ms {
                return;
            }
            ctx.cancel_future(alarm);
        }
        let wait_ms = due_ms.saturating_sub(self.now().monotonic_ms).max(0);
        let wait = Duration::from_millis(wait_ms.unsigned_abs());
        let alarm = ctx.run_later(wait, |coordinator, ctx| {
            coordinator.alarm = None;
            let now_ms = coordinator.now().monotonic_ms;
            while let Some(group) = coordinator.timers.pop(now_ms) {
                coordinator.tick(&group, ctx);
            }
            coordinator.set_alarm(ctx);
        });
        self.alarm = Some((due_ms, alarm));
    }

    /// Lets a group do what is due.
    fn tick(&mut self, id: &Arc<str>, ctx: &mut Context<Self>) {
        match self.entry(id).map(|entry| &entry.kind) {
            Some(Kind::Classic(_)) => {
                self.step(id, ctx, |group, step| group.tick(step));
            }
            Some(Kind::Consumer(_)) => {
                self.consumer_step(id, ctx, |group, step| group.tick(step), |(), _| {});
                self.plan(id);
            }
            Some(Kind::Share(_)) => {
                self.share_tick(id);
                self.write(ctx);
            }
            None => {}
        }
    }

    /// Takes records up for the next write.
    pub(super) fn enqueue(
        &mut self,
        records: Result<Vec<KeyValue>, TooLong>,
        completion: Completion,
    ) {
        match records {
            Ok(records) => self.writes.push(records, completion),
            Err(error) => {
                tracing::error!(%error, "a group can't be stored");
                self.writes.push_failed(completion);
            }
        }
    }

    /// Starts the next write, unless one is under way.
    pub(super) fn write(&mut self, ctx: &mut Context<Self>) {
        let Some(append) = self.writes.start(&self.start.partition, self.now().wall_ms) else {
            return;
        };
        ctx.spawn(append.into_actor(self).map(|result, coordinator, ctx| {
            for (completion, failed) in coordinator.writes.finish() {
                let result = failed.map_or(result, Err);
                coordinator.complete(completion, result, ctx);
            }
            coordinator.write(ctx);
        }));
    }

    /// Does what waited for a write. Only now do offsets change, in the order of the log.
    fn complete(&mut self, completion: Completion, result: Answer<()>, ctx: &mut Context<Self>) {
        match completion {
            Completion::Group { group, purpose } => {
                if let Err(error) = result {
                    tracing::warn!(%group, %error, "a group could not be stored");
                }
                self.step(&group, ctx, |group, step| {
                    group.stored(purpose, result, step);
                });
            }
            Completion::Consumers { group, then } => {
                then.call(self.consumers_stored(&group, result));
            }
            Completion::Shares { then } => then.call(result),
            Completion::Commit {
                group,
                offsets,
                reply,
            } => {
                self.committed(&group, offsets, result);
                answer(reply, result);
            }
            Completion::TransactionalCommit {
                group,
                producer_id,
                offsets,
                reply,
            } => {
                self.committed_in_transaction(&group, producer_id, offsets, result);
                answer(reply, result);
            }
            Completion::EndTransaction { marker, reply } => {
                self.ended_transaction(marker, reply, result);
            }
            Completion::DeleteOffsets {
                group,
                partitions,
                reply,
            } => {
                if result.is_ok() {
                    self.offsets_deleted(&group, &partitions);
                }
                if let Some(DeletionReply { reply, allowed }) = reply {
                    answer(reply, result.map(|()| allowed));
                }
            }
            Completion::Burial { group, reply } => match result {
                Ok(()) => self.remove_group(&group, reply),
                Err(_) => self.group_removed(&group, reply, result),
            },
            Completion::DeleteGroup { group, reply } => self.group_removed(&group, reply, result),
        }
    }
}
