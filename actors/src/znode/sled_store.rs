//! The store on disk: a sled database, and a snapshot beside it.
//!
//! `<directory>/db` is sled's, `<directory>/snapshot` is ours, `<directory>/lock` keeps other processes out, and
//! `<directory>/reserve` is room for a start on a full disk.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::database::{Database, Found, Unopened, io_error};
use super::records::{Batch, ZXID, decode_zxid};
use super::reserve::{Reserve, is_full};
use super::snapshot;
use super::store::{Contents, Restore, StoreError, ZnodeStore};
use crate::storage::Disk;
use crate::storage::lock::DirectoryLock;

/// A snapshot is written after at least so many transactions, and more if it is large.
const SNAPSHOT_TRANSACTIONS: u64 = 1_000;

/// A store in a directory.
#[derive(Debug)]
pub struct SledStore {
    directory: PathBuf,
    database: Database,
    reserve: Reserve,
    unsaved: u64,
    /// A snapshot is due with so many unsaved transactions.
    snapshot_at: u64,
    records: u64,
    has_snapshot: bool,
    /// The last snapshot found no room, which was said.
    lacks_room: bool,
    _lock: DirectoryLock,
}

impl SledStore {
    /// Opens or creates the store; returns it with what `restore` makes of its contents.
    ///
    /// A database that sled cannot read, of which no sense can be made, or that lags behind the snapshot, is put aside and
    /// rebuilt from the snapshot. The zxid then jumps ahead, because transactions after the snapshot may be lost and their
    /// numbers must not come twice.
    pub fn open<R: Restore>(
        directory: &Path,
        restore: impl Fn() -> R,
    ) -> Result<(Self, R::Output), StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
        let lock = DirectoryLock::acquire(&Disk, directory, "lock")?;
        let reserve = Reserve::of(directory);
        let saved = directory.join("snapshot");
        let last_saved = last_saved(&saved);
        let opened = open_database(&directory.join("db"), &reserve, &restore);
        let opened = opened.and_then(|(database, found)| match lags(&found, &last_saved) {
            true => Err(Unopened::Corrupt("it lags behind the snapshot".into())),
            false => Ok((database, found)),
        });
        let (database, found) = match opened {
            Ok(opened) => opened,
            Err(Unopened::Refused(error)) => return Err(error),
            Err(Unopened::Corrupt(reason)) => {
                // The first transaction is acknowledged after the first snapshot: without one, none was.
                let saved = snapshot::read(&saved)
                    .map_err(|error| lost(directory, format!("{reason}; {error}")))?
                    .unwrap_or_default();
                rebuild(directory, &reserve, &reason, saved, restore())?
            }
        };
        reserve.make();
        let store = Self {
            directory: directory.into(),
            database,
            reserve,
            unsaved: 0,
            snapshot_at: SNAPSHOT_TRANSACTIONS,
            records: found.records,
            has_snapshot: saved.exists(),
            lacks_room: false,
            _lock: lock,
        };
        Ok((store, found.restored))
    }

    fn write_snapshot(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        let records = self.database.records()?.map(|record| {
            count += 1;
            record.map_err(io::Error::other)
        });
        let path = self.directory.join("snapshot");
        snapshot::write(&path, records).map_err(|source| io_error(&path, source))?;
        Ok(count)
    }
}

impl ZnodeStore for SledStore {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let transactions = batch.transactions;
        self.database.apply(batch, &self.reserve)?;
        self.reserve.make();
        self.unsaved += transactions;
        if !self.has_snapshot || self.unsaved >= self.snapshot_at.max(self.records / 4) {
            self.snapshot()?;
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        if self.unsaved == 0 {
            return Ok(());
        }
        match self.write_snapshot() {
            Ok(count) => self.records = count,
            // The database has everything; the snapshot is for the day when it can't be read.
            Err(StoreError::Io { path, source }) if is_full(&source) && self.has_snapshot => {
                if !std::mem::replace(&mut self.lacks_room, true) {
                    let path = path.display();
                    tracing::warn!(
                        "no room for a snapshot of the coordination store, {path}; the last one stays"
                    );
                }
                self.snapshot_at = self.unsaved.saturating_add(SNAPSHOT_TRANSACTIONS);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.unsaved = 0;
        self.snapshot_at = SNAPSHOT_TRANSACTIONS;
        self.has_snapshot = true;
        self.lacks_room = false;
        Ok(())
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        self.database.contents()
    }
}

/// Opens the database; with the reserve given up, if that is what it takes.
fn open_database<R: Restore>(
    path: &Path,
    reserve: &Reserve,
    restore: impl Fn() -> R,
) -> Result<(Database, Found<R::Output>), Unopened> {
    match Database::open(path, restore()) {
        Err(Unopened::Refused(error)) if error.is_full() && reserve.give_up() => {
            Database::open(path, restore())
        }
        other => other,
    }
}

/// Reads the last transaction of the snapshot; `None` without a snapshot.
fn last_saved(path: &Path) -> io::Result<Option<i64>> {
    let mut zxid = None;
    snapshot::scan(path, |key, value| {
        if key == ZXID {
            zxid = decode_zxid(value);
        }
    })?;
    Ok(zxid)
}

/// Tells whether the snapshot is newer. sled drops what it takes for a torn end without a word, in the worst case
/// everything, so an empty database beside a snapshot that cannot be read is as suspicious.
fn lags<T>(found: &Found<T>, last_saved: &io::Result<Option<i64>>) -> bool {
    match last_saved {
        Ok(last_saved) => *last_saved > found.zxid,
        Err(error) => {
            tracing::warn!(%error, "the coordination snapshot cannot be read");
            found.records == 0
        }
    }
}

fn zxid(contents: &Contents) -> Option<i64> {
    contents.get(ZXID).and_then(|value| decode_zxid(value))
}

fn lost(directory: &Path, reason: String) -> StoreError {
    StoreError::Lost {
        path: directory.into(),
        reason,
    }
}

/// Puts the database aside and fills a new one from a snapshot.
fn rebuild<R: Restore>(
    directory: &Path,
    reserve: &Reserve,
    reason: &str,
    mut saved: Contents,
    restore: R,
) -> Result<(Database, Found<R::Output>), StoreError> {
    let (path, aside) = (&directory.join("db"), directory.join("db.corrupt"));
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
    let refused = |unopened| match unopened {
        Unopened::Refused(error) => error,
        Unopened::Corrupt(reason) => lost(directory, reason),
    };
    let (mut database, _) = Database::open(path, Contents::new()).map_err(refused)?;
    let batch = Batch {
        entries: saved
            .iter()
            .map(|(key, value)| (key.clone(), Some(value.clone())))
            .collect(),
        transactions: 1,
    };
    database.apply(batch, reserve)?;
    drop(database);
    let opened = Database::open(path, restore).map_err(refused)?;
    tracing::warn!(
        directory = %directory.display(), reason, records = saved.len(), aside = %aside.display(),
        "the coordination database could not be used; rebuilt it from the snapshot of zxid 0x{last:x}, changes after that are lost"
    );
    Ok(opened)
}

#[cfg(test)]
#[path = "full_disk_tests.rs"]
mod full_disk_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::lock::LockError;

    fn open(directory: &Path) -> Result<(SledStore, Contents), StoreError> {
        SledStore::open(directory, Contents::new)
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

    /// Counts records, and takes one of them for nonsense.
    struct Picky(usize);

    impl Restore for Picky {
        type Output = usize;
        type Error = &'static str;

        fn record(&mut self, key: &[u8], _: &[u8]) -> Result<(), &'static str> {
            self.0 += 1;
            if key == b"third" {
                Err("nonsense")
            } else {
                Ok(())
            }
        }

        fn finish(self) -> Result<usize, &'static str> {
            Ok(self.0)
        }
    }

    #[test]
    fn contents_that_make_no_sense_are_rebuilt_too() {
        let (directory, store) = three_commits();
        drop(store);
        let (_, records) = SledStore::open(directory.path(), || Picky(0)).unwrap();
        assert_eq!(records, 3);
    }
}
