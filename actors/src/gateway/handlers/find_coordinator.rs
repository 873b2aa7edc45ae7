//! FindCoordinator: which broker a group lives on.
//!
//! The first one to ask has `__consumer_offsets` created, and is answered when it can be used. There is no coordinator
//! of transactions yet, nor of share groups: COORDINATOR_NOT_AVAILABLE.

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::find_coordinator_response::Coordinator;
use troupe_protocol::kafka::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

use super::common::{reachable_brokers, text};
use crate::config::BrokerConfig;
use crate::controller::topics::{AdminError, NewTopic};
use crate::gateway::request::RequestContext;
use crate::groups::{OFFSETS_TOPIC, partition_of};

/// First version that asks for several at once.
const FIRST_WITH_LIST: i16 = 4;
/// First version that knows of share groups.
const FIRST_WITH_SHARE: i16 = 6;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Answers for one key, or for each of a list.
pub(crate) async fn handle(
    cx: RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    if cx.version >= FIRST_WITH_LIST {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in &request.coordinator_keys {
            coordinators.push(find(&cx, request.key_type, key).await);
        }
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = find(&cx, request.key_type, &request.key).await;
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

async fn find(cx: &RequestContext, key_type: i8, key: &StrBytes) -> Coordinator {
    let found = match key_type {
        GROUP => find_group(cx, key).await,
        TRANSACTION => Err(ErrorCode::CoordinatorNotAvailable.into()),
        SHARE if cx.version >= FIRST_WITH_SHARE => Err(ErrorCode::CoordinatorNotAvailable.into()),
        _ => Err(ErrorCode::InvalidRequest.into()),
    };
    let answer = Coordinator::default().with_key(text(key));
    match found {
        Ok((node_id, host, port)) => answer
            .with_node_id(BrokerId(node_id))
            .with_host(host)
            .with_port(port),
        // The oldest clients read a broker here in any case.
        Err(error) => answer
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code.code())
            .with_error_message(Some(text(&error.message))),
    }
}

async fn find_group(cx: &RequestContext, group: &str) -> Result<(i32, StrBytes, i32), AdminError> {
    ensure_topic(cx).await?;
    let image = cx.broker.image();
    let unavailable = || AdminError::from(ErrorCode::CoordinatorNotAvailable);
    let topic = image.topic(OFFSETS_TOPIC).ok_or_else(unavailable)?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let number = partition_of(group, count);
    let partition = topic.partition(number).ok_or_else(unavailable)?;
    if partition.leader == cx.broker.broker_id && partition.local.is_some() {
        cx.broker.groups.loaded(number).await;
    }
    reachable_brokers(cx, &image)
        .find(|(broker, ..)| broker.id == partition.leader)
        .map(|(broker, host, port)| (broker.id, host, port))
        .ok_or_else(unavailable)
}

/// Creates `__consumer_offsets` when it is missing.
async fn ensure_topic(cx: &RequestContext) -> Result<(), AdminError> {
    let image = cx.broker.image();
    if image.topic(OFFSETS_TOPIC).is_some() {
        return Ok(());
    }
    let topic = offsets_topic(&cx.broker.config, image.brokers.len());
    let outcomes = cx.broker.controller.create_topics(vec![topic], false).await;
    match outcomes.into_iter().next() {
        // Somebody else was faster.
        Some(Err(error)) if error.code != ErrorCode::TopicAlreadyExists => Err(AdminError::new(
            ErrorCode::CoordinatorNotAvailable,
            error.message,
        )),
        _ => Ok(()),
    }
}

/// Describes `__consumer_offsets` as Kafka makes it, but with no more replicas than there are brokers.
fn offsets_topic(config: &BrokerConfig, brokers: usize) -> NewTopic {
    let replicas = i32::from(config.offsets_topic_replication_factor);
    let brokers = i32::try_from(brokers.max(1)).unwrap_or(i32::MAX);
    let settings = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        (
            "segment.bytes",
            config.offsets_topic_segment_bytes.to_string(),
        ),
    ];
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: config.offsets_topic_num_partitions,
        replication_factor: replicas.min(brokers),
        assignment: Vec::new(),
        config: settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Some(value)))
            .collect(),
    }
}
