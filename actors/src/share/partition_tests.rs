//! Share partitions: single rules, and a model of single records on simulated time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use AcknowledgeType::{Accept, Gap, Reject, Release};

const LIMITS: Limits = Limits {
    delivery_count: 3,
    record_locks: 100,
    lock_duration_ms: 1_000,
};

fn by(member: &str, now_ms: i64, max_records: i64) -> Acquisition {
    Acquisition {
        member: member.into(),
        now_ms,
        max_records,
        batch_size: 500,
    }
}

fn batch(first: i64, last: i64, types: &[AcknowledgeType]) -> AcknowledgementBatch {
    AcknowledgementBatch {
        first,
        last,
        types: types.to_vec(),
    }
}

/// Acquires for a member from record batches of ten, as the log has them.
fn acquire(partition: &mut SharePartition, member: &str, max: i64) -> Vec<(i64, i64, i16)> {
    let Some(from) = partition.next_fetch_offset(&LIMITS) else {
        return Vec::new();
    };
    let batches: Vec<_> = (from / 10..10)
        .map(|number| (number * 10, number * 10 + 9))
        .collect();
    let acquired = partition.acquire(&by(member, 0, max), from, &batches, &LIMITS);
    acquired
        .iter()
        .map(|range| (range.first, range.last, range.delivery_count))
        .collect()
}

#[test]
fn members_get_whole_batches_that_nobody_else_has() {
    let mut partition = SharePartition::new(5);
    assert_eq!(acquire(&mut partition, "a", 1), [(5, 9, 1)]);
    assert_eq!(acquire(&mut partition, "b", 11), [(10, 29, 1)]);
    assert_eq!(acquire(&mut partition, "a", 1), [(30, 39, 1)]);
}

#[test]
fn ranges_are_no_longer_than_asked_for() {
    let mut partition = SharePartition::new(0);
    let acquisition = Acquisition {
        batch_size: 20,
        ..by("a", 0, 100)
    };
    let batches: Vec<_> = (0..5).map(|n| (n * 10, n * 10 + 9)).collect();
    let acquired = partition.acquire(&acquisition, 0, &batches, &LIMITS);
    let ranges: Vec<_> = acquired
        .iter()
        .map(|range| (range.first, range.last))
        .collect();
    assert_eq!(ranges, [(0, 19), (20, 39), (40, 49)]);
}

#[test]
fn nothing_new_is_acquired_beyond_the_limit() {
    let mut partition = SharePartition::new(0);
    assert_eq!(acquire(&mut partition, "a", 1_000), [(0, 99, 1)]);
    assert_eq!(partition.next_fetch_offset(&LIMITS), None);
    partition
        .acknowledge("a", &[batch(1, 99, &[Accept])], &LIMITS)
        .unwrap();
    assert_eq!(partition.next_fetch_offset(&LIMITS), None);
    partition
        .acknowledge("a", &[batch(0, 0, &[Accept])], &LIMITS)
        .unwrap();
    assert_eq!(partition.start_offset(), 100);
    assert_eq!(partition.next_fetch_offset(&LIMITS), Some(100));
}

#[test]
fn each_type_has_its_effect() {
    let mut partition = SharePartition::new(0);
    acquire(&mut partition, "a", 1);
    let types = [Accept, Reject, Gap, Release, Accept];
    partition
        .acknowledge("a", &[batch(0, 4, &types)], &LIMITS)
        .unwrap();
    assert_eq!(partition.start_offset(), 3);
    assert_eq!(acquire(&mut partition, "b", 1), [(3, 3, 2)]);
    partition
        .acknowledge("b", &[batch(3, 3, &[Accept])], &LIMITS)
        .unwrap();
    assert_eq!(partition.start_offset(), 5);
}

#[test]
fn only_the_holder_acknowledges() {
    let mut partition = SharePartition::new(0);
    acquire(&mut partition, "a", 1);
    let before = partition.clone();
    let mut acknowledge = |member: &str, first, last| {
        partition.acknowledge(member, &[batch(first, last, &[Accept])], &LIMITS)
    };
    assert_eq!(acknowledge("b", 0, 0), Err(ErrorCode::InvalidRecordState));
    assert_eq!(acknowledge("a", 5, 10), Err(ErrorCode::InvalidRequest));
    assert_eq!(
        acknowledge("a", 0, i64::MAX),
        Err(ErrorCode::InvalidRequest)
    );
    assert_eq!(
        partition, before,
        "a refused acknowledgement changes nothing"
    );
    let mut partition = before;
    partition
        .acknowledge("a", &[batch(0, 5, &[Accept])], &LIMITS)
        .unwrap();
    // What is done with already is let pass, for a client that repeats itself.
    partition
        .acknowledge("a", &[batch(0, 5, &[Accept])], &LIMITS)
        .unwrap();
    assert_eq!(partition.start_offset(), 6);
}

#[test]
fn a_lock_ends_and_the_record_is_delivered_again_until_it_is_given_up() {
    let mut partition = SharePartition::new(0);
    for delivery in 1..=3 {
        let from = partition.next_fetch_offset(&LIMITS).unwrap();
        let acquired = partition.acquire(&by("a", 0, 1), from, &[(0, 0)], &LIMITS);
        assert_eq!(acquired[0].delivery_count, delivery);
        assert_eq!(partition.next_timeout_ms(), Some(1_000));
        assert!(!partition.time_out(999, &LIMITS));
        assert!(partition.time_out(1_000, &LIMITS));
    }
    assert_eq!(partition.start_offset(), 1);
    assert_eq!(partition.next_timeout_ms(), None);
}

#[test]
fn a_session_that_ends_gives_back_what_it_held_as_undelivered() {
    let mut partition = SharePartition::new(0);
    acquire(&mut partition, "a", 1);
    acquire(&mut partition, "b", 1);
    assert!(partition.release_member("a"));
    assert!(!partition.release_member("a"));
    assert_eq!(acquire(&mut partition, "c", 1), [(0, 9, 1)]);
}

#[test]
fn offsets_without_records_are_passed_over() {
    let mut partition = SharePartition::new(0);
    let acquired = partition.acquire(&by("a", 0, 100), 0, &[(5, 6), (9, 9)], &LIMITS);
    assert_eq!(acquired.len(), 2);
    assert_eq!(partition.start_offset(), 5);
    let all = [batch(5, 6, &[Accept]), batch(9, 9, &[Accept])];
    partition.acknowledge("a", &all, &LIMITS).unwrap();
    assert_eq!(partition.start_offset(), 10);
}

#[test]
fn the_log_may_lose_its_beginning() {
    let mut partition = SharePartition::new(0);
    acquire(&mut partition, "a", 1);
    assert!(!partition.log_starts_at(0));
    assert!(partition.log_starts_at(7));
    assert_eq!(partition.start_offset(), 7);
    assert!(partition.log_starts_at(500));
    assert_eq!(partition.next_fetch_offset(&LIMITS), Some(500));
}

#[test]
fn aborted_records_go_without_being_seen() {
    let mut partition = SharePartition::new(0);
    acquire(&mut partition, "a", 1);
    assert!(partition.archive_acquired(0, 4, "a"));
    assert!(!partition.archive_acquired(5, 9, "b"));
    assert_eq!(partition.start_offset(), 5);
}

#[test]
fn acknowledgements_are_in_order_and_complete() {
    let check = |batches: &[AcknowledgementBatch]| check_acknowledgements(batches);
    assert_eq!(
        check(&[batch(0, 4, &[Accept]), batch(5, 5, &[Gap])]),
        Ok(())
    );
    assert_eq!(check(&[batch(0, 1, &[Accept, Gap])]), Ok(()));
    for wrong in [
        vec![batch(1, 0, &[Accept])],
        vec![batch(0, 1, &[])],
        vec![batch(0, 2, &[Accept, Gap])],
        vec![batch(-1, 2, &[Accept])],
        vec![batch(0, 4, &[Accept]), batch(4, 5, &[Gap])],
        vec![batch(i64::MIN, i64::MAX, &[Accept])],
    ] {
        assert_eq!(check(&wrong), Err(ErrorCode::InvalidRequest), "{wrong:?}");
    }
    assert_eq!(AcknowledgeType::try_from(4), Err(ErrorCode::InvalidRequest));
}

/// What the model knows of a record.
#[derive(Debug, Clone, PartialEq)]
enum Model {
    Available(i16),
    Held(usize, i16, i64),
    Done,
}

#[derive(Debug, Clone)]
enum Action {
    Acquire(usize, i64),
    Acknowledge(usize, i64, i64, AcknowledgeType),
    Leave(usize),
    Wait(i64),
    Restart,
}

fn actions() -> impl Strategy<Value = Action> {
    let kinds = prop_oneof![Just(Gap), Just(Accept), Just(Release), Just(Reject)];
    prop_oneof![
        3 => (0usize..3, 1i64..30).prop_map(|(member, max)| Action::Acquire(member, max)),
        4 => (0usize..3, 0i64..60, 0i64..12, kinds)
            .prop_map(|(member, first, length, kind)| Action::Acknowledge(member, first, first + length, kind)),
        1 => (0usize..3).prop_map(Action::Leave),
        1 => (0i64..1_500).prop_map(Action::Wait),
        1 => Just(Action::Restart),
    ]
}

const RECORDS: i64 = 60;

/// A share partition, what is stored of it, and a model of both.
struct World {
    partition: SharePartition,
    stored: Stored,
    model: BTreeMap<i64, Model>,
    now_ms: i64,
}

impl World {
    fn new() -> Self {
        Self {
            partition: SharePartition::new(0),
            stored: Stored::new(0, 0, 0),
            model: (0..RECORDS)
                .map(|offset| (offset, Model::Available(0)))
                .collect(),
            now_ms: 0,
        }
    }

    fn step(&mut self, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::Acquire(member, max) => self.acquire(member, max)?,
            Action::Acknowledge(member, first, last, kind) => {
                self.acknowledge(member, first, last.min(RECORDS - 1), kind)?;
            }
            Action::Leave(member) => {
                self.partition.release_member(&member.to_string());
                self.release(
                    |holder, _| holder == member,
                    |count| Model::Available(count - 1),
                );
            }
            Action::Wait(ms) => {
                self.now_ms += ms;
                let now_ms = self.now_ms;
                self.partition.time_out(now_ms, &LIMITS);
                self.release(|_, until_ms| until_ms <= now_ms, released);
            }
            Action::Restart => {
                self.partition = SharePartition::restored(&self.stored);
                self.release(|_, _| true, |count| Model::Available(count - 1));
            }
        }
        let (start_offset, batches) = (self.partition.start_offset(), self.partition.stored());
        if let Some(change) = self.stored.change_to(0, start_offset, &batches) {
            self.stored.apply(&change);
        }
        Ok(())
    }

    fn acquire(&mut self, member: usize, max: i64) -> Result<(), TestCaseError> {
        let Some(from) = self.partition.next_fetch_offset(&LIMITS) else {
            return Ok(());
        };
        let batches: Vec<_> = (from / 5..RECORDS / 5)
            .map(|n| (n * 5, n * 5 + 4))
            .collect();
        let acquisition = by(&member.to_string(), self.now_ms, max);
        for range in self
            .partition
            .acquire(&acquisition, from, &batches, &LIMITS)
        {
            for offset in range.first..=range.last {
                let count = range.delivery_count;
                prop_assert_eq!(&self.model[&offset], &Model::Available(count - 1));
                let until_ms = self.now_ms + LIMITS.lock_duration_ms;
                self.model
                    .insert(offset, Model::Held(member, count, until_ms));
            }
        }
        Ok(())
    }

    fn acknowledge(
        &mut self,
        member: usize,
        first: i64,
        last: i64,
        kind: AcknowledgeType,
    ) -> Result<(), TestCaseError> {
        let open = first.max(self.partition.start_offset())..=last;
        let held = |at: i64| matches!(self.model[&at], Model::Held(holder, ..) if holder == member);
        let expected = open.clone().all(held);
        let batches = [batch(first, last, &[kind])];
        let outcome = self
            .partition
            .acknowledge(&member.to_string(), &batches, &LIMITS);
        prop_assert_eq!(outcome.is_ok(), expected);
        for offset in open.filter(|_| expected) {
            if let Model::Held(_, count, _) = self.model[&offset] {
                let next = if kind == Release {
                    released(count)
                } else {
                    Model::Done
                };
                self.model.insert(offset, next);
            }
        }
        Ok(())
    }

    fn release(&mut self, wanted: impl Fn(usize, i64) -> bool, next: impl Fn(i16) -> Model) {
        for state in self.model.values_mut() {
            if let Model::Held(holder, count, until_ms) = *state
                && wanted(holder, until_ms)
            {
                *state = next(count);
            }
        }
    }
}

fn released(count: i16) -> Model {
    if count < LIMITS.delivery_count {
        Model::Available(count)
    } else {
        Model::Done
    }
}

proptest! {
    #[test]
    fn every_record_has_one_holder_and_one_end(actions in prop::collection::vec(actions(), 0..60)) {
        let mut world = World::new();
        for action in actions {
            world.step(action)?;
            let first_open = world.model.iter().find(|(_, state)| **state != Model::Done);
            let expected = first_open.map_or(RECORDS, |(&offset, _)| offset);
            prop_assert_eq!(world.partition.start_offset(), expected);
            prop_assert_eq!(&world.stored.batches, &world.partition.stored());
        }
    }
}
