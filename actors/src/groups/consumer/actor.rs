//! What the coordinator does for consumer groups: it feeds them requests and time, stores, and answers then.

use std::sync::Arc;

use actix::Context;
use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::group::{ConsumerGroup, Refusal, Step};
use super::heartbeat::{Beat, Heartbeat};
use super::member::{Metadata, Partitions};
use super::records::Record;
use super::topics::Topics;
use crate::groups::coordinator::Coordinator;
use crate::groups::entry::{Entry, Kind};
use crate::groups::group::{Group, Joined};
use crate::groups::offsets::Offsets;
use crate::groups::records;
use crate::groups::requests::{MemberRef, Request, answer};
use crate::groups::writes::{Completion, Deferred};
use crate::internal_topic::fields::TooLong;
use crate::partition::{Answer, Reply};

/// What a heartbeat is answered.
pub(crate) type BeatReply = Reply<Result<Beat, Refusal>>;

/// A consumer group as tools see it.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) state: &'static str,
    pub(crate) epoch: i32,
    pub(crate) target_epoch: i32,
    pub(crate) assignor: &'static str,
    pub(crate) members: Vec<DescribedMember>,
    pub(crate) topics: Arc<Topics>,
}

/// A member as tools see it.
#[derive(Debug, Clone)]
pub(crate) struct DescribedMember {
    pub(crate) id: Arc<str>,
    pub(crate) epoch: i32,
    pub(crate) metadata: Metadata,
    pub(crate) assigned: Partitions,
    pub(crate) target: Partitions,
}

type Encoded = Result<Vec<(Bytes, Option<Bytes>)>, TooLong>;

fn encode(group: &str, records: &[Record]) -> Encoded {
    records.iter().map(|record| record.encode(group)).collect()
}

impl Coordinator {
    /// Performs a request that is one of the consumer protocol, or for a consumer group. Gives others back.
    pub(in crate::groups) fn perform_for_consumers(
        &mut self,
        request: Request,
        ctx: &mut Context<Self>,
    ) -> Option<Request> {
        match request {
            Request::ConsumerHeartbeat { group, beat, reply } => {
                self.consumer_heartbeat(&group, beat, reply, ctx);
                None
            }
            Request::DescribeConsumers { group, reply } => {
                answer(reply, Ok(self.describe_consumers(&group)));
                None
            }
            Request::Join { group, join, reply } if self.consumer(&group).is_some() => {
                self.join_consumers(group, join, reply, ctx)
            }
            Request::Sync { group, sync, reply } if self.consumer(&group).is_some() => {
                self.consumer_step(
                    &group,
                    ctx,
                    move |group, step| group.sync(&sync, step),
                    move |synced, stored| answer(reply, stored.and(synced)),
                );
                None
            }
            Request::Heartbeat {
                group,
                member,
                generation,
                reply,
            } if self.consumer(&group).is_some() => {
                self.consumer_step(
                    &group,
                    ctx,
                    move |group, step| {
                        let instance_id = member.instance_id.as_deref();
                        group.classic_heartbeat(&member.member_id, instance_id, generation, step)
                    },
                    move |alive, stored| answer(reply, stored.and(alive)),
                );
                None
            }
            Request::Leave {
                group,
                members,
                reply,
            } if self.consumer(&group).is_some() => {
                self.leave_consumers(&group, members, reply, ctx);
                None
            }
            other => Some(other),
        }
    }

    /// Checks who reads offsets, if it says who it is: a member of a consumer group in its epoch.
    pub(in crate::groups) fn check_reader(
        &mut self,
        id: &str,
        reader: Option<(Arc<str>, i32)>,
    ) -> Answer<()> {
        match (self.consumer(id), reader) {
            (Some(group), Some((member_id, epoch))) => {
                group.check_member_epoch(&member_id, epoch, true)
            }
            _ => Ok(()),
        }
    }

    pub(in crate::groups) fn consumer(&mut self, id: &str) -> Option<&mut ConsumerGroup> {
        self.entry(id)?.consumer()
    }

    fn topics(&self) -> Arc<Topics> {
        Arc::clone(&self.start.topics.borrow())
    }

    fn consumer_heartbeat(
        &mut self,
        id: &Arc<str>,
        beat: Heartbeat,
        reply: BeatReply,
        ctx: &mut Context<Self>,
    ) {
        let joins = beat.member_epoch == 0;
        match self.entry(id).map(|entry| &entry.kind) {
            Some(Kind::Consumer(_)) => {}
            Some(Kind::Classic(_)) if joins => return self.upgrade(id, &beat, reply, ctx),
            None if joins => self.insert(id, ConsumerGroup::new(Arc::clone(id))),
            Some(_) | None => {
                let message = format!("Group {id} not found.");
                let refusal = Refusal::new(ErrorCode::GroupIdNotFound, message);
                return answer(reply, Ok(Err(refusal)));
            }
        }
        self.consumer_step(
            id,
            ctx,
            move |group, step| group.heartbeat(&beat, step),
            move |answered, stored| answer(reply, stored.map(|()| answered)),
        );
    }

    fn insert(&mut self, id: &Arc<str>, group: ConsumerGroup) {
        let kind = Kind::Consumer(group);
        match self.entry(id) {
            Some(entry) => entry.kind = kind,
            None => {
                if let Some(groups) = &mut self.groups {
                    groups.insert(Arc::clone(id), Entry::new(kind, Offsets::default()));
                }
            }
        }
    }

    /// Lets the first member of the consumer protocol into a classic group, which becomes a consumer group.
    fn upgrade(
        &mut self,
        id: &Arc<str>,
        beat: &Heartbeat,
        reply: BeatReply,
        ctx: &mut Context<Self>,
    ) {
        let (config, topics) = (Arc::clone(&self.start.config), self.topics());
        let mut step = Step::new(&config.consumer, self.now(), &topics);
        let Some(classic) = self.group(id) else {
            return;
        };
        let upgraded = if classic.is_idle() {
            Some(ConsumerGroup::new(Arc::clone(id)))
        } else {
            ConsumerGroup::upgraded(classic, &mut step)
        };
        let Some(mut upgraded) = upgraded else {
            let message = format!("Group {id} is not a consumer group.");
            let refusal = Refusal::new(ErrorCode::GroupIdNotFound, message);
            return answer(reply, Ok(Err(refusal)));
        };
        let beat = match upgraded.heartbeat(beat, &mut step) {
            Ok(beat) => beat,
            // The group stays what it is.
            Err(refusal) => return answer(reply, Ok(Err(refusal))),
        };
        tracing::info!(group = %id, "a classic group becomes a consumer group");
        // Whoever waits has to join again.
        self.step(id, ctx, |group, step| group.dissolve(step));
        self.insert(id, upgraded);
        let records = records::group_key(id).and_then(|key| {
            let mut records = vec![(key, None)];
            records.extend(encode(id, &step.records)?);
            Ok(records)
        });
        let due_ms = step.due_ms;
        let then = Deferred::new(move |stored: Answer<()>| {
            answer(reply, stored.map(|()| Ok(beat)));
        });
        self.store_consumers(id, records, due_ms, then, ctx);
    }

    /// Lets a group take a step, stores what came of it, and goes on with `then`.
    pub(in crate::groups) fn consumer_step<T: 'static>(
        &mut self,
        id: &Arc<str>,
        ctx: &mut Context<Self>,
        act: impl FnOnce(&mut ConsumerGroup, &mut Step<'_>) -> T,
        then: impl FnOnce(T, Answer<()>) + 'static,
    ) {
        let (config, topics) = (Arc::clone(&self.start.config), self.topics());
        let mut step = Step::new(&config.consumer, self.now(), &topics);
        let Some(group) = self.consumer(id) else {
            return;
        };
        let mut stored = group.unsaved_records();
        let result = act(group, &mut step);
        stored.append(&mut step.records);
        let mut records = encode(id, &stored);
        if step.downgrade {
            records = records.and_then(|mut records| {
                records.extend(self.downgrade(id, &topics)?);
                Ok(records)
            });
        }
        let then = Deferred::new(move |stored| then(result, stored));
        self.store_consumers(id, records, step.due_ms, then, ctx);
        if step.downgrade {
            self.step(id, ctx, |group, step| group.prepare_rebalance(step));
        }
    }

    fn store_consumers(
        &mut self,
        id: &Arc<str>,
        records: Encoded,
        due_ms: Option<i64>,
        then: Deferred,
        ctx: &mut Context<Self>,
    ) {
        if let Some(due_ms) = due_ms {
            self.timers.set(id, due_ms);
        }
        let nothing = records.as_ref().is_ok_and(Vec::is_empty);
        if nothing && self.writes.is_idle() {
            then.call(Ok(()));
        } else {
            // With nothing to store, the answer still comes after what it may rest on.
            let group = Arc::clone(id);
            self.enqueue(records, Completion::Consumers { group, then });
        }
        self.forget_if_void(id);
        self.set_alarm(ctx);
        self.write(ctx);
    }

    /// Notes how a write for a consumer group went; returns what the one who waits for it is to be told.
    pub(in crate::groups) fn consumers_stored(
        &mut self,
        id: &Arc<str>,
        result: Answer<()>,
    ) -> Answer<()> {
        let Some(group) = self.consumer(id) else {
            return result;
        };
        match result {
            Ok(()) if group.is_unsaved() => Err(ErrorCode::CoordinatorNotAvailable),
            Ok(()) => {
                group.saved_records();
                Ok(())
            }
            Err(error) => {
                tracing::warn!(group = %id, %error, "a consumer group could not be stored");
                group.lost_records();
                Err(error)
            }
        }
    }

    /// Turns a consumer group into a classic one; returns the records of that.
    fn downgrade(&mut self, id: &Arc<str>, topics: &Topics) -> Encoded {
        let now = self.now();
        let Some(group) = self.consumer(id) else {
            return Ok(Vec::new());
        };
        tracing::info!(group = %id, "a consumer group becomes a classic group");
        let mut records = encode(id, &group.tombstones())?;
        let classic = group.downgraded(topics, now);
        let value = classic.value(|member| member.assignment.clone());
        let deadline_ms = classic.next_deadline_ms();
        if let Some(entry) = self.entry(id) {
            entry.kind = Kind::Classic(classic);
        }
        if let Some(deadline_ms) = deadline_ms {
            self.timers.set(id, deadline_ms);
        }
        records.push((records::group_key(id)?, Some(records::group_value(&value)?)));
        Ok(records)
    }

    /// Lets a classic member into a consumer group; one without members becomes classic first.
    fn join_consumers(
        &mut self,
        id: Arc<str>,
        join: crate::groups::join::JoinRequest,
        reply: Reply<Joined>,
        ctx: &mut Context<Self>,
    ) -> Option<Request> {
        let now = self.now();
        let group = self.consumer(&id)?;
        if group.is_empty() && join.member_id.is_empty() {
            let tombstones = encode(&id, &group.tombstones());
            if let Some(entry) = self.entry(&id) {
                entry.kind = Kind::Classic(Group::new(Arc::clone(&id), now));
            }
            let group = Arc::clone(&id);
            let then = Deferred::new(drop);
            self.enqueue(tombstones, Completion::Consumers { group, then });
            return Some(Request::Join {
                group: id,
                join,
                reply,
            });
        }
        if group.is_empty() {
            answer(reply, Err(ErrorCode::UnknownMemberId));
            return None;
        }
        let fresh = Arc::clone(&join.fresh_member_id);
        self.consumer_step(
            &id,
            ctx,
            move |group, step| match group.join(&join, step) {
                Err(ErrorCode::MemberIdRequired) => {
                    Ok(Joined::error(fresh, ErrorCode::MemberIdRequired))
                }
                joined => joined,
            },
            move |joined, stored| answer(reply, stored.and(joined)),
        );
        None
    }

    fn leave_consumers(
        &mut self,
        id: &Arc<str>,
        members: Vec<MemberRef>,
        reply: Reply<Vec<Answer<()>>>,
        ctx: &mut Context<Self>,
    ) {
        self.consumer_step(
            id,
            ctx,
            move |group, step| {
                let left = members.iter().map(|member| {
                    let instance_id = member.instance_id.as_deref();
                    group.classic_leave(&member.member_id, instance_id, step)
                });
                left.collect::<Vec<_>>()
            },
            move |left, stored| answer(reply, stored.map(|()| left)),
        );
    }

    fn describe_consumers(&mut self, id: &str) -> Option<Description> {
        let (config, topics) = (Arc::clone(&self.start.config), self.topics());
        let group = self.consumer(id)?;
        let members = group.members().map(|(id, member)| DescribedMember {
            id: Arc::clone(id),
            epoch: member.current.epoch,
            metadata: member.metadata.clone(),
            assigned: member.current.assigned.clone(),
            target: group.target(id).cloned().unwrap_or_default(),
        });
        Some(Description {
            state: group.state_name(),
            epoch: group.epoch(),
            target_epoch: group.target_epoch(),
            assignor: group.assignor(&config.consumer).name(),
            members: members.collect(),
            topics,
        })
    }
}
