//! Share groups (KIP-932): who is in one, and which partitions each member fetches from.
//!
//! [`group`] is the share group as a pure state machine, [`assignor`] gives out partitions, [`records`] is how a group
//! is stored. Who holds which record is the business of [`crate::share`].

pub mod assignor;
mod coordinator;
pub mod group;
#[cfg(test)]
mod group_tests;
pub mod records;
