//! Appending a batch of records or a transaction marker, and when its producer is told.

use actix::Context;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::{BatchHeader, assign_offset, set_log_append_time};

use super::messages::{Acks, Append, Appended, WriteMarker};
use super::waiters::Waiter;
use super::{Answer, Partition, Reply, Verification};
use crate::config::TimestampType;
use crate::log::producers::Sequence;

/// The first version of the transaction protocol in which each transaction ends with a new epoch.
const FIRST_WITH_NEWER_EPOCH: i16 = 2;

/// A batch that is in the log.
struct Written {
    appended: Appended,
    /// Offset after its last record.
    end: i64,
    /// Whether it has to be flushed before it is acknowledged.
    flush_first: bool,
    /// Whether it began a new segment.
    rolled: bool,
}

impl Partition {
    /// Appends a batch of records.
    pub(super) fn append(&mut self, append: Append, ctx: &mut Context<Self>) {
        let Append {
            mut batch,
            header,
            acks,
            verification,
            reply,
        } = append;
        let written = self.write_data(&mut batch, header, acks, verification);
        self.conclude(written, acks, reply, ctx);
    }

    /// Ends a transaction.
    pub(super) fn write_marker(&mut self, message: WriteMarker, ctx: &mut Context<Self>) {
        let written = self.write_control(&message);
        self.conclude(written, Acks::All, message.reply, ctx);
    }

    /// Publishes what was written before the producer hears of it, so that it can read its own write.
    fn conclude(
        &mut self,
        written: Answer<Written>,
        acks: Acks,
        reply: Reply<Appended>,
        ctx: &mut Context<Self>,
    ) {
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        self.settle();
        let waiter = Waiter {
            appended: written.appended,
            acks,
            reply,
        };
        if written.flush_first {
            self.by_flush.add(written.end, waiter);
            self.start_flush(ctx);
        } else {
            self.acknowledge(written.end, waiter);
            self.start_flush_timer(ctx);
            if written.rolled {
                // A closed segment goes to disk at once, so that a later crash has one segment to check, not many.
                self.start_flush(ctx);
            }
        }
    }

    /// Answers a producer whose batch ends at `end`, now or when the high watermark gets there.
    pub(super) fn acknowledge(&mut self, end: i64, waiter: Waiter) {
        if waiter.acks == Acks::All && end > self.replica.high_watermark() {
            self.by_high_watermark.add(end, waiter);
        } else {
            // A producer that hung up is no error.
            let _ = waiter.reply.send(Ok(waiter.appended));
        }
    }

    fn write_data(
        &mut self,
        batch: &mut [u8],
        header: BatchHeader,
        acks: Acks,
        verification: Verification,
    ) -> Answer<Written> {
        self.replica.check_append(acks)?;
        if u64::try_from(header.size).unwrap_or(u64::MAX) > self.config.segment_bytes {
            return Err(ErrorCode::RecordListTooLarge);
        }
        if let Some(duplicate) = self.find_duplicate(&header)? {
            return Ok(duplicate);
        }
        self.transactions.check(&header, verification)?;
        self.write(batch, header)
    }

    fn write_control(&mut self, message: &WriteMarker) -> Answer<Written> {
        self.replica.check_append(Acks::All)?;
        let (id, epoch) = (message.producer_id, message.producer_epoch);
        let now_ms = self.surroundings.clock.now_ms();
        let built = message.marker.batch(id, epoch, now_ms);
        let built =
            built.and_then(|batch| BatchHeader::parse(&batch).map(|header| (batch, header)));
        let Ok((mut batch, header)) = built else {
            return Err(ErrorCode::UnknownServerError);
        };
        let newer_epoch = message.transaction_version >= FIRST_WITH_NEWER_EPOCH;
        let producers = self.log()?.producers();
        producers.check_marker(&header, message.marker, newer_epoch)?;
        self.write(&mut batch, header)
    }

    fn write(&mut self, batch: &mut [u8], header: BatchHeader) -> Answer<Written> {
        let now_ms = self.surroundings.clock.now_ms();
        let (header, log_append_time_ms) = self.stamp(batch, header, now_ms);
        let log = self.log()?;
        let rolled = match log.append(batch, &header, now_ms) {
            Ok(appended) => appended.rolled,
            Err(error) if log.is_failed() => {
                return Err(self.fail("writing to the log", &error));
            }
            Err(error) => {
                tracing::warn!(partition = %self.identity.topic_partition, "refused a batch: {error}");
                return Err(ErrorCode::CorruptMessage);
            }
        };
        let end = log.log_end_offset();
        self.transactions.appended(&header);
        self.replica.appended(end, batch.len() as u64);
        let records = u64::try_from(end - header.base_offset).unwrap_or_default();
        let limit = u64::try_from(self.config.flush_messages).unwrap_or(u64::MAX);
        Ok(Written {
            appended: self.appended(header.base_offset, log_append_time_ms),
            end,
            flush_first: self.flush.appended(records, limit),
            rolled,
        })
    }

    /// Finds out whether an idempotent producer sent this batch before: then it is answered as it was then.
    fn find_duplicate(&mut self, header: &BatchHeader) -> Answer<Option<Written>> {
        let log = self.log()?;
        let Sequence::Duplicate {
            base_offset,
            last_offset,
            timestamp,
        } = log.producers().check_data(header)?
        else {
            return Ok(None);
        };
        let end = last_offset.saturating_add(1);
        let log_append_time_ms = match self.config.message_timestamp_type {
            TimestampType::LogAppendTime => timestamp,
            TimestampType::CreateTime => -1,
        };
        Ok(Some(Written {
            appended: self.appended(base_offset, log_append_time_ms),
            end,
            // The first copy may still wait for its flush.
            flush_first: !self.by_flush.is_empty(),
            rolled: false,
        }))
    }

    /// Writes offset, leader epoch and, when the topic says so, the append time into the batch. Returns the header as it is then, and
    /// the append time or -1.
    fn stamp(&self, batch: &mut [u8], mut header: BatchHeader, now_ms: i64) -> (BatchHeader, i64) {
        header.base_offset = self.replica.log_end_offset();
        header.leader_epoch = self.replica.leader_epoch();
        assign_offset(batch, header.base_offset, header.leader_epoch);
        if self.config.message_timestamp_type == TimestampType::CreateTime {
            return (header, -1);
        }
        set_log_append_time(batch, now_ms);
        (BatchHeader::parse(batch).unwrap_or(header), now_ms)
    }

    fn appended(&self, base_offset: i64, log_append_time_ms: i64) -> Appended {
        Appended {
            base_offset,
            log_append_time_ms,
            log_start_offset: self.replica.log_start_offset(),
        }
    }
}
