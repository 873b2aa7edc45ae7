//! Compacted topics: the last record of each key stays where it was, whatever happens meanwhile; the files are Kafka's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::Rng;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};
use support::clients::{Producer, assign_from_beginning, consumer, create_topic};
use support::java::{Kafka, Release};
use support::process::HANG_GUARD;
use support::random::random;
use support::server::{Kind, Server};

const TOPIC: &str = "compacted";
const CODECS: [&str; 4] = ["none", "gzip", "snappy", "zstd"];

/// Small segments, compacted as soon as there is something to compact.
const EAGER: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "40000"),
    ("index.interval.bytes", "512"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "100"),
];

fn start(kind: Option<Kind>) -> Server {
    let options = Server::with()
        .set("log.cleaner.backoff.ms", 50)
        .set("group.initial.rebalance.delay.ms", 0);
    match kind {
        Some(kind) => options.kind(kind).start(),
        None => options.start(),
    }
}

/// The value that each key was given last: nothing for what was deleted.
type Table = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Writes records of 100 keys, of which some are deleted now and then.
fn write(
    server: &Server,
    settings: &[(&str, &str)],
    numbers: std::ops::Range<usize>,
    table: &mut Table,
) {
    let batches = [("batch.num.messages", "20"), ("enable.idempotence", "true")];
    let mut producer = Producer::new(server, &[&batches[..], settings].concat());
    for number in numbers {
        let key = format!("key {}", number * 31 % 100).into_bytes();
        let value = (number % 11 > 0).then(|| {
            format!("value {number} ")
                .repeat(number % 9 + 1)
                .into_bytes()
        });
        let mut record = BaseRecord::to(TOPIC).partition(0).key(&key[..]);
        if let Some(value) = &value {
            record = record.payload(&value[..]);
        }
        producer.send(record);
        table.insert(key, value);
    }
    producer.flush_all_taken();
}

/// Reads from the first record to the end that the partition has now.
fn read_to_end(server: &Server, topic: &str) -> Vec<OwnedMessage> {
    let settings = [("check.crcs", "true"), ("enable.partition.eof", "true")];
    let consumer = consumer(server, &settings);
    assign_from_beginning(&consumer, &[(topic, 0)]);
    let (mut messages, deadline) = (Vec::new(), Instant::now() + HANG_GUARD);
    loop {
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => messages.push(message.detach()),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(0))) => return messages,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
        assert!(
            Instant::now() < deadline,
            "{} records and no end",
            messages.len()
        );
    }
}

/// Checks that what is left says the same as all that was written, in the order of offsets.
#[track_caller]
fn check(messages: &[OwnedMessage], table: &Table) {
    assert!(messages.is_sorted_by_key(Message::offset));
    let mut found = Table::new();
    for message in messages {
        let payload = message.payload().map(<[u8]>::to_vec);
        found.insert(message.key().unwrap().to_vec(), payload);
    }
    for (key, value) in table {
        let there = found.get(key).cloned().flatten();
        assert_eq!(&there, value, "{}", String::from_utf8_lossy(key));
    }
}

/// Returns up to which offset the checkpoint says that a partition was compacted.
fn cleaned_to(server: &Server, topic: &str) -> i64 {
    let path = server.log_directory().join("cleaner-offset-checkpoint");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{topic} 0 ")));
    line.map_or(0, |offset| offset.parse().unwrap())
}

fn logs(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        .collect();
    files.sort();
    files
}

fn base_offset(log: &Path) -> i64 {
    log.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// Waits until everything before the active segment is compacted, and the checkpoint says so.
#[track_caller]
fn wait_until_compacted(server: &Server, topic: &str) {
    let (directory, deadline) = (
        server.partition_directory(topic, 0),
        Instant::now() + HANG_GUARD,
    );
    loop {
        let active = base_offset(logs(&directory).last().unwrap());
        if cleaned_to(server, topic) >= active && active > 0 {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{} of {active}: {}",
            cleaned_to(server, topic),
            server.said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Writes with every codec, so that there are many segments.
fn fill(server: &Server) -> Table {
    let mut table = Table::new();
    for (round, codec) in CODECS.iter().enumerate() {
        let settings = [("compression.codec", *codec)];
        write(
            server,
            &settings,
            round * 2000..(round + 1) * 2000,
            &mut table,
        );
    }
    table
}

#[test]
fn of_each_key_the_last_value_is_left_in_order() {
    let server = start(None);
    create_topic(&server, TOPIC, 1, &EAGER);
    let table = fill(&server);
    wait_until_compacted(&server, TOPIC);
    let left = read_to_end(&server, TOPIC);
    assert!(left.len() < 2500, "{} of 8000 records are left", left.len());
    check(&left, &table);
}

#[test]
fn compaction_can_be_switched_off() {
    let server = Server::with()
        .set("log.cleaner.backoff.ms", 50)
        .set("log.cleaner.enable", false)
        .start();
    create_topic(&server, TOPIC, 1, &EAGER);
    let table = fill(&server);
    let left = read_to_end(&server, TOPIC);
    assert_eq!(left.len(), 8000);
    check(&left, &table);
}

#[test]
fn compacted_segments_please_kafkas_own_tool() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let mut server = start(None);
    create_topic(&server, TOPIC, 1, &EAGER);
    fill(&server);
    wait_until_compacted(&server, TOPIC);
    let directory = server.partition_directory(TOPIC, 0);
    server.terminate();
    let list = |kind: &str| {
        let files = logs(&directory)
            .into_iter()
            .map(|log| log.with_extension(kind));
        files
            .map(|file| file.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(",")
    };
    let dump = |arguments: &[&str]| {
        kafka
            .run("kafka.tools.DumpLogSegments", arguments)
            .succeeded()
            .text()
    };
    let text = dump(&[
        "--deep-iteration",
        "--print-data-log",
        "--files",
        &list("log"),
    ]);
    assert!(
        text.contains("isvalid: true") && !text.contains("isvalid: false"),
        "{text}"
    );
    assert!(
        text.contains("deleteHorizonMs: OptionalLong["),
        "tombstones have a horizon: {text}"
    );
    for kind in ["index", "timeindex"] {
        let text = dump(&["--deep-iteration", "--files", &list(kind)]);
        for complaint in [
            "Mismatches",
            "Non-consecutive",
            "does not match",
            "timestamp mismatch",
            "out of order",
            "not found",
        ] {
            assert!(!text.contains(complaint), "{text}");
        }
    }
    let text = dump(&["--index-sanity-check", "--files", &list("index")]);
    let fine = text.matches("passed sanity check.").count() + text.matches("is empty.").count();
    assert_eq!(fine, logs(&directory).len(), "{text}");
}

/// Fills and compacts a topic on one kind of broker and opens its directory on another.
fn moves(from: Kind, to: Kind) {
    if Kafka::find(Release::V3_9).is_none() {
        return;
    }
    let mut source = start(Some(from));
    create_topic(&source, TOPIC, 1, &EAGER);
    let mut table = fill(&source);
    wait_until_compacted(&source, TOPIC);
    let written = read_to_end(&source, TOPIC);
    check(&written, &table);
    let origin = source.partition_directory(TOPIC, 0);
    source.terminate();

    let mut target = start(Some(to));
    create_topic(&target, TOPIC, 1, &EAGER);
    let directory = target.partition_directory(TOPIC, 0);
    target.terminate();
    for entry in std::fs::read_dir(&origin).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        // The topic id belongs to the cluster.
        if name != "partition.metadata" {
            std::fs::copy(&path, directory.join(name)).unwrap();
        }
    }
    target.restart();
    check(&read_to_end(&target, TOPIC), &table);
    // And it goes on from there.
    // The other cluster gave its producers the numbers that this one gives.
    let unnumbered = [("enable.idempotence", "false")];
    write(&target, &unnumbered, 9000..12000, &mut table);
    wait_until_compacted(&target, TOPIC);
    let left = read_to_end(&target, TOPIC);
    assert!(left.len() < written.len() + 2500, "{}", left.len());
    check(&left, &table);
}

#[test]
fn what_kafka_compacted_is_opened_here() {
    moves(Kind::Kafka, Kind::Troupe);
}

#[test]
fn kafka_opens_what_was_compacted_here() {
    moves(Kind::Troupe, Kind::Kafka);
}

#[test]
fn committed_offsets_are_compacted_and_stay_right() {
    let mut server = Server::with()
        .set("log.cleaner.backoff.ms", 50)
        .set("offsets.topic.segment.bytes", 20_000)
        .set("offsets.topic.num.partitions", 1)
        .set("log.cleaner.min.cleanable.ratio", 0.01)
        .start();
    create_topic(&server, "t", 3, &[]);
    let group = consumer(&server, &[("group.id", "committing")]);
    let offsets = |round: i64| {
        let mut list = TopicPartitionList::new();
        for partition in 0..3 {
            list.add_partition_offset(
                "t",
                partition,
                Offset::Offset(round * 10 + i64::from(partition)),
            )
            .unwrap();
        }
        list
    };
    for round in 0..700 {
        group.commit(&offsets(round), CommitMode::Sync).unwrap();
    }
    wait_until_compacted(&server, "__consumer_offsets");
    let bytes: u64 = logs(&server.partition_directory("__consumer_offsets", 0))
        .iter()
        .map(|log| log.metadata().unwrap().len())
        .sum();
    assert!(bytes < 45_000, "{bytes} bytes are left of 2100 commits");
    drop(group);
    for kill in [false, true] {
        if kill {
            server.kill();
        } else {
            server.terminate();
        }
        server.restart();
        let group = consumer(&server, &[("group.id", "committing")]);
        let committed = group.committed_offsets(offsets(0), HANG_GUARD).unwrap();
        assert_eq!(committed, offsets(699), "after a restart, kill -9: {kill}");
    }
}

/// Kills the broker again and again while it compacts what is written to it.
fn survives_kills(rounds: usize) {
    let mut random = random();
    let mut server = start(None);
    // Files that are to be removed go at once, so that kills hit that too.
    let settings = [&EAGER[..], &[("file.delete.delay.ms", "0")]].concat();
    create_topic(&server, TOPIC, 1, &settings);
    let (mut table, mut number) = (Table::new(), 0);
    for _ in 0..rounds {
        let count = random.random_range(500..3000);
        let codec = CODECS[random.random_range(0..CODECS.len())];
        write(
            &server,
            &[("compression.codec", codec)],
            number..number + count,
            &mut table,
        );
        number += count;
        // At no moment in particular: the cleaner is at work or about to be.
        std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
        server.kill();
        server.restart();
        check(&read_to_end(&server, TOPIC), &table);
    }
    wait_until_compacted(&server, TOPIC);
    check(&read_to_end(&server, TOPIC), &table);
    let left: Vec<_> = std::fs::read_dir(server.partition_directory(TOPIC, 0))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".cleaned") || name.ends_with(".swap"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nothing_is_lost_to_kills_while_compacting() {
    survives_kills(6);
}

#[test]
#[ignore = "long: ./test --long"]
fn nothing_is_lost_to_many_kills_while_compacting() {
    survives_kills(80);
}
