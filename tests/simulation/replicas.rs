//! What is on the disks of the brokers.

use std::path::{Path, PathBuf};

use troupe_actors::storage::Storage;
use troupe_actors::storage::memory::MemoryStorage;
use troupe_protocol::kafka::records::batch::batches;

use crate::history::{Id, Partition};
use crate::records;

/// The log of one replica: all its segments together.
pub fn log(disk: &MemoryStorage, partition: &Partition) -> Vec<u8> {
    let dir = PathBuf::from(format!("/logs/{partition}"));
    let is_segment = |path: &Path| {
        path.parent() == Some(&dir) && path.extension().is_some_and(|kind| kind == "log")
    };
    let mut segments = disk.paths();
    segments.retain(|path| is_segment(path));
    segments.sort();
    let read = |path: PathBuf| disk.read(&path).expect("it is there");
    segments.into_iter().flat_map(read).collect()
}

/// The records of a log that are no markers, with their offsets and epochs.
pub fn ids(log: &[u8]) -> Vec<(i64, Id, i32)> {
    let read = records::records(log.to_vec().into());
    let data = read.into_iter().filter(|record| !record.control);
    let ids = data.filter_map(|record| {
        let id = Id::of(record.value.as_deref()?)?;
        Some((record.offset, id, record.partition_leader_epoch))
    });
    ids.collect()
}

/// Says where two logs part.
pub fn difference(one: &[u8], other: &[u8]) -> String {
    let headers = |log: &[u8]| -> Vec<String> {
        let headers = batches(log).map_while(Result::ok).map(|batch| {
            let header = batch.header();
            let (first, last) = (header.base_offset, header.last_offset());
            let (epoch, producer) = (header.leader_epoch, header.producer_id);
            let sequence = header.base_sequence;
            format!("{first}..={last} of epoch {epoch}, producer {producer} from {sequence}")
        });
        headers.collect()
    };
    let (one, other) = (headers(one), headers(other));
    let same = one
        .iter()
        .zip(&other)
        .take_while(|(one, other)| one == other);
    let same = same.count();
    let end = "the end".to_owned();
    let (one, other) = (one.get(same), other.get(same));
    format!(
        "after {same} equal batches: {} and {}",
        one.unwrap_or(&end),
        other.unwrap_or(&end)
    )
}
