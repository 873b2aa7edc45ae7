//! Keeps one coordinator running beside each partition of an internal topic that this broker leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::metadata::{BrokerId, MetadataImage};
use crate::partition::PartitionHandle;

/// Reaches something that runs beside a partition.
pub(crate) trait Companion: Clone {
    /// Ends it.
    fn stop(&self) -> impl Future<Output = ()>;
}

/// What runs now, by partition.
pub(crate) type Running<H> = BTreeMap<i32, (PartitionEpoch, H)>;

/// What a coordinator belongs to: another replica or another leadership is another one's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionEpoch {
    topic_id: uuid::Uuid,
    leader_epoch: i32,
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

    /// Starts by `start`, from replica and leader epoch, what an image asks for, and ends the others.
    pub(crate) async fn follow(
        &self,
        image: &MetadataImage,
        start: impl Fn(PartitionHandle, i32) -> H,
    ) {
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
            running.entry(partition).or_insert_with(|| {
                let companion = start(replica, epoch.leader_epoch);
                (epoch, companion)
            });
        }
        if !ended.is_empty() || running.len() > count {
            self.running.send_replace(Arc::new(running));
        }
        for (_, companion) in ended {
            companion.stop().await;
        }
    }

    fn led_here(&self, image: &MetadataImage) -> BTreeMap<i32, (PartitionEpoch, PartitionHandle)> {
        let Some(topic) = image.topic(self.topic) else {
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
}
