//! ShareGroupHeartbeat and ShareGroupDescribe: who is in a share group.
//!
//! The one assignor is `simple`. It gives every member of a topic's subscribers as many of its partitions as any other;
//! Kafka's spreads by the hash of the member's id.

use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::share_group_describe_response::{
    Assignment as DescribedAssignment, DescribedGroup, Member,
    TopicPartitions as DescribedPartitions,
};
use troupe_protocol::kafka::messages::share_group_heartbeat_response::{
    Assignment, TopicPartitions,
};
use troupe_protocol::kafka::messages::{
    GroupId, ShareGroupDescribeRequest, ShareGroupDescribeResponse, ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
};

use crate::gateway::handlers::common::{GROUP_OPERATIONS, OPERATIONS_NOT_ASKED, text, topic_name};
use crate::gateway::handlers::group_membership::group_id;
use crate::gateway::request::RequestContext;
use crate::groups::requests::Request;
use crate::groups::share::assignor::Assignment as Partitions;
use crate::groups::share::group::{
    JOIN_EPOCH, LEAVE_EPOCH, ShareBeat, ShareGroup, ShareHeartbeat, ShareMember,
};
use crate::metadata::MetadataImage;
use crate::partition::Answer;

/// Longest string that fits into a stored key.
const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// Keeps a member alive, lets it join and leave, and tells it its partitions.
pub(crate) async fn heartbeat(
    cx: RequestContext,
    request: ShareGroupHeartbeatRequest,
) -> ShareGroupHeartbeatResponse {
    let settings = cx.broker.share.settings(&request.group_id);
    match try_heartbeat(&cx, &request, settings.session_timeout_ms).await {
        Ok(beat) => {
            let assignment = beat.assignment.map(|partitions| {
                let topics = partitions.into_iter().map(|(topic_id, partitions)| {
                    TopicPartitions::default()
                        .with_topic_id(topic_id)
                        .with_partitions(partitions.into_iter().collect())
                });
                Assignment::default().with_topic_partitions(topics.collect())
            });
            ShareGroupHeartbeatResponse::default()
                .with_member_id(Some(text(&request.member_id)))
                .with_member_epoch(beat.member_epoch)
                .with_heartbeat_interval_ms(settings.heartbeat_interval_ms)
                .with_assignment(assignment)
        }
        Err(error) => ShareGroupHeartbeatResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(error.message()))),
    }
}

async fn try_heartbeat(
    cx: &RequestContext,
    request: &ShareGroupHeartbeatRequest,
    session_timeout_ms: i32,
) -> Answer<ShareBeat> {
    let legal = |text: &str| !text.trim().is_empty() && text.len() <= MAX_STRING_BYTES;
    let topics = request.subscribed_topic_names.as_ref();
    let joins = request.member_epoch == JOIN_EPOCH;
    if !legal(&request.group_id)
        || !legal(&request.member_id)
        || request.member_epoch < LEAVE_EPOCH
        || (joins && topics.is_none_or(Vec::is_empty))
        || request.rack_id.as_ref().is_some_and(|rack| rack.is_empty())
    {
        return Err(ErrorCode::InvalidRequest);
    }
    let group = group_id(&request.group_id)?;
    let coordinator = cx.broker.groups.of(&group)?;
    let topics = topics.map(|topics| topics.iter().map(|topic| topic.to_string()).collect());
    let beat = ShareHeartbeat {
        member_id: Arc::from(&*request.member_id),
        member_epoch: request.member_epoch,
        rack_id: request.rack_id.as_deref().map(str::to_owned),
        client_id: cx.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", cx.peer_addr.ip().to_canonical()),
        topics,
        session_timeout_ms: session_timeout_ms.into(),
        max_size: cx.broker.config.group_share_max_size,
    };
    let image = cx.broker.image();
    coordinator
        .ask(|reply| Request::ShareHeartbeat {
            group,
            beat,
            image,
            reply,
        })
        .await
}

/// Describes share groups with their members.
pub(crate) async fn describe(
    cx: RequestContext,
    request: ShareGroupDescribeRequest,
) -> ShareGroupDescribeResponse {
    let operations = if request.include_authorized_operations {
        GROUP_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    let image = cx.broker.image();
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for id in &request.group_ids {
        let described = DescribedGroup::default()
            .with_group_id(GroupId(text(id)))
            .with_authorized_operations(operations);
        groups.push(match find(&cx, id).await {
            Ok(group) => filled(described, &group, &image),
            Err(error) => {
                let message = match error {
                    ErrorCode::GroupIdNotFound => format!("Group {} not found.", **id),
                    error => error.message().to_owned(),
                };
                described
                    .with_error_code(error.code())
                    .with_error_message(Some(text(&message)))
            }
        });
    }
    ShareGroupDescribeResponse::default().with_groups(groups)
}

/// Returns a share group.
///
/// # Errors
/// GROUP_ID_NOT_FOUND when there is none, or it is another kind of group.
pub(super) async fn find(cx: &RequestContext, id: &str) -> Answer<ShareGroup> {
    let group = group_id(id)?;
    let coordinator = cx.broker.groups.of(id)?;
    let found = coordinator.ask(|reply| Request::DescribeShare { group, reply });
    found.await?.ok_or(ErrorCode::GroupIdNotFound)
}

fn filled(described: DescribedGroup, group: &ShareGroup, image: &MetadataImage) -> DescribedGroup {
    let members = group.members();
    let members = members.map(|(id, member)| described_member(id, member, image));
    described
        .with_group_state(text(group.state()))
        .with_group_epoch(group.epoch())
        .with_assignment_epoch(group.assignment_epoch())
        .with_assignor_name(text("simple"))
        .with_members(members.collect())
}

fn described_member(id: &str, member: &ShareMember, image: &MetadataImage) -> Member {
    let topics = member.value.topics.iter().map(|topic| topic_name(topic));
    Member::default()
        .with_member_id(text(id))
        .with_rack_id(member.value.rack_id.as_deref().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&member.value.client_id))
        .with_client_host(text(&member.value.client_host))
        .with_subscribed_topic_names(topics.collect())
        .with_assignment(described_assignment(&member.assigned, image))
}

fn described_assignment(partitions: &Partitions, image: &MetadataImage) -> DescribedAssignment {
    let topics = partitions.iter().filter_map(|(topic_id, partitions)| {
        let topic = image.topic_by_id(*topic_id)?;
        Some(
            DescribedPartitions::default()
                .with_topic_id(*topic_id)
                .with_topic_name(topic_name(&topic.name))
                .with_partitions(partitions.iter().copied().collect()),
        )
    });
    DescribedAssignment::default().with_topic_partitions(topics.collect())
}
