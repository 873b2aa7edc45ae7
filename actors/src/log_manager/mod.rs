//! Keeps this broker's replicas: opens, hands out and deletes them.

use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use crate::config::TopicConfig;
use crate::partition::{PartitionHandle, TopicPartition};

/// Asks the log manager; cheap to clone. It is not connected to the logs yet and refuses everything.
#[derive(Clone, Default)]
pub struct LogManagerHandle;

impl LogManagerHandle {
    /// Opens a replica, creating it when it is missing.
    pub async fn open(
        &self,
        _: TopicPartition,
        _: Uuid,
        _: Arc<TopicConfig>,
    ) -> Result<PartitionHandle, ErrorCode> {
        Err(ErrorCode::KafkaStorageError)
    }

    /// Deletes a replica.
    pub async fn delete(&self, _: &TopicPartition) -> Result<(), ErrorCode> {
        Err(ErrorCode::KafkaStorageError)
    }
}
