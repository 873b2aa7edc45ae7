//! The whole log, by example.

use super::testing::{BatchSpec, batch};
use super::*;
use crate::storage::memory::MemoryStorage;

const DIR: &str = "/data/topic-0";

struct Rig {
    storage: MemoryStorage,
    config: LogConfig,
    start: Start,
}

impl Rig {
    fn new(config: LogConfig) -> Self {
        let start = Start {
            recovery_point: 0,
            log_start_offset: 0,
            clean_shutdown: false,
        };
        Self {
            storage: MemoryStorage::new(),
            config,
            start,
        }
    }

    fn open(&self) -> (Log, Recovery) {
        let storage = Arc::new(self.storage.clone());
        Log::open(storage, Path::new(DIR), self.config.clone(), self.start, 0).unwrap()
    }
}

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        segment_index_bytes: 1200,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

fn append(log: &mut Log, spec: BatchSpec) -> Appended {
    let spec = BatchSpec {
        base_offset: log.log_end_offset(),
        ..spec
    };
    let bytes = batch(&spec);
    log.append(&bytes, &BatchHeader::parse(&bytes).unwrap(), spec.timestamp)
        .unwrap()
}

fn offsets(slice: Option<crate::storage::FileSlice>) -> Vec<(i64, i64)> {
    let bytes = slice.map_or_else(Vec::new, |slice| slice.read().unwrap());
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let header = *Batch::parse(rest).unwrap().header();
        found.push((header.base_offset, header.last_offset()));
        rest = &rest[header.size..];
    }
    found
}

#[test]
fn what_was_appended_is_read() {
    let (mut log, _) = Rig::new(small()).open();
    for count in [3, 1, 2] {
        append(
            &mut log,
            BatchSpec {
                count,
                ..BatchSpec::default()
            },
        );
    }
    assert_eq!(log.log_end_offset(), 6);
    let read =
        |offset, max_bytes, bound, one| offsets(log.read(offset, max_bytes, bound, one).unwrap());
    assert_eq!(read(0, 10_000, 6, false), [(0, 2), (3, 3), (4, 5)]);
    assert_eq!(read(2, 10_000, 6, false), [(0, 2), (3, 3), (4, 5)]);
    assert_eq!(read(3, 10_000, 6, false), [(3, 3), (4, 5)]);
    assert_eq!(
        read(3, 10_000, 5, false),
        [(3, 3)],
        "the last batch is not wholly below the bound"
    );
    assert_eq!(read(0, 10_000, 3, false), [(0, 2)]);
    assert_eq!(read(0, 10_000, 2, true), []);
    assert_eq!(read(3, 1, 6, true), [(3, 3)]);
    assert_eq!(read(3, 1, 6, false), []);
    assert_eq!(read(6, 10_000, 6, true), []);
    assert!(matches!(
        log.read(7, 1, 7, true),
        Err(ReadError::OutOfRange)
    ));
    assert!(matches!(
        log.read(-1, 1, 7, true),
        Err(ReadError::OutOfRange)
    ));
}

#[test]
fn rolls_by_bytes() {
    let (mut log, _) = Rig::new(small()).open();
    let rolled: Vec<bool> = (0..9)
        .map(|_| {
            append(
                &mut log,
                BatchSpec {
                    value_len: 200,
                    ..BatchSpec::default()
                },
            )
            .rolled
        })
        .collect();
    assert_eq!(rolled.iter().filter(|rolled| **rolled).count(), 2);
    assert_eq!(log.segment_count(), 3);
    assert_eq!(
        offsets(log.read(2, 10_000, 9, true).unwrap()),
        [(2, 2)],
        "a read stays in its segment"
    );
}
