//! Partitions that go to other brokers while they are used, by Kafka's tools of 2015 and 2025 and by requests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::list_partition_reassignments_response::OngoingPartitionReassignment;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ListPartitionReassignmentsRequest,
};
use rdkafka::producer::BaseRecord;
use rustix::process::Signal;
use support::clients::{Producer, assign_from_beginning, consumer, produce_values, read, text_of};
use support::cluster::{
    Trio, controller, create_replicated, leaders, partitions, signal, until, wait_for_isr,
};
use support::java::{Jars, Kafka, Release};
use support::requests::topic_name;
use support::server::Server;
use support::wire::Wire;

const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// A broker that does not answer for a while is not dead for that.
const LONG_SESSION: (&str, &str) = ("zookeeper.session.timeout.ms", "60000");

const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const NOT_CONTROLLER: i16 = 41;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;

/// Asks a broker to have the only partition of `t` go somewhere, or back; returns the code and what is said of it.
fn reassign(broker: &Server, replicas: Option<&[i32]>) -> (i16, String) {
    let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
    let partition = ReassignablePartition::default().with_replicas(replicas);
    let topic = ReassignableTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic]);
    let answer = Wire::connect(broker).call(0, &request);
    let (code, said) = match answer.responses.first() {
        Some(topic) => {
            let partition = &topic.partitions[0];
            (partition.error_code, &partition.error_message)
        }
        None => (answer.error_code, &answer.error_message),
    };
    (code, said.as_deref().unwrap_or_default().to_owned())
}

/// What of `t` is on its way, as the controller says; nothing from who is none.
fn underway(broker: &Server) -> Option<OngoingPartitionReassignment> {
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let mut answer = Wire::connect(broker).call(0, &request);
    let mut topic = answer.topics.pop()?;
    topic.partitions.pop()
}

/// The brokers that have the only partition of `t`, as a broker knows them.
fn replicas(broker: &Server) -> Vec<i32> {
    let partition = partitions(broker, "t").swap_remove(0);
    partition.replica_nodes.iter().map(|id| id.0).collect()
}

/// Reads the first records of `t`. A leader that is new may not know yet where they end.
fn read_first(broker: &Server, count: usize) -> Vec<String> {
    let reader = consumer(broker, &[]);
    assign_from_beginning(&reader, &[("t", 0)]);
    read(&reader, count).iter().map(text_of).collect()
}

fn has_log(broker: &Server) -> bool {
    broker.log_directory().join("t-0").exists()
}

/// Writes a plan for the tools into a broker's directory; returns where.
fn plan(broker: &Server, replicas: &[i32]) -> String {
    let file = broker.directory().join("plan.json");
    let content = format!(
        r#"{{"version":1,"partitions":[{{"topic":"t","partition":0,"replicas":{replicas:?}}}]}}"#
    );
    std::fs::write(&file, content).unwrap();
    file.display().to_string()
}

#[test]
fn kafkas_tool_moves_a_partition_and_what_it_leaves_is_deleted() {
    let Some(kafka) = Kafka::find(Release::V3_9) else {
        return;
    };
    let trio = Trio::start(&[]);
    let [one, two, three] = &trio.brokers[..] else {
        panic!("three brokers");
    };
    create_replicated(one, "t", &[1, 2]);
    produce_values(one, "t", 1, 100);
    let plan = plan(one, &[3, 2]);
    let bootstrap = two.bootstrap();
    let run = |class: &str, arguments: &[&str]| {
        let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
        kafka.run(class, &all).succeeded().stdout()
    };
    let file = ["--reassignment-json-file", &plan];
    let said = run(REASSIGN, &[&file[..], &["--execute"]].concat());
    assert!(
        said.contains("Successfully started partition reassignment for t-0"),
        "{said}"
    );
    for broker in [one, two, three] {
        until("it is there", || replicas(broker) == [3, 2]);
    }
    wait_for_isr(two, "t", &[2, 3]);
    assert_eq!(leaders(two, "t"), [3]);
    until("its log is deleted where it was", || !has_log(one));
    let said = run(REASSIGN, &[&file[..], &["--verify"]].concat());
    assert!(
        said.contains("Reassignment of partition t-0 is completed."),
        "{said}"
    );
    let said = run(TOPICS, &["--describe", "--topic", "t"]);
    assert!(
        said.contains("Leader: 3\tReplicas: 3,2\tIsr: 2,3"),
        "{said}"
    );
    assert_eq!(read_first(three, 100).len(), 100);
}

#[test]
fn the_tools_of_2015_move_a_partition_and_its_leader_through_the_znodes() {
    let Some(jars) = Jars::find("kafka-0.8") else {
        return;
    };
    let trio = Trio::start(&[]);
    let [one, two, three] = &trio.brokers[..] else {
        panic!("three brokers");
    };
    create_replicated(one, "t", &[1, 2]);
    produce_values(one, "t", 1, 100);
    let zookeeper = trio.service.connect();
    let run = |class: &str, arguments: &[&str]| {
        let all = [&["--zookeeper", &zookeeper], arguments].concat();
        jars.run(class, &all).succeeded().stdout()
    };
    const REASSIGN: &str = "kafka.admin.ReassignPartitionsCommand";
    let execute = |replicas: &[i32]| {
        let plan = plan(one, replicas);
        let said = run(REASSIGN, &["--reassignment-json-file", &plan, "--execute"]);
        assert!(
            said.contains("Successfully started reassignment of partitions"),
            "{said}"
        );
        until("it is there", || replicas_are(three, replicas));
        let said = run(REASSIGN, &["--reassignment-json-file", &plan, "--verify"]);
        assert!(
            said.contains("Reassignment of partition [t,0] completed successfully"),
            "{said}"
        );
    };
    execute(&[3, 2]);
    until("its log is deleted where it was", || !has_log(one));
    // Only the order is another: who leads stays, until an election is asked for.
    execute(&[2, 3]);
    assert_eq!(leaders(three, "t"), [3]);
    run("kafka.admin.PreferredReplicaLeaderElectionCommand", &[]);
    until("the preferred leader leads", || leaders(three, "t") == [2]);
    assert_eq!(read_first(two, 100).len(), 100);
}

fn replicas_are(broker: &Server, expected: &[i32]) -> bool {
    replicas(broker) == expected && underway(broker).is_none()
}

#[test]
fn what_makes_no_sense_is_refused() {
    let trio = Trio::start(&[]);
    let [one, two, _] = &trio.brokers[..] else {
        panic!("three brokers");
    };
    create_replicated(one, "t", &[1, 2]);
    assert_eq!(controller(one), 1);
    let (code, said) = reassign(one, Some(&[1, 9]));
    assert_eq!(code, INVALID_REPLICA_ASSIGNMENT);
    assert!(said.contains("Broker 9"), "{said}");
    assert_eq!(reassign(one, None).0, NO_REASSIGNMENT_IN_PROGRESS);
    assert_eq!(reassign(two, Some(&[1])).0, NOT_CONTROLLER);
    assert_eq!(replicas(two), [1, 2]);
}

#[test]
fn a_reassignment_can_be_given_up_and_outlives_its_controller() {
    let mut trio = Trio::start(&[LONG_SESSION]);
    create_replicated(&trio.brokers[0], "t", &[2]);
    produce_values(&trio.brokers[0], "t", 1, 100);
    assert_eq!(controller(&trio.brokers[1]), 1);
    // It can't catch up.
    signal(&trio.brokers[2], Signal::STOP);
    let [one, two, _] = &trio.brokers[..] else {
        panic!("three brokers");
    };
    assert_eq!(reassign(one, Some(&[3])).0, 0);
    let going = underway(one).expect("it is under way");
    assert_eq!(going.replicas, [3, 2].map(BrokerId));
    assert_eq!(going.adding_replicas, [BrokerId(3)]);
    assert_eq!(going.removing_replicas, [BrokerId(2)]);
    until("its replicas are shown", || replicas(two) == [3, 2]);
    assert_eq!(reassign(one, None).0, 0);
    assert_eq!(underway(one), None);
    until("it is where it was", || replicas(two) == [2]);
    assert_eq!(reassign(one, Some(&[3])).0, 0);
    trio.brokers[0].kill();
    let two = &trio.brokers[1];
    until("another controller has it in mind", || {
        underway(two).is_some()
    });
    signal(&trio.brokers[2], Signal::CONT);
    until("it is there", || replicas_are(two, &[3]));
    until("its log is deleted where it was", || !has_log(two));
    assert_eq!(leaders(two, "t"), [3]);
    assert_eq!(read_first(two, 100).len(), 100);
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice_while_a_partition_moves() {
    let trio = Trio::start(&[]);
    let [one, two, three] = &trio.brokers[..] else {
        panic!("three brokers");
    };
    create_replicated(one, "t", &[1, 2]);
    let mut producer = Producer::new(one, &[("acks", "all"), ("enable.idempotence", "true")]);
    let mut sent = 0;
    let mut send = |count: usize| {
        for _ in 0..count {
            let value = sent.to_string();
            let record = BaseRecord::to("t").partition(0).payload(value.as_bytes());
            producer.send(record);
            producer.poll();
            sent += 1;
        }
    };
    for targets in [&[3][..], &[2, 1], &[1, 3], &[2]] {
        send(100);
        assert_eq!(reassign(one, Some(targets)).0, 0);
        until("it is there", || {
            send(10);
            replicas_are(one, targets)
        });
    }
    send(100);
    producer.flush_all_taken();
    let found = read_first(three, sent);
    let expected: Vec<String> = (0..sent).map(|number: usize| number.to_string()).collect();
    assert_eq!(found, expected);
    until("only one has it", || {
        [has_log(one), has_log(two), has_log(three)] == [false, true, false]
    });
}
