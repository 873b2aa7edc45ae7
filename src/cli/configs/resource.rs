//! What brokers tell of configurations, and how they are told to change them.

use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::api::Request;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::describe_configs_request::DescribeConfigsResource;
use troupe_protocol::kafka::messages::describe_configs_response::DescribeConfigsResourceResult;
use troupe_protocol::kafka::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use troupe_protocol::kafka::messages::{
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
};

use super::super::client::{AdminClient, ClientError, Connection};
use super::super::tool::ToolError;
use super::super::{exceptions, output};
use super::failed;
use super::flags::EntityType;

/// Operations of IncrementalAlterConfigs (KIP-339).
const SET: i8 = 0;
const DELETE: i8 = 1;
/// The first version of ListConfigResources that asks for a type (KIP-1142).
const FIRST_WITH_TYPES: i16 = 1;
/// Where a value comes from, by the codes of DescribeConfigs.
const SOURCES: [&str; 9] = [
    "UNKNOWN",
    "DYNAMIC_TOPIC_CONFIG",
    "DYNAMIC_BROKER_CONFIG",
    "DYNAMIC_DEFAULT_BROKER_CONFIG",
    "STATIC_BROKER_CONFIG",
    "DEFAULT_CONFIG",
    "DYNAMIC_BROKER_LOGGER_CONFIG",
    "DYNAMIC_CLIENT_METRICS_CONFIG",
    "DYNAMIC_GROUP_CONFIG",
];

/// What has a configuration of its own; the defaults of all brokers have an empty name.
#[derive(Debug)]
pub(super) struct Resource {
    kind: EntityType,
    name: String,
}

impl Resource {
    pub(super) fn new(kind: EntityType, name: &str) -> Self {
        let name = name.to_owned();
        Self { kind, name }
    }

    /// Returns the type's code on the wire.
    fn code(&self) -> i8 {
        match self.kind {
            EntityType::Topics => 2,
            EntityType::Brokers => 4,
            EntityType::BrokerLoggers => 8,
            EntityType::ClientMetrics => 16,
            EntityType::Clients | EntityType::Users | EntityType::Ips => 0,
        }
    }

    /// Returns the source of what was changed for this resource itself; none if any value counts.
    fn own_source(&self) -> Option<i8> {
        match self.kind {
            EntityType::Topics => Some(1),
            EntityType::Brokers if self.name.is_empty() => Some(3),
            EntityType::Brokers => Some(2),
            EntityType::ClientMetrics => Some(7),
            _ => None,
        }
    }

    /// Returns the name as Kafka up to 2.4 shows it.
    pub(super) fn of_old(&self) -> String {
        let kind = match self.kind {
            EntityType::Topics => "topic",
            kind => kind.name(),
        };
        match self.name.is_empty() {
            true => format!("default {kind}"),
            false => format!("{kind} '{}'", self.name),
        }
    }
}

/// Lists all that have a configuration of this type.
pub(super) async fn names(
    client: &mut AdminClient,
    kind: EntityType,
) -> Result<Vec<String>, ToolError> {
    if kind == EntityType::ClientMetrics {
        let mut request = ListConfigResourcesRequest::default();
        let version = client.any().version::<ListConfigResourcesRequest>();
        if version >= Some(FIRST_WITH_TYPES) {
            request.resource_types = vec![16];
        }
        let listed = client.any().call(request).await?.config_resources;
        return Ok(listed
            .into_iter()
            .map(|told| told.resource_name.to_string())
            .collect());
    }
    let all = (kind == EntityType::Brokers).then(Vec::new);
    let metadata = client.metadata(all).await?;
    if kind == EntityType::Topics {
        let names = metadata.topics.into_iter().filter_map(|topic| topic.name);
        let names: BTreeSet<_> = names.map(|name| name.to_string()).collect();
        return Ok(names.into_iter().collect());
    }
    let ids: BTreeSet<i32> = metadata
        .brokers
        .iter()
        .map(|broker| broker.node_id.0)
        .collect();
    let ids = ids.into_iter().map(|id| id.to_string());
    Ok(ids.chain([String::new()]).collect())
}

/// Shows what was changed, or everything.
pub(super) async fn describe(
    client: &mut AdminClient,
    resource: &Resource,
    all: bool,
) -> Result<(), ToolError> {
    output::line(match resource.name.is_empty() {
        true => format!(
            "Default configs for {} in the cluster are:",
            resource.kind.name()
        ),
        false => format!(
            "{} configs for {} {} are:",
            if all { "All" } else { "Dynamic" },
            resource.kind.singular(),
            resource.name
        ),
    });
    for entry in entries(client, resource, all).await? {
        let synonyms: Vec<_> = entry
            .synonyms
            .iter()
            .map(|synonym| {
                let (name, value) = (synonym.name.as_str(), shown(synonym.value.as_ref()));
                format!("{}:{name}={value}", source(synonym.source))
            })
            .collect();
        output::line(format_args!(
            "  {}={} sensitive={} synonyms={{{}}}",
            entry.name.as_str(),
            shown(entry.value.as_ref()),
            entry.is_sensitive,
            synonyms.join(", ")
        ));
    }
    Ok(())
}

/// Shows what was changed in one line, as Kafka up to 2.4 does for `--zookeeper`.
pub(super) async fn describe_of_old(
    client: &mut AdminClient,
    resource: &Resource,
) -> Result<(), ToolError> {
    let pairs: Vec<_> = entries(client, resource, false)
        .await?
        .iter()
        .map(|entry| format!("{}={}", entry.name.as_str(), shown(entry.value.as_ref())))
        .collect();
    output::line(format_args!(
        "Configs for {} are {}",
        resource.of_old(),
        pairs.join(",")
    ));
    Ok(())
}

fn source(code: i8) -> &'static str {
    let named = usize::try_from(code)
        .ok()
        .and_then(|code| SOURCES.get(code));
    named.copied().unwrap_or("UNKNOWN")
}

fn shown(value: Option<&StrBytes>) -> &str {
    value.map_or("null", |value| value.as_str())
}

/// Asks for a configuration, in the order of its keys.
async fn entries(
    client: &mut AdminClient,
    resource: &Resource,
    all: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, ToolError> {
    let asked = DescribeConfigsResource::default()
        .with_resource_type(resource.code())
        .with_resource_name(StrBytes::from_string(resource.name.clone()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![asked])
        .with_include_synonyms(true);
    let mut entries = Vec::new();
    for result in call(client, resource, request).await?.results {
        check(result.error_code, result.error_message.as_ref())?;
        entries.extend(result.configs);
    }
    let own = resource.own_source().filter(|_| !all);
    entries.retain(|entry| own.is_none_or(|own| entry.config_source == own));
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// Sets and deletes entries. Those to be deleted must be there.
pub(super) async fn alter(
    client: &mut AdminClient,
    resource: &Resource,
    added: BTreeMap<String, String>,
    deleted: &[String],
) -> Result<(), ToolError> {
    let there: BTreeSet<_> = entries(client, resource, false)
        .await?
        .into_iter()
        .map(|entry| entry.name.to_string())
        .collect();
    let missing: Vec<_> = deleted
        .iter()
        .filter(|key| !there.contains(*key))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(ToolError::told(format!(
            "Invalid config(s): {}",
            missing.join(",")
        )));
    }
    let config = |name: &str, operation, value: Option<String>| {
        AlterableConfig::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_config_operation(operation)
            .with_value(value.map(StrBytes::from_string))
    };
    let deletions = deleted.iter().map(|key| config(key, DELETE, None));
    let additions = added
        .into_iter()
        .map(|(key, value)| config(&key, SET, Some(value)));
    let altered = AlterConfigsResource::default()
        .with_resource_type(resource.code())
        .with_resource_name(StrBytes::from_string(resource.name.clone()))
        .with_configs(additions.chain(deletions).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![altered]);
    for result in call(client, resource, request).await?.responses {
        check(result.error_code, result.error_message.as_ref())?;
    }
    Ok(())
}

fn check(code: i16, message: Option<&StrBytes>) -> Result<(), ToolError> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        _ => Err(failed(exceptions::told(code, message))),
    }
}

/// Asks the broker itself about a broker, and any about the rest.
async fn call<R: Request>(
    client: &mut AdminClient,
    resource: &Resource,
    request: R,
) -> Result<R::Response, ToolError> {
    let answer = match broker_of(client, resource).await? {
        Some(broker) => broker.call(request).await,
        None => client.any().call(request).await,
    };
    answer.map_err(|error: ClientError| failed(error))
}

async fn broker_of<'a>(
    client: &'a mut AdminClient,
    resource: &Resource,
) -> Result<Option<&'a mut Connection>, ToolError> {
    let is_broker = matches!(
        resource.kind,
        EntityType::Brokers | EntityType::BrokerLoggers
    );
    let Some(id) = resource.name.parse::<i32>().ok().filter(|_| is_broker) else {
        return Ok(None);
    };
    let metadata = client.metadata(Some(Vec::new())).await?;
    let found = metadata
        .brokers
        .iter()
        .find(|broker| broker.node_id.0 == id);
    let Some(broker) = found else {
        return Err(failed(format_args!("Broker {id} is not there")));
    };
    Ok(Some(client.broker(&broker.host, broker.port).await?))
}
