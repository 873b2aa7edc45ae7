//! The controller's decisions as pure functions.
//!
//! [`decide`] finds, for something that has happened, what has to be written to the znodes. Whoever performs that tells
//! [`applied`] what was written and what was lost to somebody else, and gets the cluster as it is now together with the
//! orders for the brokers: a partition whose write was lost is told of nowhere, and is decided on again when it was read.

pub mod context;
mod draft;
pub mod orders;
pub mod plan;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::context::{Assignment, ClusterContext, Deletion, Leadership, Partition, Topic, Wait};
pub use self::orders::{Order, Orders, PartitionInfo, ReplicaOrder, StopOrder};
pub use self::plan::{Applied, Plan, Step, applied};

use self::draft::Draft;
use crate::metadata::{BrokerId, BrokerNode};
use crate::partition::TopicPartition;

/// Something that has happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// This broker has become the controller, and read the context from the znodes.
    TookOffice {
        /// Brokers that may have died and come back while nobody held the office: what they led is elected anew.
        restarted: BTreeSet<BrokerId>,
    },
    /// Who is registered now: all of them.
    BrokersRead(BTreeMap<BrokerId, Arc<BrokerNode>>),
    /// Topics that are new, or whose node has changed.
    TopicsRead(BTreeMap<Arc<str>, TopicRead>),
    /// Partitions whose state was changed by their leader, or a write to which was lost.
    StatesRead(BTreeMap<TopicPartition, Leadership>),
}

/// A topic as its znodes say.
#[derive(Debug, Clone)]
pub struct TopicRead {
    /// The topic, with an id where it had none.
    pub topic: Topic,
    /// Whether its own node is to be written again, because it had no id.
    pub incomplete: bool,
}

/// Decides what to do about an event.
pub fn decide(context: &ClusterContext, event: Event) -> Plan {
    let mut draft = Draft::of(context);
    match event {
        Event::TookOffice { restarted } => draft.take_office(&restarted),
        Event::BrokersRead(brokers) => draft.brokers(brokers),
        Event::TopicsRead(topics) => draft.topics(topics),
        Event::StatesRead(states) => draft.states(states),
    }
    draft.finish()
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
