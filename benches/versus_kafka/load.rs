//! The load: Apache Kafka's own performance tool as the producer, librdkafka as the consumer.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;

use crate::side::Side;
use crate::support::clients::{assign_from_beginning, consumer};
use crate::support::java::Kafka;
use crate::support::process::{HANG_GUARD, Process};

const PRODUCER: &str = "org.apache.kafka.tools.ProducerPerformance";
const CONSUMER: &str = "org.apache.kafka.tools.ConsumerPerformance";
/// The virtual machine's options of Kafka's own scripts.
const OPTIONS: [&str; 5] = [
    "-Xmx512M",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
];

/// Produces with kafka-producer-perf-test and returns its records per second.
pub(crate) fn produce(
    kafka: &Kafka,
    side: &Side,
    topic: &str,
    size: usize,
    records: usize,
    acks: &str,
) -> f64 {
    let mut command = kafka.command_with(PRODUCER, &OPTIONS, "log4j.properties");
    command.args(["--topic", topic, "--throughput", "-1"]);
    command.args([
        "--num-records",
        &records.to_string(),
        "--record-size",
        &size.to_string(),
    ]);
    command.args([
        "--producer-props",
        &format!("bootstrap.servers={}", side.server().bootstrap()),
    ]);
    command.arg(format!("acks={acks}"));
    let said = Process::spawn(PRODUCER, command)
        .finish()
        .succeeded()
        .stdout();
    let last = said
        .lines()
        .rfind(|line| line.contains("99.9th"))
        .expect("a final line");
    assert!(
        last.starts_with(&format!("{records} records sent, ")),
        "{said}"
    );
    let rate = last
        .split(", ")
        .nth(1)
        .and_then(|text| text.split(' ').next())
        .and_then(|text| text.parse().ok());
    rate.expect("records per second")
}

/// Consumes with kafka-consumer-perf-test, a member of a new group, and returns its records per second of fetching.
pub(crate) fn consume_in_group(
    kafka: &Kafka,
    side: &Side,
    topic: &str,
    group: &str,
    records: usize,
) -> f64 {
    let mut command = kafka.command_with(CONSUMER, &OPTIONS, "log4j.properties");
    command.args(["--bootstrap-server", &side.server().bootstrap()]);
    command.args(["--topic", topic, "--group", group]);
    command.args(["--messages", &records.to_string(), "--timeout", "60000"]);
    let said = Process::spawn(CONSUMER, command)
        .finish()
        .succeeded()
        .stdout();
    let last = said.lines().last().expect("a line of results");
    // start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms,
    // fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
    let columns: Vec<&str> = last.split(", ").collect();
    assert_eq!(columns.len(), 10, "{said}");
    assert!(
        columns[4].parse::<usize>().expect("a count") >= records,
        "{said}"
    );
    columns[9].trim().parse().expect("records per second")
}

/// Reads the whole of a topic's only partition some times over and returns the records per second.
pub(crate) fn consume(side: &Side, topic: &str, records: usize, passes: usize) -> f64 {
    let mut elapsed = Duration::ZERO;
    for _ in 0..passes {
        let consumer: BaseConsumer = consumer(side.server(), &[("queued.min.messages", "1000000")]);
        let begin = Instant::now();
        assign_from_beginning(&consumer, &[(topic, 0)]);
        let mut next = 0;
        while next < records {
            assert!(
                begin.elapsed() < HANG_GUARD,
                "{next} of {records} records came"
            );
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                let message = message.expect("a record");
                assert_eq!(message.offset(), next as i64);
                next += 1;
            }
        }
        elapsed += begin.elapsed();
        consumer.unassign().unwrap();
    }
    (records * passes) as f64 / elapsed.as_secs_f64()
}
