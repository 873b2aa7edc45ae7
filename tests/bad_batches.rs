//! Record batches that are broken, lie or explode are refused with a clear error, and leave nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::Write;

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use support::records::{Producer, batch, batch_of, compressed_batch, field, seal};
use support::requests::{PRODUCE, offset_at, produce, produced};
use support::server::{Kind, Server};
use support::survivor::{assert_alive, server};
use support::wire::{Wire, decode_reply};

/// Sends a batch to be stored and returns its error code; none when the connection was closed instead.
fn produce_code(server: &Server, records: impl Into<Bytes>) -> Option<i16> {
    let mut wire = Wire::connect(server);
    wire.send(PRODUCE, &produce("t", 0, 1, records.into()));
    let (_, response) = decode_reply::<ProduceRequest>(wire.receive_frame()?, PRODUCE);
    eprintln!("{:?}", produced(&response));
    Some(produced(&response).error_code)
}

/// A batch of three records.
fn good() -> Bytes {
    batch(&[b"one", b"two", b"three"])
}

/// A good batch with some bytes changed; the CRC is made right again.
fn changed(at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = good().to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut batch);
    batch.into()
}

const CORRUPT_MESSAGE: i16 = 2;
const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

/// What is wrong with a batch, the batch, and the error codes that say so.
type Case = (&'static str, Bytes, &'static [i16]);

/// A batch that any error code of a bad batch suits.
fn bad(what: &'static str, records: impl Into<Bytes>) -> Case {
    (what, records.into(), &[CORRUPT_MESSAGE, INVALID_RECORD])
}

/// A batch that can be read, and is not what a producer may send.
fn invalid(what: &'static str, records: impl Into<Bytes>) -> Case {
    (what, records.into(), &[INVALID_RECORD])
}

/// Bytes that are no batch, or not one.
fn no_batches() -> Vec<Case> {
    let good = good();
    let mut bad_crc = good.to_vec();
    bad_crc[field::CRC] ^= 1;
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    vec![
        ("a wrong CRC", bad_crc.into(), &[CORRUPT_MESSAGE]),
        ("a flipped bit", flipped.into(), &[CORRUPT_MESSAGE]),
        bad("nothing", Bytes::new()),
        bad("a piece of a header", good.slice(..30)),
        bad("a batch that is cut off", good.slice(..good.len() - 1)),
        invalid("two batches", [good.as_ref(), good.as_ref()].concat()),
    ]
}

/// Batches whose headers lie.
fn bad_headers() -> Vec<Case> {
    const OF_OLD: &[i16] = &[
        CORRUPT_MESSAGE,
        INVALID_RECORD,
        UNSUPPORTED_FOR_MESSAGE_FORMAT,
    ];
    const OF_CODECS: &[i16] = &[
        CORRUPT_MESSAGE,
        INVALID_RECORD,
        UNSUPPORTED_COMPRESSION_TYPE,
    ];
    let length = |length: i32| changed(field::LENGTH, &length.to_be_bytes());
    let count = |count: i32| changed(field::RECORD_COUNT, &count.to_be_bytes());
    let last = |delta: i32| changed(field::LAST_OFFSET_DELTA, &delta.to_be_bytes());
    let attributes = |bits: i16| changed(field::ATTRIBUTES, &bits.to_be_bytes());
    let base_offset = changed(field::BASE_OFFSET, &1_000_000i64.to_be_bytes());
    vec![
        ("magic 0", changed(field::MAGIC, &[0]), OF_OLD),
        ("magic 1", changed(field::MAGIC, &[1]), OF_OLD),
        bad("magic 3", changed(field::MAGIC, &[3])),
        bad("magic -1", changed(field::MAGIC, &[255])),
        bad("a length of 0", length(0)),
        bad("a negative length", length(-9)),
        bad("a huge length", length(i32::MAX)),
        bad("too many records", count(4)),
        bad("too few records", count(2)),
        bad("a huge count", count(i32::MAX)),
        bad("a negative count", count(-1)),
        invalid("a last offset too high", last(7)),
        invalid("a last offset too low", last(1)),
        invalid("a base offset", base_offset),
        invalid("a control batch", attributes(0x20)),
        ("an unknown codec", attributes(7), OF_CODECS),
    ]
}

/// Batches with a record that lies.
fn bad_records() -> Vec<Case> {
    // Length, attributes, timestamp delta, offset delta and length of the key have one byte each.
    let first = |at: usize, byte: u8| changed(field::RECORDS + at, &[byte]);
    vec![
        bad("a record longer than the batch", first(0, 0x7E)),
        bad("a record of a negative length", first(0, 0x01)),
        bad(AN_OFFSET_THAT_LIES, first(3, 0x08)),
        bad("a key longer than its record", first(4, 0x7E)),
    ]
}

/// Kafka takes it, and its consumers then see offsets out of order.
const AN_OFFSET_THAT_LIES: &str = "an offset that lies";

#[test]
fn batches_that_lie_are_refused_and_leave_nothing() {
    let server = server();
    let cases = [no_batches(), bad_headers(), bad_records()].concat();
    for (what, records, codes) in cases {
        if server.kind() == Kind::Kafka && what == AN_OFFSET_THAT_LIES {
            continue;
        }
        // A closed connection is clear as well; Kafka does not always find a better word than UNKNOWN_SERVER_ERROR.
        if let Some(code) = produce_code(&server, records)
            && !(server.kind() == Kind::Kafka && code == -1)
        {
            assert!(codes.contains(&code), "{what} got error code {code}");
        }
        let end = offset_at(&mut Wire::connect(&server), "t", 0, -1);
        assert_eq!(end, 1, "{what} left something in the log");
    }
    assert_eq!(
        produce_code(&server, good()),
        Some(0),
        "the batch was good before it was changed"
    );
    assert_eq!(offset_at(&mut Wire::connect(&server), "t", 0, -1), 4);
    assert_alive(server);
}

#[test]
fn sequences_out_of_order_and_repeated_are_told_apart() {
    let server = server();
    let send = |sequence: i32, values: &[&[u8]]| {
        let mut wire = Wire::connect(&server);
        let records = batch_of(
            values,
            Producer {
                id: 4000,
                epoch: 0,
                sequence,
            },
        );
        let response = wire.call(PRODUCE, &produce("t", 0, -1, records));
        let partition = produced(&response);
        (partition.error_code, partition.base_offset)
    };
    assert_eq!(send(0, &[b"a", b"b"]), (0, 1));
    assert_eq!(send(2, &[b"c"]), (0, 3));
    assert_eq!(
        send(0, &[b"a", b"b"]),
        (0, 1),
        "a repetition is answered with the offset of the first time"
    );
    assert_eq!(send(2, &[b"c"]), (0, 3));
    assert_eq!(send(4, &[b"e"]).0, 45, "OUT_OF_ORDER_SEQUENCE_NUMBER");
    assert_eq!(send(3, &[b"d"]), (0, 4));
    assert_eq!(offset_at(&mut Wire::connect(&server), "t", 0, -1), 5);
    assert_alive(server);
}

/// The encoding of one record with a value of `length` zeros, written to a compressor piece by piece.
fn write_huge_record(to: &mut impl Write, length: usize) {
    fn varint(to: &mut Vec<u8>, value: usize) {
        let mut rest = value << 1;
        while rest >= 0x80 {
            to.push(u8::try_from(rest & 0x7F).unwrap() | 0x80);
            rest >>= 7;
        }
        to.push(u8::try_from(rest).unwrap());
    }
    let mut value_length = Vec::new();
    varint(&mut value_length, length);
    let mut head = Vec::new();
    varint(&mut head, 4 + value_length.len() + length + 1);
    // Attributes, timestamp delta, offset delta, and a key length of -1.
    head.extend_from_slice(&[0, 0, 0, 1]);
    head.extend_from_slice(&value_length);
    to.write_all(&head).unwrap();
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..length / zeros.len() {
        to.write_all(&zeros).unwrap();
    }
    to.write_all(&[0]).unwrap();
}

#[test]
fn decompression_bombs_burst_outside() {
    const HUGE: usize = 1024 * 1024 * 1024;
    let server = server();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write_huge_record(&mut gzip, HUGE / 8);
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    // The widest window that decoders take by default, so that the window itself is a bomb.
    zstd.window_log(27).unwrap();
    write_huge_record(&mut zstd, HUGE);
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    write_huge_record(&mut lz4, HUGE / 8);
    // Snappy says first how long the rest will be: here 4 GB, in both of its framings.
    let raw_snappy = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0, b'x'];
    let mut xerial = vec![
        0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
    ];
    xerial.extend_from_slice(&i32::try_from(raw_snappy.len()).unwrap().to_be_bytes());
    xerial.extend_from_slice(&raw_snappy);
    let mut xerial_of_a_huge_block = xerial[..16].to_vec();
    xerial_of_a_huge_block.extend_from_slice(&i32::MAX.to_be_bytes());
    let bombs = [
        ("gzip", 1, gzip.finish().unwrap()),
        ("zstd", 4, zstd.finish().unwrap()),
        ("lz4", 3, lz4.finish().unwrap()),
        ("snappy", 2, raw_snappy.to_vec()),
        ("xerial snappy", 2, xerial),
        ("xerial snappy of a huge block", 2, xerial_of_a_huge_block),
    ];
    for (name, codec, payload) in bombs {
        assert!(
            payload.len() < 1_000_000,
            "{name} fits into a batch of the default size: {}",
            payload.len()
        );
        let code = produce_code(&server, compressed_batch(codec, 1, &payload));
        println!("{name}: {code:?}");
        if name.contains("snappy") {
            assert_ne!(code, Some(0), "{name} has no records");
        }
    }
    assert_alive(server);
}

#[test]
fn compressed_garbage_is_refused() {
    let server = server();
    for codec in 1..=4 {
        for payload in [
            &b""[..],
            &[0; 100],
            &[0xFF; 100],
            b"\x1f\x8b\x08",
            b"\x28\xb5\x2f\xfd",
            b"\x04\x22\x4d\x18",
        ] {
            let code = produce_code(&server, compressed_batch(codec, 3, payload));
            let refused = matches!(code, None | Some(2 | 87))
                || server.kind() == Kind::Kafka && code == Some(-1);
            assert!(refused, "codec {codec}, {payload:?}: {code:?}");
        }
    }
    assert_eq!(offset_at(&mut Wire::connect(&server), "t", 0, -1), 1);
    assert_alive(server);
}
