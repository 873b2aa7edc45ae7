//! Clusters whose brokers are killed, stopped and restarted in turn, under producers that never pause: what was
//! acknowledged is there, in order, and once where the producer is idempotent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rdkafka::producer::BaseRecord;
use rustix::process::Signal;
use support::clients::{Delivery, Producer, read_to_end, text_of};
use support::cluster::{controller, create_assigned, leaders, partitions, signal, trio, until};
use support::java::{Kafka, Release};
use support::process::{HANG_GUARD, Process};
use support::random::random;
use support::server::Server;
use support::zookeeper::{Ensemble, Service};

const PARTITIONS: i32 = 3;
/// Written by an idempotent producer, by one that is not, and by one of Java.
const TOPICS: [&str; 3] = [IDEMPOTENT, PLAIN, JAVA];
const IDEMPOTENT: &str = "idempotent";
const PLAIN: &str = "plain";
const JAVA: &str = "java";

/// What is done to a broker.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// kill -9 of whoever leads the first partition.
    KillLeader,
    /// kill -9 of the controller.
    KillController,
    /// SIGSTOP of a leader, for less than its session.
    Stop,
    /// A stop as it should be, and a start.
    Restart,
}

const BLOWS: [Blow; 5] = [
    Blow::KillLeader,
    Blow::KillController,
    Blow::Stop,
    Blow::KillLeader,
    Blow::Restart,
];

/// A producer of numbers on a thread of its own.
struct Sender {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<(Producer, Vec<(i32, String)>)>,
}

impl Sender {
    /// Sends to all partitions in turn until it is told to end.
    fn start(brokers: &[Server], topic: &'static str, settings: &[(&str, &str)]) -> Sender {
        let mut producer = Producer::of(&bootstrap(brokers), settings);
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut sent = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let value = sent.len().to_string();
                let partition = i32::try_from(sent.len()).unwrap() % PARTITIONS;
                let record = BaseRecord::to(topic).partition(partition);
                producer.send(record.key(&b""[..]).payload(value.as_bytes()));
                sent.push((partition, value));
                producer.poll_for(Duration::from_millis(1));
            }
            (producer, sent)
        });
        Sender { ended, thread }
    }

    /// Ends it; returns what was sent to which partition, with what became of it.
    fn end(self) -> Vec<(i32, String, Delivery)> {
        self.ended.store(true, Ordering::Relaxed);
        let (producer, sent) = self.thread.join().unwrap();
        let deliveries = producer.flush();
        let told = sent.into_iter().zip(deliveries);
        told.map(|((partition, value), delivery)| (partition, value, delivery))
            .collect()
    }
}

fn bootstrap(brokers: &[Server]) -> String {
    let brokers: Vec<String> = brokers.iter().map(Server::bootstrap).collect();
    brokers.join(",")
}

/// Kafka's own producer, that of its system tests: it tells each acknowledgement.
fn start_java(brokers: &[Server]) -> Option<Process> {
    let kafka = Kafka::find(Release::V3_9)?;
    // By itself it gives up at the first error.
    let config = brokers[0].directory().join("producer.properties");
    std::fs::write(&config, "enable.idempotence=true\nretries=2147483647\n").unwrap();
    let mut command = kafka.command("org.apache.kafka.tools.VerifiableProducer");
    command
        .args(["--bootstrap-server", &bootstrap(brokers)])
        .args(["--topic", JAVA, "--acks", "-1", "--throughput", "200"])
        .args(["--max-messages", "-1"])
        .arg("--producer.config")
        .arg(&config);
    Some(Process::spawn("VerifiableProducer", command))
}

/// What the producer of Java said was acknowledged: partition and value.
fn acknowledged_to_java(said: &str) -> Vec<(i32, String)> {
    let successes = said
        .lines()
        .filter(|line| line.contains("producer_send_success"));
    let told = successes.map(|line| {
        let told: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let partition = told["partition"].as_i64().unwrap();
        let value = told["value"].as_str().unwrap().to_owned();
        (i32::try_from(partition).unwrap(), value)
    });
    told.collect()
}

fn wait_for_whole(brokers: &[Server]) {
    for topic in TOPICS {
        for broker in brokers {
            until("all replicas are in sync", || {
                let partitions = partitions(broker, topic);
                partitions.iter().all(|found| found.isr_nodes.len() == 3)
            });
        }
    }
}

fn strike(brokers: &mut [Server], blow: Blow, random: &mut StdRng) {
    until("somebody is in office", || {
        leaders(&brokers[0], IDEMPOTENT)[0] > 0 && controller(&brokers[0]) > 0
    });
    let of = |id: i32| usize::try_from(id - 1).expect("somebody is in office");
    let leader = of(leaders(&brokers[0], IDEMPOTENT)[0]);
    match blow {
        Blow::KillLeader => {
            brokers[leader].kill();
            std::thread::sleep(Duration::from_millis(random.random_range(0..1_500)));
            brokers[leader].restart();
        }
        Blow::KillController => {
            let index = of(controller(&brokers[0]));
            brokers[index].kill();
            std::thread::sleep(Duration::from_millis(random.random_range(0..1_500)));
            brokers[index].restart();
        }
        Blow::Stop => {
            signal(&brokers[leader], Signal::STOP);
            std::thread::sleep(Duration::from_millis(random.random_range(0..3_000)));
            signal(&brokers[leader], Signal::CONT);
        }
        Blow::Restart => {
            brokers[leader].terminate();
            brokers[leader].restart();
        }
    }
}

/// The values of a partition, as a broker has them.
fn stored(server: &Server, topic: &str, partition: i32) -> Vec<String> {
    let records = read_to_end(server, topic, partition, &[]);
    records.iter().map(text_of).collect()
}

fn check_sent(brokers: &[Server], topic: &str, sent: &[(i32, String, Delivery)], once: bool) {
    for partition in 0..PARTITIONS {
        let stored = stored(&brokers[0], topic, partition);
        let to_it = sent.iter().filter(|(sent_to, ..)| *sent_to == partition);
        for (_, value, delivery) in to_it.clone() {
            let (_, offset) = delivery.unwrap_or_else(|error| panic!("{topic} {value}: {error}"));
            // Without idempotence the offset may be that of one of several copies.
            let found = stored.get(usize::try_from(offset).unwrap_or(usize::MAX));
            assert_eq!(found, Some(value), "{topic}-{partition} at {offset}");
        }
        if once {
            let values: Vec<&String> = to_it.map(|(_, value, _)| value).collect();
            assert!(
                stored.iter().eq(values),
                "{topic}-{partition}: not all, or not once, or out of order"
            );
        }
    }
}

fn check_java(brokers: &[Server], acknowledged: &[(i32, String)]) {
    let mut copies = BTreeMap::<(i32, String), usize>::new();
    let mut last = BTreeMap::<i32, u64>::new();
    for partition in 0..PARTITIONS {
        for value in stored(&brokers[0], JAVA, partition) {
            let number = value.parse().unwrap();
            let before = last.insert(partition, number);
            assert!(
                before.is_none_or(|before| before < number),
                "{value} after {before:?}"
            );
            *copies.entry((partition, value)).or_default() += 1;
        }
    }
    for record in acknowledged {
        assert_eq!(copies.get(record), Some(&1), "{record:?}");
    }
}

fn blows_rain(connect: &str, blows: usize) {
    let mut random = random();
    let mut brokers = trio(
        connect,
        &[
            ("zookeeper.session.timeout.ms", "18000"),
            ("min.insync.replicas", "2"),
            ("replica.lag.time.max.ms", "2000"),
        ],
    );
    for topic in TOPICS {
        create_assigned(&brokers[0], topic, &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]]);
    }
    let idempotent = Sender::start(&brokers, IDEMPOTENT, &[("enable.idempotence", "true")]);
    let plain = Sender::start(&brokers, PLAIN, &[("acks", "all")]);
    let java = start_java(&brokers);
    let started = Instant::now();
    for number in 0..blows {
        let blow = BLOWS[number % BLOWS.len()];
        eprintln!("{:?}: {blow:?}", started.elapsed());
        strike(&mut brokers, blow, &mut random);
        wait_for_whole(&brokers);
    }
    let (idempotent, plain) = (idempotent.end(), plain.end());
    assert!(started.elapsed() < HANG_GUARD.saturating_mul(u32::try_from(blows).unwrap()));
    check_sent(&brokers, IDEMPOTENT, &idempotent, true);
    check_sent(&brokers, PLAIN, &plain, false);
    let mut told = 0;
    if let Some(java) = java {
        let ended = java.terminate();
        let acknowledged = acknowledged_to_java(&ended.stdout());
        told = acknowledged.len();
        assert!(told > 0, "{}", ended.text());
        let ended = ended.stdout();
        let error = ended
            .lines()
            .find(|line| line.contains("producer_send_error"));
        assert_eq!(error, None);
        check_java(&brokers, &acknowledged);
    }
    eprintln!(
        "{blows} blows; {} + {} + {told} records",
        idempotent.len(),
        plain.len()
    );
}

#[test]
fn nothing_acknowledged_is_lost_under_five_blows() {
    let service = Service::start();
    blows_rain(&service.connect(), 5);
}

#[test]
#[ignore = "long: ./test --long"]
fn nothing_acknowledged_is_lost_under_100_blows() {
    let service = Service::start();
    blows_rain(&service.connect(), 100);
}

#[test]
#[ignore = "long: ./test --long"]
fn nothing_acknowledged_is_lost_under_50_blows_around_an_ensemble() {
    let Some(ensemble) = Ensemble::start() else {
        return;
    };
    blows_rain(&ensemble.connect("/cluster"), 50);
}
