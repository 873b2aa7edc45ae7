//! The snapshot: all contents of the store in one plain file, from which it can be rebuilt.
//!
//! ```text
//! "troupe-znodes-1\n"
//! repeated: u32 key length, key, u32 value length, value
//! u32 0xffff_ffff, u64 number of records, u32 CRC-32C of everything before
//! ```

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use bytes::Bytes;

use super::store::Contents;

const MAGIC: &[u8] = b"troupe-znodes-1\n";
const END: u32 = u32::MAX;

/// Writes a snapshot beside `path`, flushes it to disk and puts it in the place of the last one; returns its length.
pub fn write<K, V>(
    path: &Path,
    records: impl Iterator<Item = io::Result<(K, V)>>,
) -> io::Result<u64>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let temporary = path.with_extension("tmp");
    let length = match write_all(&temporary, records) {
        Ok(length) => length,
        Err(error) => {
            // On a full disk, what was written of it is in the way.
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
    };
    std::fs::rename(&temporary, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(length)
}

fn write_all<K, V>(
    path: &Path,
    records: impl Iterator<Item = io::Result<(K, V)>>,
) -> io::Result<u64>
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
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Reads a snapshot; `None` if there is none, an error of kind `InvalidData` if it is not whole.
pub fn read(path: &Path) -> io::Result<Option<Contents>> {
    let mut contents = Contents::new();
    let take = |key: &[u8], value: &[u8]| {
        contents.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    };
    Ok(scan(path, take)?.then_some(contents))
}

/// Goes through a snapshot without keeping more than a record of it in memory, and says whether there is one. Only when all
/// of it was right is this no error.
pub fn scan(path: &Path, take: impl FnMut(&[u8], &[u8])) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => {
            let left = file.metadata()?.len();
            parse(BufReader::with_capacity(64 * 1024, file), left, take)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn parse(input: impl Read, left: u64, mut take: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    let mut input = Input {
        input,
        left,
        crc: 0,
    };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    input.fill(&mut key, MAGIC.len() as u64)?;
    if key != MAGIC {
        return Err(not_whole());
    }
    let mut count = 0u64;
    loop {
        let length = u32::from_be_bytes(input.array()?);
        if length == END {
            break;
        }
        input.fill(&mut key, length.into())?;
        let length = u32::from_be_bytes(input.array()?);
        input.fill(&mut value, length.into())?;
        take(&key, &value);
        count += 1;
    }
    let expected = u64::from_be_bytes(input.array()?);
    let crc = input.crc;
    let is_whole = count == expected && crc == u32::from_be_bytes(input.array()?);
    if is_whole && input.left == 0 {
        Ok(())
    } else {
        Err(not_whole())
    }
}

fn not_whole() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the snapshot is not whole")
}

/// Reads no more than there is, whatever a length says.
struct Input<R> {
    input: R,
    left: u64,
    crc: u32,
}

impl<R: Read> Input<R> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.exact(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, into: &mut Vec<u8>, length: u64) -> io::Result<()> {
        if length > self.left {
            return Err(not_whole());
        }
        into.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        self.exact(into)
    }

    fn exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let left = self.left.checked_sub(into.len() as u64);
        self.left = left.ok_or_else(not_whole)?;
        self.input.read_exact(into)?;
        self.crc = crc32c::crc32c_append(self.crc, into);
        Ok(())
    }
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

    fn is_refused(bytes: &[u8]) -> bool {
        parse(bytes, bytes.len() as u64, |_, _| {})
            .is_err_and(|error| error.kind() == io::ErrorKind::InvalidData)
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
            assert!(is_refused(&flipped), "byte {at} flipped");
            assert!(is_refused(&whole[..at]), "cut at {at}");
        }
    }
}
