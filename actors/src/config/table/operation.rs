//! Broker keys of metrics, quotas and the rest of operation.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const OPERATION: &[ConfigKey] = keys! {
    /// Does what it does in Kafka.
    "alter.log.dirs.replication.quota.window.num" Int = "11", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "alter.log.dirs.replication.quota.window.size.seconds" Int = "1", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "client.quota.callback.class" Class = null, Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "delete.records.purgatory.purge.interval.requests" Int = "1", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "kafka.metrics.polling.interval.secs" Int = "10", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "kafka.metrics.reporters" List = "", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "metric.reporters" List = "", Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "metrics.num.samples" Int = "2", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "metrics.recording.level" String = "INFO", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "metrics.sample.window.ms" Long = "30000", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "quota.consumer.default" Long = "9223372036854775807", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "quota.producer.default" Long = "9223372036854775807", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "quota.window.num" Int = "11", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "quota.window.size.seconds" Int = "1", Check::Min(1), ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "telemetry.max.bytes" Int = "1048576", Check::Min(1), ReadOnly, Ignored;
};
