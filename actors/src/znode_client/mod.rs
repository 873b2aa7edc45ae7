//! A ZooKeeper client for the tools that show and copy a tree as it is.
//!
//! Unlike the client that the broker uses it keeps null apart from empty data, tells of every event in the order of the
//! replies, and leaves nothing to be guessed of a node: its statistics, its ACL, its kind.

mod error;
mod multi;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};
use troupe_protocol::zookeeper::jute::{JuteError, Reader, Writer};
use troupe_protocol::zookeeper::requests::op;
use troupe_protocol::zookeeper::{Acl, Stat};

pub(crate) use error::code;
pub use error::{ClientError, ConnectError};
pub use multi::{Done, Item, Refused};
use session::{Call, Kept, Session};

use crate::network::Network;

/// Requests that wait to be sent.
const QUEUE: usize = 64;
/// Where servers listen unless said otherwise.
const DEFAULT_PORT: u16 = 2181;

/// Something that happened without being asked for; numbers are those of ZooKeeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The state of the session.
    pub state: i32,
    /// What happened to the path, -1 for nothing.
    pub kind: i32,
    /// The path, unless it is about the session.
    pub path: Option<String>,
    /// The transaction, or -1.
    pub zxid: i64,
}

/// States of a session, as events have them.
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub mod state {
    pub const DISCONNECTED: i32 = 0;
    pub const SYNC_CONNECTED: i32 = 3;
    pub const AUTH_FAILED: i32 = 4;
    pub const EXPIRED: i32 = -112;
    pub const CLOSED: i32 = 7;
}

/// The node that a create makes; the numbers are the flags on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum CreateMode {
    Persistent = 0,
    Ephemeral = 1,
    PersistentSequential = 2,
    EphemeralSequential = 3,
    Container = 4,
    Ttl = 5,
    TtlSequential = 6,
}

/// Where servers are, and below which node the client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectString {
    hosts: Vec<(String, u16)>,
    /// Empty for none, or a path.
    chroot: String,
}

impl ConnectString {
    /// Reads `host:port,host:port/chroot`; the usual port is filled in.
    pub fn parse(text: &str) -> Result<Self, ConnectError> {
        let (servers, chroot) = text.find('/').map_or((text, ""), |at| text.split_at(at));
        let server = |server: &str| {
            let with_port = server
                .rsplit_once(':')
                .and_then(|(host, port)| Some((host, port.parse().ok()?)));
            let (host, port) = with_port.unwrap_or((server, DEFAULT_PORT));
            let host = host.trim_start_matches('[').trim_end_matches(']');
            (host.to_owned(), port)
        };
        let servers = servers.split(',').map(str::trim);
        let hosts: Vec<_> = servers
            .filter(|host| !host.is_empty())
            .map(server)
            .collect();
        if hosts.is_empty() {
            return Err(ConnectError::NoHost(text.to_owned()));
        }
        let chroot = chroot.trim_end_matches('/').to_owned();
        Ok(Self { hosts, chroot })
    }

    /// Returns the same servers without a chroot.
    pub fn without_chroot(&self) -> Self {
        Self {
            hosts: self.hosts.clone(),
            chroot: String::new(),
        }
    }

    /// Returns the chroot, empty for none.
    pub fn chroot(&self) -> &str {
        &self.chroot
    }

    /// Finds the addresses of all servers.
    async fn resolve(&self) -> Result<Vec<(String, u16)>, ConnectError> {
        let mut addrs = Vec::new();
        for (host, port) in &self.hosts {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await;
            let unresolved = |error| ConnectError::Unresolved(format!("{host}:{port}"), error);
            let found = found.map_err(unresolved)?;
            addrs.extend(found.map(|addr| (addr.ip().to_string(), addr.port())));
        }
        Ok(addrs)
    }
}

/// A session; it ends when this is closed or dropped.
pub struct Client {
    calls: mpsc::Sender<Call>,
    chroot: String,
    /// The id of the session, 0 before there is one.
    session_id: Arc<AtomicI64>,
}

impl Client {
    /// Begins a session, which connects as soon as it can; `events` is told of all that happens to it, in the order of
    /// the replies.
    pub async fn start(
        connect: &ConnectString,
        timeout: Duration,
        events: impl FnMut(Event) + 'static,
    ) -> Result<Self, ConnectError> {
        Self::start_on(&Network::System, connect, timeout, events).await
    }

    /// Begins a session on a network; in a simulation that knows where its hosts are.
    pub(crate) async fn start_on(
        network: &Network,
        connect: &ConnectString,
        timeout: Duration,
        events: impl FnMut(Event) + 'static,
    ) -> Result<Self, ConnectError> {
        let (calls, receiver) = mpsc::channel(QUEUE);
        let chroot = connect.chroot.clone();
        let servers = match network {
            Network::System => connect.resolve().await?,
            Network::Simulated(_) => connect.hosts.clone(),
        };
        let session_id = Arc::new(AtomicI64::new(0));
        let session = Session::new(
            (network.clone(), servers),
            timeout,
            chroot.clone(),
            Arc::clone(&session_id),
            Box::new(events),
        );
        actix_rt::spawn(session.run(receiver));
        Ok(Self {
            calls,
            chroot,
            session_id,
        })
    }

    /// Returns the id of the session, 0 before the first connection.
    pub fn session_id(&self) -> i64 {
        self.session_id.load(Ordering::Relaxed)
    }

    /// Returns the path as the server knows it.
    fn full(&self, path: &str) -> String {
        match path {
            "/" if !self.chroot.is_empty() => self.chroot.clone(),
            path => format!("{}{path}", self.chroot),
        }
    }

    fn stripped(&self, path: &Bytes) -> String {
        strip(&self.chroot, path)
    }

    async fn call(
        &self,
        op: i32,
        keep: Option<Kept>,
        body: impl FnOnce(&mut BytesMut),
    ) -> Result<Reader, ClientError> {
        let mut request = BytesMut::new();
        body(&mut request);
        let (reply, answered) = oneshot::channel();
        let call = Call {
            op,
            body: request.freeze(),
            keep,
            reply,
        };
        self.calls
            .send(call)
            .await
            .map_err(|_| ClientError::Closed)?;
        answered.await.map_err(|_| ClientError::Closed)?
    }

    /// Creates a node and returns its name.
    pub async fn create(
        &self,
        path: &str,
        data: Option<&[u8]>,
        acl: &[Acl],
        mode: CreateMode,
        ttl_ms: i64,
    ) -> Result<String, ClientError> {
        let code = match mode {
            CreateMode::Container => op::CREATE_CONTAINER,
            CreateMode::Ttl | CreateMode::TtlSequential => op::CREATE_TTL,
            _ => op::CREATE,
        };
        let path = self.full(path);
        let mut reply = self
            .call(code, None, |out| {
                out.string(path.as_bytes());
                out.buffer(data);
                acls(out, acl);
                out.put_i32(mode as i32);
                if code == op::CREATE_TTL {
                    out.put_i64(ttl_ms);
                }
            })
            .await?;
        Ok(self.stripped(&reply.string()?))
    }

    /// Deletes a node; version -1 is any.
    pub async fn delete(&self, path: &str, version: i32) -> Result<(), ClientError> {
        self.on_path(op::DELETE, path, |out| out.put_i32(version))
            .await
            .map(|_| ())
    }

    /// Returns the statistics of a node.
    pub async fn exists(&self, path: &str, watch: bool) -> Result<Stat, ClientError> {
        let mut reply = self.read(op::EXISTS, path, watch).await?;
        Ok(Stat::decode(&mut reply)?)
    }

    /// Returns data, which may be null, and statistics.
    pub async fn get(&self, path: &str, watch: bool) -> Result<(Option<Bytes>, Stat), ClientError> {
        let mut reply = self.read(op::GET_DATA, path, watch).await?;
        Ok((reply.buffer()?, Stat::decode(&mut reply)?))
    }

    /// Sets data; version -1 is any.
    pub async fn set(
        &self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
    ) -> Result<Stat, ClientError> {
        let mut reply = self
            .on_path(op::SET_DATA, path, |out| {
                out.buffer(data);
                out.put_i32(version);
            })
            .await?;
        Ok(Stat::decode(&mut reply)?)
    }

    /// Returns the names of the children, sorted, and the statistics of the node.
    pub async fn children(
        &self,
        path: &str,
        watch: bool,
    ) -> Result<(Vec<String>, Stat), ClientError> {
        let mut reply = self.read(op::GET_CHILDREN2, path, watch).await?;
        let mut names: Vec<_> = reply.strings()?.iter().map(text).collect();
        names.sort();
        Ok((names, Stat::decode(&mut reply)?))
    }

    /// Returns the ACL of a node and its statistics.
    pub async fn acl(&self, path: &str) -> Result<(Vec<Acl>, Stat), ClientError> {
        let mut reply = self.on_path(op::GET_ACL, path, |_| ()).await?;
        let acl = reply.vector(Acl::decode)?.unwrap_or_default();
        Ok((acl, Stat::decode(&mut reply)?))
    }

    /// Sets the ACL of a node; version -1 is any.
    pub async fn set_acl(
        &self,
        path: &str,
        acl: &[Acl],
        version: i32,
    ) -> Result<Stat, ClientError> {
        let mut reply = self
            .on_path(op::SET_ACL, path, |out| {
                acls(out, acl);
                out.put_i32(version);
            })
            .await?;
        Ok(Stat::decode(&mut reply)?)
    }

    /// Waits until the server has what its leader had.
    pub async fn sync(&self, path: &str) -> Result<(), ClientError> {
        self.on_path(op::SYNC, path, |_| ()).await.map(|_| ())
    }

    /// Proves a name, now and after every reconnection.
    pub async fn auth(&self, scheme: &str, auth: &[u8]) -> Result<(), ClientError> {
        let (scheme, auth) = (scheme.as_bytes(), auth);
        let mut body = BytesMut::new();
        body.put_i32(0);
        body.string(scheme);
        body.buffer(Some(auth));
        let keep = Kept::Auth(body.clone().freeze());
        self.call(op::AUTH, Some(keep), |out| out.put_slice(&body))
            .await
            .map(|_| ())
    }

    /// Returns who the server takes this client for: scheme and name.
    pub async fn who_am_i(&self) -> Result<Vec<(String, String)>, ClientError> {
        let mut reply = self.call(op::WHO_AM_I, None, |_| ()).await?;
        let ids = reply.vector(|reader| Ok((text(&reader.string()?), text(&reader.string()?))))?;
        Ok(ids.unwrap_or_default())
    }

    /// Returns this session's ephemeral nodes below a prefix, sorted.
    pub async fn ephemerals(&self, prefix: &str) -> Result<Vec<String>, ClientError> {
        let mut reply = self.on_path(op::GET_EPHEMERALS, prefix, |_| ()).await?;
        let mut paths: Vec<_> = reply
            .strings()?
            .iter()
            .map(|path| self.stripped(path))
            .collect();
        paths.sort();
        Ok(paths)
    }

    /// Counts the nodes below a node.
    pub async fn all_children_number(&self, path: &str) -> Result<i32, ClientError> {
        let mut reply = self
            .on_path(op::GET_ALL_CHILDREN_NUMBER, path, |_| ())
            .await?;
        Ok(reply.int()?)
    }

    /// Watches a node, or a tree, until the watch is removed.
    pub async fn add_watch(&self, path: &str, recursive: bool) -> Result<(), ClientError> {
        let full = self.full(path);
        let keep = Kept::AddWatch(full.clone(), recursive);
        self.call(op::ADD_WATCH, Some(keep), |out| {
            out.string(full.as_bytes());
            out.put_i32(i32::from(recursive));
        })
        .await
        .map(|_| ())
    }

    /// Removes watches: 1 of children, 2 of data, 3 any.
    pub async fn remove_watches(&self, path: &str, kind: i32) -> Result<(), ClientError> {
        let full = self.full(path);
        let keep = Kept::RemoveWatches(full.clone(), kind);
        self.call(op::REMOVE_WATCHES, Some(keep), |out| {
            out.string(full.as_bytes());
            out.put_i32(kind);
        })
        .await
        .map(|_| ())
    }

    /// Returns the configuration of the ensemble, which is outside of every chroot.
    pub async fn config(&self, watch: bool) -> Result<(Option<Bytes>, Stat), ClientError> {
        let mut reply = self
            .call(op::GET_DATA, None, |out| {
                out.string(b"/zookeeper/config");
                out.boolean(watch);
            })
            .await?;
        Ok((reply.buffer()?, Stat::decode(&mut reply)?))
    }

    /// Ends the session, upon which its ephemeral nodes go.
    pub async fn close(self) {
        // A session that cannot be closed any more expires.
        let _ = self.call(op::CLOSE_SESSION, None, |_| ()).await;
    }

    async fn read(&self, code: i32, path: &str, watch: bool) -> Result<Reader, ClientError> {
        let full = self.full(path);
        let keep = watch.then(|| Kept::Watch(code, full.clone()));
        self.call(code, keep, |out| {
            out.string(full.as_bytes());
            out.boolean(watch);
        })
        .await
    }

    async fn on_path(
        &self,
        code: i32,
        path: &str,
        rest: impl FnOnce(&mut BytesMut),
    ) -> Result<Reader, ClientError> {
        let full = self.full(path);
        self.call(code, None, |out| {
            out.string(full.as_bytes());
            rest(out);
        })
        .await
    }
}

fn acls(out: &mut BytesMut, acl: &[Acl]) {
    out.length(acl.len());
    for entry in acl {
        entry.encode(out);
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Takes the chroot off a path of the server's.
fn strip(chroot: &str, path: &Bytes) -> String {
    let path = text(path);
    match path.strip_prefix(chroot) {
        Some("") => "/".to_owned(),
        Some(rest) => rest.to_owned(),
        None => path,
    }
}

/// What a reply's header says.
struct Header {
    xid: i32,
    zxid: i64,
    error: i32,
}

impl Header {
    fn decode(reader: &mut Reader) -> Result<Self, JuteError> {
        Ok(Self {
            xid: reader.int()?,
            zxid: reader.long()?,
            error: reader.int()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_string_has_servers_and_a_chroot() {
        let parsed = ConnectString::parse("a:1, b/kafka/").unwrap();
        assert_eq!(parsed.hosts, [("a".to_owned(), 1), ("b".to_owned(), 2181)]);
        assert_eq!(parsed.chroot, "/kafka");
        assert_eq!(ConnectString::parse("a/").unwrap().chroot, "");
        assert!(ConnectString::parse("/kafka").is_err());
    }

    #[test]
    fn the_chroot_is_taken_off_what_the_server_says() {
        let strip = |path: &'static str| strip("/kafka", &Bytes::from_static(path.as_bytes()));
        assert_eq!(strip("/kafka/a"), "/a");
        assert_eq!(strip("/kafka"), "/");
    }
}
