//! Kafka Streams counts words with exactly_once_v2, its state kept in topics of the broker, and is killed in between.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use rdkafka::producer::BaseRecord;
use support::clients::{Producer, create_topics, read_to_end, text_of};
use support::java::{Jars, manifest_dir};
use support::process::{HANG_GUARD, Process};
use support::server::Server;

const PARTITIONS: i32 = 2;
const WORDS: [&str; 5] = ["to", "be", "or", "not", "question"];

type Counts = BTreeMap<String, usize>;

/// Starts the application with an empty state directory, so that its state comes from the topics.
fn start(streams: &Jars, server: &Server, state: &tempfile::TempDir) -> Process {
    let source = manifest_dir().join("tests/java/WordCount.java");
    let mut command = streams.command(source.to_str().unwrap());
    command.arg(server.bootstrap()).arg(state.path());
    Process::spawn("WordCount", command)
}

/// Sends lines of words, and adds them to what is to be counted.
fn send(server: &Server, lines: usize, expected: &mut Counts) {
    let mut producer = Producer::new(server, &[("enable.idempotence", "true")]);
    for number in 0..lines {
        let words: Vec<&str> = (0..=number % 7)
            .map(|place| WORDS[(number + place * place) % WORDS.len()])
            .collect();
        for word in &words {
            *expected.entry((*word).to_owned()).or_default() += 1;
        }
        let line = words.join(" ");
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        producer.send(
            BaseRecord::to("lines")
                .partition(partition)
                .payload(line.as_bytes()),
        );
    }
    producer.flush_all_taken();
}

/// The last committed count of each word.
fn counted(server: &Server) -> Counts {
    let mut counts = Counts::new();
    for partition in 0..PARTITIONS {
        let committed = [("isolation.level", "read_committed")];
        for message in read_to_end(server, "counts", partition, &committed) {
            let word = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            let count = text_of(&message).parse().unwrap();
            let before = counts.insert(word, count);
            assert!(
                before.is_none_or(|before| before < count),
                "a count goes up"
            );
        }
    }
    counts
}

#[track_caller]
fn wait_until_counted(server: &Server, expected: &Counts, application: &Process) {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let counts = counted(server);
        if counts == *expected {
            return;
        }
        let said = application.said();
        assert!(
            Instant::now() < deadline,
            "{counts:?}, not {expected:?}: {said}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn words_are_counted_once_though_the_application_is_killed() {
    let Some(streams) = Jars::find("kafka-streams-3.9") else {
        return;
    };
    let server = Server::with()
        .set("group.initial.rebalance.delay.ms", 0)
        .start();
    create_topics(&server, &["lines", "counts"], PARTITIONS, &[]);
    let mut expected = Counts::new();
    let states = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let application = start(&streams, &server, &states[0]);
    send(&server, 300, &mut expected);
    wait_until_counted(&server, &expected, &application);
    send(&server, 300, &mut expected);
    application.kill();
    send(&server, 300, &mut expected);
    let application = start(&streams, &server, &states[1]);
    wait_until_counted(&server, &expected, &application);
}
