//! The states of share partitions that one partition of `__share_group_state` holds, and the records they become.
//!
//! Each change is a record of its own; after some of them the whole state is written again, and what came before can
//! go.

use std::collections::BTreeMap;

use troupe_protocol::kafka::records::batch::BatchHeader;
use troupe_protocol::kafka::records::record::Record;

use super::ShareKey;
use super::records::{self, StateRecord};
use super::stored::{Change, Stored};
use crate::internal_topic::fields::{CorruptRecord, TooLong};
use crate::internal_topic::writes::KeyValue;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    stored: Stored,
    /// Changes since the last snapshot.
    updates: usize,
}

/// States by share partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct States {
    entries: BTreeMap<ShareKey, Entry>,
}

impl States {
    /// Returns the state of a share partition.
    pub(crate) fn get(&self, key: &ShareKey) -> Option<&Stored> {
        self.entries.get(key).map(|entry| &entry.stored)
    }

    /// Lists the share partitions of a group with their states.
    pub(crate) fn of_group<'s>(
        &'s self,
        group: &'s str,
    ) -> impl Iterator<Item = (&'s ShareKey, &'s Stored)> {
        let entries = self
            .entries
            .iter()
            .filter(move |(key, _)| *key.group == *group);
        entries.map(|(key, entry)| (key, &entry.stored))
    }

    /// Returns how many states there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Sets a state anew, to begin at an offset.
    pub(crate) fn initialize(
        &mut self,
        key: &ShareKey,
        leader_epoch: i32,
        start_offset: i64,
        now_ms: i64,
    ) -> Result<KeyValue, TooLong> {
        let record_key = records::snapshot_key(key)?;
        let before = self.get(key);
        let state_epoch = before.map_or(0, |before| before.state_epoch.saturating_add(1));
        let snapshot_epoch = before.map_or(0, |before| before.snapshot_epoch.saturating_add(1));
        let mut stored = Stored::new(state_epoch, leader_epoch, start_offset);
        stored.snapshot_epoch = snapshot_epoch;
        let value = records::snapshot(&stored, now_ms)?;
        self.entries
            .insert(key.clone(), Entry { stored, updates: 0 });
        Ok((record_key, Some(value)))
    }

    /// Applies a change; `None` when there is no such state. Every `updates_per_snapshot` of them the whole state is
    /// written (`share.coordinator.snapshot.update.records.per.snapshot`).
    pub(crate) fn change(
        &mut self,
        key: &ShareKey,
        change: &Change,
        updates_per_snapshot: usize,
        now_ms: i64,
    ) -> Option<Result<KeyValue, TooLong>> {
        let entry = self.entries.get_mut(key)?;
        entry.stored.apply(change);
        entry.updates = entry.updates.saturating_add(1);
        if entry.updates > updates_per_snapshot {
            return Some(entry.snapshot(key, now_ms));
        }
        let value = records::update(entry.stored.snapshot_epoch, change);
        Some(records::update_key(key).and_then(|key| Ok((key, Some(value?)))))
    }

    /// Writes all states whole: what was written before is not needed any more.
    pub(crate) fn snapshots(&mut self, now_ms: i64) -> Vec<KeyValue> {
        let entries = self.entries.iter_mut();
        entries
            .filter_map(|(key, entry)| entry.snapshot(key, now_ms).ok())
            .collect()
    }

    /// Forgets the states that `gone` picks.
    pub(crate) fn remove(&mut self, gone: impl Fn(&ShareKey) -> bool) -> Vec<KeyValue> {
        let keys = self.entries.keys().filter(|key| gone(key));
        let keys: Vec<ShareKey> = keys.cloned().collect();
        for key in &keys {
            self.entries.remove(key);
        }
        let tombstones = keys
            .iter()
            .filter_map(|key| records::snapshot_key(key).ok());
        tombstones.map(|key| (key, None)).collect()
    }

    /// Takes a record of a batch of the log.
    pub(crate) fn take(
        &mut self,
        batch: &BatchHeader,
        record: &Record,
    ) -> Result<(), CorruptRecord> {
        if batch.attributes.is_control() {
            return Ok(());
        }
        let key = record.key.as_deref().unwrap_or_default();
        let value = record.value.as_deref();
        let Some((key, record)) = records::decode(key, value)? else {
            return Ok(());
        };
        match record {
            StateRecord::Snapshot(stored) => {
                self.entries.insert(key, Entry { stored, updates: 0 });
            }
            StateRecord::Update(snapshot_epoch, change) => {
                if let Some(entry) = self.entries.get_mut(&key)
                    && entry.stored.snapshot_epoch == snapshot_epoch
                {
                    entry.stored.apply(&change);
                    entry.updates = entry.updates.saturating_add(1);
                }
            }
            StateRecord::Gone => drop(self.entries.remove(&key)),
        }
        Ok(())
    }
}

impl Entry {
    fn snapshot(&mut self, key: &ShareKey, now_ms: i64) -> Result<KeyValue, TooLong> {
        let record_key = records::snapshot_key(key)?;
        self.stored.snapshot_epoch = self.stored.snapshot_epoch.saturating_add(1);
        self.updates = 0;
        Ok((record_key, Some(records::snapshot(&self.stored, now_ms)?)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use troupe_protocol::kafka::records::builder::BatchBuilder;
    use uuid::Uuid;

    use super::super::stored::{Delivered, StoredState};
    use super::*;
    use crate::internal_topic::{Skipped, take_batches};

    fn key(partition: i32) -> ShareKey {
        ShareKey {
            group: "g".into(),
            topic_id: Uuid::from_u128(1),
            partition,
        }
    }

    fn change(start_offset: i64, offset: i64) -> Change {
        let delivered = Delivered {
            state: StoredState::Acknowledged,
            delivery_count: 1,
        };
        Change {
            leader_epoch: 1,
            start_offset,
            batches: vec![(offset, offset, delivered)],
        }
    }

    fn replay(log: &[KeyValue]) -> States {
        let (states, skipped) = replay_and_count(log);
        assert_eq!(skipped, 0);
        states
    }

    /// Returns how many records were skipped, too.
    fn replay_and_count(log: &[KeyValue]) -> (States, u64) {
        let records: Vec<Record> = (0..)
            .zip(log)
            .map(|(offset, (key, value))| Record {
                offset,
                timestamp: 0,
                key: Some(key.clone()),
                value: value.clone(),
                headers: Vec::new(),
            })
            .collect();
        let (mut states, mut skipped) = (States::default(), Skipped::default());
        let batch = BatchBuilder::new().build_from(&records).unwrap();
        let next = take_batches(&batch, &mut skipped, |batch, record| {
            states.take(batch, record)
        });
        assert_eq!(next, Some(log.len() as i64));
        (states, skipped.count())
    }

    #[test]
    fn the_log_gives_the_states_back() {
        let mut states = States::default();
        let mut log = vec![
            states.initialize(&key(0), 1, 5, 0).unwrap(),
            states.initialize(&key(1), 1, 5, 0).unwrap(),
        ];
        for step in 0..7 {
            let written = states.change(&key(0), &change(5, 6 + 2 * step), 3, 0);
            log.push(written.unwrap().unwrap());
            assert_eq!(replay(&log), states);
        }
        assert_eq!(states.get(&key(0)).unwrap().snapshot_epoch, 1);
        log.extend(states.remove(|key| key.partition == 1));
        assert_eq!(replay(&log), states);
        assert_eq!(states.len(), 1);
        let snapshots = states.snapshots(0);
        assert_eq!(replay(&snapshots), states);
        log.extend(snapshots);
        assert_eq!(replay(&log), states);
        assert!(states.change(&key(1), &change(5, 6), 3, 0).is_none());
        assert_eq!(states.of_group("g").count(), 1);
        assert_eq!(states.of_group("h").count(), 0);
    }

    #[test]
    fn a_state_that_is_set_anew_ignores_what_was_meant_for_the_old_one() {
        let mut states = States::default();
        let mut log = vec![states.initialize(&key(0), 1, 5, 0).unwrap()];
        let mut stale = states.clone();
        log.push(states.initialize(&key(0), 1, 0, 0).unwrap());
        log.push(
            stale
                .change(&key(0), &change(9, 10), 3, 0)
                .unwrap()
                .unwrap(),
        );
        let stored = replay(&log);
        assert_eq!(stored.get(&key(0)), states.get(&key(0)));
        assert_eq!(stored.get(&key(0)).unwrap().state_epoch, 1);
    }

    #[test]
    fn what_is_corrupt_is_skipped_and_counted() {
        let mut states = States::default();
        let good = states.initialize(&key(0), 1, 5, 0).unwrap();
        let nonsense = (Bytes::from_static(b"\0\0\0"), Some(Bytes::new()));
        let unknown = (Bytes::from_static(b"\0\x09"), Some(Bytes::new()));
        let (replayed, skipped) = replay_and_count(&[nonsense, unknown, good]);
        assert_eq!((replayed.len(), skipped), (1, 1));
    }
}
