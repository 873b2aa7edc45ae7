//! Consumer groups with librdkafka: members share partitions, take over from each other, and find their offsets again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_protocol::messages::DeleteTopicsRequest;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};
use support::clients::{Producer, consumer, create_topic, read};
use support::kcat;
use support::process::{HANG_GUARD, Process};
use support::requests::{create_topic_request, topic_name};
use support::server::{Server, troupe};
use support::wire::Wire;

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
    let mut producer = Producer::new(server, &[]);
    for partition in 0..PARTITIONS {
        for _ in 0..each {
            producer.send(BaseRecord::to("t").partition(partition).payload(b"value"));
        }
    }
    producer.flush_all_taken();
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

fn assigned(member: &BaseConsumer) -> BTreeSet<i32> {
    let assignment = member.assignment().unwrap();
    let elements = assignment.elements();
    elements.iter().map(|element| element.partition()).collect()
}

/// Polls members until they have so many partitions each, and together all of them once.
#[track_caller]
fn settle(members: &[&BaseConsumer], counts: &[usize]) -> Vec<BTreeSet<i32>> {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        for member in members {
            // Records come too; they can be read again from what is committed.
            let _ = member.poll(Duration::from_millis(20));
        }
        let assignments: Vec<_> = members.iter().map(|member| assigned(member)).collect();
        let together: BTreeSet<i32> = assignments.iter().flatten().copied().collect();
        let sizes: Vec<usize> = assignments.iter().map(BTreeSet::len).collect();
        if sizes == counts && together == (0..PARTITIONS).collect() {
            return assignments;
        }
        assert!(Instant::now() < deadline, "{assignments:?}");
    }
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
    let deadline = Instant::now() + HANG_GUARD;
    // The second one is not polled, so it could not take part in a rebalance, and this would wait for one.
    while assigned(&first).is_empty() {
        let _ = first.poll(Duration::from_millis(20));
        assert!(Instant::now() < deadline, "the first member gets nothing");
    }
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
