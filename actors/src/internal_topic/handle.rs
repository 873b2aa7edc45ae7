//! What the rest of the broker holds of a coordinator.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use tokio::sync::{oneshot, watch};
use troupe_protocol::kafka::errors::ErrorCode;

use super::led::Companion;
use crate::partition::{Answer, Reply};

/// Ends a coordinator; who waits for it is told NOT_COORDINATOR.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

/// Reaches a coordinator. Cheap to clone.
pub(crate) struct CoordinatorHandle<A: Actor> {
    addr: Addr<A>,
    /// The coordinator has the sender.
    loaded: watch::Receiver<bool>,
}

impl<A: Actor> Clone for CoordinatorHandle<A> {
    fn clone(&self) -> Self {
        Self {
            addr: self.addr.clone(),
            loaded: self.loaded.clone(),
        }
    }
}

impl<A: Actor> CoordinatorHandle<A> {
    /// Makes a handle; `loaded` tells when the coordinator has read its partition.
    pub(crate) fn new(addr: Addr<A>, loaded: watch::Receiver<bool>) -> Self {
        Self { addr, loaded }
    }

    /// Sends the request that `build` makes around a reply, and waits for that reply.
    ///
    /// # Errors
    /// The coordinator's own answer, or NOT_COORDINATOR when it has ended.
    pub(crate) async fn ask<T, M>(&self, build: impl FnOnce(Reply<T>) -> M) -> Answer<T>
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let (reply, answer) = oneshot::channel();
        let sent = self.addr.send(build(reply)).await;
        sent.map_err(|_| ErrorCode::NotCoordinator)?;
        answer.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }

    /// As [`ask`](Self::ask), once the coordinator has loaded.
    ///
    /// # Errors
    /// Likewise.
    pub(crate) async fn ask_when_loaded<T, M>(&self, build: impl FnOnce(Reply<T>) -> M) -> Answer<T>
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        self.loaded().await;
        self.ask(build).await
    }

    /// Sends a message that has no answer, and waits until it was handled.
    pub(crate) async fn tell<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        // One that has ended has no use for it.
        let _ = self.addr.send(message).await;
    }

    /// Waits until the coordinator has loaded, or has ended.
    pub(crate) async fn loaded(&self) {
        let mut loaded = self.loaded.clone();
        // It has ended otherwise.
        let _ = loaded.wait_for(|&loaded| loaded).await;
    }
}

impl<A> Companion for CoordinatorHandle<A>
where
    A: Actor + Handler<Stop>,
    A::Context: ToEnvelope<A, Stop>,
{
    async fn stop(&self) {
        self.tell(Stop).await;
    }

    async fn ended(&self) {
        let mut loaded = self.loaded.clone();
        while loaded.changed().await.is_ok() {}
    }

    async fn ready(&self) {
        self.loaded().await;
    }
}
