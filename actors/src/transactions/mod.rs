//! Transactions, kept in `__transaction_state` as Kafka keeps them.
//!
//! [`transaction`] is a transactional id as a pure state machine, [`records`] how it is stored.
//! [`TransactionCoordinators`] finds the actor that an id lives in; [`markers`] tells the partitions how a transaction
//! has ended.

mod coordinator;
#[cfg(test)]
mod coordinator_tests;
mod coordinators;
mod loader;
mod markers;
#[cfg(test)]
mod model_tests;
pub mod records;
mod remote;
pub(crate) mod requests;
pub mod state;
pub mod transaction;
#[cfg(test)]
mod transaction_tests;

pub use coordinators::TransactionCoordinators;
pub(crate) use coordinators::for_writers;
pub(crate) use markers::{Marker, Markers};
pub(crate) use remote::transaction_version;
pub use transaction::Producer;

/// The topic that transactional ids are stored in.
pub const TRANSACTION_TOPIC: &str = "__transaction_state";

/// The newest version of the transaction protocol that is served (the feature `transaction.version`, KIP-890).
pub const TRANSACTION_VERSION: i16 = 2;
