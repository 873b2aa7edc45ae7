//! Broker keys of listeners, connections and threads.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const NETWORK: &[ConfigKey] = keys! {
    /// Does what it does in Kafka.
    "advertised.host.name" String = null, Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "advertised.listeners" String = null, Check::Any, PerBroker, Used;
    /// Does what it does in Kafka.
    "advertised.port" Int = null, Check::Between(0, 65_535), ReadOnly, Used;
    /// Does what it does in Kafka.
    "background.threads" Int = "10", Check::Min(1), ClusterWide, Used;
    /// Does what it does in Kafka.
    "connections.max.idle.ms" Long = "600000", Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "connections.max.reauth.ms" Long = "0", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "fetch.max.bytes" Int = "57671680", Check::Min(1024), ReadOnly, Used;
    /// Does what it does in Kafka.
    "fetch.purgatory.purge.interval.requests" Int = "1000", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "host.name" String = "", Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "listener.security.protocol.map" String = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", Check::Any, PerBroker, Used;
    /// Does what it does in Kafka.
    "listeners" String = "PLAINTEXT://:9092", Check::Any, PerBroker, Used;
    /// Does what it does in Kafka.
    "max.connection.creation.rate" Int = "2147483647", Check::Min(0), ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "max.connections" Int = "2147483647", Check::Min(0), ClusterWide, Used;
    /// Does what it does in Kafka.
    "max.connections.per.ip" Int = "2147483647", Check::Min(0), ClusterWide, Used;
    /// Does what it does in Kafka.
    "max.connections.per.ip.overrides" String = "", Check::Any, ClusterWide, Ignored;
    /// Does what it does in Kafka.
    "max.incremental.fetch.session.cache.slots" Int = "1000", Check::Min(0), ReadOnly, Used;
    /// Does what it does in Kafka.
    "max.request.partition.size.limit" Int = "2000", Check::Min(1), ReadOnly, Used;
    /// Does what it does in Kafka.
    "num.io.threads" Int = "8", Check::Min(1), ClusterWide, Used;
    /// Does what it does in Kafka.
    "num.network.threads" Int = "3", Check::Min(1), ClusterWide, Used;
    /// Does what it does in Kafka.
    "port" Int = "9092", Check::Between(0, 65_535), ReadOnly, Used;
    /// Does what it does in Kafka.
    "queued.max.request.bytes" Long = "-1", Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "queued.max.requests" Int = "500", Check::Min(1), ReadOnly, Used;
    /// Does what it does in Kafka.
    "request.timeout.ms" Int = "30000", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "socket.connection.setup.timeout.max.ms" Long = "30000", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "socket.connection.setup.timeout.ms" Long = "10000", Check::Any, ReadOnly, Ignored;
    /// Does what it does in Kafka.
    "socket.listen.backlog.size" Int = "50", Check::Min(1), ReadOnly, Used;
    /// Does what it does in Kafka.
    "socket.receive.buffer.bytes" Int = "102400", Check::Any, ReadOnly, Used;
    /// Does what it does in Kafka.
    "socket.request.max.bytes" Int = "104857600", Check::Min(1), ReadOnly, Used;
    /// Does what it does in Kafka.
    "socket.send.buffer.bytes" Int = "102400", Check::Any, ReadOnly, Used;
};
