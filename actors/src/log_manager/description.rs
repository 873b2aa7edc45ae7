//! Describing the log directories and what is in them.

use std::path::PathBuf;

use actix::{AsyncContext, Handler, Message, WrapFuture};
use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;

use super::manager::LogManager;
use super::{LogDirDescription, ReplicaDescription};
use crate::partition::messages::Describe;
use crate::partition::{PartitionHandle, TopicPartition};

/// Lists replicas that nobody asked for.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct ListUnopened {
    pub(super) reply: oneshot::Sender<Vec<TopicPartition>>,
}

impl Handler<ListUnopened> for LogManager {
    type Result = ();

    fn handle(&mut self, message: ListUnopened, _: &mut Self::Context) {
        let unopened = self
            .dirs
            .iter()
            .flat_map(|dir| dir.unopened.iter().cloned());
        let _ = message.reply.send(unopened.collect());
    }
}

/// Describes the log directories.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct DescribeDirs {
    pub(super) reply: oneshot::Sender<Vec<LogDirDescription>>,
}

impl Handler<DescribeDirs> for LogManager {
    type Result = ();

    fn handle(&mut self, message: DescribeDirs, ctx: &mut Self::Context) {
        let paths = self.config.log_dirs.clone();
        let offline = self.offline.clone();
        let handles = self.handles();
        ctx.spawn(
            async move {
                let mut dirs: Vec<_> = paths
                    .into_iter()
                    .map(|path| describe_dir(path, &offline))
                    .collect();
                for handle in handles {
                    let Some(replica) = describe_replica(&handle).await else {
                        continue;
                    };
                    let parent = handle.dir().parent();
                    if let Some(dir) = dirs
                        .iter_mut()
                        .find(|dir| Some(dir.path.as_path()) == parent)
                    {
                        dir.replicas.push(replica);
                    }
                }
                let _ = message.reply.send(dirs);
            }
            .into_actor(self),
        );
    }
}

async fn describe_replica(handle: &PartitionHandle) -> Option<ReplicaDescription> {
    let (reply, answer) = oneshot::channel();
    handle.send(Describe { reply }).await.ok()?;
    let size_bytes = answer.await.ok()?.size_bytes;
    let topic_partition = handle.topic_partition().clone();
    Some(ReplicaDescription {
        topic_partition,
        size_bytes,
    })
}

fn describe_dir(path: PathBuf, offline: &[PathBuf]) -> LogDirDescription {
    let is_offline = offline.contains(&path);
    let error = if is_offline {
        ErrorCode::KafkaStorageError
    } else {
        ErrorCode::None
    };
    // The file system is asked past the storage: it is a fact of the machine, and unknown in memory.
    let room = rustix::fs::statvfs(&path).ok();
    let bytes =
        |blocks: u64, size: u64| i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX);
    LogDirDescription {
        total_bytes: room
            .as_ref()
            .map_or(-1, |room| bytes(room.f_blocks, room.f_frsize)),
        usable_bytes: room
            .as_ref()
            .map_or(-1, |room| bytes(room.f_bavail, room.f_frsize)),
        path,
        error,
        replicas: Vec::new(),
    }
}
