//! One replica of one partition: the actor that owns its log.
//!
//! `replica` decides (role, epochs, offsets, who may read how far), `waiters` keeps who waits, [`Partition`] is the
//! actor that feeds them and performs what follows on the log, [`PartitionHandle`] is what the others hold.

mod actor;
mod append;
mod cleaning;
mod flush;
mod follow;
mod handle;
mod isr;
mod leader;
mod lookups;
pub mod messages;
mod replica;
#[cfg(test)]
mod replication_model;
#[cfg(test)]
mod replication_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transaction_tests;
mod transactions;
mod upkeep;
mod waiters;

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;

pub use actor::Partition;
pub(crate) use actor::{Opening, Surroundings};
pub use handle::PartitionHandle;
pub use messages::Progress;
pub use transactions::{Begun, Guard, Verification};

/// Names a partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What an asker gets; the error is what the client is told.
pub type Answer<T> = Result<T, ErrorCode>;

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Answer<T>>;
