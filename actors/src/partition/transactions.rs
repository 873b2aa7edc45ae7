//! The transactions that producers have open in a partition, or are about to open.
//!
//! The partition and the connections share this. A batch that begins a transaction is appended only when the coordinator
//! says that the partition is in that transaction, and no marker came in between (KIP-890): otherwise a late batch would
//! begin one that nobody ends. The connection asks the coordinator, before it hands the batch over. So it is with offsets
//! that a group's coordinator appends for a producer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::BatchHeader;

use crate::log::producers::Producers;

/// How many producers may be verified at once in a partition. Beyond that the oldest one is forgotten, as if it had expired:
/// whoever asks for ever more guards must not fill the memory.
const MAX_VERIFYING: usize = 10_000;

/// How it is known that the transaction of a client's batch is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// It has not to be known: the batch is in none, or nobody checks.
    NotNeeded,
    /// It was open in the partition.
    Ongoing,
    /// The coordinator said so, after this guard was taken.
    Verified(Guard),
}

/// Holds for the transaction that a producer is about to open, until it is open or a marker comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guard(u64);

/// Producer id, epoch and first sequence of what is to be appended.
pub type Begun = (i64, i16, i32);

/// A producer whose transaction is being verified.
#[derive(Debug)]
struct Verifying {
    guard: Guard,
    epoch: i16,
    /// The lowest sequence that was to be appended: a later batch must not overtake one that has to be sent again.
    lowest_sequence: i32,
    since_ms: i64,
}

#[derive(Debug, Default)]
struct State {
    /// Epochs of the open transactions, by producer id.
    open: BTreeMap<i64, i16>,
    verifying: BTreeMap<i64, Verifying>,
    /// Whose guards those are, the oldest first.
    by_age: BTreeMap<Guard, i64>,
    guards: u64,
}

impl State {
    fn forget(&mut self, producer_id: i64) {
        if let Some(verifying) = self.verifying.remove(&producer_id) {
            self.by_age.remove(&verifying.guard);
        }
    }

    /// Makes room for a guard.
    fn forget_oldest(&mut self) {
        while self.verifying.len() >= MAX_VERIFYING
            && let Some((_, id)) = self.by_age.pop_first()
        {
            self.verifying.remove(&id);
        }
    }
}

/// The transactions of one partition.
#[derive(Debug, Default)]
pub(super) struct Transactions(Mutex<State>);

impl Transactions {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the guard to verify a transaction with; `None` when it is open.
    pub(super) fn begin(&self, (id, epoch, sequence): Begun, now_ms: i64) -> Option<Guard> {
        let mut state = self.state();
        if state.open.get(&id) == Some(&epoch) {
            return None;
        }
        if !state.verifying.contains_key(&id) {
            state.forget_oldest();
        }
        let State {
            verifying,
            by_age,
            guards,
            ..
        } = &mut *state;
        let verifying = verifying.entry(id).or_insert_with(|| {
            *guards += 1;
            let guard = Guard(*guards);
            by_age.insert(guard, id);
            Verifying {
                guard,
                epoch,
                lowest_sequence: sequence,
                since_ms: now_ms,
            }
        });
        if epoch > verifying.epoch {
            (verifying.epoch, verifying.lowest_sequence) = (epoch, sequence);
        } else if epoch == verifying.epoch {
            verifying.lowest_sequence = verifying.lowest_sequence.min(sequence);
        }
        Some(verifying.guard)
    }

    /// Forgets a transaction that the coordinator does not know.
    pub(super) fn refused(&self, producer_id: i64, guard: Guard) {
        let mut state = self.state();
        let verifying = state.verifying.get(&producer_id);
        if verifying.is_some_and(|verifying| verifying.guard == guard) {
            state.forget(producer_id);
        }
    }

    /// Judges a client's batch before it is appended.
    ///
    /// # Errors
    /// `InvalidTxnState` outside of an open transaction, `OutOfOrderSequenceNumber` when an earlier batch of the same
    /// transaction has to come first.
    pub(super) fn check(
        &self,
        header: &BatchHeader,
        verification: Verification,
    ) -> Result<(), ErrorCode> {
        let state = self.state();
        let id = header.producer_id;
        let open = state.open.get(&id) == Some(&header.producer_epoch);
        if verification == Verification::NotNeeded || open {
            return Ok(());
        }
        match (verification, state.verifying.get(&id)) {
            (Verification::Verified(guard), Some(verifying)) if guard == verifying.guard => {
                match header.base_sequence > verifying.lowest_sequence {
                    true => Err(ErrorCode::OutOfOrderSequenceNumber),
                    false => Ok(()),
                }
            }
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    /// Takes note of an appended batch of a transaction, or of its marker.
    pub(super) fn appended(&self, header: &BatchHeader) {
        if !header.attributes.is_transactional() {
            return;
        }
        let mut state = self.state();
        state.forget(header.producer_id);
        if header.attributes.is_control() {
            state.open.remove(&header.producer_id);
        } else {
            state.open.insert(header.producer_id, header.producer_epoch);
        }
    }

    /// Takes what the log says in place of everything known.
    pub(super) fn reset(&self, producers: &Producers) {
        let open = producers
            .iter()
            .filter(|(_, producer)| producer.open_since.is_some());
        let open = open.map(|(id, producer)| (id, producer.epoch)).collect();
        let mut state = self.state();
        state.open = open;
        state.verifying.clear();
        state.by_age.clear();
    }

    /// Forgets those that were to be verified `expiration_ms` ago (`producer.id.expiration.ms`) and never came to it.
    pub(super) fn expire(&self, now_ms: i64, expiration_ms: i64) {
        let mut state = self.state();
        let State {
            verifying, by_age, ..
        } = &mut *state;
        verifying.retain(|_, one| now_ms.saturating_sub(one.since_ms) < expiration_ms);
        by_age.retain(|_, id| verifying.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use troupe_protocol::kafka::records::control::EndTxnMarker;

    use super::*;
    use crate::partition::testing::transactional;

    const OUT_OF_ORDER: Result<(), ErrorCode> = Err(ErrorCode::OutOfOrderSequenceNumber);
    const NO_TRANSACTION: Result<(), ErrorCode> = Err(ErrorCode::InvalidTxnState);

    fn data(epoch: i16, sequence: i32) -> BatchHeader {
        BatchHeader::parse(&transactional("a", (7, epoch, sequence))).unwrap()
    }

    fn marker(epoch: i16) -> BatchHeader {
        let marker = EndTxnMarker {
            commit: true,
            coordinator_epoch: 0,
        };
        BatchHeader::parse(&marker.batch(7, epoch, 0).unwrap()).unwrap()
    }

    #[test]
    fn the_first_batch_needs_a_guard_and_the_others_none() {
        let transactions = Transactions::default();
        assert_eq!(
            transactions.check(&data(0, 0), Verification::Ongoing),
            NO_TRANSACTION
        );
        let guard = transactions.begin((7, 0, 0), 0).unwrap();
        let verified = Verification::Verified(guard);
        assert_eq!(transactions.check(&data(0, 0), verified), Ok(()));
        transactions.appended(&data(0, 0));
        assert_eq!(transactions.begin((7, 0, 1), 0), None);
        assert_eq!(
            transactions.check(&data(0, 1), Verification::Ongoing),
            Ok(())
        );
        // Of another epoch nothing is open.
        assert!(transactions.begin((7, 1, 0), 0).is_some());
        assert_eq!(
            transactions.check(&data(1, 0), Verification::Ongoing),
            NO_TRANSACTION
        );
        transactions.appended(&marker(0));
        assert_eq!(
            transactions.check(&data(0, 1), Verification::Ongoing),
            NO_TRANSACTION
        );
    }

    #[test]
    fn a_marker_voids_what_was_verified_before_it() {
        let transactions = Transactions::default();
        let stale = transactions.begin((7, 0, 0), 0).unwrap();
        transactions.appended(&marker(0));
        let check = |guard| transactions.check(&data(0, 0), Verification::Verified(guard));
        assert_eq!(check(stale), NO_TRANSACTION);
        let fresh = transactions.begin((7, 0, 0), 0).unwrap();
        assert_eq!(check(stale), NO_TRANSACTION);
        assert_eq!(check(fresh), Ok(()));
        transactions.refused(7, stale);
        assert_eq!(check(fresh), Ok(()));
        transactions.refused(7, fresh);
        assert_eq!(check(fresh), NO_TRANSACTION);
    }

    #[test]
    fn a_batch_does_not_overtake_one_that_has_to_come_again() {
        let transactions = Transactions::default();
        let first = transactions.begin((7, 0, 0), 0).unwrap();
        let second = transactions.begin((7, 0, 5), 0).unwrap();
        assert_eq!(first, second, "they are of one transaction");
        let check =
            |sequence| transactions.check(&data(0, sequence), Verification::Verified(second));
        assert_eq!(check(5), OUT_OF_ORDER);
        assert_eq!(check(0), Ok(()));
        transactions.appended(&data(0, 0));
        assert_eq!(check(5), Ok(()));
    }

    #[test]
    fn a_newer_epoch_starts_over() {
        let transactions = Transactions::default();
        transactions.begin((7, 0, 0), 0).unwrap();
        let guard = transactions.begin((7, 1, 3), 5).unwrap();
        let verified = Verification::Verified(guard);
        assert_eq!(transactions.check(&data(1, 3), verified), Ok(()));
        assert_eq!(transactions.check(&data(1, 4), verified), OUT_OF_ORDER);
        // It counts from the first time, whatever the epoch.
        transactions.expire(9, 10);
        assert_eq!(transactions.check(&data(1, 3), verified), Ok(()));
        transactions.expire(10, 10);
        assert_eq!(transactions.check(&data(1, 3), verified), NO_TRANSACTION);
    }

    #[test]
    fn of_too_many_the_oldest_is_forgotten() {
        let transactions = Transactions::default();
        let begin = |id| transactions.begin((id, 0, 0), 0).unwrap();
        let others = i64::try_from(MAX_VERIFYING).unwrap();
        begin(1);
        let guard = begin(7);
        let check = || transactions.check(&data(0, 0), Verification::Verified(guard));
        for id in 100..100 + others - 1 {
            begin(id);
        }
        // The first one went. Who is known already takes nobody's place.
        assert_eq!((begin(7), check()), (guard, Ok(())));
        begin(1);
        assert_eq!(check(), NO_TRANSACTION);
        assert_eq!(transactions.state().verifying.len(), MAX_VERIFYING);
    }

    #[test]
    fn guards_are_counted_however_they_go() {
        let transactions = Transactions::default();
        let begin = |id| transactions.begin((id, 0, 0), id).unwrap();
        let left = || {
            let state = transactions.state();
            assert_eq!(state.by_age.len(), state.verifying.len());
            state.by_age.len()
        };
        for id in 1..=9 {
            begin(id);
        }
        transactions.refused(8, begin(8));
        transactions.appended(&data(0, 0));
        assert_eq!(left(), 7);
        transactions.expire(11, 9);
        assert_eq!(left(), 5);
        transactions.reset(&Producers::default());
        assert_eq!(left(), 0);
    }
}
