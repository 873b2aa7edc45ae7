//! Keeps one coordinator running beside each partition of an internal topic that this broker leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::sync::watch;

use crate::metadata::{BrokerId, MetadataImage};
use crate::partition::PartitionHandle;

/// How long to wait before one that has panicked starts again: it may well panic again.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How long a client that looks for its coordinators waits until they have loaded.
const LOAD_PATIENCE: Duration = Duration::from_secs(10);

/// Reaches something that runs beside a partition.
pub(crate) trait Companion: Clone {
    /// Ends it.
    fn stop(&self) -> impl Future<Output = ()>;

    /// Waits until it has ended: by [`stop`](Self::stop), or by a panic.
    fn ended(&self) -> impl Future<Output = ()>;

    /// Waits until it has loaded, or has ended.
    fn ready(&self) -> impl Future<Output = ()>;
}

/// What runs now, by partition.
pub(crate) type Running<H> = BTreeMap<i32, (PartitionEpoch, H)>;

/// What a coordinator belongs to: another replica or another leadership is another one's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionEpoch {
    topic_id: uuid::Uuid,
    leader_epoch: i32,
    /// Which of the replica's leaderships: there may be two in one epoch.
    leadership: u64,
}

/// Waits until the coordinators of partitions that this broker leads have loaded, but not for ever, however many they
/// are: one that still loads says so itself.
pub(crate) async fn all_ready<H: Companion>(
    running: &watch::Receiver<Arc<Running<H>>>,
    partitions: &BTreeSet<i32>,
) {
    let mut running = running.clone();
    let loaded = async {
        for partition in partitions {
            let found = running.wait_for(|running| running.contains_key(partition));
            let found = found.await.map(|running| running.get(partition).cloned());
            let Ok(Some((_, companion))) = found else {
                return;
            };
            companion.ready().await;
        }
    };
    // Whether they are there now or not, the client goes on.
    let _ = tokio::time::timeout(LOAD_PATIENCE, loaded).await;
}

/// Starts and stops coordinators as the metadata says.
pub(crate) struct Led<H> {
    broker_id: BrokerId,
    topic: &'static str,
    running: watch::Sender<Arc<Running<H>>>,
}

impl<H: Companion> Led<H> {
    /// Takes charge of the partitions of a topic; nothing runs yet.
    pub(crate) fn new(
        broker_id: BrokerId,
        topic: &'static str,
    ) -> (Self, watch::Receiver<Arc<Running<H>>>) {
        let (running, receiver) = watch::channel(Arc::new(Running::new()));
        let led = Self {
            broker_id,
            topic,
            running,
        };
        (led, receiver)
    }

    /// Returns what runs now.
    pub(crate) fn running(&self) -> Arc<Running<H>> {
        Arc::clone(&self.running.borrow())
    }

    /// Ends what an image does not ask for any more, then starts by `start`, from replica and leader epoch, what it asks
    /// for. In this order: a successor reads the log, and nothing may be written behind its back.
    pub(crate) async fn follow(
        &self,
        image: &MetadataImage,
        start: impl Fn(PartitionHandle, i32) -> H,
    ) {
        let wanted = self.led_here(image);
        let mut running = Running::clone(&self.running.borrow());
        let stale: Vec<i32> = running
            .iter()
            .filter(|(partition, (epoch, companion))| {
                let is_wanted = wanted.get(partition).map(|(epoch, _)| epoch) == Some(epoch);
                !is_wanted || self.has_panicked(**partition, companion)
            })
            .map(|(&partition, _)| partition)
            .collect();
        let ended: Vec<_> = stale
            .iter()
            .filter_map(|partition| running.remove(partition))
            .collect();
        if !ended.is_empty() {
            self.running.send_replace(Arc::new(running.clone()));
        }
        for (_, companion) in ended {
            companion.stop().await;
        }
        let count = running.len();
        for (partition, (epoch, replica)) in wanted {
            running.entry(partition).or_insert_with(|| {
                let companion = start(replica, epoch.leader_epoch);
                (epoch, companion)
            });
        }
        if running.len() > count {
            self.running.send_replace(Arc::new(running));
        }
    }

    /// Waits until one of those that run has panicked, and some time more. [`follow`](Self::follow) starts it again.
    pub(crate) async fn one_panicked(&self) {
        let running = self.running();
        let ended = running.values().map(|(_, one)| Box::pin(one.ended()));
        let ended: Vec<_> = ended.collect();
        if ended.is_empty() {
            return std::future::pending().await;
        }
        select_all(ended).await;
        actix_rt::time::sleep(RESTART_DELAY).await;
    }

    fn has_panicked(&self, partition: i32, companion: &H) -> bool {
        let has_ended = companion.ended().now_or_never().is_some();
        if has_ended {
            let topic = self.topic;
            tracing::error!("the coordinator of {topic}-{partition} has panicked; it starts again");
        }
        has_ended
    }

    fn led_here(&self, image: &MetadataImage) -> BTreeMap<i32, (PartitionEpoch, PartitionHandle)> {
        let Some(topic) = image.topic(self.topic) else {
            return BTreeMap::new();
        };
        (0..)
            .zip(&topic.partitions)
            .filter(|(_, partition)| partition.leader == self.broker_id)
            .filter_map(|(number, partition)| {
                let replica = partition.local.clone()?;
                let epoch = PartitionEpoch {
                    topic_id: topic.id,
                    leader_epoch: partition.leader_epoch,
                    leadership: replica.progress().leaderships,
                };
                Some((number, (epoch, replica)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    use super::super::testing::image;
    use super::*;
    use crate::config::TopicConfig;
    use crate::partition::messages::Resign;
    use crate::partition::testing::{BROKER, EPOCH, TestClock, lead, open};
    use crate::storage::memory::MemoryStorage;

    /// Notes when it starts and when it has ended.
    #[derive(Clone)]
    struct Noting {
        epoch: i32,
        notes: Rc<RefCell<Vec<String>>>,
        alive: CancellationToken,
    }

    impl Noting {
        fn start(notes: &Rc<RefCell<Vec<String>>>, epoch: i32) -> Self {
            notes.borrow_mut().push(format!("start {epoch}"));
            Self {
                epoch,
                notes: Rc::clone(notes),
                alive: CancellationToken::new(),
            }
        }
    }

    impl Companion for Noting {
        async fn stop(&self) {
            tokio::task::yield_now().await;
            self.notes.borrow_mut().push(format!("end {}", self.epoch));
        }

        async fn ended(&self) {
            self.alive.cancelled().await;
        }

        async fn ready(&self) {}
    }

    /// Loads until it is told that it has.
    #[derive(Clone)]
    struct Loading(CancellationToken);

    impl Companion for Loading {
        async fn stop(&self) {}

        async fn ended(&self) {
            std::future::pending().await
        }

        async fn ready(&self) {
            self.0.cancelled().await;
        }
    }

    #[actix_rt::test]
    async fn one_has_ended_before_its_successor_starts() {
        let storage = Arc::new(MemoryStorage::new());
        let replica = open(&storage, &TestClock::new(1), TopicConfig::default(), true);
        let notes = Rc::new(RefCell::new(Vec::new()));
        let (led, running) = Led::new(BROKER, "t");
        let start = |_, epoch| Noting::start(&notes, epoch);
        let first = image(&replica, 4);
        led.follow(&first, start).await;
        led.follow(&first, start).await;
        led.follow(&image(&replica, 5), start).await;
        assert_eq!(running.borrow().get(&0).map(|(_, one)| one.epoch), Some(5));
        led.follow(&MetadataImage::default(), start).await;
        assert!(running.borrow().is_empty());
        assert_eq!(*notes.borrow(), ["start 4", "end 4", "start 5", "end 5"]);
    }

    /// The image between the two leaderships may go unseen.
    #[actix_rt::test]
    async fn another_leadership_in_the_same_epoch_has_another_one() {
        let storage = Arc::new(MemoryStorage::new());
        let replica = open(&storage, &TestClock::new(1), TopicConfig::default(), true);
        let notes = Rc::new(RefCell::new(Vec::new()));
        let (led, _running) = Led::new(BROKER, "t");
        let start = |_, epoch| Noting::start(&notes, epoch);
        let image = image(&replica, EPOCH);
        lead(&replica, &[BROKER]).await;
        led.follow(&image, start).await;
        replica.ask(|reply| Resign { reply }).await.unwrap();
        lead(&replica, &[BROKER]).await;
        led.follow(&image, start).await;
        assert_eq!(*notes.borrow(), ["start 3", "end 3", "start 3"]);
    }

    #[actix_rt::test]
    async fn one_that_panicked_starts_again() {
        tokio::time::pause();
        let storage = Arc::new(MemoryStorage::new());
        let replica = open(&storage, &TestClock::new(1), TopicConfig::default(), true);
        let notes = Rc::new(RefCell::new(Vec::new()));
        let (led, running) = Led::new(BROKER, "t");
        let start = |_, epoch| Noting {
            epoch,
            notes: Rc::clone(&notes),
            alive: CancellationToken::new(),
        };
        let image = image(&replica, 4);
        led.follow(&image, start).await;
        let alive = || running.borrow()[&0].1.alive.clone();
        assert!(led.one_panicked().now_or_never().is_none());
        let first = alive();
        first.cancel();
        led.one_panicked().await;
        led.follow(&image, start).await;
        assert!(first.is_cancelled() && !alive().is_cancelled());
    }

    #[actix_rt::test]
    async fn whoever_asks_for_many_that_load_waits_once() {
        tokio::time::pause();
        let loaded = CancellationToken::new();
        let epoch = PartitionEpoch {
            topic_id: Uuid::from_u128(7),
            leader_epoch: 1,
            leadership: 1,
        };
        let one = || (epoch.clone(), Loading(loaded.clone()));
        let running: Running<Loading> = (0..3).map(|partition| (partition, one())).collect();
        let (_running, receiver) = watch::channel(Arc::new(running));
        // The last one does not even run.
        let partitions = BTreeSet::from([0, 1, 2, 3]);
        let asked = Instant::now();
        all_ready(&receiver, &partitions).await;
        assert!((LOAD_PATIENCE..LOAD_PATIENCE * 2).contains(&asked.elapsed()));
        loaded.cancel();
        let running = BTreeSet::from([0, 1, 2]);
        let waited = all_ready(&receiver, &running).now_or_never();
        assert!(waited.is_some());
    }
}
