//! Bytes only: Kafka framing, messages and record batches; ZooKeeper records. No tasks, no actors.

#![warn(clippy::too_many_lines)]

pub mod kafka;
pub mod zookeeper;
