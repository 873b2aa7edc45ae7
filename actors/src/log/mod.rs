//! A partition's log on disk, in Kafka's own format: segments of record batches, sparse indexes, producer state and
//! leader epochs.
//!
//! Plain blocking code, owned by one caller at a time. An append costs one positioned write; nothing is synced unless
//! the caller asks ([`Log::begin_flush`]).

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
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use troupe_protocol::kafka::records::batch::{Batch, BatchHeader};
use troupe_protocol::kafka::records::control::EndTxnMarker;

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

/// What an append did beside appending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Whether it started a new segment: what lies before should be flushed soon.
    pub rolled: bool,
}

impl Log {
    /// Appends a batch whose base offset and leader epoch are assigned, starting a new segment when needed.
    ///
    /// Offsets must not go back but may leave gaps.
    ///
    /// # Errors
    /// `InvalidInput` when the batch does not fit its header or lies before the log end offset; nothing has happened
    /// then. Any other error is the disk's: the log is as before and takes no more appends until opened again.
    pub fn append(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        now_ms: i64,
    ) -> io::Result<Appended> {
        if self.failed {
            return Err(io::Error::other("a write to this log failed before"));
        }
        let fits = header.size == batch.len() && header.last_offset_delta >= 0;
        if !fits || header.base_offset < self.log_end_offset || header.last_offset() == i64::MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a batch at {} does not follow {}",
                    header.base_offset, self.log_end_offset
                ),
            ));
        }
        let marker = header
            .attributes
            .is_control()
            .then(|| read_marker(batch))
            .flatten();
        match self.write(batch, header, now_ms) {
            Ok(rolled) => {
                self.log_end_offset = header.next_offset();
                if let Some(aborted) = self.producers.update(header, marker) {
                    self.dir_dirty = true;
                    self.active_mut()
                        .append_aborted(aborted)
                        .inspect_err(|_| self.failed = true)?;
                }
                Ok(Appended { rolled })
            }
            Err(error) => {
                self.failed = true;
                let end = self.log_end_offset;
                self.active_mut().cut_back();
                // The disk is failing; what counts is that memory is right.
                let _ = self.epochs.truncate_end(end);
                Err(error)
            }
        }
    }

    fn write(&mut self, batch: &[u8], header: &BatchHeader, now_ms: i64) -> io::Result<bool> {
        let rolls = self.rolls_for(header, now_ms)?;
        if rolls {
            self.roll(header.base_offset, now_ms)?;
        }
        self.epochs
            .assign(header.leader_epoch, header.base_offset)?;
        let interval = self.config.index_interval_bytes;
        self.active_mut().append(batch, header, interval)?;
        Ok(rolls)
    }

    fn rolls_for(&mut self, header: &BatchHeader, now_ms: i64) -> io::Result<bool> {
        let (segment_bytes, limit_ms) = (self.config.segment_bytes, self.segment_ms());
        let active = self.active_mut();
        if active.size == 0 {
            return Ok(
                header.last_offset().saturating_sub(active.base_offset) > i64::from(i32::MAX)
            );
        }
        Ok(active.is_full_for(header, segment_bytes)
            || active.age_ms(header.max_timestamp, now_ms)? > limit_ms)
    }

    /// Returns the age at which the active segment is to be closed: `segment.ms` less its share of the jitter. A
    /// compacted log closes it in time for `max.compaction.lag.ms`.
    fn segment_ms(&self) -> i64 {
        let segment_ms = match self.config.cleanup_compact {
            true => (self.config.segment_ms).min(self.config.max_compaction_lag_ms.max(1)),
            false => self.config.segment_ms,
        };
        let jitter = self.config.segment_jitter_ms.min(segment_ms);
        if jitter <= 0 {
            return segment_ms;
        }
        let mut hasher = DefaultHasher::new();
        (&self.dir, self.active().base_offset).hash(&mut hasher);
        let share = i64::try_from(hasher.finish() >> 1).unwrap_or(0) % jitter;
        segment_ms.saturating_sub(share)
    }

    /// Closes the active segment and starts one at `base_offset`, with a producer snapshot beside it.
    fn roll(&mut self, base_offset: i64, now_ms: i64) -> io::Result<()> {
        if self.active().base_offset == base_offset {
            return Ok(());
        }
        self.active_mut().finish()?;
        self.write_snapshot(base_offset)?;
        let next = Segment::create(&self.storage, &self.dir, base_offset, &self.config, now_ms)?;
        self.segments.push(next);
        self.dir_dirty = true;
        Ok(())
    }

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
