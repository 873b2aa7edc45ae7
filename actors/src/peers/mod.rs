//! Notices at once when the process of another broker is gone, which its session would tell only when it has expired.
//!
//! To each other broker of the cluster a [lifeline](lifeline) is kept: a connection over which nothing goes. When it
//! breaks, that is a hint; a [probe](probe) says whether anybody listens there any more; and when nobody does, the broker
//! is [taken off](absence) the coordination service, from where everything goes on as after an expired session.
//! Why nobody who is alive is taken for dead: docs/adr/0014-a-refused-connection-ends-a-registration.md.

mod absence;
mod lifeline;
mod probe;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::lifeline::Peer;
use crate::coordination::SharedSession;
use crate::metadata::{BrokerId, MetadataImage};
use crate::network::Network;

/// What it takes to watch the other brokers.
#[derive(Clone)]
pub(crate) struct Peers {
    /// This broker.
    pub(crate) broker_id: BrokerId,
    /// The listener at which brokers reach each other.
    pub(crate) listener: Arc<str>,
    /// Where the registrations are.
    pub(crate) session: SharedSession,
    /// What connects to them.
    pub(crate) network: Network,
}

/// The running watch; it ends when this is dropped.
pub(crate) struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One lifeline; it ends when this is dropped.
struct Lifeline(JoinHandle<()>);

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Peers {
    /// Watches all other brokers of the image, as it changes.
    pub(crate) fn watch(self, image: watch::Receiver<Arc<MetadataImage>>) -> Watch {
        Watch(actix_rt::spawn(self.follow(image)))
    }

    async fn follow(self, mut image: watch::Receiver<Arc<MetadataImage>>) {
        let mut lifelines: BTreeMap<Peer, Lifeline> = BTreeMap::new();
        loop {
            let peers = self.peers(&image.borrow_and_update());
            lifelines.retain(|peer, _| peers.contains(peer));
            for peer in peers {
                let (session, network) = (self.session.clone(), self.network.clone());
                lifelines.entry(peer).or_insert_with_key(|peer| {
                    let keeping = lifeline::keep(peer.clone(), session, network);
                    Lifeline(actix_rt::spawn(keeping))
                });
            }
            if image.changed().await.is_err() {
                return;
            }
        }
    }

    fn peers(&self, image: &MetadataImage) -> Vec<Peer> {
        let others = image
            .brokers
            .values()
            .filter(|node| node.id != self.broker_id);
        others
            .filter_map(|node| {
                let endpoint = node.endpoint(&self.listener)?;
                Some(Peer {
                    id: node.id,
                    host: endpoint.host.clone(),
                    port: endpoint.port,
                })
            })
            .collect()
    }
}
