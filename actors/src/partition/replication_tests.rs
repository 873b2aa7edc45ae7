//! Leaders and followers on logs in memory.

use std::sync::Arc;

use tokio::sync::mpsc;
use troupe_protocol::kafka::errors::ErrorCode;

use super::PartitionHandle;
use super::messages::{Acks, Maintain, Reader};
use super::testing::{
    BROKER, EPOCH, LAG_MAX, TestClock, append, batch, lead, open_with, read, read_from,
    start_append,
};
use crate::config::TopicConfig;
use crate::replication::isr::{self, IsrChange, IsrChanged, IsrRefused};
use crate::storage::memory::MemoryStorage;

const NOW: i64 = 1_700_000_000_000;
const TWO: Reader = Reader::Follower { broker: 2 };

struct Leader {
    clock: Arc<TestClock>,
    partition: PartitionHandle,
    changes: mpsc::Receiver<IsrChange>,
}

/// Opens an empty partition that leads these replicas, all of them in sync.
async fn leader(replicas: &[i32]) -> Leader {
    let clock = TestClock::new(NOW);
    let (isr_changes, changes) = isr::channel();
    let storage = Arc::new(MemoryStorage::new());
    let config = TopicConfig::default();
    let partition = open_with(&storage, &clock, config, false, Some(isr_changes));
    lead(&partition, replicas).await;
    Leader {
        clock,
        partition,
        changes,
    }
}

impl Leader {
    /// Lets so much time pass that who does not fetch lags, and looks who does.
    async fn lag(&self) {
        let limit = i64::try_from(LAG_MAX.as_millis()).unwrap();
        self.clock.advance(limit + 1);
        self.partition.send(Maintain).await.unwrap();
    }
}

#[actix_rt::test]
async fn who_lags_is_left_out_and_comes_back() {
    let mut leader = leader(&[BROKER, 2]).await;
    let records = || batch(&["a"], NOW, None);
    let all = start_append(&leader.partition, records(), Acks::All).await;
    leader.lag().await;
    let change = leader.changes.recv().await.unwrap();
    assert_eq!(change.leader_epoch, EPOCH);
    assert_eq!((change.partition_epoch, &*change.isr), (0, &[BROKER][..]));
    assert_eq!(leader.partition.progress().high_watermark, 0);
    let isr = change.isr;
    let (partition_epoch, written) = (1, isr.clone());
    let changed = IsrChanged {
        partition_epoch,
        isr,
    };
    change.reply.send(Ok(changed)).unwrap();
    all.await.unwrap().unwrap();
    assert_eq!(written, [BROKER]);
    read(&leader.partition, 0, TWO).await;
    assert!(leader.changes.try_recv().is_err(), "it has not caught up");
    read(&leader.partition, 1, TWO).await;
    let change = leader.changes.recv().await.unwrap();
    assert_eq!(
        (change.partition_epoch, &*change.isr),
        (1, &[BROKER, 2][..])
    );
    // From now on it is waited for, though it is not in the set yet.
    let mut all = start_append(&leader.partition, records(), Acks::All).await;
    read(&leader.partition, 1, TWO).await;
    assert!(all.try_recv().is_err());
    read(&leader.partition, 2, TWO).await;
    all.await.unwrap().unwrap();
    assert!(leader.changes.try_recv().is_err(), "one change at a time");
}

#[actix_rt::test]
async fn a_change_that_could_not_be_written_is_proposed_again() {
    let mut leader = leader(&[BROKER, 2]).await;
    append(&leader.partition, batch(&["a"], NOW, None), Acks::Leader)
        .await
        .unwrap();
    leader.lag().await;
    drop(leader.changes.recv().await.unwrap());
    leader.lag().await;
    let change = leader.changes.recv().await.unwrap();
    assert_eq!(change.isr, [BROKER]);
    change.reply.send(Err(IsrRefused::Superseded)).unwrap();
    leader.lag().await;
    // The mailbox is in order: what is answered after the look shows that it is over.
    read(&leader.partition, 0, Reader::Consumer).await;
    assert!(
        leader.changes.try_recv().is_err(),
        "another leadership counts: there will be orders"
    );
    assert_eq!(leader.partition.progress().high_watermark, 0);
}

#[actix_rt::test]
async fn who_is_no_replica_is_told_to_wait_for_the_leaders_orders() {
    let leader = leader(&[BROKER, 2]).await;
    let three = Reader::Follower { broker: 3 };
    let found = read(&leader.partition, 0, three).await;
    assert_eq!(found.error, ErrorCode::NotLeaderOrFollower);
    let (mut read, answer) = read_from(0, three);
    read.current_leader_epoch = EPOCH;
    leader.partition.send(read).await.unwrap();
    assert_eq!(answer.await.unwrap().error, ErrorCode::UnknownLeaderEpoch);
}
