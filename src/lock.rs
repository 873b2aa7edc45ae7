//! The lock of a data directory: one process at a time.

use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

/// The name of the lock file, which is also Kafka's.
const FILE_NAME: &str = ".lock";

/// Tells why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process has it.
    #[error(
        "{directory} is in use by {holder}; stop that one, or choose another directory with --data"
    )]
    Held { directory: PathBuf, holder: String },
    /// The file system refused.
    #[error("cannot use the directory {directory}: {source}")]
    Io {
        directory: PathBuf,
        source: io::Error,
    },
}

/// Holds a directory for this process, until dropped.
///
/// The lock is the one that Apache Kafka takes too (a POSIX record lock on `.lock`), so the two keep off each other.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Creates the directory if need be, and locks it.
    pub(crate) fn acquire(directory: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            directory: directory.to_owned(),
            source,
        };
        create_dir_all(directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(FILE_NAME))
            .map_err(failed)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => {
                return Err(LockError::Held {
                    directory: directory.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

/// Names the process behind a lock: from the kernel's list, or else from what it wrote into the file.
fn holder(file: &mut File) -> String {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let listed = file
        .metadata()
        .ok()
        .and_then(|metadata| listed_holder(&locks, metadata.ino()));
    let pid = listed.or_else(|| {
        let mut text = String::new();
        file.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    });
    pid.map_or_else(|| "another process".to_owned(), describe_process)
}

/// Finds the process that holds an inode in the text of `/proc/locks`, where a line reads
/// `1: POSIX  ADVISORY  WRITE 4711 08:01:393235 0 EOF`.
fn listed_holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(4);
        let pid = words.next()?.parse().ok()?;
        let (_, listed) = words.next()?.rsplit_once(':')?;
        (listed.parse() == Ok(inode)).then_some(pid)
    })
}

/// Names a process: `process 4711 (troupe)`.
pub(crate) fn describe_process(pid: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim()),
        Err(_) => format!("process {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_holds_the_pid() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/logs");
        let _lock = DirectoryLock::acquire(&path).unwrap();
        let text = std::fs::read_to_string(path.join(".lock")).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
    }

    #[test]
    fn the_kernel_tells_who_holds_an_inode() {
        let locks = "1: FLOCK  ADVISORY  WRITE 11 08:01:5 0 EOF\n2: POSIX  ADVISORY  WRITE 4711 08:01:393235 0 EOF\n";
        assert_eq!(listed_holder(locks, 393_235), Some(4711));
        assert_eq!(listed_holder(locks, 6), None);
    }

    #[test]
    fn a_file_in_the_way_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = DirectoryLock::acquire(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot use the directory {}: ", path.display())),
            "{error}"
        );
    }
}
