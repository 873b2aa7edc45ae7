//! ListGroups, DescribeGroups, DeleteGroups and OffsetDelete: groups as tools see them.

use std::sync::Arc;

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::delete_groups_response::DeletableGroupResult;
use troupe_protocol::kafka::messages::describe_groups_response::{
    DescribedGroup, DescribedGroupMember,
};
use troupe_protocol::kafka::messages::list_groups_response::ListedGroup;
use troupe_protocol::kafka::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use troupe_protocol::kafka::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, ListGroupsRequest, ListGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};

use super::common::{GROUP_OPERATIONS, OPERATIONS_NOT_ASKED, text};
use crate::gateway::request::RequestContext;
use crate::groups::group::{GroupDescription, MemberDescription};
use crate::groups::offsets::TopicPartition;
use crate::groups::requests::Request;
use crate::partition::Answer;

/// First version of DescribeGroups that says so when there is no such group.
const FIRST_WITH_NOT_FOUND: i16 = 6;

/// Lists the groups that this broker coordinates, in all states and of all types or in some.
pub(crate) async fn list(cx: RequestContext, request: ListGroupsRequest) -> ListGroupsResponse {
    let types = &request.types_filter;
    let states = &request.states_filter;
    let mut response = ListGroupsResponse::default();
    for coordinator in cx.broker.groups.all() {
        match coordinator.ask(|reply| Request::List { reply }).await {
            Ok(groups) => response.groups.extend(
                groups
                    .iter()
                    .filter(|(_, group)| {
                        is_one_of(states, group.state) && is_one_of(types, group.kind)
                    })
                    .map(|(id, group)| listed(id, group)),
            ),
            Err(error) => response.error_code = error.code(),
        }
    }
    response
}

/// Tells whether a filter lets something pass; one without entries does.
fn is_one_of(filter: &[StrBytes], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|entry| entry.eq_ignore_ascii_case(value))
}

fn listed(id: &str, group: &GroupDescription) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(GroupId(text(id)))
        .with_protocol_type(text(&group.protocol_type))
        .with_group_state(text(group.state))
        .with_group_type(text(group.kind))
}

/// Describes groups with their members.
pub(crate) async fn describe(
    cx: RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let operations = if request.include_authorized_operations {
        GROUP_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    let mut groups = Vec::with_capacity(request.groups.len());
    for id in &request.groups {
        let found = find(&cx, id).await;
        groups.push(described(&cx, id, found).with_authorized_operations(operations));
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

async fn find(cx: &RequestContext, id: &str) -> Answer<Option<GroupDescription>> {
    let group = Arc::from(id);
    let coordinator = cx.broker.groups.of(id)?;
    coordinator
        .ask(|reply| Request::Describe { group, reply })
        .await
}

fn described(
    cx: &RequestContext,
    id: &GroupId,
    found: Answer<Option<GroupDescription>>,
) -> DescribedGroup {
    let answer = DescribedGroup::default().with_group_id(GroupId(text(id)));
    match found {
        Ok(Some(group)) => answer
            .with_group_state(text(group.state))
            .with_protocol_type(text(&group.protocol_type))
            .with_protocol_data(text(&group.protocol))
            .with_members(group.members.iter().map(described_member).collect()),
        Ok(None) if cx.version >= FIRST_WITH_NOT_FOUND => answer
            .with_group_state(text("Dead"))
            .with_error_code(ErrorCode::GroupIdNotFound.code())
            .with_error_message(Some(text(&format!("Group {} not found.", **id)))),
        Ok(None) => answer.with_group_state(text("Dead")),
        Err(error) => answer
            .with_error_code(error.code())
            .with_error_message(Some(text(error.message()))),
    }
}

fn described_member(member: &MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(&member.id))
        .with_group_instance_id(member.instance_id.as_deref().map(text))
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host))
        .with_member_metadata(member.metadata.clone())
        .with_member_assignment(member.assignment.clone())
}

/// Deletes groups without members, with their offsets.
pub(crate) async fn delete(
    cx: RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for id in &request.groups_names {
        let error = delete_one(&cx, id).await.err().unwrap_or(ErrorCode::None);
        results.push(
            DeletableGroupResult::default()
                .with_group_id(GroupId(text(id)))
                .with_error_code(error.code()),
        );
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete_one(cx: &RequestContext, id: &str) -> Answer<()> {
    let group = Arc::from(id);
    let coordinator = cx.broker.groups.of(id)?;
    let states = Arc::clone(&group);
    coordinator
        .ask(|reply| Request::DeleteGroup { group, reply })
        .await?;
    // Those of a share group.
    cx.broker.share.delete(&states, None).await
}

/// Deletes offsets of a group (KIP-496).
pub(crate) async fn delete_offsets(
    cx: RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let image = cx.broker.image();
    let exists = |topic: &str, index| image.partition(topic, index).is_some();
    let partitions: Vec<TopicPartition> = request
        .topics
        .iter()
        .flat_map(|topic| {
            let name: Arc<str> = Arc::from(&**topic.name);
            let indexes = topic.partitions.iter().map(|p| p.partition_index);
            indexes.map(move |index| (Arc::clone(&name), index))
        })
        .collect();
    let known: Vec<TopicPartition> = partitions
        .iter()
        .filter(|(topic, index)| exists(topic, *index))
        .cloned()
        .collect();
    let deleted = match try_delete_offsets(&cx, &request.group_id, known.clone()).await {
        Ok(deleted) => deleted,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let mut deleted = deleted.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let answers = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let outcome = if exists(&topic.name, index) {
                deleted.next().unwrap_or(Ok(()))
            } else {
                Err(ErrorCode::UnknownTopicOrPartition)
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(outcome.err().unwrap_or(ErrorCode::None).code())
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(answers.collect())
    });
    let topics = topics.collect();
    OffsetDeleteResponse::default().with_topics(topics)
}

async fn try_delete_offsets(
    cx: &RequestContext,
    id: &str,
    partitions: Vec<TopicPartition>,
) -> Answer<Vec<Answer<()>>> {
    let group = Arc::from(id);
    let coordinator = cx.broker.groups.of(id)?;
    coordinator
        .ask(|reply| Request::DeleteOffsets {
            group,
            partitions,
            reply,
        })
        .await
}
