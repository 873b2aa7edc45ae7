//! A leader's view of its followers, and the high watermark that follows from it.
//!
//! Pure: the replica brings the log end offset and keeps the result.

use std::collections::{BTreeMap, BTreeSet};

/// Where the followers of one leadership stand.
#[derive(Debug, Clone)]
pub(super) struct Leader {
    /// Log end offset when the leadership began: what lies below was written by earlier leaders.
    epoch_start_offset: i64,
    /// In-sync replicas, the leader included.
    in_sync: BTreeSet<i32>,
    /// Offset up to which each other replica has copied, exclusive; `None` until it first fetches.
    followers: BTreeMap<i32, Option<i64>>,
}

impl Leader {
    /// Starts to lead at `log_end_offset`, nothing known of the followers yet.
    pub(super) fn new(broker: i32, log_end_offset: i64, isr: &[i32], replicas: &[i32]) -> Self {
        let mut leader = Self {
            epoch_start_offset: log_end_offset,
            in_sync: BTreeSet::new(),
            followers: BTreeMap::new(),
        };
        leader.set_replicas(broker, isr, replicas);
        leader
    }

    /// Takes a new set of replicas; what is known of those that stay is kept.
    pub(super) fn set_replicas(&mut self, broker: i32, isr: &[i32], replicas: &[i32]) {
        self.in_sync = isr.iter().copied().chain([broker]).collect();
        self.followers = replicas
            .iter()
            .filter(|&&id| id != broker)
            .map(|&id| (id, self.followers.get(&id).copied().flatten()))
            .collect();
    }

    /// Returns where this leadership began.
    pub(super) fn epoch_start_offset(&self) -> i64 {
        self.epoch_start_offset
    }

    /// Returns how many replicas are in sync, the leader included.
    pub(super) fn in_sync_count(&self) -> usize {
        self.in_sync.len()
    }

    /// Takes a follower's fetch at `fetch_offset` as the word that it has everything below.
    pub(super) fn follower_fetched(&mut self, broker: i32, fetch_offset: i64) {
        if let Some(progress) = self.followers.get_mut(&broker) {
            *progress = Some(fetch_offset);
        }
    }

    /// Returns the offset below which every in-sync replica has everything; `None` while one of them is unheard of.
    pub(super) fn replicated_up_to(&self, broker: i32, log_end_offset: i64) -> Option<i64> {
        let mut least = log_end_offset;
        for id in self.in_sync.iter().filter(|&&id| id != broker) {
            least = least.min(self.followers.get(id).copied().flatten()?);
        }
        Some(least)
    }
}
