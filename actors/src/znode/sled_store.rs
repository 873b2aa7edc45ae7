//! The store on disk: a journal, a sled database that follows it, and a snapshot of that.
//!
//! A commit is on the disk when the journal has it. The database takes changes later, from the thread of the
//! [keeper](super::keeper), and the snapshot follows the database. The journal goes back to the last snapshot, so that
//! either of the two can be lost.
//!
//! `<directory>/journal-*` are files of the journal, `db` is sled's, `snapshot` is ours, `lock` keeps other processes out,
//! and `reserve` is room for a start on a full disk.

use std::io;
use std::path::{Path, PathBuf};

use super::database::io_error;
use super::journal::{Changes, FILE_BYTES, Journal};
use super::keeper::{Keeper, Report, overlay};
use super::records::Batch;
use super::recovery::{self, Recovered};
use super::reserve::{Reserve, is_full};
use super::store::{Contents, Restore, StoreError, ZnodeStore};
use crate::storage::Disk;
use crate::storage::lock::DirectoryLock;

/// When what is done, in bytes.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Of a file of the journal.
    file: u64,
    /// The database gets changes when there are so many. With eight times as many that it has not taken, a commit waits
    /// for the database.
    absorb: usize,
    /// A snapshot is written after at least so many in the journal, and more if the snapshot is large.
    snapshot: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            file: FILE_BYTES,
            absorb: 1024 * 1024,
            snapshot: 16 * 1024 * 1024,
        }
    }
}

/// So many times what it is given at once may the database lag behind.
const MOST_LAG: usize = 8;
/// What a key and its value take in memory beside their bytes.
const ENTRY_BYTES: usize = 128;

/// A store in a directory.
#[derive(Debug)]
pub struct SledStore {
    directory: PathBuf,
    sizes: Sizes,
    journal: Journal,
    keeper: Keeper,
    /// What the keeper was not given yet, and how many bytes that is.
    pending: Changes,
    pending_bytes: usize,
    /// The last frame of the journal, the last one of which the keeper was given everything, and the last one in the
    /// snapshot.
    last: u64,
    given: u64,
    saved: u64,
    /// The length of the snapshot.
    saved_bytes: u64,
    snapshot_due: bool,
    /// The database found no room, which was said.
    lacks_room: bool,
    // Last, so that the directory is free when everything is closed.
    _lock: DirectoryLock,
}

impl SledStore {
    /// Opens or creates the store; returns it with what `restore` makes of its contents.
    ///
    /// A database that cannot be used is put aside and built again, see [`recovery`].
    pub fn open<R: Restore>(
        directory: &Path,
        restore: impl Fn() -> R,
    ) -> Result<(Self, R::Output), StoreError> {
        Self::open_with(directory, Sizes::default(), restore)
    }

    fn open_with<R: Restore>(
        directory: &Path,
        sizes: Sizes,
        restore: impl Fn() -> R,
    ) -> Result<(Self, R::Output), StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
        let lock = DirectoryLock::acquire(&Disk, directory, "lock")?;
        let reserve = Reserve::of(directory);
        let Recovered {
            database,
            journal,
            pending,
            absorbed,
            last,
            saved,
            needs_snapshot,
            restored,
        } = recovery::recover(directory, sizes.file, &reserve, &restore)?;
        reserve.make();
        let pending_bytes = pending
            .iter()
            .map(|(key, value)| entry_bytes(key, value.as_deref()))
            .sum();
        // The database does not say so of itself yet, where a snapshot is needed.
        let noted = if needs_snapshot { 0 } else { absorbed };
        let mut store = Self {
            directory: directory.into(),
            sizes,
            journal,
            keeper: Keeper::start(directory, database, reserve, noted)?,
            pending,
            pending_bytes,
            last,
            given: absorbed,
            saved: saved.frame,
            saved_bytes: saved.bytes,
            snapshot_due: false,
            lacks_room: false,
            _lock: lock,
        };
        if needs_snapshot || store.is_long() {
            store.hand_over(true)?;
        }
        Ok((store, restored))
    }

    /// Gives the keeper everything that it does not have.
    fn hand_over(&mut self, snapshot: bool) -> Result<(), StoreError> {
        self.given = self.last;
        self.pending_bytes = 0;
        if snapshot {
            self.snapshot_due = false;
        }
        let changes = std::mem::take(&mut self.pending);
        self.keeper.absorb(changes, self.last, snapshot)
    }

    /// Takes note of what the keeper has done.
    fn hear(&mut self) -> Result<(), StoreError> {
        while let Some(report) = self.keeper.reported() {
            self.note(report)?;
        }
        Ok(())
    }

    /// Waits until the keeper has done everything.
    fn wait(&mut self) -> Result<(), StoreError> {
        while let Some(report) = self.keeper.wait()? {
            self.note(report)?;
        }
        Ok(())
    }

    fn note(&mut self, report: Report) -> Result<(), StoreError> {
        if let Some((frame, bytes)) = report.saved {
            (self.saved, self.saved_bytes) = (frame, bytes);
            self.release(frame)?;
        } else if self.journal.bytes() > 4 * self.most_journal_bytes() {
            // There is no snapshot although there should be: the journal must not fill the disk.
            self.release(report.absorbed)?;
        }
        match report.refused {
            None => self.lacks_room = false,
            Some(StoreError::Full { path, source }) => {
                self.given = report.absorbed;
                if !std::mem::replace(&mut self.lacks_room, true) {
                    let path = path.display();
                    tracing::warn!(
                        "no room for the coordination database, {path}: {source}; the journal goes on"
                    );
                }
            }
            Some(error) => return Err(error),
        }
        Ok(())
    }

    fn release(&mut self, through: u64) -> Result<(), StoreError> {
        let released = self.journal.release(through);
        released.map_err(|source| self.error(source))
    }

    /// How many bytes of the journal are worth a snapshot.
    fn most_journal_bytes(&self) -> u64 {
        self.sizes.snapshot.max(self.saved_bytes)
    }

    fn is_long(&self) -> bool {
        self.journal.bytes() >= self.most_journal_bytes()
    }

    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let appended = match self.journal.append(batch) {
            Err(error) if is_full(&error) => {
                self.make_room()?;
                self.journal.append(batch)
            }
            other => other,
        };
        self.last = appended.map_err(|source| self.error(source))?;
        Ok(())
    }

    /// On a full disk, has the database take everything, so that the files of the journal can be used again.
    fn make_room(&mut self) -> Result<(), StoreError> {
        self.hand_over(false)?;
        self.wait()?;
        if self.given == self.last {
            self.journal.close_file();
            self.release(self.last)?;
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> StoreError {
        let path = self.directory.clone();
        match is_full(&source) {
            true => StoreError::Full { path, source },
            false => StoreError::Io { path, source },
        }
    }
}

fn entry_bytes(key: &[u8], value: Option<&[u8]>) -> usize {
    ENTRY_BYTES + key.len() + value.map_or(0, <[u8]>::len)
}

impl ZnodeStore for SledStore {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.hear()?;
        if self.pending_bytes >= MOST_LAG * self.sizes.absorb {
            self.wait()?;
        }
        self.append(&batch)?;
        for (key, value) in batch.entries {
            // Also what takes the place of an older change: the journal has both.
            self.pending_bytes += entry_bytes(&key, value.as_deref());
            self.pending.insert(key, value);
        }
        if self.pending_bytes >= self.sizes.absorb && self.keeper.under_way() == 0 {
            let is_due = self.snapshot_due || self.is_long();
            self.hand_over(is_due)?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), StoreError> {
        self.hear()?;
        if self.saved == self.last {
            return Ok(());
        }
        if self.keeper.under_way() == 0 {
            self.hand_over(true)
        } else {
            self.snapshot_due = true;
            Ok(())
        }
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        self.wait()?;
        if self.saved < self.last {
            self.hand_over(true)?;
            self.wait()?;
        }
        Ok(())
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        let mut contents = self.keeper.contents()?;
        overlay(&mut contents, &self.pending);
        Ok(contents)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "full_disk_tests.rs"]
mod full_disk_tests;

#[cfg(test)]
#[path = "sled_store_tests.rs"]
mod tests;
