//! The actor on a log in memory: what producers and consumers see of it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;

use super::messages::{
    Acks, Appended, BecomeLeader, Close, Delete, DeleteRecords, EpochEndOffset, Flush, FoundOffset,
    ListOffset, Maintain, OffsetSpec, Reader, Resign, UpdateConfig,
};
use super::testing::{
    BROKER, EPOCH, TestClock, append, batch, lead, open, read, read_from, start_append, values,
};
use super::{Answer, PartitionHandle};
use crate::config::{TimestampType, TopicConfig};
use crate::storage::Storage;
use crate::storage::memory::{Crash, MemoryStorage};

const NOW: i64 = 1_700_000_000_000;

struct Rig {
    storage: Arc<MemoryStorage>,
    clock: Arc<TestClock>,
    partition: PartitionHandle,
}

/// Opens an empty partition that leads alone.
async fn rig(config: TopicConfig) -> Rig {
    let (storage, clock) = (Arc::new(MemoryStorage::new()), TestClock::new(NOW));
    let partition = open(&storage, &clock, config, false);
    lead(&partition, &[BROKER]).await;
    Rig {
        storage,
        clock,
        partition,
    }
}

impl Rig {
    /// Opens the partition again, with recovery, as after a crash.
    async fn reopen(self) -> Self {
        let Self {
            storage,
            clock,
            partition,
        } = self;
        drop(partition);
        let partition = open(&storage, &clock, TopicConfig::default(), false);
        lead(&partition, &[BROKER]).await;
        Self {
            storage,
            clock,
            partition,
        }
    }
}

fn pairs(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected
        .iter()
        .map(|&(offset, value)| (offset, value.to_owned()))
        .collect()
}

#[actix_rt::test]
async fn appended_records_are_read_back_with_their_offsets() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    let first = append(&partition, batch(&["a", "b"], NOW, None), Acks::Leader).await;
    let appended = Appended {
        base_offset: 0,
        log_append_time_ms: -1,
        log_start_offset: 0,
    };
    assert_eq!(first, Ok(appended));
    let second = append(&partition, batch(&["c"], NOW, None), Acks::All).await;
    assert_eq!(
        second,
        Ok(Appended {
            base_offset: 2,
            ..appended
        })
    );
    assert_eq!(values(&partition, 1).await, pairs(&[(1, "b"), (2, "c")]));
    let progress = partition.progress();
    assert_eq!((progress.log_end_offset, progress.high_watermark), (3, 3));
    assert_eq!(progress.leader_epoch, EPOCH);
}

#[actix_rt::test]
async fn progress_is_published_before_the_producer_is_answered() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    for count in 1..100 {
        append(&partition, batch(&["a"], NOW, None), Acks::Leader)
            .await
            .unwrap();
        assert_eq!(partition.progress().high_watermark, count);
    }
}

#[actix_rt::test]
async fn acks_all_waits_for_the_follower() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    lead(&partition, &[BROKER, 2]).await;
    let mut answer = start_append(&partition, batch(&["a", "b"], NOW, None), Acks::All).await;
    let follower = Reader::Follower { broker: 2 };
    assert!(read(&partition, 0, follower).await.records.is_some());
    assert!(
        answer.try_recv().is_err(),
        "answered before the follower had it"
    );
    assert!(
        read(&partition, 0, Reader::Consumer)
            .await
            .records
            .is_none()
    );
    assert_eq!(
        read(&partition, 2, follower).await.progress.high_watermark,
        2
    );
    assert_eq!(
        answer.await.unwrap().map(|appended| appended.base_offset),
        Ok(0)
    );
    assert_eq!(values(&partition, 0).await, pairs(&[(0, "a"), (1, "b")]));
}

#[actix_rt::test]
async fn a_leader_that_resigns_sends_producers_away_and_may_lead_again_in_its_epoch() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    lead(&partition, &[BROKER, 2]).await;
    let records = || batch(&["a", "b"], NOW, Some((9, 0, 0)));
    let waiting = start_append(&partition, records(), Acks::All).await;
    partition.ask(|reply| Resign { reply }).await.unwrap();
    assert!(!partition.progress().is_leader);
    let refused = Err(ErrorCode::NotLeaderOrFollower);
    assert_eq!(waiting.await.unwrap(), refused);
    assert_eq!(append(&partition, records(), Acks::Leader).await, refused);
    let consumed = read(&partition, 0, Reader::Consumer).await;
    assert_eq!(consumed.error, ErrorCode::NotLeaderOrFollower);

    lead(&partition, &[BROKER]).await;
    assert_eq!(partition.progress().leader_epoch, EPOCH);
    // What the producer sends again is in the log already.
    let again = append(&partition, records(), Acks::All).await;
    assert_eq!(again.map(|appended| appended.base_offset), Ok(0));
    let next = append(&partition, batch(&["c"], NOW, Some((9, 0, 2))), Acks::All).await;
    assert_eq!(next.map(|appended| appended.base_offset), Ok(2));
    assert_eq!(
        values(&partition, 0).await,
        pairs(&[(0, "a"), (1, "b"), (2, "c")])
    );
}

#[actix_rt::test]
async fn a_repeated_batch_is_answered_as_before_and_not_appended() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    let producer = |sequence| Some((9, 0, sequence));
    let first = append(&partition, batch(&["a", "b"], NOW, producer(0)), Acks::All).await;
    append(&partition, batch(&["c"], NOW, producer(2)), Acks::All)
        .await
        .unwrap();
    let again = append(&partition, batch(&["a", "b"], NOW, producer(0)), Acks::All).await;
    assert_eq!(again, first);
    let gap = append(&partition, batch(&["e"], NOW, producer(4)), Acks::All).await;
    assert_eq!(gap, Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(
        values(&partition, 0).await,
        pairs(&[(0, "a"), (1, "b"), (2, "c")])
    );
}

#[actix_rt::test]
async fn a_repeated_batch_waits_for_the_follower_like_the_first() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    lead(&partition, &[BROKER, 2]).await;
    let records = batch(&["a"], NOW, Some((9, 0, 0)));
    let first = start_append(&partition, records.clone(), Acks::All).await;
    let mut again = start_append(&partition, records, Acks::All).await;
    read(&partition, 0, Reader::Follower { broker: 2 }).await;
    assert!(
        again.try_recv().is_err(),
        "answered before the follower had it"
    );
    read(&partition, 1, Reader::Follower { broker: 2 }).await;
    assert_eq!(again.await.unwrap(), first.await.unwrap());
}

#[actix_rt::test]
async fn a_full_disk_stops_writes_and_not_reads() {
    let rig = rig(TopicConfig::default()).await;
    append(&rig.partition, batch(&["a"], NOW, None), Acks::All)
        .await
        .unwrap();
    rig.storage.limit_room(Some(20));
    let refused = append(&rig.partition, batch(&["b"], NOW, None), Acks::All).await;
    assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    assert!(rig.partition.progress().failed);
    assert_eq!(values(&rig.partition, 0).await, pairs(&[(0, "a")]));
    // It opens on a disk that is still full, and serves what is there.
    let rig = rig.reopen().await;
    assert_eq!(values(&rig.partition, 0).await, pairs(&[(0, "a")]));
    rig.storage.limit_room(None);
    let rig = rig.reopen().await;
    append(&rig.partition, batch(&["c"], NOW, None), Acks::All)
        .await
        .unwrap();
    assert_eq!(
        values(&rig.partition, 0).await,
        pairs(&[(0, "a"), (1, "c")])
    );
}

#[actix_rt::test]
async fn with_flush_messages_an_answer_survives_the_machine() {
    let config = TopicConfig {
        flush_messages: 1,
        ..TopicConfig::default()
    };
    let rig = rig(config).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(start_append(&rig.partition, batch(&["a"], NOW, None), Acks::Leader).await);
    }
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(rig.partition.recovery_point(), 20);
    rig.storage.crash(Crash::Machine { keep: 0 });
    let rig = rig.reopen().await;
    assert_eq!(rig.partition.progress().log_end_offset, 20);
}

#[actix_rt::test]
async fn a_segment_that_is_closed_is_flushed() {
    let config = TopicConfig {
        segment_bytes: 200,
        ..TopicConfig::default()
    };
    let rig = rig(config).await;
    for _ in 0..4 {
        append(&rig.partition, batch(&["a"], NOW, None), Acks::Leader)
            .await
            .unwrap();
    }
    let flushed = async {
        while rig.partition.recovery_point() == 0 {
            actix_rt::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), flushed)
        .await
        .expect("the flush ends");
    rig.storage.crash(Crash::Machine { keep: 0 });
    let rig = rig.reopen().await;
    assert!(rig.partition.progress().log_end_offset >= 2);
}

#[actix_rt::test]
async fn without_a_flush_an_answer_only_survives_the_process() {
    let rig = rig(TopicConfig::default()).await;
    append(&rig.partition, batch(&["a"], NOW, None), Acks::All)
        .await
        .unwrap();
    let flushed = rig.partition.ask(|reply| Flush { reply }).await;
    assert_eq!(flushed, Ok(1));
    append(&rig.partition, batch(&["b"], NOW, None), Acks::All)
        .await
        .unwrap();
    rig.storage.crash(Crash::Process);
    let rig = rig.reopen().await;
    assert_eq!(rig.partition.progress().log_end_offset, 2);
    append(&rig.partition, batch(&["c"], NOW, None), Acks::All)
        .await
        .unwrap();
    rig.storage.crash(Crash::Machine { keep: 0 });
    let rig = rig.reopen().await;
    assert_eq!(
        values(&rig.partition, 0).await.first(),
        pairs(&[(0, "a")]).first()
    );
    assert!(
        rig.partition.progress().log_end_offset < 3,
        "nobody synced the last one"
    );
}

#[actix_rt::test]
async fn a_failed_sync_is_no_acknowledgement() {
    let config = TopicConfig {
        flush_messages: 1,
        ..TopicConfig::default()
    };
    let rig = rig(config).await;
    rig.storage.fail_sync(true);
    let refused = append(&rig.partition, batch(&["a"], NOW, None), Acks::Leader).await;
    assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    // The page cache may have dropped what could not be written: a later sync that succeeds says nothing.
    rig.storage.fail_sync(false);
    let refused = append(&rig.partition, batch(&["b"], NOW, None), Acks::Leader).await;
    assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    assert_eq!(rig.partition.recovery_point(), 0);
    let flushed = rig.partition.ask(|reply| Flush { reply }).await;
    assert_eq!(flushed, Err(ErrorCode::KafkaStorageError));
}

#[actix_rt::test]
async fn log_append_time_is_the_brokers() {
    let config = TopicConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..TopicConfig::default()
    };
    let rig = rig(config).await;
    rig.clock.advance(5);
    let records = batch(&["a"], 1, Some((9, 0, 0)));
    let appended = append(&rig.partition, records.clone(), Acks::All)
        .await
        .unwrap();
    assert_eq!(appended.log_append_time_ms, NOW + 5);
    // The CRC was computed again: `values` checks it.
    assert_eq!(values(&rig.partition, 0).await, pairs(&[(0, "a")]));
    let found = list(&rig.partition, OffsetSpec::Timestamp(NOW))
        .await
        .unwrap();
    assert_eq!((found.offset, found.timestamp), (0, NOW + 5));
    rig.clock.advance(5);
    assert_eq!(
        append(&rig.partition, records, Acks::All).await,
        Ok(appended)
    );
}

#[actix_rt::test]
async fn a_new_configuration_holds_for_the_next_batch() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    let config = TopicConfig {
        min_insync_replicas: 2,
        ..TopicConfig::default()
    };
    partition
        .send(UpdateConfig {
            config: Arc::new(config),
        })
        .await
        .unwrap();
    let refused = append(&partition, batch(&["a"], NOW, None), Acks::All).await;
    assert_eq!(refused, Err(ErrorCode::NotEnoughReplicas));
    append(&partition, batch(&["a"], NOW, None), Acks::Leader)
        .await
        .unwrap();
    assert_eq!(partition.progress().high_watermark, 0);
    let config = TopicConfig {
        segment_bytes: 100,
        ..TopicConfig::default()
    };
    partition
        .send(UpdateConfig {
            config: Arc::new(config),
        })
        .await
        .unwrap();
    let refused = append(&partition, batch(&[&"x".repeat(100)], NOW, None), Acks::All).await;
    assert_eq!(refused, Err(ErrorCode::RecordListTooLarge));
    assert_eq!(partition.progress().high_watermark, 1);
}

async fn list(partition: &PartitionHandle, spec: OffsetSpec) -> Answer<FoundOffset> {
    let reader = Reader::Consumer;
    let build = |reply| ListOffset {
        spec,
        reader,
        current_leader_epoch: -1,
        reply,
    };
    partition.ask(build).await
}

#[actix_rt::test]
async fn offsets_are_found_by_name_and_by_time() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    append(&partition, batch(&["a", "b"], 1_000, None), Acks::All)
        .await
        .unwrap();
    append(&partition, batch(&["c", "d"], 500, None), Acks::All)
        .await
        .unwrap();
    let found = |offset, timestamp| {
        Ok(FoundOffset {
            offset,
            timestamp,
            leader_epoch: EPOCH,
        })
    };
    assert_eq!(list(&partition, OffsetSpec::Earliest).await, found(0, -1));
    assert_eq!(list(&partition, OffsetSpec::Latest).await, found(4, -1));
    assert_eq!(
        list(&partition, OffsetSpec::MaxTimestamp).await,
        found(1, 1_001)
    );
    assert_eq!(
        list(&partition, OffsetSpec::Timestamp(1_001)).await,
        found(1, 1_001)
    );
    assert_eq!(
        list(&partition, OffsetSpec::Timestamp(0)).await,
        found(0, 1_000)
    );
    let nothing = FoundOffset {
        offset: -1,
        timestamp: -1,
        leader_epoch: -1,
    };
    assert_eq!(
        list(&partition, OffsetSpec::Timestamp(1_002)).await,
        Ok(nothing)
    );
    let build = |reply| EpochEndOffset {
        leader_epoch: EPOCH,
        current_leader_epoch: -1,
        reply,
    };
    assert_eq!(partition.ask(build).await, Ok((EPOCH, 4)));
}

#[actix_rt::test]
async fn reads_keep_to_the_bounds_and_the_epoch() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    append(&partition, batch(&["a", "b", "c"], NOW, None), Acks::All)
        .await
        .unwrap();
    assert_eq!(
        read(&partition, 4, Reader::Consumer).await.error,
        ErrorCode::OffsetOutOfRange
    );
    assert_eq!(
        read(&partition, -1, Reader::Consumer).await.error,
        ErrorCode::OffsetOutOfRange
    );
    let at_end = read(&partition, 3, Reader::Consumer).await;
    assert!(at_end.error == ErrorCode::None && at_end.records.is_none());
    let (mut stale, answer) = read_from(0, Reader::Consumer);
    stale.current_leader_epoch = EPOCH - 1;
    partition.send(stale).await.unwrap();
    assert_eq!(answer.await.unwrap().error, ErrorCode::FencedLeaderEpoch);
    let (mut ahead, answer) = read_from(3, Reader::Consumer);
    ahead.last_fetched_epoch = EPOCH - 1;
    partition.send(ahead).await.unwrap();
    assert_eq!(answer.await.unwrap().error, ErrorCode::None);
}

#[actix_rt::test]
async fn deleted_records_are_gone() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    append(&partition, batch(&["a"], NOW, None), Acks::All)
        .await
        .unwrap();
    append(&partition, batch(&["b"], NOW, None), Acks::All)
        .await
        .unwrap();
    let delete = |before_offset| {
        move |reply| DeleteRecords {
            before_offset,
            reply,
        }
    };
    assert_eq!(partition.ask(delete(1)).await, Ok(1));
    assert_eq!(partition.progress().log_start_offset, 1);
    assert_eq!(
        read(&partition, 0, Reader::Consumer).await.error,
        ErrorCode::OffsetOutOfRange
    );
    assert_eq!(values(&partition, 1).await, pairs(&[(1, "b")]));
    assert_eq!(
        partition.ask(delete(3)).await,
        Err(ErrorCode::OffsetOutOfRange)
    );
    assert_eq!(partition.ask(delete(-1)).await, Ok(2));
}

#[actix_rt::test]
async fn retention_makes_room_on_a_failed_log_too() {
    let config = TopicConfig {
        segment_bytes: 200,
        retention_ms: 1_000,
        ..TopicConfig::default()
    };
    let rig = rig(config).await;
    for _ in 0..10 {
        append(
            &rig.partition,
            batch(&[&"x".repeat(50)], NOW, None),
            Acks::All,
        )
        .await
        .unwrap();
    }
    rig.storage.limit_room(Some(0));
    let refused = append(&rig.partition, batch(&["b"], NOW, None), Acks::All).await;
    assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    rig.clock.advance(2_000);
    rig.storage.limit_room(None);
    rig.partition.send(Maintain).await.unwrap();
    // The answer to a read comes after the maintenance.
    let progress = read(&rig.partition, 10, Reader::Consumer).await.progress;
    assert!(progress.log_start_offset > 0, "{progress:?}");
    let deleted = |path: &PathBuf| path.to_string_lossy().ends_with(".log.deleted");
    assert!(
        rig.storage.paths().iter().any(deleted),
        "{:?}",
        rig.storage.paths()
    );
}

#[actix_rt::test]
async fn a_closed_partition_opens_without_recovery() {
    let Rig {
        storage,
        clock,
        partition,
    } = rig(TopicConfig::default()).await;
    append(&partition, batch(&["a"], NOW, Some((9, 0, 0))), Acks::All)
        .await
        .unwrap();
    let closed = partition.ask(|reply| Close { reply }).await.unwrap();
    assert_eq!(
        (closed.recovery_point, closed.progress.log_end_offset),
        (1, 1)
    );
    let late = partition.send(Maintain).await;
    assert_eq!(late, Err(ErrorCode::NotLeaderOrFollower));
    assert!(!partition.progress().is_leader);
    let partition = open(&storage, &clock, TopicConfig::default(), true);
    assert_eq!(partition.recovery_point(), 1);
    lead(&partition, &[BROKER]).await;
    assert_eq!(values(&partition, 0).await, pairs(&[(0, "a")]));
    let again = append(&partition, batch(&["a"], NOW, Some((9, 0, 0))), Acks::All).await;
    assert_eq!(again.map(|appended| appended.base_offset), Ok(0));
}

#[actix_rt::test]
async fn a_failed_partition_cannot_be_closed_cleanly() {
    let rig = rig(TopicConfig::default()).await;
    rig.storage.limit_room(Some(0));
    append(&rig.partition, batch(&["a"], NOW, None), Acks::All)
        .await
        .unwrap_err();
    let closed = rig.partition.ask(|reply| Close { reply }).await;
    assert_eq!(closed, Err(ErrorCode::KafkaStorageError));
}

#[actix_rt::test]
async fn a_deleted_partition_leaves_its_name_and_wakes_its_readers() {
    let Rig {
        storage, partition, ..
    } = rig(TopicConfig::default()).await;
    lead(&partition, &[BROKER, 2]).await;
    let waiting = start_append(&partition, batch(&["a"], NOW, None), Acks::All).await;
    let mut watch = partition.watch();
    watch.mark_unchanged();
    let to = PathBuf::from("/logs/t-0.0-delete");
    partition
        .ask(|reply| Delete {
            to: to.clone(),
            reply,
        })
        .await
        .unwrap();
    assert_eq!(waiting.await.unwrap(), Err(ErrorCode::NotLeaderOrFollower));
    assert!(watch.has_changed().unwrap_or(true));
    assert!(!watch.borrow().is_leader);
    let (reply, _answer) = oneshot::channel();
    let gone = partition.send(Flush { reply }).await;
    assert_eq!(gone, Err(ErrorCode::NotLeaderOrFollower));
    let files = |name: &str| {
        storage
            .list(&PathBuf::from(name))
            .map_or(0, |files| files.len())
    };
    assert_eq!(files("/logs/t-0"), 0);
    assert!(files("/logs/t-0.0-delete") > 0);
}

#[actix_rt::test]
async fn an_older_leadership_is_refused() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    let build = |reply| BecomeLeader {
        leader_epoch: EPOCH - 1,
        partition_epoch: 0,
        isr: vec![BROKER],
        replicas: vec![BROKER],
        reply,
    };
    assert_eq!(
        partition.ask(build).await,
        Err(ErrorCode::FencedLeaderEpoch)
    );
}

#[actix_rt::test]
async fn after_a_panic_the_partition_is_rebuilt_from_its_log() {
    let rig = rig(TopicConfig::default()).await;
    append(
        &rig.partition,
        batch(&["a"], NOW, Some((9, 0, 0))),
        Acks::All,
    )
    .await
    .unwrap();
    rig.clock.panic(1);
    let broken = append(
        &rig.partition,
        batch(&["b"], NOW, Some((9, 0, 1))),
        Acks::All,
    )
    .await;
    assert_eq!(
        broken,
        Err(ErrorCode::KafkaStorageError),
        "the producer hears of it"
    );
    let again = append(
        &rig.partition,
        batch(&["b"], NOW, Some((9, 0, 1))),
        Acks::All,
    )
    .await;
    assert_eq!(again.map(|appended| appended.base_offset), Ok(1));
    assert_eq!(
        values(&rig.partition, 0).await,
        pairs(&[(0, "a"), (1, "b")])
    );
}

#[actix_rt::test]
async fn a_partition_that_panics_on_and_on_goes_offline_loudly() {
    let rig = rig(TopicConfig::default()).await;
    for _ in 0..2 {
        rig.clock.panic(1);
        append(&rig.partition, batch(&["a"], NOW, None), Acks::All)
            .await
            .unwrap_err();
    }
    assert!(rig.partition.progress().failed);
    let refused = append(&rig.partition, batch(&["a"], NOW, None), Acks::All).await;
    assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    let unread = read(&rig.partition, 0, Reader::Debug).await;
    assert_eq!(unread.progress.high_watermark, 0);
}

#[actix_rt::test]
async fn a_partition_that_panics_while_it_is_rebuilt_goes_offline() {
    let rig = rig(TopicConfig::default()).await;
    append(&rig.partition, batch(&["a"], NOW, None), Acks::All)
        .await
        .unwrap();
    rig.clock.panic(2);
    append(&rig.partition, batch(&["b"], NOW, None), Acks::All)
        .await
        .unwrap_err();
    assert!(rig.partition.progress().failed);
    let unread = read(&rig.partition, 0, Reader::Consumer).await;
    assert_eq!(unread.error, ErrorCode::KafkaStorageError);
}

#[actix_rt::test]
async fn more_messages_than_the_mailbox_holds_keep_their_order() {
    let Rig { partition, .. } = rig(TopicConfig::default()).await;
    let mut answers = Vec::new();
    for _ in 0..3_000 {
        answers.push(start_append(&partition, batch(&["a"], NOW, None), Acks::Leader).await);
    }
    for (expected, answer) in (0..).zip(answers) {
        assert_eq!(answer.await.unwrap().unwrap().base_offset, expected);
    }
}

#[actix_rt::test]
async fn whoever_asked_for_a_flush_hears_of_a_panic() {
    let rig = rig(TopicConfig::default()).await;
    let one = || batch(&["a"], NOW, None);
    append(&rig.partition, one(), Acks::All).await.unwrap();
    let (reply, flushed) = tokio::sync::oneshot::channel();
    rig.partition.send(Flush { reply }).await.unwrap();
    rig.clock.panic(1);
    let broken = append(&rig.partition, one(), Acks::All).await;
    assert_eq!(broken, Err(ErrorCode::KafkaStorageError));
    assert!(flushed.await.is_ok(), "answered, one way or the other");
}
