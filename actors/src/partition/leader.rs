//! A leader's view of its followers: how far they are, who of them is in sync, and the high watermark that follows.
//!
//! Pure: the replica brings the time and the log end offset, the actor has a change of the in-sync set written. While one
//! is on its way nobody knows which of the two sets counts, so the high watermark waits for the members of both
//! ([`maximal`](Leader::maximal)); the number of replicas in sync is that of the written set.

use std::collections::BTreeMap;
use std::time::Duration;

/// What the controller says of a leadership.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leadership<'a> {
    pub(super) leader_epoch: i32,
    /// Version of the partition's state znode.
    pub(super) partition_epoch: i32,
    /// In-sync replicas.
    pub(super) isr: &'a [i32],
    /// All replicas.
    pub(super) replicas: &'a [i32],
    /// `replica.lag.time.max.ms`.
    pub(super) lag_max: Duration,
    /// Monotonic time.
    pub(super) now: Duration,
}

/// A follower's fetch, which says how far it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct FollowerFetch {
    pub(super) broker: i32,
    /// It has everything below.
    pub(super) offset: i64,
    /// Monotonic time.
    pub(super) now: Duration,
}

/// What is known of one follower.
#[derive(Debug, Clone, Copy, Default)]
struct Follower {
    /// Offset up to which it has copied, exclusive; `None` until it first fetches.
    log_end_offset: Option<i64>,
    /// When it last fetched, and where this log ended then.
    last_fetch: Option<(Duration, i64)>,
    /// When it last had everything that was there.
    caught_up: Option<Duration>,
    /// Whether it was caught up recently enough, at the last look, that it may be about to join.
    joining: bool,
}

impl Follower {
    fn fetched(&mut self, fetch: &FollowerFetch, log_end_offset: i64) {
        let caught_up = match self.last_fetch {
            _ if fetch.offset >= log_end_offset => Some(fetch.now),
            // It has all that was there when it asked before.
            Some((at, end)) if fetch.offset >= end => Some(at),
            _ => None,
        };
        self.caught_up = self.caught_up.max(caught_up);
        let end = self
            .last_fetch
            .map_or(log_end_offset, |(_, end)| end.max(log_end_offset));
        self.last_fetch = Some((fetch.now, end));
        self.log_end_offset = Some(fetch.offset);
    }

    /// Tells whether it had everything at most `lag_max` ago.
    fn keeps_up(&self, now: Duration, lag_max: Duration) -> bool {
        self.caught_up
            .is_some_and(|at| now.saturating_sub(at) <= lag_max)
    }
}

/// Whether the in-sync set is known as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It is.
    Settled,
    /// A change is on its way.
    Proposed,
    /// A change may have been written or not; another one may be proposed.
    Doubtful,
    /// A change was refused because of another leadership: there will be orders.
    Superseded,
}

/// Where the followers of one leadership stand.
#[derive(Debug, Clone)]
pub(super) struct Leader {
    broker: i32,
    /// Log end offset when the leadership began: what lies below was written by earlier leaders.
    epoch_start_offset: i64,
    partition_epoch: i32,
    lag_max: Duration,
    /// In-sync replicas as they are written down, the leader included.
    in_sync: Vec<i32>,
    /// These, and those of changes whose end is not known.
    maximal: Vec<i32>,
    change: Change,
    followers: BTreeMap<i32, Follower>,
}

impl Leader {
    /// Starts to lead at `log_end_offset`, nothing known of the followers yet.
    pub(super) fn new(broker: i32, log_end_offset: i64, order: &Leadership<'_>) -> Self {
        let mut leader = Self {
            broker,
            epoch_start_offset: log_end_offset,
            partition_epoch: order.partition_epoch,
            lag_max: order.lag_max,
            in_sync: Vec::new(),
            maximal: Vec::new(),
            change: Change::Settled,
            followers: BTreeMap::new(),
        };
        leader.obey(order);
        leader
    }

    /// Takes the replicas of an order; how far those are that stay is still known. An order that is older than what is
    /// known of the in-sync set changes nothing.
    pub(super) fn obey(&mut self, order: &Leadership<'_>) {
        if order.partition_epoch < self.partition_epoch {
            return;
        }
        if order.partition_epoch > self.partition_epoch {
            self.change = Change::Settled;
        }
        self.partition_epoch = order.partition_epoch;
        self.in_sync = order.isr.to_vec();
        if !self.in_sync.contains(&self.broker) {
            self.in_sync.push(self.broker);
        }
        self.widen();
        let followers = order.replicas.iter().filter(|&&id| id != self.broker);
        self.followers = followers
            .map(|&id| {
                let known = self.followers.get(&id).copied().unwrap_or_default();
                // Who is not in sync, as the controller says, has to catch up anew before anybody waits for it.
                let caught_up = self.in_sync.contains(&id).then_some(order.now);
                let follower = Follower {
                    caught_up,
                    joining: false,
                    ..known
                };
                (id, follower)
            })
            .collect();
    }

    /// Takes over from a leadership of the same epoch that was interrupted: what it proposed may still be written.
    pub(super) fn succeed(&mut self, before: &Leader) {
        if before.change != Change::Settled && before.partition_epoch == self.partition_epoch {
            self.changing_to(&before.maximal);
            self.change = Change::Doubtful;
        }
    }

    /// Makes the maximal set that of the replicas in sync, and of changes whose end is not known.
    fn widen(&mut self) {
        if self.change == Change::Settled {
            self.maximal.clear();
        }
        for id in &self.in_sync {
            if !self.maximal.contains(id) {
                self.maximal.push(*id);
            }
        }
    }

    /// Returns where this leadership began.
    pub(super) fn epoch_start_offset(&self) -> i64 {
        self.epoch_start_offset
    }

    /// Returns the version of the partition's state that the in-sync set is of.
    pub(super) fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Returns how many replicas are in sync, the leader included.
    pub(super) fn in_sync_count(&self) -> usize {
        self.in_sync.len()
    }

    /// Returns the replicas that the high watermark waits for whatever they do.
    #[cfg(test)]
    pub(super) fn maximal(&self) -> &[i32] {
        &self.maximal
    }

    /// Tells whether there are other replicas.
    pub(super) fn has_followers(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Tells whether a broker has a replica.
    pub(super) fn is_follower(&self, broker: i32) -> bool {
        self.followers.contains_key(&broker)
    }

    /// Takes note of a follower's fetch.
    pub(super) fn follower_fetched(&mut self, fetch: &FollowerFetch, log_end_offset: i64) {
        if let Some(follower) = self.followers.get_mut(&fetch.broker) {
            follower.fetched(fetch, log_end_offset);
            follower.joining = follower.keeps_up(fetch.now, self.lag_max);
        }
    }

    /// Returns the offset below which every replica that counts has everything; `None` while one of them is unheard of.
    ///
    /// Those count that are or may be in sync, and those that keep up and so are about to be: else they would run after
    /// the high watermark for ever.
    pub(super) fn replicated_up_to(&self, log_end_offset: i64) -> Option<i64> {
        let mut least = log_end_offset;
        for id in self.maximal.iter().filter(|&&id| id != self.broker) {
            least = least.min(self.followers.get(id)?.log_end_offset?);
        }
        let joining = self.followers.values().filter(|follower| follower.joining);
        let ends = joining.filter_map(|follower| follower.log_end_offset);
        Some(ends.fold(least, i64::min))
    }

    /// Returns the in-sync set with a follower that has reached the high watermark and the start of this leadership.
    pub(super) fn expanded(&self, broker: i32, high_watermark: i64) -> Option<Vec<i32>> {
        if !self.may_propose() || self.in_sync.contains(&broker) {
            return None;
        }
        let end = self.followers.get(&broker)?.log_end_offset?;
        (end >= high_watermark.max(self.epoch_start_offset)).then(|| {
            let mut isr = self.in_sync.clone();
            isr.push(broker);
            isr
        })
    }

    /// Returns the in-sync set without those that did not keep up; looks at the others as well.
    pub(super) fn shrunk(&mut self, now: Duration, log_end_offset: i64) -> Option<Vec<i32>> {
        let lag_max = self.lag_max;
        for follower in self.followers.values_mut() {
            follower.joining &= follower.keeps_up(now, lag_max);
        }
        if !self.may_propose() {
            return None;
        }
        let stays = |id: &&i32| {
            **id == self.broker
                || self.followers.get(id).is_some_and(|follower| {
                    follower.log_end_offset == Some(log_end_offset)
                        || follower.keeps_up(now, lag_max)
                })
        };
        let isr: Vec<i32> = self.in_sync.iter().filter(stays).copied().collect();
        // Who was to join by a change whose end is not known, and has not kept up, would be waited for without end: written
        // once more, the set is known again.
        let mut may_be_in_sync = self.maximal.iter();
        let awaited_in_vain = self.change == Change::Doubtful
            && may_be_in_sync.any(|id| !self.in_sync.contains(id) && !stays(&id));
        (awaited_in_vain || isr.len() < self.in_sync.len()).then_some(isr)
    }

    fn may_propose(&self) -> bool {
        matches!(self.change, Change::Settled | Change::Doubtful)
    }

    /// Takes note that a change is on its way.
    pub(super) fn changing_to(&mut self, isr: &[i32]) {
        self.change = Change::Proposed;
        for id in isr {
            if !self.maximal.contains(id) {
                self.maximal.push(*id);
            }
        }
    }

    /// Takes the in-sync set as it is written down now.
    pub(super) fn changed(&mut self, partition_epoch: i32, isr: Vec<i32>) {
        // What an order said meanwhile is newer.
        if partition_epoch > self.partition_epoch {
            (self.partition_epoch, self.in_sync) = (partition_epoch, isr);
            self.change = Change::Settled;
            self.widen();
        }
    }

    /// Takes note that the change of the set of `partition_epoch` is not known to be written. Unless another leadership
    /// was the reason, it is proposed again.
    pub(super) fn refused(&mut self, partition_epoch: i32, superseded: bool) {
        // The maximal set stays as it is: the change may have been written after all.
        if self.change == Change::Proposed && partition_epoch == self.partition_epoch {
            self.change = match superseded {
                true => Change::Superseded,
                false => Change::Doubtful,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Duration = Duration::from_secs(30);

    fn order(isr: &'static [i32], partition_epoch: i32, now: u64) -> Leadership<'static> {
        Leadership {
            leader_epoch: 5,
            partition_epoch,
            isr,
            replicas: &[1, 2, 3],
            lag_max: LAG,
            now: Duration::from_secs(now),
        }
    }

    fn leading(isr: &'static [i32]) -> Leader {
        Leader::new(1, 10, &order(isr, 7, 0))
    }

    fn fetch(leader: &mut Leader, broker: i32, offset: i64, now: u64, end: i64) {
        let now = Duration::from_secs(now);
        let fetch = FollowerFetch {
            broker,
            offset,
            now,
        };
        leader.follower_fetched(&fetch, end);
    }

    #[test]
    fn who_does_not_catch_up_in_time_falls_out() {
        let mut leader = leading(&[1, 2, 3]);
        let shrunk = |leader: &mut Leader, now| leader.shrunk(Duration::from_secs(now), 20);
        fetch(&mut leader, 2, 10, 10, 10);
        fetch(&mut leader, 3, 5, 10, 10);
        assert_eq!(shrunk(&mut leader, 30), None, "all were in sync at 0");
        assert_eq!(shrunk(&mut leader, 31), Some(vec![1, 2]));
        // At 35 it had all that was there at 10, which counts from 10.
        fetch(&mut leader, 3, 10, 35, 20);
        assert_eq!(shrunk(&mut leader, 40), None);
        assert_eq!(shrunk(&mut leader, 41), Some(vec![1]));
        fetch(&mut leader, 2, 20, 41, 20);
        assert_eq!(
            shrunk(&mut leader, 1000),
            Some(vec![1, 2]),
            "who has everything needs not ask"
        );
    }

    #[test]
    fn who_reaches_the_high_watermark_and_the_epochs_start_joins() {
        let mut leader = leading(&[1, 2]);
        assert_eq!(leader.expanded(3, 0), None, "it was never heard of");
        fetch(&mut leader, 3, 9, 1, 20);
        assert_eq!(leader.expanded(3, 5), None, "before the epoch's start");
        fetch(&mut leader, 3, 12, 1, 20);
        assert_eq!(leader.expanded(3, 13), None, "below the high watermark");
        assert_eq!(leader.expanded(3, 12), Some(vec![1, 2, 3]));
        assert_eq!(leader.expanded(2, 0), None, "it is in sync");
        assert_eq!(leader.expanded(4, 0), None, "it is no replica");
    }

    #[test]
    fn while_a_change_is_on_its_way_both_sets_count() {
        let mut leader = leading(&[1, 2]);
        fetch(&mut leader, 2, 20, 1, 20);
        fetch(&mut leader, 3, 12, 1, 20);
        assert_eq!(leader.replicated_up_to(20), Some(20));
        leader.changing_to(&[1, 2, 3]);
        assert_eq!(leader.replicated_up_to(20), Some(12));
        assert_eq!(leader.in_sync_count(), 2, "what is written counts here");
        assert_eq!(leader.shrunk(Duration::from_secs(99), 30), None);
        leader.changed(8, vec![1, 2, 3]);
        assert_eq!((leader.in_sync_count(), leader.partition_epoch()), (3, 8));
        leader.changing_to(&[1, 2]);
        assert_eq!(leader.replicated_up_to(20), Some(12));
        leader.changed(9, vec![1, 2]);
        assert_eq!(leader.replicated_up_to(20), Some(20));
    }

    #[test]
    fn a_change_of_unknown_end_keeps_the_maximal_set() {
        let mut leader = leading(&[1, 2]);
        fetch(&mut leader, 3, 10, 1, 10);
        leader.changing_to(&[1, 2, 3]);
        leader.refused(6, true);
        assert_eq!(leader.expanded(3, 0), None, "another change was refused");
        leader.refused(7, false);
        leader.obey(&order(&[1, 2], 7, 1));
        assert_eq!(leader.maximal(), [1, 2, 3], "an order as old ends no doubt");
        let shrunk = leader.shrunk(Duration::from_secs(32), 10);
        assert_eq!(shrunk, Some(vec![1]), "the next change may be tried");
        leader.changing_to(&[1]);
        leader.refused(7, true);
        assert_eq!(leader.shrunk(Duration::from_secs(33), 10), None);
        leader.obey(&order(&[1, 3], 9, 40));
        assert_eq!(leader.maximal(), [1, 3], "a newer one does");
        assert_eq!(leader.shrunk(Duration::from_secs(41), 20), None);
        leader.changed(8, vec![1, 2, 3]);
        leader.obey(&order(&[1, 2], 8, 41));
        assert_eq!(leader.maximal(), [1, 3], "what is older is not believed");
    }

    #[test]
    fn what_was_proposed_before_an_interruption_may_still_be_written() {
        let mut before = leading(&[1, 2]);
        before.changing_to(&[1, 2, 3]);
        let mut again = leading(&[1, 2]);
        again.succeed(&before);
        assert_eq!(again.maximal(), [1, 2, 3]);
        let mut newer = Leader::new(1, 10, &order(&[1, 2], 8, 0));
        newer.succeed(&before);
        assert_eq!(newer.maximal(), [1, 2], "it can't be written any more");
    }

    #[test]
    fn who_may_have_joined_and_does_not_keep_up_is_not_waited_for_without_end() {
        let mut leader = leading(&[1, 2]);
        fetch(&mut leader, 2, 10, 1, 10);
        fetch(&mut leader, 3, 10, 1, 10);
        leader.changing_to(&[1, 2, 3]);
        leader.refused(7, false);
        fetch(&mut leader, 2, 20, 20, 20);
        assert_eq!(leader.shrunk(Duration::from_secs(21), 20), None);
        fetch(&mut leader, 2, 30, 40, 30);
        assert_eq!(leader.replicated_up_to(30), Some(10));
        let again = leader.shrunk(Duration::from_secs(41), 30);
        assert_eq!(again.as_deref(), Some(&[1, 2][..]));
        leader.changing_to(&[1, 2]);
        leader.changed(8, vec![1, 2]);
        assert_eq!(leader.maximal(), [1, 2]);
        assert_eq!(leader.replicated_up_to(30), Some(30));
    }

    #[test]
    fn the_high_watermark_waits_for_who_is_about_to_join() {
        let mut leader = leading(&[1, 2]);
        fetch(&mut leader, 2, 30, 1, 30);
        fetch(&mut leader, 3, 10, 1, 30);
        assert_eq!(leader.replicated_up_to(30), Some(30), "3 is far behind");
        fetch(&mut leader, 3, 30, 2, 31);
        assert_eq!(leader.replicated_up_to(31), Some(30));
        fetch(&mut leader, 2, 50, 3, 50);
        assert_eq!(leader.replicated_up_to(50), Some(30), "3 was there lately");
        leader.shrunk(Duration::from_secs(40), 50);
        assert_eq!(leader.replicated_up_to(50), Some(50), "3 stays away");
        // An order that leaves somebody out is not waited for.
        fetch(&mut leader, 3, 50, 41, 50);
        leader.obey(&order(&[1, 2], 9, 42));
        fetch(&mut leader, 2, 60, 43, 60);
        assert_eq!(leader.replicated_up_to(60), Some(60));
    }
}
