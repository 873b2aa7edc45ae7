//! The coordination service without sockets, files and clocks: requests of connections in, frames and transactions out.
//!
//! Pure. Outputs are in the order in which they must leave: an event is before every reply that shows what it tells of.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use troupe_protocol::zookeeper::Id;
use troupe_protocol::zookeeper::connect::{ConnectRequest, ConnectResponse, PASSWORD_LEN};
use troupe_protocol::zookeeper::records::perms;
use troupe_protocol::zookeeper::replies::event_frame;

use super::acl;
use super::records::{Batch, NODE, SESSION, ZXID, decode_session, decode_zxid};
use super::sessions::{ConnectionId, Sessions, TimeoutRange};
use super::store::{Contents, Restore};
use super::transaction::{self, Effects};
use super::tree::{Tree, TreeError};
use super::watches::Watches;
use crate::runtime::Clock;

/// The time, by both clocks, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since the Unix epoch.
    pub wall_ms: i64,
    /// Since some moment; never goes back.
    pub monotonic_ms: i64,
}

impl Now {
    /// Reads both clocks.
    pub fn of(clock: &dyn Clock) -> Self {
        Self {
            wall_ms: clock.now_ms(),
            monotonic_ms: i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// One connected client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its session.
    pub session: i64,
    /// Everybody it has proved to be.
    pub ids: Vec<Id>,
    /// Where it comes from.
    pub peer: SocketAddr,
}

/// Something that leaves for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A whole frame, with its length.
    Frame(ConnectionId, Bytes),
    /// Nothing more comes: close after what was sent before.
    Close(ConnectionId),
}

/// What has to be done after an input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be stored before any of the outputs leaves.
    pub batch: Option<Batch>,
    /// To be sent, in this order.
    pub outputs: Vec<Output>,
}

/// Why stored contents are not those of a coordination service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// The nodes are no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A session's record, or the zxid, does not decode.
    #[error("the record of {0} does not decode")]
    Record(&'static str),
    /// There are records, but no last transaction.
    #[error("the number of the last transaction is missing")]
    NoZxid,
}

/// How often containers and nodes with a time to live are looked through.
const REAP_INTERVAL_MS: i64 = 60_000;

/// The whole state.
#[derive(Debug)]
pub struct Service {
    pub(super) tree: Tree,
    pub(super) sessions: Sessions,
    pub(super) watches: Watches,
    pub(super) clients: BTreeMap<ConnectionId, Client>,
    pub(super) zxid: i64,
    next_reap_ms: i64,
}

impl Service {
    /// Takes up what the store has; an empty store begins a service.
    pub fn restore(
        contents: &Contents,
        timeouts: TimeoutRange,
        now: Now,
    ) -> Result<Self, ContentsError> {
        let mut restoration = Restoration::new(timeouts, now);
        for (key, value) in contents {
            restoration.record(key, value)?;
        }
        restoration.finish()
    }

    /// Returns the number of the last transaction.
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    /// Returns the tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Returns the watches.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Returns the connected clients.
    pub fn clients(&self) -> &BTreeMap<ConnectionId, Client> {
        &self.clients
    }

    /// Answers a handshake. `password` becomes that of the session if it is a new one.
    pub fn connect(
        &mut self,
        connection: ConnectionId,
        peer: SocketAddr,
        request: &ConnectRequest,
        password: [u8; PASSWORD_LEN],
        now: Now,
    ) -> Step {
        let mut step = Step::default();
        if request.last_zxid_seen > self.zxid {
            // It has seen a newer tree than this one; it must not take this one for the same.
            tracing::warn!(%peer, seen = request.last_zxid_seen, ours = self.zxid, "refusing a client that has seen a newer zxid");
            step.outputs.push(Output::Close(connection));
            return step;
        }
        let answer = match request.session_id {
            0 => self.new_session(connection, request.timeout_ms, password, now, &mut step),
            _ => self.old_session(connection, request, now, &mut step),
        };
        let with_read_only = request.read_only.is_some();
        match answer {
            Some(response) => {
                let client = Client {
                    session: response.session_id,
                    ids: vec![acl::ip_id(peer.ip())],
                    peer,
                };
                self.clients.insert(connection, client);
                let frame = response.to_frame(with_read_only);
                step.outputs.push(Output::Frame(connection, frame));
            }
            None => {
                let frame = ConnectResponse::EXPIRED.to_frame(with_read_only);
                step.outputs.push(Output::Frame(connection, frame));
                step.outputs.push(Output::Close(connection));
            }
        }
        step
    }

    fn new_session(
        &mut self,
        connection: ConnectionId,
        wanted_ms: i32,
        password: [u8; PASSWORD_LEN],
        now: Now,
        step: &mut Step,
    ) -> Option<ConnectResponse> {
        self.zxid += 1;
        let (session_id, session) =
            self.sessions
                .create(connection, wanted_ms, password, now.monotonic_ms);
        let mut batch = Batch::new(self.zxid);
        batch.session(session_id, Some(session));
        step.batch = Some(batch);
        Some(ConnectResponse {
            timeout_ms: session.timeout_ms,
            session_id,
            password,
        })
    }

    fn old_session(
        &mut self,
        connection: ConnectionId,
        request: &ConnectRequest,
        now: Now,
        step: &mut Step,
    ) -> Option<ConnectResponse> {
        let before = self.sessions.get(request.session_id)?.timeout_ms;
        let (session, previous) = self.sessions.reconnect(
            request.session_id,
            &request.password,
            connection,
            request.timeout_ms,
            now.monotonic_ms,
        )?;
        let response = ConnectResponse {
            timeout_ms: session.timeout_ms,
            session_id: request.session_id,
            password: session.password,
        };
        if session.timeout_ms != before {
            let mut batch = Batch::new(self.zxid);
            batch.session(request.session_id, Some(session));
            step.batch = Some(batch);
        }
        if let Some(previous) = previous {
            self.forget(previous);
            step.outputs.push(Output::Close(previous));
        }
        Some(response)
    }

    /// Takes note that a connection is gone; its session waits for the next one.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        if let Some(client) = self.clients.get(&connection) {
            self.sessions.disconnect(client.session, connection);
        }
        self.forget(connection);
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.clients.remove(&connection);
        self.watches.disconnect(connection);
    }

    /// Takes note that nobody could be heard for so long, which ends no session.
    pub fn was_deaf(&mut self, lost_ms: i64) {
        self.sessions.prolong(lost_ms);
    }

    /// Ends sessions that were not heard, and nodes whose life is over. Called at least every second.
    pub fn tick(&mut self, now: Now) -> Step {
        let mut step = Step::default();
        for session in self.sessions.expired(now.monotonic_ms) {
            tracing::info!("session 0x{session:x} expired");
            let connection = self.end_session(session, &mut step);
            step.outputs.extend(connection.map(Output::Close));
        }
        if now.monotonic_ms >= self.next_reap_ms {
            self.next_reap_ms = now.monotonic_ms + REAP_INTERVAL_MS;
            let dead = transaction::dead_nodes(&self.tree, now.wall_ms);
            if !dead.is_empty() {
                let effects = transaction::remove(&mut self.tree, &dead, self.zxid + 1);
                self.commit(effects, &mut step);
            }
        }
        step
    }

    /// Ends a session with its ephemeral nodes, in one transaction; returns the connection that had it.
    pub(super) fn end_session(&mut self, session: i64, step: &mut Step) -> Option<ConnectionId> {
        let removed = self.sessions.remove(session);
        let effects = transaction::end_session(&mut self.tree, session, self.zxid + 1);
        self.commit(effects, step);
        if let Some(batch) = &mut step.batch {
            batch.session(session, None);
        }
        let connection = removed.and_then(|session| session.connection);
        if let Some(connection) = connection {
            self.forget(connection);
        }
        connection
    }

    /// Numbers a transaction that was applied to the tree as the next one, tells those who watch, and adds it to what
    /// is to be stored.
    pub(super) fn commit(&mut self, effects: Effects, step: &mut Step) {
        self.zxid += 1;
        let mut batch = Batch::new(self.zxid);
        batch.nodes(&self.tree, effects.changed.iter());
        match &mut step.batch {
            Some(earlier) => earlier.merge(batch),
            None => step.batch = Some(batch),
        }
        for event in effects.events {
            let frame = event_frame(event.kind, &event.path, self.zxid);
            // A watch that has fired is used up, also for those who are not allowed to hear of it.
            let heard = self.watches.fire(event.kind, &event.path);
            let allowed = heard.into_iter().filter(|&to| {
                let ids = self.clients.get(&to).map_or(&[][..], |client| &client.ids);
                acl::allows(&event.acl, perms::READ, ids)
            });
            step.outputs
                .extend(allowed.map(|to| Output::Frame(to, frame.clone())));
        }
    }
}

/// A service in the making.
#[derive(Debug)]
pub struct Restoration {
    tree: Tree,
    sessions: Sessions,
    zxid: Option<i64>,
    is_empty: bool,
    now: Now,
}

impl Restoration {
    /// Begins without any record.
    pub fn new(timeouts: TimeoutRange, now: Now) -> Self {
        let first_id = Sessions::first_id(now.wall_ms);
        Self {
            tree: Tree::new(),
            sessions: Sessions::new(timeouts, first_id, now.monotonic_ms),
            zxid: None,
            is_empty: true,
            now,
        }
    }
}

impl Restore for Restoration {
    type Output = Service;
    type Error = ContentsError;

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), ContentsError> {
        self.is_empty = false;
        match key.split_first() {
            _ if key == ZXID => {
                let zxid = decode_zxid(value).ok_or(ContentsError::Record("the zxid"))?;
                self.zxid = Some(zxid);
            }
            Some((&NODE, path)) => self.tree.restore_node(path, value)?,
            Some((&SESSION, id)) => {
                let (id, timeout_ms, password) =
                    decode_session(id, value).ok_or(ContentsError::Record("a session"))?;
                let now_ms = self.now.monotonic_ms;
                self.sessions.restore(id, timeout_ms, password, now_ms);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Service, ContentsError> {
        let zxid = match self.zxid {
            Some(zxid) => zxid,
            None if self.is_empty => first_zxid(self.now.wall_ms),
            None => return Err(ContentsError::NoZxid),
        };
        Ok(Service {
            tree: self.tree,
            sessions: self.sessions,
            watches: Watches::default(),
            clients: BTreeMap::new(),
            zxid,
            next_reap_ms: self.now.monotonic_ms + REAP_INTERVAL_MS,
        })
    }
}

/// Returns where a service that never was begins: later than any earlier one in the same place, so that clients of that
/// one (whose directory was deleted) are not refused for having seen a newer zxid.
fn first_zxid(wall_ms: i64) -> i64 {
    (wall_ms / 60_000) << 32
}
