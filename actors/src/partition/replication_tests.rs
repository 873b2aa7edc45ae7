//! Leaders and followers on logs in memory.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::control::EndTxnMarker;

use super::messages::{
    Acks, AppendReplicated, BecomeFollower, BecomeLeader, DeleteRecords, DescribeProducers, Locate,
    Maintain, Position, Read, ReadResult, Reader, Truncate, TruncateTo,
};
use super::testing::{
    BROKER, EPOCH, LAG_MAX, TestClock, append, batch, lead, open, open_with, read, read_from,
    start_append, transactional, values,
};
use super::{Answer, PartitionHandle};
use crate::config::TopicConfig;
use crate::replication::isr::{self, IsrChange, IsrChanged, IsrRefused};
use crate::storage::Storage;
use crate::storage::memory::{Crash, MemoryStorage};

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

/// A replica with its files.
struct Copy {
    storage: Arc<MemoryStorage>,
    partition: PartitionHandle,
}

fn copy(config: TopicConfig) -> Copy {
    let storage = Arc::new(MemoryStorage::new());
    let partition = open(&storage, &TestClock::new(NOW), config, false);
    Copy { storage, partition }
}

impl Copy {
    async fn lead(&self, leader_epoch: i32, isr: &[i32]) {
        let (isr, replicas) = (isr.to_vec(), vec![BROKER, 2]);
        let build = |reply| BecomeLeader {
            leader_epoch,
            partition_epoch: leader_epoch,
            isr,
            replicas,
            reply,
        };
        self.partition.ask(build).await.unwrap();
    }

    async fn follow(&self, leader_epoch: i32) -> Answer<()> {
        let build = |reply| BecomeFollower {
            leader: BROKER,
            leader_epoch,
            reply,
        };
        self.partition.ask(build).await
    }

    async fn produce(&self, value: &str) {
        let records = batch(&[value], NOW, None);
        append(&self.partition, records, Acks::Leader)
            .await
            .unwrap();
    }

    async fn position(&self) -> Position {
        self.partition.ask(|reply| Locate { reply }).await.unwrap()
    }

    async fn append(&self, records: &[u8], leader_epoch: i32) -> Answer<Position> {
        let build = |reply| AppendReplicated {
            records: Bytes::copy_from_slice(records),
            leader_epoch,
            high_watermark: 0,
            log_start_offset: 0,
            reply,
        };
        self.partition.ask(build).await
    }

    async fn truncate(&self, to: TruncateTo, leader_epoch: i32) -> Answer<Position> {
        let build = |reply| Truncate {
            leader_epoch,
            to,
            reply,
        };
        self.partition.ask(build).await
    }

    /// Asks the leader for what comes next, as broker 2.
    async fn fetch_from(&self, leader: &Copy, leader_epoch: i32, max_bytes: u64) -> ReadResult {
        let position = self.position().await;
        let (reply, answer) = tokio::sync::oneshot::channel();
        let read = Read {
            offset: position.log_end_offset,
            max_bytes,
            at_least_one: true,
            reader: TWO,
            current_leader_epoch: leader_epoch,
            last_fetched_epoch: position.last_epoch,
            reply,
        };
        leader.partition.send(read).await.unwrap();
        answer.await.unwrap()
    }

    /// Fetches until there is nothing more. Returns how often it had to cut something off.
    async fn catch_up(&self, leader: &Copy, leader_epoch: i32) -> usize {
        let mut cuts = 0;
        loop {
            let found = self.fetch_from(leader, leader_epoch, 100).await;
            assert_eq!(found.error, ErrorCode::None);
            if let Some((epoch, end_offset)) = found.diverging_epoch {
                cuts += 1;
                assert!(cuts < 10, "the logs never meet");
                let to = TruncateTo::Divergence { epoch, end_offset };
                self.truncate(to, leader_epoch).await.unwrap();
                continue;
            }
            let records = found.records.map(|records| records.read().unwrap());
            let done = records.is_none();
            let build = |reply| AppendReplicated {
                records: records.unwrap_or_default().into(),
                leader_epoch,
                high_watermark: found.progress.high_watermark,
                log_start_offset: found.progress.log_start_offset,
                reply,
            };
            self.partition.ask(build).await.unwrap();
            if done {
                return cuts;
            }
        }
    }

    /// Returns what the files of the log hold, without the unused ends of indexes.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.storage.paths().into_iter();
        let files = names.map(|path| (path.display().to_string(), self.storage.read(&path)));
        let kept = files.filter(|(name, _)| {
            [".log", ".txnindex", "leader-epoch-checkpoint"]
                .iter()
                .any(|end| name.ends_with(end))
        });
        kept.map(|(name, bytes)| (name, bytes.unwrap())).collect()
    }
}

const ABORT: EndTxnMarker = EndTxnMarker {
    commit: false,
    coordinator_epoch: 3,
};

#[actix_rt::test]
async fn a_follower_has_the_same_bytes_and_knows_the_same_producers() {
    let config = TopicConfig {
        segment_bytes: 300,
        ..TopicConfig::default()
    };
    let (leader, follower) = (copy(config.clone()), copy(config));
    leader.lead(1, &[BROKER]).await;
    follower.follow(1).await.unwrap();
    let sequenced = |sequence| batch(&["x", "y"], NOW, Some((9, 0, sequence)));
    for records in [
        sequenced(0),
        transactional("a", (7, 0, 0)),
        sequenced(2),
        transactional("b", (8, 0, 0)),
    ] {
        append(&leader.partition, records, Acks::Leader)
            .await
            .unwrap();
    }
    leader.partition.write_marker(7, 0, 0, ABORT).await.unwrap();
    assert_eq!(follower.catch_up(&leader, 1).await, 0);
    assert!(leader.files().len() > 3, "several segments");
    assert_eq!(follower.files(), leader.files());
    let (ours, theirs) = (leader.partition.progress(), follower.partition.progress());
    assert_eq!(theirs.high_watermark, ours.high_watermark);
    assert_eq!(theirs.last_stable_offset, ours.last_stable_offset);
    assert!(!theirs.is_leader);
    // What the new leader knows of the producers it has from the batches alone.
    let known = |copy: &Copy| {
        let partition = copy.partition.clone();
        async move { partition.ask(|reply| DescribeProducers { reply }).await }
    };
    let before = known(&leader).await.unwrap();
    follower.lead(2, &[BROKER]).await;
    assert_eq!(known(&follower).await.unwrap(), before);
    let again = append(&follower.partition, sequenced(2), Acks::All).await;
    assert_eq!(again.unwrap().base_offset, 3, "a repeated batch");
    let aborted = read(&follower.partition, 0, Reader::CommittedConsumer).await;
    assert_eq!(aborted.aborted, [(7, 2)]);
}

#[actix_rt::test]
async fn who_comes_back_cuts_off_what_the_new_leader_has_not_got() {
    let (first, second) = (copy(TopicConfig::default()), copy(TopicConfig::default()));
    first.lead(1, &[BROKER]).await;
    second.follow(1).await.unwrap();
    for value in ["a", "b"] {
        first.produce(value).await;
    }
    second.catch_up(&first, 1).await;
    // The second one is cut off, and the high watermark of the first goes on without it.
    first.lead(1, &[BROKER]).await;
    first.produce("lost").await;
    assert_eq!(first.partition.progress().high_watermark, 3);
    second.lead(2, &[BROKER]).await;
    second.lead(4, &[BROKER]).await;
    second.produce("c").await;
    first.follow(4).await.unwrap();
    assert_eq!(first.catch_up(&second, 4).await, 1);
    assert_eq!(first.files(), second.files());
    assert_eq!(first.partition.lost_records(), 1);
    assert_eq!(second.partition.lost_records(), 0);
    // An epoch in which nobody wrote anything is forgotten as well.
    first.lead(5, &[BROKER]).await;
    second.lead(6, &[BROKER]).await;
    second.produce("d").await;
    first.follow(6).await.unwrap();
    first.catch_up(&second, 6).await;
    assert_eq!(first.files(), second.files());
    assert_eq!(first.partition.lost_records(), 1);
    first.lead(7, &[BROKER]).await;
    let all: Vec<_> = values(&first.partition, 0).await;
    let expected = ["a", "b", "c", "d"].map(str::to_owned);
    assert_eq!(all, (0..).zip(expected).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn only_the_leader_of_the_day_is_obeyed() {
    let follower = copy(TopicConfig::default());
    let nothing = || follower.append(&[], 3);
    assert_eq!(nothing().await, Err(ErrorCode::NotLeaderOrFollower));
    follower.follow(3).await.unwrap();
    follower.follow(3).await.unwrap();
    assert_eq!(follower.follow(2).await, Err(ErrorCode::FencedLeaderEpoch));
    assert!(nothing().await.is_ok());
    let to = TruncateTo::LogEnd(0);
    for (epoch, refused) in [
        (2, ErrorCode::FencedLeaderEpoch),
        (4, ErrorCode::UnknownLeaderEpoch),
    ] {
        assert_eq!(follower.append(&[], epoch).await, Err(refused));
        assert_eq!(follower.truncate(to, epoch).await, Err(refused));
    }
    follower.lead(4, &[BROKER]).await;
    assert_eq!(nothing().await, Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(
        follower.follow(4).await,
        Err(ErrorCode::FencedLeaderEpoch),
        "it leads in this epoch"
    );
    let produced = append(&follower.partition, batch(&["a"], NOW, None), Acks::Leader).await;
    produced.unwrap();
    follower.follow(5).await.unwrap();
    let refused = append(&follower.partition, batch(&["a"], NOW, None), Acks::Leader).await;
    assert_eq!(refused, Err(ErrorCode::NotLeaderOrFollower));
}

#[actix_rt::test]
async fn producers_that_wait_are_told_when_their_leader_becomes_a_follower() {
    let leader = copy(TopicConfig::default());
    leader.lead(1, &[BROKER, 2]).await;
    let records = batch(&["a"], NOW, None);
    let waiting = start_append(&leader.partition, records, Acks::All).await;
    leader.follow(2).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Err(ErrorCode::NotLeaderOrFollower));
    assert!(!leader.partition.progress().is_leader);
}

#[actix_rt::test]
async fn damaged_batches_are_refused_and_cut_off_ones_ignored() {
    let (leader, follower) = (copy(TopicConfig::default()), copy(TopicConfig::default()));
    leader.lead(1, &[BROKER]).await;
    follower.follow(1).await.unwrap();
    for value in ["a", "b"] {
        leader.produce(value).await;
    }
    let sound = read(&leader.partition, 0, TWO).await;
    let sound = sound.records.unwrap().read().unwrap();
    let half = sound.len() / 2;
    for at in [half - 1, sound.len() - 1] {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        let refused = follower.append(&damaged, 1).await;
        assert_eq!(refused, Err(ErrorCode::CorruptMessage), "byte {at}");
        assert_eq!(follower.position().await.log_end_offset, 0);
    }
    let cut_off = &sound[..sound.len() - 1];
    let appended = follower.append(cut_off, 1).await.unwrap();
    assert_eq!(appended.log_end_offset, 1);
    assert_eq!(appended.last_epoch, 1);
    let again = follower.append(&sound, 1).await;
    assert_eq!(again, Err(ErrorCode::CorruptMessage), "it is there already");
    let rest = follower.append(&sound[half..], 1).await.unwrap();
    assert_eq!(rest.log_end_offset, 2);
    assert_eq!(follower.files(), leader.files());
}

#[actix_rt::test]
async fn the_log_starts_where_the_leaders_does() {
    let (leader, follower) = (copy(TopicConfig::default()), copy(TopicConfig::default()));
    leader.lead(1, &[BROKER]).await;
    follower.follow(1).await.unwrap();
    for records in [&["a", "b"][..], &["c", "d"]] {
        let records = batch(records, NOW, None);
        append(&leader.partition, records, Acks::Leader)
            .await
            .unwrap();
    }
    follower.catch_up(&leader, 1).await;
    let delete = |before_offset| {
        leader.partition.ask(move |reply| DeleteRecords {
            before_offset,
            reply,
        })
    };
    delete(1).await.unwrap();
    follower.catch_up(&leader, 1).await;
    assert_eq!(follower.position().await.log_start_offset, 1);
    // One that comes later starts in the middle of a batch.
    delete(3).await.unwrap();
    let late = copy(TopicConfig::default());
    late.follow(1).await.unwrap();
    late.truncate(TruncateTo::StartAt(3), 1).await.unwrap();
    late.catch_up(&leader, 1).await;
    let position = late.position().await;
    assert_eq!((position.log_start_offset, position.log_end_offset), (3, 4));
    late.lead(2, &[BROKER]).await;
    assert_eq!(values(&late.partition, 3).await, [(3, "d".to_owned())]);
}

#[actix_rt::test]
async fn with_flush_messages_a_follower_speaks_of_what_is_on_disk() {
    let config = TopicConfig {
        flush_messages: 1,
        ..TopicConfig::default()
    };
    let (leader, follower) = (copy(TopicConfig::default()), copy(config));
    leader.lead(1, &[BROKER]).await;
    follower.follow(1).await.unwrap();
    leader.produce("a").await;
    follower.catch_up(&leader, 1).await;
    follower.storage.crash(Crash::Machine { keep: 0 });
    let Copy { storage, partition } = follower;
    drop(partition);
    let partition = open(
        &storage,
        &TestClock::new(NOW),
        TopicConfig::default(),
        false,
    );
    assert_eq!(partition.progress().log_end_offset, 1);
}

#[actix_rt::test]
async fn a_full_disk_stops_a_follower() {
    let (leader, follower) = (copy(TopicConfig::default()), copy(TopicConfig::default()));
    leader.lead(1, &[BROKER]).await;
    follower.follow(1).await.unwrap();
    leader.produce("a").await;
    let records = read(&leader.partition, 0, TWO).await.records.unwrap();
    let records = records.read().unwrap();
    follower.storage.limit_room(Some(20));
    let refused = follower.append(&records, 1).await;
    assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    follower.storage.limit_room(None);
    let refused = follower.append(&records, 1).await;
    assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    assert!(follower.partition.progress().failed);
}
