//! A log directory (`log.dirs`): its lock, its owner, its checkpoints and its partitions.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use thiserror::Error;

use super::checkpoints::{self, Offsets};
use super::meta_properties::{MetaError, MetaProperties};
use super::names::{self, DirKind, PartitionDir};
use crate::storage::{Storage, StorageFile};

/// Why a log directory cannot be used.
#[derive(Debug, Error)]
pub enum LogDirError {
    /// Another process owns it.
    #[error("log directory {} is in use by {}", path.display(), holder(*pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, when it wrote its id down; Kafka does not.
        pid: Option<u32>,
    },
    /// Its `meta.properties` is not this broker's.
    #[error("{} {error}", path.join(names::META_PROPERTIES).display())]
    Meta {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        error: MetaError,
    },
    /// The disk failed.
    #[error("log directory {}: {error}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The failure.
        error: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

/// One of the four offset checkpoints of a log directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// Up to where each log is known to be on disk.
    RecoveryPoints,
    /// High watermarks.
    HighWatermarks,
    /// Log start offsets above the first segment's base.
    LogStartOffsets,
    /// Up to where compaction came.
    CleanerOffsets,
}

impl Checkpoint {
    fn name(self) -> &'static str {
        match self {
            Checkpoint::RecoveryPoints => names::RECOVERY_POINTS,
            Checkpoint::HighWatermarks => names::HIGH_WATERMARKS,
            Checkpoint::LogStartOffsets => names::LOG_START_OFFSETS,
            Checkpoint::CleanerOffsets => names::CLEANER_OFFSETS,
        }
    }
}

/// A log directory that this process owns until the value is dropped.
pub struct LogDir {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    /// Open as long as the lock is to hold.
    _lock: Arc<dyn StorageFile>,
    clean_shutdown: bool,
}

impl LogDir {
    /// Creates the directory when it is missing and locks it.
    ///
    /// # Errors
    /// `Locked` when another process, Troupe or Kafka, owns it.
    pub fn open(storage: Arc<dyn Storage>, path: &Path) -> Result<Self, LogDirError> {
        let io = |error| LogDirError::Io {
            path: path.to_owned(),
            error,
        };
        storage.create_dir(path).map_err(io)?;
        let lock = storage.open(&path.join(names::LOCK), true).map_err(io)?;
        if !take(lock.as_ref()).map_err(io)? {
            let pid = read_pid(lock.as_ref());
            return Err(LogDirError::Locked {
                path: path.to_owned(),
                pid,
            });
        }
        // Only a help for whoever finds the directory locked; a full disk must not stop the start.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0));
        let clean_shutdown = match storage.read(&path.join(names::CLEAN_SHUTDOWN)) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(io(error)),
        };
        Ok(Self {
            storage,
            path: path.to_owned(),
            _lock: lock,
            clean_shutdown,
        })
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whether the last owner closed every log, as it was when the directory was opened.
    pub fn clean_shutdown(&self) -> bool {
        self.clean_shutdown
    }

    /// Removes the mark of a clean shutdown; to be done before anything is appended.
    pub fn mark_running(&self) -> io::Result<()> {
        self.storage
            .remove_file(&self.path.join(names::CLEAN_SHUTDOWN))?;
        self.storage.sync_dir(&self.path)
    }

    /// Marks the shutdown as clean; to be done after every log was closed and the checkpoints were written.
    pub fn mark_clean(&self) -> io::Result<()> {
        let text = br#"{"version":0,"brokerEpoch":-1}"#;
        self.storage
            .replace(&self.path.join(names::CLEAN_SHUTDOWN), text)
    }

    /// Reads `meta.properties`; `None` in a new directory.
    pub fn meta(&self) -> Result<Option<MetaProperties>, LogDirError> {
        let path = || self.path.clone();
        match self.storage.read(&self.path.join(names::META_PROPERTIES)) {
            Ok(bytes) => {
                MetaProperties::parse(&bytes)
                    .map(Some)
                    .map_err(|error| LogDirError::Meta {
                        path: path(),
                        error,
                    })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogDirError::Io {
                path: path(),
                error,
            }),
        }
    }

    /// Writes `meta.properties`.
    pub fn write_meta(&self, meta: &MetaProperties) -> io::Result<()> {
        let path = self.path.join(names::META_PROPERTIES);
        self.storage.replace(&path, meta.render().as_bytes())
    }

    /// Reads a checkpoint; a missing or corrupt one is empty.
    pub fn read_checkpoint(&self, checkpoint: Checkpoint) -> io::Result<Offsets> {
        checkpoints::read_offsets(self.storage.as_ref(), &self.path.join(checkpoint.name()))
    }

    /// Replaces a checkpoint.
    pub fn write_checkpoint(&self, checkpoint: Checkpoint, offsets: &Offsets) -> io::Result<()> {
        checkpoints::write_offsets(
            self.storage.as_ref(),
            &self.path.join(checkpoint.name()),
            offsets,
        )
    }

    /// Lists the partition directories, by name. Other directories are left alone, with a warning.
    pub fn partitions(&self) -> io::Result<Vec<(PathBuf, PartitionDir)>> {
        let mut found = Vec::new();
        for entry in self
            .storage
            .list(&self.path)?
            .into_iter()
            .filter(|entry| entry.is_dir)
        {
            let path = self.path.join(&entry.name);
            match names::parse_partition_dir(&entry.name) {
                Some(partition) => found.push((path, partition)),
                None => {
                    tracing::warn!(path = %path.display(), "left alone: not the name of a partition directory")
                }
            }
        }
        Ok(found)
    }

    /// Returns where a partition's directory is or goes.
    pub fn partition_path(&self, topic: &str, partition: i32) -> PathBuf {
        self.path.join(names::partition_dir(topic, partition))
    }

    /// Renames a partition's directory so that it is removed, now or at the next start; returns the new path.
    pub fn mark_deleted(&self, topic: &str, partition: i32, unique: u128) -> io::Result<PathBuf> {
        let name = names::marked_partition_dir(topic, partition, unique, DirKind::Delete);
        let marked = self.path.join(name);
        self.storage
            .rename(&self.partition_path(topic, partition), &marked)?;
        self.storage.sync_dir(&self.path)?;
        Ok(marked)
    }
}

/// Locks a file for this process; `false` when another one has it. Storage without descriptors needs no lock.
fn take(file: &dyn StorageFile) -> io::Result<bool> {
    let Some(fd) = file.as_fd() else {
        return Ok(true);
    };
    // The first keeps out other brokers of this program, in this process too; the second is what the JVM takes.
    let both = rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive)
        .and_then(|()| rustix::fs::fcntl_lock(fd, FlockOperation::NonBlockingLockExclusive));
    match both {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read_pid(file: &dyn StorageFile) -> Option<u32> {
    let mut text = [0; 16];
    let len = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..len)?)
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use crate::storage::memory::MemoryStorage;

    fn memory() -> (MemoryStorage, LogDir) {
        let storage = MemoryStorage::new();
        let dir = LogDir::open(Arc::new(storage.clone()), Path::new("/data")).unwrap();
        (storage, dir)
    }

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let place = tempfile::tempdir().unwrap();
        let first = LogDir::open(Arc::new(Disk), place.path()).unwrap();
        let error = LogDir::open(Arc::new(Disk), place.path()).err().unwrap();
        let expected = format!("is in use by process {}", std::process::id());
        assert!(error.to_string().ends_with(&expected), "{error}");
        drop(first);
        LogDir::open(Arc::new(Disk), place.path()).unwrap();
    }

    #[test]
    fn a_clean_shutdown_is_remembered_once() {
        let (storage, dir) = memory();
        assert!(!dir.clean_shutdown());
        dir.mark_clean().unwrap();
        let again = LogDir::open(Arc::new(storage.clone()), Path::new("/data")).unwrap();
        assert!(again.clean_shutdown());
        again.mark_running().unwrap();
        assert!(
            !LogDir::open(Arc::new(storage), Path::new("/data"))
                .unwrap()
                .clean_shutdown()
        );
    }

    #[test]
    fn a_full_disk_does_not_keep_it_from_opening() {
        let storage = MemoryStorage::new();
        storage.limit_room(Some(0));
        LogDir::open(Arc::new(storage), Path::new("/data")).unwrap();
    }

    #[test]
    fn lists_partitions_and_marks_them_deleted() {
        let (storage, dir) = memory();
        for name in ["a-0", "a-1", "b-c-2", "lost+found"] {
            storage.create_dir(&dir.path().join(name)).unwrap();
        }
        let marked = dir.mark_deleted("a", 1, 1).unwrap();
        assert_eq!(
            marked,
            Path::new("/data/a-1.00000000000000000000000000000001-delete")
        );
        let kinds: Vec<_> = dir
            .partitions()
            .unwrap()
            .into_iter()
            .map(|(_, found)| (found.topic, found.partition, found.kind))
            .collect();
        let expected = [
            ("a".to_owned(), 0, DirKind::Live),
            ("a".to_owned(), 1, DirKind::Delete),
            ("b-c".to_owned(), 2, DirKind::Live),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn meta_and_checkpoints_come_back() {
        let (_, dir) = memory();
        assert_eq!(dir.meta().unwrap(), None);
        let meta = MetaProperties {
            broker_id: 3,
            cluster_id: Some("c".to_owned()),
        };
        dir.write_meta(&meta).unwrap();
        assert_eq!(dir.meta().unwrap(), Some(meta));
        let offsets = Offsets::from([(("t".to_owned(), 0), 7)]);
        dir.write_checkpoint(Checkpoint::HighWatermarks, &offsets)
            .unwrap();
        assert_eq!(
            dir.read_checkpoint(Checkpoint::HighWatermarks).unwrap(),
            offsets
        );
        assert!(
            dir.read_checkpoint(Checkpoint::RecoveryPoints)
                .unwrap()
                .is_empty()
        );
    }
}
