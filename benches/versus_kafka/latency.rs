//! How long a record takes from its producer to its consumer, at a rate that leaves both brokers idle most of the time.
//!
//! One process with librdkafka on both ends, because its clock is the same at both ends and finer than a millisecond, the
//! unit of Kafka's own `EndToEndLatency`.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use crate::side::Side;
use crate::support::clients::{assign_from_beginning, consumer};
use crate::support::process::HANG_GUARD;

/// Records a second.
pub(crate) const RATE: u32 = 1_000;
/// Bytes of a value.
const SIZE: usize = 100;
/// Seconds of records that are sent first and not counted.
const WARM_UP: u32 = 2;

/// Latencies in microseconds.
pub(crate) struct Latencies {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// Sends records with acks=all for some seconds and measures those that come back.
pub(crate) fn measure(side: &Side, topic: &str, seconds: u32) -> Latencies {
    let consumer: BaseConsumer = consumer(side.server(), &[("socket.nagle.disable", "true")]);
    assign_from_beginning(&consumer, &[(topic, 0)]);
    let count = (RATE * (WARM_UP + seconds)) as usize;
    let epoch = Instant::now();
    let mut latencies = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&consumer, epoch, count));
        send(side, topic, epoch, count);
        receiver.join().expect("the receiver ends")
    });
    let mut counted = latencies.split_off((RATE * WARM_UP) as usize);
    counted.sort_by(f64::total_cmp);
    let at = |share: f64| counted[((counted.len() - 1) as f64 * share).round() as usize];
    Latencies {
        median: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
    }
}

/// Sends each record at its time, with that time in it.
fn send(side: &Side, topic: &str, epoch: Instant, count: usize) {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", side.server().bootstrap())
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("socket.nagle.disable", "true")
        .create()
        .expect("a valid producer configuration");
    let begin = Instant::now();
    let mut value = vec![b'.'; SIZE];
    for number in 0..count {
        let due = begin + Duration::from_secs(1) / RATE * number as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = epoch.elapsed().as_nanos() as u64;
        value[..8].copy_from_slice(&now.to_be_bytes());
        let record = BaseRecord::<(), _>::to(topic).partition(0).payload(&value);
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("the queue has room");
    }
    producer
        .flush(HANG_GUARD)
        .expect("every record is acknowledged");
}

/// The latencies in microseconds, in the order of the records.
fn receive(consumer: &BaseConsumer, epoch: Instant, count: usize) -> Vec<f64> {
    let mut latencies = Vec::with_capacity(count);
    while latencies.len() < count {
        assert!(
            epoch.elapsed() < HANG_GUARD,
            "{} of {count} records came",
            latencies.len()
        );
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.expect("a record");
            let sent = message.payload().and_then(|value| value.first_chunk());
            let sent = u64::from_be_bytes(*sent.expect("the time at which it was sent"));
            latencies.push((epoch.elapsed().as_nanos() as u64 - sent) as f64 / 1e3);
        }
    }
    latencies
}
