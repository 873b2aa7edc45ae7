//! The session of a broker in a simulation: zookeeper-client would open sockets of the system's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use troupe_protocol::zookeeper::{Acl, Stat as WireStat};
use zookeeper_client::{Error, MultiWriteError, MultiWriteResult, Stat};

use super::client::Write;
use crate::network::Network;
use crate::znode_client::{
    Client, ClientError, ConnectError, ConnectString, CreateMode, Done, Event, Item, code, state,
};

type Result<T> = std::result::Result<T, Error>;

/// A session; clones share it, and it is closed when the last one is dropped.
#[derive(Clone)]
pub(super) struct Session {
    client: Arc<Client>,
    watchers: Arc<Mutex<Watchers>>,
    state: watch::Receiver<i32>,
}

/// Who waits for what happens to a path.
type Watchers = BTreeMap<String, Vec<oneshot::Sender<()>>>;

fn lock(watchers: &Mutex<Watchers>) -> MutexGuard<'_, Watchers> {
    watchers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells whoever waits of an event; that of the session's end everybody.
fn tell(watchers: &Mutex<Watchers>, event: &Event) {
    let mut watchers = lock(watchers);
    let waiting = match &event.path {
        Some(path) => watchers.remove(path).unwrap_or_default(),
        None if event.state == state::EXPIRED => std::mem::take(&mut *watchers)
            .into_values()
            .flatten()
            .collect(),
        None => Vec::new(),
    };
    for waiting in waiting {
        // Who waits no more need not know.
        let _ = waiting.send(());
    }
}

impl Session {
    /// Opens a session.
    pub(super) async fn connect(
        connect: &str,
        timeout: Duration,
        network: &Network,
    ) -> Result<Self> {
        let connect = ConnectString::parse(connect).map_err(unexpected)?;
        let watchers = Arc::new(Mutex::new(Watchers::new()));
        let (changed, mut state) = watch::channel(state::DISCONNECTED);
        let told = Arc::clone(&watchers);
        let events = move |event: Event| {
            tell(&told, &event);
            if event.path.is_none() {
                changed.send_replace(event.state);
            }
        };
        let client = Client::start_on(network, &connect, timeout, events)
            .await
            .map_err(unexpected)?;
        let connected = state.wait_for(|state| *state == state::SYNC_CONNECTED);
        if connected.await.is_err() {
            return Err(Error::NoHosts);
        }
        Ok(Self {
            client: Arc::new(client),
            watchers,
            state,
        })
    }

    pub(super) fn session_id(&self) -> i64 {
        self.client.session_id()
    }

    /// Tells whether the session is over.
    pub(super) fn has_ended(&self) -> bool {
        is_end(*self.state.borrow()) || self.state.has_changed().is_err()
    }

    /// Returns what tells when the session is over, and does not keep it open.
    pub(super) fn end(&self) -> impl Future<Output = ()> + use<> {
        let mut state = self.state.clone();
        async move {
            // Whose task is gone is over as well.
            let _ = state.wait_for(|state| is_end(*state)).await;
        }
    }

    /// Waits for what happens to a path from now on.
    fn watch(&self, path: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut watchers = lock(&self.watchers);
        let waiting = watchers.entry(path.to_owned()).or_default();
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(sender);
        receiver
    }

    pub(super) async fn create(&self, path: &str, data: &[u8], mode: CreateMode) -> Result<()> {
        let created = self
            .client
            .create(path, Some(data), &[Acl::open()], mode, 0)
            .await;
        created.map(|_| ()).map_err(error)
    }

    /// Creates a node and its parents, as far as they are missing.
    pub(super) async fn mkdir(&self, path: &str) -> Result<()> {
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
        for end in ends.chain([path.len()]) {
            let node = path.get(..end).unwrap_or(path);
            match self.create(node, b"", CreateMode::Persistent).await {
                Ok(()) | Err(Error::NodeExists) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) async fn stat(&self, path: &str) -> Result<Option<Stat>> {
        found(self.client.exists(path, false).await)
    }

    pub(super) async fn watch_stat(
        &self,
        path: &str,
    ) -> Result<(Option<Stat>, oneshot::Receiver<()>)> {
        let watcher = self.watch(path);
        Ok((found(self.client.exists(path, true).await)?, watcher))
    }

    pub(super) async fn get(&self, path: &str) -> Result<(Vec<u8>, Stat)> {
        let (data, found) = self.client.get(path, false).await.map_err(error)?;
        Ok((data.unwrap_or_default().to_vec(), stat(&found)))
    }

    pub(super) async fn watch_data(
        &self,
        path: &str,
    ) -> Result<(Vec<u8>, Stat, oneshot::Receiver<()>)> {
        let watcher = self.watch(path);
        let (data, found) = self.client.get(path, true).await.map_err(error)?;
        Ok((data.unwrap_or_default().to_vec(), stat(&found), watcher))
    }

    pub(super) async fn children(&self, path: &str) -> Result<Vec<String>> {
        let children = self.client.children(path, false).await;
        children.map(|(names, _)| names).map_err(error)
    }

    pub(super) async fn watch_children(
        &self,
        path: &str,
    ) -> Result<(Vec<String>, oneshot::Receiver<()>)> {
        let watcher = self.watch(path);
        let (names, _) = self.client.children(path, true).await.map_err(error)?;
        Ok((names, watcher))
    }

    pub(super) async fn set(&self, path: &str, data: &[u8], version: Option<i32>) -> Result<Stat> {
        let version = version.unwrap_or(-1);
        let set = self.client.set(path, Some(data), version).await;
        set.map(|found| stat(&found)).map_err(error)
    }

    pub(super) async fn delete(&self, path: &str) -> Result<()> {
        self.client.delete(path, -1).await.map_err(error)
    }

    pub(super) async fn transaction(
        &self,
        writes: &[Write],
    ) -> std::result::Result<Vec<MultiWriteResult>, MultiWriteError> {
        let acl = [Acl::open()];
        let item = |write| item(write, &acl);
        let items: Vec<Item<'_>> = writes.iter().map(item).collect();
        let answer = self.client.multi(&items).await;
        match answer.map_err(|failed| MultiWriteError::RequestFailed {
            source: error(failed),
        })? {
            Ok(done) => Ok(done.into_iter().map(result).collect()),
            Err(refused) => Err(MultiWriteError::OperationFailed {
                index: refused.index,
                source: error(ClientError::Code(refused.error)),
            }),
        }
    }
}

fn is_end(state: i32) -> bool {
    matches!(state, state::EXPIRED | state::CLOSED | state::AUTH_FAILED)
}

fn item<'a>(write: &'a Write, acl: &'a [Acl]) -> Item<'a> {
    match write {
        Write::Check(path, version) => Item::Check(path, *version),
        Write::Create(path, data) => Item::Create(path, data, acl, CreateMode::Persistent),
        Write::CreateEphemeral(path, data) => Item::Create(path, data, acl, CreateMode::Ephemeral),
        Write::Set(path, data, version) => Item::Set(path, data, version.unwrap_or(-1)),
        Write::Delete(path) => Item::Delete(path, -1),
    }
}

fn result(done: Done) -> MultiWriteResult {
    match done {
        Done::Checked => MultiWriteResult::Check,
        Done::Deleted => MultiWriteResult::Delete,
        Done::Set(found) => MultiWriteResult::SetData { stat: stat(&found) },
        // The operation of old has no statistics in its answer, and nobody looks at them.
        Done::Created(path) => MultiWriteResult::Create {
            path,
            stat: stat(&WireStat::default()),
        },
    }
}

fn found(answer: std::result::Result<WireStat, ClientError>) -> Result<Option<Stat>> {
    match answer {
        Ok(found) => Ok(Some(stat(&found))),
        Err(failed) if failed.is_no_node() => Ok(None),
        Err(failed) => Err(error(failed)),
    }
}

fn stat(stat: &WireStat) -> Stat {
    Stat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        pzxid: stat.pzxid,
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: stat.ephemeral_owner,
        data_length: stat.data_length,
        num_children: stat.num_children,
    }
}

fn unexpected(error: ConnectError) -> Error {
    Error::UnexpectedError(error.to_string())
}

fn error(error: ClientError) -> Error {
    match error {
        ClientError::ConnectionLoss => Error::ConnectionLoss,
        ClientError::Expired => Error::SessionExpired,
        ClientError::Closed => Error::ClientClosed,
        ClientError::Reply(error) => Error::UnexpectedError(error.to_string()),
        ClientError::Code(code) => match code {
            code::NO_NODE => Error::NoNode,
            code::NO_AUTH => Error::NoAuth,
            code::BAD_VERSION => Error::BadVersion,
            code::NO_CHILDREN_FOR_EPHEMERALS => Error::NoChildrenForEphemerals,
            code::NODE_EXISTS => Error::NodeExists,
            code::NOT_EMPTY => Error::NotEmpty,
            -112 => Error::SessionExpired,
            -118 => Error::SessionMoved,
            other => Error::UnexpectedErrorCode(other),
        },
    }
}
