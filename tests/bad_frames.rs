//! Whatever comes in on a socket, the broker answers with a clear error or closes that connection, and lives on in
//! the memory that it had.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use rand::Rng;
use support::random::random;
use support::records::batch;
use support::requests::{FETCH, PRODUCE, fetch, produce};
use support::server::Kind;
use support::survivor::{assert_alive, server};
use support::wire::{Wire, decode_reply};

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

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

/// What is wrong with a frame, the frame, and whether it may be answered all the same.
type Case = (String, BytesMut, bool);

/// Client ids that reach past the frame, or have a length that no string can have.
fn bad_client_ids() -> Vec<Case> {
    let case = |length: i16| {
        let mut frame = BytesMut::new();
        frame.put_i16(METADATA);
        frame.put_i16(1);
        frame.put_i32(1);
        frame.put_i16(length);
        frame.put_slice(b"short");
        (format!("a client id of {length}"), frame, false)
    };
    [i16::MAX, -2, i16::MIN, 100].map(case).into()
}

/// Counts that reach past the frame, or are negative: those may be taken as none at all.
fn bad_counts(count: i32) -> Vec<Case> {
    let after = |start: &[u8]| [start, &count.to_be_bytes()].concat();
    let mut produce = BytesMut::new();
    produce.put_i16(-1);
    produce.put_i16(1);
    produce.put_i32(1000);
    let fetch = [255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let list_offsets = (-1i32).to_be_bytes();
    let frames = [
        ("Metadata topics", frame(METADATA, 1, &after(&[]))),
        ("Produce topics", frame(0, 3, &after(&produce))),
        ("Fetch topics", frame(1, 4, &after(&fetch))),
        ("ListOffsets topics", frame(2, 1, &after(&list_offsets))),
        ("CreateTopics topics", frame(19, 0, &after(&[]))),
        ("DeleteTopics names", frame(20, 0, &after(&[]))),
    ];
    frames
        .map(|(what, frame)| (format!("{count} {what}"), frame, count < 0))
        .into()
}

/// Compact counts and tags of flexible versions. Only ApiVersions has an error of its own for a bad request.
fn bad_varints(varint: &[u8]) -> Vec<Case> {
    let api_versions = [&[0, 2, b'a', 2, b'b'], varint].concat();
    let compact_array = [&[0], varint].concat();
    let frames = [
        ("tags of the header", frame(METADATA, 9, varint), false),
        ("a compact array", frame(METADATA, 9, &compact_array), false),
        (
            "tags of ApiVersions",
            frame(API_VERSIONS, 3, &api_versions),
            true,
        ),
    ];
    frames
        .map(|(what, frame, answerable)| (what.to_owned(), frame, answerable))
        .into()
}

#[test]
fn garbage_strings_and_counts_end_the_connection() {
    let server = server();
    let counts = [i32::MAX, i32::MIN, -2, 1_000_000];
    // A varint without an end, and one of 2^32 - 1.
    let varints = [&[0xFF; 10][..], &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]];
    let cases = bad_client_ids()
        .into_iter()
        .chain(counts.into_iter().flat_map(bad_counts))
        .chain(varints.into_iter().flat_map(bad_varints));
    for (what, frame, answerable) in cases {
        let mut wire = Wire::connect(&server);
        wire.send_frame(&frame);
        wire.finish_sending();
        if let Some(reply) = wire.receive_frame() {
            assert!(answerable && reply.len() < 1000, "{what} got {reply:?}");
        }
    }
    let mut name_that_is_no_text = BytesMut::new();
    name_that_is_no_text.put_i32(1);
    name_that_is_no_text.put_i16(4);
    name_that_is_no_text.put_slice(&[0xFF, 0xFE, 0xC0, 0x80]);
    let mut wire = Wire::connect(&server);
    wire.send_frame(&frame(METADATA, 1, &name_that_is_no_text));
    wire.finish_sending();
    while wire.receive_frame().is_some() {}
    assert_alive(server);
}

#[test]
fn mutated_requests_do_not_harm() {
    let mut random = random();
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
