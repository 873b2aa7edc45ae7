//! A broker's session with the coordination service.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zookeeper_client::{Error, MultiWriteError, MultiWriteResult, Stat};

use super::paths;
use super::schema::{MalformedZnode, from_json, to_json};
use super::service::{Service, Watcher};
use crate::network::Network;
use crate::znode_client::CreateMode;

/// Why coordination did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum CoordinationError {
    /// The service refused, or could not be reached.
    #[error("coordination service: {0}")]
    Service(#[from] Error),
    /// Another write came first: an operation of a transaction found another version, or the node there already.
    #[error("coordination service: operation {index} of a transaction: {source}")]
    Transaction {
        /// Which operation, from 0.
        index: usize,
        /// What it met.
        source: Error,
    },
    /// A znode holds nonsense.
    #[error(transparent)]
    Malformed(#[from] MalformedZnode),
    /// Another broker has become the controller.
    #[error("another broker is the controller by now")]
    Fenced,
    /// This broker has left its cluster.
    #[error("this broker has left its cluster")]
    Closed,
}

impl From<MultiWriteError> for CoordinationError {
    fn from(error: MultiWriteError) -> Self {
        match error {
            MultiWriteError::RequestFailed { source } => Self::Service(source),
            MultiWriteError::OperationFailed { index, source } => {
                Self::Transaction { index, source }
            }
        }
    }
}

/// The result of a coordination call.
pub type Result<T> = std::result::Result<T, CoordinationError>;

/// One write of a transaction.
#[derive(Debug, Clone)]
pub enum Write {
    /// Fails the transaction unless the node has this version.
    Check(String, i32),
    /// Creates a persistent node.
    Create(String, Vec<u8>),
    /// Creates a node that goes with the session.
    CreateEphemeral(String, Vec<u8>),
    /// Replaces a node's data; with a version, only if it has that one.
    Set(String, Vec<u8>, Option<i32>),
    /// Deletes a node without children.
    Delete(String),
}

/// Stands for whatever version a node has.
const ANY_VERSION: i32 = -1;

/// Nodes whose children are listed at once.
const LISTS_AT_ONCE: usize = 64;

/// Time before a request is sent again whose connection was lost.
const RETRY: Duration = Duration::from_millis(50);

/// A session; clones share it, and it is closed when the last one is dropped.
#[derive(Clone)]
pub struct CoordinationClient {
    client: Service,
}

impl CoordinationClient {
    /// Opens a session with `connect` (`host:port,…/chroot`) and creates the chroot when it is missing.
    ///
    /// # Errors
    /// When no server accepts a session within `timeout`.
    pub async fn connect(connect: &str, timeout: Duration, network: &Network) -> Result<Self> {
        let client = Service::connect(connect, timeout, network).await?;
        Ok(Self { client })
    }

    /// Returns the id of the session, as `Stat` names owners of ephemerals.
    pub fn session_id(&self) -> i64 {
        self.client.session_id()
    }

    /// Waits until the session is over for good: expired or closed.
    pub async fn ended(&self) {
        self.client.end().await;
    }

    /// Tells whether the session is over for good.
    pub fn has_ended(&self) -> bool {
        self.client.has_ended()
    }

    /// Closes the session, and tells whether the service has confirmed it within `patience`.
    ///
    /// Other clones must be gone; while there is one, the session lives on.
    pub async fn close(self, patience: Duration) -> bool {
        let end = self.client.end();
        drop(self);
        tokio::time::timeout(patience, end).await.is_ok()
    }

    /// Does a request, and again whenever the connection is lost under it, until the session is over: that a server is
    /// gone is no reason to fail what the next one would do. A write may then meet what it has done itself.
    async fn patiently<T>(&self, request: impl AsyncFn() -> Result<T>) -> Result<T> {
        loop {
            match request().await {
                Err(CoordinationError::Service(Error::ConnectionLoss)) if !self.has_ended() => {
                    tokio::time::sleep(RETRY).await;
                }
                done => return done,
            }
        }
    }

    /// Creates the nodes that every tool expects.
    pub async fn create_persistent_paths(&self) -> Result<()> {
        let found = paths::PERSISTENT
            .iter()
            .map(|path| self.patiently(async || Ok(self.client.stat(path).await?)));
        let mut missing = Vec::new();
        for (path, found) in paths::PERSISTENT.iter().zip(join_all(found).await) {
            if found?.is_none() {
                missing.push(Write::Create((*path).to_owned(), Vec::new()));
            }
        }
        match self.transaction(&missing).await {
            // Another broker starts beside this one.
            Err(CoordinationError::Transaction { .. }) => {
                for path in paths::PERSISTENT {
                    self.create_if_missing(path, b"").await?;
                }
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Creates a persistent node and its parents; tells whether it was missing.
    pub async fn create_if_missing(&self, path: &str, data: &[u8]) -> Result<bool> {
        self.patiently(async || self.try_create(path, data).await)
            .await
    }

    async fn try_create(&self, path: &str, data: &[u8]) -> Result<bool> {
        let create = || self.client.create(path, data, CreateMode::Persistent);
        let mut created = create().await;
        if matches!(created, Err(Error::NoNode))
            && let Some((parent, _)) = path.rsplit_once('/')
        {
            self.client.mkdir(parent).await?;
            created = create().await;
        }
        match created {
            Ok(_) => Ok(true),
            Err(Error::NodeExists) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a persistent node whose name ends in the parent's next number.
    pub async fn create_sequential(&self, prefix: &str, data: &[u8]) -> Result<()> {
        let mode = CreateMode::PersistentSequential;
        Ok(self.client.create(prefix, data, mode).await?)
    }

    /// Reads a node; `None` when it is missing.
    pub async fn get(&self, path: &str) -> Result<Option<(Vec<u8>, Stat)>> {
        let read = self.patiently(async || Ok(self.client.get(path).await?));
        missing_is_none(read.await)
    }

    /// Has the server that this session is at catch up with the others: what is read from then on is no older than this.
    ///
    /// # Errors
    /// When the node is missing.
    pub async fn catch_up(&self, path: &str) -> Result<()> {
        // A transaction that changes nothing is voted on all the same.
        let check = Write::Check(path.to_owned(), ANY_VERSION);
        self.transaction(&[check]).await.map(|_| ())
    }

    /// Reads a JSON node; `None` when it is missing.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<Option<(T, Stat)>> {
        match self.get(path).await? {
            Some((data, stat)) => Ok(Some((from_json(path, &data)?, stat))),
            None => Ok(None),
        }
    }

    /// Lists children, none when the node is missing.
    pub async fn children(&self, path: &str) -> Result<Vec<String>> {
        let list = self.patiently(async || Ok(self.client.children(path).await?));
        Ok(missing_is_none(list.await)?.unwrap_or_default())
    }

    /// Lists children and arms a watch on them.
    pub async fn watch_children(&self, path: &str) -> Result<(Vec<String>, Watcher)> {
        Ok(self.client.watch_children(path).await?)
    }

    /// Reads a JSON node and arms a watch on its data; `None` when it is missing.
    pub async fn watch_json<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<(Option<T>, Watcher)>> {
        let watched = self.client.watch_data(path).await;
        let watched = missing_is_none(watched.map_err(Into::into))?;
        Ok(watched.map(|(data, _, watcher)| (from_json(path, &data).ok(), watcher)))
    }

    /// Arms a watch on a node, whether it is there or not: it tells when the node comes, goes or changes.
    pub async fn watch(&self, path: &str) -> Result<Watcher> {
        Ok(self.client.watch_stat(path).await?.1)
    }

    /// Replaces a node's data; with a version, only if it has that one.
    pub async fn set(&self, path: &str, data: &[u8], version: Option<i32>) -> Result<Stat> {
        self.patiently(async || Ok(self.client.set(path, data, version).await?))
            .await
    }

    /// Writes a JSON node, whether it is there or not.
    pub async fn put_json<T: Serialize>(&self, path: &str, value: &T) -> Result<()> {
        self.put(path, &to_json(value)).await
    }

    /// Writes a node, whether it is there or not.
    pub async fn put(&self, path: &str, data: &[u8]) -> Result<()> {
        if missing_is_none(self.set(path, data, None).await)?.is_none() {
            self.create_if_missing(path, data).await?;
        }
        Ok(())
    }

    /// Deletes a node; fine when it is missing.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let deletion = self.patiently(async || Ok(self.client.delete(path).await?));
        missing_is_none(deletion.await)?;
        Ok(())
    }

    /// Lists a node and everything below it, parents before their children; nothing when it is missing.
    pub async fn tree(&self, path: &str) -> Result<Vec<String>> {
        if self.get(path).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        let mut level = vec![path.to_owned()];
        while !level.is_empty() {
            let lists = level.iter().map(|parent| self.children(parent));
            let lists: Vec<_> = stream::iter(lists).buffered(LISTS_AT_ONCE).collect().await;
            let mut below = Vec::new();
            for (parent, children) in level.iter().zip(lists) {
                below.extend(children?.iter().map(|child| format!("{parent}/{child}")));
            }
            all.append(&mut level);
            level = below;
        }
        Ok(all)
    }

    /// Does all of the writes, or none.
    pub async fn transaction(&self, writes: &[Write]) -> Result<Vec<MultiWriteResult>> {
        self.patiently(async || Ok(self.client.transaction(writes).await?))
            .await
    }
}

fn missing_is_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(CoordinationError::Service(Error::NoNode)) => Ok(None),
        Err(error) => Err(error),
    }
}
