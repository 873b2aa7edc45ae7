//! Questions to the coordinator of a group.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::api::Request;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::find_coordinator_response::Coordinator;
use troupe_protocol::kafka::messages::{FindCoordinatorRequest, GroupId};

use super::super::client::{AdminClient, ClientError, Connection};

/// The first version of FindCoordinator with several keys (KIP-699).
const FIND_SEVERAL: i16 = 4;
/// How long to wait before asking again: Kafka's `retry.backoff.ms`.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// Makes the id of a group for the messages.
pub(super) fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

/// Asks a group's coordinator, and tells who that is.
///
/// `code` finds the error in an answer. A coordinator that is loading, moving or still being made is looked for again
/// until the client's timeout.
pub(super) async fn ask<R: Request>(
    client: &mut AdminClient,
    group: &str,
    request: impl Fn(&Connection) -> R,
    code: impl Fn(&R::Response) -> i16,
) -> Result<(Coordinator, R::Response), ClientError> {
    let deadline = Instant::now() + client.timeout();
    loop {
        let answer = ask_once(client, group, &request, &code).await;
        let is_moving = answer.as_ref().is_err_and(is_moving);
        if !is_moving || Instant::now() >= deadline {
            return answer;
        }
        sleep(RETRY_BACKOFF).await;
    }
}

fn is_moving(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator
        )
    )
}

async fn ask_once<R: Request>(
    client: &mut AdminClient,
    group: &str,
    request: impl Fn(&Connection) -> R,
    code: impl Fn(&R::Response) -> i16,
) -> Result<(Coordinator, R::Response), ClientError> {
    let coordinator = find(client, group).await?;
    let broker = client.broker(&coordinator.host, coordinator.port).await?;
    let request = request(broker);
    let response = broker.call(request).await?;
    ClientError::check(code(&response), None)?;
    Ok((coordinator, response))
}

/// Finds the broker that coordinates a group.
async fn find(client: &mut AdminClient, group: &str) -> Result<Coordinator, ClientError> {
    let key = StrBytes::from_string(group.to_owned());
    let version = client.any().version::<FindCoordinatorRequest>();
    let mut request = FindCoordinatorRequest::default();
    if version.is_some_and(|version| version >= FIND_SEVERAL) {
        request.coordinator_keys = vec![key];
    } else {
        request.key = key;
    }
    let mut response = client.any().call(request).await?;
    let found = response.coordinators.pop().unwrap_or_else(|| {
        Coordinator::default()
            .with_node_id(response.node_id)
            .with_host(response.host)
            .with_port(response.port)
            .with_error_code(response.error_code)
            .with_error_message(response.error_message)
    });
    let message = found.error_message.as_ref();
    ClientError::check(found.error_code, message.filter(|text| !text.is_empty()))?;
    Ok(found)
}
