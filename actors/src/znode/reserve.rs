//! Blocks of the disk that the store has for itself, so that it works on a disk which the logs have filled.
//!
//! They are in a file beside the database, the reserve. A part of it is given up when a commit finds no room
//! ([`Reserve::claim`]), all of it when the database does not open for want of room. When there is room again it grows
//! to what it was.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, fstat, statvfs};
use rustix::io::Errno;

/// How large the reserve is where there is room: enough for a start and some thousand small commits.
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;
/// What commits leave of it to the next start.
const START_BYTES: u64 = 512 * 1024;
/// Commits take from the reserve in pieces of this size, some of which goes to what a file system notes about blocks.
const PART_BYTES: u64 = 64 * 1024;
/// `st_blocks` counts in these, whatever the file system's own are.
const STAT_BLOCK_BYTES: u64 = 512;

/// The reserve of one store: a file of blocks that nobody uses.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Describes the reserve in a store's directory; makes none.
    pub(super) fn of(directory: &Path) -> Self {
        Self {
            path: directory.join("reserve"),
        }
    }

    /// Makes the reserve as large as it should be, or as there is room for.
    pub(super) fn make(&self) {
        let length = self.length();
        if length >= RESERVE_BYTES {
            return;
        }
        let room = self.available().unwrap_or(0);
        let bytes = length.saturating_add(room).min(RESERVE_BYTES);
        if bytes > length {
            // From its end: a failed call may take back what was allocated in the range before.
            let _ = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&self.path)
                .and_then(|file| {
                    let more = bytes.saturating_sub(length);
                    Ok(fallocate(&file, FallocateFlags::empty(), length, more)?)
                });
        }
    }

    /// Sees to it that writes behind the end of `file` find the disk full only after `needed` bytes, and gives a part of
    /// the reserve up for that. The file's length stays as it is.
    ///
    /// # Errors
    /// When there is no room. A file system that can't allocate is asked for nothing.
    pub(super) fn claim(&self, file: &File, needed: u64) -> io::Result<()> {
        let stat = fstat(file)?;
        let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
        let wanted = unsigned(stat.st_size).saturating_add(needed);
        let missing = wanted.saturating_sub(unsigned(stat.st_blocks) * STAT_BLOCK_BYTES);
        if missing == 0 {
            return Ok(());
        }
        match allocate(file, wanted) {
            Err(error) if is_full(&error) => {
                let left = self
                    .length()
                    .saturating_sub(missing.next_multiple_of(PART_BYTES));
                if left < START_BYTES {
                    return Err(error);
                }
                File::options()
                    .write(true)
                    .open(&self.path)?
                    .set_len(left)?;
                allocate(file, wanted)
            }
            other => other,
        }
    }

    /// Sees to it that a new file can have so many bytes, and gives the reserve up for that.
    pub(super) fn or_has_room(&self, bytes: u64) -> io::Result<()> {
        if self.available()? >= bytes || (self.give_up() && self.available()? >= bytes) {
            return Ok(());
        }
        Err(Errno::NOSPC.into())
    }

    fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn available(&self) -> io::Result<u64> {
        let disk = statvfs(self.path.parent().unwrap_or(&self.path))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Gives the reserve up, and tells whether there was one.
    pub(super) fn give_up(&self) -> bool {
        std::fs::remove_file(&self.path).is_ok()
    }
}

/// Allocates the blocks of a file up to a position, its holes too.
fn allocate(file: &File, to: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, to) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

/// Tells whether an error means that there is no room on the disk, or none for this user.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_reserve_is_of_real_blocks_and_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(directory.path());
        assert!(!reserve.give_up(), "there is none yet");
        reserve.make();
        reserve.make();
        let metadata = std::fs::metadata(directory.path().join("reserve")).unwrap();
        assert!(metadata.blocks() * STAT_BLOCK_BYTES >= RESERVE_BYTES);
        assert!(reserve.give_up());
        assert!(!reserve.give_up());
    }

    #[test]
    fn claimed_blocks_do_not_change_the_length() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        let directory = tempfile::tempdir().unwrap();
        Reserve::of(directory.path())
            .claim(&file, 1_000_000)
            .unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 10);
        assert!(metadata.blocks() * STAT_BLOCK_BYTES >= 1_000_000);
    }
}
