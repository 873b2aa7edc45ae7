//! sled, and what one has to know of it.
//!
//! - Some garbage makes it panic; [`Database::open`] turns that into an error.
//! - After a write that failed, dropping it can wait for ever, and what it holds in memory is not on the disk. So the disk
//!   must not be full in the middle of a write ([`Database::apply`]), and a database that failed is not dropped.
//! - When it finds the disk full while it opens, it leaves half a file that it takes for its newest the next time.

use std::fs::File;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};

use super::journal::Changes;
use super::records::{FRAME, ZXID, decode_frame, decode_zxid};
use super::reserve::{Reserve, is_full};
use super::store::{Contents, Restore, StoreError};

/// Everything is in the tree anyway; sled reads it once.
const CACHE_BYTES: u64 = 1024 * 1024;
/// Small, because every open segment costs a buffer of this size, and the whole tree is a few MB.
const SEGMENT_BYTES: usize = 128 * 1024;
/// What a commit may need on top of the size of what it stores: the segment that is being filled, the next one, and pages
/// that sled moves while it cleans up. Opening needs one segment of it.
const COMMIT_BYTES: u64 = 4 * SEGMENT_BYTES as u64;
/// A changed value is written as a change, and now and then with its page.
const WRITES_PER_VALUE: u64 = 4;
/// How long sled's threads have for letting go of a database that was dropped.
const CLOSING: Duration = Duration::from_secs(10);
/// sled keeps so many values in a page, one more before it splits it, and some while it merges two.
const VALUES_PER_PAGE: u64 = 20;

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// `None` when it has failed.
    sled: Option<sled::Db>,
    /// The longest value that it has ever had, and the bytes of all: they say how large its pages can be.
    longest: u64,
    total: u64,
    /// sled's own file: its flush hands the pages to the disk without waiting for its metadata and cache.
    file: File,
}

/// What an opened database has, together with later changes.
#[derive(Debug)]
pub(super) struct Found<T> {
    /// What became of its records.
    pub(super) restored: T,
    /// How many there are.
    pub(super) records: u64,
    /// The last transaction.
    pub(super) zxid: Option<i64>,
}

/// Why a database did not open.
pub(super) enum Unopened {
    /// For a reason outside of it: no space, no permission. It may open the next time.
    Refused(StoreError),
    /// For what is in it.
    Corrupt(String),
}

impl Database {
    /// Opens or creates the database in a directory of its own.
    pub(super) fn open(path: &Path) -> Result<Self, Unopened> {
        let refused = |source| Unopened::Refused(io_error(path, source));
        wait_until_closed(path).map_err(refused)?;
        remove_unfinished(path).map_err(refused)?;
        let sled = guarded(path, || {
            sled::Config::new()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .segment_size(SEGMENT_BYTES)
                .mode(sled::Mode::LowSpace)
                .flush_every_ms(None)
                .open()
        })?;
        // Blocks can be allocated through a descriptor for writing alone.
        let file = File::options()
            .write(true)
            .open(path.join("db"))
            .map_err(refused)?;
        Ok(Self {
            path: path.into(),
            sled: Some(sled),
            longest: 0,
            total: 0,
            file,
        })
    }

    /// Returns the number of the last frame of the journal that is in here, if that was ever noted.
    pub(super) fn last_frame(&self) -> Result<Option<u64>, Unopened> {
        let nonsense = || Unopened::Corrupt("its last frame does not decode".into());
        let frame = self.get(FRAME)?;
        frame
            .map(|frame| decode_frame(&frame).ok_or_else(nonsense))
            .transpose()
    }

    /// Returns the last transaction.
    pub(super) fn zxid(&self) -> Result<Option<i64>, Unopened> {
        Ok(self.get(ZXID)?.and_then(|zxid| decode_zxid(&zxid)))
    }

    /// Tells whether nothing was ever stored.
    pub(super) fn is_empty(&self) -> Result<bool, Unopened> {
        let sled = self.sled().map_err(Unopened::Refused)?;
        guarded(&self.path, || Ok(sled.is_empty()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, Unopened> {
        let sled = self.sled().map_err(Unopened::Refused)?;
        guarded(&self.path, || sled.get(key))
    }

    /// Goes through all records once, with later changes to them.
    pub(super) fn restore<R: Restore>(
        &mut self,
        changes: &Changes,
        restore: R,
    ) -> Result<Found<R::Output>, Unopened> {
        let sled = self.sled().map_err(Unopened::Refused)?;
        let mut seen = Seen::default();
        let found = guarded(&self.path, || seen.all(sled, changes, restore))?;
        (self.longest, self.total) = (seen.longest, seen.total);
        found.map_err(Unopened::Corrupt)
    }

    /// Stores what frames up to this one changed, all of it or nothing, and returns when it is on the disk.
    ///
    /// # Errors
    /// `Full` when there is no room for it, before anything was done. After any other nothing more may be stored.
    pub(super) fn apply(
        &mut self,
        changes: &Changes,
        frame: u64,
        reserve: &Reserve,
    ) -> Result<(), StoreError> {
        self.make_room(changes, reserve).map_err(|source| {
            let path = self.path.clone();
            if is_full(&source) {
                StoreError::Full { path, source }
            } else {
                StoreError::Io { path, source }
            }
        })?;
        let stored = self.write(changes, frame);
        if stored.is_err() {
            std::mem::forget(self.sled.take());
        }
        stored
    }

    fn make_room(&mut self, changes: &Changes, reserve: &Reserve) -> io::Result<()> {
        let values = || changes.values().flatten().map(length);
        let keys = changes.keys().map(length).sum::<u64>();
        let bytes = keys.saturating_add(values().sum());
        let needed = COMMIT_BYTES.saturating_add(WRITES_PER_VALUE.saturating_mul(bytes));
        reserve.claim(&self.file, needed)?;
        // A page that does not fit into a segment, with what sled adds to it, goes into a file of its own, for which
        // nothing can be allocated ahead.
        let longest = self.longest.max(values().max().unwrap_or(0));
        let total = self.total.saturating_add(bytes);
        let page = longest.saturating_mul(VALUES_PER_PAGE).min(total);
        if page > SEGMENT_BYTES as u64 / 2 {
            reserve.or_has_room(WRITES_PER_VALUE.saturating_mul(page.saturating_add(bytes)))?;
        }
        (self.longest, self.total) = (longest, total);
        Ok(())
    }

    fn write(&self, changes: &Changes, frame: u64) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key.as_ref(), value.as_ref()),
                None => batch.remove(key.as_ref()),
            }
        }
        batch.insert(FRAME, &frame.to_be_bytes());
        let sled = self.sled()?;
        sled.apply_batch(batch)
            .and_then(|()| sled.flush())
            .map_err(|source| self.error(source))?;
        self.file
            .sync_data()
            .map_err(|source| io_error(&self.path, source))
    }

    /// Reads everything, in order, the number of the last frame as well.
    pub(super) fn records(&self) -> Result<sled::Iter, StoreError> {
        Ok(self.sled()?.iter())
    }

    /// Reads everything that was stored.
    pub(super) fn contents(&self) -> Result<Contents, StoreError> {
        let mut contents = contents(self.sled()?).map_err(|source| self.error(source))?;
        contents.remove(FRAME);
        Ok(contents)
    }

    fn sled(&self) -> Result<&sled::Db, StoreError> {
        let failed = || io_error(&self.path, io::Error::other("it has failed before"));
        self.sled.as_ref().ok_or_else(failed)
    }

    fn error(&self, source: sled::Error) -> StoreError {
        StoreError::Database {
            path: self.path.clone(),
            source,
        }
    }
}

fn length(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}

/// Has sled do something; some garbage makes it panic.
fn guarded<T>(path: &Path, work: impl FnOnce() -> sled::Result<T>) -> Result<T, Unopened> {
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(sled::Error::Io(source))) if source.raw_os_error().is_some() || is_full(&source) => {
            Err(Unopened::Refused(io_error(path, source)))
        }
        Ok(Err(error)) => Err(Unopened::Corrupt(error.to_string())),
        Err(panic) => Err(Unopened::Corrupt(panic_text(&*panic))),
    }
}

/// What is noted of records while they are restored.
#[derive(Default)]
struct Seen {
    records: u64,
    longest: u64,
    total: u64,
    zxid: Option<i64>,
}

impl Seen {
    /// Goes through the records and the changes, both in the order of their keys; the inner error says what is wrong with
    /// them.
    fn all<R: Restore>(
        &mut self,
        sled: &sled::Db,
        changes: &Changes,
        mut restore: R,
    ) -> sled::Result<Result<Found<R::Output>, String>> {
        let mut changes = changes.iter().peekable();
        for record in sled.iter() {
            let (key, value) = record?;
            let mut is_changed = false;
            while let Some((changed, new)) = changes.next_if(|(changed, _)| ***changed <= *key) {
                is_changed |= *changed == *key;
                if let Err(error) = self.change(changed, new.as_deref(), &mut restore) {
                    return Ok(Err(error));
                }
            }
            if !is_changed
                && *key != *FRAME
                && let Err(error) = self.record(&key, &value, &mut restore)
            {
                return Ok(Err(error));
            }
        }
        for (changed, new) in changes {
            if let Err(error) = self.change(changed, new.as_deref(), &mut restore) {
                return Ok(Err(error));
            }
        }
        if self.records > 0 && self.zxid.is_none() {
            return Ok(Err("its last transaction is missing".into()));
        }
        let (records, zxid) = (self.records, self.zxid);
        let found = |restored| Found {
            restored,
            records,
            zxid,
        };
        Ok(restore
            .finish()
            .map(found)
            .map_err(|error| error.to_string()))
    }

    fn change(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        restore: &mut impl Restore,
    ) -> Result<(), String> {
        value.map_or(Ok(()), |value| self.record(key, value, restore))
    }

    fn record(
        &mut self,
        key: &[u8],
        value: &[u8],
        restore: &mut impl Restore,
    ) -> Result<(), String> {
        if *key == *ZXID {
            self.zxid = decode_zxid(value);
        }
        self.records += 1;
        self.longest = self.longest.max(value.len() as u64);
        self.total += value.len() as u64;
        restore
            .record(key, value)
            .map_err(|error| error.to_string())
    }
}

fn contents(sled: &sled::Db) -> sled::Result<Contents> {
    sled.iter()
        .map(|record| {
            let (key, value) = record?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        })
        .collect()
}

/// Waits until sled's threads have let go of a database that this process had before. No other process can have it: the
/// store's directory is locked.
fn wait_until_closed(path: &Path) -> io::Result<()> {
    let file = match File::open(path.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let deadline = Instant::now() + CLOSING;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Removes the files that sled was writing when it was interrupted. Those that they were to replace are still there.
fn remove_unfinished(path: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|ending| ending == "generating")
        {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}

pub(super) fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        path: path.into(),
        source,
    }
}
