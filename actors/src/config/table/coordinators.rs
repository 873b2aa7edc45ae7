//! Broker keys of groups, transactions and share groups.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const COORDINATORS: &[ConfigKey] = keys! {
    /// The longest wait before partitions are again added to a transaction that another operation
    /// holds.
    "add.partitions.to.txn.retry.backoff.max.ms" Int = "100", Check::Min(0), ReadOnly, Used;
    /// The first wait before partitions are again added to a transaction that another operation
    /// holds.
    "add.partitions.to.txn.retry.backoff.ms" Int = "20", Check::Min(1), ReadOnly, Used;
    /// The assignors that the broker offers to consumer groups; the first is the default.
    "group.consumer.assignors" List = "org.apache.kafka.coordinator.group.assignor.UniformAssignor,org.apache.kafka.coordinator.group.assignor.RangeAssignor", Check::Any, ReadOnly, Used;
    /// How often members of a consumer group heartbeat.
    "group.consumer.heartbeat.interval.ms" Int = "5000", Check::Min(1), ReadOnly, Used;
    /// The longest heartbeat interval that a consumer group may be given.
    "group.consumer.max.heartbeat.interval.ms" Int = "15000", Check::Min(1), ReadOnly, Ignored;
    /// The longest session timeout that a consumer group may be given.
    "group.consumer.max.session.timeout.ms" Int = "60000", Check::Min(1), ReadOnly, Ignored;
    /// How many members a consumer group may have.
    "group.consumer.max.size" Int = "2147483647", Check::Min(1), ReadOnly, Used;
    /// Which way groups may change between the classic and the consumer protocol.
    "group.consumer.migration.policy" String = "bidirectional", Check::OneOfIgnoreCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]), ReadOnly, Used;
    /// The shortest heartbeat interval that a consumer group may be given.
    "group.consumer.min.heartbeat.interval.ms" Int = "5000", Check::Min(1), ReadOnly, Ignored;
    /// The shortest session timeout that a consumer group may be given.
    "group.consumer.min.session.timeout.ms" Int = "45000", Check::Min(1), ReadOnly, Ignored;
    /// How often patterns of subscriptions are matched against the topics again.
    "group.consumer.regex.refresh.interval.ms" Int = "600000", Check::Min(10_000), ReadOnly, Ignored;
    /// After how long without heartbeat a member of a consumer group is out.
    "group.consumer.session.timeout.ms" Int = "45000", Check::Min(1), ReadOnly, Used;
    /// How long the group coordinator gathers writes.
    "group.coordinator.append.linger.ms" Int = "10", Check::Min(0), ReadOnly, Ignored;
    /// Whether the newer group coordinator is used.
    "group.coordinator.new.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// The kinds of groups that are served.
    "group.coordinator.rebalance.protocols" List = "classic,consumer", Check::OneOf(&["consumer", "classic", "share", "unknown"]), ReadOnly, Ignored;
    /// How many threads the group coordinator has.
    "group.coordinator.threads" Int = "1", Check::Min(1), ReadOnly, Ignored;
    /// How long an empty group waits for more members before its first rebalance.
    "group.initial.rebalance.delay.ms" Int = "3000", Check::Any, ReadOnly, Used;
    /// The longest session timeout that members of classic groups may ask for.
    "group.max.session.timeout.ms" Int = "1800000", Check::Any, ReadOnly, Used;
    /// How many members a classic group may have.
    "group.max.size" Int = "2147483647", Check::Min(1), ReadOnly, Used;
    /// The shortest session timeout that members of classic groups may ask for.
    "group.min.session.timeout.ms" Int = "6000", Check::Any, ReadOnly, Used;
    /// The assignors that the broker offers to share groups.
    "group.share.assignors" List = "simple", Check::Any, ReadOnly, Ignored;
    /// How often a record is delivered to a share group before it is given up.
    "group.share.delivery.count.limit" Int = "5", Check::Between(2, 10), ReadOnly, Used;
    /// Whether share groups are served.
    "group.share.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// How often members of a share group heartbeat.
    "group.share.heartbeat.interval.ms" Int = "5000", Check::Min(1), ReadOnly, Used;
    /// How many share groups there may be.
    "group.share.max.groups" Short = "10", Check::Between(1, 100), ReadOnly, Ignored;
    /// The longest heartbeat interval that a share group may be given.
    "group.share.max.heartbeat.interval.ms" Int = "15000", Check::Min(1), ReadOnly, Used;
    /// The longest lock on a record that a share group may be given.
    "group.share.max.record.lock.duration.ms" Int = "60000", Check::Between(30_000, 3_600_000), ReadOnly, Used;
    /// The longest session timeout that a share group may be given.
    "group.share.max.session.timeout.ms" Int = "60000", Check::Min(1), ReadOnly, Used;
    /// How many share sessions a broker keeps.
    "group.share.max.share.sessions" Int = "2000", Check::Min(1), ReadOnly, Used;
    /// How many members a share group may have.
    "group.share.max.size" Short = "200", Check::Between(10, 1000), ReadOnly, Used;
    /// The shortest heartbeat interval that a share group may be given.
    "group.share.min.heartbeat.interval.ms" Int = "5000", Check::Min(1), ReadOnly, Used;
    /// The shortest lock on a record that a share group may be given.
    "group.share.min.record.lock.duration.ms" Int = "15000", Check::Between(1000, 30_000), ReadOnly, Used;
    /// The shortest session timeout that a share group may be given.
    "group.share.min.session.timeout.ms" Int = "45000", Check::Min(1), ReadOnly, Used;
    /// How many records of a partition a share group may hold at once.
    "group.share.partition.max.record.locks" Int = "2000", Check::Between(100, 10_000), ReadOnly, Used;
    /// The class that keeps the state of share groups.
    "group.share.persister.class.name" String = "org.apache.kafka.server.share.persister.DefaultStatePersister", Check::Any, ReadOnly, Ignored;
    /// How long a member of a share group holds a record.
    "group.share.record.lock.duration.ms" Int = "30000", Check::Between(1000, 60_000), ReadOnly, Used;
    /// After how long without heartbeat a member of a share group is out.
    "group.share.session.timeout.ms" Int = "45000", Check::Min(1), ReadOnly, Used;
    /// How often members of a streams group heartbeat.
    "group.streams.heartbeat.interval.ms" Int = "5000", Check::Min(1), ReadOnly, Ignored;
    /// The longest heartbeat interval that a streams group may be given.
    "group.streams.max.heartbeat.interval.ms" Int = "15000", Check::Min(1), ReadOnly, Ignored;
    /// The longest session timeout that a streams group may be given.
    "group.streams.max.session.timeout.ms" Int = "60000", Check::Min(1), ReadOnly, Ignored;
    /// How many members a streams group may have.
    "group.streams.max.size" Int = "2147483647", Check::Min(1), ReadOnly, Ignored;
    /// How many standby replicas a streams group may ask for.
    "group.streams.max.standby.replicas" Int = "2", Check::Min(0), ReadOnly, Ignored;
    /// The shortest heartbeat interval that a streams group may be given.
    "group.streams.min.heartbeat.interval.ms" Int = "5000", Check::Min(1), ReadOnly, Ignored;
    /// The shortest session timeout that a streams group may be given.
    "group.streams.min.session.timeout.ms" Int = "45000", Check::Min(1), ReadOnly, Ignored;
    /// How many standby replicas each task of a streams group has.
    "group.streams.num.standby.replicas" Int = "0", Check::Min(0), ReadOnly, Ignored;
    /// After how long without heartbeat a member of a streams group is out.
    "group.streams.session.timeout.ms" Int = "45000", Check::Min(1), ReadOnly, Ignored;
    /// How long the note beside a committed offset may be.
    "offset.metadata.max.bytes" Int = "4096", Check::Any, ReadOnly, Used;
    /// The acknowledgements that an offset commit waits for.
    "offsets.commit.required.acks" Short = "-1", Check::Any, ReadOnly, Ignored;
    /// How long an offset commit waits for its replicas.
    "offsets.commit.timeout.ms" Int = "5000", Check::Min(1), ReadOnly, Ignored;
    /// How much of the offsets topic is read at once when a coordinator loads it.
    "offsets.load.buffer.size" Int = "5242880", Check::Min(1), ReadOnly, Used;
    /// How often to look for offsets that have expired.
    "offsets.retention.check.interval.ms" Long = "600000", Check::Min(1), ReadOnly, Used;
    /// How long the offsets of an empty group are kept.
    "offsets.retention.minutes" Int = "10080", Check::Min(1), ReadOnly, Used;
    /// How the offsets topic is compressed, as the number of a codec.
    "offsets.topic.compression.codec" Int = "0", Check::Any, ReadOnly, Ignored;
    /// How many partitions the offsets topic gets.
    "offsets.topic.num.partitions" Int = "50", Check::Min(1), ReadOnly, Used;
    /// How many replicas the offsets topic gets, as far as there are brokers.
    "offsets.topic.replication.factor" Short = "3", Check::Min(1), ReadOnly, Used;
    /// The size of segments of the offsets topic.
    "offsets.topic.segment.bytes" Int = "104857600", Check::Min(1), ReadOnly, Used;
    /// How often to look for producer ids that have expired.
    "producer.id.expiration.check.interval.ms" Int = "600000", Check::Min(1), ReadOnly, Ignored;
    /// After how long without a write a producer id is forgotten.
    "producer.id.expiration.ms" Int = "86400000", Check::Min(1), ClusterWide, Used;
    /// After how many requests finished waits of Produce are cleared away.
    "producer.purgatory.purge.interval.requests" Int = "1000", Check::Any, ReadOnly, Ignored;
    /// How long the share coordinator gathers writes.
    "share.coordinator.append.linger.ms" Int = "5", Check::Min(0), ReadOnly, Ignored;
    /// How often idle share partitions are written down whole.
    "share.coordinator.cold.partition.snapshot.interval.ms" Int = "300000", Check::Min(1), ReadOnly, Ignored;
    /// How much of its topic the share coordinator reads at once.
    "share.coordinator.load.buffer.size" Int = "5242880", Check::Min(1), ReadOnly, Used;
    /// After how many changes a share partition is written down whole.
    "share.coordinator.snapshot.update.records.per.snapshot" Int = "500", Check::Min(0), ReadOnly, Used;
    /// How the topic of the share coordinator is compressed.
    "share.coordinator.state.topic.compression.codec" Int = "0", Check::Any, ReadOnly, Ignored;
    /// How many replicas of the share coordinator's topic must be in sync.
    "share.coordinator.state.topic.min.isr" Short = "2", Check::Min(1), ReadOnly, Ignored;
    /// How many partitions the share coordinator's topic gets.
    "share.coordinator.state.topic.num.partitions" Int = "50", Check::Min(1), ReadOnly, Used;
    /// How often the share coordinator's topic is shortened.
    "share.coordinator.state.topic.prune.interval.ms" Int = "300000", Check::Min(1), ReadOnly, Used;
    /// How many replicas the share coordinator's topic gets.
    "share.coordinator.state.topic.replication.factor" Short = "3", Check::Min(1), ReadOnly, Used;
    /// The size of segments of the share coordinator's topic.
    "share.coordinator.state.topic.segment.bytes" Int = "104857600", Check::Min(1), ReadOnly, Used;
    /// How many threads the share coordinator has.
    "share.coordinator.threads" Int = "1", Check::Min(1), ReadOnly, Ignored;
    /// How long a write of the share coordinator waits for its replicas.
    "share.coordinator.write.timeout.ms" Int = "5000", Check::Min(1), ReadOnly, Ignored;
    /// After how many requests finished waits of ShareFetch are cleared away.
    "share.fetch.purgatory.purge.interval.requests" Int = "1000", Check::Any, ReadOnly, Ignored;
    /// How often to look for transactions that have timed out.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms" Int = "10000", Check::Min(1), ReadOnly, Used;
    /// The longest timeout that a transaction may ask for.
    "transaction.max.timeout.ms" Int = "900000", Check::Min(1), ReadOnly, Used;
    /// Whether a leader asks the coordinator if a transaction really holds its partition.
    "transaction.partition.verification.enable" Boolean = "true", Check::Any, ClusterWide, Used;
    /// How often to look for transactional ids that have expired.
    "transaction.remove.expired.transaction.cleanup.interval.ms" Int = "3600000", Check::Min(1), ReadOnly, Used;
    /// How much of the transaction topic is read at once when a coordinator loads it.
    "transaction.state.log.load.buffer.size" Int = "5242880", Check::Min(1), ReadOnly, Used;
    /// How many replicas of the transaction topic must be in sync, as far as there are brokers.
    "transaction.state.log.min.isr" Int = "2", Check::Min(1), ReadOnly, Used;
    /// How many partitions the transaction topic gets.
    "transaction.state.log.num.partitions" Int = "50", Check::Min(1), ReadOnly, Used;
    /// How many replicas the transaction topic gets, as far as there are brokers.
    "transaction.state.log.replication.factor" Short = "3", Check::Min(1), ReadOnly, Used;
    /// The size of segments of the transaction topic.
    "transaction.state.log.segment.bytes" Int = "104857600", Check::Min(1), ReadOnly, Used;
    /// Whether transactions may be part of a two-phase commit.
    "transaction.two.phase.commit.enable" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// After how long without a transaction a transactional id is forgotten.
    "transactional.id.expiration.ms" Int = "604800000", Check::Min(1), ReadOnly, Used;
};
