//! What a coordinator has in memory is what its successor reads from the log, however commits, transactions and deletions
//! meet.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use proptest::prelude::*;
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::NO_SEQUENCE;

use super::coordinator::{Coordinator, Start};
use super::offsets::{CommittedOffset, TopicPartition};
use super::requests::{CoordinatorHandle, MemberRef, Request};
use super::testing::config;
use crate::config::TopicConfig;
use crate::internal_topic::led::Companion;
use crate::internal_topic::writes::Membership;
use crate::partition::testing::{BROKER, TestClock, lead, open};
use crate::partition::{Answer, PartitionHandle, Verification};
use crate::storage::memory::MemoryStorage;
use crate::transactions::{Marker, Producer};

const GROUPS: [&str; 2] = ["g", "h"];
const TOPICS: [&str; 2] = ["t", "u"];
const PRODUCERS: i64 = 3;
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy)]
enum Event {
    Commit(usize, usize),
    TransactionalCommit(i64, usize, usize),
    End(i64, bool),
    DeleteOffset(usize, usize),
    DeleteGroup(usize),
    ForgetTopic(usize),
    /// Everything so far has its answer.
    Settle,
}

fn event() -> impl Strategy<Value = Event> {
    let (group, topic) = (0..GROUPS.len(), 0..TOPICS.len());
    prop_oneof![
        3 => (group.clone(), topic.clone()).prop_map(|(g, t)| Event::Commit(g, t)),
        5 => (0..PRODUCERS, group.clone(), topic.clone())
            .prop_map(|(p, g, t)| Event::TransactionalCommit(p, g, t)),
        3 => (0..PRODUCERS, any::<bool>()).prop_map(|(p, commit)| Event::End(p, commit)),
        1 => (group.clone(), topic.clone()).prop_map(|(g, t)| Event::DeleteOffset(g, t)),
        1 => group.prop_map(Event::DeleteGroup),
        1 => topic.prop_map(Event::ForgetTopic),
        3 => Just(Event::Settle),
    ]
}

fn partition(topic: usize) -> TopicPartition {
    (TOPICS[topic].into(), 0)
}

fn offsets(topic: usize, offset: i64) -> Vec<(TopicPartition, CommittedOffset)> {
    let committed = CommittedOffset {
        offset,
        leader_epoch: -1,
        metadata: "".into(),
        committed_ms: 1,
        expires_ms: None,
    };
    vec![(partition(topic), committed)]
}

fn nobody() -> MemberRef {
    MemberRef {
        member_id: "".into(),
        instance_id: None,
    }
}

fn marker(id: i64, committed: bool) -> Marker {
    Marker {
        producer: Producer { id, epoch: 0 },
        committed,
        coordinator_epoch: 0,
        transaction_version: 0,
    }
}

async fn log() -> PartitionHandle {
    let storage = Arc::new(MemoryStorage::new());
    let log = open(&storage, &TestClock::new(1), TopicConfig::default(), true);
    lead(&log, &[BROKER]).await;
    log
}

async fn coordinator(log: &PartitionHandle) -> CoordinatorHandle {
    coordinator_at(log, TestClock::new(1)).await
}

async fn coordinator_at(log: &PartitionHandle, clock: Arc<TestClock>) -> CoordinatorHandle {
    let (sender, loaded) = watch::channel(false);
    let start = Start {
        topics: watch::channel(Arc::default()).1,
        partition: log.clone(),
        config: Arc::new(config()),
        clock,
        loaded: sender,
        load_bytes: 1_000,
        expiry_interval: EXPIRY_INTERVAL,
    };
    let handle = CoordinatorHandle::new(Coordinator::new(start).start(), loaded);
    handle.loaded().await;
    handle
}

async fn commit_in_transaction(
    coordinator: &CoordinatorHandle,
    id: i64,
    (group, topic): (usize, usize),
    offset: i64,
    verification: Verification,
) -> Answer<()> {
    let build = |reply| Request::TransactionalCommit {
        group: GROUPS[group].into(),
        member: nobody(),
        generation: -1,
        membership: Membership {
            producer: Producer { id, epoch: 0 },
            verification,
        },
        offsets: offsets(topic, offset),
        reply,
    };
    coordinator.ask(build).await
}

async fn end(coordinator: &CoordinatorHandle, id: i64, committed: bool) -> Answer<()> {
    let marker = marker(id, committed);
    let build = |reply| Request::EndTransaction { marker, reply };
    coordinator.ask(build).await
}

/// Sends what an event stands for. What is refused is refused: whether it should be is not asked here.
async fn perform(coordinator: CoordinatorHandle, event: Event, offset: i64) {
    match event {
        Event::Commit(group, topic) => {
            let build = |reply| Request::Commit {
                group: GROUPS[group].into(),
                member: nobody(),
                generation: -1,
                knows_epochs: false,
                offsets: offsets(topic, offset),
                reply,
            };
            let _ = coordinator.ask(build).await;
        }
        Event::TransactionalCommit(id, group, topic) => {
            let what = (group, topic);
            let unchecked = Verification::NotNeeded;
            let _ = commit_in_transaction(&coordinator, id, what, offset, unchecked).await;
        }
        Event::End(id, committed) => end(&coordinator, id, committed).await.unwrap(),
        Event::DeleteOffset(group, topic) => {
            let build = |reply| Request::DeleteOffsets {
                group: GROUPS[group].into(),
                partitions: vec![partition(topic)],
                reply,
            };
            let _ = coordinator.ask(build).await;
        }
        Event::DeleteGroup(group) => {
            let group = GROUPS[group].into();
            let build = |reply| Request::DeleteGroup { group, reply };
            let _ = coordinator.ask(build).await;
        }
        Event::ForgetTopic(topic) => {
            let topics = BTreeSet::from([Arc::from(TOPICS[topic])]);
            let topics = Arc::new(topics);
            coordinator.tell(Request::ForgetTopics { topics }).await;
        }
        Event::Settle => {}
    }
}

/// Returns each offset of each group, and whether it is stable.
async fn committed(coordinator: &CoordinatorHandle) -> Vec<(Option<i64>, bool)> {
    let mut all = Vec::new();
    for group in GROUPS {
        let read = |require_stable| {
            coordinator.ask(move |reply| Request::Offsets {
                group: group.into(),
                reader: None,
                partitions: Some((0..TOPICS.len()).map(partition).collect()),
                require_stable,
                reply,
            })
        };
        let (told, stable) = (read(false).await.unwrap(), read(true).await.unwrap());
        for ((_, told), (_, stable)) in told.into_iter().zip(stable) {
            let offset = told.unwrap().map(|committed| committed.offset);
            all.push((offset, stable.is_ok()));
        }
    }
    all
}

async fn play(events: Vec<Event>) {
    let log = log().await;
    let first = coordinator(&log).await;
    let mut under_way = Vec::new();
    for (offset, event) in (0..).zip(events) {
        if let Event::Settle = event {
            for one in under_way.drain(..) {
                let one: actix_rt::task::JoinHandle<()> = one;
                one.await.unwrap();
            }
        }
        under_way.push(actix_rt::spawn(perform(first.clone(), event, offset)));
    }
    for one in under_way {
        one.await.unwrap();
    }
    // A deletion of topics is not answered: what follows it is.
    end(&first, PRODUCERS, true).await.unwrap();
    let in_memory = committed(&first).await;
    assert_eq!(committed(&coordinator(&log).await).await, in_memory);
    for id in 0..PRODUCERS {
        end(&first, id, true).await.unwrap();
    }
    let in_memory = committed(&first).await;
    assert!(in_memory.iter().all(|(_, stable)| *stable));
    assert_eq!(committed(&coordinator(&log).await).await, in_memory);
}

proptest! {
    #[test]
    fn a_successor_reads_what_was_in_memory(events in prop::collection::vec(event(), 0..40)) {
        actix_rt::System::new().block_on(play(events));
    }
}

#[actix_rt::test]
async fn the_later_place_in_the_log_counts() {
    let log = log().await;
    let first = coordinator(&log).await;
    let transactional = Event::TransactionalCommit(0, 0, 0);
    perform(first.clone(), transactional, 10).await;
    perform(first.clone(), Event::Commit(0, 0), 20).await;
    end(&first, 0, true).await.unwrap();
    assert_eq!(committed(&first).await[0], (Some(20), true));
    perform(first.clone(), transactional, 30).await;
    perform(first.clone(), Event::DeleteGroup(0), 0).await;
    end(&first, 0, true).await.unwrap();
    assert_eq!(committed(&first).await[0], (None, true));
}

#[actix_rt::test]
async fn a_late_commit_begins_no_transaction_that_nobody_ends() {
    let log = log().await;
    let coordinator = coordinator(&log).await;
    let guard = log.begin_verification((0, 0, NO_SEQUENCE), 1).unwrap();
    let commit = |verification| commit_in_transaction(&coordinator, 0, (0, 0), 10, verification);
    commit(Verification::Verified(guard)).await.unwrap();
    commit(Verification::Ongoing).await.unwrap();
    let stale = log.begin_verification((1, 0, NO_SEQUENCE), 1).unwrap();
    end(&coordinator, 0, true).await.unwrap();
    end(&coordinator, 1, false).await.unwrap();
    for late in [Verification::Ongoing, Verification::Verified(guard)] {
        assert_eq!(commit(late).await, Err(ErrorCode::InvalidTxnState));
    }
    let late = Verification::Verified(stale);
    let late = commit_in_transaction(&coordinator, 1, (0, 1), 10, late).await;
    assert_eq!(late, Err(ErrorCode::InvalidTxnState));
    assert_eq!(committed(&coordinator).await[0], (Some(10), true));
    let progress = log.progress();
    assert_eq!(progress.last_stable_offset, progress.high_watermark);
}

#[actix_rt::test]
async fn an_open_transaction_keeps_the_offset_of_its_partition_alone() {
    tokio::time::pause();
    let (log, clock) = (log().await, TestClock::new(1));
    let coordinator = coordinator_at(&log, clock.clone()).await;
    for topic in 0..TOPICS.len() {
        perform(coordinator.clone(), Event::Commit(0, topic), 10).await;
        perform(coordinator.clone(), Event::Commit(1, topic), 10).await;
    }
    perform(coordinator.clone(), Event::TransactionalCommit(0, 0, 0), 20).await;
    clock.advance(config().offsets_retention_ms);
    tokio::time::sleep(EXPIRY_INTERVAL * 3 / 2).await;
    let (open, expired) = ((Some(10), false), (None, true));
    let left = [open, expired, expired, expired];
    assert_eq!(committed(&coordinator).await, left);
    // Whoever reads the log finds the same.
    assert_eq!(committed(&self::coordinator(&log).await).await, left);
    end(&coordinator, 0, false).await.unwrap();
    tokio::time::sleep(EXPIRY_INTERVAL).await;
    assert_eq!(committed(&coordinator).await, [expired; 4]);
}

#[actix_rt::test]
async fn a_panic_ends_the_coordinator_and_is_noticed() {
    let log = log().await;
    let clock = TestClock::new(1);
    let coordinator = coordinator_at(&log, clock.clone()).await;
    end(&coordinator, 0, true).await.unwrap();
    clock.panic(1);
    let told = end(&coordinator, 0, true).await;
    assert_eq!(told, Err(ErrorCode::NotCoordinator));
    coordinator.ended().await;
}
