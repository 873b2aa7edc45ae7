//! The log directories of this broker and the replicas in them.
//!
//! [`LogManagerHandle::open`] takes the directories into possession; replicas are opened one by one, with their topic's
//! configuration, when the broker learns what it has to host. So nothing is recovered with the wrong settings, and a
//! start costs one look at each directory.

mod checkpointing;
#[cfg(test)]
mod cleaner_tests;
mod cleaners;
mod cleaning;
mod description;
mod log_dir;
mod manager;
mod meta;
mod replicas;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use actix::Addr;
use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use crate::config::{BrokerConfig, TopicConfig};
use crate::log::names::DirKind;
use crate::partition::{Answer, PartitionHandle, TopicPartition};
use crate::replication::isr::IsrChanges;
use crate::runtime::Runtime;
use crate::storage::Storage;
use crate::storage::lock::LockError;
pub use manager::LogManager;

/// Why log directories cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory cannot be read or written.
    #[error("cannot use log directory {dir}: {error}", dir = dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process uses a directory.
    #[error(transparent)]
    Locked(LockError),
    /// A directory belongs to another broker.
    #[error(
        "log directory {dir} belongs to broker {found}, but this is broker {expected}: \
         set broker.id={found}, or choose another directory",
        dir = dir.display()
    )]
    Broker {
        /// The directory.
        dir: PathBuf,
        /// The id in its meta.properties.
        found: i32,
        /// The id in the configuration or in another directory.
        expected: i32,
    },
    /// A directory belongs to another cluster.
    #[error(
        "log directory {dir} belongs to cluster {found}, but this is cluster {expected}; \
         it was perhaps started with another zookeeper.connect",
        dir = dir.display()
    )]
    Cluster {
        /// The directory.
        dir: PathBuf,
        /// The id in its meta.properties.
        found: String,
        /// The id in the coordination service or in another directory.
        expected: String,
    },
    /// The log manager is shut down.
    #[error("the log manager is shut down")]
    Closed,
}

/// Who the log directories belong to, as their meta.properties say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The broker, unless the directories are new.
    pub broker_id: Option<i32>,
    /// The cluster, unless the directories are new.
    pub cluster_id: Option<String>,
}

/// A log directory, as DescribeLogDirs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirDescription {
    /// Its path, as configured.
    pub path: PathBuf,
    /// KAFKA_STORAGE_ERROR when it is offline, or `None`.
    pub error: ErrorCode,
    /// Size of the file system in bytes, -1 when unknown.
    pub total_bytes: i64,
    /// Room that is left there in bytes, -1 when unknown.
    pub usable_bytes: i64,
    /// The replicas in it that are open.
    pub replicas: Vec<ReplicaDescription>,
}

/// A replica, as DescribeLogDirs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaDescription {
    /// Which one.
    pub topic_partition: TopicPartition,
    /// Size of its segments in bytes.
    pub size_bytes: u64,
}

/// The open replicas of this broker.
type Registry = Arc<RwLock<BTreeMap<TopicPartition, PartitionHandle>>>;

/// Reaches the log manager. Cheap to clone.
#[derive(Clone)]
pub struct LogManagerHandle {
    address: Addr<LogManager>,
    identity: Arc<Identity>,
    registry: Registry,
}

impl LogManagerHandle {
    /// Returns who the log directories belonged to when they were opened.
    pub fn meta(&self) -> &Identity {
        &self.identity
    }

    /// Gives the log directories to a broker of a cluster. Comes before the first [`open`](Self::open).
    ///
    /// # Errors
    /// `Broker` or `Cluster` when they belong to another one already.
    pub async fn set_identity(&self, broker_id: i32, cluster_id: &str) -> Result<(), OpenError> {
        let cluster_id = cluster_id.to_owned();
        let build = |reply| manager::SetIdentity {
            broker_id,
            cluster_id,
            reply,
        };
        self.ask(build).await.ok_or(OpenError::Closed)?
    }

    /// Says who writes changes of in-sync sets down, for the replicas that are opened from then on.
    pub async fn propose_isr_changes_to(&self, isr_changes: IsrChanges) {
        let build = |reply| manager::SetIsrChanges { isr_changes, reply };
        let _ = self.ask(build).await;
    }

    /// Opens the replica of a partition on this broker; creates it, in the directory with the fewest, when there is none.
    ///
    /// A replica of another topic of the same name, as its id says, is renamed with `-stray` and kept.
    ///
    /// # Errors
    /// KAFKA_STORAGE_ERROR when its directory cannot be used; the log says why.
    pub async fn open(
        &self,
        topic_partition: TopicPartition,
        topic_id: Uuid,
        config: Arc<TopicConfig>,
    ) -> Answer<PartitionHandle> {
        let build = |reply| replicas::Create {
            topic_partition,
            topic_id,
            config,
            reply,
        };
        self.ask(build)
            .await
            .unwrap_or(Err(ErrorCode::KafkaStorageError))
    }

    /// Returns an open replica.
    pub fn get(&self, topic_partition: &TopicPartition) -> Option<PartitionHandle> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.get(topic_partition).cloned()
    }

    /// Returns every open replica, by topic and partition.
    pub fn partitions(&self) -> Vec<PartitionHandle> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.values().cloned().collect()
    }

    /// Deletes a replica, open or not: it is gone at once, its files after `file.delete.delay.ms`.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION when there is none, KAFKA_STORAGE_ERROR when its directory cannot be renamed.
    pub async fn delete(&self, topic_partition: &TopicPartition) -> Answer<()> {
        self.rename(topic_partition, DirKind::Delete).await
    }

    /// Closes a replica, open or not, and renames its directory with `-stray`: nobody reads it, nobody removes it.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub async fn put_aside(&self, topic_partition: &TopicPartition) -> Answer<()> {
        self.rename(topic_partition, DirKind::Stray).await
    }

    async fn rename(&self, topic_partition: &TopicPartition, kind: DirKind) -> Answer<()> {
        let topic_partition = topic_partition.clone();
        let build = |reply| replicas::DeleteReplica {
            topic_partition,
            kind,
            reply,
        };
        self.ask(build)
            .await
            .unwrap_or(Err(ErrorCode::KafkaStorageError))
    }

    /// Returns the replicas on disk that nobody asked for yet. Once the broker has opened all of its own, these are
    /// strays: they are left alone.
    pub async fn unopened(&self) -> Vec<TopicPartition> {
        self.ask(|reply| description::ListUnopened { reply })
            .await
            .unwrap_or_default()
    }

    /// Describes the log directories, in the order of the configuration.
    pub async fn describe(&self) -> Vec<LogDirDescription> {
        self.ask(|reply| description::DescribeDirs { reply })
            .await
            .unwrap_or_default()
    }

    /// Flushes what is not flushed, and writes all checkpoint files.
    pub async fn checkpoint(&self) {
        let _ = self
            .ask(|reply| checkpointing::Checkpoint {
                flush: true,
                reply: Some(reply),
            })
            .await;
    }

    /// Closes all replicas, writes all checkpoint files, and marks the directories as cleanly shut down unless a
    /// replica in them could not be closed.
    pub async fn shutdown(&self) {
        let _ = self.ask(|reply| manager::Shutdown { reply }).await;
    }

    /// Sends the message that `build` makes around a reply; `None` when the manager is gone.
    async fn ask<T, M>(&self, build: impl FnOnce(oneshot::Sender<T>) -> M) -> Option<T>
    where
        M: actix::Message<Result = ()> + Send + 'static,
        LogManager: actix::Handler<M>,
    {
        let (reply, answer) = oneshot::channel();
        self.address.send(build(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl fmt::Debug for LogManagerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogManagerHandle")
            .field(&self.identity)
            .finish()
    }
}

impl LogManager {
    /// Opens the directories of `log.dirs` and starts the manager on the current thread.
    ///
    /// A directory that cannot be used is left out, after a log line, as long as another one can.
    ///
    /// # Errors
    /// `Locked` when another process uses one, `Broker` or `Cluster` when they do not belong together or to the
    /// configured broker, `Io` when none can be used.
    pub async fn open(
        config: Arc<BrokerConfig>,
        runtime: Runtime,
        storage: Arc<dyn Storage>,
    ) -> Result<LogManagerHandle, OpenError> {
        manager::open(config, runtime, storage).await
    }
}
