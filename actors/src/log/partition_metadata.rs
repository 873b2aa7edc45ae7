//! Reads and writes `partition.metadata`, which ties a partition directory to its topic's id (KIP-516).

use std::io;
use std::path::Path;

use uuid::Uuid;

use super::names;
use crate::storage::Storage;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Returns an id the way Kafka prints it: URL-safe base64 without padding, 22 characters.
pub fn encode_id(id: Uuid) -> String {
    let mut rest = id.as_u128();
    // The last character carries the last two bits; the others carry six each.
    let last = (rest & 0b11) << 4;
    rest >>= 2;
    let mut text = [0u8; 22];
    for (index, character) in text.iter_mut().enumerate().rev() {
        let bits = if index == 21 {
            last
        } else {
            let bits = rest & 0x3f;
            rest >>= 6;
            bits
        };
        *character = usize::try_from(bits)
            .ok()
            .and_then(|bits| ALPHABET.get(bits))
            .copied()
            .unwrap_or(b'A');
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads an id that Kafka printed; `None` when it is none.
pub fn decode_id(text: &str) -> Option<Uuid> {
    let text = text.as_bytes();
    if text.len() != 22 {
        return None;
    }
    let mut id = 0u128;
    for (index, character) in text.iter().enumerate() {
        let bits = ALPHABET.iter().position(|known| known == character)? as u128;
        if index < 21 {
            id = id << 6 | bits;
        } else if bits & 0xf == 0 {
            id = id << 2 | bits >> 4;
        } else {
            return None;
        }
    }
    Some(Uuid::from_u128(id))
}

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
    fn ids_are_base64() {
        // The bytes 0, 1, 2 … 15, by any base64 tool.
        let id = Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        assert_eq!(encode_id(id), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(encode_id(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(encode_id(Uuid::max()), "_____________________w");
        for id in [id, Uuid::nil(), Uuid::max(), Uuid::from_u128(1)] {
            assert_eq!(decode_id(&encode_id(id)), Some(id));
        }
    }

    #[test]
    fn other_text_is_no_id() {
        for text in [
            "",
            "AAECAwQFBgcICQoLDA0ODx",
            "AAECAwQFBgcICQoLDA0OD+",
            "AAECAwQFBgcICQoLDA0ODwA",
        ] {
            assert_eq!(decode_id(text), None, "{text}");
        }
    }

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
