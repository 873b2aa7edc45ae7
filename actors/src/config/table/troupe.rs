//! Broker keys that only Troupe has.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const TROUPE: &[ConfigKey] = keys! {
    /// The directory for everything that is not placed otherwise: logs in it, and the tree of the
    /// embedded coordination service.
    "troupe.data.dir" String = "troupe-data", Check::NonEmpty, ReadOnly, Used;
    /// Where the embedded coordination service keeps its tree.
    "troupe.zookeeper.data.dir" String = null, Check::NonEmpty, ReadOnly, Used;
    /// The address on which the embedded coordination service listens; empty for all interfaces.
    "troupe.zookeeper.host" String = "", Check::Any, ReadOnly, Used;
    /// The port of the embedded coordination service; 0 for a free one. It runs when
    /// zookeeper.connect is not set.
    "troupe.zookeeper.port" Int = "2181", Check::Between(0, 65_535), ReadOnly, Used;
};
