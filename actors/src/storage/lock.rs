//! Lock files: one owner of a directory at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::{Storage, StorageFile};

/// Tells why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "{} is in use by {holder}; stop that one, or choose another directory with --data",
        directory.display()
    )]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Who has it: `process 4711 (troupe)`.
        holder: String,
    },
    /// The file system refused.
    #[error("cannot use the directory {}: {source}", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Holds a directory until dropped.
pub struct DirectoryLock(
    #[expect(dead_code, reason = "open as long as the lock is to hold")] Arc<dyn StorageFile>,
);

impl std::fmt::Debug for DirectoryLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirectoryLock")
    }
}

impl DirectoryLock {
    /// Locks an existing directory through the file of the given name in it, and leaves this process's id there.
    ///
    /// The lock is one of the open file (`F_OFD_SETLK`). It keeps out the record locks that Java takes, so Apache Kafka,
    /// and other owners in this process too; and unlike a record lock it stays when another descriptor of the file is
    /// closed. Storage without descriptors needs no lock.
    ///
    /// # Errors
    /// `Held`, with the holder's name, when somebody else has it.
    pub fn acquire(
        storage: &dyn Storage,
        directory: &Path,
        file_name: &str,
    ) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            directory: directory.to_owned(),
            source,
        };
        let path = directory.join(file_name);
        let file = storage.open(&path, true).map_err(failed)?;
        if let Some(fd) = file.as_fd()
            && !take(fd).map_err(failed)?
        {
            return Err(LockError::Held {
                directory: directory.to_owned(),
                holder: holder(&path),
            });
        }
        // Only a hint for whoever finds it locked: a full disk is no reason not to start.
        let pid = format!("{}\n", std::process::id());
        let _ = file
            .set_len(0)
            .and_then(|()| file.write_all_at(pid.as_bytes(), 0));
        Ok(Self(file))
    }
}

/// Locks an open file from end to end; `false` when somebody else has it.
fn take(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as _,
        l_whence: libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(fd.as_fd(), FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Names the process behind a lock: from the kernel's list, or else from what it wrote into the file.
fn holder(path: &Path) -> String {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let listed = std::fs::metadata(path)
        .ok()
        .and_then(|metadata| listed_holder(&locks, metadata.ino()));
    let pid = listed.or_else(|| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    pid.map_or_else(|| "another process".to_owned(), describe_process)
}

/// Finds the process that holds an inode in the text of `/proc/locks`, where a line reads
/// `1: POSIX  ADVISORY  WRITE 4711 08:01:393235 0 EOF`. A lock of an open file belongs to no process there, but to -1.
fn listed_holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(4);
        let pid = words.next()?.parse().ok()?;
        let (_, listed) = words.next()?.rsplit_once(':')?;
        (listed.parse() == Ok(inode)).then_some(pid)
    })
}

/// Names a process: `process 4711 (troupe)`.
pub fn describe_process(pid: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim()),
        Err(_) => format!("process {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use crate::storage::memory::MemoryStorage;

    fn lock(directory: &Path) -> Result<DirectoryLock, LockError> {
        DirectoryLock::acquire(&Disk, directory, ".lock")
    }

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        let error = lock(directory.path()).unwrap_err().to_string();
        let expected = format!("is in use by {};", describe_process(std::process::id()));
        assert!(error.contains(&expected), "{error}");
        // Neither that attempt nor a look into the file took the lock away.
        std::fs::read(directory.path().join(".lock")).unwrap();
        lock(directory.path()).unwrap_err();
        drop(first);
        lock(directory.path()).unwrap();
    }

    #[test]
    fn the_kernel_tells_who_holds_an_inode() {
        let locks = "1: OFDLCK ADVISORY  WRITE -1 08:01:5 0 EOF\n2: POSIX  ADVISORY  WRITE 4711 08:01:393235 0 EOF\n";
        assert_eq!(listed_holder(locks, 393_235), Some(4711));
        assert_eq!(listed_holder(locks, 5), None);
        assert_eq!(listed_holder(locks, 6), None);
    }

    #[test]
    fn a_full_disk_does_not_keep_it_from_locking() {
        let storage = MemoryStorage::new();
        storage.create_dir(Path::new("/data")).unwrap();
        storage.limit_room(Some(0));
        DirectoryLock::acquire(&storage, Path::new("/data"), ".lock").unwrap();
    }
}
