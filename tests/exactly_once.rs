//! Transactions as real clients see them: read_committed consumers get exactly what was committed, and Kafka's own tool
//! reads the files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use support::clients::{create_topic, read_to_end, text_of};
use support::java::{Kafka, Release};
use support::process::HANG_GUARD;
use support::server::Server;

const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const DUMP: &str = "kafka.tools.DumpLogSegments";
const COMMITTED: (&str, &str) = ("isolation.level", "read_committed");
const UNCOMMITTED: (&str, &str) = ("isolation.level", "read_uncommitted");

/// A producer whose transactions are under way.
struct Transactional(BaseProducer);

impl Transactional {
    fn new(server: &Server, id: &str) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", server.bootstrap())
            .set("transactional.id", id)
            .create()
            .unwrap();
        producer.init_transactions(HANG_GUARD).unwrap();
        Self(producer)
    }

    fn begin(&self) {
        self.0.begin_transaction().unwrap();
    }

    /// Sends values and waits until the broker has them.
    fn send(&self, values: &[&str]) {
        for value in values {
            let record = BaseRecord::<(), str>::to("t").partition(0).payload(value);
            self.0.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.0.flush(HANG_GUARD).unwrap();
    }

    fn commit(&self) {
        self.0.commit_transaction(HANG_GUARD).unwrap();
    }

    fn abort(&self) {
        self.0.abort_transaction(HANG_GUARD).unwrap();
    }
}

/// What the transactions of [`interleave`] leave.
const LEFT: [&str; 5] = ["a1", "a2", "a3", "plain", "b3"];
const SENT: [&str; 9] = ["a1", "b1", "a2", "b2", "a3", "plain", "b3", "a4", "a5"];

/// Writes transactions of two producers into each other, in topic `t`; returns the producers, one of which has one more
/// open.
fn interleave(server: &Server) -> [Transactional; 2] {
    let (a, b) = (
        Transactional::new(server, "a"),
        Transactional::new(server, "b"),
    );
    a.begin();
    a.send(&["a1"]);
    b.begin();
    b.send(&["b1"]);
    a.send(&["a2"]);
    b.send(&["b2"]);
    b.abort();
    a.send(&["a3"]);
    a.commit();
    let plain: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.bootstrap())
        .create()
        .unwrap();
    let record = BaseRecord::<(), str>::to("t").partition(0).payload("plain");
    plain.send(record).map_err(|(error, _)| error).unwrap();
    plain.flush(HANG_GUARD).unwrap();
    b.begin();
    b.send(&["b3"]);
    b.commit();
    a.begin();
    a.send(&["a4"]);
    a.abort();
    a.begin();
    a.send(&["a5"]);
    [a, b]
}

fn values(server: &Server, isolation: (&str, &str)) -> Vec<String> {
    let messages = read_to_end(server, "t", 0, &[isolation]);
    messages.iter().map(text_of).collect()
}

#[test]
fn librdkafka_reads_what_was_committed() {
    let mut server = Server::start();
    create_topic(&server, "t", 1, &[]);
    let producers = interleave(&server);
    assert_eq!(values(&server, COMMITTED), LEFT);
    assert_eq!(values(&server, UNCOMMITTED), SENT);
    // The open transaction outlives the broker, and is committed afterwards.
    server.kill();
    server.restart();
    assert_eq!(values(&server, COMMITTED), LEFT);
    producers[0].commit();
    let with_last = [&LEFT[..], &["a5"]].concat();
    assert_eq!(values(&server, COMMITTED), with_last);
    server.terminate();
    server.restart();
    assert_eq!(values(&server, COMMITTED), with_last);
}

fn java_reads_what_was_committed(release: Release) {
    let Some(kafka) = Kafka::find(release) else {
        return;
    };
    let server = Server::start();
    create_topic(&server, "t", 1, &[]);
    let _producers = interleave(&server);
    let bootstrap = server.bootstrap();
    let consume = |isolation: &str| {
        let topic = ["--bootstrap-server", &bootstrap, "--topic", "t"];
        // By its number, without a group that has to be joined first.
        let rest = ["--partition", "0", "--offset", "earliest"];
        let end = ["--timeout-ms", "10000", "--isolation-level", isolation];
        let arguments = [&topic[..], &rest, &end].concat();
        kafka.run(CONSOLE_CONSUMER, &arguments).succeeded().stdout()
    };
    let lines = |values: &[&str]| {
        values
            .iter()
            .map(|value| format!("{value}\n"))
            .collect::<String>()
    };
    assert_eq!(consume("read_committed"), lines(&LEFT));
    assert_eq!(consume("read_uncommitted"), lines(&SENT));
}

#[test]
fn kafka_3_9_reads_what_was_committed() {
    java_reads_what_was_committed(Release::V3_9);
}

#[test]
fn kafka_4_1_reads_what_was_committed() {
    java_reads_what_was_committed(Release::V4_1);
}

#[track_caller]
fn dump(kafka: &Kafka, file: &Path) -> String {
    let arguments = ["--files", file.to_str().unwrap(), "--print-data-log"];
    kafka.run(DUMP, &arguments).succeeded().stdout()
}

#[test]
fn kafkas_tool_reads_markers_and_the_transaction_index() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let mut server = Server::start();
    create_topic(&server, "t", 1, &[]);
    let producers = interleave(&server);
    drop(producers);
    server.terminate();
    let directory = server.partition_directory("t", 0);
    let log = dump(&kafka, &directory.join("00000000000000000000.log"));
    let markers: Vec<(&str, i64)> = log.lines().filter_map(marker).collect();
    let [
        ("ABORT", first),
        ("COMMIT", _),
        ("COMMIT", _),
        ("ABORT", last),
    ] = markers[..]
    else {
        panic!("{markers:?} in {log}");
    };
    let index = dump(&kafka, &directory.join("00000000000000000000.txnindex"));
    let aborted: Vec<Vec<i64>> = index.lines().filter_map(aborted).collect();
    // First offset, offset of the marker, last stable offset then. Markers are written after the client was answered, so
    // other records may come before them.
    let a4 = log.lines().find(|line| line.ends_with("payload: a4"));
    let a4 = a4.and_then(offset_of).expect("a4 was sent");
    let expected = [[1, first, 0], [a4, last, last + 1]];
    assert_eq!(aborted, expected, "{index}");
}

/// Reads the outcome and the offset off a line that the tool prints of a marker.
fn marker(line: &str) -> Option<(&str, i64)> {
    let outcome = line.split("endTxnMarker: ").nth(1)?.split(' ').next()?;
    Some((outcome, offset_of(line)?))
}

/// Reads the offset off a line that the tool prints of a record.
fn offset_of(line: &str) -> Option<i64> {
    let offset = line.split("offset: ").nth(1)?;
    offset.split(' ').next()?.parse().ok()
}

/// Reads the offsets off a line that the tool prints of an aborted transaction.
fn aborted(line: &str) -> Option<Vec<i64>> {
    let fields = ["firstOffset: ", "lastOffset: ", "lastStableOffset: "];
    let number = |field: &str| {
        let rest = line.split(field).nth(1)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    fields.into_iter().map(number).collect()
}
