//! `abort`: ends a transaction that its coordinator has forgotten.

use std::fmt;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use troupe_protocol::kafka::messages::{ProducerId, WriteTxnMarkersRequest};

use super::super::client::{AdminClient, ClientError, topic_name};
use super::flags::AbortFlags;
use super::queries::{self, Partition, QueryError};
use super::{TransactionError, failed};

/// What is aborted.
struct Spec {
    partition: Partition,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            producer_id,
            producer_epoch,
            coordinator_epoch,
        } = self;
        write!(
            f,
            "AbortTransactionSpec(topicPartition={partition}, producerId={producer_id}, \
             producerEpoch={producer_epoch}, coordinatorEpoch={coordinator_epoch})"
        )
    }
}

/// Refuses flags that do not identify a transaction.
pub(super) fn check(flags: &AbortFlags) -> Result<(), TransactionError> {
    let usage = |text: &str| Err(TransactionError::Usage(text.to_owned()));
    match flags {
        AbortFlags {
            start_offset: Some(_),
            ..
        } => Ok(()),
        AbortFlags {
            producer_id: None, ..
        } => usage(
            "The transaction to abort must be identified either with --start-offset (for brokers on 3.0 or above) or \
             with --producer-id, --producer-epoch, and --coordinator-epoch (for older brokers)",
        ),
        AbortFlags {
            producer_epoch: None,
            ..
        } => usage("Missing required argument --producer-epoch"),
        AbortFlags {
            coordinator_epoch: None,
            ..
        } => usage("Missing required argument --coordinator-epoch"),
        _ => Ok(()),
    }
}

pub(super) async fn abort(
    client: &mut AdminClient,
    flags: &AbortFlags,
) -> Result<(), TransactionError> {
    let spec = match flags.start_offset {
        Some(start_offset) => find(client, flags, start_offset).await?,
        None => Spec {
            partition: Partition::new(&flags.topic, flags.partition),
            producer_id: flags.producer_id.unwrap_or(-1),
            producer_epoch: flags.producer_epoch.unwrap_or(-1),
            coordinator_epoch: flags.coordinator_epoch.unwrap_or(0).max(0),
        },
    };
    let written = write_marker(client, &spec).await;
    written.map_err(failed(format!("Failed to abort transaction {spec}")))
}

/// Finds the transaction that starts at an offset.
async fn find(
    client: &mut AdminClient,
    flags: &AbortFlags,
    start_offset: i64,
) -> Result<Spec, TransactionError> {
    let partition = Partition::new(&flags.topic, flags.partition);
    let producers = queries::producers(client, &partition, None).await;
    let what = format!("Failed to validate producer state for partition {partition}");
    let producers = producers.map_err(failed(what))?;
    let found = producers
        .iter()
        .find(|producer| start_offset >= 0 && producer.current_txn_start_offset == start_offset);
    let Some(found) = found else {
        return Err(TransactionError::Usage(format!(
            "Could not find any open transactions starting at offset {start_offset} on partition {partition}"
        )));
    };
    Ok(Spec {
        partition,
        producer_id: found.producer_id.0,
        producer_epoch: i16::try_from(found.producer_epoch).unwrap_or(i16::MAX),
        // A transaction that hangs before the first marker of its producer has -1: no coordinator is older than 0.
        coordinator_epoch: found.coordinator_epoch.max(0),
    })
}

async fn write_marker(client: &mut AdminClient, spec: &Spec) -> Result<(), QueryError> {
    let topic = WritableTxnMarkerTopic::default()
        .with_name(topic_name(spec.partition.topic.clone()))
        .with_partition_indexes(vec![spec.partition.index]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(spec.producer_id))
        .with_producer_epoch(spec.producer_epoch)
        .with_coordinator_epoch(spec.coordinator_epoch)
        .with_transaction_result(false)
        .with_topics(vec![topic]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let leader = queries::leader(client, &spec.partition).await?;
    let response = leader.call(request).await?;
    let topics = response.markers.iter().flat_map(|marker| &marker.topics);
    let answer = topics.flat_map(|topic| &topic.partitions).next();
    let code = answer.map_or(ErrorCode::UnknownServerError.code(), |one| one.error_code);
    let told = |why: String| {
        let text = format!("WriteTxnMarkers request with {spec} failed {why}");
        Err(QueryError::Told(text))
    };
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(ErrorCode::InvalidProducerEpoch) => told("due an invalid producer epoch".to_owned()),
        Some(ErrorCode::TransactionCoordinatorFenced) => told(format!(
            "since the provided coordinator epoch {} has been fenced by the active coordinator",
            spec.coordinator_epoch
        )),
        _ => Ok(ClientError::check(code, None)?),
    }
}
