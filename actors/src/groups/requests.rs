//! What a coordinator can be asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::Message;
use troupe_protocol::kafka::errors::ErrorCode;

use super::consumer::actor::{BeatReply, Description};
use super::consumer::heartbeat::Heartbeat;
use super::coordinator::Coordinator;
use super::group::{GroupDescription, Joined, Synced};
use super::join::JoinRequest;
use super::offsets::{CommittedOffset, TopicPartition};
use super::session::SyncRequest;
use super::share::group::{ShareBeat, ShareGroup, ShareHeartbeat};
use crate::internal_topic::handle;
use crate::internal_topic::writes::Membership;
use crate::metadata::MetadataImage;
use crate::partition::{Answer, Reply};
use crate::transactions::Marker;

/// Who commits, leaves or heartbeats.
#[derive(Debug, Clone)]
pub(crate) struct MemberRef {
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
}

/// An offset, if there is one, or why it is not told.
pub(crate) type FetchedOffset = (TopicPartition, Answer<Option<CommittedOffset>>);

/// What a coordinator can be asked. While it loads, everything but a heartbeat is refused with
/// COORDINATOR_LOAD_IN_PROGRESS.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Request {
    Join {
        group: Arc<str>,
        join: JoinRequest,
        reply: Reply<Joined>,
    },
    Sync {
        group: Arc<str>,
        sync: SyncRequest,
        reply: Reply<Synced>,
    },
    Heartbeat {
        group: Arc<str>,
        member: MemberRef,
        generation: i32,
        reply: Reply<()>,
    },
    /// A heartbeat of the consumer protocol.
    ConsumerHeartbeat {
        group: Arc<str>,
        beat: Heartbeat,
        reply: BeatReply,
    },
    DescribeConsumers {
        group: Arc<str>,
        reply: Reply<Option<Description>>,
    },
    /// Answered for each member.
    Leave {
        group: Arc<str>,
        members: Vec<MemberRef>,
        reply: Reply<Vec<Answer<()>>>,
    },
    Commit {
        group: Arc<str>,
        member: MemberRef,
        generation: i32,
        /// Whether the generation may be the epoch of a member of a consumer group.
        knows_epochs: bool,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        reply: Reply<()>,
    },
    /// Offsets that count once this transaction is committed.
    TransactionalCommit {
        group: Arc<str>,
        member: MemberRef,
        generation: i32,
        membership: Membership,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        reply: Reply<()>,
    },
    /// A transaction that may have committed offsets has ended.
    EndTransaction {
        marker: Marker,
        reply: Reply<()>,
    },
    /// The offsets of these partitions, or all.
    Offsets {
        group: Arc<str>,
        /// The member that asks and its epoch, if it says so.
        reader: Option<(Arc<str>, i32)>,
        partitions: Option<Vec<TopicPartition>>,
        /// Whether offsets that an open transaction may change are refused with UNSTABLE_OFFSET_COMMIT (KIP-447).
        require_stable: bool,
        reply: Reply<Vec<FetchedOffset>>,
    },
    /// Answered for each partition.
    DeleteOffsets {
        group: Arc<str>,
        partitions: Vec<TopicPartition>,
        reply: Reply<Vec<Answer<()>>>,
    },
    Describe {
        group: Arc<str>,
        reply: Reply<Option<GroupDescription>>,
    },
    /// Every group, without its members.
    List {
        reply: Reply<Vec<(Arc<str>, GroupDescription)>>,
    },
    DeleteGroup {
        group: Arc<str>,
        reply: Reply<()>,
    },
    /// A heartbeat of a member of a share group.
    ShareHeartbeat {
        group: Arc<str>,
        beat: ShareHeartbeat,
        /// The topics as they are.
        image: Arc<MetadataImage>,
        reply: Reply<ShareBeat>,
    },
    /// A share group, if there is one of that id.
    DescribeShare {
        group: Arc<str>,
        reply: Reply<Option<ShareGroup>>,
    },
    /// These topics are no more.
    ForgetTopics {
        topics: Arc<BTreeSet<Arc<str>>>,
    },
}

/// Reaches a coordinator.
pub(crate) type CoordinatorHandle = handle::CoordinatorHandle<Coordinator>;

/// Refuses a request while the groups are loaded. A heartbeat is fine: its group is there, and will be found.
pub(super) fn refuse(request: Request) {
    const LOADING: ErrorCode = ErrorCode::CoordinatorLoadInProgress;
    match request {
        Request::Heartbeat { reply, .. } => answer(reply, Ok(())),
        // The member joins again, and by then finds out.
        Request::Sync { reply, .. } => answer(reply, Err(ErrorCode::RebalanceInProgress)),
        Request::ConsumerHeartbeat { reply, .. } => answer(reply, Err(LOADING)),
        Request::DescribeConsumers { reply, .. } => answer(reply, Err(LOADING)),
        Request::Join { reply, .. } => answer(reply, Err(LOADING)),
        Request::Leave { reply, .. } => answer(reply, Err(LOADING)),
        Request::Commit { reply, .. } => answer(reply, Err(LOADING)),
        Request::TransactionalCommit { reply, .. } => answer(reply, Err(LOADING)),
        Request::EndTransaction { reply, .. } => answer(reply, Err(LOADING)),
        Request::Offsets { reply, .. } => answer(reply, Err(LOADING)),
        Request::DeleteOffsets { reply, .. } => answer(reply, Err(LOADING)),
        Request::Describe { reply, .. } => answer(reply, Err(LOADING)),
        Request::List { reply, .. } => answer(reply, Err(LOADING)),
        Request::DeleteGroup { reply, .. } => answer(reply, Err(LOADING)),
        Request::ShareHeartbeat { reply, .. } => answer(reply, Err(LOADING)),
        Request::DescribeShare { reply, .. } => answer(reply, Err(LOADING)),
        // What is loaded may name the topics still; then their offsets stay until they expire.
        Request::ForgetTopics { .. } => {}
    }
}

/// Answers, if somebody still waits.
pub(super) fn answer<T>(reply: Reply<T>, answer: Answer<T>) {
    // Whoever does not wait any more needs no answer.
    let _ = reply.send(answer);
}
