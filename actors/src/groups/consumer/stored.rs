//! A consumer group as it is read from the log at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::{ConsumerGroup, Step};
use super::member::{Current, Metadata, Partitions};
use super::pattern::Matches;
use super::records::Record;
use super::topics::Topic;

/// What is stored of a consumer group, as it is read at start.
#[derive(Debug, Default)]
pub struct Stored {
    epoch: Option<i32>,
    target_epoch: i32,
    metadata: BTreeMap<Arc<str>, Metadata>,
    targets: BTreeMap<Arc<str>, Partitions>,
    currents: BTreeMap<Arc<str>, Current>,
    subscribed: BTreeMap<Arc<str>, Topic>,
    patterns: BTreeMap<Arc<str>, Matches>,
}

impl Stored {
    /// Takes a record, in the order of the log.
    pub fn replay(&mut self, record: Record) {
        match record {
            Record::Epoch(epoch) => self.epoch = epoch,
            Record::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or(0),
            Record::Topics(topics) => self.subscribed = topics.unwrap_or_default(),
            Record::Member(id, value) => put(&mut self.metadata, id, value),
            Record::Target(id, value) => put(&mut self.targets, id, value),
            Record::Current(id, value) => put(&mut self.currents, id, value),
            Record::Pattern(pattern, value) => put(&mut self.patterns, pattern, value),
        }
    }

    /// Tells whether a group is stored: one that is deleted is not.
    pub fn is_group(&self) -> bool {
        self.epoch.is_some()
    }

    /// Returns the group. Members have a session timeout to be heard of.
    pub fn finish(mut self, id: Arc<str>, step: &Step<'_>) -> ConsumerGroup {
        let mut group = ConsumerGroup::new(id);
        group.epoch = self.epoch.unwrap_or(0);
        group.target_epoch = self.target_epoch;
        group.subscribed = self.subscribed;
        group.patterns = self.patterns;
        for (id, metadata) in self.metadata {
            let current = self.currents.remove(&id).unwrap_or_default();
            let partitions = current.assigned.iter().chain(&current.revoking);
            // It can't be that two have a partition. If it is, one of them has to begin anew.
            if { partitions }.any(|partition| group.owners.contains_key(partition)) {
                tracing::warn!(group = %group.id, member = %id, "a member has what another has");
                group.departed.insert(id);
                continue;
            }
            group.epoch = group.epoch.max(current.epoch);
            let target = self.targets.remove(&id).unwrap_or_default();
            group.targets.insert(Arc::clone(&id), target);
            group.insert_restored(&id, metadata, current);
        }
        group.touch_all(step);
        group
    }
}

fn put<V>(map: &mut BTreeMap<Arc<str>, V>, key: Arc<str>, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}
