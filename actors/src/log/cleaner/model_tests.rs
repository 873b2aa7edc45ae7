//! Compaction against a model, the table that the records describe: any records, any transactions, any crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::testing::*;
use super::*;
use crate::log::Log;
use crate::storage::memory::{Crash, MemoryStorage};
use crate::storage::{DirEntry, StorageFile};

/// A storage in which, after a number of changes to names, nothing works any more.
#[derive(Clone)]
struct Mortal {
    inner: MemoryStorage,
    left: Arc<AtomicI64>,
}

impl Mortal {
    fn new() -> Self {
        Self {
            inner: MemoryStorage::new(),
            left: Arc::new(AtomicI64::new(i64::MAX)),
        }
    }

    fn dies_after(&self, changes: i64) {
        self.left.store(changes, Ordering::SeqCst);
    }

    fn change(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => Ok(()),
            _ => Err(io::Error::other("injected: crashed")),
        }
    }
}

impl Storage for Mortal {
    fn open(&self, path: &std::path::Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        if create {
            self.change()?;
        }
        self.inner.open(path, create)
    }

    fn read(&self, path: &std::path::Path) -> io::Result<Vec<u8>> {
        self.inner.read(path)
    }

    fn replace(&self, path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        self.inner.replace(path, bytes)
    }

    fn list(&self, dir: &std::path::Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &std::path::Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
        self.change()?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &std::path::Path) -> io::Result<()> {
        self.change()?;
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, dir: &std::path::Path) -> io::Result<()> {
        self.change()?;
        self.inner.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &std::path::Path) -> io::Result<()> {
        self.change()?;
        self.inner.sync_dir(dir)
    }

    fn modified_ms(&self, path: &std::path::Path) -> io::Result<i64> {
        self.inner.modified_ms(path)
    }

    fn set_modified_ms(&self, path: &std::path::Path, modified_ms: i64) -> io::Result<()> {
        self.inner.set_modified_ms(path, modified_ms)
    }
}

#[derive(Debug, Clone)]
enum Change {
    /// A batch of these keys; those that are odd in `tombstones` are deleted.
    Append {
        keys: Vec<u8>,
        tombstones: u8,
        /// 0: nobody, 1 and 2: idempotent, above: in a transaction.
        producer: i64,
        packed: bool,
    },
    End {
        producer: i64,
        commit: bool,
    },
    Pass {
        ms: i64,
    },
    Clean {
        slots: u64,
        buffer_bytes: usize,
    },
    /// Compacts, and dies meanwhile.
    CleanAndDie {
        changes: i64,
        room: Option<u64>,
        machine: bool,
    },
    /// Loses the end of the log while it is compacted.
    CleanAndTruncate {
        steps: usize,
        back: i64,
    },
    Reopen,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let append = (
        prop::collection::vec(0..8u8, 1..5),
        any::<u8>(),
        0..6i64,
        any::<bool>(),
    )
        .prop_map(|(keys, tombstones, producer, packed)| Change::Append {
            keys,
            tombstones: tombstones & 0x55,
            producer,
            packed,
        });
    let change = prop_oneof![
        30 => append,
        8 => (3..6i64, any::<bool>()).prop_map(|(producer, commit)| Change::End { producer, commit }),
        3 => (1..1500i64).prop_map(|ms| Change::Pass { ms }),
        4 => (6..60u64, 0..2000usize)
            .prop_map(|(slots, buffer_bytes)| Change::Clean { slots, buffer_bytes }),
        2 => (0..60i64, prop::option::of(0..3000u64), any::<bool>())
            .prop_map(|(changes, room, machine)| Change::CleanAndDie { changes, room, machine }),
        1 => (0..12usize, 0..20i64)
            .prop_map(|(steps, back)| Change::CleanAndTruncate { steps, back }),
        1 => Just(Change::Reopen),
    ];
    prop::collection::vec(change, 1..120)
}

/// One record as it was appended; markers have no key.
type Fact = (i64, Option<u8>, Option<Vec<u8>>);

/// A log and all that was ever appended to it.
struct Pair {
    storage: Mortal,
    log: Option<Log>,
    /// With the producer of a transaction.
    appended: Vec<(Fact, Option<i64>)>,
    /// Offsets of data that was aborted.
    aborted: BTreeSet<i64>,
    open: BTreeMap<i64, Vec<i64>>,
    sequences: BTreeMap<i64, i32>,
    now_ms: i64,
    recovery_point: i64,
    cleaned_to: i64,
    /// The offset after the last marker.
    decided_to: i64,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            storage: Mortal::new(),
            log: None,
            appended: Vec::new(),
            aborted: BTreeSet::new(),
            open: BTreeMap::new(),
            sequences: BTreeMap::new(),
            now_ms: 1_000_000,
            recovery_point: 0,
            cleaned_to: 0,
            decided_to: 0,
        };
        pair.open();
        pair
    }

    fn open(&mut self) {
        self.storage.dies_after(i64::MAX);
        self.storage.inner.limit_room(None);
        let storage = Arc::new(self.storage.clone());
        let start = (self.recovery_point, self.cleaned_to);
        self.log = Some(open(storage, config(), start, self.now_ms));
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("open between changes")
    }

    fn append(&mut self, keys: &[u8], tombstones: u8, producer: i64, packed: bool) {
        let (now_ms, base_offset) = (self.now_ms, self.log().log_end_offset());
        let sequence = self.sequences.entry(producer).or_default();
        let records: Vec<(u8, Option<Vec<u8>>)> = keys
            .iter()
            .enumerate()
            .map(|(number, key)| {
                let value = format!("{base_offset} {number}").repeat(5).into_bytes();
                (*key, (tombstones & (1 << number) == 0).then_some(value))
            })
            .collect();
        let in_transaction = producer > 2;
        let spec = KeyedBatch {
            base_offset,
            timestamp: now_ms,
            records: records.clone(),
            producer: (producer > 0).then_some((producer, 0, *sequence)),
            transactional: in_transaction,
            packed,
        };
        *sequence += i32::try_from(keys.len()).unwrap();
        append(self.log(), &spec, now_ms);
        for (offset, (key, value)) in (base_offset..).zip(records) {
            let transaction = in_transaction.then_some(producer);
            self.appended
                .push(((offset, Some(key), value), transaction));
            if in_transaction {
                self.open.entry(producer).or_default().push(offset);
            }
        }
    }

    fn end(&mut self, producer: i64, commit: bool) {
        let Some(offsets) = self.open.remove(&producer) else {
            return;
        };
        let now_ms = self.now_ms;
        append_marker(self.log(), producer, commit, now_ms);
        self.decided_to = self.log().log_end_offset();
        if !commit {
            self.aborted.extend(offsets);
        }
    }

    fn limits(slots: u64, buffer_bytes: usize) -> Limits {
        Limits {
            map_bytes: slots * 24,
            load_factor: 0.9,
            buffer_bytes,
        }
    }

    /// Compacts until nothing is left to be done.
    fn clean(&mut self, slots: u64, buffer_bytes: usize) -> TestCaseResult {
        let now_ms = self.now_ms;
        let end = self.log().log_end_offset();
        while clean(self.log(), Self::limits(slots, buffer_bytes), now_ms).unwrap() {}
        prop_assert_eq!(self.log().log_end_offset(), end);
        self.cleaned_to = self.log().cleaned_to();
        let cleaned_to = self.cleaned_to;
        let left = read(self.log());
        let mut seen = BTreeSet::new();
        for (offset, key, _) in left.iter().rev().filter(|record| record.0 < cleaned_to) {
            prop_assert!(seen.insert(*key), "key {:?} twice, at {}", key, offset);
            prop_assert!(
                !self.aborted.contains(offset),
                "aborted data is left at {}",
                offset
            );
        }
        Ok(())
    }

    /// What was flushed is there after any crash.
    fn flush(&mut self) {
        let flush = self.log().begin_flush().unwrap();
        flush.sync().unwrap();
        self.log().flushed(&flush);
        self.recovery_point = self.log().recovery_point();
    }

    fn die(&mut self, changes: i64, room: Option<u64>, machine: bool) {
        self.flush();
        self.storage.dies_after(changes);
        self.storage.inner.limit_room(room);
        let now_ms = self.now_ms;
        while let Ok(true) = clean(self.log(), Self::limits(1000, 500), now_ms) {}
        // It may have lived long enough to checkpoint, or not.
        if changes % 2 == 0 {
            self.cleaned_to = self.log().cleaned_to();
        }
        // Nothing of the process works on: not even what is done when things are dropped.
        self.storage.dies_after(0);
        self.log = None;
        self.storage.inner.crash(match machine {
            true => Crash::Machine { keep: 0 },
            false => Crash::Process,
        });
        self.open();
    }

    fn truncate_meanwhile(&mut self, steps: usize, back: i64) -> TestCaseResult {
        let (now_ms, end) = (self.now_ms, self.log().log_end_offset());
        let job = begin(self.log(), now_ms);
        let Some(job) = job else { return Ok(()) };
        let mut cleaning = Cleaning::new(job, Self::limits(1000, 300)).unwrap();
        let (mut refused, mut replaced) = (false, false);
        for number in 0.. {
            // What was put in place already lacks the older values of what would be cut off. So nothing is cut off any
            // more, as in a partition nothing below the high watermark is, where all that is compacted lies.
            if number == steps && !replaced {
                // No marker is lost, so that the model stays simple.
                let to = end.saturating_sub(back).max(self.decided_to);
                let to = self.log().truncate_to(to).unwrap();
                refused = to < end;
                self.forget_from(to);
            }
            let step = match cleaning.step() {
                // What it reads is cut off beneath it.
                Err(_) if refused => return Ok(()),
                step => step.unwrap(),
            };
            match step {
                Step::Worked(_) => {}
                Step::Replace(replacement) => {
                    if let Err(error) = self.log().replace_segments(replacement) {
                        prop_assert!(refused && matches!(error, SwapError::Changed), "{}", error);
                        return Ok(());
                    }
                    prop_assert!(!refused);
                    replaced = true;
                }
                Step::Done => return Ok(()),
            }
        }
        Ok(())
    }

    fn forget_from(&mut self, end: i64) {
        self.appended.retain(|((offset, ..), _)| *offset < end);
        self.aborted.retain(|offset| *offset < end);
        for offsets in self.open.values_mut() {
            offsets.retain(|offset| *offset < end);
        }
        self.open.retain(|_, offsets| !offsets.is_empty());
        self.recovery_point = self.log().recovery_point().min(end);
        self.cleaned_to = self.log().cleaned_to();
        let known: BTreeMap<i64, i32> = (self.log().producers().iter())
            .map(|(id, producer)| (id, producer.last_sequence() + 1))
            .collect();
        self.sequences = known;
    }

    /// Compares what a reader of committed records finds with what was appended.
    fn check(&mut self) -> TestCaseResult {
        let pending: BTreeSet<i64> = self.open.values().flatten().copied().collect();
        let log = self.log.as_ref().expect("open between changes");
        let committed: Vec<&Fact> = self
            .appended
            .iter()
            .map(|(fact, _)| fact)
            .filter(|(offset, ..)| !self.aborted.contains(offset) && !pending.contains(offset))
            .collect();
        let by_offset: BTreeMap<i64, &Fact> =
            committed.iter().map(|fact| (fact.0, *fact)).collect();
        let expected = table(committed.iter().copied());
        let found: Vec<Fact> = read(log)
            .into_iter()
            .filter(|(offset, ..)| !pending.contains(offset))
            .collect();
        for fact in &found {
            prop_assert_eq!(
                by_offset.get(&fact.0),
                Some(&fact),
                "it was never committed"
            );
        }
        prop_assert!(found.is_sorted_by_key(|fact| fact.0));
        prop_assert_eq!(table(found.iter()), expected);
        Ok(())
    }

    /// The next batch of every producer is the one that follows its last, also after a restart.
    fn check_sequences(&mut self) -> TestCaseResult {
        let sequences = self.sequences.clone();
        for (producer, sequence) in sequences.into_iter().filter(|(id, _)| *id > 0) {
            let known = self.log().producers().get(producer);
            let last = known.map(|producer| producer.last_sequence());
            prop_assert!(
                last.is_none_or(|last| last == sequence - 1 || sequence == 0),
                "producer {} goes on at {} after {:?}",
                producer,
                sequence,
                last
            );
            prop_assert!(
                last.is_some() || sequence == 0,
                "producer {} is forgotten",
                producer
            );
        }
        Ok(())
    }
}

/// What the last record of each key says.
fn table<'a>(facts: impl Iterator<Item = &'a Fact>) -> BTreeMap<Option<u8>, (i64, Vec<u8>)> {
    let mut table = BTreeMap::new();
    for (offset, key, value) in facts {
        match value {
            Some(value) => table.insert(*key, (*offset, value.clone())),
            None => table.remove(key),
        };
    }
    table
}

fn run(changes: Vec<Change>) -> TestCaseResult {
    let mut pair = Pair::new();
    for change in changes {
        match change {
            Change::Append {
                keys,
                tombstones,
                producer,
                packed,
            } => pair.append(&keys, tombstones, producer, packed),
            Change::End { producer, commit } => pair.end(producer, commit),
            Change::Pass { ms } => pair.now_ms += ms,
            Change::Clean {
                slots,
                buffer_bytes,
            } => pair.clean(slots, buffer_bytes)?,
            Change::CleanAndDie {
                changes,
                room,
                machine,
            } => pair.die(changes, room, machine),
            Change::CleanAndTruncate { steps, back } => pair.truncate_meanwhile(steps, back)?,
            Change::Reopen => {
                pair.flush();
                pair.log = None;
                pair.open();
            }
        }
        pair.check()?;
        pair.check_sequences()?;
    }
    // Whatever happened before, two rounds after the horizon leave neither tombstones nor markers of gone data.
    pair.clean(1000, 1000)?;
    pair.now_ms += 2 * DELETE_RETENTION_MS;
    pair.check()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_table_stays(changes in changes()) {
        run(changes)?;
    }
}
