//! What the brokers are told after the znodes were written: where the cluster differs from what they know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::context::{ClusterContext, Leadership, Partition, Removal, Topic, without};
use crate::metadata::{BrokerId, BrokerNode, NO_LEADER};
use crate::partition::TopicPartition;

/// Stands for the leader of a partition that is being deleted.
const BEING_DELETED: BrokerId = -2;

/// Stands for the leader epoch where a replica is to delete itself.
const DELETION_EPOCH: i32 = -2;

/// Stands for the leader epoch of a partition that has none.
const NO_EPOCH: i32 = -1;

/// The orders for each live broker, to be sent in this order. Its epoch is that of its node in the context.
pub type Orders = BTreeMap<BrokerId, Vec<Order>>;

/// One request to a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Replicas on that broker lead or follow. Says only what changes (in the request's words: incremental).
    LeaderAndIsr(Vec<ReplicaOrder>),
    /// Everybody's knowledge of the cluster.
    UpdateMetadata {
        /// Who is alive: replaces what the broker knows.
        brokers: Arc<Vec<Arc<BrokerNode>>>,
        /// Partitions that have changed.
        partitions: Arc<Vec<PartitionInfo>>,
    },
    /// Replicas on that broker end.
    StopReplica(Vec<StopOrder>),
}

/// A partition as its state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Which.
    pub partition: TopicPartition,
    /// Its topic's id.
    pub topic_id: Uuid,
    /// Epoch of the controller that made the last change.
    pub controller_epoch: i32,
    /// Who leads; -1 for nobody, -2 when the topic is being deleted.
    pub leader: BrokerId,
    /// The leader epoch; -1 before the first election.
    pub leader_epoch: i32,
    /// The in-sync replicas.
    pub isr: Vec<BrokerId>,
    /// Version of the state's znode, also called the partition epoch.
    pub zk_version: i32,
    /// All replicas.
    pub replicas: Vec<BrokerId>,
    /// Replicas whose brokers are away.
    pub offline_replicas: Vec<BrokerId>,
}

/// What a replica is told of its partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaOrder {
    /// The partition.
    pub info: PartitionInfo,
    /// Replicas that a reassignment is adding.
    pub adding_replicas: Vec<BrokerId>,
    /// Replicas that a reassignment will remove.
    pub removing_replicas: Vec<BrokerId>,
    /// Whether this broker has had no replica of it before.
    pub is_new: bool,
}

/// A replica that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOrder {
    /// Which.
    pub partition: TopicPartition,
    /// The leader epoch; -2 when the topic is being deleted, -1 when nobody was ever elected.
    pub leader_epoch: i32,
    /// Whether it goes for good.
    pub delete: bool,
}

/// Finds the orders that lead from `before` to `after`; brokers in `greeted` know nothing yet.
pub(super) fn between(
    before: &ClusterContext,
    after: &ClusterContext,
    greeted: &BTreeSet<BrokerId>,
) -> Orders {
    let mut changes = Changes {
        before,
        after,
        greeted,
        leader_and_isr: BTreeMap::new(),
        stopped: BTreeMap::new(),
        metadata: Vec::new(),
    };
    for (name, topic) in &after.topics {
        changes.topic(name, topic);
    }
    for (name, topic) in &before.topics {
        if !after.topics.contains_key(name) && !before.is_being_deleted(name) {
            changes.gone(name, topic);
        }
    }
    changes.removals();
    changes.orders()
}

struct Changes<'a> {
    before: &'a ClusterContext,
    after: &'a ClusterContext,
    greeted: &'a BTreeSet<BrokerId>,
    leader_and_isr: BTreeMap<BrokerId, Vec<ReplicaOrder>>,
    stopped: BTreeMap<BrokerId, Vec<StopOrder>>,
    metadata: Vec<PartitionInfo>,
}

impl Changes<'_> {
    fn topic(&mut self, name: &Arc<str>, topic: &Arc<Topic>) {
        let known = self.before.topics.get(name);
        let deleting = self.after.is_being_deleted(name);
        let deletion_begins = deleting && !self.before.is_being_deleted(name);
        for (&number, partition) in &topic.partitions {
            let name = TopicPartition::new(Arc::clone(name), number);
            let info = info(&name, topic, partition, self.after);
            let known = known.and_then(|known| known.partitions.get(&number));
            if deletion_begins || known != Some(partition) {
                self.metadata.push(info.clone());
            }
            if !deleting {
                self.replicas(&info, partition, known);
            }
            self.dropped(&info, partition, known);
        }
    }

    fn replicas(&mut self, info: &PartitionInfo, partition: &Partition, known: Option<&Partition>) {
        let name = &info.partition;
        if let Some(leadership) = &partition.leadership
            && !self.after.stale.contains(name)
        {
            let all = self.before.stale.contains(name) || differs(partition, known);
            for &broker in &partition.assignment.replicas {
                let leaves = self.leaves_now(broker);
                if self.after.brokers.contains_key(&broker)
                    && (all || leaves || self.greeted.contains(&broker))
                {
                    self.replica(broker, info, partition, leadership, known);
                }
            }
        }
    }

    /// Replicas that were assigned and are not any more.
    fn dropped(&mut self, info: &PartitionInfo, partition: &Partition, known: Option<&Partition>) {
        let known = known.map_or(&[][..], |known| &known.assignment.replicas);
        for broker in without(known, &partition.assignment.replicas) {
            self.stop(broker, &info.partition, info.leader_epoch, true);
        }
    }

    fn leaves_now(&self, broker: BrokerId) -> bool {
        self.after.shutting_down.contains(&broker) && !self.before.shutting_down.contains(&broker)
    }

    /// One that is about to stop follows nobody any more, so that it does not come back into the in-sync set.
    fn replica(
        &mut self,
        broker: BrokerId,
        info: &PartitionInfo,
        partition: &Partition,
        leadership: &Leadership,
        known: Option<&Partition>,
    ) {
        if self.after.shutting_down.contains(&broker) && leadership.leader != broker {
            return self.stop(broker, &info.partition, leadership.leader_epoch, false);
        }
        let had = known.is_some_and(|known| {
            known.leadership.is_some() && known.assignment.replicas.contains(&broker)
        });
        let orders = self.leader_and_isr.entry(broker).or_default();
        orders.push(ReplicaOrder {
            info: info.clone(),
            adding_replicas: partition.assignment.adding.clone(),
            removing_replicas: partition.assignment.removing.clone(),
            is_new: !had,
        });
    }

    fn stop(&mut self, broker: BrokerId, name: &TopicPartition, leader_epoch: i32, delete: bool) {
        if self.after.brokers.contains_key(&broker) {
            self.stopped.entry(broker).or_default().push(StopOrder {
                partition: name.clone(),
                leader_epoch,
                delete,
            });
        }
    }

    /// A topic that is there no more, and was not deleted.
    fn gone(&mut self, name: &Arc<str>, topic: &Topic) {
        for (&number, partition) in &topic.partitions {
            let name = TopicPartition::new(Arc::clone(name), number);
            let info = PartitionInfo {
                leader: BEING_DELETED,
                ..info(&name, topic, partition, self.after)
            };
            for &broker in &partition.assignment.replicas {
                self.stop(broker, &name, info.leader_epoch, false);
            }
            self.metadata.push(info);
        }
    }

    /// Replicas of topics that go.
    fn removals(&mut self) {
        let (before, after) = (self.before, self.after);
        for (topic, deletion) in &after.deletions {
            let known = before.deletions.get(topic).map(|known| &known.replicas);
            for (key, removal) in &deletion.replicas {
                let asked = known.is_some_and(|known| known.get(key) == Some(removal));
                let &(number, broker) = key;
                let again = self.greeted.contains(&broker);
                if *removal == Removal::Asked && (again || !asked) {
                    let name = TopicPartition::new(Arc::clone(topic), number);
                    self.stop(broker, &name, DELETION_EPOCH, true);
                }
            }
        }
    }

    /// A broker that knows nothing learns first where the others are; the others hear of a new leader only after the
    /// leader itself.
    fn orders(mut self) -> Orders {
        let brokers: Arc<Vec<_>> = Arc::new(self.after.brokers.values().cloned().collect());
        let brokers_differ = self.before.brokers != self.after.brokers;
        let changed = Arc::new(std::mem::take(&mut self.metadata));
        let everything = if self.greeted.is_empty() {
            Arc::default()
        } else {
            let partitions = self.after.partitions();
            Arc::new(
                partitions
                    .map(|(name, topic, partition)| info(&name, topic, partition, self.after))
                    .collect(),
            )
        };
        let mut orders = Orders::new();
        for &broker in self.after.brokers.keys() {
            let greeted = self.greeted.contains(&broker);
            let metadata = Order::UpdateMetadata {
                brokers: Arc::clone(&brokers),
                partitions: Arc::clone(if greeted { &everything } else { &changed }),
            };
            let replicas = self.leader_and_isr.remove(&broker);
            let stopped = self.stopped.remove(&broker);
            let mut list: Vec<Order> = replicas.map(Order::LeaderAndIsr).into_iter().collect();
            if greeted {
                list.insert(0, metadata);
            } else if brokers_differ || !changed.is_empty() {
                list.push(metadata);
            }
            list.extend(stopped.map(Order::StopReplica));
            if !list.is_empty() {
                orders.insert(broker, list);
            }
        }
        orders
    }
}

/// Returns whether the replicas have to hear of it. Of what the leader itself has changed they need not.
fn differs(partition: &Partition, known: Option<&Partition>) -> bool {
    let epoch = |partition: &Partition| {
        let leadership = partition.leadership.as_ref();
        leadership.map(|leadership| leadership.leader_epoch)
    };
    known.is_none_or(|known| {
        epoch(known) != epoch(partition) || known.assignment != partition.assignment
    })
}

fn info(
    name: &TopicPartition,
    topic: &Topic,
    partition: &Partition,
    context: &ClusterContext,
) -> PartitionInfo {
    let replicas = partition.assignment.replicas.clone();
    let away = replicas.iter().copied();
    let away = away
        .filter(|id| !context.brokers.contains_key(id))
        .collect();
    let leadership = partition.leadership.as_ref();
    let leader = leadership.map_or(NO_LEADER, |leadership| leadership.leader);
    PartitionInfo {
        partition: name.clone(),
        topic_id: topic.id,
        controller_epoch: leadership.map_or(context.controller_epoch, |leadership| {
            leadership.controller_epoch
        }),
        leader: if context.is_being_deleted(&name.topic) {
            BEING_DELETED
        } else {
            leader
        },
        leader_epoch: leadership.map_or(NO_EPOCH, |leadership| leadership.leader_epoch),
        isr: leadership.map_or_else(Vec::new, |leadership| leadership.isr.clone()),
        zk_version: leadership.map_or(-1, |leadership| leadership.zk_version),
        replicas,
        offline_replicas: away,
    }
}
