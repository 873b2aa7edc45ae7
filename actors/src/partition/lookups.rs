//! What a partition answers without changing: records, offsets, epochs, producers.

use std::io;

use actix::Context;
use troupe_protocol::kafka::errors::ErrorCode;

use super::leader::FollowerFetch;
use super::messages::{
    Describe, DescribeProducers, Description, EpochEndOffset, FoundOffset, ListOffset,
    ListSegmentOffsets, OffsetSpec, ProducerDescription, Read, ReadResult, Reader,
};
use super::{Answer, Partition};
use crate::log::{AbortedTransaction, ReadError, TimestampOffset};
use crate::storage::FileSlice;

/// What a read finds when it is allowed.
#[derive(Default)]
struct Found {
    records: Option<FileSlice>,
    aborted: Vec<(i64, i64)>,
    diverging_epoch: Option<(i32, i64)>,
}

impl Partition {
    /// Answers a fetch.
    pub(super) fn read(&mut self, read: Read, ctx: &mut Context<Self>) {
        let found = self.find_records(&read, ctx);
        let (error, found) = match found {
            Ok(found) => (ErrorCode::None, found),
            Err(error) => (error, Found::default()),
        };
        let _ = read.reply.send(ReadResult {
            error,
            records: found.records,
            progress: self.replica.progress(),
            aborted: found.aborted,
            diverging_epoch: found.diverging_epoch,
        });
    }

    fn find_records(&mut self, read: &Read, ctx: &mut Context<Self>) -> Answer<Found> {
        self.replica
            .check_reader(read.reader, read.current_leader_epoch)?;
        if let Some(diverging_epoch) = self.find_divergence(read)? {
            return Ok(Found {
                diverging_epoch: Some(diverging_epoch),
                ..Found::default()
            });
        }
        self.replica.check_offset(read.offset)?;
        if let Reader::Follower { broker } = read.reader {
            self.replica.follower_fetches(&FollowerFetch {
                broker,
                offset: read.offset,
                now: self.surroundings.clock.monotonic(),
            });
            self.expand_isr(broker, ctx);
            self.settle();
        }
        let bound = self.replica.bound(read.reader);
        if read.offset >= bound {
            return Ok(Found::default());
        }
        let log = self.log()?;
        let range = match log.read(read.offset, read.max_bytes, bound, read.at_least_one) {
            Ok(Some(range)) => range,
            Ok(None) => return Ok(Found::default()),
            Err(ReadError::OutOfRange) => return Err(ErrorCode::OffsetOutOfRange),
            Err(ReadError::Io(error)) => return Err(self.unreadable("reading records", &error)),
        };
        let aborted = match read.reader {
            Reader::CommittedConsumer => log.aborted_transactions(read.offset, range.end_offset),
            _ => Vec::new(),
        };
        let listed = |one: AbortedTransaction| (one.producer_id, one.first_offset);
        Ok(Found {
            aborted: aborted.into_iter().map(listed).collect(),
            records: Some(range.slice),
            diverging_epoch: None,
        })
    }

    /// Finds where a reader's log parts from this one, by the epoch of the last record that it has (KIP-320, KIP-595).
    fn find_divergence(&mut self, read: &Read) -> Answer<Option<(i32, i64)>> {
        if read.last_fetched_epoch < 0 {
            return Ok(None);
        }
        let (epoch, end_offset) = self.log()?.end_offset_for_epoch(read.last_fetched_epoch);
        if epoch < 0 || end_offset < 0 {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let diverges = epoch < read.last_fetched_epoch || end_offset < read.offset;
        Ok(diverges.then_some((epoch, end_offset)))
    }

    /// Answers ListOffsets from version 1 on.
    pub(super) fn list_offset(&mut self, list: ListOffset, _: &mut Context<Self>) {
        let answer = self.find_offset(&list);
        let _ = list.reply.send(answer);
    }

    fn find_offset(&mut self, list: &ListOffset) -> Answer<FoundOffset> {
        const NOTHING: FoundOffset = FoundOffset {
            offset: -1,
            timestamp: -1,
            leader_epoch: -1,
        };
        self.replica
            .check_reader(list.reader, list.current_leader_epoch)?;
        let is_consumer = matches!(list.reader, Reader::Consumer | Reader::CommittedConsumer);
        let bound = self.replica.bound(list.reader);
        match list.spec {
            OffsetSpec::Earliest => {
                let offset = self.replica.log_start_offset();
                let leader_epoch = self.log()?.epochs().epoch_for(offset).unwrap_or(-1);
                return Ok(FoundOffset {
                    offset,
                    timestamp: -1,
                    leader_epoch,
                });
            }
            OffsetSpec::Latest => {
                if is_consumer {
                    self.replica.check_settled()?;
                }
                let leader_epoch = self.replica.leader_epoch();
                return Ok(FoundOffset {
                    offset: bound,
                    timestamp: -1,
                    leader_epoch,
                });
            }
            OffsetSpec::MaxTimestamp | OffsetSpec::Timestamp(_) => {}
        }
        match self.find_time(list.spec, bound)? {
            Some(found) => Ok(FoundOffset {
                offset: found.offset,
                timestamp: found.timestamp,
                leader_epoch: found.leader_epoch,
            }),
            None if is_consumer => self.replica.check_settled().map(|()| NOTHING),
            None => Ok(NOTHING),
        }
    }

    fn find_time(&mut self, spec: OffsetSpec, bound: i64) -> Answer<Option<TimestampOffset>> {
        let log = self.log()?;
        let found = match spec {
            OffsetSpec::Timestamp(timestamp) => log.offset_for_timestamp(timestamp, bound),
            _ => log.max_timestamp(),
        };
        let found = found.map_err(|error| self.unreadable("looking a time up", &error))?;
        Ok(found.filter(|found| found.offset < bound))
    }

    /// Answers ListOffsets version 0.
    pub(super) fn list_segment_offsets(&mut self, list: ListSegmentOffsets, _: &mut Context<Self>) {
        let answer = self.find_segment_offsets(list.timestamp, list.max_offsets);
        let _ = list.reply.send(answer);
    }

    fn find_segment_offsets(&mut self, timestamp: i64, max_offsets: usize) -> Answer<Vec<i64>> {
        self.replica.check_leader()?;
        let high_watermark = self.replica.high_watermark();
        let now_ms = self.surroundings.clock.now_ms();
        self.log()?
            .offsets_before(timestamp, high_watermark, max_offsets, now_ms)
            .map_err(|error| self.unreadable("listing segments", &error))
    }

    /// Answers OffsetForLeaderEpoch.
    pub(super) fn epoch_end_offset(&mut self, asked: EpochEndOffset, _: &mut Context<Self>) {
        let answer = self.find_epoch_end(asked.leader_epoch, asked.current_leader_epoch);
        let _ = asked.reply.send(answer);
    }

    fn find_epoch_end(
        &mut self,
        leader_epoch: i32,
        current_leader_epoch: i32,
    ) -> Answer<(i32, i64)> {
        self.replica
            .check_reader(Reader::Consumer, current_leader_epoch)?;
        Ok(self.log()?.end_offset_for_epoch(leader_epoch))
    }

    /// Lists the idempotent and transactional producers.
    pub(super) fn describe_producers(&mut self, asked: DescribeProducers, _: &mut Context<Self>) {
        let answer = self
            .replica
            .check_leader()
            .and_then(|()| self.log())
            .map(|log| {
                log.producers()
                    .iter()
                    .map(|(producer_id, producer)| ProducerDescription {
                        producer_id,
                        producer_epoch: producer.epoch,
                        last_sequence: producer.last_sequence(),
                        last_timestamp: producer.last_timestamp,
                        coordinator_epoch: producer.coordinator_epoch,
                        current_transaction_start_offset: producer.open_since.unwrap_or(-1),
                    })
                    .collect()
            });
        let _ = asked.reply.send(answer);
    }

    /// Says what the replica takes on disk.
    pub(super) fn describe(&mut self, asked: Describe, _: &mut Context<Self>) {
        let _ = asked.reply.send(self.description());
    }

    pub(super) fn description(&self) -> Description {
        Description {
            size_bytes: self.log.as_ref().map_or(0, |log| log.size_bytes()),
            recovery_point: self.recovery_point(),
            progress: self.replica.progress(),
        }
    }

    /// Reports a failed read; the next one may well succeed.
    fn unreadable(&self, doing: &str, error: &io::Error) -> ErrorCode {
        tracing::error!(partition = %self.identity.topic_partition, "{doing} failed: {error}");
        ErrorCode::KafkaStorageError
    }
}
