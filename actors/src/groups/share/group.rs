//! A share group: its members, their epochs and their assignments.
//!
//! Whenever members, subscriptions or topics change, the group's epoch grows and partitions are given out anew. A member
//! learns of it with its next heartbeat: nobody waits for anybody, since partitions are shared.
//!
//! Pure: heartbeats and the time come in, records to be stored go out. Should they not be stored, the group is ahead of
//! what is stored; that does no harm, since epochs only grow and members come back when they are forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;

use super::assignor::{Assignment, Topic, assign};
use super::records::{ShareMemberValue, ShareRecord};

/// The epoch with which a member joins.
pub const JOIN_EPOCH: i32 = 0;
/// How long members of a restored group have for their next heartbeat, which says what their session timeout is.
const RESTORED_SESSION_MS: i64 = 45_000;
/// The epoch with which a member leaves.
pub const LEAVE_EPOCH: i32 = -1;

/// A heartbeat.
#[derive(Debug, Clone)]
pub struct ShareHeartbeat {
    /// The member id, which the client chooses.
    pub member_id: Arc<str>,
    /// The epoch that the member knows, or one of the constants.
    pub member_epoch: i32,
    /// The member's rack, if it says.
    pub rack_id: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where the client is, as `/127.0.0.1`.
    pub client_host: String,
    /// What it subscribes to, if that changed.
    pub topics: Option<BTreeSet<String>>,
    /// How long the member may stay silent, in milliseconds.
    pub session_timeout_ms: i64,
    /// How many members there may be (`group.share.max.size`).
    pub max_size: usize,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareBeat {
    /// The member's epoch.
    pub member_epoch: i32,
    /// Its partitions, if it has to know.
    pub assignment: Option<Assignment>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareMember {
    /// What it says of itself.
    pub value: ShareMemberValue,
    /// The epoch of the assignment that it knows.
    pub epoch: i32,
    /// The epoch before: its answer may have been lost.
    pub previous_epoch: i32,
    /// The partitions that it knows of.
    pub assigned: Assignment,
    /// The partitions that it is to have.
    pub target: Assignment,
    /// When it is out unless it says something, on the monotonic clock.
    pub expires_ms: i64,
}

/// A share group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareGroup {
    pub(super) epoch: i32,
    pub(super) assignment_epoch: i32,
    pub(super) members: BTreeMap<Arc<str>, ShareMember>,
    /// The subscribed topics as they were when partitions were given out.
    topics: BTreeMap<String, Topic>,
    dead: bool,
}

impl Default for ShareGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl ShareGroup {
    /// Makes a group without members.
    pub fn new() -> Self {
        Self {
            epoch: 0,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            topics: BTreeMap::new(),
            dead: false,
        }
    }

    /// Returns the group's epoch.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Returns the epoch of the assignment.
    pub fn assignment_epoch(&self) -> i32 {
        self.assignment_epoch
    }

    /// Lists the members by id.
    pub fn members(&self) -> impl Iterator<Item = (&Arc<str>, &ShareMember)> {
        self.members.iter()
    }

    /// Returns Kafka's name of the group's state.
    pub fn state(&self) -> &'static str {
        match (self.dead, self.members.is_empty()) {
            (true, _) => "Dead",
            (false, true) => "Empty",
            (false, false) => "Stable",
        }
    }

    /// Takes a heartbeat; returns the answer and what is to be stored first. `find` finds a topic by its name.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH, GROUP_MAX_SIZE_REACHED, and COORDINATOR_NOT_AVAILABLE for a group that is
    /// being removed.
    pub fn heartbeat(
        &mut self,
        beat: ShareHeartbeat,
        now_ms: i64,
        find: impl Fn(&str) -> Option<Topic>,
    ) -> Result<(ShareBeat, Vec<ShareRecord>), ErrorCode> {
        if self.dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if beat.member_epoch == LEAVE_EPOCH {
            let records = self.remove(&[Arc::clone(&beat.member_id)], find);
            let left = ShareBeat {
                member_epoch: LEAVE_EPOCH,
                assignment: None,
            };
            let left = (left, records);
            return if left.1.is_empty() {
                Err(ErrorCode::UnknownMemberId)
            } else {
                Ok(left)
            };
        }
        self.check_epoch(&beat)?;
        let mut records = Vec::new();
        let asks_all = beat.member_epoch == JOIN_EPOCH || beat.topics.is_some();
        let member_id = Arc::clone(&beat.member_id);
        let changed = self.update(beat, now_ms, &mut records);
        self.assign_if(changed, find, &mut records);
        let assigned = self.reconcile(&member_id, &mut records);
        let member = self.members.get(&member_id);
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        let answer = ShareBeat {
            member_epoch: member.epoch,
            assignment: (asks_all || assigned).then(|| member.assigned.clone()),
        };
        Ok((answer, records))
    }

    fn check_epoch(&self, beat: &ShareHeartbeat) -> Result<(), ErrorCode> {
        let Some(member) = self.members.get(&beat.member_id) else {
            return match beat.member_epoch {
                JOIN_EPOCH if self.members.len() >= beat.max_size => {
                    Err(ErrorCode::GroupMaxSizeReached)
                }
                JOIN_EPOCH => Ok(()),
                _ => Err(ErrorCode::UnknownMemberId),
            };
        };
        let known = [JOIN_EPOCH, member.epoch, member.previous_epoch];
        if known.contains(&beat.member_epoch) {
            Ok(())
        } else {
            Err(ErrorCode::FencedMemberEpoch)
        }
    }

    /// Takes over what a member says; tells whether that matters for the assignment.
    fn update(
        &mut self,
        beat: ShareHeartbeat,
        now_ms: i64,
        records: &mut Vec<ShareRecord>,
    ) -> bool {
        let expires_ms = now_ms.saturating_add(beat.session_timeout_ms);
        let former = self.members.get(&beat.member_id);
        let mut value = former
            .map(|member| member.value.clone())
            .unwrap_or_default();
        value.client_id = beat.client_id;
        value.client_host = beat.client_host;
        value.rack_id = beat.rack_id.or(value.rack_id);
        value.topics = beat.topics.unwrap_or(value.topics);
        let unchanged = former.is_some_and(|member| member.value == value);
        let same_topics = former.is_some_and(|member| member.value.topics == value.topics);
        if !unchanged {
            let member = Arc::clone(&beat.member_id);
            records.push(ShareRecord::Member(member, Some(value.clone())));
        }
        let member = self
            .members
            .entry(beat.member_id)
            .or_insert_with(|| ShareMember::new(value.clone(), expires_ms));
        member.value = value;
        member.expires_ms = expires_ms;
        !same_topics
    }

    /// Gives out partitions anew when something changed, the topics included.
    fn assign_if(
        &mut self,
        changed: bool,
        find: impl Fn(&str) -> Option<Topic>,
        records: &mut Vec<ShareRecord>,
    ) {
        let subscribed = self
            .members
            .values()
            .flat_map(|member| &member.value.topics);
        let subscribed: BTreeSet<&String> = subscribed.collect();
        let topics: BTreeMap<String, Topic> = subscribed
            .into_iter()
            .filter_map(|name| Some((name.clone(), find(name)?)))
            .collect();
        if !changed && topics == self.topics {
            return;
        }
        self.topics = topics;
        self.epoch = self.epoch.saturating_add(1);
        records.push(ShareRecord::Group(Some(self.epoch)));
        let subscriptions = self.members.iter();
        let subscriptions = subscriptions
            .map(|(id, member)| (Arc::clone(id), member.value.topics.clone()))
            .collect();
        for (id, target) in assign(&subscriptions, &self.topics) {
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            if member.target != target || member.epoch == JOIN_EPOCH {
                member.target.clone_from(&target);
                records.push(ShareRecord::Target(id, Some(target)));
            }
        }
        self.assignment_epoch = self.epoch;
        records.push(ShareRecord::TargetEpoch(Some(self.assignment_epoch)));
    }

    /// Brings a member to its target; tells whether its partitions are others now.
    fn reconcile(&mut self, member_id: &Arc<str>, records: &mut Vec<ShareRecord>) -> bool {
        let Some(member) = self.members.get_mut(member_id) else {
            return false;
        };
        if member.epoch == self.assignment_epoch {
            return false;
        }
        let changed = member.assigned != member.target;
        member.previous_epoch = member.epoch;
        member.epoch = self.assignment_epoch;
        member.assigned.clone_from(&member.target);
        records.push(ShareRecord::Current(
            Arc::clone(member_id),
            Some((member.epoch, member.previous_epoch, member.assigned.clone())),
        ));
        changed
    }

    /// Removes members; nothing when there are none of them.
    fn remove(
        &mut self,
        ids: &[Arc<str>],
        find: impl Fn(&str) -> Option<Topic>,
    ) -> Vec<ShareRecord> {
        let mut records = Vec::new();
        for id in ids {
            if self.members.remove(id).is_some() {
                records.push(ShareRecord::Current(Arc::clone(id), None));
                records.push(ShareRecord::Target(Arc::clone(id), None));
                records.push(ShareRecord::Member(Arc::clone(id), None));
            }
        }
        if !records.is_empty() {
            self.assign_if(true, find, &mut records);
        }
        records
    }

    /// Removes the members that were silent for too long; returns them, and what is to be stored.
    pub fn tick(&mut self, now_ms: i64) -> (Vec<Arc<str>>, Vec<ShareRecord>) {
        let expired = self.members.iter();
        let expired = expired.filter(|(_, member)| member.expires_ms <= now_ms);
        let expired: Vec<Arc<str>> = expired.map(|(id, _)| Arc::clone(id)).collect();
        // What else changed is found out by the next heartbeat.
        let topics = self.topics.clone();
        let records = self.remove(&expired, |name| topics.get(name).copied());
        (expired, records)
    }

    /// Returns when the first member is out.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.members.values().map(|member| member.expires_ms).min()
    }

    /// Marks the group for removal; returns what is to be stored.
    ///
    /// # Errors
    /// NON_EMPTY_GROUP while it has members, GROUP_ID_NOT_FOUND when it is going already.
    pub fn kill(&mut self) -> Result<(), ErrorCode> {
        match self.state() {
            "Empty" => {
                self.dead = true;
                Ok(())
            }
            "Dead" => Err(ErrorCode::GroupIdNotFound),
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Takes the mark of [`kill`](Self::kill) back, since the removal could not be stored.
    pub fn revive(&mut self) {
        self.dead = false;
    }

    /// Lists the records that remove an empty group.
    pub fn tombstones() -> Vec<ShareRecord> {
        vec![ShareRecord::TargetEpoch(None), ShareRecord::Group(None)]
    }

    /// Applies a stored record.
    pub fn replay(&mut self, record: ShareRecord) {
        match record {
            ShareRecord::Member(id, Some(value)) => {
                let member = self
                    .members
                    .entry(id)
                    .or_insert_with(|| ShareMember::new(value.clone(), 0));
                member.value = value;
            }
            ShareRecord::Member(id, None) => drop(self.members.remove(&id)),
            ShareRecord::Group(epoch) => self.epoch = epoch.unwrap_or(0),
            ShareRecord::TargetEpoch(epoch) => self.assignment_epoch = epoch.unwrap_or(0),
            ShareRecord::Target(id, target) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.target = target.unwrap_or_default();
                }
            }
            ShareRecord::Current(id, current) => {
                if let Some(member) = self.members.get_mut(&id) {
                    let (epoch, previous_epoch, assigned) = current.unwrap_or_default();
                    member.epoch = epoch;
                    member.previous_epoch = previous_epoch;
                    member.assigned = assigned;
                }
            }
        }
    }

    /// Takes the group up after its records are applied: members have some time to come back.
    pub fn restored(&mut self, now_ms: i64) {
        for member in self.members.values_mut() {
            member.expires_ms = now_ms.saturating_add(RESTORED_SESSION_MS);
        }
    }
}

impl ShareMember {
    fn new(value: ShareMemberValue, expires_ms: i64) -> Self {
        Self {
            value,
            epoch: JOIN_EPOCH,
            previous_epoch: JOIN_EPOCH,
            assigned: Assignment::new(),
            target: Assignment::new(),
            expires_ms,
        }
    }
}
