//! Putting the result of a compaction in the place of the segments that it was made of.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::Source;
use crate::log::Log;
use crate::log::names::{self, FileKind};
use crate::log::segment::Segment;

/// A compacted segment, durable in files that end in `.cleaned`, and what it was made of.
pub struct Replacement {
    pub(super) segment: Segment,
    pub(super) sources: Vec<Source>,
    pub(super) truncations: u64,
}

/// Why a segment was not replaced.
#[derive(Debug, Error)]
pub enum SwapError {
    /// The log is not what it was: segments were deleted or cut meanwhile. Nothing has happened.
    #[error("the log was changed meanwhile")]
    Changed,
    /// The disk failed half-way: nothing may be appended until the log is opened again, which finishes this or takes it
    /// back.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Replacement {
    /// Removes the files, when they are not wanted any more.
    pub fn discard(&self) -> io::Result<()> {
        self.segment.remove()
    }
}

impl Log {
    /// Puts a compacted segment in the place of those that it was made of.
    ///
    /// Returns the files of the latter, renamed to end in `.deleted`: to be removed after `file.delete.delay.ms`. The
    /// order of the steps is what the next start relies on, see `tidy.rs`.
    pub fn replace_segments(
        &mut self,
        replacement: Box<Replacement>,
    ) -> Result<Vec<PathBuf>, SwapError> {
        let count = replacement.sources.len();
        let Some(first) = self.position_of(&replacement) else {
            if let Err(error) = replacement.discard() {
                tracing::warn!(dir = %self.dir.display(), "could not remove the files of a compaction: {error}");
            }
            return Err(SwapError::Changed);
        };
        let mut segment = replacement.segment;
        let swapped = self.swap_files(&mut segment, first, count);
        self.dir_dirty = true;
        let files = swapped.inspect_err(|_| self.failed = true)?;
        self.segments.splice(first..first + count, [segment]);
        Ok(files)
    }

    /// Returns where the originals of a replacement are, if all of them are there as they were.
    fn position_of(&self, replacement: &Replacement) -> Option<usize> {
        if self.failed || self.truncations != replacement.truncations {
            return None;
        }
        let base_offset = replacement.segment.base_offset;
        let first = (self.segments)
            .binary_search_by_key(&base_offset, |segment| segment.base_offset)
            .ok()?;
        let closed = self.segments.len() - 1;
        let end = first + replacement.sources.len();
        let present = self.segments.get(first..end).filter(|_| end <= closed)?;
        let same = present
            .iter()
            .zip(&replacement.sources)
            .all(|(segment, source)| Arc::ptr_eq(&segment.file, &source.file));
        same.then_some(first)
    }

    fn swap_files(
        &self,
        segment: &mut Segment,
        first: usize,
        count: usize,
    ) -> io::Result<Vec<PathBuf>> {
        segment.rename(names::SWAP)?;
        let mut files = Vec::new();
        for replaced in self.segments.iter().skip(first).take(count) {
            // The producers' state at the first offset is still that of the new segment.
            let kinds = match replaced.base_offset == segment.base_offset {
                true => &FileKind::OF_SEGMENT[..],
                false => &FileKind::ALL,
            };
            files.extend(self.mark_files(replaced, kinds)?);
        }
        segment.rename("")?;
        Ok(files)
    }
}
