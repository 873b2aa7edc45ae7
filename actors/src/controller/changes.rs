//! What a change of topics asks of the brokers.

use std::collections::BTreeMap;

use super::office::Partitions;
use super::reassignment::without;
use super::stored::StoredTopic;
use crate::metadata::BrokerId;
use crate::partition::TopicPartition;
use crate::replica_manager::orders::StoppedReplica;

/// What brokers have to do and to know after a change.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Partitions whose states or replicas are others.
    pub(super) partitions: Partitions,
    /// Replicas that are none any more, by broker: they are deleted.
    pub(super) dropped: BTreeMap<BrokerId, Vec<StoppedReplica>>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.dropped.is_empty()
    }

    /// Takes down what has become of a topic.
    pub(super) fn note(&mut self, before: &StoredTopic, after: &StoredTopic) {
        for (&partition, assigned) in &after.assignment {
            let state = |topic: &StoredTopic| {
                let stored = topic.states.get(&partition);
                stored.map(|stored| stored.state.clone())
            };
            let earlier = before.assignment.get(&partition);
            if earlier == Some(assigned) && state(before) == state(after) {
                continue;
            }
            let changed = self.partitions.entry(after.name.clone()).or_default();
            changed.insert(partition);
            let leader_epoch = state(after).map_or(0, |state| state.leader_epoch);
            let earlier = earlier.map_or(&[][..], |earlier| &earlier.replicas);
            for broker in without(earlier, &assigned.replicas) {
                self.dropped
                    .entry(broker)
                    .or_default()
                    .push(StoppedReplica {
                        topic_partition: TopicPartition::new(after.name.as_str(), partition),
                        leader_epoch,
                        delete: true,
                    });
            }
        }
    }
}
