//! The log manager: owns the log directories and does what is due for all replicas from time to time.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture,
};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::oneshot;

use super::checkpointing::{Checkpoint, Files};
use super::cleaners::Cleaners;
use super::log_dir::{LogDir, write_clean_marker};
use super::replicas::{Create, Replica};
use super::{Identity, LogManagerHandle, OpenError, Registry};
use crate::config::BrokerConfig;
use crate::partition::messages::{Close, Maintain};
use crate::partition::{PartitionHandle, TopicPartition};
use crate::replication::isr::IsrChanges;
use crate::runtime::Runtime;
use crate::storage::Storage;

/// Replicas that are being closed at a time.
const CLOSING_AT_ONCE: usize = 64;

/// Owns the log directories.
///
/// Partitions have no timers of their own for what is due rarely: this one actor knows which of them need it, so that
/// thousands of idle ones cost nothing.
pub struct LogManager {
    pub(super) config: Arc<BrokerConfig>,
    pub(super) runtime: Runtime,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) broker_id: i32,
    pub(super) dirs: Vec<LogDir>,
    /// Directories that could not be used.
    pub(super) offline: Vec<PathBuf>,
    pub(super) replicas: BTreeMap<TopicPartition, Replica>,
    pub(super) registry: Registry,
    /// Replicas to be made once the checkpoint files do not speak of earlier ones of their names any more.
    pub(super) until_forgotten: Vec<Create>,
    /// Whether there is more to write than the replicas' positions tell.
    pub(super) checkpoints_changed: bool,
    /// Whether checkpoint files are being written.
    pub(super) checkpointing: bool,
    /// Whether a round of maintenance is under way.
    maintaining: bool,
    cleaners: Cleaners,
    pub(super) shutting_down: bool,
    /// Who writes changes of in-sync sets down.
    pub(super) isr_changes: Option<IsrChanges>,
    /// Tells whoever watches over this actor that it stopped of its own will.
    alive: Option<oneshot::Sender<()>>,
}

pub(super) async fn open(
    config: Arc<BrokerConfig>,
    runtime: Runtime,
    storage: Arc<dyn Storage>,
) -> Result<LogManagerHandle, OpenError> {
    let (manager, identity, alive) = prepare(config, runtime, storage).await?;
    let registry = manager.registry.clone();
    actix_rt::spawn(watch_over(alive));
    Ok(LogManagerHandle {
        address: manager.start(),
        identity: Arc::new(identity),
        registry,
    })
}

/// Opens the directories. The receiver is closed without a word when the manager panics.
pub(super) async fn prepare(
    config: Arc<BrokerConfig>,
    runtime: Runtime,
    storage: Arc<dyn Storage>,
) -> Result<(LogManager, Identity, oneshot::Receiver<()>), OpenError> {
    let (for_opening, files) = (config.clone(), storage.clone());
    let opened = runtime
        .blocking
        .run(move || open_dirs(&for_opening, files.as_ref()));
    let (dirs, offline) = opened.await.map_err(|_| OpenError::Closed)??;
    let identity = identity_of(&dirs, config.broker_id)?;
    let (alive, watched) = oneshot::channel();
    let registry = Registry::default();
    let manager = LogManager {
        cleaners: Cleaners::start(&config, &runtime, &registry),
        broker_id: identity.broker_id.or(config.broker_id).unwrap_or(-1),
        config,
        runtime,
        storage,
        dirs,
        offline,
        replicas: BTreeMap::new(),
        registry,
        until_forgotten: Vec::new(),
        checkpoints_changed: false,
        checkpointing: false,
        maintaining: false,
        shutting_down: false,
        isr_changes: None,
        alive: Some(alive),
    };
    Ok((manager, identity, watched))
}

fn open_dirs(
    config: &BrokerConfig,
    storage: &dyn Storage,
) -> Result<(Vec<LogDir>, Vec<PathBuf>), OpenError> {
    let (mut dirs, mut failed) = (Vec::new(), Vec::new());
    for path in &config.log_dirs {
        match LogDir::open(storage, path) {
            Ok(dir) => dirs.push(dir),
            Err(OpenError::Io { dir, error }) => failed.push((dir, error)),
            Err(error) => return Err(error),
        }
    }
    if dirs.is_empty()
        && let Some((dir, error)) = failed.pop()
    {
        return Err(OpenError::Io { dir, error });
    }
    let offline = |(dir, error): (PathBuf, io::Error)| {
        tracing::error!(dir = %dir.display(), "log directory is offline: {error}");
        dir
    };
    Ok((dirs, failed.into_iter().map(offline).collect()))
}

/// Finds out who the directories belong to; all of them have to agree with each other and with the configuration.
fn identity_of(dirs: &[LogDir], configured: Option<i32>) -> Result<Identity, OpenError> {
    let mut identity = Identity {
        broker_id: configured,
        cluster_id: None,
    };
    for dir in dirs {
        check_owner(dir, identity.broker_id, identity.cluster_id.as_deref())?;
        identity.broker_id = identity.broker_id.or(dir.meta.broker_id());
        identity.cluster_id = identity
            .cluster_id
            .or(dir.meta.cluster_id().map(str::to_owned));
    }
    // A configured id that no directory holds yet is not theirs.
    identity.broker_id = dirs.iter().find_map(|dir| dir.meta.broker_id());
    Ok(identity)
}

fn check_owner(
    dir: &LogDir,
    broker_id: Option<i32>,
    cluster_id: Option<&str>,
) -> Result<(), OpenError> {
    if let (Some(found), Some(expected)) = (dir.meta.broker_id(), broker_id)
        && found != expected
    {
        return Err(OpenError::Broker {
            dir: dir.path.clone(),
            found,
            expected,
        });
    }
    if let (Some(found), Some(expected)) = (dir.meta.cluster_id(), cluster_id)
        && found != expected
    {
        let (found, expected) = (found.to_owned(), expected.to_owned());
        return Err(OpenError::Cluster {
            dir: dir.path.clone(),
            found,
            expected,
        });
    }
    Ok(())
}

impl Actor for LogManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let interval = |ms| Duration::from_millis(std::cmp::max(ms, 1));
        ctx.run_interval(
            interval(self.config.replica_high_watermark_checkpoint_interval_ms),
            |manager, ctx| manager.checkpoint(Checkpoint::of_positions(), ctx),
        );
        let flushing = self
            .config
            .log_flush_offset_checkpoint_interval_ms
            .min(self.config.log_flush_start_offset_checkpoint_interval_ms);
        ctx.run_interval(interval(flushing), |manager, ctx| {
            manager.checkpoint(
                Checkpoint {
                    flush: true,
                    reply: None,
                },
                ctx,
            );
        });
        let every = interval(self.config.log_retention_check_interval_ms);
        ctx.run_later(
            Duration::from_millis(self.config.log_initial_task_delay_ms),
            move |manager, ctx| {
                manager.maintain(ctx);
                ctx.run_interval(every, |manager, ctx| manager.maintain(ctx));
            },
        );
        let deleted = self
            .dirs
            .iter_mut()
            .flat_map(|dir| std::mem::take(&mut dir.deleted))
            .collect();
        let delay_ms = self.config.topic_defaults.file_delete_delay_ms;
        self.remove_later(deleted, delay_ms, ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        // actix also comes here when it drops an actor that panicked.
        if let Some(alive) = self.alive.take().filter(|_| !std::thread::panicking()) {
            let _ = alive.send(());
        }
    }
}

/// Ends the process when the manager goes without having stopped, which is what a panic in it looks like.
///
/// Without it nobody would write checkpoints or make room any more, and nobody would notice. It ends as hard as kill -9
/// does, which every log can take.
async fn watch_over(alive: oneshot::Receiver<()>) {
    if alive.await.is_err() {
        tracing::error!("the log manager panicked, the process ends");
        std::process::abort();
    }
}

impl LogManager {
    /// Asks one partition after the other to do what is due, each when the one before has taken the message.
    fn maintain(&mut self, ctx: &mut Context<Self>) {
        if self.maintaining {
            return;
        }
        self.maintaining = true;
        let handles = self.handles();
        let round = async move {
            for handle in handles {
                // A partition that was closed meanwhile needs no maintenance.
                let _ = handle.send(Maintain).await;
            }
        };
        ctx.spawn(
            round
                .into_actor(self)
                .map(|(), manager, _| manager.maintaining = false),
        );
    }

    /// Returns all open replicas.
    pub(super) fn handles(&self) -> Vec<PartitionHandle> {
        self.replicas
            .values()
            .filter_map(|replica| replica.handle().cloned())
            .collect()
    }

    /// Removes directories that were marked as deleted, after a while in which readers of their files may finish.
    pub(super) fn remove_later(&self, dirs: Vec<PathBuf>, delay_ms: i64, ctx: &mut Context<Self>) {
        if dirs.is_empty() {
            return;
        }
        let delay = Duration::from_millis(u64::try_from(delay_ms).unwrap_or_default());
        ctx.run_later(delay, move |manager, _| {
            let storage = manager.storage.clone();
            manager.runtime.blocking.start(move || {
                for dir in dirs {
                    if let Err(error) = storage.remove_dir(&dir) {
                        tracing::warn!(dir = %dir.display(), "could not remove a deleted replica: {error}");
                    }
                }
            });
        });
    }
}

/// Gives the directories to a broker of a cluster.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SetIdentity {
    pub(super) broker_id: i32,
    pub(super) cluster_id: String,
    pub(super) reply: oneshot::Sender<Result<(), OpenError>>,
}

impl Handler<SetIdentity> for LogManager {
    type Result = ();

    fn handle(&mut self, message: SetIdentity, _: &mut Self::Context) {
        let answer = self.set_identity(message.broker_id, &message.cluster_id);
        let _ = message.reply.send(answer);
    }
}

impl LogManager {
    fn set_identity(&mut self, broker_id: i32, cluster_id: &str) -> Result<(), OpenError> {
        for dir in &self.dirs {
            check_owner(dir, Some(broker_id), Some(cluster_id))?;
        }
        for dir in &mut self.dirs {
            if dir.meta.set(broker_id, cluster_id) {
                let written = dir.meta.write(self.storage.as_ref(), &dir.path);
                written.map_err(|error| OpenError::Io {
                    dir: dir.path.clone(),
                    error,
                })?;
            }
        }
        self.broker_id = broker_id;
        Ok(())
    }
}

/// Says who writes changes of in-sync sets down.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SetIsrChanges {
    pub(super) isr_changes: IsrChanges,
    pub(super) reply: oneshot::Sender<()>,
}

impl Handler<SetIsrChanges> for LogManager {
    type Result = ();

    fn handle(&mut self, message: SetIsrChanges, _: &mut Self::Context) {
        self.isr_changes = Some(message.isr_changes);
        let _ = message.reply.send(());
    }
}

/// Closes everything.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Shutdown {
    pub(super) reply: oneshot::Sender<()>,
}

impl Handler<Shutdown> for LogManager {
    type Result = ();

    fn handle(&mut self, message: Shutdown, ctx: &mut Self::Context) {
        self.shutting_down = true;
        let handles = self.handles();
        let cleaners = self.cleaners.stop();
        let closing = async move {
            cleaners.await;
            stream::iter(handles)
                .map(|handle| async move {
                    let closed = handle.ask(|reply| Close { reply }).await;
                    (handle, closed.is_ok())
                })
                .buffer_unordered(CLOSING_AT_ONCE)
                .filter_map(|(handle, closed)| async move { (!closed).then_some(handle) })
                .collect::<Vec<_>>()
                .await
        };
        ctx.spawn(
            closing
                .into_actor(self)
                .then(|failed, manager, _| {
                    let files = manager.all_files();
                    let clean = manager.clean_dirs(&failed);
                    let storage = manager.storage.clone();
                    let blocking = &manager.runtime.blocking;
                    blocking
                        .run(move || finish(storage.as_ref(), files, clean))
                        .into_actor(manager)
                })
                .map(|_, manager, ctx| {
                    manager.replicas.clear();
                    // The locks go with the directories.
                    manager.dirs.clear();
                    let _ = message.reply.send(());
                    ctx.stop();
                }),
        );
    }
}

impl LogManager {
    /// Returns the directories in which every replica is closed.
    fn clean_dirs(&self, failed: &[PartitionHandle]) -> Vec<PathBuf> {
        let open = |dir: &LogDir| {
            failed
                .iter()
                .any(|handle| handle.dir().starts_with(&dir.path))
                || self.replicas.values().any(|replica| {
                    replica.is_opening()
                        && self
                            .dirs
                            .get(replica.dir)
                            .is_some_and(|its| its.path == dir.path)
                })
        };
        // Replicas that nobody opened are as they were found.
        let untouched = |dir: &LogDir| dir.was_clean || dir.unopened.is_empty();
        self.dirs
            .iter()
            .filter(|dir| !open(dir) && untouched(dir))
            .map(|dir| dir.path.clone())
            .collect()
    }
}

fn finish(storage: &dyn Storage, files: Vec<Files>, clean: Vec<PathBuf>) {
    let mut written: Vec<PathBuf> = Vec::new();
    for files in files {
        match files.write(storage) {
            Ok(()) => written.push(files.dir),
            Err(error) => {
                tracing::error!(dir = %files.dir.display(), "could not write checkpoints: {error}")
            }
        }
    }
    for dir in clean.into_iter().filter(|dir| written.contains(dir)) {
        if let Err(error) = write_clean_marker(storage, &dir) {
            tracing::error!(dir = %dir.display(), "could not mark the shutdown as clean: {error}");
        }
    }
}
