//! Who speaks with the coordination service: zookeeper-client, or on the network of a simulation our own client.

use std::time::Duration;

use tokio::sync::oneshot;
use zookeeper_client::{
    Acls, Client, CreateMode, CreateOptions, Error, MultiWriteError, MultiWriteResult,
    OneshotWatcher, Stat,
};

use super::client::Write;
use super::simulated;
use crate::network::Network;
use crate::znode_client::CreateMode as Mode;

type Result<T> = std::result::Result<T, Error>;

/// Waits for one change of a node.
pub struct Watcher(Watching);

enum Watching {
    ZooKeeper(OneshotWatcher),
    Simulated(oneshot::Receiver<()>),
}

impl Watcher {
    /// Waits until the node has changed, or the session is over.
    pub async fn changed(self) {
        match self.0 {
            Watching::ZooKeeper(watcher) => drop(watcher.changed().await),
            // Nobody tells any more when the session is gone, which is its end.
            Watching::Simulated(watcher) => drop(watcher.await),
        }
    }
}

impl From<OneshotWatcher> for Watcher {
    fn from(watcher: OneshotWatcher) -> Self {
        Self(Watching::ZooKeeper(watcher))
    }
}

impl From<oneshot::Receiver<()>> for Watcher {
    fn from(watcher: oneshot::Receiver<()>) -> Self {
        Self(Watching::Simulated(watcher))
    }
}

fn options(mode: Mode) -> CreateOptions<'static> {
    let mode = match mode {
        Mode::Ephemeral => CreateMode::Ephemeral,
        Mode::PersistentSequential => CreateMode::PersistentSequential,
        _ => CreateMode::Persistent,
    };
    mode.with_acls(Acls::anyone_all())
}

/// A session; clones share it, and it is closed when the last one is dropped.
#[derive(Clone)]
pub(super) enum Service {
    ZooKeeper(Client),
    Simulated(simulated::Session),
}

impl Service {
    /// Opens a session with `connect` (`host:port,…/chroot`) and creates the chroot when it is missing.
    pub(super) async fn connect(
        connect: &str,
        timeout: Duration,
        network: &Network,
    ) -> Result<Self> {
        if let Network::Simulated(_) = network {
            let session = simulated::Session::connect(connect, timeout, network).await?;
            return Ok(Self::Simulated(session));
        }
        let (servers, chroot) = match connect.find('/') {
            Some(at) => connect.split_at(at),
            None => (connect, ""),
        };
        let client = Client::connector()
            .with_session_timeout(timeout)
            .connect(servers)
            .await?;
        let chroot = chroot.trim_end_matches('/');
        if chroot.is_empty() {
            return Ok(Self::ZooKeeper(client));
        }
        client.mkdir(chroot, &options(Mode::Persistent)).await?;
        let client = client
            .chroot(chroot.to_owned())
            .map_err(|_| Error::BadArguments(&"the chroot of zookeeper.connect is no path"))?;
        Ok(Self::ZooKeeper(client))
    }

    pub(super) fn session_id(&self) -> i64 {
        match self {
            Self::ZooKeeper(client) => client.session_id().0,
            Self::Simulated(session) => session.session_id(),
        }
    }

    /// Tells whether the session is over for good.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::ZooKeeper(client) => client.state().is_terminated(),
            Self::Simulated(session) => session.has_ended(),
        }
    }

    /// Returns what tells when the session is over for good, and does not keep it open.
    pub(super) fn end(&self) -> impl Future<Output = ()> + use<> {
        let end = match self {
            Self::ZooKeeper(client) => Ok(client.state_watcher()),
            Self::Simulated(session) => Err(session.end()),
        };
        async move {
            match end {
                Ok(mut states) => {
                    let mut state = states.state();
                    while !state.is_terminated() {
                        state = states.changed().await;
                    }
                }
                Err(end) => end.await,
            }
        }
    }

    pub(super) async fn create(&self, path: &str, data: &[u8], mode: Mode) -> Result<()> {
        match self {
            Self::ZooKeeper(client) => {
                let options = options(mode);
                client.create(path, data, &options).await.map(|_| ())
            }
            Self::Simulated(session) => session.create(path, data, mode).await,
        }
    }

    /// Creates a node and its parents, as far as they are missing.
    pub(super) async fn mkdir(&self, path: &str) -> Result<()> {
        match self {
            Self::ZooKeeper(client) => client.mkdir(path, &options(Mode::Persistent)).await,
            Self::Simulated(session) => session.mkdir(path).await,
        }
    }

    pub(super) async fn stat(&self, path: &str) -> Result<Option<Stat>> {
        match self {
            Self::ZooKeeper(client) => client.check_stat(path).await,
            Self::Simulated(session) => session.stat(path).await,
        }
    }

    pub(super) async fn watch_stat(&self, path: &str) -> Result<(Option<Stat>, Watcher)> {
        match self {
            Self::ZooKeeper(client) => {
                let (stat, watcher) = client.check_and_watch_stat(path).await?;
                Ok((stat, watcher.into()))
            }
            Self::Simulated(session) => {
                let (stat, watcher) = session.watch_stat(path).await?;
                Ok((stat, watcher.into()))
            }
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<(Vec<u8>, Stat)> {
        match self {
            Self::ZooKeeper(client) => client.get_data(path).await,
            Self::Simulated(session) => session.get(path).await,
        }
    }

    pub(super) async fn watch_data(&self, path: &str) -> Result<(Vec<u8>, Stat, Watcher)> {
        match self {
            Self::ZooKeeper(client) => {
                let (data, stat, watcher) = client.get_and_watch_data(path).await?;
                Ok((data, stat, watcher.into()))
            }
            Self::Simulated(session) => {
                let (data, stat, watcher) = session.watch_data(path).await?;
                Ok((data, stat, watcher.into()))
            }
        }
    }

    pub(super) async fn children(&self, path: &str) -> Result<Vec<String>> {
        match self {
            Self::ZooKeeper(client) => client.list_children(path).await,
            Self::Simulated(session) => session.children(path).await,
        }
    }

    pub(super) async fn watch_children(&self, path: &str) -> Result<(Vec<String>, Watcher)> {
        match self {
            Self::ZooKeeper(client) => {
                let (children, watcher) = client.list_and_watch_children(path).await?;
                Ok((children, watcher.into()))
            }
            Self::Simulated(session) => {
                let (children, watcher) = session.watch_children(path).await?;
                Ok((children, watcher.into()))
            }
        }
    }

    pub(super) async fn set(&self, path: &str, data: &[u8], version: Option<i32>) -> Result<Stat> {
        match self {
            Self::ZooKeeper(client) => client.set_data(path, data, version).await,
            Self::Simulated(session) => session.set(path, data, version).await,
        }
    }

    pub(super) async fn delete(&self, path: &str) -> Result<()> {
        match self {
            Self::ZooKeeper(client) => client.delete(path, None).await,
            Self::Simulated(session) => session.delete(path).await,
        }
    }

    /// Does all of the writes, or none.
    pub(super) async fn transaction(
        &self,
        writes: &[Write],
    ) -> std::result::Result<Vec<MultiWriteResult>, MultiWriteError> {
        let client = match self {
            Self::ZooKeeper(client) => client,
            Self::Simulated(session) => return session.transaction(writes).await,
        };
        let mut multi = client.new_multi_writer();
        for write in writes {
            match write {
                Write::Check(path, version) => multi.add_check_version(path, *version)?,
                Write::Create(path, data) => {
                    multi.add_create(path, data, &options(Mode::Persistent))?;
                }
                Write::CreateEphemeral(path, data) => {
                    multi.add_create(path, data, &options(Mode::Ephemeral))?;
                }
                Write::Set(path, data, version) => multi.add_set_data(path, data, *version)?,
                Write::Delete(path) => multi.add_delete(path, None)?,
            }
        }
        multi.commit().await
    }
}
