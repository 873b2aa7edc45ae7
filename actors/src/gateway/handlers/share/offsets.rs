//! DescribeShareGroupOffsets, AlterShareGroupOffsets and DeleteShareGroupOffsets: where share groups are (KIP-932).
//!
//! Only states that are kept on this broker are found.

use std::collections::BTreeMap;
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use troupe_protocol::kafka::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use troupe_protocol::kafka::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use troupe_protocol::kafka::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use troupe_protocol::kafka::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse, DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsResponse, GroupId,
};
use uuid::Uuid;

use super::membership::find;
use crate::gateway::handlers::common::{text, topic_name};
use crate::gateway::handlers::find_coordinator::ensure_share_topic;
use crate::gateway::request::RequestContext;
use crate::metadata::MetadataImage;
use crate::partition::Answer;
use crate::share::ShareKey;
use crate::share::stored::Stored;

/// The start offset and leader epoch of a partition that the group never read.
const NEVER_READ: (i64, i32) = (-1, 0);

type States = BTreeMap<(Uuid, i32), Stored>;

/// Tells the start offsets of groups: of the partitions asked for, or of all that they have read.
pub(crate) async fn describe(
    cx: RequestContext,
    request: DescribeShareGroupOffsetsRequest,
) -> DescribeShareGroupOffsetsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for asked in &request.groups {
        let group = DescribeShareGroupOffsetsResponseGroup::default()
            .with_group_id(GroupId(text(&asked.group_id)));
        groups.push(match states(&cx, &asked.group_id).await {
            Ok(states) => group.with_topics(topics(asked, &states, &cx.broker.image())),
            Err(error) => group
                .with_error_code(error.code())
                .with_error_message(Some(text(error.message()))),
        });
    }
    DescribeShareGroupOffsetsResponse::default().with_groups(groups)
}

async fn states(cx: &RequestContext, id: &str) -> Answer<States> {
    find(cx, id).await?;
    let states = cx.broker.share.states(&Arc::from(id)).await?;
    let states = states.into_iter();
    Ok(states
        .map(|(key, stored)| ((key.topic_id, key.partition), stored))
        .collect())
}

fn topics(
    asked: &DescribeShareGroupOffsetsRequestGroup,
    states: &States,
    image: &MetadataImage,
) -> Vec<DescribeShareGroupOffsetsResponseTopic> {
    let wanted: Vec<(String, Vec<i32>)> = match &asked.topics {
        Some(topics) => {
            let topics = topics.iter();
            topics
                .map(|topic| (topic.topic_name.to_string(), topic.partitions.clone()))
                .collect()
        }
        None => {
            let mut all: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            for (topic_id, partition) in states.keys() {
                if let Some(topic) = image.topic_by_id(*topic_id) {
                    all.entry(topic.name.to_string())
                        .or_default()
                        .push(*partition);
                }
            }
            all.into_iter().collect()
        }
    };
    let described = wanted.into_iter().map(|(name, partitions)| {
        let topic_id = image.topic(&name).map_or(Uuid::nil(), |topic| topic.id);
        let partitions = partitions.into_iter().map(|index| {
            let stored = states.get(&(topic_id, index));
            let (start_offset, leader_epoch) = stored.map_or(NEVER_READ, |stored| {
                (stored.start_offset, stored.leader_epoch)
            });
            DescribeShareGroupOffsetsResponsePartition::default()
                .with_partition_index(index)
                .with_start_offset(start_offset)
                .with_leader_epoch(leader_epoch)
        });
        DescribeShareGroupOffsetsResponseTopic::default()
            .with_topic_name(topic_name(&name))
            .with_topic_id(topic_id)
            .with_partitions(partitions.collect())
    });
    described.collect()
}

/// Checks that a group exists and has no members.
async fn check_empty(cx: &RequestContext, id: &str) -> Answer<()> {
    match find(cx, id).await?.state() {
        "Empty" => Ok(()),
        "Dead" => Err(ErrorCode::GroupIdNotFound),
        _ => Err(ErrorCode::NonEmptyGroup),
    }
}

/// Sets where a group without members goes on.
pub(crate) async fn alter(
    cx: RequestContext,
    request: AlterShareGroupOffsetsRequest,
) -> AlterShareGroupOffsetsResponse {
    let checked = match check_empty(&cx, &request.group_id).await {
        Ok(()) => ensure_share_topic(&cx).await,
        Err(error) => Err(error),
    };
    if let Err(error) = checked {
        return AlterShareGroupOffsetsResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(error.message())));
    }
    let group: Arc<str> = Arc::from(&**request.group_id);
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let known = cx
            .broker
            .image()
            .topic(&topic.topic_name)
            .map(|topic| topic.id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let key = known.map(|topic_id| ShareKey {
                group: Arc::clone(&group),
                topic_id,
                partition: partition.partition_index,
            });
            let outcome = alter_one(&cx, key, partition.start_offset).await;
            let error = outcome.err();
            partitions.push(
                AlterShareGroupOffsetsResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(error.unwrap_or(ErrorCode::None).code())
                    .with_error_message(error.map(|error| text(error.message()))),
            );
        }
        responses.push(
            AlterShareGroupOffsetsResponseTopic::default()
                .with_topic_name(topic.topic_name.clone())
                .with_topic_id(known.unwrap_or_default())
                .with_partitions(partitions),
        );
    }
    AlterShareGroupOffsetsResponse::default().with_responses(responses)
}

async fn alter_one(cx: &RequestContext, key: Option<ShareKey>, start_offset: i64) -> Answer<()> {
    let key = key.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if start_offset < 0 {
        return Err(ErrorCode::InvalidRequest);
    }
    cx.broker.share.set_start_offset(key, start_offset).await
}

/// Forgets what a group without members has read of topics.
pub(crate) async fn delete(
    cx: RequestContext,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    if let Err(error) = check_empty(&cx, &request.group_id).await {
        return DeleteShareGroupOffsetsResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(error.message())));
    }
    let group: Arc<str> = Arc::from(&**request.group_id);
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let known = cx
            .broker
            .image()
            .topic(&topic.topic_name)
            .map(|topic| topic.id);
        let outcome = match known {
            Some(topic_id) => cx.broker.share.delete(&group, Some(topic_id)).await,
            None => Err(ErrorCode::UnknownTopicOrPartition),
        };
        let error = outcome.err();
        responses.push(
            DeleteShareGroupOffsetsResponseTopic::default()
                .with_topic_name(topic.topic_name.clone())
                .with_topic_id(known.unwrap_or_default())
                .with_error_code(error.unwrap_or(ErrorCode::None).code())
                .with_error_message(error.map(|error| text(error.message()))),
        );
    }
    DeleteShareGroupOffsetsResponse::default().with_responses(responses)
}
