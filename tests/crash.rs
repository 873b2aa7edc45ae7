//! kill -9 under load: what was acknowledged is there afterwards, in order, and once where the producer is idempotent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use rand::Rng;
use rdkafka::message::Message;
use rdkafka::producer::BaseRecord;
use support::clients::{Producer, create_topic, read_whole};
use support::random::random;
use support::server::Server;

const PARTITIONS: i32 = 3;

/// Segments that roll many times in a run, so that kills hit rolls and index writes too.
const SMALL: [(&str, &str); 2] = [("segment.bytes", "60000"), ("index.interval.bytes", "1000")];

fn value(number: usize) -> String {
    format!("{number} {}", "x".repeat(number * 37 % 300))
}

/// Produces while the broker is killed and started again `rounds` times, each time once some more records were
/// acknowledged. Every record is acknowledged in the end; returns their offsets in the order of sending.
fn produce_through_kills(
    server: &mut Server,
    rounds: usize,
    settings: &[(&str, &str)],
) -> Vec<(i32, i64)> {
    let mut random = random();
    let patient = [
        ("message.timeout.ms", "600000"),
        ("reconnect.backoff.max.ms", "100"),
        ("retry.backoff.ms", "20"),
        ("queue.buffering.max.messages", "3000"),
        ("batch.num.messages", "50"),
        ("linger.ms", "1"),
    ];
    let mut producer = Producer::new(server, &[&patient[..], settings].concat());
    let mut number = 0;
    for _ in 0..rounds {
        let enough = producer.delivered_count() + random.random_range(1..4000);
        while producer.delivered_count() < enough {
            let partition = i32::try_from(number).unwrap() % PARTITIONS;
            let value = value(number);
            producer.send(
                BaseRecord::to("kept")
                    .partition(partition)
                    .payload(value.as_bytes()),
            );
            producer.poll();
            number += 1;
        }
        // The queue is full of records, and requests are in flight.
        server.kill();
        server.restart();
    }
    producer.flush_all_taken()
}

/// Kills under an idempotent producer: each partition is exactly what was sent to it.
fn acknowledged_records_are_there_once(rounds: usize, codec: &str) {
    let mut server = Server::start();
    create_topic(&server, "kept", PARTITIONS, &SMALL);
    let settings = [("enable.idempotence", "true"), ("compression.codec", codec)];
    let delivered = produce_through_kills(&mut server, rounds, &settings);
    // Once more, so that the last state is one that was recovered.
    server.kill();
    server.restart();
    for partition in 0..PARTITIONS {
        let stored = read_whole(&server, "kept", partition, &[("check.crcs", "true")]);
        let mut sent = (0..delivered.len())
            .filter(|number| i32::try_from(*number).unwrap() % PARTITIONS == partition);
        for (index, message) in stored.iter().enumerate() {
            assert_eq!(message.offset(), i64::try_from(index).unwrap());
            let expected = sent.next().map(value);
            let payload = message
                .payload()
                .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
            assert_eq!(payload, expected, "offset {index} of partition {partition}");
        }
        assert_eq!(
            sent.next(),
            None,
            "partition {partition} ends before what was sent to it"
        );
    }
}

/// Kills under a plain producer: each record is at the offset that was acknowledged, and nothing is out of order
/// but what was sent again.
fn acknowledged_records_stay_where_they_were(rounds: usize, acks: &str) {
    let mut server = Server::start();
    create_topic(&server, "kept", PARTITIONS, &SMALL);
    let settings = [
        ("enable.idempotence", "false"),
        ("acks", acks),
        ("max.in.flight", "1"),
    ];
    let delivered = produce_through_kills(&mut server, rounds, &settings);
    server.kill();
    server.restart();
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|partition| read_whole(&server, "kept", partition, &[("check.crcs", "true")]))
        .collect();
    for (number, (partition, offset)) in delivered.iter().enumerate() {
        let stored =
            &partitions[usize::try_from(*partition).unwrap()][usize::try_from(*offset).unwrap()];
        assert_eq!(stored.offset(), *offset);
        let payload = String::from_utf8(stored.payload().unwrap().to_vec()).unwrap();
        assert_eq!(
            payload,
            value(number),
            "record {number} was acknowledged at {partition}:{offset}"
        );
    }
}

#[test]
fn an_idempotent_producer_survives_kills() {
    acknowledged_records_are_there_once(4, "none");
}

#[test]
fn an_idempotent_producer_of_compressed_batches_survives_kills() {
    acknowledged_records_are_there_once(2, "lz4");
}

#[test]
fn what_all_replicas_acknowledged_survives_kills() {
    acknowledged_records_stay_where_they_were(3, "all");
}

#[test]
fn what_the_leader_acknowledged_survives_kills() {
    acknowledged_records_stay_where_they_were(3, "1");
}

#[test]
#[ignore = "long: ./test --long"]
fn an_idempotent_producer_survives_many_kills() {
    acknowledged_records_are_there_once(60, "none");
}

#[test]
#[ignore = "long: ./test --long"]
fn what_the_leader_acknowledged_survives_many_kills() {
    acknowledged_records_stay_where_they_were(40, "1");
}

#[test]
fn topics_survive_kills_right_after_their_creation() {
    let mut server = Server::start();
    for number in 0..5 {
        create_topic(
            &server,
            &format!("topic-{number}"),
            2,
            &[("retention.ms", "1234567")],
        );
        server.kill();
        server.restart();
    }
    for number in 0..5 {
        let topic = format!("topic-{number}");
        let mut producer = Producer::new(&server, &[]);
        producer.send(
            BaseRecord::<[u8], [u8]>::to(&topic)
                .partition(1)
                .payload(b"x"),
        );
        assert_eq!(producer.flush_all_taken(), [(1, 0)], "{topic}");
    }
}
