//! Coordinators that are killed: the next ones go on where their logs end, and clients see no more than a pause.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use support::clients::{Producer, read_to_end, text_of};
use support::cluster::{Trio, create_assigned, leaders, until};
use support::java::{Kafka, Release};
use support::process::{HANG_GUARD, Process};
use support::server::Server;

/// Far longer than anything here may wait for an acknowledgement by accident.
const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;
const OFFSETS: &str = "__consumer_offsets";
const TRANSACTIONS: &str = "__transaction_state";

/// Three brokers; each leads one partition of `input` and `output`, and all keep the state of the coordinators.
fn rig() -> Trio {
    let trio = Trio::start(&[
        ("zookeeper.session.timeout.ms", "60000"),
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.num.partitions", "1"),
        ("offsets.topic.replication.factor", "3"),
        ("transaction.state.log.replication.factor", "3"),
        ("group.initial.rebalance.delay.ms", "0"),
        (
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "500",
        ),
    ]);
    for topic in ["input", "output"] {
        create_assigned(
            &trio.brokers[0],
            topic,
            &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]],
        );
    }
    trio
}

fn bootstrap(trio: &Trio) -> String {
    let brokers: Vec<String> = trio.brokers.iter().map(Server::bootstrap).collect();
    brokers.join(",")
}

/// Kills the broker that leads the only partition of an internal topic; returns which one that was.
fn kill_coordinator(trio: &mut Trio, topic: &str) -> usize {
    let alive = trio
        .brokers
        .iter_mut()
        .position(|broker| broker.is_running());
    let leader = leaders(&trio.brokers[alive.unwrap()], topic)[0];
    let index = usize::try_from(leader - 1).unwrap();
    trio.brokers[index].kill();
    index
}

/// Waits until all replicas of these topics are in sync again, as the last broker sees it.
fn wait_for_whole(trio: &Trio, topics: &[&str]) {
    for topic in topics {
        for broker in &trio.brokers {
            until("all replicas are in sync", || {
                let partitions = support::cluster::partitions(broker, topic);
                partitions
                    .iter()
                    .all(|partition| partition.isr_nodes.len() == 3)
            });
        }
    }
}

/// Repeats a step of a transaction as long as its error asks for just that.
#[track_caller]
fn insist(mut step: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        match step() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                assert!(Instant::now() < deadline, "{error}");
            }
            done => return done,
        }
    }
}

/// One transaction that writes a number to all partitions.
fn try_write(producer: &BaseProducer, number: i32) -> Result<(), KafkaError> {
    let value = number.to_string();
    producer.begin_transaction()?;
    for partition in 0..PARTITIONS {
        let record = BaseRecord::<(), [u8]>::to("output").partition(partition);
        let sent = producer.send(record.payload(value.as_bytes()));
        sent.map_err(|(error, _)| error)?;
    }
    insist(|| producer.commit_transaction(PATIENCE))
}

/// Writes a number in a transaction, and in another one when the first had to be aborted.
#[track_caller]
fn write(producer: &BaseProducer, number: i32) {
    let deadline = Instant::now() + HANG_GUARD;
    while let Err(error) = try_write(producer, number) {
        match &error {
            KafkaError::Transaction(inner) if inner.txn_requires_abort() => {
                insist(|| producer.abort_transaction(PATIENCE)).unwrap();
            }
            _ => panic!("{number}: {error}"),
        }
        assert!(Instant::now() < deadline, "{number}: {error}");
    }
}

#[track_caller]
fn check_output(trio: &Trio, expected: impl Fn(i32) -> Vec<String>) {
    for partition in 0..PARTITIONS {
        for server in &trio.brokers {
            let committed = [("isolation.level", "read_committed")];
            let found = read_to_end(server, "output", partition, &committed);
            let found: Vec<String> = found.iter().map(text_of).collect();
            assert_eq!(found, expected(partition), "partition {partition}");
        }
    }
}

#[test]
fn a_transaction_ends_in_partitions_that_other_brokers_lead() {
    let trio = rig();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap(&trio))
        .set("transactional.id", "one")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for number in 0..20 {
        try_write(&producer, number).unwrap();
    }
    producer.begin_transaction().unwrap();
    for partition in 0..PARTITIONS {
        let record = BaseRecord::<(), str>::to("output").partition(partition);
        producer.send(record.payload("aborted")).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
    try_write(&producer, 20).unwrap();
    check_output(&trio, |_| {
        (0..=20).map(|number| number.to_string()).collect()
    });
}

#[test]
fn a_transaction_over_three_brokers_counts_once_though_its_coordinator_is_killed() {
    let mut trio = rig();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap(&trio))
        .set("transactional.id", "one")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let mut number = 0;
    for _ in 0..3 {
        for _ in 0..10 {
            write(&producer, number);
            number += 1;
        }
        // In the middle of a transaction.
        producer.begin_transaction().unwrap();
        let value = number.to_string();
        for partition in 0..PARTITIONS {
            let record = BaseRecord::<(), [u8]>::to("output").partition(partition);
            producer.send(record.payload(value.as_bytes())).unwrap();
        }
        let killed = kill_coordinator(&mut trio, TRANSACTIONS);
        match insist(|| producer.commit_transaction(PATIENCE)) {
            Ok(()) => {}
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                insist(|| producer.abort_transaction(PATIENCE)).unwrap();
                write(&producer, number);
            }
            Err(error) => panic!("{error}"),
        }
        number += 1;
        trio.brokers[killed].restart();
        wait_for_whole(&trio, &["output", TRANSACTIONS]);
    }
    check_output(&trio, |_| {
        (0..number).map(|number| number.to_string()).collect()
    });
}

fn fill_input(trio: &Trio, count: i32) {
    let mut producer = Producer::new(&trio.brokers[0], &[("enable.idempotence", "true")]);
    for number in 0..count {
        let value = number.to_string();
        let record = BaseRecord::to("input").partition(number % PARTITIONS);
        producer.send(record.key(&b""[..]).payload(value.as_bytes()));
    }
    producer.flush_all_taken();
}

fn member(trio: &Trio) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap(trio))
        .set("group.id", "readers")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&["input"]).unwrap();
    consumer
}

/// Reads one record and commits; whatever a broker that is gone causes is tried again.
#[track_caller]
fn read_one(consumer: &BaseConsumer) -> String {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        assert!(Instant::now() < deadline, "no record comes");
        let message = match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => message.detach(),
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )))
            | None => continue,
            Some(Err(error)) => panic!("{error}"),
        };
        let value = text_of(&message);
        while let Err(error) = consumer.commit_consumer_state(CommitMode::Sync) {
            let code = error.rdkafka_error_code();
            let retriable = [
                RDKafkaErrorCode::NotCoordinator,
                RDKafkaErrorCode::CoordinatorNotAvailable,
                RDKafkaErrorCode::CoordinatorLoadInProgress,
                RDKafkaErrorCode::BrokerTransportFailure,
                RDKafkaErrorCode::WaitingForCoordinator,
                RDKafkaErrorCode::RequestTimedOut,
            ];
            assert!(
                code.is_some_and(|code| retriable.contains(&code)),
                "{error}"
            );
            assert!(Instant::now() < deadline, "{error} for ever");
            std::thread::sleep(Duration::from_millis(20));
        }
        return value;
    }
}

#[test]
fn a_group_goes_on_where_it_was_when_its_coordinator_is_killed() {
    let mut trio = rig();
    fill_input(&trio, 90);
    let consumer = member(&trio);
    let mut seen: Vec<String> = (0..30).map(|_| read_one(&consumer)).collect();
    let killed = kill_coordinator(&mut trio, OFFSETS);
    seen.extend((0..30).map(|_| read_one(&consumer)));
    trio.brokers[killed].restart();
    wait_for_whole(&trio, &["input", OFFSETS]);
    kill_coordinator(&mut trio, OFFSETS);
    // Another member takes over: what was committed is known, and nothing comes twice.
    drop(consumer);
    let consumer = member(&trio);
    seen.extend((0..30).map(|_| read_one(&consumer)));
    let mut numbers: Vec<i32> = seen.iter().map(|value| value.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..90).collect::<Vec<_>>(), "each record once");
}

/// Kafka's own copier, that of its system tests, which also aborts transactions at random.
fn start_copier(kafka: &Kafka, trio: &Trio, partition: i32, count: i32) -> Process {
    let mut command = kafka.command("org.apache.kafka.tools.TransactionalMessageCopier");
    let partition = partition.to_string();
    command
        .args(["--input-topic", "input", "--input-partition", &partition])
        .args(["--output-topic", "output", "--consumer-group", "copiers"])
        .args(["--transaction-size", "10", "--enable-random-aborts"])
        .args(["--transactional-id", &format!("java-{partition}")])
        .args(["--transaction-timeout", "30000"])
        .args(["--max-messages", &count.to_string()])
        .args(["--broker-list", &bootstrap(trio)]);
    Process::spawn("TransactionalMessageCopier", command)
}

fn javas_copier(release: Release) {
    let Some(kafka) = Kafka::find(release) else {
        return;
    };
    let mut trio = rig();
    let each = 400;
    fill_input(&trio, each * PARTITIONS);
    let copiers: Vec<Process> = (0..PARTITIONS)
        .map(|partition| start_copier(&kafka, &trio, partition, each))
        .collect();
    for (round, topic) in [TRANSACTIONS, OFFSETS].into_iter().enumerate() {
        // Each tells its progress with each transaction that it committed.
        let progress = copiers[0].wait_for(|stdout, _| {
            let commits = stdout.matches("\"stage\":\"ProcessLoop\"").count();
            (commits > 5 * (round + 1)).then_some(())
        });
        progress.unwrap_or_else(|said| panic!("{said}"));
        let killed = kill_coordinator(&mut trio, topic);
        trio.brokers[killed].restart();
        wait_for_whole(&trio, &["input", "output", OFFSETS, TRANSACTIONS]);
    }
    for copier in copiers {
        copier.finish().succeeded();
    }
    check_output(&trio, |partition| {
        let numbers = (0..each * PARTITIONS).filter(|number| number % PARTITIONS == partition);
        numbers.map(|number| number.to_string()).collect()
    });
}

#[test]
fn javas_copiers_copy_each_record_once_though_coordinators_are_killed() {
    javas_copier(Release::V3_9);
}

#[test]
fn copiers_of_the_newer_protocol_copy_each_record_once_though_coordinators_are_killed() {
    javas_copier(Release::V4_1);
}
