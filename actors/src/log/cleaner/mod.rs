//! Compaction: rewrites the closed segments of a log so that of each key the last record stays.
//!
//! Who compacts is not who owns the log. The owner hands out a [`Job`]: open files of the segments, which are never
//! written again, and the bounds. [`Cleaning`] works through it in small steps, on another thread, and writes its results
//! beside the log. Each result goes back as a [`Replacement`], which the owner puts into the log's place in one go, if
//! nothing happened to the replaced segments meanwhile. Readers of the old segments keep their open files.
//!
//! Offsets, epochs, producers and timestamps stay. So does the last batch of each result, without records if need be: the
//! log has no holes that a reader could wait in, and a crash in the middle of a swap shows exactly what was replaced.

mod bounds;
mod chunks;
mod cleaning;
mod filter;
#[cfg(test)]
mod model_tests;
mod offset_map;
mod result;
mod swap;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transactions;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::bounds::Cleanable;
pub use self::cleaning::{Cleaning, Statistics, Step};
use self::filter::LastBatches;
pub use self::swap::{Replacement, SwapError};
use super::LogConfig;
use super::txn_index::AbortedTransaction;
use crate::storage::{Storage, StorageFile};

/// How much memory one compaction may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// For the offsets of keys, in bytes.
    pub map_bytes: u64,
    /// How full that may get, from 0 to 1.
    pub load_factor: f64,
    /// For input, and as much again for output, in bytes; more only while a batch is larger.
    pub buffer_bytes: usize,
}

/// A part of a log that is to be compacted.
pub struct Job {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    config: LogConfig,
    /// From the first segment of the log on; never empty.
    sources: Vec<Source>,
    /// The offset from which on nothing was compacted yet.
    first_dirty: i64,
    /// Where in the segment of `first_dirty` its batch starts, in bytes.
    first_dirty_position: u64,
    /// By first offset.
    aborted: Vec<AbortedTransaction>,
    last_batches: LastBatches,
    truncations: u64,
    now_ms: i64,
}

/// A segment that is closed for good.
#[derive(Clone)]
struct Source {
    base_offset: i64,
    /// The offset after it.
    end_offset: i64,
    file: Arc<dyn StorageFile>,
    size: u64,
    offset_index_bytes: u64,
    time_index_bytes: u64,
}

impl Job {
    /// Returns the bytes of all its segments.
    pub fn size_bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.size).sum()
    }

    /// Returns the offset from which on nothing was compacted yet.
    pub fn first_dirty(&self) -> i64 {
        self.first_dirty
    }

    /// Returns the offset after the last segment.
    fn end_offset(&self) -> i64 {
        self.sources.last().map_or(0, |last| last.end_offset)
    }

    /// Groups the segments below `end` whose results may be one segment: as many neighbours as fit by bytes, index
    /// entries and range of offsets.
    fn groups(&self, end: i64) -> Vec<Range<usize>> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        let below = |source: &&Source| source.base_offset < end;
        for (number, source) in self.sources.iter().take_while(below).enumerate() {
            match groups.last_mut() {
                Some(group) if self.fits(group.clone(), source) => group.end = number + 1,
                _ => groups.push(number..number + 1),
            }
        }
        groups
    }

    fn fits(&self, group: Range<usize>, next: &Source) -> bool {
        let group = self.sources.get(group).unwrap_or_default();
        let total = |of: fn(&Source) -> u64| group.iter().map(of).sum::<u64>() + of(next);
        let first = group.first().map_or(0, |first| first.base_offset);
        total(|source| source.size) <= self.config.segment_bytes.min(i32::MAX as u64)
            && total(|source| source.offset_index_bytes) <= self.config.segment_index_bytes
            && total(|source| source.time_index_bytes) <= self.config.segment_index_bytes
            && next.end_offset.saturating_sub(1).saturating_sub(first) <= i64::from(i32::MAX)
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
