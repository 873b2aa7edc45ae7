//! The store on a disk that is full to the last byte.

use std::io::Write;

use bytes::Bytes;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::super::records::{FRAME, ZXID, decode_zxid};
use super::super::snapshot;
use super::*;

/// A file system in memory with a limit, unmounted when dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts a disk; none, with a word about it, where this user may not mount.
    ///
    /// No process is started for it: until it is another program, that would have the locks of all stores that are open.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (flags, size) = (MountFlags::empty(), c"size=16m");
        match mount("tmpfs", directory.path(), "tmpfs", flags, size) {
            Ok(()) => Some(Self { directory }),
            Err(error) => {
                eprintln!("skipped: it mounts a small file system, which takes root: {error}");
                None
            }
        }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Leaves no byte to anybody.
    fn fill(&self) {
        let mut ballast = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.path().join("ballast"))
            .unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
        let free = rustix::fs::statvfs(self.directory.path()).unwrap().f_bfree;
        assert_eq!(free, 0);
    }

    fn empty(&self) {
        std::fs::remove_file(self.directory.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

fn open(disk: &SmallDisk) -> (SledStore, Contents) {
    SledStore::open(&disk.store(), Contents::new).unwrap()
}

fn zxid(contents: &Contents) -> Option<i64> {
    contents.get(ZXID).and_then(|value| decode_zxid(value))
}

/// Commits and remembers what the store has to contain.
struct Writer {
    store: SledStore,
    expected: Contents,
    zxid: i64,
}

impl Writer {
    fn open(disk: &SmallDisk) -> Self {
        let (store, expected) = open(disk);
        let zxid = zxid(&expected).unwrap_or(0);
        Self {
            store,
            expected,
            zxid,
        }
    }

    fn commit(&mut self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        let mut batch = Batch::new(self.zxid + 1);
        let key = Bytes::copy_from_slice(key.as_bytes());
        batch.entries.insert(key, Some(value.into()));
        let entries = batch.entries.clone();
        self.store.commit(batch)?;
        self.zxid += 1;
        let changed = entries
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        self.expected.extend(changed);
        Ok(())
    }

    /// Closes the store and opens it again; it has what was committed.
    fn again(self, disk: &SmallDisk) -> Self {
        let Self {
            store, expected, ..
        } = self;
        drop(store);
        let writer = Self::open(disk);
        assert!(writer.expected == expected, "after opening it again");
        writer
    }

    #[track_caller]
    fn assert_whole(&self) {
        let contents = self.store.contents().unwrap();
        assert!(contents == self.expected, "what was refused is not there");
    }
}

#[test]
fn a_full_disk_takes_small_commits_and_opens_again_and_again() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let mut writer = Writer::open(&disk);
    writer.commit("first", vec![1; 100]).unwrap();
    disk.fill();
    for round in 0..10 {
        for number in 0..100 {
            let value = vec![round; 200 + number];
            writer.commit(&format!("key {number}"), value).unwrap();
        }
        // It finds no room, and that does not matter.
        writer.store.snapshot().unwrap();
        writer = writer.again(&disk);
        disk.fill();
    }
    disk.empty();
    writer.commit("last", vec![2; 100]).unwrap();
    writer.store.snapshot().unwrap();
    let mut saved = snapshot::read(&disk.store().join("snapshot"))
        .unwrap()
        .unwrap();
    assert!(saved.remove(FRAME).is_some());
    assert!(saved == writer.expected, "the snapshot is made up for");
    writer.again(&disk);
}

#[test]
fn without_any_room_a_commit_is_refused_whole_and_later_ones_are_taken() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let mut writer = Writer::open(&disk);
    writer.commit("first", vec![1; 100]).unwrap();
    disk.fill();
    let full = (0..1_000).find_map(|number| {
        writer
            .commit(&format!("key {number}"), vec![3; 10_000])
            .err()
    });
    assert!(matches!(full, Some(StoreError::Full { .. })), "{full:?}");
    writer.assert_whole();
    writer = writer.again(&disk);
    disk.fill();
    writer.commit("refused", vec![3; 10_000]).unwrap_err();
    writer = writer.again(&disk);
    disk.empty();
    writer.commit("last", vec![2; 10_000]).unwrap();
    writer.assert_whole();
    writer.again(&disk);
}

#[test]
fn a_value_that_takes_a_file_of_its_own_is_refused_before_sled_fails_on_it() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let mut writer = Writer::open(&disk);
    writer.commit("first", vec![1; 100]).unwrap();
    disk.fill();
    let full = (0..20).find_map(|number| {
        writer
            .commit(&format!("large {number}"), vec![3; 300_000])
            .err()
    });
    assert!(matches!(full, Some(StoreError::Full { .. })), "{full:?}");
    writer.assert_whole();
    writer = writer.again(&disk);
    disk.empty();
    writer.commit("large", vec![3; 300_000]).unwrap();
    disk.fill();
    writer = writer.again(&disk);
    disk.fill();
    writer.again(&disk);
}
