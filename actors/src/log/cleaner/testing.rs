//! Logs with keys, for the tests of this module.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::records::batch::{BatchHeader, assign_offset, batches};
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::compress::Compression;
use troupe_protocol::kafka::records::record::Record;

use super::{Cleaning, Job, Limits, Step};
use crate::log::testing::{BatchSpec, batch};
use crate::log::{Log, LogConfig, Start};
use crate::storage::Storage;

pub(super) const DIR: &str = "/data/topic-0";
pub(super) const DELETE_RETENTION_MS: i64 = 1_000;

pub(super) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 900,
        segment_index_bytes: 1200,
        index_interval_bytes: 100,
        cleanup_delete: false,
        cleanup_compact: true,
        delete_retention_ms: DELETE_RETENTION_MS,
        min_cleanable_dirty_ratio: 0.0,
        ..LogConfig::default()
    }
}

pub(super) fn limits() -> Limits {
    Limits {
        map_bytes: 1 << 20,
        load_factor: 0.9,
        buffer_bytes: 1000,
    }
}

/// Opens a log as a crash left it; `start` is the recovery point and the cleaner's offset.
pub(super) fn open(
    storage: Arc<dyn Storage>,
    config: LogConfig,
    (recovery_point, cleaned_to): (i64, i64),
    now_ms: i64,
) -> Log {
    let start = Start {
        recovery_point,
        log_start_offset: 0,
        cleaned_to,
        clean_shutdown: false,
    };
    Log::open(storage, Path::new(DIR), config, start, now_ms)
        .unwrap()
        .0
}

/// A batch of records with keys of one byte.
#[derive(Default)]
pub(super) struct KeyedBatch {
    pub(super) base_offset: i64,
    pub(super) timestamp: i64,
    pub(super) records: Vec<(u8, Option<Vec<u8>>)>,
    /// Id, epoch and base sequence.
    pub(super) producer: Option<(i64, i16, i32)>,
    pub(super) transactional: bool,
    /// Whether it is compressed.
    pub(super) packed: bool,
}

pub(super) fn append(log: &mut Log, spec: &KeyedBatch, now_ms: i64) {
    let codec = match spec.packed {
        true => Compression::Lz4,
        false => Compression::None,
    };
    let mut builder = BatchBuilder::new()
        .compression(codec)
        .transactional(spec.transactional);
    if let Some((id, epoch, sequence)) = spec.producer {
        builder = builder.producer(id, epoch, sequence);
    }
    for (offset, (key, value)) in (spec.base_offset..).zip(&spec.records) {
        builder
            .push(&Record {
                offset,
                timestamp: spec.timestamp,
                key: Some(Bytes::from(vec![*key])),
                value: value.clone().map(Bytes::from),
                headers: Vec::new(),
            })
            .unwrap();
    }
    let mut bytes = builder.build().unwrap();
    assign_offset(&mut bytes, spec.base_offset, 0);
    let header = BatchHeader::parse(&bytes).unwrap();
    log.append(&bytes, &header, now_ms).unwrap();
}

/// Appends records at the end of the log, each in a batch of its own.
pub(super) fn put(log: &mut Log, records: &[(u8, Option<&str>)], now_ms: i64) {
    for (key, value) in records {
        let spec = KeyedBatch {
            base_offset: log.log_end_offset(),
            timestamp: now_ms,
            records: vec![(*key, value.map(|value| value.as_bytes().to_vec()))],
            ..KeyedBatch::default()
        };
        append(log, &spec, now_ms);
    }
}

pub(super) fn append_marker(log: &mut Log, producer: i64, commit: bool, now_ms: i64) {
    let spec = BatchSpec {
        base_offset: log.log_end_offset(),
        timestamp: now_ms,
        producer: Some((producer, 0, -1)),
        transactional: true,
        control: true,
        commit,
        ..BatchSpec::default()
    };
    let bytes = batch(&spec);
    let header = BatchHeader::parse(&bytes).unwrap();
    log.append(&bytes, &header, now_ms).unwrap();
}

pub(super) fn begin(log: &mut Log, now_ms: i64) -> Option<Job> {
    let end = log.log_end_offset();
    let stable = log.last_stable_offset(end);
    log.begin_cleaning(now_ms, stable).unwrap()
}

/// Compacts once, as far as the memory goes; `false` when there was nothing to do.
pub(super) fn clean(log: &mut Log, limits: Limits, now_ms: i64) -> io::Result<bool> {
    let Some(job) = begin(log, now_ms) else {
        return Ok(false);
    };
    let mut cleaning = Cleaning::new(job, limits)?;
    loop {
        match cleaning.step()? {
            Step::Worked(_) => {}
            Step::Replace(replacement) => {
                log.replace_segments(replacement)
                    .map_err(io::Error::other)?;
            }
            Step::Done => {
                log.cleaned(cleaning.cleaned_to());
                return Ok(true);
            }
        }
    }
}

/// Returns the headers of all batches.
pub(super) fn headers(log: &Log) -> Vec<BatchHeader> {
    let (mut headers, mut next) = (Vec::new(), log.log_start_offset());
    let end = log.log_end_offset();
    while let Some(slice) = log.read(next, 700, end, true).unwrap() {
        let bytes = slice.slice.read().unwrap();
        for batch in batches(&bytes) {
            let header = *batch.unwrap().header();
            assert!(header.last_offset() >= next, "a read goes on");
            next = header.next_offset();
            headers.push(header);
        }
    }
    assert_eq!(next, end, "a reader comes to the end");
    headers
}

/// Reads the log as a read_committed consumer does: offset, key and value of each record of data.
pub(super) fn read(log: &Log) -> Vec<(i64, Option<u8>, Option<Vec<u8>>)> {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let mut aborted = log.aborted_transactions(start, end);
    let (mut found, mut next, mut skipped) = (Vec::new(), start, Vec::new());
    while let Some(slice) = log.read(next, 700, end, true).unwrap() {
        let bytes = slice.slice.read().unwrap();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            let header = batch.header();
            next = header.next_offset();
            while let Some(first) = aborted.first().filter(|first| first.first_offset < next) {
                skipped.push(first.producer_id);
                aborted.remove(0);
            }
            if header.attributes.is_control() {
                let records: Vec<Record> =
                    batch.records(1000).unwrap().map(Result::unwrap).collect();
                if records
                    .first()
                    .is_some_and(|marker| marker.key.as_deref() == Some(&[0, 0, 0, 0]))
                {
                    skipped.retain(|id| *id != header.producer_id);
                }
                continue;
            }
            if header.attributes.is_transactional() && skipped.contains(&header.producer_id) {
                continue;
            }
            for record in batch.records(1 << 20).unwrap().map(Result::unwrap) {
                let key = record.key.and_then(|key| key.first().copied());
                found.push((record.offset, key, record.value.map(|value| value.to_vec())));
            }
        }
    }
    found
}
