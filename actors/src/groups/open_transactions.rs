//! Offsets that are committed in transactions which are still open.
//!
//! They count when their transaction is committed, unless something later in the log speaks of the same partition: so
//! it is in Kafka, and so does compaction leave it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::offsets::{CommittedOffset, TopicPartition};

/// An offset of a group.
pub(super) type GroupOffset = (Arc<str>, TopicPartition, CommittedOffset);

/// What is in the log.
#[derive(Debug)]
struct Written {
    /// Grows along the log.
    place: u64,
    committed: CommittedOffset,
}

/// What one transaction commits.
type Commits = BTreeMap<(Arc<str>, TopicPartition), Written>;

/// Keeps offsets of open transactions. Until those have ended, nobody can tell where the group has come to.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions {
    /// What is in the log and may come to count, by producer id.
    written: BTreeMap<i64, Commits>,
    /// How many offsets of a partition are in the log or on their way there.
    unstable: BTreeMap<Arc<str>, BTreeMap<TopicPartition, usize>>,
    /// The last place in the log.
    place: u64,
}

impl OpenTransactions {
    /// Notes what is on its way into the log.
    pub(super) fn begin<'a>(
        &mut self,
        group: &Arc<str>,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) {
        let unstable = self.unstable.entry(Arc::clone(group)).or_default();
        for partition in partitions {
            *unstable.entry(partition.clone()).or_default() += 1;
        }
    }

    /// Takes up what is in the log now, behind everything that was taken up before.
    pub(super) fn written(
        &mut self,
        producer_id: i64,
        group: &Arc<str>,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) {
        for (partition, committed) in offsets {
            self.place += 1;
            let place = self.place;
            let commits = self.written.entry(producer_id).or_default();
            let key = (Arc::clone(group), partition.clone());
            if commits.insert(key, Written { place, committed }).is_some() {
                self.settle(group, &partition);
            }
        }
    }

    /// Forgets what did not get into the log.
    pub(super) fn failed<'a>(
        &mut self,
        group: &Arc<str>,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) {
        for partition in partitions {
            self.settle(group, partition);
        }
    }

    /// Ends the transaction of a producer; returns the offsets that count from now on.
    pub(super) fn end(&mut self, producer_id: i64, committed: bool) -> Vec<GroupOffset> {
        let commits = self.written.remove(&producer_id).unwrap_or_default();
        let mut count = Vec::new();
        for ((group, partition), written) in commits {
            self.settle(&group, &partition);
            if committed {
                self.supersede(&group, &partition, written.place);
                count.push((group, partition, written.committed));
            }
        }
        count
    }

    /// Forgets what is in the log about a partition: behind it stands what counts already.
    pub(super) fn superseded(&mut self, group: &str, partition: &TopicPartition) {
        self.supersede(group, partition, u64::MAX);
    }

    /// Forgets what is in the log about a group, likewise.
    pub(super) fn group_superseded(&mut self, group: &str) {
        let partitions: Vec<TopicPartition> = self.partitions_of(group).cloned().collect();
        for partition in partitions {
            self.superseded(group, &partition);
        }
    }

    fn supersede(&mut self, group: &str, partition: &TopicPartition, place: u64) {
        if !self.is_unstable(group, partition) {
            return;
        }
        let key = (Arc::from(group), partition.clone());
        let mut forgotten = 0;
        self.written.retain(|_, commits| {
            if commits.get(&key).is_some_and(|one| one.place < place) {
                commits.remove(&key);
                forgotten += 1;
            }
            !commits.is_empty()
        });
        for _ in 0..forgotten {
            self.settle(group, partition);
        }
    }

    fn settle(&mut self, group: &str, partition: &TopicPartition) {
        let Some(partitions) = self.unstable.get_mut(group) else {
            return;
        };
        if let Some(count) = partitions.get_mut(partition) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                partitions.remove(partition);
            }
        }
        if partitions.is_empty() {
            self.unstable.remove(group);
        }
    }

    /// Tells whether an offset of the group may change when a transaction ends.
    pub(super) fn is_unstable(&self, group: &str, partition: &TopicPartition) -> bool {
        let partitions = self.unstable.get(group);
        partitions.is_some_and(|partitions| partitions.contains_key(partition))
    }

    /// Tells whether any offset of the group may.
    pub(super) fn concern(&self, group: &str) -> bool {
        self.unstable.contains_key(group)
    }

    /// Lists the partitions whose offsets may change, with their groups.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (&Arc<str>, &TopicPartition)> {
        let groups = self.unstable.iter();
        groups.flat_map(|(group, partitions)| partitions.keys().map(move |one| (group, one)))
    }

    /// Lists those of a group.
    pub(super) fn partitions_of(&self, group: &str) -> impl Iterator<Item = &TopicPartition> {
        let partitions = self.unstable.get(group).into_iter();
        partitions.flat_map(BTreeMap::keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str) -> TopicPartition {
        (topic.into(), 0)
    }

    fn committed(offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            committed_ms: 0,
            expires_ms: None,
        }
    }

    fn write(open: &mut OpenTransactions, producer_id: i64, topic: &str, offset: i64) {
        let (group, partition) = ("g".into(), partition(topic));
        open.begin(&group, [&partition].into_iter());
        open.written(producer_id, &group, [(partition, committed(offset))]);
    }

    fn end(open: &mut OpenTransactions, producer_id: i64, committed: bool) -> Vec<(String, i64)> {
        let offsets = open.end(producer_id, committed).into_iter();
        let told = offsets.map(|(_, (topic, _), one)| (topic.to_string(), one.offset));
        told.collect()
    }

    #[test]
    fn an_offset_is_unstable_until_its_transaction_ends() {
        let mut open = OpenTransactions::default();
        write(&mut open, 1, "t", 5);
        assert!(open.is_unstable("g", &partition("t")) && !open.is_unstable("g", &partition("u")));
        write(&mut open, 1, "t", 6);
        assert!(open.end(2, true).is_empty());
        assert!(open.is_unstable("g", &partition("t")));
        assert_eq!(end(&mut open, 1, true), [("t".to_owned(), 6)]);
        assert!(!open.concern("g"));
        write(&mut open, 1, "t", 7);
        assert!(end(&mut open, 1, false).is_empty());
        assert!(!open.concern("g"));
    }

    #[test]
    fn what_is_still_on_its_way_belongs_to_no_earlier_marker() {
        let mut open = OpenTransactions::default();
        let group: Arc<str> = "g".into();
        let t = partition("t");
        open.begin(&group, [&t].into_iter());
        assert!(open.end(1, true).is_empty());
        open.superseded("g", &t);
        assert!(open.concern("g"));
        open.failed(&group, [&t].into_iter());
        assert!(!open.concern("g"));
    }

    #[test]
    fn what_is_later_in_the_log_counts() {
        let mut open = OpenTransactions::default();
        write(&mut open, 1, "t", 10);
        write(&mut open, 1, "u", 10);
        write(&mut open, 2, "t", 20);
        write(&mut open, 3, "t", 30);
        assert_eq!(end(&mut open, 2, true), [("t".to_owned(), 20)]);
        assert_eq!(end(&mut open, 1, true), [("u".to_owned(), 10)]);
        assert!(open.is_unstable("g", &partition("t")));
        assert_eq!(end(&mut open, 3, true), [("t".to_owned(), 30)]);
        // An aborted one was never there.
        write(&mut open, 1, "t", 40);
        write(&mut open, 2, "t", 50);
        assert!(end(&mut open, 2, false).is_empty());
        assert_eq!(end(&mut open, 1, true), [("t".to_owned(), 40)]);
    }

    #[test]
    fn what_is_forgotten_is_stable() {
        let mut open = OpenTransactions::default();
        write(&mut open, 1, "t", 10);
        write(&mut open, 2, "t", 20);
        write(&mut open, 2, "u", 20);
        assert_eq!(open.partitions_of("g").count(), 2);
        open.superseded("g", &partition("t"));
        assert!(!open.is_unstable("g", &partition("t")));
        open.group_superseded("g");
        assert_eq!(open.partitions().count(), 0);
        assert!(end(&mut open, 1, true).is_empty() && end(&mut open, 2, true).is_empty());
    }
}
