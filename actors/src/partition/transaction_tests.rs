//! Transactions on a log in memory: markers, the last stable offset, and what read_committed consumers are told.

use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::BatchHeader;
use troupe_protocol::kafka::records::control::EndTxnMarker;

use super::messages::{
    Acks, Append, DeleteRecords, DescribeProducers, ListOffset, Maintain, OffsetSpec, Reader,
    WriteMarker,
};
use super::testing::{
    BROKER, PRODUCER_ID_EXPIRATION_MS, TestClock, append, batch, lead, open, read, transactional,
    values,
};
use super::{Answer, Guard, PartitionHandle, Verification};
use crate::config::TopicConfig;
use crate::runtime::Clock;
use crate::storage::memory::MemoryStorage;

const COMMIT: EndTxnMarker = EndTxnMarker {
    commit: true,
    coordinator_epoch: 3,
};
const ABORT: EndTxnMarker = EndTxnMarker {
    commit: false,
    ..COMMIT
};

fn storage() -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::new())
}

async fn leading(storage: &Arc<MemoryStorage>) -> PartitionHandle {
    let partition = open(storage, &TestClock::new(1), TopicConfig::default(), false);
    lead(&partition, &[BROKER]).await;
    partition
}

async fn produce(partition: &PartitionHandle, value: &str, producer: (i64, i16, i32)) {
    append(partition, transactional(value, producer), Acks::All)
        .await
        .unwrap();
}

async fn end(partition: &PartitionHandle, id: i64, marker: EndTxnMarker) -> Answer<()> {
    partition.write_marker(id, 0, 0, marker).await
}

fn stable(partition: &PartitionHandle) -> i64 {
    partition.progress().last_stable_offset
}

/// Returns the aborted transactions that a read_committed consumer at `offset` is told, and whether it gets records.
async fn committed(partition: &PartitionHandle, offset: i64) -> (Vec<(i64, i64)>, bool) {
    let result = read(partition, offset, Reader::CommittedConsumer).await;
    assert_eq!(result.error, ErrorCode::None);
    (result.aborted, result.records.is_some())
}

#[actix_rt::test]
async fn an_open_transaction_holds_back_read_committed_consumers_alone() {
    let partition = leading(&storage()).await;
    append(&partition, batch(&["a"], 1, None), Acks::All)
        .await
        .unwrap();
    produce(&partition, "b", (7, 0, 0)).await;
    append(&partition, batch(&["c"], 1, None), Acks::All)
        .await
        .unwrap();
    assert_eq!(stable(&partition), 1);
    assert_eq!(partition.progress().high_watermark, 3);
    assert_eq!(committed(&partition, 1).await, (Vec::new(), false));
    assert_eq!(values(&partition, 0).await.len(), 3);
    end(&partition, 7, COMMIT).await.unwrap();
    assert_eq!(stable(&partition), 4);
    assert_eq!(committed(&partition, 1).await, (Vec::new(), true));
}

#[actix_rt::test]
async fn an_aborted_transaction_is_told_wherever_it_has_records() {
    let partition = leading(&storage()).await;
    produce(&partition, "a", (7, 0, 0)).await;
    produce(&partition, "b", (8, 0, 0)).await;
    end(&partition, 7, ABORT).await.unwrap();
    assert_eq!(stable(&partition), 1, "the other one is open");
    end(&partition, 8, ABORT).await.unwrap();
    assert_eq!(stable(&partition), 4);
    for (offset, aborted) in [
        (0, vec![(7, 0), (8, 1)]),
        (2, vec![(7, 0), (8, 1)]),
        (3, vec![(8, 1)]),
    ] {
        assert_eq!(committed(&partition, offset).await, (aborted, true));
    }
}

#[actix_rt::test]
async fn older_coordinators_and_producers_are_fenced() {
    let partition = leading(&storage()).await;
    produce(&partition, "a", (7, 1, 0)).await;
    let write = |epoch, version, coordinator_epoch| {
        let marker = EndTxnMarker {
            commit: true,
            coordinator_epoch,
        };
        partition.write_marker(7, epoch, version, marker)
    };
    assert_eq!(write(0, 0, 3).await, Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(write(1, 2, 3).await, Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(stable(&partition), 0);
    assert_eq!(write(2, 2, 3).await, Ok(()));
    assert_eq!(stable(&partition), 2);
    assert_eq!(write(2, 2, 3).await, Ok(()), "the same one again");
    assert_eq!(stable(&partition), 3);
    let fenced = write(2, 2, 2).await;
    assert_eq!(fenced, Err(ErrorCode::TransactionCoordinatorFenced));
}

#[actix_rt::test]
async fn a_marker_is_answered_when_it_is_replicated() {
    let partition = leading(&storage()).await;
    produce(&partition, "a", (7, 0, 0)).await;
    lead(&partition, &[BROKER, 2]).await;
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    let message = WriteMarker {
        producer_id: 7,
        producer_epoch: 0,
        transaction_version: 0,
        marker: COMMIT,
        reply,
    };
    partition.send(message).await.unwrap();
    let follower = Reader::Follower { broker: 2 };
    read(&partition, 0, follower).await;
    assert!(answer.try_recv().is_err(), "no follower has it");
    assert_eq!(stable(&partition), 0);
    read(&partition, 2, follower).await;
    assert_eq!(answer.await.unwrap().unwrap().base_offset, 1);
    assert_eq!(stable(&partition), 2);
}

#[actix_rt::test]
async fn open_transactions_outlive_a_crash() {
    let storage = storage();
    let partition = leading(&storage).await;
    produce(&partition, "a", (7, 0, 0)).await;
    end(&partition, 7, ABORT).await.unwrap();
    produce(&partition, "b", (8, 0, 0)).await;
    drop(partition);
    let partition = leading(&storage).await;
    assert_eq!(stable(&partition), 2);
    assert_eq!(committed(&partition, 0).await, (vec![(7, 0)], true));
    let described = partition.ask(|reply| DescribeProducers { reply }).await;
    let described: Vec<_> = described
        .unwrap()
        .iter()
        .map(|one| {
            let start = one.current_transaction_start_offset;
            (one.producer_id, one.coordinator_epoch, start)
        })
        .collect();
    assert_eq!(described, [(7, 3, -1), (8, -1, 2)]);
    end(&partition, 8, COMMIT).await.unwrap();
    assert_eq!(stable(&partition), 4);
}

#[actix_rt::test]
async fn deleted_records_do_not_hold_the_last_stable_offset() {
    let partition = leading(&storage()).await;
    produce(&partition, "a", (7, 0, 0)).await;
    produce(&partition, "b", (7, 0, 1)).await;
    produce(&partition, "c", (7, 0, 2)).await;
    let delete = |reply| DeleteRecords {
        before_offset: 2,
        reply,
    };
    assert_eq!(partition.ask(delete).await, Ok(2));
    assert_eq!(stable(&partition), 2, "never below the log start offset");
    assert_eq!(committed(&partition, 2).await, (Vec::new(), false));
    end(&partition, 7, ABORT).await.unwrap();
    assert_eq!(committed(&partition, 2).await, (vec![(7, 0)], true));
}

#[actix_rt::test]
async fn offsets_are_listed_up_to_the_last_stable_one() {
    let partition = leading(&storage()).await;
    append(&partition, batch(&["a"], 1, None), Acks::All)
        .await
        .unwrap();
    produce(&partition, "b", (7, 0, 0)).await;
    let list = |spec, reader| {
        partition.ask(move |reply| ListOffset {
            spec,
            reader,
            current_leader_epoch: -1,
            reply,
        })
    };
    for (reader, latest) in [(Reader::Consumer, 2), (Reader::CommittedConsumer, 1)] {
        let found = list(OffsetSpec::Latest, reader).await.unwrap();
        assert_eq!(found.offset, latest, "{reader:?}");
    }
    append(&partition, batch(&["c"], 9, None), Acks::All)
        .await
        .unwrap();
    let late = OffsetSpec::Timestamp(5);
    assert_eq!(list(late, Reader::Consumer).await.unwrap().offset, 2);
    let unstable = list(late, Reader::CommittedConsumer).await.unwrap();
    assert_eq!(unstable.offset, -1);
}

#[actix_rt::test]
async fn a_guard_that_nobody_gives_back_expires_as_a_producer_id_does() {
    let clock = TestClock::new(1);
    let partition = open(&storage(), &clock, TopicConfig::default(), false);
    lead(&partition, &[BROKER]).await;
    let begin = |id| partition.begin_verification((id, 0, 0), clock.now_ms());
    let (early, late) = (begin(7), begin(8));
    let verified = |value, id, guard: Option<Guard>| {
        let batch = transactional(value, (id, 0, 0));
        let header = BatchHeader::parse(&batch).unwrap();
        partition.ask(move |reply| Append {
            batch,
            header,
            acks: Acks::All,
            verification: Verification::Verified(guard.unwrap()),
            reply,
        })
    };
    clock.advance(PRODUCER_ID_EXPIRATION_MS - 1);
    partition.send(Maintain).await.unwrap();
    assert!(verified("a", 7, early).await.is_ok());
    clock.advance(1);
    partition.send(Maintain).await.unwrap();
    let expired = verified("b", 8, late).await.map(|_| ());
    assert_eq!(expired, Err(ErrorCode::InvalidTxnState));
    assert!(verified("b", 8, begin(8)).await.is_ok());
}
