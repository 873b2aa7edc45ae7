//! The whole log, by example.

use troupe_protocol::kafka::records::batch::BatchHeader;

use super::testing::{BatchSpec, batch};
use super::*;
use crate::storage::memory::{Crash, MemoryStorage};

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
            cleaned_to: 0,
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

fn offsets(range: Option<Range>) -> Vec<(i64, i64)> {
    let bytes = range.map_or_else(Vec::new, |range| range.slice.read().unwrap());
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

#[test]
fn an_expired_active_segment_goes_too() {
    let config = LogConfig {
        retention_ms: 100,
        ..small()
    };
    let (mut log, _) = Rig::new(config).open();
    for timestamp in [1_000, 1_050] {
        append(
            &mut log,
            BatchSpec {
                timestamp,
                ..BatchSpec::default()
            },
        );
    }
    assert!(log.delete_expired(1_150, 2).unwrap().deleted.is_empty());
    assert!(
        log.delete_expired(9_999, 1).unwrap().deleted.is_empty(),
        "only below the high watermark"
    );
    let expired = log.delete_expired(1_151, 2).unwrap();
    assert_eq!(expired.deleted.len(), 1);
    assert_eq!(expired.deleted[0].reason, Reason::Time);
    assert!(
        expired.deleted[0]
            .files
            .iter()
            .all(|file| file.to_str().unwrap().ends_with(".deleted"))
    );
    assert_eq!(
        (
            log.log_start_offset(),
            log.log_end_offset(),
            log.segment_count()
        ),
        (2, 2, 1)
    );
    append(
        &mut log,
        BatchSpec {
            timestamp: 2_000,
            ..BatchSpec::default()
        },
    );
    assert_eq!(log.log_end_offset(), 3);
}

#[test]
fn a_timestamp_in_the_future_is_named_as_the_reason_to_keep() {
    let (mut log, _) = Rig::new(LogConfig {
        retention_ms: 100,
        ..small()
    })
    .open();
    append(
        &mut log,
        BatchSpec {
            timestamp: 5_000,
            ..BatchSpec::default()
        },
    );
    let expired = log.delete_expired(2_000, 1).unwrap();
    assert!(expired.deleted.is_empty());
    assert_eq!(expired.kept_for_future_timestamp, Some((0, 5_000)));
}

#[test]
fn without_the_delete_policy_only_what_lies_below_the_start_goes() {
    let config = LogConfig {
        retention_ms: 1,
        retention_bytes: 0,
        cleanup_delete: false,
        ..small()
    };
    let (mut log, _) = Rig::new(config).open();
    for _ in 0..9 {
        append(
            &mut log,
            BatchSpec {
                value_len: 200,
                ..BatchSpec::default()
            },
        );
    }
    assert!(log.delete_expired(99_999, 9).unwrap().deleted.is_empty());
    assert!(log.raise_log_start(4).unwrap());
    let deleted = log.delete_expired(99_999, 9).unwrap().deleted;
    assert_eq!(
        deleted
            .iter()
            .map(|segment| segment.reason)
            .collect::<Vec<_>>(),
        [Reason::LogStart]
    );
    assert_eq!(log.log_start_offset(), 4);
}

#[test]
fn rolls_by_time() {
    let (mut log, _) = Rig::new(LogConfig {
        segment_ms: 100,
        ..small()
    })
    .open();
    let mut at = |timestamp| {
        append(
            &mut log,
            BatchSpec {
                timestamp,
                ..BatchSpec::default()
            },
        )
        .rolled
    };
    assert_eq!(
        [at(1_000), at(1_100), at(1_101), at(1_050)],
        [false, false, true, false]
    );
}

#[test]
fn offsets_before_a_time_descend() {
    let rig = Rig::new(small());
    let (mut log, _) = rig.open();
    for number in 0..9 {
        rig.storage.set_now_ms(1_000 + number);
        append(
            &mut log,
            BatchSpec {
                value_len: 200,
                ..BatchSpec::default()
            },
        );
    }
    let before = |timestamp, max_num| log.offsets_before(timestamp, 9, max_num, 5_000).unwrap();
    assert_eq!(before(-1, 10), [9, 6, 3, 0]);
    assert_eq!(before(-1, 1), [9]);
    assert_eq!(before(-2, 10), [0]);
    assert_eq!(before(1_005, 10), [3, 0]);
    assert_eq!(before(1_001, 10), [] as [i64; 0]);
    assert_eq!(before(6_000, 2), [9, 6]);
}

#[test]
fn the_largest_timestamp_is_found() {
    let (mut log, _) = Rig::new(small()).open();
    assert_eq!(log.max_timestamp().unwrap(), None);
    for timestamp in [1_000, 3_000, 2_000] {
        append(
            &mut log,
            BatchSpec {
                timestamp,
                count: 3,
                leader_epoch: 2,
                ..BatchSpec::default()
            },
        );
    }
    let expected = TimestampOffset {
        timestamp: 3_002,
        offset: 5,
        leader_epoch: 2,
    };
    assert_eq!(log.max_timestamp().unwrap(), Some(expected));
}

#[test]
fn aborted_transactions_outlive_a_crash() {
    let rig = Rig::new(small());
    let (mut log, _) = rig.open();
    let data = BatchSpec {
        producer: Some((7, 0, 0)),
        transactional: true,
        ..BatchSpec::default()
    };
    append(&mut log, data.clone());
    append(&mut log, BatchSpec::default());
    assert_eq!(log.last_stable_offset(2), 0);
    append(
        &mut log,
        BatchSpec {
            producer: Some((7, 0, -1)),
            control: true,
            ..data
        },
    );
    assert_eq!(
        (log.last_stable_offset(2), log.last_stable_offset(3)),
        (0, 3)
    );
    let expected = [AbortedTransaction {
        producer_id: 7,
        first_offset: 0,
        last_offset: 2,
        last_stable_offset: 3,
    }];
    assert_eq!(log.aborted_transactions(0, 3), expected);
    assert!(log.aborted_transactions(3, 9).is_empty());
    drop(log);
    rig.storage
        .remove_file(&Path::new(DIR).join("00000000000000000000.txnindex"))
        .unwrap();
    let (mut log, _) = rig.open();
    assert_eq!(log.aborted_transactions(0, 3), expected);
    assert_eq!(log.last_stable_offset(3), 3);
}

#[test]
fn messages_of_older_formats_are_left_alone() {
    let rig = Rig::new(small());
    // Magic 0, CRC-32 of the rest, attributes 0, null key, the value "a".
    let body = [0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, b'a'];
    let crc = crc32_of(&body);
    let message = [&[0; 11][..], &[15], &crc, &body].concat();
    let path = Path::new(DIR).join("00000000000000000000.log");
    rig.storage
        .open(&path, true)
        .unwrap()
        .write_all_at(&message, 0)
        .unwrap();
    let opened = Log::open(
        Arc::new(rig.storage.clone()),
        Path::new(DIR),
        small(),
        rig.start,
        0,
    );
    assert_eq!(opened.err().unwrap().kind(), io::ErrorKind::InvalidData);
    assert_eq!(rig.storage.read(&path).unwrap(), message);
}

fn crc32_of(bytes: &[u8]) -> [u8; 4] {
    assert_eq!(
        recovery::crc32(b"123456789"),
        0xcbf4_3926,
        "the check value of CRC-32"
    );
    recovery::crc32(bytes).to_be_bytes()
}

#[test]
fn a_close_does_not_rely_on_a_flush_that_is_under_way() {
    let mut rig = Rig::new(small());
    let (mut log, _) = rig.open();
    for _ in 0..20 {
        append(&mut log, BatchSpec::default());
    }
    let end = log.log_end_offset();
    let _never_synced = log.begin_flush().unwrap();
    log.close().unwrap();
    rig.storage.crash(Crash::Machine { keep: 0 });
    rig.start.clean_shutdown = true;
    let (log, _) = rig.open();
    assert_eq!(log.log_end_offset(), end);
}

#[test]
fn batches_appended_together_make_the_same_files_as_one_by_one() {
    let config = LogConfig {
        segment_bytes: 3_000,
        index_interval_bytes: 200,
        // Full after four entries.
        segment_index_bytes: 48,
        segment_ms: 50,
        ..LogConfig::default()
    };
    let specs: Vec<_> = (0..60)
        .map(|number: i64| BatchSpec {
            base_offset: number * 3 + number / 7,
            count: 3,
            // Some jump ahead, which closes a segment by age.
            timestamp: 1_000 + number + 60 * (number / 11),
            leader_epoch: i32::try_from(number / 13).unwrap(),
            value_len: 10 + usize::try_from(number * 37 % 250).unwrap(),
            producer: Some((number % 3, 0, i32::try_from(number / 3 * 3).unwrap())),
            transactional: number % 3 == 1,
            control: false,
            ..BatchSpec::default()
        })
        .collect();
    let files = |together: usize| {
        let rig = Rig::new(config.clone());
        let mut log = rig.open().0;
        for specs in specs.chunks(together) {
            let (mut bytes, mut headers) = (Vec::new(), Vec::new());
            for spec in specs {
                let batch = batch(spec);
                headers.push(BatchHeader::parse(&batch).unwrap());
                bytes.extend(batch);
            }
            log.append_all(&bytes, &headers, 1_000).unwrap();
        }
        assert!(log.segment_count() > 10, "{}", log.segment_count());
        log.close().unwrap();
        let paths = rig.storage.paths().into_iter();
        let files: Vec<_> = paths
            .map(|path| (path.clone(), rig.storage.read(&path).unwrap()))
            .collect();
        files
    };
    let one_by_one = files(1);
    for together in [2, 7, 60] {
        assert_eq!(files(together), one_by_one, "{together} together");
    }
}

#[test]
fn an_epoch_without_records_is_cut_off_with_nothing_else() {
    let rig = Rig::new(LogConfig::default());
    let mut log = rig.open().0;
    append(&mut log, BatchSpec::default());
    log.assign_epoch(4).unwrap();
    assert_eq!(log.end_offset_for_epoch(4), (4, 1));
    assert_eq!(log.truncate_to(2).unwrap(), 1);
    assert_eq!(log.end_offset_for_epoch(4), (4, 1), "it begins before");
    assert_eq!(log.truncate_to(1).unwrap(), 1);
    assert_eq!(log.epochs().latest().unwrap().epoch, 0);
}
