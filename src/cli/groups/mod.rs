//! `troupe consumer-groups`: lists, describes, deletes and resets consumer groups, as kafka-consumer-groups does.
//!
//! Output is that of Kafka 3.9. Where that runs lines together it is that of 4.1: all of `--reset-offsets` and
//! `--delete-offsets`, and the end of a table. Differs from both: rows are in the order of topics and partitions,
//! `--members --verbose` names the topics of an assignment as Kafka up to 3.7 does, a log whose end nobody can tell has
//! `-` where Kafka's command fails, and an unreachable broker or a missing partition is reported at once.

mod assignment;
mod delete;
mod describe;
mod flags;
mod group;
mod list;
mod offsets;
mod partitions;
mod plan;
mod reset;
mod table;
mod times;

use std::process::ExitCode;
use std::time::Duration;

use super::client::{AdminClient, ClientError};
use super::command_config::{self, CommandConfigError};
use super::zookeeper::{self, DiscoveryError};
use super::{exceptions, output};
pub(crate) use flags::GroupsCommand;
use flags::{Action, UsageError};
use partitions::TopicArgument;

/// What is shown for what is not known or not there.
const MISSING: &str = "-";

/// Tells why a command failed.
#[derive(Debug, thiserror::Error)]
enum GroupError {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("{}", exceptions::text(.0))]
    Client(#[from] ClientError),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error(transparent)]
    CommandConfig(#[from] CommandConfigError),
    #[error("{0}")]
    Argument(String),
    #[error("GroupId {0} is not a consumer group ({1}).")]
    NotOfConsumers(String, String),
    #[error(transparent)]
    Runtime(#[from] std::io::Error),
}

/// Runs the command. It leaves with 1 when its flags are wrong, and with 0 else, even if it failed, as Kafka's tool.
pub(crate) fn run(command: &GroupsCommand) -> ExitCode {
    if command.is_dry_by_default() {
        reset::warn_of_dry_run();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(execute(command)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(GroupError::Usage(error)) => {
            output::error(error);
            output::error("For more information, try 'troupe consumer-groups --help'.");
            ExitCode::FAILURE
        }
        Err(error) => {
            say_error(&format!(
                "Executing consumer group command failed due to {error}"
            ));
            ExitCode::SUCCESS
        }
    }
}

async fn execute(command: &GroupsCommand) -> Result<(), GroupError> {
    // What can be refused without a broker is refused first.
    let action = command.action()?;
    command_config::check(command.command_config.as_deref())?;
    match action {
        Action::List => {
            let filters = list::Filters::from_flags(command)?;
            let mut client = connect(command).await?;
            Ok(list::list(&mut client, &filters).await?)
        }
        Action::Describe => {
            let mut client = connect(command).await?;
            let groups = groups(&mut client, command).await?;
            describe::describe(&mut client, command, groups).await
        }
        Action::Delete => {
            let mut client = connect(command).await?;
            let groups = groups(&mut client, command).await?;
            Ok(delete::groups(&mut client, groups).await?)
        }
        Action::ResetOffsets => {
            let reset = reset::Reset::from_flags(command)?;
            let mut client = connect(command).await?;
            let groups = groups(&mut client, command).await?;
            reset::reset(&mut client, &reset, groups).await
        }
        Action::DeleteOffsets => {
            let topics = command.topics.iter().map(|text| TopicArgument::parse(text));
            let topics = topics.collect::<Result<Vec<_>, _>>()?;
            let mut client = connect(command).await?;
            for group in &command.groups {
                delete::offsets(&mut client, group, &topics).await?;
            }
            Ok(())
        }
    }
}

async fn connect(command: &GroupsCommand) -> Result<AdminClient, GroupError> {
    let timeout = Duration::from_millis(command.timeout);
    Ok(AdminClient::connect_within(&bootstrap(command).await?, timeout).await?)
}

/// Returns the groups that are meant.
async fn groups(
    client: &mut AdminClient,
    command: &GroupsCommand,
) -> Result<Vec<String>, ClientError> {
    if !command.all_groups {
        return Ok(command.groups.clone());
    }
    Ok(list::groups(client).await?.into_keys().collect())
}

/// Returns the brokers to ask, found through their registration where only `--zookeeper` was given.
async fn bootstrap(command: &GroupsCommand) -> Result<String, GroupError> {
    if command.new_consumer {
        zookeeper::hint("--new-consumer", "--bootstrap-server alone");
    }
    if let Some(servers) = &command.bootstrap_server {
        return Ok(servers.clone());
    }
    let connect = command.zookeeper.as_deref().unwrap_or_default();
    let brokers = zookeeper::brokers(connect).await?.join(",");
    zookeeper::hint("--zookeeper", &format!("--bootstrap-server {brokers}"));
    Ok(brokers)
}

/// Writes an error as Kafka's tool does: to standard output, after an empty line.
fn say_error(message: &str) {
    output::line(format_args!("\nError: {message}"));
}
