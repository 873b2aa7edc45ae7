//! Starts the broker, says so, and stops it when told to.

use std::path::PathBuf;
use std::process::ExitCode;

use tracing::{info, warn};
use troupe_actors::config::BrokerConfig;
use troupe_actors::config::properties::{self, LoadError};

use crate::cli::output;
use crate::lock::{DirectoryLock, LockError};

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
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("this build has no broker yet")]
    NoBroker,
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
    let _locks = lock_directories(&config)?;
    Err(ServerError::NoBroker)
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

/// Keeps other processes off every directory that holds data.
fn lock_directories(config: &BrokerConfig) -> Result<Vec<DirectoryLock>, LockError> {
    let embedded = config
        .zookeeper_connect
        .is_none()
        .then_some(&config.zookeeper_data_dir);
    config
        .log_dirs
        .iter()
        .chain(embedded)
        .map(|directory| DirectoryLock::acquire(directory))
        .collect()
}
