//! Reads the batches of a file in order, in bounded memory, and says where they stop being whole.

use std::io;

use troupe_protocol::kafka::records::batch::{BatchHeader, HEADER_LEN};

use crate::storage::{StorageFile, read_exact_at};

/// Bytes read at once.
const BUFFER: usize = 1 << 20;
/// Where the bytes begin that the CRC covers.
const CRC_FROM: u64 = 21;

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Scanned {
    /// A whole batch at this position.
    Batch(u64, BatchHeader),
    /// The end of the file, after a whole batch.
    End,
    /// Bytes at this position that are no whole batch.
    Broken { position: u64, why: String },
}

/// Reads batches from `position` to `len`.
pub(super) struct Scan<'a> {
    file: &'a dyn StorageFile,
    position: u64,
    len: u64,
    next_offset: i64,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'a> Scan<'a> {
    /// Starts at `position`; no batch may begin below `next_offset`.
    pub(super) fn new(
        file: &'a dyn StorageFile,
        position: u64,
        len: u64,
        next_offset: i64,
    ) -> Self {
        Self {
            file,
            position,
            len,
            next_offset,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// Returns the next batch; checks its CRC when its last offset is not below `verify_from`.
    pub(super) fn next(&mut self, verify_from: i64) -> io::Result<Scanned> {
        let position = self.position;
        if position == self.len {
            return Ok(Scanned::End);
        }
        let broken = |why: String| Ok(Scanned::Broken { position, why });
        let header = match BatchHeader::parse(self.bytes(position, HEADER_LEN)?) {
            Ok(header) => header,
            Err(error) => return broken(error.to_string()),
        };
        let end = position.saturating_add(header.size as u64);
        if end > self.len {
            return broken(format!(
                "the batch is cut off: {} of {} bytes",
                self.len - position,
                header.size
            ));
        }
        let deltas = header.last_offset_delta >= 0 && header.last_offset() < i64::MAX;
        if header.base_offset < self.next_offset || !deltas {
            return broken(format!(
                "offset {} where {} was due",
                header.base_offset, self.next_offset
            ));
        }
        if header.last_offset() >= verify_from && self.crc(position + CRC_FROM, end)? != header.crc
        {
            return broken("the CRC does not match".to_owned());
        }
        self.position = end;
        self.next_offset = header.next_offset();
        Ok(Scanned::Batch(position, header))
    }

    /// Returns up to `wanted` bytes at `position`; fewer at the end of the file.
    fn bytes(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let there = usize::try_from(self.len - position).unwrap_or(usize::MAX);
        let wanted = wanted.min(there).min(BUFFER);
        let from = self.within(position);
        if from.is_none_or(|from| self.buffer.len() - from < wanted) {
            self.buffer.resize(BUFFER.min(there), 0);
            self.buffer_at = position;
            read_exact_at(self.file, &mut self.buffer, position)?;
        }
        let from = self.within(position).unwrap_or(0);
        Ok(self.buffer.get(from..).unwrap_or_default())
    }

    fn within(&self, position: u64) -> Option<usize> {
        let from = usize::try_from(position.checked_sub(self.buffer_at)?).ok()?;
        (from < self.buffer.len()).then_some(from)
    }

    fn crc(&mut self, from: u64, end: u64) -> io::Result<u32> {
        let (mut position, mut crc) = (from, 0);
        while position < end {
            let wanted = usize::try_from(end - position).unwrap_or(usize::MAX);
            let bytes = self.bytes(position, 1)?;
            let bytes = bytes.get(..wanted).unwrap_or(bytes);
            crc = crc32c::crc32c_append(crc, bytes);
            position += bytes.len() as u64;
        }
        Ok(crc)
    }
}
