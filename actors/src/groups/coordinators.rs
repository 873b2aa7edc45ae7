//! The coordinators of this broker: one for each partition of `__consumer_offsets` that it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use troupe_protocol::kafka::errors::ErrorCode;

use super::coordinator::{Coordinator, Start};
use super::group::GroupConfig;
use super::requests::CoordinatorHandle;
use super::{OFFSETS_TOPIC, partition_of};
use crate::config::BrokerConfig;
use crate::metadata::{BrokerId, MetadataImage};
use crate::partition::{Answer, PartitionHandle};
use crate::runtime::Runtime;

/// How long a client that looks for its coordinator waits until that has loaded its groups.
const LOAD_PATIENCE: Duration = Duration::from_secs(10);

/// Running coordinators by partition.
type Running = BTreeMap<i32, (PartitionEpoch, CoordinatorHandle)>;

/// What a coordinator belongs to: another replica or another leadership is another one's business.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PartitionEpoch {
    topic_id: uuid::Uuid,
    leader_epoch: i32,
}

/// Finds the coordinator of a group. Cheap to clone.
#[derive(Clone)]
pub struct GroupCoordinators {
    image: watch::Receiver<Arc<MetadataImage>>,
    running: watch::Receiver<Arc<Running>>,
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
        let (sender, running) = watch::channel(Arc::new(Running::new()));
        let end = CancellationToken::new();
        let groups = Arc::new(group_config(config));
        let following = Following {
            broker_id,
            runtime: runtime.clone(),
            config: Arc::clone(&groups),
            load_bytes: config.offsets_load_buffer_size,
            expiry_interval: Duration::from_millis(config.offsets_retention_check_interval_ms),
            running: sender,
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
        let partition = partition_of(group, i32::try_from(count).unwrap_or(i32::MAX));
        let running = self.running.borrow();
        let found = running.get(&partition).filter(|_| count > 0);
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

    /// Waits until the coordinator of a partition that this broker leads has loaded its groups, but not for ever: one
    /// that still loads says so itself.
    pub(crate) async fn loaded(&self, partition: i32) {
        // Whether it is there now or not, the client goes on.
        let _ = tokio::time::timeout(LOAD_PATIENCE, self.wait_until_loaded(partition)).await;
    }

    async fn wait_until_loaded(&self, partition: i32) {
        let mut running = self.running.clone();
        let Ok(found) = running
            .wait_for(|running| running.contains_key(&partition))
            .await
            .map(|running| running.get(&partition).cloned())
        else {
            return;
        };
        if let Some((_, coordinator)) = found {
            coordinator.loaded().await;
        }
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
    broker_id: BrokerId,
    runtime: Runtime,
    config: Arc<GroupConfig>,
    load_bytes: usize,
    expiry_interval: Duration,
    running: watch::Sender<Arc<Running>>,
}

impl Following {
    async fn run(self, mut image: watch::Receiver<Arc<MetadataImage>>, end: CancellationToken) {
        let mut before = Arc::new(MetadataImage::default());
        loop {
            let current = Arc::clone(&image.borrow_and_update());
            self.forget_deleted(&before, &current).await;
            self.follow(&current).await;
            before = current;
            tokio::select! {
                changed = image.changed() => if changed.is_err() { break },
                () = end.cancelled() => break,
            }
        }
        self.follow(&MetadataImage::default()).await;
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
        let (deleted, running) = (Arc::new(deleted), Arc::clone(&self.running.borrow()));
        for (_, coordinator) in running.values() {
            coordinator.forget(Arc::clone(&deleted)).await;
        }
    }

    /// Starts the coordinators that an image asks for, and ends the others.
    async fn follow(&self, image: &MetadataImage) {
        let wanted = self.led_here(image);
        let mut running = Running::clone(&self.running.borrow());
        let stale: Vec<i32> = running
            .iter()
            .filter(|(partition, (epoch, _))| {
                wanted.get(partition).map(|(epoch, _)| epoch) != Some(epoch)
            })
            .map(|(&partition, _)| partition)
            .collect();
        let ended: Vec<_> = stale
            .iter()
            .filter_map(|partition| running.remove(partition))
            .collect();
        let count = running.len();
        for (partition, (epoch, replica)) in wanted {
            running
                .entry(partition)
                .or_insert_with(|| (epoch, self.start(replica)));
        }
        if !ended.is_empty() || running.len() > count {
            self.running.send_replace(Arc::new(running));
        }
        for (_, coordinator) in ended {
            coordinator.stop().await;
        }
    }

    fn led_here(&self, image: &MetadataImage) -> BTreeMap<i32, (PartitionEpoch, PartitionHandle)> {
        let Some(topic) = image.topic(OFFSETS_TOPIC) else {
            return BTreeMap::new();
        };
        (0..)
            .zip(&topic.partitions)
            .filter(|(_, partition)| partition.leader == self.broker_id)
            .filter_map(|(number, partition)| {
                let epoch = PartitionEpoch {
                    topic_id: topic.id,
                    leader_epoch: partition.leader_epoch,
                };
                Some((number, (epoch, partition.local.clone()?)))
            })
            .collect()
    }

    fn start(&self, partition: PartitionHandle) -> CoordinatorHandle {
        let (sender, loaded) = watch::channel(false);
        let thread = partition.thread();
        let start = Start {
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
    }
}
