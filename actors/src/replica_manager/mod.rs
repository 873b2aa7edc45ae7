//! What a broker does by order of the controller, its own or another broker's: it opens, makes and deletes replicas, has
//! them lead or follow, and publishes what the cluster is.
//!
//! Nobody else publishes. Configurations it follows by itself, as every broker does ([`configs`]).

pub mod configs;
mod fence;
mod image;
pub mod orders;
mod replicas;
mod watch_configs;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Addr, AtomicResponse, Context, Handler, Message, WrapFuture};
use tokio::sync::{Mutex, watch};
use troupe_protocol::kafka::errors::ErrorCode;

use self::configs::{ConfigAlteration, ConfigResource};
use self::fence::Fence;
use self::orders::{Order, Outcome};
use self::replicas::Replicas;
use crate::config::BrokerConfig;
use crate::controller::topics::AdminError;
use crate::coordination::{CoordinationClient, CoordinationError, SharedSession, paths};
use crate::log_manager::LogManagerHandle;
use crate::metadata::{BrokerId, BrokerNode, MetadataImage};
use crate::replication::Fetchers;

/// Requests that wait for the manager at most, before whoever asks waits too.
const MAILBOX_CAPACITY: usize = 64;

/// What a replica manager starts from.
pub struct Start {
    /// This broker, as clients are told of it.
    pub node: BrokerNode,
    /// Its configuration, which dynamic changes replace.
    pub config: watch::Sender<Arc<BrokerConfig>>,
    /// Where the configurations are.
    pub session: SharedSession,
    /// This broker's replicas.
    pub logs: LogManagerHandle,
    /// Who copies what other brokers lead.
    pub fetchers: Fetchers,
    /// Where it publishes.
    pub image: watch::Sender<Arc<MetadataImage>>,
}

/// The actor. One order at a time.
pub struct ReplicaManager {
    replicas: Rc<Mutex<Replicas>>,
}

impl ReplicaManager {
    /// Does one thing after the other: what waits for its turn waits in the mailbox, which is bounded.
    fn in_turn<T: 'static>(
        &self,
        work: impl AsyncFnOnce(&mut Replicas) -> T + 'static,
    ) -> AtomicResponse<Self, T> {
        let replicas = Rc::clone(&self.replicas);
        let work = async move { work(&mut *replicas.lock().await).await };
        AtomicResponse::new(Box::pin(work.into_actor(self)))
    }

    /// Starts the manager.
    pub fn start(start: Start) -> ReplicaManagerHandle {
        let replicas = Replicas {
            node: start.node,
            config: start.config,
            session: start.session,
            logs: start.logs,
            fetchers: start.fetchers,
            image: start.image,
            fence: Fence::new(),
            overrides: BTreeMap::new(),
        };
        let manager = Self {
            replicas: Rc::new(Mutex::new(replicas)),
        };
        ReplicaManagerHandle {
            addr: manager.start(),
        }
    }
}

impl Actor for ReplicaManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

/// An order of a controller.
#[derive(Message)]
#[rtype(result = "Outcome")]
struct CarryOut(Order);

impl Handler<CarryOut> for ReplicaManager {
    type Result = AtomicResponse<Self, Outcome>;

    fn handle(&mut self, CarryOut(order): CarryOut, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async move |replicas| replicas.carry_out(order).await)
    }
}

/// The broker has registered.
#[derive(Message)]
#[rtype(result = "Result<(), CoordinationError>")]
struct Registered {
    broker_epoch: i64,
}

impl Handler<Registered> for ReplicaManager {
    type Result = AtomicResponse<Self, Result<(), CoordinationError>>;

    fn handle(&mut self, registered: Registered, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async move |replicas| {
            replicas.registered(registered.broker_epoch);
            replicas.reread().await
        })
    }
}

/// The session is over.
#[derive(Message)]
#[rtype(result = "()")]
struct ResignAll;

impl Handler<ResignAll> for ReplicaManager {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: ResignAll, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async |replicas| replicas.resign().await)
    }
}

/// Who is the controller, as its znode says.
#[derive(Message)]
#[rtype(result = "()")]
struct ControllerIs(BrokerId);

impl Handler<ControllerIs> for ReplicaManager {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, ControllerIs(id): ControllerIs, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async move |replicas| {
            replicas.publish(|image| image.controller_id = id);
        })
    }
}

/// The configuration of something changed: `topics/T`, `brokers/N`, `groups/G`.
#[derive(Message)]
#[rtype(result = "Result<(), CoordinationError>")]
struct RefreshConfig {
    entity: String,
}

impl Handler<RefreshConfig> for ReplicaManager {
    type Result = AtomicResponse<Self, Result<(), CoordinationError>>;

    fn handle(&mut self, change: RefreshConfig, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async move |replicas| match change.entity.split_once('/') {
            Some(("topics", topic)) => replicas.refresh_topic(topic).await,
            Some(("brokers", _)) => replicas.refresh_brokers().await,
            Some(("groups", node)) => match paths::desanitized(node) {
                Some(group) => replicas.refresh_group(&group).await,
                None => Ok(()),
            },
            _ => Ok(()),
        })
    }
}

/// All configurations may have changed.
#[derive(Message)]
#[rtype(result = "Result<(), CoordinationError>")]
struct Reread;

impl Handler<Reread> for ReplicaManager {
    type Result = AtomicResponse<Self, Result<(), CoordinationError>>;

    fn handle(&mut self, _: Reread, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async move |replicas| replicas.reread().await)
    }
}

/// Changes a configuration.
#[derive(Message)]
#[rtype(result = "Result<(), AdminError>")]
struct AlterConfig {
    resource: ConfigResource,
    alteration: ConfigAlteration,
    validate_only: bool,
}

impl Handler<AlterConfig> for ReplicaManager {
    type Result = AtomicResponse<Self, Result<(), AdminError>>;

    fn handle(&mut self, order: AlterConfig, _: &mut Self::Context) -> Self::Result {
        self.in_turn(async move |replicas| {
            replicas
                .alter_config(&order.resource, &order.alteration, order.validate_only)
                .await
        })
    }
}

/// Asks the replica manager; cheap to clone.
#[derive(Clone)]
pub struct ReplicaManagerHandle {
    addr: Addr<ReplicaManager>,
}

impl ReplicaManagerHandle {
    /// Carries out an order, when it is not one of the past.
    pub async fn carry_out(&self, order: Order) -> Outcome {
        match self.addr.send(CarryOut(order)).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::of(gone(error).code),
        }
    }

    /// Takes the epoch of the broker's new registration, and reads the configurations that no topic has.
    pub async fn registered(&self, broker_epoch: i64) -> Result<(), AdminError> {
        let registered = Registered { broker_epoch };
        Ok(self.addr.send(registered).await.map_err(gone)??)
    }

    /// Has all replicas here resign, until they are ordered to lead again.
    pub async fn resign(&self) {
        // A manager that is gone leads nothing.
        let _ = self.addr.send(ResignAll).await;
    }

    /// Publishes who is the controller, -1 for nobody.
    pub async fn controller_is(&self, id: BrokerId) -> Result<(), AdminError> {
        self.addr.send(ControllerIs(id)).await.map_err(gone)
    }

    /// Changes a configuration, and has it count here at once.
    pub async fn alter_config(
        &self,
        resource: ConfigResource,
        alteration: ConfigAlteration,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let order = AlterConfig {
            resource,
            alteration,
            validate_only,
        };
        self.addr.send(order).await.map_err(gone)?
    }

    /// Follows the configurations that others change, until the session ends.
    pub async fn follow(&self, coordination: &CoordinationClient) -> Result<(), AdminError> {
        watch_configs::follow(self, coordination).await
    }

    async fn reread(&self) -> Result<(), AdminError> {
        Ok(self.addr.send(Reread).await.map_err(gone)??)
    }

    async fn refresh_config(&self, entity: String) -> Result<(), AdminError> {
        let change = RefreshConfig { entity };
        Ok(self.addr.send(change).await.map_err(gone)??)
    }
}

fn gone(error: actix::MailboxError) -> AdminError {
    AdminError::new(
        ErrorCode::UnknownServerError,
        format!("replica manager: {error}"),
    )
}
