//! CreateTopics, DeleteTopics and CreatePartitions.
//!
//! Answers come when the change is done. The time-out of the request is for what other brokers have to do.

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::create_partitions_request::CreatePartitionsTopic;
use troupe_protocol::kafka::messages::create_partitions_response::CreatePartitionsTopicResult;
use troupe_protocol::kafka::messages::create_topics_request::CreatableTopic;
use troupe_protocol::kafka::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use troupe_protocol::kafka::messages::delete_topics_response::DeletableTopicResult;
use troupe_protocol::kafka::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use uuid::Uuid;

use super::common::{patience, text, topic_name};
use crate::config::describe;
use crate::controller::topics::{AdminError, NewTopic, TopicPlan};
use crate::gateway::request::RequestContext;
use crate::metadata::MetadataImage;

/// The error code of "you may not see this topic's configuration", for those that have none to see.
const NO_CONFIG_ERROR: i16 = 0;

/// Creates topics.
pub(crate) async fn create(
    cx: RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let topics: Vec<NewTopic> = request.topics.iter().map(new_topic).collect();
    let outcomes = cx
        .broker
        .controller
        .create_topics(topics, request.validate_only, patience(request.timeout_ms))
        .await;
    let answers = request
        .topics
        .iter()
        .zip(outcomes)
        .map(|(asked, outcome)| match outcome {
            Ok((plan, id)) => created(&cx, &plan, id),
            Err(error) => CreatableTopicResult::default()
                .with_name(asked.name.clone())
                .with_error_code(error.code.code())
                .with_error_message(Some(text(&error.message)))
                .with_configs(None)
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        });
    CreateTopicsResponse::default().with_topics(answers.collect())
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    let assignment = topic
        .assignments
        .iter()
        .map(|chosen| {
            let brokers = chosen.broker_ids.iter().map(|id| id.0).collect();
            (chosen.partition_index, brokers)
        })
        .collect();
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: i32::from(topic.replication_factor),
        assignment,
        config: topic
            .configs
            .iter()
            .map(|config| {
                let value = config.value.as_deref().map(str::to_owned);
                (config.name.to_string(), value)
            })
            .collect(),
    }
}

fn created(cx: &RequestContext, plan: &TopicPlan, id: Uuid) -> CreatableTopicResult {
    let broker = cx.broker.current_config.borrow();
    let configs = describe::topic(&plan.overrides, &broker)
        .into_iter()
        .map(|config| {
            CreatableTopicConfigs::default()
                .with_name(text(&config.name))
                .with_value(config.value.as_deref().map(text))
                .with_read_only(config.read_only)
                .with_config_source(config.source.code())
                .with_is_sensitive(config.sensitive)
        });
    let replicas = plan.assignment.values().next().map_or(0, Vec::len);
    CreatableTopicResult::default()
        .with_name(topic_name(&plan.name))
        .with_topic_id(id)
        .with_topic_config_error_code(NO_CONFIG_ERROR)
        .with_num_partitions(i32::try_from(plan.assignment.len()).unwrap_or(-1))
        .with_replication_factor(i16::try_from(replicas).unwrap_or(-1))
        .with_configs(Some(configs.collect()))
}

/// Deletes topics, by name or by id.
pub(crate) async fn delete(
    cx: RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let image = cx.broker.image();
    let by_name = request
        .topic_names
        .iter()
        .map(|name| find(&image, Some(name), Uuid::nil()));
    let by_name_or_id = request
        .topics
        .iter()
        .map(|topic| find(&image, topic.name.as_ref(), topic.topic_id));
    let mut results: Vec<(DeletableTopicResult, bool)> = by_name.chain(by_name_or_id).collect();
    let allowed = cx.broker.config.delete_topic_enable;
    let names: Vec<String> = results
        .iter()
        .filter(|(_, exists)| *exists && allowed)
        .filter_map(|(result, _)| Some(result.name.as_ref()?.to_string()))
        .collect();
    let outcome = match (allowed, names.is_empty()) {
        (false, _) => Err(AdminError::from(disabled(cx.version))),
        (true, true) => Ok(()),
        (true, false) => {
            let patience = patience(request.timeout_ms);
            cx.broker.controller.delete_topics(names, patience).await
        }
    };
    if let Err(error) = outcome {
        for (result, _) in results.iter_mut().filter(|(_, exists)| *exists) {
            result.error_code = error.code.code();
            result.error_message = Some(text(&error.message));
        }
    }
    let responses = results.into_iter().map(|(result, _)| result).collect();
    DeleteTopicsResponse::default().with_responses(responses)
}

/// TOPIC_DELETION_DISABLED came with version 3.
fn disabled(version: i16) -> ErrorCode {
    if version >= 3 {
        ErrorCode::TopicDeletionDisabled
    } else {
        ErrorCode::InvalidRequest
    }
}

/// Finds a topic to delete; the flag tells whether it is there.
fn find(image: &MetadataImage, name: Option<&TopicName>, id: Uuid) -> (DeletableTopicResult, bool) {
    let topic = match name {
        Some(name) => image.topic(name),
        None => image.topic_by_id(id),
    };
    match topic {
        Some(topic) => {
            let result = DeletableTopicResult::default()
                .with_name(Some(topic_name(&topic.name)))
                .with_topic_id(topic.id);
            (result, true)
        }
        None => {
            let code = match name {
                Some(_) => ErrorCode::UnknownTopicOrPartition,
                None => ErrorCode::UnknownTopicId,
            };
            let result = DeletableTopicResult::default()
                .with_name(name.cloned())
                .with_topic_id(id)
                .with_error_code(code.code())
                .with_error_message(Some(text(code.message())));
            (result, false)
        }
    }
}

/// Adds partitions.
pub(crate) async fn create_partitions(
    cx: RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let times = request
            .topics
            .iter()
            .filter(|other| other.name == topic.name)
            .count();
        let outcome = if times > 1 {
            Err(AdminError::new(
                ErrorCode::InvalidRequest,
                "Duplicate topic name.",
            ))
        } else {
            add_partitions(&cx, topic, &request).await
        };
        let mut result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        if let Err(error) = outcome {
            result.error_code = error.code.code();
            result.error_message = Some(text(&error.message));
        }
        results.push(result);
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn add_partitions(
    cx: &RequestContext,
    topic: &CreatePartitionsTopic,
    request: &CreatePartitionsRequest,
) -> Result<(), AdminError> {
    let assignments = topic.assignments.iter().flatten();
    let assignments = assignments
        .map(|chosen| chosen.broker_ids.iter().map(|id| id.0).collect())
        .collect();
    cx.broker
        .controller
        .create_partitions(
            topic.name.to_string(),
            topic.count,
            assignments,
            request.validate_only,
            patience(request.timeout_ms),
        )
        .await
}
