//! Which part of a log can be compacted, and how badly it needs that.

use std::io;
use std::sync::Arc;

use super::filter::LastBatches;
use super::{Job, Source};
use crate::log::Log;
use crate::log::segment::Segment;

/// How much there is to compact in a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleanable {
    /// Bytes of segments that were compacted before.
    pub clean_bytes: u64,
    /// Bytes of segments that were not, and can be.
    pub dirty_bytes: u64,
    /// Whether a record has waited for longer than `max.compaction.lag.ms`.
    pub overdue: bool,
    /// `min.cleanable.dirty.ratio`
    pub min_dirty_ratio: f64,
}

impl Cleanable {
    /// Returns which part of the log was not compacted yet, from 0 to 1.
    pub fn dirty_ratio(&self) -> f64 {
        let total = self.clean_bytes.saturating_add(self.dirty_bytes).max(1);
        self.dirty_bytes as f64 / total as f64
    }

    /// Tells whether it is time to compact the log.
    pub fn is_due(&self) -> bool {
        let has_some = self.dirty_bytes > 0;
        has_some && (self.overdue || self.dirty_ratio() > self.min_dirty_ratio)
    }
}

impl Log {
    /// Returns the offset below which everything was compacted, as the checkpoint keeps it; 0 for nothing.
    pub fn cleaned_to(&self) -> i64 {
        self.cleaned_to
    }

    /// Takes note that everything below `offset` is compacted.
    pub fn cleaned(&mut self, offset: i64) {
        self.cleaned_to = offset.min(self.log_end_offset);
    }

    /// Says how much of the log below `stable`, the last stable offset, can be compacted; `None` when `cleanup.policy`
    /// does not have `compact` or the log refuses writes.
    pub fn cleanable(&mut self, now_ms: i64, stable: i64) -> io::Result<Option<Cleanable>> {
        if !self.config.cleanup_compact || self.failed {
            return Ok(None);
        }
        let first_dirty = self.first_dirty();
        let count = self.cleanable_segments(now_ms, stable);
        let dirty = self.segment_number(first_dirty);
        let bytes = |segments: &[Segment]| segments.iter().map(|segment| segment.size).sum();
        let clean_bytes = bytes(self.segments.get(..dirty.min(count)).unwrap_or_default());
        let dirty_bytes = bytes(self.segments.get(dirty..count).unwrap_or_default());
        Ok(Some(Cleanable {
            clean_bytes,
            dirty_bytes,
            overdue: dirty_bytes > 0 && self.is_overdue(dirty, now_ms)?,
            min_dirty_ratio: self.config.min_cleanable_dirty_ratio,
        }))
    }

    /// Returns the work to be done; `None` when there is none. `stable` is the last stable offset.
    pub fn begin_cleaning(&mut self, now_ms: i64, stable: i64) -> io::Result<Option<Job>> {
        if !self.config.cleanup_compact || self.failed {
            return Ok(None);
        }
        let first_dirty = self.first_dirty();
        let count = self.cleanable_segments(now_ms, stable);
        let dirty = self.segment_number(first_dirty);
        if dirty >= count {
            return Ok(None);
        }
        let mut sources = Vec::with_capacity(count);
        for (segment, next) in self
            .segments
            .iter()
            .zip(self.segments.iter().skip(1))
            .take(count)
        {
            sources.push(Source {
                base_offset: segment.base_offset,
                end_offset: next.base_offset,
                file: Arc::clone(&segment.file),
                size: segment.size,
                offset_index_bytes: segment.offsets.size_bytes(),
                time_index_bytes: segment.times.size_bytes(),
            });
        }
        let place = match self.segments.get(dirty) {
            Some(segment) => segment
                .locate(first_dirty)?
                .map_or(segment.size, |place| place.position),
            None => 0,
        };
        let end = sources.last().map_or(0, |last| last.end_offset);
        Ok(Some(Job {
            storage: Arc::clone(&self.storage),
            dir: self.dir.clone(),
            config: self.config.clone(),
            sources,
            first_dirty,
            first_dirty_position: place,
            aborted: self.aborted_transactions(0, end),
            last_batches: LastBatches::of(&self.producers),
            truncations: self.truncations,
            now_ms,
        }))
    }

    /// Returns where the part begins that was not compacted: from the start, when the checkpoint cannot be right.
    fn first_dirty(&self) -> i64 {
        let valid = (self.log_start_offset..=self.log_end_offset).contains(&self.cleaned_to);
        match valid {
            true => self.cleaned_to,
            false => self.log_start_offset,
        }
    }

    /// Returns how many segments, from the first, can be compacted: those below the active one and the last stable
    /// offset, up to the first with a record younger than `min.compaction.lag.ms`.
    fn cleanable_segments(&self, now_ms: i64, stable: i64) -> usize {
        let first_dirty = self.segment_number(self.first_dirty());
        let lag_ms = self.config.min_compaction_lag_ms;
        let newest_ms = now_ms.saturating_sub(lag_ms.max(0));
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        pairs
            .enumerate()
            .take_while(|(number, (segment, next))| {
                let young = lag_ms > 0
                    && *number >= first_dirty
                    && (segment.largest).is_some_and(|largest| largest.timestamp > newest_ms);
                next.base_offset <= stable && !young
            })
            .count()
    }

    /// Tells whether a closed segment from number `dirty` on begins with a record older than `max.compaction.lag.ms`.
    fn is_overdue(&mut self, dirty: usize, now_ms: i64) -> io::Result<bool> {
        let oldest_ms = now_ms.saturating_sub(self.config.max_compaction_lag_ms.max(0));
        let closed = self.segments.len().saturating_sub(1);
        for segment in self.segments.iter_mut().take(closed).skip(dirty) {
            let first = segment.first_timestamp()?;
            if first > 0 && first < oldest_ms {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
