//! Bytes only: Kafka framing, messages and record batches; ZooKeeper records. No tasks, no actors.

pub mod kafka;
pub mod zookeeper;
