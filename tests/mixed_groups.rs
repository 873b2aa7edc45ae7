//! One consumer group of clients that share no code: Java's of two releases, librdkafka's, and Python's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::BaseRecord;
use support::clients::{Producer, consumer, create_topic};
use support::groups::wait_for_members;
use support::java::{Kafka, Release};
use support::kcat;
use support::process::{HANG_GUARD, Process};
use support::python;
use support::server::Server;

const VERIFIABLE_CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";
const PARTITIONS: i32 = 10;
const SESSION_TIMEOUT_MS: &str = "6000";

fn java_member(kafka: &Kafka, server: &Server) -> Process {
    let mut command = kafka.command(VERIFIABLE_CONSUMER);
    command.args(["--bootstrap-server", &server.bootstrap()]);
    command.args(["--topic", "t", "--group-id", "readers", "--verbose"]);
    command.args([
        "--reset-policy",
        "earliest",
        "--session-timeout",
        SESSION_TIMEOUT_MS,
    ]);
    Process::spawn("a Java member", command)
}

fn python_member(mut program: Command, server: &Server) -> Process {
    program.args([&server.bootstrap(), "t", "readers"]);
    Process::spawn("a Python member", program)
}

fn kcat_member(server: &Server) -> Process {
    let mut command = Command::new("kcat");
    command.args([
        "-b",
        &server.bootstrap(),
        "-G",
        "readers",
        "-q",
        "-u",
        "-f",
        "%s\n",
    ]);
    let session = format!("session.timeout.ms={SESSION_TIMEOUT_MS}");
    command.args(["-X", "auto.offset.reset=earliest", "-X", &session, "t"]);
    Process::spawn("kcat", command)
}

/// The members of the group, and what those that are gone have read.
struct Members {
    inner: BaseConsumer,
    processes: Vec<Process>,
    read: Vec<String>,
}

impl Members {
    /// The values that all members have read so far: each is the last word of its line, or the value of Java's JSON.
    fn values(&mut self) -> Vec<String> {
        while let Some(message) = self.inner.poll(Duration::from_millis(10)) {
            let message = message.unwrap();
            self.read
                .push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        }
        let said = self.processes.iter().map(|process| values(&process.said()));
        said.flatten().chain(self.read.iter().cloned()).collect()
    }

    fn kill(&mut self, index: usize) {
        let output = self.processes.remove(index).kill();
        self.read.extend(values(&output.stdout()));
    }
}

/// Values are `phase-partition-number`.
fn values(said: &str) -> Vec<String> {
    let value = |line: &str| {
        let value = match serde_json::from_str::<serde_json::Value>(line) {
            Ok(event) => event.get("value")?.as_str()?.to_owned(),
            Err(_) => line.split(' ').next_back()?.to_owned(),
        };
        (value.split('-').count() == 3).then_some(value)
    };
    said.lines().filter_map(value).collect()
}

/// Sends records to every partition, and waits until the group has read each of them once.
#[track_caller]
fn each_is_read_once(server: &Server, members: &mut Members, phase: &str) {
    let mut producer = Producer::new(server, &[]);
    let mut sent = Vec::new();
    for partition in 0..PARTITIONS {
        for number in 0..5 {
            let value = format!("{phase}-{partition}-{number}");
            producer.send(
                BaseRecord::to("t")
                    .partition(partition)
                    .payload(value.as_bytes()),
            );
            sent.push(value);
        }
    }
    producer.flush_all_taken();
    sent.sort();
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let mut read = members.values();
        read.retain(|value| value.starts_with(phase));
        read.sort();
        let mut distinct = read.clone();
        distinct.dedup();
        if distinct == sent {
            assert_eq!(read, sent, "a record was read twice");
            return;
        }
        assert!(Instant::now() < deadline, "{read:?}");
    }
}

#[test]
fn clients_of_all_kinds_share_a_group_and_survive_kills() {
    let (Some(old), Some(new)) = (Kafka::find(Release::V3_9), Kafka::find(Release::V4_1)) else {
        return;
    };
    let Some(program) = python::program("member.py").filter(|_| kcat::present()) else {
        return;
    };
    let server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        .start();
    create_topic(&server, "t", PARTITIONS, &[]);
    let settings = [
        ("group.id", "readers"),
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "true"),
        ("session.timeout.ms", SESSION_TIMEOUT_MS),
    ];
    let inner = consumer(&server, &settings);
    inner.subscribe(&["t"]).unwrap();
    let processes = vec![
        java_member(&old, &server),
        java_member(&new, &server),
        python_member(program, &server),
        kcat_member(&server),
    ];
    let mut members = Members {
        inner,
        processes,
        read: Vec::new(),
    };
    wait(&server, &mut members, &[2; 5]);
    each_is_read_once(&server, &mut members, "together");
    // One of each language dies without a word.
    for (killed, phase) in [(2, "python"), (0, "java"), (1, "kcat")] {
        members.kill(killed);
        let left = members.processes.len() + 1;
        wait(&server, &mut members, shares(left));
        each_is_read_once(&server, &mut members, phase);
    }
    members.processes.push(java_member(&old, &server));
    members.processes.push(python_member(
        python::program("member.py").unwrap(),
        &server,
    ));
    members.processes.push(kcat_member(&server));
    wait(&server, &mut members, &[2; 5]);
    each_is_read_once(&server, &mut members, "again");
}

/// How many partitions each has when so many members share them.
fn shares(members: usize) -> &'static [usize] {
    match members {
        4 => &[2, 2, 3, 3],
        3 => &[3, 3, 4],
        2 => &[5, 5],
        _ => &[2; 5],
    }
}

/// Waits for the members, of whom the one in this process takes part in a rebalance only when it is polled.
#[track_caller]
fn wait(server: &Server, members: &mut Members, counts: &[usize]) {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_for_members(server, "readers", counts));
        while !waiting.is_finished() {
            members.values();
        }
        waiting.join().expect("the group settles");
    });
}
