//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: the life of a member of a classic group.

use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::join_group_response::JoinGroupResponseMember;
use troupe_protocol::kafka::messages::leave_group_response::MemberResponse;
use troupe_protocol::kafka::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use uuid::Uuid;

use super::common::text;
use crate::gateway::request::RequestContext;
use crate::groups::group::{Joined, Synced};
use crate::groups::join::JoinRequest;
use crate::groups::member::Protocol;
use crate::groups::requests::{MemberRef, Request};
use crate::groups::session::SyncRequest;
use crate::partition::Answer;

/// Longest string that fits into a stored record.
pub(super) const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// First version of JoinGroup with a rebalance timeout of its own.
const FIRST_WITH_REBALANCE_TIMEOUT: i16 = 1;
/// First version of JoinGroup whose clients come again with the id they are given (KIP-394).
const FIRST_WITH_REQUIRED_ID: i16 = 4;
/// First version of JoinGroup whose answer may lack a protocol.
const FIRST_WITH_NULLABLE_PROTOCOL: i16 = 7;
/// First version of JoinGroup whose clients know of `skip_assignment` (KIP-814).
const FIRST_WITH_SKIP_ASSIGNMENT: i16 = 9;
/// First version of SyncGroup that names the protocol.
const FIRST_SYNC_WITH_PROTOCOL: i16 = 5;
/// First version of LeaveGroup for several members.
const FIRST_LEAVE_OF_MANY: i16 = 3;

/// Checks the id of a group, and copies it: the request's memory is not kept.
///
/// # Errors
/// INVALID_GROUP_ID when it is empty or does not fit into a record.
pub(super) fn group_id(id: &str) -> Answer<Arc<str>> {
    if id.is_empty() || id.len() > MAX_STRING_BYTES {
        return Err(ErrorCode::InvalidGroupId);
    }
    Ok(id.into())
}

pub(super) fn copied(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(|text| Arc::from(&**text))
}

/// Returns where a client is, as it is stored.
pub(super) fn client_host(cx: &RequestContext) -> Arc<str> {
    format!("/{}", cx.peer_addr.ip().to_canonical()).into()
}

pub(super) fn member_ref(member_id: &str, instance_id: Option<&StrBytes>) -> MemberRef {
    MemberRef {
        member_id: member_id.into(),
        instance_id: copied(instance_id),
    }
}

/// Lets a member join; answers when the join phase has ended.
pub(crate) async fn join(cx: RequestContext, request: JoinGroupRequest) -> JoinGroupResponse {
    let joined = try_join(&cx, &request).await;
    let joined =
        joined.unwrap_or_else(|error| Joined::error(Arc::from(&*request.member_id), error));
    let protocol = match &joined.protocol {
        Some(protocol) => Some(text(protocol)),
        None if cx.version >= FIRST_WITH_NULLABLE_PROTOCOL => None,
        None => Some(StrBytes::new()),
    };
    let members = joined.members.iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_metadata(member.metadata.clone())
    });
    JoinGroupResponse::default()
        .with_error_code(joined.error.code())
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.as_deref().map(text))
        .with_protocol_name(protocol)
        .with_leader(text(&joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect())
}

async fn try_join(cx: &RequestContext, request: &JoinGroupRequest) -> Answer<Joined> {
    let group = group_id(&request.group_id)?;
    let config = cx.broker.groups.config();
    let session_timeouts = config.min_session_timeout_ms..=config.max_session_timeout_ms;
    if !session_timeouts.contains(&request.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let join = join_request(cx, request)?;
    let coordinator = cx.broker.groups.of(&group)?;
    coordinator
        .ask(|reply| Request::Join { group, join, reply })
        .await
}

fn join_request(cx: &RequestContext, request: &JoinGroupRequest) -> Answer<JoinRequest> {
    let instance_id = request.group_instance_id.as_ref();
    let names = request.protocols.iter().map(|offered| &offered.name);
    let mut stored = names.chain(instance_id).chain([&request.protocol_type]);
    if stored.any(|text| text.len() > MAX_STRING_BYTES) {
        return Err(ErrorCode::InvalidRequest);
    }
    let client_id = cx.client_id.as_deref().unwrap_or_default();
    let called = instance_id.map_or(client_id, |instance| instance);
    let rebalance_timeout_ms = if cx.version >= FIRST_WITH_REBALANCE_TIMEOUT {
        request.rebalance_timeout_ms
    } else {
        request.session_timeout_ms
    };
    let protocols = request.protocols.iter().map(|offered| Protocol {
        name: Arc::from(&*offered.name),
        metadata: Bytes::copy_from_slice(&offered.metadata),
    });
    Ok(JoinRequest {
        member_id: Arc::from(&*request.member_id),
        fresh_member_id: format!("{called}-{}", Uuid::new_v4()).into(),
        instance_id: copied(instance_id),
        client_id: client_id.into(),
        client_host: client_host(cx),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: Arc::from(&*request.protocol_type),
        protocols: protocols.collect(),
        member_id_required: cx.version >= FIRST_WITH_REQUIRED_ID,
        can_skip_assignment: cx.version >= FIRST_WITH_SKIP_ASSIGNMENT,
    })
}

/// Gives a member its assignment; answers when the leader has assigned.
pub(crate) async fn sync(cx: RequestContext, request: SyncGroupRequest) -> SyncGroupResponse {
    let synced = try_sync(&cx, &request).await.unwrap_or_else(Synced::error);
    SyncGroupResponse::default()
        .with_error_code(synced.error.code())
        .with_protocol_type(synced.protocol_type.as_deref().map(text))
        .with_protocol_name(synced.protocol.as_deref().map(text))
        .with_assignment(synced.assignment)
}

async fn try_sync(cx: &RequestContext, request: &SyncGroupRequest) -> Answer<Synced> {
    let group = group_id(&request.group_id)?;
    let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
    if cx.version >= FIRST_SYNC_WITH_PROTOCOL && unnamed {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let assignment = request.assignments.iter().map(|assigned| {
        let member = Arc::from(&*assigned.member_id);
        (member, Bytes::copy_from_slice(&assigned.assignment))
    });
    let sync = SyncRequest {
        member_id: Arc::from(&*request.member_id),
        instance_id: copied(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: copied(request.protocol_type.as_ref()),
        protocol: copied(request.protocol_name.as_ref()),
        assignment: assignment.collect(),
    };
    let coordinator = cx.broker.groups.of(&group)?;
    coordinator
        .ask(|reply| Request::Sync { group, sync, reply })
        .await
}

/// Keeps a member alive.
pub(crate) async fn heartbeat(cx: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse {
    let error = try_heartbeat(&cx, &request).await.err();
    HeartbeatResponse::default().with_error_code(error.unwrap_or(ErrorCode::None).code())
}

async fn try_heartbeat(cx: &RequestContext, request: &HeartbeatRequest) -> Answer<()> {
    let group = group_id(&request.group_id)?;
    let coordinator = cx.broker.groups.of(&group)?;
    let member = member_ref(&request.member_id, request.group_instance_id.as_ref());
    let generation = request.generation_id;
    coordinator
        .ask(|reply| Request::Heartbeat {
            group,
            member,
            generation,
            reply,
        })
        .await
}

/// Lets members go: the one that asks, or a list of them.
pub(crate) async fn leave(cx: RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let members: Vec<MemberRef> = if cx.version >= FIRST_LEAVE_OF_MANY {
        let members = request.members.iter();
        members
            .map(|member| member_ref(&member.member_id, member.group_instance_id.as_ref()))
            .collect()
    } else {
        vec![member_ref(&request.member_id, None)]
    };
    let left = match try_leave(&cx, &request.group_id, members.clone()).await {
        Ok(left) => left,
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    let codes = left
        .iter()
        .map(|left| left.err().unwrap_or(ErrorCode::None).code());
    if cx.version < FIRST_LEAVE_OF_MANY {
        let code = codes.max().unwrap_or_default();
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let members = members.iter().zip(codes).map(|(member, code)| {
        MemberResponse::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_error_code(code)
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

async fn try_leave(
    cx: &RequestContext,
    group: &str,
    members: Vec<MemberRef>,
) -> Answer<Vec<Answer<()>>> {
    let group = group_id(group)?;
    let coordinator = cx.broker.groups.of(&group)?;
    coordinator
        .ask(|reply| Request::Leave {
            group,
            members,
            reply,
        })
        .await
}
