//! How fast a log is compacted: from the moment at which its topic is told to, until only the last record of each key is
//! left in its closed segments.

use std::ffi::OsString;
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

/// More than the last records of all keys take, and less than twice that.
const COMPACTED_BYTES_MAX: u64 = (KEYS * (SIZE + 100)) as u64;

/// Writes `records` records, lets the log be compacted, and returns the MB of dirty data compacted per second.
pub(crate) fn measure(side: &Side, topic: &str, records: usize) -> f64 {
    side.create(topic);
    alter(side, topic, &[("segment.bytes", "67108864")]);
    write(side, topic, records);
    let directory = side.server().partition_directory(topic, 0);
    let dirty_bytes = closed_bytes(&directory);
    assert!(dirty_bytes > 2 * COMPACTED_BYTES_MAX);
    let begin = Instant::now();
    let compact = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    alter(side, topic, &compact);
    while closed_bytes(&directory) > COMPACTED_BYTES_MAX {
        assert!(begin.elapsed() < HANG_GUARD, "{topic} is not compacted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let elapsed = begin.elapsed().as_secs_f64();
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

/// The bytes of all segments but the active one.
fn closed_bytes(directory: &Path) -> u64 {
    let mut segments: Vec<(OsString, u64)> = std::fs::read_dir(directory)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().extension() == Some("log".as_ref()))
        // A segment may be replaced between the two looks at it.
        .filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len())))
        .collect();
    segments.sort_unstable();
    segments.pop();
    segments.iter().map(|(_, bytes)| bytes).sum()
}
