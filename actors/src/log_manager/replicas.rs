//! Opening, making and deleting replicas.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::checkpointing::{Checkpoint, Position, found};
use super::log_dir::LogDir;
use super::manager::LogManager;
use crate::config::TopicConfig;
use crate::log::names::{DirKind, marked_partition_dir};
use crate::log::{Start, partition_metadata};
use crate::partition::messages::Delete;
use crate::partition::{
    Answer, Opening, Partition, PartitionHandle, Reply, Surroundings, TopicPartition,
};
use crate::storage::Storage;

/// How a log starts that was never there.
const NEW: Start = Start {
    recovery_point: 0,
    log_start_offset: 0,
    cleaned_to: 0,
    clean_shutdown: true,
};

/// A replica of this broker.
pub(super) struct Replica {
    /// Which of the log directories it is in.
    pub(super) dir: usize,
    topic_id: Uuid,
    pub(super) state: State,
    /// What the last checkpoint says of it.
    pub(super) checkpointed: Option<Position>,
}

/// How far a replica has come.
pub(super) enum State {
    /// Its log is being opened; these wait for it.
    Opening {
        waiting: Vec<Reply<PartitionHandle>>,
    },
    /// In use.
    Open(PartitionHandle),
    /// Its directory is being renamed; this comes after.
    Deleting { then: Option<Create> },
}

impl Replica {
    /// Returns the replica when it is open.
    pub(super) fn handle(&self) -> Option<&PartitionHandle> {
        match &self.state {
            State::Open(handle) => Some(handle),
            _ => None,
        }
    }

    /// Tells whether its log is being opened.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening { .. })
    }
}

/// Opens or makes a replica.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Create {
    pub(super) topic_partition: TopicPartition,
    pub(super) topic_id: Uuid,
    pub(super) config: Arc<TopicConfig>,
    pub(super) reply: Reply<PartitionHandle>,
}

impl Handler<Create> for LogManager {
    type Result = ();

    fn handle(&mut self, create: Create, ctx: &mut Self::Context) {
        self.create(create, ctx);
    }
}

impl LogManager {
    fn create(&mut self, create: Create, ctx: &mut Context<Self>) {
        if self.shutting_down {
            let _ = create.reply.send(Err(ErrorCode::KafkaStorageError));
            return;
        }
        let Some(replica) = self.replicas.get_mut(&create.topic_partition) else {
            self.start_opening(create, ctx);
            return;
        };
        if let State::Deleting { then } = &mut replica.state {
            *then = Some(create);
            return;
        }
        if replica.topic_id != create.topic_id {
            let _ = create.reply.send(Err(ErrorCode::InconsistentTopicId));
            return;
        }
        match &mut replica.state {
            State::Open(handle) => {
                let _ = create.reply.send(Ok(handle.clone()));
            }
            State::Opening { waiting } => waiting.push(create.reply),
            State::Deleting { .. } => {}
        }
    }

    /// Opens replicas that had to wait for checkpoints that do not speak of them any more.
    pub(super) fn create_forgotten(&mut self, written: bool, ctx: &mut Context<Self>) {
        for create in std::mem::take(&mut self.until_forgotten) {
            if written {
                self.create(create, ctx);
            } else {
                let _ = create.reply.send(Err(ErrorCode::KafkaStorageError));
            }
        }
    }

    fn start_opening(&mut self, create: Create, ctx: &mut Context<Self>) {
        let Some(index) = self.choose_dir(&create.topic_partition) else {
            let _ = create.reply.send(Err(ErrorCode::KafkaStorageError));
            return;
        };
        let Some(dir) = self.dirs.get_mut(index) else {
            return;
        };
        let exists = dir.unopened.remove(&create.topic_partition);
        if !exists && dir.found.speak_of(&create.topic_partition) {
            // Of an earlier replica of that name: after a crash, this one would be cut to what that one was.
            self.until_forgotten.push(create);
            self.checkpoints_changed = true;
            self.checkpoint(Checkpoint::of_positions(), ctx);
            return;
        }
        let Create {
            topic_partition,
            topic_id,
            config,
            reply,
        } = create;
        let opening = Opening {
            start: start_of(dir, &topic_partition, exists),
            high_watermark: found(&dir.found.high_watermarks, &topic_partition).unwrap_or(0),
            dir: dir.replica(&topic_partition),
            topic_partition: topic_partition.clone(),
            topic_id,
            broker: self.broker_id,
            config: Arc::clone(&config),
            surroundings: Surroundings {
                storage: self.storage.clone(),
                clock: self.runtime.clock.clone(),
                blocking: self.runtime.blocking.clone(),
                producer_id_expiration_ms: self.config.producer_id_expiration_ms,
                replica_lag_time_max: Duration::from_millis(self.config.replica_lag_time_max_ms),
                isr_changes: self.isr_changes.clone(),
            },
        };
        let state = State::Opening {
            waiting: vec![reply],
        };
        self.replicas.insert(
            topic_partition.clone(),
            Replica {
                dir: index,
                topic_id,
                state,
                checkpointed: None,
            },
        );
        let (done, opened) = oneshot::channel();
        self.runtime
            .logs
            .spawn(placement(&topic_partition), move || async move {
                let _ = done.send(open_replica(opening, exists));
            });
        ctx.spawn(opened.into_actor(self).map(move |opened, manager, ctx| {
            let opened = opened.unwrap_or_else(|_| Err(io::Error::other("opening it panicked")));
            match opened {
                Ok(Opened::PutAside) => manager.start_again(topic_partition, config, ctx),
                Ok(Opened::Replica(handle)) => manager.opened(&topic_partition, Ok(handle)),
                Err(error) => manager.opened(&topic_partition, Err(error)),
            }
        }));
    }

    /// Makes a replica in the place of one that was put aside.
    fn start_again(
        &mut self,
        topic_partition: TopicPartition,
        config: Arc<TopicConfig>,
        ctx: &mut Context<Self>,
    ) {
        let Some(replica) = self.replicas.remove(&topic_partition) else {
            return;
        };
        if let State::Opening { waiting } = replica.state {
            for reply in waiting {
                let create = Create {
                    topic_partition: topic_partition.clone(),
                    topic_id: replica.topic_id,
                    config: Arc::clone(&config),
                    reply,
                };
                self.create(create, ctx);
            }
        }
    }

    fn opened(&mut self, topic_partition: &TopicPartition, opened: io::Result<PartitionHandle>) {
        let answer = opened.map_err(|error| {
            tracing::error!(partition = %topic_partition, "could not open the replica: {error}");
            ErrorCode::KafkaStorageError
        });
        let before = match &answer {
            Ok(handle) => {
                let mut registry = self
                    .registry
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                registry.insert(topic_partition.clone(), handle.clone());
                let replica = self.replicas.get_mut(topic_partition);
                replica.map(|replica| {
                    std::mem::replace(&mut replica.state, State::Open(handle.clone()))
                })
            }
            // Its files may well be there: whoever asks again finds them.
            Err(_) => self.replicas.remove(topic_partition).map(|replica| {
                if let Some(dir) = self.dirs.get_mut(replica.dir) {
                    dir.unopened.insert(topic_partition.clone());
                }
                replica.state
            }),
        };
        if let Some(State::Opening { waiting }) = before {
            for reply in waiting {
                let _ = reply.send(answer.clone());
            }
        }
    }

    /// Chooses the directory that has the replica, or else the one with the fewest.
    fn choose_dir(&self, topic_partition: &TopicPartition) -> Option<usize> {
        let has = |dir: &LogDir| dir.unopened.contains(topic_partition);
        self.dirs.iter().position(has).or_else(|| {
            (0..self.dirs.len()).min_by_key(|&index| {
                let open = self
                    .replicas
                    .values()
                    .filter(|replica| replica.dir == index)
                    .count();
                open + self.dirs.get(index).map_or(0, |dir| dir.unopened.len())
            })
        })
    }
}

/// Returns how a log was left, as far as the checkpoints of its directory say.
fn start_of(dir: &LogDir, topic_partition: &TopicPartition, exists: bool) -> Start {
    if !exists {
        return NEW;
    }
    Start {
        recovery_point: found(&dir.found.recovery_points, topic_partition).unwrap_or(0),
        log_start_offset: found(&dir.found.log_start_offsets, topic_partition).unwrap_or(0),
        cleaned_to: found(&dir.found.cleaner_offsets, topic_partition).unwrap_or(0),
        clean_shutdown: dir.was_clean,
    }
}

/// Returns the key of the thread that a partition lives on.
fn placement(topic_partition: &TopicPartition) -> usize {
    let mut hasher = DefaultHasher::new();
    topic_partition.hash(&mut hasher);
    usize::try_from(hasher.finish() >> 32).unwrap_or_default()
}

/// What came of opening a replica.
enum Opened {
    /// It is in use.
    Replica(PartitionHandle),
    /// What was there belongs to another topic and has another name now.
    PutAside,
}

/// Opens a replica, on the thread that it will live on.
fn open_replica(opening: Opening, exists: bool) -> io::Result<Opened> {
    let storage = opening.surroundings.storage.clone();
    let dir = opening.dir.clone();
    if exists && !is_of_topic(storage.as_ref(), &dir, opening.topic_id)? {
        put_aside(storage.as_ref(), &dir, &opening.topic_partition)?;
        return Ok(Opened::PutAside);
    }
    storage.create_dir(&dir)?;
    if partition_metadata::read(storage.as_ref(), &dir)
        .ok()
        .flatten()
        != Some(opening.topic_id)
    {
        let written = partition_metadata::write(storage.as_ref(), &dir, opening.topic_id)
            .and_then(|()| sync_parent(storage.as_ref(), &dir));
        match written {
            // Records that are there can be read on a full disk too.
            Err(error) if exists => {
                tracing::warn!(dir = %dir.display(), "could not write the topic id: {error}")
            }
            other => other?,
        }
    }
    Partition::open(opening).map(Opened::Replica)
}

/// Tells whether a directory belongs to the topic of this id: one without an id, as before Kafka 2.8 or after a crash
/// while it was made, belongs to whoever asks.
fn is_of_topic(storage: &dyn Storage, dir: &Path, topic_id: Uuid) -> io::Result<bool> {
    match partition_metadata::read(storage, dir) {
        Ok(found) => Ok(found.is_none_or(|found| found == topic_id)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!("taken for the topic's own: {error}");
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Renames the directory of an earlier topic of the same name.
fn put_aside(
    storage: &dyn Storage,
    dir: &Path,
    topic_partition: &TopicPartition,
) -> io::Result<()> {
    let aside = marked(dir, topic_partition, DirKind::Stray);
    tracing::warn!(
        dir = %dir.display(),
        aside = %aside.display(),
        "the replica belongs to a deleted topic of the same name and is put aside"
    );
    storage.rename(dir, &aside)?;
    sync_parent(storage, dir)
}

fn sync_parent(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    dir.parent()
        .map_or(Ok(()), |parent| storage.sync_dir(parent))
}

fn marked(dir: &Path, topic_partition: &TopicPartition, kind: DirKind) -> PathBuf {
    let TopicPartition { topic, partition } = topic_partition;
    let unique = Uuid::new_v4().as_u128();
    dir.with_file_name(marked_partition_dir(topic, *partition, unique, kind))
}

/// Deletes a replica.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct DeleteReplica {
    pub(super) topic_partition: TopicPartition,
    /// What its directory is named for: `-delete`, or `-stray` to be kept.
    pub(super) kind: DirKind,
    pub(super) reply: Reply<()>,
}

impl Handler<DeleteReplica> for LogManager {
    type Result = ();

    fn handle(&mut self, message: DeleteReplica, ctx: &mut Self::Context) {
        let DeleteReplica {
            topic_partition,
            kind,
            reply,
        } = message;
        if let Some(replica) = self.replicas.get_mut(&topic_partition) {
            match &replica.state {
                State::Open(handle) => {
                    let handle = handle.clone();
                    replica.state = State::Deleting { then: None };
                    let to = marked(handle.dir(), &topic_partition, kind);
                    self.delete_open(handle, to, kind, reply, ctx);
                }
                State::Opening { .. } | State::Deleting { .. } => {
                    // Whoever asked for the replica has not got it yet, or it is gone already.
                    let _ = reply.send(Err(ErrorCode::UnknownTopicOrPartition));
                }
            }
            return;
        }
        let _ = reply.send(self.delete_unopened(&topic_partition, kind, ctx));
    }
}

impl LogManager {
    fn delete_open(
        &mut self,
        handle: PartitionHandle,
        to: PathBuf,
        kind: DirKind,
        reply: Reply<()>,
        ctx: &mut Context<Self>,
    ) {
        let topic_partition = handle.topic_partition().clone();
        let mut registry = self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        registry.remove(&topic_partition);
        drop(registry);
        let to_remove = Some(to.clone()).filter(|_| kind == DirKind::Delete);
        let delete = async move { handle.ask(|reply| Delete { to, reply }).await };
        ctx.spawn(delete.into_actor(self).map(move |answer, manager, ctx| {
            manager.deleted(&topic_partition, answer.map(|()| to_remove), ctx);
            let _ = reply.send(answer);
        }));
    }

    fn deleted(
        &mut self,
        topic_partition: &TopicPartition,
        to_remove: Answer<Option<PathBuf>>,
        ctx: &mut Context<Self>,
    ) {
        let delay_ms = self.config.topic_defaults.file_delete_delay_ms;
        let replica = self.replicas.remove(topic_partition);
        self.checkpoints_changed = true;
        match to_remove {
            Ok(dir) => self.remove_later(dir.into_iter().collect(), delay_ms, ctx),
            // It is still there: whoever asks for one of that name has to be told whose it is.
            Err(_) => {
                let dir = replica.as_ref().map(|replica| replica.dir);
                if let Some(dir) = dir.and_then(|dir| self.dirs.get_mut(dir)) {
                    dir.unopened.insert(topic_partition.clone());
                }
            }
        }
        if let Some(Replica {
            state: State::Deleting { then: Some(create) },
            ..
        }) = replica
        {
            self.start_opening(create, ctx);
        }
    }

    fn delete_unopened(
        &mut self,
        topic_partition: &TopicPartition,
        kind: DirKind,
        ctx: &mut Context<Self>,
    ) -> Answer<()> {
        let has = |dir: &&mut LogDir| dir.unopened.contains(topic_partition);
        let dir = self
            .dirs
            .iter_mut()
            .find(has)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let path = dir.replica(topic_partition);
        let to = marked(&path, topic_partition, kind);
        let storage = self.storage.as_ref();
        let renamed = storage
            .rename(&path, &to)
            .and_then(|()| sync_parent(storage, &path));
        renamed.map_err(|error| {
            tracing::error!(dir = %path.display(), "could not delete the replica: {error}");
            ErrorCode::KafkaStorageError
        })?;
        dir.unopened.remove(topic_partition);
        self.checkpoints_changed = true;
        if kind == DirKind::Delete {
            let delay_ms = self.config.topic_defaults.file_delete_delay_ms;
            self.remove_later(vec![to], delay_ms, ctx);
        }
        Ok(())
    }
}
