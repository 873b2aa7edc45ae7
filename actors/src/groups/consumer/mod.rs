//! Groups of the newer consumer protocol (KIP-848): the coordinator assigns, members heartbeat and learn what is theirs.
//!
//! [`group`] is the group as a pure state machine: [`heartbeat`] lets members in and out, [`reconcile`] leads each from
//! what it has to what it is to have, [`assign`] says what that is. [`classic`] serves members that still speak the
//! classic protocol, [`migrate`] turns groups of one kind into the other, [`records`] is how all is stored.

pub(crate) mod actor;
pub mod assign;
pub mod classic;
pub mod embedded;
pub mod group;
#[cfg(test)]
mod group_tests;
pub mod heartbeat;
pub mod member;
pub mod migrate;
#[cfg(test)]
mod model_tests;
pub mod pattern;
pub mod reconcile;
pub mod records;
pub mod stored;
#[cfg(test)]
mod testing;
pub mod timeouts;
pub mod topics;
