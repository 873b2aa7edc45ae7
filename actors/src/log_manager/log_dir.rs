//! One of the directories of `log.dirs`: its lock, its checkpoints, and the replicas found in it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::OpenError;
use super::meta::MetaProperties;
use crate::log::checkpoints::{Offsets, read_offsets};
use crate::log::names::{self, DirKind};
use crate::partition::TopicPartition;
use crate::storage::Storage;
use crate::storage::lock::{DirectoryLock, LockError};

/// What the marker of a clean shutdown says, as Kafka writes it since 3.7.
const CLEAN_SHUTDOWN_CONTENT: &[u8] = br#"{"version":0,"brokerEpoch":-1}"#;

/// An open log directory.
pub(super) struct LogDir {
    pub(super) path: PathBuf,
    pub(super) meta: MetaProperties,
    /// Whether every log in it was closed before.
    pub(super) was_clean: bool,
    /// Replicas that are there and that nobody asked for yet.
    pub(super) unopened: BTreeSet<TopicPartition>,
    /// Directories that were marked as deleted.
    pub(super) deleted: Vec<PathBuf>,
    /// What the checkpoint files said at the start.
    pub(super) found: Checkpoints,
    _lock: DirectoryLock,
}

/// The contents of a directory's checkpoint files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checkpoints {
    pub(super) recovery_points: Offsets,
    pub(super) high_watermarks: Offsets,
    pub(super) log_start_offsets: Offsets,
    pub(super) cleaner_offsets: Offsets,
}

impl LogDir {
    /// Opens a directory, made when it is missing. The marker of a clean shutdown is taken away: from here on only
    /// another clean shutdown is one.
    pub(super) fn open(storage: &dyn Storage, path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Io {
            dir: path.to_owned(),
            error,
        };
        storage.create_dir(path).map_err(failed)?;
        let lock =
            DirectoryLock::acquire(storage, path, names::LOCK).map_err(|error| match error {
                LockError::Io { source, .. } => failed(source),
                held => OpenError::Locked(held),
            })?;
        let mut dir = Self {
            path: path.to_owned(),
            meta: MetaProperties::read(storage, path).map_err(failed)?,
            was_clean: take_clean_marker(storage, path).map_err(failed)?,
            unopened: BTreeSet::new(),
            deleted: Vec::new(),
            found: Checkpoints::read(storage, path).map_err(failed)?,
            _lock: lock,
        };
        dir.scan(storage).map_err(failed)?;
        Ok(dir)
    }

    fn scan(&mut self, storage: &dyn Storage) -> io::Result<()> {
        for entry in storage
            .list(&self.path)?
            .into_iter()
            .filter(|entry| entry.is_dir)
        {
            let path = self.path.join(&entry.name);
            match names::parse_partition_dir(&entry.name) {
                Some(found) if found.kind == DirKind::Live => {
                    self.unopened
                        .insert(TopicPartition::new(found.topic, found.partition));
                }
                Some(found) if found.kind == DirKind::Delete => self.deleted.push(path),
                _ => {
                    tracing::warn!(dir = %path.display(), "left alone: not a replica of a partition")
                }
            }
        }
        Ok(())
    }

    /// Returns the directory of a replica here.
    pub(super) fn replica(&self, partition: &TopicPartition) -> PathBuf {
        self.path
            .join(names::partition_dir(&partition.topic, partition.partition))
    }
}

impl Checkpoints {
    fn read(storage: &dyn Storage, dir: &Path) -> io::Result<Self> {
        Ok(Self {
            recovery_points: read_offsets(storage, &dir.join(names::RECOVERY_POINTS))?,
            high_watermarks: read_offsets(storage, &dir.join(names::HIGH_WATERMARKS))?,
            log_start_offsets: read_offsets(storage, &dir.join(names::LOG_START_OFFSETS))?,
            cleaner_offsets: read_offsets(storage, &dir.join(names::CLEANER_OFFSETS))?,
        })
    }
}

fn take_clean_marker(storage: &dyn Storage, dir: &Path) -> io::Result<bool> {
    let marker = dir.join(names::CLEAN_SHUTDOWN);
    match storage.read(&marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(_) => {
            storage.remove_file(&marker)?;
            storage.sync_dir(dir)?;
            Ok(true)
        }
    }
}

/// Says that every log in a directory is closed.
pub(super) fn write_clean_marker(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    storage.replace(&dir.join(names::CLEAN_SHUTDOWN), CLEAN_SHUTDOWN_CONTENT)
}
