//! `meta.properties`: to which broker and cluster a log directory belongs.
//!
//! Version 0 is that of ZooKeeper mode (`broker.id`), version 1 that of KRaft mode (`node.id`, `directory.id`). Keys
//! that are not known here are kept as they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::config::properties;
use crate::log::names;
use crate::storage::Storage;

const VERSION: &str = "version";
const BROKER_ID: &str = "broker.id";
const NODE_ID: &str = "node.id";
const CLUSTER_ID: &str = "cluster.id";

/// The properties of one log directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MetaProperties(BTreeMap<String, String>);

impl MetaProperties {
    /// Reads the file of a directory; a missing one has no properties.
    ///
    /// # Errors
    /// `InvalidData` when it is not a properties file of version 0 or 1, or the broker id is no number.
    pub(super) fn read(storage: &dyn Storage, dir: &Path) -> io::Result<Self> {
        let path = dir.join(names::META_PROPERTIES);
        let bytes = match storage.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        Self::parse(&bytes).map_err(|reason| {
            let text = format!("{}: {reason}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let properties = properties::parse(bytes).map_err(|error| error.to_string())?;
        let pairs = properties.into_iter().map(|(_, name, value)| (name, value));
        let properties = Self(pairs.collect());
        let version = properties.get(VERSION).unwrap_or("none");
        if version != "0" && version != "1" {
            return Err(format!("version {version} where 0 or 1 was expected"));
        }
        match properties.id() {
            Some(id) if id.parse::<i32>().is_err() => Err(format!("{id:?} is no broker id")),
            _ => Ok(properties),
        }
    }

    /// Returns the broker that the directory belongs to.
    pub(super) fn broker_id(&self) -> Option<i32> {
        self.id()?.parse().ok()
    }

    /// Returns the cluster that the directory belongs to.
    pub(super) fn cluster_id(&self) -> Option<&str> {
        self.get(CLUSTER_ID)
    }

    /// Gives the directory to a broker of a cluster. Returns whether that changes anything.
    pub(super) fn set(&mut self, broker_id: i32, cluster_id: &str) -> bool {
        let before = self.0.clone();
        let version = self
            .0
            .entry(VERSION.to_owned())
            .or_insert_with(|| "0".to_owned());
        let id_key = if version == "1" { NODE_ID } else { BROKER_ID };
        self.0.insert(id_key.to_owned(), broker_id.to_string());
        self.0.insert(CLUSTER_ID.to_owned(), cluster_id.to_owned());
        self.0 != before
    }

    /// Replaces the file of a directory, durably.
    pub(super) fn write(&self, storage: &dyn Storage, dir: &Path) -> io::Result<()> {
        let mut text = String::new();
        for (key, value) in &self.0 {
            // Ids and versions need no escapes, and what was read and is kept gets them. Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{key}={}",
                value.replace('\\', "\\\\").replace('\n', "\\n")
            );
        }
        storage.replace(&dir.join(names::META_PROPERTIES), text.as_bytes())
    }

    fn id(&self) -> Option<&str> {
        self.get(BROKER_ID).or_else(|| self.get(NODE_ID))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    const DIR: &str = "/logs";

    fn stored(bytes: &[u8]) -> MemoryStorage {
        let storage = MemoryStorage::new();
        storage.create_dir(Path::new(DIR)).unwrap();
        storage
            .replace(&Path::new(DIR).join(names::META_PROPERTIES), bytes)
            .unwrap();
        storage
    }

    #[test]
    fn a_new_directory_gets_version_0() {
        let storage = MemoryStorage::new();
        storage.create_dir(Path::new(DIR)).unwrap();
        let mut meta = MetaProperties::read(&storage, Path::new(DIR)).unwrap();
        assert_eq!((meta.broker_id(), meta.cluster_id()), (None, None));
        assert!(meta.set(3, "vPeOCWypqUOSepEvx0cbog"));
        meta.write(&storage, Path::new(DIR)).unwrap();
        assert_eq!(
            storage
                .read(&Path::new(DIR).join(names::META_PROPERTIES))
                .unwrap(),
            b"broker.id=3\ncluster.id=vPeOCWypqUOSepEvx0cbog\nversion=0\n"
        );
        let mut again = MetaProperties::read(&storage, Path::new(DIR)).unwrap();
        assert_eq!(again, meta);
        assert!(!again.set(3, "vPeOCWypqUOSepEvx0cbog"));
    }

    #[test]
    fn kafkas_files_are_read() {
        let storage =
            stored(b"#\n#Mon Jan 01 00:00:00 UTC 2024\ncluster.id=abc\nversion=0\nbroker.id=7\n");
        let meta = MetaProperties::read(&storage, Path::new(DIR)).unwrap();
        assert_eq!(
            (meta.broker_id(), meta.cluster_id()),
            (Some(7), Some("abc"))
        );
        let storage = stored(b"version=1\nnode.id=2\ncluster.id=abc\ndirectory.id=xyz\n");
        let mut meta = MetaProperties::read(&storage, Path::new(DIR)).unwrap();
        assert_eq!(meta.broker_id(), Some(2));
        assert!(!meta.set(2, "abc"), "the key of version 1 is kept");
    }

    #[test]
    fn other_files_are_refused() {
        for bytes in [
            &b""[..],
            b"version=2\n",
            b"version=0\nbroker.id=x\n",
            b"version=\\u00",
        ] {
            assert!(
                MetaProperties::read(&stored(bytes), Path::new(DIR)).is_err(),
                "{bytes:?}"
            );
        }
    }
}
