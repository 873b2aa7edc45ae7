//! Topic keys, each with the broker keys that stand in for it.

use super::super::key::{Check, ConfigKey, keys};

/// Every key that a topic can override.
pub(super) const TOPIC: &[ConfigKey] = keys! {
    /// What happens to old records: delete, compact or both.
    "cleanup.policy" List = "delete", Check::OneOf(&["compact", "delete"]), ClusterWide, Used
        <- [("log.cleanup.policy", 1)];
    /// The effort of gzip, from 1 to 9, or -1 for its own default.
    "compression.gzip.level" Int = "-1", Check::LevelOrMinusOne(1, 9), ClusterWide, Used
        <- [("compression.gzip.level", 1)];
    /// The effort of LZ4, from 1 to 17.
    "compression.lz4.level" Int = "9", Check::Between(1, 17), ClusterWide, Ignored
        <- [("compression.lz4.level", 1)];
    /// How batches are compressed in the log; producer keeps what the producer sent.
    "compression.type" String = "producer", Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide, Used
        <- [("compression.type", 1)];
    /// The effort of Zstandard; negative numbers trade size for speed.
    "compression.zstd.level" Int = "3", Check::Between(-131_072, 22), ClusterWide, Used
        <- [("compression.zstd.level", 1)];
    /// How long tombstones stay in a compacted topic.
    "delete.retention.ms" Long = "86400000", Check::Min(0), ClusterWide, Used
        <- [("log.cleaner.delete.retention.ms", 1)];
    /// How long a deleted segment stays on disk under another name.
    "file.delete.delay.ms" Long = "60000", Check::Min(0), ClusterWide, Used
        <- [("log.segment.delete.delay.ms", 1)];
    /// After how many records the log is forced to the disk.
    "flush.messages" Long = "9223372036854775807", Check::Min(1), ClusterWide, Used
        <- [("log.flush.interval.messages", 1)];
    /// After how long the log is forced to the disk.
    "flush.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used
        <- [("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)];
    /// The replicas whose fetching counts against the quota, as partition:broker, or * for all.
    "follower.replication.throttled.replicas" List = "", Check::Throttled, ClusterWide, Ignored;
    /// After how many bytes of records an entry goes into the index.
    "index.interval.bytes" Int = "4096", Check::Min(0), ClusterWide, Used
        <- [("log.index.interval.bytes", 1)];
    /// The size of a segment, for tests.
    "internal.segment.bytes" Int = null, Check::Any, ClusterWide, Ignored;
    /// The replicas whose serving counts against the quota, as partition:broker, or * for all.
    "leader.replication.throttled.replicas" List = "", Check::Throttled, ClusterWide, Ignored;
    /// How many bytes stay on the broker's disk where there is remote storage; -2 for
    /// retention.bytes.
    "local.retention.bytes" Long = "-2", Check::Min(-2), ClusterWide, Ignored
        <- [("log.local.retention.bytes", 1)];
    /// How long records stay on the broker's disk where there is remote storage; -2 for
    /// retention.ms.
    "local.retention.ms" Long = "-2", Check::Min(-2), ClusterWide, Ignored
        <- [("log.local.retention.ms", 1)];
    /// After how long at most a record takes part in compaction.
    "max.compaction.lag.ms" Long = "9223372036854775807", Check::Min(1), ClusterWide, Used
        <- [("log.cleaner.max.compaction.lag.ms", 1)];
    /// The largest batch of records that is accepted.
    "max.message.bytes" Int = "1048588", Check::Min(0), ClusterWide, Used
        <- [("message.max.bytes", 1)];
    /// Whether records are converted for consumers that only know older formats.
    "message.downconversion.enable" Boolean = "true", Check::Any, ClusterWide, Ignored
        <- [("log.message.downconversion.enable", 1)];
    /// The release whose record format is stored. Troupe, as Kafka 3, stores the current one
    /// always.
    "message.format.version" String = "3.0-IV1", Check::Release, ClusterWide, Ignored
        <- [("log.message.format.version", 1)];
    /// How far the timestamp of a record may lie after the broker's time.
    "message.timestamp.after.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used
        <- [("log.message.timestamp.after.max.ms", 1)];
    /// How far the timestamp of a record may lie before the broker's time.
    "message.timestamp.before.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used
        <- [("log.message.timestamp.before.max.ms", 1)];
    /// How far the timestamp of a record may be off, where the two newer limits are not set.
    "message.timestamp.difference.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used
        <- [("log.message.timestamp.difference.max.ms", 1)];
    /// Whether records carry the time of their creation or that of their arrival.
    "message.timestamp.type" String = "CreateTime", Check::OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide, Used
        <- [("log.message.timestamp.type", 1)];
    /// The share of the log that must be uncompacted before it is compacted.
    "min.cleanable.dirty.ratio" Double = "0.5", Check::Fraction(0.0, 1.0), ClusterWide, Used
        <- [("log.cleaner.min.cleanable.ratio", 1)];
    /// How long at least a record stays as it is.
    "min.compaction.lag.ms" Long = "0", Check::Min(0), ClusterWide, Used
        <- [("log.cleaner.min.compaction.lag.ms", 1)];
    /// How many replicas must be in sync for a write with acks=all to be accepted.
    "min.insync.replicas" Int = "1", Check::Min(1), ClusterWide, Used
        <- [("min.insync.replicas", 1)];
    /// Whether the file of a new segment is allocated whole.
    "preallocate" Boolean = "false", Check::Any, ClusterWide, Used
        <- [("log.preallocate", 1)];
    /// Whether nothing more is copied to remote storage.
    "remote.log.copy.disable" Boolean = "false", Check::Any, ClusterWide, Ignored;
    /// Whether remote segments are deleted when remote storage is switched off.
    "remote.log.delete.on.disable" Boolean = "false", Check::Any, ClusterWide, Ignored;
    /// Whether segments are kept in remote storage.
    "remote.storage.enable" Boolean = "false", Check::Any, ClusterWide, Ignored;
    /// How many bytes of a partition are kept; -1 for no limit.
    "retention.bytes" Long = "-1", Check::Any, ClusterWide, Used
        <- [("log.retention.bytes", 1)];
    /// How long records are kept; -1 for no limit.
    "retention.ms" Long = "604800000", Check::Min(-1), ClusterWide, Used
        <- [("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)];
    /// The size of a segment.
    "segment.bytes" Int = "1073741824", Check::Min(14), ClusterWide, Used
        <- [("log.segment.bytes", 1)];
    /// The size of an index file.
    "segment.index.bytes" Int = "10485760", Check::Min(4), ClusterWide, Used
        <- [("log.index.size.max.bytes", 1)];
    /// By up to how long a new segment may begin early, so that not all begin together.
    "segment.jitter.ms" Long = "0", Check::Min(0), ClusterWide, Used
        <- [("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)];
    /// After how long a new segment begins, even if the old one is not full.
    "segment.ms" Long = "604800000", Check::Min(1), ClusterWide, Used
        <- [("log.roll.ms", 1), ("log.roll.hours", 3_600_000)];
    /// Whether a replica that is not in sync may lead when no other is left, at the price of
    /// records.
    "unclean.leader.election.enable" Boolean = "false", Check::Any, ClusterWide, Used
        <- [("unclean.leader.election.enable", 1)];
};
