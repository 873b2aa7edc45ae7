//! ShareAcknowledge: says what became of records.

use std::collections::BTreeMap;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::share_acknowledge_response::{
    PartitionData, ShareAcknowledgeTopicResponse,
};
use troupe_protocol::kafka::messages::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use uuid::Uuid;

use super::{
    Acknowledgements, LeaderHints, acknowledge, read_acknowledgements, release, session_key,
};
use crate::gateway::handlers::common::text;
use crate::gateway::request::RequestContext;
use crate::partition::Answer;
use crate::share::sessions::{FINAL_EPOCH, INITIAL_EPOCH, TopicIdPartition};

/// Takes acknowledgements; with the final epoch the session ends after them.
pub(crate) async fn handle(
    cx: RequestContext,
    request: ShareAcknowledgeRequest,
) -> ShareAcknowledgeResponse {
    match try_handle(&cx, &request).await {
        Ok(outcomes) => respond(&cx, outcomes),
        Err(error) => ShareAcknowledgeResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(error.message()))),
    }
}

async fn try_handle(
    cx: &RequestContext,
    request: &ShareAcknowledgeRequest,
) -> Answer<BTreeMap<TopicIdPartition, ErrorCode>> {
    let session = session_key(request.group_id.as_ref(), request.member_id.as_ref())?;
    let sessions = cx.broker.share.sessions();
    let ended = match request.share_session_epoch {
        INITIAL_EPOCH => return Err(ErrorCode::InvalidShareSessionEpoch),
        FINAL_EPOCH => sessions.lock().close(&session)?,
        epoch => {
            sessions.lock().advance(&session, epoch)?;
            Vec::new()
        }
    };
    let outcomes = acknowledge(cx, &session, acknowledgements(request)).await;
    release(cx, &session, ended).await;
    Ok(outcomes)
}

fn acknowledgements(request: &ShareAcknowledgeRequest) -> Acknowledgements {
    let partitions = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| ((topic.topic_id, partition.partition_index), partition))
    });
    partitions
        .map(|(at, partition)| {
            let batches = partition.acknowledgement_batches.iter();
            let batches = batches.map(|batch| {
                (
                    batch.first_offset,
                    batch.last_offset,
                    &batch.acknowledge_types[..],
                )
            });
            (at, read_acknowledgements(batches))
        })
        .collect()
}

fn respond(
    cx: &RequestContext,
    outcomes: BTreeMap<TopicIdPartition, ErrorCode>,
) -> ShareAcknowledgeResponse {
    let mut topics: BTreeMap<Uuid, Vec<PartitionData>> = BTreeMap::new();
    let mut hints = LeaderHints::new(cx);
    for (at, error) in outcomes {
        let mut answer = PartitionData::default()
            .with_partition_index(at.1)
            .with_error_code(error.code());
        if error.is_error() {
            answer.error_message = Some(text(error.message()));
        }
        if let Some(leader) = hints.leader(at, error) {
            answer.current_leader = leader;
        }
        topics.entry(at.0).or_default().push(answer);
    }
    let responses = topics.into_iter().map(|(topic_id, partitions)| {
        ShareAcknowledgeTopicResponse::default()
            .with_topic_id(topic_id)
            .with_partitions(partitions)
    });
    ShareAcknowledgeResponse::default()
        .with_responses(responses.collect())
        .with_node_endpoints(hints.endpoints())
}
