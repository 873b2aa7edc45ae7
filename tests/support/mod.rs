//! What the end-to-end tests share: servers, real clients and raw sockets.
//!
//! Every test runs against [`server::Server`], which is the `troupe` binary or, with
//! `TROUPE_TEST_SERVER=kafka-3.9`, Apache Kafka itself: a test that fails there asks for something that Kafka
//! does not do.
#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test support is compiled into each test binary, and a test may panic"
)]

pub mod beside;
pub mod clients;
pub mod cluster;
pub mod groups;
pub mod java;
pub mod kcat;
pub mod process;
pub mod python;
pub mod random;
pub mod records;
pub mod requests;
pub mod server;
pub mod skip;
pub mod survivor;
pub mod transactional;
pub mod wire;
pub mod zookeeper;
