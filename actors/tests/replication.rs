//! A replica beside a whole broker that leads its partition: it follows over the wire and becomes the same, byte for byte.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, DeleteRecordsRequest, DeleteRecordsResponse, MetadataRequest, MetadataResponse,
    ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use troupe_actors::broker::Broker;
use troupe_actors::config::{
    BrokerConfig, Listener, Origin, SecurityProtocol, TopicConfig, Values,
};
use troupe_actors::coordination::CoordinationClient;
use troupe_actors::log_manager::{LogManager, LogManagerHandle};
use troupe_actors::network::Network;
use troupe_actors::partition::messages::{Acks, Append, BecomeFollower, BecomeLeader, Progress};
use troupe_actors::partition::{PartitionHandle, TopicPartition, Verification};
use troupe_actors::replication::Fetchers;
use troupe_actors::runtime::{Runtime, SystemClock};
use troupe_actors::storage::Disk;
use troupe_protocol::kafka::records::batch::BatchHeader;
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::record::Record;
use uuid::Uuid;

/// The follower's broker id; the leader has another one.
const FOLLOWER: i32 = 2;
const LEADER: i32 = 1;
/// Longer than any test takes: who waits for it waits in vain.
const FOREVER: Duration = Duration::from_secs(120);

fn config(dir: &Path, id: i32, more: &[(&str, &str)]) -> BrokerConfig {
    let mut values = Values::default();
    let own = [
        ("broker.id", id.to_string()),
        ("log.dirs", dir.join("logs").display().to_string()),
        ("listeners", "PLAINTEXT://127.0.0.1:0".to_owned()),
        ("troupe.zookeeper.port", "0".to_owned()),
        (
            "troupe.zookeeper.data.dir",
            dir.join("znodes").display().to_string(),
        ),
        // Quick, and small enough that it takes several rounds.
        ("replica.fetch.backoff.ms", "10".to_owned()),
        ("replica.fetch.max.bytes", "500".to_owned()),
    ];
    let more = more.iter().map(|&(name, value)| (name, value.to_owned()));
    for (name, value) in own.into_iter().chain(more) {
        values.set(name, value, Origin::Override);
    }
    BrokerConfig::from_values(values).expect("a good configuration")
}

fn runtime() -> Runtime {
    Runtime::single_threaded(Arc::new(SystemClock::new()))
}

/// The broker that leads.
struct Leader {
    broker: Broker,
    address: Listener,
    client: TcpStream,
}

impl Leader {
    async fn start(dir: &Path) -> Self {
        let config = config(
            dir,
            LEADER,
            &[("log.segment.bytes", "2000"), ("log.retention.ms", "-1")],
        );
        let broker = Broker::start(config, runtime(), Arc::new(Disk));
        let broker = broker.await.expect("the broker starts");
        let (_, addr) = broker.listeners.first().expect("a listener");
        let address = listener(addr.port());
        let client = TcpStream::connect(addr).await.expect("the broker listens");
        Self {
            broker,
            address,
            client,
        }
    }

    async fn stop(self) {
        drop(self.client);
        self.broker.stop().await;
    }

    /// Makes a topic of one partition with a replica on the follower as well, as old tools do it: in the znodes.
    async fn create(&mut self, name: &'static str) {
        let port = self.broker.zookeeper_port.expect("a port");
        let connect = format!("127.0.0.1:{port}");
        let znodes = CoordinationClient::connect(&connect, FOREVER, &Network::System).await;
        let znodes = znodes.expect("a session");
        let assignment = format!(r#"{{"version":1,"partitions":{{"0":[{LEADER},{FOLLOWER}]}}}}"#);
        let path = format!("/brokers/topics/{name}");
        let created = znodes.create_if_missing(&path, assignment.as_bytes());
        assert!(created.await.expect("created"));
    }

    async fn call<Q: Encodable, A: Decodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: Q,
    ) -> A {
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
        self.client.write_all(&frame).await.expect("written");
        let size = self.client.read_u32().await.expect("an answer");
        let mut answer = vec![0; usize::try_from(size).expect("an answer")];
        self.client.read_exact(&mut answer).await.expect("read");
        let mut answer = Bytes::from(answer);
        assert_eq!(answer.get_i32(), 7, "correlation id");
        answer.advance(1);
        A::decode(&mut answer, version).expect("decodable")
    }

    /// Returns the topic's id and its leader epoch, once the broker leads it.
    async fn led(&mut self, name: &'static str) -> (Uuid, i32) {
        let look = async {
            loop {
                let wanted = MetadataRequestTopic::default().with_name(Some(topic(name)));
                let request = MetadataRequest::default()
                    .with_topics(Some(vec![wanted]))
                    .with_allow_auto_topic_creation(false);
                let answer: MetadataResponse = self.call(ApiKey::Metadata, 12, request).await;
                let found = answer.topics.first().expect("the topic");
                let partition = found.partitions.first();
                if let Some(partition) = partition.filter(|found| found.leader_id.0 == LEADER) {
                    return (found.topic_id, partition.leader_epoch);
                }
                actix_rt::task::yield_now().await;
            }
        };
        tokio::time::timeout(FOREVER, look)
            .await
            .expect("it comes to lead")
    }

    async fn produce(&mut self, name: &'static str, values: impl Iterator<Item = String>) {
        for value in values {
            let partition = PartitionProduceData::default()
                .with_index(0)
                .with_records(Some(batch(&value).freeze()));
            let data = TopicProduceData::default()
                .with_name(topic(name))
                .with_partition_data(vec![partition]);
            let request = ProduceRequest::default()
                .with_acks(1)
                .with_timeout_ms(60_000)
                .with_topic_data(vec![data]);
            let answer: ProduceResponse = self.call(ApiKey::Produce, 9, request).await;
            assert_eq!(
                answer.responses[0].partition_responses[0].error_code, 0,
                "{value}"
            );
        }
    }

    async fn delete_records(&mut self, name: &'static str, offset: i64) {
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(0)
            .with_offset(offset);
        let wanted = DeleteRecordsTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![wanted]);
        let answer: DeleteRecordsResponse = self.call(ApiKey::DeleteRecords, 2, request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }
}

fn listener(port: u16) -> Listener {
    Listener {
        name: "PLAINTEXT".to_owned(),
        protocol: SecurityProtocol::Plaintext,
        host: "127.0.0.1".to_owned(),
        port,
    }
}

fn topic(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

fn batch(value: &str) -> BytesMut {
    let mut builder = BatchBuilder::new();
    let record = Record {
        offset: 0,
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    };
    builder.push(&record).expect("a record");
    builder.build().expect("a batch")
}

fn numbered(numbers: std::ops::Range<i32>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("value {number}"))
}

/// The broker that follows, as far as it is needed: log directories and fetchers.
struct Follower {
    logs: LogManagerHandle,
    fetchers: Fetchers,
}

impl Follower {
    async fn start(dir: &Path) -> Self {
        let config = Arc::new(config(dir, FOLLOWER, &[]));
        std::fs::create_dir_all(dir.join("logs")).expect("a directory");
        let logs = LogManager::open(Arc::clone(&config), runtime(), Arc::new(Disk));
        let logs = logs.await.expect("log directories");
        let fetchers = Fetchers::new(FOLLOWER, &config, runtime());
        Self { logs, fetchers }
    }

    async fn stop(self) {
        self.fetchers.shutdown().await;
        self.logs.shutdown().await;
    }

    async fn open(&self, name: &'static str, id: Uuid) -> PartitionHandle {
        let config = TopicConfig {
            segment_bytes: 2000,
            retention_ms: -1,
            ..TopicConfig::default()
        };
        let topic_partition = TopicPartition::new(name, 0);
        let opened = self.logs.open(topic_partition, id, Arc::new(config));
        opened.await.expect("the replica opens")
    }

    async fn follow(&self, replica: &PartitionHandle, address: &Listener, leader_epoch: i32) {
        let build = |reply| BecomeFollower {
            leader: LEADER,
            leader_epoch,
            reply,
        };
        replica.ask(build).await.expect("it follows");
        self.fetchers
            .follow(replica.clone(), LEADER, address, leader_epoch);
    }
}

/// Waits until a replica's progress is as `wanted` says.
async fn reach(replica: &PartitionHandle, wanted: impl Fn(&Progress) -> bool) {
    let mut watch = replica.watch();
    let reached = async {
        watch
            .wait_for(|progress| wanted(progress))
            .await
            .map(|_| ())
    };
    tokio::time::timeout(FOREVER, reached)
        .await
        .expect("it gets there")
        .expect("it lives");
}

/// Lists what is in the files of a partition that the leader and its followers have in common.
fn files(dir: &Path, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = dir.join("logs").join(format!("{name}-0"));
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .expect("the partition's directory")
        .map(|entry| PathBuf::from(entry.expect("an entry").file_name()))
        .filter(|name| {
            let kind = name.extension().and_then(|kind| kind.to_str());
            kind == Some("log") || name.ends_with("leader-epoch-checkpoint")
        })
        .map(|name| {
            let bytes = std::fs::read(dir.join(&name)).expect("a file");
            (name, bytes)
        })
        .collect();
    files.sort();
    files
}

#[actix_rt::test]
async fn a_follower_becomes_the_same_as_its_leader_and_stays_so() {
    let (ours, theirs) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let mut leader = Leader::start(ours.path()).await;
    leader.create("t").await;
    leader.create("u").await;
    let (id, epoch) = leader.led("t").await;
    let (other, other_epoch) = leader.led("u").await;
    leader.produce("t", numbered(0..50)).await;
    let follower = Follower::start(theirs.path()).await;
    let replica = follower.open("t", id).await;
    follower.follow(&replica, &leader.address, epoch).await;
    reach(&replica, |progress| progress.high_watermark == 50).await;
    // While it is asked for one, another one comes to it.
    let second = follower.open("u", other).await;
    follower.follow(&second, &leader.address, other_epoch).await;
    leader.produce("u", numbered(0..5)).await;
    leader.produce("t", numbered(50..80)).await;
    reach(&replica, |progress| progress.high_watermark == 80).await;
    reach(&second, |progress| progress.high_watermark == 5).await;
    assert!(files(ours.path(), "t").len() > 3, "several segments");
    for name in ["t", "u"] {
        assert_eq!(
            files(theirs.path(), name),
            files(ours.path(), name),
            "{name}"
        );
    }
    // One is let go of, the other goes on.
    follower.fetchers.unfollow(second.topic_partition());
    leader.produce("t", numbered(80..90)).await;
    reach(&replica, |progress| progress.high_watermark == 90).await;
    leader.produce("u", numbered(5..6)).await;
    leader.produce("t", numbered(90..91)).await;
    reach(&replica, |progress| progress.high_watermark == 91).await;
    assert_eq!(second.progress().log_end_offset, 5);
    follower.stop().await;
    leader.stop().await;
}

#[actix_rt::test]
async fn what_the_leader_has_not_got_is_cut_off() {
    let (ours, theirs) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let mut leader = Leader::start(ours.path()).await;
    leader.create("t").await;
    let (id, first_epoch) = leader.led("t").await;
    leader.produce("t", numbered(0..20)).await;
    let follower = Follower::start(theirs.path()).await;
    let replica = follower.open("t", id).await;
    follower
        .follow(&replica, &leader.address, first_epoch)
        .await;
    reach(&replica, |progress| progress.high_watermark == 20).await;
    // Each start of the leader is an election.
    leader.stop().await;
    Leader::start(ours.path()).await.stop().await;
    let mut leader = Leader::start(ours.path()).await;
    let (_, epoch) = leader.led("t").await;
    assert!(epoch > first_epoch + 1, "{epoch} after {first_epoch}");
    leader.produce("t", numbered(20..40)).await;
    // Meanwhile the follower led, in an epoch in which the leader wrote nothing.
    follower.fetchers.unfollow(replica.topic_partition());
    let build = |reply| BecomeLeader {
        leader_epoch: first_epoch + 1,
        partition_epoch: 0,
        isr: vec![FOLLOWER],
        replicas: vec![FOLLOWER],
        reply,
    };
    replica.ask(build).await.expect("it leads");
    for value in numbered(100..125) {
        let (reply, answer) = oneshot::channel();
        let batch = batch(&value);
        let header = BatchHeader::parse(&batch).expect("a header");
        let append = Append {
            batch,
            header,
            acks: Acks::Leader,
            verification: Verification::NotNeeded,
            reply,
        };
        replica.send(append).await.expect("sent");
        answer.await.expect("answered").expect("appended");
    }
    follower.follow(&replica, &leader.address, epoch).await;
    reach(&replica, |progress| progress.high_watermark == 40).await;
    assert!(files(theirs.path(), "t") == files(ours.path(), "t"));
    assert_eq!(replica.lost_records(), 25);
    follower.stop().await;
    leader.stop().await;
}

#[actix_rt::test]
async fn a_follower_that_is_ahead_of_its_leaders_orders_waits_for_them() {
    let (ours, theirs) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let mut leader = Leader::start(ours.path()).await;
    leader.create("t").await;
    leader.create("u").await;
    let (id, epoch) = leader.led("t").await;
    let (other, other_epoch) = leader.led("u").await;
    leader.produce("t", numbered(0..3)).await;
    leader.produce("u", numbered(0..3)).await;
    let follower = Follower::start(theirs.path()).await;
    let ahead = follower.open("t", id).await;
    follower.follow(&ahead, &leader.address, epoch + 1).await;
    let other = follower.open("u", other).await;
    follower.follow(&other, &leader.address, other_epoch).await;
    reach(&other, |progress| progress.high_watermark == 3).await;
    assert_eq!(ahead.progress().log_end_offset, 0);
    // Each start of the leader is an election. It has another port now.
    leader.stop().await;
    let mut leader = Leader::start(ours.path()).await;
    leader.produce("t", numbered(3..4)).await;
    follower.follow(&ahead, &leader.address, epoch + 1).await;
    reach(&ahead, |progress| progress.high_watermark == 4).await;
    assert!(files(theirs.path(), "t") == files(ours.path(), "t"));
    follower.stop().await;
    leader.stop().await;
}

#[actix_rt::test]
async fn who_comes_late_starts_where_the_leaders_log_does() {
    let (ours, theirs) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let mut leader = Leader::start(ours.path()).await;
    leader.create("t").await;
    let (id, epoch) = leader.led("t").await;
    leader.produce("t", numbered(0..60)).await;
    leader.delete_records("t", 45).await;
    let follower = Follower::start(theirs.path()).await;
    let replica = follower.open("t", id).await;
    // Nobody listens there; an order with another address is obeyed at once.
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nowhere = listener(closed.local_addr().expect("an address").port());
    drop(closed);
    follower.follow(&replica, &nowhere, epoch).await;
    follower.follow(&replica, &leader.address, epoch).await;
    reach(&replica, |progress| progress.high_watermark == 60).await;
    assert_eq!(replica.progress().log_start_offset, 45);
    follower.stop().await;
    leader.stop().await;
}
