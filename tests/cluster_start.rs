//! `troupe cluster start`: several brokers and their coordination from one command.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use support::clients::{assign_from_beginning, read, text_of};
use support::process::{HANG_GUARD, Output, Process};
use support::server::troupe;
use tempfile::TempDir;

/// A cluster that has said that it is ready.
struct Cluster {
    process: Process,
    /// The numbers of the brokers' processes, in the order of their ids.
    brokers: Vec<u32>,
    bootstrap: String,
    zookeeper: String,
    _data: TempDir,
}

impl Cluster {
    fn start(brokers: usize) -> Cluster {
        let data = TempDir::new().unwrap();
        let mut command = troupe();
        command.args(["cluster", "start", "--brokers", &brokers.to_string()]);
        command.args(["--port", "0", "--zookeeper-port", "0", "--data"]);
        command.arg(data.path().join("cluster"));
        command.args(["--override", "offsets.topic.num.partitions=3"]);
        let process = Process::spawn("cluster", command);
        let ready =
            process.wait_for(|stdout, _| stdout.contains(". Next: ").then(|| stdout.to_owned()));
        let said = ready.unwrap_or_else(|said| panic!("{said}"));
        let after = |text: &str| {
            let line = said.lines().find(|line| line.contains(text)).unwrap();
            line.split(text).nth(1).unwrap().to_owned()
        };
        let ids = said.lines().filter_map(|line| {
            let (_, rest) = line.split_once("(process ")?;
            rest.split(')').next()?.parse().ok()
        });
        Cluster {
            brokers: ids.collect(),
            bootstrap: after("--bootstrap-server "),
            zookeeper: after("ZooKeeper protocol on "),
            process,
            _data: data,
        }
    }

    fn tool(&self, tool: &str, arguments: &[&str]) -> Output {
        let mut command = troupe();
        command
            .args([tool, "--bootstrap-server", &self.bootstrap])
            .args(arguments);
        Process::spawn(tool, command).finish().succeeded()
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// Produces to all partitions of a topic, and waits until all in-sync replicas have it.
    fn produce(&self, values: std::ops::Range<i32>) {
        let mut config = self.config();
        let producer: BaseProducer = config.set("acks", "all").create().unwrap();
        for value in values {
            let record = BaseRecord::<(), String>::to("demo").partition(value % 3);
            let payload = value.to_string();
            producer
                .send(record.payload(&payload))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        producer.flush(HANG_GUARD).unwrap();
        assert_eq!(producer.in_flight_count(), 0);
    }

    fn read(&self, count: usize) -> Vec<i32> {
        let mut config = self.config();
        let consumer: BaseConsumer = config.set("group.id", "unused").create().unwrap();
        assign_from_beginning(&consumer, &[("demo", 0), ("demo", 1), ("demo", 2)]);
        let messages = read(&consumer, count);
        let mut values: Vec<_> = messages
            .iter()
            .map(|one| text_of(one).parse().unwrap())
            .collect();
        values.sort_unstable();
        values
    }
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(i32::try_from(process).unwrap()).unwrap()
}

/// Waits until none of the processes is there any more.
#[track_caller]
fn wait_for_the_end(processes: &[u32]) {
    let deadline = Instant::now() + HANG_GUARD;
    while processes
        .iter()
        .any(|process| test_kill_process(pid(*process)).is_ok())
    {
        assert!(Instant::now() < deadline, "some are left of {processes:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn three_brokers_replicate_and_outlive_one_of_them() {
    let cluster = Cluster::start(3);
    assert_eq!(cluster.brokers.len(), 3, "{}", cluster.process.said());
    let create = [
        "--create",
        "--topic",
        "demo",
        "--partitions",
        "3",
        "--replication-factor",
        "3",
    ];
    cluster.tool("topics", &create);
    cluster.produce(0..90);
    assert_eq!(cluster.read(90), (0..90).collect::<Vec<_>>());
    let mut shell = troupe();
    shell.args(["zookeeper-shell", &cluster.zookeeper, "ls", "/brokers/ids"]);
    let ids = Process::spawn("shell", shell).finish().succeeded();
    assert!(ids.stdout().ends_with("\n[0, 1, 2]\n"), "{}", ids.text());

    kill_process(pid(cluster.brokers[1]), Signal::KILL).unwrap();
    let expected = format!(
        "troupe: broker 1 (process {}) has ended by itself, signal: 9 (SIGKILL); the others go on\n",
        cluster.brokers[1]
    );
    let reported = cluster
        .process
        .wait_for(|_, stderr| stderr.contains(&expected).then_some(()));
    reported.unwrap_or_else(|said| panic!("{said}"));
    cluster.produce(90..180);
    assert_eq!(cluster.read(180), (0..180).collect::<Vec<_>>());

    let brokers = cluster.brokers.clone();
    let ended = cluster.process.terminate();
    assert_eq!(
        ended.status.code(),
        Some(1),
        "one was lost: {}",
        ended.text()
    );
    wait_for_the_end(&brokers);
}

#[test]
fn it_stops_in_order_at_the_first_signal() {
    let cluster = Cluster::start(2);
    let brokers = cluster.brokers.clone();
    cluster.process.signal(Signal::INT);
    let ended = cluster.process.finish().succeeded();
    let said = ended.stderr();
    assert_eq!(said.matches(": stopped\n").count(), 3, "{said}");
    assert!(said.trim_end().ends_with(": stopped"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("coordination | "),
        "its brokers need it to the end: {said}"
    );
    wait_for_the_end(&brokers);
}

#[test]
fn a_killed_one_leaves_no_process_behind() {
    let cluster = Cluster::start(2);
    let brokers = cluster.brokers.clone();
    cluster.process.kill();
    wait_for_the_end(&brokers);
}

#[test]
fn what_keeps_it_from_starting_is_said_and_nothing_left() {
    let data = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let start = |flags: &[&str]| {
        let mut command = troupe();
        command
            .args(["cluster", "start", "--data"])
            .arg(data.path().join("c"))
            .args(flags);
        Process::spawn("cluster", command).finish()
    };
    let ended = start(&["--brokers", "2", "--port", "0", "--zookeeper-port", &port]);
    assert_eq!(ended.status.code(), Some(1));
    let said = ended.stderr();
    assert!(
        said.contains(&format!(
            "coordination | troupe: cannot listen for coordination clients on port {port}"
        )),
        "{said}"
    );
    assert!(
        said.ends_with("troupe: coordination did not start\n"),
        "{said}"
    );
    let ended = start(&["--brokers", "2", "--port", &port, "--zookeeper-port", "0"]);
    assert_eq!(ended.status.code(), Some(1));
    let said = ended.stderr();
    assert!(said.ends_with("troupe: broker 0 did not start\n"), "{said}");
    let ended = start(&["--brokers", "3", "--port", "65534", "--zookeeper-port", "0"]);
    assert!(
        ended
            .stderr()
            .ends_with("troupe: there is no port after 65535 for broker 2\n"),
        "{}",
        ended.stderr()
    );
}
