//! `troupe configs`: describes and alters the configuration of topics and brokers, as kafka-configs does.
//!
//! Differs from Kafka 3.9: a failure is told in two lines, without a stack trace; brokers are altered by
//! IncrementalAlterConfigs. Quotas and credentials of users, clients and addresses are not there.

mod additions;
mod flags;
mod resource;

use std::process::ExitCode;

use super::output;
use super::tool::{self, ToolError};
pub(crate) use flags::ConfigsCommand;
use flags::{Action, Entity, EntityType};
use resource::Resource;

/// Runs the command.
pub(crate) fn run(command: ConfigsCommand) -> ExitCode {
    tool::run("", execute(command))
}

async fn execute(command: ConfigsCommand) -> Result<(), ToolError> {
    let (action, entity) = command.action()?;
    let mut client = command.brokers.connect().await?;
    if let EntityType::Users | EntityType::Clients | EntityType::Ips = entity.kind {
        return Err(failed(
            "org.apache.kafka.common.errors.UnsupportedVersionException: The node does not support DESCRIBE_CLIENT_QUOTAS",
        ));
    }
    let of_old = command.brokers.zookeeper.is_some() && command.brokers.bootstrap_server.is_none();
    match action {
        Action::Describe { all } => {
            let names = match &entity.name {
                Some(name) => vec![name.clone()],
                None => resource::names(&mut client, entity.kind).await?,
            };
            for name in names {
                let resource = Resource::new(entity.kind, &name);
                match of_old {
                    true => resource::describe_of_old(&mut client, &resource).await?,
                    false => resource::describe(&mut client, &resource, all).await?,
                }
            }
            Ok(())
        }
        Action::Alter { added, deleted } => {
            let name = entity.name.clone().unwrap_or_default();
            let resource = Resource::new(entity.kind, &name);
            resource::alter(&mut client, &resource, added, &deleted).await?;
            output::line(match of_old {
                true => format!(
                    "Completed Updating config for entity: {}.",
                    resource.of_old()
                ),
                false => completed(&entity),
            });
            Ok(())
        }
    }
}

fn completed(entity: &Entity) -> String {
    match entity.name.as_deref() {
        None | Some("") => format!(
            "Completed updating default config for {} in the cluster.",
            entity.kind.name()
        ),
        Some(name) => format!(
            "Completed updating config for {} {name}.",
            entity.kind.singular()
        ),
    }
}

/// Says with which arguments it was that something failed, and what.
fn failed(what: impl std::fmt::Display) -> ToolError {
    let arguments: Vec<_> = std::env::args_os()
        .skip(2)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    ToolError::told(format!(
        "Error while executing config command with args '{}'\n{what}",
        arguments.join(" ")
    ))
}
