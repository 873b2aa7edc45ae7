//! Broker keys of metrics, quotas and the rest of operation.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const OPERATION: &[ConfigKey] = keys! {
    /// How many samples are kept for the quota of moves between log directories.
    "alter.log.dirs.replication.quota.window.num" Int = "11", Check::Min(1), ReadOnly, Ignored;
    /// How long each sample of the quota of moves between log directories lasts.
    "alter.log.dirs.replication.quota.window.size.seconds" Int = "1", Check::Min(1), ReadOnly, Ignored;
    /// The class that tells which quota a client has.
    "client.quota.callback.class" Class = null, Check::Any, ReadOnly, Ignored;
    /// After how many requests finished waits of DeleteRecords are cleared away.
    "delete.records.purgatory.purge.interval.requests" Int = "1", Check::Any, ReadOnly, Ignored;
    /// How often reporters of the older metrics are asked.
    "kafka.metrics.polling.interval.secs" Int = "10", Check::Min(1), ReadOnly, Ignored;
    /// Classes that the older metrics are reported to.
    "kafka.metrics.reporters" List = "", Check::Any, ReadOnly, Ignored;
    /// Classes that metrics are reported to.
    "metric.reporters" List = "", Check::Any, ClusterWide, Ignored;
    /// How many samples a metric keeps.
    "metrics.num.samples" Int = "2", Check::Min(1), ReadOnly, Ignored;
    /// How much is measured: INFO, DEBUG or TRACE.
    "metrics.recording.level" String = "INFO", Check::Any, ReadOnly, Ignored;
    /// How long each sample of a metric lasts.
    "metrics.sample.window.ms" Long = "30000", Check::Min(1), ReadOnly, Ignored;
    /// Of Kafka before 3.0: how many bytes a second a client may fetch.
    "quota.consumer.default" Long = "9223372036854775807", Check::Min(1), ReadOnly, Ignored;
    /// Of Kafka before 3.0: how many bytes a second a client may produce.
    "quota.producer.default" Long = "9223372036854775807", Check::Min(1), ReadOnly, Ignored;
    /// How many samples are kept for the quotas of clients.
    "quota.window.num" Int = "11", Check::Min(1), ReadOnly, Ignored;
    /// How long each sample of the quotas of clients lasts.
    "quota.window.size.seconds" Int = "1", Check::Min(1), ReadOnly, Ignored;
    /// The largest telemetry message of a client.
    "telemetry.max.bytes" Int = "1048576", Check::Min(1), ReadOnly, Ignored;
};
