//! DescribeTransactions, ListTransactions and WriteTxnMarkers: transactions as tools (KIP-664) and other coordinators see
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use regex::Regex;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::describe_transactions_response::{
    TopicData, TransactionState,
};
use troupe_protocol::kafka::messages::list_transactions_response;
use troupe_protocol::kafka::messages::write_txn_markers_request::WritableTxnMarker;
use troupe_protocol::kafka::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use troupe_protocol::kafka::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest,
    ListTransactionsResponse, ProducerId, TransactionalId, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
};

use super::common::{text, topic_name};
use crate::gateway::request::RequestContext;
use crate::partition::TopicPartition;
use crate::transactions::state::State;
use crate::transactions::transaction::Value;
use crate::transactions::{Marker, Producer, transaction_version};

/// Describes transactional ids that are coordinated here.
pub(crate) async fn describe(
    cx: RequestContext,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    for id in &request.transactional_ids {
        let state = match cx.broker.transactions.describe(id).await {
            Ok(value) => described(&value),
            Err(error) => TransactionState::default().with_error_code(error.code()),
        };
        states.push(state.with_transactional_id(id.clone()));
    }
    DescribeTransactionsResponse::default().with_transaction_states(states)
}

fn described(value: &Value) -> TransactionState {
    let mut topics = BTreeMap::<&str, Vec<i32>>::new();
    for partition in &value.partitions {
        let indexes = topics.entry(&partition.topic).or_default();
        indexes.push(partition.partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        TopicData::default()
            .with_topic(topic_name(topic))
            .with_partitions(partitions)
    });
    TransactionState::default()
        .with_transaction_state(text(value.state.name()))
        .with_transaction_timeout_ms(value.timeout_ms)
        .with_transaction_start_time_ms(value.start_ms)
        .with_producer_id(ProducerId(value.producer.id))
        .with_producer_epoch(value.producer.epoch)
        .with_topics(topics.collect())
}

/// Lists the transactional ids that are coordinated here, all or some.
pub(crate) async fn list(
    cx: RequestContext,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let response = ListTransactionsResponse::default();
    let filter = match Filter::of(&request, cx.broker.runtime.clock.now_ms()) {
        Ok(filter) => filter,
        Err(error) => return response.with_error_code(error.code()),
    };
    let unknown = request.state_filters.iter();
    let unknown = unknown.filter(|name| !State::ALL.iter().any(|state| state.name() == &***name));
    let response = response.with_unknown_state_filters(unknown.cloned().collect());
    match cx.broker.transactions.list().await {
        Ok(all) => {
            let matching = all.iter().filter(|(id, value)| filter.matches(id, value));
            response.with_transaction_states(matching.map(listed).collect())
        }
        Err(error) => response.with_error_code(error.code()),
    }
}

fn listed((id, value): &(Arc<str>, Value)) -> list_transactions_response::TransactionState {
    list_transactions_response::TransactionState::default()
        .with_transactional_id(TransactionalId(text(id)))
        .with_producer_id(ProducerId(value.producer.id))
        .with_transaction_state(text(value.state.name()))
}

/// What a ListTransactions asks for. An empty list is no restriction.
struct Filter<'a> {
    request: &'a ListTransactionsRequest,
    /// For the whole of a transactional id (from version 2).
    pattern: Option<Regex>,
    now_ms: i64,
}

impl<'a> Filter<'a> {
    fn of(request: &'a ListTransactionsRequest, now_ms: i64) -> Result<Self, ErrorCode> {
        let pattern = request.transactional_id_pattern.as_deref();
        let pattern = pattern.filter(|pattern| !pattern.is_empty());
        let pattern = pattern.map(|pattern| Regex::new(&format!("^(?:{pattern})$")));
        Ok(Self {
            request,
            pattern: pattern
                .transpose()
                .map_err(|_| ErrorCode::InvalidRegularExpression)?,
            now_ms,
        })
    }

    fn matches(&self, id: &str, value: &Value) -> bool {
        let Self {
            request, pattern, ..
        } = self;
        let states = &request.state_filters;
        let ids = &request.producer_id_filters;
        let running_ms = self.now_ms.saturating_sub(value.start_ms);
        (states.is_empty() || states.iter().any(|state| &**state == value.state.name()))
            && (ids.is_empty() || ids.contains(&ProducerId(value.producer.id)))
            && (request.duration_filter < 0 || running_ms > request.duration_filter)
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }
}

/// Writes the markers of a coordinator that is elsewhere, or of a tool that ends a transaction for good.
pub(crate) async fn write_markers(
    cx: RequestContext,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let mut results = Vec::with_capacity(request.markers.len());
    for marker in &request.markers {
        results.push(write_marker(&cx, marker).await);
    }
    WriteTxnMarkersResponse::default().with_markers(results)
}

async fn write_marker(cx: &RequestContext, written: &WritableTxnMarker) -> WritableTxnMarkerResult {
    let marker = Marker {
        producer: Producer {
            id: *written.producer_id,
            epoch: written.producer_epoch,
        },
        committed: written.transaction_result,
        coordinator_epoch: written.coordinator_epoch,
        transaction_version: transaction_version(written),
    };
    let topics = written.topics.iter().map(|topic| async move {
        let partitions = topic.partition_indexes.iter().map(|&index| async move {
            let partition = TopicPartition::new(&**topic.name, index);
            let transactions = &cx.broker.transactions;
            let outcome = transactions.write_marker(marker, &partition).await;
            let code = outcome.err().unwrap_or(ErrorCode::None);
            WritableTxnMarkerPartitionResult::default()
                .with_partition_index(index)
                .with_error_code(code.code())
        });
        WritableTxnMarkerTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(join_all(partitions).await)
    });
    let topics = join_all(topics).await;
    WritableTxnMarkerResult::default()
        .with_producer_id(written.producer_id)
        .with_topics(topics)
}
