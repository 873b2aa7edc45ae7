//! Changes of in-sync sets, written to a coordination service.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use troupe_actors::coordination::CoordinationClient;
use troupe_actors::network::Network;
use troupe_actors::partition::TopicPartition;
use troupe_actors::replication::isr::{self, IsrChange, IsrChanged, IsrChanges, IsrRefused};
use troupe_actors::runtime::{Runtime, SystemClock};
use troupe_actors::znode::{Coordination, ZnodeConfig};

const BROKER: i32 = 1;
const STATE: &str = "/brokers/topics/t/partitions/0/state";
const CHANGES: &str = "/isr_change_notification";

async fn propose(
    changes: &IsrChanges,
    leader_epoch: i32,
    partition_epoch: i32,
    isr: &[i32],
) -> oneshot::Receiver<Result<IsrChanged, IsrRefused>> {
    let (reply, answer) = oneshot::channel();
    let change = IsrChange {
        topic_partition: TopicPartition::new("t", 0),
        leader_epoch,
        partition_epoch,
        isr: isr.to_vec(),
        reply,
    };
    changes.send(change).await.unwrap();
    answer
}

#[actix_rt::test]
async fn a_change_is_written_once_and_the_controller_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = Runtime::single_threaded(Arc::new(SystemClock::new()));
    let config = ZnodeConfig::new(directory.path(), 0);
    let service = Coordination::start(config, &runtime).await.unwrap();
    let connect = format!("127.0.0.1:{}", service.port());
    let client = CoordinationClient::connect(&connect, Duration::from_secs(60), &Network::System);
    let client = client.await.unwrap();
    client.create_if_missing(CHANGES, b"").await.unwrap();
    let state = |epoch: i32, isr: &str| {
        format!(
            r#"{{"controller_epoch":7,"leader":1,"version":1,"leader_epoch":{epoch},"isr":[{isr}]}}"#
        )
    };
    let first = state(3, "1,2");
    client
        .create_if_missing(STATE, first.as_bytes())
        .await
        .unwrap();
    let read = async || {
        let (data, stat) = client.get(STATE).await.unwrap().unwrap();
        (String::from_utf8(data).unwrap(), stat.version)
    };

    let (changes, proposed) = isr::channel();
    let session = client.clone();
    let writer = actix_rt::spawn(isr::write(proposed, BROKER, move || Some(session.clone())));
    let changed = |partition_epoch, isr: &[i32]| {
        Ok(IsrChanged {
            partition_epoch,
            isr: isr.to_vec(),
        })
    };
    let answer = propose(&changes, 3, 0, &[1]).await;
    assert_eq!(answer.await.unwrap(), changed(1, &[1]));
    assert_eq!(read().await, (state(3, "1"), 1));
    // As when the answer to the first attempt was lost.
    let answer = propose(&changes, 3, 0, &[1]).await;
    assert_eq!(answer.await.unwrap(), changed(1, &[1]));
    assert_eq!(read().await, (state(3, "1"), 1));
    // The controller has elected meanwhile.
    let next = state(4, "1");
    client.set(STATE, next.as_bytes(), Some(1)).await.unwrap();
    let answer = propose(&changes, 3, 1, &[1, 2]).await;
    assert_eq!(answer.await.unwrap(), Err(IsrRefused::Superseded));
    assert_eq!(read().await, (next, 2));
    // Who is not registered does not join.
    let answer = propose(&changes, 4, 2, &[1, 2]).await;
    assert_eq!(answer.await.unwrap(), Err(IsrRefused::Unavailable));
    assert_eq!(read().await.1, 2);
    for id in [2, 3] {
        let registration = format!("/brokers/ids/{id}");
        client.create_if_missing(&registration, b"").await.unwrap();
    }
    // What is asked for together is written one after the other, and told once or twice.
    let answer = propose(&changes, 4, 2, &[1, 2]).await;
    let late = propose(&changes, 4, 2, &[1, 3]).await;
    let answers = [answer.await.unwrap(), late.await.unwrap()];
    let (written, version) = read().await;
    assert_eq!(version, 3);
    let isr: &[i32] = match written == state(4, "1,2") {
        true => &[1, 2],
        false => &[1, 3],
    };
    assert_eq!(answers, [changed(3, isr), changed(3, isr)]);
    drop(changes);
    writer.await.unwrap();
    let mut told = client.children(CHANGES).await.unwrap();
    told.sort();
    assert!(told.len() >= 3, "{told:?}");
    assert_eq!(told[0], "isr_change_0000000000");
    let (data, _) = client
        .get(&format!("{CHANGES}/{}", told[0]))
        .await
        .unwrap()
        .unwrap();
    let expected = br#"{"version":1,"partitions":[{"topic":"t","partition":0}]}"#;
    assert_eq!(data, expected);
    drop(client);
    service.shutdown().await.unwrap();
}

#[actix_rt::test]
async fn without_a_session_nothing_is_written() {
    let (changes, proposed) = isr::channel();
    let writer = actix_rt::spawn(isr::write(proposed, BROKER, || None));
    let answer = propose(&changes, 3, 0, &[1]).await;
    assert_eq!(answer.await.unwrap(), Err(IsrRefused::Unavailable));
    drop(changes);
    writer.await.unwrap();
}
