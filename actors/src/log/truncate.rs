//! Cutting a log's end off, and moving its start.

use std::io;

use super::Log;
use super::names::{self, FileKind};
use super::segment::Segment;

impl Log {
    /// Removes everything from `offset` on; a batch that has records on both sides goes whole.
    ///
    /// Leader epochs that begin there or later are forgotten, also when the log ends before. Returns the new log end
    /// offset.
    ///
    /// # Errors
    /// The disk's; the log takes no appends then.
    pub fn truncate_to(&mut self, offset: i64) -> io::Result<i64> {
        let result = if offset < self.log_end_offset {
            self.truncate_end(offset)
        } else {
            // An epoch that has begun there without a record may be another leader's.
            self.epochs.truncate_end(offset)
        };
        if result.is_err() {
            self.failed = true;
        }
        result.map(|()| self.log_end_offset)
    }

    fn truncate_end(&mut self, offset: i64) -> io::Result<()> {
        if self
            .segments
            .first()
            .is_none_or(|first| offset < first.base_offset)
        {
            return self.start_at(offset);
        }
        self.truncations += 1;
        let number = self.segment_number(offset);
        // From the end, so that a crash in between leaves no gap.
        for segment in self.segments.drain(number + 1..).rev() {
            for kind in FileKind::ALL {
                self.storage.remove_file(&segment.path(kind))?;
            }
        }
        let interval = self.config.index_interval_bytes;
        let active = self.active_mut();
        let place = active.locate(offset)?;
        let (offset, position) = place.map_or((offset, active.size), |place| {
            (place.base_offset, place.position)
        });
        let end = active.truncate(offset, position, interval)?;
        self.log_end_offset = end;
        self.log_start_offset = self.log_start_offset.min(end);
        self.recovery_point = self.recovery_point.min(end);
        self.cleaned_to = self.cleaned_to.min(end);
        self.dir_dirty = true;
        self.epochs.truncate_end(end)?;
        self.remove_snapshots_after(end)?;
        self.reload_producers()
    }

    /// Removes everything and goes on, empty, at `offset`.
    pub fn truncate_fully_and_start_at(&mut self, offset: i64) -> io::Result<()> {
        let result = self.start_at(offset);
        if result.is_err() {
            self.failed = true;
        }
        result
    }

    pub(super) fn start_at(&mut self, offset: i64) -> io::Result<()> {
        self.truncations += 1;
        let now_ms = self.active().created_ms;
        for segment in self.segments.iter().rev() {
            for kind in FileKind::ALL {
                self.storage.remove_file(&segment.path(kind))?;
            }
        }
        let fresh = Segment::create(&self.storage, &self.dir, offset, &self.config, now_ms)?;
        self.segments.clear();
        self.segments.push(fresh);
        self.log_start_offset = offset;
        self.log_end_offset = offset;
        self.recovery_point = offset;
        self.cleaned_to = self.cleaned_to.min(offset);
        self.dir_dirty = true;
        self.producers.clear();
        self.epochs.clear()?;
        self.remove_snapshots_after(-1)
    }

    pub(super) fn remove_snapshots_after(&self, offset: i64) -> io::Result<()> {
        for entry in self.storage.list(&self.dir)? {
            if let Some((at, FileKind::Snapshot)) = names::parse_segment_file(&entry.name)
                && at > offset
            {
                self.storage.remove_file(&self.dir.join(&entry.name))?;
            }
        }
        Ok(())
    }

    /// Makes `offset` the first that may be read; the files below it go with the next retention.
    ///
    /// Returns whether that is a change: the start never goes back, nor past the end.
    pub fn raise_log_start(&mut self, offset: i64) -> io::Result<bool> {
        if offset <= self.log_start_offset || offset > self.log_end_offset {
            return Ok(false);
        }
        self.log_start_offset = offset;
        self.epochs.truncate_start(offset)?;
        Ok(true)
    }
}
