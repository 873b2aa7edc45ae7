//! Consumer groups as Apache Kafka's own programs see them, those of 3.9.1 and 4.1.0.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use rdkafka::producer::BaseRecord;
use serde_json::Value;
use support::clients::{Producer, create_topic};
use support::groups::wait_for_members;
use support::java::{Kafka, Release};
use support::process::{HANG_GUARD, Process};
use support::server::{Server, troupe};

const CONSUMER_PERFORMANCE: &str = "org.apache.kafka.tools.ConsumerPerformance";
const VERIFIABLE_CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";
const VERIFIABLE_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const OFFSETS_FORMATTER: &str = "org.apache.kafka.tools.consumer.OffsetsMessageFormatter";
const GROUPS_FORMATTER: &str = "org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter";

/// Runs a program with `--bootstrap-server` and more arguments; it must succeed.
#[track_caller]
fn run(kafka: &Kafka, server: &Server, class: &str, arguments: &[&str]) -> String {
    let bootstrap = server.bootstrap();
    let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
    kafka.run(class, &all).succeeded().stdout()
}

/// The fields of a table's row that starts with these.
#[track_caller]
fn row<'t>(table: &'t str, start: &[&str]) -> Vec<&'t str> {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect());
    let found = rows.find(|fields: &Vec<&str>| fields.starts_with(start));
    found.unwrap_or_else(|| panic!("no row {start:?} in {table}"))
}

/// Prints the records of `__consumer_offsets` that a formatter knows.
fn stored(kafka: &Kafka, server: &Server, formatter: &str) -> String {
    let topic = ["--topic", "__consumer_offsets", "--from-beginning"];
    let rest = ["--formatter", formatter, "--timeout-ms", "10000"];
    run(
        kafka,
        server,
        CONSOLE_CONSUMER,
        &[&topic[..], &rest].concat(),
    )
}

fn a_group_reads_and_is_administered(release: Release) {
    let Some(kafka) = Kafka::find(release) else {
        return;
    };
    let server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        // So that its formatters have little to read.
        .set("offsets.topic.num.partitions", 2)
        .start();
    create_topic(&server, "t", 1, &[]);
    let mut producer = Producer::new(&server, &[]);
    for value in ["one", "two", "three"] {
        producer.send(BaseRecord::to("t").payload(value.as_bytes()));
    }
    producer.flush_all_taken();
    let consume = ["--topic", "t", "--group", "readers", "--from-beginning"];
    let two = [&consume[..], &["--max-messages", "2"]].concat();
    assert_eq!(run(&kafka, &server, CONSOLE_CONSUMER, &two), "one\ntwo\n");
    let one = [&consume[..], &["--max-messages", "1"]].concat();
    assert_eq!(run(&kafka, &server, CONSOLE_CONSUMER, &one), "three\n");

    let groups = |arguments: &[&str]| run(&kafka, &server, GROUPS, arguments);
    assert!(groups(&["--list"]).lines().any(|group| group == "readers"));
    let described = groups(&["--describe", "--group", "readers"]);
    // Group, topic, partition, committed offset, log end offset, lag.
    let expected = ["readers", "t", "0", "3", "3", "0"];
    assert_eq!(row(&described, &expected[..3])[..6], expected);

    let offsets = stored(&kafka, &server, OFFSETS_FORMATTER);
    assert!(
        offsets.contains(r#""group":"readers","topic":"t","partition":0"#)
            && offsets.contains(r#""offset":3,"#),
        "{offsets}"
    );
    let metadata = stored(&kafka, &server, GROUPS_FORMATTER);
    assert!(
        metadata.contains(r#""group":"readers""#) && metadata.contains(r#""protocol":"range""#),
        "{metadata}"
    );

    let reset = ["--reset-offsets", "--to-offset", "1", "--topic", "t"];
    groups(&[&reset[..], &["--group", "readers", "--execute"]].concat());
    let described = groups(&["--describe", "--group", "readers"]);
    let expected = ["readers", "t", "0", "1", "3", "2"];
    assert_eq!(row(&described, &expected[..3])[..6], expected);
    groups(&["--delete", "--group", "readers"]);
    assert!(!groups(&["--list"]).lines().any(|group| group == "readers"));
}

#[test]
fn a_group_of_kafka_3_9_reads_and_is_administered() {
    a_group_reads_and_is_administered(Release::V3_9);
}

#[test]
fn a_group_of_kafka_4_1_reads_and_is_administered() {
    a_group_reads_and_is_administered(Release::V4_1);
}

/// A broker with a topic `t` of four partitions, which lets a group start without waiting for more members.
fn start() -> Server {
    let server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        .start();
    create_topic(&server, "t", 4, &[]);
    server
}

/// Starts a console consumer that prints each record with its partition before it.
fn console_member(mut command: Command, server: &Server) -> Process {
    command.args(["--bootstrap-server", &server.bootstrap()]);
    command.args(["--topic", "t", "--group", "readers", "--from-beginning"]);
    command.args(["--property", "print.partition=true"]);
    Process::spawn("console-consumer", command)
}

fn console_consumers_share_the_partitions(first: Command, second: Command) {
    let server = start();
    let members = [
        console_member(first, &server),
        console_member(second, &server),
    ];
    wait_for_members(&server, "readers", &[2, 2]);
    let mut producer = Producer::new(&server, &[]);
    for partition in 0..4 {
        for _ in 0..10 {
            let record = BaseRecord::to("t").partition(partition);
            producer.send(record.payload(b"value"));
        }
    }
    producer.flush_all_taken();
    let deadline = Instant::now() + HANG_GUARD;
    let said = loop {
        let said = members.each_ref().map(Process::said);
        let read = |said: &String| said.matches("value").count();
        if said.iter().map(read).sum::<usize>() >= 40 {
            break said;
        }
        assert!(Instant::now() < deadline, "{said:?}");
    };
    let partitions = |said: &String| -> BTreeSet<char> {
        let lines = said.lines();
        lines
            .filter_map(|line| line.strip_prefix("Partition:")?.chars().next())
            .collect()
    };
    let [one, other] = said.each_ref().map(partitions);
    assert_eq!((one.len(), other.len()), (2, 2), "{said:?}");
    assert!(one.is_disjoint(&other), "{said:?}");
}

fn console_consumer(release: Release) -> Option<Command> {
    Some(Kafka::find(release)?.command(CONSOLE_CONSUMER))
}

fn our_console_consumer() -> Command {
    let mut command = troupe();
    command.arg("console-consumer");
    command
}

#[test]
fn console_consumers_of_kafka_3_9_share_the_partitions() {
    let consumer = || console_consumer(Release::V3_9);
    if let (Some(first), Some(second)) = (consumer(), consumer()) {
        console_consumers_share_the_partitions(first, second);
    }
}

#[test]
fn console_consumers_of_kafka_4_1_share_the_partitions() {
    let consumer = || console_consumer(Release::V4_1);
    if let (Some(first), Some(second)) = (consumer(), consumer()) {
        console_consumers_share_the_partitions(first, second);
    }
}

#[test]
fn our_console_consumer_shares_the_partitions_with_those_of_kafka() {
    for release in [Release::V3_9, Release::V4_1] {
        if let Some(theirs) = console_consumer(release) {
            console_consumers_share_the_partitions(our_console_consumer(), theirs);
        }
    }
}

/// The events that a verifiable program printed under a name.
fn events(printed: &str, name: &str) -> Vec<Value> {
    let events = printed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["name"] == name).collect()
}

fn verifiable_programs_verify(release: Release) {
    let Some(kafka) = Kafka::find(release) else {
        return;
    };
    let server = start();
    let topic = ["--topic", "t", "--max-messages", "500"];
    let produced = run(&kafka, &server, VERIFIABLE_PRODUCER, &topic);
    assert_eq!(events(&produced, "producer_send_success").len(), 500);
    assert_eq!(events(&produced, "producer_send_error"), [] as [Value; 0]);
    let sums = &events(&produced, "tool_data")[0];
    assert_eq!((&sums["sent"], &sums["acked"]), (&500.into(), &500.into()));
    let group = ["--group-id", "verifiers", "--reset-policy", "earliest"];
    let arguments = [&topic[..], &group].concat();
    let consumed = run(&kafka, &server, VERIFIABLE_CONSUMER, &arguments);
    let counts = events(&consumed, "records_consumed");
    let counts = counts.iter().map(|event| event["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 500, "{consumed}");
    let commits = events(&consumed, "offsets_committed");
    assert!(!commits.is_empty() && commits.iter().all(|commit| commit["success"] == true));
    assert_eq!(events(&consumed, "shutdown_complete").len(), 1);
    let described = run(
        &kafka,
        &server,
        GROUPS,
        &["--describe", "--group", "verifiers"],
    );
    let rows = described
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.first() == Some(&"verifiers"));
    // Which partitions there are is the producer's choice.
    let numbers: Vec<(u64, &str)> = rows.map(|row| (row[3].parse().unwrap(), row[5])).collect();
    let committed: u64 = numbers.iter().map(|(committed, _)| committed).sum();
    assert_eq!(committed, 500, "{described}");
    assert!(numbers.iter().all(|(_, lag)| *lag == "0"), "{described}");
}

#[test]
fn verifiable_programs_of_kafka_3_9_verify() {
    verifiable_programs_verify(Release::V3_9);
}

#[test]
fn verifiable_programs_of_kafka_4_1_verify() {
    verifiable_programs_verify(Release::V4_1);
}

fn the_performance_tool_reads_all(release: Release) {
    let Some(kafka) = Kafka::find(release) else {
        return;
    };
    let server = start();
    let mut producer = Producer::new(&server, &[]);
    for number in 0..20_000 {
        producer.send(
            BaseRecord::to("t")
                .partition(number % 4)
                .payload(&[b'x'; 100]),
        );
    }
    producer.flush_all_taken();
    let arguments = ["--topic", "t", "--messages", "20000", "--group", "measured"];
    let measured = run(&kafka, &server, CONSUMER_PERFORMANCE, &arguments);
    let lines: Vec<Vec<&str>> = measured
        .lines()
        .map(|line| line.split(", ").collect())
        .collect();
    let column = lines[0]
        .iter()
        .position(|title| *title == "data.consumed.in.nMsg");
    assert_eq!(lines[1][column.unwrap()], "20000", "{measured}");
}

#[test]
fn the_performance_tool_of_kafka_3_9_reads_all() {
    the_performance_tool_reads_all(Release::V3_9);
}

#[test]
fn the_performance_tool_of_kafka_4_1_reads_all() {
    the_performance_tool_reads_all(Release::V4_1);
}
