//! What the tool asks the brokers.

use std::collections::BTreeSet;
use std::fmt;

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::describe_producers_request::TopicRequest;
use troupe_protocol::kafka::messages::describe_producers_response;
use troupe_protocol::kafka::messages::describe_transactions_response::TransactionState;
use troupe_protocol::kafka::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest,
    MetadataResponse, ProducerId, TransactionalId,
};

use super::super::client::{AdminClient, ClientError, Connection, topic_name};
use super::super::coordinator::{self, Kind};

/// The first version of ListTransactions that filters by duration (KIP-994).
const FIRST_WITH_DURATION: i16 = 1;

/// A partition, shown as Kafka does: `topic-0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) index: i32,
}

impl Partition {
    pub(super) fn new(topic: &str, index: i32) -> Self {
        let topic = topic.to_owned();
        Self { topic, index }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// Tells why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("The broker does not support filtering by duration")]
    NoDuration,
    /// What Kafka's client says of an error code.
    #[error("{0}")]
    Told(String),
}

/// A transactional id in a list.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listing {
    pub(super) transactional_id: String,
    pub(super) coordinator: i32,
    pub(super) producer_id: i64,
    pub(super) state: String,
}

/// Lists the transactional ids of all brokers, in order; only those of some producers, if any are given.
pub(super) async fn list(
    client: &mut AdminClient,
    duration_ms: Option<i64>,
    producers: &[i64],
) -> Result<Vec<Listing>, QueryError> {
    let metadata = client.metadata(Some(Vec::new())).await?;
    let mut all = Vec::new();
    for node in &metadata.brokers {
        let broker = client.broker(&node.host, node.port).await?;
        let version = broker.version::<ListTransactionsRequest>();
        let duration_ms = duration_ms.unwrap_or(-1);
        if duration_ms >= 0 && version.is_some_and(|version| version < FIRST_WITH_DURATION) {
            return Err(QueryError::NoDuration);
        }
        let producers = producers.iter().copied().map(ProducerId).collect();
        let request = ListTransactionsRequest::default()
            .with_producer_id_filters(producers)
            .with_duration_filter(duration_ms);
        let response = broker.call(request).await?;
        ClientError::check(response.error_code, None)?;
        all.extend(response.transaction_states.iter().map(|one| Listing {
            transactional_id: one.transactional_id.to_string(),
            coordinator: node.node_id.0,
            producer_id: one.producer_id.0,
            state: one.transaction_state.to_string(),
        }));
    }
    all.sort();
    Ok(all)
}

/// Describes a transactional id; returns its coordinator too.
pub(super) async fn describe(
    client: &mut AdminClient,
    id: &str,
) -> Result<(i32, TransactionState), QueryError> {
    let request = |_: &Connection| {
        let id = TransactionalId(StrBytes::from_string(id.to_owned()));
        DescribeTransactionsRequest::default().with_transactional_ids(vec![id])
    };
    let answer = coordinator::ask(client, Kind::Transaction, id, request, |response| {
        response
            .transaction_states
            .first()
            .map_or(ErrorCode::UnknownServerError.code(), |one| one.error_code)
    });
    let text = format!("DescribeTransactions request for transactionalId `{id}` failed");
    match answer.await {
        Ok((coordinator, response)) => match response.transaction_states.into_iter().next() {
            Some(state) => Ok((coordinator.node_id.0, state)),
            None => Err(QueryError::Told(format!("{text} without an answer"))),
        },
        Err(error) => Err(match error.code() {
            Some(ErrorCode::TransactionalIdNotFound) => {
                QueryError::Told(format!("{text} because the ID could not be found"))
            }
            Some(_) => QueryError::Told(format!("{text} due to unexpected error")),
            None => error.into(),
        }),
    }
}

/// Returns the partitions of a transaction, in order.
pub(super) fn partitions(state: &TransactionState) -> BTreeSet<Partition> {
    let topics = state.topics.iter();
    let partitions = topics.flat_map(|topic| {
        let index = topic.partitions.iter();
        index.map(|&index| Partition::new(&topic.topic, index))
    });
    partitions.collect()
}

/// A producer of a partition, as its leader describes it.
pub(super) type ProducerState = describe_producers_response::ProducerState;

/// Describes the producers of a partition, by the word of its leader or of the broker given, by producer id.
pub(super) async fn producers(
    client: &mut AdminClient,
    partition: &Partition,
    broker_id: Option<i32>,
) -> Result<Vec<ProducerState>, QueryError> {
    let topic = TopicRequest::default()
        .with_name(topic_name(partition.topic.clone()))
        .with_partition_indexes(vec![partition.index]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let broker = match broker_id {
        Some(id) => broker(client, id).await?,
        None => leader(client, partition).await?,
    };
    let response = broker.call(request).await?;
    let answers = response
        .topics
        .into_iter()
        .flat_map(|topic| topic.partitions);
    let Some(answer) = answers.into_iter().next() else {
        return Err(QueryError::Told("The broker did not answer".to_owned()));
    };
    let not_leader = ErrorCode::NotLeaderOrFollower.code();
    match (answer.error_code, broker_id) {
        (code, Some(id)) if code == not_leader => Err(QueryError::Told(format!(
            "Failed to describe active producers for partition {partition} on brokerId {id}"
        ))),
        (code, _) => {
            ClientError::check(code, None)?;
            let mut producers = answer.active_producers;
            producers.sort_by_key(|producer| producer.producer_id.0);
            Ok(producers)
        }
    }
}

/// Connects to the leader of a partition.
pub(super) async fn leader<'c>(
    client: &'c mut AdminClient,
    partition: &Partition,
) -> Result<&'c mut Connection, ClientError> {
    let metadata = client.metadata(Some(vec![partition.topic.clone()])).await?;
    for topic in &metadata.topics {
        ClientError::check(topic.error_code, None)?;
    }
    let found = metadata.topics.iter().flat_map(|topic| &topic.partitions);
    let found = found
        .into_iter()
        .find(|found| found.partition_index == partition.index);
    let Some(found) = found else {
        return Err(refused(ErrorCode::UnknownTopicOrPartition));
    };
    connect(
        client,
        &metadata,
        found.leader_id.0,
        ErrorCode::LeaderNotAvailable,
    )
    .await
}

async fn broker(client: &mut AdminClient, id: i32) -> Result<&mut Connection, ClientError> {
    let metadata = client.metadata(Some(Vec::new())).await?;
    connect(client, &metadata, id, ErrorCode::BrokerNotAvailable).await
}

async fn connect<'c>(
    client: &'c mut AdminClient,
    metadata: &MetadataResponse,
    id: i32,
    otherwise: ErrorCode,
) -> Result<&'c mut Connection, ClientError> {
    match metadata.brokers.iter().find(|node| node.node_id.0 == id) {
        Some(node) => client.broker(&node.host, node.port).await,
        None => Err(refused(otherwise)),
    }
}

fn refused(code: ErrorCode) -> ClientError {
    let message = code.message().to_owned();
    ClientError::Refused { code, message }
}
