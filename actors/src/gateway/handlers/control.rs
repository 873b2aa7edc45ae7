//! LeaderAndIsr, StopReplica, UpdateMetadata and ControlledShutdown: what a controller orders, and what a broker asks of it.
//!
//! Any broker, and any controller, may be Kafka's. Nothing keeps clients from sending these: nobody is authorized yet.

use troupe_protocol::kafka::legacy_messages::StrBytes;
use troupe_protocol::kafka::legacy_messages::controlled_shutdown_response::RemainingPartition;
use troupe_protocol::kafka::legacy_messages::{
    ControlledShutdownRequest, ControlledShutdownResponse, LeaderAndIsrRequest,
    LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse, TopicName,
    UpdateMetadataRequest, UpdateMetadataResponse,
};

use crate::gateway::request::RequestContext;
use crate::replica_manager::orders::{NO_BROKER_EPOCH, Order};
use crate::replica_manager::wire;

/// First version of ControlledShutdown with the epoch of the broker.
const SHUTDOWN_WITH_EPOCH: i16 = 2;

/// Has replicas of this broker lead or follow.
pub(crate) async fn leader_and_isr(
    cx: RequestContext,
    request: LeaderAndIsrRequest,
) -> LeaderAndIsrResponse {
    let order = Order::LeaderAndIsr(wire::read_leader_and_isr(&request));
    let outcome = cx.broker.replicas.carry_out(order).await;
    wire::answer_leader_and_isr(&request, &outcome, cx.version)
}

/// Has replicas of this broker stop.
pub(crate) async fn stop_replica(
    cx: RequestContext,
    request: StopReplicaRequest,
) -> StopReplicaResponse {
    let order = Order::StopReplica(wire::read_stop_replica(&request));
    wire::answer_stop_replica(&cx.broker.replicas.carry_out(order).await)
}

/// Tells this broker what the cluster is.
pub(crate) async fn update_metadata(
    cx: RequestContext,
    request: UpdateMetadataRequest,
) -> UpdateMetadataResponse {
    let order = Order::UpdateMetadata(wire::read_update_metadata(&request, cx.version));
    let outcome = cx.broker.replicas.carry_out(order).await;
    UpdateMetadataResponse::default().with_error_code(outcome.error.code())
}

/// Moves what a broker leads to others, before it stops.
pub(crate) async fn controlled_shutdown(
    cx: RequestContext,
    request: ControlledShutdownRequest,
) -> ControlledShutdownResponse {
    let epoch = if cx.version >= SHUTDOWN_WITH_EPOCH {
        request.broker_epoch
    } else {
        NO_BROKER_EPOCH
    };
    let moved = cx
        .broker
        .controller
        .controlled_shutdown(request.broker_id.0, epoch)
        .await;
    match moved {
        Ok(remaining) => {
            let remaining = remaining.iter().map(|partition| {
                RemainingPartition::default()
                    .with_topic_name(TopicName(StrBytes::from_string(
                        partition.topic.to_string(),
                    )))
                    .with_partition_index(partition.partition)
            });
            ControlledShutdownResponse::default().with_remaining_partitions(remaining.collect())
        }
        Err(error) => ControlledShutdownResponse::default().with_error_code(error.code.code()),
    }
}
