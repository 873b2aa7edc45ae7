//! Asks other brokers about transactions: to write markers where they lead, and coordinators that live there.

use std::io;

use bytes::Bytes;
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use troupe_protocol::kafka::messages::add_partitions_to_txn_response::AddPartitionsToTxnTopicResult;
use troupe_protocol::kafka::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use troupe_protocol::kafka::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ProducerId, TopicName, TransactionalId,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};

use super::markers::Marker;
use super::transaction::Producer;
use crate::broker_client::Brokers;
use crate::metadata::BrokerId;
use crate::partition::{Answer, TopicPartition};

/// The only version of WriteTxnMarkers.
const MARKERS: i16 = 1;
/// The first version of AddPartitionsToTxn that is for brokers, and the first that adds in the newer protocol (KIP-890).
const FIRST_FOR_BROKERS: i16 = 4;
const FIRST_THAT_ADDS: i16 = 5;

/// A tagged field of a marker that Kafka does not have, and skips: the version of the transaction protocol. By that a
/// marker that comes late, twice, is told from that of the next transaction (KIP-890).
const TRANSACTION_VERSION_TAG: i32 = 100;

/// Has a broker write a marker to partitions that it leads; says what came of each.
pub(super) async fn write_markers(
    brokers: &Brokers,
    broker: BrokerId,
    marker: Marker,
    partitions: Vec<TopicPartition>,
) -> Vec<(TopicPartition, Answer<()>)> {
    let asked = brokers.ask(broker, MARKERS, markers_request(marker, &partitions));
    let answer = asked.await.inspect_err(|error| {
        tracing::debug!(broker, %error, "markers of a transaction are sent again");
    });
    let outcome = |partition: &TopicPartition| match &answer {
        Ok(answer) => written(answer, partition),
        Err(_) => Err(ErrorCode::NetworkException),
    };
    let outcomes: Vec<Answer<()>> = partitions.iter().map(outcome).collect();
    partitions.into_iter().zip(outcomes).collect()
}

fn markers_request(marker: Marker, partitions: &[TopicPartition]) -> WriteTxnMarkersRequest {
    let topics = by_topic(partitions).into_iter().map(|(topic, indexes)| {
        WritableTxnMarkerTopic::default()
            .with_name(topic)
            .with_partition_indexes(indexes)
    });
    let version = Bytes::copy_from_slice(&marker.transaction_version.to_be_bytes());
    let marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(marker.producer.id))
        .with_producer_epoch(marker.producer.epoch)
        .with_transaction_result(marker.committed)
        .with_coordinator_epoch(marker.coordinator_epoch)
        .with_topics(topics.collect())
        .with_unknown_tagged_field(TRANSACTION_VERSION_TAG, version);
    WriteTxnMarkersRequest::default().with_markers(vec![marker])
}

fn by_topic(partitions: &[TopicPartition]) -> Vec<(TopicName, Vec<i32>)> {
    let mut topics: Vec<(TopicName, Vec<i32>)> = Vec::new();
    for partition in partitions {
        match topics
            .iter_mut()
            .find(|(name, _)| ***name == *partition.topic)
        {
            Some((_, indexes)) => indexes.push(partition.partition),
            None => {
                let name = TopicName(StrBytes::from_string(partition.topic.to_string()));
                topics.push((name, vec![partition.partition]));
            }
        }
    }
    topics
}

fn written(answer: &WriteTxnMarkersResponse, partition: &TopicPartition) -> Answer<()> {
    let topics = answer.markers.iter().flat_map(|marker| &marker.topics);
    let mut found = topics
        .filter(|topic| **topic.name == *partition.topic)
        .flat_map(|topic| &topic.partitions)
        .filter(|found| found.partition_index == partition.partition);
    found
        .next()
        .map_or(Err(ErrorCode::UnknownServerError), |found| {
            outcome(found.error_code)
        })
}

/// Asks the coordinator of a transactional id on another broker whether partitions are in the transaction, or with `adds`
/// has it add them; the answers are in the order of the partitions.
///
/// # Errors
/// NETWORK_EXCEPTION without an answer, UNSUPPORTED_VERSION of a broker that is too old, and what the coordinator says of
/// all.
pub(super) async fn verify(
    brokers: &Brokers,
    broker: BrokerId,
    (transactional_id, producer): (&str, Producer),
    partitions: &[TopicPartition],
    adds: bool,
) -> Answer<Vec<Answer<()>>> {
    let topics = by_topic(partitions).into_iter().map(|(topic, indexes)| {
        AddPartitionsToTxnTopic::default()
            .with_name(topic)
            .with_partitions(indexes)
    });
    let id = StrBytes::from_string(transactional_id.to_owned());
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(TransactionalId(id))
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_verify_only(!adds)
        .with_topics(topics.collect());
    let request = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
    let oldest = if adds {
        FIRST_THAT_ADDS
    } else {
        FIRST_FOR_BROKERS
    };
    let answer = brokers.ask(broker, oldest, request).await;
    let answer = answer.map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => ErrorCode::UnsupportedVersion,
        _ => ErrorCode::NetworkException,
    })?;
    outcome(answer.error_code)?;
    Ok(partitions
        .iter()
        .map(|partition| verified(&answer, partition))
        .collect())
}

fn verified(answer: &AddPartitionsToTxnResponse, partition: &TopicPartition) -> Answer<()> {
    let results = answer.results_by_transaction.iter();
    let of_topic = |topic: &&AddPartitionsToTxnTopicResult| **topic.name == *partition.topic;
    let mut found = results
        .flat_map(|result| &result.topic_results)
        .filter(of_topic)
        .flat_map(|topic| &topic.results_by_partition)
        .filter(|found| found.partition_index == partition.partition);
    found
        .next()
        .map_or(Err(ErrorCode::UnknownServerError), |found| {
            outcome(found.partition_error_code)
        })
}

fn outcome(code: i16) -> Answer<()> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(code),
        None => Err(ErrorCode::UnknownServerError),
    }
}

/// Reads the version of the transaction protocol off a marker that another broker has sent; 0 where it does not say.
pub(crate) fn transaction_version(marker: &WritableTxnMarker) -> i16 {
    let said = marker.unknown_tagged_fields.get(&TRANSACTION_VERSION_TAG);
    let bytes = said.and_then(|said| <[u8; 2]>::try_from(&said[..]).ok());
    bytes.map_or(0, i16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use troupe_protocol::kafka::api::Request;

    use super::*;

    #[test]
    fn a_marker_says_its_protocol_to_those_who_know() {
        let marker = Marker {
            producer: Producer { id: 7, epoch: 3 },
            committed: true,
            coordinator_epoch: 5,
            transaction_version: 2,
        };
        let partitions = [("a", 0), ("b", 1), ("a", 2)];
        let partitions = partitions.map(|(topic, number)| TopicPartition::new(topic, number));
        let mut bytes = BytesMut::new();
        let request = markers_request(marker, &partitions);
        request.encode(MARKERS, &mut bytes).unwrap();
        let decoded = WriteTxnMarkersRequest::decode(MARKERS, bytes.freeze()).unwrap();
        let found = &decoded.markers[0];
        assert_eq!(transaction_version(found), 2);
        assert_eq!((*found.producer_id, found.producer_epoch), (7, 3));
        let topics: Vec<(&str, &[i32])> = found
            .topics
            .iter()
            .map(|topic| (&**topic.name, &topic.partition_indexes[..]))
            .collect();
        assert_eq!(topics, [("a", &[0, 2][..]), ("b", &[1])]);
        assert_eq!(transaction_version(&WritableTxnMarker::default()), 0);
    }
}
