//! A segment: one file of record batches with its two indexes.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use troupe_protocol::kafka::records::batch::{BatchHeader, HEADER_LEN};

use super::config::LogConfig;
use super::index::{Index, OffsetEntry, OffsetIndex, TimeEntry, TimeIndex};
use super::names::{self, FileKind, segment_file};
use super::txn_index::{self, AbortedTransaction};
use crate::storage::{Storage, StorageFile};

/// How many of the last batches are found without the index: consumers that keep up ask for these.
const RECENT: usize = 64;

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) position: u64,
    pub(super) size: u64,
}

impl Place {
    fn of(header: &BatchHeader, position: u64) -> Self {
        Self {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            position,
            size: header.size as u64,
        }
    }

    fn end(&self) -> u64 {
        self.position + self.size
    }
}

/// One file of record batches. Everything before `size` is whole batches with ascending offsets.
pub(super) struct Segment {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// What the names of its files end in besides their kind: nothing, unless it is the result of a compaction.
    suffix: &'static str,
    pub(super) base_offset: i64,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) size: u64,
    pub(super) offsets: OffsetIndex,
    pub(super) times: TimeIndex,
    /// By the offsets of their markers.
    aborted: Vec<AbortedTransaction>,
    /// Whether the file of the transaction index is behind.
    aborted_unwritten: bool,
    /// Whether it has changed since the last flush.
    aborted_dirty: bool,
    bytes_since_entry: u64,
    /// The max timestamp of the first batch, once it was looked up.
    first_timestamp: Option<i64>,
    /// The largest timestamp, and the last offset of the first batch that has it.
    pub(super) largest: Option<TimeEntry>,
    pub(super) created_ms: i64,
    recent: VecDeque<Place>,
    /// Whether the log file has changed since the last flush.
    pub(super) dirty: bool,
}

/// Batches that are to be written ahead of another one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    /// How many.
    pub(super) batches: usize,
    /// Their bytes.
    pub(super) bytes: u64,
}

impl Ahead {
    /// Counts one more.
    pub(super) fn add(&mut self, header: &BatchHeader) {
        self.batches += 1;
        self.bytes = self.bytes.saturating_add(header.size as u64);
    }
}

fn corrupt(path: &Path, position: u64, what: impl std::fmt::Display) -> io::Error {
    let text = format!("{} at position {position}: {what}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Returns the larger of the largest timestamp so far and a later batch's. Batches without records have none.
fn larger(largest: Option<TimeEntry>, header: &BatchHeader) -> Option<TimeEntry> {
    let (timestamp, offset) = (header.max_timestamp, header.last_offset());
    if header.record_count > 0 && timestamp > largest.map_or(-1, |largest| largest.timestamp) {
        Some(TimeEntry { timestamp, offset })
    } else {
        largest
    }
}

impl Segment {
    /// Opens a segment's log file; its indexes are empty and untouched on disk until loaded or reset.
    pub(super) fn open(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        base_offset: i64,
        config: &LogConfig,
        create: bool,
        now_ms: i64,
    ) -> io::Result<Self> {
        Self::open_named(storage, dir, (base_offset, ""), config, create, now_ms)
    }

    fn open_named(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        (base_offset, suffix): (i64, &'static str),
        config: &LogConfig,
        create: bool,
        now_ms: i64,
    ) -> io::Result<Self> {
        let index = |kind| names::with_suffix(&segment_file(dir, base_offset, kind), suffix);
        let file = storage.open(&index(FileKind::Log), create)?;
        let size = file.len()?;
        let bytes = config.segment_index_bytes;
        Ok(Self {
            storage: Arc::clone(storage),
            dir: dir.to_owned(),
            suffix,
            base_offset,
            file,
            size,
            offsets: Index::new(
                Arc::clone(storage),
                index(FileKind::Index),
                base_offset,
                bytes,
            ),
            times: Index::new(
                Arc::clone(storage),
                index(FileKind::TimeIndex),
                base_offset,
                bytes,
            ),
            aborted: Vec::new(),
            aborted_unwritten: false,
            aborted_dirty: false,
            bytes_since_entry: 0,
            first_timestamp: None,
            largest: None,
            created_ms: now_ms,
            recent: VecDeque::new(),
            dirty: false,
        })
    }

    /// Creates an empty segment with its files.
    pub(super) fn create(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        base_offset: i64,
        config: &LogConfig,
        now_ms: i64,
    ) -> io::Result<Self> {
        let mut segment = Self::open(storage, dir, base_offset, config, true, now_ms)?;
        if segment.size > 0 {
            segment.file.set_len(0)?;
            segment.size = 0;
        }
        if config.preallocate {
            segment.file.allocate(config.segment_bytes)?;
        }
        segment.offsets.reset()?;
        segment.times.reset()?;
        // Most partitions of a broker are idle: they need no descriptors for indexes.
        segment.offsets.release();
        segment.times.release();
        Ok(segment)
    }

    /// Creates the segment that a compaction writes to; its files end in `.cleaned`.
    pub(super) fn create_cleaned(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        base_offset: i64,
        config: &LogConfig,
        now_ms: i64,
    ) -> io::Result<Self> {
        let named = (base_offset, names::CLEANED);
        let mut segment = Self::open_named(storage, dir, named, config, true, now_ms)?;
        segment.file.set_len(0)?;
        segment.size = 0;
        segment.offsets.reset()?;
        segment.times.reset()?;
        Ok(segment)
    }

    /// Returns the path of one of the segment's files.
    pub(super) fn path(&self, kind: FileKind) -> PathBuf {
        names::with_suffix(
            &segment_file(&self.dir, self.base_offset, kind),
            self.suffix,
        )
    }

    /// Renames all files to end in `suffix`.
    pub(super) fn rename(&mut self, suffix: &'static str) -> io::Result<()> {
        for kind in FileKind::OF_SEGMENT {
            let from = self.path(kind);
            if kind == FileKind::TxnIndex && self.aborted.is_empty() {
                continue;
            }
            let to = segment_file(&self.dir, self.base_offset, kind);
            self.storage
                .rename(&from, &names::with_suffix(&to, suffix))?;
        }
        self.suffix = suffix;
        self.moved_indexes();
        Ok(())
    }

    /// Appends batches with one write; `headers` are theirs, in order. On an error the segment is as before, except for
    /// bytes past its size and index entries for them.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        headers: &[BatchHeader],
        index_interval_bytes: u64,
    ) -> io::Result<()> {
        self.dirty = true;
        self.file.write_all_at(bytes, self.size)?;
        let before = (self.bytes_since_entry, self.first_timestamp, self.largest);
        let mut end = self.size;
        for header in headers {
            if let Err(error) = self.index_batch(header, end, index_interval_bytes) {
                (self.bytes_since_entry, self.first_timestamp, self.largest) = before;
                return Err(error);
            }
            end += header.size as u64;
        }
        for header in headers {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(Place::of(header, self.size));
            self.size += header.size as u64;
        }
        Ok(())
    }

    /// Makes the index entries that a batch at `position` calls for.
    pub(super) fn index_batch(
        &mut self,
        header: &BatchHeader,
        position: u64,
        index_interval_bytes: u64,
    ) -> io::Result<()> {
        let offset = header.last_offset();
        self.note_timestamp(header, position);
        if self.bytes_since_entry > index_interval_bytes {
            // The time index first: an entry of the offset index means that the time index is complete up to there.
            self.append_largest()?;
            if let Ok(position) = u32::try_from(position) {
                self.offsets.append(OffsetEntry { offset, position })?;
            }
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.size as u64;
        Ok(())
    }

    fn note_timestamp(&mut self, header: &BatchHeader, position: u64) {
        if position == 0 {
            self.first_timestamp = Some(header.max_timestamp);
        }
        self.largest = larger(self.largest, header);
    }

    fn append_largest(&mut self) -> io::Result<()> {
        self.largest
            .map_or(Ok(()), |largest| self.times.append(largest))
    }

    /// Tells whether a batch must go to a new segment, by size, index or offset range, when others are to be written
    /// ahead of it; age is [`Segment::age_ms`].
    pub(super) fn is_full_for(
        &self,
        header: &BatchHeader,
        ahead: Ahead,
        segment_bytes: u64,
    ) -> bool {
        let size = self.size.saturating_add(ahead.bytes);
        let end = size.saturating_add(header.size as u64);
        // Each of the others may get an index entry.
        let entries = u32::try_from(ahead.batches).unwrap_or(u32::MAX);
        let relative = header.last_offset().saturating_sub(self.base_offset);
        end > segment_bytes.min(i32::MAX as u64)
            || relative > i64::from(i32::MAX)
            || self.offsets.is_full(entries)
            // One entry is kept for the end of the segment.
            || self.times.is_full(entries.saturating_add(1))
    }

    /// Returns how old the segment is at `timestamp`, the time of a record or now, counted from its first batch;
    /// without timestamps from its creation to `now_ms`.
    pub(super) fn age_ms(&mut self, timestamp: i64, now_ms: i64) -> io::Result<i64> {
        if self.size == 0 {
            return Ok(0);
        }
        let first = self.first_timestamp()?;
        Ok(if first >= 0 {
            timestamp.saturating_sub(first)
        } else {
            now_ms.saturating_sub(self.created_ms)
        })
    }

    /// Returns the max timestamp of the first batch, -1 without.
    pub(super) fn first_timestamp(&mut self) -> io::Result<i64> {
        let first = match self.first_timestamp {
            Some(first) => first,
            None => self
                .walk(0)
                .next()?
                .map_or(-1, |(_, header)| header.max_timestamp),
        };
        self.first_timestamp = Some(first);
        Ok(first)
    }

    /// Ends appending: last time index entry, trimmed files. Handles on indexes are let go.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.append_largest()?;
        self.times.trim()?;
        self.offsets.trim()?;
        if self.file.len()? != self.size {
            self.file.set_len(self.size)?;
        }
        self.recent = VecDeque::new();
        Ok(())
    }

    /// Takes over indexes and the tail of a segment that needs no recovery; returns the next offset.
    ///
    /// `None` when an index or the tail is not as it must be.
    pub(super) fn load(&mut self) -> io::Result<Option<i64>> {
        if !self.load_indexes()? {
            return Ok(None);
        }
        match self.load_tail() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            result => result.map(Some),
        }
    }

    /// Takes over the indexes; returns whether they can be right.
    pub(super) fn load_indexes(&mut self) -> io::Result<bool> {
        if !self.offsets.load()? || !self.times.load()? {
            return Ok(false);
        }
        let last = self.offsets.last();
        Ok(last.is_none_or(|last| u64::from(last.position) < self.size))
    }

    /// Keeps the index entries that a flush made durable, those for batches below `trusted`, if they can be right.
    ///
    /// Returns where to go on reading, and an offset below which no batch there starts. Whatever is added while reading on
    /// below `trusted` would be believed after the next crash without having been flushed: so nothing may be.
    pub(super) fn resume_index(&mut self, trusted: i64) -> io::Result<(u64, i64)> {
        let size = self.size;
        if trusted > self.base_offset && trusted < i64::MAX {
            self.offsets
                .salvage(|entry| entry.offset < trusted && u64::from(entry.position) < size)?;
            if let Some(last) = self.offsets.last()
                && let Ok(Some((position, header))) = self.walk(u64::from(last.position)).next()
                && header.last_offset() == last.offset
            {
                self.offsets.truncate_where(|_| true)?;
                self.times.salvage(|entry| entry.offset <= last.offset)?;
                self.times.truncate_where(|_| true)?;
                self.largest = self.times.last();
                self.bytes_since_entry = 0;
                // Without a time index, or without timestamps.
                if self.largest.is_some() {
                    return Ok((position, header.base_offset));
                }
            }
        }
        self.drop_index()
    }

    /// Begins to make the indexes again from nothing; returns where to start reading, and the offset there.
    pub(super) fn drop_index(&mut self) -> io::Result<(u64, i64)> {
        self.offsets.remake()?;
        self.times.remake()?;
        self.largest = None;
        self.bytes_since_entry = 0;
        Ok((0, self.base_offset))
    }

    /// Ends making the indexes again. With `durable` they are complete on disk then, or missing there; `closes` gives them
    /// the last entry of a segment that is not appended to.
    pub(super) fn put_indexes(&mut self, durable: bool, closes: bool) -> io::Result<()> {
        if closes {
            self.append_largest()?;
        }
        if !durable {
            self.offsets.settle();
            self.times.settle();
        }
        // The time index first: an entry of the offset index means that the time index is complete up to there.
        self.times.publish()?;
        self.offsets.publish()
    }

    /// Reads the headers after the last index entry; returns the next offset.
    ///
    /// # Errors
    /// `InvalidData` when the index entry is wrong or the segment does not end in a whole batch.
    pub(super) fn load_tail(&mut self) -> io::Result<i64> {
        let last = self.offsets.last();
        let start = last.map_or(0, |last| u64::from(last.position));
        self.bytes_since_entry = self.size - start.min(self.size);
        self.largest = self.times.last();
        self.recent.clear();
        let (mut first, mut largest, mut next_offset) =
            (self.first_timestamp, self.largest, self.base_offset);
        let mut walk = self.walk(start);
        while let Some((position, header)) = walk.next()? {
            let lies =
                position == start && last.is_some_and(|last| last.offset != header.last_offset());
            if lies || header.base_offset < next_offset {
                return Err(corrupt(
                    &self.path(FileKind::Log),
                    position,
                    "offsets do not ascend",
                ));
            }
            next_offset = header.next_offset();
            if position == 0 {
                first = Some(header.max_timestamp);
            }
            largest = larger(largest, &header);
        }
        (self.first_timestamp, self.largest) = (first, largest);
        Ok(next_offset)
    }

    /// Iterates over batch headers from `position`, which must be the start of a batch.
    pub(super) fn walk(&self, position: u64) -> Walk<'_> {
        Walk {
            segment: self,
            position,
            window: [0; WINDOW],
            window_at: 0,
            window_len: 0,
        }
    }

    /// Finds the first batch whose last offset is not below `offset`.
    pub(super) fn locate(&self, offset: i64) -> io::Result<Option<Place>> {
        let recent = self
            .recent
            .partition_point(|place| place.last_offset < offset);
        match self.recent.get(recent) {
            Some(place) if recent > 0 || place.base_offset <= offset => return Ok(Some(*place)),
            None if recent > 0 => return Ok(None),
            _ => {}
        }
        let entry = self.offsets.last_where(|entry| entry.offset <= offset)?;
        self.first_not_below(self.checked(entry)?, offset)
    }

    /// Returns the position of an index entry when the batch there is the one that the entry is for; else 0.
    fn checked(&self, entry: Option<OffsetEntry>) -> io::Result<u64> {
        let Some(entry) = entry else {
            return Ok(0);
        };
        let position = u64::from(entry.position);
        match self.walk(position).next() {
            Ok(Some((_, header))) if header.last_offset() == entry.offset => return Ok(position),
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
            _ => {}
        }
        tracing::warn!(path = %self.offsets.path().display(), position, "index entry is wrong: reading without it");
        Ok(0)
    }

    fn first_not_below(&self, from: u64, offset: i64) -> io::Result<Option<Place>> {
        let mut walk = self.walk(from);
        while let Some((position, header)) = walk.next()? {
            if header.last_offset() >= offset {
                return Ok(Some(Place::of(&header, position)));
            }
        }
        Ok(None)
    }

    /// Returns where the last batch ends that starts at or after `start` and ends at or before `limit`, which is below
    /// the size, and the base offset of the batch after it; `start` and the batch there if none.
    pub(super) fn boundary(&self, start: u64, limit: u64) -> io::Result<(u64, i64)> {
        let entry = self
            .offsets
            .last_where(|entry| u64::from(entry.position) <= limit)?;
        let entry = entry.filter(|entry| u64::from(entry.position) > start);
        self.last_end(self.checked(entry)?.max(start), limit)
    }

    fn last_end(&self, from: u64, limit: u64) -> io::Result<(u64, i64)> {
        let (mut end, mut end_offset) = (from, self.base_offset);
        let mut walk = self.walk(from);
        while let Some((position, header)) = walk.next()? {
            let next = Place::of(&header, position).end();
            if next > limit {
                return Ok((end, header.base_offset));
            }
            (end, end_offset) = (next, header.next_offset());
        }
        Ok((end, end_offset))
    }

    /// Cuts the segment at `position`, the start of the batch that has or follows `offset`; returns the next offset.
    pub(super) fn truncate(
        &mut self,
        offset: i64,
        position: u64,
        index_interval_bytes: u64,
    ) -> io::Result<i64> {
        self.dirty = true;
        self.file.set_len(position)?;
        self.size = position;
        self.offsets
            .truncate_where(|entry| u64::from(entry.position) < position)?;
        self.times.truncate_where(|entry| entry.offset < offset)?;
        if position == 0 {
            self.first_timestamp = None;
        }
        let kept = self
            .aborted
            .iter()
            .take_while(|aborted| aborted.last_offset < offset)
            .count();
        self.truncate_aborted(kept)?;
        match self.load_tail() {
            // What is left of the index was wrong before.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.reindex(index_interval_bytes)
            }
            result => result,
        }
    }

    /// Makes the indexes again from the batch headers; returns the next offset.
    fn reindex(&mut self, index_interval_bytes: u64) -> io::Result<i64> {
        let (mut position, mut next_offset) = self.drop_index()?;
        loop {
            let Some((_, header)) = self.walk(position).next()? else {
                return Ok(next_offset);
            };
            self.index_batch(&header, position, index_interval_bytes)?;
            position += header.size as u64;
            next_offset = header.next_offset();
        }
    }

    /// After a failed append: makes files and indexes end where the segment does, as far as that works.
    pub(super) fn cut_back(&mut self) {
        let (size, end) = (self.size, self.recent.back().map(|place| place.last_offset));
        // The disk may refuse this too; then recovery at the next start does it.
        let _ = self.file.set_len(size);
        let _ = self
            .offsets
            .truncate_where(|entry| u64::from(entry.position) < size);
        if let Some(end) = end {
            let _ = self.times.truncate_where(|entry| entry.offset <= end);
        }
    }

    /// Returns the aborted transactions that end in this segment, at or after `offset`.
    pub(super) fn aborted_from(&self, offset: i64) -> &[AbortedTransaction] {
        let before = self
            .aborted
            .partition_point(|aborted| aborted.last_offset < offset);
        self.aborted.get(before..).unwrap_or_default()
    }

    /// Takes over the transaction index; returns whether it can be right.
    pub(super) fn load_aborted(&mut self) -> io::Result<bool> {
        let path = self.path(FileKind::TxnIndex);
        self.aborted = txn_index::read(self.storage.as_ref(), &path)?;
        let len = self.storage.open(&path, false)?.len()?;
        let base_offset = self.base_offset;
        let follow = |pair: &[AbortedTransaction]| match pair {
            [before, after] => before.last_offset < after.last_offset,
            _ => true,
        };
        let within = |entry: &AbortedTransaction| {
            entry.last_offset >= base_offset && entry.first_offset < entry.last_offset
        };
        Ok(txn_index::file_len(self.aborted.len()) == len
            && self.aborted.iter().all(within)
            && self.aborted.windows(2).all(follow))
    }

    /// Adds to the transaction index.
    pub(super) fn append_aborted(&mut self, entry: AbortedTransaction) -> io::Result<()> {
        self.aborted.push(entry);
        if self.aborted_unwritten {
            return self.write_aborted();
        }
        self.aborted_dirty = true;
        let (path, number) = (self.path(FileKind::TxnIndex), self.aborted.len() - 1);
        txn_index::append(self.storage.as_ref(), &path, number, &entry)
    }

    /// Forgets the transaction index, to make it again from the batches.
    pub(super) fn forget_aborted(&mut self) {
        self.aborted.clear();
        self.aborted_unwritten = true;
    }

    /// Adds what the transaction index lacks; [`write_aborted`](Self::write_aborted) has to follow.
    pub(super) fn restore_aborted(&mut self, entry: AbortedTransaction) {
        if self.aborted_from(entry.last_offset).is_empty() {
            self.aborted.push(entry);
            self.aborted_unwritten = true;
        }
    }

    /// Writes the transaction index again if it is behind.
    pub(super) fn write_aborted(&mut self) -> io::Result<()> {
        if self.aborted_unwritten {
            self.aborted_dirty = true;
            let path = self.path(FileKind::TxnIndex);
            txn_index::write(self.storage.as_ref(), &path, &self.aborted)?;
            self.aborted_unwritten = false;
        }
        Ok(())
    }

    /// Keeps the first `count` entries of the transaction index.
    fn truncate_aborted(&mut self, count: usize) -> io::Result<()> {
        if count == self.aborted.len() {
            return Ok(());
        }
        self.aborted.truncate(count);
        self.aborted_unwritten = true;
        self.write_aborted()
    }

    /// Returns the transaction index when it is not synced, and counts it as synced.
    pub(super) fn take_dirty_aborted(&mut self) -> io::Result<Option<Arc<dyn StorageFile>>> {
        self.write_aborted()?;
        if !std::mem::take(&mut self.aborted_dirty) || self.aborted.is_empty() {
            return Ok(None);
        }
        let path = self.path(FileKind::TxnIndex);
        self.storage.open(&path, false).map(Some)
    }

    /// Counts everything in the files as not flushed.
    pub(super) fn distrust(&mut self) {
        self.dirty = true;
        self.aborted_dirty = true;
        self.offsets.distrust();
        self.times.distrust();
    }

    /// Makes all files durable and lets go of those of the indexes. To be called once nothing more is appended.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        let (offsets, times) = (self.offsets.take_dirty()?, self.times.take_dirty()?);
        for file in [offsets, times, self.take_dirty_aborted()?] {
            file.map_or(Ok(()), |file| file.sync())?;
        }
        self.dirty = false;
        self.offsets.release();
        self.times.release();
        Ok(())
    }

    /// Removes all files; nothing of the segment can be used then.
    pub(super) fn remove(&self) -> io::Result<()> {
        FileKind::OF_SEGMENT
            .into_iter()
            .try_for_each(|kind| self.storage.remove_file(&self.path(kind)))
    }

    /// Changes where the files are, after the directory was renamed.
    pub(super) fn moved(&mut self, dir: &Path) {
        self.dir = dir.to_owned();
        self.moved_indexes();
    }

    fn moved_indexes(&mut self) {
        self.offsets.moved(self.path(FileKind::Index));
        self.times.moved(self.path(FileKind::TimeIndex));
    }
}

const WINDOW: usize = 4096;

/// Reads batch headers in order, a few at a time.
pub(super) struct Walk<'a> {
    segment: &'a Segment,
    position: u64,
    window: [u8; WINDOW],
    window_at: u64,
    window_len: usize,
}

impl Walk<'_> {
    /// Returns the next batch's position and header; `None` at the end of the segment.
    ///
    /// # Errors
    /// `InvalidData` when what is there is no batch or a part of one.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, BatchHeader)>> {
        let (position, size) = (self.position, self.segment.size);
        if position >= size {
            return Ok(None);
        }
        if self.header_bytes().len() < HEADER_LEN {
            self.window_at = position;
            self.window_len = self.segment.file.read_at(&mut self.window, position)?;
        }
        let bytes = self.header_bytes();
        let wrong = |what: &dyn std::fmt::Display| {
            Err(corrupt(&self.segment.path(FileKind::Log), position, what))
        };
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(error) => return wrong(&error),
        };
        let end = position.saturating_add(header.size as u64);
        if end > size || header.last_offset_delta < 0 {
            return wrong(&"the last batch is cut off");
        }
        self.position = end;
        Ok(Some((position, header)))
    }

    fn header_bytes(&self) -> &[u8] {
        let within = self
            .position
            .checked_sub(self.window_at)
            .and_then(|at| usize::try_from(at).ok());
        let window = self.window.get(..self.window_len).unwrap_or_default();
        within.and_then(|at| window.get(at..)).unwrap_or_default()
    }
}
