//! Topics that go: their replicas first, then their znodes.
//!
//! The mark in the znodes is all that a new controller finds; it has every replica deleted again, which harms none.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::Removal;
use super::draft::Draft;
use crate::metadata::BrokerId;
use crate::partition::TopicPartition;

impl Draft {
    pub(super) fn delete(&mut self, topics: BTreeSet<Arc<str>>) {
        for topic in topics {
            self.context.deletions.entry(topic).or_default();
        }
    }

    pub(super) fn replica_deleted(
        &mut self,
        partition: &TopicPartition,
        broker: BrokerId,
        deleted: bool,
    ) {
        let deletion = self.context.deletions.get_mut(&partition.topic);
        let key = (partition.partition, broker);
        let removal = deletion.and_then(|deletion| deletion.replicas.get_mut(&key));
        // Where nothing is noted the broker has died since, and what it answered says nothing of what it has now.
        if let Some(removal) = removal {
            *removal = if deleted {
                Removal::Done
            } else {
                Removal::Failed
            };
        }
    }

    /// Takes back what brokers were asked that are not there any more: they are asked again when they come back.
    pub(super) fn forget_asked(&mut self) {
        let live = &self.context.brokers;
        for deletion in self.context.deletions.values_mut() {
            deletion.replicas.retain(|(_, broker), removal| {
                *removal == Removal::Done || live.contains_key(broker)
            });
        }
    }

    /// Asks the brokers that are there to delete their replicas of topics whose time has come.
    pub(super) fn ask_to_delete(&mut self) {
        let due: Vec<Arc<str>> = self.context.deletions.keys().cloned().collect();
        for name in due {
            if !self.context.is_being_deleted(&name) {
                continue;
            }
            let context = &mut self.context;
            let (Some(topic), Some(deletion)) =
                (context.topics.get(&name), context.deletions.get_mut(&name))
            else {
                continue;
            };
            for (&number, partition) in &topic.partitions {
                let replicas = partition.assignment.replicas.iter();
                for &broker in replicas.filter(|id| context.brokers.contains_key(id)) {
                    let replicas = &mut deletion.replicas;
                    replicas.entry((number, broker)).or_insert(Removal::Asked);
                }
            }
        }
    }
}
