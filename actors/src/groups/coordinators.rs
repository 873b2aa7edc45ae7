//! The coordinators of this broker: one for each partition of `__consumer_offsets` that it leads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::OFFSETS_TOPIC;
use super::consumer::assign::Assignor;
use super::consumer::group::{ConsumerConfig, MigrationPolicy};
use super::consumer::topics::Topics;
use super::coordinator::{Coordinator, Start};
use super::group::GroupConfig;
use super::requests::{CoordinatorHandle, Request};
use crate::config::BrokerConfig;
use crate::internal_topic::coordinators::{Coordinating, Coordinators, Running, deleted_topics};
use crate::metadata::{BrokerId, MetadataImage};
use crate::partition::{Answer, PartitionHandle};
use crate::runtime::{Clock, Runtime};

/// Finds the coordinator of a group. Cheap to clone.
#[derive(Clone)]
pub struct GroupCoordinators {
    coordinators: Coordinators<Coordinator>,
    config: Arc<GroupConfig>,
}

impl GroupCoordinators {
    /// Starts to follow the metadata: coordinators come and go with the leadership of this broker.
    pub fn start(
        broker_id: BrokerId,
        config: &BrokerConfig,
        runtime: &Runtime,
        image: watch::Receiver<Arc<MetadataImage>>,
    ) -> Self {
        let groups = Arc::new(group_config(config));
        let coordinating = GroupCoordinating {
            config: Arc::clone(&groups),
            clock: Arc::clone(&runtime.clock),
            load_bytes: config.offsets_load_buffer_size,
            expiry_interval: Duration::from_millis(config.offsets_retention_check_interval_ms),
            topics: watch::Sender::new(Arc::default()),
        };
        Self {
            coordinators: Coordinators::start(
                broker_id,
                OFFSETS_TOPIC,
                runtime,
                image,
                coordinating,
            ),
            config: groups,
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
        self.coordinators.of(group)
    }

    /// Returns the coordinator of the groups of a partition.
    ///
    /// # Errors
    /// NOT_COORDINATOR when that is not here.
    pub(crate) fn of_partition(&self, partition: i32) -> Answer<CoordinatorHandle> {
        self.coordinators.of_partition(partition)
    }

    /// Returns all coordinators here.
    pub(crate) fn all(&self) -> Vec<CoordinatorHandle> {
        self.coordinators.all()
    }

    /// Waits until the coordinators of partitions that this broker leads have loaded their groups, but not for ever: one
    /// that still loads says so itself.
    pub(crate) async fn loaded(&self, partitions: &BTreeSet<i32>) {
        self.coordinators.loaded(partitions).await;
    }

    /// Ends all coordinators; who waits for one is told NOT_COORDINATOR.
    pub async fn stop(&self) {
        self.coordinators.stop().await;
    }
}

/// Starts coordinators of groups, and tells them of topics.
struct GroupCoordinating {
    config: Arc<GroupConfig>,
    clock: Arc<dyn Clock>,
    load_bytes: usize,
    expiry_interval: Duration,
    topics: watch::Sender<Arc<Topics>>,
}

impl Coordinating for GroupCoordinating {
    type Coordinator = Coordinator;

    fn prepare(
        &self,
        partition: PartitionHandle,
        _leader_epoch: i32,
        loaded: watch::Sender<bool>,
    ) -> impl FnOnce() -> Coordinator + Send + 'static {
        let start = Start {
            topics: self.topics.subscribe(),
            partition,
            config: Arc::clone(&self.config),
            clock: Arc::clone(&self.clock),
            loaded,
            load_bytes: self.load_bytes,
            expiry_interval: self.expiry_interval,
        };
        || Coordinator::new(start)
    }

    async fn changed(
        &self,
        before: &MetadataImage,
        now: &MetadataImage,
        running: &Running<CoordinatorHandle>,
    ) {
        let topics = self.topics.borrow().changed(now);
        if let Some(topics) = topics {
            self.topics.send_replace(Arc::new(topics));
        }
        let deleted = deleted_topics(before, now).map(|topic| Arc::clone(&topic.name));
        let deleted: BTreeSet<Arc<str>> = deleted.collect();
        if deleted.is_empty() {
            return;
        }
        let deleted = Arc::new(deleted);
        for (_, coordinator) in running.values() {
            let topics = Arc::clone(&deleted);
            coordinator.tell(Request::ForgetTopics { topics }).await;
        }
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
