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

use super::records::{Batch, ZXID, decode_zxid};
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

/// What an opened database has.
#[derive(Debug)]
pub(super) struct Found<T> {
    /// What became of its records.
    pub(super) restored: T,
    /// How many there are.
    pub(super) records: u64,
    /// The last transaction.
    pub(super) zxid: Option<i64>,
    longest: u64,
    total: u64,
}

/// Why a database did not open.
pub(super) enum Unopened {
    /// For a reason outside of it: no space, no permission. It may open the next time.
    Refused(StoreError),
    /// For what is in it.
    Corrupt(String),
}

impl Database {
    /// Opens or creates the database in a directory of its own; returns it with what became of all it contains.
    pub(super) fn open<R: Restore>(
        path: &Path,
        restore: R,
    ) -> Result<(Self, Found<R::Output>), Unopened> {
        let refused = |source| Unopened::Refused(io_error(path, source));
        wait_until_closed(path).map_err(refused)?;
        remove_unfinished(path).map_err(refused)?;
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let sled = sled::Config::new()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .segment_size(SEGMENT_BYTES)
                .mode(sled::Mode::LowSpace)
                .flush_every_ms(None)
                .open()?;
            let found = find(&sled, restore)?;
            Ok((sled, found))
        }));
        let (sled, found) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(sled::Error::Io(source)))
                if source.raw_os_error().is_some() || is_full(&source) =>
            {
                return Err(refused(source));
            }
            Ok(Err(error)) => return Err(Unopened::Corrupt(error.to_string())),
            Err(panic) => return Err(Unopened::Corrupt(panic_text(&*panic))),
        };
        let found = found.map_err(Unopened::Corrupt)?;
        // Blocks can be allocated through a descriptor for writing alone.
        let file = File::options()
            .write(true)
            .open(path.join("db"))
            .map_err(refused)?;
        let database = Self {
            path: path.into(),
            sled: Some(sled),
            longest: found.longest,
            total: found.total,
            file,
        };
        Ok((database, found))
    }

    /// Stores a batch and returns when it is on the disk.
    ///
    /// # Errors
    /// `Full` when there is no room for it, before anything was done. After any other nothing more may be stored.
    pub(super) fn apply(&mut self, batch: Batch, reserve: &Reserve) -> Result<(), StoreError> {
        self.make_room(&batch, reserve).map_err(|source| {
            let path = self.path.clone();
            if is_full(&source) {
                StoreError::Full { path, source }
            } else {
                StoreError::Io { path, source }
            }
        })?;
        let stored = self.write(batch);
        if stored.is_err() {
            std::mem::forget(self.sled.take());
        }
        stored
    }

    fn make_room(&mut self, batch: &Batch, reserve: &Reserve) -> io::Result<()> {
        let values = || batch.entries.values().flatten().map(length);
        let keys = batch.entries.keys().map(length).sum::<u64>();
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

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch.entries {
            match value {
                Some(value) => changes.insert(key.as_ref(), value.as_ref()),
                None => changes.remove(key.as_ref()),
            }
        }
        let sled = self.sled()?;
        sled.apply_batch(changes)
            .and_then(|()| sled.flush())
            .map_err(|source| self.error(source))?;
        self.file
            .sync_data()
            .map_err(|source| io_error(&self.path, source))
    }

    /// Reads everything, in order.
    pub(super) fn records(&self) -> Result<sled::Iter, StoreError> {
        Ok(self.sled()?.iter())
    }

    /// Reads everything.
    pub(super) fn contents(&self) -> Result<Contents, StoreError> {
        contents(self.sled()?).map_err(|source| self.error(source))
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

/// Goes through all records once; the inner error says what is wrong with them.
fn find<R: Restore>(
    sled: &sled::Db,
    mut restore: R,
) -> sled::Result<Result<Found<R::Output>, String>> {
    let (mut records, mut longest, mut total) = (0, 0, 0);
    let mut zxid = None;
    for record in sled.iter() {
        let (key, value) = record?;
        if *key == *ZXID {
            zxid = decode_zxid(&value);
        }
        records += 1;
        longest = longest.max(value.len() as u64);
        total += value.len() as u64;
        if let Err(error) = restore.record(&key, &value) {
            return Ok(Err(error.to_string()));
        }
    }
    if records > 0 && zxid.is_none() {
        return Ok(Err("its last transaction is missing".into()));
    }
    let found = |restored| Found {
        restored,
        records,
        zxid,
        longest,
        total,
    };
    Ok(restore
        .finish()
        .map(found)
        .map_err(|error| error.to_string()))
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
