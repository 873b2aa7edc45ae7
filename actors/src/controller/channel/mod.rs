//! How orders reach a broker: one after the other, in their order, each answered.

mod remote;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::remote::Remote;

use crate::metadata::{BrokerId, BrokerNode};
use crate::network::Network;
use crate::replica_manager::ReplicaManagerHandle;
use crate::replica_manager::orders::{Order, Outcome};

/// Orders that wait for a broker at most.
const CAPACITY: usize = 1_024;

/// Opens channels.
#[derive(Clone)]
pub(super) struct Channels {
    /// The controller's own broker.
    pub(super) broker_id: BrokerId,
    /// Carries out what that is ordered.
    pub(super) replicas: ReplicaManagerHandle,
    /// The listener at which brokers reach each other.
    pub(super) listener: Arc<str>,
    /// How long the answer to an order may take.
    pub(super) timeout: Duration,
    /// Where brokers are reached.
    pub(super) network: Network,
}

impl Channels {
    /// Opens a channel to a broker.
    pub(super) fn open(&self, node: &Arc<BrokerNode>) -> BrokerChannel {
        BrokerChannel::open(if node.id == self.broker_id {
            Destination::Here(self.replicas.clone())
        } else {
            Destination::Elsewhere(Remote {
                controller_id: self.broker_id,
                node: Arc::clone(node),
                listener: Arc::clone(&self.listener),
                timeout: self.timeout,
                network: self.network.clone(),
                connection: None,
            })
        })
    }
}

/// Where a broker is.
enum Destination {
    /// In this process.
    Here(ReplicaManagerHandle),
    /// In another one.
    Elsewhere(Remote),
}

/// Takes orders for one broker until it is dropped; what was not carried out by then is not answered.
pub(super) struct BrokerChannel {
    orders: mpsc::Sender<Queued>,
    /// Dropped with the channel, which ends the task also in the middle of an order.
    _open: oneshot::Sender<()>,
}

struct Queued {
    order: Order,
    answer: oneshot::Sender<Outcome>,
}

/// Too many orders wait already.
#[derive(Debug)]
pub(super) struct Full(pub(super) Order);

impl BrokerChannel {
    fn open(destination: Destination) -> Self {
        let (orders, queue) = mpsc::channel(CAPACITY);
        let (open, closed) = oneshot::channel::<()>();
        actix_rt::spawn(async move {
            tokio::select! {
                () = deliver(destination, queue) => {}
                _ = closed => {}
            }
        });
        Self {
            orders,
            _open: open,
        }
    }

    /// Sends an order after all earlier ones; the receiver gets what came of it, or fails when the channel is gone.
    pub(super) fn send(&self, order: Order) -> Result<oneshot::Receiver<Outcome>, Box<Full>> {
        let (answer, receiver) = oneshot::channel();
        match self.orders.try_send(Queued { order, answer }) {
            Ok(()) => Ok(receiver),
            Err(error) => Err(Box::new(Full(error.into_inner().order))),
        }
    }
}

async fn deliver(mut destination: Destination, mut queue: mpsc::Receiver<Queued>) {
    while let Some(Queued { order, answer }) = queue.recv().await {
        let outcome = match &mut destination {
            Destination::Here(replicas) => replicas.carry_out(order).await,
            Destination::Elsewhere(broker) => broker.carry_out(&order).await,
        };
        // Whoever asked may have stopped waiting.
        let _ = answer.send(outcome);
    }
}
