//! A broker whose session with the coordination service expires while clients are connected.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FetchRequest, GroupId, HeartbeatRequest, MetadataRequest};
use kafka_protocol::protocol::StrBytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::BaseRecord;
use rustix::process::{Pid, Signal, kill_process};
use support::clients::{Producer, consumer, create_topic, read, read_whole, text_of};
use support::process::HANG_GUARD;
use support::records::batch;
use support::requests::{FETCH, PRODUCE, fetch, fetched, produce, produced, topic_name};
use support::server::{Kind, Server};
use support::wire::Wire;
use support::zookeeper::{Client, Op, Service};

const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const NOT_COORDINATOR: i16 = 16;

/// A broker, the service that coordinates it, and clients that stay connected all the time.
struct Rig {
    service: Service,
    server: Server,
    producer: Producer,
    member: BaseConsumer,
}

/// Starts everything; 100 records are produced, consumed and committed.
fn rig() -> Rig {
    let service = Service::start();
    let server = Server::with()
        .kind(Kind::Troupe)
        .set("zookeeper.connect", service.connect())
        .set("zookeeper.session.timeout.ms", 6000)
        .start();
    create_topic(&server, "t", 1, &[]);
    let producer = Producer::new(&server, &[("enable.idempotence", "true")]);
    let settings = [("group.id", "readers"), ("auto.offset.reset", "earliest")];
    let member = consumer(&server, &settings);
    member.subscribe(&["t"]).unwrap();
    let mut rig = Rig {
        service,
        server,
        producer,
        member,
    };
    rig.send(0..100);
    rig.producer.flush_all_taken();
    rig.consume(0..100);
    rig
}

fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

impl Rig {
    fn send(&mut self, range: std::ops::Range<usize>) {
        for value in numbers(range) {
            let record = BaseRecord::to("t").partition(0).key(&b""[..]);
            self.producer.send(record.payload(value.as_bytes()));
        }
    }

    /// Reads these as a member of the group, and commits.
    fn consume(&self, range: std::ops::Range<usize>) {
        let messages = read(&self.member, range.len());
        let values: Vec<String> = messages.iter().map(text_of).collect();
        assert_eq!(values, numbers(range));
        self.member.commit_consumer_state(CommitMode::Sync).unwrap();
    }

    /// Checks that the clients go on where they were: 100 records more are produced, nothing is lost or doubled.
    fn goes_on(mut self, waiting: std::ops::Range<usize>) {
        let end = waiting.end + 100;
        self.send(waiting.end..end);
        self.producer.flush_all_taken();
        let messages = read_whole(&self.server, "t", 0, &[]);
        let values: Vec<String> = messages.iter().map(text_of).collect();
        assert_eq!(values, numbers(0..end));
        self.consume(waiting.start..end);
    }
}

/// The error, leader and leader epoch of the only partition.
fn leader(wire: &mut Wire) -> (i16, i32, i32) {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    let response = wire.call(9, &request);
    let partition = &response.topics[0].partitions[0];
    (
        partition.error_code,
        partition.leader_id.0,
        partition.leader_epoch,
    )
}

#[test]
fn a_broker_that_slept_through_the_end_of_its_session_goes_on_for_its_clients() {
    let mut rig = rig();
    let mut wire = Wire::connect(&rig.server);
    let (_, broker, epoch) = leader(&mut wire);
    signal(rig.server.id(), Signal::STOP);
    rig.send(100..200);
    let mut client = Client::connect(rig.service.port, 10_000);
    let registration = Op::Exists(format!("/brokers/ids/{broker}"), false);
    let deadline = Instant::now() + HANG_GUARD;
    while client.call(&registration).error == 0 {
        assert!(Instant::now() < deadline, "the session does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    signal(rig.server.id(), Signal::CONT);
    rig.server.wait_until_said("joined again");
    assert_eq!(client.call(&registration).error, 0);
    assert_eq!(
        leader(&mut wire),
        (0, broker, epoch + 1),
        "another leadership"
    );
    rig.goes_on(100..200);
}

#[test]
fn a_broker_without_a_session_leads_nothing_until_it_has_joined_again() {
    let mut rig = rig();
    let mut wire = Wire::connect(&rig.server);
    let mut waiting = Wire::connect(&rig.server);
    let (_, broker, epoch) = leader(&mut wire);
    let wait_ms = i32::try_from(HANG_GUARD.as_millis()).unwrap();
    waiting.send(FETCH, &fetch("t", 0, 100, wait_ms));

    signal(rig.service.process.id(), Signal::STOP);
    rig.server.wait_until_said("leads nothing");
    let (_, answer) = waiting.receive::<FetchRequest>(FETCH);
    assert_eq!(fetched(&answer).0, NOT_LEADER_OR_FOLLOWER);
    let answer = wire.call(PRODUCE, &produce("t", 0, 1, batch(&[b"refused"])));
    assert_eq!(produced(&answer).error_code, NOT_LEADER_OR_FOLLOWER);
    let answer = wire.call(FETCH, &fetch("t", 0, 0, 0));
    assert_eq!(fetched(&answer).0, NOT_LEADER_OR_FOLLOWER);
    let heartbeat = HeartbeatRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("readers")))
        .with_member_id(StrBytes::from_static_str("somebody"));
    assert_eq!(wire.call(4, &heartbeat).error_code, NOT_COORDINATOR);
    assert_eq!(leader(&mut wire), (LEADER_NOT_AVAILABLE, -1, epoch));
    rig.send(100..200);

    signal(rig.service.process.id(), Signal::CONT);
    rig.server.wait_until_said("joined again");
    assert_eq!(leader(&mut wire), (0, broker, epoch + 1));
    rig.goes_on(100..200);
}
