//! Reads and writes `partition.metadata`, which ties a partition directory to its topic's id (KIP-516).

use std::io;
use std::path::Path;

use uuid::Uuid;

use super::names;
use crate::storage::Storage;
use crate::uuid_text::{decode_id, encode_id};

/// Reads the topic id of a partition directory; `None` when there is no such file, as before Kafka 2.8.
///
/// # Errors
/// `InvalidData` when the file is not what version 0 looks like.
pub fn read(storage: &dyn Storage, dir: &Path) -> io::Result<Option<Uuid>> {
    let path = dir.join(names::PARTITION_METADATA);
    let bytes = match storage.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    parse(&bytes).map(Some).ok_or_else(|| {
        let text = format!(
            "{} is not a partition.metadata of version 0",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

fn parse(bytes: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("version:")?;
    let id = lines.next()?.strip_prefix("topic_id:")?;
    (version.trim() == "0").then_some(())?;
    decode_id(id.trim())
}

/// Writes the topic id of a partition directory.
pub fn write(storage: &dyn Storage, dir: &Path, topic_id: Uuid) -> io::Result<()> {
    let text = format!("version: 0\ntopic_id: {}", encode_id(topic_id));
    storage.replace(&dir.join(names::PARTITION_METADATA), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    #[test]
    fn bytes_are_kafkas() {
        let storage = MemoryStorage::new();
        let dir = Path::new("/d/t-0");
        assert_eq!(read(&storage, dir).unwrap(), None);
        let id = Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        write(&storage, dir, id).unwrap();
        let path = dir.join("partition.metadata");
        assert_eq!(
            storage.read(&path).unwrap(),
            b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw"
        );
        assert_eq!(read(&storage, dir).unwrap(), Some(id));
        storage
            .replace(&path, b"version: 1\ntopic_id: AAECAwQFBgcICQoLDA0ODw\n")
            .unwrap();
        assert!(read(&storage, dir).is_err());
    }
}
