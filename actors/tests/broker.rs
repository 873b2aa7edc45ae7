//! A whole broker in one process: what it writes into the znodes, and what it makes of what others write there.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use troupe_actors::broker::Broker;
use troupe_actors::config::{BrokerConfig, Origin, Values};
use troupe_actors::runtime::{Runtime, SystemClock};
use troupe_actors::storage::Disk;
use troupe_actors::znode::{Coordination, ZnodeConfig};
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::api::Request;
use troupe_protocol::kafka::messages::create_topics_request::CreatableTopic;
use troupe_protocol::kafka::messages::describe_configs_request::DescribeConfigsResource;
use troupe_protocol::kafka::messages::metadata_request::MetadataRequestTopic;
use troupe_protocol::kafka::messages::metadata_response::MetadataResponseTopic;
use troupe_protocol::kafka::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use troupe_protocol::kafka::messages::offset_fetch_request::OffsetFetchRequestTopic;
use troupe_protocol::kafka::messages::{
    CreateTopicsRequest, DescribeConfigsRequest, FindCoordinatorRequest, GroupId, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use zookeeper_client::{Acls, Client, CreateMode};

/// A broker on free ports with its data in `dir`.
async fn start(dir: &Path) -> Broker {
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
    let runtime = Runtime::single_threaded(Arc::new(SystemClock::new()));
    Broker::start(config, runtime, Arc::new(Disk))
        .await
        .expect("the broker starts")
}

/// The coordination service of a broker that is stopped.
async fn coordination_alone(dir: &Path) -> (Coordination, Client) {
    let settings = ZnodeConfig::new(dir.join("znodes"), 0);
    let runtime = Runtime::single_threaded(Arc::new(SystemClock::new()));
    let service = Coordination::start(settings, &runtime)
        .await
        .expect("coordination starts");
    let client = Client::connect(&format!("127.0.0.1:{}", service.port()))
        .await
        .expect("coordination answers");
    (service, client)
}

async fn zookeeper(broker: &Broker) -> Client {
    let port = broker.zookeeper_port.expect("coordination is embedded");
    Client::connect(&format!("127.0.0.1:{port}"))
        .await
        .expect("coordination answers")
}

/// Asks the broker something.
async fn call<R: Request>(broker: &Broker, version: i16, request: R) -> R::Response {
    let (_, addr) = broker.listeners.first().expect("a listener");
    let mut stream = TcpStream::connect(addr).await.expect("the broker listens");
    let flexible = R::KEY
        .first_flexible()
        .is_some_and(|first| version >= first);
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&(R::KEY as i16).to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&7i32.to_be_bytes());
    frame.extend_from_slice(&(-1i16).to_be_bytes());
    if flexible {
        frame.extend_from_slice(&[0]);
    }
    request
        .encode(version, &mut frame)
        .expect("an encodable request");
    let size = u32::try_from(frame.len()).expect("a small request");
    stream.write_u32(size).await.expect("written");
    stream.write_all(&frame).await.expect("written");
    let size = stream.read_u32().await.expect("an answer");
    let mut answer = vec![0; usize::try_from(size).expect("a small answer")];
    stream
        .read_exact(&mut answer)
        .await
        .expect("the whole answer");
    let mut answer = Bytes::from(answer);
    assert_eq!(answer.get_i32(), 7, "correlation id");
    if flexible {
        answer.advance(1);
    }
    R::decode_response(version, answer).expect("a decodable answer")
}

async fn create(broker: &Broker, name: &'static str, partitions: i32) {
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_static_str(name)))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(1_000);
    let response = call(broker, 7, request).await;
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0]);
}

async fn describe(broker: &Broker, name: &'static str) -> MetadataResponseTopic {
    let topic =
        MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(name))));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(false);
    call(broker, 12, request).await.topics.remove(0)
}

/// Waits until the broker has taken up what was written behind its back.
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
async fn the_znodes_are_those_of_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "t", 2).await;
    let client = zookeeper(&broker).await;
    let read = async |path: &str| {
        let (data, stat) = client.get_data(path).await.expect(path);
        let value: serde_json::Value = serde_json::from_slice(&data).expect(path);
        (value, stat)
    };
    let (registration, stat) = read("/brokers/ids/0").await;
    assert_ne!(stat.ephemeral_owner, 0);
    assert_eq!(registration["host"], "127.0.0.1");
    let port = broker.listeners[0].1.port();
    assert_eq!(registration["port"], port);
    assert_eq!(
        registration["endpoints"][0],
        format!("PLAINTEXT://127.0.0.1:{port}")
    );
    let (topic, _) = read("/brokers/topics/t").await;
    assert_eq!(topic["partitions"]["1"], serde_json::json!([0]));
    assert_eq!(topic["topic_id"].as_str().map(str::len), Some(22));
    let (state, _) = read("/brokers/topics/t/partitions/1/state").await;
    assert_eq!(state["leader"], 0);
    assert_eq!(state["isr"], serde_json::json!([0]));
    assert_eq!(read("/controller").await.0["brokerid"], 0);
    assert_eq!(
        read("/config/topics/t").await.0["config"],
        serde_json::json!({})
    );
    drop(client);
    broker.stop().await;
}

#[actix_rt::test]
async fn topics_survive_a_restart_under_a_new_leadership() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "t", 3).await;
    let before = describe(&broker, "t").await;
    broker.stop().await;
    let broker = start(dir.path()).await;
    let after = describe(&broker, "t").await;
    assert_eq!(after.topic_id, before.topic_id);
    assert_eq!(after.partitions.len(), 3);
    for (before, after) in before.partitions.iter().zip(&after.partitions) {
        assert_eq!(after.error_code, 0);
        assert_eq!(after.leader_epoch, before.leader_epoch + 1);
    }
    broker.stop().await;
}

#[actix_rt::test]
async fn a_topic_that_an_old_tool_writes_is_served_and_gets_its_id_back() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let client = zookeeper(&broker).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let assignment = br#"{"version":1,"partitions":{"0":[0]}}"#;
    client
        .create("/brokers/topics/old", assignment, &open)
        .await
        .unwrap();
    until("the topic has a leader", async || {
        describe(&broker, "old").await.error_code == 0
    })
    .await;
    let topic = describe(&broker, "old").await;
    assert!(!topic.topic_id.is_nil());
    let (data, _) = client.get_data("/brokers/topics/old").await.unwrap();
    assert!(String::from_utf8(data).unwrap().contains("topic_id"));
    drop(client);
    broker.stop().await;
}

#[actix_rt::test]
async fn a_topic_that_a_tool_marks_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "t", 1).await;
    let client = zookeeper(&broker).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client
        .create("/admin/delete_topics/t", b"", &open)
        .await
        .unwrap();
    until("the topic is gone", async || {
        describe(&broker, "t").await.error_code == 3
    })
    .await;
    for path in [
        "/brokers/topics/t",
        "/config/topics/t",
        "/admin/delete_topics/t",
    ] {
        until(path, async || {
            client.check_stat(path).await.unwrap().is_none()
        })
        .await;
    }
    create(&broker, "t", 1).await;
    drop(client);
    broker.stop().await;
}

/// Lists the directories of a topic's replicas, whatever they are named for.
fn replica_dirs(dir: &Path, topic: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("logs")).expect("the log directory");
    entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&format!("{topic}-")))
        .collect()
}

#[actix_rt::test]
async fn a_deletion_that_a_crash_cut_short_is_finished_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "t", 2).await;
    broker.stop().await;
    // As if the broker had died when the topic was marked and one of its replicas renamed: the marker is written, and
    // then the broker that would heed it starts.
    let (service, client) = coordination_alone(dir.path()).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client
        .create("/admin/delete_topics/t", b"", &open)
        .await
        .unwrap();
    drop(client);
    service.shutdown().await.expect("coordination stops");
    let broker = start(dir.path()).await;
    assert_eq!(describe(&broker, "t").await.error_code, 3);
    let dirs = replica_dirs(dir.path(), "t");
    assert!(dirs.iter().all(|dir| dir.ends_with("-delete")), "{dirs:?}");
    broker.stop().await;
}

#[actix_rt::test]
async fn a_start_outlives_znodes_that_make_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "nonsense", 1).await;
    create(&broker, "halved", 2).await;
    create(&broker, "unwanted", 1).await;
    let client = zookeeper(&broker).await;
    let topic = "/brokers/topics/nonsense";
    client.set_data(topic, b"nonsense", None).await.unwrap();
    // As a crash between the two nodes of a partition leaves it.
    let state = "/brokers/topics/halved/partitions/1/state";
    client.delete(state, None).await.unwrap();
    broker.stop().await;

    let (service, client) = coordination_alone(dir.path()).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    for mark in [
        "/admin/delete_topics/nonsense",
        "/admin/delete_topics/unwanted",
    ] {
        client.create(mark, b"", &open).await.unwrap();
    }
    drop(client);
    service.shutdown().await.expect("coordination stops");

    let broker = start(dir.path()).await;
    let halved = describe(&broker, "halved").await;
    let leaders: Vec<_> = halved.partitions.iter().map(|it| it.leader_id.0).collect();
    assert_eq!(leaders, [0, 0]);
    assert_eq!(describe(&broker, "unwanted").await.error_code, 3);
    assert_eq!(describe(&broker, "nonsense").await.error_code, 3);
    assert_eq!(replica_dirs(dir.path(), "nonsense"), ["nonsense-0"]);
    create(&broker, "unwanted", 1).await;
    broker.stop().await;
}

#[actix_rt::test]
async fn an_election_puts_no_topic_aside_whose_znode_makes_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "t", 1).await;
    let client = zookeeper(&broker).await;
    let (sense, _) = client.get_data("/brokers/topics/t").await.unwrap();
    client
        .set_data("/brokers/topics/t", b"nonsense", None)
        .await
        .unwrap();
    let (epoch, _) = client.get_data("/controller_epoch").await.unwrap();
    client.delete("/controller", None).await.unwrap();
    until("another election", async || {
        client.get_data("/controller_epoch").await.unwrap().0 != epoch
            && client.check_stat("/controller").await.unwrap().is_some()
    })
    .await;
    until("the controller is back at work", async || {
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("u")))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(1_000);
        [0, 36].contains(&call(&broker, 7, request).await.topics[0].error_code)
    })
    .await;
    assert_eq!(replica_dirs(dir.path(), "t"), ["t-0"]);
    client
        .set_data("/brokers/topics/t", &sense, None)
        .await
        .unwrap();
    until("the topic is served", async || {
        describe(&broker, "t").await.error_code == 0
    })
    .await;
    drop(client);
    broker.stop().await;
}

#[actix_rt::test]
async fn a_topic_that_is_asked_for_twice_is_not_created_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let topic = |name, partitions| {
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
    };
    let topics = vec![topic("t", 1), topic("u", 1), topic("t", 2)];
    let request = CreateTopicsRequest::default().with_topics(topics);
    let answers = call(&broker, 7, request).await.topics;
    let codes: Vec<_> = answers.iter().map(|answer| answer.error_code).collect();
    assert_eq!(codes, [42, 0, 42]);
    assert_eq!(describe(&broker, "t").await.error_code, 3);
    broker.stop().await;
}

#[actix_rt::test]
async fn no_list_of_keys_and_an_empty_one_ask_for_the_whole_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "t", 1).await;
    let mut counts = Vec::new();
    for keys in [None, Some(Vec::new())] {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_static_str("t"))
            .with_configuration_keys(keys);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let answer = call(&broker, 4, request).await.results.remove(0);
        counts.push(answer.configs.len());
    }
    assert!(counts[0] > 20 && counts[0] == counts[1], "{counts:?}");
    broker.stop().await;
}

#[actix_rt::test]
async fn a_topic_whose_partitions_have_a_gap_stays_offline() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let client = zookeeper(&broker).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    for (name, assignment) in [
        (
            "gap",
            br#"{"version":1,"partitions":{"0":[0],"2":[0]}}"#.as_slice(),
        ),
        ("whole", br#"{"version":1,"partitions":{"0":[0]}}"#),
    ] {
        let path = format!("/brokers/topics/{name}");
        client.create(&path, assignment, &open).await.unwrap();
    }
    until("the topic after it is served", async || {
        describe(&broker, "whole").await.error_code == 0
    })
    .await;
    assert_eq!(describe(&broker, "gap").await.error_code, 3);
    drop(client);
    broker.stop().await;
}

#[actix_rt::test]
async fn a_topic_whose_znode_is_lost_keeps_its_records() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "t", 1).await;
    let client = zookeeper(&broker).await;
    for path in [
        "/brokers/topics/t/partitions/0/state",
        "/brokers/topics/t/partitions/0",
        "/brokers/topics/t/partitions",
        "/brokers/topics/t",
    ] {
        client.delete(path, None).await.unwrap();
    }
    until("the topic is gone", async || {
        describe(&broker, "t").await.error_code == 3
    })
    .await;
    until("its replica is put aside", async || {
        let dirs = replica_dirs(dir.path(), "t");
        matches!(&dirs[..], [dir] if dir.ends_with("-stray"))
    })
    .await;
    create(&broker, "t", 1).await;
    drop(client);
    broker.stop().await;
}

#[actix_rt::test]
async fn a_configuration_that_a_tool_of_2015_changes_counts() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "t", 1).await;
    let client = zookeeper(&broker).await;
    let config = br#"{"version":1,"config":{"retention.ms":"60000"}}"#;
    client
        .set_data("/config/topics/t", config, None)
        .await
        .unwrap();
    let notice = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    client
        .create("/config/changes/config_change_", br#""t""#, &notice)
        .await
        .unwrap();
    until("the value counts", async || {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_static_str("t"))
            .with_configuration_keys(Some(vec![StrBytes::from_static_str("retention.ms")]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let found = call(&broker, 4, request)
            .await
            .results
            .remove(0)
            .configs
            .remove(0);
        found.value.as_deref() == Some("60000") && found.config_source == 1
    })
    .await;
    drop(client);
    broker.stop().await;
}

#[actix_rt::test]
async fn coordinators_of_several_keys_are_found_in_their_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let key = |key: &'static str| StrBytes::from_static_str(key);
    for (key_type, keys, codes) in [
        (0, ["a", "b", "a"], [0, 0, 0]),
        (1, ["a", "b", "c"], [0, 0, 0]),
        (
            2,
            ["no key", "g:AAAAAAAAAAAAAAAAAAAABw:0", "g:0"],
            [42, 0, 42],
        ),
        (3, ["a", "b", "c"], [42, 42, 42]),
    ] {
        let request = FindCoordinatorRequest::default()
            .with_key_type(key_type)
            .with_coordinator_keys(keys.map(key).to_vec());
        let found = call(&broker, 6, request).await.coordinators;
        let told = found.iter().map(|one| (&*one.key, one.error_code));
        let expected = keys.into_iter().zip(codes);
        assert!(told.eq(expected), "type {key_type}: {found:?}");
    }
    broker.stop().await;
}

#[actix_rt::test]
async fn offsets_of_version_0_are_znodes_and_others_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    create(&broker, "t", 1).await;
    let find = FindCoordinatorRequest::default().with_key("g".into());
    assert_eq!(call(&broker, 0, find).await.error_code, 0);
    assert_eq!(fetch_offset(&broker, 0, 0).await, (-1, 3));
    for (version, offset) in [(0, 5), (1, 7)] {
        assert_eq!(commit_offset(&broker, version, 0, offset).await, 0);
    }
    assert_eq!(fetch_offset(&broker, 0, 0).await, (5, 0));
    assert_eq!(fetch_offset(&broker, 1, 0).await, (7, 0));
    let client = zookeeper(&broker).await;
    let (data, _) = client
        .get_data("/consumers/g/offsets/t/0")
        .await
        .expect("the offset's node");
    assert_eq!(data, b"5");
    // A partition that is not there.
    for version in [0, 1] {
        assert_eq!(commit_offset(&broker, version, 1, 1).await, 3);
    }
    assert_eq!(fetch_offset(&broker, 0, 1).await, (-1, 3));
    assert_eq!(fetch_offset(&broker, 1, 1).await, (-1, 0));
    broker.stop().await;
}

async fn commit_offset(broker: &Broker, version: i16, partition: i32, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some("".into()));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName("t".into()))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId("g".into()))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = call(broker, version, request).await;
    response.topics[0].partitions[0].error_code
}

async fn fetch_offset(broker: &Broker, version: i16, partition: i32) -> (i64, i16) {
    let topic = OffsetFetchRequestTopic::default()
        .with_name(TopicName("t".into()))
        .with_partition_indexes(vec![partition]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId("g".into()))
        .with_topics(Some(vec![topic]));
    let response = call(broker, version, request).await;
    let partition = &response.topics[0].partitions[0];
    (partition.committed_offset, partition.error_code)
}
