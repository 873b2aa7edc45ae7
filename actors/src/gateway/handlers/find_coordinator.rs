//! FindCoordinator: which broker a group, a transactional id or the state of a share partition lives on.
//!
//! The first one to ask has `__consumer_offsets`, `__transaction_state` or `__share_group_state` created, and is answered
//! when it can be used. For coordinators that still load, a request waits once, however many keys it has.

use std::collections::BTreeMap;

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::find_coordinator_response::Coordinator;
use troupe_protocol::kafka::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

use super::common::{reachable_brokers, text};
use crate::config::BrokerConfig;
use crate::controller::topics::{AdminError, NewTopic};
use crate::gateway::request::RequestContext;
use crate::groups::OFFSETS_TOPIC;
use crate::internal_topic::partition_of;
use crate::metadata::{MetadataImage, PartitionImage};
use crate::share::STATE_TOPIC;
use crate::transactions::TRANSACTION_TOPIC;
use crate::uuid_text::decode_id;

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
    let lists = cx.version >= FIRST_WITH_LIST;
    let keys = match lists {
        true => &request.coordinator_keys[..],
        false => std::slice::from_ref(&request.key),
    };
    let sought = Sought::of(request.key_type, cx.version);
    let ready = match &sought {
        Some(sought) => sought.get_ready(&cx, keys).await,
        None => Ok(()),
    };
    let image = cx.broker.image();
    let find = |key: &StrBytes| {
        let sought = sought.as_ref().filter(|sought| (sought.takes)(key));
        let found = match sought {
            Some(sought) => ready.clone().and_then(|()| sought.leader(&cx, &image, key)),
            None => Err(ErrorCode::InvalidRequest.into()),
        };
        coordinator(key, found)
    };
    if lists {
        let coordinators = keys.iter().map(find).collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = find(&request.key);
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

/// Where a broker is reached: its id, host and port.
type Address = (i32, StrBytes, i32);

fn coordinator(key: &StrBytes, found: Result<Address, AdminError>) -> Coordinator {
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

/// What the keys of a request are kept in.
struct Sought {
    /// The internal topic.
    topic: &'static str,
    describe: fn(&BrokerConfig, i32) -> NewTopic,
    /// Tells whether a key can be one.
    takes: fn(&str) -> bool,
}

impl Sought {
    fn of(key_type: i8, version: i16) -> Option<Self> {
        let (topic, describe): (_, fn(&BrokerConfig, i32) -> NewTopic) = match key_type {
            GROUP => (OFFSETS_TOPIC, offsets_topic),
            TRANSACTION => (TRANSACTION_TOPIC, transaction_topic),
            SHARE if version >= FIRST_WITH_SHARE => (STATE_TOPIC, share_topic),
            _ => return None,
        };
        let takes = if key_type == SHARE {
            is_share_key
        } else {
            |_: &str| true
        };
        Some(Self {
            topic,
            describe,
            takes,
        })
    }

    /// Creates the topic when it is missing, and waits until the coordinators of all keys have loaded, if they are here.
    async fn get_ready(&self, cx: &RequestContext, keys: &[StrBytes]) -> Result<(), AdminError> {
        if !keys.iter().any(|key| (self.takes)(key)) {
            return Ok(());
        }
        ensure_topic(cx, self.topic, self.describe).await?;
        let image = cx.broker.image();
        let found = keys.iter().filter_map(|key| self.partition(&image, key));
        let here = found
            .filter(|(_, found)| found.leader == cx.broker.broker_id && found.local.is_some())
            .map(|(number, _)| number)
            .collect();
        match self.topic {
            OFFSETS_TOPIC => cx.broker.groups.loaded(&here).await,
            TRANSACTION_TOPIC => cx.broker.transactions.loaded(&here).await,
            _ => {}
        }
        Ok(())
    }

    /// Returns the partition of the topic that a key belongs to.
    fn partition<'a>(
        &self,
        image: &'a MetadataImage,
        key: &str,
    ) -> Option<(i32, &'a PartitionImage)> {
        let topic = image.topic(self.topic)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let number = partition_of(key, count);
        Some((number, topic.partition(number)?))
    }

    /// Finds the leader of the partition that a key belongs to.
    fn leader(
        &self,
        cx: &RequestContext,
        image: &MetadataImage,
        key: &str,
    ) -> Result<Address, AdminError> {
        let partition = self.partition(image, key);
        let leader = partition.and_then(|(_, partition)| {
            reachable_brokers(cx, image).find(|(broker, ..)| broker.id == partition.leader)
        });
        leader
            .map(|(broker, host, port)| (broker.id, host, port))
            .ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
    }
}

/// Tells whether a key is group, topic id and partition, separated by colons.
fn is_share_key(key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let partition = parts.next().and_then(|part| part.parse::<i32>().ok());
    let topic_id = parts.next().and_then(decode_id);
    let group = parts.next().filter(|group| !group.is_empty());
    partition.is_some() && topic_id.is_some() && group.is_some()
}

/// Creates `__consumer_offsets` when it is missing.
pub(super) async fn ensure_offsets_topic(cx: &RequestContext) -> Result<(), ErrorCode> {
    let ensured = ensure_topic(cx, OFFSETS_TOPIC, offsets_topic).await;
    ensured.map_err(|error| error.code)
}

/// Creates `__share_group_state` when it is missing.
pub(super) async fn ensure_share_topic(cx: &RequestContext) -> Result<(), ErrorCode> {
    let ensured = ensure_topic(cx, STATE_TOPIC, share_topic).await;
    ensured.map_err(|error| error.code)
}

/// Creates an internal topic when it is missing.
async fn ensure_topic(
    cx: &RequestContext,
    topic: &str,
    describe: fn(&BrokerConfig, i32) -> NewTopic,
) -> Result<(), AdminError> {
    let image = cx.broker.image();
    if image.topic(topic).is_some() {
        return Ok(());
    }
    let brokers = i32::try_from(image.brokers.len().max(1)).unwrap_or(i32::MAX);
    let config = &cx.broker.config;
    let described = describe(config, brokers);
    let wanted = describe(config, i32::MAX).replication_factor;
    let outcomes = cx.broker.topic_creation.create(vec![described]).await;
    if wanted > brokers && outcomes.iter().all(Result::is_ok) {
        tracing::warn!(
            "topic {topic} is created with {brokers} replicas per partition, because there are no more brokers; {wanted} are configured"
        );
    }
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
fn offsets_topic(config: &BrokerConfig, brokers: i32) -> NewTopic {
    let segment_bytes = config.offsets_topic_segment_bytes.to_string();
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: config.offsets_topic_num_partitions,
        replication_factor: brokers.min(config.offsets_topic_replication_factor.into()),
        assignment: Vec::new(),
        config: settings([
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
            ("segment.bytes", &segment_bytes),
        ]),
    }
}

/// Describes `__transaction_state` as Kafka makes it, but with no more replicas than there are brokers, of which no more
/// have to be in sync.
fn transaction_topic(config: &BrokerConfig, brokers: i32) -> NewTopic {
    let replicas = brokers.min(config.transaction_state_log_replication_factor.into());
    let min_isr = i32::try_from(config.transaction_state_log_min_isr).unwrap_or(i32::MAX);
    let segment_bytes = config.transaction_state_log_segment_bytes.to_string();
    NewTopic {
        name: TRANSACTION_TOPIC.to_owned(),
        partitions: config.transaction_state_log_num_partitions,
        replication_factor: replicas,
        assignment: Vec::new(),
        config: settings([
            ("cleanup.policy", "compact"),
            ("compression.type", "uncompressed"),
            ("min.insync.replicas", &min_isr.min(replicas).to_string()),
            ("segment.bytes", &segment_bytes),
            ("unclean.leader.election.enable", "false"),
        ]),
    }
}

/// Describes `__share_group_state` as Kafka makes it, but with no more replicas than there are brokers. It is shortened by
/// its coordinators, not by age.
fn share_topic(config: &BrokerConfig, brokers: i32) -> NewTopic {
    let replicas = config.share_coordinator_state_topic_replication_factor;
    let segment_bytes = config
        .share_coordinator_state_topic_segment_bytes
        .to_string();
    NewTopic {
        name: STATE_TOPIC.to_owned(),
        partitions: config.share_coordinator_state_topic_num_partitions,
        replication_factor: brokers.min(replicas.into()),
        assignment: Vec::new(),
        config: settings([
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("retention.ms", "-1"),
            ("segment.bytes", &segment_bytes),
        ]),
    }
}

fn settings<const N: usize>(settings: [(&str, &str); N]) -> BTreeMap<String, Option<String>> {
    settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
        .collect()
}
