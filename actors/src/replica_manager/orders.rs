//! What a controller orders brokers to do, as plain values: Kafka's LeaderAndIsr, UpdateMetadata and StopReplica.

use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use crate::config::{Listener, SecurityProtocol};
use crate::metadata::{BrokerId, BrokerNode};
use crate::partition::TopicPartition;

/// The leader that UpdateMetadata names for the partitions of a topic that is being deleted.
pub const LEADER_DURING_DELETION: BrokerId = -2;

/// Leader epoch of a replica that stops for good: it counts whatever the leadership.
pub const EPOCH_DURING_DELETION: i32 = -2;

/// Leader epoch where none is known, as in orders too old to carry one.
pub const NO_EPOCH: i32 = -1;

/// Broker epoch of orders too old to carry one.
pub const NO_BROKER_EPOCH: i64 = -1;

/// Who orders, and whom: what keeps orders of the past from being obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    /// The broker that is the controller.
    pub controller_id: BrokerId,
    /// The epoch of its office.
    pub controller_epoch: i32,
    /// The epoch of the registration of the broker that is meant.
    pub broker_epoch: i64,
}

/// One partition as the controller has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOrder {
    /// Its number.
    pub partition: i32,
    /// The leader, -1 for none.
    pub leader: BrokerId,
    /// Epoch of the leadership.
    pub leader_epoch: i32,
    /// In-sync replicas.
    pub isr: Vec<BrokerId>,
    /// Version of the partition's znode.
    pub partition_epoch: i32,
    /// All replicas.
    pub replicas: Vec<BrokerId>,
    /// Replicas that a reassignment adds.
    pub adding_replicas: Vec<BrokerId>,
    /// Replicas that a reassignment removes.
    pub removing_replicas: Vec<BrokerId>,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOrder {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id; nil in orders too old to carry one.
    pub id: Uuid,
    /// The partitions that the order is about.
    pub partitions: Vec<PartitionOrder>,
}

/// Where followers reach a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLeader {
    /// The broker.
    pub id: BrokerId,
    /// Its host.
    pub host: String,
    /// Its port for other brokers.
    pub port: u16,
}

impl LiveLeader {
    /// Returns where that is. Listeners for other brokers are without encryption.
    pub fn address(&self) -> Listener {
        let protocol = SecurityProtocol::Plaintext;
        Listener {
            name: protocol.name().to_owned(),
            protocol,
            host: self.host.clone(),
            port: self.port,
        }
    }
}

/// Has a broker lead or follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderAndIsr {
    /// Who orders.
    pub authority: Authority,
    /// What the broker leads or follows.
    pub topics: Vec<TopicOrder>,
    /// Where to reach the brokers that lead.
    pub live_leaders: Vec<LiveLeader>,
}

/// Tells a broker what the cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateMetadata {
    /// Who orders.
    pub authority: Authority,
    /// What has changed; with [`LEADER_DURING_DELETION`] for what goes.
    pub topics: Vec<TopicOrder>,
    /// All live brokers.
    pub brokers: Vec<Arc<BrokerNode>>,
    /// How much of the cluster it tells of.
    pub scope: Scope,
}

/// How much of the cluster a controller tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What has changed.
    Changes,
    /// Every topic that the controller has in mind; there may be others.
    Known,
    /// Every topic there is.
    All,
}

/// One replica to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedReplica {
    /// Which one.
    pub topic_partition: TopicPartition,
    /// Epoch of the leadership that it is stopped in, or [`EPOCH_DURING_DELETION`] or [`NO_EPOCH`].
    pub leader_epoch: i32,
    /// Whether its files go as well.
    pub delete: bool,
}

/// Has a broker stop replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReplica {
    /// Who orders.
    pub authority: Authority,
    /// What stops.
    pub replicas: Vec<StoppedReplica>,
}

/// Any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Lead or follow.
    LeaderAndIsr(LeaderAndIsr),
    /// Know.
    UpdateMetadata(UpdateMetadata),
    /// Stop.
    StopReplica(StopReplica),
}

impl Order {
    /// Returns who orders.
    pub fn authority(&self) -> &Authority {
        match self {
            Self::LeaderAndIsr(order) => &order.authority,
            Self::UpdateMetadata(order) => &order.authority,
            Self::StopReplica(order) => &order.authority,
        }
    }
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Why nothing was done, or `None`.
    pub error: ErrorCode,
    /// What came of each replica; nothing for UpdateMetadata.
    pub replicas: Vec<(TopicPartition, ErrorCode)>,
}

impl Outcome {
    /// Says that the order was not obeyed, or obeyed as a whole.
    pub fn of(error: ErrorCode) -> Self {
        Self {
            error,
            replicas: Vec::new(),
        }
    }
}
