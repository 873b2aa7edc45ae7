//! The follower's side of Fetch: requests encoded and responses decoded by hand, from version 12 on.
//!
//! The records of a response stay where they are in the frame: each partition gets its stretch of it.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::errors::ErrorCode;
use super::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchPartitionResponse, FetchRequest,
    FetchResponse, FetchTopicResponse, ForgottenTopic, IsolationLevel,
};
use super::leader::LeaderIdAndEpoch;
use super::wire::{DecodeError, Reader, Writer};

const FIRST_WITH_TOPIC_ID: i16 = 13;
const FIRST_WITH_REPLICA_STATE: i16 = 15;

impl FetchRequest {
    /// Appends a request body of version 12 or later; log directories and known high watermarks are left out.
    pub fn encode(&self, version: i16, out: &mut BytesMut) {
        let mut out = Writer::new(out, true);
        if version < FIRST_WITH_REPLICA_STATE {
            out.i32(self.replica_id);
        }
        out.i32(self.max_wait_ms);
        out.i32(self.min_bytes);
        out.i32(self.max_bytes);
        out.i8(match self.isolation_level {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        });
        out.i32(self.session_id);
        out.i32(self.session_epoch);
        out.length(Some(self.topics.len()));
        for topic in &self.topics {
            write_topic(version, &topic.name, topic.topic_id, &mut out);
            out.length(Some(topic.partitions.len()));
            for partition in &topic.partitions {
                partition.write(&mut out);
            }
            out.no_tagged_fields();
        }
        out.length(Some(self.forgotten_topics.len()));
        for topic in &self.forgotten_topics {
            topic.write(version, &mut out);
        }
        out.string(&self.rack_id);
        let replica_state = version >= FIRST_WITH_REPLICA_STATE;
        let count = usize::from(self.cluster_id.is_some()) + usize::from(replica_state);
        out.tagged_field_count(count);
        if let Some(cluster_id) = &self.cluster_id {
            out.tagged_field(0, |value| value.string(cluster_id));
        }
        if replica_state {
            out.tagged_field(1, |value| {
                value.i32(self.replica_id);
                value.i64(self.replica_epoch);
                value.no_tagged_fields();
            });
        }
    }
}

fn write_topic(version: i16, name: &str, topic_id: Uuid, out: &mut Writer<'_>) {
    if version >= FIRST_WITH_TOPIC_ID {
        out.uuid(topic_id);
    } else {
        out.string(name);
    }
}

impl FetchPartition {
    fn write(&self, out: &mut Writer<'_>) {
        out.i32(self.index);
        out.i32(self.current_leader_epoch);
        out.i64(self.fetch_offset);
        out.i32(self.last_fetched_epoch);
        out.i64(self.log_start_offset);
        out.i32(self.max_bytes);
        out.no_tagged_fields();
    }
}

impl ForgottenTopic {
    fn write(&self, version: i16, out: &mut Writer<'_>) {
        write_topic(version, &self.name, self.topic_id, out);
        out.length(Some(self.partitions.len()));
        for partition in &self.partitions {
            out.i32(*partition);
        }
        out.no_tagged_fields();
    }
}

impl FetchResponse<Bytes> {
    /// Decodes a response body of version 12 or later; every length is checked against the bytes that follow. Addresses
    /// of other leaders are left out.
    pub fn decode(version: i16, body: BytesMut) -> Result<FetchResponse<Bytes>, DecodeError> {
        let mut reader = Reader::new(body, true);
        let throttle_time_ms = reader.i32("the throttle time")?;
        let error = read_error(&mut reader)?;
        let session_id = reader.i32("the session id")?;
        let count = reader.count("the topics", 3)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(FetchTopicResponse::read(version, &mut reader)?);
        }
        reader.skip_tagged_fields()?;
        Ok(FetchResponse {
            throttle_time_ms,
            error,
            session_id,
            topics,
            node_endpoints: Vec::new(),
        })
    }
}

/// Reads an error code; one that is not known here is UNKNOWN_SERVER_ERROR.
fn read_error(reader: &mut Reader) -> Result<ErrorCode, DecodeError> {
    let code = reader.i16("the error")?;
    Ok(ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError))
}

impl FetchTopicResponse<Bytes> {
    fn read(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let (name, topic_id) = if version >= FIRST_WITH_TOPIC_ID {
            (String::new(), reader.uuid("the topic id")?)
        } else {
            (reader.string("the topic name")?, Uuid::nil())
        };
        let count = reader.count("the partitions", 36)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(FetchPartitionResponse::read(reader)?);
        }
        reader.skip_tagged_fields()?;
        Ok(FetchTopicResponse {
            name,
            topic_id,
            partitions,
        })
    }
}

impl FetchPartitionResponse<Bytes> {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let index = reader.i32("the partition")?;
        let mut partition = FetchPartitionResponse {
            high_watermark: 0,
            ..FetchPartitionResponse::failed(index, read_error(reader)?)
        };
        partition.high_watermark = reader.i64("the high watermark")?;
        partition.last_stable_offset = reader.i64("the last stable offset")?;
        partition.log_start_offset = reader.i64("the log start offset")?;
        let count = reader.count("the aborted transactions", 17)?;
        for _ in 0..count {
            let aborted = AbortedTransaction {
                producer_id: reader.i64("the producer id")?,
                first_offset: reader.i64("the first offset")?,
            };
            reader.skip_tagged_fields()?;
            partition
                .aborted_transactions
                .get_or_insert_default()
                .push(aborted);
        }
        partition.preferred_read_replica = reader.i32("the preferred read replica")?;
        let records = reader.blob("the records")?;
        partition.records = records
            .map(BytesMut::freeze)
            .filter(|records| !records.is_empty());
        reader.tagged_fields(|tag, value| {
            match tag {
                0 => {
                    partition.diverging_epoch = Some(EpochEndOffset {
                        epoch: value.i32("the diverging epoch")?,
                        end_offset: value.i64("its end offset")?,
                    });
                }
                1 => {
                    partition.current_leader = Some(LeaderIdAndEpoch {
                        leader_id: value.i32("the leader")?,
                        leader_epoch: value.i32("its epoch")?,
                    });
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::fetch::{FetchTopic, Piece};

    const ID: Uuid = Uuid::from_u128(9);

    fn request(version: i16) -> FetchRequest {
        let (name, topic_id) = match version {
            12 => ("a".to_owned(), Uuid::nil()),
            _ => (String::new(), ID),
        };
        let partition = FetchPartition {
            index: 2,
            current_leader_epoch: 6,
            fetch_offset: 40,
            last_fetched_epoch: 5,
            log_start_offset: 10,
            max_bytes: 1 << 20,
            replica_directory_id: Uuid::nil(),
            high_watermark: i64::MAX,
        };
        FetchRequest {
            cluster_id: Some("cluster".to_owned()),
            replica_id: 7,
            replica_epoch: if version >= 15 { 70 } else { -1 },
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 10 << 20,
            isolation_level: IsolationLevel::ReadUncommitted,
            session_id: 3,
            session_epoch: 4,
            topics: vec![FetchTopic {
                name: name.clone(),
                topic_id,
                partitions: vec![partition],
            }],
            forgotten_topics: vec![ForgottenTopic {
                name,
                topic_id,
                partitions: vec![8, 9],
            }],
            rack_id: "r1".to_owned(),
        }
    }

    // The leader's side is tested against the schema crates.
    #[test]
    fn leaders_read_what_followers_ask() {
        for version in 12..=18 {
            let request = request(version);
            let mut out = BytesMut::new();
            request.encode(version, &mut out);
            assert_eq!(FetchRequest::decode(version, out).unwrap(), request);
        }
    }

    fn response(version: i16) -> FetchResponse<Bytes> {
        let read = FetchPartitionResponse {
            high_watermark: 40,
            last_stable_offset: 39,
            log_start_offset: 10,
            aborted_transactions: Some(vec![AbortedTransaction {
                producer_id: 4,
                first_offset: 12,
            }]),
            preferred_read_replica: 1,
            records: Some(Bytes::from_static(b"whole batches")),
            ..FetchPartitionResponse::failed(2, ErrorCode::None)
        };
        let refused = FetchPartitionResponse {
            diverging_epoch: Some(EpochEndOffset {
                epoch: 3,
                end_offset: 30,
            }),
            current_leader: Some(LeaderIdAndEpoch {
                leader_id: 1,
                leader_epoch: 6,
            }),
            ..FetchPartitionResponse::failed(3, ErrorCode::FencedLeaderEpoch)
        };
        FetchResponse {
            throttle_time_ms: 5,
            error: ErrorCode::FetchSessionIdNotFound,
            session_id: 3,
            topics: vec![FetchTopicResponse {
                name: if version == 12 { "a" } else { "" }.to_owned(),
                topic_id: if version == 12 { Uuid::nil() } else { ID },
                partitions: vec![read, refused],
            }],
            node_endpoints: Vec::new(),
        }
    }

    fn encoded(version: i16) -> BytesMut {
        let mut out = BytesMut::new();
        for piece in response(version).encode(version) {
            match piece {
                Piece::Bytes(bytes) | Piece::Records(bytes) => out.extend_from_slice(&bytes),
            }
        }
        out
    }

    #[test]
    fn followers_read_what_leaders_answer() {
        for version in 12..=18 {
            let decoded = FetchResponse::decode(version, encoded(version)).unwrap();
            assert_eq!(decoded, response(version));
        }
    }

    #[test]
    fn answers_that_are_cut_off_are_refused() {
        let whole = encoded(13);
        for len in 0..whole.len() {
            let cut_off = BytesMut::from(&whole[..len]);
            assert!(FetchResponse::decode(13, cut_off).is_err(), "{len} bytes");
        }
    }
}
