//! `troupe topics`: creates, lists, describes, changes and deletes topics, as kafka-topics does.
//!
//! Differs from Kafka 3.9: `--alter` takes `--config` and `--delete-config` with any kind of connection, where
//! Kafka sends its users to kafka-configs; an unreachable broker is reported at once and not after a minute.

mod alter;
mod create;
mod describe;
mod flags;

use std::process::ExitCode;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::delete_topics_request::DeleteTopicState;
use troupe_protocol::kafka::messages::{DeleteTopicsRequest, MetadataResponse};

use super::client::{AdminClient, ClientError, topic_name};
use super::command_config::{self, CommandConfigError};
use super::zookeeper::{self, DiscoveryError};
use super::{include_list, output};
pub(crate) use flags::TopicsCommand;
use flags::{Action, UsageError};

/// How long the broker may take over a change, in milliseconds: Kafka's `request.timeout.ms` of the admin client.
const OPERATION_TIMEOUT_MS: i32 = 30_000;

/// Tells why a command failed; the text is that of Kafka's tool.
#[derive(Debug, thiserror::Error)]
enum TopicError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error(transparent)]
    Config(#[from] troupe_actors::config::InvalidConfig),
    #[error("Topic '{0}' does not exist as expected")]
    NoTopic(String),
    #[error("TopicId '{0}' does not exist as expected")]
    NoTopicId(String),
    #[error("{0}")]
    Argument(String),
    #[error(transparent)]
    CommandConfig(#[from] CommandConfigError),
    #[error(transparent)]
    Runtime(#[from] std::io::Error),
}

/// Runs the command.
pub(crate) fn run(command: &TopicsCommand) -> ExitCode {
    let action = match command.action() {
        Ok(action) => action,
        Err(UsageError(message)) => {
            output::error(message);
            output::error("For more information, try 'troupe topics --help'.");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(execute(command, action)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::line(format_args!(
                "Error while executing topic command : {error}"
            ));
            tracing::error!(code = code_name(&error), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn code_name(error: &TopicError) -> Option<&'static str> {
    match error {
        TopicError::Client(error) => error.code().map(ErrorCode::name),
        _ => None,
    }
}

async fn execute(command: &TopicsCommand, action: Action) -> Result<(), TopicError> {
    // What can be refused without a broker is refused first.
    let new_topic = if action == Action::Create {
        Some(create::NewTopic::from_flags(command)?)
    } else {
        None
    };
    command_config::check(command.command_config.as_deref())?;
    let mut client = AdminClient::connect(&bootstrap(command).await?).await?;
    match action {
        Action::Create => match new_topic {
            Some(topic) => create::create(&mut client, topic, command.if_not_exists).await,
            None => Ok(()),
        },
        Action::List => list(&mut client, command).await,
        Action::Describe => describe::describe(&mut client, command).await,
        Action::Alter => alter::alter(&mut client, command).await,
        Action::Delete => delete(&mut client, command).await,
    }
}

/// Returns the brokers to ask, found through their registration where only `--zookeeper` was given.
async fn bootstrap(command: &TopicsCommand) -> Result<String, TopicError> {
    if let Some(servers) = &command.bootstrap_server {
        return Ok(servers.clone());
    }
    if let Some(servers) = &command.broker_list {
        zookeeper::hint("--broker-list", &format!("--bootstrap-server {servers}"));
        return Ok(servers.clone());
    }
    let connect = command.zookeeper.as_deref().unwrap_or_default();
    let brokers = zookeeper::brokers(connect).await?.join(",");
    zookeeper::hint("--zookeeper", &format!("--bootstrap-server {brokers}"));
    Ok(brokers)
}

/// A topic's name, and whether it belongs to the cluster itself.
fn names(metadata: &MetadataResponse, exclude_internal: bool) -> Vec<String> {
    let topics = metadata
        .topics
        .iter()
        .filter(|topic| !(exclude_internal && topic.is_internal));
    let mut names: Vec<_> = topics
        .filter_map(|topic| topic.name.as_ref())
        .map(|name| name.to_string())
        .collect();
    names.sort();
    names
}

/// Returns the topics that `--topic`, a regular expression, matches; all without it.
async fn matching(
    client: &mut AdminClient,
    command: &TopicsCommand,
) -> Result<Vec<String>, TopicError> {
    let names = names(&client.metadata(None).await?, command.exclude_internal);
    let Some(topic) = &command.topic else {
        return Ok(names);
    };
    let pattern = include_list::pattern(topic).map_err(TopicError::Argument)?;
    Ok(names
        .into_iter()
        .filter(|name| pattern.is_match(name))
        .collect())
}

/// Returns the topics that match; without any, and without `--if-exists`, an error.
async fn existing(
    client: &mut AdminClient,
    command: &TopicsCommand,
) -> Result<Vec<String>, TopicError> {
    let names = matching(client, command).await?;
    match &command.topic {
        Some(topic) if names.is_empty() && !command.if_exists => {
            Err(TopicError::NoTopic(topic.clone()))
        }
        _ => Ok(names),
    }
}

async fn list(client: &mut AdminClient, command: &TopicsCommand) -> Result<(), TopicError> {
    output::line(matching(client, command).await?.join("\n"));
    Ok(())
}

async fn delete(client: &mut AdminClient, command: &TopicsCommand) -> Result<(), TopicError> {
    let names = existing(client, command).await?;
    if names.is_empty() {
        return Ok(());
    }
    let controller = client.controller().await?;
    let topics: Vec<_> = names.iter().cloned().map(topic_name).collect();
    let mut request = DeleteTopicsRequest::default().with_timeout_ms(OPERATION_TIMEOUT_MS);
    if controller
        .version::<DeleteTopicsRequest>()
        .is_some_and(|version| version >= 6)
    {
        request.topics = topics
            .into_iter()
            .map(|name| DeleteTopicState::default().with_name(Some(name)))
            .collect();
    } else {
        request.topic_names = topics;
    }
    for result in controller.call(request).await?.responses {
        ClientError::check(result.error_code, result.error_message.as_ref())?;
    }
    if command.zookeeper.is_some() {
        for name in names {
            output::line(format_args!("Topic {name} is marked for deletion."));
            output::line(
                "Note: This will have no impact if delete.topic.enable is not set to true.",
            );
        }
    }
    Ok(())
}
