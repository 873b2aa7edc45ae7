//! A connection to another broker over which nothing goes: it breaks when the process on the other side ends.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};

use super::absence;
use super::probe::{Probe, probe};
use crate::coordination::SharedSession;
use crate::metadata::BrokerId;
use crate::network::{Network, Stream};

/// How long an address has to say something, before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two probes of a broker that does not answer: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection that lasts less than this does not make the next pause a short one again: somebody closes it each time.
const STEADY: Duration = Duration::from_secs(1);

/// Another broker, and where it should be listening.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peer {
    pub(super) id: BrokerId,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Peer {
    /// Tells whether somebody listens there.
    pub(super) async fn probe(&self, network: &Network) -> Probe {
        probe(network, &self.host, self.port, PATIENCE).await
    }
}

/// Keeps a connection to a broker; whenever it breaks, looks whether the broker is still there.
pub(super) async fn keep(peer: Peer, session: SharedSession, network: Network) {
    let mut pause = FIRST_PAUSE;
    // Who could never be reached from here may be behind a wall, and does not count as gone when that refuses.
    let mut reached = false;
    loop {
        match peer.probe(&network).await {
            Probe::Open(stream) => {
                reached = true;
                let opened = Instant::now();
                closed(stream).await;
                if opened.elapsed() >= STEADY {
                    pause = FIRST_PAUSE;
                    continue;
                }
            }
            Probe::Refused if reached => absence::suspect(&peer, &session, &network).await,
            Probe::Refused | Probe::Unclear => {}
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Waits until the other side has closed the connection, or ended.
async fn closed(mut stream: Stream) {
    let mut unasked = [0; 64];
    while stream.read(&mut unasked).await.is_ok_and(|read| read > 0) {}
}
