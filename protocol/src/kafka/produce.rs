//! Produce (key 0): requests decoded and responses encoded by hand, so that records are never copied.
//!
//! Decoding splits the frame: each partition's records come out as a `BytesMut` of their own over the same memory, in
//! which the log can write offsets before it writes the bytes to disk.
//!
//! The layouts of v0 to v2 differ only in the fields around the records, which then are message sets.

use std::ops::RangeInclusive;

use bytes::BytesMut;
use uuid::Uuid;

use super::errors::ErrorCode;
pub use super::leader::{LeaderIdAndEpoch, NodeEndpoint};
use super::wire::{DecodeError, Reader, Writer};

/// The versions that the codec knows.
pub const VERSIONS: RangeInclusive<i16> = 0..=13;
const FIRST_FLEXIBLE: i16 = 9;
const FIRST_WITH_TOPIC_ID: i16 = 13;

/// The records to append.
#[derive(Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The transactional producer's name (v3+).
    pub transactional_id: Option<String>,
    /// How many replicas must have the records: 0 none (and no answer), 1 the leader, -1 all in sync.
    pub acks: i16,
    /// How long to wait for the acknowledgements.
    pub timeout_ms: i32,
    /// The topics in the order of the request; the same one may come twice.
    pub topics: Vec<ProduceTopic>,
}

/// The records for one topic.
#[derive(Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    /// The name; empty from v13 on.
    pub name: String,
    /// The id (v13+); nil before.
    pub topic_id: Uuid,
    /// The partitions in the order of the request.
    pub partitions: Vec<ProducePartition>,
}

/// The records for one partition.
#[derive(Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// The partition number.
    pub index: i32,
    /// The record batch; `None` when the client sent null.
    pub records: Option<BytesMut>,
}

impl ProduceRequest {
    /// Decodes a request body; every length is checked against the bytes that follow.
    pub fn decode(version: i16, body: BytesMut) -> Result<ProduceRequest, DecodeError> {
        if !VERSIONS.contains(&version) {
            return Err(DecodeError::Version {
                api: "Produce",
                version,
            });
        }
        let mut reader = Reader::new(body, version >= FIRST_FLEXIBLE);
        let transactional_id = if version >= 3 {
            reader.nullable_string("the transactional id")?
        } else {
            None
        };
        let acks = reader.i16("acks")?;
        let timeout_ms = reader.i32("the timeout")?;
        let count = reader.count("the topics", 3)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(ProduceTopic::read(version, &mut reader)?);
        }
        reader.skip_tagged_fields()?;
        Ok(ProduceRequest {
            transactional_id,
            acks,
            timeout_ms,
            topics,
        })
    }
}

impl ProduceTopic {
    fn read(version: i16, reader: &mut Reader) -> Result<ProduceTopic, DecodeError> {
        let (name, topic_id) = if version >= FIRST_WITH_TOPIC_ID {
            (String::new(), reader.uuid("the topic id")?)
        } else {
            (reader.string("the topic name")?, Uuid::nil())
        };
        let count = reader.count("the partitions", 5)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            let index = reader.i32("the partition")?;
            let records = reader.blob("the records")?;
            reader.skip_tagged_fields()?;
            partitions.push(ProducePartition { index, records });
        }
        reader.skip_tagged_fields()?;
        Ok(ProduceTopic {
            name,
            topic_id,
            partitions,
        })
    }
}

/// What became of the records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProduceResponse {
    /// The topics of the request.
    pub topics: Vec<ProduceTopicResponse>,
    /// How long the client should wait for its quota (v1+).
    pub throttle_time_ms: i32,
    /// Where the leaders named in the partitions can be reached (v10+).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What became of the records for one topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProduceTopicResponse {
    /// The name (up to v12).
    pub name: String,
    /// The id (v13+).
    pub topic_id: Uuid,
    /// The partitions of the request.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// What became of the records for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// The partition number.
    pub index: i32,
    /// `None` when the records were appended, or were there already.
    pub error: ErrorCode,
    /// The offset of the first record, -1 on an error.
    pub base_offset: i64,
    /// The append time of LogAppendTime topics in milliseconds since the epoch, else -1 (v2+).
    pub log_append_time_ms: i64,
    /// The first offset of the log, -1 on an error (v5+).
    pub log_start_offset: i64,
    /// The records for which the batch was refused (v8+).
    pub record_errors: Vec<RecordErrorMessage>,
    /// Why the batch was refused (v8+).
    pub error_message: Option<String>,
    /// Who leads instead, with `NotLeaderOrFollower` and `FencedLeaderEpoch` (v10+).
    pub current_leader: Option<LeaderIdAndEpoch>,
}

/// Why one record was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordErrorMessage {
    /// The position of the record in its batch, from 0.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<String>,
}

impl ProducePartitionResponse {
    /// Says that the records have the offsets from `base_offset` on.
    pub fn appended(
        index: i32,
        base_offset: i64,
        log_append_time_ms: i64,
        log_start_offset: i64,
    ) -> Self {
        ProducePartitionResponse {
            base_offset,
            log_append_time_ms,
            log_start_offset,
            ..Self::failed(index, ErrorCode::None)
        }
    }

    /// Says that nothing was appended.
    pub fn failed(index: i32, error: ErrorCode) -> Self {
        ProducePartitionResponse {
            index,
            error,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }

    fn write(&self, version: i16, out: &mut Writer<'_>) {
        out.i32(self.index);
        out.i16(self.error.code());
        out.i64(self.base_offset);
        if version >= 2 {
            out.i64(self.log_append_time_ms);
        }
        if version >= 5 {
            out.i64(self.log_start_offset);
        }
        if version >= 8 {
            out.length(Some(self.record_errors.len()));
            for error in &self.record_errors {
                out.i32(error.batch_index);
                out.nullable_string(error.message.as_deref());
                out.no_tagged_fields();
            }
            out.nullable_string(self.error_message.as_deref());
        }
        let leader = self.current_leader.filter(|_| version >= 10);
        out.tagged_field_count(usize::from(leader.is_some()));
        if let Some(leader) = leader {
            out.tagged_field(0, |value| leader.write(value));
        }
    }
}

impl ProduceResponse {
    /// Appends a response body; fields that the version lacks are left out.
    pub fn encode(&self, version: i16, out: &mut BytesMut) {
        let mut out = Writer::new(out, version >= FIRST_FLEXIBLE);
        out.length(Some(self.topics.len()));
        for topic in &self.topics {
            if version >= FIRST_WITH_TOPIC_ID {
                out.uuid(topic.topic_id);
            } else {
                out.string(&topic.name);
            }
            out.length(Some(topic.partitions.len()));
            for partition in &topic.partitions {
                partition.write(version, &mut out);
            }
            out.no_tagged_fields();
        }
        if version >= 1 {
            out.i32(self.throttle_time_ms);
        }
        let endpoints = version >= 10 && !self.node_endpoints.is_empty();
        out.tagged_field_count(usize::from(endpoints));
        if endpoints {
            out.tagged_field(0, |value| {
                NodeEndpoint::write_all(&self.node_endpoints, value)
            });
        }
    }
}
