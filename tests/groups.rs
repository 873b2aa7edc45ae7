//! Consumer groups with librdkafka: members share partitions, take over from each other, and find their offsets again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::DeleteTopicsRequest;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use support::clients::{consumer, create_topic, produce_values, read};
use support::groups::{assigned, settle, wait_for_assignment};
use support::kcat;
use support::process::{HANG_GUARD, Process};
use support::records::{batches, records};
use support::requests::{create_topic_request, topic_name};
use support::server::{Kind, Server, troupe};
use support::skip::skip;
use support::wire::Wire;
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::record::Record;

const PARTITIONS: i32 = 4;

/// A broker that lets a group start without waiting for more members, and a topic.
fn start() -> Server {
    let server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        .start();
    create_topic(&server, "t", PARTITIONS, &[]);
    server
}

fn produce(server: &Server, each: usize) {
    produce_values(server, "t", PARTITIONS, each);
}

fn member(server: &Server, settings: &[(&str, &str)]) -> BaseConsumer {
    let group = [
        ("group.id", "readers"),
        ("auto.offset.reset", "earliest"),
        ("heartbeat.interval.ms", "100"),
    ];
    let member = consumer(server, &[&group[..], settings].concat());
    member.subscribe(&["t"]).unwrap();
    member
}

fn committed(member: &BaseConsumer) -> Vec<(i32, Offset)> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range("t", 0, PARTITIONS - 1);
    let committed = member.committed_offsets(asked, HANG_GUARD).unwrap();
    let elements = committed.elements();
    elements
        .iter()
        .map(|element| (element.partition(), element.offset()))
        .collect()
}

fn members_share_and_take_over(strategy: &str) {
    let server = start();
    let settings = [("partition.assignment.strategy", strategy)];
    let first = member(&server, &settings);
    settle(&[&first], &[4]);
    let second = member(&server, &settings);
    settle(&[&first, &second], &[2, 2]);
    // Closing is leaving: nobody waits for a session to end.
    drop(first);
    settle(&[&second], &[4]);
}

#[test]
fn members_share_and_take_over_eagerly() {
    members_share_and_take_over("range");
}

#[test]
fn members_share_and_take_over_cooperatively() {
    members_share_and_take_over("cooperative-sticky");
}

#[test]
fn a_member_that_is_killed_is_replaced_when_its_session_ends() {
    if !kcat::present() {
        return;
    }
    let server = start();
    let member = member(&server, &[]);
    settle(&[&member], &[4]);
    let mut command = Command::new("kcat");
    command.args(["-b", &server.bootstrap(), "-G", "readers"]);
    command.args(["-X", "session.timeout.ms=6000", "t"]);
    let kcat = Process::spawn("kcat", command);
    let deadline = Instant::now() + HANG_GUARD;
    while assigned(&member).len() != 2 {
        let _ = member.poll(Duration::from_millis(20));
        assert!(Instant::now() < deadline, "kcat does not become a member");
    }
    kcat.kill();
    settle(&[&member], &[4]);
}

#[test]
fn static_members_come_back_to_their_partitions() {
    let server = start();
    let named = |name| member(&server, &[("group.instance.id", name)]);
    let (first, second) = (named("one"), named("two"));
    let before = settle(&[&first, &second], &[2, 2]);
    // A static member does not leave when it is closed.
    drop(first);
    let first = named("one");
    wait_for_assignment(&first);
    assert_eq!([assigned(&first), assigned(&second)], *before);
}

#[test]
fn committed_offsets_survive_kills() {
    let mut server = start();
    produce(&server, 3);
    let reader = member(&server, &[]);
    let records = read(&reader, 3 * 4);
    assert!(records.iter().all(|record| record.topic() == "t"));
    reader.commit_consumer_state(CommitMode::Sync).unwrap();
    let expected: Vec<_> = (0..PARTITIONS).map(|p| (p, Offset::Offset(3))).collect();
    assert_eq!(committed(&reader), expected);
    for _ in 0..3 {
        server.kill();
        server.restart();
        let stranger = consumer(&server, &[("group.id", "readers")]);
        assert_eq!(committed(&stranger), expected);
    }
    // The member goes on where it was, through all of that.
    produce(&server, 1);
    let more = read(&reader, 4);
    assert!(more.iter().all(|record| record.offset() == 3));
    // And so does one that takes its place.
    reader.commit_consumer_state(CommitMode::Sync).unwrap();
    drop(reader);
    produce(&server, 1);
    let successor = member(&server, &[]);
    let more = read(&successor, 4);
    assert!(more.iter().all(|record| record.offset() == 4));
}

#[test]
fn damaged_records_of_offsets_are_passed_over() {
    if Kind::from_environment() == Kind::Kafka {
        skip("what Apache Kafka says of such records is not what this looks for");
        return;
    }
    let mut server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        .set("offsets.topic.num.partitions", 1)
        .start();
    create_topic(&server, "t", PARTITIONS, &[]);
    let commit = |server: &Server, group: &str, offset: i64| {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset("t", 0, Offset::Offset(offset))
            .unwrap();
        let consumer = consumer(server, &[("group.id", group)]);
        consumer.commit(&offsets, CommitMode::Sync).unwrap();
    };
    let found = |server: &Server, group: &str| {
        committed(&consumer(server, &[("group.id", group)]))
            .first()
            .copied()
    };
    commit(&server, "before", 7);
    let log = server
        .partition_directory("__consumer_offsets", 0)
        .join("00000000000000000000.log");
    server.kill();
    let next_offset = append_damaged(&log);
    server.restart();
    server.wait_until_said("a record of __consumer_offsets is skipped");
    server.wait_until_said("records of __consumer_offsets could not be read");
    assert_eq!(found(&server, "before"), Some((0, Offset::Offset(7))));
    commit(&server, "after", 9);

    // What comes later in the log is found as well.
    server.kill();
    server.restart();
    assert_eq!(found(&server, "before"), Some((0, Offset::Offset(7))));
    assert_eq!(found(&server, "after"), Some((0, Offset::Offset(9))));
    let stored = records(Bytes::from(std::fs::read(&log).unwrap()));
    let later = stored.iter().any(|record| record.offset >= next_offset);
    assert!(later, "the commit was stored behind the damage");
}

/// Appends records that no coordinator writes to a log of `__consumer_offsets`; returns the offset after them.
fn append_damaged(log: &Path) -> i64 {
    let bytes = std::fs::read(log).unwrap();
    let there = batches(Bytes::from(bytes.clone()));
    let whole: usize = there.iter().map(Bytes::len).sum();
    let last = records(Bytes::from(bytes)).last().unwrap().offset;
    let key: Option<&[u8]> = None;
    let damaged = [
        (key, Some(&b"no key"[..])),
        (Some(b""), Some(b"an empty key")),
        (Some(&[0, 99, 1]), Some(b"a kind that nobody knows")),
        (Some(&[0, 1, 0, 200, b'g']), Some(b"a key that is cut off")),
        (
            Some(&[0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 0]),
            Some(&[0, 3, 1]),
        ),
        (
            Some(&[0, 2, 0, 1, b'g']),
            Some(&[0, 3, 255, 255, 255, 255, 255]),
        ),
    ];
    let damaged: Vec<Record> = (last + 1..)
        .zip(damaged)
        .map(|(offset, (key, value))| Record {
            offset,
            timestamp: 1_700_000_000_000,
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers: Vec::new(),
        })
        .collect();
    let batch = BatchBuilder::new()
        .leader_epoch(0)
        .build_from(&damaged)
        .unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(log).unwrap();
    file.seek(SeekFrom::Start(whole as u64)).unwrap();
    file.write_all(&batch).unwrap();
    last + 1 + damaged.len() as i64
}

#[test]
fn a_topic_that_is_made_again_is_read_from_its_start() {
    let server = start();
    let reader = consumer(&server, &[("group.id", "readers")]);
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset("t", 0, Offset::Offset(7))
        .unwrap();
    reader.commit(&offsets, CommitMode::Sync).unwrap();
    assert_eq!(committed(&reader)[0], (0, Offset::Offset(7)));
    let deletion = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name("t")])
        .with_timeout_ms(30_000);
    let mut wire = Wire::connect(&server);
    let deleted = wire.call(3, &deletion);
    assert_eq!(deleted.responses[0].error_code, 0);
    let deadline = Instant::now() + HANG_GUARD;
    // Kafka answers the deletion before it is done.
    let creation = create_topic_request("t", PARTITIONS);
    while wire.call(4, &creation).topics[0].error_code != 0 {
        assert!(Instant::now() < deadline, "the topic is not gone");
    }
    while committed(&reader)[0] != (0, Offset::Invalid) {
        assert!(Instant::now() < deadline, "the offset stays");
    }
}

/// Reads with our own console consumer, as a member of the group `console`.
fn read_with_our_console(server: &Server, count: usize) -> Vec<String> {
    let mut command = troupe();
    command
        .args(["console-consumer", "--topic", "t", "--group", "console"])
        .args([
            "--from-beginning",
            "--bootstrap-server",
            &server.bootstrap(),
        ])
        .args(["--max-messages", &count.to_string()])
        .args([
            "--property",
            "print.partition=true",
            "--property",
            "print.offset=true",
        ]);
    let output = Process::spawn("console-consumer", command)
        .finish()
        .succeeded();
    let said = format!("Processed a total of {count} messages");
    assert!(output.stderr().contains(&said), "{}", output.text());
    output.stdout().lines().map(str::to_owned).collect()
}

#[test]
fn our_console_consumer_goes_on_where_it_stopped() {
    let server = start();
    produce(&server, 5);
    let mut read = read_with_our_console(&server, 7);
    read.extend(read_with_our_console(&server, 13));
    let distinct: BTreeSet<&String> = read.iter().collect();
    assert_eq!(distinct.len(), 20, "{read:?}");
}
