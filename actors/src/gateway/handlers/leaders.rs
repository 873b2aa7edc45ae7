//! Hints to the current leader for clients that asked the wrong broker (KIP-951).

use std::collections::BTreeSet;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::produce::{LeaderIdAndEpoch, NodeEndpoint};

use super::common::reachable_brokers;
use crate::gateway::request::RequestContext;
use crate::metadata::{MetadataImage, PartitionImage};
use crate::partition::{Answer, PartitionHandle};

/// Names who leads a partition, as the metadata says.
pub(crate) fn current_leader(partition: &PartitionImage) -> LeaderIdAndEpoch {
    LeaderIdAndEpoch {
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
    }
}

/// Lists where leaders are reached on the listener of the request, each once.
pub(crate) fn endpoints(
    cx: &RequestContext,
    image: &MetadataImage,
    leaders: impl Iterator<Item = LeaderIdAndEpoch>,
) -> Vec<NodeEndpoint> {
    let ids: BTreeSet<i32> = leaders.map(|leader| leader.leader_id).collect();
    if ids.is_empty() {
        return Vec::new();
    }
    reachable_brokers(cx, image)
        .filter(|(broker, ..)| ids.contains(&broker.id))
        .map(|(broker, host, port)| NodeEndpoint {
            node_id: broker.id,
            host: host.to_string(),
            port,
            rack: broker.rack.clone(),
        })
        .collect()
}

/// Returns a partition that this broker leads.
///
/// # Errors
/// UNKNOWN_TOPIC_OR_PARTITION, and NOT_LEADER_OR_FOLLOWER when another broker leads it, or none.
pub(crate) fn led_here(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &str,
    index: i32,
) -> Answer<PartitionHandle> {
    let partition = image
        .partition(topic, index)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let local = partition
        .local
        .as_ref()
        .filter(|_| partition.leader == cx.broker.broker_id);
    local.cloned().ok_or(ErrorCode::NotLeaderOrFollower)
}
