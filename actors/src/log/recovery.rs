//! Opening a log: taking over what is on disk, and putting right what a crash left there.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use troupe_protocol::kafka::records::control::EndTxnMarker;

use super::config::LogConfig;
use super::epochs::LeaderEpochs;
use super::names::{self, FileKind};
use super::producers::Producers;
use super::scan::{Scan, Scanned};
use super::segment::Segment;
use super::tidy::tidy;
use super::{Log, MARKER_BYTES_MAX, read_marker, snapshots};
use crate::storage::{Storage, read_exact_at};

/// What the log directory's checkpoints say of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The offset below which everything was on disk.
    pub recovery_point: i64,
    /// The first offset that may be read; 0 when nothing was checkpointed.
    pub log_start_offset: i64,
    /// The offset below which everything was compacted; 0 for nothing.
    pub cleaned_to: i64,
    /// Whether the log directory was closed in order, so that nothing needs a scan.
    pub clean_shutdown: bool,
}

/// What opening a log found and did, for its log line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Base offsets of the segments that were scanned.
    pub scanned: Vec<i64>,
    /// Base offsets of the segments whose indexes were made again.
    pub reindexed: Vec<i64>,
    /// How many bytes were cut off, segments after the cut included.
    pub cut_bytes: u64,
    /// Why.
    pub cut_because: Option<String>,
}

impl Recovery {
    /// Tells whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments = |count: usize| if count == 1 { "segment" } else { "segments" };
        let (scanned, reindexed) = (self.scanned.len(), self.reindexed.len());
        write!(
            f,
            "checked {scanned} {}, made the indexes of {reindexed} {} again",
            segments(scanned),
            segments(reindexed)
        )?;
        match &self.cut_because {
            Some(reason) => write!(f, ", cut off {} bytes: {reason}", self.cut_bytes),
            None => Ok(()),
        }
    }
}

impl Log {
    /// Opens the log in `dir`, creating it when there is none.
    ///
    /// After a clean shutdown nothing is scanned. Otherwise what lies past the recovery point is read and checked; the
    /// log is cut at the first batch that is not whole. Broken indexes are made again in either case.
    ///
    /// # Errors
    /// The disk's, and `InvalidData` for message formats older than record batches, which are left untouched.
    pub fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        config: LogConfig,
        start: Start,
        now_ms: i64,
    ) -> io::Result<(Log, Recovery)> {
        storage.create_dir(dir)?;
        let listing = tidy(storage.as_ref(), dir)?;
        let fresh = listing.logs.is_empty();
        let (epochs, epochs_sound) = if fresh {
            (LeaderEpochs::empty(Arc::clone(&storage), dir), true)
        } else {
            LeaderEpochs::load(Arc::clone(&storage), dir)?
        };
        let mut segments = Vec::with_capacity(listing.logs.len().max(1));
        let mut distrusted = None;
        for base_offset in &listing.logs {
            let mut segment = Segment::open(&storage, dir, *base_offset, &config, false, now_ms)?;
            if listing.aborted.contains(base_offset) && !segment.load_aborted()? {
                distrusted = distrusted.or(Some(*base_offset));
            }
            segments.push(segment);
        }
        if fresh {
            segments.push(Segment::create(
                &storage,
                dir,
                start.log_start_offset.max(0),
                &config,
                now_ms,
            )?);
        }
        let mut log = Log {
            storage,
            dir: dir.to_owned(),
            config,
            segments,
            log_start_offset: start.log_start_offset,
            log_end_offset: 0,
            recovery_point: 0,
            cleaned_to: start.cleaned_to,
            epochs,
            producers: Producers::default(),
            failed: false,
            dir_dirty: fresh || listing.swapped,
            unsynced_snapshots: BTreeSet::new(),
            truncations: 0,
        };
        let mut recovery = Recovery::default();
        if fresh {
            let base = log.active().base_offset;
            (log.log_start_offset, log.log_end_offset, log.recovery_point) = (base, base, base);
        } else {
            log.recover(start, epochs_sound, &mut recovery)?;
            log.remove_stray_snapshots(&listing.snapshots)?;
            // What was written after the recovery point may be there in part, so nothing but the batches is believed.
            let scanned = recovery.scanned.first().copied();
            if let Some(base_offset) = scanned.into_iter().chain(distrusted).min() {
                log.distrust_transactions(base_offset)?;
            }
            log.reload_producers()?;
            if !start.clean_shutdown {
                // Written by an earlier process, which may not have synced them.
                log.unsynced_snapshots.extend(listing.snapshots);
            }
        }
        Ok((log, recovery))
    }

    fn recover(
        &mut self,
        start: Start,
        epochs_sound: bool,
        recovery: &mut Recovery,
    ) -> io::Result<()> {
        let trusted = if start.clean_shutdown {
            i64::MAX
        } else {
            start.recovery_point
        };
        let mut number = 0;
        while number < self.segments.len() {
            let next_base = self.segments.get(number + 1).map(|next| next.base_offset);
            let trusts = next_base.map_or(trusted == i64::MAX, |next| next <= trusted);
            let end = match trusts {
                true => self.take_over(number, next_base)?,
                false => None,
            };
            match end {
                Some(end) => self.log_end_offset = end,
                None => self.recover_segment(number, trusted, !trusts, recovery)?,
            }
            number += 1;
        }
        let active = self.active_mut();
        active.offsets.preallocate()?;
        active.times.preallocate()?;
        active.offsets.release();
        active.times.release();
        if !epochs_sound {
            self.rebuild_epochs()?;
        }
        let first = self.segments.first().map_or(0, |first| first.base_offset);
        self.log_start_offset = start.log_start_offset.max(first);
        if self.log_end_offset < self.log_start_offset {
            let base = self.log_start_offset;
            recovery.cut_bytes += self.size_bytes();
            recovery.cut_because =
                Some(format!("everything lies below the log start offset {base}"));
            return self.start_at(base);
        }
        self.recovery_point = match start.clean_shutdown && recovery.scanned.is_empty() {
            true => self.log_end_offset,
            false => start.recovery_point.clamp(0, self.log_end_offset),
        };
        let (first, end) = (self.log_start_offset, self.log_end_offset);
        let ends = self.epochs.truncate_end(end);
        let ends = ends.and(self.epochs.truncate_start(first));
        self.tolerate(ends);
        Ok(())
    }

    /// Takes over a segment as it is; `None` when something about it is wrong.
    ///
    /// Returns the offset after it.
    fn take_over(&mut self, number: usize, next_base: Option<i64>) -> io::Result<Option<i64>> {
        let Some(segment) = self.segments.get_mut(number) else {
            return Ok(None);
        };
        if next_base.is_none() {
            return segment.load();
        }
        if !segment.load_indexes()? {
            return Ok(None);
        }
        segment.largest = segment.times.last();
        segment.offsets.release();
        segment.times.release();
        Ok(next_base)
    }

    /// Reads a segment's batches from the last one that is known to be good, makes its indexes again from there and
    /// cuts the log where a batch is not whole.
    fn recover_segment(
        &mut self,
        number: usize,
        trusted: i64,
        resume: bool,
        recovery: &mut Recovery,
    ) -> io::Result<()> {
        let interval = self.config.index_interval_bytes;
        let Some(segment) = self.segments.get_mut(number) else {
            return Ok(());
        };
        let (position, next_offset) = match resume {
            true => segment.resume_index(trusted)?,
            false => segment.drop_index()?,
        };
        let is_last = number + 1 == self.segments.len();
        let Some(segment) = self.segments.get_mut(number) else {
            return Ok(());
        };
        recovery.reindexed.push(segment.base_offset);
        // Written by an earlier process, which may not have synced it.
        segment.dirty = true;
        self.epochs.distrust();
        if trusted != i64::MAX {
            recovery.scanned.push(segment.base_offset);
        }
        let file = Arc::clone(&segment.file);
        let remaking = segment.offsets.is_remaking();
        let mut scan = Scan::new(file.as_ref(), position, segment.size, next_offset);
        let (mut end, mut new_epoch, mut index_failure) = (next_offset, false, None);
        let broken = loop {
            match scan.next(trusted.min(i64::MAX - 1))? {
                Scanned::End => break None,
                Scanned::Broken { position, why } => break Some((position, why)),
                Scanned::Batch(position, header) => {
                    // What the offset index has below the recovery point is believed: it is as it was flushed, or all new.
                    let believed = !remaking && header.last_offset() < trusted;
                    let interval = if believed { u64::MAX } else { interval };
                    index_failure = segment
                        .index_batch(&header, position, interval)
                        .err()
                        .or(index_failure);
                    new_epoch |= self.epochs.note(header.leader_epoch, header.base_offset);
                    end = header.next_offset();
                }
            }
        };
        let believed = trusted > segment.base_offset && segment.offsets.last().is_some();
        let put = segment.put_indexes(!resume || believed, broken.is_none() && !is_last);
        self.log_end_offset = end;
        self.tolerate(index_failure.map_or(put, Err));
        if new_epoch {
            let written = self.epochs.write();
            self.tolerate(written);
        }
        if let Some((position, why)) = broken {
            refuse_older_formats(file.as_ref(), position)?;
            self.cut(number, position, end, why, recovery)?;
        } else if !is_last && let Some(segment) = self.segments.get_mut(number) {
            let finished = segment.finish();
            segment.offsets.release();
            segment.times.release();
            self.tolerate(finished);
        }
        Ok(())
    }

    /// Goes on although an index or the leader epochs could not be written: a full disk must not keep a log from
    /// opening. Index entries wait in memory; they, epochs and transaction indexes are written before the recovery point
    /// moves.
    fn tolerate(&self, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(dir = %self.dir.display(), %error, "recovery could not write an index or the leader epochs");
        }
    }

    /// Ends the log at `position` of a segment.
    fn cut(
        &mut self,
        number: usize,
        position: u64,
        end: i64,
        why: String,
        recovery: &mut Recovery,
    ) -> io::Result<()> {
        for segment in self.segments.drain(number + 1..).rev() {
            recovery.cut_bytes += segment.size;
            for kind in FileKind::ALL {
                self.storage.remove_file(&segment.path(kind))?;
            }
        }
        self.dir_dirty = true;
        if let Some(segment) = self.segments.get_mut(number) {
            recovery.cut_bytes += segment.size - position;
            recovery.cut_because = Some(format!(
                "{} at position {position}: {why}",
                segment.path(FileKind::Log).display()
            ));
            segment.truncate(end, position, self.config.index_interval_bytes)?;
        }
        Ok(())
    }

    fn rebuild_epochs(&mut self) -> io::Result<()> {
        self.epochs.forget();
        for segment in &self.segments {
            let mut scan = Scan::new(segment.file.as_ref(), 0, segment.size, segment.base_offset);
            while let Scanned::Batch(_, header) = scan.next(i64::MAX)? {
                self.epochs.note(header.leader_epoch, header.base_offset);
            }
        }
        let written = self.epochs.write();
        self.tolerate(written);
        Ok(())
    }

    /// Removes snapshots that no segment starts at, but the newest of them: it is the one a clean shutdown left.
    fn remove_stray_snapshots(&self, snapshots: &BTreeSet<i64>) -> io::Result<()> {
        let end = self.log_end_offset;
        let newest = snapshots.range(..=end).next_back();
        for offset in snapshots {
            let at_segment = self
                .segments
                .iter()
                .any(|segment| segment.base_offset == *offset);
            if (Some(offset) != newest && !at_segment) || *offset > end {
                self.storage
                    .remove_file(&self.segment_file(*offset, FileKind::Snapshot))?;
            }
        }
        Ok(())
    }

    /// Forgets transaction indexes from a segment on, and removes the snapshots after its beginning.
    fn distrust_transactions(&mut self, base_offset: i64) -> io::Result<()> {
        let first = self.segment_number(base_offset);
        for segment in self.segments.iter_mut().skip(first) {
            segment.forget_aborted();
        }
        self.remove_snapshots_after(base_offset)
    }

    /// Reads producer state again: the newest sound snapshot, then the batches after it.
    pub(super) fn reload_producers(&mut self) -> io::Result<()> {
        // Not from the log start offset: what was deleted below it still counts for the sequences after it.
        let mut from = self.segments.first().map_or(0, |first| first.base_offset);
        self.producers.clear();
        let mut offsets = Vec::new();
        for entry in self.storage.list(&self.dir)? {
            match names::parse_segment_file(&entry.name) {
                Some((offset, FileKind::Snapshot)) if offset <= self.log_end_offset => {
                    offsets.push(offset)
                }
                _ => {}
            }
        }
        while let Some(offset) = offsets.pop() {
            let path = self.segment_file(offset, FileKind::Snapshot);
            if let Some(producers) = snapshots::decode(&self.storage.read(&path)?) {
                self.producers = producers;
                from = offset.max(from);
                break;
            }
            tracing::warn!(path = %path.display(), "producer snapshot ignored: it is corrupt");
            self.storage.remove_file(&path)?;
        }
        self.replay_producers(from)?;
        for number in 0..self.segments.len() {
            let segment = self.segments.get_mut(number);
            let written = segment.map_or(Ok(()), Segment::write_aborted);
            self.tolerate(written);
        }
        self.dir_dirty = true;
        Ok(())
    }

    fn replay_producers(&mut self, from: i64) -> io::Result<()> {
        if from >= self.log_end_offset {
            return Ok(());
        }
        let first = self.segment_number(from);
        for number in first..self.segments.len() {
            let Some(segment) = self.segments.get(number) else {
                break;
            };
            if number > first {
                // The snapshot that belongs here was not believed.
                let base_offset = segment.base_offset;
                let written = self.write_snapshot(base_offset);
                self.tolerate(written);
            }
            let Some(segment) = self.segments.get(number) else {
                break;
            };
            let Some(place) = segment.locate(from)? else {
                continue;
            };
            let mut scan = Scan::new(
                segment.file.as_ref(),
                place.position,
                segment.size,
                place.base_offset,
            );
            let mut aborted = Vec::new();
            while let Scanned::Batch(position, header) = scan.next(i64::MAX)? {
                let marker = match header.attributes.is_control() {
                    true => marker_at(segment, position, header.size)?,
                    false => None,
                };
                aborted.extend(self.producers.update(&header, marker));
            }
            if let Some(segment) = self.segments.get_mut(number) {
                aborted
                    .into_iter()
                    .for_each(|entry| segment.restore_aborted(entry));
            }
        }
        Ok(())
    }
}

fn marker_at(segment: &Segment, position: u64, size: usize) -> io::Result<Option<EndTxnMarker>> {
    if size > MARKER_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    read_exact_at(segment.file.as_ref(), &mut bytes, position)?;
    Ok(read_marker(&bytes))
}

/// Fails when a message of a format before record batches stands at `position`: it is not damaged, so it stays.
fn refuse_older_formats(file: &dyn crate::storage::StorageFile, position: u64) -> io::Result<()> {
    const CRC_AT: usize = 12;
    const MAGIC_AT: usize = 16;
    const MESSAGE_MAX: usize = 128 << 20;
    let mut head = [0; MAGIC_AT + 1];
    if position != 0 || file.read_at(&mut head, position)? < head.len() {
        return Ok(());
    }
    let length = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    let length = usize::try_from(length).unwrap_or(0);
    if head[MAGIC_AT] > 1 || !(MAGIC_AT - CRC_AT..=MESSAGE_MAX).contains(&length) {
        return Ok(());
    }
    if file.len()? < position + (CRC_AT + length) as u64 {
        return Ok(());
    }
    let mut message = vec![0; length];
    read_exact_at(file, &mut message, position + CRC_AT as u64)?;
    let (crc, body) = message.split_at(4);
    if crc != crc32(body).to_be_bytes() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the log has messages of a format before 0.11 (magic 0 or 1), which is not supported; it is left as it is",
    ))
}

/// Computes the CRC-32 (IEEE) that messages of magic 0 and 1 have. Slow, and needed for one message of a log at most.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
