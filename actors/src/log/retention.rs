//! Deleting the oldest segments: by age, by size, and what lies below the log start offset.

use std::io;
use std::path::PathBuf;

use super::Log;
use super::names::{self, FileKind};
use super::segment::Segment;

/// Why a segment was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its newest record is older than `retention.ms`.
    Time,
    /// The log without it still has `retention.bytes`.
    Size,
    /// All of it lies below the log start offset.
    LogStart,
    /// There are no records in it.
    Empty,
}

/// A segment that is no longer part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedSegment {
    /// Its first offset.
    pub base_offset: i64,
    /// Bytes of its log file.
    pub size_bytes: u64,
    /// Why it went.
    pub reason: Reason,
    /// Its files, renamed to end in `.deleted`: to be removed after `file.delete.delay.ms`.
    pub files: Vec<PathBuf>,
}

/// What retention did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// The segments deleted, oldest first.
    pub deleted: Vec<DeletedSegment>,
    /// The oldest segment that stays because its largest timestamp lies in the future: its base and that timestamp.
    pub kept_for_future_timestamp: Option<(i64, i64)>,
}

impl Log {
    /// Deletes the segments that have expired at `now_ms`, all of them below `high_watermark`; when the active one has,
    /// starts a new one first. The log start offset follows.
    ///
    /// Works after a failed write too, except that the active segment then stays.
    pub fn delete_expired(&mut self, now_ms: i64, high_watermark: i64) -> io::Result<Expired> {
        let mut expired = Expired::default();
        let mut excess = self.excess_bytes();
        let mut reasons = Vec::new();
        for number in 0..self.segments.len() {
            let Some(reason) = self.reason(number, now_ms, high_watermark, excess)? else {
                break;
            };
            reasons.push(reason);
            excess =
                excess.saturating_sub(self.segments.get(number).map_or(0, |segment| segment.size));
        }
        if self.config.cleanup_delete && self.config.retention_ms >= 0 {
            expired.kept_for_future_timestamp = self.future(reasons.len(), now_ms);
        }
        if reasons.len() == self.segments.len() {
            if self.failed {
                reasons.pop();
            } else {
                let end = self.log_end_offset;
                self.roll(end, now_ms).inspect_err(|_| self.failed = true)?;
            }
        }
        if reasons.is_empty() {
            return Ok(expired);
        }
        let gone: Vec<Segment> = self.segments.drain(..reasons.len()).collect();
        let first = self
            .segments
            .first()
            .map_or(self.log_end_offset, |first| first.base_offset);
        self.raise_log_start(first)?;
        self.dir_dirty = true;
        for (segment, reason) in gone.into_iter().zip(reasons) {
            expired.deleted.push(self.mark_deleted(&segment, reason)?);
        }
        Ok(expired)
    }

    fn reason(
        &self,
        number: usize,
        now_ms: i64,
        high_watermark: i64,
        excess: u64,
    ) -> io::Result<Option<Reason>> {
        let Some(segment) = self.segments.get(number) else {
            return Ok(None);
        };
        let next = self.segments.get(number + 1);
        let end = next.map_or(self.log_end_offset, |next| next.base_offset);
        let active_and_empty = next.is_none() && segment.size == 0;
        if active_and_empty || high_watermark < end {
            return Ok(None);
        }
        if end <= self.log_start_offset && next.is_some() {
            return Ok(Some(Reason::LogStart));
        }
        if !self.config.cleanup_delete {
            return Ok(None);
        }
        if segment.size == 0 {
            // Compaction left nothing of it: it keeps none of the later ones from going.
            return Ok(Some(Reason::Empty));
        }
        let limit_ms = self.config.retention_ms;
        if limit_ms >= 0 && now_ms.saturating_sub(self.newest_ms(segment)?) > limit_ms {
            return Ok(Some(Reason::Time));
        }
        Ok((segment.size <= excess).then_some(Reason::Size))
    }

    /// Returns the largest timestamp of a segment, or when it was last written, if its records have none.
    fn newest_ms(&self, segment: &Segment) -> io::Result<i64> {
        match segment.largest {
            Some(largest) => Ok(largest.timestamp),
            None => self.storage.modified_ms(&segment.path(FileKind::Log)),
        }
    }

    fn excess_bytes(&self) -> u64 {
        match u64::try_from(self.config.retention_bytes) {
            Ok(limit) if self.config.cleanup_delete => self.size_bytes().saturating_sub(limit),
            _ => 0,
        }
    }

    fn future(&self, number: usize, now_ms: i64) -> Option<(i64, i64)> {
        let segment = self.segments.get(number)?;
        let largest = segment.largest?;
        (largest.timestamp > now_ms).then_some((segment.base_offset, largest.timestamp))
    }

    fn mark_deleted(&self, segment: &Segment, reason: Reason) -> io::Result<DeletedSegment> {
        Ok(DeletedSegment {
            base_offset: segment.base_offset,
            size_bytes: segment.size,
            reason,
            files: self.mark_files(segment, &FileKind::ALL)?,
        })
    }

    /// Renames files of a segment to end in `.deleted`; returns their new names.
    pub(super) fn mark_files(
        &self,
        segment: &Segment,
        kinds: &[FileKind],
    ) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for kind in kinds {
            let path = segment.path(*kind);
            let marked = names::with_suffix(&path, names::DELETED);
            match self.storage.rename(&path, &marked) {
                Ok(()) => files.push(marked),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }
}
