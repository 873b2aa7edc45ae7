//! Writing the checkpoint files of each log directory.

use std::io;
use std::path::PathBuf;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::oneshot;

use super::log_dir::Checkpoints;
use super::manager::LogManager;
use super::replicas::Replica;
use crate::log::checkpoints::{Offsets, write_offsets};
use crate::log::names;
use crate::partition::messages::Flush;
use crate::partition::{PartitionHandle, TopicPartition};
use crate::storage::Storage;

/// Writes the checkpoint files that changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Checkpoint {
    /// Whether to flush before, so that recovery has less to do. The high watermark is written more often, without.
    pub(super) flush: bool,
    /// Answered when they are written.
    pub(super) reply: Option<oneshot::Sender<()>>,
}

impl Checkpoint {
    /// Writes where the replicas stand, without a flush.
    pub(super) fn of_positions() -> Self {
        Self {
            flush: false,
            reply: None,
        }
    }
}

/// What the checkpoint files of a directory have to say.
pub(super) struct Files {
    pub(super) dir: PathBuf,
    pub(super) checkpoints: Checkpoints,
    written: Checkpoints,
}

impl Files {
    /// Replaces those files that say something else.
    pub(super) fn write(&self, storage: &dyn Storage) -> io::Result<()> {
        let (now, before) = (&self.checkpoints, &self.written);
        let replace = |name, now: &Offsets, before: &Offsets| {
            if now == before {
                Ok(())
            } else {
                write_offsets(storage, &self.dir.join(name), now)
            }
        };
        replace(
            names::RECOVERY_POINTS,
            &now.recovery_points,
            &before.recovery_points,
        )?;
        replace(
            names::LOG_START_OFFSETS,
            &now.log_start_offsets,
            &before.log_start_offsets,
        )?;
        replace(
            names::HIGH_WATERMARKS,
            &now.high_watermarks,
            &before.high_watermarks,
        )?;
        replace(
            names::CLEANER_OFFSETS,
            &now.cleaner_offsets,
            &before.cleaner_offsets,
        )
    }
}

impl Handler<Checkpoint> for LogManager {
    type Result = ();

    fn handle(&mut self, message: Checkpoint, ctx: &mut Self::Context) {
        self.checkpoint(message, ctx);
    }
}

impl LogManager {
    /// Writes the checkpoint files, after flushing what is not flushed when that is asked for.
    ///
    /// One round at a time. One that is due by a timer is left out while another is under way; one that somebody waits
    /// for is not.
    pub(super) fn checkpoint(&mut self, message: Checkpoint, ctx: &mut Context<Self>) {
        let is_due = || self.is_checkpoint_due() || (message.flush && self.is_flush_due());
        if self.shutting_down || (message.reply.is_none() && (self.checkpointing || !is_due())) {
            return;
        }
        self.checkpointing = true;
        let handles = if message.flush {
            self.handles()
        } else {
            Vec::new()
        };
        let round = flush(handles)
            .into_actor(self)
            .then(|(), manager, _| {
                let files = manager.all_files();
                manager.note_checkpointed();
                let storage = manager.storage.clone();
                let write = move || {
                    files
                        .into_iter()
                        .filter_map(|files| written(files, storage.as_ref()))
                        .collect::<Vec<_>>()
                };
                manager.runtime.blocking.run(write).into_actor(manager)
            })
            .map(|files, manager, ctx| {
                manager.checkpointing = false;
                let files = files.unwrap_or_default();
                // What could not be written is tried again next time.
                let all_written = files.len() == manager.dirs.len();
                manager.checkpoints_changed |= !all_written;
                for (path, checkpoints) in files {
                    if let Some(dir) = manager.dirs.iter_mut().find(|dir| dir.path == path) {
                        dir.found = checkpoints;
                    }
                }
                if let Some(reply) = message.reply {
                    let _ = reply.send(());
                }
                manager.create_forgotten(all_written, ctx);
            });
        ctx.spawn(round);
    }

    /// Tells whether a checkpoint file has to change, without building one: idle partitions cost a comparison.
    fn is_checkpoint_due(&self) -> bool {
        self.checkpoints_changed
            || self.replicas.values().any(|replica| {
                replica
                    .handle()
                    .is_some_and(|handle| replica.checkpointed != Some(Position::of(handle)))
            })
    }

    fn is_flush_due(&self) -> bool {
        self.replicas
            .values()
            .filter_map(Replica::handle)
            .any(is_unflushed)
    }

    fn note_checkpointed(&mut self) {
        self.checkpoints_changed = false;
        for replica in self.replicas.values_mut() {
            replica.checkpointed = replica.handle().map(Position::of);
        }
    }

    /// Returns what all checkpoint files have to say now.
    pub(super) fn all_files(&self) -> Vec<Files> {
        let mut all: Vec<Files> = self
            .dirs
            .iter()
            .map(|dir| Files {
                dir: dir.path.clone(),
                // What was found of replicas that are not open yet stays as it is.
                checkpoints: dir.found.only(|partition| {
                    dir.unopened.contains(partition)
                        || self
                            .replicas
                            .get(partition)
                            .is_some_and(Replica::is_opening)
                }),
                written: dir.found.clone(),
            })
            .collect();
        for replica in self.replicas.values() {
            if let (Some(files), Some(handle)) = (all.get_mut(replica.dir), replica.handle()) {
                files.checkpoints.set(handle);
            }
        }
        all
    }
}

/// What the checkpoint files say of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    recovery_point: i64,
    high_watermark: i64,
    log_start_offset: i64,
    cleaned_to: i64,
}

impl Position {
    fn of(handle: &PartitionHandle) -> Self {
        let progress = handle.progress();
        Self {
            recovery_point: handle.recovery_point(),
            high_watermark: progress.high_watermark,
            log_start_offset: progress.log_start_offset,
            cleaned_to: handle.cleaned_to(),
        }
    }
}

fn is_unflushed(handle: &PartitionHandle) -> bool {
    let progress = handle.progress();
    !progress.failed && handle.recovery_point() < progress.log_end_offset
}

/// Flushes one replica after the other: many at a time would only wait for each other.
async fn flush(handles: Vec<PartitionHandle>) {
    for handle in handles {
        if is_unflushed(&handle) {
            // A replica that cannot be flushed says so itself and keeps its recovery point.
            let _ = handle.ask(|reply| Flush { reply }).await;
        }
    }
}

fn written(files: Files, storage: &dyn Storage) -> Option<(PathBuf, Checkpoints)> {
    match files.write(storage) {
        Ok(()) => Some((files.dir, files.checkpoints)),
        Err(error) => {
            tracing::warn!(dir = %files.dir.display(), "could not write checkpoints: {error}");
            None
        }
    }
}

impl Checkpoints {
    /// Tells whether any of them has a line for a partition.
    pub(super) fn speak_of(&self, partition: &TopicPartition) -> bool {
        let all = [
            &self.recovery_points,
            &self.high_watermarks,
            &self.log_start_offsets,
            &self.cleaner_offsets,
        ];
        all.into_iter()
            .any(|offsets| found(offsets, partition).is_some())
    }

    fn only(&self, wanted: impl Fn(&TopicPartition) -> bool) -> Self {
        let only = |offsets: &Offsets| {
            offsets
                .iter()
                .filter(|((topic, partition), _)| {
                    wanted(&TopicPartition::new(topic.as_str(), *partition))
                })
                .map(|(key, &offset)| (key.clone(), offset))
                .collect()
        };
        Self {
            recovery_points: only(&self.recovery_points),
            high_watermarks: only(&self.high_watermarks),
            log_start_offsets: only(&self.log_start_offsets),
            cleaner_offsets: only(&self.cleaner_offsets),
        }
    }

    fn set(&mut self, handle: &PartitionHandle) {
        let position = Position::of(handle);
        let TopicPartition { topic, partition } = handle.topic_partition();
        let key = (topic.to_string(), *partition);
        self.recovery_points
            .insert(key.clone(), position.recovery_point);
        self.high_watermarks
            .insert(key.clone(), position.high_watermark);
        if position.log_start_offset > 0 {
            self.log_start_offsets
                .insert(key.clone(), position.log_start_offset);
        }
        if position.cleaned_to > 0 {
            self.cleaner_offsets.insert(key, position.cleaned_to);
        }
    }
}

/// Returns what a checkpoint says of a partition.
pub(super) fn found(offsets: &Offsets, topic_partition: &TopicPartition) -> Option<i64> {
    offsets
        .get(&(topic_partition.topic.to_string(), topic_partition.partition))
        .copied()
}
