//! A member of a consumer group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::groups::member::Protocol;

/// A partition by the id of its topic.
pub type TopicIdPartition = (Uuid, i32);

/// Partitions.
pub type Partitions = BTreeSet<TopicIdPartition>;

/// Lists partitions by topic.
pub fn by_topic(partitions: &Partitions) -> BTreeMap<Uuid, Vec<i32>> {
    let mut topics = BTreeMap::<Uuid, Vec<i32>>::new();
    for &(topic, partition) in partitions {
        topics.entry(topic).or_default().push(partition);
    }
    topics
}

/// What a member that speaks the classic protocol said when it joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMember {
    /// How long it may stay silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// What it offers, best first.
    pub protocols: Vec<Protocol>,
}

/// What a member said of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Name of a static member.
    pub instance_id: Option<Arc<str>>,
    /// Where it is; kept and shown, but of no influence.
    pub rack_id: Option<Arc<str>>,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Where its client is, as `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// Topics that it subscribes to by name.
    pub topics: BTreeSet<Arc<str>>,
    /// Topics that it subscribes to by a regular expression.
    pub pattern: Option<Arc<str>>,
    /// How long it may take to give partitions back, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it wants.
    pub server_assignor: Option<Arc<str>>,
    /// Whether it still speaks the classic protocol, and what it said there.
    pub classic: Option<ClassicMember>,
}

/// Where a member is on the way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It has all that its epoch gives it.
    Stable,
    /// It has to give partitions back.
    UnrevokedPartitions,
    /// It waits for partitions that others have to give back.
    UnreleasedPartitions,
}

/// What a member has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its epoch; 0 before its first assignment, -2 while a static member is away.
    pub epoch: i32,
    /// Its epoch before: the answer that told the newer one may have been lost.
    pub previous_epoch: i32,
    /// Where it is on its way.
    pub state: MemberState,
    /// What it may read.
    pub assigned: Partitions,
    /// What it has to give back.
    pub revoking: Partitions,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Partitions::new(),
            revoking: Partitions::new(),
        }
    }
}

/// When a member has to have done what, on the monotonic clock in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// It has to be heard of.
    pub session_ms: i64,
    /// It has to have given back what it does not own any more.
    pub revoke_ms: Option<i64>,
    /// A classic member has to have joined again.
    pub join_ms: Option<i64>,
    /// A classic member has to have asked for its assignment.
    pub sync_ms: Option<i64>,
}

impl Deadlines {
    /// Returns the first of them.
    pub fn first(&self) -> i64 {
        let others = [self.revoke_ms, self.join_ms, self.sync_ms];
        let others = others.into_iter().flatten();
        others.fold(self.session_ms, i64::min)
    }
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it said of itself.
    pub metadata: Metadata,
    /// What it has.
    pub current: Current,
    /// What it has to do, and when.
    pub deadlines: Deadlines,
}

impl Member {
    /// Makes a member that has nothing yet.
    pub fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            current: Current::default(),
            deadlines: Deadlines::default(),
        }
    }

    /// Tells whether the member speaks the classic protocol.
    pub fn is_classic(&self) -> bool {
        self.metadata.classic.is_some()
    }

    /// Tells whether the member has all that an epoch gives it.
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == epoch
    }
}
