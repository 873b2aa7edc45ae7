//! Offsets that are committed in transactions which are still open.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::offsets::{CommittedOffset, TopicPartition};

/// What one transaction commits, by group.
pub(super) type Commits = BTreeMap<Arc<str>, BTreeMap<TopicPartition, CommittedOffset>>;

/// Keeps offsets of open transactions: they count when the transaction is committed, and until it is ended nobody can
/// tell where the group has come to.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions {
    /// What is in the log, by producer id.
    written: BTreeMap<i64, Commits>,
    /// How many offsets of a partition are in the log or on their way there.
    unstable: BTreeMap<Arc<str>, BTreeMap<TopicPartition, usize>>,
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

    /// Takes up what is in the log now.
    pub(super) fn written(
        &mut self,
        producer_id: i64,
        group: &Arc<str>,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) {
        for (partition, committed) in offsets {
            let commits = self.written.entry(producer_id).or_default();
            let offsets = commits.entry(Arc::clone(group)).or_default();
            if offsets.insert(partition.clone(), committed).is_some() {
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

    /// Ends the transaction of a producer; returns what it committed.
    pub(super) fn end(&mut self, producer_id: i64) -> Commits {
        let commits = self.written.remove(&producer_id).unwrap_or_default();
        for (group, offsets) in &commits {
            for partition in offsets.keys() {
                self.settle(group, partition);
            }
        }
        commits
    }

    fn settle(&mut self, group: &Arc<str>, partition: &TopicPartition) {
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

    #[test]
    fn an_offset_is_unstable_until_its_transaction_ends() {
        let mut open = OpenTransactions::default();
        let group: Arc<str> = "g".into();
        let t = partition("t");
        open.begin(&group, [&t].into_iter());
        assert!(open.is_unstable("g", &t) && !open.is_unstable("g", &partition("u")));
        open.written(1, &group, vec![(t.clone(), committed(5))]);
        // The same once more.
        open.begin(&group, [&t].into_iter());
        open.written(1, &group, vec![(t.clone(), committed(6))]);
        assert!(open.end(2).is_empty());
        assert!(open.is_unstable("g", &t));
        assert_eq!(open.end(1)["g"][&t], committed(6));
        assert!(!open.is_unstable("g", &t) && !open.concern("g"));
    }

    #[test]
    fn what_is_still_on_its_way_belongs_to_no_earlier_marker() {
        let mut open = OpenTransactions::default();
        let group: Arc<str> = "g".into();
        let t = partition("t");
        open.begin(&group, [&t].into_iter());
        assert!(open.end(1).is_empty());
        assert!(open.concern("g"));
        open.failed(&group, [&t].into_iter());
        assert!(!open.concern("g"));
    }
}
