//! The cluster as its controller knows it: plain values, all of which a new controller can read from the znodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::controller::election::Elected;
use crate::coordination::schema::PartitionState;
use crate::metadata::{BrokerId, BrokerNode, NO_LEADER};
use crate::partition::TopicPartition;

/// All that decisions are made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterContext {
    /// Epoch of this controller's time in office.
    pub controller_epoch: i32,
    /// Who is registered, with its broker epoch.
    pub brokers: BTreeMap<BrokerId, Arc<BrokerNode>>,
    /// Which of them have announced that they are about to stop.
    pub shutting_down: BTreeSet<BrokerId>,
    /// The topics by name.
    pub topics: BTreeMap<Arc<str>, Arc<Topic>>,
    /// Topics that are to be deleted, and how far that is.
    pub deletions: BTreeMap<Arc<str>, Deletion>,
    /// Partitions of which a write was lost to somebody else's: to be read again, their replicas wait for orders.
    pub stale: BTreeSet<TopicPartition>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: Uuid,
    /// Version of its znode.
    pub zk_version: i32,
    /// `unclean.leader.election.enable`, as it is in force for this topic.
    pub unclean_election: bool,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, Partition>,
}

/// A partition. It is new without a leadership, offline with one that names no leader, else online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Where its replicas belong.
    pub assignment: Assignment,
    /// Its state; `None` before the first election.
    pub leadership: Option<Leadership>,
}

/// Which brokers hold a partition, and which are to hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// All replicas; the first one is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// Those of them that a reassignment is adding.
    pub adding: Vec<BrokerId>,
    /// Those of them that a reassignment will remove.
    pub removing: Vec<BrokerId>,
}

impl Assignment {
    /// Makes an assignment that is not on its way to another.
    pub fn settled(replicas: Vec<BrokerId>) -> Self {
        Self {
            replicas,
            adding: Vec::new(),
            removing: Vec::new(),
        }
    }

    /// Returns whether a reassignment is under way.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// Returns the replicas that a reassignment leads to.
    pub fn targets(&self) -> Vec<BrokerId> {
        without(&self.replicas, &self.removing)
    }

    /// Returns the replicas that there were before the reassignment.
    pub fn origins(&self) -> Vec<BrokerId> {
        without(&self.replicas, &self.adding)
    }
}

/// Lists what is in `all` and not in `others`, in the order of `all`.
pub(super) fn without(all: &[BrokerId], others: &[BrokerId]) -> Vec<BrokerId> {
    let all = all.iter().copied();
    all.filter(|id| !others.contains(id)).collect()
}

/// A partition's state znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// Who leads; -1 for nobody.
    pub leader: BrokerId,
    /// Grows with each change that the controller makes.
    pub leader_epoch: i32,
    /// The in-sync replicas; without a leader, the last ones.
    pub isr: Vec<BrokerId>,
    /// Epoch of the controller that made the last change.
    pub controller_epoch: i32,
    /// Version of the znode, also called the partition epoch.
    pub zk_version: i32,
}

impl Leadership {
    /// Takes over what a znode of that version holds.
    pub fn read(znode: PartitionState, zk_version: i32) -> Self {
        Self {
            leader: znode.leader,
            leader_epoch: znode.leader_epoch,
            isr: znode.isr,
            controller_epoch: znode.controller_epoch,
            zk_version,
        }
    }

    /// Returns the content of the znode.
    pub fn znode(&self) -> PartitionState {
        PartitionState {
            controller_epoch: self.controller_epoch,
            leader: self.leader,
            version: 1,
            leader_epoch: self.leader_epoch,
            isr: self.isr.clone(),
        }
    }

    pub(super) fn first(elected: Elected, controller_epoch: i32) -> Self {
        Self {
            leader: elected.leader,
            leader_epoch: 0,
            isr: elected.isr,
            controller_epoch,
            zk_version: 0,
        }
    }

    /// Makes the leadership that follows this one. The version stays until the write is known to be due.
    pub(super) fn next(&self, leader: BrokerId, isr: Vec<BrokerId>, controller_epoch: i32) -> Self {
        Self {
            leader,
            leader_epoch: self.leader_epoch.saturating_add(1),
            isr,
            controller_epoch,
            zk_version: self.zk_version,
        }
    }
}

/// How far the deletion of a topic is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletion {
    /// What became of each replica that was told to delete itself.
    pub replicas: BTreeMap<(i32, BrokerId), Removal>,
}

/// How far the deletion of a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Its broker was told.
    Asked,
    /// It is gone.
    Done,
    /// Its broker could not; it is told again when it comes back.
    Failed,
}

/// Why a deletion waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Until these partitions' reassignments end.
    Reassignment(Vec<i32>),
    /// Until these brokers come back, each of which has replicas.
    Offline(BTreeSet<BrokerId>),
    /// Until these brokers are started anew, which could not delete theirs.
    Failed(BTreeSet<BrokerId>),
    /// For the answers of brokers that were told.
    Answers,
}

impl ClusterContext {
    /// Returns the brokers that may lead: alive, and not about to stop.
    pub fn electable(&self) -> BTreeSet<BrokerId> {
        let live = self.brokers.keys().copied();
        live.filter(|id| !self.shutting_down.contains(id)).collect()
    }

    /// Finds a partition.
    pub fn partition(&self, name: &TopicPartition) -> Option<&Partition> {
        let topic = self.topics.get(&name.topic)?;
        topic.partitions.get(&name.partition)
    }

    pub(super) fn partition_mut(&mut self, name: &TopicPartition) -> Option<&mut Partition> {
        let topic = self.topics.get_mut(&name.topic)?;
        Arc::make_mut(topic).partitions.get_mut(&name.partition)
    }

    /// Goes through all partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Topic, &Partition)> {
        self.topics.iter().flat_map(|(name, topic)| {
            topic.partitions.iter().map(|(&partition, found)| {
                let name = TopicPartition::new(Arc::clone(name), partition);
                (name, topic.as_ref(), found)
            })
        })
    }

    /// Returns whether a topic's deletion has begun: nothing is elected or ordered for it any more but that.
    ///
    /// One that was asked for while a partition is being reassigned begins when that has ended.
    pub fn is_being_deleted(&self, topic: &str) -> bool {
        self.deletions.contains_key(topic) && self.reassigning(topic).is_empty()
    }

    /// Takes back the deletion of replicas that was to follow the end of a reassignment, when that was lost.
    pub(super) fn forget_early_removals(&mut self) {
        let mut deletions = std::mem::take(&mut self.deletions);
        for (topic, deletion) in &mut deletions {
            if !self.reassigning(topic).is_empty() {
                deletion.replicas.clear();
            }
        }
        self.deletions = deletions;
    }

    fn reassigning(&self, topic: &str) -> Vec<i32> {
        let partitions = self.topics.get(topic).into_iter();
        partitions
            .flat_map(|topic| &topic.partitions)
            .filter(|(_, partition)| partition.assignment.is_reassigning())
            .map(|(&number, _)| number)
            .collect()
    }

    /// Says why the deletion of a topic waits; `None` when none was asked for or nothing is left to wait for.
    pub fn waits_for(&self, topic: &str) -> Option<Wait> {
        let deletion = self.deletions.get(topic)?;
        let reassigning = self.reassigning(topic);
        if !reassigning.is_empty() {
            return Some(Wait::Reassignment(reassigning));
        }
        let mut offline = BTreeSet::new();
        let mut failed = BTreeSet::new();
        let mut asked = false;
        for (&number, partition) in &self.topics.get(topic)?.partitions {
            for &broker in &partition.assignment.replicas {
                match deletion.replicas.get(&(number, broker)) {
                    Some(Removal::Done) => {}
                    Some(Removal::Asked) => asked = true,
                    Some(Removal::Failed) => _ = failed.insert(broker),
                    None => _ = offline.insert(broker),
                }
            }
        }
        match (offline.is_empty(), failed.is_empty(), asked) {
            (false, _, _) => Some(Wait::Offline(offline)),
            (true, false, _) => Some(Wait::Failed(failed)),
            (true, true, true) => Some(Wait::Answers),
            (true, true, false) => None,
        }
    }

    /// Lists the partitions that `broker` leads and somebody else could: what it waits for in a controlled shutdown.
    pub fn still_led_by(&self, broker: BrokerId) -> Vec<TopicPartition> {
        self.partitions()
            .filter(|(name, _, partition)| {
                let leadership = partition.leadership.as_ref();
                leadership.is_some_and(|leadership| leadership.leader == broker)
                    && partition.assignment.replicas.len() > 1
                    && !self.is_being_deleted(&name.topic)
            })
            .map(|(name, _, _)| name)
            .collect()
    }

    /// Returns who leads a partition; -1 for nobody.
    pub fn leader(&self, name: &TopicPartition) -> BrokerId {
        self.partition(name)
            .and_then(|partition| partition.leadership.as_ref())
            .map_or(NO_LEADER, |leadership| leadership.leader)
    }
}
