//! What a partition can be asked, and what it publishes without being asked.

use std::path::PathBuf;
use std::sync::Arc;

use actix::Message;
use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::BatchHeader;
use troupe_protocol::kafka::records::control::EndTxnMarker;

use super::{Reply, Verification};
use crate::config::TopicConfig;
use crate::log::cleaner::{Cleanable, Job, Replacement};
use crate::storage::FileSlice;

/// Where a partition stands, published after every change.
///
/// Readers compare their offsets with it before they send a message: an idle partition costs them nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether this replica leads.
    pub is_leader: bool,
    /// Epoch of the leadership this replica follows or holds; -1 before the first.
    pub leader_epoch: i32,
    /// Leaderships that began here since this replica was opened: tells two in the same epoch apart.
    pub leaderships: u64,
    /// First offset that is still there.
    pub log_start_offset: i64,
    /// First offset that consumers may not read yet.
    pub high_watermark: i64,
    /// First offset that read_committed consumers may not read yet.
    pub last_stable_offset: i64,
    /// Offset that the next record will get.
    pub log_end_offset: i64,
    /// Bytes appended since this replica was opened: how much there is to read grows with it.
    pub appended_bytes: u64,
    /// Whether a failed write has closed the log for writing.
    pub failed: bool,
}

/// How far an append has to get before its producer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nobody waits (acks=0); the answer only says whether it failed.
    None,
    /// In the leader's log (acks=1).
    Leader,
    /// In the log of every in-sync replica (acks=all).
    All,
}

/// Appends one validated batch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append {
    /// The whole batch, in the producer's own buffer; its offset and epoch are written into it.
    pub batch: BytesMut,
    /// Its header, as parsed by the validation.
    pub header: BatchHeader,
    /// When to answer.
    pub acks: Acks,
    /// How it is known that its transaction is open.
    pub verification: Verification,
    /// The answer.
    pub reply: Reply<Appended>,
}

/// Ends a transaction of a producer with a control batch; answered when all in-sync replicas have it.
///
/// Coordinators repeat markers whose answer they missed: a second one ends nothing and does no harm. The answer is
/// INVALID_PRODUCER_EPOCH for an older epoch than that of the records, TRANSACTION_COORDINATOR_FENCED for an older
/// coordinator than that of the last marker, or what an append with acks=all can fail with.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WriteMarker {
    /// Whose transaction.
    pub producer_id: i64,
    /// The epoch in which it ends.
    pub producer_epoch: i16,
    /// The version of the transaction protocol: from 2 on the epoch has to be newer than that of the records (KIP-890).
    pub transaction_version: i16,
    /// What the marker says.
    pub marker: EndTxnMarker,
    /// The answer.
    pub reply: Reply<Appended>,
}

/// What a producer learns of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Append time in milliseconds since the epoch, -1 unless the topic uses LogAppendTime.
    pub log_append_time_ms: i64,
    /// First offset that is still there.
    pub log_start_offset: i64,
}

/// Who reads, which decides how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A consumer: to the high watermark.
    Consumer,
    /// A read_committed consumer: to the last stable offset.
    CommittedConsumer,
    /// A follower: to the log end offset.
    Follower {
        /// Its broker id.
        broker: i32,
    },
    /// A debugging consumer (replica id -2): to the log end offset, from any replica.
    Debug,
}

/// Looks records up for a fetch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Read {
    /// First offset wanted.
    pub offset: i64,
    /// Bytes wanted at most.
    pub max_bytes: u64,
    /// Whether one whole batch is given although it is larger than `max_bytes`.
    pub at_least_one: bool,
    /// Who reads.
    pub reader: Reader,
    /// Leader epoch that the reader believes in, -1 for none (KIP-320).
    pub current_leader_epoch: i32,
    /// Epoch of the last record that a follower has, -1 for none (KIP-595's diverging epoch).
    pub last_fetched_epoch: i32,
    /// The answer.
    pub reply: oneshot::Sender<ReadResult>,
}

/// What a fetch gets of one partition. Offsets are -1 when `error` says that they mean nothing.
#[derive(Debug, Clone)]
pub struct ReadResult {
    /// Why there is nothing, or `None`.
    pub error: ErrorCode,
    /// The records: whole batches, the first one holding `offset`.
    pub records: Option<FileSlice>,
    /// Bounds at the moment of reading.
    pub progress: Progress,
    /// Aborted transactions that overlap the records: (producer id, first offset).
    pub aborted: Vec<(i64, i64)>,
    /// Where the reader's log parts from ours: (epoch, end offset).
    pub diverging_epoch: Option<(i32, i64)>,
}

/// What a look-up by time is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first offset still there (-2).
    Earliest,
    /// The first offset not readable yet (-1).
    Latest,
    /// The record with the greatest timestamp (-3, KIP-734).
    MaxTimestamp,
    /// The first record at or after this time, milliseconds since the epoch.
    Timestamp(i64),
}

/// Looks an offset up.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ListOffset {
    /// What is looked for.
    pub spec: OffsetSpec,
    /// Who asks: decides what "latest" is.
    pub reader: Reader,
    /// Leader epoch that the asker believes in, -1 for none.
    pub current_leader_epoch: i32,
    /// The answer; offset and timestamp are -1 when nothing matches.
    pub reply: Reply<FoundOffset>,
}

/// An offset that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset, or -1.
    pub offset: i64,
    /// Its record's timestamp, or -1.
    pub timestamp: i64,
    /// Its leader epoch, or -1.
    pub leader_epoch: i32,
}

/// Lists segment starts below a time, newest first: ListOffsets version 0.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ListSegmentOffsets {
    /// Wanted time: -1 latest, -2 earliest, or milliseconds since the epoch.
    pub timestamp: i64,
    /// How many at most.
    pub max_offsets: usize,
    /// The answer.
    pub reply: Reply<Vec<i64>>,
}

/// Finds where a leader epoch ends (KIP-101).
#[derive(Message)]
#[rtype(result = "()")]
pub struct EpochEndOffset {
    /// The epoch asked for.
    pub leader_epoch: i32,
    /// Leader epoch that the asker believes in, -1 for none.
    pub current_leader_epoch: i32,
    /// The answer: (epoch, end offset), both -1 when unknown.
    pub reply: Reply<(i32, i64)>,
}

/// Drops everything below an offset.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DeleteRecords {
    /// New log start offset; -1 for the high watermark.
    pub before_offset: i64,
    /// The answer: the low watermark.
    pub reply: Reply<i64>,
}

/// Puts the replica at the head of its partition.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BecomeLeader {
    /// Epoch of this leadership; an older one is refused.
    pub leader_epoch: i32,
    /// Version of the partition's state znode, 0 when it is not known: an older one changes no replicas.
    pub partition_epoch: i32,
    /// In-sync replicas, this one included.
    pub isr: Vec<i32>,
    /// All replicas.
    pub replicas: Vec<i32>,
    /// The answer.
    pub reply: Reply<()>,
}

/// Makes the replica follow another. Who waits here for something is told that this one does not lead.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BecomeFollower {
    /// The broker to follow.
    pub leader: i32,
    /// Epoch of its leadership; an older one is FENCED_LEADER_EPOCH.
    pub leader_epoch: i32,
    /// The answer.
    pub reply: Reply<()>,
}

/// Takes the leadership from the replica, until [`BecomeLeader`] gives it one again, in the same epoch or a later one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Resign {
    /// The answer.
    pub reply: Reply<()>,
}

/// Asks how far the log is.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Locate {
    /// The answer.
    pub reply: Reply<Position>,
}

/// How far a follower is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// First offset that is still there.
    pub log_start_offset: i64,
    /// Offset that the next record will have.
    pub log_end_offset: i64,
    /// Leader epoch of the last record, -1 without one.
    pub last_epoch: i32,
    /// High watermark, as far as this follower knows.
    pub high_watermark: i64,
}

/// Appends batches of the leader as they are, offsets and epochs included.
///
/// The answer is NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH when the replica does not follow in
/// that epoch (any more), CORRUPT_MESSAGE for damaged batches and for such that do not follow the log, of which none
/// is appended then, and KAFKA_STORAGE_ERROR.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AppendReplicated {
    /// The batches; the last one may be cut off, and is ignored then. There may be none.
    pub records: Bytes,
    /// Epoch in which they were fetched.
    pub leader_epoch: i32,
    /// The leader's high watermark.
    pub high_watermark: i64,
    /// First offset that the leader still has.
    pub log_start_offset: i64,
    /// The answer; with `flush.messages` once the batches are on disk.
    pub reply: Reply<Position>,
}

/// Cuts off what the leader has not got. Answers as [`AppendReplicated`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct Truncate {
    /// Epoch in which the leader said so.
    pub leader_epoch: i32,
    /// How much stays.
    pub to: TruncateTo,
    /// The answer.
    pub reply: Reply<Position>,
}

/// Where a follower's log is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TruncateTo {
    /// Where it parts from the leader's, as the leader says: its largest epoch not above that of the follower's last
    /// record, and where it ends.
    Divergence {
        /// The epoch.
        epoch: i32,
        /// The offset after its last record.
        end_offset: i64,
    },
    /// Where the leader's log ends.
    LogEnd(i64),
    /// All of it goes, and it starts anew where the leader's log starts.
    StartAt(i64),
}

/// Changes the topic's configuration.
#[derive(Message)]
#[rtype(result = "()")]
pub struct UpdateConfig {
    /// The new one.
    pub config: Arc<TopicConfig>,
}

/// Lists the producers that the partition remembers (KIP-664).
#[derive(Message)]
#[rtype(result = "()")]
pub struct DescribeProducers {
    /// The answer.
    pub reply: Reply<Vec<ProducerDescription>>,
}

/// One producer that the partition remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerDescription {
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub producer_epoch: i16,
    /// Last sequence number.
    pub last_sequence: i32,
    /// Timestamp of the last batch, milliseconds since the epoch.
    pub last_timestamp: i64,
    /// Epoch of the transaction coordinator, -1 for none.
    pub coordinator_epoch: i32,
    /// Where the open transaction starts, -1 for none.
    pub current_transaction_start_offset: i64,
}

/// Asks what the replica takes on disk and what its checkpoints should say.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Describe {
    /// The answer.
    pub reply: oneshot::Sender<Description>,
}

/// A replica as its log directory sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Size of all segments, in bytes.
    pub size_bytes: u64,
    /// Offset up to which everything is on disk for certain.
    pub recovery_point: i64,
    /// Bounds.
    pub progress: Progress,
}

/// Makes everything appended so far durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Flush {
    /// The answer: the new recovery point.
    pub reply: Reply<i64>,
}

/// Does what is due from time to time: retention, expiry of producer ids.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Maintain;

/// Asks how much of the log there is to compact; nothing when it is not to be compacted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FindCleanable {
    /// The answer.
    pub reply: Reply<Option<Cleanable>>,
}

/// Asks for the part of the log that is to be compacted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BeginCleaning {
    /// The answer; nothing when there is none any more.
    pub reply: Reply<Option<Job>>,
}

/// Puts a compacted segment in the place of its originals.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReplaceSegments {
    /// What is to be put where.
    pub replacement: Box<Replacement>,
    /// The answer: whether it was done. It was not when the originals changed meanwhile.
    pub reply: Reply<bool>,
}

/// Ends a compaction.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndCleaning {
    /// The offset below which everything is compacted.
    pub cleaned_to: i64,
}

/// Flushes, closes the files and stops.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close {
    /// The answer: the offsets that the checkpoints keep.
    pub reply: Reply<Description>,
}

/// Stops and gives the directory the name that marks it for deletion.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Delete {
    /// The directory's new path.
    pub to: PathBuf,
    /// The answer, once the directory has its new name.
    pub reply: Reply<()>,
}
