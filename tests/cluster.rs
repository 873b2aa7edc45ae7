//! Brokers in processes of their own that make one cluster, with Apache's tools.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use rdkafka::producer::BaseRecord;
use support::clients::{Producer, assign_from_beginning, consumer, read, text_of};
use support::cluster::{create_replicated, leaders, member, wait_for_isr, wait_for_leaders};
use support::java::{Kafka, Release};
use support::server::{Kind, Server};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// The broker that coordinates itself; the others join it.
fn first() -> Server {
    Server::with()
        .kind(Kind::Troupe)
        .set("broker.id", 1)
        .set("zookeeper.session.timeout.ms", 6_000)
        .start()
}

fn joined(first: &Server, id: i32) -> Server {
    let connect = format!("localhost:{}", first.zookeeper_port());
    member(&connect, id)
        .set("zookeeper.session.timeout.ms", 6_000)
        .start()
}

fn run(kafka: &Kafka, server: &Server, arguments: &[&str]) -> String {
    let bootstrap = server.bootstrap();
    let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
    kafka.run(TOPICS, &all).succeeded().stdout()
}

#[test]
fn the_other_broker_leads_when_one_is_killed() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let one = first();
    let mut two = joined(&one, 2);
    // The tool finds the controller by itself.
    let assignment = [
        "--create",
        "--topic",
        "t",
        "--replica-assignment",
        "2:1,1:2",
    ];
    assert_eq!(run(&kafka, &two, &assignment), "Created topic t.\n");
    let described = run(&kafka, &two, &["--describe", "--topic", "t"]);
    assert!(described.contains("ReplicationFactor: 2"), "{described}");
    assert!(
        described.contains("Leader: 2\tReplicas: 2,1\tIsr: 2,1"),
        "{described}"
    );
    assert!(
        described.contains("Leader: 1\tReplicas: 1,2\tIsr: 1,2"),
        "{described}"
    );
    two.kill();
    wait_for_leaders(&one, "t", &[1, 1]);
    let described = run(&kafka, &one, &["--describe", "--topic", "t"]);
    assert!(
        described.contains("Leader: 1\tReplicas: 2,1\tIsr: 1"),
        "{described}"
    );
}

#[test]
fn what_was_acknowledged_by_all_is_there_when_the_leader_is_killed() {
    let one = first();
    let two = joined(&one, 2);
    let topic = "t";
    let mut three = joined(&one, 3);
    create_replicated(&one, topic, &[3, 2]);
    let mut producer = Producer::new(&one, &[("acks", "all")]);
    for number in 0..100 {
        let value = format!("value {number}");
        producer.send(BaseRecord::to(topic).partition(0).payload(value.as_bytes()));
    }
    producer.flush_all_taken();
    three.kill();
    wait_for_leaders(&one, topic, &[2]);
    producer.send(BaseRecord::to(topic).partition(0).payload(b"one more"));
    producer.flush_all_taken();
    let reader = consumer(&two, &[]);
    assign_from_beginning(&reader, &[(topic, 0)]);
    let values: Vec<String> = read(&reader, 101).iter().map(text_of).collect();
    let mut expected: Vec<String> = (0..100).map(|number| format!("value {number}")).collect();
    expected.push("one more".to_owned());
    assert_eq!(values, expected);
    // It comes back with what it had, and takes the rest from the leader.
    three.restart();
    wait_for_isr(&one, topic, &[2, 3]);
}

#[test]
fn three_brokers_spread_a_topic_and_one_leaves() {
    let Some(kafka) = Kafka::find(Release::V4_1) else {
        return;
    };
    let one = first();
    let mut two = joined(&one, 2);
    let three = joined(&one, 3);
    let create = [
        "--create",
        "--topic",
        "t",
        "--partitions",
        "3",
        "--replication-factor",
        "2",
    ];
    assert_eq!(run(&kafka, &three, &create), "Created topic t.\n");
    let mut spread = leaders(&three, "t");
    assert_eq!(spread, leaders(&one, "t"));
    spread.sort_unstable();
    assert_eq!(spread, [1, 2, 3]);
    assert!(two.terminate().status.success());
    let left = leaders(&one, "t");
    assert!(
        left.iter().all(|leader| [1, 3].contains(leader)),
        "{left:?}"
    );
    two.restart();
    let described = run(&kafka, &two, &["--describe", "--topic", "t"]);
    assert!(!described.contains("Leader: none"), "{described}");
}
