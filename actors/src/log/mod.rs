//! A partition's log on disk, in Kafka's own format: segments of record batches, sparse indexes, producer state and
//! leader epochs.
//!
//! Plain blocking code, owned by one caller at a time. An append costs one positioned write; nothing is synced unless
//! the caller asks ([`Log::begin_flush`]).

mod append;
pub mod checkpoints;
pub mod cleaner;
mod config;
pub mod epochs;
mod flush;
mod index;
#[cfg(test)]
mod model_tests;
pub mod names;
pub mod partition_metadata;
pub mod producers;
mod read;
mod recovery;
mod retention;
mod scan;
mod segment;
mod snapshots;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tidy;
#[cfg(test)]
mod transaction_model;
mod truncate;
mod txn_index;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use troupe_protocol::kafka::records::batch::Batch;
use troupe_protocol::kafka::records::control::EndTxnMarker;

pub use self::append::Appended;
pub use self::config::LogConfig;
use self::epochs::LeaderEpochs;
pub use self::flush::Flush;
use self::names::FileKind;
use self::producers::Producers;
pub use self::read::{Range, ReadError, TimestampOffset};
pub use self::recovery::{Recovery, Start};
pub use self::retention::{DeletedSegment, Expired, Reason};
use self::segment::Segment;
pub use self::txn_index::AbortedTransaction;
use crate::storage::Storage;

/// The most that the records of a control batch take, unpacked.
const MARKER_BYTES_MAX: usize = 4096;

/// One partition's log.
pub struct Log {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    config: LogConfig,
    /// By base offset; the last one is appended to. Never empty.
    segments: Vec<Segment>,
    log_start_offset: i64,
    log_end_offset: i64,
    recovery_point: i64,
    /// The offset below which everything was compacted.
    cleaned_to: i64,
    epochs: LeaderEpochs,
    producers: Producers,
    /// Whether a write failed: from then on the log is only read.
    failed: bool,
    /// Whether files were created or renamed since the last flush.
    dir_dirty: bool,
    /// The offsets of snapshots that were written since the last flush.
    unsynced_snapshots: BTreeSet<i64>,
    /// Counts truncations, so that a flush that began before one does not count after it.
    truncations: u64,
}

impl Log {
    /// Writes producer state as it is before `offset`. Synced with the next flush: until then it can be found again in
    /// the batches.
    fn write_snapshot(&mut self, offset: i64) -> io::Result<()> {
        self.unsynced_snapshots.insert(offset);
        self.dir_dirty = true;
        let file = self
            .storage
            .open(&self.segment_file(offset, FileKind::Snapshot), true)?;
        file.set_len(0)?;
        file.write_all_at(&snapshots::encode(&self.producers), 0)
    }

    fn segment_file(&self, offset: i64, kind: FileKind) -> PathBuf {
        names::segment_file(&self.dir, offset, kind)
    }

    fn active(&self) -> &Segment {
        // The list is filled by `open` and never emptied: every removal leaves or makes a last one.
        #[allow(clippy::expect_used, reason = "an invariant of this type, not data")]
        self.segments.last().expect("a log has a segment")
    }

    fn active_mut(&mut self) -> &mut Segment {
        #[allow(clippy::expect_used, reason = "an invariant of this type, not data")]
        self.segments.last_mut().expect("a log has a segment")
    }

    /// Returns the first offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// Returns the offset that the next record will have.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// Returns the offset below which everything is known to be on disk.
    pub fn recovery_point(&self) -> i64 {
        self.recovery_point
    }

    /// Returns how many bytes the log files have.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Returns how many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Tells whether a write failed, so that nothing more is appended.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// Returns the partition directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Tells the log that its directory was renamed.
    pub fn moved(&mut self, dir: &Path) {
        self.dir = dir.to_owned();
        self.epochs.moved(dir);
        for segment in &mut self.segments {
            segment.moved(dir);
        }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the configuration; index sizes take effect with the next segment.
    pub fn update_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// Returns the leader epochs.
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// Notes that a new leader's epoch starts at the log end offset, as becoming leader does.
    pub fn assign_epoch(&mut self, epoch: i32) -> io::Result<()> {
        let end = self.log_end_offset;
        self.epochs.assign(epoch, end)
    }

    /// Answers OffsetForLeaderEpoch: the largest epoch not above `epoch`, and where it ended.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        self.epochs.end_offset_for(epoch, self.log_end_offset)
    }

    /// Returns the producers.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Forgets producers that were silent for `expiration_ms`.
    pub fn expire_producers(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.expire(now_ms, expiration_ms);
    }

    /// Returns the last stable offset: below it every transaction has ended. Never above `high_watermark`, nor below the
    /// log start offset, although the records there may have been part of an open transaction.
    pub fn last_stable_offset(&mut self, high_watermark: i64) -> i64 {
        let unstable = self.producers.first_unstable_offset(high_watermark);
        unstable.map_or(high_watermark, |offset| {
            offset.max(self.log_start_offset).min(high_watermark)
        })
    }

    /// Closes the log so that the next open needs no recovery: trims and syncs everything.
    ///
    /// # Errors
    /// The disk's, or that a write failed before: then the log directory must not be marked as cleanly shut down.
    pub fn close(mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("a write to this log failed before"));
        }
        self.active_mut().finish()?;
        // A flush that is under way has taken note of what it syncs, and nobody will hear how it went.
        let unflushed = self.segment_number(self.recovery_point);
        for segment in self.segments.iter_mut().skip(unflushed) {
            segment.distrust();
        }
        self.write_snapshot(self.log_end_offset)?;
        self.begin_flush()?.sync()
    }
}

/// Reads what a transaction marker says; `None` for other control records.
fn read_marker(batch: &[u8]) -> Option<EndTxnMarker> {
    let batch = Batch::parse(batch).ok()?;
    let record = batch.records(MARKER_BYTES_MAX).ok()?.next()?.ok()?;
    EndTxnMarker::parse(&record.key?, &record.value?)
}
