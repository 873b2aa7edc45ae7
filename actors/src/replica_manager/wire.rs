//! Orders on the wire: LeaderAndIsr, UpdateMetadata and StopReplica, between any broker and any controller.

use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::legacy_messages::StrBytes;
use troupe_protocol::kafka::legacy_messages::leader_and_isr_request::{
    LeaderAndIsrLiveLeader, LeaderAndIsrPartitionState, LeaderAndIsrTopicState,
};
use troupe_protocol::kafka::legacy_messages::leader_and_isr_response::{
    LeaderAndIsrPartitionError, LeaderAndIsrTopicError,
};
use troupe_protocol::kafka::legacy_messages::stop_replica_request::{
    StopReplicaPartitionState, StopReplicaTopicState,
};
use troupe_protocol::kafka::legacy_messages::stop_replica_response::StopReplicaPartitionError;
use troupe_protocol::kafka::legacy_messages::update_metadata_request::{
    UpdateMetadataBroker, UpdateMetadataEndpoint, UpdateMetadataPartitionState,
    UpdateMetadataTopicState,
};
use troupe_protocol::kafka::legacy_messages::{
    BrokerId as WireId, LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest,
    StopReplicaResponse, TopicName, UpdateMetadataRequest,
};
use uuid::Uuid;

use super::orders::{
    Authority, LeaderAndIsr, LiveLeader, NO_BROKER_EPOCH, Outcome, PartitionOrder, Scope,
    StopReplica, StoppedReplica, TopicOrder, UpdateMetadata,
};
use crate::config::{Listener, SecurityProtocol};
use crate::metadata::{BrokerId, BrokerNode};
use crate::partition::TopicPartition;

/// First version of LeaderAndIsr with partitions by topic.
const LEADER_AND_ISR_BY_TOPIC: i16 = 2;
/// First version of LeaderAndIsr with topic ids.
const LEADER_AND_ISR_IDS: i16 = 5;
/// First version of UpdateMetadata with partitions by topic.
const UPDATE_METADATA_BY_TOPIC: i16 = 5;
/// First version of UpdateMetadata with topic ids.
const UPDATE_METADATA_IDS: i16 = 7;
/// First version of UpdateMetadata that says whether it names all topics.
const UPDATE_METADATA_TYPE: i16 = 8;
/// First version of StopReplica with an epoch for each partition.
const STOP_REPLICA_BY_PARTITION: i16 = 3;

/// A request that does not say which it is, as all of Kafka's controllers with ZooKeeper; those here send it for all that they
/// have in mind.
const UNKNOWN: i8 = 0;
/// A request that says what has changed.
const INCREMENTAL: i8 = 1;
/// A request that says all there is.
const FULL: i8 = 2;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn name(value: &str) -> TopicName {
    TopicName(text(value))
}

fn wire_ids(ids: &[BrokerId]) -> Vec<WireId> {
    ids.iter().copied().map(WireId).collect()
}

fn ids(ids: &[WireId]) -> Vec<BrokerId> {
    ids.iter().map(|id| id.0).collect()
}

/// Writes LeaderAndIsr; `None` for a broker that is too old for this controller.
pub(crate) fn leader_and_isr(order: &LeaderAndIsr, version: i16) -> Option<LeaderAndIsrRequest> {
    if version < LEADER_AND_ISR_BY_TOPIC {
        return None;
    }
    let authority = &order.authority;
    let partition = |partition: &PartitionOrder| {
        LeaderAndIsrPartitionState::default()
            .with_partition_index(partition.partition)
            .with_controller_epoch(authority.controller_epoch)
            .with_leader(WireId(partition.leader))
            .with_leader_epoch(partition.leader_epoch)
            .with_isr(wire_ids(&partition.isr))
            .with_partition_epoch(partition.partition_epoch)
            .with_replicas(wire_ids(&partition.replicas))
            .with_adding_replicas(wire_ids(&partition.adding_replicas))
            .with_removing_replicas(wire_ids(&partition.removing_replicas))
            .with_is_new(partition.is_new)
    };
    let topics = order.topics.iter().map(|topic| {
        LeaderAndIsrTopicState::default()
            .with_topic_name(name(&topic.name))
            .with_topic_id(topic.id)
            .with_partition_states(topic.partitions.iter().map(partition).collect())
    });
    let leaders = order.live_leaders.iter().map(|leader| {
        LeaderAndIsrLiveLeader::default()
            .with_broker_id(WireId(leader.id))
            .with_host_name(text(&leader.host))
            .with_port(i32::from(leader.port))
    });
    let by_id = version >= LEADER_AND_ISR_IDS;
    Some(
        LeaderAndIsrRequest::default()
            .with_controller_id(WireId(authority.controller_id))
            .with_controller_epoch(authority.controller_epoch)
            .with_broker_epoch(authority.broker_epoch)
            .with_type(if by_id { INCREMENTAL } else { 0 })
            .with_topic_states(topics.collect())
            .with_live_leaders(leaders.collect()),
    )
}

/// Reads LeaderAndIsr of any version.
pub(crate) fn read_leader_and_isr(request: &LeaderAndIsrRequest) -> LeaderAndIsr {
    let partition = |state: &LeaderAndIsrPartitionState| PartitionOrder {
        partition: state.partition_index,
        leader: state.leader.0,
        leader_epoch: state.leader_epoch,
        isr: ids(&state.isr),
        partition_epoch: state.partition_epoch,
        replicas: ids(&state.replicas),
        adding_replicas: ids(&state.adding_replicas),
        removing_replicas: ids(&state.removing_replicas),
        is_new: state.is_new,
    };
    let mut topics = ByTopic::default();
    for state in &request.ungrouped_partition_states {
        topics.put(&state.topic_name, Uuid::nil(), partition(state));
    }
    for topic in &request.topic_states {
        for state in &topic.partition_states {
            topics.put(&topic.topic_name, topic.topic_id, partition(state));
        }
    }
    let leaders = request.live_leaders.iter().filter_map(|leader| {
        Some(LiveLeader {
            id: leader.broker_id.0,
            host: leader.host_name.to_string(),
            port: u16::try_from(leader.port).ok()?,
        })
    });
    LeaderAndIsr {
        authority: Authority {
            controller_id: request.controller_id.0,
            controller_epoch: request.controller_epoch,
            broker_epoch: request.broker_epoch,
        },
        topics: topics.orders,
        live_leaders: leaders.collect(),
    }
}

/// Answers LeaderAndIsr.
pub(crate) fn answer_leader_and_isr(
    request: &LeaderAndIsrRequest,
    outcome: &Outcome,
    version: i16,
) -> LeaderAndIsrResponse {
    let error = |topic_partition: &TopicPartition, code: ErrorCode| {
        LeaderAndIsrPartitionError::default()
            .with_partition_index(topic_partition.partition)
            .with_error_code(code.code())
    };
    let response = LeaderAndIsrResponse::default().with_error_code(outcome.error.code());
    if version < LEADER_AND_ISR_IDS {
        let errors = outcome.replicas.iter();
        let errors = errors
            .map(|(replica, code)| error(replica, *code).with_topic_name(name(&replica.topic)));
        return response.with_partition_errors(errors.collect());
    }
    let topics = request.topic_states.iter().map(|topic| {
        let of_topic = outcome
            .replicas
            .iter()
            .filter(|(replica, _)| *replica.topic == **topic.topic_name);
        let errors = of_topic.map(|(replica, code)| error(replica, *code));
        LeaderAndIsrTopicError::default()
            .with_topic_id(topic.topic_id)
            .with_partition_errors(errors.collect())
    });
    response.with_topics(topics.collect())
}

/// Writes UpdateMetadata; `None` for a broker that is too old for this controller.
pub(crate) fn update_metadata(
    order: &UpdateMetadata,
    version: i16,
) -> Option<UpdateMetadataRequest> {
    if version < UPDATE_METADATA_BY_TOPIC {
        return None;
    }
    let authority = &order.authority;
    let partition = |partition: &PartitionOrder| {
        UpdateMetadataPartitionState::default()
            .with_partition_index(partition.partition)
            .with_controller_epoch(authority.controller_epoch)
            .with_leader(WireId(partition.leader))
            .with_leader_epoch(partition.leader_epoch)
            .with_isr(wire_ids(&partition.isr))
            .with_zk_version(partition.partition_epoch)
            .with_replicas(wire_ids(&partition.replicas))
    };
    let topics = order.topics.iter().map(|topic| {
        let id = if version >= UPDATE_METADATA_IDS {
            topic.id
        } else {
            Uuid::nil()
        };
        UpdateMetadataTopicState::default()
            .with_topic_name(name(&topic.name))
            .with_topic_id(id)
            .with_partition_states(topic.partitions.iter().map(partition).collect())
    });
    let endpoint = |endpoint: &Listener| {
        UpdateMetadataEndpoint::default()
            .with_port(i32::from(endpoint.port))
            .with_host(text(&endpoint.host))
            .with_listener(text(&endpoint.name))
            .with_security_protocol(protocol_code(endpoint.protocol))
    };
    let brokers = order.brokers.iter().map(|node| {
        UpdateMetadataBroker::default()
            .with_id(WireId(node.id))
            .with_endpoints(node.endpoints.iter().map(endpoint).collect())
            .with_rack(node.rack.as_deref().map(text))
    });
    let kind = match order.scope {
        _ if version < UPDATE_METADATA_TYPE => UNKNOWN,
        Scope::Changes => INCREMENTAL,
        Scope::Known => UNKNOWN,
        Scope::All => FULL,
    };
    Some(
        UpdateMetadataRequest::default()
            .with_controller_id(WireId(authority.controller_id))
            .with_controller_epoch(authority.controller_epoch)
            .with_broker_epoch(authority.broker_epoch)
            .with_type(kind)
            .with_topic_states(topics.collect())
            .with_live_brokers(brokers.collect()),
    )
}

/// Reads UpdateMetadata of any version. Broker epochs are not in it.
pub(crate) fn read_update_metadata(
    request: &UpdateMetadataRequest,
    version: i16,
) -> UpdateMetadata {
    let partition = |state: &UpdateMetadataPartitionState| PartitionOrder {
        partition: state.partition_index,
        leader: state.leader.0,
        leader_epoch: state.leader_epoch,
        isr: ids(&state.isr),
        partition_epoch: state.zk_version,
        replicas: ids(&state.replicas),
        adding_replicas: Vec::new(),
        removing_replicas: Vec::new(),
        is_new: false,
    };
    let mut topics = ByTopic::default();
    for state in &request.ungrouped_partition_states {
        topics.put(&state.topic_name, Uuid::nil(), partition(state));
    }
    for topic in &request.topic_states {
        for state in &topic.partition_states {
            topics.put(&topic.topic_name, topic.topic_id, partition(state));
        }
    }
    let brokers = request.live_brokers.iter();
    UpdateMetadata {
        authority: Authority {
            controller_id: request.controller_id.0,
            controller_epoch: request.controller_epoch,
            broker_epoch: request.broker_epoch,
        },
        topics: topics.orders,
        brokers: brokers
            .map(|broker| Arc::new(read_broker(broker, version)))
            .collect(),
        scope: match request._type {
            INCREMENTAL => Scope::Changes,
            FULL => Scope::All,
            _ => Scope::Known,
        },
    }
}

fn read_broker(broker: &UpdateMetadataBroker, version: i16) -> BrokerNode {
    let plaintext = SecurityProtocol::Plaintext;
    let endpoints = if version == 0 {
        u16::try_from(broker.v0_port)
            .map(|port| Listener {
                name: plaintext.name().to_owned(),
                protocol: plaintext,
                host: broker.v0_host.to_string(),
                port,
            })
            .into_iter()
            .collect()
    } else {
        let endpoints = broker.endpoints.iter().filter_map(|endpoint| {
            let protocol = protocol_of(endpoint.security_protocol)?;
            // Before there were names, a listener was called as its protocol.
            let name = match &*endpoint.listener {
                "" => protocol.name(),
                name => name,
            };
            Some(Listener {
                name: name.to_owned(),
                protocol,
                host: endpoint.host.to_string(),
                port: u16::try_from(endpoint.port).ok()?,
            })
        });
        endpoints.collect()
    };
    BrokerNode {
        id: broker.id.0,
        endpoints,
        rack: broker.rack.as_deref().map(str::to_owned),
        epoch: NO_BROKER_EPOCH,
    }
}

const PROTOCOLS: [SecurityProtocol; 4] = [
    SecurityProtocol::Plaintext,
    SecurityProtocol::Ssl,
    SecurityProtocol::SaslPlaintext,
    SecurityProtocol::SaslSsl,
];

fn protocol_code(protocol: SecurityProtocol) -> i16 {
    let codes = (0..).zip(PROTOCOLS);
    let mut found = codes.filter(|(_, known)| *known == protocol);
    found.next().map_or(0, |(code, _)| code)
}

fn protocol_of(code: i16) -> Option<SecurityProtocol> {
    PROTOCOLS.get(usize::try_from(code).ok()?).copied()
}

/// Writes StopReplica; `None` for a broker that is too old for this controller.
pub(crate) fn stop_replica(order: &StopReplica, version: i16) -> Option<StopReplicaRequest> {
    if version < STOP_REPLICA_BY_PARTITION {
        return None;
    }
    let mut topics: Vec<StopReplicaTopicState> = Vec::new();
    for stopped in &order.replicas {
        let state = StopReplicaPartitionState::default()
            .with_partition_index(stopped.topic_partition.partition)
            .with_leader_epoch(stopped.leader_epoch)
            .with_delete_partition(stopped.delete);
        let topic = &stopped.topic_partition.topic;
        match topics.last_mut() {
            Some(last) if **last.topic_name == **topic => last.partition_states.push(state),
            _ => topics.push(
                StopReplicaTopicState::default()
                    .with_topic_name(name(topic))
                    .with_partition_states(vec![state]),
            ),
        }
    }
    Some(
        StopReplicaRequest::default()
            .with_controller_id(WireId(order.authority.controller_id))
            .with_controller_epoch(order.authority.controller_epoch)
            .with_broker_epoch(order.authority.broker_epoch)
            .with_topic_states(topics),
    )
}

/// Reads StopReplica of any version.
pub(crate) fn read_stop_replica(request: &StopReplicaRequest) -> StopReplica {
    let stopped =
        |topic: &TopicName, partition: i32, leader_epoch: i32, delete: bool| StoppedReplica {
            topic_partition: TopicPartition::new(topic.to_string(), partition),
            leader_epoch,
            delete,
        };
    let delete = request.delete_partitions;
    let ungrouped = request.ungrouped_partitions.iter();
    let mut replicas: Vec<StoppedReplica> = ungrouped
        .map(|found| stopped(&found.topic_name, found.partition_index, -1, delete))
        .collect();
    for topic in &request.topics {
        let partitions = topic.partition_indexes.iter();
        replicas.extend(partitions.map(|&found| stopped(&topic.name, found, -1, delete)));
    }
    for topic in &request.topic_states {
        replicas.extend(topic.partition_states.iter().map(|state| {
            stopped(
                &topic.topic_name,
                state.partition_index,
                state.leader_epoch,
                state.delete_partition,
            )
        }));
    }
    StopReplica {
        authority: Authority {
            controller_id: request.controller_id.0,
            controller_epoch: request.controller_epoch,
            broker_epoch: request.broker_epoch,
        },
        replicas,
    }
}

/// Answers StopReplica.
pub(crate) fn answer_stop_replica(outcome: &Outcome) -> StopReplicaResponse {
    let errors = outcome.replicas.iter().map(|(replica, code)| {
        StopReplicaPartitionError::default()
            .with_topic_name(name(&replica.topic))
            .with_partition_index(replica.partition)
            .with_error_code(code.code())
    });
    StopReplicaResponse::default()
        .with_error_code(outcome.error.code())
        .with_partition_errors(errors.collect())
}

/// Partitions as they come, put together by topic.
#[derive(Default)]
struct ByTopic {
    orders: Vec<TopicOrder>,
}

impl ByTopic {
    fn put(&mut self, topic: &TopicName, id: Uuid, partition: PartitionOrder) {
        match self.orders.last_mut() {
            Some(last) if *last.name == ***topic => last.partitions.push(partition),
            _ => self.orders.push(TopicOrder {
                name: topic.to_string().into(),
                id,
                partitions: vec![partition],
            }),
        }
    }
}
