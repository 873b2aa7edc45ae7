//! The controller: decides who leads what, on the one broker of the cluster that holds the office.
//!
//! Its words are the znodes: every change is written there first, then ordered of the brokers, each through a channel of its
//! own, and carried out by their [replica managers](crate::replica_manager). What it decides is in the pure functions of
//! [`assignment`], [`election`] and [`topics`].

pub(crate) mod absence;
mod admin;
mod answers;
pub mod assignment;
mod auto_creation;
mod candidate;
mod changes;
mod channel;
mod cluster;
mod deletion;
pub mod election;
pub mod membership;
mod office;
mod on_demand;
pub mod reassignment;
mod reassignments;
mod sense;
mod settle;
mod stored;
mod tasks;
pub mod topics;
mod watch_states;
mod watch_topics;
mod watch_znodes;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use tokio::sync::{Mutex, watch};
use troupe_protocol::kafka::errors::ErrorCode;

use self::admin::{Created, SharedCluster};
pub use self::auto_creation::AutoTopicCreation;
pub use self::candidate::Candidate;
use self::channel::Channels;
use self::cluster::Cluster;
use self::membership::Election;
pub use self::on_demand::ElectionKind;
pub use self::reassignments::Reassignments;
use self::topics::{AdminError, NewTopic};
use crate::config::BrokerConfig;
use crate::coordination::schema::TopicAssignment;
use crate::coordination::{CoordinationError, SharedSession};
use crate::metadata::{BrokerId, MetadataImage};
use crate::network::Network;
use crate::partition::TopicPartition;
use crate::replica_manager::ReplicaManagerHandle;

/// Requests that wait for the controller at most, before the gateway waits too.
const MAILBOX_CAPACITY: usize = 64;

/// What a controller starts from.
pub struct Start {
    /// This broker.
    pub broker_id: BrokerId,
    /// Its configuration.
    pub config: watch::Receiver<Arc<BrokerConfig>>,
    /// The session that it holds its office by.
    pub session: SharedSession,
    /// Carries out what this broker is ordered.
    pub replicas: ReplicaManagerHandle,
    /// The cluster as this broker knows it.
    pub image: watch::Receiver<Arc<MetadataImage>>,
    /// Where other brokers are reached.
    pub network: Network,
}

/// The actor. One change at a time: the next one waits until the last is written and ordered.
pub struct Controller {
    cluster: SharedCluster,
}

impl Controller {
    /// Starts the controller; it does nothing before it has taken the office.
    pub fn start(start: Start) -> ControllerHandle {
        let channels = {
            let config = start.config.borrow();
            Channels {
                broker_id: start.broker_id,
                replicas: start.replicas,
                listener: config.inter_broker_listener_name.as_str().into(),
                timeout: Duration::from_millis(config.controller_socket_timeout_ms),
                network: start.network,
            }
        };
        let cluster = Cluster {
            broker_id: start.broker_id,
            config: start.config,
            session: start.session,
            image: start.image,
            channels,
            office: None,
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
        ctx.spawn(on_demand::keep_balanced(Rc::clone(&self.cluster)).into_actor(self));
    }
}

/// Takes up the office that was won.
#[derive(Message)]
#[rtype(result = "Result<(), CoordinationError>")]
struct TakeOffice {
    election: Election,
    /// Whether this broker has just come up.
    restarted: bool,
}

impl Handler<TakeOffice> for Controller {
    type Result = ResponseFuture<Result<(), CoordinationError>>;

    fn handle(&mut self, order: TakeOffice, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            let mut locked = cluster.lock().await;
            locked.take_office(order.election, order.restarted).await
        })
    }
}

/// Leaves the office, when it is lost.
#[derive(Message)]
#[rtype(result = "()")]
struct Resign;

impl Handler<Resign> for Controller {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Resign, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move { cluster.lock().await.resign() })
    }
}

/// Creates topics.
#[derive(Message)]
#[rtype(result = "Vec<Created>")]
struct CreateTopics {
    topics: Vec<NewTopic>,
    validate_only: bool,
    patience: Duration,
}

impl Handler<CreateTopics> for Controller {
    type Result = ResponseFuture<Vec<Created>>;

    fn handle(&mut self, order: CreateTopics, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            admin::create_topics(&cluster, order.topics, order.validate_only, order.patience).await
        })
    }
}

/// Deletes topics that exist.
#[derive(Message)]
#[rtype(result = "Result<(), AdminError>")]
struct DeleteTopics {
    names: Vec<String>,
    patience: Duration,
}

impl Handler<DeleteTopics> for Controller {
    type Result = ResponseFuture<Result<(), AdminError>>;

    fn handle(&mut self, order: DeleteTopics, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(
            async move { deletion::delete_topics(&cluster, order.names, order.patience).await },
        )
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
    patience: Duration,
}

impl Handler<CreatePartitions> for Controller {
    type Result = ResponseFuture<Result<(), AdminError>>;

    fn handle(&mut self, order: CreatePartitions, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            let CreatePartitions {
                topic,
                count,
                assignments,
                validate_only,
                patience,
            } = order;
            admin::create_partitions(
                &cluster,
                &topic,
                count,
                &assignments,
                validate_only,
                patience,
            )
            .await
        })
    }
}

/// Has others lead what a broker leads that is about to stop.
#[derive(Message)]
#[rtype(result = "Result<Vec<TopicPartition>, AdminError>")]
struct ControlledShutdown {
    broker: BrokerId,
    broker_epoch: i64,
}

impl Handler<ControlledShutdown> for Controller {
    type Result = ResponseFuture<Result<Vec<TopicPartition>, AdminError>>;

    fn handle(&mut self, order: ControlledShutdown, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            admin::controlled_shutdown(&cluster, order.broker, order.broker_epoch).await
        })
    }
}

/// Takes up what others changed in the znodes.
#[derive(Message)]
#[rtype(result = "Result<(), CoordinationError>")]
enum Synchronise {
    /// Brokers came or went.
    Brokers,
    /// Topics came or went.
    Topics,
    /// Topics were marked for deletion.
    Deletions,
    /// Leaders have changed their in-sync sets.
    Isr,
    /// Old tools want partitions to go to other brokers, or some are there.
    Reassignments,
    /// Old tools want preferred leaders to lead.
    PreferredElection,
    /// States that made no sense have changed.
    States,
    /// Topics were read, or have changed: their names and what was found.
    Assignments(Vec<(String, TopicAssignment)>),
}

impl Handler<Synchronise> for Controller {
    type Result = ResponseFuture<Result<(), CoordinationError>>;

    fn handle(&mut self, change: Synchronise, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move {
            match change {
                Synchronise::Brokers => cluster.lock().await.brokers_changed().await,
                Synchronise::Topics => cluster.lock().await.topics_changed().await,
                Synchronise::Deletions => deletion::finish_deletions(&cluster).await,
                Synchronise::Isr => cluster.lock().await.isr_changed().await,
                Synchronise::Reassignments => cluster.lock().await.take_up_tasks().await,
                Synchronise::PreferredElection => {
                    cluster.lock().await.take_up_preferred_election().await
                }
                Synchronise::States => cluster.lock().await.states_changed().await,
                Synchronise::Assignments(found) => cluster.lock().await.compare(&found).await,
            }
        })
    }
}

/// Lists the znodes of partitions' states that make no sense.
#[derive(Message)]
#[rtype(result = "Vec<String>")]
struct SenselessStates;

impl Handler<SenselessStates> for Controller {
    type Result = ResponseFuture<Vec<String>>;

    fn handle(&mut self, _: SenselessStates, _: &mut Self::Context) -> Self::Result {
        let cluster = Rc::clone(&self.cluster);
        Box::pin(async move { cluster.lock().await.senseless_states() })
    }
}

/// Asks the controller; cheap to clone.
#[derive(Clone)]
pub struct ControllerHandle {
    addr: Addr<Controller>,
}

impl ControllerHandle {
    /// Takes up the office that was won; `restarted` tells that this broker has just come up.
    pub async fn take_office(&self, election: Election, restarted: bool) -> Result<(), AdminError> {
        let order = TakeOffice {
            election,
            restarted,
        };
        Ok(self.addr.send(order).await.map_err(gone)??)
    }

    /// Leaves the office; fine when it is not held.
    pub async fn resign(&self) -> Result<(), AdminError> {
        self.addr.send(Resign).await.map_err(gone)
    }

    /// Creates topics: for each what it has become and its id, or why not. Other brokers have as long as `patience`.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
        patience: Duration,
    ) -> Vec<Created> {
        let count = topics.len();
        let order = CreateTopics {
            topics,
            validate_only,
            patience,
        };
        match self.addr.send(order).await {
            Ok(outcomes) => outcomes,
            Err(error) => vec![Err(gone(error)); count],
        }
    }

    /// Deletes topics that exist.
    pub async fn delete_topics(
        &self,
        names: Vec<String>,
        patience: Duration,
    ) -> Result<(), AdminError> {
        let order = DeleteTopics { names, patience };
        self.addr.send(order).await.map_err(gone)?
    }

    /// Adds partitions to a topic until it has `count`; `assignments` may choose their replicas.
    pub async fn create_partitions(
        &self,
        topic: String,
        count: i32,
        assignments: Vec<Vec<BrokerId>>,
        validate_only: bool,
        patience: Duration,
    ) -> Result<(), AdminError> {
        let order = CreatePartitions {
            topic,
            count,
            assignments,
            validate_only,
            patience,
        };
        self.addr.send(order).await.map_err(gone)?
    }

    /// Has others lead what a broker leads that is about to stop; returns what nobody else can lead.
    pub async fn controlled_shutdown(
        &self,
        broker: BrokerId,
        broker_epoch: i64,
    ) -> Result<Vec<TopicPartition>, AdminError> {
        let order = ControlledShutdown {
            broker,
            broker_epoch,
        };
        self.addr.send(order).await.map_err(gone)?
    }

    async fn senseless_states(&self) -> Result<Vec<String>, AdminError> {
        self.addr.send(SenselessStates).await.map_err(gone)
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
