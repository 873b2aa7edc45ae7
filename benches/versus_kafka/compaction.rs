//! How fast a log is compacted: from the moment at which its topic is told to, until the cleaner has noted that it is done.

use std::path::Path;
use std::time::{Duration, Instant};

use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use crate::side::Side;
use crate::support::process::HANG_GUARD;
use crate::support::wire::Wire;

/// Different keys: what is left of the records in the end.
const KEYS: usize = 100_000;
/// Bytes of a value.
const SIZE: usize = 200;

/// Writes `records` records, lets the log be compacted, and returns the MB of dirty data compacted per second.
pub(crate) fn measure(side: &Side, topic: &str, records: usize) -> f64 {
    side.create(topic);
    alter(side, topic, &[("segment.bytes", "67108864")]);
    write(side, topic, records);
    let directory = side.server().partition_directory(topic, 0);
    let (dirty_bytes, active) = closed_segments(&directory);
    let begin = Instant::now();
    let compact = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    alter(side, topic, &compact);
    let checkpoint = side
        .server()
        .log_directory()
        .join("cleaner-offset-checkpoint");
    while cleaned_to(&checkpoint, topic) < Some(active) {
        assert!(begin.elapsed() < HANG_GUARD, "{topic} is not compacted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let (left_bytes, _) = closed_segments(&directory);
    assert!(left_bytes < dirty_bytes / 2, "{left_bytes} bytes are left");
    side.delete(topic);
    dirty_bytes as f64 / 1e6 / elapsed
}

fn alter(side: &Side, topic: &str, settings: &[(&'static str, &'static str)]) {
    let configs = settings.iter().map(|(key, value)| {
        AlterableConfig::default()
            .with_name(StrBytes::from_static_str(key))
            .with_value(Some(StrBytes::from_static_str(value)))
    });
    const TOPIC: i8 = 2;
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(StrBytes::from_string(topic.to_owned()))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = Wire::connect(side.server()).call(1, &request);
    assert_eq!(response.responses[0].error_code, 0);
}

/// Writes records whose keys come round again and again.
fn write(side: &Side, topic: &str, records: usize) {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", side.server().bootstrap())
        .set("linger.ms", "20")
        .create()
        .expect("a valid producer configuration");
    let mut value = [0; SIZE];
    for number in 0..records {
        // No value is the next one's repetition, and no codec is asked for.
        value[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let key = format!("key {}", number % KEYS);
        let mut record = BaseRecord::to(topic)
            .partition(0)
            .key(&key[..])
            .payload(&value[..]);
        while let Err((error, refused)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full);
            std::thread::sleep(Duration::from_millis(5));
            record = refused;
        }
    }
    producer
        .flush(HANG_GUARD)
        .expect("every record is acknowledged");
}

/// The bytes of all segments but the active one, and the base offset of that.
fn closed_segments(directory: &Path) -> (u64, i64) {
    let mut segments: Vec<(i64, u64)> = std::fs::read_dir(directory)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().extension() == Some("log".as_ref()))
        .map(|entry| {
            let name = entry.file_name();
            let base = name.to_str().and_then(|name| name.split('.').next());
            let base = base.and_then(|base| base.parse().ok());
            (
                base.expect("a segment is named for its offset"),
                entry.metadata().unwrap().len(),
            )
        })
        .collect();
    segments.sort_unstable();
    let (active, _) = segments.pop().expect("an active segment");
    (segments.iter().map(|(_, bytes)| bytes).sum(), active)
}

/// The offset up to which a topic's only partition is noted as compacted.
fn cleaned_to(checkpoint: &Path, topic: &str) -> Option<i64> {
    let noted = std::fs::read_to_string(checkpoint).ok()?;
    let line = noted
        .lines()
        .find(|line| line.split(' ').next() == Some(topic))?;
    line.split(' ').nth(2)?.parse().ok()
}
