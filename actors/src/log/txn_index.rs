//! Aborted transactions of a segment, in its `.txnindex`, which exists only when there are some.
//!
//! ```text
//! version i16 = 0 | producer id i64 | first offset i64 | last offset i64 | last stable offset i64
//! ```

use std::io;
use std::path::Path;

use bytes::{Buf, BufMut};

use crate::storage::Storage;

const VERSION: i16 = 0;
const ENTRY_LEN: usize = 34;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// Its first record.
    pub first_offset: i64,
    /// Its marker.
    pub last_offset: i64,
    /// The last stable offset once it was aborted.
    pub last_stable_offset: i64,
}

impl AbortedTransaction {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ENTRY_LEN);
        bytes.put_i16(VERSION);
        for field in [
            self.producer_id,
            self.first_offset,
            self.last_offset,
            self.last_stable_offset,
        ] {
            bytes.put_i64(field);
        }
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != ENTRY_LEN || bytes.get_i16() != VERSION {
            return None;
        }
        Some(Self {
            producer_id: bytes.get_i64(),
            first_offset: bytes.get_i64(),
            last_offset: bytes.get_i64(),
            last_stable_offset: bytes.get_i64(),
        })
    }
}

/// Reads a transaction index, as far as it can be read; a missing file has no entries.
pub(super) fn read(storage: &dyn Storage, path: &Path) -> io::Result<Vec<AbortedTransaction>> {
    match storage.read(path) {
        Ok(bytes) => Ok(bytes
            .chunks_exact(ENTRY_LEN)
            .map_while(AbortedTransaction::decode)
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Returns how long the file of `count` entries is.
pub(super) fn file_len(count: usize) -> u64 {
    (count * ENTRY_LEN) as u64
}

/// Adds an entry, as number `count`; creates the file.
pub(super) fn append(
    storage: &dyn Storage,
    path: &Path,
    count: usize,
    entry: &AbortedTransaction,
) -> io::Result<()> {
    let file = storage.open(path, true)?;
    file.write_all_at(&entry.encode(), file_len(count))
}

/// Makes the file hold these entries and no others; without any, removes it.
pub(super) fn write(
    storage: &dyn Storage,
    path: &Path,
    entries: &[AbortedTransaction],
) -> io::Result<()> {
    if entries.is_empty() {
        return storage.remove_file(path);
    }
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(AbortedTransaction::encode)
        .collect();
    let file = storage.open(path, true)?;
    file.write_all_at(&bytes, 0)?;
    file.set_len(file_len(entries.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    #[test]
    fn bytes_are_kafkas() {
        let storage = MemoryStorage::new();
        let path = Path::new("/0.txnindex");
        assert!(read(&storage, path).unwrap().is_empty());
        let entry = AbortedTransaction {
            producer_id: 1,
            first_offset: 2,
            last_offset: 3,
            last_stable_offset: 4,
        };
        append(&storage, path, 0, &entry).unwrap();
        append(&storage, path, 1, &entry).unwrap();
        let bytes = storage.read(path).unwrap();
        assert_eq!(bytes.len(), 68);
        let number = |n| [0, 0, 0, 0, 0, 0, 0, n];
        assert_eq!(
            bytes[..34],
            [&[0, 0][..], &number(1), &number(2), &number(3), &number(4)].concat()
        );
        storage.tamper(path, |bytes| bytes.push(0));
        assert_eq!(
            read(&storage, path).unwrap(),
            [entry, entry],
            "a torn tail is left out"
        );
        write(&storage, path, &[entry]).unwrap();
        assert_eq!(read(&storage, path).unwrap(), [entry]);
        write(&storage, path, &[]).unwrap();
        assert!(storage.paths().is_empty());
    }
}
