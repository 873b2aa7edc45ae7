//! A broker elsewhere: orders go to it as requests, again and again until it has answered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use troupe_protocol::kafka::api::Request;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::legacy_messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    UpdateMetadataRequest,
};
use uuid::Uuid;

use crate::broker_client::BrokerConnection;
use crate::metadata::{BrokerId, BrokerNode};
use crate::network::Network;
use crate::partition::TopicPartition;
use crate::replica_manager::orders::{
    LeaderAndIsr, Order, Outcome, StopReplica, TopicOrder, UpdateMetadata,
};
use crate::replica_manager::wire;

/// Time before an order is sent again that a broker has not answered.
const RETRY: Duration = Duration::from_millis(100);

/// A broker elsewhere.
pub(super) struct Remote {
    /// The controller that orders.
    pub(super) controller_id: BrokerId,
    /// The broker.
    pub(super) node: Arc<BrokerNode>,
    /// The listener at which brokers reach each other.
    pub(super) listener: Arc<str>,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    /// Where the broker is reached.
    pub(super) network: Network,
    /// Nothing before the first order and after a failure.
    pub(super) connection: Option<BrokerConnection>,
}

impl Remote {
    /// Has an order carried out, however often it takes to be answered: orders do no harm when they come twice.
    pub(super) async fn carry_out(&mut self, order: &Order) -> Outcome {
        let mut failed_before = false;
        loop {
            match self.try_carry_out(order).await {
                Ok(outcome) => {
                    report(&self.node, &outcome);
                    return outcome;
                }
                Err(error) => {
                    self.connection = None;
                    if !failed_before {
                        tracing::warn!(
                            "broker {} does not answer the controller: {error}; it is asked again",
                            self.node.id
                        );
                    }
                    failed_before = true;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_carry_out(&mut self, order: &Order) -> io::Result<Outcome> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let outcome = match order {
            Order::LeaderAndIsr(order) => lead_and_follow(&mut connection, order).await?,
            Order::UpdateMetadata(order) => update(&mut connection, order).await?,
            Order::StopReplica(order) => stop(&mut connection, order).await?,
        };
        self.connection = Some(connection);
        Ok(outcome)
    }

    async fn connect(&self) -> io::Result<BrokerConnection> {
        let endpoint = self
            .node
            .endpoint(&self.listener)
            .ok_or_else(|| unsuited(format!("it has no listener {}", self.listener)))?;
        let client_id = format!("controller-{}", self.controller_id);
        let place = (endpoint.host.as_str(), endpoint.port);
        BrokerConnection::connect(&self.network, place, client_id, self.timeout).await
    }
}

fn report(node: &BrokerNode, outcome: &Outcome) {
    let refused = outcome.replicas.iter();
    for (replica, code) in refused.filter(|(_, code)| *code != ErrorCode::None) {
        tracing::error!("broker {}: {replica}: {}", node.id, code.name());
    }
    if outcome.error != ErrorCode::None {
        let name = outcome.error.name();
        tracing::warn!("broker {} refuses an order: {name}", node.id);
    }
}

async fn lead_and_follow(
    connection: &mut BrokerConnection,
    order: &LeaderAndIsr,
) -> io::Result<Outcome> {
    let version = version_of::<LeaderAndIsrRequest>(connection)?;
    let request = wire::leader_and_isr(order, version).ok_or_else(too_old)?;
    let answer: LeaderAndIsrResponse = connection.ask(version, request).await?;
    let name_of = |id: Uuid| {
        let mut topics = order.topics.iter();
        topics.find(|topic: &&TopicOrder| topic.id == id)
    };
    let named = answer.partition_errors.iter().map(|error| {
        let topic = error.topic_name.to_string();
        outcome_of(&topic, error.partition_index, error.error_code)
    });
    let by_id = answer.topics.iter().filter_map(|topic| {
        let name = &name_of(topic.topic_id)?.name;
        let errors = topic.partition_errors.iter();
        Some(errors.map(move |error| outcome_of(name, error.partition_index, error.error_code)))
    });
    Ok(Outcome {
        error: code_of(answer.error_code),
        replicas: named.chain(by_id.flatten()).collect(),
    })
}

async fn update(connection: &mut BrokerConnection, order: &UpdateMetadata) -> io::Result<Outcome> {
    let version = version_of::<UpdateMetadataRequest>(connection)?;
    let request = wire::update_metadata(order, version).ok_or_else(too_old)?;
    let answer = connection.ask(version, request).await?;
    Ok(Outcome::of(code_of(answer.error_code)))
}

async fn stop(connection: &mut BrokerConnection, order: &StopReplica) -> io::Result<Outcome> {
    let version = version_of::<StopReplicaRequest>(connection)?;
    let request = wire::stop_replica(order, version).ok_or_else(too_old)?;
    let answer: StopReplicaResponse = connection.ask(version, request).await?;
    let replicas = answer.partition_errors.iter();
    Ok(Outcome {
        error: code_of(answer.error_code),
        replicas: replicas
            .map(|error| outcome_of(&error.topic_name, error.partition_index, error.error_code))
            .collect(),
    })
}

fn version_of<R: Request>(connection: &BrokerConnection) -> io::Result<i16> {
    connection.version::<R>().ok_or_else(too_old)
}

fn outcome_of(topic: &str, partition: i32, code: i16) -> (TopicPartition, ErrorCode) {
    (TopicPartition::new(topic, partition), code_of(code))
}

fn code_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

fn too_old() -> io::Error {
    unsuited("it takes no orders of this version".to_owned())
}

fn unsuited(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}
