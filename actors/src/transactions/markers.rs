//! Tells partitions how a transaction has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::control::EndTxnMarker;

use super::remote;
use super::transaction::{Ending, Producer};
use crate::broker_client::Brokers;
use crate::groups::requests::Request;
use crate::groups::{GroupCoordinators, OFFSETS_TOPIC};
use crate::metadata::{BrokerId, MetadataImage, NO_LEADER};
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

/// One piece of the work, by who does it.
enum Task {
    /// This broker.
    Here(TopicPartition),
    /// Another one.
    Elsewhere(BrokerId, Vec<TopicPartition>),
}

/// Finds the partitions that markers are for. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Markers {
    pub(super) broker_id: BrokerId,
    pub(super) image: watch::Receiver<Arc<MetadataImage>>,
    /// What other brokers lead is theirs to write.
    pub(super) brokers: Brokers,
    groups: GroupCoordinators,
}

impl Markers {
    /// Finds the partitions that a broker leads by the metadata, those of groups through their coordinators, and others
    /// through the brokers that lead them.
    pub(crate) fn new(
        broker_id: BrokerId,
        image: watch::Receiver<Arc<MetadataImage>>,
        brokers: Brokers,
        groups: GroupCoordinators,
    ) -> Self {
        Self {
            broker_id,
            image,
            brokers,
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
        let mut under_way = FuturesUnordered::new();
        for task in self.tasks(ending.partitions) {
            under_way.push(self.perform(marker, task, Duration::ZERO));
        }
        while let Some(outcomes) = under_way.next().await {
            let again = self.missing(outcomes)?;
            for task in self.tasks(again) {
                under_way.push(self.perform(marker, task, RETRY_DELAY));
            }
        }
        Ok(())
    }

    /// Divides partitions by who writes to them: what is led here goes by itself, as it may take its time; what another
    /// broker leads goes in one request.
    fn tasks(&self, partitions: BTreeSet<TopicPartition>) -> Vec<Task> {
        let image = self.image.borrow();
        let mut here = Vec::new();
        let mut elsewhere = BTreeMap::<BrokerId, Vec<TopicPartition>>::new();
        for name in partitions {
            let found = image.partition(&name.topic, name.partition);
            match found.map_or(NO_LEADER, |found| found.leader) {
                leader if leader == self.broker_id || leader == NO_LEADER => here.push(name),
                leader => elsewhere.entry(leader).or_default().push(name),
            }
        }
        let here = here.into_iter().map(Task::Here);
        let elsewhere = elsewhere.into_iter();
        here.chain(elsewhere.map(|(broker, names)| Task::Elsewhere(broker, names)))
            .collect()
    }

    async fn perform(
        &self,
        marker: Marker,
        task: Task,
        delay: Duration,
    ) -> Vec<(TopicPartition, Answer<()>)> {
        if !delay.is_zero() {
            actix_rt::time::sleep(delay).await;
        }
        match task {
            Task::Here(name) => {
                let outcome = self.write(marker, &name).await;
                vec![(name, outcome)]
            }
            Task::Elsewhere(broker, names) => {
                remote::write_markers(&self.brokers, broker, marker, names).await
            }
        }
    }

    /// Lists what has no marker yet.
    fn missing(
        &self,
        outcomes: Vec<(TopicPartition, Answer<()>)>,
    ) -> Answer<BTreeSet<TopicPartition>> {
        let mut missing = BTreeSet::new();
        for (partition, outcome) in outcomes {
            match outcome {
                Ok(()) => {}
                Err(
                    error @ (ErrorCode::TransactionCoordinatorFenced
                    | ErrorCode::InvalidProducerEpoch),
                ) => return Err(error),
                Err(_) if !self.exists(&partition) => {}
                Err(error) => {
                    tracing::debug!(%partition, %error, "a marker is written again");
                    missing.insert(partition);
                }
            }
        }
        Ok(missing)
    }

    fn exists(&self, partition: &TopicPartition) -> bool {
        let image = self.image.borrow();
        image
            .partition(&partition.topic, partition.partition)
            .is_some()
    }
}
