//! Reads and writes Kafka's checkpoint files: a version line, a count line, one line per entry.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::storage::Storage;

/// Offsets by topic and partition, as one of a log directory's four checkpoint files holds them.
pub type Offsets = BTreeMap<(String, i32), i64>;

const VERSION: &str = "0";

/// Why a checkpoint file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// Something else than text.
    #[error("is not text")]
    NotText,
    /// No line end at its end.
    #[error("ends within a line")]
    CutOff,
    /// A version that is not 0.
    #[error("has version {0:?} where 0 was expected")]
    Version(String),
    /// Another number of entries than the second line says.
    #[error("promises {promised:?} entries and has {found}")]
    Count {
        /// The second line.
        promised: String,
        /// How many lines follow.
        found: usize,
    },
    /// A line that is no entry.
    #[error("has the unreadable line {0:?}")]
    Line(String),
}

/// Takes a checkpoint file apart: the entries, each as one line.
pub fn parse_lines(bytes: &[u8]) -> Result<Vec<&str>, Corrupt> {
    let text = std::str::from_utf8(bytes).map_err(|_| Corrupt::NotText)?;
    if !text.ends_with('\n') {
        return Err(Corrupt::CutOff);
    }
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version.trim() != VERSION {
        return Err(Corrupt::Version(version.to_owned()));
    }
    let promised = lines.next().unwrap_or_default();
    let entries: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    if promised.trim().parse() != Ok(entries.len()) {
        return Err(Corrupt::Count {
            promised: promised.to_owned(),
            found: entries.len(),
        });
    }
    Ok(entries)
}

/// Puts a checkpoint file together.
pub fn render_lines<T: std::fmt::Display>(entries: impl ExactSizeIterator<Item = T>) -> String {
    let mut text = format!("{VERSION}\n{}\n", entries.len());
    for entry in entries {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{entry}");
    }
    text
}

fn parse_offsets(bytes: &[u8]) -> Result<Offsets, Corrupt> {
    parse_lines(bytes)?
        .into_iter()
        .map(|line| parse_offset(line).ok_or_else(|| Corrupt::Line(line.to_owned())))
        .collect()
}

fn parse_offset(line: &str) -> Option<((String, i32), i64)> {
    let mut words = line.split_whitespace();
    let topic = words.next()?.to_owned();
    let partition = words.next()?.parse().ok()?;
    let offset = words.next()?.parse().ok()?;
    words
        .next()
        .is_none()
        .then_some(((topic, partition), offset))
}

/// Reads an offset checkpoint. A missing file is an empty one; so is a corrupt one, after a warning.
pub fn read_offsets(storage: &dyn Storage, path: &Path) -> io::Result<Offsets> {
    let bytes = match storage.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Offsets::new()),
        Err(error) => return Err(error),
    };
    Ok(parse_offsets(&bytes).unwrap_or_else(|corrupt| {
        tracing::warn!(path = %path.display(), "checkpoint ignored: it {corrupt}");
        Offsets::new()
    }))
}

/// Replaces an offset checkpoint, atomically and durably.
pub fn write_offsets(storage: &dyn Storage, path: &Path, offsets: &Offsets) -> io::Result<()> {
    let lines = offsets
        .iter()
        .map(|((topic, partition), offset)| format!("{topic} {partition} {offset}"));
    storage.replace(path, render_lines(lines).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    #[test]
    fn bytes_are_kafkas() {
        let storage = MemoryStorage::new();
        let path = Path::new("/d/recovery-point-offset-checkpoint");
        storage.create_dir(Path::new("/d")).unwrap();
        let offsets = Offsets::from([(("a".to_owned(), 0), 5), (("a-b".to_owned(), 10), i64::MAX)]);
        write_offsets(&storage, path, &offsets).unwrap();
        assert_eq!(
            storage.read(path).unwrap(),
            b"0\n2\na 0 5\na-b 10 9223372036854775807\n"
        );
        assert_eq!(read_offsets(&storage, path).unwrap(), offsets);
    }

    #[test]
    fn missing_is_empty() {
        let storage = MemoryStorage::new();
        assert!(
            read_offsets(&storage, Path::new("/none"))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn corrupt_is_empty() {
        let storage = MemoryStorage::new();
        let path = Path::new("/file");
        for bytes in [
            &b""[..],
            b"\0\0\0\0",
            b"1\n0\n",
            b"0\n",
            b"0\n2\na 0 5\n",
            b"0\n1\na 0 5\nb 0 6\n",
            b"0\n1\na 0\n",
            b"0\n1\na 0 5 7\n",
            b"0\n1\na 0 5",
            b"0\n1\na x 5\n",
            b"0\n-1\n",
            b"0\n1\na 0 99999999999999999999\n",
            b"\xff\xfe",
        ] {
            storage.replace(path, bytes).unwrap();
            assert!(parse_offsets(bytes).is_err(), "{bytes:?}");
            assert!(read_offsets(&storage, path).unwrap().is_empty());
        }
    }
}
