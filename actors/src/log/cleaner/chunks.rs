//! Reads a segment a few whole batches at a time, in bounded memory.

use std::io;
use std::sync::Arc;

use troupe_protocol::kafka::records::batch::{Batch, BatchHeader, HEADER_LEN, batches};

use super::invalid;
use crate::storage::{StorageFile, read_exact_at};

/// Some whole batches.
pub(super) struct Chunk<'a> {
    pub(super) bytes: &'a [u8],
    /// Whether nothing follows.
    pub(super) is_last: bool,
}

/// Whole batches from `position` to `end` of a file.
pub(super) struct Chunks {
    file: Arc<dyn StorageFile>,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_bytes: usize,
}

impl Chunks {
    /// Starts at `position`, which must be the start of a batch. Takes `buffer_bytes` of memory, and more only while a
    /// batch is larger.
    pub(super) fn new(
        file: &Arc<dyn StorageFile>,
        position: u64,
        end: u64,
        buffer_bytes: usize,
    ) -> Self {
        Self {
            file: Arc::clone(file),
            position,
            end,
            buffer: Vec::new(),
            buffer_bytes: buffer_bytes.max(HEADER_LEN),
        }
    }

    /// Reads the next batches; nothing at the end.
    ///
    /// # Errors
    /// The disk's, and `InvalidData` when the segment does not consist of whole batches.
    pub(super) fn next(&mut self) -> io::Result<Chunk<'_>> {
        self.fill(self.buffer_bytes)?;
        let mut whole = self.whole()?;
        if whole == 0 && !self.buffer.is_empty() {
            let header = BatchHeader::parse(&self.buffer).map_err(invalid)?;
            if header.size as u64 > self.end - self.position {
                return Err(invalid("the last batch is cut off"));
            }
            self.fill(header.size)?;
            whole = header.size;
        }
        self.position += whole as u64;
        Ok(Chunk {
            bytes: self.buffer.get(..whole).unwrap_or_default(),
            is_last: self.position >= self.end,
        })
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let there = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        if self.buffer.len() > self.buffer_bytes {
            self.buffer = Vec::new();
        }
        self.buffer.resize(wanted.min(there), 0);
        read_exact_at(self.file.as_ref(), &mut self.buffer, self.position)
    }

    /// Returns how many bytes of the buffer are whole batches.
    fn whole(&self) -> io::Result<usize> {
        let mut end = 0;
        loop {
            let rest = self.buffer.get(end..).unwrap_or_default();
            if rest.len() < HEADER_LEN {
                return Ok(end);
            }
            let size = BatchHeader::parse(rest).map_err(invalid)?.size;
            if size > rest.len() {
                return Ok(end);
            }
            end += size;
        }
    }
}

/// Iterates over the batches of a chunk, each after its CRC was checked.
pub(super) fn checked(chunk: &[u8]) -> impl Iterator<Item = io::Result<Batch<'_>>> {
    batches(chunk).map(|batch| {
        let batch = batch.map_err(invalid)?;
        batch.check_crc().map_err(invalid)?;
        Ok(batch)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::log::testing::{BatchSpec, batch};
    use crate::storage::Storage;
    use crate::storage::memory::MemoryStorage;

    fn file(bytes: &[u8]) -> Arc<dyn StorageFile> {
        let storage = MemoryStorage::new();
        let file = storage.open(Path::new("/log"), true).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn spec(base_offset: i64, value_len: usize) -> Vec<u8> {
        batch(&BatchSpec {
            base_offset,
            value_len,
            ..BatchSpec::default()
        })
    }

    #[test]
    fn batches_come_whole_whatever_the_buffer() {
        let all = [spec(0, 10), spec(1, 500), spec(2, 1), spec(3, 90)];
        let bytes = all.concat();
        for buffer_bytes in [0, 80, 100, 300, 10_000] {
            let mut chunks = Chunks::new(&file(&bytes), 0, bytes.len() as u64, buffer_bytes);
            let mut read = Vec::new();
            loop {
                let chunk = chunks.next().unwrap();
                assert!(checked(chunk.bytes).all(|batch| batch.is_ok()));
                read.extend_from_slice(chunk.bytes);
                if chunk.is_last {
                    break;
                }
            }
            assert_eq!(read, bytes, "{buffer_bytes}");
            assert!(chunks.next().unwrap().bytes.is_empty());
        }
    }

    #[test]
    fn what_is_no_whole_batch_is_an_error() {
        let bytes = [spec(0, 10), spec(1, 500)].concat();
        let all = |bytes: &[u8], end: u64| {
            let mut chunks = Chunks::new(&file(bytes), 0, end, 100);
            loop {
                let chunk = chunks.next()?;
                for batch in checked(chunk.bytes) {
                    batch?;
                }
                if chunk.is_last {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        all(&bytes, bytes.len() as u64).unwrap();
        for end in [bytes.len() as u64 - 1, 100, 30] {
            assert_eq!(
                all(&bytes, end).unwrap_err().kind(),
                io::ErrorKind::InvalidData
            );
        }
        for position in [8, 16, 30, 200] {
            let mut bytes = bytes.clone();
            bytes[position] ^= 0x40;
            assert!(all(&bytes, bytes.len() as u64).is_err(), "{position}");
        }
    }
}
