//! A consumer group: its members, what they are to have, and who has what.
//!
//! Three epochs lead it. The group's grows with whatever changes: members, subscriptions, topics. The target's follows
//! when the assignor has run for it. Each member's follows when that member has given back what it has to
//! ([`reconcile`](super::reconcile)).
//!
//! Pure: requests, time and topics come in; answers are returned, records to store are left in the [`Step`]. The state
//! changes at once, the answer is given when the records are stored. When that fails the group writes all it is
//! with its next step; to the member it is as if the answer had been lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;

use super::assign::{Assignor, Sizes, Subscriber};
use super::member::{Current, Member, MemberState, Metadata, Partitions, TopicIdPartition};
use super::pattern::{self, Matches};
use super::reconcile::{self, Target};
use super::records::Record;
use super::topics::{Topic, Topics};
use crate::groups::group::Now;

/// Which way groups may change between the protocols (`group.consumer.migration.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationPolicy {
    /// A classic group becomes a consumer group when the first member asks for that.
    pub upgrade: bool,
    /// A consumer group becomes a classic one when only classic members are left.
    pub downgrade: bool,
}

/// What the broker's configuration says about consumer groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// `group.consumer.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `group.consumer.max.size`
    pub max_size: usize,
    /// `group.max.size`: what a group that becomes classic may have.
    pub classic_max_size: usize,
    /// `group.consumer.assignors`; the first is the default.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`
    pub migration: MigrationPolicy,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub error: ErrorCode,
    /// What to tell the user.
    pub message: String,
}

impl Refusal {
    /// Refuses, with a reason.
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { error, message }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self::new(error, error.message())
    }
}

/// One step of a group: under which rules and circumstances, and what follows.
#[derive(Debug)]
pub struct Step<'a> {
    /// The rules.
    pub config: &'a ConsumerConfig,
    /// The time.
    pub now: Now,
    /// The topics of the cluster.
    pub topics: &'a Topics,
    /// What is to be stored, in this order.
    pub records: Vec<Record>,
    /// When to look at the group again because of this step, on the monotonic clock in milliseconds.
    pub due_ms: Option<i64>,
    /// Whether only classic members are left, so that the group is to become a classic one.
    pub downgrade: bool,
}

impl<'a> Step<'a> {
    /// Starts a step.
    pub fn new(config: &'a ConsumerConfig, now: Now, topics: &'a Topics) -> Self {
        Self {
            config,
            now,
            topics,
            records: Vec::new(),
            due_ms: None,
            downgrade: false,
        }
    }

    /// Returns the moment in so many milliseconds.
    pub(super) fn after(&self, timeout_ms: i32) -> i64 {
        self.now.monotonic_ms.saturating_add(timeout_ms.into())
    }
}

/// A consumer group.
#[derive(Debug, Clone)]
pub struct ConsumerGroup {
    pub(super) id: Arc<str>,
    pub(super) epoch: i32,
    pub(super) target_epoch: i32,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Member ids by the names of static members.
    pub(super) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// What each member is to have, by its id.
    pub(super) targets: BTreeMap<Arc<str>, Partitions>,
    /// Who has a partition: may read it, or has yet to give it back.
    pub(super) owners: BTreeMap<TopicIdPartition, Arc<str>>,
    /// The topics that the members subscribe to, as far as they exist.
    pub(super) subscribed: BTreeMap<Arc<str>, Topic>,
    pub(super) patterns: BTreeMap<Arc<str>, Matches>,
    /// The list of topics that `subscribed` was made from.
    pub(super) seen_topics: Option<u64>,
    /// Whether the group is being removed.
    pub(super) is_dead: bool,
    /// Whether records got lost, so that all has to be stored anew.
    pub(super) is_unsaved: bool,
    /// Members whose tombstones may have got lost.
    pub(super) departed: BTreeSet<Arc<str>>,
}

impl ConsumerGroup {
    /// Makes a group without members.
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            epoch: 0,
            target_epoch: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            targets: BTreeMap::new(),
            owners: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            patterns: BTreeMap::new(),
            seen_topics: None,
            is_dead: false,
            is_unsaved: false,
            departed: BTreeSet::new(),
        }
    }

    /// Returns the group's epoch.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Returns the epoch that the assignor has run for.
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    /// Lists the members by id.
    pub fn members(&self) -> impl Iterator<Item = (&Arc<str>, &Member)> {
        self.members.iter()
    }

    /// Returns what a member is to have.
    pub fn target(&self, member_id: &str) -> Option<&Partitions> {
        self.targets.get(member_id)
    }

    /// Tells whether nobody is in the group.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the name of the group's state, by Kafka's name.
    pub fn state_name(&self) -> &'static str {
        let reconciled = |member: &Member| member.is_reconciled_to(self.target_epoch);
        if self.is_dead {
            "Dead"
        } else if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().all(reconciled) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Returns the topics that the members subscribe to.
    pub fn subscribed_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.subscribed.keys()
    }

    /// Returns the assignor that most members want, or else the default.
    pub fn assignor(&self, config: &ConsumerConfig) -> Assignor {
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            if let Some(name) = member.metadata.server_assignor.as_deref() {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.into_iter().rev().max_by_key(|(_, votes)| *votes);
        most.and_then(|(name, _)| Assignor::named(name))
            .or_else(|| config.assignors.first().copied())
            .unwrap_or(Assignor::Uniform)
    }

    /// Marks the group for removal.
    ///
    /// # Errors
    /// NON_EMPTY_GROUP while it has members, GROUP_ID_NOT_FOUND when it is going already.
    pub fn kill(&mut self) -> Result<(), ErrorCode> {
        if self.is_dead {
            return Err(ErrorCode::GroupIdNotFound);
        }
        if !self.members.is_empty() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        self.is_dead = true;
        Ok(())
    }

    /// Takes the mark of [`kill`](Self::kill) back, since the removal could not be stored.
    pub fn revive(&mut self) {
        self.is_dead = false;
    }

    /// Notes that records could not be stored: the next step stores everything.
    pub fn lost_records(&mut self) {
        self.is_unsaved = true;
    }

    /// Notes that records are stored, as far as is known.
    pub fn saved_records(&mut self) {
        if !self.is_unsaved {
            self.departed.clear();
        }
    }

    /// Tells whether what is told to members may be missing in the log.
    pub fn is_unsaved(&self) -> bool {
        self.is_unsaved
    }

    /// Checks that the group is there to be spoken to.
    pub(super) fn check_alive(&self) -> Result<(), ErrorCode> {
        if self.is_dead {
            Err(ErrorCode::CoordinatorNotAvailable)
        } else {
            Ok(())
        }
    }

    /// Takes over what a new or known member says, and leads it to what it is to have.
    pub(super) fn update(
        &mut self,
        id: &Arc<str>,
        metadata: Metadata,
        owned: Option<&Partitions>,
        step: &mut Step<'_>,
    ) {
        let mut changed = self.store_metadata(id, metadata, step);
        if changed || self.seen_topics != Some(step.topics.version()) {
            changed |= self.look_at_topics(step);
        }
        if changed {
            self.bump_epoch(step);
        }
        if self.epoch > self.target_epoch {
            self.assign(step);
        }
        self.reconcile(id, owned, step);
    }

    /// Takes over what a member says; tells whether it subscribes to something else than before.
    fn store_metadata(&mut self, id: &Arc<str>, metadata: Metadata, step: &mut Step<'_>) -> bool {
        let known = self.members.get(id).map(|member| &member.metadata);
        if known == Some(&metadata) {
            return false;
        }
        let same = known.is_some_and(|known| {
            known.topics == metadata.topics && known.pattern == metadata.pattern
        });
        step.records
            .push(Record::Member(Arc::clone(id), Some(metadata.clone())));
        if let Some(instance) = &metadata.instance_id {
            self.static_members
                .insert(Arc::clone(instance), Arc::clone(id));
        }
        match self.members.get_mut(id) {
            Some(member) => member.metadata = metadata,
            None => drop(self.members.insert(Arc::clone(id), Member::new(metadata))),
        }
        self.departed.remove(id);
        !same
    }

    /// Finds the subscribed topics anew; tells whether they are others, or have other partitions.
    pub(super) fn look_at_topics(&mut self, step: &mut Step<'_>) -> bool {
        let looked = self.match_patterns(step);
        let members = self.members.values();
        let names: BTreeSet<&Arc<str>> = members
            .flat_map(|member| self.topics_of(&member.metadata))
            .collect();
        let existing = names
            .into_iter()
            .filter_map(|name| Some((Arc::clone(name), step.topics.get(name)?)));
        let subscribed: BTreeMap<Arc<str>, Topic> = existing.collect();
        self.seen_topics = Some(step.topics.version());
        if subscribed == self.subscribed {
            return looked;
        }
        step.records.push(Record::Topics(Some(subscribed.clone())));
        self.subscribed = subscribed;
        true
    }

    /// Lists the topics that a member subscribes to in one way or the other.
    fn topics_of<'a>(&'a self, metadata: &'a Metadata) -> impl Iterator<Item = &'a Arc<str>> {
        let pattern = metadata.pattern.as_ref();
        let matches = pattern.and_then(|pattern| self.patterns.get(pattern));
        let matched = matches.into_iter().flat_map(|matches| &matches.topics);
        metadata.topics.iter().chain(matched)
    }

    /// Matches the regular expressions of the members with the topics; tells whether something else matches.
    fn match_patterns(&mut self, step: &mut Step<'_>) -> bool {
        let members = self.members.values();
        let wanted: BTreeSet<Arc<str>> = members
            .filter_map(|member| member.metadata.pattern.clone())
            .collect();
        self.patterns.retain(|pattern, _| {
            let keep = wanted.contains(pattern);
            if !keep {
                let tombstone = Record::Pattern(Arc::clone(pattern), None);
                step.records.push(tombstone);
            }
            keep
        });
        let mut changed = false;
        let outdated = self.seen_topics != Some(step.topics.version());
        for pattern in wanted {
            let known = self.patterns.get(&pattern);
            if known.is_some() && !outdated {
                continue;
            }
            let topics = pattern::matching(&pattern, step.topics);
            if known.is_some_and(|known| known.topics == topics) {
                continue;
            }
            changed = true;
            let matches = Matches {
                topics,
                version: i64::try_from(step.topics.version()).unwrap_or(i64::MAX),
                looked_ms: step.now.wall_ms,
            };
            let record = Record::Pattern(Arc::clone(&pattern), Some(matches.clone()));
            step.records.push(record);
            self.patterns.insert(pattern, matches);
        }
        changed
    }

    pub(super) fn bump_epoch(&mut self, step: &mut Step<'_>) {
        self.epoch = self.epoch.saturating_add(1);
        step.records.push(Record::Epoch(Some(self.epoch)));
    }

    /// Has the assignor say what everyone is to have.
    fn assign(&mut self, step: &mut Step<'_>) {
        let none = Partitions::new();
        let subscribers: Vec<Subscriber<'_>> = self
            .members
            .iter()
            .map(|(id, member)| {
                let topics = self.topics_of(&member.metadata);
                let topics = topics.filter_map(|name| self.subscribed.get(name));
                Subscriber {
                    id,
                    instance_id: member.metadata.instance_id.as_ref(),
                    topics: topics.map(|topic| topic.id).collect(),
                    current: self.targets.get(id).unwrap_or(&none),
                }
            })
            .collect();
        let topics = self.subscribed.values();
        let sizes: Sizes = topics.map(|topic| (topic.id, topic.partitions)).collect();
        let targets = self.assignor(step.config).assign(&subscribers, &sizes);
        for (id, target) in &targets {
            if self.targets.get(id) != Some(target) {
                let record = Record::Target(Arc::clone(id), Some(target.clone()));
                step.records.push(record);
            }
        }
        self.targets = targets;
        self.target_epoch = self.epoch;
        step.records
            .push(Record::TargetEpoch(Some(self.target_epoch)));
    }

    /// Leads a member a step further to what it is to have.
    fn reconcile(&mut self, id: &Arc<str>, owned: Option<&Partitions>, step: &mut Step<'_>) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        if member.is_reconciled_to(self.target_epoch) {
            return;
        }
        let none = Partitions::new();
        let target = Target {
            epoch: self.target_epoch,
            partitions: self.targets.get(id).unwrap_or(&none),
        };
        let owners = &self.owners;
        let is_free =
            |partition: &TopicIdPartition| owners.get(partition).is_none_or(|owner| owner == id);
        let next = reconcile::next(&member.current, target, owned, is_free);
        if next == member.current {
            return;
        }
        let must_revoke = next.state == MemberState::UnrevokedPartitions && !member.is_classic();
        let revoke_ms = must_revoke.then(|| step.after(member.metadata.rebalance_timeout_ms));
        step.due_ms = [step.due_ms, revoke_ms].into_iter().flatten().min();
        self.put_current(id, next, step);
        if let Some(member) = self.members.get_mut(id) {
            member.deadlines.revoke_ms = revoke_ms;
        }
    }

    /// Gives a member what it has from now on.
    pub(super) fn put_current(&mut self, id: &Arc<str>, current: Current, step: &mut Step<'_>) {
        let record = Record::Current(Arc::clone(id), Some(current.clone()));
        step.records.push(record);
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let before = std::mem::replace(&mut member.current, current);
        for partition in before.assigned.iter().chain(&before.revoking) {
            self.owners.remove(partition);
        }
        let after = &member.current;
        for partition in after.assigned.iter().chain(&after.revoking) {
            self.owners.insert(*partition, Arc::clone(id));
        }
    }

    /// Removes a member and what it has.
    pub(super) fn remove(&mut self, id: &Arc<str>, step: &mut Step<'_>) -> Option<Member> {
        let member = self.members.remove(id)?;
        let current = &member.current;
        for partition in current.assigned.iter().chain(&current.revoking) {
            self.owners.remove(partition);
        }
        if let Some(instance) = &member.metadata.instance_id
            && self.static_members.get(instance) == Some(id)
        {
            self.static_members.remove(instance);
        }
        self.targets.remove(id);
        self.departed.insert(Arc::clone(id));
        step.records.extend(tombstones_of(id));
        Some(member)
    }

    /// Puts a member out of the group. Who is left gets a new target when one of them speaks next.
    pub(super) fn fence(&mut self, id: &Arc<str>, step: &mut Step<'_>) {
        let Some(member) = self.remove(id, step) else {
            return;
        };
        self.look_at_topics(step);
        self.bump_epoch(step);
        step.downgrade |= !member.is_classic() && self.may_downgrade(step.config);
    }

    /// Tells whether the group is to become a classic one: all that are left are classic members.
    pub(super) fn may_downgrade(&self, config: &ConsumerConfig) -> bool {
        config.migration.downgrade
            && !self.members.is_empty()
            && self.members.len() <= config.classic_max_size
            && self.members.values().all(Member::is_classic)
    }

    /// Returns all that is stored of the group, when records got lost; each step begins with it.
    pub fn unsaved_records(&mut self) -> Vec<Record> {
        if !std::mem::take(&mut self.is_unsaved) {
            return Vec::new();
        }
        let departed = std::mem::take(&mut self.departed);
        let mut records: Vec<Record> = departed.iter().flat_map(tombstones_of).collect();
        records.extend(self.snapshot());
        records
    }

    /// Returns all that is stored of the group.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (id, member) in &self.members {
            let metadata = member.metadata.clone();
            records.push(Record::Member(Arc::clone(id), Some(metadata)));
        }
        for (pattern, matches) in &self.patterns {
            records.push(Record::Pattern(Arc::clone(pattern), Some(matches.clone())));
        }
        records.push(Record::Topics(Some(self.subscribed.clone())));
        records.push(Record::Epoch(Some(self.epoch)));
        for (id, target) in &self.targets {
            records.push(Record::Target(Arc::clone(id), Some(target.clone())));
        }
        records.push(Record::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            let current = member.current.clone();
            records.push(Record::Current(Arc::clone(id), Some(current)));
        }
        records
    }

    /// Returns the tombstones of all that is stored of the group.
    pub fn tombstones(&self) -> Vec<Record> {
        let ids = self.members.keys().chain(&self.departed);
        let mut records: Vec<Record> = ids.flat_map(tombstones_of).collect();
        records.push(Record::TargetEpoch(None));
        for pattern in self.patterns.keys() {
            records.push(Record::Pattern(Arc::clone(pattern), None));
        }
        records.push(Record::Topics(None));
        records.push(Record::Epoch(None));
        records
    }
}

fn tombstones_of(id: &Arc<str>) -> [Record; 3] {
    [
        Record::Current(Arc::clone(id), None),
        Record::Target(Arc::clone(id), None),
        Record::Member(Arc::clone(id), None),
    ]
}
