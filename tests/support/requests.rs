//! Requests for raw sockets, one topic and partition at a time.

use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, FetchResponse, FindCoordinatorRequest,
    ListOffsetsRequest, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::process::HANG_GUARD;
use super::wire::Wire;

/// The versions of the two hot requests that raw tests use unless the version is what they test: both flexible, and
/// both naming topics by name.
pub const PRODUCE: i16 = 9;
pub const FETCH: i16 = 12;

pub fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub fn produce(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// The only partition of a reply to [`produce`].
pub fn produced(response: &ProduceResponse) -> &PartitionProduceResponse {
    &response.responses[0].partition_responses[0]
}

pub fn fetch(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(64 * 1024 * 1024);
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(64 * 1024 * 1024)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// The error code and records of the only partition of a reply to [`fetch`].
pub fn fetched(response: &FetchResponse) -> (i16, Bytes) {
    let partition = &response.responses[0].partitions[0];
    (
        partition.error_code,
        partition.records.clone().unwrap_or_default(),
    )
}

pub fn create_topic_request(topic: &str, partitions: i32) -> CreateTopicsRequest {
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    CreateTopicsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic])
}

/// Asks for the offset at `timestamp`: -1 is the end of the log, -2 its start.
pub fn offset_at(wire: &mut Wire, topic: &str, partition: i32, timestamp: i64) -> i64 {
    list_offset(wire, topic, partition, timestamp, 0)
}

/// Asks for the last stable offset.
pub fn stable_offset(wire: &mut Wire, topic: &str, partition: i32) -> i64 {
    list_offset(wire, topic, partition, -1, 1)
}

fn list_offset(
    wire: &mut Wire,
    topic: &str,
    partition: i32,
    timestamp: i64,
    isolation_level: i8,
) -> i64 {
    let asked = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(isolation_level)
        .with_topics(vec![topic]);
    let response = wire.call(5, &request);
    let answer = &response.topics[0].partitions[0];
    assert_eq!(answer.error_code, 0, "ListOffsets");
    answer.offset
}

/// Asks for the coordinator of a group until it is there: the topic that groups are kept in is made by this.
pub fn find_group_coordinator(wire: &mut Wire, group: &str) {
    let request = FindCoordinatorRequest::default()
        .with_coordinator_keys(vec![StrBytes::from_string(group.to_owned())]);
    let deadline = Instant::now() + HANG_GUARD;
    while wire.call(4, &request).coordinators[0].error_code != 0 {
        assert!(Instant::now() < deadline, "there is no coordinator");
    }
}
