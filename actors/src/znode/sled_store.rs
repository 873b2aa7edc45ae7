//! The store on disk: a sled database, and a snapshot beside it.
//!
//! `<directory>/db` is sled's, `<directory>/snapshot` is ours, `<directory>/lock` keeps other processes out.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::records::{Batch, ZXID, decode_zxid};
use super::snapshot;
use super::store::{Contents, StoreError, ZnodeStore};

/// Everything is in the tree anyway; sled reads it once.
const CACHE_BYTES: u64 = 1024 * 1024;
/// Small, because every open segment costs a buffer of this size, and the whole tree is a few MB.
const SEGMENT_BYTES: usize = 128 * 1024;
/// A snapshot is written after at least so many transactions, and more if it is large.
const SNAPSHOT_TRANSACTIONS: u64 = 1_000;

/// A store in a directory.
#[derive(Debug)]
pub struct SledStore {
    directory: PathBuf,
    database: sled::Db,
    /// The database's own file: sled's flush hands the pages to the disk without waiting for its metadata and cache.
    file: File,
    unsaved: u64,
    records: u64,
    has_snapshot: bool,
    _lock: File,
}

impl SledStore {
    /// Opens or creates the store; returns it with all that it keeps.
    ///
    /// A database that cannot be read, or lags behind the snapshot, is put aside and rebuilt from the snapshot. The
    /// zxid then jumps ahead, because transactions after the snapshot may be lost and their numbers must not come twice.
    pub fn open(directory: &Path) -> Result<(Self, Contents), StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
        let lock = lock(directory)?;
        let path = directory.join("db");
        let saved = snapshot::read(&directory.join("snapshot"));
        let (database, contents) = match open_database(&path) {
            Ok((database, contents)) => match (outdated(&contents, &saved), saved) {
                (true, Ok(Some(saved))) => {
                    drop(database);
                    rebuild(directory, &path, "it lags behind the snapshot", saved)?
                }
                (_, saved) => {
                    if let Err(error) = saved {
                        tracing::warn!(directory = %directory.display(), %error, "the coordination snapshot cannot be read; the next one replaces it");
                    }
                    (database, contents)
                }
            },
            Err(Unopened::Refused(error)) => return Err(error),
            Err(Unopened::Corrupt(reason)) => match saved {
                Ok(Some(saved)) => rebuild(directory, &path, &reason, saved)?,
                // The first transaction is acknowledged after the first snapshot: none was.
                Ok(None) => rebuild(directory, &path, &reason, Contents::new())?,
                Err(error) => {
                    return Err(StoreError::Lost {
                        path: directory.into(),
                        reason: format!("{reason}; {error}"),
                    });
                }
            },
        };
        let file_path = path.join("db");
        let file = File::open(&file_path).map_err(|source| io_error(&file_path, source))?;
        let store = Self {
            directory: directory.into(),
            database,
            file,
            unsaved: 0,
            records: contents.len() as u64,
            has_snapshot: directory.join("snapshot").exists(),
            _lock: lock,
        };
        Ok((store, contents))
    }

    fn database_error(&self, source: sled::Error) -> StoreError {
        StoreError::Database {
            path: self.directory.join("db"),
            source,
        }
    }
}

impl ZnodeStore for SledStore {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let transactions = batch.transactions;
        apply(&self.database, batch).map_err(|source| self.database_error(source))?;
        self.file
            .sync_data()
            .map_err(|source| io_error(&self.directory, source))?;
        self.unsaved += transactions;
        if !self.has_snapshot || self.unsaved >= SNAPSHOT_TRANSACTIONS.max(self.records / 4) {
            self.snapshot()?;
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        if self.unsaved == 0 {
            return Ok(());
        }
        let mut count = 0;
        let records = self.database.iter().map(|record| {
            count += 1;
            record.map_err(io::Error::other)
        });
        let path = self.directory.join("snapshot");
        snapshot::write(&path, records).map_err(|source| io_error(&path, source))?;
        self.records = count;
        self.unsaved = 0;
        self.has_snapshot = true;
        Ok(())
    }
}

fn apply(database: &sled::Db, batch: Batch) -> sled::Result<()> {
    let mut changes = sled::Batch::default();
    for (key, value) in batch.entries {
        match value {
            Some(value) => changes.insert(key.as_ref(), value.as_ref()),
            None => changes.remove(key.as_ref()),
        }
    }
    database.apply_batch(changes)?;
    database.flush()?;
    Ok(())
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let file = File::create(&path).map_err(|source| io_error(&path, source))?;
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    match rustix::fs::flock(&file, exclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(directory.into())),
        Err(error) => Err(io_error(&path, error.into())),
    }
}

/// Why a database did not open.
enum Unopened {
    /// For a reason outside of it: no space, no permission. It may open the next time.
    Refused(StoreError),
    /// For what is in it.
    Corrupt(String),
}

fn open_database(path: &Path) -> Result<(sled::Db, Contents), Unopened> {
    // sled panics on some forms of garbage instead of returning an error.
    let opened = std::panic::catch_unwind(|| -> sled::Result<_> {
        let database = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .segment_size(SEGMENT_BYTES)
            .mode(sled::Mode::LowSpace)
            .flush_every_ms(None)
            .open()?;
        let mut contents = Contents::new();
        for record in database.iter() {
            let (key, value) = record?;
            contents.insert(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
        }
        Ok((database, contents))
    });
    match opened {
        Ok(Ok((database, contents))) => {
            if contents.is_empty() || contents.contains_key(ZXID) {
                Ok((database, contents))
            } else {
                Err(Unopened::Corrupt("its last transaction is missing".into()))
            }
        }
        Ok(Err(sled::Error::Io(source))) if source.raw_os_error().is_some() => {
            Err(Unopened::Refused(io_error(path, source)))
        }
        Ok(Err(error)) => Err(Unopened::Corrupt(error.to_string())),
        Err(panic) => Err(Unopened::Corrupt(panic_text(&*panic))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}

fn zxid(contents: &Contents) -> Option<i64> {
    contents.get(ZXID).and_then(|value| decode_zxid(value))
}

fn outdated(contents: &Contents, saved: &io::Result<Option<Contents>>) -> bool {
    matches!(saved, Ok(Some(saved)) if zxid(saved) > zxid(contents))
}

/// Puts the database aside and fills a new one from a snapshot.
fn rebuild(
    directory: &Path,
    path: &Path,
    reason: &str,
    mut saved: Contents,
) -> Result<(sled::Db, Contents), StoreError> {
    let aside = directory.join("db.corrupt");
    if path.exists() {
        // Only the last one is kept, so that the disk does not fill up with them.
        if aside.exists() {
            std::fs::remove_dir_all(&aside).map_err(|source| io_error(&aside, source))?;
        }
        std::fs::rename(path, &aside).map_err(|source| io_error(path, source))?;
    }
    let last = zxid(&saved).unwrap_or_default();
    if !saved.is_empty() {
        let next = ((last >> 32) + 1) << 32;
        saved.insert(
            Bytes::from_static(ZXID),
            Bytes::copy_from_slice(&next.to_be_bytes()),
        );
    }
    let (database, _) = open_database(path).map_err(|unopened| match unopened {
        Unopened::Refused(error) => error,
        Unopened::Corrupt(reason) => StoreError::Lost {
            path: directory.into(),
            reason,
        },
    })?;
    let batch = Batch {
        entries: saved
            .iter()
            .map(|(key, value)| (key.clone(), Some(value.clone())))
            .collect(),
        transactions: 1,
    };
    apply(&database, batch).map_err(|source| StoreError::Database {
        path: path.into(),
        source,
    })?;
    tracing::warn!(
        directory = %directory.display(), reason, records = saved.len(), aside = %aside.display(),
        "the coordination database could not be used; rebuilt it from the snapshot of zxid 0x{last:x}, changes after that are lost"
    );
    Ok((database, saved))
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        path: path.into(),
        source,
    }
}
