//! The brokers' side of coordination: what stands where in ZooKeeper, and the session that reads and writes it.
//!
//! Whether a real ensemble or the embedded service answers makes no difference here.

pub mod client;
pub mod paths;
pub mod schema;
mod session;

pub use client::{CoordinationClient, CoordinationError};
pub use session::SharedSession;
