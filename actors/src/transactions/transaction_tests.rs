//! What each request makes of a transactional id.

use std::collections::BTreeSet;

use troupe_protocol::kafka::errors::ErrorCode;

use super::state::State;
use super::transaction::{End, Init, Producer, Step, Transaction};
use crate::partition::TopicPartition;

const NOW_MS: i64 = 1_000_000;
const TIMEOUT_MS: i32 = 60_000;

fn at(id: i64, epoch: i16) -> Producer {
    Producer { id, epoch }
}

fn t(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn init(expected: Option<Producer>) -> Init {
    Init {
        timeout_ms: TIMEOUT_MS,
        expected,
    }
}

/// A transactional id whose requests are stored at once.
struct Driver(Transaction);

impl Driver {
    /// Has its first producer: id 7, epoch 0.
    fn new() -> Self {
        let mut driver = Self(Transaction::new(7, NOW_MS));
        assert_eq!(driver.init(None), Ok(at(7, 0)));
        driver
    }

    /// Is at the given epoch of id 7.
    fn at_epoch(epoch: i16) -> Self {
        let mut value = Self::new().0.value().clone();
        value.producer.epoch = epoch;
        Self(Transaction::restored(value))
    }

    fn follow(&mut self, step: Result<Step, ErrorCode>) -> Result<Producer, ErrorCode> {
        let answer = match step? {
            Step::Answer(producer) => return Ok(producer),
            Step::Store(producer) => Ok(producer),
            Step::Fence => Err(ErrorCode::ConcurrentTransactions),
            Step::NeedsProducerId => panic!("a fresh id was given"),
        };
        self.0.stored(true);
        answer
    }

    fn init(&mut self, expected: Option<Producer>) -> Result<Producer, ErrorCode> {
        let step = self.0.init(init(expected), Some(8), NOW_MS);
        self.follow(step)
    }

    fn add(&mut self, producer: Producer, partition: i32, version: i16) -> Result<(), ErrorCode> {
        let partitions = BTreeSet::from([t(partition)]);
        let step = self.0.add(producer, &partitions, version, NOW_MS);
        self.follow(step).map(|_| ())
    }

    fn end(
        &mut self,
        producer: Producer,
        commit: bool,
        version: i16,
    ) -> Result<Producer, ErrorCode> {
        let end = End {
            producer,
            commit,
            transaction_version: version,
        };
        let step = self.0.end(end, Some(8), NOW_MS);
        self.follow(step)
    }

    fn complete(&mut self) {
        assert!(self.0.to_end().is_some());
        assert!(self.0.complete(NOW_MS));
        self.0.stored(true);
        assert!(self.0.to_end().is_none());
    }

    fn state(&self) -> State {
        self.0.value().state
    }
}

#[test]
fn a_transaction_is_committed_in_two_steps() {
    let mut id = Driver::new();
    id.add(at(7, 0), 1, 0).unwrap();
    id.add(at(7, 0), 2, 0).unwrap();
    assert_eq!(id.state(), State::Ongoing);
    assert_eq!(id.end(at(7, 0), true, 0), Ok(at(7, 0)));
    assert_eq!(id.state(), State::PrepareCommit);
    let ending = id.0.to_end().unwrap();
    assert_eq!((ending.committed, ending.producer), (true, at(7, 0)));
    assert_eq!(ending.partitions, BTreeSet::from([t(1), t(2)]));
    for answer in [
        id.init(None).map(|_| ()),
        id.add(at(7, 0), 1, 0),
        id.end(at(7, 0), true, 0).map(|_| ()),
        id.0.verify(at(7, 0), &[t(1)]).map(|_| ()),
    ] {
        assert_eq!(answer, Err(ErrorCode::ConcurrentTransactions));
    }
    id.complete();
    assert_eq!(id.state(), State::CompleteCommit);
    assert!(id.0.value().partitions.is_empty());
    // The answer was lost.
    assert_eq!(id.end(at(7, 0), true, 0), Ok(at(7, 0)));
    assert_eq!(id.end(at(7, 0), false, 0), Err(ErrorCode::InvalidTxnState));
    id.add(at(7, 0), 1, 0).unwrap();
    assert_eq!(id.end(at(7, 0), false, 0), Ok(at(7, 0)));
    id.complete();
    assert_eq!(id.state(), State::CompleteAbort);
}

#[test]
fn what_is_added_can_be_verified() {
    let mut id = Driver::new();
    id.add(at(7, 0), 1, 0).unwrap();
    let verified = id.0.verify(at(7, 0), &[t(1), t(2)]);
    let abortable = Err(ErrorCode::TransactionAbortable);
    assert_eq!(verified, Ok(vec![Ok(()), abortable]));
    let fenced = Err(ErrorCode::ProducerFenced);
    assert_eq!(id.0.verify(at(7, 1), &[t(1)]), fenced);
    let mapping = Err(ErrorCode::InvalidProducerIdMapping);
    assert_eq!(id.0.verify(at(9, 0), &[t(1)]), mapping);
}

#[test]
fn the_next_producer_fences_the_one_before() {
    let mut id = Driver::new();
    id.add(at(7, 0), 1, 0).unwrap();
    assert_eq!(id.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(id.state(), State::PrepareAbort);
    id.complete();
    assert_eq!(id.end(at(7, 0), true, 0), Err(ErrorCode::ProducerFenced));
    let next = id.init(None).unwrap();
    assert!(next.id == 7 && next.epoch > 0);
    assert_eq!(id.add(at(7, 0), 1, 0), Err(ErrorCode::ProducerFenced));
    id.add(next, 1, 0).unwrap();
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    for version in [0, 2] {
        let mut id = Driver::new();
        assert!(!id.0.time_out(i64::MAX), "nothing is open");
        id.add(at(7, 0), 1, version).unwrap();
        let deadline_ms = NOW_MS + i64::from(TIMEOUT_MS);
        assert!(!id.0.time_out(deadline_ms));
        assert!(id.0.time_out(deadline_ms + 1));
        assert!(!id.0.time_out(deadline_ms + 1), "it is being stored");
        id.0.stored(true);
        let ending = id.0.to_end().unwrap();
        assert!(!ending.committed && ending.producer.epoch > 0);
        id.complete();
        for commit in [true, false] {
            let late = id.end(at(7, 0), commit, version);
            assert_eq!(late, Err(ErrorCode::ProducerFenced));
        }
    }
}

#[test]
fn nothing_changes_before_it_is_stored() {
    let mut id = Driver::new();
    let partitions = BTreeSet::from([t(1)]);
    let step = id.0.add(at(7, 0), &partitions, 0, NOW_MS);
    assert_eq!(step, Ok(Step::Store(at(7, 0))));
    assert_eq!(id.state(), State::Empty);
    let other = id.add(at(7, 0), 2, 0);
    assert_eq!(other, Err(ErrorCode::ConcurrentTransactions));
    id.0.stored(false);
    assert_eq!(id.state(), State::Empty);
    id.add(at(7, 0), 2, 0).unwrap();
    assert_eq!(id.0.value().partitions, BTreeSet::from([t(2)]));
}

#[test]
fn only_an_open_transaction_is_ended() {
    let mut id = Driver::new();
    for commit in [true, false] {
        let ended = id.end(at(7, 0), commit, 0);
        assert_eq!(ended, Err(ErrorCode::InvalidTxnState));
    }
    assert_eq!(id.end(at(7, 0), true, 2), Err(ErrorCode::InvalidTxnState));
    // A producer that does not know whether it began may abort (KIP-890).
    assert_eq!(id.end(at(7, 0), false, 2), Ok(at(7, 1)));
    assert!(id.0.to_end().unwrap().partitions.is_empty());
}

#[test]
fn each_transaction_has_its_own_epoch_in_version_2() {
    let mut id = Driver::new();
    id.add(at(7, 0), 1, 2).unwrap();
    assert_eq!(id.end(at(7, 0), true, 2), Ok(at(7, 1)));
    assert_eq!(id.0.to_end().unwrap().producer, at(7, 1));
    id.complete();
    // The answer was lost; after a restart the epoch tells it still.
    for mut id in [
        Driver(id.0.clone()),
        Driver(Transaction::restored(id.0.value().clone())),
    ] {
        assert_eq!(id.end(at(7, 0), true, 2), Ok(at(7, 1)));
        assert_eq!(id.end(at(7, 0), false, 2), Err(ErrorCode::InvalidTxnState));
        // With its new epoch it is another transaction, in which there is nothing to commit.
        assert_eq!(id.end(at(7, 1), true, 2), Err(ErrorCode::InvalidTxnState));
        assert_eq!(id.add(at(7, 0), 1, 2), Err(ErrorCode::ProducerFenced));
        id.add(at(7, 1), 1, 2).unwrap();
    }
}

#[test]
fn a_producer_goes_on_after_an_error() {
    let mut id = Driver::new();
    assert_eq!(id.init(Some(at(7, 0))), Ok(at(7, 1)));
    // The answer was lost.
    assert_eq!(id.init(Some(at(7, 0))), Ok(at(7, 1)));
    assert_eq!(id.init(Some(at(7, 1))), Ok(at(7, 2)));
    let fenced = Err(ErrorCode::ProducerFenced);
    assert_eq!(id.init(Some(at(7, 0))), fenced);
    assert_eq!(id.init(Some(at(6, 2))), fenced);
    // Somebody else took over.
    assert_eq!(id.init(None), Ok(at(7, 3)));
    assert_eq!(id.init(Some(at(7, 2))), fenced);
}

#[test]
fn a_fenced_producer_ends_no_open_transaction() {
    let mut id = Driver::new();
    assert_eq!(id.init(None), Ok(at(7, 1)));
    id.add(at(7, 1), 1, 0).unwrap();
    assert_eq!(id.init(Some(at(7, 0))), Err(ErrorCode::ProducerFenced));
    assert_eq!(id.state(), State::Ongoing);
}

#[test]
fn used_up_epochs_are_followed_by_a_new_producer_id() {
    const LAST: i16 = i16::MAX - 1;
    let mut id = Driver::at_epoch(LAST);
    let needs = id.0.init(init(None), None, NOW_MS);
    assert_eq!(needs, Ok(Step::NeedsProducerId));
    assert_eq!(id.init(Some(at(7, LAST))), Ok(at(8, 0)));
    // The answer was lost.
    assert_eq!(id.init(Some(at(7, LAST))), Ok(at(8, 0)));

    let mut id = Driver::at_epoch(LAST);
    id.add(at(7, LAST), 1, 0).unwrap();
    assert_eq!(id.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(id.0.to_end().unwrap().producer, at(7, i16::MAX));
    id.complete();
    assert_eq!(id.init(None), Ok(at(8, 0)));
}

#[test]
fn used_up_epochs_end_with_a_transaction_in_version_2() {
    const LAST: i16 = i16::MAX - 1;
    let mut id = Driver::at_epoch(LAST);
    id.add(at(7, LAST), 1, 2).unwrap();
    assert_eq!(id.end(at(7, LAST), true, 2), Ok(at(8, 0)));
    assert_eq!(id.0.to_end().unwrap().producer, at(7, i16::MAX));
    id.complete();
    assert_eq!(id.0.value().producer, at(8, 0));
    assert_eq!(id.end(at(7, LAST), true, 2), Ok(at(8, 0)));
    let mut restarted = Driver(Transaction::restored(id.0.value().clone()));
    assert_eq!(restarted.end(at(7, LAST), true, 2), Ok(at(8, 0)));
}

#[test]
fn an_id_expires_when_nothing_is_open() {
    let mut id = Driver::new();
    let later_ms = NOW_MS + 500;
    assert!(!id.0.is_expired(501, later_ms) && id.0.is_expired(500, later_ms));
    id.add(at(7, 0), 1, 0).unwrap();
    assert!(!id.0.is_expired(0, later_ms));
    id.end(at(7, 0), true, 0).unwrap();
    assert!(!id.0.is_expired(0, later_ms));
    id.complete();
    assert!(id.0.is_expired(0, later_ms));
    id.0.kill();
    assert_eq!(id.init(None), Err(ErrorCode::ConcurrentTransactions));
    id.0.stored(true);
    assert_eq!(id.state(), State::Dead);
}
