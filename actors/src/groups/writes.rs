//! What waits for the writes of a coordinator.

use std::sync::Arc;

use super::group::Purpose;
use super::offsets::{CommittedOffset, TopicPartition};
use crate::partition::{Answer, Reply};
use crate::transactions::Marker;

/// What waits for records to be written.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A group.
    Group { group: Arc<str>, purpose: Purpose },
    /// Committed offsets, and who committed them.
    Commit {
        group: Arc<str>,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        reply: Reply<()>,
    },
    /// Offsets that a producer commits in its transaction, and who waits for that.
    TransactionalCommit {
        group: Arc<str>,
        producer_id: i64,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        reply: Reply<()>,
    },
    /// The end of a transaction, and who waits for it.
    EndTransaction { marker: Marker, reply: Reply<()> },
    /// Offsets that go, and who had them deleted.
    DeleteOffsets {
        group: Arc<str>,
        partitions: Vec<TopicPartition>,
        reply: Option<DeletionReply>,
    },
    /// A consumer group, and how to go on.
    Consumers { group: Arc<str>, then: Deferred },
    /// A share group, and how to go on.
    Shares { then: Deferred },
    /// A group that was killed: all that it committed before is in the log now.
    Burial {
        group: Arc<str>,
        reply: Option<Reply<()>>,
    },
    /// A group that goes with all of its offsets.
    DeleteGroup {
        group: Arc<str>,
        reply: Option<Reply<()>>,
    },
}

/// What is done when a write has ended: whoever waits for it is answered.
pub(crate) struct Deferred(Box<dyn FnOnce(Answer<()>)>);

impl Deferred {
    pub(crate) fn new(then: impl FnOnce(Answer<()>) + 'static) -> Self {
        Self(Box::new(then))
    }

    pub(crate) fn call(self, stored: Answer<()>) {
        (self.0)(stored);
    }
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}

/// Answers for each offset that somebody wants deleted.
#[derive(Debug)]
pub(crate) struct DeletionReply {
    pub(crate) reply: Reply<Vec<Answer<()>>>,
    /// Which may be.
    pub(crate) allowed: Vec<Answer<()>>,
}
