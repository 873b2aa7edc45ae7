//! Appending: batches go to the end of the last segment, or to a new one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use troupe_protocol::kafka::records::batch::BatchHeader;

use super::segment::{Ahead, Segment};
use super::{Log, read_marker};

/// What an append did beside appending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Whether it started a new segment: what lies before should be flushed soon.
    pub rolled: bool,
}

/// A start of several batches that is in the log.
struct Written {
    bytes: usize,
    batches: usize,
    rolled: bool,
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
        self.append_all(batch, std::slice::from_ref(header), now_ms)
    }

    /// Appends batches that stand one after the other, as [`append`](Self::append) does one; those of one segment with
    /// one write.
    ///
    /// # Errors
    /// As [`append`](Self::append); after an error of the disk the log may end with some of the batches.
    pub fn append_all(
        &mut self,
        bytes: &[u8],
        headers: &[BatchHeader],
        now_ms: i64,
    ) -> io::Result<Appended> {
        if self.failed {
            return Err(io::Error::other("a write to this log failed before"));
        }
        self.check_order(bytes, headers)?;
        let (mut bytes, mut headers) = (bytes, headers);
        let mut rolled = false;
        while !headers.is_empty() {
            let written = match self.write(bytes, headers, now_ms) {
                Ok(written) => written,
                Err(error) => {
                    self.failed = true;
                    let end = self.log_end_offset;
                    self.active_mut().cut_back();
                    // The disk is failing; what counts is that memory is right.
                    let _ = self.epochs.truncate_end(end);
                    return Err(error);
                }
            };
            rolled |= written.rolled;
            self.note(bytes, headers.get(..written.batches).unwrap_or_default())?;
            bytes = bytes.get(written.bytes..).unwrap_or_default();
            headers = headers.get(written.batches..).unwrap_or_default();
        }
        Ok(Appended { rolled })
    }

    /// Checks that the batches are as long as they say and follow the log and each other.
    fn check_order(&self, bytes: &[u8], headers: &[BatchHeader]) -> io::Result<()> {
        let (mut end, mut size) = (self.log_end_offset, 0_usize);
        for header in headers {
            let last = header.last_offset();
            if header.base_offset < end || header.last_offset_delta < 0 || last == i64::MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("a batch at {} does not follow {end}", header.base_offset),
                ));
            }
            end = header.next_offset();
            size = size.saturating_add(header.size);
        }
        if size != bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("batches of {size} bytes in {}", bytes.len()),
            ));
        }
        Ok(())
    }

    /// Writes as many batches as go to the active segment together, at least one; starts a new segment when needed.
    fn write(&mut self, bytes: &[u8], headers: &[BatchHeader], now_ms: i64) -> io::Result<Written> {
        let mut ahead = Ahead::default();
        let mut rolled = false;
        for header in headers {
            // The first batch of a segment goes alone: the age of the next ones counts from it.
            let full = self.rolls_for(header, ahead, now_ms)?;
            if ahead.batches > 0 && (full || self.active().size == 0) {
                break;
            }
            if full {
                self.roll(header.base_offset, now_ms)?;
                rolled = true;
            }
            self.epochs
                .assign(header.leader_epoch, header.base_offset)?;
            ahead.add(header);
        }
        let batches = headers.get(..ahead.batches).unwrap_or_default();
        let size = usize::try_from(ahead.bytes).unwrap_or(usize::MAX);
        let interval = self.config.index_interval_bytes;
        self.active_mut()
            .append(bytes.get(..size).unwrap_or_default(), batches, interval)?;
        Ok(Written {
            bytes: size,
            batches: ahead.batches,
            rolled,
        })
    }

    /// Takes note of batches that were written: where the log ends, and what they say of their producers.
    fn note(&mut self, mut bytes: &[u8], headers: &[BatchHeader]) -> io::Result<()> {
        for header in headers {
            let (batch, rest) = bytes.split_at_checked(header.size).unwrap_or_default();
            bytes = rest;
            self.log_end_offset = header.next_offset();
            let marker = header
                .attributes
                .is_control()
                .then(|| read_marker(batch))
                .flatten();
            if let Some(aborted) = self.producers.update(header, marker) {
                self.dir_dirty = true;
                let noted = self.active_mut().append_aborted(aborted);
                noted.inspect_err(|_| self.failed = true)?;
            }
        }
        Ok(())
    }

    /// Tells whether a batch has to go to a new segment, when these go before it.
    fn rolls_for(&mut self, header: &BatchHeader, ahead: Ahead, now_ms: i64) -> io::Result<bool> {
        let (segment_bytes, limit_ms) = (self.config.segment_bytes, self.segment_ms());
        let active = self.active_mut();
        if active.size == 0 {
            return Ok(
                header.last_offset().saturating_sub(active.base_offset) > i64::from(i32::MAX)
            );
        }
        Ok(active.is_full_for(header, ahead, segment_bytes)
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
    pub(super) fn roll(&mut self, base_offset: i64, now_ms: i64) -> io::Result<()> {
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
}
