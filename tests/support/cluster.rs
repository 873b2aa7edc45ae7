//! Brokers in processes of their own that make one cluster, and what they say of it.

use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, MetadataRequest, MetadataResponse};
use rustix::process::{Pid, Signal, kill_process};

use super::process::HANG_GUARD;
use super::requests::topic_name;
use super::server::{Kind, Options, Server};
use super::wire::Wire;
use super::zookeeper::Service;

const METADATA: i16 = 12;

/// Describes a broker of a cluster whose coordination is at `connect`.
pub fn member(connect: &str, id: i32) -> Options {
    Server::with()
        .kind(Kind::Troupe)
        .set("broker.id", id)
        .set("zookeeper.connect", connect)
}

/// Three brokers, 1 to 3, around a coordination service that stands alone.
pub struct Trio {
    // Before the service, which they are around.
    pub brokers: Vec<Server>,
    pub service: Service,
}

impl Trio {
    /// Starts them; the first one is the controller.
    pub fn start(settings: &[(&str, &str)]) -> Trio {
        let service = Service::start();
        Trio {
            brokers: trio(&service.connect(), settings),
            service,
        }
    }
}

/// Starts three brokers, 1 to 3, which know each other when it returns.
pub fn trio(connect: &str, settings: &[(&str, &str)]) -> Vec<Server> {
    let start = |id| {
        let with = settings
            .iter()
            .fold(member(connect, id), |with, (key, value)| {
                with.set(key, value)
            });
        with.start()
    };
    let brokers: Vec<Server> = (1..=3).map(start).collect();
    for broker in &brokers {
        until("all brokers know each other", || {
            metadata(broker, None).brokers.len() == brokers.len()
        });
    }
    brokers
}

/// Polls until something has happened.
#[track_caller]
pub fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG_GUARD;
    while !check() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a broker says of the cluster and, if one is named, a topic.
pub fn metadata(server: &Server, topic: Option<&str>) -> MetadataResponse {
    let topics =
        topic.map(|topic| MetadataRequestTopic::default().with_name(Some(topic_name(topic))));
    let request = MetadataRequest::default().with_topics(Some(topics.into_iter().collect()));
    Wire::connect(server).call(METADATA, &request)
}

/// What a broker says of a topic's partitions, in their order.
pub fn partitions(server: &Server, topic: &str) -> Vec<MetadataResponsePartition> {
    let mut answer = metadata(server, Some(topic));
    let mut partitions = answer.topics.remove(0).partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    partitions
}

/// The leaders of a topic's partitions, as a broker knows them.
pub fn leaders(server: &Server, topic: &str) -> Vec<i32> {
    let partitions = partitions(server, topic);
    partitions.iter().map(|found| found.leader_id.0).collect()
}

/// The broker that is the controller, as a broker knows it.
pub fn controller(server: &Server) -> i32 {
    metadata(server, None).controller_id.0
}

#[track_caller]
pub fn wait_for_leaders(server: &Server, topic: &str, expected: &[i32]) {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let found = leaders(server, topic);
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}, not {expected:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the in-sync set of a topic's first partition is this one, in any order.
#[track_caller]
pub fn wait_for_isr(server: &Server, topic: &str, expected: &[i32]) {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let isr = partitions(server, topic).swap_remove(0).isr_nodes;
        let mut found: Vec<i32> = isr.iter().map(|id| id.0).collect();
        found.sort_unstable();
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}, not {expected:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Creates a topic whose partitions are on these brokers, the first of which leads each.
#[track_caller]
pub fn create_assigned(server: &Server, topic: &str, assignment: &[&[i32]]) {
    let assignments = (0..).zip(assignment).map(|(partition, replicas)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(partition)
            .with_broker_ids(replicas.iter().copied().map(BrokerId).collect())
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(assignments.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let answer = Wire::connect(server).call(7, &request);
    assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0]);
}

/// Creates a topic with one partition on these brokers, the first of which leads.
#[track_caller]
pub fn create_replicated(server: &Server, topic: &str, replicas: &[i32]) {
    create_assigned(server, topic, &[replicas]);
}

/// Stops a broker as it is (SIGSTOP), or has it go on (SIGCONT).
pub fn signal(server: &Server, signal: Signal) {
    let process = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
    kill_process(process.expect("a process id"), signal).expect("the process is ours");
}
