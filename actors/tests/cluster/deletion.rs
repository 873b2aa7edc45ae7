//! A topic is deleted when no broker has a replica of it any more, whatever brokers answer in between.

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::legacy_messages::stop_replica_request::{
    StopReplicaPartitionState, StopReplicaTopicState,
};
use troupe_protocol::kafka::legacy_messages::{
    BrokerId as WireId, StopReplicaRequest, StrBytes as WireText, TopicName as WireTopic,
};
use troupe_protocol::kafka::messages::DeleteTopicsRequest;
use zookeeper_client::Client;

use super::pretender::Pretender;
use super::{Broker, Cluster, call, create, known, leaders, metadata, name, until};

async fn delete(broker: &Broker, timeout_ms: i32) -> i16 {
    let delete = DeleteTopicsRequest::default()
        .with_topic_names(vec![name("t")])
        .with_timeout_ms(timeout_ms);
    call(broker, 4, delete).await.responses[0].error_code
}

async fn exists(client: &Client, path: &str) -> bool {
    client.check_stat(path).await.expect("an answer").is_some()
}

/// A broker, and one that the test plays; topic `t` is on both.
async fn a_topic_on_both(cluster: &Cluster, pretender: &Pretender, client: &Client) -> Broker {
    let one = cluster.broker(1).await;
    pretender.register(client).await;
    until("the controller knows both", || async {
        known(&one).await == (vec![1, 2], 1)
    })
    .await;
    assert_eq!(create(&one, "t", &[&[1, 2]]).await, ErrorCode::None);
    one
}

#[actix_rt::test]
async fn a_refused_stop_is_ordered_again() {
    let cluster = Cluster::start().await;
    let client = Client::connect(&cluster.connect())
        .await
        .expect("a session");
    let refusals = [
        (ErrorCode::None, ErrorCode::KafkaStorageError),
        (ErrorCode::StaleBrokerEpoch, ErrorCode::None),
    ];
    let pretender = Pretender::new(2, &refusals).await;
    let one = a_topic_on_both(&cluster, &pretender, &client).await;
    assert_eq!(delete(&one, 30_000).await, 0);
    assert_eq!(pretender.stopped(), 3);
    for path in [
        "/brokers/topics/t",
        "/config/topics/t",
        "/admin/delete_topics/t",
    ] {
        assert!(!exists(&client, path).await, "{path}");
    }
    assert_eq!(create(&one, "t", &[&[1]]).await, ErrorCode::None);
    cluster.end(vec![one]).await;
}

#[actix_rt::test]
async fn a_topic_stays_marked_until_a_broker_that_refused_is_back() {
    let cluster = Cluster::start().await;
    let client = Client::connect(&cluster.connect())
        .await
        .expect("a session");
    let always = [(ErrorCode::None, ErrorCode::KafkaStorageError); 64];
    let pretender = Pretender::new(2, &always).await;
    let theirs = Client::connect(&cluster.connect())
        .await
        .expect("a session");
    let one = a_topic_on_both(&cluster, &pretender, &theirs).await;
    assert_eq!(delete(&one, 500).await, ErrorCode::RequestTimedOut.code());
    // Clients do not see it, but it is not gone either.
    let answer = metadata(&one, "t", false).await;
    let code = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(answer.topics[0].error_code, code);
    assert_eq!(
        create(&one, "t", &[&[1]]).await,
        ErrorCode::TopicAlreadyExists
    );
    drop(theirs);
    until("the controller misses it", || async {
        known(&one).await == (vec![1], 1)
    })
    .await;
    assert!(exists(&client, "/admin/delete_topics/t").await);
    assert!(exists(&client, "/brokers/topics/t").await);
    let back = Pretender::new(2, &[]).await;
    back.register(&client).await;
    until("the topic is gone", || async {
        !exists(&client, "/admin/delete_topics/t").await
    })
    .await;
    assert!(!exists(&client, "/brokers/topics/t").await);
    assert!(back.stopped() > 0);
    cluster.end(vec![one]).await;
}

#[actix_rt::test]
async fn a_replica_in_a_newer_leadership_does_not_stop() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let two = cluster.broker(2).await;
    assert_eq!(create(&one, "t", &[&[2, 1]]).await, ErrorCode::None);
    // Broker 1 leads in epoch 1 at least.
    two.stop().await;
    until("broker 1 leads", || async {
        leaders(&one, "t").await == [1]
    })
    .await;
    let order = |epoch| {
        let partition = StopReplicaPartitionState::default()
            .with_leader_epoch(epoch)
            .with_delete_partition(true);
        let topic = StopReplicaTopicState::default()
            .with_topic_name(WireTopic(WireText::from_static_str("t")))
            .with_partition_states(vec![partition]);
        StopReplicaRequest::default()
            .with_controller_id(WireId(1))
            .with_controller_epoch(1)
            .with_broker_epoch(i64::MAX)
            .with_topic_states(vec![topic])
    };
    let answer = call(&one, 4, order(0)).await;
    let fenced = ErrorCode::FencedLeaderEpoch.code();
    assert_eq!(answer.partition_errors[0].error_code, fenced);
    let logs = cluster.dir.path().join("logs-1");
    assert!(logs.join("t-0").exists());
    for sentinel in [-2, -1] {
        // What is gone by the first is gone for the second, too.
        let answer = call(&one, 4, order(sentinel)).await;
        assert_eq!(answer.partition_errors[0].error_code, 0);
        assert!(!logs.join("t-0").exists());
    }
    cluster.end(vec![one]).await;
}
