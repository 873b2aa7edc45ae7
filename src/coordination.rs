//! Starts a coordination service alone, says so, and stops it when told to.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tracing::{info, warn};
use troupe_actors::config::zookeeper::{ZookeeperConfig, ZookeeperConfigError};
use troupe_actors::runtime::{Runtime, SystemClock};
use troupe_actors::znode::admin::AdminServer;
use troupe_actors::znode::{Coordination, CoordinationError};

use crate::cli::output;
use crate::file_limit;
use crate::port_holder::holders;
use crate::server::address;
use crate::signals;

/// What the command line says about the service.
#[derive(Debug, Default)]
pub(crate) struct ZookeeperOptions {
    /// `zookeeper.properties`.
    pub(crate) file: Option<PathBuf>,
    /// Everything else as `key=value`; the later wins.
    pub(crate) overrides: Vec<String>,
}

/// Tells why the service did not start or had to end.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Config(#[from] ZookeeperConfigError),
    #[error("stopped, because {0}")]
    Failed(CoordinationError),
    #[error("{error}{holders}")]
    Start {
        error: CoordinationError,
        /// Who has the port that is taken.
        holders: String,
    },
    #[error("cannot listen for admin commands on {addr}: {error}{holders}")]
    Admin {
        addr: SocketAddr,
        error: io::Error,
        /// Who has the port that is taken.
        holders: String,
    },
}

/// Runs the service until it is told to stop.
pub(crate) fn run(options: &ZookeeperOptions) -> ExitCode {
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(format_args!("troupe: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start(options: &ZookeeperOptions) -> Result<(), ServiceError> {
    let config = ZookeeperConfig::load(options.file.as_deref(), &options.overrides)?;
    report(&config);
    file_limit::raise();
    actix_rt::System::new().block_on(serve(config))
}

/// Serves until the first signal, or until the store fails; a second signal ends the process at once.
async fn serve(config: ZookeeperConfig) -> Result<(), ServiceError> {
    let mut termination = signals::Termination::watch();
    let runtime = Runtime::single_threaded(Arc::new(SystemClock::new())).with_coordination();
    let (data_dir, port) = (config.znode.data_dir.clone(), config.znode.client_port);
    let mut service = Coordination::start(config.znode, &runtime)
        .await
        .map_err(|error| {
            let holders = holders(&error, &[port]);
            ServiceError::Start { error, holders }
        })?;
    let admin = match config.admin {
        Some(addr) => Some(start_admin(addr, &service).await?),
        None => None,
    };
    announce(&service, admin.as_ref(), &data_dir);
    let failure = tokio::select! {
        () = termination.signal() => None,
        failure = service.failed() => Some(failure),
    };
    info!("stopping");
    let ended = tokio::select! {
        ended = service.shutdown() => ended,
        () = termination.signal() => {
            warn!("stopping at once");
            std::process::exit(1);
        }
    };
    info!("stopped");
    failure.map_or(ended, Err).map_err(ServiceError::Failed)
}

async fn start_admin(
    addr: SocketAddr,
    service: &Coordination,
) -> Result<AdminServer, ServiceError> {
    AdminServer::start(addr, service.addr().clone())
        .await
        .map_err(|error| {
            let holders = holders(&error, &[addr.port()]);
            ServiceError::Admin {
                addr,
                error,
                holders,
            }
        })
}

/// Says where the service is and what to do next.
fn announce(service: &Coordination, admin: Option<&AdminServer>, data_dir: &Path) {
    for addr in service.local_addrs() {
        output::line(format_args!("ZooKeeper protocol on {}", address(addr)));
    }
    if let Some(admin) = admin {
        let addr = address(&admin.local_addr());
        output::line(format_args!("Admin commands on http://{addr}/commands"));
    }
    let first = service.local_addrs().first().map(address);
    output::line(format_args!(
        "Data in {}. Next: troupe server --override zookeeper.connect={}",
        data_dir.display(),
        first.unwrap_or_default()
    ));
}

/// Says which of the given keys do nothing, and what else is in the directory.
fn report(config: &ZookeeperConfig) {
    for (name, origin) in config.unknown_keys() {
        warn!("unknown configuration key {name} ({origin})");
    }
    let ignored: Vec<_> = config.ignored_keys().collect();
    if !ignored.is_empty() {
        info!("accepted without effect: {}", ignored.join(", "));
    }
    let data_dir = &config.znode.data_dir;
    if data_dir.join("version-2").exists() {
        warn!(
            "{} has the tree of an Apache ZooKeeper too, which is not read; troupe zookeeper-migrate copies from one that runs",
            data_dir.display()
        );
    }
}
