//! Batches against the schema crate's own encoder and decoder, and against damage.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::records as oracle;
use proptest::prelude::*;

use super::batch::{
    Batch, BatchError, BatchHeader, HEADER_LEN, TimestampType, add_sequence, assign_offset,
    batches, set_log_append_time,
};
use super::builder::{BatchBuilder, recompress};
use super::compress::{Compression, CompressionError, compress, decompress};
use super::record::Record;

const LIMIT: usize = 1 << 20;

pub(super) fn record(
    offset: i64,
    key: Option<&'static str>,
    value: Option<&'static str>,
) -> Record {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    Record {
        offset,
        timestamp: 1_000 + offset,
        key: key.map(bytes),
        value: value.map(bytes),
        headers: vec![],
    }
}

pub(super) fn sample() -> Vec<Record> {
    let mut last = record(2, Some("c"), Some(""));
    last.headers = vec![
        (Bytes::from_static(b"h"), Some(Bytes::from_static(b"1"))),
        (Bytes::from_static(b"n"), None),
    ];
    vec![
        record(0, Some("a"), Some("one")),
        record(1, None, None),
        last,
    ]
}

fn read(batch: &[u8]) -> Vec<Record> {
    Batch::parse(batch)
        .unwrap()
        .records(LIMIT)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn known_bytes_are_read_and_written() {
    // One record, key "k", value "v", offset 5, made by hand from the protocol guide.
    let mut records = BytesMut::new();
    records.put_slice(&[16, 0, 0, 0, 2, b'k', 2, b'v', 0]);
    let built = BatchBuilder::new().build_from(&[Record {
        offset: 5,
        timestamp: 9,
        ..record(5, Some("k"), Some("v"))
    }]);
    let built = built.unwrap();
    assert_eq!(&built[..8], [0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(&built[8..12], [0, 0, 0, 58]);
    assert_eq!(&built[12..17], [0xff, 0xff, 0xff, 0xff, 2]);
    assert_eq!(
        u32::from_be_bytes(built[17..21].try_into().unwrap()),
        crc32c::crc32c(&built[21..])
    );
    assert_eq!(&built[HEADER_LEN..], &records[..]);
    assert_eq!(&built[21..27], [0; 6]);
    assert_eq!(
        &built[27..43],
        [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9]
    );
    assert_eq!(&built[43..57], [0xff; 14]);
    assert_eq!(&built[57..61], [0, 0, 0, 1]);
}

#[test]
fn the_schema_crate_reads_what_we_build() {
    for codec in Compression::ALL {
        let built = BatchBuilder::new()
            .compression(codec)
            .producer(7, 3, 40)
            .leader_epoch(2)
            .transactional(true);
        let built = built.build_from(&sample()).unwrap();
        let decompressor = |bytes: &mut Bytes, theirs: oracle::Compression| {
            assert_eq!(theirs as u8, codec.id());
            Ok(decompress(codec, bytes, LIMIT).unwrap())
        };
        let mut bytes = built.freeze();
        let set = oracle::RecordBatchDecoder::decode_with_custom_compression(
            &mut bytes,
            Some(decompressor),
        )
        .unwrap();
        assert!(bytes.is_empty());
        assert_eq!(set.records.len(), 3);
        for (theirs, ours) in set.records.iter().zip(sample()) {
            assert_eq!(
                (theirs.offset, theirs.timestamp),
                (ours.offset, ours.timestamp)
            );
            assert_eq!((&theirs.key, &theirs.value), (&ours.key, &ours.value));
            assert_eq!(
                (
                    theirs.producer_id,
                    theirs.producer_epoch,
                    theirs.transactional
                ),
                (7, 3, true)
            );
            assert_eq!(theirs.headers.len(), ours.headers.len());
            for ((their_key, their_value), (key, value)) in theirs.headers.iter().zip(&ours.headers)
            {
                assert_eq!((their_key.as_bytes(), their_value), (&key[..], value));
            }
        }
    }
}

fn oracle_record(ours: &Record) -> oracle::Record {
    let headers = ours.headers.iter().map(|(key, value)| {
        (
            crate::kafka::StrBytes::from_utf8(key.clone()).unwrap(),
            value.clone(),
        )
    });
    oracle::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 4,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: oracle::TimestampType::Creation,
        offset: ours.offset,
        sequence: i32::try_from(ours.offset).unwrap(),
        timestamp: ours.timestamp,
        key: ours.key.clone(),
        value: ours.value.clone(),
        headers: headers.collect(),
    }
}

#[test]
fn we_read_what_the_schema_crate_builds() {
    for (codec, theirs) in Compression::ALL.into_iter().zip([
        oracle::Compression::None,
        oracle::Compression::Gzip,
        oracle::Compression::Snappy,
        oracle::Compression::Lz4,
        oracle::Compression::Zstd,
    ]) {
        let records: Vec<_> = sample().iter().map(oracle_record).collect();
        let options = oracle::RecordEncodeOptions {
            version: 2,
            compression: theirs,
        };
        let compressor = |plain: &mut BytesMut, out: &mut BytesMut, _| {
            out.put_slice(&compress(codec, plain, None).unwrap());
            Ok(())
        };
        let mut out = BytesMut::new();
        oracle::RecordBatchEncoder::encode_with_custom_compression(
            &mut out,
            &records,
            &options,
            Some(compressor),
        )
        .unwrap();
        let batch = Batch::parse(&out).unwrap();
        batch.check_crc().unwrap();
        assert_eq!(batch.header().attributes.compression().unwrap(), codec);
        assert_eq!(
            (batch.header().leader_epoch, batch.header().record_count),
            (4, 3)
        );
        assert_eq!(read(&out), sample());
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from);
    let headers = proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..3);
    let timestamp = prop_oneof![Just(-1), 0..=i64::MAX];
    (
        proptest::option::of(bytes()),
        proptest::option::of(bytes()),
        headers,
        timestamp,
    )
        .prop_map(|(key, value, headers, timestamp)| Record {
            offset: 0,
            timestamp,
            key,
            value,
            headers,
        })
}

fn any_codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&Compression::ALL[..])
}

proptest! {
    #[test]
    fn batches_come_back_as_they_were(
        mut records in proptest::collection::vec(any_record(), 1..20),
        codec in any_codec(),
        base in 0..i64::from(u32::MAX),
    ) {
        for (position, record) in records.iter_mut().enumerate() {
            record.offset = base + 2 * position as i64;
        }
        let built = BatchBuilder::new().compression(codec).build_from(&records).unwrap();
        Batch::parse(&built).unwrap().check_crc().unwrap();
        prop_assert_eq!(&read(&built), &records);
        let header = BatchHeader::parse(&built).unwrap();
        prop_assert_eq!(header.next_offset(), base + 2 * records.len() as i64 - 1);
        prop_assert_eq!(header.max_timestamp, records.iter().map(|record| record.timestamp).max().unwrap());
    }

    #[test]
    fn damaged_batches_never_panic(codec in any_codec(), at in any::<usize>(), byte in any::<u8>()) {
        let mut built = BatchBuilder::new().compression(codec).build_from(&sample()).unwrap();
        let at = at % built.len();
        built[at] = byte;
        for batch in batches(&built).flatten() {
            if let Ok(records) = batch.records(LIMIT) {
                records.for_each(drop);
            }
        }
    }

    #[test]
    fn garbage_never_decompresses_past_its_limit(
        codec in any_codec(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(out) = decompress(codec, &bytes, 500) {
            prop_assert!(out.len() <= 500);
        }
    }

    #[test]
    fn every_codec_brings_back_any_bytes(codec in any_codec(), data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let data = data.repeat(700);
        let compressed = compress(codec, &data, None).unwrap();
        prop_assert_eq!(&decompress(codec, &compressed, data.len()).unwrap()[..], &data[..]);
        if !data.is_empty() {
            let refused = decompress(codec, &compressed, data.len() - 1);
            let bounded = codec == Compression::None || matches!(refused, Err(CompressionError::TooLarge { .. }));
            prop_assert!(bounded);
        }
    }
}

#[test]
fn every_truncation_is_incomplete_and_every_flip_is_seen() {
    let whole = BatchBuilder::new().build_from(&sample()).unwrap();
    for len in 0..whole.len() {
        assert!(
            matches!(
                Batch::parse(&whole[..len]),
                Err(BatchError::Incomplete { .. })
            ),
            "{len}"
        );
        assert_eq!(batches(&whole[..len]).count(), 0);
    }
    // Base offset and leader epoch are not covered; the length and the magic are checked by themselves.
    for at in (8..12).chain(16..whole.len()) {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let seen = Batch::parse(&flipped).and_then(|batch| batch.check_crc());
            assert!(seen.is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn concatenated_batches_are_found_up_to_a_partial_one() {
    let mut log = BatchBuilder::new().build_from(&sample()).unwrap();
    let second = BatchBuilder::new()
        .build_from(&[record(3, None, Some("x"))])
        .unwrap();
    log.extend_from_slice(&second);
    log.extend_from_slice(&second[..second.len() - 1]);
    let offsets: Vec<_> = batches(&log)
        .map(|batch| batch.unwrap().header().next_offset())
        .collect();
    assert_eq!(offsets, [3, 4]);

    let mut broken = second.clone();
    broken[16] = 9;
    broken.extend_from_slice(&second);
    let found: Vec<_> = batches(&broken).collect();
    assert!(matches!(&found[..], [Err(BatchError::Magic(9))]));
}

#[test]
fn offsets_are_assigned_without_touching_the_checksum() {
    let mut batch = BatchBuilder::new().build_from(&sample()).unwrap();
    assign_offset(&mut batch, 1 << 40, 12);
    let parsed = Batch::parse(&batch).unwrap();
    parsed.check_crc().unwrap();
    assert_eq!(
        (parsed.header().base_offset, parsed.header().leader_epoch),
        (1 << 40, 12)
    );
    assert_eq!(parsed.header().last_offset(), (1 << 40) + 2);
    assert_eq!(read(&batch)[1].offset, (1 << 40) + 1);
    assign_offset(&mut batch[..20], 0, 0);
}

#[test]
fn append_time_holds_for_all_records() {
    let mut batch = BatchBuilder::new().build_from(&sample()).unwrap();
    set_log_append_time(&mut batch, 99_000);
    let parsed = Batch::parse(&batch).unwrap();
    parsed.check_crc().unwrap();
    assert_eq!(
        parsed.header().attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert!(read(&batch).iter().all(|record| record.timestamp == 99_000));
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(add_sequence(i32::MAX, 1), 0);
    assert_eq!(add_sequence(i32::MAX - 1, 3), 1);
    let batch = BatchBuilder::new()
        .producer(1, 0, i32::MAX)
        .build_from(&sample())
        .unwrap();
    assert_eq!(BatchHeader::parse(&batch).unwrap().last_sequence(), 1);
    let batch = BatchBuilder::new().build_from(&sample()).unwrap();
    assert_eq!(BatchHeader::parse(&batch).unwrap().last_sequence(), -1);
}

#[test]
fn a_batch_can_change_its_codec() {
    let built = BatchBuilder::new()
        .producer(9, 1, 5)
        .build_from(&sample())
        .unwrap();
    for codec in Compression::ALL {
        let changed = recompress(&built, codec, None, LIMIT).unwrap();
        let batch = Batch::parse(&changed).unwrap();
        batch.check_crc().unwrap();
        assert_eq!(batch.header().attributes.compression().unwrap(), codec);
        assert_eq!(
            (batch.header().producer_id, batch.header().base_sequence),
            (9, 5)
        );
        assert_eq!(read(&changed), sample());
        assert_eq!(
            recompress(&changed, Compression::None, None, LIMIT).unwrap(),
            built
        );
        let bounded = recompress(&changed, Compression::Zstd, None, 3);
        assert_eq!(bounded.is_err(), codec != Compression::None);
    }
}

#[test]
fn raw_snappy_is_read_too() {
    let data = b"some bytes, some bytes, some bytes";
    let raw = snap::raw::Encoder::new().compress_vec(data).unwrap();
    assert_eq!(
        &decompress(Compression::Snappy, &raw, LIMIT).unwrap()[..],
        data
    );
    let framed = compress(Compression::Snappy, data, None).unwrap();
    assert!(framed.starts_with(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"));
}

#[test]
fn lz4_frames_are_those_of_the_java_clients() {
    let data = vec![7; 200_000];
    let frame = compress(Compression::Lz4, &data, None).unwrap();
    assert_eq!(&frame[..4], [0x04, 0x22, 0x4d, 0x18]);
    assert_eq!(
        frame[4], 0x60,
        "version 1, independent blocks, no checksums, no content size"
    );
    assert_eq!(frame[5], 0x40, "blocks of 64 KiB");
}

#[test]
fn bombs_stop_at_the_limit() {
    let data = vec![0; 64 << 20];
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let bomb = compress(codec, &data, None).unwrap();
        let mut outcome = None;
        let used = allocation_counter::measure(|| outcome = Some(decompress(codec, &bomb, LIMIT)));
        assert!(
            matches!(
                outcome,
                Some(Err(CompressionError::TooLarge { limit: LIMIT }))
            ),
            "{codec}"
        );
        assert!(
            used.bytes_max < 8 * LIMIT as u64,
            "{codec} took {} bytes",
            used.bytes_max
        );
    }
}

#[test]
fn a_lie_about_the_length_of_a_snappy_block_takes_no_memory() {
    // A varint of almost 4 GiB, then hardly anything.
    let mut raw = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    let used = allocation_counter::measure(|| {
        assert!(decompress(Compression::Snappy, &raw, usize::MAX / 2).is_err())
    });
    assert!(used.bytes_max < 4096);
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x07".to_vec();
    framed.append(&mut raw);
    let used = allocation_counter::measure(|| {
        assert!(decompress(Compression::Snappy, &framed, LIMIT).is_err())
    });
    assert!(used.bytes_max < 4096);
}

#[test]
fn an_empty_batch_keeps_its_header() {
    let batch = BatchBuilder::new().producer(3, 1, 9).build().unwrap();
    assert_eq!(batch.len(), HEADER_LEN);
    assert_eq!(read(&batch), []);
}
