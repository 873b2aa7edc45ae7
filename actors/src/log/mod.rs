//! A partition's log on disk, in Kafka's own format.

pub mod checkpoints;
pub mod names;
pub mod partition_metadata;
