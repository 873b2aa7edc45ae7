//! Who a broker is: its id and its cluster's, agreed between configuration, disk and coordination.

use std::sync::Arc;

use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::coordination::schema::{ClusterId, to_json};
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::log_manager::Identity as StoredIdentity;
use crate::metadata::BrokerId;
use crate::uuid_text::encode_id;

/// Why it can't be settled.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The service failed.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
    /// Nothing says which id to take.
    #[error("broker.id is not set, and broker.id.generation.enable=false forbids to generate one")]
    NoId,
    /// The directory and the configuration disagree.
    #[error(
        "the log directories belong to broker {stored} (meta.properties), but broker.id is {configured}; \
         set broker.id={stored}, or choose other log.dirs"
    )]
    BrokerId {
        /// As the directories say.
        stored: BrokerId,
        /// As the configuration says.
        configured: BrokerId,
    },
    /// The directory and the coordination service disagree.
    #[error(
        "the log directories belong to cluster {stored} (meta.properties), but the coordination service is that of cluster \
         {found}; correct zookeeper.connect, or choose other log.dirs"
    )]
    ClusterId {
        /// As the directories say.
        stored: String,
        /// As the service says.
        found: String,
    },
}

/// A broker's identity.
pub(super) struct Identity {
    pub(super) broker_id: BrokerId,
    pub(super) cluster_id: Arc<str>,
}

/// Agrees on both ids; creates the ones that do not exist yet.
///
/// When the embedded service has lost its tree, the cluster's id is taken from the directories: they belong together.
pub(super) async fn settle(
    client: &CoordinationClient,
    config: &BrokerConfig,
    stored: &StoredIdentity,
    embedded: bool,
) -> Result<Identity, IdentityError> {
    let fallback = stored.cluster_id.clone().filter(|_| embedded);
    let found = cluster_id(client, fallback).await?;
    if let Some(stored) = stored
        .cluster_id
        .as_ref()
        .filter(|stored| **stored != found)
    {
        return Err(IdentityError::ClusterId {
            stored: stored.clone(),
            found,
        });
    }
    Ok(Identity {
        broker_id: broker_id(client, config, stored.broker_id, embedded).await?,
        cluster_id: found.into(),
    })
}

async fn cluster_id(
    client: &CoordinationClient,
    fallback: Option<String>,
) -> Result<String, CoordinationError> {
    if let Some((node, _)) = client.get_json::<ClusterId>(paths::CLUSTER_ID).await? {
        return Ok(node.id);
    }
    let node = ClusterId {
        version: "1".to_owned(),
        id: fallback.unwrap_or_else(|| encode_id(Uuid::new_v4())),
    };
    if client
        .create_if_missing(paths::CLUSTER_ID, &to_json(&node))
        .await?
    {
        return Ok(node.id);
    }
    // Another broker was faster.
    let other = client.get_json::<ClusterId>(paths::CLUSTER_ID).await?;
    Ok(other.map_or(node.id, |(other, _)| other.id))
}

async fn broker_id(
    client: &CoordinationClient,
    config: &BrokerConfig,
    stored: Option<BrokerId>,
    embedded: bool,
) -> Result<BrokerId, IdentityError> {
    match (config.broker_id, stored) {
        (Some(configured), Some(stored)) if configured != stored => {
            Err(IdentityError::BrokerId { stored, configured })
        }
        (Some(id), _) | (None, Some(id)) => Ok(id),
        // Whoever brings his own coordination is the first broker, and handouts call that one 0.
        (None, None) if embedded => Ok(0),
        (None, None) if config.broker_id_generation_enable => {
            // Every write counts up the node's version: that is the sequence.
            let stat = client.set(paths::BROKER_SEQUENCE, b"", None).await?;
            Ok(stat.version.saturating_add(config.reserved_broker_max_id))
        }
        (None, None) => Err(IdentityError::NoId),
    }
}
