//! Finding records: by offset, as ranges of a file, and by time.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use troupe_protocol::kafka::records::batch::Batch;

use super::names::FileKind;
use super::segment::{Place, Segment};
use super::{AbortedTransaction, Log};
use crate::storage::{FileSlice, read_exact_at};

/// The most that the records of one batch may take, unpacked, when a timestamp is looked for among them.
const UNPACKED_BYTES_MAX: usize = 128 << 20;

/// Why a read gave nothing.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The offset is below the log start offset or above the log end offset.
    #[error("the offset lies outside of the log")]
    OutOfRange,
    /// The disk failed, or what is on it is not what was written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Records to read.
pub struct Range {
    /// Where they are.
    pub slice: FileSlice,
    /// An offset above all of theirs, and not above those of the batches after them.
    pub end_offset: i64,
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its timestamp, in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Its offset.
    pub offset: i64,
    /// The leader epoch of its batch.
    pub leader_epoch: i32,
}

impl Log {
    /// Returns whole batches from the one that contains `offset` on, all below `upper_bound` (exclusive), in one
    /// segment, at most `max_bytes`, except that `at_least_one` gives the first batch whatever its size.
    ///
    /// `None` when there is nothing to give: the offset is the end or at the bound, or nothing fits.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: u64,
        upper_bound: i64,
        at_least_one: bool,
    ) -> Result<Option<Range>, ReadError> {
        if offset < self.log_start_offset || offset > self.log_end_offset {
            return Err(ReadError::OutOfRange);
        }
        if offset >= upper_bound.min(self.log_end_offset) {
            return Ok(None);
        }
        let Some((number, first)) = self.find(offset)? else {
            return Ok(None);
        };
        if first.last_offset >= upper_bound || (first.size > max_bytes && !at_least_one) {
            return Ok(None);
        }
        let Some(segment) = self.segments.get(number) else {
            return Ok(None);
        };
        let next_base = self
            .segments
            .get(number + 1)
            .map_or(self.log_end_offset, |next| next.base_offset);
        let bound = if upper_bound >= next_base {
            segment.size
        } else {
            segment
                .locate(upper_bound)?
                .map_or(segment.size, |place| place.position)
        };
        let limit = first.position.saturating_add(max_bytes);
        let (end, end_offset) = if bound <= limit {
            (bound, upper_bound.min(next_base))
        } else {
            segment.boundary(first.position, limit)?
        };
        let end = end.max(first.position + first.size);
        let slice = FileSlice {
            file: Arc::clone(&segment.file),
            position: first.position,
            len: end - first.position,
        };
        Ok(Some(Range {
            slice,
            end_offset: end_offset.max(first.last_offset + 1),
        }))
    }

    /// Returns the number of the segment in which `offset` is or would be.
    pub(super) fn segment_number(&self, offset: i64) -> usize {
        let after = self
            .segments
            .partition_point(|segment| segment.base_offset <= offset);
        after.saturating_sub(1)
    }

    /// Finds the first batch that ends at or after `offset`, and the number of its segment.
    fn find(&self, offset: i64) -> io::Result<Option<(usize, Place)>> {
        let first = self.segment_number(offset);
        for (number, segment) in self.segments.iter().enumerate().skip(first) {
            if let Some(place) = segment.locate(offset)? {
                return Ok(Some((number, place)));
            }
        }
        Ok(None)
    }

    /// Returns the aborted transactions that have records in [`from`, `to`), by first offset.
    pub fn aborted_transactions(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        let mut found = Vec::new();
        // A transaction is listed where its marker is: not in a segment before that of `from`.
        let segments = self.segments.iter().skip(self.segment_number(from));
        for aborted in segments.flat_map(|segment| segment.aborted_from(from)) {
            if aborted.first_offset < to {
                found.push(*aborted);
            }
            // What is aborted later begins there or after it.
            if aborted.last_stable_offset >= to {
                break;
            }
        }
        found.sort_by_key(|aborted| aborted.first_offset);
        found
    }

    /// Finds the first record that is not older than `timestamp` and lies below `bound` (exclusive).
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        bound: i64,
    ) -> io::Result<Option<TimestampOffset>> {
        for segment in &self.segments {
            if segment.base_offset >= bound {
                return Ok(None);
            }
            if segment
                .largest
                .is_none_or(|largest| largest.timestamp < timestamp)
            {
                continue;
            }
            if let Some(found) = self.search_segment(segment, timestamp)? {
                return Ok(Some(found).filter(|found| found.offset < bound));
            }
        }
        Ok(None)
    }

    fn search_segment(
        &self,
        segment: &Segment,
        timestamp: i64,
    ) -> io::Result<Option<TimestampOffset>> {
        let entry = segment
            .times
            .last_where(|entry| entry.timestamp <= timestamp)?;
        let from = entry
            .map_or(segment.base_offset, |entry| entry.offset)
            .max(self.log_start_offset);
        let Some(start) = segment.locate(from)? else {
            return Ok(None);
        };
        let mut walk = segment.walk(start.position);
        while let Some((position, header)) = walk.next()? {
            if header.max_timestamp < timestamp {
                continue;
            }
            if let Some(found) = self.search_batch(segment, position, header.size, timestamp)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn search_batch(
        &self,
        segment: &Segment,
        position: u64,
        size: usize,
        timestamp: i64,
    ) -> io::Result<Option<TimestampOffset>> {
        // The walk has seen that the batch lies within the segment, so this length is no larger than the file.
        let mut bytes = vec![0; size];
        read_exact_at(segment.file.as_ref(), &mut bytes, position)?;
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let batch = Batch::parse(&bytes).map_err(invalid)?;
        for record in batch.records(UNPACKED_BYTES_MAX).map_err(invalid)? {
            let record = record.map_err(invalid)?;
            if record.timestamp >= timestamp && record.offset >= self.log_start_offset {
                return Ok(Some(TimestampOffset {
                    timestamp: record.timestamp,
                    offset: record.offset,
                    leader_epoch: batch.header().leader_epoch,
                }));
            }
        }
        Ok(None)
    }

    /// Returns the first record with the largest timestamp of all; `None` when no record has one.
    pub fn max_timestamp(&self) -> io::Result<Option<TimestampOffset>> {
        // Of equals, the first segment: `max_by_key` would take the last.
        let with_largest = self.segments.iter().rev();
        let segment =
            with_largest.max_by_key(|segment| segment.largest.map(|largest| largest.timestamp));
        let Some((segment, largest)) =
            segment.and_then(|segment| Some((segment, segment.largest?)))
        else {
            return Ok(None);
        };
        match segment.locate(largest.offset)? {
            Some(place) => {
                let size = usize::try_from(place.size).unwrap_or(usize::MAX);
                self.search_batch(segment, place.position, size, largest.timestamp)
            }
            None => Ok(None),
        }
    }

    /// Answers ListOffsets v0: the bases of segments that were last written by `timestamp`, newest first, at most
    /// `max_num`.
    ///
    /// -1 starts at `latest` (the high watermark for consumers), -2 is the log start offset alone.
    pub fn offsets_before(
        &self,
        timestamp: i64,
        latest: i64,
        max_num: usize,
        now_ms: i64,
    ) -> io::Result<Vec<i64>> {
        const LATEST: i64 = -1;
        const EARLIEST: i64 = -2;
        if timestamp == EARLIEST {
            return Ok([self.log_start_offset].into_iter().take(max_num).collect());
        }
        let mut offsets = Vec::new();
        if timestamp == LATEST || timestamp >= now_ms {
            offsets.push(latest);
        }
        for segment in self.segments.iter().rev() {
            let base = segment.base_offset.max(self.log_start_offset);
            if offsets.len() >= max_num {
                break;
            }
            let wanted = timestamp == LATEST
                || self.storage.modified_ms(&segment.path(FileKind::Log))? <= timestamp;
            if wanted && base <= latest && offsets.last() != Some(&base) {
                offsets.push(base);
            }
        }
        offsets.truncate(max_num);
        Ok(offsets)
    }
}
