//! The controller: the one actor that changes the cluster's state, and publishes what it has become.
//!
//! Its words are the znodes: every change is written there first. What it decides is in the pure functions of
//! [`assignment`], [`election`], [`state_machine`] and [`topics`].

pub mod assignment;
mod cluster;
pub mod configs;
pub mod election;
pub mod membership;
pub mod state_machine;
mod stored;
pub mod topics;
mod watch_topics;
mod watch_znodes;

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message, ResponseFuture};
use tokio::sync::{Mutex, watch};
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use self::cluster::Cluster;
use self::configs::{ConfigAlteration, ConfigResource};
use self::membership::Membership;
use self::topics::{AdminError, NewTopic, TopicPlan};
use crate::config::BrokerConfig;
use crate::coordination::schema::TopicAssignment;
use crate::coordination::{CoordinationClient, CoordinationError, paths};
use crate::log_manager::LogManagerHandle;
use crate::metadata::{BrokerId, BrokerNode, MetadataImage};

/// Requests that wait for the controller at most, before the gateway waits too.
const MAILBOX_CAPACITY: usize = 64;

/// What a controller starts from.
pub struct Start {
    /// This broker.
    pub broker_id: BrokerId,
    /// Its configuration, which dynamic changes replace.
    pub config: watch::Sender<Arc<BrokerConfig>>,
    /// The session that it holds its office by.
    pub coordination: CoordinationClient,
    /// This broker's replicas.
    pub logs: LogManagerHandle,
    /// Where it publishes.
    pub image: watch::Sender<Arc<MetadataImage>>,
}

/// The actor. One change at a time: the next one waits until the last is written and published.
pub struct Controller {
    cluster: Rc<Mutex<Cluster>>,
}

impl Controller {
    /// Starts the controller; it does nothing before [`ControllerHandle::take_office`].
    pub fn start(start: Start) -> ControllerHandle {
        let cluster = Cluster {
            broker_id: start.broker_id,
            config: start.config,
            coordination: start.coordination,
            logs: start.logs,
            image: start.image,
            controller_epoch: 0,
            next_placement: 0,
        };
        let controller = Self {
            cluster: Rc::new(Mutex::new(cluster)),
        };
        ControllerHandle {
            addr: controller.start(),
        }
    }
}

impl Actor for Controller {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

/// Takes up the office, after a start or when the session was lost.
#[derive(Message)]
#[rtype(result = "Result<(), CoordinationError>")]
struct TakeOffice {
    node: BrokerNode,
    membership: Membership,
    /// The session, when it is another one than at start.
    coordination: Option<CoordinationClient>,
}

impl Handler<TakeOffice> for Controller {
    type Result = ResponseFuture<Result<(), CoordinationError>>;

    fn handle(&mut self, order: TakeOffice, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            let mut cluster = cluster.lock().await;
            if let Some(coordination) = order.coordination {
                cluster.coordination = coordination;
            }
            cluster.take_office(order.node, order.membership).await
        })
    }
}

/// Leaves all offices, when the session is over.
#[derive(Message)]
#[rtype(result = "()")]
struct LeaveOffice;

impl Handler<LeaveOffice> for Controller {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: LeaveOffice, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move { cluster.lock().await.leave_office().await })
    }
}

/// Creates topics.
#[derive(Message)]
#[rtype(result = "Vec<Result<(TopicPlan, Uuid), AdminError>>")]
struct CreateTopics {
    topics: Vec<NewTopic>,
    validate_only: bool,
}

impl Handler<CreateTopics> for Controller {
    type Result = ResponseFuture<Vec<Result<(TopicPlan, Uuid), AdminError>>>;

    fn handle(&mut self, order: CreateTopics, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            let mut cluster = cluster.lock().await;
            cluster
                .create_topics(order.topics, order.validate_only)
                .await
        })
    }
}

/// Deletes topics that exist.
#[derive(Message)]
#[rtype(result = "Result<(), AdminError>")]
struct DeleteTopics {
    names: Vec<String>,
}

impl Handler<DeleteTopics> for Controller {
    type Result = ResponseFuture<Result<(), AdminError>>;

    fn handle(&mut self, order: DeleteTopics, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move { Ok(cluster.lock().await.delete_topics(&order.names).await?) })
    }
}

/// Adds partitions to a topic.
#[derive(Message)]
#[rtype(result = "Result<(), AdminError>")]
struct CreatePartitions {
    topic: String,
    count: i32,
    assignments: Vec<Vec<BrokerId>>,
    validate_only: bool,
}

impl Handler<CreatePartitions> for Controller {
    type Result = ResponseFuture<Result<(), AdminError>>;

    fn handle(&mut self, order: CreatePartitions, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            let mut cluster = cluster.lock().await;
            let CreatePartitions {
                topic,
                count,
                assignments,
                validate_only,
            } = order;
            cluster
                .create_partitions(&topic, count, &assignments, validate_only)
                .await
        })
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

impl Handler<AlterConfig> for Controller {
    type Result = ResponseFuture<Result<(), AdminError>>;

    fn handle(&mut self, order: AlterConfig, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            let mut cluster = cluster.lock().await;
            cluster
                .alter_config(&order.resource, &order.alteration, order.validate_only)
                .await
        })
    }
}

/// Takes a block of producer ids: the first and the last.
#[derive(Message)]
#[rtype(result = "Result<(i64, i64), AdminError>")]
struct AllocateProducerIds;

impl Handler<AllocateProducerIds> for Controller {
    type Result = ResponseFuture<Result<(i64, i64), AdminError>>;

    fn handle(&mut self, _: AllocateProducerIds, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move { Ok(cluster.lock().await.allocate_producer_ids().await?) })
    }
}

/// Takes up what tools changed in the znodes.
#[derive(Message)]
#[rtype(result = "Result<(), CoordinationError>")]
enum Synchronise {
    /// Topics came, went, or are marked for deletion.
    Topics,
    /// Topics were read, or have changed: their names and what was found.
    Assignments(Vec<(String, TopicAssignment)>),
    /// The configuration of something changed: `topics/T`, `brokers/N`.
    Config(String),
}

impl Handler<Synchronise> for Controller {
    type Result = ResponseFuture<Result<(), CoordinationError>>;

    fn handle(&mut self, change: Synchronise, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            let cluster = cluster.lock().await;
            match change {
                Synchronise::Topics => cluster.synchronise().await,
                Synchronise::Assignments(found) => cluster.compare(&found).await,
                Synchronise::Config(entity) => match entity.split_once('/') {
                    Some(("topics", topic)) => cluster.refresh_topic(topic).await,
                    Some(("brokers", _)) => cluster.refresh_brokers().await,
                    Some(("groups", node)) => match paths::desanitized(node) {
                        Some(group) => cluster.refresh_group(&group).await,
                        None => Ok(()),
                    },
                    _ => Ok(()),
                },
            }
        })
    }
}

/// Lends the session.
#[derive(Message)]
#[rtype(result = "CoordinationClient")]
struct Lend;

impl Handler<Lend> for Controller {
    type Result = ResponseFuture<CoordinationClient>;

    fn handle(&mut self, _: Lend, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move { cluster.lock().await.coordination.clone() })
    }
}

/// Ends the controller, and with it its share of the session.
#[derive(Message)]
#[rtype(result = "()")]
struct Retire;

impl Handler<Retire> for Controller {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Asks the controller; cheap to clone.
#[derive(Clone)]
pub struct ControllerHandle {
    addr: Addr<Controller>,
}

impl ControllerHandle {
    /// Tells the controller that this broker has joined; `coordination` is the session, when it is a new one.
    pub async fn take_office(
        &self,
        node: BrokerNode,
        membership: Membership,
        coordination: Option<CoordinationClient>,
    ) -> Result<(), AdminError> {
        let order = TakeOffice {
            node,
            membership,
            coordination,
        };
        Ok(self.addr.send(order).await.map_err(gone)??)
    }

    /// Tells the controller that the session is over: from now on this broker leads nothing, until
    /// [`take_office`](Self::take_office).
    pub async fn leave_office(&self) {
        // One that has retired has left it.
        let _ = self.addr.send(LeaveOffice).await;
    }

    /// Creates topics: for each what it has become and its id, or why not.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Vec<Result<(TopicPlan, Uuid), AdminError>> {
        let count = topics.len();
        let order = CreateTopics {
            topics,
            validate_only,
        };
        match self.addr.send(order).await {
            Ok(outcomes) => outcomes,
            Err(error) => vec![Err(gone(error)); count],
        }
    }

    /// Deletes topics that exist.
    pub async fn delete_topics(&self, names: Vec<String>) -> Result<(), AdminError> {
        self.addr.send(DeleteTopics { names }).await.map_err(gone)?
    }

    /// Adds partitions to a topic until it has `count`; `assignments` may choose their replicas.
    pub async fn create_partitions(
        &self,
        topic: String,
        count: i32,
        assignments: Vec<Vec<BrokerId>>,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let order = CreatePartitions {
            topic,
            count,
            assignments,
            validate_only,
        };
        self.addr.send(order).await.map_err(gone)?
    }

    /// Changes a configuration.
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

    /// Takes a block of producer ids for this broker: the first and the last.
    pub async fn allocate_producer_ids(&self) -> Result<(i64, i64), AdminError> {
        self.addr.send(AllocateProducerIds).await.map_err(gone)?
    }

    /// Borrows the session with the coordination service, for one request: it is over only when all clones are gone.
    pub async fn coordination(&self) -> Result<CoordinationClient, AdminError> {
        self.addr.send(Lend).await.map_err(gone)
    }

    /// Ends the controller; what is asked of it from now on fails.
    pub async fn retire(&self) {
        // One that is gone has retired already.
        let _ = self.addr.send(Retire).await;
    }

    /// Follows what tools change in the znodes, until the session ends.
    pub async fn follow(&self, coordination: &CoordinationClient) -> Result<(), AdminError> {
        watch_znodes::follow(self, coordination).await
    }

    async fn synchronise(&self, change: Synchronise) -> Result<(), AdminError> {
        Ok(self.addr.send(change).await.map_err(gone)??)
    }
}

fn gone(error: actix::MailboxError) -> AdminError {
    AdminError::new(
        ErrorCode::UnknownServerError,
        format!("controller: {error}"),
    )
}
