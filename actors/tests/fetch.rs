//! Fetch against a whole broker: what long polls wait for, and how bytes are shared.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::join;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use troupe_actors::broker::Broker;
use troupe_actors::config::{BrokerConfig, Origin, Values};
use troupe_actors::runtime::{Clock, Runtime, SystemClock, ThreadPool};
use troupe_actors::storage::Disk;
use troupe_protocol::kafka::records::batch::batches;
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::record::Record;

/// Longer than any test takes: who waits for it has not been woken.
const FOREVER_MS: i32 = 600_000;
const NOT_LEADER: i16 = 6;

/// A broker on a free port with its data in `dir`.
async fn start(dir: &Path) -> Broker {
    let clock = Arc::new(SystemClock::new());
    start_on(dir, Runtime::single_threaded(clock)).await
}

async fn start_on(dir: &Path, runtime: Runtime) -> Broker {
    let mut values = Values::default();
    for (name, value) in [
        ("log.dirs", dir.join("logs").display().to_string()),
        ("listeners", "PLAINTEXT://127.0.0.1:0".to_owned()),
        ("troupe.zookeeper.port", "0".to_owned()),
        (
            "troupe.zookeeper.data.dir",
            dir.join("znodes").display().to_string(),
        ),
    ] {
        values.set(name, value, Origin::Override);
    }
    let config = BrokerConfig::from_values(values).expect("a good configuration");
    Broker::start(config, runtime, Arc::new(Disk))
        .await
        .expect("the broker starts")
}

struct Client(TcpStream);

impl Client {
    async fn connect(broker: &Broker) -> Self {
        let (_, addr) = broker.listeners.first().expect("a listener");
        Self(TcpStream::connect(addr).await.expect("the broker listens"))
    }

    /// Sends a request and returns the answer; `None` when the connection is closed instead.
    async fn try_call<Q: Encodable, A: Decodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: Q,
    ) -> Option<A> {
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        frame.put_i16(key as i16);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_i16(-1);
        // All versions used here are flexible.
        frame.put_u8(0);
        request.encode(&mut frame, version).expect("encodable");
        let size = u32::try_from(frame.len() - 4).expect("a small request");
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.0.write_all(&frame).await.ok()?;
        let size = self.0.read_u32().await.ok()?;
        let mut answer = vec![0; usize::try_from(size).expect("an answer")];
        self.0.read_exact(&mut answer).await.ok()?;
        let mut answer = Bytes::from(answer);
        assert_eq!(answer.get_i32(), 7, "correlation id");
        answer.advance(1);
        Some(A::decode(&mut answer, version).expect("decodable"))
    }

    async fn create(&mut self, name: &'static str, partitions: i32) {
        let topic = CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let answer: Option<CreateTopicsResponse> =
            self.try_call(ApiKey::CreateTopics, 7, request).await;
        assert_eq!(answer.expect("an answer").topics[0].error_code, 0);
    }

    async fn try_produce(
        &mut self,
        name: &'static str,
        partition: i32,
        value: &str,
    ) -> Option<i16> {
        let partition = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch(value)));
        let data = TopicProduceData::default()
            .with_name(topic(name))
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(FOREVER_MS)
            .with_topic_data(vec![data]);
        let answer: Option<ProduceResponse> = self.try_call(ApiKey::Produce, 9, request).await;
        Some(answer?.responses[0].partition_responses[0].error_code)
    }

    async fn produce(&mut self, name: &'static str, partition: i32, value: &str) {
        assert_eq!(self.try_produce(name, partition, value).await, Some(0));
    }

    /// Fetches from the offsets of these partitions; returns of each its number, its error and its values.
    async fn fetch(&mut self, name: &'static str, limits: Limits, from: &[(i32, i64)]) -> Vec<Got> {
        let partitions = from.iter().map(|&(partition, offset)| {
            FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(offset)
                .with_current_leader_epoch(-1)
                .with_last_fetched_epoch(-1)
                .with_partition_max_bytes(1 << 20)
        });
        let wanted = FetchTopic::default()
            .with_topic(topic(name))
            .with_partitions(partitions.collect());
        let request = FetchRequest::default()
            .with_max_wait_ms(limits.max_wait_ms)
            .with_min_bytes(limits.min_bytes)
            .with_max_bytes(limits.max_bytes)
            .with_session_epoch(-1)
            .with_topics(vec![wanted]);
        let answer: Option<FetchResponse> = self.try_call(ApiKey::Fetch, 12, request).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.error_code, 0);
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|partition| Got {
                partition: partition.partition_index,
                error: partition.error_code,
                values: partition.records.as_deref().map(values).unwrap_or_default(),
            })
            .collect()
    }
}

#[derive(Clone, Copy)]
struct Limits {
    max_wait_ms: i32,
    min_bytes: i32,
    max_bytes: i32,
}

const PATIENT: Limits = Limits {
    max_wait_ms: FOREVER_MS,
    min_bytes: 1,
    max_bytes: i32::MAX,
};

#[derive(Debug, PartialEq, Eq)]
struct Got {
    partition: i32,
    error: i16,
    values: Vec<String>,
}

fn got(partition: i32, values: &[&str]) -> Got {
    Got {
        partition,
        error: 0,
        values: values.iter().map(ToString::to_string).collect(),
    }
}

fn topic(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

fn batch(value: &str) -> Bytes {
    let mut builder = BatchBuilder::new();
    let record = Record {
        offset: 0,
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    };
    builder.push(&record).expect("a record");
    builder.build().expect("a batch").freeze()
}

fn values(bytes: &[u8]) -> Vec<String> {
    let records = batches(bytes).flat_map(|batch| {
        let batch = batch.expect("a batch");
        let records = batch.records(1 << 20).expect("records");
        records
            .map(|record| record.expect("a record").value.expect("a value"))
            .collect::<Vec<_>>()
    });
    records
        .map(|value| String::from_utf8_lossy(&value).into_owned())
        .collect()
}

#[actix_rt::test]
async fn whoever_waits_at_the_end_is_woken_by_every_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let (mut reader, mut writer) = (
        Client::connect(&broker).await,
        Client::connect(&broker).await,
    );
    writer.create("t", 1).await;
    for offset in 0..100 {
        let value = format!("v{offset}");
        let (found, ()) = join(
            reader.fetch("t", PATIENT, &[(0, offset)]),
            writer.produce("t", 0, &value),
        )
        .await;
        assert_eq!(found, [got(0, &[&value])]);
    }
    drop((reader, writer));
    broker.stop().await;
}

#[actix_rt::test]
async fn a_fetch_waits_until_all_partitions_together_have_enough() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let (mut reader, mut writer) = (
        Client::connect(&broker).await,
        Client::connect(&broker).await,
    );
    writer.create("t", 3).await;
    let one = i32::try_from(batch("x").len()).expect("small");
    let limits = Limits {
        min_bytes: 3 * one,
        ..PATIENT
    };
    let (found, ()) = join(
        reader.fetch("t", limits, &[(2, 0), (0, 0), (1, 0)]),
        async {
            for (partition, value) in [(0, "a"), (1, "b"), (0, "c")] {
                writer.produce("t", partition, value).await;
            }
        },
    )
    .await;
    assert_eq!(found, [got(2, &[]), got(0, &["a", "c"]), got(1, &["b"])]);
    let hurried = Limits {
        max_wait_ms: 1,
        min_bytes: 100 * one,
        ..PATIENT
    };
    let found = reader.fetch("t", hurried, &[(2, 0), (1, 0)]).await;
    assert_eq!(
        found,
        [got(2, &[]), got(1, &["b"])],
        "what is there when the time is over"
    );
    drop((reader, writer));
    broker.stop().await;
}

#[actix_rt::test]
async fn a_hundred_partitions_come_in_one_answer_in_order_as_far_as_the_limit_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 100).await;
    for partition in 0..100 {
        client.produce("t", partition, &partition.to_string()).await;
    }
    // From the last to the first: the order is the request's.
    let from: Vec<_> = (0..100).rev().map(|partition| (partition, 0)).collect();
    let found = client.fetch("t", PATIENT, &from).await;
    let all: Vec<_> = (0..100)
        .rev()
        .map(|partition| got(partition, &[&partition.to_string()]))
        .collect();
    assert_eq!(found, all);
    for (max_bytes, with_records) in [(0, 1), (1, 1), (200, 2)] {
        let limits = Limits {
            max_bytes,
            ..PATIENT
        };
        let found = client.fetch("t", limits, &from).await;
        assert_eq!(found.len(), 100, "every partition is answered");
        let count = found
            .iter()
            .take_while(|got| !got.values.is_empty())
            .count();
        assert_eq!(count, with_records, "{max_bytes} bytes");
        assert!(found.iter().skip(count).all(|got| got.values.is_empty()));
    }
    drop(client);
    broker.stop().await;
}

#[actix_rt::test]
async fn whoever_waits_hears_that_the_topic_is_deleted() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let (mut reader, mut writer) = (
        Client::connect(&broker).await,
        Client::connect(&broker).await,
    );
    writer.create("t", 1).await;
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic("t")])
        .with_timeout_ms(30_000);
    let (found, deleted) = join(
        reader.fetch("t", PATIENT, &[(0, 0)]),
        writer.try_call::<_, DeleteTopicsResponse>(ApiKey::DeleteTopics, 4, request),
    )
    .await;
    assert_eq!(deleted.expect("an answer").responses[0].error_code, 0);
    assert_eq!(found[0].error, NOT_LEADER);
    writer.create("t", 1).await;
    writer.produce("t", 0, "of another topic").await;
    let found = reader.fetch("t", PATIENT, &[(0, 0)]).await;
    assert_eq!(found, [got(0, &["of another topic"])]);
    drop((reader, writer));
    broker.stop().await;
}

/// The machine's clock, which panics once it is told to, when a thread of connections asks it.
struct PanickyClock {
    clock: SystemClock,
    panics: AtomicBool,
    /// The thread of everything else.
    home: ThreadId,
}

impl Clock for PanickyClock {
    fn now_ms(&self) -> i64 {
        let away = thread::current().id() != self.home;
        let panics = away && self.panics.swap(false, Ordering::SeqCst);
        assert!(!panics, "injected: the clock panics");
        self.clock.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

#[actix_rt::test]
async fn a_handler_that_panics_costs_one_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(PanickyClock {
        clock: SystemClock::new(),
        panics: AtomicBool::new(false),
        home: thread::current().id(),
    });
    let runtime = Runtime {
        gateway: ThreadPool::start(1),
        ..Runtime::single_threaded(Arc::clone(&clock) as Arc<dyn Clock>)
    };
    let broker = start_on(dir.path(), runtime.clone()).await;
    let (mut unlucky, mut other) = (
        Client::connect(&broker).await,
        Client::connect(&broker).await,
    );
    other.create("t", 1).await;
    clock.panics.store(true, Ordering::SeqCst);
    assert_eq!(
        unlucky.try_produce("t", 0, "a").await,
        None,
        "its connection is closed"
    );
    other.produce("t", 0, "b").await;
    let found = other.fetch("t", PATIENT, &[(0, 0)]).await;
    assert_eq!(found, [got(0, &["b"])]);
    drop((unlucky, other));
    broker.stop().await;
    runtime.gateway.stop();
}
