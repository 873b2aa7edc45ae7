//! A cluster in memory that does what the decisions say, and checks after each that what must hold does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::context::Removal;
use super::*;
use crate::coordination::client::Write;
use crate::coordination::paths;
use crate::coordination::schema::{PartitionState, TopicAssignment, from_json, to_json};
use crate::metadata::NO_LEADER;

/// What a broker was told of a partition it has a replica of.
type Heard = BTreeMap<TopicPartition, i32>;

#[derive(Default)]
pub(super) struct Model {
    pub(super) context: ClusterContext,
    /// Content and version by path.
    pub(super) znodes: BTreeMap<String, (Vec<u8>, i32)>,
    registered: i64,
    /// The leader epoch each live broker follows or leads under.
    heard: BTreeMap<BrokerId, Heard>,
    /// What each live broker knows of all partitions.
    metadata: BTreeMap<BrokerId, BTreeMap<TopicPartition, PartitionInfo>>,
    /// Who led under which epoch.
    leaders: BTreeMap<(TopicPartition, i32), BrokerId>,
    /// The highest leader epoch of each partition.
    epochs: BTreeMap<TopicPartition, i32>,
    /// Partitions whose state a leader has written without the controller's knowing.
    unread: BTreeSet<TopicPartition>,
    /// Where each partition was when it was last not on its way to other brokers.
    pub(super) homes: BTreeMap<TopicPartition, BTreeSet<BrokerId>>,
    /// What the last event was refused.
    pub(super) refused: BTreeMap<TopicPartition, ErrorCode>,
    /// Whether a write of the last event was lost, so that what was asked for has to be asked again.
    pub(super) lost: bool,
}

pub(super) fn name(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub(super) fn topic(replicas: &[&[BrokerId]]) -> TopicRead {
    let partition = |replicas: &&[BrokerId]| Partition {
        assignment: Assignment::settled(replicas.to_vec()),
        leadership: None,
    };
    TopicRead {
        topic: Topic {
            id: Uuid::from_u128(7),
            zk_version: 0,
            unclean_election: false,
            partitions: (0..).zip(replicas.iter().map(partition)).collect(),
        },
        incomplete: false,
    }
}

impl Model {
    pub(super) fn with_brokers(ids: &[BrokerId]) -> Self {
        let mut model = Self::default();
        model.context.controller_epoch = 1;
        model.came(ids);
        model
    }

    fn registration(&mut self, id: BrokerId) -> Arc<BrokerNode> {
        self.registered += 1;
        Arc::new(BrokerNode {
            id,
            endpoints: Vec::new(),
            rack: None,
            epoch: self.registered,
        })
    }

    /// Registers brokers; those that were there have died and come back.
    pub(super) fn came(&mut self, ids: &[BrokerId]) -> Orders {
        let mut brokers = self.context.brokers.clone();
        for &id in ids {
            brokers.insert(id, self.registration(id));
            self.forget(id);
        }
        self.perform(Event::BrokersRead(brokers))
    }

    pub(super) fn went(&mut self, ids: &[BrokerId]) -> Orders {
        let mut brokers = self.context.brokers.clone();
        for id in ids {
            brokers.remove(id);
            self.forget(*id);
        }
        self.perform(Event::BrokersRead(brokers))
    }

    fn forget(&mut self, id: BrokerId) {
        self.heard.remove(&id);
        self.metadata.remove(&id);
    }

    pub(super) fn create(&mut self, topic: &str, read: TopicRead) -> Orders {
        let partitions = read.topic.partitions.iter();
        let node = TopicAssignment {
            removing_replicas: BTreeMap::new(),
            partitions: partitions
                .map(|(number, found)| (number.to_string(), found.assignment.replicas.clone()))
                .collect(),
            topic_id: None,
            adding_replicas: BTreeMap::new(),
            version: 1,
        };
        let version = read.topic.zk_version;
        self.znodes
            .insert(paths::topic(topic), (to_json(&node), version));
        self.perform(Event::TopicsRead(BTreeMap::from([(topic.into(), read)])))
    }

    /// The leader of a partition writes who is in sync, and the controller does not know yet.
    pub(super) fn leader_writes(&mut self, name: &TopicPartition, isr: &[BrokerId]) {
        let path = paths::partition_state(&name.topic, name.partition);
        let (data, version) = self.znodes.get_mut(&path).unwrap();
        let mut state: PartitionState = from_json(&path, data).unwrap();
        state.isr = isr.to_vec();
        *data = to_json(&state);
        *version += 1;
        self.unread.insert(name.clone());
    }

    /// Somebody removes a state by hand.
    pub(super) fn lose_state(&mut self, name: &TopicPartition) {
        let path = paths::partition_state(&name.topic, name.partition);
        self.znodes.remove(&path);
        self.unread.insert(name.clone());
    }

    /// Marks topics for deletion.
    pub(super) fn delete(&mut self, topics: &[&str]) -> Orders {
        for topic in topics {
            self.znodes
                .insert(paths::delete_topic(topic), Default::default());
        }
        let topics = topics.iter().map(|&topic| topic.into()).collect();
        self.perform(Event::DeletionAsked(topics))
    }

    /// Brokers answer all that they were asked to delete.
    pub(super) fn answer_deletions(&mut self, deleted: bool) {
        for (topic, deletion) in self.context.deletions.clone() {
            let asked = deletion.replicas.into_iter();
            for ((number, broker), _) in asked.filter(|(_, removal)| *removal == Removal::Asked) {
                self.perform(Event::ReplicaDeleted {
                    partition: TopicPartition::new(Arc::clone(&topic), number),
                    broker,
                    deleted,
                });
            }
        }
    }

    /// Performs what was asked for, again where something else came first.
    pub(super) fn ask(&mut self, event: Event) -> Orders {
        let mut orders = self.perform(event.clone());
        if self.lost {
            for (broker, more) in self.perform(event) {
                orders.entry(broker).or_default().extend(more);
            }
        }
        orders
    }

    /// Another controller takes over, which has only the znodes.
    pub(super) fn succeed(&mut self, restarted: &[BrokerId]) -> Orders {
        let marked = self.znodes.keys();
        let marked = marked.filter_map(|path| path.strip_prefix("/admin/delete_topics/"));
        let unclean = |(name, topic): (&Arc<str>, &Arc<Topic>)| {
            topic.unclean_election.then(|| Arc::clone(name))
        };
        let unclean = self.context.topics.iter().filter_map(unclean).collect();
        self.context = ClusterContext {
            controller_epoch: self.context.controller_epoch + 1,
            brokers: self.context.brokers.clone(),
            topics: self.read_topics(&unclean),
            deletions: marked
                .map(|name| (name.into(), Deletion::default()))
                .collect(),
            ..ClusterContext::default()
        };
        for &id in restarted {
            let node = self.registration(id);
            self.context.brokers.insert(id, node);
            self.forget(id);
        }
        self.unread.clear();
        let restarted = restarted.iter().copied().collect();
        self.perform(Event::TookOffice { restarted })
    }

    /// Reads all topics out of the znodes.
    fn read_topics(&self, unclean: &BTreeSet<Arc<str>>) -> BTreeMap<Arc<str>, Arc<Topic>> {
        let nodes = self.znodes.iter().filter_map(|(path, (data, version))| {
            let name = path.strip_prefix("/brokers/topics/")?;
            (!name.contains('/')).then(|| (Arc::<str>::from(name), path, data, *version))
        });
        nodes
            .map(|(name, path, data, zk_version)| {
                let node: TopicAssignment = from_json(path, data).unwrap();
                let of = |lists: &BTreeMap<String, Vec<BrokerId>>, number: &String| {
                    lists.get(number).cloned().unwrap_or_default()
                };
                let partition = |(number, replicas): (&String, &Vec<BrokerId>)| {
                    let found = Partition {
                        assignment: Assignment {
                            replicas: replicas.clone(),
                            adding: of(&node.adding_replicas, number),
                            removing: of(&node.removing_replicas, number),
                        },
                        leadership: self.stored(&TopicPartition::new(
                            Arc::clone(&name),
                            number.parse().unwrap(),
                        )),
                    };
                    (number.parse().unwrap(), found)
                };
                let topic = Topic {
                    id: Uuid::from_u128(7),
                    zk_version,
                    unclean_election: unclean.contains(&name),
                    partitions: node.partitions.iter().map(partition).collect(),
                };
                (name, Arc::new(topic))
            })
            .collect()
    }

    pub(super) fn stored(&self, name: &TopicPartition) -> Option<Leadership> {
        let path = paths::partition_state(&name.topic, name.partition);
        let (data, version) = self.znodes.get(&path)?;
        Some(Leadership::read(from_json(&path, data).unwrap(), *version))
    }

    /// Feeds what the znodes say of a partition.
    pub(super) fn read(&mut self, names: impl IntoIterator<Item = TopicPartition>) -> Orders {
        let states = names.into_iter();
        let states = states.map(|name| (name.clone(), self.stored(&name)));
        let states: BTreeMap<_, _> = states.collect();
        self.unread.retain(|name| !states.contains_key(name));
        self.perform(Event::StatesRead(states))
    }

    /// Decides, writes, orders; reads again what was lost to others, until nothing is.
    pub(super) fn perform(&mut self, event: Event) -> Orders {
        let plan = decide(&self.context, event);
        self.refused = plan.refused.clone();
        let written: Vec<bool> = plan.steps.iter().map(|step| self.write(step)).collect();
        let applied = applied(&self.context, plan, &written);
        self.context = applied.context;
        self.obey(&applied.orders);
        assert!(applied.stale_topics.is_empty() || !self.context.stale.is_empty());
        let lost = !self.context.stale.is_empty();
        let mut orders = applied.orders;
        if lost {
            let refused = std::mem::take(&mut self.refused);
            for (broker, more) in self.read(self.context.stale.clone()) {
                orders.entry(broker).or_default().extend(more);
            }
            self.refused = refused;
        }
        self.lost = lost;
        self.check();
        orders
    }

    fn write(&mut self, step: &Step) -> bool {
        let Step::Transaction {
            parents, writes, ..
        } = step
        else {
            let (Step::DeleteTopic(name) | Step::Unmark(name)) = step else {
                unreachable!("{step:?}");
            };
            let (node, below) = (paths::topic(name), paths::partitions(name));
            self.znodes
                .retain(|path, _| *path != node && !path.starts_with(&below));
            self.znodes.remove(&paths::delete_topic(name));
            self.leaders.retain(|(found, _), _| found.topic != *name);
            self.epochs.retain(|found, _| found.topic != *name);
            return true;
        };
        for parent in parents {
            self.znodes.entry(parent.clone()).or_default();
        }
        let fits = |write: &Write| match write {
            Write::Set(path, _, version) => {
                self.znodes.get(path).map(|(_, version)| *version) == *version
            }
            Write::Create(path, _) => !self.znodes.contains_key(path),
            other => panic!("not expected: {other:?}"),
        };
        let all_fit = writes.iter().all(fits);
        for write in writes.iter().filter(|_| all_fit) {
            match write {
                Write::Set(path, data, Some(version)) => {
                    self.znodes
                        .insert(path.clone(), (data.clone(), version + 1));
                }
                Write::Create(path, data) => {
                    self.znodes.insert(path.clone(), (data.clone(), 0));
                }
                other => panic!("not expected: {other:?}"),
            }
        }
        all_fit
    }

    fn obey(&mut self, orders: &Orders) {
        for (&broker, orders) in orders {
            let live = self.context.brokers.contains_key(&broker);
            assert!(live, "an order to {broker}, which is away");
            for order in orders {
                self.obey_one(broker, order);
            }
        }
    }

    fn obey_one(&mut self, broker: BrokerId, order: &Order) {
        match order {
            Order::LeaderAndIsr(replicas) => {
                let heard = self.heard.entry(broker).or_default();
                for ReplicaOrder { info, .. } in replicas {
                    assert!(info.replicas.contains(&broker), "{broker}: {info:?}");
                    let last = heard.insert(info.partition.clone(), info.leader_epoch);
                    assert!(last <= Some(info.leader_epoch), "{broker}: {info:?}");
                }
            }
            Order::UpdateMetadata {
                brokers,
                partitions,
            } => {
                let known: BTreeSet<_> = self.context.brokers.keys().copied().collect();
                assert_eq!(known, brokers.iter().map(|node| node.id).collect());
                let metadata = self.metadata.entry(broker).or_default();
                for info in partitions.iter() {
                    if info.leader == -2 {
                        metadata.remove(&info.partition);
                    } else {
                        metadata.insert(info.partition.clone(), info.clone());
                    }
                }
            }
            Order::StopReplica(stopped) => {
                let heard = self.heard.entry(broker).or_default();
                for stop in stopped {
                    heard.remove(&stop.partition);
                    let name = &stop.partition;
                    let found = self.context.partition(name);
                    let stays = found.is_some_and(|found| {
                        found.assignment.replicas.contains(&broker)
                            && !self.context.is_being_deleted(&name.topic)
                    });
                    assert!(!stop.delete || !stays, "{broker} deletes {name}");
                }
            }
        }
    }

    /// What holds after every event.
    fn check(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            let context = &self.context;
            let unclean = |(name, topic): (&Arc<str>, &Arc<Topic>)| {
                topic.unclean_election.then(|| Arc::clone(name))
            };
            let unclean = context.topics.iter().filter_map(unclean).collect();
            // So a controller that takes over now decides as this one does.
            assert_eq!(self.read_topics(&unclean), context.topics);
        }
        let context = std::mem::take(&mut self.context);
        for (name, _, partition) in context.partitions() {
            if !partition.assignment.is_reassigning() {
                let replicas = partition.assignment.replicas.iter().copied();
                self.homes.insert(name.clone(), replicas.collect());
            }
            if context.is_being_deleted(&name.topic) {
                let knows = |known: &BTreeMap<_, _>| known.contains_key(&name);
                assert!(
                    !self.metadata.values().any(knows),
                    "{name} is not known to go"
                );
            } else if let Some(stored) = self.stored(&name)
                && !unread.contains(&name)
            {
                self.check_state(&context, &name, partition, &stored);
                self.check_brokers(&context, &name, partition, &stored);
            }
        }
        self.context = context;
        self.unread = unread;
    }

    fn check_state(
        &mut self,
        context: &ClusterContext,
        name: &TopicPartition,
        partition: &Partition,
        stored: &Leadership,
    ) {
        let Leadership {
            leader,
            isr,
            leader_epoch,
            ..
        } = stored;
        let replicas = &partition.assignment.replicas;
        assert!(!isr.is_empty(), "{name}");
        let assigned = isr.iter().all(|id| replicas.contains(id));
        assert!(assigned, "{name}: {stored:?} of {replicas:?}");
        if *leader == NO_LEADER {
            let electable = context.electable();
            let possible = isr.iter().any(|id| electable.contains(id));
            assert!(!possible, "{name} has no leader: {stored:?}");
        } else {
            assert!(context.brokers.contains_key(leader), "{name}: {stored:?}");
            assert!(isr.contains(leader), "{name}: {stored:?}");
        }
        let highest = self.epochs.insert(name.clone(), *leader_epoch);
        assert!(
            highest <= Some(*leader_epoch),
            "{name}: {stored:?} after {highest:?}"
        );
        let led = self.leaders.entry((name.clone(), *leader_epoch));
        assert_eq!(led.or_insert(*leader), leader, "{name}");
    }

    /// Every replica follows the last leader epoch, nobody else does, and all brokers know.
    fn check_brokers(
        &self,
        context: &ClusterContext,
        name: &TopicPartition,
        partition: &Partition,
        stored: &Leadership,
    ) {
        let replicas = &partition.assignment.replicas;
        for broker in context.brokers.keys() {
            let heard = self.heard.get(broker);
            let heard = heard.and_then(|heard| heard.get(name));
            let going = context.shutting_down.contains(broker) && stored.leader != *broker;
            let follows = replicas.contains(broker) && !going;
            let due = follows.then_some(&stored.leader_epoch);
            assert_eq!(heard, due, "{broker} of {name}: {stored:?}");
            let known = &self.metadata[broker][name];
            let known = (
                known.leader,
                known.leader_epoch,
                &known.isr,
                known.zk_version,
            );
            let due = (
                stored.leader,
                stored.leader_epoch,
                &stored.isr,
                stored.zk_version,
            );
            assert_eq!(known, due, "{broker} knows of {name}");
        }
    }
}
