//! A broker on three Apache ZooKeeper servers: one of them is lost, the session expires, the broker dies.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::BaseRecord;
use rustix::process::{Pid, Signal, kill_process};
use support::clients::{Producer, assign_from_beginning, consumer, create_topic, read};
use support::process::HANG_GUARD;
use support::server::{Kind, Server};
use support::zookeeper::{Client, Ensemble, Op};

fn start(ensemble: &Ensemble) -> Server {
    Server::with()
        .kind(Kind::Troupe)
        .set("zookeeper.connect", ensemble.connect("/kafka"))
        .set("zookeeper.session.timeout.ms", 4000)
        .start()
}

/// The broker's registration as the ensemble has it: the transaction that created it and the session that owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registration {
    czxid: String,
    owner: String,
}

fn registration(ensemble: &Ensemble) -> Option<Registration> {
    let port = *ensemble.running().first()?;
    let mut client = Client::connect(port, 10_000);
    // A follower may lag behind.
    client.call(&Op::Sync("/kafka".to_owned()));
    let stat = client.call(&Op::Exists("/kafka/brokers/ids/1001".to_owned(), false));
    client.call(&Op::Close);
    if stat.error != 0 {
        return None;
    }
    let text = stat.text();
    let field = |name: &str| {
        let value = text.split(name).nth(1)?.split_whitespace().next()?;
        Some(value.to_owned())
    };
    Some(Registration {
        czxid: field("czxid ")?,
        owner: field("owner ")?,
    })
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG_GUARD;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "{what}: it does not come to that"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn produce(server: &Server, topic: &str, count: usize) {
    let mut producer = Producer::new(server, &[]);
    for number in 0..count {
        let value = number.to_string();
        producer.send(
            BaseRecord::to(topic)
                .partition(0)
                .key(&b""[..])
                .payload(value.as_bytes()),
        );
    }
    producer.flush_all_taken();
}

fn read_all(server: &Server, topic: &str, count: usize) {
    let consumer = consumer(server, &[]);
    assign_from_beginning(&consumer, &[(topic, 0)]);
    assert_eq!(read(&consumer, count).len(), count);
}

/// Reads with a group and commits.
fn read_with_group(server: &Server, topic: &str, count: usize) {
    let settings = [("group.id", "readers"), ("auto.offset.reset", "earliest")];
    let consumer = consumer(server, &settings);
    consumer.subscribe(&[topic]).unwrap();
    assert_eq!(read(&consumer, count).len(), count);
    consumer.commit_consumer_state(CommitMode::Sync).unwrap();
}

#[test]
fn a_broker_outlives_the_leader_of_its_ensemble() {
    let Some(mut ensemble) = Ensemble::start() else {
        return;
    };
    let server = start(&ensemble);
    create_topic(&server, "before", 2, &[]);
    produce(&server, "before", 100);
    read_with_group(&server, "before", 50);
    let registered = registration(&ensemble).expect("a started broker is registered");

    let mut producer = Producer::new(&server, &[]);
    let mut send = |number: usize| {
        let value = number.to_string();
        producer.send(
            BaseRecord::to("before")
                .partition(1)
                .key(&b""[..])
                .payload(value.as_bytes()),
        );
    };
    (0..500).for_each(&mut send);
    ensemble.kill_leader();
    // What is asked while there is no leader waits for the next one.
    create_topic(&server, "meanwhile", 1, &[]);
    ensemble.leader();
    (500..1000).for_each(&mut send);
    assert_eq!(producer.flush_all_taken().len(), 1000);

    // The session moved to another server, and is the same one.
    wait_until("the same session", || {
        registration(&ensemble).is_some_and(|now| now == registered)
    });
    create_topic(&server, "after", 1, &[]);
    produce(&server, "after", 100);
    read_all(&server, "after", 100);
    read_with_group(&server, "before", 50);
    assert!(!server.said().contains("expired"), "{}", server.said());
}

#[test]
fn a_broker_whose_session_expired_registers_again() {
    let Some(ensemble) = Ensemble::start() else {
        return;
    };
    let server = start(&ensemble);
    create_topic(&server, "t", 1, &[]);
    produce(&server, "t", 100);
    let registered = registration(&ensemble).expect("a started broker is registered");

    let broker = Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    kill_process(broker, Signal::STOP).unwrap();
    wait_until("the end of the session", || {
        registration(&ensemble).is_none()
    });
    kill_process(broker, Signal::CONT).unwrap();
    server.wait_until_said("joined again");

    let renewed = registration(&ensemble).expect("it is registered again");
    assert_ne!(renewed, registered);
    produce(&server, "t", 100);
    read_all(&server, "t", 200);
    create_topic(&server, "after", 1, &[]);
    produce(&server, "after", 10);
    read_with_group(&server, "after", 10);
}

/// Its session lives on when the next process meets the registration.
#[test]
fn a_broker_takes_over_its_own_registration_at_a_quick_restart() {
    let Some(ensemble) = Ensemble::start() else {
        return;
    };
    let mut server = Server::with()
        .kind(Kind::Troupe)
        .set("zookeeper.connect", ensemble.connect("/kafka"))
        // Longer than the test lasts: nobody waits for it.
        .set("zookeeper.session.timeout.ms", 20_000)
        .start();
    create_topic(&server, "t", 1, &[]);
    produce(&server, "t", 100);
    let registered = registration(&ensemble).expect("a started broker is registered");
    server.kill();
    assert_eq!(
        registration(&ensemble),
        Some(registered.clone()),
        "the session lives"
    );
    server.restart();
    let renewed = registration(&ensemble).expect("it is registered again");
    assert_ne!(renewed.owner, registered.owner);
    produce(&server, "t", 100);
    read_all(&server, "t", 200);
}
