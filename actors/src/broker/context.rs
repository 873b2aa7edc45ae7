//! What every request handler may use.

use std::sync::Arc;

use tokio::sync::watch;

use super::producer_ids::ProducerIds;
use crate::config::BrokerConfig;
use crate::controller::{AutoTopicCreation, ControllerHandle};
use crate::coordination::SharedSession;
use crate::groups::GroupCoordinators;
use crate::log_manager::LogManagerHandle;
use crate::metadata::{BrokerId, MetadataImage};
use crate::replica_manager::ReplicaManagerHandle;
use crate::runtime::Runtime;
use crate::share::ShareGroups;
use crate::transactions::TransactionCoordinators;

/// A broker, as its handlers see it.
pub struct BrokerContext {
    /// Its id.
    pub broker_id: BrokerId,
    /// The configuration that it started with.
    pub config: Arc<BrokerConfig>,
    /// The configuration with all that was changed since.
    pub current_config: watch::Receiver<Arc<BrokerConfig>>,
    /// Time and threads.
    pub runtime: Runtime,
    /// The cluster.
    pub metadata: watch::Receiver<Arc<MetadataImage>>,
    /// The session with the coordination service.
    pub session: SharedSession,
    /// Who changes the cluster, when it is this broker.
    pub controller: ControllerHandle,
    /// Creates topics that are missing, on any broker.
    pub topic_creation: AutoTopicCreation,
    /// Who does what the controller orders, and keeps the configurations.
    pub replicas: ReplicaManagerHandle,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    /// This broker's replicas.
    pub logs: LogManagerHandle,
    /// The groups that this broker coordinates.
    pub groups: GroupCoordinators,
    /// The transactional ids that this broker coordinates.
    pub transactions: TransactionCoordinators,
    /// The share partitions that this broker leads.
    pub share: ShareGroups,
}

impl BrokerContext {
    /// Returns the cluster as it is now.
    pub fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.metadata.borrow())
    }
}
