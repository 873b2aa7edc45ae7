//! Broker keys of listeners, connections and threads.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const NETWORK: &[ConfigKey] = keys! {
    /// Of Kafka before 3.0: the host that clients are told to connect to.
    "advertised.host.name" String = null, Check::Any, ReadOnly, Used;
    /// The addresses that clients are told, as NAME://host:port. Without it each client is told the
    /// address at which it reached the broker.
    "advertised.listeners" String = null, Check::Any, PerBroker, Used;
    /// Of Kafka before 3.0: the port that clients are told to connect to.
    "advertised.port" Int = null, Check::Between(0, 65_535), ReadOnly, Used;
    /// How many threads do tasks such as retention.
    "background.threads" Int = "10", Check::Min(1), ClusterWide, Ignored;
    /// After how long without traffic a connection is closed.
    "connections.max.idle.ms" Long = "600000", Check::Any, ReadOnly, Used;
    /// How long a SASL connection lives before it must authenticate again; 0 for ever.
    "connections.max.reauth.ms" Long = "0", Check::Any, ReadOnly, Ignored;
    /// The largest answer to a fetch.
    "fetch.max.bytes" Int = "57671680", Check::Min(1024), ReadOnly, Used;
    /// After how many requests finished waits of Fetch are cleared away.
    "fetch.purgatory.purge.interval.requests" Int = "1000", Check::Any, ReadOnly, Ignored;
    /// Of Kafka before 3.0: the address to listen on, together with port.
    "host.name" String = "", Check::Any, ReadOnly, Used;
    /// Which security each listener name stands for, as NAME:PROTOCOL.
    "listener.security.protocol.map" String = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", Check::Any, PerBroker, Used;
    /// Where to listen, as NAME://host:port; an empty host means all interfaces, port 0 a free one.
    "listeners" String = "PLAINTEXT://:9092", Check::Any, PerBroker, Used;
    /// How many connections may be opened in a second.
    "max.connection.creation.rate" Int = "2147483647", Check::Min(0), ClusterWide, Ignored;
    /// How many connections there may be.
    "max.connections" Int = "2147483647", Check::Min(0), ClusterWide, Used;
    /// How many connections there may be from one address.
    "max.connections.per.ip" Int = "2147483647", Check::Min(0), ClusterWide, Used;
    /// How many connections there may be from particular addresses, as host:number.
    "max.connections.per.ip.overrides" String = "", Check::Any, ClusterWide, Ignored;
    /// How many incremental fetch sessions are remembered.
    "max.incremental.fetch.session.cache.slots" Int = "1000", Check::Min(0), ReadOnly, Used;
    /// How many partitions one answer of DescribeTopicPartitions may have.
    "max.request.partition.size.limit" Int = "2000", Check::Min(1), ReadOnly, Ignored;
    /// How many threads own the logs, at most one for each processor.
    "num.io.threads" Int = "8", Check::Min(1), ClusterWide, Used;
    /// How many threads serve connections, at most one for each processor.
    "num.network.threads" Int = "3", Check::Min(1), ClusterWide, Used;
    /// Of Kafka before 3.0: the port to listen on, together with host.name.
    "port" Int = "9092", Check::Between(0, 65_535), ReadOnly, Used;
    /// How many bytes of requests may be in memory before reading stops; -1 for no limit.
    "queued.max.request.bytes" Long = "-1", Check::Any, ReadOnly, Used;
    /// How many requests may be in flight before reading stops.
    "queued.max.requests" Int = "500", Check::Min(1), ReadOnly, Ignored;
    /// How long the broker waits for answers to its own requests.
    "request.timeout.ms" Int = "30000", Check::Any, ReadOnly, Ignored;
    /// The longest time for opening a connection to another node.
    "socket.connection.setup.timeout.max.ms" Long = "30000", Check::Any, ReadOnly, Ignored;
    /// The first time allowed for opening a connection to another node.
    "socket.connection.setup.timeout.ms" Long = "10000", Check::Any, ReadOnly, Ignored;
    /// How many connections may wait to be accepted.
    "socket.listen.backlog.size" Int = "50", Check::Min(1), ReadOnly, Used;
    /// The receive buffer of client connections; -1 for the system's own.
    "socket.receive.buffer.bytes" Int = "102400", Check::Any, ReadOnly, Ignored;
    /// The largest request that is accepted.
    "socket.request.max.bytes" Int = "104857600", Check::Min(1), ReadOnly, Used;
    /// The send buffer of client connections; -1 for the system's own.
    "socket.send.buffer.bytes" Int = "102400", Check::Any, ReadOnly, Ignored;
};
