//! A decision in the making: facts come in first, then what follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;

use super::TopicRead;
use super::context::{ClusterContext, Leadership, Partition, Topic};
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
        self.ask_to_delete();
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
            // One step may make the next one possible: who is elected may be what a reassignment waited for.
            let first = brokers.settle(topic, partition);
            let next = |(before, _): &(Partition, bool)| brokers.settle(topic, before);
            for (becomes, unclean) in std::iter::successors(first, next) {
                settled.push((name.clone(), becomes, unclean));
            }
        }
        settled.retain(|(name, _, _)| !self.context.is_being_deleted(&name.topic));
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
        self.forget_asked();
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

    /// Topics whose node somebody has removed: they are forgotten, their replicas' files stay.
    pub(super) fn topics_gone(&mut self, names: &BTreeSet<Arc<str>>) {
        let context = &mut self.context;
        context.topics.retain(|name, _| !names.contains(name));
        context.stale.retain(|name| !names.contains(&name.topic));
    }

    pub(super) fn states(&mut self, read: BTreeMap<TopicPartition, Option<Leadership>>) {
        let mut removed = Vec::new();
        for (name, read) in read {
            self.context.stale.remove(&name);
            if let Some(partition) = self.context.partition_mut(&name) {
                if read.is_none() {
                    removed.push(name);
                }
                partition.leadership = read.or(partition.leadership.take());
            }
        }
        self.base = self.context.topics.clone();
        for name in removed {
            self.restore(&name);
        }
    }

    /// Somebody has removed a state that had been: it is written again, and not as if the partition were new, because
    /// leader epochs must not begin anew.
    fn restore(&mut self, name: &TopicPartition) {
        let epoch = self.context.controller_epoch;
        if let Some(partition) = self.context.partition_mut(name)
            && let Some(known) = &mut partition.leadership
        {
            *known = known.next(known.leader, known.isr.clone(), epoch);
        }
        let stored = self.base.get_mut(&name.topic).map(Arc::make_mut);
        if let Some(stored) = stored.and_then(|topic| topic.partitions.get_mut(&name.partition)) {
            stored.leadership = None;
        }
    }

    pub(super) fn shut_down(&mut self, broker: BrokerId) {
        if self.context.brokers.contains_key(&broker) {
            self.context.shutting_down.insert(broker);
        }
    }
}
