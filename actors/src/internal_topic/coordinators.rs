//! The coordinators of this broker for one internal topic: one for each partition of it that the broker leads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Context, Handler};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use troupe_protocol::kafka::errors::ErrorCode;

use super::handle::{CoordinatorHandle, Stop};
pub(crate) use super::led::Running;
use super::led::{Led, all_ready};
use super::partition_of;
use crate::metadata::{BrokerId, MetadataImage, TopicImage};
use crate::partition::{Answer, PartitionHandle};
use crate::runtime::Runtime;

/// How long to wait for a coordinator that is about to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// What starts beside a partition, and hears of the metadata.
pub(crate) trait Coordinating: 'static {
    /// The actor.
    type Coordinator: Actor<Context = Context<Self::Coordinator>> + Handler<Stop>;

    /// Prepares a coordinator, to be made on the thread of the partition. `loaded` says whether it has read that.
    fn prepare(
        &self,
        partition: PartitionHandle,
        leader_epoch: i32,
        loaded: watch::Sender<bool>,
    ) -> impl FnOnce() -> Self::Coordinator + Send + 'static;

    /// Hears what the metadata were and are, before coordinators come and go by that.
    async fn changed(
        &self,
        _before: &MetadataImage,
        _now: &MetadataImage,
        _running: &Running<CoordinatorHandle<Self::Coordinator>>,
    ) {
    }
}

/// Finds coordinators by what they coordinate. Cheap to clone.
pub(crate) struct Coordinators<A: Actor> {
    topic: &'static str,
    image: watch::Receiver<Arc<MetadataImage>>,
    running: watch::Receiver<Arc<Running<CoordinatorHandle<A>>>>,
    end: CancellationToken,
}

impl<A: Actor> Clone for Coordinators<A> {
    fn clone(&self) -> Self {
        Self {
            topic: self.topic,
            image: self.image.clone(),
            running: self.running.clone(),
            end: self.end.clone(),
        }
    }
}

impl<A> Coordinators<A>
where
    A: Actor<Context = Context<A>> + Handler<Stop>,
{
    /// Starts to follow the metadata: coordinators come and go with the leadership of this broker.
    pub(crate) fn start(
        broker_id: BrokerId,
        topic: &'static str,
        runtime: &Runtime,
        image: watch::Receiver<Arc<MetadataImage>>,
        coordinating: impl Coordinating<Coordinator = A>,
    ) -> Self {
        let (led, running) = Led::new(broker_id, topic);
        let end = CancellationToken::new();
        let following = Following {
            led,
            runtime: runtime.clone(),
            coordinating,
        };
        actix_rt::spawn(following.run(image.clone(), end.clone()));
        Self {
            topic,
            image,
            running,
            end,
        }
    }

    /// Waits until the coordinators of partitions that this broker leads have loaded, as [`all_ready`] does.
    pub(crate) async fn loaded(&self, partitions: &BTreeSet<i32>) {
        all_ready(&self.running, partitions).await;
    }
}

impl<A: Actor> Coordinators<A> {
    /// Returns the partition that a key belongs to; `None` while there is no topic.
    pub(crate) fn partition_of(&self, key: &str) -> Option<i32> {
        let count = self.image.borrow().topic(self.topic)?.partitions.len();
        let count = i32::try_from(count).ok().filter(|count| *count > 0)?;
        Some(partition_of(key, count))
    }

    /// Returns the coordinator of a key.
    ///
    /// # Errors
    /// NOT_COORDINATOR when that is not here.
    pub(crate) fn of(&self, key: &str) -> Answer<CoordinatorHandle<A>> {
        let partition = self.partition_of(key).ok_or(ErrorCode::NotCoordinator)?;
        self.of_partition(partition)
    }

    /// Returns the coordinator of a partition.
    ///
    /// # Errors
    /// NOT_COORDINATOR when that is not here.
    pub(crate) fn of_partition(&self, partition: i32) -> Answer<CoordinatorHandle<A>> {
        let running = self.running.borrow();
        let found = running.get(&partition);
        found
            .map(|(_, coordinator)| coordinator.clone())
            .ok_or(ErrorCode::NotCoordinator)
    }

    /// Returns all coordinators here.
    pub(crate) fn all(&self) -> Vec<CoordinatorHandle<A>> {
        let running = self.running.borrow();
        let all = running.values().map(|(_, coordinator)| coordinator.clone());
        all.collect()
    }

    /// Returns the coordinator of a partition that this broker leads; waits a while for one that is about to start.
    ///
    /// # Errors
    /// NOT_COORDINATOR when that is not here even then.
    pub(crate) async fn started(&self, partition: i32) -> Answer<CoordinatorHandle<A>> {
        let mut running = self.running.clone();
        let starting = running.wait_for(|running| running.contains_key(&partition));
        // Whether it is there now or not is seen below.
        let _ = tokio::time::timeout(PATIENCE, starting).await;
        self.of_partition(partition)
    }

    /// Ends all coordinators; who waits for one is told NOT_COORDINATOR.
    pub(crate) async fn stop(&self) {
        self.end.cancel();
        let mut running = self.running.clone();
        // The sender goes when the last coordinator has ended.
        while running.changed().await.is_ok() {}
    }
}

/// Lists the topics that are no more; another one may have the name.
pub(crate) fn deleted_topics<'i>(
    before: &'i MetadataImage,
    now: &'i MetadataImage,
) -> impl Iterator<Item = &'i Arc<TopicImage>> {
    let topics = before.topics();
    topics.filter(|topic| now.topic_by_id(topic.id).is_none())
}

/// Follows the metadata.
struct Following<C: Coordinating> {
    led: Led<CoordinatorHandle<C::Coordinator>>,
    runtime: Runtime,
    coordinating: C,
}

impl<C: Coordinating> Following<C>
where
    Context<C::Coordinator>: ToEnvelope<C::Coordinator, Stop>,
{
    async fn run(self, mut image: watch::Receiver<Arc<MetadataImage>>, end: CancellationToken) {
        let mut before = Arc::new(MetadataImage::default());
        let start = |partition, leader_epoch| self.start(partition, leader_epoch);
        loop {
            let now = Arc::clone(&image.borrow_and_update());
            let running = self.led.running();
            self.coordinating.changed(&before, &now, &running).await;
            self.led.follow(&now, start).await;
            before = now;
            tokio::select! {
                changed = image.changed() => if changed.is_err() { break },
                () = self.led.one_panicked() => {}
                () = end.cancelled() => break,
            }
        }
        self.led.follow(&MetadataImage::default(), start).await;
    }

    fn start(
        &self,
        partition: PartitionHandle,
        leader_epoch: i32,
    ) -> CoordinatorHandle<C::Coordinator> {
        let (sender, loaded) = watch::channel(false);
        let thread = partition.thread();
        let make = self.coordinating.prepare(partition, leader_epoch, sender);
        let addr = self.runtime.logs.start_actor(thread, move |_| make());
        CoordinatorHandle::new(addr, loaded)
    }
}

#[cfg(test)]
mod tests {
    use actix::ActorContext;
    use uuid::Uuid;

    use super::super::testing::{image, image_with_id};
    use super::*;
    use crate::config::TopicConfig;
    use crate::partition::testing::{BROKER, TestClock, open};
    use crate::storage::memory::MemoryStorage;

    /// Has loaded as soon as it is started.
    struct Quick(watch::Sender<bool>);

    impl Actor for Quick {
        type Context = Context<Self>;

        fn started(&mut self, _: &mut Self::Context) {
            self.0.send_replace(true);
        }
    }

    impl Handler<Stop> for Quick {
        type Result = ();

        fn handle(&mut self, Stop: Stop, ctx: &mut Self::Context) {
            ctx.stop();
        }
    }

    struct Quickly;

    impl Coordinating for Quickly {
        type Coordinator = Quick;

        fn prepare(
            &self,
            _: PartitionHandle,
            _: i32,
            loaded: watch::Sender<bool>,
        ) -> impl FnOnce() -> Quick + Send + 'static {
            || Quick(loaded)
        }
    }

    fn replica(clock: &Arc<TestClock>) -> PartitionHandle {
        let storage = Arc::new(MemoryStorage::new());
        open(&storage, clock, TopicConfig::default(), true)
    }

    #[actix_rt::test]
    async fn a_coordinator_is_found_while_its_partition_is_led_here() {
        let clock = TestClock::new(1);
        let replica = replica(&clock);
        let (sender, images) = watch::channel(Arc::default());
        let runtime = Runtime::shared(clock, 0);
        let coordinators = Coordinators::start(BROKER, "t", &runtime, images, Quickly);
        let not_here = Some(ErrorCode::NotCoordinator);
        assert_eq!(coordinators.partition_of("key"), None);
        assert_eq!(coordinators.of("key").err(), not_here);
        sender.send_replace(Arc::new(image(&replica, 4)));
        coordinators.loaded(&BTreeSet::from([0])).await;
        assert_eq!(coordinators.partition_of("key"), Some(0));
        assert!(coordinators.of("key").is_ok());
        assert!(coordinators.started(0).await.is_ok());
        assert_eq!(coordinators.of_partition(1).err(), not_here);
        assert_eq!(coordinators.all().len(), 1);
        coordinators.stop().await;
        assert_eq!(coordinators.of("key").err(), not_here);
        assert!(coordinators.all().is_empty());
    }

    #[actix_rt::test]
    async fn nobody_waits_for_ever_for_what_does_not_start() {
        tokio::time::pause();
        let (_sender, images) = watch::channel(Arc::default());
        let runtime = Runtime::shared(TestClock::new(1), 0);
        let coordinators = Coordinators::start(BROKER, "t", &runtime, images, Quickly);
        let started = coordinators.started(0).await.err();
        assert_eq!(started, Some(ErrorCode::NotCoordinator));
    }

    #[actix_rt::test]
    async fn a_topic_is_deleted_even_when_another_one_has_its_name() {
        let replica = replica(&TestClock::new(1));
        let before = image_with_id(7, &replica, 4);
        let ids = |before, now| {
            let deleted = deleted_topics(before, now);
            deleted.map(|topic| topic.id).collect::<Vec<_>>()
        };
        let nothing = MetadataImage::default();
        let id = Uuid::from_u128(7);
        assert_eq!(ids(&before, &nothing), [id]);
        assert!(ids(&nothing, &before).is_empty());
        assert!(ids(&before, &before).is_empty());
        let renewed = image_with_id(8, &replica, 4);
        assert_eq!(ids(&before, &renewed), [id]);
    }
}
