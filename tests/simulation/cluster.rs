//! The hosts of a run: the coordination service and the brokers around it, whose disks outlive them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use troupe_actors::broker::Broker;
use troupe_actors::config::{BrokerConfig, Origin, Values};
use troupe_actors::network::Network;
use troupe_actors::runtime::{Blocking, Clock, Runtime};
use troupe_actors::storage::memory::MemoryStorage;
use troupe_actors::znode::{Coordination, ZnodeConfig};

use crate::elections::Store;
use crate::wire::{KAFKA_PORT, host};

/// The host of the coordination service.
pub const COORDINATION: &str = "coordination";
const ZOOKEEPER_PORT: u16 = 2181;
/// When runs begin, in milliseconds since the Unix epoch.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// The clock of a host, whose wall may be wrong.
#[derive(Clone, Default)]
struct HostClock(Arc<AtomicI64>);

impl Clock for HostClock {
    fn now_ms(&self) -> i64 {
        let since = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        EPOCH_MS + since + self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }
}

/// What is outside of a host's life: its disk, its wrong clock, how slow its disk is, and whether it is to stop.
#[derive(Clone, Default)]
pub struct Machine {
    pub disk: MemoryStorage,
    clock: HostClock,
    delay_ms: Arc<AtomicU64>,
    stop: Arc<Notify>,
}

impl Machine {
    /// Has the machine's wall clock be wrong by so much from now on.
    pub fn skew(&self, skew_ms: i64) {
        self.clock.0.store(skew_ms, Ordering::Relaxed);
    }

    /// Has each flush and each whole file take so long from now on.
    pub fn slow_down(&self, delay_ms: u64) {
        self.delay_ms.store(delay_ms, Ordering::Relaxed);
    }

    /// Has the broker stop in order.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    fn runtime(&self, network: Network) -> Runtime {
        let delay = Arc::clone(&self.delay_ms);
        let delay = move || Duration::from_millis(delay.load(Ordering::Relaxed));
        let blocking = Blocking::Simulated(Arc::new(delay));
        Runtime::simulated(Arc::new(self.clock.clone()), network, blocking)
    }
}

/// Adds the coordination service.
pub fn coordination(sim: &mut turmoil::Sim<'_>, store: &Store, network: &Network) {
    let (machine, store, network) = (Machine::default(), store.clone(), network.clone());
    sim.host(COORDINATION, move || {
        let (store, runtime) = (store.clone(), machine.runtime(network.clone()));
        async move {
            let mut config = ZnodeConfig::new("/znodes", ZOOKEEPER_PORT);
            config.client_addrs = vec![SocketAddr::from(([0, 0, 0, 0], ZOOKEEPER_PORT))];
            config.tick_time_ms = 500;
            let service = Coordination::start_with(config, &runtime, Box::new(store)).await?;
            std::future::pending::<()>().await;
            drop(service);
            Ok(())
        }
    });
}

/// Adds a broker.
pub fn broker(
    sim: &mut turmoil::Sim<'_>,
    id: i32,
    machine: &Machine,
    network: &Network,
    settings: &[(&'static str, String)],
) {
    let config = config(id, settings);
    let (machine, network) = (machine.clone(), network.clone());
    sim.host(host(id), move || {
        let (config, runtime) = (config.clone(), machine.runtime(network.clone()));
        let machine = machine.clone();
        async move {
            let started = Broker::start(config, runtime, Arc::new(machine.disk.clone())).await;
            match started {
                Ok(broker) => {
                    machine.stop.notified().await;
                    broker.stop().await;
                }
                // Whoever runs it starts it again.
                Err(error) => tracing::warn!("broker {id} does not start: {error}"),
            }
            Ok(())
        }
    });
}

fn config(id: i32, settings: &[(&'static str, String)]) -> BrokerConfig {
    let mut values = Values::default();
    let own = [
        ("broker.id", id.to_string()),
        ("log.dirs", "/logs".to_owned()),
        ("listeners", format!("PLAINTEXT://0.0.0.0:{KAFKA_PORT}")),
        (
            "advertised.listeners",
            format!("PLAINTEXT://{}:{KAFKA_PORT}", host(id)),
        ),
        (
            "zookeeper.connect",
            format!("{COORDINATION}:{ZOOKEEPER_PORT}"),
        ),
    ];
    let common = [
        ("zookeeper.session.timeout.ms", "3000"),
        ("zookeeper.connection.timeout.ms", "5000"),
        ("auto.create.topics.enable", "false"),
        ("controlled.shutdown.retry.backoff.ms", "500"),
        ("controller.socket.timeout.ms", "2000"),
        ("default.replication.factor", "3"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("min.insync.replicas", "2"),
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.replication.factor", "3"),
        ("replica.fetch.backoff.ms", "200"),
        ("replica.fetch.wait.max.ms", "200"),
        ("replica.lag.time.max.ms", "2000"),
        ("replica.socket.timeout.ms", "2000"),
        ("request.timeout.ms", "2000"),
        ("transaction.state.log.min.isr", "2"),
        ("transaction.state.log.num.partitions", "1"),
        ("transaction.state.log.replication.factor", "3"),
    ];
    for (name, value) in own {
        values.set(name, value, Origin::Override);
    }
    for (name, value) in common {
        values.set(name, value.to_owned(), Origin::Override);
    }
    for (name, value) in settings {
        values.set(*name, value.clone(), Origin::Override);
    }
    BrokerConfig::from_values(values).expect("a good configuration")
}
