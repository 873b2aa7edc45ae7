//! Changes of in-sync sets: the leaders of this broker propose them, and they count once they are in the coordination
//! service.

use tokio::sync::{mpsc, oneshot};

use crate::partition::TopicPartition;

/// Changes that wait to be written at most. A leader that finds no room tries again later.
const QUEUE: usize = 1024;

/// Takes proposals; without room for one, its leader proposes it again later.
pub type IsrChanges = mpsc::Sender<IsrChange>;

/// What a leader wants written.
#[derive(Debug)]
pub struct IsrChange {
    /// Which partition.
    pub topic_partition: TopicPartition,
    /// Epoch of the leadership that proposes it.
    pub leader_epoch: i32,
    /// Version of the partition's state that it changes.
    pub partition_epoch: i32,
    /// The in-sync replicas from then on.
    pub isr: Vec<i32>,
    /// The answer; when it is dropped, nobody knows whether the change was written.
    pub reply: oneshot::Sender<Result<IsrChanged, IsrRefused>>,
}

/// The in-sync set as it is written down now: the proposed one, or another that was written before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrChanged {
    /// Version of the partition's state.
    pub partition_epoch: i32,
    /// The in-sync replicas.
    pub isr: Vec<i32>,
}

/// Why a change was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsrRefused {
    /// Another leadership is written down: there will be orders.
    Superseded,
    /// It could not be written, or nobody knows whether it was: to be tried again.
    Unavailable,
}

/// Makes the queue between the leaders and the task that writes.
pub fn channel() -> (IsrChanges, mpsc::Receiver<IsrChange>) {
    mpsc::channel(QUEUE)
}
