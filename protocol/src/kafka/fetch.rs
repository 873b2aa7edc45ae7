//! Fetch (key 1): requests decoded and responses encoded by hand.
//!
//! A response is encoded around its records: as pieces, of which some are bytes and the others whatever stands for the
//! records of a partition (shared bytes, or a range of a file that is sent without being read).

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::api::ApiKey;
use super::errors::ErrorCode;
use super::frame;
pub use super::leader::{LeaderIdAndEpoch, NodeEndpoint};
use super::wire::{DecodeError, Reader, Writer, put_at};

/// The versions that the codec knows.
pub const VERSIONS: RangeInclusive<i16> = 0..=18;
const FIRST_FLEXIBLE: i16 = 12;
const FIRST_WITH_TOPIC_ID: i16 = 13;

/// Says which records a consumer wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// All up to the high watermark.
    #[default]
    ReadUncommitted,
    /// All up to the last stable offset; the client leaves out aborted transactions.
    ReadCommitted,
}

/// What a consumer or follower wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The cluster that the client means (v12+).
    pub cluster_id: Option<String>,
    /// The follower's broker id; -1 for consumers, -2 for a debugging consumer.
    pub replica_id: i32,
    /// The follower's broker epoch (v15+), else -1.
    pub replica_epoch: i64,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How many bytes of records to wait for.
    pub min_bytes: i32,
    /// How many bytes of records to answer at most (v3+), softly.
    pub max_bytes: i32,
    /// Which records to show (v4+).
    pub isolation_level: IsolationLevel,
    /// The fetch session (v7+), 0 without.
    pub session_id: i32,
    /// The epoch of the fetch session (v7+); -1 without.
    pub session_epoch: i32,
    /// The topics in the order of the request.
    pub topics: Vec<FetchTopic>,
    /// What to take out of the session (v7+).
    pub forgotten_topics: Vec<ForgottenTopic>,
    /// The rack of the consumer (v11+), else empty.
    pub rack_id: String,
}

/// What to read of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTopic {
    /// The name; empty from v13 on.
    pub name: String,
    /// The id (v13+); nil before.
    pub topic_id: Uuid,
    /// The partitions in the order of the request.
    pub partitions: Vec<FetchPartition>,
}

/// What to read of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition number.
    pub index: i32,
    /// The leader epoch that the client knows (v9+), -1 without.
    pub current_leader_epoch: i32,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The epoch of the follower's last record (v12+), -1 without.
    pub last_fetched_epoch: i32,
    /// The follower's log start offset (v5+), -1 without.
    pub log_start_offset: i64,
    /// How many bytes of records to answer at most, softly from v3 on.
    pub max_bytes: i32,
    /// The follower's log directory (v17+), else nil.
    pub replica_directory_id: Uuid,
    /// The high watermark that the follower knows (v18+), else the largest i64.
    pub high_watermark: i64,
}

/// Partitions to take out of a fetch session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The name; empty from v13 on.
    pub name: String,
    /// The id (v13+); nil before.
    pub topic_id: Uuid,
    /// The partition numbers.
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    /// Decodes a request body; every length is checked against the bytes that follow.
    pub fn decode(version: i16, body: BytesMut) -> Result<FetchRequest, DecodeError> {
        if !VERSIONS.contains(&version) {
            return Err(DecodeError::Version {
                api: "Fetch",
                version,
            });
        }
        let mut reader = Reader::new(body, version >= FIRST_FLEXIBLE);
        let mut request = Self::read_limits(version, &mut reader)?;
        let count = reader.count("the topics", 3)?;
        request.topics.reserve_exact(count);
        for _ in 0..count {
            request.topics.push(FetchTopic::read(version, &mut reader)?);
        }
        if version >= 7 {
            let count = reader.count("the forgotten topics", 3)?;
            for _ in 0..count {
                request
                    .forgotten_topics
                    .push(ForgottenTopic::read(version, &mut reader)?);
            }
        }
        if version >= 11 {
            request.rack_id = reader.nullable_string("the rack")?.unwrap_or_default();
        }
        reader.tagged_fields(|tag, value| {
            match tag {
                0 => request.cluster_id = value.nullable_string("the cluster id")?,
                1 => {
                    request.replica_id = value.i32("the replica id")?;
                    request.replica_epoch = value.i64("the replica epoch")?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(request)
    }

    /// Reads what comes before the topics.
    fn read_limits(version: i16, reader: &mut Reader) -> Result<FetchRequest, DecodeError> {
        let replica_id = if version <= 14 {
            reader.i32("the replica id")?
        } else {
            -1
        };
        let max_wait_ms = reader.i32("the maximum wait")?;
        let min_bytes = reader.i32("the minimum of bytes")?;
        let max_bytes = if version >= 3 {
            reader.i32("the maximum of bytes")?
        } else {
            i32::MAX
        };
        let isolation_level = match if version >= 4 {
            reader.i8("the isolation level")?
        } else {
            0
        } {
            0 => IsolationLevel::ReadUncommitted,
            1 => IsolationLevel::ReadCommitted,
            _ => {
                return Err(DecodeError::Invalid {
                    field: "the isolation level",
                });
            }
        };
        let (session_id, session_epoch) = if version >= 7 {
            (
                reader.i32("the session id")?,
                reader.i32("the session epoch")?,
            )
        } else {
            (0, -1)
        };
        Ok(FetchRequest {
            cluster_id: None,
            replica_id,
            replica_epoch: -1,
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation_level,
            session_id,
            session_epoch,
            topics: Vec::new(),
            forgotten_topics: Vec::new(),
            rack_id: String::new(),
        })
    }
}

fn read_topic(version: i16, reader: &mut Reader) -> Result<(String, Uuid), DecodeError> {
    if version >= FIRST_WITH_TOPIC_ID {
        Ok((String::new(), reader.uuid("the topic id")?))
    } else {
        Ok((reader.string("the topic name")?, Uuid::nil()))
    }
}

impl FetchTopic {
    fn read(version: i16, reader: &mut Reader) -> Result<FetchTopic, DecodeError> {
        let (name, topic_id) = read_topic(version, reader)?;
        let count = reader.count("the partitions", 16)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(FetchPartition::read(version, reader)?);
        }
        reader.skip_tagged_fields()?;
        Ok(FetchTopic {
            name,
            topic_id,
            partitions,
        })
    }
}

impl FetchPartition {
    fn read(version: i16, reader: &mut Reader) -> Result<FetchPartition, DecodeError> {
        let mut partition = FetchPartition {
            index: reader.i32("the partition")?,
            current_leader_epoch: if version >= 9 {
                reader.i32("the leader epoch")?
            } else {
                -1
            },
            fetch_offset: reader.i64("the fetch offset")?,
            last_fetched_epoch: if version >= 12 {
                reader.i32("the last fetched epoch")?
            } else {
                -1
            },
            log_start_offset: if version >= 5 {
                reader.i64("the log start offset")?
            } else {
                -1
            },
            max_bytes: reader.i32("the partition's maximum of bytes")?,
            replica_directory_id: Uuid::nil(),
            high_watermark: i64::MAX,
        };
        reader.tagged_fields(|tag, value| {
            match tag {
                0 => partition.replica_directory_id = value.uuid("the replica directory id")?,
                1 => partition.high_watermark = value.i64("the high watermark")?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(partition)
    }
}

impl ForgottenTopic {
    fn read(version: i16, reader: &mut Reader) -> Result<ForgottenTopic, DecodeError> {
        let (name, topic_id) = read_topic(version, reader)?;
        let count = reader.count("the forgotten partitions", 4)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(reader.i32("the forgotten partition")?);
        }
        reader.skip_tagged_fields()?;
        Ok(ForgottenTopic {
            name,
            topic_id,
            partitions,
        })
    }
}

/// Stands for the records of a partition in a response; its length is all that the encoding must know.
pub trait RecordPayload {
    /// Returns how many bytes it will be on the wire.
    fn size(&self) -> usize;
}

impl RecordPayload for Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchResponse<R> {
    /// How long the client should wait for its quota (v1+).
    pub throttle_time_ms: i32,
    /// What is wrong with the request as a whole, as its session (v7+).
    pub error: ErrorCode,
    /// The fetch session (v7+), 0 without.
    pub session_id: i32,
    /// The topics.
    pub topics: Vec<FetchTopicResponse<R>>,
    /// Where the leaders named in the partitions can be reached (v16+).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What was read of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTopicResponse<R> {
    /// The name (up to v12).
    pub name: String,
    /// The id (v13+).
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<FetchPartitionResponse<R>>,
}

/// What was read of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartitionResponse<R> {
    /// The partition number.
    pub index: i32,
    /// What went wrong, if anything.
    pub error: ErrorCode,
    /// The high watermark; -1 on an error.
    pub high_watermark: i64,
    /// The last stable offset (v4+); -1 on an error.
    pub last_stable_offset: i64,
    /// The first offset of the log (v5+); -1 on an error.
    pub log_start_offset: i64,
    /// The aborted transactions in the range, for `ReadCommitted`; null otherwise (v4+).
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The follower to read from instead (v11+), -1 without.
    pub preferred_read_replica: i32,
    /// Where the follower's log departs from the leader's (v12+).
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Who leads instead (v12+).
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// The record batches; `None` is written as an empty set, never as null, on which old consumers fail.
    pub records: Option<R>,
}

/// A transaction whose records the consumer has to leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer of the transaction.
    pub producer_id: i64,
    /// The first offset of the transaction.
    pub first_offset: i64,
}

/// The end of a leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The largest epoch not above the one asked for.
    pub epoch: i32,
    /// The offset after its last record.
    pub end_offset: i64,
}

impl<R> Default for FetchResponse<R> {
    fn default() -> Self {
        FetchResponse {
            throttle_time_ms: 0,
            error: ErrorCode::None,
            session_id: 0,
            topics: Vec::new(),
            node_endpoints: Vec::new(),
        }
    }
}

impl<R> FetchPartitionResponse<R> {
    /// Says that nothing was read.
    pub fn failed(index: i32, error: ErrorCode) -> Self {
        FetchPartitionResponse {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: None,
            preferred_read_replica: -1,
            diverging_epoch: None,
            current_leader: None,
            records: None,
        }
    }
}

/// A stretch of an encoded response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<R> {
    /// Bytes to send as they are.
    Bytes(Bytes),
    /// The records of a partition.
    Records(R),
}

impl<R: RecordPayload> Piece<R> {
    /// Returns how many bytes it will be on the wire.
    pub fn size(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Records(records) => records.size(),
        }
    }
}

impl<R: RecordPayload> FetchResponse<R> {
    /// Returns the bytes of all records.
    pub fn records_size(&self) -> usize {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .filter_map(|partition| partition.records.as_ref())
            .map(RecordPayload::size)
            .sum()
    }

    /// Encodes a response body; fields that the version lacks are left out.
    pub fn encode(self, version: i16) -> Vec<Piece<R>> {
        self.encode_after(BytesMut::new(), version, |_, _| {})
    }

    /// Encodes a whole frame: size, response header and body.
    pub fn encode_frame(self, version: i16, correlation_id: i32) -> Vec<Piece<R>> {
        let mut out = BytesMut::new();
        frame::start_response(&mut out, ApiKey::Fetch, version, correlation_id);
        self.encode_after(out, version, |out, records_size| {
            let size = (out.len() - frame::SIZE_LEN).saturating_add(records_size);
            put_at(
                out,
                0,
                i32::try_from(size).unwrap_or(i32::MAX).to_be_bytes(),
            );
        })
    }

    /// Encodes the body after what is in `out`, lets `finish` change the bytes, and cuts them where records belong.
    fn encode_after(
        self,
        mut out: BytesMut,
        version: i16,
        finish: impl FnOnce(&mut BytesMut, usize),
    ) -> Vec<Piece<R>> {
        let mut cuts: Vec<(usize, R)> = Vec::new();
        self.write(version, &mut out, &mut cuts);
        finish(
            &mut out,
            cuts.iter().map(|(_, records)| records.size()).sum(),
        );
        let mut rest = out.freeze();
        let mut pieces = Vec::with_capacity(2 * cuts.len() + 1);
        let mut start = 0;
        for (end, records) in cuts {
            pieces.push(Piece::Bytes(rest.split_to(end.saturating_sub(start))));
            pieces.push(Piece::Records(records));
            start = end;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Bytes(rest));
        }
        pieces
    }

    fn write(self, version: i16, out: &mut BytesMut, cuts: &mut Vec<(usize, R)>) {
        let partitions: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        out.reserve(64 + 64 * self.topics.len() + 64 * partitions);
        let mut out = Writer::new(out, version >= FIRST_FLEXIBLE);
        if version >= 1 {
            out.i32(self.throttle_time_ms);
        }
        if version >= 7 {
            out.i16(self.error.code());
            out.i32(self.session_id);
        }
        out.length(Some(self.topics.len()));
        for topic in self.topics {
            if version >= FIRST_WITH_TOPIC_ID {
                out.uuid(topic.topic_id);
            } else {
                out.string(&topic.name);
            }
            out.length(Some(topic.partitions.len()));
            for partition in topic.partitions {
                partition.write(version, &mut out, cuts);
            }
            out.no_tagged_fields();
        }
        let endpoints = version >= 16 && !self.node_endpoints.is_empty();
        out.tagged_field_count(usize::from(endpoints));
        if endpoints {
            out.tagged_field(0, |value| {
                NodeEndpoint::write_all(&self.node_endpoints, value)
            });
        }
    }
}

impl<R: RecordPayload> FetchPartitionResponse<R> {
    fn write(self, version: i16, out: &mut Writer<'_>, cuts: &mut Vec<(usize, R)>) {
        out.i32(self.index);
        out.i16(self.error.code());
        out.i64(self.high_watermark);
        if version >= 4 {
            out.i64(self.last_stable_offset);
            if version >= 5 {
                out.i64(self.log_start_offset);
            }
            write_aborted(self.aborted_transactions.as_deref(), out);
        }
        if version >= 11 {
            out.i32(self.preferred_read_replica);
        }
        let size = self.records.as_ref().map_or(0, RecordPayload::size);
        out.length(Some(size));
        if let Some(records) = self.records.filter(|_| size > 0) {
            cuts.push((out.position(), records));
        }
        let count = usize::from(self.diverging_epoch.is_some())
            + usize::from(self.current_leader.is_some());
        out.tagged_field_count(count);
        if let Some(diverging) = self.diverging_epoch {
            out.tagged_field(0, |value| {
                value.i32(diverging.epoch);
                value.i64(diverging.end_offset);
                value.no_tagged_fields();
            });
        }
        if let Some(leader) = self.current_leader {
            out.tagged_field(1, |value| leader.write(value));
        }
    }
}

fn write_aborted(aborted: Option<&[AbortedTransaction]>, out: &mut Writer<'_>) {
    out.length(aborted.map(<[_]>::len));
    for transaction in aborted.unwrap_or_default() {
        out.i64(transaction.producer_id);
        out.i64(transaction.first_offset);
        out.no_tagged_fields();
    }
}
