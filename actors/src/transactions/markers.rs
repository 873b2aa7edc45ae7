//! Tells partitions how a transaction has ended.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::control::EndTxnMarker;

use super::transaction::{Ending, Producer};
use crate::groups::requests::Request;
use crate::groups::{GroupCoordinators, OFFSETS_TOPIC};
use crate::metadata::{BrokerId, MetadataImage};
use crate::partition::{Answer, PartitionHandle, TopicPartition};

/// How long to wait before a marker is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The end of a transaction, as a partition is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) producer: Producer,
    pub(crate) committed: bool,
    pub(crate) coordinator_epoch: i32,
    /// The version of the protocol that the transaction followed.
    pub(crate) transaction_version: i16,
}

impl Marker {
    /// Appends the marker to the log of a partition, with acks=all.
    ///
    /// # Errors
    /// Those of the partition.
    pub(crate) async fn write_to(self, partition: &PartitionHandle) -> Answer<()> {
        let marker = EndTxnMarker {
            commit: self.committed,
            coordinator_epoch: self.coordinator_epoch,
        };
        let Producer { id, epoch } = self.producer;
        let version = self.transaction_version;
        partition.write_marker(id, epoch, version, marker).await
    }
}

/// Finds the partitions that markers are for. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Markers {
    pub(super) broker_id: BrokerId,
    pub(super) image: watch::Receiver<Arc<MetadataImage>>,
    groups: GroupCoordinators,
}

impl Markers {
    /// Finds the partitions that a broker leads by the metadata, and those of groups through their coordinators.
    pub(crate) fn new(
        broker_id: BrokerId,
        image: watch::Receiver<Arc<MetadataImage>>,
        groups: GroupCoordinators,
    ) -> Self {
        Self {
            broker_id,
            image,
            groups,
        }
    }

    /// Writes the marker to a partition that this broker leads. One of `__consumer_offsets` gets it through the
    /// coordinator of its groups, in order with what they commit, and has applied it when this returns.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, and those of the partition or the coordinator.
    pub(crate) async fn write(&self, marker: Marker, partition: &TopicPartition) -> Answer<()> {
        if *partition.topic == *OFFSETS_TOPIC {
            let coordinator = self.groups.of_partition(partition.partition)?;
            return coordinator
                .ask(|reply| Request::EndTransaction { marker, reply })
                .await;
        }
        self.led_here(partition)
            .and_then(|handle| handle.ok_or(ErrorCode::NotLeaderOrFollower))
            .map(|handle| async move { marker.write_to(&handle).await })?
            .await
    }

    /// Returns the replica here; `None` when it does not lead.
    fn led_here(&self, partition: &TopicPartition) -> Answer<Option<PartitionHandle>> {
        let image = self.image.borrow();
        let found = image
            .partition(&partition.topic, partition.partition)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let leads = found.leader == self.broker_id;
        Ok(found.local.clone().filter(|_| leads))
    }

    /// Writes the markers of an ended transaction to all its partitions, again and again until each has its own. Those of
    /// topics that are no more need none.
    ///
    /// # Errors
    /// TRANSACTION_COORDINATOR_FENCED and INVALID_PRODUCER_EPOCH: somebody else has ended the transaction since, and it
    /// is not ours to complete.
    pub(crate) async fn write_all(&self, ending: Ending, coordinator_epoch: i32) -> Answer<()> {
        let marker = Marker {
            producer: ending.producer,
            committed: ending.committed,
            coordinator_epoch,
            transaction_version: ending.transaction_version,
        };
        let partitions = ending.partitions.iter();
        let outcomes = join_all(partitions.map(|partition| self.insist(marker, partition))).await;
        outcomes.into_iter().collect()
    }

    async fn insist(&self, marker: Marker, partition: &TopicPartition) -> Answer<()> {
        loop {
            match self.write(marker, partition).await {
                Ok(()) => return Ok(()),
                Err(
                    error @ (ErrorCode::TransactionCoordinatorFenced
                    | ErrorCode::InvalidProducerEpoch),
                ) => return Err(error),
                Err(_) if !self.exists(partition) => return Ok(()),
                Err(error) => {
                    tracing::debug!(%partition, %error, "a marker is written again");
                    actix_rt::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    fn exists(&self, partition: &TopicPartition) -> bool {
        let image = self.image.borrow();
        image
            .partition(&partition.topic, partition.partition)
            .is_some()
    }
}
