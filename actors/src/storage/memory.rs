//! A file system in memory that can crash, run full and flip bits: for tests and simulations.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DirEntry, Storage, StorageFile};

/// What outlives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies and the machine lives (kill -9): everything that was written is there.
    Process,
    /// The machine dies: of what was not synced, each file keeps the first `keep` bytes of its unsynced writes, in order.
    Machine {
        /// How many bytes of unsynced writes reach the disk, per file.
        keep: u64,
    },
}

/// Files and directories in memory. Clones share them.
///
/// Names are durable at once; contents are when the file was synced.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Tree>>,
}

#[derive(Default)]
struct Tree {
    files: BTreeMap<PathBuf, Arc<MemoryFile>>,
    dirs: BTreeSet<PathBuf>,
    faults: Arc<Mutex<Faults>>,
    now_ms: i64,
}

/// Errors to come.
#[derive(Default)]
struct Faults {
    /// Bytes that may still be written before the disk is full; the write that crosses the limit is torn there.
    room: Option<u64>,
    sync_fails: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds one of these locks can leave a half-made change behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStorage {
    /// Returns an empty file system.
    pub fn new() -> Self {
        Self::default()
    }

    /// Crashes: what was not durable is lost, as `crash` says. Files that are still open see it too.
    pub fn crash(&self, crash: Crash) {
        let tree = lock(&self.disk);
        for file in tree.files.values() {
            lock(&file.content).crash(crash);
        }
    }

    /// Lets `room` more bytes be written; the write that needs more is torn and fails, like all after it.
    /// `None` makes room again.
    pub fn limit_room(&self, room: Option<u64>) {
        lock(&lock(&self.disk).faults).room = room;
    }

    /// Makes every sync fail, or work again.
    pub fn fail_sync(&self, fails: bool) {
        lock(&lock(&self.disk).faults).sync_fails = fails;
    }

    /// Sets the time that files written from now on carry, in milliseconds since the Unix epoch.
    pub fn set_now_ms(&self, now_ms: i64) {
        lock(&self.disk).now_ms = now_ms;
    }

    /// Changes a file's bytes behind everyone's back.
    ///
    /// Does nothing when there is no such file.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let tree = lock(&self.disk);
        if let Some(file) = tree.files.get(path) {
            let mut content = lock(&file.content);
            let mut bytes = content.image.to_vec();
            change(&mut bytes);
            content.image = Image::from(bytes);
            content.synced = content.image.clone();
            content.unsynced.clear();
        }
    }

    /// Returns every file's path.
    pub fn paths(&self) -> Vec<PathBuf> {
        lock(&self.disk).files.keys().cloned().collect()
    }
}

/// Bytes of a file; what lies between the end of `bytes` and `len` is zeros.
#[derive(Clone, Default)]
struct Image {
    bytes: Vec<u8>,
    len: u64,
}

impl From<Vec<u8>> for Image {
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self { bytes, len }
    }
}

impl Image {
    fn write(&mut self, new: &[u8], position: u64) -> io::Result<()> {
        let start = usize::try_from(position).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start
            .checked_add(new.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if let Some(target) = self.bytes.get_mut(start..end) {
            target.copy_from_slice(new);
        }
        self.len = self.len.max(end as u64);
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        if let Ok(len) = usize::try_from(len) {
            self.bytes.truncate(len);
        }
        self.len = len;
    }

    fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let there = self.len.saturating_sub(position).min(buffer.len() as u64);
        let there = usize::try_from(there).unwrap_or(0);
        let written = usize::try_from(position)
            .ok()
            .and_then(|start| self.bytes.get(start..))
            .unwrap_or_default();
        for (index, byte) in buffer.iter_mut().take(there).enumerate() {
            *byte = written.get(index).copied().unwrap_or(0);
        }
        there
    }

    fn to_vec(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(usize::try_from(self.len).unwrap_or(0), 0);
        bytes
    }
}

enum Change {
    Write { position: u64, bytes: Vec<u8> },
    Len(u64),
}

#[derive(Default)]
struct Content {
    image: Image,
    synced: Image,
    unsynced: Vec<Change>,
    modified_ms: i64,
}

impl Content {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                // It was written to the image before, so it fits here.
                Change::Write { position, bytes } => {
                    let _ = self.synced.write(&bytes, position);
                }
                Change::Len(len) => self.synced.set_len(len),
            }
        }
    }

    fn crash(&mut self, crash: Crash) {
        if let Crash::Machine { keep } = crash {
            let mut left = keep;
            for change in &mut self.unsynced {
                if let Change::Write { bytes, .. } = change {
                    let kept = left.min(bytes.len() as u64);
                    left -= kept;
                    bytes.truncate(usize::try_from(kept).unwrap_or(0));
                }
            }
            self.unsynced.retain(
                |change| !matches!(change, Change::Write { bytes, .. } if bytes.is_empty()),
            );
        }
        self.sync();
        self.image = self.synced.clone();
    }
}

struct MemoryFile {
    content: Mutex<Content>,
    faults: Arc<Mutex<Faults>>,
    disk: std::sync::Weak<Mutex<Tree>>,
}

impl MemoryFile {
    fn now_ms(&self) -> i64 {
        self.disk.upgrade().map_or(0, |disk| lock(&disk).now_ms)
    }
}

impl StorageFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        Ok(lock(&self.content).image.read(buffer, position))
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let now_ms = self.now_ms();
        let mut faults = lock(&self.faults);
        let room = faults.room.unwrap_or(u64::MAX).min(bytes.len() as u64);
        if let Some(left) = &mut faults.room {
            *left -= room;
        }
        let kept = usize::try_from(room)
            .ok()
            .and_then(|room| bytes.get(..room))
            .unwrap_or_default();
        let mut content = lock(&self.content);
        content.image.write(kept, position)?;
        content.unsynced.push(Change::Write {
            position,
            bytes: kept.to_vec(),
        });
        content.modified_ms = now_ms;
        if kept.len() < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).image.len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = lock(&self.content);
        content.image.set_len(len);
        content.unsynced.push(Change::Len(len));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if lock(&self.faults).room.is_some_and(|room| room < len) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let grown = self.len()?.max(len);
        self.set_len(grown)
    }

    fn sync(&self) -> io::Result<()> {
        if lock(&self.faults).sync_fails {
            return Err(io::Error::other("injected: sync failed"));
        }
        lock(&self.content).sync();
        Ok(())
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl MemoryStorage {
    fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        let tree = lock(&self.disk);
        let file = tree.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(file))
    }

    fn open_file(&self, path: &Path, create: bool) -> io::Result<Arc<MemoryFile>> {
        let mut tree = lock(&self.disk);
        if let Some(file) = tree.files.get(path) {
            return Ok(Arc::clone(file));
        }
        if !create {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = Arc::new(MemoryFile {
            content: Mutex::new(Content {
                modified_ms: tree.now_ms,
                ..Content::default()
            }),
            faults: Arc::clone(&tree.faults),
            disk: Arc::downgrade(&self.disk),
        });
        tree.files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

impl Storage for MemoryStorage {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.open_file(path, create)?)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(lock(&self.file(path)?.content).image.to_vec())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = PathBuf::from(format!("{}.tmp", path.display()));
        let file = self.open_file(&temporary, true)?;
        file.set_len(0)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        self.rename(&temporary, path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let tree = lock(&self.disk);
        let inside = |path: &Path, is_dir| {
            let name = path.strip_prefix(dir).ok()?.to_str()?;
            (!name.is_empty() && !name.contains('/')).then(|| DirEntry {
                name: name.to_owned(),
                is_dir,
            })
        };
        let mut entries: Vec<DirEntry> = tree
            .files
            .keys()
            .filter_map(|path| inside(path, false))
            .chain(tree.dirs.iter().filter_map(|path| inside(path, true)))
            .collect();
        if entries.is_empty() && !tree.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = lock(&self.disk);
        for ancestor in dir.ancestors() {
            tree.dirs.insert(ancestor.to_owned());
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = lock(&self.disk);
        if let Some(file) = tree.files.remove(from) {
            tree.files.insert(to.to_owned(), file);
            return Ok(());
        }
        if !tree.dirs.contains(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let moved = |path: &PathBuf| path.strip_prefix(from).ok().map(|rest| to.join(rest));
        tree.dirs = tree
            .dirs
            .iter()
            .map(|path| moved(path).unwrap_or_else(|| path.clone()))
            .collect();
        tree.files = std::mem::take(&mut tree.files)
            .into_iter()
            .map(|(path, file)| (moved(&path).unwrap_or(path), file))
            .collect();
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        lock(&self.disk).files.remove(path);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = lock(&self.disk);
        tree.files.retain(|path, _| !path.starts_with(dir));
        tree.dirs.retain(|path| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        if lock(&lock(&self.disk).faults).sync_fails {
            return Err(io::Error::other("injected: sync failed"));
        }
        Ok(())
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        Ok(lock(&self.file(path)?.content).modified_ms)
    }

    fn set_modified_ms(&self, path: &Path, modified_ms: i64) -> io::Result<()> {
        lock(&self.file(path)?.content).modified_ms = modified_ms;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (MemoryStorage, Arc<dyn StorageFile>) {
        let storage = MemoryStorage::new();
        let file = storage.open(Path::new("/f"), true).unwrap();
        file.write_all_at(b"durable", 0).unwrap();
        file.sync().unwrap();
        file.write_all_at(b"lost", 7).unwrap();
        (storage, file)
    }

    #[test]
    fn the_process_may_die() {
        let (storage, _) = written();
        storage.crash(Crash::Process);
        assert_eq!(storage.read(Path::new("/f")).unwrap(), b"durablelost");
    }

    #[test]
    fn the_machine_may_die() {
        let (storage, file) = written();
        storage.crash(Crash::Machine { keep: 1 });
        assert_eq!(storage.read(Path::new("/f")).unwrap(), b"durablel");
        file.set_len(3).unwrap();
        storage.crash(Crash::Machine { keep: 0 });
        assert_eq!(storage.read(Path::new("/f")).unwrap(), b"dur");
    }

    #[test]
    fn a_full_disk_tears_the_write() {
        let (storage, file) = written();
        storage.limit_room(Some(2));
        let error = file.write_all_at(b"xyz", 11).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().unwrap(), 13);
        storage.limit_room(None);
        file.write_all_at(b"xyz", 11).unwrap();
        assert_eq!(file.len().unwrap(), 14);
    }

    #[test]
    fn what_was_not_written_reads_as_zeros() {
        let storage = MemoryStorage::new();
        let file = storage.open(Path::new("/f"), true).unwrap();
        file.set_len(1 << 40).unwrap();
        let mut buffer = [1; 4];
        assert_eq!(file.read_at(&mut buffer, (1 << 40) - 2).unwrap(), 2);
        assert_eq!(buffer, [0, 0, 1, 1]);
    }

    #[test]
    fn directories_move_with_their_files() {
        let storage = MemoryStorage::new();
        storage.create_dir(Path::new("/a/b")).unwrap();
        storage.open(Path::new("/a/b/f"), true).unwrap();
        storage
            .rename(Path::new("/a/b"), Path::new("/a/c"))
            .unwrap();
        let names = |dir| {
            let entries = storage.list(Path::new(dir)).unwrap();
            entries
                .into_iter()
                .map(|entry| entry.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("/a"), ["c"]);
        assert_eq!(names("/a/c"), ["f"]);
        storage.remove_dir(Path::new("/a/c")).unwrap();
        assert!(names("/a").is_empty());
    }
}
