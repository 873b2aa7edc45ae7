//! ElectLeaders: preferred leaders, and leaders that are not in sync (KIP-183, KIP-460).

use std::collections::BTreeMap;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::elect_leaders_response::{
    PartitionResult, ReplicaElectionResult,
};
use troupe_protocol::kafka::messages::{ElectLeadersRequest, ElectLeadersResponse};

use super::common::{patience, text, topic_name};
use crate::controller::ElectionKind;
use crate::gateway::request::RequestContext;
use crate::partition::TopicPartition;

/// First version with an error of the whole request, and with kinds of elections.
const FIRST_WITH_ERROR: i16 = 1;

/// Elects leaders on demand.
pub(crate) async fn elect_leaders(
    cx: RequestContext,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let asked = request.topic_partitions.as_ref().map(|topics| {
        let named = topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|&partition| TopicPartition::new(topic.topic.as_str(), partition))
        });
        named.collect::<Vec<_>>()
    });
    let outcomes = match kind_of(request.election_type) {
        Some(kind) => {
            let patience = patience(request.timeout_ms);
            let controller = &cx.broker.controller;
            let elected = controller.elect_leaders(kind, asked.clone(), patience);
            elected.await.map_err(|error| error.code)
        }
        None => Err(ErrorCode::InvalidRequest),
    };
    let mut response = ElectLeadersResponse::default();
    let mut outcomes = outcomes.unwrap_or_else(|code| {
        if cx.version >= FIRST_WITH_ERROR {
            response.error_code = code.code();
        }
        let asked = asked.iter().flatten().cloned();
        asked.map(|partition| (partition, Err(code))).collect()
    });
    if asked.is_none() {
        // Of all partitions only those are named with which something happened.
        outcomes.retain(|_, outcome| *outcome != Err(ErrorCode::ElectionNotNeeded));
    }
    response.with_replica_election_results(results(outcomes))
}

fn kind_of(code: i8) -> Option<ElectionKind> {
    match code {
        0 => Some(ElectionKind::Preferred),
        1 => Some(ElectionKind::Unclean),
        _ => None,
    }
}

fn results(
    outcomes: BTreeMap<TopicPartition, Result<(), ErrorCode>>,
) -> Vec<ReplicaElectionResult> {
    let mut topics = BTreeMap::<_, Vec<PartitionResult>>::new();
    for (partition, outcome) in outcomes {
        let mut result = PartitionResult::default().with_partition_id(partition.partition);
        if let Err(code) = outcome {
            result.error_code = code.code();
            result.error_message = Some(text(code.message()));
        }
        topics.entry(partition.topic).or_default().push(result);
    }
    let results = topics.into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default()
            .with_topic(topic_name(&topic))
            .with_partition_result(partitions)
    });
    results.collect()
}
