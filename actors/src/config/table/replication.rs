//! Broker keys of replication and of remote storage.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const REPLICATION: &[ConfigKey] = keys! {
    /// How many bytes per second the throttled followers of this broker may copy.
    "follower.replication.throttled.rate" Long = "9223372036854775807", Check::Min(0), PerBroker, Ignored;
    /// How many bytes per second the throttled leaders of this broker may have copied.
    "leader.replication.throttled.rate" Long = "9223372036854775807", Check::Min(0), PerBroker, Ignored;
    /// How many threads move replicas between log directories.
    "num.replica.alter.log.dirs.threads" Int = null, Check::Any, ReadOnly, Ignored;
    /// How many connections to each other broker fetch for replication.
    "num.replica.fetchers" Int = "1", Check::Any, ClusterWide, Used;
    /// How long a fetch waits for remote storage.
    "remote.fetch.max.wait.ms" Int = "500", Check::Min(1), ClusterWide, Ignored;
    /// How long ListOffsets waits for remote storage.
    "remote.list.offsets.request.timeout.ms" Long = "30000", Check::Min(1), ClusterWide, Ignored;
    /// The disk space for indexes of remote segments.
    "remote.log.index.file.cache.total.size.bytes" Long = "1073741824", Check::Min(1), ClusterWide, Ignored;
    /// How many threads copy segments to remote storage.
    "remote.log.manager.copier.thread.pool.size" Int = "-1", Check::Any, ReadOnly, Ignored;
    /// How fast segments may be copied to remote storage.
    "remote.log.manager.copy.max.bytes.per.second" Long = "9223372036854775807", Check::Min(1), ClusterWide, Ignored;
    /// How many samples are kept for the limit on copying to remote storage.
    "remote.log.manager.copy.quota.window.num" Int = "11", Check::Min(1), ReadOnly, Ignored;
    /// How long each sample of the limit on copying to remote storage lasts.
    "remote.log.manager.copy.quota.window.size.seconds" Int = "1", Check::Min(1), ReadOnly, Ignored;
    /// How many threads delete expired remote segments.
    "remote.log.manager.expiration.thread.pool.size" Int = "-1", Check::Any, ReadOnly, Ignored;
    /// How fast segments may be read from remote storage.
    "remote.log.manager.fetch.max.bytes.per.second" Long = "9223372036854775807", Check::Min(1), ClusterWide, Ignored;
    /// How many samples are kept for the limit on reading remote storage.
    "remote.log.manager.fetch.quota.window.num" Int = "11", Check::Min(1), ReadOnly, Ignored;
    /// How long each sample of the limit on reading remote storage lasts.
    "remote.log.manager.fetch.quota.window.size.seconds" Int = "1", Check::Min(1), ReadOnly, Ignored;
    /// How often to look for segments that can go to remote storage.
    "remote.log.manager.task.interval.ms" Long = "30000", Check::Min(1), ReadOnly, Ignored;
    /// The longest wait after a failed task of remote storage.
    "remote.log.manager.task.retry.backoff.max.ms" Long = "30000", Check::Min(1), ReadOnly, Ignored;
    /// The first wait after a failed task of remote storage.
    "remote.log.manager.task.retry.backoff.ms" Long = "500", Check::Min(1), ReadOnly, Ignored;
    /// How much the waits after failed tasks of remote storage vary.
    "remote.log.manager.task.retry.jitter" Double = "0.2", Check::Fraction(0.0, 0.5), ReadOnly, Ignored;
    /// How many threads serve remote storage.
    "remote.log.manager.thread.pool.size" Int = "10", Check::Min(1), ReadOnly, Ignored;
    /// How much a remote storage plug-in may note beside a segment.
    "remote.log.metadata.custom.metadata.max.bytes" Int = "128", Check::Min(0), ReadOnly, Ignored;
    /// The class that keeps the metadata of remote segments.
    "remote.log.metadata.manager.class.name" String = "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", Check::NonEmpty, ReadOnly, Ignored;
    /// Where that class is found.
    "remote.log.metadata.manager.class.path" String = null, Check::Any, ReadOnly, Ignored;
    /// The prefix of the keys that are passed on to that class.
    "remote.log.metadata.manager.impl.prefix" String = "rlmm.config.", Check::NonEmpty, ReadOnly, Ignored;
    /// The listener over which that class reaches its brokers.
    "remote.log.metadata.manager.listener.name" String = null, Check::NonEmpty, ReadOnly, Ignored;
    /// How many reads of remote storage may wait.
    "remote.log.reader.max.pending.tasks" Int = "100", Check::Min(1), ReadOnly, Ignored;
    /// How many threads read remote storage.
    "remote.log.reader.threads" Int = "10", Check::Min(1), ReadOnly, Ignored;
    /// The class that reaches the remote storage.
    "remote.log.storage.manager.class.name" String = null, Check::NonEmpty, ReadOnly, Ignored;
    /// Where that class is found.
    "remote.log.storage.manager.class.path" String = null, Check::Any, ReadOnly, Ignored;
    /// The prefix of the keys that are passed on to that class.
    "remote.log.storage.manager.impl.prefix" String = "rsm.config.", Check::NonEmpty, ReadOnly, Ignored;
    /// Whether segments can be kept in remote storage.
    "remote.log.storage.system.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// How many bytes per second may go from one log directory to another.
    "replica.alter.log.dirs.io.max.bytes.per.second" Long = "9223372036854775807", Check::Min(0), PerBroker, Ignored;
    /// How long a follower waits after a failed fetch.
    "replica.fetch.backoff.ms" Int = "1000", Check::Min(0), ReadOnly, Used;
    /// How much of a partition a follower fetches at once.
    "replica.fetch.max.bytes" Int = "1048576", Check::Min(0), ReadOnly, Used;
    /// How many bytes a follower's fetch waits for.
    "replica.fetch.min.bytes" Int = "1", Check::Any, ReadOnly, Used;
    /// The largest answer to a follower's fetch.
    "replica.fetch.response.max.bytes" Int = "10485760", Check::Min(0), ReadOnly, Used;
    /// How long a follower's fetch may wait.
    "replica.fetch.wait.max.ms" Int = "500", Check::Any, ReadOnly, Used;
    /// How often high watermarks are written down.
    "replica.high.watermark.checkpoint.interval.ms" Long = "5000", Check::Any, ReadOnly, Used;
    /// Of Kafka 0.8: how many records a follower may be behind.
    "replica.lag.max.messages" Long = "4000", Check::Any, ReadOnly, Ignored;
    /// After how long without catching up a follower is out of sync.
    "replica.lag.time.max.ms" Long = "30000", Check::Any, ReadOnly, Used;
    /// The class that chooses the replica a consumer should fetch from.
    "replica.selector.class" String = null, Check::Any, ReadOnly, Ignored;
    /// The receive buffer of sockets for replication.
    "replica.socket.receive.buffer.bytes" Int = "65536", Check::Any, ReadOnly, Ignored;
    /// How long a follower waits for its leader's answer.
    "replica.socket.timeout.ms" Int = "30000", Check::Any, ReadOnly, Used;
    /// How many samples are kept for the quotas of replication.
    "replication.quota.window.num" Int = "11", Check::Min(1), ReadOnly, Ignored;
    /// How long each sample of the quotas of replication lasts.
    "replication.quota.window.size.seconds" Int = "1", Check::Min(1), ReadOnly, Ignored;
};
