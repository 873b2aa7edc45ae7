//! Replication between brokers: followers fetch from their leaders, leaders have the in-sync sets written down.
//!
//! What a replica does with it is decided in [`partition`](crate::partition).

mod fetcher;
mod fetchers;
pub mod isr;
mod session;

pub use fetchers::Fetchers;
