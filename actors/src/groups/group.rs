//! A classic group: its state, its members, and what is stored of it.
//!
//! ```text
//!           join                        all joined, or time out                leader's sync is stored
//!  Empty ───────────▶ PreparingRebalance ──────────────────────▶ CompletingRebalance ─────────────────▶ Stable
//!    ▲                   │     ▲                                          │                               │
//!    └── nobody joined ──┘     └──── join, leave, time-out, failed write ─┴───────────────────────────────┘
//! ```
//! Pure: requests and the time come in, [`Effect`]s go out. [`join`](super::join) has the join requests,
//! [`rebalance`](super::rebalance) the phases, [`session`](super::session) all that a member does between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::consumer::group::ConsumerConfig;
use super::member::{Member, Ticket};
use super::offsets::RetainedFrom;
use super::rebalance::refuse_waiting;
use super::records::{GroupValue, subscribed_topics};

/// The protocol type of consumers, whose subscriptions the coordinator can read.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";
/// The kind of these groups, by Kafka's name.
const CLASSIC: &str = "Classic";

/// What the broker's configuration says about groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i64,
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.max.size`
    pub max_size: usize,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds
    pub offsets_retention_ms: i64,
    /// What it says about consumer groups.
    pub consumer: ConsumerConfig,
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the epoch: for what is stored.
    pub wall_ms: i64,
    /// Milliseconds of the monotonic clock: for time-outs.
    pub monotonic_ms: i64,
}

/// One step of a group: when it happens, under which rules, and what follows.
#[derive(Debug)]
pub struct Step<'a> {
    /// The rules.
    pub config: &'a GroupConfig,
    /// The time.
    pub now: Now,
    /// What is to be done, in this order.
    pub effects: Vec<Effect>,
}

impl<'a> Step<'a> {
    /// Starts a step.
    pub fn new(config: &'a GroupConfig, now: Now) -> Self {
        Self {
            config,
            now,
            effects: Vec::new(),
        }
    }

    pub(super) fn answer_join(&mut self, ticket: Ticket, joined: Joined) {
        self.effects.push(Effect::Joined(ticket, joined));
    }

    pub(super) fn answer_sync(&mut self, ticket: Ticket, synced: Synced) {
        self.effects.push(Effect::Synced(ticket, synced));
    }
}

/// What a group wants done.
#[derive(Debug)]
pub enum Effect {
    /// Answer a JoinGroup.
    Joined(Ticket, Joined),
    /// Answer a SyncGroup.
    Synced(Ticket, Synced),
    /// Store the group, then call [`Group::stored`] with the purpose and how it went.
    Store(GroupValue, Purpose),
}

/// The answer to JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Why not, or `None`.
    pub error: ErrorCode,
    /// The generation, -1 with an error.
    pub generation: i32,
    /// Protocol type of the group.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol: Option<Arc<str>>,
    /// Member id of the leader.
    pub leader: Arc<str>,
    /// Whether the leader is to leave the assignment as it is (KIP-814).
    pub skip_assignment: bool,
    /// Member id of the asker.
    pub member_id: Arc<str>,
    /// For the leader: every member.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader learns of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Member id.
    pub id: Arc<str>,
    /// Name of a static member.
    pub instance_id: Option<Arc<str>>,
    /// What it says for the chosen protocol.
    pub metadata: Bytes,
}

impl Joined {
    /// Refuses.
    pub fn error(member_id: Arc<str>, error: ErrorCode) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: "".into(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// The answer to SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// Why not, or `None`.
    pub error: ErrorCode,
    /// Protocol type of the group.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol: Option<Arc<str>>,
    /// What the leader gave this member.
    pub assignment: Bytes,
}

impl Synced {
    /// Refuses.
    pub fn error(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

/// Why a group is stored.
#[derive(Debug)]
pub enum Purpose {
    /// Nobody is left. Nothing waits for it.
    Emptied,
    /// The leader has assigned; everyone who syncs waits for it.
    Assigned {
        /// The generation it did so in.
        generation: i32,
        /// By member id.
        assignment: BTreeMap<Arc<str>, Bytes>,
    },
    /// A static member came back under another member id, without a rebalance; it waits for its answer.
    Replaced {
        /// The member as it was.
        former: Box<Member>,
        /// Its new member id.
        member_id: Arc<str>,
        /// Who led before.
        former_leader: Arc<str>,
        /// Whether the member knows of `skip_assignment`.
        can_skip_assignment: bool,
    },
}

/// The join phase of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinPhase {
    /// When it ends whoever is missing, on the monotonic clock.
    pub deadline_ms: i64,
    /// The first join phase of an empty group runs to its deadline, which moves by the initial delay as long as new
    /// members come: this is what is left for that.
    pub extensible_ms: Option<i64>,
    /// Whether somebody new came since the deadline was set.
    pub new_member_came: bool,
}

/// What a group is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody is in it; there may be offsets.
    Empty,
    /// Members are joining.
    PreparingRebalance(JoinPhase),
    /// Everyone has joined; the leader assigns.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// It is being removed.
    Dead,
}

impl State {
    /// Returns Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance(_) => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// Members whose SyncGroup is due.
#[derive(Debug, Clone)]
pub(super) struct SyncPhase {
    pub(super) deadline_ms: i64,
    pub(super) missing: BTreeSet<Arc<str>>,
}

/// A classic group.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) id: Arc<str>,
    pub(super) state: State,
    /// Since when, milliseconds since the epoch; -1 when unknown.
    pub(super) state_since_ms: i64,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Member ids by the names of static members.
    pub(super) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Member ids that were given out but have not joined yet, with the time at which they are forgotten.
    pub(super) pending: BTreeMap<Arc<str>, i64>,
    pub(super) syncing: Option<SyncPhase>,
}

/// From when the retention of a group's offsets counts, and the topics whose offsets stay.
pub type Retention = (RetainedFrom, BTreeSet<String>);

/// A group as tools see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The kind of groups, by Kafka's name.
    pub kind: &'static str,
    /// State, by Kafka's name.
    pub state: &'static str,
    /// Protocol type, empty for a group without members since it was made.
    pub protocol_type: Arc<str>,
    /// The chosen protocol; only a stable group tells.
    pub protocol: Arc<str>,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// A member as tools see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Member id.
    pub id: Arc<str>,
    /// Name of a static member.
    pub instance_id: Option<Arc<str>>,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Where its client is.
    pub client_host: Arc<str>,
    /// What it says for the chosen protocol, in a stable group.
    pub metadata: Bytes,
    /// What the leader gave it, in a stable group.
    pub assignment: Bytes,
}

impl Group {
    /// Makes a group without members.
    pub fn new(id: Arc<str>, now: Now) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since_ms: now.wall_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            syncing: None,
        }
    }

    /// Takes a group up from what is stored. Members have a session timeout to come back.
    pub fn restored(id: Arc<str>, value: GroupValue, now: Now) -> Self {
        let mut group = Self::new(id, now);
        let protocol = value.protocol.unwrap_or_default();
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type)
            .filter(|protocol_type| !protocol_type.is_empty())
            .map(Arc::from);
        group.state_since_ms = value.state_since_ms;
        if value.members.is_empty() {
            return group;
        }
        group.state = State::Stable;
        group.leader = value.leader.map(Arc::from);
        for member in value.members {
            let member = Member::restored(member, &protocol, now.monotonic_ms);
            if let Some(instance) = &member.instance_id {
                group
                    .static_members
                    .insert(Arc::clone(instance), Arc::clone(&member.id));
            }
            group.members.insert(Arc::clone(&member.id), member);
        }
        group.protocol = Some(protocol.into());
        group
    }

    /// Makes a stable group of consumers, as if its members had been through a join phase.
    pub(super) fn of_members(
        id: Arc<str>,
        generation: i32,
        members: BTreeMap<Arc<str>, Member>,
        now: Now,
    ) -> Self {
        let mut group = Self::new(id, now);
        group.generation = generation;
        group.protocol_type = Some(CONSUMER_PROTOCOL_TYPE.into());
        group.leader = members.keys().next().cloned();
        let static_members = members.values().filter_map(|member| {
            let instance = member.instance_id.clone()?;
            Some((instance, Arc::clone(&member.id)))
        });
        group.static_members = static_members.collect();
        group.members = members;
        group.protocol = group.choose_protocol();
        group.state = State::Stable;
        group
    }

    /// Tells all who wait to join again: the group becomes another one.
    pub(super) fn dissolve(&mut self, step: &mut Step<'_>) {
        for member in self.members.values_mut() {
            refuse_waiting(member, ErrorCode::RebalanceInProgress, step);
        }
    }

    /// Returns the group's id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Returns what the group is about.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns the number of the last finished join phase.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Returns the protocol type, if a member ever joined.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// Lists the members by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Says which offsets expire: those of an empty group `offsets.retention.minutes` after it became empty, those of a
    /// group that only stores offsets after their commit, and in a stable group of consumers those of topics that
    /// nobody subscribes to any more, after their commit (KIP-211). `None` while none does.
    pub fn retention(&self) -> Option<Retention> {
        let from = match (&self.protocol_type, self.state) {
            (None, State::Empty) => RetainedFrom::Commit,
            (Some(_), State::Empty) if self.state_since_ms >= 0 => {
                RetainedFrom::Moment(self.state_since_ms)
            }
            (Some(_), State::Empty) => RetainedFrom::Commit,
            (Some(_), State::Stable) => {
                let subscribed = self.subscribed_topics()?;
                return Some((RetainedFrom::Commit, subscribed));
            }
            _ => return None,
        };
        Some((from, BTreeSet::new()))
    }

    /// Returns the topics that the members subscribe to; `None` when they are no consumers, or have not agreed yet, or
    /// do not say.
    pub fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL_TYPE) {
            return None;
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// Tells whether offsets of these topics may be deleted: by topic, or for all.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND for a group that is going, NON_EMPTY_GROUP when nobody knows what its members read. The inner
    /// error is GROUP_SUBSCRIBED_TO_TOPIC.
    pub fn deletable<'t>(
        &self,
        topics: impl Iterator<Item = &'t str>,
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        match self.state {
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            State::Empty => Ok(topics.map(|_| Ok(())).collect()),
            _ if self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE) => {
                let subscribed = self.subscribed_topics().unwrap_or_default();
                let check = |topic: &str| {
                    if subscribed.contains(topic) {
                        Err(ErrorCode::GroupSubscribedToTopic)
                    } else {
                        Ok(())
                    }
                };
                Ok(topics.map(check).collect())
            }
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Marks the group for removal.
    ///
    /// # Errors
    /// NON_EMPTY_GROUP while it has members, GROUP_ID_NOT_FOUND when it is going already.
    pub fn kill(&mut self) -> Result<(), ErrorCode> {
        match self.state {
            State::Empty => {
                self.state = State::Dead;
                Ok(())
            }
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Takes the mark of [`kill`](Self::kill) back, since the removal could not be stored.
    pub fn revive(&mut self) {
        if self.state == State::Dead {
            self.state = State::Empty;
        }
    }

    /// Tells whether the group has no members and none on their way.
    pub fn is_idle(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// Describes the group without its members.
    pub fn summary(&self) -> GroupDescription {
        GroupDescription {
            kind: CLASSIC,
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: "".into(),
            members: Vec::new(),
        }
    }

    /// Describes the group.
    pub fn describe(&self) -> GroupDescription {
        let stable = self.state == State::Stable;
        let protocol = self.protocol.as_deref().filter(|_| stable);
        let members = self.members.values().map(|member| MemberDescription {
            id: Arc::clone(&member.id),
            instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            metadata: protocol.map_or_else(Bytes::new, |name| member.metadata(name)),
            assignment: protocol.map_or_else(Bytes::new, |_| member.assignment.clone()),
        });
        GroupDescription {
            kind: CLASSIC,
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().into(),
            members: members.collect(),
        }
    }

    pub(super) fn transition(&mut self, state: State, now: Now) {
        self.state = state;
        self.state_since_ms = now.wall_ms;
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Returns the group as it is stored, each member with the assignment that `assignment` finds for it.
    pub(super) fn value(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        GroupValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().to_owned(),
            generation: self.generation,
            protocol: self.protocol.as_deref().map(str::to_owned),
            leader: self.leader.as_deref().map(str::to_owned),
            state_since_ms: self.state_since_ms,
            members: self
                .members
                .values()
                .map(|member| member.value(protocol, assignment(member)))
                .collect(),
        }
    }
}
