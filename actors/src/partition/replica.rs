//! The state of one replica beside its log: role, leader epoch, offsets, and what they allow.
//!
//! Pure: the caller writes and reads the log, and reports here where it ends.

use std::ops::Range;
use std::time::Duration;

use troupe_protocol::kafka::errors::ErrorCode;

use super::leader::{FollowerFetch, Leader, Leadership};
use super::messages::{Acks, Progress, Reader};

/// What a replica does for its partition.
#[derive(Debug, Clone)]
enum Role {
    /// Not told yet.
    Unassigned,
    /// Led, and was told to resign.
    Resigned(Leader),
    /// Takes writes and serves reads.
    Leader(Leader),
    /// Copies the leader's log.
    Follower,
}

/// One replica of one partition.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    broker: i32,
    role: Role,
    leader_epoch: i32,
    leaderships: u64,
    log_start_offset: i64,
    log_end_offset: i64,
    high_watermark: i64,
    /// First offset of the oldest transaction that is not over below the high watermark, or any offset above that.
    last_stable_offset: i64,
    min_in_sync: usize,
    appended_bytes: u64,
    failed: bool,
}

/// What a log holds: from the first offset still there to the one that the next record gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogBounds {
    /// First offset that is still there.
    pub(super) start: i64,
    /// Offset that the next record will get.
    pub(super) end: i64,
}

impl Replica {
    /// Describes the replica on `broker` of a log that was just opened; `high_watermark` as it was last known, 0 for
    /// never.
    pub(super) fn new(broker: i32, log: LogBounds, high_watermark: i64) -> Self {
        Self {
            broker,
            role: Role::Unassigned,
            leader_epoch: -1,
            leaderships: 0,
            log_start_offset: log.start,
            log_end_offset: log.end,
            high_watermark: high_watermark.clamp(log.start, log.end.max(log.start)),
            last_stable_offset: i64::MAX,
            min_in_sync: 1,
            appended_bytes: 0,
            failed: false,
        }
    }

    /// Takes what a rebuilt log holds, in place of what was believed of the one before.
    pub(super) fn replace_log(&mut self, log: LogBounds) {
        self.log_start_offset = log.start;
        self.log_end_offset = log.end;
        self.high_watermark = self.high_watermark.clamp(log.start, log.end.max(log.start));
        self.last_stable_offset = i64::MAX;
        self.advance();
    }

    /// Sets `min.insync.replicas`.
    pub(super) fn set_min_in_sync(&mut self, min_in_sync: usize) {
        self.min_in_sync = min_in_sync;
        self.advance();
    }

    /// Leads from now on. An older epoch than the known one is FENCED_LEADER_EPOCH; the same one only changes the
    /// replicas. Returns whether a new leadership began.
    pub(super) fn lead(&mut self, order: &Leadership<'_>) -> Result<bool, ErrorCode> {
        if order.leader_epoch < self.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        let begins = match &mut self.role {
            Role::Leader(leader) if order.leader_epoch == self.leader_epoch => {
                leader.obey(order);
                false
            }
            role => {
                let mut leader = Leader::new(self.broker, self.log_end_offset, order);
                if let Role::Resigned(before) = role
                    && order.leader_epoch == self.leader_epoch
                {
                    leader.succeed(before);
                }
                *role = Role::Leader(leader);
                self.leader_epoch = order.leader_epoch;
                self.leaderships += 1;
                true
            }
        };
        self.advance();
        Ok(begins)
    }

    /// Leads no more. The epoch stays known: an older leadership is refused still, the same one may begin again.
    pub(super) fn resign(&mut self) {
        self.role = match std::mem::replace(&mut self.role, Role::Unassigned) {
            Role::Leader(leader) => Role::Resigned(leader),
            other => other,
        };
    }

    /// Follows from now on. An older epoch than the known one is FENCED_LEADER_EPOCH, and so is the one in which this
    /// replica leads. Returns whether that is news.
    pub(super) fn follow(&mut self, leader_epoch: i32) -> Result<bool, ErrorCode> {
        let same = leader_epoch == self.leader_epoch;
        if leader_epoch < self.leader_epoch || (same && self.check_leader().is_ok()) {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        let follows = same && matches!(self.role, Role::Follower);
        (self.role, self.leader_epoch) = (Role::Follower, leader_epoch);
        Ok(!follows)
    }

    /// Checks that this replica follows in an epoch and can write: NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH,
    /// UNKNOWN_LEADER_EPOCH, KAFKA_STORAGE_ERROR.
    pub(super) fn check_follower(&self, leader_epoch: i32) -> Result<(), ErrorCode> {
        if !matches!(self.role, Role::Follower) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        self.check_epoch(leader_epoch)?;
        match self.failed {
            true => Err(ErrorCode::KafkaStorageError),
            false => Ok(()),
        }
    }

    /// Takes the leader's high watermark, as far as this log goes. It does not go back when another leader does not
    /// know yet how far its predecessor was.
    pub(super) fn leader_has_replicated(&mut self, high_watermark: i64) {
        let known = high_watermark.min(self.log_end_offset);
        self.high_watermark = self.high_watermark.max(known);
    }

    /// Takes what is left of the log after a truncation. Returns what was lost of that below the high watermark.
    pub(super) fn truncated(&mut self, log: LogBounds) -> Option<Range<i64>> {
        let lost = log.end..self.high_watermark;
        self.replace_log(log);
        (!lost.is_empty()).then_some(lost)
    }

    /// Checks the leader epoch that a client or follower believes in (KIP-320); -1 is no belief.
    /// An older one is FENCED_LEADER_EPOCH, a newer one UNKNOWN_LEADER_EPOCH.
    pub(super) fn check_epoch(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        match current_leader_epoch {
            -1 => Ok(()),
            epoch if epoch < self.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > self.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// Checks that this replica leads: NOT_LEADER_OR_FOLLOWER.
    pub(super) fn check_leader(&self) -> Result<(), ErrorCode> {
        self.leader().map(|_| ())
    }

    /// Checks that a batch may be written: this replica leads (NOT_LEADER_OR_FOLLOWER), no write failed before
    /// (KAFKA_STORAGE_ERROR), and for acks=all enough replicas are in sync (NOT_ENOUGH_REPLICAS).
    pub(super) fn check_append(&self, acks: Acks) -> Result<(), ErrorCode> {
        let leader = self.leader()?;
        if self.failed {
            return Err(ErrorCode::KafkaStorageError);
        }
        if acks == Acks::All && leader.in_sync_count() < self.min_in_sync {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        Ok(())
    }

    /// Takes note that the log now ends at `log_end_offset`.
    pub(super) fn appended(&mut self, log_end_offset: i64, bytes: u64) {
        self.log_end_offset = log_end_offset;
        self.appended_bytes = self.appended_bytes.saturating_add(bytes);
        self.advance();
    }

    /// Takes note that a write failed: no more are accepted. Returns whether that is news.
    pub(super) fn fail(&mut self) -> bool {
        !std::mem::replace(&mut self.failed, true)
    }

    /// Takes note that the log now starts at `log_start_offset`.
    pub(super) fn log_starts_at(&mut self, log_start_offset: i64) {
        self.log_start_offset = self.log_start_offset.max(log_start_offset);
        self.high_watermark = self.high_watermark.max(self.log_start_offset);
    }

    /// Takes a follower's fetch as the word that it has everything below.
    pub(super) fn follower_fetches(&mut self, fetch: &FollowerFetch) {
        if let Role::Leader(leader) = &mut self.role {
            leader.follower_fetched(fetch, self.log_end_offset);
            self.advance();
        }
    }

    /// Tells whether this replica leads others.
    pub(super) fn has_followers(&self) -> bool {
        self.leader().is_ok_and(Leader::has_followers)
    }

    /// Returns the version of the partition's state that the in-sync set is of, -1 unless this replica leads.
    pub(super) fn partition_epoch(&self) -> i32 {
        self.leader().map_or(-1, Leader::partition_epoch)
    }

    /// Returns the in-sync set with a follower that may join it.
    pub(super) fn expanded_isr(&self, broker: i32) -> Option<Vec<i32>> {
        self.leader().ok()?.expanded(broker, self.high_watermark)
    }

    /// Returns the in-sync set without the followers that lag.
    pub(super) fn shrunk_isr(&mut self, now: Duration) -> Option<Vec<i32>> {
        let Role::Leader(leader) = &mut self.role else {
            return None;
        };
        let shrunk = leader.shrunk(now, self.log_end_offset);
        self.advance();
        shrunk
    }

    /// Takes note that a change of the in-sync set is on its way.
    pub(super) fn isr_changing_to(&mut self, isr: &[i32]) {
        if let Role::Leader(leader) = &mut self.role {
            leader.changing_to(isr);
        }
    }

    /// Takes the in-sync set as it is written down now.
    pub(super) fn isr_changed(&mut self, partition_epoch: i32, isr: Vec<i32>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.changed(partition_epoch, isr);
            self.advance();
        }
    }

    /// Takes note that the change of the set of `partition_epoch` is not known to be written.
    pub(super) fn isr_refused(&mut self, partition_epoch: i32, superseded: bool) {
        if let Role::Leader(leader) = &mut self.role {
            leader.refused(partition_epoch, superseded);
        }
    }

    /// Takes note below which offset every transaction is over; comes after each change of the log or the high watermark.
    pub(super) fn set_last_stable_offset(&mut self, offset: i64) {
        self.last_stable_offset = offset;
    }

    /// Returns what an acks=all producer is told once the high watermark has passed its batch:
    /// NOT_ENOUGH_REPLICAS_AFTER_APPEND when the in-sync set shrank too far meanwhile.
    pub(super) fn check_replicated(&self) -> Result<(), ErrorCode> {
        if self.leader()?.in_sync_count() < self.min_in_sync {
            return Err(ErrorCode::NotEnoughReplicasAfterAppend);
        }
        Ok(())
    }

    /// Returns the first offset that `reader` may not read.
    pub(super) fn bound(&self, reader: Reader) -> i64 {
        match reader {
            Reader::Consumer => self.high_watermark,
            Reader::CommittedConsumer => self.last_stable_offset(),
            Reader::Follower { .. } | Reader::Debug => self.log_end_offset,
        }
    }

    /// Checks that `reader` may read here, believing in `current_leader_epoch`. A follower that is none of this leader's
    /// is UNKNOWN_LEADER_EPOCH, without a belief NOT_LEADER_OR_FOLLOWER.
    pub(super) fn check_reader(
        &self,
        reader: Reader,
        current_leader_epoch: i32,
    ) -> Result<(), ErrorCode> {
        self.check_epoch(current_leader_epoch)?;
        match reader {
            Reader::Debug => Ok(()),
            Reader::Follower { broker } if !self.leader()?.is_follower(broker) => {
                // The orders that make it one are on their way to this replica.
                Err(match current_leader_epoch {
                    -1 => ErrorCode::NotLeaderOrFollower,
                    _ => ErrorCode::UnknownLeaderEpoch,
                })
            }
            _ => self.check_leader(),
        }
    }

    /// Checks that an offset is neither below the log start nor above the log end: OFFSET_OUT_OF_RANGE.
    ///
    /// Between a reader's bound and the log end there is nothing to read yet, which is no error.
    pub(super) fn check_offset(&self, offset: i64) -> Result<(), ErrorCode> {
        if (self.log_start_offset..=self.log_end_offset).contains(&offset) {
            Ok(())
        } else {
            Err(ErrorCode::OffsetOutOfRange)
        }
    }

    /// Checks that this leader knows how far its predecessors had replicated: OFFSET_NOT_AVAILABLE until the high
    /// watermark has reached the start of its epoch (KIP-207).
    pub(super) fn check_settled(&self) -> Result<(), ErrorCode> {
        if self.high_watermark < self.leader()?.epoch_start_offset() {
            return Err(ErrorCode::OffsetNotAvailable);
        }
        Ok(())
    }

    /// Finds the new log start for DeleteRecords: `before_offset`, or the high watermark for -1.
    /// OFFSET_OUT_OF_RANGE beyond the high watermark or below 0.
    pub(super) fn delete_before(&self, before_offset: i64) -> Result<i64, ErrorCode> {
        self.check_leader()?;
        match before_offset {
            -1 => Ok(self.high_watermark),
            offset if (0..=self.high_watermark).contains(&offset) => {
                Ok(offset.max(self.log_start_offset))
            }
            _ => Err(ErrorCode::OffsetOutOfRange),
        }
    }

    /// Returns the epoch that this replica leads or follows in, -1 before the first.
    pub(super) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Returns the offset that the next record gets.
    pub(super) fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// Returns the first offset that is still there.
    pub(super) fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// Returns the first offset that consumers may not read yet.
    pub(super) fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Returns the first offset that read_committed consumers may not read yet.
    pub(super) fn last_stable_offset(&self) -> i64 {
        self.last_stable_offset.min(self.high_watermark)
    }

    /// Returns what is published.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            is_leader: matches!(self.role, Role::Leader(_)),
            leader_epoch: self.leader_epoch,
            leaderships: self.leaderships,
            log_start_offset: self.log_start_offset,
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset(),
            log_end_offset: self.log_end_offset,
            appended_bytes: self.appended_bytes,
            failed: self.failed,
        }
    }

    fn leader(&self) -> Result<&Leader, ErrorCode> {
        match &self.role {
            Role::Leader(leader) => Ok(leader),
            Role::Unassigned | Role::Resigned(_) | Role::Follower => {
                Err(ErrorCode::NotLeaderOrFollower)
            }
        }
    }

    /// The high watermark is the least log end offset of the in-sync replicas. It never goes back, and it stands still
    /// while fewer than `min.insync.replicas` are in sync, as in Kafka since 3.7 (KIP-966).
    fn advance(&mut self) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        if leader.in_sync_count() < self.min_in_sync {
            return;
        }
        if let Some(reached) = leader.replicated_up_to(self.log_end_offset) {
            self.high_watermark = self.high_watermark.max(reached.min(self.log_end_offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: LogBounds = LogBounds { start: 0, end: 0 };

    impl Replica {
        fn become_leader(
            &mut self,
            leader_epoch: i32,
            isr: &[i32],
            replicas: &[i32],
        ) -> Result<bool, ErrorCode> {
            self.lead(&Leadership {
                leader_epoch,
                partition_epoch: 0,
                isr,
                replicas,
                lag_max: Duration::ZERO,
                now: Duration::ZERO,
            })
        }

        /// Takes a fetch by a follower that was not caught up any time lately.
        fn follower_fetched(&mut self, broker: i32, offset: i64) {
            self.follower_fetches(&FollowerFetch {
                broker,
                offset,
                now: Duration::ZERO,
            });
            self.shrunk_isr(Duration::from_secs(1));
        }
    }

    fn leading(isr: &[i32]) -> Replica {
        let mut replica = Replica::new(1, EMPTY, 0);
        replica.become_leader(5, isr, isr).unwrap();
        replica
    }

    #[test]
    fn a_lone_leader_has_everything_replicated() {
        let mut replica = leading(&[1]);
        replica.appended(3, 100);
        assert_eq!(replica.high_watermark(), 3);
        assert_eq!(replica.progress().appended_bytes, 100);
    }

    #[test]
    fn the_high_watermark_waits_for_an_unheard_follower() {
        let mut replica = leading(&[1, 2]);
        replica.appended(3, 100);
        assert_eq!(replica.high_watermark(), 0);
        replica.follower_fetched(2, 2);
        assert_eq!(replica.high_watermark(), 2);
        replica
            .become_leader(5, &[1], &[1, 2])
            .expect("the same epoch changes the in-sync set");
        assert_eq!(replica.high_watermark(), 3);
    }

    #[test]
    fn a_replica_without_a_role_takes_nothing() {
        let replica = Replica::new(1, EMPTY, 0);
        assert_eq!(
            replica.check_append(Acks::Leader),
            Err(ErrorCode::NotLeaderOrFollower)
        );
        assert_eq!(
            replica.check_reader(Reader::Consumer, -1),
            Err(ErrorCode::NotLeaderOrFollower)
        );
        assert_eq!(replica.check_reader(Reader::Debug, -1), Ok(()));
    }

    #[test]
    fn an_older_leadership_is_refused() {
        let mut replica = leading(&[1]);
        assert_eq!(
            replica.become_leader(4, &[1], &[1]),
            Err(ErrorCode::FencedLeaderEpoch)
        );
        assert_eq!(replica.become_leader(5, &[1], &[1]), Ok(false));
        assert_eq!(replica.become_leader(6, &[1], &[1]), Ok(true));
        assert_eq!(replica.leader_epoch(), 6);
    }

    #[test]
    fn who_resigned_takes_nothing_and_leads_again_in_the_same_epoch() {
        let mut replica = leading(&[1, 2]);
        replica.appended(3, 100);
        replica.follower_fetched(2, 2);
        replica.resign();
        assert!(!replica.progress().is_leader);
        for acks in [Acks::None, Acks::Leader, Acks::All] {
            assert_eq!(
                replica.check_append(acks),
                Err(ErrorCode::NotLeaderOrFollower)
            );
        }
        assert_eq!(
            replica.check_reader(Reader::Consumer, 5),
            Err(ErrorCode::NotLeaderOrFollower)
        );
        // What a follower says counts for nothing now.
        replica.follower_fetched(2, 3);
        assert_eq!((replica.leader_epoch(), replica.high_watermark()), (5, 2));
        assert_eq!(
            replica.become_leader(4, &[1], &[1]),
            Err(ErrorCode::FencedLeaderEpoch)
        );
        assert_eq!(
            replica.become_leader(5, &[1, 2], &[1, 2]),
            Ok(true),
            "another leadership, though of the same epoch"
        );
        assert_eq!(replica.progress().leaderships, 2);
        assert_eq!(
            replica.check_settled(),
            Err(ErrorCode::OffsetNotAvailable),
            "it begins at the end of the log, and its followers have to be heard anew"
        );
        replica.follower_fetched(2, 3);
        assert_eq!(replica.check_settled(), Ok(()));
        assert_eq!(replica.high_watermark(), 3);
    }

    #[test]
    fn belief_in_another_epoch_is_fenced() {
        let replica = leading(&[1]);
        assert_eq!(replica.check_epoch(-1), Ok(()));
        assert_eq!(replica.check_epoch(5), Ok(()));
        assert_eq!(replica.check_epoch(4), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(replica.check_epoch(6), Err(ErrorCode::UnknownLeaderEpoch));
    }

    #[test]
    fn acks_all_needs_enough_replicas_before_and_after() {
        let mut replica = leading(&[1, 2]);
        replica.set_min_in_sync(2);
        assert_eq!(replica.check_append(Acks::All), Ok(()));
        replica.become_leader(5, &[1], &[1, 2]).unwrap();
        assert_eq!(
            replica.check_append(Acks::All),
            Err(ErrorCode::NotEnoughReplicas)
        );
        assert_eq!(replica.check_append(Acks::Leader), Ok(()));
        assert_eq!(
            replica.check_replicated(),
            Err(ErrorCode::NotEnoughReplicasAfterAppend)
        );
    }

    #[test]
    fn under_min_insync_the_high_watermark_stands() {
        let mut replica = leading(&[1]);
        replica.set_min_in_sync(2);
        replica.appended(3, 1);
        assert_eq!(replica.high_watermark(), 0);
        replica.set_min_in_sync(1);
        assert_eq!(replica.high_watermark(), 3);
    }

    #[test]
    fn after_a_failure_only_reads_are_served() {
        let mut replica = leading(&[1]);
        replica.appended(3, 1);
        assert!(replica.fail());
        assert!(!replica.fail(), "it is news only once");
        assert_eq!(
            replica.check_append(Acks::Leader),
            Err(ErrorCode::KafkaStorageError)
        );
        assert_eq!(replica.check_reader(Reader::Consumer, 5), Ok(()));
        assert_eq!(replica.check_offset(3), Ok(()));
    }

    #[test]
    fn offsets_outside_of_the_log_are_out_of_range() {
        let mut replica = Replica::new(1, LogBounds { start: 5, end: 10 }, 7);
        for (offset, expected) in [
            (4, Err(ErrorCode::OffsetOutOfRange)),
            (5, Ok(())),
            (10, Ok(())),
            (11, Err(ErrorCode::OffsetOutOfRange)),
        ] {
            assert_eq!(replica.check_offset(offset), expected, "{offset}");
        }
        assert_eq!(replica.bound(Reader::Consumer), 7);
        assert_eq!(replica.bound(Reader::Debug), 10);
        replica.log_starts_at(8);
        assert_eq!(
            replica.bound(Reader::Consumer),
            8,
            "the log start is never above the high watermark"
        );
    }

    #[test]
    fn a_new_leader_answers_latest_only_when_settled() {
        let mut replica = Replica::new(1, LogBounds { start: 0, end: 10 }, 7);
        replica.become_leader(1, &[1, 2], &[1, 2]).unwrap();
        assert_eq!(replica.check_settled(), Err(ErrorCode::OffsetNotAvailable));
        replica.follower_fetched(2, 10);
        assert_eq!(replica.check_settled(), Ok(()));
    }

    #[test]
    fn records_are_deleted_up_to_the_high_watermark() {
        let mut replica = Replica::new(1, LogBounds { start: 2, end: 10 }, 7);
        assert_eq!(
            replica.delete_before(-1),
            Err(ErrorCode::NotLeaderOrFollower)
        );
        replica.become_leader(1, &[1, 2], &[1, 2]).unwrap();
        assert_eq!(replica.delete_before(-1), Ok(7));
        assert_eq!(
            replica.delete_before(1),
            Ok(2),
            "below the log start nothing changes"
        );
        assert_eq!(replica.delete_before(7), Ok(7));
        assert_eq!(replica.delete_before(8), Err(ErrorCode::OffsetOutOfRange));
        assert_eq!(replica.delete_before(-2), Err(ErrorCode::OffsetOutOfRange));
    }

    #[test]
    fn the_last_stable_offset_is_the_oldest_open_transaction() {
        let mut replica = leading(&[1]);
        replica.appended(9, 1);
        assert_eq!(replica.bound(Reader::CommittedConsumer), 9);
        replica.set_last_stable_offset(4);
        assert_eq!(replica.bound(Reader::CommittedConsumer), 4);
        replica.set_last_stable_offset(12);
        assert_eq!(replica.bound(Reader::CommittedConsumer), 9);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append(i64),
        Fetch(i32, i64),
        InSync(Vec<i32>),
        DeleteRecords(i64),
        LeadAgain,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1i64..20).prop_map(Step::Append),
            (2i32..4, 0i64..200).prop_map(|(broker, offset)| Step::Fetch(broker, offset)),
            prop::sample::subsequence(vec![2, 3], 0..=2).prop_map(Step::InSync),
            (0i64..200).prop_map(Step::DeleteRecords),
            Just(Step::LeadAgain),
        ]
    }

    proptest! {
        #[test]
        fn the_high_watermark_stays_within_its_bounds(steps in prop::collection::vec(step(), 1..100)) {
            let mut replica = leading(&[1, 2, 3]);
            let mut isr = vec![1, 2, 3];
            let mut copied = std::collections::BTreeMap::from([(2, 0), (3, 0)]);
            for step in steps {
                let before = replica.high_watermark();
                match step {
                    Step::Append(records) => replica.appended(replica.log_end_offset() + records, 1),
                    Step::Fetch(broker, offset) => {
                        // Followers only go forward, and never past the leader.
                        let offset = offset.min(replica.log_end_offset()).max(copied[&broker]);
                        copied.insert(broker, offset);
                        replica.follower_fetched(broker, offset);
                    }
                    Step::InSync(followers) => {
                        // Only a follower that has everything below the high watermark may join.
                        isr = followers
                            .into_iter()
                            .filter(|id| isr.contains(id) || copied[id] >= before)
                            .collect();
                        replica.become_leader(5, &isr, &[1, 2, 3]).unwrap();
                    }
                    Step::DeleteRecords(offset) => {
                        if let Ok(start) = replica.delete_before(offset) {
                            replica.log_starts_at(start);
                        }
                    }
                    Step::LeadAgain => {
                        replica.resign();
                        replica.become_leader(5, &isr, &[1, 2, 3]).unwrap();
                    }
                }
                let now = replica.high_watermark();
                prop_assert!(now >= before, "went back from {before} to {now}");
                prop_assert!(now <= replica.log_end_offset());
                prop_assert!(replica.log_start_offset() <= now);
                for id in isr.iter().filter(|&&id| id != 1) {
                    prop_assert!(now <= copied[id], "broker {id} has not got {now}");
                }
            }
        }
    }
}
