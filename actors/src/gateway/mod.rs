//! The network side of the broker: accepts connections, cuts them into requests, and answers in order.
//!
//! [`Gateway`] accepts and spreads connections over the gateway's threads; `connection` runs one of them; `dispatch`
//! holds the table of APIs; `handlers` has one file per API family.

mod affinity;
mod budget;
mod connection;
mod dispatch;
mod fetch_session;
mod frames;
mod handlers;
mod limits;
mod listener;
mod reply;
mod request;

#[cfg(test)]
mod connection_tests;

pub use listener::{BoundListener, Gateway};
pub use reply::{Piece, Reply};
pub use request::RequestContext;
