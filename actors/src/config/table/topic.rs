//! Topic keys, each with the broker keys that stand in for it.

use super::super::key::{Check, ConfigKey, keys};

/// Every key that a topic can override.
pub(super) const TOPIC: &[ConfigKey] = keys! {
    /// Does what it does in Kafka.
    "cleanup.policy" List = "delete", Check::OneOf(&["compact", "delete"]), ClusterWide, Used
        <- [("log.cleanup.policy", 1)];
    /// Does what it does in Kafka.
    "compression.gzip.level" Int = "-1", Check::LevelOrMinusOne(1, 9), ClusterWide, Ignored
        <- [("compression.gzip.level", 1)];
    /// Does what it does in Kafka.
    "compression.lz4.level" Int = "9", Check::Between(1, 17), ClusterWide, Ignored
        <- [("compression.lz4.level", 1)];
    /// Does what it does in Kafka.
    "compression.type" String = "producer", Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide, Ignored
        <- [("compression.type", 1)];
    /// Does what it does in Kafka.
    "compression.zstd.level" Int = "3", Check::Between(-131_072, 22), ClusterWide, Ignored
        <- [("compression.zstd.level", 1)];
    /// Does what it does in Kafka.
    "delete.retention.ms" Long = "86400000", Check::Min(0), ClusterWide, Ignored
        <- [("log.cleaner.delete.retention.ms", 1)];
    /// Does what it does in Kafka.
    "file.delete.delay.ms" Long = "60000", Check::Min(0), ClusterWide, Used
        <- [("log.segment.delete.delay.ms", 1)];
    /// Does what it does in Kafka.
    "flush.messages" Long = "9223372036854775807", Check::Min(1), ClusterWide, Used
        <- [("log.flush.interval.messages", 1)];
    /// Does what it does in Kafka.
    "flush.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used
        <- [("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)];
    /// Does what it does in Kafka.
    "follower.replication.throttled.replicas" List = "", Check::Throttled, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "index.interval.bytes" Int = "4096", Check::Min(0), ClusterWide, Used
        <- [("log.index.interval.bytes", 1)];
    /// Does what it does in Kafka.
    "internal.segment.bytes" Int = null, Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "leader.replication.throttled.replicas" List = "", Check::Throttled, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "local.retention.bytes" Long = "-2", Check::Min(-2), ClusterWide, Ignored
        <- [("log.local.retention.bytes", 1)];
    /// Does what it does in Kafka.
    "local.retention.ms" Long = "-2", Check::Min(-2), ClusterWide, Ignored
        <- [("log.local.retention.ms", 1)];
    /// Does what it does in Kafka.
    "max.compaction.lag.ms" Long = "9223372036854775807", Check::Min(1), ClusterWide, Ignored
        <- [("log.cleaner.max.compaction.lag.ms", 1)];
    /// Does what it does in Kafka.
    "max.message.bytes" Int = "1048588", Check::Min(0), ClusterWide, Used
        <- [("message.max.bytes", 1)];
    /// Does what it does in Kafka.
    "message.downconversion.enable" Boolean = "true", Check::Any, ClusterWide, Ignored
        <- [("log.message.downconversion.enable", 1)];
    /// Does what it does in Kafka.
    "message.format.version" String = "3.0-IV1", Check::Release, ClusterWide, Ignored
        <- [("log.message.format.version", 1)];
    /// Does what it does in Kafka.
    "message.timestamp.after.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used
        <- [("log.message.timestamp.after.max.ms", 1)];
    /// Does what it does in Kafka.
    "message.timestamp.before.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used
        <- [("log.message.timestamp.before.max.ms", 1)];
    /// Does what it does in Kafka.
    "message.timestamp.difference.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used
        <- [("log.message.timestamp.difference.max.ms", 1)];
    /// Does what it does in Kafka.
    "message.timestamp.type" String = "CreateTime", Check::OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide, Used
        <- [("log.message.timestamp.type", 1)];
    /// Does what it does in Kafka.
    "min.cleanable.dirty.ratio" Double = "0.5", Check::Fraction(0.0, 1.0), ClusterWide, Ignored
        <- [("log.cleaner.min.cleanable.ratio", 1)];
    /// Does what it does in Kafka.
    "min.compaction.lag.ms" Long = "0", Check::Min(0), ClusterWide, Ignored
        <- [("log.cleaner.min.compaction.lag.ms", 1)];
    /// Does what it does in Kafka.
    "min.insync.replicas" Int = "1", Check::Min(1), ClusterWide, Used
        <- [("min.insync.replicas", 1)];
    /// Does what it does in Kafka.
    "preallocate" Boolean = "false", Check::Any, ClusterWide, Used
        <- [("log.preallocate", 1)];
    /// Does what it does in Kafka.
    "remote.log.copy.disable" Boolean = "false", Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "remote.log.delete.on.disable" Boolean = "false", Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "remote.storage.enable" Boolean = "false", Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "retention.bytes" Long = "-1", Check::Any, ClusterWide, Used
        <- [("log.retention.bytes", 1)];
    /// Does what it does in Kafka.
    "retention.ms" Long = "604800000", Check::Min(-1), ClusterWide, Used
        <- [("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)];
    /// Does what it does in Kafka.
    "segment.bytes" Int = "1073741824", Check::Min(14), ClusterWide, Used
        <- [("log.segment.bytes", 1)];
    /// Does what it does in Kafka.
    "segment.index.bytes" Int = "10485760", Check::Min(4), ClusterWide, Used
        <- [("log.index.size.max.bytes", 1)];
    /// Does what it does in Kafka.
    "segment.jitter.ms" Long = "0", Check::Min(0), ClusterWide, Used
        <- [("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)];
    /// Does what it does in Kafka.
    "segment.ms" Long = "604800000", Check::Min(1), ClusterWide, Used
        <- [("log.roll.ms", 1), ("log.roll.hours", 3_600_000)];
    /// Does what it does in Kafka.
    "unclean.leader.election.enable" Boolean = "false", Check::Any, ClusterWide, Ignored
        <- [("unclean.leader.election.enable", 1)];
};
