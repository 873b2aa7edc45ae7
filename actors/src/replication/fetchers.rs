//! The fetchers of a broker, and who is followed by which: [`Fetchers`].

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::fetcher::{self, Settings};
use crate::config::{BrokerConfig, Listener};
use crate::metadata::BrokerId;
use crate::partition::{PartitionHandle, TopicPartition};
use crate::runtime::Runtime;

/// Follows leaders on other brokers. Cheap to clone.
///
/// There are `num.replica.fetchers` tasks for each leader. What they are to do is not sent to them but lies where they
/// look before each fetch, so nothing queues up.
#[derive(Clone)]
pub struct Fetchers(Arc<Inner>);

struct Inner {
    settings: Arc<Settings>,
    runtime: Runtime,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fetchers: BTreeMap<Key, Running>,
    /// The fetcher of each partition.
    of: BTreeMap<TopicPartition, Key>,
    /// Counts orders.
    orders: u64,
    closed: bool,
}

/// A leader, and the number of one of its fetchers.
type Key = (BrokerId, usize);

struct Running {
    assignment: Arc<Assignment>,
    ended: oneshot::Receiver<()>,
}

/// What a fetcher is to do.
#[derive(Default)]
pub(super) struct Assignment {
    orders: Mutex<Orders>,
    /// Told of every change.
    pub(super) changed: Notify,
}

/// The orders to a fetcher as they are now.
#[derive(Default, Clone)]
pub(super) struct Orders {
    /// Counts changes.
    pub(super) version: u64,
    /// Where the leader is.
    pub(super) address: Option<Listener>,
    /// What to follow.
    pub(super) partitions: BTreeMap<TopicPartition, Followed>,
    /// Whether to end.
    pub(super) closed: bool,
}

/// A partition to follow.
#[derive(Clone)]
pub(super) struct Followed {
    /// Tells this order from earlier ones for the partition.
    pub(super) order: u64,
    pub(super) replica: PartitionHandle,
    pub(super) leader_epoch: i32,
}

impl Assignment {
    pub(super) fn orders(&self) -> MutexGuard<'_, Orders> {
        // Nothing here panics half-way.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Orders)) {
        let mut orders = self.orders();
        orders.version += 1;
        change(&mut orders);
        drop(orders);
        self.changed.notify_one();
    }
}

impl Fetchers {
    /// Makes the fetchers of a broker; there are none yet.
    pub fn new(broker_id: BrokerId, config: &BrokerConfig, runtime: Runtime) -> Self {
        Self(Arc::new(Inner {
            settings: Arc::new(Settings::new(broker_id, config, runtime.network.clone())),
            runtime,
            state: Mutex::default(),
        }))
    }

    /// Follows a leader from now on, instead of any earlier one. The replica has to know that it follows in this epoch.
    ///
    /// An order for a partition that is followed already, as after FENCED_LEADER_EPOCH, begins anew.
    pub fn follow(
        &self,
        replica: PartitionHandle,
        leader: BrokerId,
        address: &Listener,
        leader_epoch: i32,
    ) {
        let topic_partition = replica.topic_partition().clone();
        let mut state = self.state();
        if state.closed {
            return;
        }
        let key = (leader, self.number(&topic_partition));
        let earlier = state.of.insert(topic_partition.clone(), key);
        if let Some(running) = earlier
            .filter(|earlier| *earlier != key)
            .and_then(|earlier| state.fetchers.get(&earlier))
        {
            running.assignment.change(|orders| {
                orders.partitions.remove(&topic_partition);
            });
        }
        state.orders += 1;
        let followed = Followed {
            order: state.orders,
            replica,
            leader_epoch,
        };
        let running = state.fetchers.entry(key).or_insert_with(|| self.start(key));
        running.assignment.change(|orders| {
            orders.address = Some(address.clone());
            orders.partitions.insert(topic_partition, followed);
        });
    }

    /// Follows a partition no more. What was fetched already may still be appended, unless the replica has another role.
    pub fn unfollow(&self, topic_partition: &TopicPartition) {
        let mut state = self.state();
        let key = state.of.remove(topic_partition);
        if let Some(running) = key.and_then(|key| state.fetchers.get(&key)) {
            running.assignment.change(|orders| {
                orders.partitions.remove(topic_partition);
            });
        }
    }

    /// Ends all fetchers for good, and waits until they are over.
    pub async fn shutdown(&self) {
        let fetchers = {
            let mut state = self.state();
            state.closed = true;
            state.of.clear();
            std::mem::take(&mut state.fetchers)
        };
        for running in fetchers.values() {
            running.assignment.change(|orders| orders.closed = true);
        }
        for running in fetchers.into_values() {
            let _ = running.ended.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here panics half-way.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self, topic_partition: &TopicPartition) -> usize {
        let mut hasher = DefaultHasher::new();
        topic_partition.hash(&mut hasher);
        let hash = usize::try_from(hasher.finish() >> 32).unwrap_or_default();
        hash % self.0.settings.fetchers_per_leader
    }

    fn start(&self, (leader, number): Key) -> Running {
        let assignment = Arc::new(Assignment::default());
        let (done, ended) = oneshot::channel();
        let (settings, orders) = (Arc::clone(&self.0.settings), Arc::clone(&assignment));
        let place = usize::try_from(leader)
            .unwrap_or_default()
            .wrapping_add(number);
        self.0.runtime.gateway.spawn(place, move || async move {
            fetcher::run(settings, leader, orders).await;
            let _ = done.send(());
        });
        Running { assignment, ended }
    }
}
