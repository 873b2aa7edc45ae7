//! What is done to a partition directory before its log is opened: removes what was to be removed, and finishes or takes
//! back the swap of a compaction that a crash interrupted.
//!
//! A compaction writes `.cleaned` files, renames all of them to `.swap`, marks the segments that they replace as
//! `.deleted`, and takes the `.swap` from the names. So while one `.cleaned` file is there, the old segments are whole and
//! count; once all are `.swap`, the new one counts. The rules are those of Kafka's `LogLoader`, whose directories are
//! opened too.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::names::{self, FileKind};
use super::scan::{Scan, Scanned};
use crate::storage::Storage;

/// What a partition directory holds.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) logs: BTreeSet<i64>,
    pub(super) aborted: BTreeSet<i64>,
    pub(super) snapshots: BTreeSet<i64>,
    /// Whether files were renamed.
    pub(super) swapped: bool,
}

/// A segment file by its base offset and kind.
type SegmentFile = (i64, FileKind);

/// Tidies up and lists what is there then.
pub(super) fn tidy(storage: &dyn Storage, dir: &Path) -> io::Result<Listing> {
    let (mut cleaned, mut swaps, mut files) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for entry in storage.list(dir)?.into_iter().filter(|entry| !entry.is_dir) {
        let name = entry.name.as_str();
        let origin = |suffix| {
            let origin = name.strip_suffix(suffix)?;
            Some(names::parse_segment_file(origin))
        };
        if let Some(origin) = origin(names::CLEANED) {
            keep_or_remove(storage, &dir.join(name), origin, &mut cleaned)?;
        } else if let Some(origin) = origin(names::SWAP) {
            keep_or_remove(storage, &dir.join(name), origin, &mut swaps)?;
        } else if name.ends_with(names::DELETED) {
            storage.remove_file(&dir.join(name))?;
        } else {
            files.extend(names::parse_segment_file(name));
        }
    }
    take_back(storage, dir, &cleaned, &mut swaps)?;
    let swapped = !swaps.is_empty();
    finish(storage, dir, &swaps, &mut files)?;
    let listing = Listing {
        swapped,
        ..Listing::default()
    };
    list(storage, dir, files, listing)
}

/// Remembers a file of a compaction; removes it when its name says nothing.
fn keep_or_remove(
    storage: &dyn Storage,
    path: &Path,
    origin: Option<SegmentFile>,
    kept: &mut BTreeSet<SegmentFile>,
) -> io::Result<()> {
    match origin {
        Some(origin) => {
            kept.insert(origin);
            Ok(())
        }
        None => storage.remove_file(path),
    }
}

/// Removes the results of compactions that had not come far enough to count.
fn take_back(
    storage: &dyn Storage,
    dir: &Path,
    cleaned: &BTreeSet<SegmentFile>,
    swaps: &mut BTreeSet<SegmentFile>,
) -> io::Result<()> {
    let remove = |(offset, kind): SegmentFile, suffix| {
        let path = names::segment_file(dir, offset, kind);
        storage.remove_file(&names::with_suffix(&path, suffix))
    };
    if let Some((first, _)) = cleaned.first() {
        // The swap files first: they do not count because there are cleaned ones.
        for swap in swaps.split_off(&(*first, FileKind::Log)) {
            remove(swap, names::SWAP)?;
        }
    }
    cleaned
        .iter()
        .try_for_each(|file| remove(*file, names::CLEANED))
}

/// Removes the segments that a finished compaction replaces, and puts its result in their place.
fn finish(
    storage: &dyn Storage,
    dir: &Path,
    swaps: &BTreeSet<SegmentFile>,
    files: &mut Vec<SegmentFile>,
) -> io::Result<()> {
    let path = |(offset, kind): SegmentFile| names::segment_file(dir, offset, kind);
    let swap = |file| names::with_suffix(&path(file), names::SWAP);
    let (mut first, mut end) = (i64::MAX, i64::MIN);
    for (offset, kind) in swaps.iter().filter(|(_, kind)| *kind == FileKind::Log) {
        first = first.min(*offset);
        end = end.max(end_of(storage, &swap((*offset, *kind)), *offset)?);
    }
    for file in files.extract_if(.., |(offset, kind)| {
        *kind != FileKind::Snapshot && (first..end).contains(offset)
    }) {
        storage.remove_file(&path(file))?;
    }
    // By kind, the log first: while it is still a swap file, its other files would be taken for those it replaces.
    let mut swaps: Vec<SegmentFile> = swaps.iter().copied().collect();
    swaps.sort_by_key(|(offset, kind)| (*kind, *offset));
    for file in swaps {
        storage.rename(&swap(file), &path(file))?;
        files.push(file);
    }
    Ok(())
}

/// Returns the offset after the last batch of a segment file.
fn end_of(storage: &dyn Storage, path: &Path, base_offset: i64) -> io::Result<i64> {
    let file = storage.open(path, false)?;
    let mut scan = Scan::new(file.as_ref(), 0, file.len()?, base_offset);
    let mut end = base_offset;
    while let Scanned::Batch(_, header) = scan.next(i64::MAX)? {
        end = header.next_offset();
    }
    Ok(end)
}

/// Lists the files by kind; indexes without a log are removed.
fn list(
    storage: &dyn Storage,
    dir: &Path,
    files: Vec<SegmentFile>,
    mut listing: Listing,
) -> io::Result<Listing> {
    let of = |kind| {
        let files = files.iter().filter(move |file| file.1 == kind);
        files.map(|(offset, _)| *offset).collect::<BTreeSet<i64>>()
    };
    listing.logs = of(FileKind::Log);
    listing.snapshots = of(FileKind::Snapshot);
    for (offset, kind) in &files {
        if *kind != FileKind::Snapshot && !listing.logs.contains(offset) {
            storage.remove_file(&names::segment_file(dir, *offset, *kind))?;
        }
    }
    let aborted = of(FileKind::TxnIndex);
    listing.aborted = aborted.intersection(&listing.logs).copied().collect();
    Ok(listing)
}
