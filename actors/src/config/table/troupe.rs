//! Broker keys that only Troupe has.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const TROUPE: &[ConfigKey] = keys! {
    /// Does what it does in Kafka.
    "troupe.data.dir" String = "troupe-data", Check::NonEmpty, ReadOnly, Used;
    /// Does what it does in Kafka.
    "troupe.zookeeper.data.dir" String = null, Check::NonEmpty, ReadOnly, Used;
    /// Does what it does in Kafka.
    "troupe.zookeeper.host" String = "", Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "troupe.zookeeper.port" Int = "2181", Check::Between(0, 65_535), ReadOnly, Used;
};
