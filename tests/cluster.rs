//! Brokers in processes of their own that make one cluster, with Apache's tools.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use rdkafka::producer::BaseRecord;
use support::clients::{Producer, assign_from_beginning, consumer, produce_values, read, text_of};
use support::cluster::{
    create_replicated, leaders, member, partitions, wait_for_isr, wait_for_leaders,
};
use support::java::{Kafka, Release};
use support::process::Output;
use support::server::{Kind, Server};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";

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
    tool(kafka, TOPICS, server, arguments).succeeded().stdout()
}

fn tool(kafka: &Kafka, class: &str, server: &Server, arguments: &[&str]) -> Output {
    let bootstrap = server.bootstrap();
    let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
    kafka.run(class, &all)
}

/// Has Kafka's tool elect for the first partition of a topic.
fn elect(kafka: &Kafka, server: &Server, kind: &str, topic: &str) -> Output {
    let arguments = [
        "--election-type",
        kind,
        "--topic",
        topic,
        "--partition",
        "0",
    ];
    tool(kafka, ELECTION, server, &arguments)
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
fn replicas_are_spread_over_racks() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let one = Server::with()
        .kind(Kind::Troupe)
        .set("broker.id", 1)
        .set("broker.rack", "a")
        .start();
    let connect = format!("localhost:{}", one.zookeeper_port());
    let _two = member(&connect, 2).set("broker.rack", "a").start();
    let _three = member(&connect, 3).set("broker.rack", "b").start();
    let create = |topic| {
        let counts = ["--partitions", "4", "--replication-factor", "2"];
        [&["--create", "--topic", topic][..], &counts].concat()
    };
    run(&kafka, &one, &create("t"));
    run(
        &kafka,
        &one,
        &["--alter", "--topic", "t", "--partitions", "8"],
    );
    let found = partitions(&one, "t");
    assert_eq!(found.len(), 8);
    for partition in found {
        let replicas: Vec<i32> = partition.replica_nodes.iter().map(|id| id.0).collect();
        assert_eq!(replicas.len(), 2);
        assert!(replicas.contains(&3), "{replicas:?}");
    }
    let _four = member(&connect, 4).start();
    let bootstrap = one.bootstrap();
    let all = [&["--bootstrap-server", &bootstrap][..], &create("u")].concat();
    let refused = kafka.run(TOPICS, &all);
    let said = refused.stdout() + &refused.stderr();
    assert!(
        said.contains("Not all brokers have rack information"),
        "{said}"
    );
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

#[test]
fn the_preferred_leader_leads_again_when_a_tool_asks_for_it() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let one = first();
    let mut two = joined(&one, 2);
    create_replicated(&one, "t", &[2, 1]);
    two.kill();
    wait_for_leaders(&one, "t", &[1]);
    let refused = elect(&kafka, &one, "preferred", "t").text();
    assert!(
        refused.contains("PreferredLeaderNotAvailableException"),
        "{refused}"
    );
    two.restart();
    wait_for_isr(&one, "t", &[1, 2]);
    assert_eq!(leaders(&one, "t"), [1]);
    let elected = elect(&kafka, &two, "preferred", "t").succeeded().stdout();
    assert_eq!(
        elected,
        "Successfully completed leader election (PREFERRED) for partitions t-0\n"
    );
    // No waiting: it is answered when all know.
    assert_eq!(leaders(&one, "t"), [2]);
    assert_eq!(leaders(&two, "t"), [2]);
    let again = elect(&kafka, &two, "preferred", "t").succeeded().stdout();
    assert_eq!(again, "Valid replica already elected for partitions t-0\n");
    let unknown = elect(&kafka, &two, "preferred", "none").text();
    assert!(
        unknown.contains("UnknownTopicOrPartitionException"),
        "{unknown}"
    );
}

#[test]
fn one_that_is_not_in_sync_leads_when_that_is_asked_for() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let one = first();
    let mut two = joined(&one, 2);
    let mut three = joined(&one, 3);
    create_replicated(&one, "t", &[2, 3]);
    let open = ["--create", "--topic", "open", "--replica-assignment", "2:3"];
    let config = ["--config", "unclean.leader.election.enable=true"];
    run(&kafka, &one, &[&open[..], &config].concat());
    produce_values(&one, "t", 1, 100);
    three.kill();
    wait_for_isr(&one, "t", &[2]);
    wait_for_isr(&one, "open", &[2]);
    produce_values(&one, "t", 1, 50);
    two.kill();
    three.restart();
    wait_for_leaders(&one, "open", &[3]);
    assert_eq!(leaders(&one, "t"), [-1]);
    let elected = elect(&kafka, &one, "unclean", "t").succeeded().stdout();
    assert_eq!(
        elected,
        "Successfully completed leader election (UNCLEAN) for partitions t-0\n"
    );
    assert_eq!(leaders(&one, "t"), [3]);
    let reader = consumer(&three, &[]);
    assign_from_beginning(&reader, &[("t", 0)]);
    assert_eq!(read(&reader, 100).len(), 100);
    one.wait_until_said("t-0: broker 3 leads though it was not in sync");
    two.restart();
    wait_for_isr(&one, "t", &[2, 3]);
}
