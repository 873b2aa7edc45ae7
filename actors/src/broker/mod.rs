//! A broker: everything put together, started in order and stopped in reverse.
//!
//! ```text
//! log directories ─▶ coordination (embedded or not) ─▶ identity ─▶ listeners bound ─▶ registration and office
//!                                                     ─▶ topics opened ─▶ connections accepted
//! ```

mod context;
mod departure;
mod identity;
mod producer_ids;
mod session;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use self::context::BrokerContext;
use self::identity::{Identity, IdentityError};
pub use self::producer_ids::ProducerIds;
use self::session::{Joining, Session};
use crate::broker_client::{self, Brokers};
use crate::config::{BrokerConfig, Listener, SecurityProtocol};
use crate::controller::membership::{JoinError, SessionMemory};
use crate::controller::topics::AdminError;
use crate::controller::{self, AutoTopicCreation, Candidate, Controller, ControllerHandle};
use crate::coordination::{CoordinationClient, CoordinationError, SharedSession};
use crate::gateway::{BoundListener, Gateway};
use crate::groups::GroupCoordinators;
use crate::log_manager::{LogManager, LogManagerHandle, OpenError};
use crate::metadata::{BrokerId, BrokerNode, MetadataImage};
use crate::network::Network;
use crate::peers::{self, Peers};
use crate::replica_manager::{self, ReplicaManager, ReplicaManagerHandle};
use crate::replication::{Fetchers, isr};
use crate::runtime::Runtime;
use crate::share::ShareGroups;
use crate::storage::Storage;
use crate::transactions::{Markers, TransactionCoordinators};
use crate::znode::{self, Coordination, ZnodeConfig};

/// How long requests in flight have to be answered when the broker stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A log directory can't be used.
    #[error(transparent)]
    Logs(#[from] OpenError),
    /// The embedded coordination service does not start.
    #[error(transparent)]
    Embedded(#[from] znode::CoordinationError),
    /// The coordination service can't be reached.
    #[error("no coordination service answers at {connect} (zookeeper.connect): {reason}")]
    Unreachable {
        /// Where it should be.
        connect: String,
        /// What happened.
        reason: String,
    },
    /// The coordination service failed.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
    /// Who this broker is can't be settled.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The cluster does not take this broker.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A listener can't be opened.
    #[error("cannot listen on {listener}: {source}")]
    Listen {
        /// Which one.
        listener: Listener,
        /// What happened.
        source: io::Error,
    },
    /// A listener wants what is not there yet.
    #[error("listener {0}: only PLAINTEXT is supported in this version")]
    Protocol(Listener),
    /// The topics can't be brought up.
    #[error("the topics can't be brought up: {}", .0.message)]
    Topics(AdminError),
}

/// A running broker.
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// The cluster's id.
    pub cluster_id: Arc<str>,
    /// Where it listens: the listener's name and the real address.
    pub listeners: Vec<(Arc<str>, SocketAddr)>,
    /// The port of the embedded coordination service, when there is one.
    pub zookeeper_port: Option<u16>,
    gateway: Gateway,
    fetchers: Fetchers,
    context: Arc<BrokerContext>,
    session: Session,
    peers: peers::Watch,
    embedded: Option<Coordination>,
}

impl Broker {
    /// Starts a broker; when it returns, clients are served.
    pub async fn start(
        config: BrokerConfig,
        runtime: Runtime,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, StartError> {
        check_listeners(&config)?;
        let config = Arc::new(config);
        let logs =
            LogManager::open(Arc::clone(&config), runtime.clone(), Arc::clone(&storage)).await?;
        let embedded = start_embedded(&config, &runtime).await?;
        let connect = connect_string(&config, embedded.as_ref());
        let client = connect_client(&connect, &config, &runtime.network).await?;
        client.create_persistent_paths().await?;
        let identity = identity::settle(&client, &config, logs.meta(), embedded.is_some()).await?;
        logs.set_identity(identity.broker_id, &identity.cluster_id)
            .await?;
        let bound = bind(&config, &runtime.network)?;
        let node = node(&config, identity.broker_id, &bound);

        let fetchers = Fetchers::new(identity.broker_id, &config, runtime.clone());
        let citizen = Citizen::start(
            (&config, &runtime),
            &identity,
            node.clone(),
            &client,
            &logs,
            &fetchers,
        );
        citizen.write_isr_changes(identity.broker_id, &logs).await;
        let joining = Joining {
            connect,
            network: runtime.network.clone(),
            config: Arc::clone(&config),
            node,
            memory: SessionMemory::new(session_dir(&config), storage),
            session: citizen.session.clone(),
            candidate: Candidate {
                broker_id: identity.broker_id,
                controller: citizen.controller.clone(),
                replicas: citizen.replicas.clone(),
                clock: Arc::clone(&runtime.clock),
            },
        };
        let session = joining.begin(client).await?;
        let context = Arc::new(citizen.into_context(config, &identity, runtime, logs.clone()));
        let listeners = addresses(&bound);
        let peers = Peers {
            broker_id: identity.broker_id,
            listener: context.config.inter_broker_listener_name.as_str().into(),
            session: context.session.clone(),
            network: context.runtime.network.clone(),
        };
        let peers = peers.watch(context.metadata.clone());
        // The orders of another controller come by the same way as clients.
        let gateway = Gateway::start(Arc::clone(&context), bound);
        if until_informed(&context).await {
            report_strays(&logs).await;
        }
        Ok(Self {
            id: identity.broker_id,
            cluster_id: identity.cluster_id,
            listeners,
            zookeeper_port: embedded.as_ref().map(Coordination::port),
            gateway,
            fetchers,
            context,
            session,
            peers,
            embedded,
        })
    }

    /// Waits until the broker can't go on, which is forever when all is well; tells why. Only [`stop`](Self::stop) may
    /// follow.
    pub async fn failed(&mut self) -> znode::CoordinationError {
        match &mut self.embedded {
            Some(embedded) => embedded.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Stops: has others lead, sends group members away, answers what is in flight, closes the logs cleanly, leaves the cluster, stops coordination.
    pub async fn stop(mut self) {
        departure::announce(&self.context).await;
        // A member that waits for others would hold its connection open.
        self.context.transactions.stop().await;
        self.context.groups.stop().await;
        self.context.share.stop().await;
        // From here on connections are refused, by which others take this broker for gone.
        self.session.retire();
        drop(self.peers);
        self.gateway.stop(STOP_GRACE).await;
        self.fetchers.shutdown().await;
        self.context.logs.shutdown().await;
        drop(self.context);
        self.session.end().await;
        if let Some(embedded) = self.embedded
            && let Err(error) = embedded.shutdown().await
        {
            tracing::error!("{error}");
        }
    }
}

/// A broker's part in its cluster: who decides when it is the controller, who does what is ordered, and what is known.
struct Citizen {
    session: SharedSession,
    controller: ControllerHandle,
    replicas: ReplicaManagerHandle,
    image: watch::Receiver<Arc<MetadataImage>>,
    config: watch::Receiver<Arc<BrokerConfig>>,
}

impl Citizen {
    fn start(
        (config, runtime): (&Arc<BrokerConfig>, &Runtime),
        identity: &Identity,
        node: BrokerNode,
        client: &CoordinationClient,
        logs: &LogManagerHandle,
        fetchers: &Fetchers,
    ) -> Self {
        let unknown = MetadataImage::of_cluster(Arc::clone(&identity.cluster_id));
        let (image_sender, image) = watch::channel(Arc::new(unknown));
        let (config_sender, config) = watch::channel(Arc::clone(config));
        let session = SharedSession::new(client.clone());
        let replicas = ReplicaManager::start(replica_manager::Start {
            node,
            config: config_sender,
            session: session.clone(),
            logs: logs.clone(),
            fetchers: fetchers.clone(),
            image: image_sender,
        });
        let controller = Controller::start(controller::Start {
            broker_id: identity.broker_id,
            config: config.clone(),
            session: session.clone(),
            replicas: replicas.clone(),
            image: image.clone(),
            network: runtime.network.clone(),
        });
        Self {
            session,
            controller,
            replicas,
            image,
            config,
        }
    }

    /// Has what leaders here make of their in-sync sets written down.
    async fn write_isr_changes(&self, id: BrokerId, logs: &LogManagerHandle) {
        let (changes, proposed) = isr::channel();
        logs.propose_isr_changes_to(changes).await;
        let session = self.session.clone();
        actix_rt::spawn(isr::write(proposed, id, move || session.lend().ok()));
    }

    /// Puts together what handlers may use; starts the coordinators.
    fn into_context(
        self,
        config: Arc<BrokerConfig>,
        identity: &Identity,
        runtime: Runtime,
        logs: LogManagerHandle,
    ) -> BrokerContext {
        let id = identity.broker_id;
        let image = self.image;
        let producer_ids = ProducerIds::new(id, self.session.clone());
        let groups = GroupCoordinators::start(id, &config, &runtime, image.clone());
        let share = ShareGroups::start(id, &config, &runtime, image.clone());
        let brokers = Brokers::new(broker_client::Start {
            broker_id: id,
            image: image.clone(),
            listener: config.inter_broker_listener_name.clone(),
            timeout: Duration::from_millis(config.request_timeout_ms),
            network: runtime.network.clone(),
        });
        let markers = Markers::new(id, image.clone(), brokers, groups.clone());
        let transactions =
            TransactionCoordinators::start(&config, &runtime, markers, producer_ids.clone());
        let topic_creation = AutoTopicCreation::new(
            self.controller.clone(),
            self.session.clone(),
            self.config.clone(),
            image.clone(),
        );
        BrokerContext {
            broker_id: id,
            config,
            groups,
            share,
            current_config: self.config,
            metadata: image,
            producer_ids,
            transactions,
            session: self.session,
            controller: self.controller,
            topic_creation,
            replicas: self.replicas,
            logs,
            runtime,
        }
    }
}

fn check_listeners(config: &BrokerConfig) -> Result<(), StartError> {
    let mut listeners = config.listeners.iter();
    let refused = listeners.find(|listener| listener.protocol != SecurityProtocol::Plaintext);
    refused.map_or(Ok(()), |listener| {
        Err(StartError::Protocol(listener.clone()))
    })
}

async fn start_embedded(
    config: &BrokerConfig,
    runtime: &Runtime,
) -> Result<Option<Coordination>, StartError> {
    if config.zookeeper_connect.is_some() {
        return Ok(None);
    }
    let mut settings = ZnodeConfig::new(&config.zookeeper_data_dir, config.troupe_zookeeper_port);
    if let Ok(ip) = config.troupe_zookeeper_host.parse() {
        settings.client_addrs = vec![SocketAddr::new(ip, config.troupe_zookeeper_port)];
    }
    Ok(Some(Coordination::start(settings, runtime).await?))
}

/// Says where this broker finds coordination: as configured, or its own service over the loopback.
fn connect_string(config: &BrokerConfig, embedded: Option<&Coordination>) -> String {
    let own = embedded.and_then(|service| service.local_addrs().first());
    match (&config.zookeeper_connect, own) {
        (Some(connect), _) => connect.connect_string(),
        (None, Some(addr)) if !addr.ip().is_unspecified() => addr.to_string(),
        (None, addr) => {
            let port = addr.map_or(config.troupe_zookeeper_port, SocketAddr::port);
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
        }
    }
}

async fn connect_client(
    connect: &str,
    config: &BrokerConfig,
    network: &Network,
) -> Result<CoordinationClient, StartError> {
    let patience = Duration::from_millis(config.zookeeper_connection_timeout_ms);
    let session_timeout = Duration::from_millis(config.zookeeper_session_timeout_ms);
    let connecting = CoordinationClient::connect(connect, session_timeout, network);
    let unreachable = |reason: String| StartError::Unreachable {
        connect: connect.to_owned(),
        reason,
    };
    match tokio::time::timeout(patience, connecting).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!(
            "no session within {} ms (zookeeper.connection.timeout.ms)",
            patience.as_millis()
        ))),
    }
}

fn bind(config: &BrokerConfig, network: &Network) -> Result<Vec<BoundListener>, StartError> {
    config
        .listeners
        .iter()
        .map(|listener| {
            BoundListener::bind(
                network,
                &listener.name,
                (&listener.host, listener.port),
                config.socket_listen_backlog_size,
            )
            .map_err(|source| StartError::Listen {
                listener: listener.clone(),
                source,
            })
        })
        .collect()
}

fn addresses(bound: &[BoundListener]) -> Vec<(Arc<str>, SocketAddr)> {
    bound
        .iter()
        .filter_map(|listener| Some((Arc::clone(&listener.name), listener.local_addr().ok()?)))
        .collect()
}

/// Describes this broker as the cluster will know it: the advertised listeners, or else the real ones.
fn node(config: &BrokerConfig, id: BrokerId, bound: &[BoundListener]) -> BrokerNode {
    let any = [
        String::new(),
        Ipv4Addr::UNSPECIFIED.to_string(),
        Ipv6Addr::UNSPECIFIED.to_string(),
    ];
    let real_port = |listener: &Listener| {
        let bound = bound.iter().find(|bound| *bound.name == *listener.name);
        bound
            .and_then(|bound| bound.local_addr().ok())
            .map_or(listener.port, |addr| addr.port())
    };
    let own = config.listeners.iter().map(|listener| {
        let mut endpoint = listener.clone();
        endpoint.port = real_port(listener);
        if any.contains(&endpoint.host) {
            endpoint.host.clear();
        }
        endpoint
    });
    let endpoints = if config.advertised_listeners.is_empty() {
        own.collect()
    } else {
        config.advertised_listeners.clone()
    };
    BrokerNode {
        id,
        endpoints,
        rack: config.broker_rack.clone(),
        epoch: -1,
    }
}

fn session_dir(config: &BrokerConfig) -> &std::path::Path {
    // There is always one; the configuration sees to it.
    config
        .log_dirs
        .first()
        .map_or(std::path::Path::new("."), |dir| dir.as_path())
}

/// Waits until the controller has told this broker of the cluster; tells whether it has. One that takes office says at first
/// who is there, and only then which topics there are.
///
/// One that died just now counts as the controller for as long as its session lasts.
async fn until_informed(broker: &BrokerContext) -> bool {
    let session_timeout = Duration::from_millis(broker.config.zookeeper_session_timeout_ms);
    let mut image = broker.metadata.clone();
    let informed =
        image.wait_for(|image| image.is_informed && image.brokers.contains_key(&broker.broker_id));
    let patience = session_timeout.saturating_mul(2);
    let informed = tokio::time::timeout(patience, informed).await;
    let informed = matches!(informed, Ok(Ok(_)));
    if !informed {
        tracing::warn!("no controller has told this broker of the cluster yet");
    }
    informed
}

async fn report_strays(logs: &LogManagerHandle) {
    let strays = logs.unopened().await;
    if !strays.is_empty() {
        let names: Vec<String> = strays.iter().map(ToString::to_string).collect();
        tracing::warn!(
            "the log directories hold partitions of topics that the cluster does not know; they are left alone: {}",
            names.join(", ")
        );
    }
}
