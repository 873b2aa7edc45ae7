//! AddPartitionsToTxn, AddOffsetsToTxn and EndTxn: what producers do with their transactions (KIP-98).
//!
//! Nothing is authorized yet, so the batched AddPartitionsToTxn of brokers is served to everybody.

use std::collections::BTreeSet;
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use troupe_protocol::kafka::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use troupe_protocol::kafka::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, ProducerId,
};

use super::find_coordinator::ensure_offsets_topic;
use crate::gateway::request::RequestContext;
use crate::groups::OFFSETS_TOPIC;
use crate::internal_topic::partition_of;
use crate::partition::{Answer, TopicPartition};
use crate::transactions::transaction::{EPOCH_PER_TRANSACTION, End};
use crate::transactions::{Producer, TRANSACTION_VERSION};

/// First version of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn that knows PRODUCER_FENCED.
const FIRST_WITH_FENCED: i16 = 2;
/// First version of AddPartitionsToTxn for several transactions, from brokers (KIP-890).
const FIRST_WITH_TRANSACTIONS: i16 = 4;
/// First version of EndTxn with an epoch for each transaction.
const FIRST_WITH_EPOCH: i16 = 5;

/// Replaces PRODUCER_FENCED where a version does not know it yet.
pub(super) fn fenced_below(first: i16, version: i16, error: ErrorCode) -> ErrorCode {
    if version < first && error == ErrorCode::ProducerFenced {
        return ErrorCode::InvalidProducerEpoch;
    }
    error
}

/// Adds partitions to a transaction, or to several, or only tells which are in it.
pub(crate) async fn add_partitions(
    cx: RequestContext,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let response = AddPartitionsToTxnResponse::default();
    if cx.version < FIRST_WITH_TRANSACTIONS {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(request.v3_and_below_transactional_id)
            .with_producer_id(request.v3_and_below_producer_id)
            .with_producer_epoch(request.v3_and_below_producer_epoch)
            .with_topics(request.v3_and_below_topics);
        let results = add(&cx, &transaction).await;
        return response.with_results_by_topic_v3_and_below(results);
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in &request.transactions {
        results.push(
            AddPartitionsToTxnResult::default()
                .with_transactional_id(transaction.transactional_id.clone())
                .with_topic_results(add(&cx, transaction).await),
        );
    }
    response.with_results_by_transaction(results)
}

async fn add(
    cx: &RequestContext,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let partitions: Vec<TopicPartition> = partitions(&transaction.topics).collect();
    let codes = if transaction.verify_only {
        verify(cx, transaction, partitions).await
    } else {
        add_all(cx, transaction, partitions).await
    };
    let mut codes = codes.into_iter();
    let topics = transaction.topics.iter().map(|topic| {
        let results = topic.partitions.iter().map(|&index| {
            let code = codes.next().unwrap_or(ErrorCode::UnknownServerError);
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code.code())
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(results.collect())
    });
    topics.collect()
}

fn partitions(topics: &[AddPartitionsToTxnTopic]) -> impl Iterator<Item = TopicPartition> {
    topics.iter().flat_map(|topic| {
        let name: Arc<str> = Arc::from(&**topic.name);
        let indexes = topic.partitions.iter();
        indexes.map(move |&index| TopicPartition::new(Arc::clone(&name), index))
    })
}

fn producer(transaction: &AddPartitionsToTxnTransaction) -> Producer {
    Producer {
        id: *transaction.producer_id,
        epoch: transaction.producer_epoch,
    }
}

/// Adds all or none: where one partition is not known, the others are not tried.
async fn add_all(
    cx: &RequestContext,
    transaction: &AddPartitionsToTxnTransaction,
    partitions: Vec<TopicPartition>,
) -> Vec<ErrorCode> {
    let image = cx.broker.image();
    let known: Vec<bool> = partitions
        .iter()
        .map(|partition| {
            let found = image.partition(&partition.topic, partition.partition);
            found.is_some()
        })
        .collect();
    if known.contains(&false) {
        let code = |known| match known {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        return known.into_iter().map(code).collect();
    }
    let count = partitions.len();
    let version = if cx.version > FIRST_WITH_TRANSACTIONS {
        TRANSACTION_VERSION
    } else {
        0
    };
    let added = cx.broker.transactions.add(
        &transaction.transactional_id,
        producer(transaction),
        partitions.into_iter().collect(),
        version,
    );
    let code = added.await.err().unwrap_or(ErrorCode::None);
    vec![fenced_below(FIRST_WITH_FENCED, cx.version, code); count]
}

async fn verify(
    cx: &RequestContext,
    transaction: &AddPartitionsToTxnTransaction,
    partitions: Vec<TopicPartition>,
) -> Vec<ErrorCode> {
    let count = partitions.len();
    let (id, producer) = (&transaction.transactional_id, producer(transaction));
    let verified = cx.broker.transactions.verify(id, producer, partitions);
    let told = |answer: Answer<()>| answer.err().unwrap_or(ErrorCode::None);
    match verified.await {
        Ok(answers) => answers.into_iter().map(told).collect(),
        Err(error) => vec![error; count],
    }
}

/// Adds the partition of `__consumer_offsets` that a group commits to.
pub(crate) async fn add_offsets(
    cx: RequestContext,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let added = try_add_offsets(&cx, &request).await;
    let code = added.err().unwrap_or(ErrorCode::None);
    AddOffsetsToTxnResponse::default()
        .with_error_code(fenced_below(FIRST_WITH_FENCED, cx.version, code).code())
}

async fn try_add_offsets(cx: &RequestContext, request: &AddOffsetsToTxnRequest) -> Answer<()> {
    // Producers look for the coordinator of the group only after this.
    ensure_offsets_topic(cx).await?;
    let producer = Producer {
        id: *request.producer_id,
        epoch: request.producer_epoch,
    };
    let partitions = BTreeSet::from([offsets_partition(cx, &request.group_id)?]);
    let (transactions, id) = (&cx.broker.transactions, &request.transactional_id);
    transactions.add(id, producer, partitions, 0).await
}

/// Returns the partition of `__consumer_offsets` that a group commits to.
///
/// # Errors
/// COORDINATOR_NOT_AVAILABLE as long as nobody has asked for the coordinator of a group.
pub(super) fn offsets_partition(cx: &RequestContext, group: &str) -> Answer<TopicPartition> {
    let image = cx.broker.image();
    let topic = image.topic(OFFSETS_TOPIC);
    let topic = topic.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    Ok(TopicPartition::new(
        OFFSETS_TOPIC,
        partition_of(group, count),
    ))
}

/// Commits or aborts a transaction. From version 5 on the producer goes on with the next epoch (KIP-890).
pub(crate) async fn end(cx: RequestContext, request: EndTxnRequest) -> EndTxnResponse {
    let epoch_per_transaction = cx.version >= FIRST_WITH_EPOCH;
    let end = End {
        producer: Producer {
            id: *request.producer_id,
            epoch: request.producer_epoch,
        },
        commit: request.committed,
        transaction_version: if epoch_per_transaction {
            EPOCH_PER_TRANSACTION
        } else {
            0
        },
    };
    let id = &request.transactional_id;
    let response = EndTxnResponse::default();
    match cx.broker.transactions.end(id, end).await {
        Ok(producer) if epoch_per_transaction => response
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch),
        Ok(_) => response,
        Err(error) => {
            response.with_error_code(fenced_below(FIRST_WITH_FENCED, cx.version, error).code())
        }
    }
}
