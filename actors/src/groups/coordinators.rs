//! The coordinators of this broker: one for each partition of `__consumer_offsets` that it leads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use troupe_protocol::kafka::errors::ErrorCode;

use super::OFFSETS_TOPIC;
use super::consumer::assign::Assignor;
use super::consumer::group::{ConsumerConfig, MigrationPolicy};
use super::consumer::topics::Topics;
use super::coordinator::{Coordinator, Start};
use super::group::GroupConfig;
use super::requests::{CoordinatorHandle, Request};
use crate::config::BrokerConfig;
use crate::internal_topic::led::{Led, Running, all_ready};
use crate::internal_topic::partition_of;
use crate::metadata::{BrokerId, MetadataImage};
use crate::partition::{Answer, PartitionHandle};
use crate::runtime::Runtime;

/// Finds the coordinator of a group. Cheap to clone.
#[derive(Clone)]
pub struct GroupCoordinators {
    image: watch::Receiver<Arc<MetadataImage>>,
    running: watch::Receiver<Arc<Running<CoordinatorHandle>>>,
    config: Arc<GroupConfig>,
    end: CancellationToken,
}

impl GroupCoordinators {
    /// Starts to follow the metadata: coordinators come and go with the leadership of this broker.
    pub fn start(
        broker_id: BrokerId,
        config: &BrokerConfig,
        runtime: &Runtime,
        image: watch::Receiver<Arc<MetadataImage>>,
    ) -> Self {
        let (led, running) = Led::new(broker_id, OFFSETS_TOPIC);
        let end = CancellationToken::new();
        let groups = Arc::new(group_config(config));
        let following = Following {
            led,
            runtime: runtime.clone(),
            config: Arc::clone(&groups),
            load_bytes: config.offsets_load_buffer_size,
            expiry_interval: Duration::from_millis(config.offsets_retention_check_interval_ms),
            topics: watch::Sender::new(Arc::default()),
        };
        actix_rt::spawn(following.run(image.clone(), end.clone()));
        Self {
            image,
            running,
            config: groups,
            end,
        }
    }

    /// Returns what the configuration says about groups.
    pub(crate) fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// Returns the coordinator of a group.
    ///
    /// # Errors
    /// NOT_COORDINATOR when that is not here.
    pub(crate) fn of(&self, group: &str) -> Answer<CoordinatorHandle> {
        let image = self.image.borrow();
        let topic = image.topic(OFFSETS_TOPIC);
        let count = topic.map_or(0, |topic| topic.partitions.len());
        self.of_partition(partition_of(
            group,
            i32::try_from(count).unwrap_or(i32::MAX),
        ))
    }

    /// Returns the coordinator of the groups of a partition.
    ///
    /// # Errors
    /// NOT_COORDINATOR when that is not here.
    pub(crate) fn of_partition(&self, partition: i32) -> Answer<CoordinatorHandle> {
        let running = self.running.borrow();
        let found = running.get(&partition);
        found
            .map(|(_, coordinator)| coordinator.clone())
            .ok_or(ErrorCode::NotCoordinator)
    }

    /// Returns all coordinators here.
    pub(crate) fn all(&self) -> Vec<CoordinatorHandle> {
        let running = self.running.borrow();
        running
            .values()
            .map(|(_, coordinator)| coordinator.clone())
            .collect()
    }

    /// Waits until the coordinators of partitions that this broker leads have loaded their groups, as [`all_ready`] does.
    pub(crate) async fn loaded(&self, partitions: &BTreeSet<i32>) {
        all_ready(&self.running, partitions).await;
    }

    /// Ends all coordinators; who waits for one is told NOT_COORDINATOR.
    pub async fn stop(&self) {
        self.end.cancel();
        let mut running = self.running.clone();
        // The sender goes when the last coordinator has ended.
        while running.changed().await.is_ok() {}
    }
}

/// Follows the metadata.
struct Following {
    led: Led<CoordinatorHandle>,
    runtime: Runtime,
    config: Arc<GroupConfig>,
    load_bytes: usize,
    expiry_interval: Duration,
    topics: watch::Sender<Arc<Topics>>,
}

impl Following {
    async fn run(self, mut image: watch::Receiver<Arc<MetadataImage>>, end: CancellationToken) {
        let mut before = Arc::new(MetadataImage::default());
        let start = |partition, _| self.start(partition);
        loop {
            let current = Arc::clone(&image.borrow_and_update());
            let topics = self.topics.borrow().changed(&current);
            if let Some(topics) = topics {
                self.topics.send_replace(Arc::new(topics));
            }
            self.forget_deleted(&before, &current).await;
            self.led.follow(&current, start).await;
            before = current;
            tokio::select! {
                changed = image.changed() => if changed.is_err() { break },
                () = self.led.one_panicked() => {}
                () = end.cancelled() => break,
            }
        }
        self.led.follow(&MetadataImage::default(), start).await;
    }

    /// Tells the coordinators which topics are no more.
    async fn forget_deleted(&self, before: &MetadataImage, now: &MetadataImage) {
        let deleted = before.topics().filter(|topic| {
            let same_name = now.topic(&topic.name);
            same_name.is_none_or(|successor| successor.id != topic.id)
        });
        let deleted: BTreeSet<Arc<str>> = deleted.map(|topic| Arc::clone(&topic.name)).collect();
        if deleted.is_empty() {
            return;
        }
        let (deleted, running) = (Arc::new(deleted), self.led.running());
        for (_, coordinator) in running.values() {
            let topics = Arc::clone(&deleted);
            coordinator.tell(Request::ForgetTopics { topics }).await;
        }
    }

    fn start(&self, partition: PartitionHandle) -> CoordinatorHandle {
        let (sender, loaded) = watch::channel(false);
        let thread = partition.thread();
        let start = Start {
            topics: self.topics.subscribe(),
            partition,
            config: Arc::clone(&self.config),
            clock: Arc::clone(&self.runtime.clock),
            loaded: sender,
            load_bytes: self.load_bytes,
            expiry_interval: self.expiry_interval,
        };
        let addr = self
            .runtime
            .logs
            .start_actor(thread, move |_| Coordinator::new(start));
        CoordinatorHandle::new(addr, loaded)
    }
}

fn group_config(config: &BrokerConfig) -> GroupConfig {
    let ms = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    GroupConfig {
        initial_rebalance_delay_ms: ms(config.group_initial_rebalance_delay_ms),
        min_session_timeout_ms: config.group_min_session_timeout_ms,
        max_session_timeout_ms: config.group_max_session_timeout_ms,
        max_size: config.group_max_size,
        offset_metadata_max_bytes: config.offset_metadata_max_bytes,
        offsets_retention_ms: ms(config.offsets_retention_minutes.saturating_mul(60_000)),
        consumer: consumer_config(config),
    }
}

fn consumer_config(config: &BrokerConfig) -> ConsumerConfig {
    let policy = config.group_consumer_migration_policy.to_ascii_lowercase();
    let assignors = config.group_consumer_assignors.iter();
    ConsumerConfig {
        heartbeat_interval_ms: config.group_consumer_heartbeat_interval_ms,
        session_timeout_ms: config.group_consumer_session_timeout_ms,
        max_size: config.group_consumer_max_size,
        classic_max_size: config.group_max_size,
        assignors: assignors.filter_map(|name| assignor(name)).collect(),
        migration: MigrationPolicy {
            upgrade: matches!(&*policy, "upgrade" | "bidirectional"),
            downgrade: matches!(&*policy, "downgrade" | "bidirectional"),
        },
    }
}

/// Finds an assignor by its name, or by the class that has it in Kafka.
fn assignor(name: &str) -> Option<Assignor> {
    let class = name.rsplit('.').next().unwrap_or(name);
    match class {
        "UniformAssignor" => Some(Assignor::Uniform),
        "RangeAssignor" => Some(Assignor::Range),
        name => Assignor::named(name),
    }
}
