//! Broker keys of topics and their logs.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const LOGS: &[ConfigKey] = keys! {
    /// Does what it does in Kafka.
    "alter.config.policy.class.name" Class = null, Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "auto.create.topics.enable" Boolean = "true", Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "compression.gzip.level" Int = "-1", Check::LevelOrMinusOne(1, 9), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "compression.lz4.level" Int = "9", Check::Between(1, 17), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "compression.type" String = "producer", Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "compression.zstd.level" Int = "3", Check::Between(-131_072, 22), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "create.topic.policy.class.name" Class = null, Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "delete.topic.enable" Boolean = "true", Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.cleaner.backoff.ms" Long = "15000", Check::Min(0), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.dedupe.buffer.size" Long = "134217728", Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.delete.retention.ms" Long = "86400000", Check::Min(0), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.enable" Boolean = "true", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.io.buffer.load.factor" Double = "0.9", Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.io.buffer.size" Int = "524288", Check::Min(0), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.io.max.bytes.per.second" Double = "1.7976931348623157E308", Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.max.compaction.lag.ms" Long = "9223372036854775807", Check::Min(1), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.min.cleanable.ratio" Double = "0.5", Check::Fraction(0.0, 1.0), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.min.compaction.lag.ms" Long = "0", Check::Min(0), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleaner.threads" Int = "1", Check::Min(0), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.cleanup.policy" List = "delete", Check::OneOf(&["compact", "delete"]), ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.delete.delay.ms" Long = "60000", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "log.dir" String = null, Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.dir.failure.timeout.ms" Long = "30000", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "log.dirs" String = null, Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.flush.interval.messages" Long = "9223372036854775807", Check::Min(1), ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.flush.interval.ms" Long = null, Check::Any, ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.flush.offset.checkpoint.interval.ms" Int = "60000", Check::Min(0), ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.flush.scheduler.interval.ms" Long = "9223372036854775807", Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.flush.start.offset.checkpoint.interval.ms" Int = "60000", Check::Min(0), ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.index.interval.bytes" Int = "4096", Check::Min(0), ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.index.size.max.bytes" Int = "10485760", Check::Min(4), ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.initial.task.delay.ms" Long = "30000", Check::Min(0), ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.local.retention.bytes" Long = "-2", Check::Min(-2), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.local.retention.ms" Long = "-2", Check::Min(-2), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.message.downconversion.enable" Boolean = "true", Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "log.message.format.version" String = "3.0-IV1", Check::Release, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "log.message.timestamp.after.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.message.timestamp.before.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.message.timestamp.difference.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.message.timestamp.type" String = "CreateTime", Check::OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.preallocate" Boolean = "false", Check::Any, ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.retention.bytes" Long = "-1", Check::Any, ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.retention.check.interval.ms" Long = "300000", Check::Min(1), ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.retention.hours" Int = "168", Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.retention.minutes" Int = null, Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.retention.ms" Long = null, Check::Any, ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.roll.hours" Int = "168", Check::Min(1), ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.roll.jitter.hours" Int = "0", Check::Min(0), ReadOnly, Used;
    /// Does what it does in Kafka.
    "log.roll.jitter.ms" Long = null, Check::Any, ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.roll.ms" Long = null, Check::Any, ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.segment.bytes" Int = "1073741824", Check::Min(14), ClusterWide, Used;
    /// Does what it does in Kafka.
    "log.segment.delete.delay.ms" Long = "60000", Check::Min(0), ClusterWide, Used;
    /// Does what it does in Kafka.
    "message.max.bytes" Int = "1048588", Check::Min(0), ClusterWide, Used;
    /// Does what it does in Kafka.
    "min.insync.replicas" Int = "1", Check::Min(1), ClusterWide, Used;
    /// Does what it does in Kafka.
    "num.partitions" Int = "1", Check::Min(1), ReadOnly, Used;
    /// Does what it does in Kafka.
    "num.recovery.threads.per.data.dir" Int = "1", Check::Min(1), ClusterWide, Used;
};
