//! Configurations that change while a broker has no session.

use troupe_protocol::kafka::messages::DescribeConfigsRequest;
use troupe_protocol::kafka::messages::describe_configs_request::DescribeConfigsResource;
use zookeeper_client::{Acls, Client, CreateMode};

use super::{Broker, Cluster, ErrorCode, StrBytes, call, create, leaders, until};

/// The kind of resource that is a topic.
const TOPIC: i8 = 2;

async fn retention(broker: &Broker) -> String {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(StrBytes::from_static_str("t"))
        .with_configuration_keys(Some(vec![StrBytes::from_static_str("retention.ms")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = call(broker, 1, request).await;
    let config = &answer.results[0].configs[0];
    config.value.as_deref().unwrap_or_default().to_owned()
}

#[actix_rt::test]
async fn what_changed_without_a_session_counts_when_there_is_one_again() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let two = cluster.broker(2).await;
    assert_eq!(create(&one, "t", &[&[2]]).await, ErrorCode::None);
    let client = Client::connect(&cluster.connect())
        .await
        .expect("a session");
    let theirs = Client::connect(&cluster.connect())
        .await
        .expect("a session");
    // The registration is taken from broker 2, which finds no way back as long as somebody else has it.
    let path = "/brokers/ids/2";
    let (registration, _) = client.get_data(path).await.expect("registered");
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let mut taken = theirs.new_multi_writer();
    taken.add_delete(path, None).expect("a deletion");
    taken
        .add_create(path, &registration, &ephemeral)
        .expect("a creation");
    taken.commit().await.expect("taken");
    until("broker 2 leads nothing", || async {
        leaders(&two, "t").await == [-1]
    })
    .await;
    let config = br#"{"version":1,"config":{"retention.ms":"1234567"}}"#;
    let set = client.set_data("/config/topics/t", config, None).await;
    set.expect("set");
    let notice = br#"{"version":2,"entity_path":"topics/t"}"#;
    let sequential = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    let told = client
        .create("/config/changes/config_change_", notice, &sequential)
        .await;
    told.expect("told");
    until("broker 1 obeys", || async {
        retention(&one).await == "1234567"
    })
    .await;
    assert_ne!(retention(&two).await, "1234567");
    drop(theirs);
    until("broker 2 obeys", || async {
        retention(&two).await == "1234567"
    })
    .await;
    cluster.end(vec![two, one]).await;
}
