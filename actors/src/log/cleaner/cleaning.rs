//! One compaction, step by step: first the last offset of each key is found, then the segments are rewritten.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use troupe_protocol::kafka::records::batch::Batch;
use troupe_protocol::kafka::records::control::EndTxnMarker;
use troupe_protocol::kafka::records::retain::{unpack, views};

use super::chunks::{Chunks, checked};
use super::filter::{Filter, UNPACKED_BYTES_MAX};
use super::offset_map::OffsetMap;
use super::result::CleanedSegment;
use super::swap::Replacement;
use super::transactions::Transactions;
use super::{Job, Limits, Source, invalid};
use crate::log::names::{self, FileKind};
use crate::log::read_marker;

/// What a step did.
pub enum Step {
    /// Read and wrote so many bytes.
    Worked(u64),
    /// Finished a segment that is to be put in the place of others.
    Replace(Box<Replacement>),
    /// Finished.
    Done,
}

/// What a compaction read, kept and wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Statistics {
    /// Bytes read to find the last offsets.
    pub indexed_bytes: u64,
    /// Bytes of the segments that were rewritten.
    pub read_bytes: u64,
    /// Bytes of their results.
    pub written_bytes: u64,
    /// Records of the segments that were rewritten.
    pub read_records: u64,
    /// Records of their results.
    pub written_records: u64,
    /// How full the memory for keys was, from 0 to 1.
    pub map_utilization: f64,
}

/// A compaction that is under way. Dropped before its end, it removes what it has not handed over.
pub struct Cleaning {
    job: Job,
    limits: Limits,
    map: OffsetMap,
    filter: Filter,
    transactions: Transactions,
    phase: Phase,
    statistics: Statistics,
}

enum Phase {
    /// Finds last offsets, in the source of this number.
    Indexing(usize, Chunks),
    /// Rewrites groups of segments.
    Rewriting {
        groups: VecDeque<Range<usize>>,
        current: Option<Box<Group>>,
    },
}

/// Segments that become one.
struct Group {
    sources: Range<usize>,
    /// The one that is read.
    number: usize,
    /// The last one with a batch in it.
    last: usize,
    chunks: Chunks,
    cleaned: CleanedSegment,
}

impl Cleaning {
    /// Prepares to compact; removes what earlier attempts may have left.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(mut job: Job, limits: Limits) -> io::Result<Self> {
        for entry in job.storage.list(&job.dir)? {
            if entry.name.ends_with(names::CLEANED) {
                job.storage.remove_file(&job.dir.join(&entry.name))?;
            }
        }
        let keys = job.end_offset().saturating_sub(job.first_dirty);
        let first = (job.sources)
            .partition_point(|source| source.end_offset <= job.first_dirty)
            .min(job.sources.len().saturating_sub(1));
        let chunks = match job.sources.get(first) {
            Some(source) => Chunks::new(
                &source.file,
                job.first_dirty_position,
                source.size,
                limits.buffer_bytes,
            ),
            None => return Err(invalid("there are no segments to compact")),
        };
        let filter = Filter {
            now_ms: job.now_ms,
            delete_retention_ms: job.config.delete_retention_ms,
            last_batches: std::mem::take(&mut job.last_batches),
        };
        Ok(Self {
            map: OffsetMap::new(u64::try_from(keys).unwrap_or(0), &limits),
            filter,
            transactions: Transactions::new(&job.aborted),
            phase: Phase::Indexing(first, chunks),
            statistics: Statistics::default(),
            limits,
            job,
        })
    }

    /// Returns what it did so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            map_utilization: self.map.utilization(),
            ..self.statistics
        }
    }

    /// Returns the offset below which everything is compacted once this is done.
    pub fn cleaned_to(&self) -> i64 {
        self.map.latest_offset().saturating_add(1)
    }

    /// Does the next piece of work. After a replacement, whoever steps on says that it was put in place.
    ///
    /// # Errors
    /// The disk's, and `InvalidData` when a batch is corrupt. Nothing can be done then but to drop this.
    pub fn step(&mut self) -> io::Result<Step> {
        match &mut self.phase {
            Phase::Indexing(..) => self.index(),
            Phase::Rewriting {
                groups,
                current: current @ None,
            } => {
                let Some(sources) = groups.pop_front() else {
                    // Whoever notes that this is done must not know more than the disk.
                    self.job.storage.sync_dir(&self.job.dir)?;
                    return Ok(Step::Done);
                };
                *current = Some(Group::begin(&self.job, sources, self.limits.buffer_bytes)?);
                Ok(Step::Worked(0))
            }
            Phase::Rewriting { .. } => self.rewrite(),
        }
    }

    /// Notes the last offsets of the keys in the next chunk.
    fn index(&mut self) -> io::Result<Step> {
        let Phase::Indexing(number, chunks) = &mut self.phase else {
            return Ok(Step::Done);
        };
        let chunk = chunks.next()?;
        let bytes = chunk.bytes.len() as u64;
        self.statistics.indexed_bytes += bytes;
        let (next, is_last) = (*number + 1, chunk.is_last);
        let mut is_full = false;
        for batch in checked(chunk.bytes) {
            let (map, transactions) = (&mut self.map, &mut self.transactions);
            is_full = !index_batch(&batch?, self.job.first_dirty, transactions, map)?;
            if is_full {
                break;
            }
        }
        if is_last && !is_full {
            let indexed = self.job.sources.get(*number);
            self.map
                .reaches(indexed.map_or(-1, |source| source.end_offset - 1));
        }
        match self.job.sources.get(next) {
            _ if is_full => self.begin_rewriting(),
            _ if !is_last => {}
            Some(source) => {
                self.phase = Phase::Indexing(next, source.chunks(self.limits.buffer_bytes));
            }
            None => self.begin_rewriting(),
        }
        Ok(Step::Worked(bytes))
    }

    fn begin_rewriting(&mut self) {
        self.transactions = Transactions::new(&self.job.aborted);
        self.phase = Phase::Rewriting {
            groups: self.job.groups(self.cleaned_to()).into(),
            current: None,
        };
    }

    /// Rewrites the next chunk of the current group.
    fn rewrite(&mut self) -> io::Result<Step> {
        let Phase::Rewriting {
            current: Some(group),
            ..
        } = &mut self.phase
        else {
            return Ok(Step::Done);
        };
        let (may_be_last, buffer_bytes) = (group.number == group.last, self.limits.buffer_bytes);
        let chunk = group.chunks.next()?;
        let is_last = chunk.is_last;
        let mut rest = chunk.bytes.len();
        let read = rest as u64;
        for batch in checked(chunk.bytes) {
            let batch = batch?;
            rest -= batch.bytes().len();
            let needless = self.transactions.pass(batch.header(), marker_of(&batch));
            let must_stay = may_be_last && is_last && rest == 0;
            let kept = (self.filter)
                .judge(&batch, needless, must_stay, &self.map)
                .map_err(invalid)?;
            let records = group.cleaned.append(&kept, &batch)?;
            let ended = self.transactions.take_ended();
            group.cleaned.append_aborted(&ended)?;
            self.statistics.read_records += u64::from(batch.header().record_count.unsigned_abs());
            self.statistics.written_records += u64::from(records.unsigned_abs());
        }
        let written = group.cleaned.write(buffer_bytes)?;
        self.statistics.read_bytes += read;
        self.statistics.written_bytes += written;
        if is_last {
            group.number += 1;
            match self.job.sources.get(group.number) {
                Some(source) if group.number < group.sources.end => {
                    group.chunks = source.chunks(buffer_bytes);
                }
                _ => return self.finish(),
            }
        }
        Ok(Step::Worked(read + written))
    }

    /// Finishes the current group.
    fn finish(&mut self) -> io::Result<Step> {
        let Phase::Rewriting { current, .. } = &mut self.phase else {
            return Ok(Step::Done);
        };
        let Some(group) = current.take() else {
            return Ok(Step::Done);
        };
        let sources = self.job.sources.get(group.sources).unwrap_or_default();
        let modified_ms = match sources.last() {
            Some(last) => {
                let path = names::segment_file(&self.job.dir, last.base_offset, FileKind::Log);
                Some(self.job.storage.modified_ms(&path)?)
            }
            None => None,
        };
        let mut cleaned = group.cleaned;
        self.statistics.written_bytes += cleaned.write(1)?;
        Ok(Step::Replace(Box::new(Replacement {
            segment: cleaned.finish(&self.job, modified_ms)?,
            sources: sources.to_vec(),
            truncations: self.job.truncations,
        })))
    }
}

/// Puts the keys of a batch into the map; returns `false` when it is full.
fn index_batch(
    batch: &Batch<'_>,
    first_dirty: i64,
    transactions: &mut Transactions,
    map: &mut OffsetMap,
) -> io::Result<bool> {
    let header = batch.header();
    let needless = transactions.pass(header, marker_of(batch));
    if !needless && !header.attributes.is_control() {
        let records = unpack(batch, UNPACKED_BYTES_MAX).map_err(invalid)?;
        for found in views(header, &records) {
            let (view, _) = found.map_err(invalid)?;
            let offset = header
                .base_offset
                .saturating_add(i64::from(view.offset_delta));
            if let Some(key) = view.key.filter(|_| offset >= first_dirty)
                && !map.put(key, offset)
            {
                return Ok(false);
            }
        }
    }
    map.reaches(header.last_offset());
    Ok(true)
}

fn marker_of(batch: &Batch<'_>) -> Option<EndTxnMarker> {
    let is_control = batch.header().attributes.is_control();
    is_control.then(|| read_marker(batch.bytes())).flatten()
}

impl Source {
    fn chunks(&self, buffer_bytes: usize) -> Chunks {
        Chunks::new(&self.file, 0, self.size, buffer_bytes)
    }
}

impl Group {
    fn begin(job: &Job, sources: Range<usize>, buffer_bytes: usize) -> io::Result<Box<Self>> {
        let missing = || invalid("there are no segments to compact");
        let members = job.sources.get(sources.clone()).unwrap_or_default();
        let first = members.first().ok_or_else(missing)?;
        let last = members
            .iter()
            .rposition(|source| source.size > 0)
            .unwrap_or(0);
        Ok(Box::new(Self {
            number: sources.start,
            last: sources.start + last,
            chunks: first.chunks(buffer_bytes),
            cleaned: CleanedSegment::create(job, first.base_offset, buffer_bytes)?,
            sources,
        }))
    }
}
