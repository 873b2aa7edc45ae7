//! The log cleaners at work on a file system in memory, on the thread of everything else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use troupe_protocol::kafka::records::batch::batches;
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::record::Record;
use uuid::Uuid;

use super::{LogManager, LogManagerHandle};
use crate::config::{BrokerConfig, TopicConfig};
use crate::log::checkpoints::read_offsets;
use crate::log::names;
use crate::partition::messages::{Acks, Reader};
use crate::partition::testing::{BROKER, TestClock, append, lead, read};
use crate::partition::{PartitionHandle, TopicPartition};
use crate::runtime::Runtime;
use crate::storage::memory::{Crash, MemoryStorage};

const NOW: i64 = 1_700_000_000_000;
const TOPIC: Uuid = Uuid::from_u128(7);

async fn manager(storage: &MemoryStorage, more: &[(&str, &str)]) -> LogManagerHandle {
    let pairs = [("log.dirs", "/logs"), ("log.cleaner.backoff.ms", "10")];
    let pairs = pairs.into_iter().chain(more.iter().copied());
    let config = Arc::new(BrokerConfig::from_values(pairs.collect()).unwrap());
    let runtime = Runtime::single_threaded(TestClock::new(NOW));
    let logs = LogManager::open(config, runtime, Arc::new(storage.clone()));
    let logs = logs.await.unwrap();
    logs.set_identity(BROKER, "cluster").await.unwrap();
    logs
}

async fn replica(logs: &LogManagerHandle, partition: i32) -> PartitionHandle {
    let overrides = [("cleanup.policy", "compact"), ("segment.bytes", "1000")];
    let overrides: BTreeMap<String, String> = overrides
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let config = TopicConfig::parse(&overrides, &BrokerConfig::default()).unwrap();
    let partition = TopicPartition::new("t", partition);
    let handle = logs.open(partition, TOPIC, Arc::new(config)).await.unwrap();
    lead(&handle, &[BROKER]).await;
    handle
}

fn record(key: i64, value: i64) -> BytesMut {
    let record = Record {
        offset: 0,
        timestamp: NOW,
        key: Some(Bytes::from(key.to_string())),
        value: Some(Bytes::from(value.to_string())),
        headers: Vec::new(),
    };
    BatchBuilder::new().build_from(&[record]).unwrap()
}

/// Appends 200 records of ten keys, in rounds.
async fn fill(partition: &PartitionHandle) {
    for value in 0..200 {
        append(partition, record(value % 10, value), Acks::All)
            .await
            .unwrap();
    }
}

/// Reads everything: offset, key and value.
async fn records(partition: &PartitionHandle) -> Vec<(i64, i64, i64)> {
    let (mut found, mut next) = (Vec::new(), 0);
    let number = |bytes: Option<Bytes>| {
        String::from_utf8(bytes.unwrap().to_vec())
            .unwrap()
            .parse()
            .unwrap()
    };
    while let Some(slice) = read(partition, next, Reader::Consumer).await.records {
        for batch in batches(&slice.read().unwrap()) {
            let batch = batch.unwrap();
            next = batch.header().next_offset();
            for record in batch.records(1000).unwrap().map(Result::unwrap) {
                found.push((record.offset, number(record.key), number(record.value)));
            }
        }
    }
    found
}

/// Waits until a log was compacted, and no further for a while.
async fn compacted(partition: &PartitionHandle) {
    let mut before = -1;
    for _ in 0..3000 {
        if partition.cleaned_to() > 0 && partition.cleaned_to() == before {
            return;
        }
        before = partition.cleaned_to();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("nothing is compacted: {partition:?}");
}

fn check(found: &[(i64, i64, i64)]) {
    assert!(found.len() < 60, "{found:?}");
    assert!(found.is_sorted());
    for (offset, key, value) in found {
        assert_eq!((value % 10, *offset), (*key, *value));
    }
    let last: BTreeMap<i64, i64> = found.iter().map(|(_, key, value)| (*key, *value)).collect();
    assert_eq!(last, (0..10).map(|key| (key, 190 + key)).collect());
}

#[actix_rt::test]
async fn compacted_logs_are_compacted_and_their_checkpoints_say_so() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, &[]).await;
    let (one, other) = (replica(&logs, 0).await, replica(&logs, 1).await);
    fill(&one).await;
    fill(&other).await;
    compacted(&one).await;
    compacted(&other).await;
    check(&records(&one).await);
    check(&records(&other).await);
    let cleaned_to = one.cleaned_to();
    logs.shutdown().await;
    let path = Path::new("/logs").join(names::CLEANER_OFFSETS);
    let offsets = read_offsets(&storage, &path).unwrap();
    assert_eq!(offsets.get(&("t".to_owned(), 0)), Some(&cleaned_to));
    storage.crash(Crash::Machine { keep: 0 });
    let logs = manager(&storage, &[]).await;
    let one = replica(&logs, 0).await;
    assert_eq!(one.cleaned_to(), cleaned_to);
    check(&records(&one).await);
}

#[actix_rt::test]
async fn readers_find_every_last_value_at_any_moment() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, &[]).await;
    let partition = replica(&logs, 0).await;
    fill(&partition).await;
    loop {
        let found = records(&partition).await;
        let last: BTreeMap<i64, i64> = found.iter().map(|(_, key, value)| (*key, *value)).collect();
        assert_eq!(last, (0..10).map(|key| (key, 190 + key)).collect());
        if found.len() < 60 {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[actix_rt::test]
async fn a_corrupt_log_is_left_alone_and_the_others_are_compacted() {
    let storage = MemoryStorage::new();
    let logs = manager(&storage, &[("log.cleaner.enable", "false")]).await;
    let (bad, good) = (replica(&logs, 0).await, replica(&logs, 1).await);
    fill(&bad).await;
    fill(&good).await;
    logs.shutdown().await;
    let path = Path::new("/logs/t-0/00000000000000000000.log");
    storage.tamper(path, |bytes| bytes[100] ^= 1);
    let logs = manager(&storage, &[]).await;
    let (bad, good) = (replica(&logs, 0).await, replica(&logs, 1).await);
    compacted(&good).await;
    check(&records(&good).await);
    assert_eq!(bad.cleaned_to(), 0);
    assert!(!bad.progress().failed, "it still takes records");
    append(&bad, record(1, 201), Acks::All).await.unwrap();
}

#[actix_rt::test]
async fn a_shutdown_does_not_wait_for_a_throttled_cleaner() {
    let storage = MemoryStorage::new();
    let slow = [("log.cleaner.io.max.bytes.per.second", "1")];
    let logs = manager(&storage, &slow).await;
    let partition = replica(&logs, 0).await;
    fill(&partition).await;
    let cleaned = || {
        let paths = storage.paths().into_iter();
        paths
            .filter(|path| path.to_str().unwrap().ends_with(names::CLEANED))
            .count()
    };
    // Hours of work at this rate.
    tokio::time::timeout(std::time::Duration::from_secs(60), logs.shutdown())
        .await
        .unwrap();
    assert_eq!((cleaned(), partition.cleaned_to()), (0, 0));
}
