//! The listener, and how the whole service starts and ends.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::Addr;
use tokio::sync::{oneshot, watch};
use troupe_protocol::zookeeper::frame::DEFAULT_MAX_FRAME;

use super::actor::{Stop, Znode};
use super::connection::{self, Limits};
use super::four_letter::Settings;
use super::service::{ContentsError, Now, Restoration, Service};
use super::sessions::{ConnectionId, TimeoutRange};
use super::sled_store::SledStore;
use super::store::{StoreError, ZnodeStore};
use crate::network::{Detached, Listener, Network};
use crate::runtime::Runtime;

/// How the embedded coordination service runs.
#[derive(Debug, Clone)]
pub struct ZnodeConfig {
    /// Where the store is; created if missing.
    pub data_dir: PathBuf,
    /// Where clients connect: several addresses, port 0 for a free one. Empty for all addresses of both families.
    pub client_addrs: Vec<SocketAddr>,
    /// `clientPort`: the port on all addresses if `client_addrs` is empty; 0 for a free one.
    pub client_port: u16,
    /// `tickTime`, in milliseconds; sessions last 2 to 20 of it.
    pub tick_time_ms: i32,
    /// `minSessionTimeout`, in milliseconds.
    pub min_session_timeout_ms: Option<i32>,
    /// `maxSessionTimeout`, in milliseconds.
    pub max_session_timeout_ms: Option<i32>,
    /// `maxClientCnxns`: connections per address, 0 for any number.
    pub max_client_cnxns: usize,
    /// `jute.maxbuffer`: the longest request, in bytes.
    pub max_frame: usize,
    /// `4lw.commands.whitelist`: the four-letter words that are answered; all without a list.
    pub four_letter_words: Option<Vec<String>>,
    /// `globalOutstandingLimit`: requests of all connections that are taken and not answered yet.
    pub global_outstanding_limit: usize,
}

impl ZnodeConfig {
    /// Returns ZooKeeper's defaults, but any number of connections, as Kafka's `zookeeper.properties` has it.
    pub fn new(data_dir: impl Into<PathBuf>, client_port: u16) -> Self {
        Self {
            data_dir: data_dir.into(),
            client_addrs: Vec::new(),
            client_port,
            tick_time_ms: 3000,
            min_session_timeout_ms: None,
            max_session_timeout_ms: None,
            max_client_cnxns: 0,
            max_frame: DEFAULT_MAX_FRAME,
            four_letter_words: None,
            global_outstanding_limit: 1_000,
        }
    }

    /// Returns the shortest and the longest session time-out that are granted, in milliseconds.
    pub fn session_timeouts_ms(&self) -> (i32, i32) {
        let range = self.timeouts();
        (range.min_ms, range.max_ms)
    }

    fn timeouts(&self) -> TimeoutRange {
        let range = TimeoutRange::of_tick(self.tick_time_ms);
        TimeoutRange {
            min_ms: self.min_session_timeout_ms.unwrap_or(range.min_ms),
            max_ms: self.max_session_timeout_ms.unwrap_or(range.max_ms),
        }
    }
}

/// Why the service does not start or end as it should.
#[derive(Debug, thiserror::Error)]
pub enum CoordinationError {
    /// An address cannot be listened on.
    #[error("cannot listen for coordination clients on port {} ({addr}): {source}", addr.port())]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The store does not open, or the last write failed.
    #[error("the coordination store: {0}")]
    Store(#[from] StoreError),
    /// What is stored is no tree.
    #[error("the coordination store: {0}")]
    Contents(#[from] ContentsError),
    /// A thread of the service died.
    #[error("the coordination service died")]
    Died,
}

/// The running coordination service.
pub struct Coordination {
    addr: Addr<Znode>,
    local_addrs: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    failure: oneshot::Receiver<StoreError>,
}

impl Coordination {
    /// Opens the store, listens and serves, on the thread that the runtime has for it.
    pub async fn start(config: ZnodeConfig, runtime: &Runtime) -> Result<Self, CoordinationError> {
        let (directory, timeouts) = (config.data_dir.clone(), config.timeouts());
        let now = Now::of(runtime.clock.as_ref());
        let open = move || SledStore::open(&directory, || Restoration::new(timeouts, now));
        let opened = runtime.coordination.run(0, open).await;
        let (store, service) = opened.ok_or(CoordinationError::Died)??;
        Self::serve(config, runtime, Box::new(store), service).await
    }

    /// Serves a tree that is kept in another store.
    pub async fn start_with(
        config: ZnodeConfig,
        runtime: &Runtime,
        store: Box<dyn ZnodeStore>,
    ) -> Result<Self, CoordinationError> {
        let now = Now::of(runtime.clock.as_ref());
        let service = Service::restore(&store.contents()?, config.timeouts(), now)?;
        Self::serve(config, runtime, store, service).await
    }

    async fn serve(
        config: ZnodeConfig,
        runtime: &Runtime,
        store: Box<dyn ZnodeStore>,
        service: Service,
    ) -> Result<Self, CoordinationError> {
        let listeners = listen(&config, &runtime.network).await?;
        let local_addrs: Vec<_> = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        let settings = Settings {
            client_addr: local_addrs
                .first()
                .copied()
                .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.client_port))),
            data_dir: config.data_dir.clone(),
            tick_time_ms: config.tick_time_ms,
            max_client_cnxns: config.max_client_cnxns,
            four_letter_words: config.four_letter_words.clone(),
        };
        let (failed, failure) = oneshot::channel();
        let of = runtime.clone();
        let znode = move |_: &mut _| Znode::new(service, store, &of, settings, failed);
        let addr = runtime.coordination.start_actor(0, znode);
        let (stop, stopped) = watch::channel(false);
        let acceptor = Arc::new(Acceptor {
            znode: addr.clone(),
            runtime: runtime.clone(),
            limits: Limits::new(config.max_frame, config.global_outstanding_limit),
            max_per_address: config.max_client_cnxns,
            per_address: Mutex::default(),
            next: AtomicU64::new(1),
            stopped,
        });
        for listener in listeners {
            actix_rt::spawn(acceptor.clone().accept(listener));
        }
        Ok(Self {
            addr,
            local_addrs,
            stop,
            failure,
        })
    }

    /// Returns the port that clients connect to.
    pub fn port(&self) -> u16 {
        self.local_addrs.first().map_or(0, SocketAddr::port)
    }

    /// Returns every address that is listened on.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Returns the actor.
    pub fn addr(&self) -> &Addr<Znode> {
        &self.addr
    }

    /// Waits until the service can't go on, which is forever when all is well; tells why. Not to be called again after that.
    pub async fn failed(&mut self) -> CoordinationError {
        match (&mut self.failure).await {
            Ok(error) => CoordinationError::Store(error),
            Err(_) => CoordinationError::Died,
        }
    }

    /// Closes all connections, writes a snapshot and returns when everything is on disk. Sessions stay, as they do when
    /// the process is killed; who wants his to end closes it before.
    pub async fn shutdown(self) -> Result<(), CoordinationError> {
        let (done, stored) = oneshot::channel();
        self.addr
            .send(Stop { done })
            .await
            .map_err(|_| CoordinationError::Died)?;
        let result = stored.await.map_err(|_| CoordinationError::Died)?;
        self.stop.send_replace(true);
        Ok(result?)
    }
}

async fn listen(
    config: &ZnodeConfig,
    network: &Network,
) -> Result<Vec<Listener>, CoordinationError> {
    if !config.client_addrs.is_empty() {
        let mut listeners = Vec::new();
        for &addr in &config.client_addrs {
            listeners.push(bind(addr, network).await?);
        }
        return Ok(listeners);
    }
    // A socket on the IPv6 wildcard takes IPv4 as well, where there is IPv6 and the system has it so.
    let dual_stack = SocketAddr::from((Ipv6Addr::UNSPECIFIED, config.client_port));
    match bind(dual_stack, network).await {
        Ok(listener) => Ok(vec![listener]),
        Err(CoordinationError::Listen { source, .. })
            if source.kind() != io::ErrorKind::AddrInUse =>
        {
            let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.client_port));
            Ok(vec![bind(addr, network).await?])
        }
        Err(error) => Err(error),
    }
}

async fn bind(addr: SocketAddr, network: &Network) -> Result<Listener, CoordinationError> {
    network
        .listen(addr)
        .await
        .map_err(|source| CoordinationError::Listen { addr, source })
}

/// Takes connections in.
struct Acceptor {
    znode: Addr<Znode>,
    runtime: Runtime,
    limits: Limits,
    max_per_address: usize,
    per_address: Mutex<HashMap<IpAddr, usize>>,
    next: AtomicU64,
    stopped: watch::Receiver<bool>,
}

impl Acceptor {
    async fn accept(self: Arc<Self>, listener: Listener) {
        let mut stopped = self.stopped.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.wait_for(|&stopped| stopped) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.clone().admit(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a coordination client");
                    // Out of file descriptors, most likely: the next attempt would fail at once.
                    actix_rt::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(self: Arc<Self>, stream: Detached, peer: SocketAddr) {
        let address = peer.ip().to_canonical();
        let peer = SocketAddr::new(address, peer.port());
        {
            let mut counts = self.counts();
            let count = counts.entry(address).or_default();
            if self.max_per_address > 0 && *count >= self.max_per_address {
                tracing::warn!(%peer, limit = self.max_per_address, "too many coordination connections from one address");
                return;
            }
            *count += 1;
        }
        let connection = self.next.fetch_add(1, Ordering::Relaxed);
        let runtime = self.runtime.clone();
        runtime.coordination.spawn(0, move || async move {
            self.serve(stream, peer, connection).await;
            self.release(address);
        });
    }

    async fn serve(&self, stream: Detached, peer: SocketAddr, connection: ConnectionId) {
        let opened = stream.set_nodelay().and_then(|()| stream.attach());
        let stream = match opened {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%peer, %error, "cannot take a coordination client over");
                return;
            }
        };
        let mut stopped = self.stopped.clone();
        let znode = self.znode.clone();
        let result = tokio::select! {
            result = connection::serve(stream, peer, connection, znode, self.limits.clone()) => result,
            _ = stopped.wait_for(|&stopped| stopped) => Ok(()),
        };
        if let Err(error) = result {
            tracing::info!(%peer, %error, "a coordination connection was closed");
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, address: IpAddr) {
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}
