//! The promise of a connection: requests may be sent without waiting, and replies come in the order of the requests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest};
use support::clients::create_topic;
use support::records::{batch, records};
use support::requests::{FETCH, PRODUCE, fetch, fetched, offset_at, produce, produced};
use support::server::Server;
use support::wire::Wire;

#[test]
fn pipelined_produces_are_stored_and_answered_in_order() {
    let server = Server::start();
    create_topic(&server, "pipe", 3, &[]);
    let mut wire = Wire::connect(&server);
    // More than any broker keeps in flight for one connection, so that back-pressure is part of the test.
    let mut expected = Vec::new();
    for number in 0..600 {
        let acks = if number % 2 == 0 { 1 } else { -1 };
        let value = format!("value {number}");
        let request = produce("pipe", number % 3, acks, batch(&[value.as_bytes()]));
        expected.push((wire.send(PRODUCE, &request), i64::from(number / 3)));
    }
    for (correlation_id, offset) in expected {
        let (received, response) = wire.receive::<ProduceRequest>(PRODUCE);
        assert_eq!(received, correlation_id);
        let partition = produced(&response);
        assert_eq!((partition.error_code, partition.base_offset), (0, offset));
    }
    for partition in 0..3 {
        let (error, bytes) = fetched(&wire.call(FETCH, &fetch("pipe", partition, 0, 0)));
        assert_eq!(error, 0);
        let values: Vec<String> = records(bytes)
            .into_iter()
            .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap())
            .collect();
        let expected: Vec<String> = (0..200)
            .map(|index| format!("value {}", index * 3 + partition))
            .collect();
        assert_eq!(values, expected);
    }
}

#[test]
fn a_produce_with_acks_0_gets_no_reply() {
    let server = Server::start();
    create_topic(&server, "silent", 1, &[]);
    let mut wire = Wire::connect(&server);
    for number in 0..50 {
        wire.send(
            PRODUCE,
            &produce("silent", 0, 0, batch(&[format!("{number}").as_bytes()])),
        );
    }
    let sent = wire.send(0, &ApiVersionsRequest::default());
    let (received, _) = wire.receive::<ApiVersionsRequest>(0);
    assert_eq!(
        received, sent,
        "the first reply belongs to the first request that has one"
    );

    let produce_with_reply = produce("silent", 0, 1, batch(&[b"50"]));
    assert_eq!(
        produced(&wire.call(PRODUCE, &produce_with_reply)).base_offset,
        50,
        "all 50 were stored before"
    );
    let (error, bytes) = fetched(&wire.call(FETCH, &fetch("silent", 0, 0, 0)));
    assert_eq!(error, 0);
    let values: Vec<String> = records(bytes)
        .into_iter()
        .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap())
        .collect();
    assert_eq!(
        values,
        (0..=50)
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_failed_produce_with_acks_0_ends_the_connection() {
    let server = Server::start();
    create_topic(&server, "silent", 1, &[]);
    let mut wire = Wire::connect(&server);
    // A client that gets no replies can learn of an error only this way.
    wire.send(
        PRODUCE,
        &produce("silent", 7, 0, batch(&[b"no such partition"])),
    );
    assert!(wire.is_closed_by_peer());
    assert_eq!(offset_at(&mut Wire::connect(&server), "silent", 0, -1), 0);
}

#[test]
fn quick_replies_wait_for_slow_ones_before_them() {
    let server = Server::start();
    create_topic(&server, "slow", 1, &[]);
    let mut wire = Wire::connect(&server);
    let waiting = wire.send(FETCH, &fetch("slow", 0, 0, 500));
    let quick = wire.send(1, &MetadataRequest::default());
    let quicker = wire.send(0, &ApiVersionsRequest::default());
    let (received, response) = wire.receive::<FetchRequest>(FETCH);
    assert_eq!(received, waiting);
    assert_eq!(fetched(&response).0, 0);
    assert_eq!(wire.receive::<MetadataRequest>(1).0, quick);
    assert_eq!(wire.receive::<ApiVersionsRequest>(0).0, quicker);
}

#[test]
fn a_waiting_fetch_is_answered_by_a_produce_on_another_connection() {
    let server = Server::start();
    create_topic(&server, "wake", 1, &[]);
    let (mut reader, mut writer) = (Wire::connect(&server), Wire::connect(&server));
    // Longer than the guard against hanging: only the record can be what answers it.
    let waiting = reader.send(FETCH, &fetch("wake", 0, 0, 600_000));
    assert_eq!(
        produced(&writer.call(PRODUCE, &produce("wake", 0, -1, batch(&[b"now"])))).error_code,
        0
    );
    let (received, response) = reader.receive::<FetchRequest>(FETCH);
    assert_eq!(received, waiting);
    let (error, bytes) = fetched(&response);
    assert_eq!(error, 0);
    assert_eq!(records(bytes)[0].value.as_deref(), Some(&b"now"[..]));
}

#[test]
fn an_invalid_number_of_acks_is_refused() {
    let server = Server::start();
    create_topic(&server, "acks", 1, &[]);
    let mut wire = Wire::connect(&server);
    let response = wire.call(PRODUCE, &produce("acks", 0, 2, batch(&[b"x"])));
    assert_eq!(produced(&response).error_code, 21, "INVALID_REQUIRED_ACKS");
    assert_eq!(offset_at(&mut wire, "acks", 0, -1), 0);
}
