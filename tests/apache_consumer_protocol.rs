//! Groups of the consumer protocol (KIP-848) with Apache Kafka's own consumers and tools, those of 3.9.1 and 4.1.0.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use support::clients::{consumer, create_topic, produce_values};
use support::java::{Kafka, Release, manifest_dir};
use support::process::{HANG_GUARD, Process};
use support::server::Server;

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const DUMP: &str = "kafka.tools.DumpLogSegments";
const PARTITIONS: i32 = 4;
const CONSUMER: &[&str] = &["group.protocol=consumer"];
const CLASSIC: &[&str] = &[
    "group.protocol=classic",
    "heartbeat.interval.ms=200",
    "session.timeout.ms=6000",
    "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
];

fn start() -> Server {
    let server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        .set("group.consumer.heartbeat.interval.ms", 200)
        .set("group.consumer.session.timeout.ms", 6000)
        .set("offsets.topic.num.partitions", 1)
        .start();
    create_topic(&server, "t", PARTITIONS, &[]);
    server
}

/// Starts a member that says what it is assigned and what it reads.
fn member(kafka: &Kafka, server: &Server, topic: &str, settings: &[&str]) -> Process {
    let program = manifest_dir().join("tests/java/GroupMember.java");
    let mut command = kafka.command(program.to_str().unwrap());
    let bootstrap = format!("bootstrap.servers={}", server.bootstrap());
    command.args([topic, &bootstrap, "group.id=readers"]);
    command.args(settings);
    Process::spawn("member", command)
}

/// Has a member leave.
#[track_caller]
fn close(mut member: Process) -> String {
    member.feed(b"\n");
    member.finish().succeeded().stdout()
}

/// What a member said last that it is assigned.
fn assigned(member: &Process) -> BTreeSet<String> {
    let said = member.said();
    let last = said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("assigned"));
    let last = last.unwrap_or_default();
    last.split_whitespace().map(str::to_owned).collect()
}

/// Waits until members have so many partitions, the fewest first, and each partition once.
#[track_caller]
fn settle(members: &[&Process], counts: &[usize]) -> Vec<BTreeSet<String>> {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let assignments: Vec<_> = members.iter().map(|member| assigned(member)).collect();
        let together: BTreeSet<&String> = assignments.iter().flatten().collect();
        let mut sizes: Vec<usize> = assignments.iter().map(BTreeSet::len).collect();
        sizes.sort_unstable();
        if sizes == counts && together.len() == counts.iter().sum::<usize>() {
            return assignments;
        }
        let said: Vec<String> = members.iter().map(|member| member.said()).collect();
        assert!(
            Instant::now() < deadline,
            "{assignments:?}\n{}",
            said.join("\n")
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn produce(server: &Server, each: usize) {
    produce_values(server, "t", PARTITIONS, each);
}

/// The fields of a table's row that starts with these.
#[track_caller]
fn row<'t>(table: &'t str, start: &[&str]) -> Vec<&'t str> {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect());
    let found = rows.find(|fields: &Vec<&str>| fields.starts_with(start));
    found.unwrap_or_else(|| panic!("no row {start:?} in {table}"))
}

#[track_caller]
fn groups(kafka: &Kafka, server: &Server, arguments: &[&str]) -> String {
    let bootstrap = server.bootstrap();
    let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
    kafka.run(GROUPS, &all).succeeded().stdout()
}

fn members_share_and_take_over(release: Release) {
    let Some(kafka) = Kafka::find(release) else {
        return;
    };
    let server = start();
    let first = member(&kafka, &server, "t", CONSUMER);
    let second = member(&kafka, &server, "t", CONSUMER);
    settle(&[&first, &second], &[2, 2]);
    first.kill();
    settle(&[&second], &[4]);
    close(second);
}

#[test]
fn members_of_kafka_3_9_share_and_take_over() {
    members_share_and_take_over(Release::V3_9);
}

#[test]
fn members_of_kafka_4_1_share_and_take_over() {
    members_share_and_take_over(Release::V4_1);
}

#[test]
fn static_members_come_back_to_their_partitions() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let server = start();
    let named = |name: &str| {
        let instance = format!("group.instance.id={name}");
        member(&kafka, &server, "t", &[CONSUMER[0], &instance])
    };
    let (first, second) = (named("one"), named("two"));
    let before = settle(&[&first, &second], &[2, 2]);
    let said = second.said();
    close(first);
    let first = named("one");
    assert_eq!(settle(&[&first, &second], &[2, 2]), before);
    assert_eq!(second.said(), said, "nobody else noticed");
    close(first);
    close(second);
}

#[test]
fn patterns_are_resolved_by_the_broker() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let server = start();
    create_topic(&server, "orders-1", 2, &[]);
    let reader = member(&kafka, &server, "~orders-[0-9]", CONSUMER);
    settle(&[&reader], &[2]);
    create_topic(&server, "orders-2", 1, &[]);
    create_topic(&server, "orders-x", 1, &[]);
    let assigned = settle(&[&reader], &[3]);
    assert!(assigned[0].contains("orders-2-0"), "{assigned:?}");
    let wrong = member(&kafka, &server, "~orders-[", CONSUMER).finish();
    assert!(
        wrong.stderr().contains("INVALID_REGULAR_EXPRESSION"),
        "{}",
        wrong.text()
    );
    close(reader);
}

#[test]
fn consumers_are_upgraded_one_by_one_and_back() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let server = start();
    produce(&server, 50);
    let mut said = String::new();
    let old: Vec<Process> = (0..2)
        .map(|_| member(&kafka, &server, "t", CLASSIC))
        .collect();
    settle(&old.iter().collect::<Vec<_>>(), &[2, 2]);
    let mut members = old;
    for settings in [CONSUMER, CONSUMER, CLASSIC, CLASSIC] {
        members.push(member(&kafka, &server, "t", settings));
        settle(&members.iter().collect::<Vec<_>>(), &[1, 1, 2]);
        produce(&server, 50);
        said += &close(members.remove(0));
        settle(&members.iter().collect::<Vec<_>>(), &[2, 2]);
        produce(&server, 50);
    }
    // The group is a classic one again.
    let listed = groups(&kafka, &server, &["--list", "--type"]);
    assert_eq!(row(&listed, &["readers"]), ["readers", "Classic"]);
    let expected: BTreeSet<String> = (0..PARTITIONS)
        .flat_map(|partition| (0..450).map(move |offset| format!("read t-{partition}@{offset}")))
        .collect();
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let all = members.iter().map(Process::said).collect::<String>() + &said;
        let read: BTreeSet<String> = all.lines().map(str::to_owned).collect();
        if expected.is_subset(&read) {
            break;
        }
        let missing = expected.difference(&read).count();
        assert!(Instant::now() < deadline, "{missing} records are not read");
        std::thread::sleep(Duration::from_millis(50));
    }
    for member in members {
        close(member);
    }
}

/// Lets a member of librdkafka in, and polls it until it has partitions.
fn librdkafka_member(server: &Server) -> BaseConsumer {
    let settings = [("group.id", "readers"), ("group.protocol", "consumer")];
    let member = consumer(server, &settings);
    member.subscribe(&["t"]).unwrap();
    let deadline = Instant::now() + HANG_GUARD;
    while member.assignment().unwrap().count() != 2 {
        let _ = member.poll(Duration::from_millis(20));
        assert!(Instant::now() < deadline, "librdkafka gets nothing");
    }
    member
}

#[test]
fn tools_of_kafka_describe_the_group() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let server = start();
    produce(&server, 1);
    let java = member(&kafka, &server, "t", &[CONSUMER[0], "client.id=java"]);
    settle(&[&java], &[4]);
    let other = librdkafka_member(&server);
    settle(&[&java], &[2]);
    let group = ["--describe", "--group", "readers"];
    let listed = groups(&kafka, &server, &["--list", "--type", "consumer"]);
    assert_eq!(row(&listed, &["readers"]), ["readers", "Consumer"]);
    let state = groups(&kafka, &server, &[&group[..], &["--state"]].concat());
    let fields = row(&state, &["readers"]);
    assert_eq!(
        fields[fields.len() - 3..],
        ["uniform", "Stable", "2"],
        "{state}"
    );
    let members = groups(&kafka, &server, &[&group[..], &["--members"]].concat());
    let fields: Vec<&str> = members
        .lines()
        .find(|l| l.contains(" java "))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(fields[fields.len() - 2..], ["java", "2"], "{members}");
    let offsets = groups(&kafka, &server, &group);
    for partition in ["0", "1", "2", "3"] {
        assert_eq!(
            row(&offsets, &["readers", "t", partition])[4],
            "1",
            "{offsets}"
        );
    }
    drop(other);
    settle(&[&java], &[4]);
    close(java);
    groups(&kafka, &server, &["--delete", "--group", "readers"]);
    assert!(!groups(&kafka, &server, &["--list"]).contains("readers"));
}

#[test]
fn tools_of_kafka_print_the_records() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let mut server = start();
    let java = member(&kafka, &server, "~t", CONSUMER);
    settle(&[&java], &[4]);
    close(java);
    server.terminate();
    let log = server
        .partition_directory("__consumer_offsets", 0)
        .join("00000000000000000000.log");
    let files = ["--files", log.to_str().unwrap()];
    let dumped = kafka
        .run(DUMP, &[&files[..], &["--offsets-decoder"]].concat())
        .succeeded()
        .stdout();
    let kinds = [
        r#""type":"3","data":{"groupId":"readers"}"#,
        r#""type":"5","data":{"groupId":"readers","memberId":""#,
        r#""subscribedTopicRegex":"t""#,
        r#""assignmentEpoch":1"#,
        r#""memberEpoch":1,"previousMemberEpoch":0,"state":0"#,
        r#""type":"16","data":{"groupId":"readers","regularExpression":"t"}"#,
    ];
    for kind in kinds {
        assert!(dumped.contains(kind), "no {kind} in {dumped}");
    }
}
