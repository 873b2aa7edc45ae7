//! Directories whose owner is another program.
//!
//! In a test program of its own: a process that is started has the locks of this one until it is another program, so no
//! other test here may hold any.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use troupe_actors::storage::Disk;
use troupe_actors::storage::lock::{DirectoryLock, LockError};

fn lock(directory: &Path) -> Result<DirectoryLock, LockError> {
    DirectoryLock::acquire(&Disk, directory, ".lock")
}

#[test]
fn a_record_lock_such_as_java_takes_is_respected() {
    let directory = tempfile::tempdir().unwrap();
    let script = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()";
    let started = Command::new("python3")
        .args(["-c", script])
        .arg(directory.path().join(".lock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut other = started.expect("python3 is installed");
    let mut line = String::new();
    let mut output = BufReader::new(other.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let error = lock(directory.path()).unwrap_err().to_string();
    let expected = format!("is in use by process {} (python3", other.id());
    drop(other.stdin.take());
    other.wait().unwrap();
    assert!(error.contains(&expected), "{error}");
    lock(directory.path()).unwrap();
}
