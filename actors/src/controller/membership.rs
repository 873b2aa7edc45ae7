//! How a broker joins a cluster: its registration, and its candidacy for controller.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zookeeper_client::MultiWriteResult;

use crate::coordination::client::Write;
use crate::coordination::schema::{BrokerRegistration, ControllerRegistration, to_json};
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::metadata::{BrokerId, BrokerNode};
use crate::runtime::Clock;
use crate::storage::Storage;

/// Why a broker could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The service refused or is away.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
    /// Somebody else has this id.
    #[error(
        "a broker with broker.id={id} is registered already ({registration}); stop it, or give this one another broker.id. \
         If it died just now, its registration goes away with its session"
    )]
    IdTaken {
        /// The id.
        id: BrokerId,
        /// What the other one registered.
        registration: String,
    },
    /// Somebody else leads the cluster.
    #[error(
        "broker {other} already serves this cluster; this version of Troupe runs one broker per cluster. \
         Give this one a zookeeper.connect of its own, for example with another chroot"
    )]
    AnotherBroker {
        /// The other's id, as its znode says.
        other: String,
    },
}

/// What a broker has from joining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// The zxid of the registration.
    pub broker_epoch: i64,
    /// Epoch of this broker's time as controller.
    pub controller_epoch: i32,
}

/// Remembers, across a crash, which session held the ephemeral nodes of this broker.
///
/// A broker that is killed and started at once meets its own registration, still held by a session that nobody
/// uses any more. It may remove what that session holds, and nothing else.
pub struct SessionMemory {
    path: PathBuf,
    storage: Arc<dyn Storage>,
}

impl SessionMemory {
    /// Keeps the memory in a log directory, which only one process can hold.
    pub fn new(log_dir: &Path, storage: Arc<dyn Storage>) -> Self {
        Self {
            path: log_dir.join("coordination.session"),
            storage,
        }
    }

    fn earlier(&self) -> Option<i64> {
        let text = self.storage.read(&self.path).ok()?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    }

    /// Notes a session; on a full disk in the place of the last one, which may not survive a crash in that moment.
    fn remember(&self, session: i64) -> io::Result<()> {
        // All of one length, so that each covers the last.
        let text = format!("{session:<20}\n");
        self.storage
            .replace(&self.path, text.as_bytes())
            .or_else(|_| {
                let file = self.storage.open(&self.path, false)?;
                file.write_all_at(text.as_bytes(), 0)?;
                file.sync()
            })
    }
}

/// Registers the broker and makes it the controller.
pub async fn join(
    client: &CoordinationClient,
    node: &BrokerNode,
    memory: &SessionMemory,
    clock: &dyn Clock,
) -> Result<Membership, JoinError> {
    let earlier = memory.earlier();
    if let Err(error) = memory.remember(client.session_id()) {
        // Only a restart within the session time-out would miss it.
        tracing::warn!("the session can't be noted in the log directory: {error}");
    }
    let broker_epoch = register(client, node, earlier, clock).await?;
    let controller_epoch = lead(client, node.id, earlier, clock).await?;
    Ok(Membership {
        broker_epoch,
        controller_epoch,
    })
}

async fn register(
    client: &CoordinationClient,
    node: &BrokerNode,
    earlier: Option<i64>,
    clock: &dyn Clock,
) -> Result<i64, JoinError> {
    let path = paths::broker(node.id);
    if let Some(holder) = remove_own(client, &path, earlier).await? {
        return Err(JoinError::IdTaken {
            id: node.id,
            registration: holder,
        });
    }
    let writes = [
        Write::CreateEphemeral(path.clone(), Vec::new()),
        Write::Set(path, to_json(&registration(node, clock)), Some(0)),
    ];
    let results = client.transaction(&writes).await?;
    // Both writes of the transaction have one zxid, so the Stat of the second names the first one's.
    Ok(results
        .iter()
        .find_map(|result| match result {
            MultiWriteResult::SetData { stat } => Some(stat.czxid),
            _ => None,
        })
        .unwrap_or(-1))
}

async fn lead(
    client: &CoordinationClient,
    id: BrokerId,
    earlier: Option<i64>,
    clock: &dyn Clock,
) -> Result<i32, JoinError> {
    if let Some(other) = remove_own(client, paths::CONTROLLER, earlier).await? {
        return Err(JoinError::AnotherBroker { other });
    }
    let current = client.get(paths::CONTROLLER_EPOCH).await?;
    let epoch = current
        .as_ref()
        .and_then(|(data, _)| std::str::from_utf8(data).ok()?.trim().parse::<i32>().ok())
        .unwrap_or(0)
        .saturating_add(1);
    let text = epoch.to_string().into_bytes();
    let registration = ControllerRegistration {
        version: 1,
        brokerid: id,
        timestamp: clock.now_ms().to_string(),
    };
    let writes = [
        Write::CreateEphemeral(paths::CONTROLLER.to_owned(), to_json(&registration)),
        match &current {
            Some((_, stat)) => {
                Write::Set(paths::CONTROLLER_EPOCH.to_owned(), text, Some(stat.version))
            }
            None => Write::Create(paths::CONTROLLER_EPOCH.to_owned(), text),
        },
    ];
    match client.transaction(&writes).await {
        Err(CoordinationError::Transaction { .. }) => Err(JoinError::AnotherBroker {
            other: text_of(client, paths::CONTROLLER).await?,
        }),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(epoch),
    }
}

/// Removes a node that this broker left behind; returns the content of one that somebody else holds.
async fn remove_own(
    client: &CoordinationClient,
    path: &str,
    earlier: Option<i64>,
) -> Result<Option<String>, CoordinationError> {
    let Some((data, stat)) = client.get(path).await? else {
        return Ok(None);
    };
    let own = [Some(client.session_id()), earlier];
    if own.contains(&Some(stat.ephemeral_owner)) {
        client.delete(path).await?;
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&data).into_owned()))
}

async fn text_of(client: &CoordinationClient, path: &str) -> Result<String, CoordinationError> {
    let data = client.get(path).await?.map(|(data, _)| data);
    Ok(String::from_utf8_lossy(&data.unwrap_or_default()).into_owned())
}

/// Builds the content of `/brokers/ids/N`. Old clients know only its host and port, so these are always there.
fn registration(node: &BrokerNode, clock: &dyn Clock) -> BrokerRegistration {
    let host_of = |host: &str| {
        if host.is_empty() {
            "localhost".to_owned()
        } else {
            host.to_owned()
        }
    };
    let named = |endpoint: &crate::config::Listener| {
        let mut endpoint = endpoint.clone();
        endpoint.host = host_of(&endpoint.host);
        endpoint.to_string()
    };
    let oldest = node.plaintext_endpoint().or(node.endpoints.first());
    BrokerRegistration {
        listener_security_protocol_map: node
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.name.clone(), endpoint.protocol.name().to_owned()))
            .collect(),
        endpoints: node.endpoints.iter().map(named).collect(),
        rack: node.rack.clone(),
        jmx_port: -1,
        features: std::collections::BTreeMap::new(),
        host: oldest.map(|endpoint| host_of(&endpoint.host)),
        timestamp: clock.now_ms().to_string(),
        port: oldest.map_or(-1, |endpoint| i32::from(endpoint.port)),
        version: 5,
    }
}
