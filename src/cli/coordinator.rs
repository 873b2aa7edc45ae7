//! Questions to the coordinator of a group or of a transactional id.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::api::Request;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::find_coordinator_response::Coordinator;
use troupe_protocol::kafka::messages::{FindCoordinatorRequest, GroupId};

use super::client::{AdminClient, ClientError, Connection};

/// The first version of FindCoordinator with several keys (KIP-699).
const FIND_SEVERAL: i16 = 4;
/// How long to wait before asking again: Kafka's `retry.backoff.ms`.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// What is coordinated.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Group = 0,
    Transaction = 1,
}

/// Makes the id of a group for the messages.
pub(crate) fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

/// Asks the coordinator of a group or transactional id, and tells who that is.
///
/// `code` finds the error in an answer. A coordinator that is loading, moving or still being made is looked for again
/// until the client's timeout.
pub(crate) async fn ask<R: Request>(
    client: &mut AdminClient,
    kind: Kind,
    id: &str,
    request: impl Fn(&Connection) -> R,
    code: impl Fn(&R::Response) -> i16,
) -> Result<(Coordinator, R::Response), ClientError> {
    let deadline = Instant::now() + client.timeout();
    loop {
        let answer = ask_once(client, kind, id, &request, &code).await;
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
    kind: Kind,
    id: &str,
    request: impl Fn(&Connection) -> R,
    code: impl Fn(&R::Response) -> i16,
) -> Result<(Coordinator, R::Response), ClientError> {
    let coordinator = find(client, kind, id).await?;
    let broker = client.broker(&coordinator.host, coordinator.port).await?;
    let request = request(broker);
    let response = broker.call(request).await?;
    ClientError::check(code(&response), None)?;
    Ok((coordinator, response))
}

/// Finds the broker that coordinates.
async fn find(client: &mut AdminClient, kind: Kind, id: &str) -> Result<Coordinator, ClientError> {
    let key = StrBytes::from_string(id.to_owned());
    let version = client.any().version::<FindCoordinatorRequest>();
    let mut request = FindCoordinatorRequest::default().with_key_type(kind as i8);
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
