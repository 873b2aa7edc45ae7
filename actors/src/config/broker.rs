//! The typed configuration of a broker.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::typed::{FromText, typed};
use super::{InvalidConfig, Listener, Origin, TopicConfig, Values, list, listeners, table};

/// An Apache ZooKeeper ensemble, or another Troupe's coordination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZookeeperConnect {
    /// `host:port` of each server, separated by commas.
    pub servers: String,
    /// The znode under which everything of this cluster lives, such as `/kafka`; empty for the root.
    pub chroot: String,
}

impl ZookeeperConnect {
    /// Returns the connection string: the servers, then the chroot.
    pub fn connect_string(&self) -> String {
        format!("{}{}", self.servers, self.chroot)
    }
}

typed! {
    /// What a broker is told to be. Times are in the unit of their name, sizes in bytes; -1 means no limit where Kafka says so.
    ///
    /// [`BrokerConfig::default`] is the broker that runs without any configuration.
    #[derive(Clone, Debug)]
    pub struct BrokerConfig reads Values {
        add_partitions_to_txn_retry_backoff_max_ms: u64 = "add.partitions.to.txn.retry.backoff.max.ms",
        add_partitions_to_txn_retry_backoff_ms: u64 = "add.partitions.to.txn.retry.backoff.ms",
        auto_create_topics_enable: bool = "auto.create.topics.enable",
        auto_leader_rebalance_enable: bool = "auto.leader.rebalance.enable",
        background_threads: usize = "background.threads",
        broker_id_generation_enable: bool = "broker.id.generation.enable",
        broker_rack: Option<String> = "broker.rack",
        connections_max_idle_ms: i64 = "connections.max.idle.ms",
        controlled_shutdown_enable: bool = "controlled.shutdown.enable",
        controlled_shutdown_max_retries: u32 = "controlled.shutdown.max.retries",
        controlled_shutdown_retry_backoff_ms: u64 = "controlled.shutdown.retry.backoff.ms",
        controller_socket_timeout_ms: u64 = "controller.socket.timeout.ms",
        default_replication_factor: i16 = "default.replication.factor",
        delete_topic_enable: bool = "delete.topic.enable",
        fetch_max_bytes: usize = "fetch.max.bytes",
        group_consumer_assignors: Vec<String> = "group.consumer.assignors",
        group_consumer_heartbeat_interval_ms: i32 = "group.consumer.heartbeat.interval.ms",
        group_consumer_max_size: usize = "group.consumer.max.size",
        group_consumer_migration_policy: String = "group.consumer.migration.policy",
        group_consumer_session_timeout_ms: i32 = "group.consumer.session.timeout.ms",
        group_initial_rebalance_delay_ms: u64 = "group.initial.rebalance.delay.ms",
        group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms",
        group_max_size: usize = "group.max.size",
        group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms",
        group_share_delivery_count_limit: i16 = "group.share.delivery.count.limit",
        group_share_heartbeat_interval_ms: i32 = "group.share.heartbeat.interval.ms",
        group_share_max_heartbeat_interval_ms: i32 = "group.share.max.heartbeat.interval.ms",
        group_share_max_record_lock_duration_ms: i32 = "group.share.max.record.lock.duration.ms",
        group_share_max_session_timeout_ms: i32 = "group.share.max.session.timeout.ms",
        group_share_max_share_sessions: usize = "group.share.max.share.sessions",
        group_share_max_size: usize = "group.share.max.size",
        group_share_min_heartbeat_interval_ms: i32 = "group.share.min.heartbeat.interval.ms",
        group_share_min_record_lock_duration_ms: i32 = "group.share.min.record.lock.duration.ms",
        group_share_min_session_timeout_ms: i32 = "group.share.min.session.timeout.ms",
        group_share_partition_max_record_locks: i64 = "group.share.partition.max.record.locks",
        group_share_record_lock_duration_ms: i32 = "group.share.record.lock.duration.ms",
        group_share_session_timeout_ms: i32 = "group.share.session.timeout.ms",
        leader_imbalance_check_interval_seconds: u64 = "leader.imbalance.check.interval.seconds",
        leader_imbalance_per_broker_percentage: u32 = "leader.imbalance.per.broker.percentage",
        log_cleaner_backoff_ms: u64 = "log.cleaner.backoff.ms",
        log_cleaner_dedupe_buffer_size: u64 = "log.cleaner.dedupe.buffer.size",
        log_cleaner_enable: bool = "log.cleaner.enable",
        log_cleaner_io_buffer_load_factor: f64 = "log.cleaner.io.buffer.load.factor",
        log_cleaner_io_buffer_size: usize = "log.cleaner.io.buffer.size",
        log_cleaner_io_max_bytes_per_second: f64 = "log.cleaner.io.max.bytes.per.second",
        log_cleaner_threads: usize = "log.cleaner.threads",
        log_flush_offset_checkpoint_interval_ms: u64 = "log.flush.offset.checkpoint.interval.ms",
        log_flush_scheduler_interval_ms: i64 = "log.flush.scheduler.interval.ms",
        log_flush_start_offset_checkpoint_interval_ms: u64 = "log.flush.start.offset.checkpoint.interval.ms",
        log_initial_task_delay_ms: u64 = "log.initial.task.delay.ms",
        log_retention_check_interval_ms: u64 = "log.retention.check.interval.ms",
        max_connection_creation_rate: usize = "max.connection.creation.rate",
        max_connections: usize = "max.connections",
        max_connections_per_ip: usize = "max.connections.per.ip",
        max_incremental_fetch_session_cache_slots: usize = "max.incremental.fetch.session.cache.slots",
        max_request_partition_size_limit: usize = "max.request.partition.size.limit",
        message_max_bytes: usize = "message.max.bytes",
        min_insync_replicas: usize = "min.insync.replicas",
        num_io_threads: usize = "num.io.threads",
        num_network_threads: usize = "num.network.threads",
        num_partitions: i32 = "num.partitions",
        num_recovery_threads_per_data_dir: usize = "num.recovery.threads.per.data.dir",
        num_replica_fetchers: usize = "num.replica.fetchers",
        offset_metadata_max_bytes: usize = "offset.metadata.max.bytes",
        offsets_commit_timeout_ms: u64 = "offsets.commit.timeout.ms",
        offsets_load_buffer_size: usize = "offsets.load.buffer.size",
        offsets_retention_check_interval_ms: u64 = "offsets.retention.check.interval.ms",
        offsets_retention_minutes: u64 = "offsets.retention.minutes",
        offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions",
        offsets_topic_replication_factor: i16 = "offsets.topic.replication.factor",
        offsets_topic_segment_bytes: u64 = "offsets.topic.segment.bytes",
        producer_id_expiration_check_interval_ms: u64 = "producer.id.expiration.check.interval.ms",
        producer_id_expiration_ms: i64 = "producer.id.expiration.ms",
        queued_max_request_bytes: i64 = "queued.max.request.bytes",
        queued_max_requests: usize = "queued.max.requests",
        replica_fetch_backoff_ms: u64 = "replica.fetch.backoff.ms",
        replica_fetch_max_bytes: usize = "replica.fetch.max.bytes",
        replica_fetch_min_bytes: i32 = "replica.fetch.min.bytes",
        replica_fetch_response_max_bytes: usize = "replica.fetch.response.max.bytes",
        replica_fetch_wait_max_ms: u64 = "replica.fetch.wait.max.ms",
        replica_high_watermark_checkpoint_interval_ms: u64 = "replica.high.watermark.checkpoint.interval.ms",
        replica_lag_time_max_ms: u64 = "replica.lag.time.max.ms",
        replica_socket_timeout_ms: u64 = "replica.socket.timeout.ms",
        request_timeout_ms: u64 = "request.timeout.ms",
        reserved_broker_max_id: i32 = "reserved.broker.max.id",
        share_coordinator_load_buffer_size: usize = "share.coordinator.load.buffer.size",
        share_coordinator_snapshot_update_records_per_snapshot: usize = "share.coordinator.snapshot.update.records.per.snapshot",
        share_coordinator_state_topic_num_partitions: i32 = "share.coordinator.state.topic.num.partitions",
        share_coordinator_state_topic_prune_interval_ms: u64 = "share.coordinator.state.topic.prune.interval.ms",
        share_coordinator_state_topic_replication_factor: i16 = "share.coordinator.state.topic.replication.factor",
        share_coordinator_state_topic_segment_bytes: u64 = "share.coordinator.state.topic.segment.bytes",
        socket_listen_backlog_size: i32 = "socket.listen.backlog.size",
        socket_receive_buffer_bytes: i32 = "socket.receive.buffer.bytes",
        socket_request_max_bytes: usize = "socket.request.max.bytes",
        socket_send_buffer_bytes: i32 = "socket.send.buffer.bytes",
        transaction_abort_timed_out_transaction_cleanup_interval_ms: u64 = "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        transaction_max_timeout_ms: i32 = "transaction.max.timeout.ms",
        transaction_partition_verification_enable: bool = "transaction.partition.verification.enable",
        transaction_remove_expired_transaction_cleanup_interval_ms: u64 = "transaction.remove.expired.transaction.cleanup.interval.ms",
        transaction_state_log_load_buffer_size: usize = "transaction.state.log.load.buffer.size",
        transaction_state_log_min_isr: usize = "transaction.state.log.min.isr",
        transaction_state_log_num_partitions: i32 = "transaction.state.log.num.partitions",
        transaction_state_log_replication_factor: i16 = "transaction.state.log.replication.factor",
        transaction_state_log_segment_bytes: u64 = "transaction.state.log.segment.bytes",
        transactional_id_expiration_ms: i64 = "transactional.id.expiration.ms",
        troupe_zookeeper_host: String = "troupe.zookeeper.host",
        troupe_zookeeper_port: u16 = "troupe.zookeeper.port",
        zookeeper_session_timeout_ms: u64 = "zookeeper.session.timeout.ms",
    } and Computed {
        /// The id; nothing when it is to be generated, above `reserved.broker.max.id`.
        broker_id: Option<i32>,
        /// Where to listen; never empty.
        listeners: Vec<Listener>,
        /// What to tell clients; empty: to each the address at which it reached the broker.
        advertised_listeners: Vec<Listener>,
        /// The listener for traffic between brokers, and the one advertised in older registrations.
        inter_broker_listener_name: String,
        /// The directories of the logs; never empty.
        log_dirs: Vec<PathBuf>,
        /// Where to find the coordination service; nothing when this broker is to run its own.
        zookeeper_connect: Option<ZookeeperConnect>,
        /// How long to try to reach the coordination service.
        zookeeper_connection_timeout_ms: u64,
        /// Where the embedded coordination service keeps its tree.
        zookeeper_data_dir: PathBuf,
        /// What a topic without overrides has.
        topic_defaults: TopicConfig,
        /// Everything that was given, as text.
        values: Values,
    }
}

impl BrokerConfig {
    /// Computes the configuration from what was given.
    ///
    /// The error comes with the origin of the bad value, where it has one.
    pub fn from_values(values: Values) -> Result<Self, (InvalidConfig, Option<Origin>)> {
        values
            .validate(table::broker_key)
            .map_err(|(error, origin)| (error, Some(origin)))?;
        let computed = Computed::from_values(&values).map_err(|error| {
            let origin = error
                .name()
                .and_then(|name| values.given(name))
                .map(|given| given.origin.clone());
            (error, origin)
        })?;
        Ok(Self::assemble(&values, computed))
    }

    /// Computes the configuration with settings changed while running (`/config/brokers/<default>` and `/config/brokers/<id>`).
    ///
    /// They replace earlier ones of their kind. Keys that need a restart stay as they are.
    pub fn with_dynamic(
        &self,
        of_all: &BTreeMap<String, String>,
        of_this: &BTreeMap<String, String>,
    ) -> Result<Self, InvalidConfig> {
        let mut values = self.values.without_dynamic();
        for (settings, origin) in [
            (of_all, Origin::DynamicDefault),
            (of_this, Origin::DynamicBroker),
        ] {
            let dynamic = settings.iter().filter(|(name, _)| table::is_dynamic(name));
            for (name, value) in dynamic {
                values.set(name, value, origin.clone());
            }
        }
        Self::from_values(values).map_err(|(error, _)| error)
    }

    /// Lists the given keys that no Kafka knows, with where they were given.
    pub fn unknown_keys(&self) -> impl Iterator<Item = (&str, &Origin)> {
        let unknown = |name: &str| table::broker_key(name).is_none() && !table::is_extension(name);
        self.values
            .iter()
            .filter(move |(name, _)| unknown(name))
            .map(|(name, given)| (name, &given.origin))
    }

    /// Lists the given keys that are accepted and do nothing here.
    pub fn ignored_keys(&self) -> impl Iterator<Item = &str> {
        let ignored = |name: &str| {
            table::broker_key(name).map_or(table::is_extension(name), |key| {
                key.effect == super::Effect::Ignored
            })
        };
        self.values
            .iter()
            .map(|(name, _)| name)
            .filter(move |name| ignored(name))
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        let values = Values::default();
        let computed = Computed {
            broker_id: None,
            listeners: listeners::listeners(&values).unwrap_or_default(),
            advertised_listeners: Vec::new(),
            inter_broker_listener_name: "PLAINTEXT".to_owned(),
            log_dirs: log_dirs(&values),
            zookeeper_connect: None,
            zookeeper_connection_timeout_ms: zookeeper_connection_timeout_ms(&values),
            zookeeper_data_dir: zookeeper_data_dir(&values),
            topic_defaults: TopicConfig::default(),
            values: values.clone(),
        };
        Self::assemble(&values, computed)
    }
}

impl Computed {
    fn from_values(values: &Values) -> Result<Self, InvalidConfig> {
        let listeners = listeners::listeners(values)?;
        Ok(Self {
            broker_id: broker_id(values)?,
            advertised_listeners: listeners::advertised(values)?,
            inter_broker_listener_name: listeners::inter_broker(values, &listeners)?,
            listeners,
            log_dirs: log_dirs(values),
            zookeeper_connect: zookeeper_connect(values)?,
            zookeeper_connection_timeout_ms: zookeeper_connection_timeout_ms(values),
            zookeeper_data_dir: zookeeper_data_dir(values),
            topic_defaults: TopicConfig::defaults(values)?,
            values: values.clone(),
        })
    }
}

fn broker_id(values: &Values) -> Result<Option<i32>, InvalidConfig> {
    let name = if values.given("broker.id").is_some() {
        "broker.id"
    } else {
        "node.id"
    };
    let id: i32 = values.read(name);
    if id < 0 {
        if id < -1 || !values.read::<bool>("broker.id.generation.enable") {
            return Err(InvalidConfig::value(
                name,
                &id.to_string(),
                "broker.id must be greater than or equal to 0",
            ));
        }
        return Ok(None);
    }
    let reserved: i32 = values.read("reserved.broker.max.id");
    if id > reserved && values.read::<bool>("broker.id.generation.enable") {
        let expected =
            format!("broker.id must be less than or equal to reserved.broker.max.id ({reserved})");
        return Err(InvalidConfig::value(name, &id.to_string(), expected));
    }
    Ok(Some(id))
}

/// `log.dirs`, or else `log.dir`, or else a directory below Troupe's own.
fn log_dirs(values: &Values) -> Vec<PathBuf> {
    let given = ["log.dirs", "log.dir"]
        .into_iter()
        .find_map(|name| values.given_text(name));
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in list(given.unwrap_or_default()).map(PathBuf::from) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    if dirs.is_empty() {
        dirs.push(data_dir(values).join("logs"));
    }
    dirs
}

fn data_dir(values: &Values) -> PathBuf {
    values.read("troupe.data.dir")
}

/// Beside the logs when these were placed by hand, so that two brokers of one directory do not share a tree.
fn zookeeper_data_dir(values: &Values) -> PathBuf {
    if let Some(dir) = values
        .given_text("troupe.zookeeper.data.dir")
        .and_then(PathBuf::from_text)
    {
        return dir;
    }
    let by_hand = values.given("log.dirs").is_some() || values.given("log.dir").is_some();
    match log_dirs(values).first() {
        Some(first) if by_hand && values.given("troupe.data.dir").is_none() => {
            let mut name = first.file_name().unwrap_or_default().to_owned();
            name.push("-zookeeper");
            first.with_file_name(name)
        }
        _ => data_dir(values).join("zookeeper"),
    }
}

fn zookeeper_connection_timeout_ms(values: &Values) -> u64 {
    let given: Option<u64> = values.read("zookeeper.connection.timeout.ms");
    given.unwrap_or_else(|| values.read("zookeeper.session.timeout.ms"))
}

fn zookeeper_connect(values: &Values) -> Result<Option<ZookeeperConnect>, InvalidConfig> {
    let Some(text) = values
        .given_text("zookeeper.connect")
        .map(str::trim)
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let (servers, chroot) = text.find('/').map_or((text, ""), |at| text.split_at(at));
    let expected = "host:port,host:port/chroot";
    let mut complete = Vec::new();
    for server in list(servers) {
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !server.ends_with(']') => (host, port),
            _ => (server, "2181"),
        };
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(InvalidConfig::value("zookeeper.connect", text, expected));
        }
        complete.push(format!("{host}:{port}"));
    }
    if complete.is_empty() || chroot.contains("//") {
        return Err(InvalidConfig::value("zookeeper.connect", text, expected));
    }
    Ok(Some(ZookeeperConnect {
        servers: complete.join(","),
        chroot: chroot.trim_end_matches('/').to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(pairs: &[(&str, &str)]) -> BrokerConfig {
        BrokerConfig::from_values(pairs.iter().copied().collect()).unwrap()
    }

    fn error(pairs: &[(&str, &str)]) -> String {
        BrokerConfig::from_values(pairs.iter().copied().collect())
            .unwrap_err()
            .0
            .to_string()
    }

    #[test]
    fn every_default_fits_its_field() {
        assert_eq!(
            BrokerConfig::misfits(&Values::default()),
            Vec::<&str>::new()
        );
    }

    #[test]
    fn without_configuration_a_broker_runs_alone() {
        let config = BrokerConfig::default();
        assert_eq!(
            config
                .listeners
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["PLAINTEXT://:9092"]
        );
        assert_eq!(config.log_dirs, [PathBuf::from("troupe-data/logs")]);
        assert_eq!(
            config.zookeeper_data_dir,
            PathBuf::from("troupe-data/zookeeper")
        );
        assert_eq!(
            (config.zookeeper_connect, config.troupe_zookeeper_port),
            (None, 2181)
        );
        assert_eq!(
            (config.broker_id, config.group_initial_rebalance_delay_ms),
            (None, 3000)
        );
        assert_eq!(
            (config.socket_request_max_bytes, config.num_io_threads),
            (104_857_600, 8)
        );
        assert_eq!(
            format!("{:?}", BrokerConfig::default()),
            format!("{:?}", broker(&[]))
        );
    }

    #[test]
    fn log_dirs_win_over_log_dir() {
        let config = broker(&[("log.dir", "/a"), ("log.dirs", "/b, /c,/b")]);
        assert_eq!(config.log_dirs, [PathBuf::from("/b"), PathBuf::from("/c")]);
        assert_eq!(config.zookeeper_data_dir, PathBuf::from("/b-zookeeper"));
        assert_eq!(broker(&[("log.dir", "/a")]).log_dirs, [PathBuf::from("/a")]);
    }

    #[test]
    fn zookeeper_connect_has_ports_and_a_chroot() {
        let connect = |text| {
            broker(&[("zookeeper.connect", text)])
                .zookeeper_connect
                .unwrap()
                .connect_string()
        };
        assert_eq!(connect("localhost"), "localhost:2181");
        assert_eq!(connect("a:1,b:2/kafka/x"), "a:1,b:2/kafka/x");
        assert_eq!(connect("[::1]:2181/"), "[::1]:2181");
        assert_eq!(
            error(&[("zookeeper.connect", "a:port")]),
            "Invalid value a:port for configuration zookeeper.connect: host:port,host:port/chroot"
        );
    }

    #[test]
    fn ids_above_the_reserved_are_for_generation() {
        assert_eq!(broker(&[("broker.id", "7")]).broker_id, Some(7));
        assert_eq!(broker(&[("node.id", "8")]).broker_id, Some(8));
        assert_eq!(broker(&[("broker.id", "-1")]).broker_id, None);
        assert_eq!(
            error(&[("broker.id", "1001")]),
            "Invalid value 1001 for configuration broker.id: broker.id must be less than or equal to reserved.broker.max.id (1000)"
        );
        assert_eq!(
            broker(&[
                ("broker.id", "1001"),
                ("broker.id.generation.enable", "false")
            ])
            .broker_id,
            Some(1001)
        );
    }

    #[test]
    fn keys_are_sorted_into_known_and_unknown() {
        let config = broker(&[
            ("num.partitions", "2"),
            ("ssl.provider", "x"),
            ("nmu.partitions", "2"),
        ]);
        assert_eq!(
            config
                .unknown_keys()
                .map(|(name, _)| name)
                .collect::<Vec<_>>(),
            ["nmu.partitions"]
        );
        assert_eq!(config.ignored_keys().collect::<Vec<_>>(), ["ssl.provider"]);
    }

    #[test]
    fn settings_change_while_running_and_go_again() {
        let settings = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        let start = broker(&[("log.retention.ms", "5")]);
        let of_all = settings(&[("log.retention.ms", "6"), ("message.max.bytes", "100")]);
        let changed = start
            .with_dynamic(&of_all, &settings(&[("log.retention.ms", "7")]))
            .unwrap();
        assert_eq!(
            (
                changed.topic_defaults.retention_ms,
                changed.message_max_bytes
            ),
            (7, 100)
        );
        let back = changed
            .with_dynamic(&BTreeMap::new(), &BTreeMap::new())
            .unwrap();
        assert_eq!(
            (back.topic_defaults.retention_ms, back.message_max_bytes),
            (5, 1_048_588)
        );
        let unmoved = start
            .with_dynamic(&BTreeMap::new(), &settings(&[("log.dirs", "/x")]))
            .unwrap();
        assert_eq!(unmoved.log_dirs, start.log_dirs);
    }
}
