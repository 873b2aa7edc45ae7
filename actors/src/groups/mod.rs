//! Consumer groups and their offsets, kept in `__consumer_offsets` as Kafka keeps them.
//!
//! [`group`] is the classic group as a pure state machine, [`consumer`] the one of the newer protocol, [`offsets`] what
//! a group has committed, [`records`] how it is stored. [`GroupCoordinators`] finds the actor that a group lives in.

mod commits;
pub mod consumer;
mod coordinator;
mod coordinators;
mod entry;
pub mod group;
#[cfg(test)]
mod group_tests;
pub mod join;
mod loader;
pub mod member;
#[cfg(test)]
mod model_tests;
pub mod offsets;
mod open_transactions;
pub mod rebalance;
pub mod records;
#[cfg(test)]
mod reload_tests;
mod removal;
pub(crate) mod requests;
pub mod session;
pub mod share;
#[cfg(test)]
mod testing;
mod timers;
mod transactional;
mod writes;

pub use coordinators::GroupCoordinators;

/// The topic that groups are stored in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
