//! What clients were told in a run, and what of it contradicts what they were told before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use super::network::Trace;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    pub topic: String,
    pub index: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// A record: its producer, and its number among all that this one has sent to the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub producer: u32,
    pub number: u32,
}

impl Id {
    /// Returns the value of the record.
    pub fn value(self) -> Vec<u8> {
        format!("{} {} {}", self.producer, self.number, "x".repeat(20)).into_bytes()
    }

    /// Reads it out of a value.
    pub fn of(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        Some(Self {
            producer: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
        })
    }
}

/// What is known of one partition.
#[derive(Default)]
pub struct Known {
    /// Acknowledged records, with the offset if it was told.
    pub acknowledged: BTreeMap<Id, Option<i64>>,
    /// Records of transactions that were aborted for certain.
    pub aborted: BTreeSet<Id>,
    /// What was read below the high watermark, by offset, and the epoch of its batch.
    pub read: BTreeMap<i64, (Id, i32)>,
    /// Records that who reads committed records was given.
    pub committed: BTreeSet<Id>,
}

#[derive(Default)]
struct Inner {
    partitions: BTreeMap<Partition, Known>,
    violations: Vec<String>,
    /// Set when producers are to come to an end.
    ending: bool,
    /// Clients that have not done what they are to do.
    busy: u32,
    /// What is not well yet.
    complaint: String,
}

/// The history of a run; clones share it.
#[derive(Clone, Default)]
pub struct History {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

impl History {
    pub fn new(trace: Trace) -> Self {
        Self {
            inner: Arc::default(),
            trace,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Takes note of a promise that was broken.
    pub fn violated(&self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("VIOLATION at {:?}: {what}", turmoil_time());
        self.inner().violations.push(what);
    }

    /// Returns all promises that were broken.
    pub fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }

    /// Takes note of records that were acknowledged.
    pub fn acknowledged(&self, partition: &Partition, ids: &[Id], offset: Option<i64>) {
        let said = format!("{partition} {ids:?} {offset:?}");
        tracing::debug!(target: "clients", "acknowledged: {said}");
        self.trace.say(&said);
        let mut inner = self.inner();
        let known = inner.partitions.entry(partition.clone()).or_default();
        for (id, delta) in ids.iter().zip(0..) {
            let offset = offset.map(|offset| offset + delta);
            known.acknowledged.insert(*id, offset);
        }
    }

    /// Takes note of records that nobody who reads committed records may see.
    pub fn aborted(&self, partition: &Partition, ids: &[Id]) {
        let mut inner = self.inner();
        let known = inner.partitions.entry(partition.clone()).or_default();
        known.aborted.extend(ids);
    }

    /// Takes note of a record that was read; what was read once stays.
    pub fn read(&self, partition: &Partition, offset: i64, id: Id, epoch: i32) {
        let before = {
            let mut inner = self.inner();
            let known = inner.partitions.entry(partition.clone()).or_default();
            known.read.insert(offset, (id, epoch))
        };
        if let Some(before) = before
            && before != (id, epoch)
        {
            self.violated(format!(
                "{partition} had {before:?} at {offset}, which was read, and has {:?} now",
                (id, epoch)
            ));
        }
    }

    /// Takes note of a record that who reads committed records was given.
    pub fn read_committed(&self, partition: &Partition, id: Id) {
        let mut inner = self.inner();
        let known = inner.partitions.entry(partition.clone()).or_default();
        known.committed.insert(id);
    }

    /// Tells whether all that was acknowledged was read, by who reads committed records or by who reads all.
    pub fn is_read(&self, partition: &Partition, committed: bool) -> bool {
        self.of(partition, |known| {
            let read: BTreeSet<Id> = known.read.values().map(|(id, _)| *id).collect();
            let read = if committed { &known.committed } else { &read };
            known.acknowledged.keys().all(|id| read.contains(id))
        })
    }

    /// Looks at what is known of a partition.
    pub fn of<T>(&self, partition: &Partition, look: impl FnOnce(&Known) -> T) -> T {
        look(
            self.inner()
                .partitions
                .entry(partition.clone())
                .or_default(),
        )
    }

    /// Counts acknowledged records.
    pub fn count(&self) -> usize {
        let inner = self.inner();
        let known = inner.partitions.values();
        known.map(|known| known.acknowledged.len()).sum()
    }

    /// Takes note of what is not well yet.
    pub fn complain(&self, what: String) {
        self.inner().complaint = what;
    }

    /// Returns what was not well the last time somebody looked.
    pub fn complaint(&self) -> String {
        self.inner().complaint.clone()
    }

    /// A client begins something that it has to bring to its end.
    pub fn begin(&self) {
        self.inner().busy += 1;
    }

    /// It has.
    pub fn finish(&self) {
        self.inner().busy -= 1;
    }

    /// Tells whether all have.
    pub fn is_quiet(&self) -> bool {
        self.inner().busy == 0
    }

    /// Has producers come to an end.
    pub fn end(&self) {
        self.inner().ending = true;
    }

    /// Tells whether they are to.
    pub fn is_ending(&self) -> bool {
        self.inner().ending
    }
}

/// The time of the run, where there is one.
fn turmoil_time() -> std::time::Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
