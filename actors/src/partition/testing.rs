//! What the tests of partitions and of the log manager share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::{Batch, BatchHeader, batches};
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::record::Record;
use uuid::Uuid;

use super::messages::{Acks, Append, Appended, BecomeLeader, Read, ReadResult, Reader};
use super::{
    Answer, Opening, Partition, PartitionHandle, Surroundings, TopicPartition, Verification,
};
use crate::config::TopicConfig;
use crate::log::Start;
use crate::replication::isr::IsrChanges;
use crate::runtime::{Blocking, Clock};
use crate::storage::Storage;

pub(crate) const BROKER: i32 = 1;
pub(crate) const EPOCH: i32 = 3;
pub(crate) const PRODUCER_ID_EXPIRATION_MS: i64 = 1_000_000;
pub(crate) const LAG_MAX: Duration = Duration::from_secs(30);

/// A clock that a test sets, and that panics on demand in the middle of whatever asks it.
#[derive(Default)]
pub(crate) struct TestClock {
    now_ms: AtomicI64,
    panics: AtomicU32,
}

impl TestClock {
    pub(crate) fn new(now_ms: i64) -> Arc<Self> {
        let clock = Self::default();
        clock.now_ms.store(now_ms, Ordering::SeqCst);
        Arc::new(clock)
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Makes the next `times` questions panic.
    pub(crate) fn panic(&self, times: u32) {
        self.panics.store(times, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        let counted = self
            .panics
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        assert!(counted.is_err(), "injected: the clock panics");
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now_ms.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// Opens `/logs/t-0` as a clean shutdown with nothing checkpointed left it.
pub(crate) fn open(
    storage: &Arc<impl Storage + 'static>,
    clock: &Arc<TestClock>,
    config: TopicConfig,
    clean_shutdown: bool,
) -> PartitionHandle {
    open_with(storage, clock, config, clean_shutdown, None)
}

/// As [`open`], with somebody who writes changes of the in-sync set.
pub(crate) fn open_with(
    storage: &Arc<impl Storage + 'static>,
    clock: &Arc<TestClock>,
    config: TopicConfig,
    clean_shutdown: bool,
    isr_changes: Option<IsrChanges>,
) -> PartitionHandle {
    let start = Start {
        recovery_point: 0,
        log_start_offset: 0,
        cleaned_to: 0,
        clean_shutdown,
    };
    let surroundings = Surroundings {
        storage: storage.clone(),
        clock: clock.clone(),
        blocking: Blocking::Pool,
        producer_id_expiration_ms: PRODUCER_ID_EXPIRATION_MS,
        replica_lag_time_max: LAG_MAX,
        isr_changes,
    };
    Partition::open(Opening {
        topic_partition: TopicPartition::new("t", 0),
        topic_id: Uuid::from_u128(7),
        dir: PathBuf::from("/logs/t-0"),
        broker: BROKER,
        config: Arc::new(config),
        start,
        high_watermark: 0,
        surroundings,
    })
    .unwrap()
}

pub(crate) async fn lead(partition: &PartitionHandle, isr: &[i32]) {
    let (isr, replicas) = (isr.to_vec(), isr.to_vec());
    let build = |reply| BecomeLeader {
        leader_epoch: EPOCH,
        partition_epoch: 0,
        isr,
        replicas,
        reply,
    };
    partition.ask(build).await.unwrap();
}

/// Builds a batch of these values, the first at `timestamp` and each a millisecond later.
pub(crate) fn batch(
    values: &[&str],
    timestamp: i64,
    producer: Option<(i64, i16, i32)>,
) -> BytesMut {
    let mut builder = BatchBuilder::new();
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    fill(builder, values, timestamp)
}

/// Builds a batch of one value in a transaction.
pub(crate) fn transactional(value: &str, (id, epoch, sequence): (i64, i16, i32)) -> BytesMut {
    let builder = BatchBuilder::new()
        .producer(id, epoch, sequence)
        .transactional(true);
    fill(builder, &[value], 1)
}

fn fill(mut builder: BatchBuilder, values: &[&str], timestamp: i64) -> BytesMut {
    for (number, value) in (0..).zip(values) {
        let record = Record {
            offset: number,
            timestamp: timestamp + number,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        };
        builder.push(&record).unwrap();
    }
    builder.build().unwrap()
}

/// Sends a batch and returns where its answer will come.
pub(crate) async fn start_append(
    partition: &PartitionHandle,
    batch: BytesMut,
    acks: Acks,
) -> oneshot::Receiver<Answer<Appended>> {
    let (reply, answer) = oneshot::channel();
    let header = BatchHeader::parse(&batch).unwrap();
    let append = Append {
        batch,
        header,
        acks,
        verification: Verification::NotNeeded,
        reply,
    };
    partition.send(append).await.unwrap();
    answer
}

/// Appends a batch; a reply that is dropped reads as KAFKA_STORAGE_ERROR, as at the gateway.
pub(crate) async fn append(
    partition: &PartitionHandle,
    batch: BytesMut,
    acks: Acks,
) -> Answer<Appended> {
    let answer = start_append(partition, batch, acks).await;
    answer.await.unwrap_or(Err(ErrorCode::KafkaStorageError))
}

pub(crate) fn read_from(offset: i64, reader: Reader) -> (Read, oneshot::Receiver<ReadResult>) {
    let (reply, answer) = oneshot::channel();
    let read = Read {
        offset,
        max_bytes: 1 << 20,
        at_least_one: true,
        reader,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        reply,
    };
    (read, answer)
}

pub(crate) async fn read(partition: &PartitionHandle, offset: i64, reader: Reader) -> ReadResult {
    let (read, answer) = read_from(offset, reader);
    partition.send(read).await.unwrap();
    answer.await.unwrap()
}

/// Reads a partition's records as a consumer, from `offset` to where it may: offset and value of each.
pub(crate) async fn values(partition: &PartitionHandle, offset: i64) -> Vec<(i64, String)> {
    let (mut all, mut next) = (Vec::new(), offset);
    loop {
        let result = read(partition, next, Reader::Consumer).await;
        assert_eq!(result.error, ErrorCode::None);
        let Some(records) = result.records else {
            return all;
        };
        let bytes = records.read().unwrap();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            next = batch.header().next_offset();
            all.extend(
                values_of(&batch)
                    .into_iter()
                    .filter(|&(at, _)| at >= offset),
            );
        }
    }
}

fn values_of(batch: &Batch<'_>) -> Vec<(i64, String)> {
    batch
        .records(1 << 20)
        .unwrap()
        .map(|record| record.unwrap())
        .map(|record| {
            (
                record.offset,
                String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
            )
        })
        .collect()
}
