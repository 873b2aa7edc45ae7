//! Broker keys of membership, the controller and the coordination service.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const CLUSTER: &[ConfigKey] = keys! {
    /// Whether metrics go to JMX even when it is not among the reporters.
    "auto.include.jmx.reporter" Boolean = "true", Check::Any, ReadOnly, Ignored;
    /// Whether leadership goes back to the preferred replicas by itself.
    "auto.leader.rebalance.enable" Boolean = "true", Check::Any, ReadOnly, Used;
    /// How often a broker tells a KRaft controller that it lives.
    "broker.heartbeat.interval.ms" Int = "2000", Check::Any, ReadOnly, Ignored;
    /// The number of this broker in the cluster; -1 has one generated.
    "broker.id" Int = "-1", Check::Any, ReadOnly, Used;
    /// Whether a broker without a number gets one, above reserved.broker.max.id.
    "broker.id.generation.enable" Boolean = "true", Check::Any, ReadOnly, Used;
    /// The rack of this broker, which clients are told, and over which replicas are spread.
    "broker.rack" String = null, Check::Any, ReadOnly, Used;
    /// How long a KRaft controller waits for a broker's heartbeat.
    "broker.session.timeout.ms" Int = "9000", Check::Any, ReadOnly, Ignored;
    /// The listener on which the controller's requests arrive.
    "control.plane.listener.name" String = null, Check::Any, ReadOnly, Ignored;
    /// Whether a broker hands its leaderships over before it stops.
    "controlled.shutdown.enable" Boolean = "true", Check::Any, ReadOnly, Used;
    /// How often handing over leaderships is tried.
    "controlled.shutdown.max.retries" Int = "3", Check::Any, ReadOnly, Used;
    /// How long to wait before handing over leaderships is tried again.
    "controlled.shutdown.retry.backoff.ms" Long = "5000", Check::Any, ReadOnly, Used;
    /// The listeners of KRaft controllers.
    "controller.listener.names" String = null, Check::Any, ReadOnly, Ignored;
    /// Of Kafka before 0.9: how many requests may wait for a broker at the controller.
    "controller.message.queue.size" Int = "2147483647", Check::Any, ReadOnly, Ignored;
    /// From which duration on every slow event of a KRaft controller is logged.
    "controller.performance.always.log.threshold.ms" Long = "2000", Check::Min(0), ReadOnly, Ignored;
    /// Over which period a KRaft controller sums up slow events.
    "controller.performance.sample.period.ms" Long = "60000", Check::Min(100), ReadOnly, Ignored;
    /// How long a KRaft leader gathers records before it writes them.
    "controller.quorum.append.linger.ms" Int = "25", Check::Any, ReadOnly, Ignored;
    /// Addresses where the KRaft quorum can be found.
    "controller.quorum.bootstrap.servers" List = "", Check::Any, ReadOnly, Ignored;
    /// The longest wait before a lost KRaft election is tried again.
    "controller.quorum.election.backoff.max.ms" Int = "1000", Check::Any, ReadOnly, Ignored;
    /// How long a KRaft voter waits for votes.
    "controller.quorum.election.timeout.ms" Int = "1000", Check::Any, ReadOnly, Ignored;
    /// How long a KRaft follower does without its leader before it calls an election.
    "controller.quorum.fetch.timeout.ms" Int = "2000", Check::Any, ReadOnly, Ignored;
    /// How long a request to the KRaft quorum may take.
    "controller.quorum.request.timeout.ms" Int = "2000", Check::Any, ReadOnly, Ignored;
    /// How long to wait before a request to the KRaft quorum is sent again.
    "controller.quorum.retry.backoff.ms" Int = "20", Check::Any, ReadOnly, Ignored;
    /// The KRaft voters, as id@host:port.
    "controller.quorum.voters" List = "", Check::Any, ReadOnly, Ignored;
    /// How many samples are kept for the quota of topic changes.
    "controller.quota.window.num" Int = "11", Check::Min(1), ReadOnly, Ignored;
    /// How long each sample of the quota of topic changes lasts.
    "controller.quota.window.size.seconds" Int = "1", Check::Min(1), ReadOnly, Ignored;
    /// How long the controller waits for a broker's answer.
    "controller.socket.timeout.ms" Int = "30000", Check::Any, ReadOnly, Used;
    /// How many replicas a topic gets when nobody says otherwise.
    "default.replication.factor" Int = "1", Check::Any, ReadOnly, Used;
    /// Listeners that open before the authorizer is ready.
    "early.start.listeners" String = null, Check::Any, ReadOnly, Ignored;
    /// Whether KRaft keeps track of eligible leader replicas (KIP-966).
    "eligible.leader.replicas.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// How long a broker tries to register with a KRaft controller at start.
    "initial.broker.registration.timeout.ms" Int = "60000", Check::Any, ReadOnly, Ignored;
    /// The listener that brokers use among themselves.
    "inter.broker.listener.name" String = null, Check::Any, ReadOnly, Used;
    /// The release whose protocol brokers speak among themselves.
    "inter.broker.protocol.version" String = "3.9-IV0", Check::Release, ReadOnly, Ignored;
    /// How long removed KRaft log segments stay on disk.
    "internal.metadata.delete.delay.millis" Long = "60000", Check::Any, ReadOnly, Ignored;
    /// The size of KRaft log segments, for tests.
    "internal.metadata.log.segment.bytes" Int = null, Check::Any, ReadOnly, Ignored;
    /// The largest batch in the KRaft log.
    "internal.metadata.max.batch.size.in.bytes" Int = "8388608", Check::Any, ReadOnly, Ignored;
    /// The largest fetch from the KRaft log.
    "internal.metadata.max.fetch.size.in.bytes" Int = "8388608", Check::Any, ReadOnly, Ignored;
    /// How often the controller checks whether leaders are where they should be.
    "leader.imbalance.check.interval.seconds" Long = "300", Check::Min(1), ReadOnly, Used;
    /// How many per cent of a broker's partitions may have another leader than the preferred one.
    "leader.imbalance.per.broker.percentage" Int = "10", Check::Any, ReadOnly, Used;
    /// The directory of the KRaft log.
    "metadata.log.dir" String = null, Check::Any, ReadOnly, Ignored;
    /// After how many bytes of KRaft records a snapshot is written.
    "metadata.log.max.record.bytes.between.snapshots" Long = "20971520", Check::Min(1), ReadOnly, Ignored;
    /// After how long at most a KRaft snapshot is written.
    "metadata.log.max.snapshot.interval.ms" Long = "3600000", Check::Min(0), ReadOnly, Ignored;
    /// The size of a segment of the KRaft log.
    "metadata.log.segment.bytes" Int = "1073741824", Check::Min(12), ReadOnly, Ignored;
    /// The smallest size that segments of the KRaft log may be given.
    "metadata.log.segment.min.bytes" Int = "8388608", Check::Min(12), ReadOnly, Ignored;
    /// After how long a new segment of the KRaft log begins.
    "metadata.log.segment.ms" Long = "604800000", Check::Any, ReadOnly, Ignored;
    /// How often a KRaft controller writes something when nothing happens.
    "metadata.max.idle.interval.ms" Int = "500", Check::Min(0), ReadOnly, Ignored;
    /// How many bytes of KRaft log and snapshots are kept.
    "metadata.max.retention.bytes" Long = "104857600", Check::Any, ReadOnly, Ignored;
    /// How long KRaft log and snapshots are kept.
    "metadata.max.retention.ms" Long = "604800000", Check::Any, ReadOnly, Ignored;
    /// The number of this node under KRaft; here the same as broker.id.
    "node.id" Int = "-1", Check::Any, ReadOnly, Used;
    /// What a KRaft process is: broker, controller or both.
    "process.roles" List = "", Check::OneOf(&["broker", "controller"]), ReadOnly, Ignored;
    /// The highest number that may be given to a broker by hand.
    "reserved.broker.max.id" Int = "1000", Check::Min(0), ReadOnly, Used;
    /// How long the start may take before it is given up.
    "server.max.startup.time.ms" Long = "9223372036854775807", Check::Min(0), ReadOnly, Ignored;
    /// Whether a replica that is not in sync may lead when no other is left, at the price of
    /// records.
    "unclean.leader.election.enable" Boolean = "false", Check::Any, ClusterWide, Used;
    /// How often a KRaft controller looks for partitions that need such a leader.
    "unclean.leader.election.interval.ms" Long = "300000", Check::Min(1), ReadOnly, Ignored;
    /// Whether versions of APIs that are still being developed are served.
    "unstable.api.versions.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// Whether versions of features that are still being developed are allowed.
    "unstable.feature.versions.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// The class of the connection to ZooKeeper.
    "zookeeper.clientCnxnSocket" String = null, Check::Any, ReadOnly, Ignored;
    /// Where the coordination service is: host:port,host:port/chroot. Without it the broker runs
    /// its own.
    "zookeeper.connect" String = null, Check::Any, ReadOnly, Used;
    /// How long to try to reach the coordination service; without it, the session timeout.
    "zookeeper.connection.timeout.ms" Int = null, Check::Any, ReadOnly, Used;
    /// How many requests to ZooKeeper may be under way.
    "zookeeper.max.in.flight.requests" Int = "10", Check::Min(1), ReadOnly, Ignored;
    /// Whether the cluster moves from ZooKeeper to KRaft.
    "zookeeper.metadata.migration.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// How many records at least such a move writes at once.
    "zookeeper.metadata.migration.min.batch.size" Int = "200", Check::Min(1), ReadOnly, Ignored;
    /// After how long without a sign of life the broker's session at the coordination service ends.
    "zookeeper.session.timeout.ms" Int = "18000", Check::Any, ReadOnly, Used;
    /// Whether znodes are protected from others than the brokers.
    "zookeeper.set.acl" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// The cipher suites towards ZooKeeper.
    "zookeeper.ssl.cipher.suites" List = null, Check::Any, ReadOnly, Ignored;
    /// Whether ZooKeeper is reached over TLS.
    "zookeeper.ssl.client.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// Whether revocation lists are consulted for ZooKeeper's certificate.
    "zookeeper.ssl.crl.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// The versions of TLS towards ZooKeeper.
    "zookeeper.ssl.enabled.protocols" List = null, Check::Any, ReadOnly, Ignored;
    /// How the name in ZooKeeper's certificate is checked.
    "zookeeper.ssl.endpoint.identification.algorithm" String = "HTTPS", Check::Any, ReadOnly, Ignored;
    /// The file with the key and certificate towards ZooKeeper.
    "zookeeper.ssl.keystore.location" String = null, Check::Any, ReadOnly, Ignored;
    /// The password of that file.
    "zookeeper.ssl.keystore.password" Password = null, Check::Any, ReadOnly, Ignored;
    /// The format of that file.
    "zookeeper.ssl.keystore.type" String = null, Check::Any, ReadOnly, Ignored;
    /// Whether OCSP is consulted for ZooKeeper's certificate.
    "zookeeper.ssl.ocsp.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// The version of TLS towards ZooKeeper.
    "zookeeper.ssl.protocol" String = "TLSv1.2", Check::Any, ReadOnly, Ignored;
    /// The file with the certificates trusted for ZooKeeper.
    "zookeeper.ssl.truststore.location" String = null, Check::Any, ReadOnly, Ignored;
    /// The password of that file.
    "zookeeper.ssl.truststore.password" Password = null, Check::Any, ReadOnly, Ignored;
    /// The format of that file.
    "zookeeper.ssl.truststore.type" String = null, Check::Any, ReadOnly, Ignored;
    /// Of Kafka before 3.0: how far a ZooKeeper follower may be behind.
    "zookeeper.sync.time.ms" Int = "2000", Check::Any, ReadOnly, Ignored;
};
