//! The embedded coordination service: a ZooKeeper in one process.
//!
//! ```text
//! connection ── Requests ─▶ actor ─▶ service ─┬─▶ tree, by transactions
//!     ▲                       │               ├─▶ sessions
//!     │                       │               └─▶ watches
//!   outbox ◀── after that ── store (journal, sled, snapshot)
//! ```
//!
//! Pure: [`tree`], [`transaction`], [`sessions`], [`watches`], and [`service`] that joins them. The [`actor`] gives it
//! requests and the time, and lets replies go when what they tell of is on disk.

pub mod acl;
pub mod actor;
pub mod admin;
pub mod children;
pub mod connection;
mod database;
pub mod four_letter;
mod journal;
mod keeper;
#[cfg(test)]
mod many_nodes_tests;
pub mod node;
mod operations;
pub mod outbox;
pub mod paths;
pub mod records;
mod recovery;
mod reserve;
pub mod server;
pub mod service;
pub mod sessions;
pub mod sled_store;
pub mod snapshot;
pub mod statistics;
pub mod store;
pub mod transaction;
pub mod tree;
pub mod watches;

pub use server::{Coordination, CoordinationError, ZnodeConfig};
