//! Takes a broker whose process is gone off the coordination service.

use super::lifeline::Peer;
use super::probe::Probe;
use crate::controller::absence::{Registered, deregister, registered};
use crate::coordination::{CoordinationError, SharedSession};
use crate::network::Network;

/// Looks whether a broker that refuses connections has ended, and sees to what follows from it.
pub(super) async fn suspect(peer: &Peer, session: &SharedSession, network: &Network) {
    match try_suspect(peer, session, network).await {
        Ok(true) => tracing::warn!(
            "broker {} is gone: {}:{} refuses connections; its registration is removed",
            peer.id,
            peer.host,
            peer.port
        ),
        Ok(false) => {}
        Err(error) => tracing::warn!("broker {} may be gone: {error}", peer.id),
    }
}

async fn try_suspect(
    peer: &Peer,
    session: &SharedSession,
    network: &Network,
) -> Result<bool, CoordinationError> {
    let client = session.lend()?;
    let Some(found) = registered(&client, peer.id).await? else {
        return Ok(false);
    };
    if !is_at(&found, peer) {
        return Ok(false);
    }
    // Whoever is registered has been listening since before: a refusal from now on says that this life is over.
    match peer.probe(network).await {
        Probe::Refused => deregister(&client, &found).await,
        Probe::Open(_) | Probe::Unclear => Ok(false),
    }
}

fn is_at(found: &Registered, peer: &Peer) -> bool {
    let mut endpoints = found.node.endpoints.iter();
    endpoints.any(|endpoint| endpoint.host == peer.host && endpoint.port == peer.port)
}
