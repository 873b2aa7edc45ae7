//! The snapshot: all contents of the store in one plain file, from which it can be rebuilt.
//!
//! ```text
//! "troupe-znodes-1\n"
//! repeated: u32 key length, key, u32 value length, value
//! u32 0xffff_ffff, u64 number of records, u32 CRC-32C of everything before
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bytes::{Buf, Bytes};

use super::store::Contents;

const MAGIC: &[u8] = b"troupe-znodes-1\n";
const END: u32 = u32::MAX;

/// Writes a snapshot beside `path`, flushes it to disk and puts it in the place of the last one.
pub fn write<K, V>(path: &Path, records: impl Iterator<Item = io::Result<(K, V)>>) -> io::Result<()>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let temporary = path.with_extension("tmp");
    if let Err(error) = write_all(&temporary, records) {
        // On a full disk, what was written of it is in the way.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn write_all<K, V>(path: &Path, records: impl Iterator<Item = io::Result<(K, V)>>) -> io::Result<()>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let file = File::create(path)?;
    let mut out = Checksummed {
        out: BufWriter::new(file),
        crc: 0,
    };
    out.write_all(MAGIC)?;
    let mut count = 0u64;
    for record in records {
        let (key, value) = record?;
        for part in [key.as_ref(), value.as_ref()] {
            let length = u32::try_from(part.len()).map_err(io::Error::other)?;
            out.write_all(&length.to_be_bytes())?;
            out.write_all(part)?;
        }
        count += 1;
    }
    out.write_all(&END.to_be_bytes())?;
    out.write_all(&count.to_be_bytes())?;
    let crc = out.crc;
    out.write_all(&crc.to_be_bytes())?;
    let file = out
        .out
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

/// Reads a snapshot; `None` if there is none, an error of kind `InvalidData` if it is not whole.
pub fn read(path: &Path) -> io::Result<Option<Contents>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    parse(bytes)
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the snapshot is not whole"))
}

fn parse(mut bytes: Bytes) -> Option<Contents> {
    let crc = bytes.split_off(bytes.len().checked_sub(4)?).get_u32();
    if crc32c::crc32c(&bytes) != crc || !bytes.starts_with(MAGIC) {
        return None;
    }
    bytes.advance(MAGIC.len());
    let mut contents = Contents::new();
    loop {
        let length = bytes.try_get_u32().ok()?;
        if length == END {
            let count = bytes.try_get_u64().ok()?;
            return (count == contents.len() as u64 && bytes.is_empty()).then_some(contents);
        }
        let key = take(&mut bytes, length)?;
        let length = bytes.try_get_u32().ok()?;
        let value = take(&mut bytes, length)?;
        contents.insert(key, value);
    }
}

fn take(bytes: &mut Bytes, length: u32) -> Option<Bytes> {
    let length = usize::try_from(length).ok()?;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

struct Checksummed<W> {
    out: W,
    crc: u32,
}

impl<W: Write> Checksummed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        (0..20u8)
            .map(|i| {
                (
                    Bytes::from(vec![i; 3]),
                    Bytes::from(vec![i; usize::from(i)]),
                )
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read_and_a_flipped_or_missing_byte_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot");
        assert!(read(&path).unwrap().is_none());
        write(&path, contents().into_iter().map(Ok)).unwrap();
        assert_eq!(read(&path).unwrap(), Some(contents()));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert_eq!(parse(flipped.into()), None, "byte {at} flipped");
            let cut = Bytes::copy_from_slice(&whole[..at]);
            assert_eq!(parse(cut), None, "cut at {at}");
        }
    }
}
