//! Whatever comes in on a socket, the broker answers with a clear error or closes that connection, and lives on in
//! the memory that it had.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest, ProduceRequest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::clients::create_topic;
use support::records::{
    Producer, batch, batch_of, batches, compressed_batch, field, records, seal,
};
use support::requests::{FETCH, PRODUCE, fetch, fetched, offset_at, produce, produced};
use support::server::{Kind, Server};
use support::wire::{Wire, decode_reply};

/// What the whole process may have taken at its peak, far below what the frames here claim to be.
const MEMORY_BOUND_KB: u64 = 256 * 1024;

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

/// Starts a broker with a topic `t` that holds one record.
fn server() -> Server {
    let server = Server::start();
    create_topic(&server, "t", 1, &[]);
    let mut wire = Wire::connect(&server);
    assert_eq!(
        produced(&wire.call(PRODUCE, &produce("t", 0, -1, batch(&[b"first"])))).error_code,
        0
    );
    server
}

/// Checks that the broker still runs, stores and serves, and took no more memory than it may.
#[track_caller]
fn assert_alive(mut server: Server) {
    assert!(server.is_running(), "the broker died: {}", server.said());
    let mut wire = Wire::connect(&server);
    let end = offset_at(&mut wire, "t", 0, -1);
    let response = wire.call(PRODUCE, &produce("t", 0, -1, batch(&[b"last"])));
    assert_eq!(
        (
            produced(&response).error_code,
            produced(&response).base_offset
        ),
        (0, end)
    );
    let (error, bytes) = fetched(&wire.call(FETCH, &fetch("t", 0, 0, 0)));
    assert_eq!(error, 0);
    let first = batches(bytes).swap_remove(0);
    assert_eq!(records(first)[0].value.as_deref(), Some(&b"first"[..]));
    let said = server.said();
    assert!(!said.contains("panicked"), "{said}");
    if server.kind() == Kind::Troupe {
        let peak = server.memory_kb("VmHWM");
        assert!(peak < MEMORY_BOUND_KB, "{peak} kB at the peak");
    }
}

/// A frame with a request header of version 1 and a body made by hand.
fn frame(api_key: i16, version: i16, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i16(api_key);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(3);
    frame.put_slice(b"bad");
    frame.put_slice(body);
    frame
}

#[test]
fn impossible_frame_sizes_end_the_connection() {
    let server = server();
    for size in [-1, i32::MIN, i32::MAX, 104_857_601] {
        let mut wire = Wire::connect(&server);
        wire.send_bytes(&size.to_be_bytes()).unwrap();
        assert!(wire.is_closed_by_peer(), "size {size}");
    }
    for size in 0..10 {
        let mut wire = Wire::connect(&server);
        // A frame of zeros is too short to be a request for as long as it has no whole header.
        if size < 8 {
            wire.send_frame(&vec![0; size]);
            assert!(wire.is_closed_by_peer(), "a frame of {size} bytes");
        }
    }
    assert_alive(server);
}

#[test]
fn truncated_frames_end_with_their_connection() {
    let server = server();
    for sent in [0, 1, 3, 4, 5, 100, 999] {
        let mut bytes = 1000i32.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0; 1000]);
        let mut wire = Wire::connect(&server);
        wire.send_bytes(&bytes[..sent]).unwrap();
        wire.finish_sending();
        assert!(wire.is_closed_by_peer(), "{sent} bytes of a frame");
    }
    assert_alive(server);
}

#[test]
fn announced_frames_take_no_memory_before_they_come() {
    let server = server();
    // Kafka takes the whole of it at once, and with 512 MB of heap does not live through this test.
    let announced = if server.kind() == Kind::Troupe {
        104_857_600i32
    } else {
        1_000_000
    };
    let connections: Vec<Wire> = (0..60)
        .map(|_| {
            let mut wire = Wire::connect(&server);
            let mut bytes = announced.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[0; 1000]);
            wire.send_bytes(&bytes).unwrap();
            wire
        })
        .collect();
    assert_alive(server);
    drop(connections);
}

#[test]
fn unknown_api_keys_and_versions_end_the_connection() {
    let server = server();
    for (api_key, version) in [
        (9999, 0),
        (-1, 0),
        (i16::MAX, 5),
        (METADATA, 999),
        (METADATA, -1),
        (0, 999),
        (1, 99),
    ] {
        let mut wire = Wire::connect(&server);
        wire.send_frame(&frame(api_key, version, &[0; 8]));
        assert!(
            wire.is_closed_by_peer(),
            "API key {api_key} version {version}"
        );
    }
    assert_alive(server);
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let server = server();
    for version in [5, 99, i16::MAX] {
        let mut wire = Wire::connect(&server);
        wire.send_frame(&frame(API_VERSIONS, version, &[0; 20]));
        let reply = wire.receive_frame().expect("a reply (KIP-511)");
        let (correlation_id, response) = decode_reply::<ApiVersionsRequest>(reply, 0);
        assert_eq!(
            (correlation_id, response.error_code),
            (7, 35),
            "UNSUPPORTED_VERSION"
        );
        let own = response
            .api_keys
            .iter()
            .find(|api| api.api_key == API_VERSIONS);
        assert!(
            own.is_some_and(|api| api.min_version == 0 && api.max_version >= 3),
            "{:?}",
            response.api_keys
        );
        // The client asks again on the same connection, with a version that it was just told.
        let response = wire.call(0, &ApiVersionsRequest::default());
        assert_eq!(response.error_code, 0);
        assert!(response.api_keys.len() > 10);
    }
    assert_alive(server);
}

#[test]
fn every_advertised_version_of_the_least_requests_is_answered() {
    let server = server();
    let mut wire = Wire::connect(&server);
    let advertised = wire.call(0, &ApiVersionsRequest::default()).api_keys;
    let range = |key: i16| {
        let api = advertised
            .iter()
            .find(|api| api.api_key == key)
            .expect("this API is advertised");
        api.min_version..=api.max_version
    };
    for version in range(API_VERSIONS).filter(|version| *version <= 4) {
        let request = ApiVersionsRequest::default()
            .with_client_software_name("wire".into())
            .with_client_software_version("1".into());
        assert_eq!(
            wire.call(version, &request).error_code,
            0,
            "ApiVersions version {version}"
        );
    }
    for version in range(METADATA).filter(|version| *version <= 13) {
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let response = wire.call(version, &MetadataRequest::default().with_topics(all));
        assert_eq!(response.topics.len(), 1, "Metadata version {version}");
        assert_eq!(response.brokers[0].port, i32::from(server.port()));
    }
    assert_alive(server);
}

#[test]
fn garbage_strings_and_counts_end_the_connection() {
    let server = server();
    let mut frames: Vec<(String, bool, BytesMut)> = Vec::new();
    // Client ids that reach past the frame, or have a length that no string can have.
    for length in [i16::MAX, -2, i16::MIN, 100] {
        let mut frame = BytesMut::new();
        frame.put_i16(METADATA);
        frame.put_i16(1);
        frame.put_i32(1);
        frame.put_i16(length);
        frame.put_slice(b"short");
        frames.push((format!("a client id of {length}"), false, frame));
    }
    for count in [i32::MAX, i32::MIN, -2, 1_000_000] {
        frames.push((
            format!("{count} Metadata topics"),
            count < 0,
            frame(METADATA, 1, &count.to_be_bytes()),
        ));
        let mut body = BytesMut::new();
        body.put_i16(-1);
        body.put_i16(1);
        body.put_i32(1000);
        body.put_i32(count);
        frames.push((
            format!("{count} Produce topics"),
            count < 0,
            frame(0, 3, &body),
        ));
        let mut body = BytesMut::new();
        body.put_slice(&[255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        body.put_i32(count);
        frames.push((
            format!("{count} Fetch topics"),
            count < 0,
            frame(1, 4, &body),
        ));
        let mut body = BytesMut::new();
        body.put_i32(-1);
        body.put_i32(count);
        frames.push((
            format!("{count} ListOffsets topics"),
            count < 0,
            frame(2, 1, &body),
        ));
        frames.push((
            format!("{count} CreateTopics topics"),
            count < 0,
            frame(19, 0, &count.to_be_bytes()),
        ));
        frames.push((
            format!("{count} DeleteTopics names"),
            count < 0,
            frame(20, 0, &count.to_be_bytes()),
        ));
    }
    // Compact counts and tags of flexible versions: a varint without an end, and one of 2^32 - 1.
    for varint in [&[0xFF; 10][..], &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F][..]] {
        frames.push((
            "tags of the header".to_owned(),
            false,
            frame(METADATA, 9, varint),
        ));
        frames.push((
            "compact array".to_owned(),
            false,
            frame(METADATA, 9, &[&[0], varint].concat()),
        ));
        frames.push((
            "tags of ApiVersions".to_owned(),
            false,
            frame(API_VERSIONS, 3, &[&[0, 2, b'a', 2, b'b'], varint].concat()),
        ));
    }
    let mut name_that_is_no_text = BytesMut::new();
    name_that_is_no_text.put_i32(1);
    name_that_is_no_text.put_i16(4);
    name_that_is_no_text.put_slice(&[0xFF, 0xFE, 0xC0, 0x80]);
    let not_utf8 = frame(METADATA, 1, &name_that_is_no_text);
    for (what, negative, frame) in frames {
        let mut wire = Wire::connect(&server);
        wire.send_frame(&frame);
        wire.finish_sending();
        if let Some(reply) = wire.receive_frame() {
            // A negative count may be taken as none at all; only ApiVersions has an error of its own for a bad request.
            let answerable = what.contains("ApiVersions") || negative;
            assert!(answerable && reply.len() < 1000, "{what} got {reply:?}");
        }
    }
    let mut wire = Wire::connect(&server);
    wire.send_frame(&not_utf8);
    wire.finish_sending();
    while wire.receive_frame().is_some() {}
    assert_alive(server);
}

#[test]
fn mutated_requests_do_not_harm() {
    let seed = std::env::var("TROUPE_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    eprintln!("TROUPE_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let server = server();
    for _ in 0..600 {
        let mut wire = Wire::connect(&server);
        let mut frame = match random.random_range(0..4) {
            0 => wire.frame(PRODUCE, &produce("t", 0, 1, batch(&[b"mutated", b"twice"]))),
            1 => wire.frame(3, &produce("t", 0, 1, batch(&[b"mutated", b"twice"]))),
            2 => wire.frame(9, &MetadataRequest::default().with_topics(None)),
            _ => wire.frame(FETCH, &fetch("t", 0, 0, 0)),
        };
        // The API key stays, so that nothing here can ask for a million partitions.
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(2..frame.len());
            frame[at] = random.random();
        }
        if random.random_bool(0.2) {
            frame.truncate(random.random_range(2..frame.len()));
        }
        wire.send_frame(&frame);
    }
    assert_alive(server);
}

/// Sends a batch to be stored and returns its error code; none when the connection was closed instead.
fn produce_code(server: &Server, records: impl Into<Bytes>) -> Option<i16> {
    let mut wire = Wire::connect(server);
    wire.send(PRODUCE, &produce("t", 0, 1, records.into()));
    let (_, response) = decode_reply::<ProduceRequest>(wire.receive_frame()?, PRODUCE);
    eprintln!("{:?}", produced(&response));
    Some(produced(&response).error_code)
}

/// A good batch of three records with some bytes changed; the CRC is made right again.
fn changed(at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = batch(&[b"one", b"two", b"three"]).to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut batch);
    batch.into()
}

#[test]
fn batches_that_lie_are_refused_and_leave_nothing() {
    const CORRUPT_MESSAGE: i16 = 2;
    const INVALID_RECORD: i16 = 87;
    let server = server();
    let good = batch(&[b"one", b"two", b"three"]);
    let mut bad_crc = good.to_vec();
    bad_crc[field::CRC] ^= 1;
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let two = [good.as_ref(), good.as_ref()].concat();
    let control = changed(field::ATTRIBUTES, &0x20i16.to_be_bytes());
    let cases: Vec<(&str, Bytes, &[i16])> = vec![
        ("a wrong CRC", bad_crc.into(), &[CORRUPT_MESSAGE]),
        (
            "a flipped bit in a record",
            flipped.into(),
            &[CORRUPT_MESSAGE],
        ),
        (
            "magic 0",
            changed(field::MAGIC, &[0]),
            &[CORRUPT_MESSAGE, INVALID_RECORD, 43],
        ),
        (
            "magic 1",
            changed(field::MAGIC, &[1]),
            &[CORRUPT_MESSAGE, INVALID_RECORD, 43],
        ),
        (
            "magic 3",
            changed(field::MAGIC, &[3]),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "magic -1",
            changed(field::MAGIC, &[255]),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        ("nothing", Bytes::new(), &[CORRUPT_MESSAGE, INVALID_RECORD]),
        (
            "a piece of a header",
            good.slice(..30),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "a batch that is cut off",
            good.slice(..good.len() - 1),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        ("two batches", two.into(), &[INVALID_RECORD]),
        (
            "a length of 0",
            changed(field::LENGTH, &0i32.to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "a negative length",
            changed(field::LENGTH, &(-9i32).to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "a huge length",
            changed(field::LENGTH, &i32::MAX.to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "too many records",
            changed(field::RECORD_COUNT, &4i32.to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "too few records",
            changed(field::RECORD_COUNT, &2i32.to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "a huge count",
            changed(field::RECORD_COUNT, &i32::MAX.to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "a negative count",
            changed(field::RECORD_COUNT, &(-1i32).to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "a last offset too high",
            changed(field::LAST_OFFSET_DELTA, &7i32.to_be_bytes()),
            &[INVALID_RECORD],
        ),
        (
            "a last offset too low",
            changed(field::LAST_OFFSET_DELTA, &1i32.to_be_bytes()),
            &[INVALID_RECORD],
        ),
        (
            "a record longer than the batch",
            changed(field::RECORDS, &[0x7E]),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "a record of a negative length",
            changed(field::RECORDS, &[0x01]),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        // The record's offset delta: after its length, attributes and timestamp delta of one byte each.
        (
            "an offset that lies",
            changed(field::RECORDS + 3, &[0x08]),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "a key longer than its record",
            changed(field::RECORDS + 4, &[0x7E]),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "a base offset",
            changed(field::BASE_OFFSET, &1_000_000i64.to_be_bytes()),
            &[INVALID_RECORD],
        ),
        ("a control batch", control, &[INVALID_RECORD]),
        (
            "an unknown codec",
            changed(field::ATTRIBUTES, &7i16.to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD, 76],
        ),
    ];
    for (what, records, codes) in cases {
        if server.kind() == Kind::Kafka && what == "an offset that lies" {
            // Kafka takes it, and its consumers then see offsets out of order.
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
        produce_code(&server, good),
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
