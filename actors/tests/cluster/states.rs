//! The state of a partition, edited by hand into nonsense and mended.

use zookeeper_client::Client;

use super::{Cluster, ErrorCode, create, leaders, until};

const STATE: &str = "/brokers/topics/t/partitions/0/state";

#[actix_rt::test]
async fn a_state_that_makes_no_sense_elects_nobody() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    let two = cluster.broker(2).await;
    assert_eq!(
        create(&one, "t", &[&[1, 2], &[2, 1]]).await,
        ErrorCode::None
    );
    let client = Client::connect(&cluster.connect())
        .await
        .expect("a session");
    let (sensible, _) = client.get_data(STATE).await.expect("a state");
    let write = async |data: &[u8]| {
        let written = client.set_data(STATE, data, None).await;
        written.expect("written");
    };
    let epoch = async || {
        let (data, _) = client.get_data("/controller_epoch").await.expect("there");
        data
    };
    write(b"nonsense").await;
    // Another office reads all anew.
    client.delete("/controller", None).await.expect("deleted");
    until("the controller has read it", || async {
        epoch().await == b"2" && leaders(&one, "t").await == [-1, 2]
    })
    .await;
    let (left, _) = client.get_data(STATE).await.expect("a state");
    assert_eq!(left, b"nonsense");
    // Others are not harmed, whoever is the controller now.
    until("topics are created", || async {
        let mut created = false;
        for broker in [&one, &two] {
            let code = create(broker, "u", &[&[1, 2]]).await;
            created |= [ErrorCode::None, ErrorCode::TopicAlreadyExists].contains(&code);
        }
        created
    })
    .await;
    until("it is led", || async { leaders(&two, "u").await == [1] }).await;
    write(&sensible).await;
    for broker in [&one, &two] {
        until("it is mended", || async {
            leaders(broker, "t").await == [1, 2]
        })
        .await;
    }
    cluster.end(vec![two, one]).await;
}

#[actix_rt::test]
async fn a_senseless_state_that_is_deleted_is_elected_for_anew() {
    let cluster = Cluster::start().await;
    let one = cluster.broker(1).await;
    assert_eq!(create(&one, "t", &[&[1]]).await, ErrorCode::None);
    let client = Client::connect(&cluster.connect())
        .await
        .expect("a session");
    let unknown = br#"{"controller_epoch":1,"leader":9,"version":1,"leader_epoch":3,"isr":[9]}"#;
    let written = client.set_data(STATE, unknown, None).await;
    written.expect("written");
    client.delete("/controller", None).await.expect("deleted");
    until("nobody leads", || async {
        leaders(&one, "t").await == [-1]
    })
    .await;
    client.delete(STATE, None).await.expect("deleted");
    until("broker 1 leads again", || async {
        leaders(&one, "t").await == [1]
    })
    .await;
    cluster.end(vec![one]).await;
}
