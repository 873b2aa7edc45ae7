//! Committed offsets of one group: what they are, and when they expire.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;

/// Where a group has come to in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// Epoch of the last record that was read, -1 when unknown (KIP-320).
    pub leader_epoch: i32,
    /// A note of the consumer's own.
    pub metadata: Arc<str>,
    /// When it was committed, milliseconds since the epoch.
    pub committed_ms: i64,
    /// When it expires, if the consumer said so (versions 2 to 4 of OffsetCommit).
    pub expires_ms: Option<i64>,
}

/// Names a partition of a topic.
pub type TopicPartition = (Arc<str>, i32);

/// Checks the note beside an offset.
///
/// # Errors
/// OFFSET_METADATA_TOO_LARGE when it is longer than `max_bytes` (`offset.metadata.max.bytes`).
pub fn check_metadata(metadata: &str, max_bytes: usize) -> Result<(), ErrorCode> {
    // A record's strings have lengths of 16 bits, whatever the limit says.
    let limit = max_bytes.min(i16::MAX.unsigned_abs().into());
    if metadata.len() > limit {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    Ok(())
}

/// From when the retention of offsets counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainedFrom {
    /// Every offset from this moment, milliseconds since the epoch: when the group became empty.
    Moment(i64),
    /// Each from its own commit.
    Commit,
}

/// The committed offsets of a group.
#[derive(Debug, Clone, Default)]
pub struct Offsets {
    by_partition: BTreeMap<TopicPartition, CommittedOffset>,
}

impl Offsets {
    /// Stores an offset over an earlier one.
    pub fn put(&mut self, partition: TopicPartition, committed: CommittedOffset) {
        self.by_partition.insert(partition, committed);
    }

    /// Forgets an offset.
    pub fn remove(&mut self, partition: &TopicPartition) {
        self.by_partition.remove(partition);
    }

    /// Returns an offset.
    pub fn get(&self, partition: &TopicPartition) -> Option<&CommittedOffset> {
        self.by_partition.get(partition)
    }

    /// Lists the offsets by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &CommittedOffset)> {
        self.by_partition.iter()
    }

    /// Tells whether nothing is committed.
    pub fn is_empty(&self) -> bool {
        self.by_partition.is_empty()
    }

    /// Lists the offsets that have expired at `now_ms`, except for those of topics that are still subscribed.
    pub fn expired(
        &self,
        from: RetainedFrom,
        retention_ms: i64,
        now_ms: i64,
        subscribed: &BTreeSet<String>,
    ) -> Vec<TopicPartition> {
        let has_expired = |committed: &CommittedOffset| match committed.expires_ms {
            Some(expires_ms) => now_ms >= expires_ms,
            None => {
                let start_ms = match from {
                    RetainedFrom::Moment(moment_ms) => moment_ms,
                    RetainedFrom::Commit => committed.committed_ms,
                };
                now_ms.saturating_sub(start_ms) >= retention_ms
            }
        };
        self.by_partition
            .iter()
            .filter(|((topic, _), committed)| {
                !subscribed.contains(&**topic) && has_expired(committed)
            })
            .map(|(partition, _)| partition.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(committed_ms: i64, expires_ms: Option<i64>) -> CommittedOffset {
        CommittedOffset {
            offset: 1,
            leader_epoch: -1,
            metadata: "".into(),
            committed_ms,
            expires_ms,
        }
    }

    fn offsets(entries: &[(&str, CommittedOffset)]) -> Offsets {
        let mut offsets = Offsets::default();
        for (topic, committed) in entries {
            offsets.put(((*topic).into(), 0), committed.clone());
        }
        offsets
    }

    #[test]
    fn a_note_may_be_as_long_as_the_limit() {
        assert_eq!(check_metadata("four", 4), Ok(()));
        assert_eq!(
            check_metadata("fives", 4),
            Err(ErrorCode::OffsetMetadataTooLarge)
        );
        assert_eq!(
            check_metadata(&"x".repeat(32_768), usize::MAX),
            Err(ErrorCode::OffsetMetadataTooLarge)
        );
    }

    #[test]
    fn retention_counts_from_the_given_moment() {
        let offsets = offsets(&[("old", committed(0, None)), ("new", committed(90, None))]);
        let expired = |from, now_ms| {
            let none = BTreeSet::new();
            let expired = offsets.expired(from, 100, now_ms, &none);
            expired
                .iter()
                .map(|(topic, _)| topic.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(expired(RetainedFrom::Commit, 99), [""; 0]);
        assert_eq!(expired(RetainedFrom::Commit, 100), ["old"]);
        assert_eq!(expired(RetainedFrom::Moment(50), 149), [""; 0]);
        assert_eq!(expired(RetainedFrom::Moment(50), 150), ["new", "old"]);
    }

    #[test]
    fn an_offset_with_a_time_of_its_own_keeps_to_it() {
        let offsets = offsets(&[("t", committed(0, Some(500)))]);
        let expired = |now_ms| offsets.expired(RetainedFrom::Commit, 100, now_ms, &BTreeSet::new());
        assert!(expired(499).is_empty());
        assert_eq!(expired(500).len(), 1);
    }

    #[test]
    fn offsets_of_subscribed_topics_stay() {
        let offsets = offsets(&[("t", committed(0, None)), ("u", committed(0, None))]);
        let subscribed = BTreeSet::from(["t".to_owned()]);
        let expired = offsets.expired(RetainedFrom::Commit, 100, 1000, &subscribed);
        assert_eq!(expired, [(Arc::from("u"), 0)]);
    }
}
