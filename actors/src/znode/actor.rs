//! The znode actor: gives requests to the service, stores its transactions and lets the replies go after that.
//!
//! One commit is under way at a time; transactions that come meanwhile are stored together by the next one. With a thread
//! of its own the actor commits there, when all requests that can be read have been taken; otherwise the blocking pool
//! does. Whatever was computed after a transaction (reads and events as well) leaves after it is on disk, so nobody
//! ever sees what could still be lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult,
    WrapFuture,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use troupe_protocol::zookeeper::connect::{ConnectRequest, PASSWORD_LEN};
use troupe_protocol::zookeeper::four_letter::Word;
use troupe_protocol::zookeeper::requests::Request;

use super::admin::commands::{self, Subject};
use super::four_letter::{self, Settings};
use super::outbox::Outbox;
use super::records::Batch;
use super::service::{Now, Output, Service, Step};
use super::sessions::ConnectionId;
use super::statistics::Statistics;
use super::store::{Contents, StoreError, ZnodeStore};
use crate::runtime::{Blocking, Clock, Runtime};

/// Begins a connection with its handshake.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Connect {
    /// Chosen by the server, never twice.
    pub connection: ConnectionId,
    /// Where the client is.
    pub peer: SocketAddr,
    /// Where frames for it go; dropped to close it.
    pub outbox: Outbox,
    /// The handshake.
    pub request: ConnectRequest,
}

/// Requests of one connection, in order; answered when they have been taken, not when their replies are sent.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Requests {
    /// From this connection.
    pub connection: ConnectionId,
    /// At least one.
    pub requests: Vec<Request>,
    /// Their share of `globalOutstandingLimit`, given back when their replies are sent.
    pub share: OwnedSemaphorePermit,
}

/// A connection is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Disconnect {
    /// This one.
    pub connection: ConnectionId,
}

/// A monitor asks for something.
#[derive(Message)]
#[rtype(result = "String")]
pub struct FourLetterWord(pub Word);

/// Somebody asks the admin server for something.
#[derive(Message)]
#[rtype(result = "serde_json::Value")]
pub struct AdminCommand(pub String);

/// Ends the service: connections are closed, everything is stored, and a snapshot is written.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop {
    /// Told when all that is done, or could not be.
    pub done: oneshot::Sender<Result<(), StoreError>>,
}

/// Messages that wait; a connection has at most one here, and waits itself when there is no room.
const MAILBOX: usize = 256;
/// How often sessions are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Changes are in a snapshot after this many ticks at the latest.
const SNAPSHOT_TICKS: u32 = 120;

/// So often more requests are waited for, as long as some come, before a commit begins.
const MOST_TURNS: u32 = 64;
/// A commit on this thread that takes so long does not count against the sessions: nobody could be heard.
const LONG_COMMIT_MS: i64 = 50;

/// How a piece of work of the store ended, when the service goes on.
enum Done {
    /// It did what it was told.
    Stored,
    /// There was no room for the commit; this is what the store has.
    Refused(StoreError, Contents),
}

/// The embedded coordination service.
pub struct Znode {
    service: Service,
    /// Nobody else is on this thread, so it may wait for the disk.
    has_own_thread: bool,
    /// `None` while the blocking pool has it.
    store: Option<Box<dyn ZnodeStore>>,
    clock: Arc<dyn Clock>,
    blocking: Blocking,
    settings: Settings,
    statistics: Statistics,
    started_ms: i64,
    connections: BTreeMap<ConnectionId, Outbox>,
    /// Leave when the commit that is under way is done.
    committing: Vec<Output>,
    /// Stored by the next commit, and what leaves after it.
    queued: Batch,
    queued_outputs: Vec<Output>,
    /// What the requests hold whose replies are in `committing` and in `queued_outputs`.
    committing_shares: Vec<OwnedSemaphorePermit>,
    queued_shares: Vec<OwnedSemaphorePermit>,
    commit_started_ms: Option<i64>,
    /// A commit begins when nothing more comes.
    is_gathering: bool,
    ticks: u32,
    snapshot_due: bool,
    /// Told when nobody is served any more; `None` from then on. Dropped without a word by a panic.
    failure: Option<oneshot::Sender<StoreError>>,
    stopping: Option<oneshot::Sender<Result<(), StoreError>>>,
}

impl Znode {
    /// Returns an actor that serves what `service` took up from `store`, and says through `failure` when it can't go on.
    pub fn new(
        service: Service,
        store: Box<dyn ZnodeStore>,
        runtime: &Runtime,
        settings: Settings,
        failure: oneshot::Sender<StoreError>,
    ) -> Self {
        let clock = Arc::clone(&runtime.clock);
        let started_ms = Now::of(clock.as_ref()).monotonic_ms;
        Self {
            service,
            has_own_thread: runtime.coordination.is_separate(),
            store: Some(store),
            clock,
            blocking: runtime.blocking.clone(),
            settings,
            statistics: Statistics::default(),
            started_ms,
            connections: BTreeMap::new(),
            committing: Vec::new(),
            queued: Batch::default(),
            queued_outputs: Vec::new(),
            committing_shares: Vec::new(),
            queued_shares: Vec::new(),
            commit_started_ms: None,
            is_gathering: false,
            ticks: 0,
            snapshot_due: false,
            failure: Some(failure),
            stopping: None,
        }
    }

    fn now(&self) -> Now {
        Now::of(self.clock.as_ref())
    }

    /// Lets the outputs go, or keeps them until everything before them is stored.
    fn perform(&mut self, step: Step, ctx: &mut Context<Self>) {
        self.expect(&step.outputs);
        if let Some(batch) = step.batch {
            self.queued.merge(batch);
            self.queued_outputs.extend(step.outputs);
            if !self.has_own_thread {
                self.proceed(ctx);
            } else if !std::mem::replace(&mut self.is_gathering, true) {
                self.gather(0, ctx);
            }
        } else if !self.queued.is_empty() {
            self.queued_outputs.extend(step.outputs);
        } else if self.commit_started_ms.is_some() {
            self.committing.extend(step.outputs);
        } else {
            self.send(step.outputs, 0);
        }
    }

    /// Counts what will be sent, so that its reader takes no more requests of a client that has much to come.
    fn expect(&self, outputs: &[Output]) {
        for output in outputs {
            if let Output::Frame(connection, frame) = output
                && let Some(outbox) = self.connections.get(connection)
            {
                outbox.expect(frame);
            }
        }
    }

    /// Commits when everybody who can be heard was heard, and nothing more came.
    fn gather(&mut self, turn: u32, ctx: &mut Context<Self>) {
        let before = self.queued.transactions;
        // Ready again only after sockets were looked at, and their connections had their turn.
        let others = tokio::task::yield_now().into_actor(self);
        ctx.spawn(others.map(move |(), znode, ctx| {
            if znode.queued.transactions > before && turn < MOST_TURNS {
                znode.gather(turn + 1, ctx);
            } else {
                znode.is_gathering = false;
                znode.proceed(ctx);
            }
        }));
    }

    /// Gives the store the next thing to do, if it is here and there is one.
    fn proceed(&mut self, ctx: &mut Context<Self>) {
        let Some(store) = self.store.take() else {
            return;
        };
        if !self.queued.is_empty() {
            let batch = std::mem::take(&mut self.queued);
            self.committing = std::mem::take(&mut self.queued_outputs);
            self.committing_shares = std::mem::take(&mut self.queued_shares);
            self.commit_started_ms = Some(self.now().monotonic_ms);
            self.work(store, ctx, move |store| match store.commit(batch) {
                Err(full @ StoreError::Full { .. }) => Ok(Done::Refused(full, store.contents()?)),
                other => other.map(|()| Done::Stored),
            });
        } else if self.snapshot_due {
            self.snapshot_due = false;
            self.work(store, ctx, |store| match store.snapshot() {
                Err(error @ StoreError::Io { .. }) => {
                    // The journal has everything; the snapshot is for the day when the database can't be read.
                    tracing::warn!(%error, "no snapshot of the coordination store was written");
                    Ok(Done::Stored)
                }
                result => result.map(|()| Done::Stored),
            });
        } else if let Some(done) = self.stopping.take() {
            drop(store);
            self.connections.clear();
            let _ = done.send(Ok(()));
            ctx.stop();
        } else {
            self.store = Some(store);
        }
    }

    /// Has a snapshot written beside everything else.
    fn save(&mut self) {
        if let Some(Err(error)) = self.store.as_mut().map(|store| store.save()) {
            self.fail(error);
        }
    }

    fn work(
        &mut self,
        mut store: Box<dyn ZnodeStore>,
        ctx: &mut Context<Self>,
        work: impl FnOnce(&mut dyn ZnodeStore) -> Result<Done, StoreError> + Send + 'static,
    ) {
        if self.has_own_thread {
            let result = work(store.as_mut());
            self.store = Some(store);
            return self.done(result, ctx);
        }
        let work = self.blocking.run(move || {
            let result = work(store.as_mut());
            (store, result)
        });
        ctx.spawn(work.into_actor(self).map(|done, znode, ctx| {
            let result = match done {
                Ok((store, result)) => {
                    znode.store = Some(store);
                    result
                }
                Err(died) => Err(StoreError::Panicked(died.to_string())),
            };
            znode.done(result, ctx);
        }));
    }

    fn done(&mut self, result: Result<Done, StoreError>, ctx: &mut Context<Self>) {
        let now_ms = self.now().monotonic_ms;
        let took_ms = self.commit_started_ms.map_or(0, |began| now_ms - began);
        if self.has_own_thread && took_ms >= LONG_COMMIT_MS {
            self.service.was_deaf(took_ms);
        }
        match result {
            Ok(Done::Stored) => {
                self.commit_started_ms = None;
                self.committing_shares.clear();
                let outputs = std::mem::take(&mut self.committing);
                self.send(outputs, took_ms);
                self.proceed(ctx);
            }
            Ok(Done::Refused(full, contents)) => self.go_back(&full, &contents, ctx),
            Err(error) => self.fail(error),
        }
    }

    /// Goes back to what is stored. Nobody was shown more than that; whoever waits for an answer loses the connection
    /// instead, and so do all others, because what they were to be told may rest on what is taken back.
    fn go_back(&mut self, full: &StoreError, contents: &Contents, ctx: &mut Context<Self>) {
        tracing::error!(
            "no room for a change of the coordination service, which is refused; its clients have to connect again: {full}"
        );
        self.drop_connections();
        let timeouts = self.service.sessions().range();
        match Service::restore(contents, timeouts, self.now()) {
            Ok(service) => {
                self.service = service;
                self.proceed(ctx);
            }
            Err(error) => self.fail(StoreError::Lost {
                path: self.settings.data_dir.clone(),
                reason: error.to_string(),
            }),
        }
    }

    /// What cannot be stored must not be promised: from here on nobody is served.
    fn fail(&mut self, error: StoreError) {
        tracing::error!(%error, "the coordination store failed; no client is served any more");
        self.store = None;
        self.drop_connections();
        let failure = self.failure.take();
        if let Some(done) = self.stopping.take() {
            let _ = done.send(Err(error));
        } else if let Some(failure) = failure {
            let _ = failure.send(error);
        }
    }

    /// Closes all connections and forgets what was to be stored and sent.
    fn drop_connections(&mut self) {
        self.commit_started_ms = None;
        self.connections.clear();
        self.committing.clear();
        self.queued_outputs.clear();
        self.committing_shares.clear();
        self.queued_shares.clear();
        self.queued = Batch::default();
    }

    fn send(&mut self, outputs: Vec<Output>, latency_ms: i64) {
        for output in outputs {
            match output {
                Output::Frame(connection, frame) => {
                    let Some(outbox) = self.connections.get(&connection) else {
                        continue;
                    };
                    self.statistics.sent += 1;
                    self.statistics
                        .answered(u64::try_from(latency_ms).unwrap_or(0));
                    if outbox.push(frame).is_err() {
                        tracing::warn!(
                            connection,
                            "closing a coordination client that does not read"
                        );
                        self.connections.remove(&connection);
                        self.service.disconnect(connection);
                    }
                }
                Output::Close(connection) => {
                    self.connections.remove(&connection);
                }
            }
        }
    }

    fn is_serving(&self) -> bool {
        self.failure.is_some() && self.stopping.is_none()
    }
}

impl Actor for Znode {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(TICK, |znode, ctx| {
            if !znode.is_serving() {
                return;
            }
            let step = znode.service.tick(znode.now());
            znode.perform(step, ctx);
            znode.ticks += 1;
            if znode.ticks >= SNAPSHOT_TICKS {
                znode.ticks = 0;
                znode.save();
            }
        });
    }
}

impl Handler<Connect> for Znode {
    type Result = ();

    fn handle(&mut self, connect: Connect, ctx: &mut Self::Context) {
        if !self.is_serving() {
            return;
        }
        self.statistics.received += 1;
        self.connections.insert(connect.connection, connect.outbox);
        let password: [u8; PASSWORD_LEN] = rand::random();
        let now = self.now();
        let step = self.service.connect(
            connect.connection,
            connect.peer,
            &connect.request,
            password,
            now,
        );
        self.perform(step, ctx);
    }
}

impl Handler<Requests> for Znode {
    type Result = ();

    fn handle(&mut self, message: Requests, ctx: &mut Self::Context) {
        if !self.is_serving() {
            return;
        }
        let now = self.now();
        for request in &message.requests {
            self.statistics.received += 1;
            let step = self.service.request(message.connection, request, now);
            self.perform(step, ctx);
        }
        if !self.queued.is_empty() {
            self.queued_shares.push(message.share);
        } else if self.commit_started_ms.is_some() {
            self.committing_shares.push(message.share);
        }
    }
}

impl Handler<Disconnect> for Znode {
    type Result = ();

    fn handle(&mut self, message: Disconnect, _: &mut Self::Context) {
        self.connections.remove(&message.connection);
        self.service.disconnect(message.connection);
    }
}

impl Handler<FourLetterWord> for Znode {
    type Result = String;

    fn handle(&mut self, FourLetterWord(word): FourLetterWord, _: &mut Self::Context) -> String {
        match word {
            Word::Srst | Word::Crst if self.settings.allows(word) => {
                self.statistics = Statistics::default()
            }
            _ if self.failure.is_none() => return four_letter::NOT_SERVING.into(),
            _ => {}
        }
        four_letter::answer(word, &self.service, &self.statistics, &self.settings)
    }
}

impl Handler<AdminCommand> for Znode {
    type Result = MessageResult<AdminCommand>;

    fn handle(&mut self, AdminCommand(name): AdminCommand, _: &mut Self::Context) -> Self::Result {
        if commands::resets(&name) {
            self.statistics = Statistics::default();
        }
        let subject = Subject {
            service: &self.service,
            statistics: &self.statistics,
            settings: &self.settings,
            uptime_ms: self.now().monotonic_ms - self.started_ms,
            is_serving: self.failure.is_some(),
        };
        MessageResult(commands::answer(&name, &subject))
    }
}

impl Handler<Stop> for Znode {
    type Result = ();

    fn handle(&mut self, Stop { done }: Stop, ctx: &mut Self::Context) {
        if self.failure.is_none() {
            let _ = done.send(Ok(()));
            return;
        }
        self.stopping = Some(done);
        self.snapshot_due = true;
        self.proceed(ctx);
    }
}
