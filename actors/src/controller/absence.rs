//! Ends the registration of a broker whose process is known to be gone, before its session expires: by the controller,
//! or, when it was the controller itself that ended, by whoever notices.

use super::membership::node;
use crate::coordination::client::Write;
use crate::coordination::schema::BrokerRegistration;
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::metadata::{BrokerId, BrokerNode};

/// A broker as it is registered.
#[derive(Debug, Clone)]
pub(crate) struct Registered {
    /// What it says of itself; the epoch is that of the registration.
    pub(crate) node: BrokerNode,
    /// The session that holds the registration.
    session: i64,
}

/// Reads a broker's registration; `None` when there is none.
pub(crate) async fn registered(
    client: &CoordinationClient,
    id: BrokerId,
) -> Result<Option<Registered>, CoordinationError> {
    let found = client
        .get_json::<BrokerRegistration>(&paths::broker(id))
        .await?;
    Ok(found.map(|(registration, stat)| Registered {
        session: stat.ephemeral_owner,
        node: node(id, registration, &stat),
    }))
}

/// Removes the registration of a broker that is gone, and its hold on the controller's office; tells whether that was done.
///
/// It is not where another broker is the controller, who sees to it, nor where anything has changed meanwhile: each
/// election changes `/controller_epoch`, so with the version from before the look at `/controller` nobody else can be
/// unseated.
pub(crate) async fn deregister(
    client: &CoordinationClient,
    gone: &Registered,
) -> Result<bool, CoordinationError> {
    let Some((_, epoch)) = client.get(paths::CONTROLLER_EPOCH).await? else {
        return Ok(false);
    };
    let Some((_, office)) = client.get(paths::CONTROLLER).await? else {
        return Ok(false);
    };
    let path = paths::broker(gone.node.id);
    let mut writes = vec![
        Write::Check(paths::CONTROLLER_EPOCH.to_owned(), epoch.version),
        Write::Delete(path.clone()),
    ];
    if office.ephemeral_owner == gone.session {
        writes.push(Write::Delete(paths::CONTROLLER.to_owned()));
    } else if office.ephemeral_owner != client.session_id() {
        return Ok(false);
    }
    let now = client.get(&path).await?;
    if now.is_none_or(|(_, stat)| stat.czxid != gone.node.epoch) {
        return Ok(false);
    }
    match client.transaction(&writes).await {
        // Somebody else was faster.
        Err(CoordinationError::Transaction { .. }) => Ok(false),
        other => other.map(|_| true),
    }
}
