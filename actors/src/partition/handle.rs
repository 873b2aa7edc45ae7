//! What the rest of the broker holds of a partition: its address and its published progress.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Actor, Addr, Handler, Message};
use tokio::sync::{oneshot, watch};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::control::EndTxnMarker;
use uuid::Uuid;

use super::messages::{Progress, WriteMarker};
use super::transactions::{Begun, Guard, Transactions};
use super::{Answer, Partition, Reply, TopicPartition};

/// Names a replica and where it lives; the same for as long as it exists.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) topic_id: Uuid,
    /// The replica's own directory.
    pub(crate) dir: PathBuf,
    /// The number of its thread.
    pub(crate) thread: usize,
    /// Offset up to which everything is on disk for certain. Written by the actor, read for checkpoints.
    pub(crate) recovery_point: AtomicI64,
    /// Records below the high watermark that were cut off because the leader had not got them. Written by the actor.
    pub(crate) lost_records: AtomicU64,
    /// Offset up to which the log was compacted, 0 for never. Written by the actor, read for checkpoints.
    pub(crate) cleaned_to: AtomicI64,
    /// Whether the log is to be compacted. Written by the actor, read by cleaners.
    pub(crate) compacted: AtomicBool,
}

/// Reaches one replica. Cheap to clone.
#[derive(Clone)]
pub struct PartitionHandle(Arc<Inner>);

struct Inner {
    identity: Arc<Identity>,
    address: Addr<Partition>,
    progress: watch::Receiver<Progress>,
    transactions: Arc<Transactions>,
}

impl PartitionHandle {
    pub(super) fn new(
        identity: Arc<Identity>,
        address: Addr<Partition>,
        progress: watch::Receiver<Progress>,
        transactions: Arc<Transactions>,
    ) -> Self {
        Self(Arc::new(Inner {
            identity,
            address,
            progress,
            transactions,
        }))
    }

    /// Returns which partition this is.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.0.identity.topic_partition
    }

    /// Returns the id of its topic.
    pub fn topic_id(&self) -> Uuid {
        self.0.identity.topic_id
    }

    /// Returns the replica's own directory.
    pub fn dir(&self) -> &Path {
        &self.0.identity.dir
    }

    /// Returns the number of the thread that the replica lives on.
    pub fn thread(&self) -> usize {
        self.0.identity.thread
    }

    /// Returns where the replica stands, without asking it.
    pub fn progress(&self) -> Progress {
        *self.0.progress.borrow()
    }

    /// Returns a receiver that is woken by every change of the replica's progress.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.0.progress.clone()
    }

    /// Returns the offset up to which everything is on disk for certain.
    pub fn recovery_point(&self) -> i64 {
        self.0.identity.recovery_point.load(Ordering::Acquire)
    }

    /// Returns how many records below the high watermark this follower had to cut off since it was opened, because its
    /// leader has not got them: unclean elections do that.
    pub fn lost_records(&self) -> u64 {
        self.0.identity.lost_records.load(Ordering::Acquire)
    }

    /// Returns the offset up to which the log was compacted; 0 for never.
    pub fn cleaned_to(&self) -> i64 {
        self.0.identity.cleaned_to.load(Ordering::Acquire)
    }

    /// Tells whether `cleanup.policy` has `compact`.
    pub fn is_compacted(&self) -> bool {
        self.0.identity.compacted.load(Ordering::Acquire)
    }

    /// Tells whether the replica is closed, deleted or gone.
    pub fn is_closed(&self) -> bool {
        !self.0.address.connected()
    }

    /// Hands a message over. Messages of one caller that awaits each call arrive in order.
    ///
    /// While the mailbox is full this waits until the message was handled: that is the back-pressure.
    ///
    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER when the replica is closed or deleted.
    pub async fn send<M>(&self, message: M) -> Result<(), ErrorCode>
    where
        M: Message<Result = ()> + Send + 'static,
        Partition: Handler<M>,
        <Partition as Actor>::Context: ToEnvelope<Partition, M>,
    {
        let address = &self.0.address;
        match address.try_send(message) {
            Ok(()) => Ok(()),
            Err(SendError::Full(message)) => address
                .send(message)
                .await
                .map_err(|_| ErrorCode::NotLeaderOrFollower),
            Err(SendError::Closed(_)) => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// Sends the message that `build` makes around a reply, and waits for that reply.
    ///
    /// # Errors
    /// As [`send`](Self::send), the replica's own answer, and KAFKA_STORAGE_ERROR when it broke off before answering.
    pub async fn ask<T, M>(&self, build: impl FnOnce(Reply<T>) -> M) -> Answer<T>
    where
        M: Message<Result = ()> + Send + 'static,
        Partition: Handler<M>,
        <Partition as Actor>::Context: ToEnvelope<Partition, M>,
    {
        let (reply, answer) = oneshot::channel();
        self.send(build(reply)).await?;
        answer.await.unwrap_or(Err(ErrorCode::KafkaStorageError))
    }

    /// Prepares to append something of a transaction: when that is not open here yet, the coordinator has to be asked.
    ///
    /// Returns the guard to ask with; `None` when the transaction is open. `now_ms` in milliseconds since the epoch.
    pub fn begin_verification(&self, begun: Begun, now_ms: i64) -> Option<Guard> {
        self.0.transactions.begin(begun, now_ms)
    }

    /// Gives a guard back for which the coordinator knows no transaction.
    pub fn verification_refused(&self, producer_id: i64, guard: Guard) {
        self.0.transactions.refused(producer_id, guard);
    }

    /// Ends a transaction of a producer here; see [`WriteMarker`].
    ///
    /// # Errors
    /// Those of [`WriteMarker`] and of [`ask`](Self::ask).
    pub async fn write_marker(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        transaction_version: i16,
        marker: EndTxnMarker,
    ) -> Answer<()> {
        let build = |reply| WriteMarker {
            producer_id,
            producer_epoch,
            transaction_version,
            marker,
            reply,
        };
        self.ask(build).await.map(|_| ())
    }
}

impl fmt::Debug for PartitionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PartitionHandle")
            .field(&self.0.identity.topic_partition)
            .field(&self.progress())
            .finish()
    }
}
