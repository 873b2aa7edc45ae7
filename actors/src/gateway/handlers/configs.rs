//! DescribeConfigs, AlterConfigs and IncrementalAlterConfigs (KIP-133, KIP-226, KIP-339).

use std::collections::BTreeMap;

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::alter_configs_response::AlterConfigsResourceResponse;
use troupe_protocol::kafka::messages::describe_configs_request::DescribeConfigsResource;
use troupe_protocol::kafka::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use troupe_protocol::kafka::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResourceResponse;
use troupe_protocol::kafka::messages::list_config_resources_response::ConfigResource as ConfigResourceAnswer;
use troupe_protocol::kafka::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};

use super::common::text;
use crate::config::describe::{self, Described};
use crate::controller::topics::AdminError;
use crate::gateway::request::RequestContext;
use crate::replica_manager::configs::{ConfigAlteration, ConfigOp, ConfigResource};

/// The resource type of a topic.
const TOPIC: i8 = 2;
/// The resource type of a broker.
const BROKER: i8 = 4;
/// The resource type of a broker's log levels.
const BROKER_LOGGER: i8 = 8;
/// The resource type of a client's telemetry.
const CLIENT_METRICS: i8 = 16;
/// All that can be listed.
const ALL_TYPES: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
/// The resource type of a group.
const GROUP: i8 = 32;

fn resource(kind: i8, name: &str) -> Result<ConfigResource, AdminError> {
    match kind {
        TOPIC => Ok(ConfigResource::Topic(name.to_owned())),
        BROKER => Ok(ConfigResource::Broker(name.to_owned())),
        GROUP if !name.is_empty() => Ok(ConfigResource::Group(name.to_owned())),
        _ => Err(AdminError::new(
            ErrorCode::InvalidRequest,
            format!("Unsupported resource type: {kind}"),
        )),
    }
}

/// Answers with configurations, each value with where it comes from.
pub(crate) async fn describe(
    cx: RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|asked| {
        let answer = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone());
        match described(&cx, asked) {
            Ok(configs) => answer.with_configs(
                configs
                    .into_iter()
                    .map(|config| answer_config(config, &request))
                    .collect(),
            ),
            Err(error) => answer
                .with_error_code(error.code.code())
                .with_error_message(Some(text(&error.message))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn described(
    cx: &RequestContext,
    asked: &DescribeConfigsResource,
) -> Result<Vec<Described>, AdminError> {
    let broker = cx.broker.current_config.borrow();
    let mut configs = match resource(asked.resource_type, &asked.resource_name)? {
        ConfigResource::Topic(name) => {
            let image = cx.broker.image();
            let topic = image
                .topic(&name)
                .ok_or_else(|| AdminError::from(ErrorCode::UnknownTopicOrPartition))?;
            describe::topic(&topic.overrides, &broker)
        }
        ConfigResource::Group(name) => {
            let image = cx.broker.image();
            let none = BTreeMap::new();
            describe::group(image.group_overrides(&name).unwrap_or(&none), &broker)
        }
        ConfigResource::Broker(name) if name.is_empty() => {
            let mut shared = describe::broker(&broker);
            shared.retain(|config| config.source == describe::ConfigSource::DynamicDefaultBroker);
            shared
        }
        ConfigResource::Broker(name) if name == cx.broker.broker_id.to_string() => {
            describe::broker(&broker)
        }
        ConfigResource::Broker(name) => {
            return Err(AdminError::new(
                ErrorCode::InvalidRequest,
                format!(
                    "Unexpected broker id, expected {} or empty string, but received {name}",
                    cx.broker.broker_id
                ),
            ));
        }
    };
    // No list asks for all of them, and so does an empty one.
    if let Some(keys) = asked
        .configuration_keys
        .as_ref()
        .filter(|keys| !keys.is_empty())
    {
        configs.retain(|config| keys.iter().any(|key| **key == *config.name));
    }
    Ok(configs)
}

fn answer_config(
    config: Described,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms {
        config.synonyms
    } else {
        Vec::new()
    };
    DescribeConfigsResourceResult::default()
        .with_name(text(&config.name))
        .with_value(config.value.as_deref().map(text))
        .with_read_only(config.read_only)
        .with_config_source(config.source.code())
        .with_is_sensitive(config.sensitive)
        .with_config_type(config.kind.code())
        .with_documentation(
            request
                .include_documentation
                .then(|| text(&config.documentation)),
        )
        .with_synonyms(
            synonyms
                .into_iter()
                .map(|synonym| {
                    DescribeConfigsSynonym::default()
                        .with_name(text(&synonym.name))
                        .with_value(synonym.value.as_deref().map(text))
                        .with_source(synonym.source.code())
                })
                .collect(),
        )
}

async fn alter_one(
    cx: &RequestContext,
    kind: i8,
    name: &str,
    alteration: Result<ConfigAlteration, AdminError>,
    validate_only: bool,
) -> (i16, Option<String>) {
    let outcome = match (resource(kind, name), alteration) {
        (Ok(resource), Ok(alteration)) => {
            cx.broker
                .replicas
                .alter_config(resource, alteration, validate_only)
                .await
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    match outcome {
        Ok(()) => (0, None),
        Err(error) => (error.code.code(), Some(error.message)),
    }
}

/// Replaces whole configurations.
pub(crate) async fn alter(
    cx: RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in &request.resources {
        let config = asked.configs.iter().map(|config| {
            let value = config.value.as_deref().map(str::to_owned);
            (config.name.to_string(), value)
        });
        let alteration = Ok(ConfigAlteration::Replace(config.collect()));
        let (kind, name) = (asked.resource_type, &asked.resource_name);
        let (code, message) = alter_one(&cx, kind, name, alteration, request.validate_only).await;
        responses.push(
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message.as_deref().map(text))
                .with_resource_type(kind)
                .with_resource_name(name.clone()),
        );
    }
    AlterConfigsResponse::default().with_responses(responses)
}

/// Lists what there is that can be configured: of the types asked for, or all (KIP-1142).
pub(crate) async fn list(
    cx: RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    // The only type of the first version is CLIENT_METRICS, of which there are none.
    let types = match &request.resource_types[..] {
        _ if cx.version == 0 => &[][..],
        [] => &ALL_TYPES[..],
        types => types,
    };
    if types.iter().any(|kind| !ALL_TYPES.contains(kind)) {
        let error = ErrorCode::UnsupportedVersion.code();
        return ListConfigResourcesResponse::default().with_error_code(error);
    }
    let image = cx.broker.image();
    let mut resources = Vec::new();
    for &kind in types {
        let names: Vec<StrBytes> = match kind {
            TOPIC => image.topics().map(|topic| text(&topic.name)).collect(),
            BROKER | BROKER_LOGGER => {
                let brokers = image.brokers.keys();
                brokers.map(|id| text(&id.to_string())).collect()
            }
            GROUP => image.configured_groups().map(text).collect(),
            _ => Vec::new(),
        };
        resources.extend(names.into_iter().map(|name| {
            ConfigResourceAnswer::default()
                .with_resource_name(name)
                .with_resource_type(kind)
        }));
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}

/// Changes single keys.
pub(crate) async fn alter_incrementally(
    cx: RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in &request.resources {
        let changes = asked.configs.iter().map(|config| {
            let value = config.value.as_deref().map(str::to_owned);
            Ok((
                config.name.to_string(),
                operation(&config.name, config.config_operation, value)?,
            ))
        });
        let alteration = changes
            .collect::<Result<Vec<_>, AdminError>>()
            .map(ConfigAlteration::Incremental);
        let (kind, name) = (asked.resource_type, &asked.resource_name);
        let (code, message) = alter_one(&cx, kind, name, alteration, request.validate_only).await;
        responses.push(
            IncrementalResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message.as_deref().map(text))
                .with_resource_type(kind)
                .with_resource_name(name.clone()),
        );
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn operation(name: &str, code: i8, value: Option<String>) -> Result<ConfigOp, AdminError> {
    match (code, value) {
        (1, _) => Ok(ConfigOp::Delete),
        (0, Some(value)) => Ok(ConfigOp::Set(value)),
        (2, Some(value)) => Ok(ConfigOp::Append(value)),
        (3, Some(value)) => Ok(ConfigOp::Subtract(value)),
        (0 | 2 | 3, None) => Err(AdminError::new(
            ErrorCode::InvalidRequest,
            format!("Null value not supported for : {name}"),
        )),
        _ => Err(AdminError::new(
            ErrorCode::InvalidRequest,
            format!("Unknown operation type {code} for config {name}"),
        )),
    }
}
