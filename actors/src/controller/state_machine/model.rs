//! A cluster in memory that does what the decisions say, and checks after each that what must hold does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

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
    }

    pub(super) fn stored(&self, name: &TopicPartition) -> Option<Leadership> {
        let path = paths::partition_state(&name.topic, name.partition);
        let (data, version) = self.znodes.get(&path)?;
        Some(Leadership::read(from_json(&path, data).unwrap(), *version))
    }

    /// Feeds what the znodes say of a partition.
    pub(super) fn read(&mut self, names: impl IntoIterator<Item = TopicPartition>) -> Orders {
        let states = names.into_iter();
        let states = states.map(|name| (name.clone(), self.stored(&name).unwrap()));
        let states = states.collect();
        self.perform(Event::StatesRead(states))
    }

    /// Decides, writes, orders; reads again what was lost to others, until nothing is.
    pub(super) fn perform(&mut self, event: Event) -> Orders {
        let plan = decide(&self.context, event);
        let written: Vec<bool> = plan.steps.iter().map(|step| self.write(step)).collect();
        let applied = applied(&self.context, plan, &written);
        self.context = applied.context;
        self.obey(&applied.orders);
        let stale = self.context.stale.clone();
        let mut orders = applied.orders;
        if !stale.is_empty() {
            for (broker, more) in self.read(stale) {
                orders.entry(broker).or_default().extend(more);
            }
        }
        self.check();
        orders
    }

    fn write(&mut self, step: &Step) -> bool {
        let Step::Transaction {
            parents, writes, ..
        } = step
        else {
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
                    metadata.insert(info.partition.clone(), info.clone());
                }
            }
            Order::StopReplica(stopped) => {
                let heard = self.heard.entry(broker).or_default();
                for stop in stopped {
                    heard.remove(&stop.partition);
                }
            }
        }
    }

    /// What holds after every event.
    fn check(&mut self) {
        let electable = self.context.electable();
        for (name, _, partition) in self.context.partitions() {
            let stored = self.stored(&name);
            let known = partition.leadership.as_ref();
            assert_eq!(
                known.map(|known| known.zk_version),
                stored.as_ref().map(|stored| stored.zk_version),
                "{name}"
            );
            assert_eq!(partition.leadership, stored, "{name}");
            let Some(stored) = stored else { continue };
            let replicas = &partition.assignment.replicas;
            assert!(!stored.isr.is_empty(), "{name}: {stored:?}");
            let assigned = stored.isr.iter().all(|id| replicas.contains(id));
            assert!(assigned, "{name}: {stored:?} of {replicas:?}");
            if stored.leader == NO_LEADER {
                let possible = stored.isr.iter().any(|id| electable.contains(id));
                assert!(!possible, "{name} has no leader: {stored:?}");
            } else {
                let live = self.context.brokers.contains_key(&stored.leader);
                assert!(live, "{name}: {stored:?}");
                assert!(stored.isr.contains(&stored.leader), "{name}: {stored:?}");
            }
            let epoch = stored.leader_epoch;
            let highest = self.epochs.entry(name.clone()).or_insert(epoch);
            assert!(*highest <= epoch, "{name} was at {highest}: {stored:?}");
            *highest = epoch;
            let led = self.leaders.entry((name.clone(), epoch));
            assert_eq!(*led.or_insert(stored.leader), stored.leader, "{name}");
            for broker in replicas.iter().filter(|id| electable.contains(id)) {
                let heard = self.heard.get(broker);
                let heard = heard.and_then(|heard| heard.get(&name));
                assert_eq!(heard, Some(&epoch), "{broker} of {name}: {stored:?}");
            }
            for broker in self.context.brokers.keys() {
                let info = &self.metadata[broker][&name];
                let known = (info.leader, info.leader_epoch, &info.isr, info.zk_version);
                let due = (stored.leader, epoch, &stored.isr, stored.zk_version);
                assert_eq!(known, due, "{broker} knows of {name}");
            }
        }
    }
}
