//! The ZooKeeper wire protocol, server side: frames, the connect handshake, requests, replies and watch events.
//!
//! Integers are big-endian. Paths and names are kept as bytes: old Java clients encode characters outside of the basic
//! plane as two surrogates of three bytes each, which strict UTF-8 refuses and which must come back unchanged.

pub mod connect;
pub mod errors;
pub mod four_letter;
pub mod frame;
pub mod jute;
pub mod multi;
pub mod records;
pub mod replies;
pub mod requests;

pub use errors::ErrorCode;
pub use records::{Acl, Id, Stat};
