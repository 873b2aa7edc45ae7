//! Asks the kernel of another broker's machine whether anybody listens where the broker should.

use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::network::{Network, Stream};

/// What a probe has found.
pub(super) enum Probe {
    /// Somebody listens.
    Open(Stream),
    /// Nobody does: every address refuses connections.
    Refused,
    /// Nobody knows. A machine or a network that says nothing is no refusal.
    Unclear,
}

/// Tries all addresses of a host; each has as long as `patience`.
pub(super) async fn probe(network: &Network, host: &str, port: u16, patience: Duration) -> Probe {
    let Ok(Ok(addresses)) = timeout(patience, network.resolve(host)).await else {
        return Probe::Unclear;
    };
    let tries = addresses.iter().map(|address| async move {
        let connecting = network.connect((address.as_str(), port));
        let silent = |_| Err(io::ErrorKind::TimedOut.into());
        timeout(patience, connecting).await.unwrap_or_else(silent)
    });
    judge(join_all(tries).await)
}

/// Says what the attempts mean. That no address answers means nothing if there is none, or one that says nothing.
fn judge(tries: Vec<io::Result<Stream>>) -> Probe {
    let is_refused = |tried: &io::Result<Stream>| {
        tried
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if !tries.is_empty() && tries.iter().all(is_refused) {
        return Probe::Refused;
    }
    let mut open = tries.into_iter().filter_map(Result::ok);
    open.next().map_or(Probe::Unclear, Probe::Open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::BoundListener;

    const PATIENCE: Duration = Duration::from_millis(200);

    fn failed(kind: io::ErrorKind) -> io::Result<Stream> {
        Err(kind.into())
    }

    #[test]
    fn only_a_refusal_by_all_addresses_is_one() {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, TimedOut};
        let refused = |kinds: &[io::ErrorKind]| {
            let tries = kinds.iter().map(|kind| failed(*kind)).collect();
            matches!(judge(tries), Probe::Refused)
        };
        assert!(refused(&[ConnectionRefused]));
        assert!(refused(&[ConnectionRefused, ConnectionRefused]));
        assert!(!refused(&[]));
        for silent in [TimedOut, HostUnreachable, ConnectionReset] {
            assert!(!refused(&[silent]));
            assert!(!refused(&[ConnectionRefused, silent]));
            assert!(!refused(&[silent, ConnectionRefused]));
        }
    }

    #[actix_rt::test]
    async fn a_socket_that_listens_is_open_though_nobody_accepts() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(matches!(
            probe(&Network::System, "127.0.0.1", port, PATIENCE).await,
            Probe::Open(_)
        ));
    }

    #[actix_rt::test]
    async fn a_socket_whose_backlog_is_full_refuses_nobody() {
        let listener = BoundListener::bind(&Network::System, "L", ("127.0.0.1", 0), 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut held = Vec::new();
        loop {
            match probe(&Network::System, "127.0.0.1", port, PATIENCE).await {
                Probe::Open(stream) => held.push(stream),
                Probe::Unclear => break,
                Probe::Refused => panic!("refused after {} connections", held.len()),
            }
        }
    }

    #[actix_rt::test]
    async fn where_nobody_listens_is_a_refusal() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(matches!(
            probe(&Network::System, "127.0.0.1", port, PATIENCE).await,
            Probe::Refused
        ));
    }

    #[actix_rt::test]
    async fn a_name_without_an_address_is_unclear() {
        assert!(matches!(
            probe(
                &Network::System,
                "nobody.invalid",
                1,
                Duration::from_secs(5)
            )
            .await,
            Probe::Unclear
        ));
    }
}
