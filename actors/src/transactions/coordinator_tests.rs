//! What a coordinator makes of writes to its log that fail: the outcome of a transaction stands, and no marker is written
//! but for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::coordinator::{Coordinator, Schedule, Start};
use super::markers::Markers;
use super::requests::{CoordinatorHandle, Outcome, Request};
use super::state::State;
use super::transaction::{End, Init, Producer};
use crate::broker_client::{self, Brokers};
use crate::config::{BrokerConfig, TopicConfig, Values};
use crate::groups::GroupCoordinators;
use crate::internal_topic::led::Companion;
use crate::metadata::{BrokerId, MetadataImage, PartitionImage, TopicImage};
use crate::network::Network;
use crate::partition::messages::{Acks, UpdateConfig};
use crate::partition::testing::{BROKER, EPOCH, TestClock, append, lead, open, transactional};
use crate::partition::{Answer, PartitionHandle, TopicPartition};
use crate::runtime::{Runtime, ThreadPool};
use crate::storage::memory::MemoryStorage;

const ELSEWHERE: BrokerId = BROKER + 1;
/// Longer than anything that failed waits before it is tried again.
const A_WHILE: Duration = Duration::from_secs(5);

/// A producer with a transactional id, the partition `t-0` that it writes to, and the log of its coordinator.
struct Stage {
    storage: Arc<MemoryStorage>,
    log: PartitionHandle,
    data: PartitionHandle,
    image: watch::Sender<Arc<MetadataImage>>,
    coordinator: CoordinatorHandle,
    producer: Producer,
}

async fn led(storage: &Arc<MemoryStorage>) -> PartitionHandle {
    let log = open(storage, &TestClock::new(1), TopicConfig::default(), false);
    lead(&log, &[BROKER]).await;
    log
}

fn image(data: &PartitionHandle, leader: BrokerId) -> Arc<MetadataImage> {
    let partition = PartitionImage {
        leader,
        leader_epoch: EPOCH,
        replicas: vec![BROKER],
        isr: vec![BROKER],
        local: Some(data.clone()),
    };
    let mut image = MetadataImage::default();
    image.put_topic(Arc::new(TopicImage {
        name: "t".into(),
        id: Uuid::from_u128(7),
        is_internal: false,
        config: Arc::default(),
        overrides: BTreeMap::new(),
        partitions: vec![partition],
    }));
    Arc::new(image)
}

fn nobody_else(image: &watch::Sender<Arc<MetadataImage>>) -> Brokers {
    Brokers::new(broker_client::Start {
        broker_id: BROKER,
        image: image.subscribe(),
        listener: "PLAINTEXT".to_owned(),
        timeout: A_WHILE,
        network: Network::System,
    })
}

async fn coordinator(
    log: &PartitionHandle,
    image: &watch::Sender<Arc<MetadataImage>>,
    epoch: i32,
) -> CoordinatorHandle {
    let clock = TestClock::new(1);
    let runtime = Runtime::single_threaded(clock.clone());
    let config = BrokerConfig::from_values(Values::default()).unwrap();
    let groups = GroupCoordinators::start(BROKER, &config, &runtime, image.subscribe());
    let never = Duration::from_secs(1_000_000);
    let (sender, loaded) = watch::channel(false);
    let start = Start {
        partition: log.clone(),
        epoch,
        schedule: Arc::new(Schedule {
            load_bytes: 1_000,
            time_out_interval: never,
            expiry_interval: never,
            expiration_ms: i64::MAX,
        }),
        clock,
        markers: Markers::new(BROKER, image.subscribe(), nobody_else(image), groups),
        loaded: sender,
    };
    let addr = ThreadPool::current().start_actor(0, move |_| Coordinator::new(start));
    let handle = CoordinatorHandle::new(addr, loaded);
    handle.loaded().await;
    handle
}

impl Stage {
    async fn new() -> Self {
        let storage = Arc::new(MemoryStorage::new());
        let log = led(&storage).await;
        let data = led(&Arc::new(MemoryStorage::new())).await;
        let image = watch::Sender::new(image(&data, BROKER));
        let coordinator = coordinator(&log, &image, 1).await;
        let init = |reply| Request::Init {
            id: "id".into(),
            init: Init {
                timeout_ms: 60_000,
                expected: None,
            },
            fresh_id: Some(7),
            reply,
        };
        let Ok(Outcome::Producer(producer)) = coordinator.ask(init).await else {
            panic!("no producer");
        };
        Self {
            storage,
            log,
            data,
            image,
            coordinator,
            producer,
        }
    }

    async fn add(&self) -> Answer<()> {
        let build = |reply| Request::Add {
            id: "id".into(),
            producer: self.producer,
            partitions: BTreeSet::from([TopicPartition::new("t", 0)]),
            transaction_version: 0,
            reply,
        };
        self.coordinator.ask(build).await
    }

    async fn write(&self, sequence: i32) {
        let Producer { id, epoch } = self.producer;
        let batch = transactional("v", (id, epoch, sequence));
        append(&self.data, batch, Acks::All).await.unwrap();
    }

    async fn commit(&self) {
        let build = |reply| Request::End {
            id: "id".into(),
            end: End {
                producer: self.producer,
                commit: true,
                transaction_version: 0,
            },
            fresh_id: None,
            reply,
        };
        self.coordinator.ask(build).await.unwrap();
    }

    async fn state(&self) -> State {
        let id = "id".into();
        let described = self
            .coordinator
            .ask(|reply| Request::Describe { id, reply });
        described.await.unwrap().state
    }

    /// Moves `t-0`; only here can it have its marker.
    fn leads(&self, leader: BrokerId) {
        self.image.send_replace(image(&self.data, leader));
    }

    /// Has the log of the coordinator refuse writes, or take them again.
    async fn refuse(&self, refuses: bool) {
        let config = TopicConfig {
            min_insync_replicas: if refuses { 2 } else { 1 },
            ..TopicConfig::default()
        };
        let config = Arc::new(config);
        self.log.send(UpdateConfig { config }).await.unwrap();
    }

    /// Commits a transaction whose marker can't be written yet.
    async fn commit_without_marker(&self) {
        self.add().await.unwrap();
        self.write(0).await;
        self.leads(ELSEWHERE);
        self.commit().await;
    }

    /// Checks that the next transaction stays open, however long it takes.
    async fn next_stays_open(&self) {
        self.add().await.unwrap();
        let start = self.data.progress().high_watermark;
        self.write(1).await;
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(self.data.progress().last_stable_offset, start);
        assert_eq!(self.state().await, State::Ongoing);
    }
}

#[actix_rt::test]
async fn what_could_not_be_stored_leaves_no_marker_behind() {
    tokio::time::pause();
    let stage = Stage::new().await;
    stage.refuse(true).await;
    assert_eq!(stage.add().await, Err(ErrorCode::CoordinatorNotAvailable));
    stage.refuse(false).await;
    stage.commit_without_marker().await;
    tokio::time::sleep(A_WHILE).await;
    stage.leads(BROKER);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.state().await, State::CompleteCommit);
    // A record and its marker.
    assert_eq!(stage.data.progress().high_watermark, 2);
    stage.next_stays_open().await;
}

#[actix_rt::test]
async fn a_transaction_is_completed_when_that_can_be_stored() {
    tokio::time::pause();
    let stage = Stage::new().await;
    stage.commit_without_marker().await;
    stage.refuse(true).await;
    stage.leads(BROKER);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.state().await, State::PrepareCommit);
    assert_eq!(stage.add().await, Err(ErrorCode::ConcurrentTransactions));
    stage.refuse(false).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.state().await, State::CompleteCommit);
    stage.next_stays_open().await;
}

#[actix_rt::test]
async fn a_new_leader_completes_what_a_full_disk_held_up() {
    tokio::time::pause();
    let mut stage = Stage::new().await;
    stage.commit_without_marker().await;
    stage.storage.limit_room(Some(0));
    stage.leads(BROKER);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.state().await, State::PrepareCommit);
    // Room alone does not help: the log takes nothing after a write that failed.
    stage.storage.limit_room(None);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.state().await, State::PrepareCommit);
    stage.coordinator.stop().await;
    stage.log = led(&stage.storage).await;
    stage.coordinator = coordinator(&stage.log, &stage.image, 2).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.state().await, State::CompleteCommit);
    stage.next_stays_open().await;
}
