//! Connections to all other brokers, kept open between requests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use troupe_protocol::kafka::api::Request;

use super::BrokerConnection;
use crate::config::Listener;
use crate::metadata::{BrokerId, MetadataImage};
use crate::network::Network;

/// Requests to one broker that are under way at most; others wait.
const AT_ONCE: usize = 16;

/// What it takes to reach other brokers.
pub(crate) struct Start {
    /// This broker.
    pub(crate) broker_id: BrokerId,
    /// Where they are.
    pub(crate) image: watch::Receiver<Arc<MetadataImage>>,
    /// The listener at which brokers reach each other.
    pub(crate) listener: String,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// What connects to them.
    pub(crate) network: Network,
}

/// Asks other brokers. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub(crate) struct Brokers(Arc<Inner>);

struct Inner {
    start: Start,
    lanes: Mutex<BTreeMap<BrokerId, Arc<Lane>>>,
}

/// The way to one broker.
struct Lane {
    permits: Semaphore,
    /// Connections that nobody uses, and where they lead.
    idle: Mutex<Vec<(Listener, BrokerConnection)>>,
}

impl Lane {
    fn idle(&self) -> MutexGuard<'_, Vec<(Listener, BrokerConnection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection that leads there; those that lead elsewhere are closed.
    fn take(&self, place: &Listener) -> Option<BrokerConnection> {
        let mut idle = self.idle();
        idle.retain(|(leads, _)| leads == place);
        idle.pop().map(|(_, connection)| connection)
    }
}

impl Brokers {
    /// Connects to nobody yet.
    pub(crate) fn new(start: Start) -> Self {
        Self(Arc::new(Inner {
            start,
            lanes: Mutex::default(),
        }))
    }

    /// Sends a request in the newest version that both know, and waits for the answer.
    ///
    /// # Errors
    /// When the broker is not there, does not answer in time, or knows no version from `oldest` on.
    pub(crate) async fn ask<R: Request>(
        &self,
        broker: BrokerId,
        oldest: i16,
        request: R,
    ) -> io::Result<R::Response> {
        let place = self.place(broker)?;
        let lane = self.lane(broker);
        let _permit = lane.permits.acquire().await.map_err(io::Error::other)?;
        let mut connection = match lane.take(&place) {
            Some(connection) => connection,
            None => self.connect(&place).await?,
        };
        let version = connection.version::<R>();
        let version = version.filter(|version| *version >= oldest);
        let version = version.ok_or(io::ErrorKind::Unsupported)?;
        match connection.ask(version, request).await {
            Ok(answer) => {
                lane.idle().push((place, connection));
                Ok(answer)
            }
            Err(error) => {
                // The others have most likely ended with it.
                lane.idle().clear();
                Err(error)
            }
        }
    }

    fn place(&self, broker: BrokerId) -> io::Result<Listener> {
        let image = self.0.start.image.borrow();
        let node = image.brokers.get(&broker);
        let place = node.and_then(|node| node.endpoint(&self.0.start.listener));
        place.cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn lane(&self, broker: BrokerId) -> Arc<Lane> {
        let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(broker).or_insert_with(|| {
            Arc::new(Lane {
                permits: Semaphore::new(AT_ONCE),
                idle: Mutex::default(),
            })
        });
        Arc::clone(lane)
    }

    async fn connect(&self, place: &Listener) -> io::Result<BrokerConnection> {
        let start = &self.0.start;
        BrokerConnection::connect(
            &start.network,
            (&place.host, place.port),
            format!("broker-{}", start.broker_id),
            start.timeout,
        )
        .await
    }
}
