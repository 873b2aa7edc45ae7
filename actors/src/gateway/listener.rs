//! Accepts connections and spreads them over the gateway's threads.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::affinity::Affinity;
use super::budget::ByteBudget;
use super::connection::{Closed, Connection, ConnectionLimits, Parked};
use super::dispatch::Dispatch;
use super::fetch_session::FetchSessions;
use super::limits::{ConnectionCounts, Place};
use crate::broker::BrokerContext;
use crate::network::{BoundSocket, Detached, Network};

/// How long to leave a machine alone that has no descriptor left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, and the name of its listener.
pub struct BoundListener {
    /// The listener's name, as `PLAINTEXT`.
    pub name: Arc<str>,
    /// The socket.
    pub socket: BoundSocket,
}

impl BoundListener {
    /// Binds a listener; port 0 takes a free one.
    ///
    /// An empty host, or `::`, stands for every address of the machine, IPv4 and IPv6, or IPv4 alone where there is no
    /// IPv6. A host name is resolved, and its first address that can be bound is taken.
    pub fn bind(
        network: &Network,
        name: &str,
        (host, port): (&str, u16),
        backlog: i32,
    ) -> io::Result<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let every_address = [
            IpAddr::from(Ipv6Addr::UNSPECIFIED),
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
        ];
        let addresses: Vec<SocketAddr> = if host.is_empty() || host == "::" {
            every_address
                .into_iter()
                .map(|ip| (ip, port).into())
                .collect()
        } else {
            std::net::ToSocketAddrs::to_socket_addrs(&(host, port))?.collect()
        };
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            let bound = match network {
                Network::System => listen(address, backlog).map(BoundSocket::System),
                Network::Simulated(network) => network.listen(address).map(BoundSocket::Simulated),
            };
            match bound {
                Ok(socket) => {
                    return Ok(Self {
                        name: name.into(),
                        socket,
                    });
                }
                // Another program holds the port: the other address family would only hide it.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Returns the address, with the port that was really taken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<StdListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // A restarted broker takes its port although connections of its former life linger.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket.into())
}

/// The running network side of a broker.
#[derive(Debug)]
pub struct Gateway {
    /// Cancelled: no new connections, no new requests.
    stop: CancellationToken,
    /// Cancelled: connections end at once.
    abort: CancellationToken,
    /// Closed when the last acceptor and connection is gone.
    alive: mpsc::Receiver<()>,
}

/// What every acceptor needs for its connections.
#[derive(Clone)]
struct Shared {
    broker: Arc<BrokerContext>,
    sessions: Arc<FetchSessions>,
    counts: Arc<ConnectionCounts>,
    limits: ConnectionLimits,
    stop: CancellationToken,
    abort: CancellationToken,
    /// Held by everything that has to end before the gateway has.
    _alive: mpsc::Sender<()>,
}

impl Gateway {
    /// Starts to accept on `listeners`; the limits come from the broker's configuration.
    pub fn start(broker: Arc<BrokerContext>, listeners: Vec<BoundListener>) -> Self {
        let config = &broker.config;
        let (alive, all_gone) = mpsc::channel(1);
        let threads = broker.runtime.gateway.size();
        let slots = config.max_incremental_fetch_session_cache_slots;
        let shared = Shared {
            sessions: Arc::new(FetchSessions::new(slots)),
            counts: ConnectionCounts::new(
                threads,
                config.max_connections,
                config.max_connections_per_ip,
            ),
            limits: ConnectionLimits {
                max_request_bytes: config.socket_request_max_bytes,
                max_idle: u64::try_from(config.connections_max_idle_ms)
                    .ok()
                    .map(Duration::from_millis),
                budget: ByteBudget::new(config.queued_max_request_bytes),
            },
            broker: Arc::clone(&broker),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            _alive: alive,
        };
        let (stop, abort) = (shared.stop.clone(), shared.abort.clone());
        for (thread, listener) in listeners.into_iter().enumerate() {
            let shared = shared.clone();
            broker
                .runtime
                .gateway
                .spawn(thread, move || accept(listener, shared));
        }
        Self {
            stop,
            abort,
            alive: all_gone,
        }
    }

    /// Stops: no new connections and requests; those in flight have `grace` to be answered, then they are cut off.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(grace, self.alive.recv())
            .await
            .is_err()
        {
            tracing::warn!(
                grace_ms = grace.as_millis(),
                "connections had unanswered requests when they were cut off"
            );
            self.abort.cancel();
            self.alive.recv().await;
        }
    }
}

async fn accept(listener: BoundListener, shared: Shared) {
    let name = listener.name;
    let listener = match listener.socket.attach() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(listener = %name, %error, "cannot accept connections"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, peer)) => admit(socket, peer, Arc::clone(&name), &shared),
            Err(error) if is_about_one_connection(&error) => {
                tracing::debug!(listener = %name, %error, "lost a connection")
            }
            Err(error) => {
                tracing::error!(listener = %name, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Tells a client that hung up before it was accepted from a machine that has no room.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | WouldBlock
    )
}

/// Hands a connection to the least loaded thread, or closes it when there are too many.
fn admit(socket: Detached, peer_addr: SocketAddr, listener: Arc<str>, shared: &Shared) {
    let place = match shared.counts.enter(peer_addr.ip()) {
        Ok(place) => place,
        Err(reason) => {
            return tracing::warn!(peer = %peer_addr, listener = %listener, %reason, "refused a connection");
        }
    };
    let opened = socket.set_nodelay().and_then(|()| socket.local_addr());
    match opened {
        Ok(local_addr) => {
            let parked = Parked::new(socket, place.thread);
            let client = Client {
                local_addr,
                peer_addr,
                listener,
                place,
                shared: shared.clone(),
            };
            client.place_on_its_thread(parked);
        }
        Err(error) => tracing::debug!(peer = %peer_addr, %error, "lost a connection"),
    }
}

/// What a connection keeps wherever it goes.
struct Client {
    local_addr: SocketAddr,
    peer_addr: SocketAddr,
    listener: Arc<str>,
    place: Place,
    shared: Shared,
}

impl Client {
    fn place_on_its_thread(mut self, parked: Parked) {
        self.place.move_to(parked.destination);
        let threads = self.shared.broker.runtime.gateway.clone();
        threads.spawn(parked.destination, move || self.run(parked));
    }

    /// Runs the connection to its end, whatever end that is, or until it moves to another thread.
    async fn run(self, parked: Parked) {
        let abort = self.shared.abort.clone();
        let serving = AssertUnwindSafe(self.serve(parked)).catch_unwind();
        let ended = tokio::select! {
            ended = serving => ended,
            () = abort.cancelled() => return,
        };
        match ended {
            Ok(Ok(parked)) => self.place_on_its_thread(parked),
            Ok(Err(closed)) => report(self.peer_addr, Some(closed)),
            Err(_panic) => report(self.peer_addr, None),
        }
    }

    async fn serve(&self, parked: Parked) -> Result<Parked, Closed> {
        let Shared {
            broker,
            sessions,
            limits,
            stop,
            ..
        } = &self.shared;
        let home = broker.runtime.is_shared().then_some(self.place.thread);
        let service = Dispatch {
            broker: Arc::clone(broker),
            sessions: Arc::clone(sessions),
            local_addr: self.local_addr,
            peer_addr: self.peer_addr,
            listener: Arc::clone(&self.listener),
            affinity: Rc::new(RefCell::new(Affinity::new(home))),
        };
        Connection::new(parked, service, limits)?.run(stop).await
    }
}

/// Logs why a connection ended; `None` stands for a panic.
fn report(peer: SocketAddr, ended: Option<Closed>) {
    match ended {
        None => tracing::error!(%peer, "a handler panicked; its connection is closed"),
        Some(reason @ (Closed::Frame(_) | Closed::Refused(_))) => {
            tracing::warn!(%peer, %reason, "closed a connection")
        }
        Some(reason @ Closed::Failed(_)) => tracing::info!(%peer, %reason, "closed a connection"),
        Some(Closed::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::error!(%peer, "a file ended before the range that was to be sent; closed the connection");
        }
        Some(reason) => tracing::debug!(%peer, %reason, "closed a connection"),
    }
}
