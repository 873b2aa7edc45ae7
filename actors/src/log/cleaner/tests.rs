//! Compaction by example.

use std::path::Path;

use super::testing::*;
use super::*;
use crate::log::Log;
use crate::log::names::{self, FileKind};
use crate::storage::memory::{Crash, MemoryStorage};

const NOW: i64 = 1_000_000;

fn fresh() -> (MemoryStorage, Log) {
    let storage = MemoryStorage::new();
    let log = open(Arc::new(storage.clone()), config(), (0, 0), NOW);
    (storage, log)
}

fn long(text: &str) -> String {
    text.repeat(40)
}

/// Fills the log until it has `segments` more.
fn fill(log: &mut Log, segments: usize, now_ms: i64) {
    let wanted = log.segment_count() + segments;
    while log.segment_count() < wanted {
        put(log, &[(b'f', Some(&long("fill")))], now_ms);
    }
}

fn keys(log: &Log) -> Vec<(i64, u8)> {
    read(log)
        .into_iter()
        .map(|(offset, key, _)| (offset, key.unwrap()))
        .collect()
}

#[test]
fn of_each_key_the_last_record_stays_where_it_was() {
    let (_, mut log) = fresh();
    put(
        &mut log,
        &[(b'a', Some("1")), (b'b', Some("2")), (b'a', Some("3"))],
        NOW,
    );
    fill(&mut log, 1, NOW);
    let end = log.log_end_offset();
    assert!(clean(&mut log, limits(), NOW).unwrap());
    let found = read(&log);
    assert_eq!(found[0], (1, Some(b'b'), Some(b"2".to_vec())));
    assert_eq!(found[1], (2, Some(b'a'), Some(b"3".to_vec())));
    assert_eq!(found.last().unwrap().0, end - 1);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, end));
    assert!(!clean(&mut log, limits(), NOW).unwrap(), "once is enough");
}

#[test]
fn small_segments_become_one_up_to_the_limit() {
    let (storage, mut log) = fresh();
    fill(&mut log, 10, NOW);
    let before = log.segment_count();
    clean(&mut log, limits(), NOW).unwrap();
    let after = log.segment_count();
    assert_eq!(after, before, "whole segments fit nowhere");
    // What is left of each is one record at most.
    fill(&mut log, 1, NOW);
    clean(&mut log, limits(), NOW).unwrap();
    assert!(log.segment_count() <= 4, "{}", log.segment_count());
    assert_eq!(
        headers(&log)
            .iter()
            .filter(|header| header.record_count > 0)
            .count(),
        2
    );
    let left = storage.paths().into_iter().filter(|path| {
        let name = path.to_str().unwrap();
        name.ends_with(names::CLEANED) || name.ends_with(names::SWAP)
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn a_tombstone_goes_after_its_time_and_not_before() {
    let (_, mut log) = fresh();
    put(&mut log, &[(b'a', Some("1")), (b'a', None)], NOW);
    fill(&mut log, 1, NOW);
    let has_tombstone = |log: &Log| keys(log).contains(&(1, b'a'));
    clean(&mut log, limits(), NOW).unwrap();
    assert_eq!(
        keys(&log)[0],
        (1, b'a'),
        "the value is gone, the tombstone is there"
    );
    let horizon = |log: &Log| {
        headers(log)
            .iter()
            .find_map(|header| header.delete_horizon_ms())
    };
    assert_eq!(horizon(&log), Some(NOW + DELETE_RETENTION_MS));
    let almost = NOW + DELETE_RETENTION_MS - 1;
    fill(&mut log, 1, almost);
    clean(&mut log, limits(), almost).unwrap();
    assert!(has_tombstone(&log));
    assert_eq!(
        horizon(&log),
        Some(NOW + DELETE_RETENTION_MS),
        "it does not move"
    );
    fill(&mut log, 1, almost + 1);
    clean(&mut log, limits(), almost + 1).unwrap();
    assert!(!has_tombstone(&log));
    assert!(!keys(&log).iter().any(|(_, key)| *key == b'a'));
}

#[test]
fn aborted_data_goes_first_its_marker_after_its_time() {
    let (_, mut log) = fresh();
    let transactional = |log: &mut Log, producer, key| {
        let spec = KeyedBatch {
            base_offset: log.log_end_offset(),
            timestamp: NOW,
            records: vec![(key, Some(b"value".to_vec()))],
            producer: Some((producer, 0, 0)),
            transactional: true,
            packed: false,
        };
        append(log, &spec, NOW);
    };
    put(&mut log, &[(b'a', Some("committed before"))], NOW);
    transactional(&mut log, 7, b'a');
    transactional(&mut log, 8, b'b');
    append_marker(&mut log, 7, false, NOW);
    append_marker(&mut log, 8, true, NOW);
    // Both producers go on, so that nothing of this is the last of theirs.
    for producer in [7, 8] {
        put(&mut log, &[(b'x', Some("x"))], NOW);
        let spec = KeyedBatch {
            base_offset: log.log_end_offset(),
            timestamp: NOW,
            records: vec![(b'y', Some(b"y".to_vec()))],
            producer: Some((producer, 0, 1)),
            ..KeyedBatch::default()
        };
        append(&mut log, &spec, NOW);
    }
    let controls = |log: &Log| {
        headers(log)
            .iter()
            .filter(|header| header.attributes.is_control())
            .count()
    };
    fill(&mut log, 1, NOW);
    clean(&mut log, limits(), NOW).unwrap();
    assert_eq!(&keys(&log)[..2], [(0, b'a'), (2, b'b')]);
    assert_eq!(
        (controls(&log), log.aborted_transactions(0, 100).len()),
        (2, 1)
    );
    // The data is gone: from now on the marker waits.
    fill(&mut log, 1, NOW);
    clean(&mut log, limits(), NOW).unwrap();
    assert_eq!(
        (controls(&log), log.aborted_transactions(0, 100).len()),
        (2, 0)
    );
    let later = NOW + DELETE_RETENTION_MS;
    fill(&mut log, 1, later - 1);
    clean(&mut log, limits(), later - 1).unwrap();
    assert_eq!(controls(&log), 2);
    fill(&mut log, 1, later);
    clean(&mut log, limits(), later).unwrap();
    assert_eq!(controls(&log), 1, "the marker of what is there stays");
    assert_eq!(&keys(&log)[..2], [(0, b'a'), (2, b'b')]);
}

#[test]
fn an_open_transaction_keeps_what_follows_from_being_compacted() {
    let (_, mut log) = fresh();
    put(&mut log, &[(b'a', Some("1")), (b'a', Some("2"))], NOW);
    fill(&mut log, 1, NOW);
    let spec = KeyedBatch {
        base_offset: log.log_end_offset(),
        timestamp: NOW,
        records: vec![(b'a', Some(b"open".to_vec()))],
        producer: Some((7, 0, 0)),
        transactional: true,
        packed: false,
    };
    let opened = log.log_end_offset();
    append(&mut log, &spec, NOW);
    fill(&mut log, 3, NOW);
    clean(&mut log, limits(), NOW).unwrap();
    assert!(log.cleaned_to() <= opened);
    assert!(
        !keys(&log).contains(&(0, b'a')),
        "what lies before is compacted"
    );
    append_marker(&mut log, 7, true, NOW);
    fill(&mut log, 1, NOW);
    clean(&mut log, limits(), NOW).unwrap();
    assert!(!keys(&log).contains(&(1, b'a')));
}

#[test]
fn the_last_sequence_of_a_producer_outlives_its_records() {
    let (storage, mut log) = fresh();
    let spec = KeyedBatch {
        base_offset: 0,
        timestamp: NOW,
        records: vec![(b'a', Some(b"1".to_vec())), (b'b', Some(b"2".to_vec()))],
        producer: Some((7, 3, 40)),
        ..KeyedBatch::default()
    };
    append(&mut log, &spec, NOW);
    put(&mut log, &[(b'a', Some("3")), (b'b', Some("4"))], NOW);
    fill(&mut log, 2, NOW);
    clean(&mut log, limits(), NOW).unwrap();
    let first = headers(&log)[0];
    assert_eq!(
        (first.record_count, first.base_offset, first.last_offset()),
        (0, 0, 1)
    );
    drop(log);
    for path in storage.paths() {
        if path.extension().is_some_and(|kind| kind == "snapshot") {
            storage.remove_file(&path).unwrap();
        }
    }
    let log = open(Arc::new(storage), config(), (0, 0), NOW);
    let producer = log.producers().get(7).unwrap();
    assert_eq!((producer.epoch, producer.last_sequence()), (3, 41));
}

#[test]
fn little_memory_takes_more_rounds() {
    let (_, mut log) = fresh();
    for round in 0..4 {
        for key in 0..30 {
            put(&mut log, &[(key, Some(&round.to_string()))], NOW);
        }
    }
    fill(&mut log, 1, NOW);
    let few = Limits {
        map_bytes: 24 * 8,
        ..limits()
    };
    let mut rounds = 0;
    while clean(&mut log, few, NOW).unwrap() {
        rounds += 1;
    }
    assert!(rounds > 5, "{rounds}");
    let found = keys(&log);
    for key in 0..30 {
        let offsets: Vec<i64> = found
            .iter()
            .filter(|record| record.1 == key)
            .map(|record| record.0)
            .collect();
        assert_eq!(offsets, [90 + i64::from(key)], "{key}");
    }
}

#[test]
fn a_reader_finishes_what_it_began_before_the_swap() {
    let (storage, mut log) = fresh();
    fill(&mut log, 3, NOW);
    let end = log.log_end_offset();
    let slice = log.read(0, 10_000, end, true).unwrap().unwrap();
    let before = slice.slice.read().unwrap();
    let files = {
        let job = begin(&mut log, NOW).unwrap();
        let mut cleaning = Cleaning::new(job, limits()).unwrap();
        loop {
            if let Step::Replace(replacement) = cleaning.step().unwrap() {
                break log.replace_segments(replacement).unwrap();
            }
        }
    };
    assert!(!files.is_empty());
    for file in files {
        assert!(file.to_str().unwrap().ends_with(names::DELETED));
        storage.remove_file(&file).unwrap();
    }
    assert_eq!(slice.slice.read().unwrap(), before);
    let after = log.read(0, 10_000, end, true).unwrap().unwrap();
    assert!(after.slice.read().unwrap().len() < before.len());
}

#[test]
fn segments_that_changed_are_not_replaced() {
    let (storage, mut log) = fresh();
    fill(&mut log, 3, NOW);
    let job = begin(&mut log, NOW).unwrap();
    let mut cleaning = Cleaning::new(job, limits()).unwrap();
    let replacement = loop {
        if let Step::Replace(replacement) = cleaning.step().unwrap() {
            break replacement;
        }
    };
    let end = log.truncate_to(log.log_end_offset() - 1).unwrap();
    let error = log.replace_segments(replacement).unwrap_err();
    assert!(matches!(error, SwapError::Changed));
    assert_eq!(log.log_end_offset(), end);
    assert!(!log.is_failed());
    drop(cleaning);
    let left = storage
        .paths()
        .into_iter()
        .find(|path| path.to_str().unwrap().ends_with(names::CLEANED));
    assert_eq!(left, None);
}

/// Compacts up to the swap and leaves the result as `.swap` files beside the originals.
fn swapped(storage: &MemoryStorage) -> Log {
    let mut log = open(Arc::new(storage.clone()), config(), (0, 0), NOW);
    fill(&mut log, 3, NOW);
    let job = begin(&mut log, NOW).unwrap();
    let mut cleaning = Cleaning::new(job, limits()).unwrap();
    let mut replacement = loop {
        if let Step::Replace(replacement) = cleaning.step().unwrap() {
            break replacement;
        }
    };
    replacement.segment.rename(names::SWAP).unwrap();
    log
}

#[test]
fn a_swap_that_counts_is_finished_although_nothing_else_was_done() {
    let storage = MemoryStorage::new();
    let log = swapped(&storage);
    let (before, segments) = (keys(&log), log.segment_count());
    drop(log);
    let log = open(Arc::new(storage), config(), (0, 0), NOW);
    assert!(keys(&log).len() < before.len());
    assert_eq!(log.segment_count(), segments);
    assert_eq!(keys(&log).last(), before.last());
}

#[test]
fn a_swap_that_does_not_count_yet_is_taken_back() {
    let storage = MemoryStorage::new();
    let log = swapped(&storage);
    let before = keys(&log);
    drop(log);
    let index = names::segment_file(Path::new(DIR), 0, FileKind::Index);
    let (swap, cleaned) = (
        names::with_suffix(&index, names::SWAP),
        names::with_suffix(&index, names::CLEANED),
    );
    storage.rename(&swap, &cleaned).unwrap();
    let log = open(Arc::new(storage.clone()), config(), (0, 0), NOW);
    assert_eq!(keys(&log), before);
    let left = storage.paths().into_iter().find(|path| {
        let name = path.to_str().unwrap();
        name.ends_with(names::CLEANED) || name.ends_with(names::SWAP)
    });
    assert_eq!(left, None);
}

#[test]
fn a_corrupt_batch_is_found_and_nothing_is_changed() {
    let (storage, mut log) = fresh();
    fill(&mut log, 3, NOW);
    let path = names::segment_file(Path::new(DIR), 0, FileKind::Log);
    storage.tamper(&path, |bytes| bytes[100] ^= 1);
    let before = storage.paths();
    let error = clean(&mut log, limits(), NOW).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    assert_eq!(storage.paths(), before);
    assert!(!log.is_failed());
}

#[test]
fn indexes_of_what_was_compacted_are_right() {
    let (storage, mut log) = fresh();
    for round in 0..10 {
        for key in 0..40 {
            put(
                &mut log,
                &[(key, Some(&long("v")))],
                NOW + round * 100 + i64::from(key),
            );
        }
    }
    clean(&mut log, limits(), NOW).unwrap();
    let check = |log: &Log| {
        let end = log.log_end_offset();
        for header in headers(log) {
            let slice = log.read(header.base_offset, 1, end, true).unwrap().unwrap();
            let bytes = slice.slice.read().unwrap();
            let found = troupe_protocol::kafka::records::batch::BatchHeader::parse(&bytes).unwrap();
            assert_eq!(found, header);
            if header.record_count > 0 {
                let found = log
                    .offset_for_timestamp(header.max_timestamp, end)
                    .unwrap()
                    .unwrap();
                assert_eq!(
                    (found.timestamp, found.offset),
                    (header.max_timestamp, header.last_offset())
                );
            }
        }
        assert_eq!(log.max_timestamp().unwrap().unwrap().offset, end - 1);
    };
    check(&log);
    // What the files say is what is in memory.
    let flush = log.begin_flush().unwrap();
    flush.sync().unwrap();
    log.flushed(&flush);
    let (recovery_point, count) = (log.recovery_point(), log.segment_count());
    drop(log);
    storage.crash(Crash::Machine { keep: 0 });
    let log = open(Arc::new(storage), config(), (recovery_point, 0), NOW);
    assert_eq!(log.segment_count(), count);
    check(&log);
}

#[test]
fn a_log_is_due_by_ratio_and_by_age() {
    let (_, mut log) = fresh();
    fill(&mut log, 4, NOW);
    let stable = log.log_end_offset();
    let cleanable = |log: &mut Log, now_ms| log.cleanable(now_ms, stable).unwrap().unwrap();
    let all = cleanable(&mut log, NOW);
    assert_eq!(
        (all.clean_bytes, all.dirty_ratio(), all.overdue),
        (0, 1.0, false)
    );
    assert!(all.is_due());
    clean(&mut log, limits(), NOW).unwrap();
    let none = cleanable(&mut log, NOW);
    assert_eq!((none.dirty_bytes, none.is_due()), (0, false));
    assert!(none.clean_bytes > 0);
    fill(&mut log, 1, NOW);
    log.update_config(LogConfig {
        min_cleanable_dirty_ratio: 0.99,
        max_compaction_lag_ms: 50,
        ..config()
    });
    let stable = log.log_end_offset();
    let cleanable = |log: &mut Log, now_ms| log.cleanable(now_ms, stable).unwrap().unwrap();
    assert!(!cleanable(&mut log, NOW + 50).is_due());
    assert!(cleanable(&mut log, NOW + 51).is_due());
    log.update_config(LogConfig {
        min_compaction_lag_ms: 30,
        ..config()
    });
    assert_eq!(cleanable(&mut log, NOW + 29).dirty_bytes, 0, "too young");
    assert!(cleanable(&mut log, NOW + 30).dirty_bytes > 0);
    log.update_config(LogConfig {
        cleanup_compact: false,
        ..config()
    });
    assert_eq!(log.cleanable(NOW, stable).unwrap(), None);
}

#[test]
fn a_checkpoint_that_cannot_be_right_means_everything_is_dirty() {
    let (storage, mut log) = fresh();
    fill(&mut log, 3, NOW);
    let end = log.log_end_offset();
    drop(log);
    for cleaned_to in [-5, 0, end + 1] {
        let mut log = open(Arc::new(storage.clone()), config(), (0, cleaned_to), NOW);
        assert_eq!(
            begin(&mut log, NOW).unwrap().first_dirty(),
            0,
            "{cleaned_to}"
        );
    }
}
