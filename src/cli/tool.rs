//! What the tools share: how they run, how they find the brokers, and how they fail.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::client::{AdminClient, ClientError};
use super::command_config::{self, CommandConfigError};
use super::output;
use super::zookeeper::{self, DiscoveryError};

/// Tells why a tool failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    /// Flags that make no sense, or a refusal in the words of Kafka's tool.
    #[error("{0}")]
    Told(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error(transparent)]
    CommandConfig(#[from] CommandConfigError),
    #[error(transparent)]
    Runtime(#[from] io::Error),
}

impl ToolError {
    /// Makes an error of a text.
    pub(crate) fn told(text: impl Into<String>) -> Self {
        ToolError::Told(text.into())
    }

    /// Says that a flag is missing, as Kafka's tools do.
    pub(crate) fn missing(flag: &str) -> Self {
        ToolError::Told(format!("Missing required argument \"[{flag}]\""))
    }
}

/// Runs a tool to its end. It leaves with 1, and with its error on standard error after `prefix`, when it failed.
pub(crate) fn run(prefix: &str, work: impl Future<Output = Result<(), ToolError>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(format_args!("{prefix}{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Reads a file that a flag names. Fails with the text of Kafka's tools.
pub(crate) fn read_file(file: &Path) -> Result<String, ToolError> {
    let unreadable = |_| ToolError::Told(format!("Unable to read file {}", file.display()));
    std::fs::read_to_string(file).map_err(unreadable)
}

/// Where the brokers are. Flattened into the flags of a tool.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Brokers {
    /// The brokers to connect to: host:port,host:port.
    #[arg(long, value_name = "SERVERS")]
    pub(crate) bootstrap_server: Option<String>,
    /// A file of settings for the connection.
    #[arg(long, value_name = "FILE")]
    pub(crate) command_config: Option<PathBuf>,
    /// Of older Kafkas: find the brokers at a ZooKeeper.
    #[arg(long, value_name = "SERVERS", hide_short_help = true)]
    pub(crate) zookeeper: Option<String>,
}

impl Brokers {
    /// Refuses flags that name no brokers.
    pub(crate) fn check(&self) -> Result<(), ToolError> {
        match (&self.bootstrap_server, &self.zookeeper) {
            (None, None) => Err(ToolError::missing("bootstrap-server")),
            _ => Ok(()),
        }
    }

    /// Connects to the brokers, which are found through their registration where only `--zookeeper` was given.
    pub(crate) async fn connect(&self) -> Result<AdminClient, ToolError> {
        command_config::check(self.command_config.as_deref())?;
        if let Some(servers) = &self.bootstrap_server {
            return Ok(AdminClient::connect(servers).await?);
        }
        let connect = self.zookeeper.as_deref().unwrap_or_default();
        let brokers = zookeeper::brokers(connect).await?.join(",");
        zookeeper::hint("--zookeeper", &format!("--bootstrap-server {brokers}"));
        Ok(AdminClient::connect(&brokers).await?)
    }
}
