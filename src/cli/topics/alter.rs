//! `--alter`: more partitions, other configuration.

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use troupe_protocol::kafka::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use troupe_protocol::kafka::messages::{
    BrokerId, CreatePartitionsRequest, IncrementalAlterConfigsRequest,
};

use super::super::client::{AdminClient, ClientError, topic_name};
use super::super::output;
use super::create::{parse_assignment, parse_configs};
use super::flags::TopicsCommand;
use super::{OPERATION_TIMEOUT_MS, TopicError, existing};

/// The code of a topic among configuration resources.
const TOPIC_RESOURCE: i8 = 2;
/// Operations of IncrementalAlterConfigs (KIP-339).
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Changes the topics that match.
pub(super) async fn alter(
    client: &mut AdminClient,
    command: &TopicsCommand,
) -> Result<(), TopicError> {
    let topics = existing(client, command).await?;
    if topics.is_empty() {
        return Ok(());
    }
    if !command.configs.is_empty() || !command.deleted_configs.is_empty() {
        alter_configs(client, command, &topics).await?;
    }
    match command.partitions {
        Some(partitions) => add_partitions(client, command, &topics, partitions).await,
        None => Ok(()),
    }
}

async fn alter_configs(
    client: &mut AdminClient,
    command: &TopicsCommand,
    topics: &[String],
) -> Result<(), TopicError> {
    let config = |name: &str, operation, value: Option<String>| {
        AlterableConfig::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_config_operation(operation)
            .with_value(value.map(StrBytes::from_string))
    };
    let set = parse_configs(&command.configs)?
        .into_iter()
        .map(|(name, value)| config(&name, SET, Some(value)));
    let deleted = command
        .deleted_configs
        .iter()
        .map(|name| config(name, DELETE, None));
    let configs: Vec<_> = set.chain(deleted).collect();
    let resource = |name: &String| {
        AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(StrBytes::from_string(name.clone()))
            .with_configs(configs.clone())
    };
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(topics.iter().map(resource).collect());
    for result in client.any().call(request).await?.responses {
        ClientError::check(result.error_code, result.error_message.as_ref())?;
    }
    for name in topics {
        output::line(format_args!("Updated config for topic {name}."));
    }
    Ok(())
}

async fn add_partitions(
    client: &mut AdminClient,
    command: &TopicsCommand,
    topics: &[String],
    partitions: i32,
) -> Result<(), TopicError> {
    let assignment = command
        .replica_assignment
        .as_deref()
        .map(parse_assignment)
        .transpose()?;
    let metadata = client.metadata(Some(topics.to_vec())).await?;
    let mut requested = Vec::new();
    for topic in metadata.topics {
        ClientError::check(topic.error_code, None)?;
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        // An assignment names all partitions; only those to come are sent.
        let new = assignment
            .as_ref()
            .map(|assignment| assignment.iter().skip(topic.partitions.len()));
        let assignments = new.map(|new| {
            new.map(|brokers| {
                let brokers = brokers.iter().copied().map(BrokerId).collect();
                CreatePartitionsAssignment::default().with_broker_ids(brokers)
            })
            .collect()
        });
        requested.push(
            CreatePartitionsTopic::default()
                .with_name(topic_name(name))
                .with_count(partitions)
                .with_assignments(assignments),
        );
    }
    if command.zookeeper.is_some() {
        output::line(
            "WARNING: If partitions are increased for a topic that has a key, the partition logic or ordering of the \
             messages will be affected",
        );
    }
    let request = CreatePartitionsRequest::default()
        .with_topics(requested)
        .with_timeout_ms(OPERATION_TIMEOUT_MS);
    for result in client.controller().await?.call(request).await?.results {
        ClientError::check(result.error_code, result.error_message.as_ref())?;
    }
    if command.zookeeper.is_some() {
        output::line("Adding partitions succeeded!");
    }
    Ok(())
}
