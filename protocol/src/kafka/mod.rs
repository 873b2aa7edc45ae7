//! The Kafka wire protocol and record formats.
//!
//! `frame` cuts the byte stream into requests and reads their headers; `api` is the one table of APIs and the
//! decoding of all messages but the bodies of Produce and Fetch, which `produce` and `fetch` handle without a copy;
//! `records` holds the format of stored record batches.

pub mod api;
#[cfg(test)]
mod api_tests;
mod bounded;
pub mod errors;
pub mod fetch;
mod fetch_follower;
#[cfg(test)]
mod fetch_tests;
pub mod frame;
mod leader;
mod legacy;
pub mod produce;
#[cfg(test)]
mod produce_tests;
pub mod records;
mod relax;
pub mod wire;

/// Message structs of the schema crate, by Kafka's names.
pub use kafka_protocol::messages;
/// The UTF-8 string over shared bytes of which the message structs are made.
pub use kafka_protocol::protocol::StrBytes;

/// Message structs of the APIs, and of the versions with a meaning of their own, that Kafka 4 removed.
pub mod legacy_messages {
    pub use kafka_protocol_legacy::messages::*;
    pub use kafka_protocol_legacy::protocol::StrBytes;
}
