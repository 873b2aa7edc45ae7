//! Compressed records, read through a small buffer while they are decompressed.

use std::fmt;
use std::io::Read;

use super::batch::BatchError;
use super::compress::{Compression, CompressionError, decompressor};
use super::record::{Input, RecordError};

const BUFFER_LEN: usize = 16 * 1024;

/// The output of a decompressor, which fails past its limit.
pub(crate) struct Stream<'a> {
    codec: Compression,
    reader: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    /// The next byte, and the end of the bytes read, in the buffer.
    at: usize,
    end: usize,
    /// Bytes that came before those in the buffer.
    before: usize,
    limit: usize,
}

impl<'a> Stream<'a> {
    pub(crate) fn open(
        codec: Compression,
        compressed: &'a [u8],
        limit: usize,
    ) -> Result<Self, BatchError> {
        let reader = decompressor(codec, compressed)?;
        Ok(Stream {
            codec,
            reader,
            buffer: vec![0; BUFFER_LEN],
            at: 0,
            end: 0,
            before: 0,
            limit,
        })
    }

    /// Reads more bytes into the empty buffer; `false` at the end.
    #[cold]
    fn fill(&mut self) -> Result<bool, BatchError> {
        self.before += self.end;
        self.at = 0;
        self.end = 0;
        self.end =
            self.reader
                .read(&mut self.buffer)
                .map_err(|error| CompressionError::Corrupt {
                    codec: self.codec,
                    reason: error.to_string(),
                })?;
        if self.before + self.end > self.limit {
            return Err(CompressionError::TooLarge { limit: self.limit }.into());
        }
        Ok(self.end > 0)
    }
}

impl Input for Stream<'_> {
    type Error = BatchError;

    #[inline]
    fn byte(&mut self) -> Result<u8, BatchError> {
        if self.at >= self.end && !self.fill()? {
            return Err(RecordError::Incomplete.into());
        }
        let byte = *self.buffer.get(self.at).ok_or(RecordError::Incomplete)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, mut len: usize) -> Result<(), BatchError> {
        loop {
            let step = len.min(self.end - self.at);
            self.at += step;
            len -= step;
            if len == 0 {
                return Ok(());
            }
            if !self.fill()? {
                return Err(RecordError::Incomplete.into());
            }
        }
    }

    fn consumed(&self) -> usize {
        self.before + self.at
    }

    fn is_at_end(&mut self) -> Result<bool, BatchError> {
        Ok(self.at >= self.end && !self.fill()?)
    }
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("codec", &self.codec)
            .field("consumed", &self.consumed())
            .finish_non_exhaustive()
    }
}
