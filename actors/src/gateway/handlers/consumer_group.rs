//! ConsumerGroupHeartbeat and ConsumerGroupDescribe: groups of the consumer protocol (KIP-848).
//!
//! Racks are kept and shown, but no assignor looks at them, as in Kafka 4.

use std::sync::Arc;

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::consumer_group_describe_response::{
    Assignment as DescribedAssignment, DescribedGroup, Member,
    TopicPartitions as DescribedPartitions,
};
use troupe_protocol::kafka::messages::consumer_group_heartbeat_response::{
    Assignment, TopicPartitions,
};
use troupe_protocol::kafka::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, GroupId,
};
use uuid::Uuid;

use super::common::{GROUP_OPERATIONS, OPERATIONS_NOT_ASKED, text, topic_name};
use super::group_membership::{MAX_STRING_BYTES, client_host, copied};
use crate::gateway::request::RequestContext;
use crate::groups::consumer::actor::{DescribedMember, Description};
use crate::groups::consumer::group::Refusal;
use crate::groups::consumer::heartbeat::{Beat, Heartbeat};
use crate::groups::consumer::member::{Partitions, by_topic};
use crate::groups::consumer::topics::Topics;
use crate::groups::requests::Request;
use crate::partition::Answer;
use crate::uuid_text::encode_id;

/// First version whose clients make their member ids.
const FIRST_WITH_OWN_MEMBER_ID: i16 = 1;
/// First version of ConsumerGroupDescribe that tells which protocol a member speaks.
const FIRST_WITH_MEMBER_TYPE: i16 = 1;

/// Takes a heartbeat.
pub(crate) async fn heartbeat(
    cx: RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let response = ConsumerGroupHeartbeatResponse::default();
    match try_heartbeat(&cx, &request).await {
        Ok(beat) => response
            .with_member_id(Some(text(&beat.member_id)))
            .with_member_epoch(beat.member_epoch)
            .with_heartbeat_interval_ms(beat.heartbeat_interval_ms)
            .with_assignment(beat.assignment.as_ref().map(assignment)),
        Err(refusal) => response
            .with_error_code(refusal.error.code())
            .with_error_message(Some(text(&refusal.message))),
    }
}

fn assignment(partitions: &Partitions) -> Assignment {
    let topics = by_topic(partitions).into_iter().map(|(topic, numbers)| {
        TopicPartitions::default()
            .with_topic_id(topic)
            .with_partitions(numbers)
    });
    Assignment::default().with_topic_partitions(topics.collect())
}

async fn try_heartbeat(
    cx: &RequestContext,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<Beat, Refusal> {
    let invalid = |message: &str| Refusal::new(ErrorCode::InvalidRequest, message);
    if request.group_id.trim().is_empty() {
        return Err(invalid("GroupId can't be empty."));
    }
    if is_too_long(request) {
        return Err(invalid("A string is too long."));
    }
    let group: Arc<str> = Arc::from(&**request.group_id);
    let beat = heartbeat_of(cx, request);
    beat.check(&cx.broker.groups.config().consumer)?;
    let coordinator = cx.broker.groups.of(&group)?;
    coordinator
        .ask(|reply| Request::ConsumerHeartbeat { group, beat, reply })
        .await?
}

/// Tells whether something does not fit into a record.
fn is_too_long(request: &ConsumerGroupHeartbeatRequest) -> bool {
    let optional = [
        &request.instance_id,
        &request.rack_id,
        &request.subscribed_topic_regex,
        &request.server_assignor,
    ];
    let optional = optional.into_iter().flatten();
    let names = request.subscribed_topic_names.iter().flatten();
    let texts = optional
        .chain(names.map(|name| &name.0))
        .chain([&request.group_id.0, &request.member_id]);
    texts.into_iter().any(|text| text.len() > MAX_STRING_BYTES)
}

fn heartbeat_of(cx: &RequestContext, request: &ConsumerGroupHeartbeatRequest) -> Heartbeat {
    let makes_id = cx.version < FIRST_WITH_OWN_MEMBER_ID
        && request.member_id.is_empty()
        && request.member_epoch == 0;
    let member_id = if makes_id {
        encode_id(Uuid::new_v4()).into()
    } else {
        Arc::from(&*request.member_id)
    };
    let names = request.subscribed_topic_names.as_ref();
    let owned = request.topic_partitions.as_ref().map(|topics| {
        let partitions = topics.iter().flat_map(|topic| {
            let numbers = topic.partitions.iter();
            numbers.map(|&number| (topic.topic_id, number))
        });
        partitions.collect()
    });
    Heartbeat {
        member_id,
        member_epoch: request.member_epoch,
        instance_id: copied(request.instance_id.as_ref()),
        rack_id: copied(request.rack_id.as_ref()),
        client_id: cx.client_id.as_deref().unwrap_or_default().into(),
        client_host: client_host(cx),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|&ms| ms != -1),
        topics: names.map(|names| names.iter().map(|name| Arc::from(&***name)).collect()),
        pattern: copied(request.subscribed_topic_regex.as_ref()),
        server_assignor: copied(request.server_assignor.as_ref()),
        owned,
    }
}

/// Describes groups with their members.
pub(crate) async fn describe(
    cx: RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let operations = if request.include_authorized_operations {
        GROUP_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for id in &request.group_ids {
        let found = find(&cx, id).await;
        groups.push(described(&cx, id, found).with_authorized_operations(operations));
    }
    ConsumerGroupDescribeResponse::default().with_groups(groups)
}

async fn find(cx: &RequestContext, id: &str) -> Answer<Option<Description>> {
    if id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let group = Arc::from(id);
    let coordinator = cx.broker.groups.of(id)?;
    coordinator
        .ask(|reply| Request::DescribeConsumers { group, reply })
        .await
}

fn described(
    cx: &RequestContext,
    id: &GroupId,
    found: Answer<Option<Description>>,
) -> DescribedGroup {
    let answer = DescribedGroup::default().with_group_id(GroupId(text(id)));
    let refused = |error: ErrorCode, message: &str| {
        let answer = answer.clone().with_error_code(error.code());
        answer.with_error_message(Some(text(message)))
    };
    match found {
        Ok(Some(group)) => {
            let members = group.members.iter();
            let members = members.map(|member| described_member(cx, member, &group.topics));
            answer
                .with_group_state(text(group.state))
                .with_group_epoch(group.epoch)
                .with_assignment_epoch(group.target_epoch)
                .with_assignor_name(text(group.assignor))
                .with_members(members.collect())
        }
        Ok(None) => refused(
            ErrorCode::GroupIdNotFound,
            &format!("Group {} is not a consumer group.", **id),
        ),
        Err(error) => refused(error, error.message()),
    }
}

fn described_member(cx: &RequestContext, member: &DescribedMember, topics: &Topics) -> Member {
    let metadata = &member.metadata;
    let names = metadata.topics.iter().map(|name| topic_name(name));
    let described = Member::default()
        .with_member_id(text(&member.id))
        .with_instance_id(metadata.instance_id.as_deref().map(text))
        .with_rack_id(metadata.rack_id.as_deref().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&metadata.client_id))
        .with_client_host(text(&metadata.client_host))
        .with_subscribed_topic_names(names.collect())
        .with_subscribed_topic_regex(metadata.pattern.as_deref().map(text))
        .with_assignment(named(&member.assigned, topics))
        .with_target_assignment(named(&member.target, topics));
    if cx.version >= FIRST_WITH_MEMBER_TYPE {
        described.with_member_type(i8::from(metadata.classic.is_none()))
    } else {
        described
    }
}

/// Names partitions; those of topics that are no more are left out.
fn named(partitions: &Partitions, topics: &Topics) -> DescribedAssignment {
    let by_topic = by_topic(partitions).into_iter();
    let named = by_topic.filter_map(|(id, numbers)| {
        let name: StrBytes = text(topics.name(id)?);
        Some(
            DescribedPartitions::default()
                .with_topic_id(id)
                .with_topic_name(name.into())
                .with_partitions(numbers),
        )
    });
    DescribedAssignment::default().with_topic_partitions(named.collect())
}
