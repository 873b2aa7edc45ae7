//! The task of one session: connects, sends requests, hands out replies and events, pings, and connects again.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use troupe_protocol::zookeeper::connect::{ConnectRequest, ConnectResponse};
use troupe_protocol::zookeeper::frame::{build_frame, split_frame};
use troupe_protocol::zookeeper::jute::{Reader, Writer};
use troupe_protocol::zookeeper::requests::{NOTIFICATION_XID, PING_XID, op};

use super::error::{ClientError, code};
use super::{Event, Header, state, strip};
use crate::network::{Network, Stream};

/// The longest reply that is taken, in bytes: lists of children can be longer than a request may be.
const MAX_REPLY: usize = 64 * 1024 * 1024;
/// Time between two rounds through the servers.
const RETRY: Duration = Duration::from_millis(500);
const AUTH_XID: i32 = -4;
const SET_WATCHES_XID: i32 = -8;

/// A request on its way.
pub(super) struct Call {
    pub(super) op: i32,
    pub(super) body: Bytes,
    /// What has to be said again after a reconnection, if the request succeeds.
    pub(super) keep: Option<Kept>,
    pub(super) reply: oneshot::Sender<Result<Reader, ClientError>>,
}

/// What a server does not remember of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// The body of an auth request.
    Auth(Bytes),
    /// A watch that a read left, by its operation.
    Watch(i32, String),
    /// A persistent watch, recursive or not.
    AddWatch(String, bool),
    /// Not a watch but the end of some.
    RemoveWatches(String, i32),
}

/// Watches by the lists of `setWatches2`.
#[derive(Debug, Default)]
struct Watches {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

impl Watches {
    fn lists(&self) -> [&BTreeSet<String>; 5] {
        [
            &self.data,
            &self.exist,
            &self.child,
            &self.persistent,
            &self.recursive,
        ]
    }

    fn keep(&mut self, kept: Kept, found: bool) {
        match kept {
            Kept::Watch(op::GET_CHILDREN2, path) if found => self.child.insert(path),
            Kept::Watch(op::EXISTS, path) if !found => self.exist.insert(path),
            Kept::Watch(_, path) if found => self.data.insert(path),
            Kept::AddWatch(path, true) if found => self.recursive.insert(path),
            Kept::AddWatch(path, false) if found => self.persistent.insert(path),
            _ => false,
        };
    }

    /// Forgets watches of a kind: 1 of children, 2 of data, 3 any. Returns the events that tell of it.
    fn remove(&mut self, path: &str, kind: i32) -> Vec<i32> {
        let mut events = Vec::new();
        if kind != 2 && self.child.remove(path) {
            events.push(6);
        }
        if kind != 1 && (self.data.remove(path) | self.exist.remove(path)) {
            events.push(5);
        }
        if kind == 3 && (self.persistent.remove(path) | self.recursive.remove(path)) {
            events.push(7);
        }
        events
    }

    /// Forgets what an event used up.
    fn fired(&mut self, kind: i32, path: &str) {
        if kind != 4 {
            self.data.remove(path);
            self.exist.remove(path);
        }
        if kind == 2 || kind == 4 {
            self.child.remove(path);
        }
    }
}

/// Why a connection ended.
enum End {
    /// The client closed the session.
    Closed,
    /// The server says that the session has ended.
    Expired,
    /// The server does not believe a name.
    AuthFailed,
    Lost,
}

/// The task and what it remembers between connections.
pub(super) struct Session {
    network: Network,
    /// Hosts and ports.
    servers: Vec<(String, u16)>,
    timeout: Duration,
    chroot: String,
    events: Box<dyn FnMut(Event)>,
    id: i64,
    /// Where others read the id.
    shown_id: Arc<AtomicI64>,
    password: Bytes,
    last_zxid: i64,
    next_xid: i32,
    auths: Vec<Bytes>,
    watches: Watches,
    pending: VecDeque<(i32, Call)>,
    buffer: BytesMut,
}

impl Session {
    pub(super) fn new(
        (network, servers): (Network, Vec<(String, u16)>),
        timeout: Duration,
        chroot: String,
        shown_id: Arc<AtomicI64>,
        events: Box<dyn FnMut(Event)>,
    ) -> Self {
        Self {
            network,
            servers,
            timeout,
            chroot,
            events,
            id: 0,
            shown_id,
            password: Bytes::from_static(&[0; 16]),
            last_zxid: 0,
            next_xid: 1,
            auths: Vec::new(),
            watches: Watches::default(),
            pending: VecDeque::new(),
            buffer: BytesMut::new(),
        }
    }

    /// Keeps the session until it is closed, has expired, or nobody wants it any more.
    pub(super) async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        loop {
            let end = match self.connect(&mut calls).await {
                Ok((stream, granted)) => self.serve(stream, granted, &mut calls).await,
                Err(end) => end,
            };
            let (state, error) = match end {
                End::Closed => return,
                End::Expired => (state::EXPIRED, ClientError::Expired),
                End::AuthFailed => (state::AUTH_FAILED, ClientError::Code(code::AUTH_FAILED)),
                End::Lost => (state::DISCONNECTED, ClientError::ConnectionLoss),
            };
            self.tell(state, -1, None, -1);
            for (_, call) in self.pending.drain(..) {
                let _ = call.reply.send(Err(error.clone()));
            }
            if state != state::DISCONNECTED {
                return;
            }
        }
    }

    /// Goes through the servers until one takes the session; returns the granted time-out. What is asked meanwhile fails
    /// after each round.
    async fn connect(
        &mut self,
        calls: &mut mpsc::Receiver<Call>,
    ) -> Result<(Stream, Duration), End> {
        loop {
            for (host, port) in self.servers.clone() {
                let attempt = timeout(self.timeout, self.handshake((&host, port))).await;
                match attempt {
                    Ok(Ok(Some(connected))) => return Ok(connected),
                    Ok(Ok(None)) => return Err(End::Expired),
                    Ok(Err(error)) => tracing::debug!(host, port, %error, "no session"),
                    Err(_) => tracing::debug!(host, port, "no session in time"),
                }
            }
            sleep(RETRY).await;
            loop {
                match calls.try_recv() {
                    Ok(call) => {
                        let _ = call.reply.send(Err(ClientError::ConnectionLoss));
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Err(End::Closed),
                }
            }
        }
    }

    async fn handshake(&mut self, server: (&str, u16)) -> io::Result<Option<(Stream, Duration)>> {
        let mut stream = self.network.connect(server).await?;
        self.buffer.clear();
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.last_zxid,
            timeout_ms: i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX),
            session_id: self.id,
            password: self.password.clone(),
            read_only: Some(false),
        };
        stream.write_all(&request.to_frame()).await?;
        let frame = read_frame(&mut stream, &mut self.buffer).await?;
        let response = ConnectResponse::decode(frame).map_err(io::Error::other)?;
        let Some(granted_ms) = u64::try_from(response.timeout_ms).ok().filter(|ms| *ms > 0) else {
            return Ok(None);
        };
        self.id = response.session_id;
        self.shown_id.store(self.id, Ordering::Relaxed);
        self.password = Bytes::copy_from_slice(&response.password);
        for auth in &self.auths {
            write(&mut stream, AUTH_XID, op::AUTH, auth).await?;
        }
        if self.watches.lists().iter().any(|list| !list.is_empty()) {
            let body = self.set_watches();
            write(&mut stream, SET_WATCHES_XID, op::SET_WATCHES2, &body).await?;
        }
        Ok(Some((stream, Duration::from_millis(granted_ms))))
    }

    fn set_watches(&self) -> Bytes {
        let mut body = BytesMut::new();
        body.put_i64(self.last_zxid);
        for list in self.watches.lists() {
            body.length(list.len());
            for path in list {
                body.string(path.as_bytes());
            }
        }
        body.freeze()
    }

    async fn serve(
        &mut self,
        mut stream: Stream,
        granted: Duration,
        calls: &mut mpsc::Receiver<Call>,
    ) -> End {
        self.tell(state::SYNC_CONNECTED, -1, None, -1);
        let (ping_every, patience) = (granted / 3, granted * 2 / 3);
        let (mut sent, mut heard) = (Instant::now(), Instant::now());
        loop {
            let result = tokio::select! {
                frame = read_frame(&mut stream, &mut self.buffer) => {
                    heard = Instant::now();
                    match frame.map(|frame| self.take(frame)) {
                        Ok(None) => Ok(()),
                        Ok(Some(end)) => return end,
                        Err(error) => Err(error),
                    }
                }
                call = calls.recv() => {
                    sent = Instant::now();
                    match call {
                        Some(call) => self.send(&mut stream, call).await,
                        None => {
                            let _ = write(&mut stream, self.next_xid, op::CLOSE_SESSION, &[]).await;
                            return End::Closed;
                        }
                    }
                }
                () = tokio::time::sleep_until(sent + ping_every) => {
                    sent = Instant::now();
                    write(&mut stream, PING_XID, op::PING, &[]).await
                }
                () = tokio::time::sleep_until(heard + patience) => return End::Lost,
            };
            if result.is_err() {
                return End::Lost;
            }
        }
    }

    async fn send(&mut self, stream: &mut Stream, call: Call) -> io::Result<()> {
        let xid = if call.op == op::AUTH {
            AUTH_XID
        } else {
            self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
            self.next_xid
        };
        let written = write(stream, xid, call.op, &call.body).await;
        self.pending.push_back((xid, call));
        written
    }

    /// Takes what came; says how the connection ends, if it does.
    fn take(&mut self, frame: Bytes) -> Option<End> {
        let mut reader = Reader::new(frame);
        let Ok(header) = Header::decode(&mut reader) else {
            return Some(End::Lost);
        };
        if header.zxid > 0 {
            self.last_zxid = self.last_zxid.max(header.zxid);
        }
        match header.xid {
            NOTIFICATION_XID => return self.notified(&mut reader, header.zxid),
            PING_XID | SET_WATCHES_XID => return None,
            AUTH_XID if header.error != 0 => return Some(End::AuthFailed),
            _ => {}
        }
        let (xid, _) = self.pending.front()?;
        if header.xid != *xid {
            // The answer to an auth request that was sent again.
            return (header.xid != AUTH_XID).then_some(End::Lost);
        }
        let (_, call) = self.pending.pop_front()?;
        if let Some(kept) = call.keep {
            self.keep(kept, header.error);
        }
        let is_end = call.op == op::CLOSE_SESSION;
        let _ = call.reply.send(match header.error {
            0 => Ok(reader),
            -112 => Err(ClientError::Expired),
            error => Err(ClientError::Code(error)),
        });
        is_end.then_some(End::Closed)
    }

    fn keep(&mut self, kept: Kept, error: i32) {
        match kept {
            Kept::Auth(body) => self.auths.push(body),
            Kept::RemoveWatches(path, kind) if error == 0 => {
                let shown = strip(&self.chroot, &Bytes::from(path.clone().into_bytes()));
                for event in self.watches.remove(&path, kind) {
                    self.tell(state::SYNC_CONNECTED, event, Some(shown.clone()), -1);
                }
            }
            kept if error == 0 || error == code::NO_NODE => self.watches.keep(kept, error == 0),
            _ => {}
        }
    }

    fn notified(&mut self, reader: &mut Reader, zxid: i64) -> Option<End> {
        let (Ok(kind), Ok(state), Ok(path)) = (reader.int(), reader.int(), reader.string()) else {
            return Some(End::Lost);
        };
        self.watches.fired(kind, &String::from_utf8_lossy(&path));
        let path = strip(&self.chroot, &path);
        self.tell(state, kind, Some(path), zxid);
        None
    }

    fn tell(&mut self, state: i32, kind: i32, path: Option<String>, zxid: i64) {
        (self.events)(Event {
            state,
            kind,
            path,
            zxid,
        });
    }
}

async fn write(stream: &mut Stream, xid: i32, op: i32, body: &[u8]) -> io::Result<()> {
    let frame = build_frame(|out| {
        out.put_i32(xid);
        out.put_i32(op);
        out.put_slice(body);
    });
    stream.write_all(&frame).await
}

/// Reads the next frame; can be dropped and begun again, for what came is in the buffer.
async fn read_frame(stream: &mut Stream, buffer: &mut BytesMut) -> io::Result<Bytes> {
    loop {
        if let Some(frame) = split_frame(buffer, MAX_REPLY).map_err(io::Error::other)? {
            return Ok(frame);
        }
        buffer.reserve(4096);
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/a";

    fn watches(kept: impl IntoIterator<Item = (Kept, bool)>) -> Watches {
        let mut watches = Watches::default();
        for (kept, found) in kept {
            watches.keep(kept, found);
        }
        watches
    }

    fn armed(watches: &Watches) -> [bool; 5] {
        watches.lists().map(|list| list.contains(PATH))
    }

    fn read(op: i32) -> Kept {
        Kept::Watch(op, PATH.to_owned())
    }

    #[test]
    fn a_read_arms_what_the_server_arms() {
        let data = [true, false, false, false, false];
        assert_eq!(armed(&watches([(read(op::GET_DATA), true)])), data);
        assert_eq!(armed(&watches([(read(op::EXISTS), true)])), data);
        let exist = [false, true, false, false, false];
        assert_eq!(armed(&watches([(read(op::EXISTS), false)])), exist);
        let child = [false, false, true, false, false];
        assert_eq!(armed(&watches([(read(op::GET_CHILDREN2), true)])), child);
        assert_eq!(
            armed(&watches([
                (read(op::GET_DATA), false),
                (read(op::GET_CHILDREN2), false)
            ])),
            [false; 5]
        );
    }

    #[test]
    fn an_event_uses_up_what_waits_for_it_and_no_persistent_watch() {
        let all = || {
            watches([
                (read(op::GET_DATA), true),
                (read(op::GET_CHILDREN2), true),
                (Kept::AddWatch(PATH.to_owned(), false), true),
                (Kept::AddWatch(PATH.to_owned(), true), true),
            ])
        };
        let after = |kind| {
            let mut watches = all();
            watches.fired(kind, PATH);
            armed(&watches)
        };
        assert_eq!(after(3), [false, false, true, true, true]);
        assert_eq!(after(4), [true, false, false, true, true]);
        assert_eq!(after(2), [false, false, false, true, true]);
    }

    #[test]
    fn removed_watches_are_told_by_kind() {
        let mut watches = watches([
            (read(op::GET_DATA), true),
            (read(op::GET_CHILDREN2), true),
            (Kept::AddWatch(PATH.to_owned(), true), true),
        ]);
        assert_eq!(watches.remove(PATH, 2), [5]);
        assert_eq!(watches.remove(PATH, 3), [6, 7]);
        assert_eq!(watches.remove(PATH, 3), [0; 0]);
    }
}
