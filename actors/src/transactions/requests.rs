//! What a coordinator can be asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::Message;
use troupe_protocol::kafka::errors::ErrorCode;

use super::coordinator::Coordinator;
use super::transaction::{End, Init, Producer, Value};
use crate::internal_topic::handle;
use crate::partition::{Answer, Reply, TopicPartition};

/// What becomes of a request that may need a new producer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The producer goes on as this one.
    Producer(Producer),
    /// Ask again with a producer id that nobody has had.
    NeedsProducerId,
}

/// What a coordinator can be asked. While it loads, all is refused with COORDINATOR_LOAD_IN_PROGRESS.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Request {
    Init {
        id: Arc<str>,
        init: Init,
        fresh_id: Option<i64>,
        reply: Reply<Outcome>,
    },
    Add {
        id: Arc<str>,
        producer: Producer,
        partitions: BTreeSet<TopicPartition>,
        transaction_version: i16,
        reply: Reply<()>,
    },
    /// Answered for each partition.
    Verify {
        id: Arc<str>,
        producer: Producer,
        partitions: Vec<TopicPartition>,
        reply: Reply<Vec<Answer<()>>>,
    },
    End {
        id: Arc<str>,
        end: End,
        fresh_id: Option<i64>,
        reply: Reply<Outcome>,
    },
    Describe {
        id: Arc<str>,
        reply: Reply<Value>,
    },
    /// Every transactional id.
    List {
        reply: Reply<Vec<(Arc<str>, Value)>>,
    },
}

/// Reaches a coordinator.
pub(crate) type CoordinatorHandle = handle::CoordinatorHandle<Coordinator>;

/// Refuses a request while the transactional ids are loaded.
pub(super) fn refuse(request: Request) {
    const LOADING: ErrorCode = ErrorCode::CoordinatorLoadInProgress;
    match request {
        Request::Init { reply, .. } | Request::End { reply, .. } => answer(reply, Err(LOADING)),
        Request::Add { reply, .. } => answer(reply, Err(LOADING)),
        Request::Verify { reply, .. } => answer(reply, Err(LOADING)),
        Request::Describe { reply, .. } => answer(reply, Err(LOADING)),
        Request::List { reply } => answer(reply, Err(LOADING)),
    }
}

/// Answers, if somebody still waits.
pub(super) fn answer<T>(reply: Reply<T>, answer: Answer<T>) {
    // Whoever does not wait any more needs no answer.
    let _ = reply.send(answer);
}
