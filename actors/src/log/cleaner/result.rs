//! The segment that a compaction writes.

use std::io;

use bytes::BytesMut;
use troupe_protocol::kafka::records::batch::{Batch, BatchHeader};

use super::filter::Kept;
use super::{Job, invalid};
use crate::log::segment::Segment;
use crate::log::txn_index::AbortedTransaction;

/// A `.cleaned` segment, with what was not written to it yet. Removes its files unless it is finished.
pub(super) struct CleanedSegment {
    segment: Option<Segment>,
    out: BytesMut,
    headers: Vec<BatchHeader>,
    buffer_bytes: usize,
    index_interval_bytes: u64,
}

impl CleanedSegment {
    pub(super) fn create(job: &Job, base_offset: i64, buffer_bytes: usize) -> io::Result<Self> {
        // Blocks for what may be much smaller than the limit need not be taken in advance.
        let config = crate::log::LogConfig {
            preallocate: false,
            ..job.config.clone()
        };
        let segment =
            Segment::create_cleaned(&job.storage, &job.dir, base_offset, &config, job.now_ms)?;
        Ok(Self {
            segment: Some(segment),
            out: BytesMut::with_capacity(buffer_bytes),
            headers: Vec::new(),
            buffer_bytes,
            index_interval_bytes: config.index_interval_bytes,
        })
    }

    fn segment(&mut self) -> io::Result<&mut Segment> {
        let finished = || io::Error::other("the segment is finished");
        self.segment.as_mut().ok_or_else(finished)
    }

    /// Appends what stays of a batch; returns how many bytes were written to the file.
    pub(super) fn append(&mut self, kept: &Kept<'_>, batch: &Batch<'_>) -> io::Result<i32> {
        let header = kept.write(batch, &mut self.out).map_err(invalid)?;
        self.headers.extend(header);
        Ok(header.map_or(0, |header| header.record_count))
    }

    /// Writes what waits, when there is enough of it; returns how many bytes that was.
    pub(super) fn write(&mut self, at_least: usize) -> io::Result<u64> {
        if self.out.len() < at_least.max(1) {
            return Ok(0);
        }
        let (out, headers) = (
            std::mem::take(&mut self.out),
            std::mem::take(&mut self.headers),
        );
        let interval = self.index_interval_bytes;
        self.segment()?.append(&out, &headers, interval)?;
        let written = out.len() as u64;
        if out.capacity() <= self.buffer_bytes.saturating_mul(4) {
            (self.out, self.headers) = (out, headers);
            self.out.clear();
            self.headers.clear();
        }
        Ok(written)
    }

    /// Adds to the transaction index.
    pub(super) fn append_aborted(&mut self, ended: &[AbortedTransaction]) -> io::Result<()> {
        let segment = self.segment()?;
        ended
            .iter()
            .try_for_each(|aborted| segment.append_aborted(*aborted))
    }

    /// Writes the rest and makes everything durable; the log file gets the time of change of the original's.
    pub(super) fn finish(mut self, job: &Job, modified_ms: Option<i64>) -> io::Result<Segment> {
        self.write(1)?;
        let segment = self.segment()?;
        segment.finish()?;
        if let Some(modified_ms) = modified_ms {
            let path = segment.path(crate::log::names::FileKind::Log);
            job.storage.set_modified_ms(&path, modified_ms)?;
        }
        segment.sync()?;
        job.storage.sync_dir(&job.dir)?;
        self.segment
            .take()
            .ok_or_else(|| io::Error::other("the segment is finished"))
    }
}

impl Drop for CleanedSegment {
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take()
            && let Err(error) = segment.remove()
        {
            tracing::warn!("could not remove the files of an unfinished compaction: {error}");
        }
    }
}
