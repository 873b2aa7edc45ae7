//! How a broker joins a cluster: its registration, and its candidacy for controller.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::try_join_all;
use zookeeper_client::{MultiWriteResult, Stat};

use crate::config::{Listener, SecurityProtocol};
use crate::coordination::client::Write;
use crate::coordination::schema::{BrokerRegistration, ControllerRegistration, from_json, to_json};
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::metadata::{BrokerId, BrokerNode, NO_LEADER};
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
        "a broker with broker.id={id} is registered already, at {endpoints}; stop it, or give this one another broker.id. \
         If it died just now, its registration goes away with its session"
    )]
    IdTaken {
        /// The id.
        id: BrokerId,
        /// Where the other one listens.
        endpoints: String,
    },
}

/// The controller's office, as it was won.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Election {
    /// Its epoch.
    pub epoch: i32,
    /// The version of `/controller_epoch`, by which the writes of the office are fenced.
    pub epoch_version: i32,
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

/// Registers the broker, and returns the epoch of the registration. What this broker left behind in an earlier life, as the
/// controller too, is removed.
pub async fn join(
    client: &CoordinationClient,
    node: &BrokerNode,
    memory: &SessionMemory,
    clock: &dyn Clock,
) -> Result<i64, JoinError> {
    let earlier = memory.earlier();
    if let Err(error) = memory.remember(client.session_id()) {
        // Only a restart within the session time-out would miss it.
        tracing::warn!("the session can't be noted in the log directory: {error}");
    }
    let broker_epoch = register(client, node, earlier, clock).await?;
    remove_own(client, paths::CONTROLLER, earlier).await?;
    Ok(broker_epoch)
}

async fn register(
    client: &CoordinationClient,
    node: &BrokerNode,
    earlier: Option<i64>,
    clock: &dyn Clock,
) -> Result<i64, JoinError> {
    let path = paths::broker(node.id);
    if let Some(holder) = remove_own(client, &path, earlier).await? {
        return Err(id_taken(node.id, &holder));
    }
    let writes = [
        Write::CreateEphemeral(path.clone(), Vec::new()),
        Write::Set(path, to_json(&registration(node, clock)), Some(0)),
    ];
    match client.transaction(&writes).await {
        // After a lost connection it is sent again, and then fails over what it has done itself.
        Err(CoordinationError::Transaction { .. }) => own_registration(client, node.id).await,
        // Both writes of the transaction have one zxid, so the Stat of the second names the first one's.
        results => Ok(results?
            .iter()
            .find_map(|result| match result {
                MultiWriteResult::SetData { stat } => Some(stat.czxid),
                _ => None,
            })
            .unwrap_or(-1)),
    }
}

/// Returns the epoch of a registration that this session holds.
async fn own_registration(client: &CoordinationClient, id: BrokerId) -> Result<i64, JoinError> {
    match client.get(&paths::broker(id)).await? {
        Some((_, stat)) if stat.ephemeral_owner == client.session_id() => Ok(stat.czxid),
        Some((data, _)) => Err(id_taken(id, &data)),
        None => Err(CoordinationError::Service(zookeeper_client::Error::NoNode).into()),
    }
}

fn id_taken(id: BrokerId, registration: &[u8]) -> JoinError {
    let found = from_json::<BrokerRegistration>(&paths::broker(id), registration);
    let endpoints = found.map_or_else(
        |_| String::from_utf8_lossy(registration).into_owned(),
        |found| {
            let endpoints = endpoints(&found);
            let endpoints = endpoints.iter().map(ToString::to_string);
            endpoints.collect::<Vec<_>>().join(",")
        },
    );
    JoinError::IdTaken { id, endpoints }
}

/// Who is the controller, as its znode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Office {
    /// Nobody.
    Vacant,
    /// This session of this broker.
    Own,
    /// Another broker.
    Of(BrokerId),
}

/// Reads who is the controller.
pub async fn office(
    client: &CoordinationClient,
    own: BrokerId,
) -> Result<Office, CoordinationError> {
    let Some((data, stat)) = client.get(paths::CONTROLLER).await? else {
        return Ok(Office::Vacant);
    };
    let named = from_json::<ControllerRegistration>(paths::CONTROLLER, &data);
    // Kafka 0.8.0 wrote the number alone.
    let bare = || std::str::from_utf8(&data).ok()?.trim().parse().ok();
    let id = named.map_or_else(|_| bare(), |named| Some(named.brokerid));
    Ok(match id {
        Some(id) if id == own && stat.ephemeral_owner == client.session_id() => Office::Own,
        id => Office::Of(id.unwrap_or(NO_LEADER)),
    })
}

/// Reads the epoch of the last election; `None` before the first.
pub async fn controller_epoch(
    client: &CoordinationClient,
) -> Result<Option<i32>, CoordinationError> {
    let found = client.get(paths::CONTROLLER_EPOCH).await?;
    Ok(found.and_then(|(data, _)| epoch_in(&data)))
}

fn epoch_in(data: &[u8]) -> Option<i32> {
    std::str::from_utf8(data).ok()?.trim().parse().ok()
}

/// Waits until this broker's registration is no more, or somebody else's, while the session goes on.
pub async fn deregistered(
    client: &CoordinationClient,
    id: BrokerId,
) -> Result<(), CoordinationError> {
    let path = paths::broker(id);
    loop {
        // Armed before the look, so that nothing happens unseen between the two.
        let changed = client.watch(&path).await?.changed();
        let found = client.get(&path).await?;
        if found.is_none_or(|(_, stat)| stat.ephemeral_owner != client.session_id()) {
            return Ok(());
        }
        changed.await;
    }
}

/// Takes the controller's office when it is vacant; `None` when somebody else was faster.
pub async fn elect(
    client: &CoordinationClient,
    id: BrokerId,
    clock: &dyn Clock,
) -> Result<Option<Election>, CoordinationError> {
    client
        .create_if_missing(paths::CONTROLLER_EPOCH, b"0")
        .await?;
    let Some((data, stat)) = client.get(paths::CONTROLLER_EPOCH).await? else {
        return Ok(None);
    };
    let epoch = epoch_in(&data).unwrap_or(0).saturating_add(1);
    let registration = ControllerRegistration {
        version: 1,
        brokerid: id,
        timestamp: clock.now_ms().to_string(),
    };
    let writes = [
        Write::CreateEphemeral(paths::CONTROLLER.to_owned(), to_json(&registration)),
        Write::Set(
            paths::CONTROLLER_EPOCH.to_owned(),
            epoch.to_string().into_bytes(),
            Some(stat.version),
        ),
    ];
    let election = Election {
        epoch,
        epoch_version: stat.version.saturating_add(1),
    };
    match client.transaction(&writes).await {
        Err(CoordinationError::Transaction { .. }) => {
            // After a lost connection it is sent again, and then fails over what it has done itself.
            let won = has_won(client, id, election).await?;
            Ok(won.then_some(election))
        }
        Err(error) => Err(error),
        Ok(_) => Ok(Some(election)),
    }
}

async fn has_won(
    client: &CoordinationClient,
    id: BrokerId,
    election: Election,
) -> Result<bool, CoordinationError> {
    let epoch = client.get(paths::CONTROLLER_EPOCH).await?;
    let is_ours = epoch.is_some_and(|(data, stat)| {
        data == election.epoch.to_string().into_bytes() && stat.version == election.epoch_version
    });
    Ok(is_ours && office(client, id).await? == Office::Own)
}

/// Reads who is alive.
pub async fn live_brokers(
    client: &CoordinationClient,
) -> Result<BTreeMap<BrokerId, BrokerNode>, CoordinationError> {
    let names = client.children(paths::BROKER_IDS).await?;
    let ids = names.iter().filter_map(|name| name.parse().ok());
    let reads = ids.map(|id: BrokerId| async move {
        let path = paths::broker(id);
        match client.get_json::<BrokerRegistration>(&path).await {
            Ok(Some((registration, stat))) => Ok(Some(node(id, registration, &stat))),
            Ok(None) => Ok(None),
            Err(CoordinationError::Malformed(error)) => {
                tracing::error!("{error}; that broker does not count as alive");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    });
    let read = try_join_all(reads).await?.into_iter().flatten();
    Ok(read.map(|node| (node.id, node)).collect())
}

/// Describes a broker as it has registered.
pub(super) fn node(id: BrokerId, registration: BrokerRegistration, stat: &Stat) -> BrokerNode {
    BrokerNode {
        id,
        endpoints: endpoints(&registration),
        rack: registration.rack,
        epoch: stat.czxid,
    }
}

/// Reads the addresses of a registration of any age.
fn endpoints(registration: &BrokerRegistration) -> Vec<Listener> {
    let protocols = &registration.listener_security_protocol_map;
    let parse = |text: &String| {
        let (name, address) = text.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        // Before there were names, a listener was called as its protocol.
        let protocol = protocols.get(name).map_or(name, String::as_str);
        Some(Listener {
            name: name.to_owned(),
            protocol: protocol.parse().ok()?,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().ok()?,
        })
    };
    if !registration.endpoints.is_empty() {
        return registration.endpoints.iter().filter_map(parse).collect();
    }
    let port = u16::try_from(registration.port).ok();
    let oldest = registration.host.as_ref().zip(port);
    oldest
        .map(|(host, port)| Listener {
            name: SecurityProtocol::Plaintext.name().to_owned(),
            protocol: SecurityProtocol::Plaintext,
            host: host.clone(),
            port,
        })
        .into_iter()
        .collect()
}

/// Removes a node that this broker left behind; returns the content of one that somebody else holds.
async fn remove_own(
    client: &CoordinationClient,
    path: &str,
    earlier: Option<i64>,
) -> Result<Option<Vec<u8>>, CoordinationError> {
    let Some((data, stat)) = client.get(path).await? else {
        return Ok(None);
    };
    let own = [Some(client.session_id()), earlier];
    if own.contains(&Some(stat.ephemeral_owner)) {
        client.delete(path).await?;
        return Ok(None);
    }
    Ok(Some(data))
}

/// Builds the content of `/brokers/ids/N`. Old clients know only its host and port, so these are always there.
fn registration(node: &BrokerNode, clock: &dyn Clock) -> BrokerRegistration {
    let named = |endpoint: &crate::config::Listener| {
        let mut endpoint = endpoint.clone();
        endpoint.host = endpoint.registered_host().to_owned();
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
        host: oldest.map(|endpoint| endpoint.registered_host().to_owned()),
        timestamp: clock.now_ms().to_string(),
        port: oldest.map_or(-1, |endpoint| i32::from(endpoint.port)),
        version: 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_of_every_age_are_understood() {
        let told = |text: &str| {
            let registration = from_json::<BrokerRegistration>("", text.as_bytes());
            let found = endpoints(&registration.expect("a registration"));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let of_2014 = r#"{"jmx_port":-1,"timestamp":"1","host":"h","version":1,"port":9092}"#;
        assert_eq!(told(of_2014), ["PLAINTEXT://h:9092"]);
        let of_2015 = r#"{"jmx_port":-1,"timestamp":"1","host":"h","version":2,"port":9092,
            "endpoints":["PLAINTEXT://h:9092","SSL://h:9093"]}"#;
        assert_eq!(told(of_2015), ["PLAINTEXT://h:9092", "SSL://h:9093"]);
        let of_today = r#"{"jmx_port":-1,"timestamp":"1","host":null,"version":5,"port":-1,"features":{},
            "listener_security_protocol_map":{"IN":"PLAINTEXT"},"endpoints":["IN://[::1]:9092"]}"#;
        assert_eq!(told(of_today), ["IN://[::1]:9092"]);
    }
}
