//! The brokers' side of coordination: what stands where in ZooKeeper, and the session that reads and writes it.
//!
//! Whether a real ensemble or the embedded service answers makes no difference here.

pub mod client;
pub mod paths;
pub mod schema;
mod service;
mod session;
mod simulated;

pub use client::{CoordinationClient, CoordinationError};
pub use service::Watcher;
pub use session::SharedSession;
