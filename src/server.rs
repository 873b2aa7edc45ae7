//! Starts the broker, says so, and stops it when told to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;

use tracing::{info, warn};
use troupe_actors::broker::{Broker, StartError};
use troupe_actors::config::BrokerConfig;
use troupe_actors::config::properties::{self, LoadError};
use troupe_actors::runtime::{Runtime, SystemClock};
use troupe_actors::storage::Disk;
use troupe_actors::znode::CoordinationError;

use crate::cli::output;
use crate::file_limit;
use crate::port_holder::holders;
use crate::signals;

/// What the command line says about the server.
#[derive(Debug, Default)]
pub(crate) struct ServerOptions {
    /// `server.properties`.
    pub(crate) file: Option<PathBuf>,
    /// Everything else as `key=value`; the later wins.
    pub(crate) overrides: Vec<String>,
}

/// Tells why the server did not start.
#[derive(Debug, thiserror::Error)]
enum ServerError {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error("stopped, because {0}")]
    Failed(#[from] CoordinationError),
    #[error("{error}{holders}")]
    Start {
        error: StartError,
        /// Who has the ports that are taken.
        holders: String,
    },
}

/// Runs a broker until it is told to stop.
pub(crate) fn run(options: &ServerOptions) -> ExitCode {
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(format_args!("troupe: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start(options: &ServerOptions) -> Result<(), ServerError> {
    let config = properties::load(
        options.file.as_deref(),
        std::env::vars_os(),
        &options.overrides,
    )?;
    report(&config);
    file_limit::raise();
    actix_rt::System::new().block_on(serve(config))
}

/// Runs the broker until the first signal, or until it can't go on; a second signal ends the process at once.
async fn serve(config: BrokerConfig) -> Result<(), ServerError> {
    let mut termination = signals::Termination::watch();
    let ports = wanted_ports(&config);
    let data = data_directories(&config);
    let threads = threads(config.num_network_threads.max(config.num_io_threads));
    let cleaners = match config.log_cleaner_enable {
        true => config.log_cleaner_threads,
        false => 0,
    };
    let mut runtime =
        Runtime::shared(Arc::new(SystemClock::new()), threads).with_cleaners(cleaners);
    if config.zookeeper_connect.is_none() {
        runtime = runtime.with_coordination();
    }
    let mut broker = Broker::start(config, runtime, Arc::new(Disk))
        .await
        .map_err(|error| {
            let holders = holders(&error, &ports);
            ServerError::Start { error, holders }
        })?;
    announce(&broker, &data);
    let failure = tokio::select! {
        () = termination.signal() => None,
        failure = broker.failed() => Some(failure),
    };
    info!("stopping");
    tokio::select! {
        () = broker.stop() => {}
        () = termination.signal() => {
            warn!("stopping at once: the next start will check the logs");
            std::process::exit(1);
        }
    }
    info!("stopped");
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}

/// More threads than processors would only get into each other's way.
fn threads(configured: usize) -> usize {
    configured
        .min(available_parallelism().map_or(configured, usize::from))
        .max(1)
}

/// Says where the broker is and what to do next.
fn announce(broker: &Broker, data: &str) {
    for (_, listener) in &broker.listeners {
        output::line(format_args!("Kafka protocol on {}", address(listener)));
    }
    if let Some(port) = broker.zookeeper_port {
        output::line(format_args!("ZooKeeper protocol on localhost:{port}"));
    }
    let bootstrap = broker
        .listeners
        .first()
        .map(|(_, listener)| address(listener))
        .unwrap_or_default();
    output::line(format_args!(
        "Data in {data}. Next: troupe topics --create --topic demo --bootstrap-server {bootstrap}"
    ));
}

/// Writes where clients connect as they would.
pub(crate) fn address(address: &SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => format!("localhost:{}", address.port()),
        _ => address.to_string(),
    }
}

fn data_directories(config: &BrokerConfig) -> String {
    config
        .log_dirs
        .iter()
        .map(|dir| dir.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Lists the ports that the configuration asks for.
fn wanted_ports(config: &BrokerConfig) -> Vec<u16> {
    let embedded = config
        .zookeeper_connect
        .is_none()
        .then_some(config.troupe_zookeeper_port);
    config
        .listeners
        .iter()
        .map(|listener| listener.port)
        .chain(embedded)
        .filter(|port| *port != 0)
        .collect()
}

/// Says which of the given keys do nothing.
fn report(config: &BrokerConfig) {
    for (name, origin) in config.unknown_keys() {
        warn!("unknown configuration key {name} ({origin})");
    }
    let ignored: Vec<_> = config.ignored_keys().collect();
    if !ignored.is_empty() {
        info!("accepted without effect: {}", ignored.join(", "));
    }
}
