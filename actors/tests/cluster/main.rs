//! Several brokers in one process on one coordination service: who knows whom, who leads what, and who takes over.

#![allow(clippy::expect_used, reason = "a test may panic")]

mod configs;
mod deletion;
mod orders;
mod pretender;
mod start;
mod states;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use troupe_actors::broker::{Broker, StartError};
use troupe_actors::config::{BrokerConfig, Origin, Values};
use troupe_actors::runtime::{Runtime, SystemClock};
use troupe_actors::storage::Disk;
use troupe_actors::znode::{Coordination, ZnodeConfig};
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::api::Request;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic,
};
use troupe_protocol::kafka::messages::metadata_request::MetadataRequestTopic;
use troupe_protocol::kafka::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, MetadataResponse,
    TopicName,
};
use zookeeper_client::Client;

/// A coordination service and the data of the brokers around it.
struct Cluster {
    coordination: Coordination,
    dir: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = ZnodeConfig::new(dir.path().join("znodes"), 0);
        config.client_addrs = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let runtime = Runtime::single_threaded(Arc::new(SystemClock::new()));
        let coordination = Coordination::start(config, &runtime).await;
        Self {
            coordination: coordination.expect("coordination starts"),
            dir,
        }
    }

    fn connect(&self) -> String {
        format!("127.0.0.1:{}", self.coordination.port())
    }

    async fn broker(&self, id: i32) -> Broker {
        let logs = self.dir.path().join(format!("logs-{id}"));
        start(id, &logs, &self.connect()).await
    }

    async fn end(self, brokers: Vec<Broker>) {
        for broker in brokers {
            broker.stop().await;
        }
        self.coordination.shutdown().await.expect("it shuts down");
    }
}

async fn start(id: i32, logs: &Path, connect: &str) -> Broker {
    try_start(id, logs, connect)
        .await
        .expect("the broker starts")
}

async fn try_start(id: i32, logs: &Path, connect: &str) -> Result<Broker, StartError> {
    let mut values = Values::default();
    for (name, value) in [
        ("broker.id", id.to_string()),
        ("log.dirs", logs.display().to_string()),
        ("listeners", "PLAINTEXT://127.0.0.1:0".to_owned()),
        ("zookeeper.connect", connect.to_owned()),
    ] {
        values.set(name, value, Origin::Override);
    }
    let config = BrokerConfig::from_values(values).expect("a good configuration");
    let runtime = Runtime::single_threaded(Arc::new(SystemClock::new()));
    Broker::start(config, runtime, Arc::new(Disk)).await
}

/// Asks a broker something.
async fn call<R: Request>(broker: &Broker, version: i16, request: R) -> R::Response {
    let (_, addr) = broker.listeners.first().expect("a listener");
    call_at(*addr, version, request).await
}

/// Asks whoever listens there something.
async fn call_at<R: Request>(addr: SocketAddr, version: i16, request: R) -> R::Response {
    let mut stream = TcpStream::connect(addr).await.expect("the broker listens");
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&R::KEY.code().to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&7i32.to_be_bytes());
    frame.extend_from_slice(&(-1i16).to_be_bytes());
    if R::KEY.request_header_version(version) >= 2 {
        frame.extend_from_slice(&[0]);
    }
    request.encode(version, &mut frame).expect("encodable");
    let size = u32::try_from(frame.len()).expect("a small request");
    stream.write_u32(size).await.expect("written");
    stream.write_all(&frame).await.expect("written");
    let size = stream.read_u32().await.expect("an answer");
    let mut answer = vec![0; usize::try_from(size).expect("a small answer")];
    stream.read_exact(&mut answer).await.expect("an answer");
    let mut answer = Bytes::from(answer);
    assert_eq!(answer.get_i32(), 7, "correlation id");
    if R::KEY.response_header_version(version) >= 1 {
        answer.advance(1);
    }
    R::decode_response(version, answer).expect("a decodable answer")
}

fn name(topic: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(topic))
}

async fn create(broker: &Broker, topic: &'static str, assignment: &[&[i32]]) -> ErrorCode {
    let assignments = (0..).zip(assignment).map(|(partition, replicas)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(partition)
            .with_broker_ids(replicas.iter().copied().map(BrokerId).collect())
    });
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(assignments.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let answer = call(broker, 7, request).await;
    ErrorCode::from_code(answer.topics[0].error_code).expect("a known code")
}

async fn metadata(broker: &Broker, topic: &'static str, auto_create: bool) -> MetadataResponse {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(auto_create);
    call(broker, 12, request).await
}

/// The brokers that a broker knows, and its controller.
async fn known(broker: &Broker) -> (Vec<i32>, i32) {
    let answer = metadata(broker, "none", false).await;
    let ids = answer.brokers.iter().map(|node| node.node_id.0).collect();
    (ids, answer.controller_id.0)
}

/// The leaders of a topic's partitions, as a broker knows them.
async fn leaders(broker: &Broker, topic: &'static str) -> Vec<i32> {
    let answer = metadata(broker, topic, false).await;
    let partitions = answer.topics[0].partitions.iter();
    partitions.map(|found| found.leader_id.0).collect()
}

async fn until<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let patience = async {
        while !check().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), patience)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"));
}

#[actix_rt::test]
async fn brokers_know_each_other_and_their_controller() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let two = cluster.broker(2).await;
    let three = cluster.broker(3).await;
    for broker in [&one, &two, &three] {
        until("everybody knows everybody", || async {
            known(broker).await == (vec![1, 2, 3], 1)
        })
        .await;
    }
    cluster.end(vec![two, three, one]).await;
}

#[actix_rt::test]
async fn a_topic_that_was_created_is_led_and_known_everywhere() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let two = cluster.broker(2).await;
    let three = cluster.broker(3).await;
    let created = create(&one, "t", &[&[1], &[2], &[3]]).await;
    assert_eq!(created, ErrorCode::None);
    for broker in [&one, &two, &three] {
        assert_eq!(leaders(broker, "t").await, [1, 2, 3]);
    }
    let delete = DeleteTopicsRequest::default()
        .with_topic_names(vec![name("t")])
        .with_timeout_ms(30_000);
    let deleted = call(&one, 4, delete).await;
    assert_eq!(deleted.responses[0].error_code, 0);
    for broker in [&one, &two, &three] {
        assert_eq!(leaders(broker, "t").await, [0; 0]);
    }
    for id in 1..=3 {
        let left = std::fs::read_dir(cluster.dir.path().join(format!("logs-{id}")))
            .expect("a log directory")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|entry| entry.starts_with("t-") && !entry.ends_with("-delete"))
            .count();
        assert_eq!(left, 0, "broker {id}");
    }
    cluster.end(vec![two, three, one]).await;
}

#[actix_rt::test]
async fn only_the_controller_creates_topics_for_clients() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let two = cluster.broker(2).await;
    let refused = create(&two, "t", &[&[1]]).await;
    assert_eq!(refused, ErrorCode::NotController);
    // What clients miss any broker creates, through the znodes.
    let missed = metadata(&two, "missed", true).await;
    let topic = &missed.topics[0];
    assert_eq!(topic.error_code, 0);
    assert_eq!(topic.partitions[0].error_code, 0);
    until("the controller knows it too", || async {
        leaders(&one, "missed").await.len() == 1
    })
    .await;
    cluster.end(vec![two, one]).await;
}

#[actix_rt::test]
async fn others_lead_before_a_broker_stops() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let two = cluster.broker(2).await;
    let three = cluster.broker(3).await;
    create(&one, "t", &[&[2, 3], &[3, 2]]).await;
    create(&one, "alone", &[&[2]]).await;
    two.stop().await;
    // No waiting: it asked before it stopped.
    assert_eq!(leaders(&one, "t").await, [3, 3]);
    until("what it had alone has no leader", || async {
        leaders(&one, "alone").await == [-1]
    })
    .await;
    let two = cluster.broker(2).await;
    until("it leads that again", || async {
        leaders(&three, "alone").await == [2]
    })
    .await;
    assert_eq!(leaders(&three, "t").await, [3, 3]);
    cluster.end(vec![two, three, one]).await;
}

#[actix_rt::test]
async fn another_broker_becomes_the_controller() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let two = cluster.broker(2).await;
    create(&one, "t", &[&[1, 2]]).await;
    one.stop().await;
    until("broker 2 is the controller and leads", || async {
        known(&two).await == (vec![2], 2) && leaders(&two, "t").await == [2]
    })
    .await;
    assert_eq!(create(&two, "u", &[&[2]]).await, ErrorCode::None);
    let one = cluster.broker(1).await;
    assert_eq!(known(&one).await, (vec![1, 2], 2));
    assert_eq!(leaders(&one, "u").await, [2]);
    cluster.end(vec![one, two]).await;
}

#[actix_rt::test]
async fn a_controller_whose_znode_is_deleted_is_elected_again() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    create(&one, "t", &[&[1]]).await;
    let client = Client::connect(&cluster.connect())
        .await
        .expect("a session");
    let epoch = async || {
        let (data, _) = client.get_data("/controller_epoch").await.expect("there");
        String::from_utf8(data).expect("text")
    };
    assert_eq!(epoch().await, "1");
    client.delete("/controller", None).await.expect("deleted");
    until("there is another epoch", || async { epoch().await == "2" }).await;
    until("topics are created again", || async {
        matches!(
            create(&one, "u", &[&[1]]).await,
            ErrorCode::None | ErrorCode::TopicAlreadyExists
        )
    })
    .await;
    assert_eq!(leaders(&one, "t").await, [1]);
    drop(client);
    cluster.end(vec![one]).await;
}
