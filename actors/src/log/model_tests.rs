//! The log against a model of it, a list of batches: any order of operations, any crash.

mod steps;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseResult, TestRng, TestRunner};
use troupe_protocol::kafka::records::batch::BatchHeader;

use self::steps::{Step, steps};
use super::names::FileKind;
use super::producers::Sequence;
use super::testing::{BatchSpec, batch};
use super::transaction_model::{Ended, TransactionModel};
use super::*;
use crate::storage::memory::{Crash, MemoryStorage};

const DIR: &str = "/data/topic-0";
const SEGMENT_BYTES: u64 = 1500;
/// The producer outside of transactions.
const SEQUENCED: i64 = 5;

struct Kept {
    bytes: Vec<u8>,
    header: BatchHeader,
}

/// The log, and what it should hold.
struct Pair {
    storage: MemoryStorage,
    log: Option<Log>,
    batches: Vec<Kept>,
    transactions: TransactionModel,
    start: i64,
    end: i64,
    /// What would be in the checkpoints.
    recovery_point: i64,
    now_ms: i64,
    epoch: i32,
    /// The next sequence of the one producer.
    sequence: i32,
    /// Whether power loss may have left a hole, of whose sequences a snapshot may know and the batches do not.
    holed: bool,
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        segment_ms: 600,
        segment_jitter_ms: 100,
        segment_index_bytes: 120,
        index_interval_bytes: 150,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            storage: MemoryStorage::new(),
            log: None,
            batches: Vec::new(),
            transactions: TransactionModel::default(),
            start: 0,
            end: 0,
            recovery_point: 0,
            now_ms: 1_000,
            epoch: 0,
            sequence: 0,
            holed: false,
        };
        pair.open(false);
        pair
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("open between steps")
    }

    fn open(&mut self, clean_shutdown: bool) -> Recovery {
        let start = Start {
            recovery_point: self.recovery_point,
            log_start_offset: self.start,
            cleaned_to: 0,
            clean_shutdown,
        };
        let storage = Arc::new(self.storage.clone());
        let (log, recovery) =
            Log::open(storage, Path::new(DIR), config(), start, self.now_ms).unwrap();
        self.log = Some(log);
        recovery
    }

    /// Takes over how much the log kept after a loss that leaves it free to keep more or less; at least `at_least`.
    fn adopt_end(&mut self, at_least: i64) -> TestCaseResult {
        let end = self.log().log_end_offset();
        prop_assert!(
            end >= at_least,
            "lost acknowledged records: {end} < {at_least}"
        );
        self.cut(end);
        prop_assert_eq!(self.end, end, "the log ends within a batch");
        Ok(())
    }

    /// Keeps what ends at or before `end`.
    fn cut(&mut self, end: i64) {
        self.batches.retain(|kept| kept.header.next_offset() <= end);
        self.transactions.cut(end);
        let first = self.start.min(end);
        self.end = self
            .batches
            .last()
            .map_or(first.max(self.end.min(end)), |last| {
                last.header.next_offset()
            });
        if self.holed {
            // The log may end in the hole, where no batch is.
            self.end = end;
        }
        self.recovery_point = self.recovery_point.min(self.end);
        self.start = self.start.min(self.end);
        let sequenced = self
            .batches
            .iter()
            .rev()
            .find(|kept| kept.header.producer_id == SEQUENCED);
        self.sequence = sequenced.map_or(0, |kept| kept.header.last_sequence() + 1);
    }

    fn offset_in(&self, at: u16) -> i64 {
        self.start + i64::from(at) % (self.end - self.start + 1)
    }

    fn next_batch(&mut self, step: &Step) -> Option<(Vec<u8>, BatchHeader)> {
        let Step::Append {
            count,
            value_len,
            later_ms,
            new_epoch,
            sequenced,
        } = *step
        else {
            return None;
        };
        self.now_ms += later_ms;
        self.epoch += i32::from(new_epoch);
        let bytes = batch(&BatchSpec {
            base_offset: self.end,
            count,
            value_len,
            timestamp: self.now_ms,
            leader_epoch: self.epoch,
            producer: sequenced.then_some((SEQUENCED, 0, self.sequence)),
            ..BatchSpec::default()
        });
        let header = BatchHeader::parse(&bytes).unwrap();
        Some((bytes, header))
    }

    fn append(&mut self, step: &Step) -> TestCaseResult {
        // Of batches that are gone, through retention or power loss, a snapshot may still know.
        if self.holed
            || self
                .batches
                .iter()
                .all(|kept| kept.header.producer_id != SEQUENCED)
        {
            let known = self.log().producers().get(SEQUENCED);
            self.sequence = known.map_or(0, |producer| producer.last_sequence() + 1);
        }
        let Some((bytes, header)) = self.next_batch(step) else {
            return Ok(());
        };
        let now_ms = self.now_ms;
        // A producer whose batches are all gone may be unknown, or known by a snapshot: both accept what goes on.
        let sequence = self.log().producers().check_data(&header);
        prop_assert!(
            matches!(sequence, Ok(Sequence::New)) || self.sequence == 0,
            "{:?}",
            sequence
        );
        self.log().append(&bytes, &header, now_ms).unwrap();
        if header.producer_id >= 0 {
            self.sequence = header.last_sequence() + 1;
            let duplicate = self.log().producers().check_data(&header);
            let is_duplicate = matches!(duplicate, Ok(Sequence::Duplicate { base_offset, .. }) if base_offset == header.base_offset);
            prop_assert!(is_duplicate, "{:?}", duplicate);
        }
        self.end = header.next_offset();
        self.batches.push(Kept { bytes, header });
        Ok(())
    }

    fn append_transactional(&mut self, producer: i64, later_ms: i64, end: Option<bool>) {
        self.now_ms += later_ms;
        let bytes = batch(&BatchSpec {
            base_offset: self.end,
            timestamp: self.now_ms,
            leader_epoch: self.epoch,
            producer: Some((producer, 0, if end.is_some() { -1 } else { 0 })),
            transactional: true,
            control: end.is_some(),
            commit: end == Some(true),
            ..BatchSpec::default()
        });
        let header = BatchHeader::parse(&bytes).unwrap();
        let now_ms = self.now_ms;
        self.log().append(&bytes, &header, now_ms).unwrap();
        self.end = header.next_offset();
        self.transactions.push(producer, header.base_offset, end);
        self.batches.push(Kept { bytes, header });
    }

    /// Leaves a transaction index behind that does not end with an entry, in a log that was closed in order.
    fn tear_transaction_index(&mut self, segment: u16, cut: bool) {
        let log = self.log();
        let path = log.segments[usize::from(segment) % log.segments.len()].path(FileKind::TxnIndex);
        if self.storage.read(&path).is_err() {
            return;
        }
        self.close();
        self.storage.tamper(&path, |bytes| match cut {
            true => bytes.truncate(bytes.len() - 1),
            false => bytes.push(0),
        });
        self.recovery_point = self.end;
        self.open(true);
    }

    /// Returns the open transactions: first offset and producer.
    fn open_transactions(&mut self) -> Vec<(i64, i64)> {
        let producers = self.log().producers().iter();
        let open = producers.filter_map(|(id, producer)| Some((producer.open_since?, id)));
        let mut open: Vec<_> = open.collect();
        open.sort_unstable();
        open
    }

    /// Compares the last stable offset, and the aborted transactions of every range that begins or ends at a batch.
    fn check_transactions(&mut self) -> TestCaseResult {
        let (start, end) = (self.start, self.end);
        let open = self.transactions.open();
        prop_assert_eq!(self.open_transactions(), open.clone());
        let expected = open.first().map_or(end, |(first, _)| (*first).max(start));
        prop_assert_eq!(self.log().last_stable_offset(end), expected);
        let offsets: Vec<i64> = self
            .batches
            .iter()
            .map(|kept| kept.header.base_offset)
            .filter(|offset| *offset >= start)
            .collect();
        for &offset in &offsets {
            for (from, to) in [(start, offset), (offset, offset + 1), (offset, end)] {
                let found = self.log().aborted_transactions(from, to);
                let found: Vec<Ended> = found.iter().map(Ended::of).collect();
                prop_assert_eq!(
                    found,
                    self.transactions.aborted(from, to),
                    "{}..{}",
                    from,
                    to
                );
            }
        }
        Ok(())
    }

    fn read(&mut self, offset: i64, max_bytes: u64, bound: i64, one: bool) -> TestCaseResult {
        let range = self.log().read(offset, max_bytes, bound, one).unwrap();
        let end_offset = range.as_ref().map(|range| range.end_offset);
        let bytes = range.map_or_else(Vec::new, |range| range.slice.read().unwrap());
        let from = self
            .batches
            .partition_point(|kept| kept.header.last_offset() < offset);
        let (mut rest, mut next) = (&bytes[..], from);
        while !rest.is_empty() {
            let kept = &self.batches[next];
            prop_assert!(
                rest.starts_with(&kept.bytes),
                "other bytes at {}",
                kept.header.base_offset
            );
            prop_assert!(kept.header.last_offset() < bound);
            rest = &rest[kept.bytes.len()..];
            next += 1;
        }
        if let Some(end_offset) = end_offset {
            prop_assert!(end_offset >= self.batches[next - 1].header.next_offset());
            let after = self.batches.get(next).map(|kept| kept.header.base_offset);
            prop_assert!(after.is_none_or(|after| end_offset <= after.max(bound)));
        }
        prop_assert!(bytes.len() as u64 <= max_bytes || (one && next == from + 1));
        let first = self
            .batches
            .get(from)
            .filter(|kept| kept.header.last_offset() < bound);
        let due = first.is_some_and(|kept| one || kept.bytes.len() as u64 <= max_bytes);
        prop_assert_eq!(due, !bytes.is_empty(), "read at {} up to {}", offset, bound);
        Ok(())
    }

    fn find_time(&mut self, timestamp: i64) -> TestCaseResult {
        let (start, end) = (self.start, self.end);
        let found = self.log().offset_for_timestamp(timestamp, end).unwrap();
        let expected = self.batches.iter().find_map(|kept| {
            let header = &kept.header;
            (0..i64::from(header.record_count))
                .map(|delta| (header.base_timestamp + delta, header.base_offset + delta))
                .find(|(time, offset)| *time >= timestamp && *offset >= start)
        });
        prop_assert_eq!(found.map(|found| (found.timestamp, found.offset)), expected);
        Ok(())
    }

    /// Reads everything back, batch by batch and by time, and compares.
    fn check(&mut self) -> TestCaseResult {
        prop_assert_eq!(self.log().log_end_offset(), self.end);
        prop_assert_eq!(self.log().log_start_offset(), self.start);
        prop_assert!(self.log().recovery_point() <= self.end);
        self.check_transactions()?;
        let mut offset = self.start;
        while offset < self.end {
            self.read(offset, 700, self.end, true)?;
            let next = self
                .batches
                .iter()
                .find(|kept| kept.header.last_offset() >= offset);
            offset = next.map_or(self.end, |kept| kept.header.next_offset());
        }
        let epochs: Vec<(i32, i64)> = self
            .batches
            .iter()
            .map(|kept| (kept.header.leader_epoch, kept.header.base_offset))
            .collect();
        for (epoch, base_offset) in epochs {
            if base_offset >= self.start {
                prop_assert_eq!(self.log().epochs().epoch_for(base_offset), Some(epoch));
            }
        }
        let times: Vec<i64> = self
            .batches
            .iter()
            .map(|kept| kept.header.max_timestamp)
            .collect();
        for timestamp in times.into_iter().chain([0, i64::MAX]) {
            self.find_time(timestamp)?;
        }
        Ok(())
    }

    fn kill(&mut self, torn: u16) -> TestCaseResult {
        let step = Step::Append {
            count: 2,
            value_len: 60,
            later_ms: 1,
            new_epoch: false,
            sequenced: true,
        };
        let (bytes, _) = self.next_batch(&step).expect("a batch");
        let log = self.log.take().expect("open between steps");
        let active = log.segments.last().expect("a segment");
        let kept = usize::from(torn) % bytes.len();
        active
            .file
            .write_all_at(&bytes[..kept], active.size)
            .unwrap();
        drop(log);
        self.storage.crash(Crash::Process);
        let end = self.end;
        self.open(false);
        self.adopt_end(end)
    }

    fn lose(&mut self, keep: u64) -> TestCaseResult {
        let acknowledged: Vec<BatchHeader> = self.batches.iter().map(|kept| kept.header).collect();
        self.log = None;
        self.storage.crash(Crash::Machine { keep });
        self.open(false);
        // Each segment keeps what it has in front; what was below the recovery point is all there.
        let log = self.log.as_mut().expect("just opened");
        let (start, end, point) = (
            log.log_start_offset(),
            log.log_end_offset(),
            self.recovery_point,
        );
        prop_assert!(end >= point);
        self.batches.retain(|kept| {
            let offset = kept.header.base_offset.max(start);
            let found = log.read(offset, 0, i64::MAX, true).ok().flatten();
            found.is_some_and(|found| found.slice.read().unwrap() == kept.bytes)
        });
        (self.start, self.end) = (start, end);
        let kept = offsets_on_disk(log);
        let first = log.segments[0].base_offset;
        self.transactions.keep(&kept, first);
        let kept_all = acknowledged.iter().all(|header| {
            header.next_offset() > point
                || header.base_offset < start
                || self.batches.iter().any(|kept| kept.header == *header)
        });
        prop_assert!(kept_all, "lost records below the recovery point");
        self.cut(end);
        self.end = end;
        self.holed = true;
        // What retention deleted was known by a snapshot alone, which may be lost.
        if self.open_transactions() != self.transactions.open() {
            self.transactions.forget_before(first);
        }
        Ok(())
    }

    fn flush(&mut self) {
        let flush = self.log().begin_flush().unwrap();
        flush.sync().unwrap();
        self.log().flushed(&flush);
        self.recovery_point = self.log().recovery_point();
    }

    /// Flips a bit of what was written after the recovery point.
    fn flip_log_tail(&mut self, back: u16, bit: u8) -> TestCaseResult {
        let point = self.recovery_point;
        let (path, size) = {
            let active = self.log().segments.last().expect("a segment");
            (active.path(FileKind::Log), active.size)
        };
        let base = self.log().segments.last().expect("a segment").base_offset;
        let behind: u64 = self
            .batches
            .iter()
            .filter(|kept| kept.header.base_offset >= base.max(point))
            .map(|kept| kept.bytes.len() as u64)
            .sum();
        if behind == 0 {
            return Ok(());
        }
        let position = size - 1 - u64::from(back) % behind;
        let mut at = size - behind;
        let mut hit = self.end;
        for kept in self
            .batches
            .iter()
            .filter(|kept| kept.header.base_offset >= base.max(point))
        {
            if position < at + kept.bytes.len() as u64 {
                hit = kept.header.base_offset;
                // Base offset and leader epoch are outside of the CRC: nobody can tell.
                if matches!(position - at, 0..8 | 12..16) {
                    return Ok(());
                }
                break;
            }
            at += kept.bytes.len() as u64;
        }
        self.log = None;
        self.storage.tamper(&path, |bytes| {
            bytes[usize::try_from(position).unwrap()] ^= 1 << bit
        });
        let recovery = self.open(false);
        prop_assert!(recovery.cut_because.is_some());
        if hit < self.start {
            // What ends below the log start offset starts anew there.
            self.batches.clear();
            self.transactions = TransactionModel::default();
            (self.end, self.recovery_point, self.sequence) = (self.start, self.start, 0);
            return Ok(());
        }
        prop_assert_eq!(self.log().log_end_offset(), hit, "cut at the damaged batch");
        self.adopt_end(hit)
    }

    fn index_path(&mut self, segment: u16, time: bool) -> PathBuf {
        let kind = if time {
            FileKind::TimeIndex
        } else {
            FileKind::Index
        };
        let log = self.log();
        log.segments[usize::from(segment) % log.segments.len()].path(kind)
    }

    fn close(&mut self) {
        let log = self.log.take().expect("open between steps");
        log.close().unwrap();
    }

    fn truncate(&mut self, at: u16) -> TestCaseResult {
        let offset = self.offset_in(at);
        let end = self.log().truncate_to(offset).unwrap();
        prop_assert!(end <= offset);
        self.cut(end);
        self.epoch += 1;
        prop_assert_eq!(self.end, end);
        Ok(())
    }

    fn reopen(&mut self) -> TestCaseResult {
        self.close();
        self.recovery_point = self.end;
        self.storage.crash(Crash::Machine { keep: 0 });
        let recovery = self.open(true);
        // Indexes that a killed process left unsynced below the recovery point may have to be made again.
        let recovery = Recovery {
            reindexed: Vec::new(),
            ..recovery
        };
        prop_assert!(recovery.is_empty(), "{:?}", recovery);
        Ok(())
    }

    fn flip_index(&mut self, at: u16, bit: u8, time: bool) {
        let path = self.index_path(at, time);
        self.log = None;
        self.storage.tamper(&path, |bytes| {
            let len = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(usize::from(at) % len) {
                *byte ^= 1 << bit;
            }
        });
        // A time index that is wrong and looks right is believed below the recovery point, as Kafka does.
        let point = self.recovery_point;
        if time {
            self.recovery_point = 0;
        }
        self.open(false);
        self.recovery_point = point;
    }

    fn apply(&mut self, step: &Step) -> TestCaseResult {
        match *step {
            Step::Append { .. } => self.append(step)?,
            Step::AppendTransactional { producer, later_ms } => {
                self.append_transactional(producer, later_ms, None);
            }
            Step::EndTransaction { producer, commit } => {
                self.append_transactional(producer, 1, Some(commit));
            }
            Step::TearTransactionIndex { segment, cut } => {
                self.tear_transaction_index(segment, cut);
            }
            Step::Read {
                at,
                max_bytes,
                bound,
                one,
            } => {
                let (offset, bound) = (self.offset_in(at), self.offset_in(bound));
                self.read(offset, max_bytes, bound, one)?;
            }
            Step::FindTime { at } => {
                let timestamp = 990 + i64::from(at) % (self.now_ms - 970);
                self.find_time(timestamp)?;
            }
            Step::Truncate { at } => self.truncate(at)?,
            Step::StartAt { gap } => {
                let offset = self.end + gap;
                self.log().truncate_fully_and_start_at(offset).unwrap();
                self.batches.clear();
                self.transactions = TransactionModel::default();
                (self.start, self.end, self.recovery_point, self.sequence) =
                    (offset, offset, offset, 0);
            }
            Step::RaiseStart { at } => {
                let offset = self.offset_in(at);
                let raised = self.log().raise_log_start(offset).unwrap();
                prop_assert_eq!(raised, offset > self.start);
                self.start = offset;
            }
            Step::Retain { bytes } => self.retain(bytes)?,
            Step::Flush => self.flush(),
            Step::Reopen => self.reopen()?,
            Step::Kill { torn } => self.kill(torn)?,
            Step::Lose { keep } => self.lose(keep)?,
            Step::FlipLogTail { back, bit } => self.flip_log_tail(back, bit)?,
            Step::FlipIndex { at, bit, time } => self.flip_index(at, bit, time),
            Step::DropIndex { segment, time } => {
                let path = self.index_path(segment, time);
                self.close();
                self.storage.remove_file(&path).unwrap();
                self.open(true);
            }
            Step::FullDisk { room } => self.full_disk(room)?,
        }
        Ok(())
    }

    fn retain(&mut self, bytes: i64) -> TestCaseResult {
        let (now_ms, end) = (self.now_ms, self.end);
        let log = self.log.as_mut().expect("open between steps");
        log.update_config(LogConfig {
            retention_bytes: bytes,
            ..config()
        });
        let before = log.size_bytes();
        let expired = log.delete_expired(now_ms, end).unwrap();
        log.update_config(config());
        let gone: u64 = expired
            .deleted
            .iter()
            .map(|segment| segment.size_bytes)
            .sum();
        prop_assert_eq!(log.size_bytes(), before - gone);
        let by_size = expired
            .deleted
            .iter()
            .any(|segment| segment.reason == Reason::Size);
        prop_assert!(!by_size || before - gone >= bytes.unsigned_abs());
        for file in expired.deleted.iter().flat_map(|segment| &segment.files) {
            self.storage.remove_file(file).unwrap();
        }
        let start = log.log_start_offset();
        prop_assert!(start >= self.start);
        self.start = start;
        let first = log.segments[0].base_offset;
        self.batches.retain(|kept| kept.header.base_offset >= first);
        Ok(())
    }

    fn full_disk(&mut self, room: u64) -> TestCaseResult {
        self.storage.limit_room(Some(room));
        let mut refused = false;
        for _ in 0..6 {
            let step = Step::Append {
                count: 1,
                value_len: 30,
                later_ms: 1,
                new_epoch: false,
                sequenced: false,
            };
            let (bytes, header) = self.next_batch(&step).expect("a batch");
            let now_ms = self.now_ms;
            match self.log().append(&bytes, &header, now_ms) {
                Ok(_) => {
                    prop_assert!(!refused, "appended after a failed write");
                    self.end = header.next_offset();
                    self.batches.push(Kept { bytes, header });
                }
                Err(_) => refused = true,
            }
            prop_assert_eq!(self.log().is_failed(), refused);
        }
        self.check()?;
        self.log = None;
        self.open(false);
        self.check()?;
        self.storage.limit_room(None);
        self.log = None;
        self.open(false);
        Ok(())
    }
}

/// Returns the base offsets of all batches, those below the log start offset too.
fn offsets_on_disk(log: &Log) -> Vec<i64> {
    let mut offsets = Vec::new();
    for segment in &log.segments {
        let mut walk = segment.walk(0);
        while let Some((_, header)) = walk.next().unwrap() {
            offsets.push(header.base_offset);
        }
    }
    offsets
}

fn run(steps: &[Step]) -> TestCaseResult {
    let mut pair = Pair::new();
    for step in steps {
        pair.apply(step)?;
        let light = matches!(
            step,
            Step::Append { .. } | Step::Read { .. } | Step::FindTime { .. }
        );
        if !light {
            pair.check()?;
        }
    }
    pair.check()
}

/// Recovery took an entry of the time index away, and the full disk did not take it back: the look-up missed records.
#[test]
fn a_time_index_misses_nothing_after_recoveries_on_a_full_disk() {
    let append = |count, value_len, later_ms| Step::Append {
        count,
        value_len,
        later_ms,
        new_epoch: false,
        sequenced: false,
    };
    let transactional = || Step::AppendTransactional {
        producer: 10,
        later_ms: 0,
    };
    let steps = [
        append(1, 42, 0),
        transactional(),
        append(1, 8, 0),
        transactional(),
        append(2, 85, 0),
        append(4, 0, 0),
        append(3, 4, 0),
        transactional(),
        append(1, 22, 0),
        append(3, 68, 0),
        append(1, 10, 0),
        append(4, 25, 1),
        transactional(),
        transactional(),
        Step::Flush,
        append(1, 10, 0),
        append(2, 63, 0),
        Step::FullDisk { room: 98 },
        append(4, 30, 0),
        transactional(),
        Step::FullDisk { room: 196 },
        Step::FullDisk { room: 204 },
    ];
    run(&steps).unwrap();
}

/// `TROUPE_SEED` repeats a run.
#[test]
fn the_log_is_a_list_of_batches() {
    let seed = std::env::var("TROUPE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random::<u64>);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let config = ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    if let Err(failure) = runner.run(&steps(), |steps| run(&steps)) {
        panic!("TROUPE_SEED={seed}: {failure}");
    }
}
