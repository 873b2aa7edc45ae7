//! Groups of the consumer protocol (KIP-848) with librdkafka: members share partitions, take over from each other, and
//! change over from the classic protocol and back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::BaseRecord;
use support::clients::{Producer, add_partitions, consumer, create_topic};
use support::process::HANG_GUARD;
use support::server::Server;

const PARTITIONS: i32 = 4;
const CONSUMER: &[(&str, &str)] = &[("group.protocol", "consumer")];
const CLASSIC: &[(&str, &str)] = &[
    ("partition.assignment.strategy", "range"),
    ("heartbeat.interval.ms", "100"),
];

/// A broker whose groups move fast, and a topic.
fn start() -> Server {
    let server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        .set("group.consumer.heartbeat.interval.ms", 100)
        .set("group.consumer.session.timeout.ms", 6000)
        .start();
    create_topic(&server, "t", PARTITIONS, &[]);
    server
}

fn member(server: &Server, settings: &[&[(&str, &str)]]) -> BaseConsumer {
    let group = [("group.id", "readers"), ("auto.offset.reset", "earliest")];
    let member = consumer(server, &[&group[..], &settings.concat()].concat());
    member.subscribe(&["t"]).unwrap();
    member
}

fn assigned(member: &BaseConsumer) -> BTreeSet<i32> {
    let assignment = member.assignment().unwrap();
    let elements = assignment.elements();
    elements.iter().map(|element| element.partition()).collect()
}

/// Polls members until they have so many partitions, the fewest first, and each partition once.
#[track_caller]
fn settle(members: &[&BaseConsumer], counts: &[usize]) -> Vec<BTreeSet<i32>> {
    let deadline = Instant::now() + HANG_GUARD;
    let all: usize = counts.iter().sum();
    loop {
        for member in members {
            // Records come too; they can be read again from what is committed.
            let _ = member.poll(Duration::from_millis(20));
        }
        let assignments: Vec<_> = members.iter().map(|member| assigned(member)).collect();
        let together: BTreeSet<i32> = assignments.iter().flatten().copied().collect();
        let mut sizes: Vec<usize> = assignments.iter().map(BTreeSet::len).collect();
        sizes.sort_unstable();
        if sizes == counts && together.len() == all {
            return assignments;
        }
        assert!(Instant::now() < deadline, "{assignments:?}");
    }
}

#[test]
fn members_share_and_take_over() {
    let server = start();
    let first = member(&server, &[CONSUMER]);
    settle(&[&first], &[4]);
    let second = member(&server, &[CONSUMER]);
    settle(&[&first, &second], &[2, 2]);
    // Closing is leaving: nobody waits for a session to end.
    drop(first);
    settle(&[&second], &[4]);
}

#[test]
fn static_members_come_back_to_their_partitions() {
    let server = start();
    let named = |name| member(&server, &[CONSUMER, &[("group.instance.id", name)]]);
    let (first, second) = (named("one"), named("two"));
    let before = settle(&[&first, &second], &[2, 2]);
    // A static member leaves only for a while when it is closed.
    drop(first);
    let first = named("one");
    let deadline = Instant::now() + HANG_GUARD;
    while assigned(&first).is_empty() {
        let _ = first.poll(Duration::from_millis(20));
        assert!(Instant::now() < deadline, "the first member gets nothing");
    }
    assert_eq!([assigned(&first), assigned(&second)], *before);
}

#[test]
fn offsets_are_committed_in_the_epoch_of_the_member() {
    let server = start();
    let mut producer = Producer::new(&server, &[]);
    for partition in 0..PARTITIONS {
        producer.send(BaseRecord::to("t").partition(partition).payload(b"value"));
    }
    producer.flush_all_taken();
    let reader = member(&server, &[CONSUMER, &[("enable.auto.commit", "false")]]);
    let deadline = Instant::now() + HANG_GUARD;
    let mut read = BTreeSet::new();
    while read.len() < 4 {
        if let Some(message) = reader.poll(Duration::from_millis(100)) {
            read.insert(message.unwrap().partition());
        }
        assert!(Instant::now() < deadline, "{read:?}");
    }
    reader.commit_consumer_state(CommitMode::Sync).unwrap();
    drop(reader);
    let next = member(&server, &[CONSUMER]);
    settle(&[&next], &[4]);
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range("t", 0, PARTITIONS - 1);
    let committed = next.committed_offsets(asked, HANG_GUARD).unwrap();
    for element in committed.elements() {
        assert_eq!(element.offset(), Offset::Offset(1));
    }
}

#[test]
fn a_group_changes_over_while_it_reads_and_back() {
    let server = start();
    let (one, two) = (member(&server, &[CLASSIC]), member(&server, &[CLASSIC]));
    settle(&[&one, &two], &[2, 2]);
    let three = member(&server, &[CONSUMER]);
    settle(&[&one, &two, &three], &[1, 1, 2]);
    drop(one);
    settle(&[&two, &three], &[2, 2]);
    let four = member(&server, &[CLASSIC]);
    settle(&[&two, &three, &four], &[1, 1, 2]);
    // The last one of the consumer protocol goes: the classic members assign among themselves again.
    drop(three);
    settle(&[&two, &four], &[2, 2]);
    drop((two, four));
    let last = member(&server, &[CONSUMER]);
    settle(&[&last], &[4]);
}

#[test]
fn new_partitions_are_assigned() {
    let server = start();
    let (one, two) = (member(&server, &[CONSUMER]), member(&server, &[CONSUMER]));
    settle(&[&one, &two], &[2, 2]);
    add_partitions(&server, "t", 6);
    settle(&[&one, &two], &[3, 3]);
}

#[test]
fn a_broker_that_is_killed_keeps_its_groups() {
    let mut server = start();
    let (one, two) = (member(&server, &[CONSUMER]), member(&server, &[CONSUMER]));
    let before = settle(&[&one, &two], &[2, 2]);
    server.kill();
    server.restart();
    // Both are heard of again, and a third one finds them there.
    let three = member(&server, &[CONSUMER]);
    let after = settle(&[&one, &two, &three], &[1, 1, 2]);
    assert!(after[0].is_subset(&before[0]) && after[1].is_subset(&before[1]));
}
