//! Controlled shutdown: before a broker stops, it has the controller let others lead what it leads.

use std::io;
use std::time::Duration;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::legacy_messages::{BrokerId as WireId, ControlledShutdownRequest};

use super::BrokerContext;
use crate::broker_client::BrokerConnection;
use crate::replica_manager::orders::NO_BROKER_EPOCH;

/// Asks until nothing is left that others could lead, as often as `controlled.shutdown.max.retries` says.
pub(super) async fn announce(broker: &BrokerContext) {
    let config = &broker.config;
    // Where there is nobody else, nobody else can lead.
    if !config.controlled_shutdown_enable || broker.image().brokers.len() < 2 {
        return;
    }
    for attempt in 1..=config.controlled_shutdown_max_retries {
        match ask(broker).await {
            Ok(0) => return,
            Ok(left) => tracing::info!("{left} partitions have no other leader yet"),
            Err(error) => tracing::warn!("the controller does not relieve this broker: {error}"),
        }
        if attempt < config.controlled_shutdown_max_retries {
            let backoff = config.controlled_shutdown_retry_backoff_ms;
            tokio::time::sleep(Duration::from_millis(backoff)).await;
        }
    }
    tracing::warn!("this broker stops although it leads partitions that others have too");
}

/// Asks once; returns how many partitions are left.
async fn ask(broker: &BrokerContext) -> io::Result<usize> {
    let image = broker.image();
    let own = image.brokers.get(&broker.broker_id);
    let epoch = own.map_or(NO_BROKER_EPOCH, |node| node.epoch);
    if image.controller_id == broker.broker_id {
        let controller = &broker.controller;
        let left = controller
            .controlled_shutdown(broker.broker_id, epoch)
            .await;
        let left = left.map_err(|error| io::Error::other(error.message))?;
        return Ok(left.len());
    }
    let listener = &broker.config.inter_broker_listener_name;
    let controller = image.brokers.get(&image.controller_id);
    let endpoint = controller
        .and_then(|controller| controller.endpoint(listener))
        .ok_or_else(|| io::Error::other("there is none that can be reached"))?;
    let mut connection = BrokerConnection::connect(
        &broker.runtime.network,
        (&endpoint.host, endpoint.port),
        format!("broker-{}", broker.broker_id),
        Duration::from_millis(broker.config.controller_socket_timeout_ms),
    )
    .await?;
    let version = connection
        .version::<ControlledShutdownRequest>()
        .ok_or_else(|| io::Error::other("it relieves nobody"))?;
    let request = ControlledShutdownRequest::default()
        .with_broker_id(WireId(broker.broker_id))
        .with_broker_epoch(epoch);
    let answer = connection.ask(version, request).await?;
    match ErrorCode::from_code(answer.error_code) {
        Some(ErrorCode::None) => Ok(answer.remaining_partitions.len()),
        Some(code) => Err(io::Error::other(code.message())),
        None => Err(io::Error::other(format!("error {}", answer.error_code))),
    }
}
