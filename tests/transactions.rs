//! Transactional producers, librdkafka's and Java's: who is fenced, what times out, what offsets are committed, and what
//! Kafka's own tools see of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use support::clients::{assign_from_beginning, consumer, create_topic, read};
use support::java::{Kafka, Release};
use support::process::HANG_GUARD;
use support::server::{Kind, Server};

const COMMITTED: (&str, &str) = ("isolation.level", "read_committed");

fn start() -> Server {
    let server = Server::with()
        .set("transaction.state.log.num.partitions", 1)
        .set("offsets.topic.num.partitions", 1)
        .set("group.initial.rebalance.delay.ms", 0)
        .set(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            100,
        )
        .start();
    create_topic(&server, "in", 1, &[]);
    create_topic(&server, "out", 1, &[]);
    server
}

fn producer(server: &Server, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server.bootstrap());
    config.set("transactional.id", "id");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(HANG_GUARD).unwrap();
    producer
}

fn send(producer: &BaseProducer, value: &str) {
    let record = BaseRecord::<(), str>::to("out").payload(value);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(HANG_GUARD).unwrap();
}

fn code(result: Result<(), KafkaError>) -> Option<RDKafkaErrorCode> {
    result.err().map(|error| match error {
        KafkaError::Transaction(error) => error.code(),
        other => panic!("{other}"),
    })
}

/// Reads `out` up to a last value, as it was committed.
fn committed_up_to(server: &Server, last: &str) -> Vec<String> {
    let consumer = consumer(server, &[COMMITTED]);
    assign_from_beginning(&consumer, &[("out", 0)]);
    let mut values = Vec::new();
    while values.last().is_none_or(|value| value != last) {
        let message = read(&consumer, 1).remove(0);
        let payload = rdkafka::Message::payload(&message).unwrap().to_vec();
        values.push(String::from_utf8(payload).unwrap());
    }
    values
}

#[test]
fn a_second_producer_fences_the_first() {
    let server = start();
    let first = producer(&server, &[]);
    first.begin_transaction().unwrap();
    send(&first, "of the first");
    let second = producer(&server, &[]);
    let refused = code(first.commit_transaction(HANG_GUARD));
    let fenced = [
        RDKafkaErrorCode::Fenced,
        RDKafkaErrorCode::ProducerFenced,
        RDKafkaErrorCode::InvalidProducerEpoch,
    ];
    assert!(
        refused.is_some_and(|code| fenced.contains(&code)),
        "{refused:?}"
    );
    second.begin_transaction().unwrap();
    send(&second, "of the second");
    second.commit_transaction(HANG_GUARD).unwrap();
    assert_eq!(committed_up_to(&server, "of the second"), ["of the second"]);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    let server = start();
    let slow = producer(&server, &[("transaction.timeout.ms", "1000")]);
    slow.begin_transaction().unwrap();
    send(&slow, "slow");
    let other = producer(&server, &[("transactional.id", "other")]);
    other.begin_transaction().unwrap();
    send(&other, "other");
    other.commit_transaction(HANG_GUARD).unwrap();
    // It lies behind the slow one, and can be read as soon as that is aborted.
    assert_eq!(committed_up_to(&server, "other"), ["other"]);
    assert!(code(slow.commit_transaction(HANG_GUARD)).is_some());
}

fn committed(member: &BaseConsumer) -> Offset {
    let mut asked = TopicPartitionList::new();
    asked.add_partition("in", 0);
    let committed = member.committed_offsets(asked, HANG_GUARD).unwrap();
    committed.elements()[0].offset()
}

/// Polls a member until it has the partition.
#[track_caller]
fn wait_for_assignment(member: &BaseConsumer) {
    let deadline = Instant::now() + HANG_GUARD;
    while member.assignment().unwrap().count() == 0 {
        // There are no records.
        let _ = member.poll(Duration::from_millis(20));
        assert!(Instant::now() < deadline, "nothing is assigned");
    }
}

#[test]
fn offsets_are_committed_with_the_transaction() {
    let server = start();
    let group = [("group.id", "readers"), ("enable.auto.commit", "false")];
    let member = consumer(&server, &group);
    member.subscribe(&["in"]).unwrap();
    wait_for_assignment(&member);
    let producer = producer(&server, &[]);
    for (offset, commit, after) in [
        (5, true, Offset::Offset(5)),
        (6, false, Offset::Offset(5)),
        (7, true, Offset::Offset(7)),
    ] {
        producer.begin_transaction().unwrap();
        send(&producer, &offset.to_string());
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset("in", 0, Offset::Offset(offset))
            .unwrap();
        let metadata = member.group_metadata().unwrap();
        producer
            .send_offsets_to_transaction(&offsets, &metadata, HANG_GUARD)
            .unwrap();
        if commit {
            producer.commit_transaction(HANG_GUARD).unwrap();
        } else {
            producer.abort_transaction(HANG_GUARD).unwrap();
        }
        assert_eq!(committed(&member), after);
    }
    assert_eq!(committed_up_to(&server, "7"), ["5", "7"]);
}

#[test]
fn a_member_that_was_replaced_commits_nothing() {
    let server = start();
    let group = [("group.id", "readers"), ("enable.auto.commit", "false")];
    let member = consumer(&server, &group);
    member.subscribe(&["in"]).unwrap();
    wait_for_assignment(&member);
    let metadata = member.group_metadata().unwrap();
    drop(member);
    let producer = producer(&server, &[]);
    producer.begin_transaction().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset("in", 0, Offset::Offset(5))
        .unwrap();
    let sent = producer.send_offsets_to_transaction(&offsets, &metadata, HANG_GUARD);
    let refused = code(sent);
    let expected = [
        RDKafkaErrorCode::UnknownMemberId,
        RDKafkaErrorCode::IllegalGeneration,
    ];
    assert!(
        refused.is_some_and(|code| expected.contains(&code)),
        "{refused:?}"
    );
    producer.abort_transaction(HANG_GUARD).unwrap();
}

/// Has Kafka's own programs produce in transactions, and look at them. Returns the epoch that the producer ends with.
fn java_produces_in_transactions(kafka: &Kafka, server: &Server) -> i16 {
    let bootstrap = format!("bootstrap.servers={}", server.bootstrap());
    let size = ["--num-records", "400", "--record-size", "10"];
    let speed = ["--topic", "out", "--throughput", "1000"];
    let transactions = [
        "--transactional-id",
        "java",
        "--transaction-duration-ms",
        "20",
    ];
    let properties = ["--producer-props", &bootstrap];
    let arguments = [&speed[..], &size, &transactions, &properties].concat();
    kafka
        .run("org.apache.kafka.tools.ProducerPerformance", &arguments)
        .succeeded();
    let committed = consumer(server, &[COMMITTED]);
    assign_from_beginning(&committed, &[("out", 0)]);
    assert_eq!(read(&committed, 400).len(), 400);

    let address = server.bootstrap();
    let tool = |class: &str, arguments: &[&str]| {
        let all = [&["--bootstrap-server", &address], arguments].concat();
        kafka.run(class, &all).succeeded().stdout()
    };
    let transactions = "org.apache.kafka.tools.TransactionsCommand";
    let listed = tool(transactions, &["list"]);
    assert!(
        listed.contains("java") && listed.contains("CompleteCommit"),
        "{listed}"
    );
    let described = tool(transactions, &["describe", "--transactional-id", "java"]);
    let stored = tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        &[
            "--topic",
            "__transaction_state",
            "--from-beginning",
            "--max-messages",
            "4",
            "--formatter",
            "org.apache.kafka.tools.consumer.TransactionLogMessageFormatter",
        ],
    );
    assert!(stored.contains(r#""transactionalId":"java""#), "{stored}");
    a_hanging_transaction_is_ended(server, &|arguments| tool(transactions, arguments));
    epoch(&described)
}

/// Has a tool end a transaction in a partition, whatever its coordinator thinks of that.
fn a_hanging_transaction_is_ended(server: &Server, tool: &dyn Fn(&[&str]) -> String) {
    let hanging = producer(server, &[("transactional.id", "hanging")]);
    hanging.begin_transaction().unwrap();
    send(&hanging, "hanging");
    let other = producer(server, &[("transactional.id", "other")]);
    other.begin_transaction().unwrap();
    send(&other, "behind");
    other.commit_transaction(HANG_GUARD).unwrap();

    let partition = ["--topic", "out", "--partition", "0"];
    let described = tool(&[&["describe-producers"], &partition[..]].concat());
    let starts = column(&described, "CurrentTransactionStartOffset");
    let start = starts.iter().find(|start| start.parse::<i64>().is_ok());
    let start = start.unwrap_or_else(|| panic!("nothing is open: {described}"));
    tool(&[&["abort"], &partition[..], &["--start-offset", start]].concat());
    let values = committed_up_to(server, "behind");
    assert!(!values.contains(&"hanging".to_owned()), "{values:?}");
}

/// The producer's epoch in the table of `kafka-transactions describe`.
#[track_caller]
fn epoch(described: &str) -> i16 {
    let epochs = column(described, "ProducerEpoch");
    let epoch = epochs.first().and_then(|epoch| epoch.parse().ok());
    epoch.unwrap_or_else(|| panic!("no epoch in {described}"))
}

/// A column of a table, by its name.
fn column<'t>(table: &'t str, name: &str) -> Vec<&'t str> {
    let rows = table.lines().map(|line| line.split_whitespace());
    let mut rows = rows.map(|row| row.collect::<Vec<&str>>());
    let header = rows.find_map(|header| header.iter().position(|field| *field == name));
    rows.filter_map(|row| row.get(header?).copied()).collect()
}

#[test]
fn kafka_3_9_produces_in_transactions() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    // All transactions of a producer have its one epoch.
    assert_eq!(java_produces_in_transactions(&kafka, &start()), 0);
}

#[test]
fn kafka_4_1_produces_in_transactions() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let server = start();
    let epoch = java_produces_in_transactions(&kafka, &server);
    // Each transaction has an epoch of its own, where the newer protocol is known.
    match server.kind() {
        Kind::Troupe => assert!(epoch > 1, "{epoch}"),
        Kind::Kafka => assert_eq!(epoch, 0),
    }
}
