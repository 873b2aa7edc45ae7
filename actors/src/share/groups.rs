//! The share partitions and share coordinators of this broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::coordinator::{self, CoordinatorHandle, Request, ShareCoordinator};
use super::live::{LiveHandle, LivePartition, Request as LiveRequest, Start};
use super::partition::Limits;
use super::sessions::ShareSessions;
use super::stored::Stored;
use super::{OffsetReset, STATE_TOPIC, ShareKey};
use crate::config::{BrokerConfig, GroupSettings};
use crate::internal_topic::coordinators::{Coordinating, Coordinators, Running, deleted_topics};
use crate::metadata::{BrokerId, MetadataImage};
use crate::partition::{Answer, PartitionHandle};
use crate::runtime::{Clock, Runtime};

/// Finds share partitions and share coordinators. Cheap to clone.
#[derive(Clone)]
pub struct ShareGroups(Arc<Inner>);

struct Inner {
    broker_id: BrokerId,
    runtime: Runtime,
    config: Arc<BrokerConfig>,
    image: watch::Receiver<Arc<MetadataImage>>,
    coordinators: Coordinators<ShareCoordinator>,
    sessions: ShareSessions,
    live: Mutex<BTreeMap<ShareKey, LiveHandle>>,
}

impl ShareGroups {
    /// Starts to follow the metadata: share coordinators come and go with the leadership of this broker.
    pub fn start(
        broker_id: BrokerId,
        config: &Arc<BrokerConfig>,
        runtime: &Runtime,
        image: watch::Receiver<Arc<MetadataImage>>,
    ) -> Self {
        Self(Arc::new(Inner {
            broker_id,
            runtime: runtime.clone(),
            config: Arc::clone(config),
            coordinators: Coordinators::start(
                broker_id,
                STATE_TOPIC,
                runtime,
                image.clone(),
                ShareCoordinating {
                    config: Arc::clone(config),
                    clock: Arc::clone(&runtime.clock),
                },
            ),
            image,
            sessions: ShareSessions::new(config.group_share_max_share_sessions),
            live: Mutex::default(),
        }))
    }

    /// Ends all share coordinators.
    pub async fn stop(&self) {
        self.0.coordinators.stop().await;
    }

    /// Returns the share sessions.
    pub(crate) fn sessions(&self) -> &ShareSessions {
        &self.0.sessions
    }

    /// Returns what the configuration says about a group.
    pub(crate) fn settings(&self, group: &str) -> GroupSettings {
        let image = self.0.image.borrow();
        GroupSettings::of(image.group_overrides(group), &self.0.config)
    }

    /// Returns what a group may do with a partition.
    pub(crate) fn limits(&self, settings: &GroupSettings) -> Limits {
        let config = &self.0.config;
        Limits {
            delivery_count: config.group_share_delivery_count_limit,
            record_locks: config.group_share_partition_max_record_locks,
            lock_duration_ms: settings.record_lock_duration_ms,
        }
    }

    /// Returns the share partition of a key, which comes up if it has to.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER when the partition, or its state, is not
    /// here.
    pub(crate) async fn live(&self, key: &ShareKey) -> Answer<LiveHandle> {
        let (partition, leader_epoch) = self.led_here(key)?;
        if let Some(live) = self.running(key) {
            return Ok(live);
        }
        let coordinator = self.coordinator(key).await;
        let coordinator = coordinator.map_err(|_| ErrorCode::NotLeaderOrFollower)?;
        let settings = self.settings(&key.group);
        let (changed, receiver) = watch::channel(0);
        let start = Start {
            key: key.clone(),
            partition: partition.clone(),
            leader_epoch,
            coordinator,
            reset: settings.auto_offset_reset,
            limits: self.limits(&settings),
            clock: Arc::clone(&self.0.runtime.clock),
            changed,
        };
        let mut all = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = all.get(key).filter(|live| live.is_running()) {
            return Ok(live.clone());
        }
        all.retain(|_, live| live.is_running());
        let threads = &self.0.runtime.logs;
        let addr = threads.start_actor(partition.thread(), move |_| LivePartition::new(start));
        let live = LiveHandle::new(addr, receiver, partition);
        all.insert(key.clone(), live.clone());
        Ok(live)
    }

    fn running(&self, key: &ShareKey) -> Option<LiveHandle> {
        let all = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|live| live.is_running()).cloned()
    }

    fn led_here(&self, key: &ShareKey) -> Answer<(PartitionHandle, i32)> {
        let image = self.0.image.borrow();
        let topic = image.topic_by_id(key.topic_id);
        let topic = topic.ok_or(ErrorCode::UnknownTopicId)?;
        let partition = topic.partition(key.partition);
        let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let here = partition.leader == self.0.broker_id;
        let local = partition.local.clone().filter(|_| here);
        let local = local.ok_or(ErrorCode::NotLeaderOrFollower)?;
        Ok((local, partition.leader_epoch))
    }

    /// Returns the share coordinator of a key; waits for one that is about to start.
    async fn coordinator(&self, key: &ShareKey) -> Answer<CoordinatorHandle> {
        let coordinators = &self.0.coordinators;
        let partition = coordinators.partition_of(&key.to_string());
        let partition = partition.ok_or(ErrorCode::CoordinatorNotAvailable)?;
        coordinators.started(partition).await
    }

    /// Lists the share partitions of a group with their states.
    pub(crate) async fn states(&self, group: &Arc<str>) -> Answer<Vec<(ShareKey, Stored)>> {
        let mut states = Vec::new();
        for coordinator in self.0.coordinators.all() {
            let group = Arc::clone(group);
            let found = coordinator.ask_when_loaded(|reply| Request::OfGroup { group, reply });
            states.extend(found.await?);
        }
        Ok(states)
    }

    /// Sets where a group goes on in a partition.
    pub(crate) async fn set_start_offset(&self, key: ShareKey, start_offset: i64) -> Answer<()> {
        let (_, leader_epoch) = self.led_here(&key)?;
        let coordinator = self.coordinator(&key).await?;
        self.end_live(|live| *live == key).await;
        let initialized = coordinator.ask_when_loaded(|reply| Request::Initialize {
            key,
            leader_epoch,
            start_offset,
            reply,
        });
        initialized.await.map(|_| ())
    }

    /// Deletes what is kept of a group: of one topic, or all.
    pub(crate) async fn delete(&self, group: &Arc<str>, topic_id: Option<Uuid>) -> Answer<()> {
        let of_topic = |key: &ShareKey| topic_id.is_none_or(|id| key.topic_id == id);
        self.end_live(|key| key.group == *group && of_topic(key))
            .await;
        for coordinator in self.0.coordinators.all() {
            let group = Arc::clone(group);
            let deleted = coordinator.ask_when_loaded(|reply| Request::Delete {
                group,
                topic_id,
                reply,
            });
            deleted.await?;
        }
        Ok(())
    }

    /// Ends share partitions; the next ones begin with what is stored then.
    async fn end_live(&self, ended: impl Fn(&ShareKey) -> bool) {
        let ended: Vec<LiveHandle> = {
            let all = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
            let live = all.iter().filter(|(key, _)| ended(key));
            live.map(|(_, live)| live.clone()).collect()
        };
        for live in ended {
            // One that is gone has ended already.
            let _ = live.ask(|reply| LiveRequest::Stop { reply }).await;
        }
    }
}

/// Starts share coordinators, and tells them of topics.
struct ShareCoordinating {
    config: Arc<BrokerConfig>,
    clock: Arc<dyn Clock>,
}

impl Coordinating for ShareCoordinating {
    type Coordinator = ShareCoordinator;

    fn prepare(
        &self,
        partition: PartitionHandle,
        _leader_epoch: i32,
        loaded: watch::Sender<bool>,
    ) -> impl FnOnce() -> ShareCoordinator + Send + 'static {
        let config = &self.config;
        let start = coordinator::Start {
            partition,
            clock: Arc::clone(&self.clock),
            loaded,
            load_bytes: config.share_coordinator_load_buffer_size,
            updates_per_snapshot: config.share_coordinator_snapshot_update_records_per_snapshot,
            prune_interval: Duration::from_millis(
                config.share_coordinator_state_topic_prune_interval_ms,
            ),
        };
        || ShareCoordinator::new(start)
    }

    async fn changed(
        &self,
        before: &MetadataImage,
        now: &MetadataImage,
        running: &Running<CoordinatorHandle>,
    ) {
        let deleted = deleted_topics(before, now).map(|topic| topic.id);
        let deleted: BTreeSet<Uuid> = deleted.collect();
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

impl OffsetReset {
    /// Reads `earliest`, `latest` or `by_duration:` with an ISO 8601 duration.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            lower => {
                let duration = lower.strip_prefix("by_duration:")?;
                duration_ms(duration).map(|ms| Self::ByDuration { ms })
            }
        }
    }
}

/// Reads an ISO 8601 duration (`pNdtNhNmN.Ns`, in lower case), in milliseconds.
fn duration_ms(text: &str) -> Option<i64> {
    let text = text.strip_prefix('p')?;
    let (days, time) = match text.split_once('t') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (text, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total = 0_i64;
    let (part, rest) = field(days, 'd')?;
    total = total.checked_add(part.checked_mul(86_400_000)?)?;
    if !rest.is_empty() {
        return None;
    }
    let (hours, rest) = field(time, 'h')?;
    let (minutes, rest) = field(rest, 'm')?;
    total = total.checked_add(hours.checked_mul(3_600_000)?)?;
    total = total.checked_add(minutes.checked_mul(60_000)?)?;
    let Some(seconds) = rest.strip_suffix('s') else {
        return rest.is_empty().then_some(total);
    };
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let digits = format!("{fraction:0<3}");
    let ms: i64 = digits.get(..3)?.parse().ok().filter(|ms| *ms >= 0)?;
    let whole: i64 = whole.parse().ok().filter(|whole| *whole >= 0)?;
    total
        .checked_add(whole.checked_mul(1_000)?)?
        .checked_add(ms)
}

/// Reads a number that ends with its unit, or 0 when that unit does not come next.
fn field(text: &str, unit: char) -> Option<(i64, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = text.split_at_checked(digits)?;
    match rest.strip_prefix(unit) {
        Some(rest) => Some((number.parse().ok()?, rest)),
        None => Some((0, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_those_of_kafka() {
        assert_eq!(OffsetReset::parse("EARLIEST"), Some(OffsetReset::Earliest));
        assert_eq!(OffsetReset::parse("latest"), Some(OffsetReset::Latest));
        let ms = |text| match OffsetReset::parse(text) {
            Some(OffsetReset::ByDuration { ms }) => Some(ms),
            _ => None,
        };
        assert_eq!(ms("by_duration:PT1H"), Some(3_600_000));
        assert_eq!(ms("by_duration:P1DT2H3M4.5S"), Some(93_784_500));
        assert_eq!(ms("by_duration:P2D"), Some(172_800_000));
        for wrong in [
            "none",
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:-PT1H",
            "by_duration:PT-1H",
            "by_duration:PT1H2",
            "by_duration:P99999999999999999999D",
        ] {
            assert_eq!(OffsetReset::parse(wrong), None, "{wrong}");
        }
    }
}
