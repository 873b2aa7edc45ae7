//! A decision in the making: facts come in first, then what follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;

use super::TopicRead;
use super::context::{ClusterContext, Leadership, Topic};
use super::plan::{self, Plan};
use super::settle::Brokers;
use crate::metadata::{BrokerId, BrokerNode};
use crate::partition::TopicPartition;

pub(super) struct Draft {
    /// The topics as the znodes hold them.
    base: BTreeMap<Arc<str>, Arc<Topic>>,
    /// The cluster as it is to become.
    pub(super) context: ClusterContext,
    pub(super) refused: BTreeMap<TopicPartition, ErrorCode>,
    pub(super) unclean: BTreeSet<TopicPartition>,
    greeted: BTreeSet<BrokerId>,
    rewritten: BTreeSet<Arc<str>>,
}

impl Draft {
    pub(super) fn of(context: &ClusterContext) -> Self {
        Self {
            base: context.topics.clone(),
            context: context.clone(),
            refused: BTreeMap::new(),
            unclean: BTreeSet::new(),
            greeted: BTreeSet::new(),
            rewritten: BTreeSet::new(),
        }
    }

    pub(super) fn finish(mut self) -> Plan {
        self.settle();
        Plan {
            steps: plan::steps(&self.base, &mut self.context, &self.rewritten),
            refused: self.refused,
            unclean: self.unclean,
            greeted: self.greeted,
            base: self.base,
            after: self.context,
        }
    }

    fn settle(&mut self) {
        let brokers = Brokers::of(&self.context);
        let mut settled = Vec::new();
        for (name, topic, partition) in self.context.partitions() {
            if let Some((becomes, unclean)) = brokers.settle(topic, partition)
                && !self.context.is_being_deleted(&name.topic)
            {
                settled.push((name, becomes, unclean));
            }
        }
        for (name, becomes, unclean) in settled {
            if let Some(partition) = self.context.partition_mut(&name) {
                *partition = becomes;
            }
            if unclean {
                self.unclean.insert(name);
            }
        }
    }

    pub(super) fn take_office(&mut self, restarted: &BTreeSet<BrokerId>) {
        let brokers = self.context.brokers.clone();
        self.context.brokers.retain(|id, _| !restarted.contains(id));
        self.settle();
        self.greeted = brokers.keys().copied().collect();
        self.context.brokers = brokers;
    }

    /// A broker that has come back under another epoch has died before: it is replaced first, as if it were away,
    /// because it may have lost what it had not flushed.
    pub(super) fn brokers(&mut self, now: BTreeMap<BrokerId, Arc<BrokerNode>>) {
        let known = &self.context.brokers;
        let stayed = |id: &BrokerId, node: &BrokerNode| {
            known.get(id).is_some_and(|known| known.epoch == node.epoch)
        };
        let came: BTreeSet<BrokerId> = now
            .iter()
            .filter(|(id, node)| !stayed(id, node))
            .map(|(&id, _)| id)
            .collect();
        let context = &mut self.context;
        context
            .brokers
            .retain(|id, _| now.contains_key(id) && !came.contains(id));
        let stayed = &context.brokers;
        context.shutting_down.retain(|id| stayed.contains_key(id));
        self.settle();
        self.context.brokers = now;
        self.greeted = came;
    }

    /// Known partitions keep their assignment: tools of old add partitions and drop what they don't know of.
    pub(super) fn topics(&mut self, read: BTreeMap<Arc<str>, TopicRead>) {
        for (name, TopicRead { topic, incomplete }) in read {
            let Some(known) = self.context.topics.get_mut(&name) else {
                if incomplete {
                    self.rewritten.insert(Arc::clone(&name));
                }
                let topic = Arc::new(topic);
                self.base.insert(Arc::clone(&name), Arc::clone(&topic));
                self.context.topics.insert(name, topic);
                continue;
            };
            let known = Arc::make_mut(known);
            known.zk_version = topic.zk_version;
            known.unclean_election = topic.unclean_election;
            let mut differs = incomplete || known.id != topic.id;
            for (number, partition) in &known.partitions {
                let read = topic.partitions.get(number);
                differs |= read.is_none_or(|read| read.assignment != partition.assignment);
            }
            for (number, partition) in topic.partitions {
                known.partitions.entry(number).or_insert(partition);
            }
            if differs {
                self.rewritten.insert(Arc::clone(&name));
            }
            self.base.insert(name, Arc::new(known.clone()));
        }
    }

    pub(super) fn states(&mut self, read: BTreeMap<TopicPartition, Leadership>) {
        for (name, leadership) in read {
            self.context.stale.remove(&name);
            if let Some(partition) = self.context.partition_mut(&name) {
                partition.leadership = Some(leadership);
            }
        }
        self.base = self.context.topics.clone();
    }
}
