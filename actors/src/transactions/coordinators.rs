//! The coordinators of this broker: one for each partition of `__transaction_state` that it leads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use troupe_protocol::kafka::errors::ErrorCode;

use super::coordinator::{Coordinator, Schedule, Start};
use super::markers::{Marker, Markers};
use super::remote;
use super::requests::{CoordinatorHandle, Outcome, Request};
use super::transaction::{End, Init, Producer, Value};
use super::{TRANSACTION_TOPIC, TRANSACTION_VERSION};
use crate::broker::ProducerIds;
use crate::config::BrokerConfig;
use crate::internal_topic::coordinators::{Coordinating, Coordinators};
use crate::metadata::{BrokerId, NO_LEADER};
use crate::partition::{Answer, PartitionHandle, TopicPartition};
use crate::runtime::{Clock, Runtime};

/// How long a broker waits for a transaction to be completed before the next one of its producer begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    /// `add.partitions.to.txn.retry.backoff.ms`
    pub(crate) step: Duration,
    /// `add.partitions.to.txn.retry.backoff.max.ms`
    pub(crate) limit: Duration,
}

/// Finds the coordinator of a transactional id. Cheap to clone.
#[derive(Clone)]
pub struct TransactionCoordinators {
    coordinators: Coordinators<Coordinator>,
    markers: Markers,
    producer_ids: ProducerIds,
    max_timeout_ms: i32,
    backoff: Backoff,
}

impl TransactionCoordinators {
    /// Starts to follow the metadata: coordinators come and go with the leadership of this broker.
    pub(crate) fn start(
        config: &BrokerConfig,
        runtime: &Runtime,
        markers: Markers,
        producer_ids: ProducerIds,
    ) -> Self {
        let (broker_id, image) = (markers.broker_id, markers.image.clone());
        let coordinating = TransactionCoordinating {
            schedule: Arc::new(schedule(config)),
            clock: Arc::clone(&runtime.clock),
            markers: markers.clone(),
        };
        Self {
            coordinators: Coordinators::start(
                broker_id,
                TRANSACTION_TOPIC,
                runtime,
                image,
                coordinating,
            ),
            markers,
            producer_ids,
            max_timeout_ms: config.transaction_max_timeout_ms,
            backoff: Backoff {
                step: Duration::from_millis(config.add_partitions_to_txn_retry_backoff_ms),
                limit: Duration::from_millis(config.add_partitions_to_txn_retry_backoff_max_ms),
            },
        }
    }

    /// Returns the coordinator of a transactional id.
    ///
    /// # Errors
    /// INVALID_REQUEST for an id that can't be one, NOT_COORDINATOR when the coordinator is not here.
    fn of(&self, transactional_id: &str) -> Answer<CoordinatorHandle> {
        // The strings of records have lengths of 16 bits.
        if transactional_id.is_empty() || i16::try_from(transactional_id.len()).is_err() {
            return Err(ErrorCode::InvalidRequest);
        }
        self.coordinators.of(transactional_id)
    }

    /// Waits until the coordinators of partitions that this broker leads have loaded, but not for ever: one that still
    /// loads says so itself.
    pub(crate) async fn loaded(&self, partitions: &BTreeSet<i32>) {
        self.coordinators.loaded(partitions).await;
    }

    /// Gives a transactional id its producer.
    ///
    /// # Errors
    /// INVALID_TRANSACTION_TIMEOUT, and those of [`Transaction::init`](super::transaction::Transaction::init).
    pub(crate) async fn init(&self, transactional_id: &str, init: Init) -> Answer<Producer> {
        let coordinator = self.of(transactional_id)?;
        if !(1..=self.max_timeout_ms).contains(&init.timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let id: Arc<str> = transactional_id.into();
        self.with_fresh_id(&coordinator, |fresh_id, reply| Request::Init {
            id: Arc::clone(&id),
            init,
            fresh_id,
            reply,
        })
        .await
    }

    /// Adds partitions to the transaction of a producer.
    ///
    /// # Errors
    /// Those of [`Transaction::add`](super::transaction::Transaction::add).
    pub(crate) async fn add(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: BTreeSet<TopicPartition>,
        transaction_version: i16,
    ) -> Answer<()> {
        let coordinator = self.of(transactional_id)?;
        let id = transactional_id.into();
        coordinator
            .ask(|reply| Request::Add {
                id,
                producer,
                partitions,
                transaction_version,
                reply,
            })
            .await
    }

    /// Asks the coordinator, wherever it is, before something is appended in a transaction: whether partitions are in it, or
    /// with `adds` to add them, which is how they come in from version 2 of the protocol on (KIP-890).
    ///
    /// # Errors
    /// Those of [`add`](Self::add) and [`verify`](Self::verify), in the words of Produce, and NETWORK_EXCEPTION; of those
    /// CONCURRENT_TRANSACTIONS, while its last transaction is completed, wants another attempt after a
    /// [`backoff`](Self::backoff).
    pub(crate) async fn before_write(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
        adds: bool,
    ) -> Vec<Answer<()>> {
        let count = partitions.len();
        let answers = match self.leader_elsewhere(transactional_id) {
            Some(broker) => {
                let brokers = &self.markers.brokers;
                let who = (transactional_id, producer);
                remote::verify(brokers, broker, who, &partitions, adds).await
            }
            None if adds => {
                let partitions = partitions.into_iter().collect();
                let added = self.add(transactional_id, producer, partitions, TRANSACTION_VERSION);
                added.await.map(|()| vec![Ok(()); count])
            }
            None => self.verify(transactional_id, producer, partitions).await,
        };
        match answers {
            Ok(answers) => answers
                .into_iter()
                .map(|answer| answer.map_err(|error| written_as(error, adds)))
                .collect(),
            Err(error) => vec![Err(written_as(error, adds)); count],
        }
    }

    /// Returns the broker where a transactional id is coordinated, when that is another one.
    fn leader_elsewhere(&self, transactional_id: &str) -> Option<BrokerId> {
        let number = self.coordinators.partition_of(transactional_id)?;
        let image = self.markers.image.borrow();
        let leader = image.partition(TRANSACTION_TOPIC, number)?.leader;
        (leader != self.markers.broker_id && leader != NO_LEADER).then_some(leader)
    }

    /// Says how long to wait for the last transaction of a producer.
    pub(crate) fn backoff(&self) -> Backoff {
        self.backoff
    }

    /// Tells of each partition whether it is in the transaction of a producer: TRANSACTION_ABORTABLE otherwise.
    ///
    /// # Errors
    /// Those of [`Transaction::verify`](super::transaction::Transaction::verify).
    pub(crate) async fn verify(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    ) -> Answer<Vec<Answer<()>>> {
        let coordinator = self.of(transactional_id)?;
        let id = transactional_id.into();
        coordinator
            .ask(|reply| Request::Verify {
                id,
                producer,
                partitions,
                reply,
            })
            .await
    }

    /// Ends a transaction; returns the producer that its owner goes on as.
    ///
    /// # Errors
    /// Those of [`Transaction::end`](super::transaction::Transaction::end).
    pub(crate) async fn end(&self, transactional_id: &str, end: End) -> Answer<Producer> {
        let coordinator = self.of(transactional_id)?;
        let id: Arc<str> = transactional_id.into();
        self.with_fresh_id(&coordinator, |fresh_id, reply| Request::End {
            id: Arc::clone(&id),
            end,
            fresh_id,
            reply,
        })
        .await
    }

    /// Returns what is stored of a transactional id.
    ///
    /// # Errors
    /// TRANSACTIONAL_ID_NOT_FOUND.
    pub(crate) async fn describe(&self, transactional_id: &str) -> Answer<Value> {
        let coordinator = self.of(transactional_id)?;
        let id = transactional_id.into();
        coordinator
            .ask(|reply| Request::Describe { id, reply })
            .await
    }

    /// Lists the transactional ids that are coordinated here.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS when one of the coordinators still loads.
    pub(crate) async fn list(&self) -> Answer<Vec<(Arc<str>, Value)>> {
        let mut all = Vec::new();
        for coordinator in self.coordinators.all() {
            all.extend(coordinator.ask(|reply| Request::List { reply }).await?);
        }
        Ok(all)
    }

    /// Writes a marker for a coordinator elsewhere.
    ///
    /// # Errors
    /// Those of the partition.
    pub(crate) async fn write_marker(
        &self,
        marker: Marker,
        partition: &TopicPartition,
    ) -> Answer<()> {
        self.markers.write(marker, partition).await
    }

    /// Asks a coordinator, and once more with a fresh producer id if it needs one.
    async fn with_fresh_id(
        &self,
        coordinator: &CoordinatorHandle,
        request: impl Fn(Option<i64>, crate::partition::Reply<Outcome>) -> Request,
    ) -> Answer<Producer> {
        let mut outcome = coordinator.ask(|reply| request(None, reply)).await?;
        if outcome == Outcome::NeedsProducerId {
            let fresh_id = self.producer_ids.next().await?;
            outcome = coordinator
                .ask(|reply| request(Some(fresh_id), reply))
                .await?;
        }
        match outcome {
            Outcome::Producer(producer) => Ok(producer),
            Outcome::NeedsProducerId => Err(ErrorCode::UnknownServerError),
        }
    }

    /// Ends all coordinators; who waits for one is told NOT_COORDINATOR.
    pub async fn stop(&self) {
        self.coordinators.stop().await;
    }
}

/// Starts coordinators of transactions.
struct TransactionCoordinating {
    schedule: Arc<Schedule>,
    clock: Arc<dyn Clock>,
    markers: Markers,
}

impl Coordinating for TransactionCoordinating {
    type Coordinator = Coordinator;

    fn prepare(
        &self,
        partition: PartitionHandle,
        leader_epoch: i32,
        loaded: watch::Sender<bool>,
    ) -> impl FnOnce() -> Coordinator + Send + 'static {
        let start = Start {
            partition,
            epoch: leader_epoch,
            schedule: Arc::clone(&self.schedule),
            clock: Arc::clone(&self.clock),
            markers: self.markers.clone(),
            loaded,
        };
        || Coordinator::new(start)
    }
}

fn schedule(config: &BrokerConfig) -> Schedule {
    Schedule {
        load_bytes: config.transaction_state_log_load_buffer_size,
        time_out_interval: Duration::from_millis(
            config.transaction_abort_timed_out_transaction_cleanup_interval_ms,
        ),
        expiry_interval: Duration::from_millis(
            config.transaction_remove_expired_transaction_cleanup_interval_ms,
        ),
        expiration_ms: config.transactional_id_expiration_ms,
    }
}

fn written_as(error: ErrorCode, adds: bool) -> ErrorCode {
    match adds {
        true => for_writers(error),
        false => error,
    }
}

/// Says what somebody is told who writes to a partition: producers expect INVALID_PRODUCER_EPOCH when they are fenced.
pub(crate) fn for_writers(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        error => error,
    }
}
