//! The controller's decisions as pure functions.
//!
//! [`decide`] finds, for something that has happened, what has to be written to the znodes. Whoever performs that tells
//! [`applied`] what was written and what was lost to somebody else, and gets the cluster as it is now together with the
//! orders for the brokers: a partition whose write was lost is told of nowhere, and is decided on again when it was read.

pub mod context;
mod deletion;
mod draft;
mod elections;
pub mod orders;
pub mod plan;
mod reassignment;
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
    /// Topics that had a node and have none any more, without having been deleted.
    TopicsGone(BTreeSet<Arc<str>>),
    /// Partitions whose state was changed by their leader, or a write to which was lost; `None` where there is no state.
    StatesRead(BTreeMap<TopicPartition, Option<Leadership>>),
    /// Topics carry the mark of deletion. (Where `delete.topic.enable` is off they are unmarked instead.)
    DeletionAsked(BTreeSet<Arc<str>>),
    /// A broker has answered the order to delete a replica.
    ReplicaDeleted {
        /// Of which partition.
        partition: TopicPartition,
        /// Which broker.
        broker: BrokerId,
        /// Whether it is gone; else its broker could not.
        deleted: bool,
    },
    /// Preferred leaders are to lead.
    PreferredAsked(BTreeSet<TopicPartition>),
    /// `leader.imbalance.check.interval.seconds` are over.
    BalanceDue {
        /// `leader.imbalance.per.broker.percentage`.
        percentage: u32,
    },
    /// Partitions that nobody leads are to be led, even by a replica that lacks records.
    UncleanAsked(BTreeSet<TopicPartition>),
    /// A broker is about to stop. It may when [`ClusterContext::still_led_by`] lists nothing any more.
    ShutdownAsked(BrokerId),
    /// Partitions are to move to other brokers, or, without any, back.
    ReassignmentAsked(BTreeMap<TopicPartition, Option<Vec<BrokerId>>>),
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
///
/// What was asked for a partition that turns out stale afterwards is to be asked again.
pub fn decide(context: &ClusterContext, event: Event) -> Plan {
    let mut draft = Draft::of(context);
    match event {
        Event::TookOffice { restarted } => draft.take_office(&restarted),
        Event::BrokersRead(brokers) => draft.brokers(brokers),
        Event::TopicsRead(topics) => draft.topics(topics),
        Event::TopicsGone(topics) => draft.topics_gone(&topics),
        Event::StatesRead(states) => draft.states(states),
        Event::DeletionAsked(topics) => draft.delete(topics),
        Event::ReplicaDeleted {
            partition,
            broker,
            deleted,
        } => draft.replica_deleted(&partition, broker, deleted),
        Event::PreferredAsked(partitions) => draft.prefer(partitions),
        Event::BalanceDue { percentage } => draft.balance(percentage),
        Event::UncleanAsked(partitions) => draft.elect_uncleanly(partitions),
        Event::ShutdownAsked(broker) => draft.shut_down(broker),
        Event::ReassignmentAsked(partitions) => draft.reassign(partitions),
    }
    draft.finish()
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
