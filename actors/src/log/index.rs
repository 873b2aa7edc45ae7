//! The two sparse indexes of a segment, byte for byte Kafka's.
//!
//! ```text
//! .index      relative offset i32 | position i32     the last offset of an indexed batch, and where that batch starts
//! .timeindex  timestamp i64 | relative offset i32    the largest timestamp so far, and the last offset of its batch
//! ```
//!
//! While its segment is appended to, an index file has its full size, zeros after the last entry (sparse: they take
//! no blocks); it is trimmed when the segment is closed. A file is opened when it is first needed.
//!
//! The last few entries wait in memory and are written together: a busy partition adds two entries per batch. What a
//! crash takes of them lies past the recovery point, where indexes are made again anyway, because a flush writes them.
//! An index that is made again below the recovery point waits as a whole, and takes its file's place in one step: a part of
//! it would be believed.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::storage::{Storage, StorageFile, read_exact_at};

/// One entry of an index.
pub(super) trait Entry: Copy + PartialEq + std::fmt::Debug {
    /// Bytes of an entry.
    const LEN: usize;

    /// Reads an entry; `bytes` has exactly `LEN`.
    fn decode(bytes: &[u8], base_offset: i64) -> Option<Self>;

    /// Writes an entry and returns its length; `None` when the offset is too far from the base.
    fn encode(&self, base_offset: i64, buffer: &mut [u8; 12]) -> Option<()>;

    /// Returns the offset.
    fn offset(&self) -> i64;

    /// Tells whether the entry is all zeros, as what was never written is.
    fn is_blank(&self, base_offset: i64) -> bool;

    /// Tells whether `self` may come right after `previous`.
    fn follows(&self, previous: &Self) -> bool;
}

/// An entry of the offset index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    /// The last offset of the batch.
    pub(super) offset: i64,
    /// Where the batch starts, in bytes.
    pub(super) position: u32,
}

/// An entry of the time index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeEntry {
    /// The largest timestamp of the segment up to here, in milliseconds since the Unix epoch.
    pub(super) timestamp: i64,
    /// The last offset of the batch that has it.
    pub(super) offset: i64,
}

fn relative(offset: i64, base_offset: i64) -> Option<i32> {
    let relative = i32::try_from(offset.checked_sub(base_offset)?).ok()?;
    (relative >= 0).then_some(relative)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

impl Entry for OffsetEntry {
    const LEN: usize = 8;

    fn decode(bytes: &[u8], base_offset: i64) -> Option<Self> {
        let offset = i32::from_be_bytes(array(bytes, 0)?);
        let position = i32::from_be_bytes(array(bytes, 4)?);
        Some(Self {
            offset: base_offset.saturating_add(i64::from(offset)),
            position: u32::try_from(position).ok()?,
        })
    }

    fn encode(&self, base_offset: i64, buffer: &mut [u8; 12]) -> Option<()> {
        let position = i32::try_from(self.position).ok()?;
        let offset = relative(self.offset, base_offset)?;
        buffer
            .first_chunk_mut()
            .map(|b| *b = offset.to_be_bytes())?;
        buffer
            .get_mut(4..)?
            .first_chunk_mut()
            .map(|b| *b = position.to_be_bytes())
    }

    fn offset(&self) -> i64 {
        self.offset
    }

    fn is_blank(&self, base_offset: i64) -> bool {
        self.offset == base_offset && self.position == 0
    }

    fn follows(&self, previous: &Self) -> bool {
        self.offset > previous.offset && self.position > previous.position
    }
}

impl Entry for TimeEntry {
    const LEN: usize = 12;

    fn decode(bytes: &[u8], base_offset: i64) -> Option<Self> {
        let offset = i32::from_be_bytes(array(bytes, 8)?);
        Some(Self {
            timestamp: i64::from_be_bytes(array(bytes, 0)?),
            offset: base_offset.saturating_add(i64::from(offset)),
        })
    }

    fn encode(&self, base_offset: i64, buffer: &mut [u8; 12]) -> Option<()> {
        let offset = relative(self.offset, base_offset)?;
        buffer
            .first_chunk_mut()
            .map(|b| *b = self.timestamp.to_be_bytes())?;
        buffer
            .get_mut(8..)?
            .first_chunk_mut()
            .map(|b| *b = offset.to_be_bytes())
    }

    fn offset(&self) -> i64 {
        self.offset
    }

    fn is_blank(&self, base_offset: i64) -> bool {
        self.offset == base_offset && self.timestamp == 0
    }

    fn follows(&self, previous: &Self) -> bool {
        self.timestamp > previous.timestamp && self.offset >= previous.offset
    }
}

/// A file of ascending entries.
pub(super) struct Index<E> {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: OnceLock<Arc<dyn StorageFile>>,
    base_offset: i64,
    entries: u32,
    max_entries: u32,
    last: Option<E>,
    /// The encoded entries at the end that are not in the file yet.
    unwritten: Vec<u8>,
    /// Whether the index is being made again: then it has no file, and all its entries wait.
    remaking: bool,
    /// Whether something was written since the last flush.
    dirty: bool,
    _entry: PhantomData<E>,
}

/// Offsets to positions.
pub(super) type OffsetIndex = Index<OffsetEntry>;
/// Timestamps to offsets.
pub(super) type TimeIndex = Index<TimeEntry>;

/// How many entries a search reads at once.
const BLOCK: u32 = 256;

/// Bytes of entries that wait in memory at most.
const UNWRITTEN_BYTES: usize = 768;

impl<E: Entry> Index<E> {
    /// Returns an index without entries, for a file that is empty or to be made so by [`Index::reset`].
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        path: PathBuf,
        base_offset: i64,
        max_bytes: u64,
    ) -> Self {
        Self {
            storage,
            path,
            file: OnceLock::new(),
            base_offset,
            entries: 0,
            max_entries: u32::try_from(max_bytes / E::LEN as u64).unwrap_or(u32::MAX),
            last: None,
            unwritten: Vec::new(),
            remaking: false,
            dirty: false,
            _entry: PhantomData,
        }
    }

    /// Takes over the entries of a trimmed file.
    ///
    /// Returns `false`, and has no entries, when the file is missing or its length or last entry cannot be right.
    pub(super) fn load(&mut self) -> io::Result<bool> {
        self.forget();
        let file = match self.storage.open(&self.path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let len = file.len()?;
        self.file = OnceLock::from(file);
        let entries = u32::try_from(len / E::LEN as u64).unwrap_or(u32::MAX);
        if len % E::LEN as u64 != 0 || entries == u32::MAX {
            return Ok(false);
        }
        if entries == 0 {
            return Ok(true);
        }
        let last = self.read_from_file(entries - 1)?;
        let first = self.read_from_file(0)?;
        let ascending = match (first, last) {
            (Some(first), Some(last)) => entries == 1 || last.follows(&first),
            _ => false,
        };
        let base_offset = self.base_offset;
        let sane = ascending
            && last.is_some_and(|last| last.offset() >= base_offset && !last.is_blank(base_offset));
        if sane {
            self.entries = entries;
            self.last = last;
        }
        Ok(sane)
    }

    /// Takes over entries of a file that may end in zeros or rubbish: the leading ones, as far as they ascend and
    /// `wanted` says yes.
    pub(super) fn salvage(&mut self, wanted: impl Fn(&E) -> bool) -> io::Result<()> {
        self.forget();
        let file = Arc::clone(self.file()?);
        let there = u32::try_from(file.len()? / E::LEN as u64).unwrap_or(u32::MAX);
        let mut block = vec![0; BLOCK as usize * E::LEN];
        while self.entries < there {
            let count = BLOCK.min(there - self.entries);
            let bytes = block.get_mut(..count as usize * E::LEN).unwrap_or_default();
            read_exact_at(
                file.as_ref(),
                bytes,
                u64::from(self.entries) * E::LEN as u64,
            )?;
            for bytes in bytes.chunks_exact(E::LEN) {
                let entry = E::decode(bytes, self.base_offset).filter(|entry| {
                    let follows = self.last.is_none_or(|last| entry.follows(&last));
                    let blank = entry.is_blank(self.base_offset);
                    follows && !blank && entry.offset() >= self.base_offset && wanted(entry)
                });
                let Some(entry) = entry else { return Ok(()) };
                self.entries += 1;
                self.last = Some(entry);
            }
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.entries = 0;
        self.last = None;
        self.unwritten.clear();
        self.remaking = false;
    }

    /// Returns how many entries are in the file.
    fn written(&self) -> u32 {
        let waiting = u32::try_from(self.unwritten.len() / E::LEN).unwrap_or(u32::MAX);
        self.entries.saturating_sub(waiting)
    }

    /// Writes the entries that wait.
    fn write_waiting(&mut self) -> io::Result<()> {
        if self.remaking {
            return self.publish();
        }
        if !self.unwritten.is_empty() {
            let position = u64::from(self.written()) * E::LEN as u64;
            self.file()?.write_all_at(&self.unwritten, position)?;
            self.unwritten.clear();
        }
        Ok(())
    }

    /// Begins to make the index again: removes the file, and lets all entries wait for [`publish`](Self::publish) or
    /// [`settle`](Self::settle).
    pub(super) fn remake(&mut self) -> io::Result<()> {
        self.forget();
        self.release();
        self.storage.remove_file(&self.path)?;
        (self.remaking, self.dirty) = (true, true);
        Ok(())
    }

    /// Puts an index that was made again in place, whole and durable; does nothing for another.
    ///
    /// # Errors
    /// The disk's; the entries wait on then, for the next flush to try again, and the file stays missing.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        if self.remaking {
            self.storage.replace(&self.path, &self.unwritten)?;
            self.release();
            self.settle();
            self.unwritten.clear();
        }
        Ok(())
    }

    /// Tells whether the index is being made again, and not in place yet.
    pub(super) fn is_remaking(&self) -> bool {
        self.remaking
    }

    /// Lets an index that was made again be written piece by piece, because nothing in it is believed after a crash.
    pub(super) fn settle(&mut self) {
        self.remaking = false;
    }

    fn file(&self) -> io::Result<&Arc<dyn StorageFile>> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = self.storage.open(&self.path, true)?;
        Ok(self.file.get_or_init(|| file))
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many bytes the entries take.
    pub(super) fn size_bytes(&self) -> u64 {
        u64::from(self.entries) * E::LEN as u64
    }

    /// Returns how many entries there are.
    #[cfg(test)]
    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    /// Returns the last entry.
    pub(super) fn last(&self) -> Option<E> {
        self.last
    }

    /// Tells whether fewer than `spare` + 1 more entries fit.
    pub(super) fn is_full(&self, spare: u32) -> bool {
        self.entries >= self.max_entries.saturating_sub(spare)
    }

    /// Gives the file its full size, so that appending never grows it. Forgets what lies after the last entry.
    pub(super) fn preallocate(&mut self) -> io::Result<()> {
        if self.remaking {
            return Ok(());
        }
        let file = self.file()?;
        file.set_len(u64::from(self.written()) * E::LEN as u64)?;
        let full = u64::from(self.max_entries.max(self.entries)) * E::LEN as u64;
        file.set_len(full)
    }

    /// Removes all entries.
    pub(super) fn reset(&mut self) -> io::Result<()> {
        self.dirty = true;
        self.forget();
        self.preallocate()
    }

    /// Adds an entry; does nothing when it does not come after the last one or does not fit.
    pub(super) fn append(&mut self, entry: E) -> io::Result<()> {
        if self.is_full(0) || self.last.is_some_and(|last| !entry.follows(&last)) {
            return Ok(());
        }
        let mut buffer = [0; 12];
        if entry.encode(self.base_offset, &mut buffer).is_none() {
            return Ok(());
        }
        self.unwritten
            .extend_from_slice(buffer.get(..E::LEN).unwrap_or_default());
        self.entries += 1;
        self.last = Some(entry);
        self.dirty = true;
        if self.remaking || self.unwritten.len() < UNWRITTEN_BYTES {
            return Ok(());
        }
        self.write_waiting()
    }

    /// Cuts the file to its entries.
    pub(super) fn trim(&mut self) -> io::Result<()> {
        self.dirty = true;
        self.write_waiting()?;
        self.file()?
            .set_len(u64::from(self.entries) * E::LEN as u64)
    }

    /// Lets go of the file; it is opened again when needed.
    pub(super) fn release(&mut self) {
        self.file = OnceLock::new();
    }

    /// Changes where the file is, after its directory or itself was renamed.
    pub(super) fn moved(&mut self, path: PathBuf) {
        self.path = path;
        self.release();
    }

    /// Counts everything in the file as not flushed.
    pub(super) fn distrust(&mut self) {
        self.dirty = true;
    }

    /// Returns the file when something in it is not flushed, and counts it as flushed.
    pub(super) fn take_dirty(&mut self) -> io::Result<Option<Arc<dyn StorageFile>>> {
        if !self.dirty {
            return Ok(None);
        }
        self.write_waiting()?;
        let file = Arc::clone(self.file()?);
        self.dirty = false;
        Ok(Some(file))
    }

    fn read_entry(&self, number: u32) -> io::Result<Option<E>> {
        if number < self.written() {
            return self.read_from_file(number);
        }
        let waiting = (number - self.written()) as usize * E::LEN;
        let bytes = self.unwritten.get(waiting..waiting + E::LEN);
        Ok(bytes.and_then(|bytes| E::decode(bytes, self.base_offset)))
    }

    fn read_from_file(&self, number: u32) -> io::Result<Option<E>> {
        let mut buffer = [0; 12];
        let bytes = buffer.get_mut(..E::LEN).unwrap_or_default();
        read_exact_at(
            self.file()?.as_ref(),
            bytes,
            u64::from(number) * E::LEN as u64,
        )?;
        Ok(E::decode(bytes, self.base_offset))
    }

    /// Returns the last entry for which `before` is true, which must be so for a leading part of the entries.
    pub(super) fn last_where(&self, before: impl Fn(&E) -> bool) -> io::Result<Option<E>> {
        let Some(last) = self.last else {
            return Ok(None);
        };
        if before(&last) {
            return Ok(Some(last));
        }
        // The entry looked for lies in [low, high), or is the one before low.
        let (mut low, mut high) = (0, self.entries - 1);
        let mut found = None;
        while high - low > BLOCK {
            let middle = low + (high - low) / 2;
            match self.read_entry(middle)? {
                Some(entry) if before(&entry) => {
                    found = Some(entry);
                    low = middle + 1;
                }
                _ => high = middle,
            }
        }
        let mut block = [0; BLOCK as usize * 12];
        let in_file = high.min(self.written()).saturating_sub(low);
        let bytes = block
            .get_mut(..in_file as usize * E::LEN)
            .unwrap_or_default();
        if !bytes.is_empty() {
            read_exact_at(self.file()?.as_ref(), bytes, u64::from(low) * E::LEN as u64)?;
        }
        for bytes in bytes
            .chunks_exact(E::LEN)
            .chain(self.unwritten.chunks_exact(E::LEN))
        {
            match E::decode(bytes, self.base_offset) {
                Some(entry) if before(&entry) => found = Some(entry),
                _ => break,
            }
        }
        Ok(found)
    }

    /// Removes the entries for which `keep` is false, which must be so for a trailing part of the entries.
    pub(super) fn truncate_where(&mut self, keep: impl Fn(&E) -> bool) -> io::Result<()> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read_entry(middle)? {
                Some(entry) if keep(&entry) => low = middle + 1,
                _ => high = middle,
            }
        }
        self.last = match low.checked_sub(1) {
            Some(number) => self.read_entry(number)?,
            None => None,
        };
        let waiting = low.saturating_sub(self.written()) as usize * E::LEN;
        self.unwritten.truncate(waiting);
        self.entries = low;
        self.dirty = true;
        // Zeros in place of the removed entries, so that they cannot be mistaken for entries after a crash.
        self.preallocate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    const PATH: &str = "/00000000000000000100.index";

    fn offsets(storage: &MemoryStorage, max_bytes: u64) -> OffsetIndex {
        Index::new(
            Arc::new(storage.clone()),
            PathBuf::from(PATH),
            100,
            max_bytes,
        )
    }

    fn filled(storage: &MemoryStorage, count: u32) -> OffsetIndex {
        let mut index = offsets(storage, 1 << 20);
        index.reset().unwrap();
        for number in 0..count {
            let offset = 104 + i64::from(number) * 5;
            index
                .append(OffsetEntry {
                    offset,
                    position: number * 1000,
                })
                .unwrap();
        }
        index
    }

    #[test]
    fn bytes_are_kafkas() {
        let storage = MemoryStorage::new();
        let mut index = offsets(&storage, 27);
        index.reset().unwrap();
        index
            .append(OffsetEntry {
                offset: 109,
                position: 4200,
            })
            .unwrap();
        index
            .append(OffsetEntry {
                offset: 1100,
                position: 8400,
            })
            .unwrap();
        let path = Path::new(PATH);
        assert_eq!(storage.read(path).unwrap(), [0; 24], "entries wait");
        index.take_dirty().unwrap();
        let full = [
            0, 0, 0, 9, 0, 0, 0x10, 0x68, 0, 0, 3, 0xe8, 0, 0, 0x20, 0xd0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(storage.read(path).unwrap(), full);
        assert!(!index.is_full(0) && index.is_full(1));
        index.trim().unwrap();
        assert_eq!(storage.read(path).unwrap(), full[..16]);

        let path = PathBuf::from("/00000000000000000100.timeindex");
        let mut times: TimeIndex = Index::new(Arc::new(storage.clone()), path.clone(), 100, 12);
        times
            .append(TimeEntry {
                timestamp: 0x0102_0304_0506_0708,
                offset: 109,
            })
            .unwrap();
        times
            .append(TimeEntry {
                timestamp: i64::MAX,
                offset: 110,
            })
            .unwrap();
        times.take_dirty().unwrap();
        assert_eq!(
            storage.read(&path).unwrap(),
            [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9],
            "full after one"
        );
    }

    #[test]
    fn finds_the_entry_at_or_before() {
        for count in [0, 1, 2, 255, 256, 257, 258, 1000] {
            let storage = MemoryStorage::new();
            let index = filled(&storage, count);
            let end = 104 + i64::from(count) * 5 + 10;
            for offset in 95..end {
                let expected = (0..count)
                    .rev()
                    .find(|number| 104 + i64::from(*number) * 5 <= offset)
                    .map_or(0, |number| number * 1000);
                assert_eq!(
                    index
                        .last_where(|entry| entry.offset <= offset)
                        .unwrap()
                        .map_or(0, |entry| entry.position),
                    expected,
                    "{count} {offset}"
                );
            }
        }
    }

    #[test]
    fn entries_ascend_and_stay_in_range() {
        let storage = MemoryStorage::new();
        let mut index = filled(&storage, 3);
        for (offset, position) in [
            (114, 9000),
            (120, 2000),
            (99, 9000),
            (100 + (1 << 31), 9000),
        ] {
            index.append(OffsetEntry { offset, position }).unwrap();
            assert_eq!(index.entries(), 3, "{offset} {position}");
        }
    }

    #[test]
    fn loads_what_was_trimmed() {
        let storage = MemoryStorage::new();
        let mut index = filled(&storage, 300);
        index.trim().unwrap();
        let mut again = offsets(&storage, 1 << 20);
        assert!(again.load().unwrap());
        assert_eq!((again.entries(), again.last()), (300, index.last()));
    }

    #[test]
    fn insane_files_do_not_load() {
        let storage = MemoryStorage::new();
        assert!(!offsets(&storage, 800).load().unwrap(), "missing");
        for change in [
            (|bytes| bytes.truncate(23)) as fn(&mut Vec<u8>),
            |bytes| bytes.extend([0; 8]),
            |bytes| *bytes = vec![0; 8],
            |bytes| bytes.extend([0xff; 8]),
        ] {
            filled(&storage, 3).trim().unwrap();
            storage.tamper(Path::new(PATH), change);
            let mut index = offsets(&storage, 800);
            assert!(!index.load().unwrap());
            assert_eq!(index.entries(), 0);
        }
    }

    #[test]
    fn salvages_the_leading_entries() {
        let storage = MemoryStorage::new();
        filled(&storage, 300).take_dirty().unwrap();
        let mut index = offsets(&storage, 1 << 20);
        index.salvage(|_| true).unwrap();
        assert_eq!(index.entries(), 300, "zeros end it");
        storage.tamper(Path::new(PATH), |bytes| bytes[8 * 200] = 0xff);
        index.salvage(|_| true).unwrap();
        assert_eq!(index.entries(), 200);
        index.salvage(|entry| entry.offset < 114).unwrap();
        assert_eq!(
            (index.entries(), index.last().map(|last| last.offset)),
            (2, Some(109))
        );
    }

    #[test]
    fn truncates() {
        for keep in [0, 1, 150, 300] {
            let storage = MemoryStorage::new();
            let mut index = filled(&storage, 300);
            index
                .truncate_where(|entry| entry.position < keep * 1000)
                .unwrap();
            assert_eq!(index.entries(), keep);
            assert_eq!(
                index.last().map(|last| last.position),
                keep.checked_sub(1).map(|n| n * 1000)
            );
            let bytes = storage.read(Path::new(PATH)).unwrap();
            assert_eq!(bytes.len(), 1 << 20);
            assert!(bytes[keep as usize * 8..].iter().all(|byte| *byte == 0));
        }
    }
}
