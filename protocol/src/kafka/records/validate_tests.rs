//! What a broker accepts from producers.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::batch::{
    Batch, BatchHeader, HEADER_LEN, TimestampType, assign_offset, set_log_append_time, update_crc,
};
use super::builder::BatchBuilder;
use super::compress::{Compression, compress};
use super::record::Record;
use super::tests::{record, sample};
use super::validate::{InvalidBatch, ProduceRules, amend_max_timestamp, validate_produced};
use crate::kafka::errors::ErrorCode;

fn built(codec: Compression) -> BytesMut {
    BatchBuilder::new()
        .compression(codec)
        .build_from(&sample())
        .unwrap()
}

/// Changes bytes of a batch and makes the checksum fit again.
fn patched(at: usize, bytes: &[u8]) -> BytesMut {
    let mut batch = built(Compression::None);
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    update_crc(&mut batch);
    batch
}

fn refusal(batch: &[u8], rules: &ProduceRules) -> InvalidBatch {
    validate_produced(batch, rules).unwrap_err()
}

fn code(batch: &[u8]) -> ErrorCode {
    refusal(batch, &ProduceRules::default()).code
}

#[test]
fn good_batches_of_every_codec_pass() {
    for codec in Compression::ALL {
        let batch = built(codec);
        let header = validate_produced(&batch, &ProduceRules::default()).unwrap();
        assert_eq!(header, BatchHeader::parse(&batch).unwrap());
    }
    let producer = BatchBuilder::new()
        .producer(5, 0, 0)
        .transactional(true)
        .build_from(&sample())
        .unwrap();
    validate_produced(&producer, &ProduceRules::default()).unwrap();
}

#[test]
fn header_fields_of_a_client_are_checked() {
    assert_eq!(
        code(&patched(21, &[0, 0b10_0000])),
        ErrorCode::InvalidRecord,
        "control bit"
    );
    assert_eq!(
        code(&patched(21, &[0, 0b1000])),
        ErrorCode::InvalidTimestamp,
        "LogAppendTime bit"
    );
    assert_eq!(
        code(&patched(21, &[0, 7])),
        ErrorCode::UnsupportedCompressionType,
        "codec 7"
    );
    assert_eq!(
        code(&patched(23, &[0, 0, 0, 3])),
        ErrorCode::InvalidRecord,
        "last offset delta"
    );
    assert_eq!(
        code(&patched(43, &[0; 8])),
        ErrorCode::InvalidRecord,
        "producer id without sequence"
    );
    assert_eq!(
        code(&patched(57, &[0; 4])),
        ErrorCode::InvalidRecord,
        "no records"
    );
    assert_eq!(
        code(&patched(57, &[0xff; 4])),
        ErrorCode::InvalidRecord,
        "-1 records"
    );
    let mut moved = built(Compression::None);
    assign_offset(&mut moved, 1, 0);
    assert_eq!(code(&moved), ErrorCode::InvalidRecord, "base offset");
}

#[test]
fn record_counts_must_fit_the_records() {
    for (count, codec) in [
        (2, Compression::None),
        (4, Compression::None),
        (2, Compression::Gzip),
        (4, Compression::Lz4),
    ] {
        let mut batch = built(codec);
        batch[23..27].copy_from_slice(&(count - 1i32).to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        update_crc(&mut batch);
        assert_eq!(
            code(&batch),
            ErrorCode::InvalidRecord,
            "{count} records, {codec}"
        );
    }
}

#[test]
fn other_formats_are_refused_in_one_place() {
    for magic in [0, 1] {
        let mut batch = built(Compression::None);
        batch[16] = magic;
        assert_eq!(code(&batch), ErrorCode::UnsupportedForMessageFormat);
        // The smallest messages are shorter than a batch header.
        assert_eq!(code(&batch[..26]), ErrorCode::UnsupportedForMessageFormat);
    }
    let mut batch = built(Compression::None);
    batch[16] = 3;
    assert_eq!(code(&batch), ErrorCode::CorruptMessage);
}

#[test]
fn a_partition_takes_exactly_one_batch() {
    let batch = built(Compression::None);
    assert_eq!(code(&[]), ErrorCode::InvalidRecord);
    assert_eq!(code(&batch[..batch.len() - 1]), ErrorCode::InvalidRecord);
    let mut two = batch.clone();
    two.extend_from_slice(&batch);
    assert_eq!(code(&two), ErrorCode::InvalidRecord);
    let mut tail = batch.clone();
    tail.extend_from_slice(&batch[..30]);
    assert_eq!(
        validate_produced(&tail, &ProduceRules::default())
            .unwrap()
            .size,
        batch.len()
    );
    let mut small = batch.clone();
    small.extend_from_slice(&[0; 12]);
    assert_eq!(code(&small), ErrorCode::CorruptMessage);
}

#[test]
fn damage_is_seen_before_anything_else() {
    let mut batch = built(Compression::None);
    let last = batch.len() - 1;
    batch[last] ^= 1;
    assert_eq!(code(&batch), ErrorCode::CorruptMessage);
    batch[8..12].copy_from_slice(&10i32.to_be_bytes());
    assert_eq!(code(&batch), ErrorCode::CorruptMessage);
}

#[test]
fn sizes_are_limited() {
    let batch = built(Compression::None);
    let rules = ProduceRules {
        max_message_bytes: batch.len(),
        ..ProduceRules::default()
    };
    validate_produced(&batch, &rules).unwrap();
    let rules = ProduceRules {
        max_message_bytes: batch.len() - 1,
        ..rules
    };
    assert_eq!(refusal(&batch, &rules).code, ErrorCode::MessageTooLarge);
}

#[test]
fn zstd_needs_a_new_request() {
    let rules = ProduceRules {
        zstd_allowed: false,
        ..ProduceRules::default()
    };
    assert_eq!(
        refusal(&built(Compression::Zstd), &rules).code,
        ErrorCode::UnsupportedCompressionType
    );
    validate_produced(&built(Compression::Lz4), &rules).unwrap();
}

#[test]
fn compacted_topics_name_the_records_without_a_key() {
    for codec in Compression::ALL {
        let rules = ProduceRules {
            compacted: true,
            ..ProduceRules::default()
        };
        let refused = refusal(&built(codec), &rules);
        assert_eq!(refused.code, ErrorCode::InvalidRecord);
        let at: Vec<_> = refused
            .record_errors
            .iter()
            .map(|error| error.batch_index)
            .collect();
        assert_eq!(at, [1]);
    }
}

#[test]
fn timestamps_have_a_range() {
    // The records have 1000, 1001 and 1002.
    let rules = |before, after, now_ms| ProduceRules {
        timestamp_before_max_ms: before,
        timestamp_after_max_ms: after,
        now_ms,
        ..ProduceRules::default()
    };
    let batch = built(Compression::Snappy);
    validate_produced(&batch, &rules(2, 0, 1002)).unwrap();
    let refused = refusal(&batch, &rules(1, 0, 1002));
    assert_eq!(
        (refused.code, refused.record_errors.len()),
        (ErrorCode::InvalidTimestamp, 1)
    );
    let refused = refusal(&batch, &rules(i64::MAX, 1, 1000));
    assert_eq!(
        (refused.code, refused.record_errors[0].batch_index),
        (ErrorCode::InvalidTimestamp, 2)
    );
    let append = ProduceRules {
        timestamp_type: TimestampType::LogAppendTime,
        ..rules(0, 0, 0)
    };
    validate_produced(&batch, &append).unwrap();
    let without = BatchBuilder::new()
        .build_from(&[Record {
            timestamp: -1,
            ..record(0, None, None)
        }])
        .unwrap();
    assert_eq!(
        validate_produced(&without, &rules(0, 0, 5000))
            .unwrap()
            .max_timestamp,
        -1
    );
}

#[test]
fn a_wrong_max_timestamp_is_put_right() {
    let mut batch = patched(35, &[0; 8]);
    let header = validate_produced(&batch, &ProduceRules::default()).unwrap();
    assert_eq!(header.max_timestamp, 1002);
    amend_max_timestamp(&mut batch, &header);
    assert_eq!(batch, built(Compression::None));
    let mut good = built(Compression::None);
    set_log_append_time(&mut good, 5);
    assert_eq!(code(&good), ErrorCode::InvalidTimestamp);
}

/// Builds a batch of one record over these bytes of records, compressed, with everything else right.
fn batch_over(records: &[u8], count: i32, codec: Compression) -> BytesMut {
    let mut batch = BatchBuilder::new()
        .compression(codec)
        .build_from(&[record(0, None, None)])
        .unwrap();
    batch.truncate(HEADER_LEN);
    batch.extend_from_slice(&compress(codec, records, None).unwrap());
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    update_crc(&mut batch);
    batch
}

#[test]
fn records_with_wrong_lengths_are_refused() {
    let good: &[u8] = &[16, 0, 0, 0, 2, b'k', 2, b'v', 0];
    let bad: [(&str, &[u8]); 12] = [
        ("nothing", &[]),
        ("length too small", &[14, 0, 0, 0, 2, b'k', 2, b'v', 0]),
        ("length too large", &[18, 0, 0, 0, 2, b'k', 2, b'v', 0]),
        ("negative length", &[1, 0, 0, 0, 2, b'k', 2, b'v', 0]),
        ("value past the record", &[16, 0, 0, 0, 2, b'k', 4, b'v', 0]),
        ("key length -2", &[16, 0, 0, 0, 3, b'k', 2, b'v', 0]),
        ("offset delta 1", &[16, 0, 0, 2, 2, b'k', 2, b'v', 0]),
        ("headers missing", &[16, 0, 0, 0, 2, b'k', 2, b'v', 2]),
        ("negative header count", &[16, 0, 0, 0, 2, b'k', 2, b'v', 1]),
        ("null header key", &[18, 0, 0, 0, 2, b'k', 0, 2, 1, 1]),
        (
            "bytes after the last record",
            &[16, 0, 0, 0, 2, b'k', 2, b'v', 0, 0],
        ),
        (
            "endless varint",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    for codec in Compression::ALL {
        validate_produced(&batch_over(good, 1, codec), &ProduceRules::default()).unwrap();
        for (what, records) in bad {
            assert_eq!(
                code(&batch_over(records, 1, codec)),
                ErrorCode::InvalidRecord,
                "{what}, {codec}"
            );
        }
    }
}

#[test]
fn payloads_that_do_not_decompress_are_refused() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut batch = built(codec);
        let len = batch.len();
        batch[HEADER_LEN..len].fill(0xa5);
        update_crc(&mut batch);
        assert_eq!(code(&batch), ErrorCode::InvalidRecord, "{codec}");
    }
}

#[test]
fn bombs_are_refused_in_little_memory() {
    // One record with a value of 64 MiB of zeros.
    let value = Bytes::from(vec![0; 64 << 20]);
    let bomb = Record {
        value: Some(value),
        ..record(0, None, None)
    };
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let batch = BatchBuilder::new()
            .compression(codec)
            .build_from(std::slice::from_ref(&bomb))
            .unwrap();
        let rules = ProduceRules {
            max_message_bytes: usize::MAX,
            max_uncompressed_bytes: 1 << 20,
            ..ProduceRules::default()
        };
        let mut outcome = None;
        let used =
            allocation_counter::measure(|| outcome = Some(validate_produced(&batch, &rules)));
        assert_eq!(
            outcome.unwrap().unwrap_err().code,
            ErrorCode::MessageTooLarge,
            "{codec}"
        );
        assert!(
            used.bytes_max < 1 << 20,
            "{codec} took {} bytes",
            used.bytes_max
        );
        let rules = ProduceRules {
            max_uncompressed_bytes: 65 << 20,
            ..rules
        };
        let used =
            allocation_counter::measure(|| validate_produced(&batch, &rules).map(|_| ()).unwrap());
        assert!(
            used.bytes_max < 1 << 20,
            "{codec} took {} bytes",
            used.bytes_max
        );
    }
}

#[test]
fn validating_plain_records_allocates_nothing() {
    let records: Vec<_> = (0..1000)
        .map(|offset| record(offset, Some("key"), Some("value")))
        .collect();
    let batch = BatchBuilder::new().build_from(&records).unwrap();
    let used = allocation_counter::measure(|| {
        validate_produced(&batch, &ProduceRules::default())
            .map(|_| ())
            .unwrap()
    });
    assert_eq!(used.count_total, 0);
}

proptest! {
    #[test]
    fn damage_with_a_right_checksum_never_panics(
        codec in proptest::sample::select(&Compression::ALL[..]),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let mut batch = built(codec);
        for (at, byte) in changes {
            let at = 17 + at % (batch.len() - 17);
            batch[at] = byte;
        }
        update_crc(&mut batch);
        let rules = ProduceRules { compacted: true, ..ProduceRules::default() };
        let used = allocation_counter::measure(|| drop(validate_produced(&batch, &rules)));
        prop_assert!(used.bytes_max < 10 << 20, "{} bytes", used.bytes_max);
        // What passes can also be read.
        if let Ok(header) = validate_produced(&batch, &ProduceRules::default()) {
            let records = Batch::parse(&batch).unwrap().records(1 << 20).unwrap();
            let records: Vec<_> = records.collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(records.len(), header.record_count as usize);
        }
    }
}
