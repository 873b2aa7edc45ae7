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
use crate::storage::Disk;
use crate::storage::lock::DirectoryLock;

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
    _lock: DirectoryLock,
}

impl SledStore {
    /// Opens or creates the store; returns it with what `read` makes of its contents.
    ///
    /// A database that sled or `read` cannot read, or that lags behind the snapshot, is put aside and rebuilt from the
    /// snapshot. The zxid then jumps ahead, because transactions after the snapshot may be lost and their numbers must
    /// not come twice.
    pub fn open<T, E: std::fmt::Display>(
        directory: &Path,
        read: impl Fn(&Contents) -> Result<T, E>,
    ) -> Result<(Self, T), StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
        let lock = DirectoryLock::acquire(&Disk, directory, "lock")?;
        let path = directory.join("db");
        let saved = snapshot::read(&directory.join("snapshot"));
        let opened = open_database(&path).and_then(|(database, contents)| {
            if lags(&contents, &saved) {
                return Err(Unopened::Corrupt("it lags behind the snapshot".into()));
            }
            let state = read(&contents).map_err(|error| Unopened::Corrupt(error.to_string()))?;
            Ok((database, contents.len(), state))
        });
        let (database, records, state) = match opened {
            Ok(opened) => opened,
            Err(Unopened::Refused(error)) => return Err(error),
            Err(Unopened::Corrupt(reason)) => {
                let lost = |reason| StoreError::Lost {
                    path: directory.into(),
                    reason,
                };
                // The first transaction is acknowledged after the first snapshot: without one, none was.
                let saved = saved
                    .map_err(|error| lost(format!("{reason}; {error}")))?
                    .unwrap_or_default();
                let (database, contents) = rebuild(directory, &path, &reason, saved)?;
                let state = read(&contents).map_err(|error| lost(error.to_string()))?;
                (database, contents.len(), state)
            }
        };
        let file_path = path.join("db");
        let file = File::open(&file_path).map_err(|source| io_error(&file_path, source))?;
        let store = Self {
            directory: directory.into(),
            database,
            file,
            unsaved: 0,
            records: records as u64,
            has_snapshot: directory.join("snapshot").exists(),
            _lock: lock,
        };
        Ok((store, state))
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

/// Tells whether the snapshot is newer. sled drops what it takes for a torn end without a word, in the worst case
/// everything, so an empty database beside a snapshot that cannot be read is as suspicious.
fn lags(contents: &Contents, saved: &io::Result<Option<Contents>>) -> bool {
    match saved {
        Ok(Some(saved)) => zxid(saved) > zxid(contents),
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(%error, "the coordination snapshot cannot be read");
            contents.is_empty()
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::lock::LockError;

    fn open(directory: &Path) -> Result<(SledStore, Contents), StoreError> {
        SledStore::open(directory, |contents| Ok::<_, String>(contents.clone()))
    }

    fn batch(zxid: i64, key: &'static str, value: &'static str) -> Batch {
        let mut batch = Batch::new(zxid);
        let value = Some(Bytes::from_static(value.as_bytes()));
        batch
            .entries
            .insert(Bytes::from_static(key.as_bytes()), value);
        batch
    }

    /// Copies what is on disk while the store is open: what a killed process leaves.
    fn killed(directory: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let mut open = vec![PathBuf::new()];
        while let Some(below) = open.pop() {
            std::fs::create_dir_all(copy.path().join(&below)).unwrap();
            for entry in std::fs::read_dir(directory.join(&below)).unwrap() {
                let entry = entry.unwrap();
                let path = below.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    open.push(path);
                } else {
                    std::fs::copy(entry.path(), copy.path().join(path)).unwrap();
                }
            }
        }
        copy
    }

    fn three_commits() -> (tempfile::TempDir, SledStore) {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, contents) = open(directory.path()).unwrap();
        assert!(contents.is_empty());
        store.commit(batch(1, "first", "1")).unwrap();
        store.commit(batch(2, "second", "2")).unwrap();
        store.snapshot().unwrap();
        store.commit(batch(3, "third", "3")).unwrap();
        (directory, store)
    }

    #[test]
    fn what_was_committed_is_there_after_a_kill() {
        let (directory, _store) = three_commits();
        let copy = killed(directory.path());
        let (_, contents) = open(copy.path()).unwrap();
        assert_eq!(contents.get(&b"third"[..]), Some(&Bytes::from_static(b"3")));
        assert_eq!((contents.len(), zxid(&contents)), (4, Some(3)));
    }

    #[test]
    fn a_directory_has_one_store() {
        let (directory, store) = three_commits();
        let second = open(directory.path());
        assert!(matches!(
            second,
            Err(StoreError::Lock(LockError::Held { .. }))
        ));
        drop(store);
        assert!(open(directory.path()).is_ok());
    }

    fn damage(directory: &Path, how: impl Fn(&Path)) {
        for entry in std::fs::read_dir(directory.join("db")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                how(&path);
            }
        }
    }

    #[test]
    fn a_garbled_database_is_rebuilt_from_the_snapshot() {
        let (directory, store) = three_commits();
        drop(store);
        damage(directory.path(), |path| {
            let length = std::fs::metadata(path).unwrap().len();
            let garbage = (0..length)
                .map(|at| (at * 31 % 251) as u8)
                .collect::<Vec<_>>();
            std::fs::write(path, garbage).unwrap();
        });
        let (mut store, contents) = open(directory.path()).unwrap();
        assert_eq!(
            contents.get(&b"second"[..]),
            Some(&Bytes::from_static(b"2"))
        );
        assert_eq!(
            contents.get(&b"third"[..]),
            None,
            "it was after the snapshot"
        );
        assert_eq!(zxid(&contents), Some(1 << 32), "no number comes twice");
        store.commit(batch((1 << 32) + 1, "fourth", "4")).unwrap();
        drop(store);
        let (_, contents) = open(directory.path()).unwrap();
        assert_eq!(contents.len(), 4);
    }

    #[test]
    fn a_database_cut_anywhere_opens_with_no_less_than_the_snapshot() {
        let (directory, store) = three_commits();
        drop(store);
        let length = std::fs::metadata(directory.path().join("db/db"))
            .unwrap()
            .len();
        for part in 0..16 {
            let copy = killed(directory.path());
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(copy.path().join("db/db"))
                .unwrap();
            file.set_len(length * part / 16).unwrap();
            drop(file);
            let (_, contents) = open(copy.path()).unwrap();
            assert!(contents.contains_key(&b"second"[..]), "cut to {part}/16");
            assert!(zxid(&contents) >= Some(2), "cut to {part}/16");
        }
    }

    #[test]
    fn without_database_and_snapshot_nothing_is_made_up() {
        let (directory, store) = three_commits();
        drop(store);
        damage(directory.path(), |path| {
            std::fs::write(path, b"garbage").unwrap()
        });
        std::fs::write(directory.path().join("snapshot"), b"garbage").unwrap();
        let lost = open(directory.path()).err().unwrap();
        assert!(matches!(lost, StoreError::Lost { .. }), "{lost}");
    }

    #[test]
    fn contents_that_make_no_sense_are_rebuilt_too() {
        let (directory, store) = three_commits();
        drop(store);
        let picky = |contents: &Contents| match contents.get(&b"third"[..]) {
            Some(_) => Err("nonsense"),
            None => Ok(contents.len()),
        };
        let (_, records) = SledStore::open(directory.path(), picky).unwrap();
        assert_eq!(records, 3);
    }
}
