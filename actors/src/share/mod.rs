//! Share groups' records: who holds which record, and what became of it (KIP-932).
//!
//! [`partition`] is a share partition as a pure state machine, [`sessions`] who fetches from which, [`stored`] what is
//! kept of a share partition, [`records`] how. Each share partition that is in use is an actor beside its partition;
//! share coordinators keep the states in `__share_group_state`. [`ShareGroups`] finds both.

mod aborted;
pub(crate) mod coordinator;
mod groups;
pub(crate) mod live;
pub mod partition;
pub mod ranges;
pub mod records;
pub(crate) mod sessions;
mod states;
pub mod stored;

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

pub use groups::ShareGroups;

use crate::uuid_text::encode_id;

/// The topic that the states of share partitions are stored in.
pub const STATE_TOPIC: &str = "__share_group_state";

/// Names a share partition: a group and a partition that it reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShareKey {
    /// Group id.
    pub group: Arc<str>,
    /// Id of the topic.
    pub topic_id: Uuid,
    /// Number of the partition.
    pub partition: i32,
}

impl fmt::Display for ShareKey {
    /// Writes the key as FindCoordinator has it; its hash says where the state is kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic_id = encode_id(self.topic_id);
        write!(f, "{}:{topic_id}:{}", self.group, self.partition)
    }
}

/// Where a share group begins in a partition that it never read (`share.auto.offset.reset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record that is there.
    Earliest,
    /// After the last record.
    Latest,
    /// At the first record that is no older.
    ByDuration {
        /// The age, in milliseconds.
        ms: i64,
    },
}
