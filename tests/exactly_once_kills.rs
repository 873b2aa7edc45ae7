//! A loop that reads, processes and writes in transactions, under kill -9 of its processes and of the broker: what comes
//! out is what went in, each record once and in order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::Rng;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use support::clients::{Producer, create_topics, read_to_end, text_of};
use support::java::{Kafka, Release};
use support::process::{HANG_GUARD, Process};
use support::random::random;
use support::server::Server;

const PARTITIONS: i32 = 2;
/// How many records a transaction copies at most.
const TRANSACTION: usize = 7;
/// What tells the process of a copier its work: bootstrap address and partition.
const WORK: &str = "TROUPE_TEST_COPIER";
/// What a copier exits with when it gave up.
const GAVE_UP: i32 = 3;

/// How long a copier waits for anything before it gives up, in time to be told from one that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process of a copier: copies one partition of `input` to `output` from the committed offset to the end.
#[test]
#[ignore = "it is started by the other tests"]
fn copier() {
    let Ok(work) = std::env::var(WORK) else {
        return;
    };
    let (bootstrap, partition) = work.split_once(' ').unwrap();
    if let Err(error) = copy(bootstrap, partition.parse().unwrap()) {
        eprintln!("gave up: {error}");
        std::process::exit(GAVE_UP);
    }
}

/// Tells the test at once; not through the capture of the test's own output.
fn say(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").unwrap();
    stdout.flush().unwrap();
}

fn copy(bootstrap: &str, partition: i32) -> Result<(), KafkaError> {
    let mut common = ClientConfig::new();
    common.set("bootstrap.servers", bootstrap);
    common.set("reconnect.backoff.max.ms", "100");
    // A transaction often begins before the broker has completed the one before, and is then tried again.
    common.set("retry.backoff.ms", "10");
    let producer: BaseProducer = common
        .clone()
        .set("transactional.id", format!("copier-{partition}"))
        .set("linger.ms", "1")
        .create()?;
    let consumer: BaseConsumer = common
        .set("group.id", "copiers")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    // Ends what an earlier process left open, so that the committed offset is the last word.
    producer.init_transactions(PATIENCE)?;
    let mut place = TopicPartitionList::new();
    place.add_partition("input", partition);
    let committed = consumer.committed_offsets(place.clone(), PATIENCE)?;
    let mut next = match committed.elements()[0].offset() {
        Offset::Offset(offset) => offset,
        _ => 0,
    };
    place.set_partition_offset("input", partition, Offset::Offset(next))?;
    consumer.assign(&place)?;
    let (_, end) = consumer.fetch_watermarks("input", partition, PATIENCE)?;
    while next < end {
        let Some(first) = poll(&consumer, PATIENCE)? else {
            return Err(KafkaError::Canceled);
        };
        producer.begin_transaction()?;
        let mut message = Some(first);
        for left in (0..TRANSACTION).rev() {
            let Some(taken) = message.take() else { break };
            let record = BaseRecord::<(), [u8]>::to("output")
                .partition(partition)
                .payload(taken.payload().unwrap());
            producer.send(record).map_err(|(error, _)| error)?;
            next = taken.offset() + 1;
            // No further than this transaction goes: what is read and not taken would be lost to the next one.
            if left > 0 {
                message = poll(&consumer, Duration::from_millis(5))?;
            }
        }
        place.set_partition_offset("input", partition, Offset::Offset(next))?;
        let group = consumer.group_metadata().expect("a consumer has a group");
        producer.send_offsets_to_transaction(&place, &group, PATIENCE)?;
        producer.commit_transaction(PATIENCE)?;
        say(&format!("committed {next}"));
    }
    Ok(())
}

/// Waits for a record. That no broker is there is no reason to give up: the client looks for it by itself.
fn poll(
    consumer: &BaseConsumer,
    timeout: Duration,
) -> Result<Option<BorrowedMessage<'_>>, KafkaError> {
    loop {
        match consumer.poll(timeout).transpose() {
            Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )) => {}
            polled => return polled,
        }
    }
}

fn start_copier(server: &Server, partition: i32) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "copier", "--ignored", "--nocapture"])
        .env(WORK, format!("{} {partition}", server.bootstrap()));
    Process::spawn("copier", command)
}

fn commits(said: &str) -> usize {
    said.matches("committed ").count()
}

/// The input: numbers, to the partitions in turn.
struct Input {
    producer: Producer,
    sent: i32,
}

impl Input {
    fn new(server: &Server) -> Self {
        create_topics(server, &["input", "output"], PARTITIONS, &[]);
        Self {
            producer: Producer::new(server, &[("enable.idempotence", "true")]),
            sent: 0,
        }
    }

    fn add(&mut self, count: i32) {
        for number in self.sent..self.sent + count {
            let value = number.to_string();
            let record = BaseRecord::to("input").partition(number % PARTITIONS);
            self.producer.send(record.payload(value.as_bytes()));
        }
        self.sent += count;
        self.producer.flush_all_taken();
    }

    /// Compares the output with everything that was sent.
    #[track_caller]
    fn check(&self, server: &Server) {
        for partition in 0..PARTITIONS {
            self.check_partition(server, partition);
        }
    }

    #[track_caller]
    fn check_partition(&self, server: &Server, partition: i32) {
        let committed = [("isolation.level", "read_committed")];
        let output = read_to_end(server, "output", partition, &committed);
        let output: Vec<String> = output.iter().map(text_of).collect();
        let numbers = (0..self.sent).filter(|number| number % PARTITIONS == partition);
        let expected: Vec<String> = numbers.map(|number| number.to_string()).collect();
        assert_eq!(output, expected, "partition {partition}");
    }
}

fn copiers_are_killed(kills: usize) {
    let mut random = random();
    let server = Server::start();
    let mut input = Input::new(&server);
    let mut killed = 0;
    while killed < kills {
        // No more than the copiers get done before they are killed, so that the last ones have little left to do.
        input.add(random.random_range(20..80));
        let copiers: Vec<Process> = (0..PARTITIONS)
            .map(|partition| start_copier(&server, partition))
            .collect();
        for copier in copiers {
            let seen = random.random_range(0..10);
            let _ = copier.wait_for(|stdout, _| (commits(stdout) >= seen).then_some(()));
            std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
            let output = copier.kill();
            let was_killed = output.status.signal() == Some(9);
            assert!(was_killed || output.status.success(), "{}", output.text());
            killed += usize::from(was_killed);
        }
    }
    for partition in 0..PARTITIONS {
        start_copier(&server, partition).finish().succeeded();
    }
    eprintln!("{killed} copiers killed; {} records", input.sent);
    input.check(&server);
}

/// Kafka's own copier, that of its system tests, which also aborts transactions at random.
fn start_java_copier(kafka: &Kafka, server: &Server, count: i32) -> Process {
    let mut command = kafka.command("org.apache.kafka.tools.TransactionalMessageCopier");
    let places = ["--input-topic", "input", "--input-partition", "0"];
    let group = ["--output-topic", "output", "--consumer-group", "copiers"];
    let sizes = ["--transaction-size", "10", "--enable-random-aborts"];
    command
        .args(places)
        .args(group)
        .args(sizes)
        .args([
            "--transactional-id",
            "java",
            "--transaction-timeout",
            "3000",
        ])
        .args(["--max-messages", &count.to_string()])
        .args(["--broker-list", &server.bootstrap()]);
    Process::spawn("TransactionalMessageCopier", command)
}

/// Kills a copier of Java twice, and lets one of another release go on.
fn javas_copiers_are_killed(releases: [Release; 3]) {
    let found = releases.map(Kafka::find);
    let [Some(first), Some(second), Some(last)] = found else {
        return;
    };
    // The copier asks for the committed offset before it ends what an earlier one left open: it waits for the time-out.
    let server = Server::with()
        .set(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            500,
        )
        .start();
    let mut input = Input::new(&server);
    input.add(1_000);
    for kafka in [first, second] {
        let copier = start_java_copier(&kafka, &server, input.sent / PARTITIONS);
        // It tells its progress with each transaction that it committed.
        let progress = copier.wait_for(|stdout, _| {
            let commits = stdout.matches("\"stage\":\"ProcessLoop\"").count();
            (commits > 5).then_some(())
        });
        progress.unwrap_or_else(|said| panic!("{said}"));
        copier.kill();
    }
    let copier = start_java_copier(&last, &server, input.sent / PARTITIONS);
    copier.finish().succeeded();
    input.check_partition(&server, 0);
}

fn the_broker_is_killed(kills: usize) {
    let mut random = random();
    let mut server = Server::start();
    let mut input = Input::new(&server);
    let mut gave_up = 0;
    for _ in 0..kills {
        input.add(200);
        let copiers: Vec<Process> = (0..PARTITIONS)
            .map(|partition| start_copier(&server, partition))
            .collect();
        let seen = random.random_range(1..10);
        let victim = random.random_range(0..copiers.len());
        let progress =
            copiers[victim].wait_for(|stdout, _| (commits(stdout) >= seen).then_some(()));
        progress.unwrap_or_else(|said| panic!("{said}"));
        std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
        server.kill();
        server.restart();
        // What they had under way goes on, or is given up for the next ones to do again.
        for copier in copiers {
            let output = copier.finish();
            let given_up = output.status.code() == Some(GAVE_UP);
            assert!(given_up || output.status.success(), "{}", output.text());
            gave_up += usize::from(given_up);
        }
    }
    eprintln!("{kills} kills of the broker; {gave_up} copiers gave up");
    let deadline = Instant::now() + HANG_GUARD;
    for partition in 0..PARTITIONS {
        while !start_copier(&server, partition).finish().status.success() {
            assert!(
                Instant::now() < deadline,
                "partition {partition} is not copied"
            );
        }
    }
    input.check(&server);
}

#[test]
fn each_record_is_copied_once_though_copiers_are_killed() {
    copiers_are_killed(5);
}

#[test]
fn each_record_is_copied_once_though_javas_copiers_are_killed() {
    // The older protocol, the newer one of Kafka 4, and both by turns.
    javas_copiers_are_killed([Release::V3_9; 3]);
    javas_copiers_are_killed([Release::V4_1; 3]);
    javas_copiers_are_killed([Release::V3_9, Release::V4_1, Release::V3_9]);
}

#[test]
fn each_record_is_copied_once_though_the_broker_is_killed() {
    the_broker_is_killed(5);
}

#[test]
#[ignore = "long: ./test --long"]
fn each_record_is_copied_once_though_copiers_are_killed_200_times() {
    copiers_are_killed(200);
}

#[test]
#[ignore = "long: ./test --long"]
fn each_record_is_copied_once_though_the_broker_is_killed_200_times() {
    the_broker_is_killed(200);
}
