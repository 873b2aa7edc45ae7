//! Leader epochs: which leader wrote which part of a log (KIP-101), kept in `leader-epoch-checkpoint`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoints::{Corrupt, parse_lines, render_lines};
use super::names;
use crate::storage::{Storage, StorageFile};

/// A leader epoch and the first offset that its leader wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: i32,
    /// The first offset of it.
    pub start_offset: i64,
}

/// The epochs of one log, ascending in both fields.
pub struct LeaderEpochs {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    entries: Vec<EpochEntry>,
    /// Whether the file is behind the entries.
    unwritten: bool,
    /// Whether the file is not synced.
    dirty: bool,
}

fn parse(bytes: &[u8]) -> Result<Vec<EpochEntry>, Corrupt> {
    let mut entries: Vec<EpochEntry> = Vec::new();
    for line in parse_lines(bytes)? {
        let entry = parse_entry(line).filter(|entry| {
            let follows = |last: &EpochEntry| {
                entry.epoch > last.epoch && entry.start_offset >= last.start_offset
            };
            entries.last().is_none_or(follows)
        });
        entries.push(entry.ok_or_else(|| Corrupt::Line(line.to_owned()))?);
    }
    Ok(entries)
}

fn parse_entry(line: &str) -> Option<EpochEntry> {
    let (epoch, start_offset) = line.trim().split_once(' ')?;
    Some(EpochEntry {
        epoch: epoch.parse().ok().filter(|epoch| *epoch >= 0)?,
        start_offset: start_offset.trim().parse().ok()?,
    })
}

impl LeaderEpochs {
    /// Returns the epochs of a new log, none; writes nothing.
    pub fn empty(storage: Arc<dyn Storage>, dir: &Path) -> Self {
        Self {
            storage,
            path: dir.join(names::LEADER_EPOCHS),
            entries: Vec::new(),
            unwritten: false,
            dirty: false,
        }
    }

    /// Reads the epochs of a log. A corrupt file gives none and `false`: they can be found again in the batches.
    pub fn load(storage: Arc<dyn Storage>, dir: &Path) -> io::Result<(Self, bool)> {
        let mut epochs = Self::empty(storage, dir);
        match epochs.storage.read(&epochs.path).map(|bytes| parse(&bytes)) {
            Ok(Ok(entries)) => epochs.entries = entries,
            Ok(Err(corrupt)) => {
                tracing::warn!(path = %epochs.path.display(), "leader epochs are read from the log: the file {corrupt}");
                return Ok((epochs, false));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok((epochs, true))
    }

    /// Returns all epochs.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// Returns the latest epoch.
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// Notes that `epoch` starts at `start_offset`, when it is newer than the latest. Entries that contradict it go.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> io::Result<()> {
        if self.note(epoch, start_offset) {
            self.write()?;
        }
        Ok(())
    }

    /// As [`LeaderEpochs::assign`], without writing the file; returns whether something changed.
    pub(super) fn note(&mut self, epoch: i32, start_offset: i64) -> bool {
        if epoch < 0 || self.latest().is_some_and(|latest| latest.epoch >= epoch) {
            return false;
        }
        self.entries
            .retain(|entry| entry.start_offset < start_offset);
        self.entries.push(EpochEntry {
            epoch,
            start_offset,
        });
        self.unwritten = true;
        true
    }

    /// Returns the epoch that wrote `offset`.
    pub fn epoch_for(&self, offset: i64) -> Option<i32> {
        let count = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        count
            .checked_sub(1)
            .and_then(|last| self.entries.get(last))
            .map(|entry| entry.epoch)
    }

    /// Answers OffsetForLeaderEpoch: the largest epoch not above `epoch` and where it ended, exclusive.
    ///
    /// (-1, -1) when that cannot be said: no epochs at all, or `epoch` newer than the latest.
    pub fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> (i32, i64) {
        const UNDEFINED: (i32, i64) = (-1, -1);
        let Some(latest) = self.latest() else {
            return UNDEFINED;
        };
        if epoch < 0 || epoch > latest.epoch {
            return UNDEFINED;
        }
        if epoch == latest.epoch {
            return (epoch, log_end_offset);
        }
        let next = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end = self
            .entries
            .get(next)
            .map_or(log_end_offset, |entry| entry.start_offset);
        let found = next.checked_sub(1).and_then(|last| self.entries.get(last));
        (found.map_or(epoch, |entry| entry.epoch), end)
    }

    /// Removes epochs that start at or after `end_offset`.
    pub fn truncate_end(&mut self, end_offset: i64) -> io::Result<()> {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.start_offset < end_offset);
        if self.entries.len() != before {
            self.write()?;
        }
        Ok(())
    }

    /// Removes epochs that ended before `start_offset`; the one that contains it starts there from now on.
    pub fn truncate_start(&mut self, start_offset: i64) -> io::Result<()> {
        let starting = self
            .entries
            .partition_point(|entry| entry.start_offset <= start_offset);
        let Some(containing) = starting.checked_sub(1) else {
            return Ok(());
        };
        let moved = self
            .entries
            .get(containing)
            .is_some_and(|entry| entry.start_offset < start_offset);
        if containing == 0 && !moved {
            return Ok(());
        }
        self.entries.drain(..containing);
        if let Some(first) = self.entries.first_mut() {
            first.start_offset = start_offset;
        }
        self.write()
    }

    /// Removes all epochs.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        self.entries.clear();
        self.write()
    }

    /// Removes all epochs in memory, to find them again in the batches.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
    }

    /// Replaces the file without waiting for the disk: a flush of the log does that, and until then a lost or
    /// broken file is made again from the batches after the recovery point.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.unwritten = true;
        let text = render_lines(
            self.entries
                .iter()
                .map(|entry| format!("{} {}", entry.epoch, entry.start_offset)),
        );
        let temporary = names::with_suffix(&self.path, ".tmp");
        let file = self.storage.open(&temporary, true)?;
        file.set_len(0)?;
        file.write_all_at(text.as_bytes(), 0)?;
        self.storage.rename(&temporary, &self.path)?;
        (self.unwritten, self.dirty) = (false, true);
        Ok(())
    }

    /// Says that the file was written by an earlier process that may not have synced it.
    pub(super) fn distrust(&mut self) {
        self.dirty = true;
    }

    /// Returns the file when it is not synced, and counts it as synced.
    pub(super) fn take_dirty(&mut self) -> io::Result<Option<Arc<dyn StorageFile>>> {
        if self.unwritten {
            self.write()?;
        }
        if !std::mem::take(&mut self.dirty) {
            return Ok(None);
        }
        match self.storage.open(&self.path, false) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes where the file is, after the directory was renamed.
    pub(super) fn moved(&mut self, dir: &Path) {
        self.path = dir.join(names::LEADER_EPOCHS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    fn epochs(storage: &MemoryStorage) -> LeaderEpochs {
        let (mut epochs, sound) =
            LeaderEpochs::load(Arc::new(storage.clone()), Path::new("/d")).unwrap();
        assert!(sound);
        for (epoch, start) in [(2, 0), (4, 10), (5, 10), (7, 30)] {
            epochs.assign(epoch, start).unwrap();
        }
        epochs
    }

    fn pairs(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs
            .entries()
            .iter()
            .map(|entry| (entry.epoch, entry.start_offset))
            .collect()
    }

    #[test]
    fn bytes_are_kafkas() {
        let storage = MemoryStorage::new();
        let written = epochs(&storage);
        let path = Path::new("/d/leader-epoch-checkpoint");
        assert_eq!(storage.read(path).unwrap(), b"0\n3\n2 0\n5 10\n7 30\n");
        let (read, sound) = LeaderEpochs::load(Arc::new(storage.clone()), Path::new("/d")).unwrap();
        assert!(sound);
        assert_eq!(pairs(&read), pairs(&written));
    }

    #[test]
    fn a_corrupt_file_is_told() {
        let storage = MemoryStorage::new();
        for bytes in [
            &b"0\n1\n"[..],
            b"0\n2\n5 0\n4 1\n",
            b"0\n1\n-1 0\n",
            b"0\n1\n3\n",
            b"",
        ] {
            storage
                .replace(Path::new("/d/leader-epoch-checkpoint"), bytes)
                .unwrap();
            let (epochs, sound) =
                LeaderEpochs::load(Arc::new(storage.clone()), Path::new("/d")).unwrap();
            assert!(!sound && epochs.entries().is_empty(), "{bytes:?}");
        }
    }

    #[test]
    fn an_older_epoch_is_not_assigned() {
        let mut epochs = epochs(&MemoryStorage::new());
        epochs.assign(6, 50).unwrap();
        epochs.assign(-1, 50).unwrap();
        epochs.assign(7, 50).unwrap();
        assert_eq!(pairs(&epochs), [(2, 0), (5, 10), (7, 30)]);
        epochs.assign(8, 10).unwrap();
        assert_eq!(pairs(&epochs), [(2, 0), (8, 10)]);
    }

    #[test]
    fn end_offsets() {
        let storage = MemoryStorage::new();
        let epochs = epochs(&storage);
        for (epoch, expected) in [
            (-1, (-1, -1)),
            (0, (0, 0)),
            (2, (2, 10)),
            (4, (2, 10)),
            (5, (5, 30)),
            (6, (5, 30)),
            (7, (7, 44)),
            (8, (-1, -1)),
        ] {
            assert_eq!(epochs.end_offset_for(epoch, 44), expected, "{epoch}");
        }
        let none = LeaderEpochs::empty(Arc::new(storage), Path::new("/e"));
        assert_eq!(none.end_offset_for(0, 44), (-1, -1));
    }

    #[test]
    fn epoch_of_an_offset() {
        let epochs = epochs(&MemoryStorage::new());
        for (offset, epoch) in [
            (-1, None),
            (0, Some(2)),
            (9, Some(2)),
            (10, Some(5)),
            (99, Some(7)),
        ] {
            assert_eq!(epochs.epoch_for(offset), epoch, "{offset}");
        }
    }

    #[test]
    fn truncates_at_both_ends() {
        let storage = MemoryStorage::new();
        let mut epochs = epochs(&storage);
        epochs.truncate_start(0).unwrap();
        assert_eq!(pairs(&epochs), [(2, 0), (5, 10), (7, 30)]);
        epochs.truncate_start(12).unwrap();
        assert_eq!(pairs(&epochs), [(5, 12), (7, 30)]);
        epochs.truncate_end(30).unwrap();
        assert_eq!(pairs(&epochs), [(5, 12)]);
        epochs.truncate_end(12).unwrap();
        assert!(pairs(&epochs).is_empty());
        assert_eq!(
            storage
                .read(Path::new("/d/leader-epoch-checkpoint"))
                .unwrap(),
            b"0\n0\n"
        );
    }
}
