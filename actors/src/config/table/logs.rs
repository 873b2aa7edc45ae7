//! Broker keys of topics and their logs.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const LOGS: &[ConfigKey] = keys! {
    /// A class that can veto changes of configuration.
    "alter.config.policy.class.name" Class = null, Check::Any, ReadOnly, Ignored;
    /// Whether a topic that a client asks for is created when it does not exist.
    "auto.create.topics.enable" Boolean = "true", Check::Any, ReadOnly, Used;
    /// The effort of gzip, from 1 to 9, or -1 for its own default.
    "compression.gzip.level" Int = "-1", Check::LevelOrMinusOne(1, 9), ClusterWide, Used;
    /// The effort of LZ4, from 1 to 17.
    "compression.lz4.level" Int = "9", Check::Between(1, 17), ClusterWide, Ignored;
    /// How batches are compressed in the log; producer keeps what the producer sent.
    "compression.type" String = "producer", Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide, Used;
    /// The effort of Zstandard; negative numbers trade size for speed.
    "compression.zstd.level" Int = "3", Check::Between(-131_072, 22), ClusterWide, Used;
    /// A class that can veto new topics.
    "create.topic.policy.class.name" Class = null, Check::Any, ReadOnly, Ignored;
    /// Whether topics can be deleted.
    "delete.topic.enable" Boolean = "true", Check::Any, ReadOnly, Used;
    /// How long a log cleaner sleeps when there is nothing to clean.
    "log.cleaner.backoff.ms" Long = "15000", Check::Min(0), ClusterWide, Used;
    /// The memory for the keys of all log cleaners.
    "log.cleaner.dedupe.buffer.size" Long = "134217728", Check::Any, ClusterWide, Used;
    /// How long tombstones stay in compacted topics.
    "log.cleaner.delete.retention.ms" Long = "86400000", Check::Min(0), ClusterWide, Used;
    /// Whether topics with the policy compact are compacted.
    "log.cleaner.enable" Boolean = "true", Check::Any, ReadOnly, Used;
    /// How full the log cleaner's key map may get.
    "log.cleaner.io.buffer.load.factor" Double = "0.9", Check::Any, ClusterWide, Used;
    /// The memory for the log cleaners' input and output.
    "log.cleaner.io.buffer.size" Int = "524288", Check::Min(0), ClusterWide, Used;
    /// How fast all log cleaners together may read and write.
    "log.cleaner.io.max.bytes.per.second" Double = "1.7976931348623157E308", Check::Any, ClusterWide, Used;
    /// After how long at most a record of a compacted topic takes part in compaction.
    "log.cleaner.max.compaction.lag.ms" Long = "9223372036854775807", Check::Min(1), ClusterWide, Used;
    /// The share of a log that must be uncompacted before it is compacted.
    "log.cleaner.min.cleanable.ratio" Double = "0.5", Check::Fraction(0.0, 1.0), ClusterWide, Used;
    /// How long at least a record of a compacted topic stays as it is.
    "log.cleaner.min.compaction.lag.ms" Long = "0", Check::Min(0), ClusterWide, Used;
    /// How many threads compact logs.
    "log.cleaner.threads" Int = "1", Check::Min(0), ClusterWide, Used;
    /// What happens to old records: delete, compact or both.
    "log.cleanup.policy" List = "delete", Check::OneOf(&["compact", "delete"]), ClusterWide, Used;
    /// Of Kafka 0.8: an older name of log.segment.delete.delay.ms.
    "log.delete.delay.ms" Long = "60000", Check::Any, ReadOnly, Ignored;
    /// The directory of the logs, when log.dirs is not set.
    "log.dir" String = null, Check::Any, ReadOnly, Used;
    /// How long a broker waits for a KRaft controller to hear of a failed log directory before it
    /// stops.
    "log.dir.failure.timeout.ms" Long = "30000", Check::Min(1), ReadOnly, Ignored;
    /// The directories of the logs, separated by commas; each partition lies in one of them.
    "log.dirs" String = null, Check::Any, ReadOnly, Used;
    /// After how many records a log is forced to the disk.
    "log.flush.interval.messages" Long = "9223372036854775807", Check::Min(1), ClusterWide, Used;
    /// After how long a log is forced to the disk; without it, the interval of the scheduler.
    "log.flush.interval.ms" Long = null, Check::Any, ClusterWide, Used;
    /// How often recovery points are written down.
    "log.flush.offset.checkpoint.interval.ms" Int = "60000", Check::Min(0), ReadOnly, Used;
    /// How often to look whether a log must be forced to the disk.
    "log.flush.scheduler.interval.ms" Long = "9223372036854775807", Check::Any, ReadOnly, Used;
    /// How often the starts of the logs are written down.
    "log.flush.start.offset.checkpoint.interval.ms" Int = "60000", Check::Min(0), ReadOnly, Used;
    /// After how many bytes of records an entry goes into the index.
    "log.index.interval.bytes" Int = "4096", Check::Min(0), ClusterWide, Used;
    /// The size of an index file.
    "log.index.size.max.bytes" Int = "10485760", Check::Min(4), ClusterWide, Used;
    /// How long after the start the first retention and checkpoint tasks run.
    "log.initial.task.delay.ms" Long = "30000", Check::Min(0), ReadOnly, Used;
    /// How many bytes stay on the broker's disk where there is remote storage; -2 for
    /// log.retention.bytes.
    "log.local.retention.bytes" Long = "-2", Check::Min(-2), ClusterWide, Ignored;
    /// How long records stay on the broker's disk where there is remote storage; -2 for
    /// log.retention.ms.
    "log.local.retention.ms" Long = "-2", Check::Min(-2), ClusterWide, Ignored;
    /// Whether records are converted for consumers that only know older formats.
    "log.message.downconversion.enable" Boolean = "true", Check::Any, ClusterWide, Ignored;
    /// The release whose record format is stored. Troupe, as Kafka 3, stores the current one
    /// always.
    "log.message.format.version" String = "3.0-IV1", Check::Release, ReadOnly, Ignored;
    /// How far the timestamp of a record may lie after the broker's time.
    "log.message.timestamp.after.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used;
    /// How far the timestamp of a record may lie before the broker's time.
    "log.message.timestamp.before.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used;
    /// How far the timestamp of a record may be off, where the two newer limits are not set.
    "log.message.timestamp.difference.max.ms" Long = "9223372036854775807", Check::Min(0), ClusterWide, Used;
    /// Whether records carry the time of their creation or that of their arrival.
    "log.message.timestamp.type" String = "CreateTime", Check::OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide, Used;
    /// Whether the file of a new segment is allocated whole.
    "log.preallocate" Boolean = "false", Check::Any, ClusterWide, Used;
    /// How many bytes of a partition are kept; -1 for no limit.
    "log.retention.bytes" Long = "-1", Check::Any, ClusterWide, Used;
    /// How often to look for segments that can be deleted.
    "log.retention.check.interval.ms" Long = "300000", Check::Min(1), ReadOnly, Used;
    /// How many hours records are kept; minutes and milliseconds win over it.
    "log.retention.hours" Int = "168", Check::Any, ReadOnly, Used;
    /// How many minutes records are kept; milliseconds win over it.
    "log.retention.minutes" Int = null, Check::Any, ReadOnly, Used;
    /// How many milliseconds records are kept; -1 for no limit.
    "log.retention.ms" Long = null, Check::Any, ClusterWide, Used;
    /// After how many hours a new segment begins, even if the old one is not full.
    "log.roll.hours" Int = "168", Check::Min(1), ReadOnly, Used;
    /// By up to how many hours a new segment may begin early, so that not all begin together.
    "log.roll.jitter.hours" Int = "0", Check::Min(0), ReadOnly, Used;
    /// By up to how many milliseconds a new segment may begin early.
    "log.roll.jitter.ms" Long = null, Check::Any, ClusterWide, Used;
    /// After how many milliseconds a new segment begins, even if the old one is not full.
    "log.roll.ms" Long = null, Check::Any, ClusterWide, Used;
    /// The size of a segment.
    "log.segment.bytes" Int = "1073741824", Check::Min(14), ClusterWide, Used;
    /// How long a deleted segment stays on disk under another name.
    "log.segment.delete.delay.ms" Long = "60000", Check::Min(0), ClusterWide, Used;
    /// The largest batch of records that is accepted.
    "message.max.bytes" Int = "1048588", Check::Min(0), ClusterWide, Used;
    /// How many replicas must be in sync for a write with acks=all to be accepted.
    "min.insync.replicas" Int = "1", Check::Min(1), ClusterWide, Used;
    /// How many partitions a topic gets when nobody says otherwise.
    "num.partitions" Int = "1", Check::Min(1), ReadOnly, Used;
    /// How many logs of a directory are recovered at once after a crash.
    "num.recovery.threads.per.data.dir" Int = "1", Check::Min(1), ClusterWide, Ignored;
};
