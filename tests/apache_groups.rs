//! Consumer groups as Apache Kafka's own programs see them, those of 3.9.1 and 4.1.0.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use rdkafka::producer::BaseRecord;
use support::clients::{Producer, create_topic};
use support::java::{Kafka, Release};
use support::server::Server;

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
    let rest = ["--formatter", formatter, "--timeout-ms", "5000"];
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
