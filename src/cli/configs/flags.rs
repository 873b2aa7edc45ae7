//! The flags of `troupe configs`, and which of them go together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::super::tool::{Brokers, ToolError};
use super::additions;

/// Describe and alter the configuration of topics and brokers.
#[derive(Debug, Default, Args)]
pub(crate) struct ConfigsCommand {
    #[command(flatten)]
    pub(super) brokers: Brokers,
    /// Change the configuration.
    #[arg(long)]
    alter: bool,
    /// Show the configuration.
    #[arg(long)]
    describe: bool,
    /// Show what is not changed, too.
    #[arg(long)]
    all: bool,
    /// What is configured: topics or brokers.
    #[arg(long, value_name = "TYPE")]
    entity_type: Vec<String>,
    /// The name of the topic, or the id of the broker.
    #[arg(long, value_name = "NAME")]
    entity_name: Vec<String>,
    /// The defaults of all brokers.
    #[arg(long)]
    entity_default: bool,
    /// Set these: k1=v1,k2=[v1,v2],k3=v3.
    #[arg(long, value_name = "PAIRS")]
    add_config: Option<String>,
    /// Set what a file of properties has.
    #[arg(long, value_name = "FILE")]
    add_config_file: Option<PathBuf>,
    /// Take these back: k1,k2.
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    delete_config: Vec<String>,
    /// The topic.
    #[arg(long)]
    topic: Option<String>,
    /// The id of the broker.
    #[arg(long, value_name = "ID")]
    broker: Option<String>,
    /// The defaults of all brokers.
    #[arg(long)]
    broker_defaults: bool,
    /// The id of the broker whose loggers are meant.
    #[arg(long, value_name = "ID")]
    broker_logger: Option<String>,
    /// The user.
    #[arg(long)]
    user: Option<String>,
    /// The defaults of all users.
    #[arg(long)]
    user_defaults: bool,
    /// The id of the client.
    #[arg(long)]
    client: Option<String>,
    /// The defaults of all clients.
    #[arg(long)]
    client_defaults: bool,
    /// The address.
    #[arg(long)]
    ip: Option<String>,
    /// The defaults of all addresses.
    #[arg(long)]
    ip_defaults: bool,
    /// Of older Kafkas: does nothing.
    #[arg(long, hide = true)]
    force: bool,
}

/// What has a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntityType {
    Topics,
    Clients,
    Users,
    Brokers,
    Ips,
    BrokerLoggers,
    ClientMetrics,
}

impl EntityType {
    const ALL: [EntityType; 7] = [
        EntityType::Topics,
        EntityType::Clients,
        EntityType::Users,
        EntityType::Brokers,
        EntityType::Ips,
        EntityType::BrokerLoggers,
        EntityType::ClientMetrics,
    ];

    /// Returns Kafka's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            EntityType::Topics => "topics",
            EntityType::Clients => "clients",
            EntityType::Users => "users",
            EntityType::Brokers => "brokers",
            EntityType::Ips => "ips",
            EntityType::BrokerLoggers => "broker-loggers",
            EntityType::ClientMetrics => "client-metrics",
        }
    }

    /// Returns what Kafka calls one of them: the name without its last letter.
    pub(super) fn singular(self) -> &'static str {
        let name = self.name();
        name.get(..name.len() - 1).unwrap_or(name)
    }

    fn parse(text: &str) -> Result<Self, ToolError> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| {
            ToolError::told(format!(
                "Invalid entity type {text}, the entity type must be one of {} with a --bootstrap-server or \
                 --bootstrap-controller argument",
                Self::ALL.map(EntityType::name).join(", ")
            ))
        })
    }

    fn has_defaults(self) -> bool {
        use EntityType::{Brokers, Clients, Ips, Users};
        matches!(self, Brokers | Clients | Ips | Users)
    }
}

/// Whose configuration is meant; the name of the defaults is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entity {
    pub(super) kind: EntityType,
    pub(super) name: Option<String>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Describe {
        all: bool,
    },
    Alter {
        added: BTreeMap<String, String>,
        deleted: Vec<String>,
    },
}

impl ConfigsCommand {
    /// Returns what is to be done to whom, if the flags make sense. Errors are in the words of Kafka's tool.
    pub(super) fn action(&self) -> Result<(Action, Entity), ToolError> {
        if self.alter == self.describe {
            return Err(ToolError::told(
                "Command must include exactly one action: --describe, --alter",
            ));
        }
        let misplaced = [
            (self.add_config.is_some(), "add-config"),
            (!self.delete_config.is_empty(), "delete-config"),
        ];
        if self.describe
            && let Some((_, flag)) = misplaced.into_iter().find(|(given, _)| *given)
        {
            return Err(ToolError::told(format!(
                "Option \"[describe]\" can't be used with option \"[{flag}]\""
            )));
        }
        let entity = self.entity()?;
        if self.brokers.check().is_err() {
            return Err(ToolError::told(
                "One of the required --bootstrap-server, --boostrap-controller, or --zookeeper arguments must be specified",
            ));
        }
        check_name(&entity)?;
        let action = match self.describe {
            true => Action::Describe { all: self.all },
            false => self.alteration(&entity)?,
        };
        if self.describe && entity.kind == EntityType::BrokerLoggers && entity.name.is_none() {
            return Err(ToolError::told(
                "an entity name must be specified with --describe of broker-loggers",
            ));
        }
        Ok((action, entity))
    }

    fn entity(&self) -> Result<Entity, ToolError> {
        let named = [
            (EntityType::Topics, &self.topic),
            (EntityType::Clients, &self.client),
            (EntityType::Users, &self.user),
            (EntityType::Brokers, &self.broker),
            (EntityType::BrokerLoggers, &self.broker_logger),
            (EntityType::Ips, &self.ip),
        ];
        let defaults = [
            (EntityType::Clients, self.client_defaults),
            (EntityType::Users, self.user_defaults),
            (EntityType::Brokers, self.broker_defaults),
            (EntityType::Ips, self.ip_defaults),
        ];
        let named = named
            .into_iter()
            .filter_map(|(kind, name)| Some((kind, name.clone()?)));
        let defaults = defaults
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(kind, _)| (kind, String::new()));
        let short: Vec<_> = named.chain(defaults).collect();
        let long: Vec<_> = self
            .entity_type
            .iter()
            .map(|text| EntityType::parse(text))
            .collect::<Result<_, _>>()?;
        let kinds: Vec<_> = long
            .iter()
            .copied()
            .chain(short.iter().map(|(kind, _)| *kind))
            .collect();
        let kind = one_of(&kinds)?;
        let has_long = !long.is_empty() || !self.entity_name.is_empty() || self.entity_default;
        if has_long && !short.is_empty() {
            return Err(ToolError::told(
                "--entity-{type,name,default} should not be used in conjunction with specific entity flags",
            ));
        }
        let name = match self.entity_default {
            true => Some(String::new()),
            false => self.entity_name.first().cloned(),
        };
        let name = name.or_else(|| short.into_iter().next().map(|(_, name)| name));
        Ok(Entity { kind, name })
    }

    fn alteration(&self, entity: &Entity) -> Result<Action, ToolError> {
        let is_named = entity.name.as_ref().is_some_and(|name| !name.is_empty());
        if entity.kind.has_defaults() && entity.name.is_none() {
            return Err(ToolError::told(
                "an entity-name or default entity must be specified with --alter of users, clients, brokers or ips",
            ));
        }
        if !entity.kind.has_defaults() && !is_named {
            return Err(ToolError::told(format!(
                "an entity name must be specified with --alter of {}",
                entity.kind.name()
            )));
        }
        let added = match (&self.add_config, &self.add_config_file) {
            (Some(_), Some(_)) => {
                return Err(ToolError::told(
                    "Only one of --add-config or --add-config-file must be specified",
                ));
            }
            (Some(text), None) => additions::parse(text)?,
            (None, Some(file)) => additions::of_file(file)?,
            (None, None) if self.delete_config.is_empty() => {
                return Err(ToolError::told(
                    "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter",
                ));
            }
            (None, None) => BTreeMap::new(),
        };
        let deleted = self.delete_config.iter().map(|key| key.trim().to_owned());
        Ok(Action::Alter {
            added,
            deleted: deleted.collect(),
        })
    }
}

/// Returns the only type; users and clients go together.
fn one_of(kinds: &[EntityType]) -> Result<EntityType, ToolError> {
    let Some((first, others)) = kinds.split_first() else {
        return Err(ToolError::told(
            "At least one entity type must be specified",
        ));
    };
    match others {
        [] => Ok(*first),
        [other] if first == other => Err(ToolError::told(format!(
            "Duplicate entity type(s) specified: {}",
            first.name()
        ))),
        [EntityType::Clients] if *first == EntityType::Users => Ok(*first),
        [EntityType::Users] if *first == EntityType::Clients => Ok(*first),
        _ => Err(ToolError::told(
            "Only 'users' and 'clients' entity types may be specified together",
        )),
    }
}

fn check_name(entity: &Entity) -> Result<(), ToolError> {
    let name = entity.name.as_deref().unwrap_or_default();
    let is_broker = matches!(entity.kind, EntityType::Brokers | EntityType::BrokerLoggers);
    match is_broker && !name.is_empty() && name.parse::<i32>().is_err() {
        true => Err(ToolError::told(format!(
            "The entity name for {} must be a valid integer broker id, but it is: {name}",
            entity.kind.name()
        ))),
        false => Ok(()),
    }
}
