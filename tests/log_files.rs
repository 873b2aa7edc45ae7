//! The files on disk are Kafka's: its own tool reads ours without complaint, and we open its.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};

use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::BaseRecord;
use support::clients::{Producer, create_topic, read_whole};
use support::java::{Kafka, Release};
use support::server::{Kind, Server};

const DUMP: &str = "kafka.tools.DumpLogSegments";
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const START: i64 = 1_700_000_000_000;

/// Small segments with an index entry every few batches, so that a test has many of both.
const SMALL: [(&str, &str); 3] = [
    ("segment.bytes", "40000"),
    ("index.interval.bytes", "512"),
    ("retention.ms", "-1"),
];

/// Fills partition 0 with 300 records of each codec, with keys, headers, nulls and an idempotent producer.
fn fill(kafka: &Kafka, server: &Server, topic: &str) {
    for (round, codec) in CODECS.iter().enumerate() {
        if *codec == "lz4" {
            // librdkafka compresses with LZ4 only for brokers that coordinate groups; the Java producer for all.
            fill_from_java(kafka, server, topic, codec);
        } else {
            fill_from_librdkafka(server, topic, codec, round);
        }
    }
}

fn fill_from_java(kafka: &Kafka, server: &Server, topic: &str, codec: &str) {
    let (bootstrap, codec) = (
        format!("bootstrap.servers={}", server.bootstrap()),
        format!("compression.type={codec}"),
    );
    let arguments = [
        "--topic",
        topic,
        "--num-records",
        "300",
        "--record-size",
        "500",
        "--throughput",
        "-1",
    ];
    let arguments = [&arguments[..], &["--producer-props", &bootstrap, &codec]].concat();
    kafka
        .run("org.apache.kafka.tools.ProducerPerformance", &arguments)
        .succeeded();
}

fn fill_from_librdkafka(server: &Server, topic: &str, codec: &str, round: usize) {
    let settings = [
        ("compression.codec", codec),
        ("enable.idempotence", "true"),
        ("batch.num.messages", "20"),
    ];
    let mut producer = Producer::new(server, &settings);
    for number in 0..300 {
        let key = format!("key {number}");
        let value = format!("{codec} {number} ").repeat(number % 30 + 1);
        let mut record = BaseRecord::<[u8], [u8]>::to(topic)
            .partition(0)
            .timestamp(START + i64::try_from(round * 300 + number).unwrap() * 10);
        if number % 3 > 0 {
            record = record.key(key.as_bytes());
        }
        if number % 7 > 0 {
            record = record.payload(value.as_bytes());
        }
        if number % 5 == 0 {
            let headers = OwnedHeaders::new().insert(Header {
                key: "codec",
                value: Some(codec),
            });
            record = record.headers(headers.insert(Header::<&str> {
                key: "null",
                value: None,
            }));
        }
        producer.send(record);
    }
    producer.flush_all_taken();
}

/// What one record is, for comparing.
fn facts(messages: &[OwnedMessage]) -> Vec<String> {
    messages.iter().map(fact).collect()
}

fn fact(message: &OwnedMessage) -> String {
    let headers: Vec<Header<'_, &[u8]>> = message
        .headers()
        .map(|headers| headers.iter().collect())
        .unwrap_or_default();
    let (offset, time) = (message.offset(), message.timestamp());
    format!(
        "{offset} {time:?} {:?} {:?} {headers:?}",
        message.key(),
        message.payload()
    )
}

fn files_with_extension(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn list(files: &[PathBuf]) -> String {
    files
        .iter()
        .map(|file| file.to_str().unwrap())
        .collect::<Vec<_>>()
        .join(",")
}

/// Runs Kafka's segment dump over a partition directory and checks that nothing in it is amiss.
fn check_with_dump_tool(kafka: &Kafka, directory: &Path, records: usize) {
    let logs = files_with_extension(directory, "log");
    assert!(logs.len() >= 3, "several segments: {logs:?}");
    let text = dump(kafka, &["--deep-iteration", "--print-data-log"], &logs);
    assert_eq!(text.matches("| offset: ").count(), records, "{text}");
    assert!(
        text.contains("isvalid: true") && !text.contains("isvalid: false"),
        "{text}"
    );
    for codec in CODECS {
        assert!(
            text.contains(&format!("compresscodec: {codec}")),
            "{codec}: {text}"
        );
    }
    for (extension, entry) in [("index", "offset: "), ("timeindex", "timestamp: ")] {
        let indexes = files_with_extension(directory, extension);
        assert_eq!(
            indexes.len(),
            logs.len(),
            "one {extension} for each segment"
        );
        check_indexes_with_dump_tool(kafka, &indexes, entry);
    }
    let indexes = files_with_extension(directory, "index");
    let checked = dump(kafka, &["--index-sanity-check"], &indexes);
    // A segment of one batch has no entry.
    let (passed, empty) = (
        checked.matches("passed sanity check.").count(),
        checked.matches("is empty.").count(),
    );
    assert!(passed > 2 && passed + empty == indexes.len(), "{checked}");
    let snapshots = files_with_extension(directory, "snapshot");
    assert!(
        !snapshots.is_empty(),
        "a clean shutdown leaves a snapshot of producers"
    );
    let dumped = dump(kafka, &[], &snapshots);
    assert!(dumped.contains("producerId: "), "{dumped}");
}

/// Has every entry read, and the batch that it points to.
fn check_indexes_with_dump_tool(kafka: &Kafka, indexes: &[PathBuf], entry: &str) {
    let dumped = dump(kafka, &["--deep-iteration"], indexes);
    for complaint in [
        "Mismatches",
        "Non-consecutive",
        "does not match",
        "timestamp mismatch",
        "out of order",
    ] {
        assert!(!dumped.contains(complaint), "{dumped}");
    }
    assert!(
        dumped.matches(entry).count() > 10,
        "an index of some length: {dumped}"
    );
}

fn dump(kafka: &Kafka, flags: &[&str], files: &[PathBuf]) -> String {
    let files = list(files);
    let all = [flags, &["--files", &files]].concat();
    kafka.run(DUMP, &all).succeeded().text()
}

fn kafkas_dump_tool_reads_our_segments(release: Release) {
    let Some(jars) = Kafka::find(release) else {
        return;
    };
    let mut server = Server::start();
    create_topic(&server, "dumped", 1, &SMALL);
    fill(&jars, &server, "dumped");
    let directory = server.partition_directory("dumped", 0);
    server.terminate();
    check_with_dump_tool(&jars, &directory, 1500);
}

#[test]
fn the_dump_tool_of_kafka_3_9_reads_our_segments() {
    kafkas_dump_tool_reads_our_segments(Release::V3_9);
}

#[test]
fn the_dump_tool_of_kafka_4_1_reads_our_segments() {
    kafkas_dump_tool_reads_our_segments(Release::V4_1);
}

#[test]
fn the_dump_tool_reads_segments_that_were_recovered_after_a_kill() {
    let Some(jars) = Kafka::find(Release::V3_9) else {
        return;
    };
    let mut server = Server::start();
    create_topic(&server, "killed", 1, &SMALL);
    fill(&jars, &server, "killed");
    let before = facts(&read_whole(&server, "killed", 0, &[]));
    let directory = server.partition_directory("killed", 0);
    server.kill();
    server.restart();
    assert_eq!(
        facts(&read_whole(&server, "killed", 0, &[("check.crcs", "true")])),
        before
    );
    server.terminate();
    check_with_dump_tool(&jars, &directory, 1500);
}

/// Copies all files of a partition but the one with its topic id, which belongs to the cluster and not to the records.
fn copy_partition(source: &Path, target: &Path) {
    for entry in std::fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "partition.metadata" {
            std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_partition_that_kafka_wrote_is_read_back_whole() {
    let Some(jars) = Kafka::find(Release::V3_9) else {
        return;
    };
    let mut kafka = Server::with().kind(Kind::Kafka).start();
    create_topic(&kafka, "theirs", 1, &SMALL);
    fill(&jars, &kafka, "theirs");
    let written = facts(&read_whole(&kafka, "theirs", 0, &[]));
    assert_eq!(written.len(), 1500);
    let source = kafka.partition_directory("theirs", 0);
    kafka.terminate();

    let mut server = Server::start();
    create_topic(&server, "theirs", 1, &SMALL);
    let target = server.partition_directory("theirs", 0);
    server.terminate();
    copy_partition(&source, &target);
    server.restart();
    assert_eq!(
        facts(&read_whole(&server, "theirs", 0, &[("check.crcs", "true")])),
        written
    );
    // And it goes on from there.
    let mut producer = Producer::new(&server, &[]);
    producer.send(BaseRecord::to("theirs").partition(0).payload(b"ours"));
    assert_eq!(producer.flush_all_taken(), [(0, 1500)]);
}

#[test]
fn kafka_opens_a_partition_that_we_wrote() {
    let Some(jars) = Kafka::find(Release::V3_9) else {
        return;
    };
    let mut server = Server::start();
    create_topic(&server, "ours", 1, &SMALL);
    fill(&jars, &server, "ours");
    let written = facts(&read_whole(&server, "ours", 0, &[]));
    let source = server.partition_directory("ours", 0);
    server.terminate();

    let mut kafka = Server::with().kind(Kind::Kafka).start();
    create_topic(&kafka, "ours", 1, &SMALL);
    let target = kafka.partition_directory("ours", 0);
    kafka.terminate();
    copy_partition(&source, &target);
    kafka.restart();
    assert_eq!(
        facts(&read_whole(&kafka, "ours", 0, &[("check.crcs", "true")])),
        written
    );
}
