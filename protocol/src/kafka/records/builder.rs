//! Builds record batches: for the broker's own records, for our clients and for tests.

use bytes::{Bytes, BytesMut};

use super::batch::{
    Attributes, Batch, BatchError, BatchHeader, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP,
    TimestampType, write_batch,
};
use super::compress::{self, Compression};
use super::record::{Record, put_record};

/// Collects records into one batch. Offsets are those of the records, the base offset that of the first.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    compression: Compression,
    timestamp_type: TimestampType,
    leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    transactional: bool,
    control: bool,
    first: Option<(i64, i64)>,
    last_offset: i64,
    max_timestamp: i64,
    count: i32,
    records: BytesMut,
    scratch: BytesMut,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder {
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
            leader_epoch: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: NO_SEQUENCE,
            transactional: false,
            control: false,
            first: None,
            last_offset: -1,
            max_timestamp: NO_TIMESTAMP,
            count: 0,
            records: BytesMut::new(),
            scratch: BytesMut::new(),
        }
    }
}

impl BatchBuilder {
    /// Starts a batch without compression, producer or transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the codec.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets whose clock the timestamps are.
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = timestamp_type;
        self
    }

    /// Sets the leader epoch.
    pub fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// Sets the idempotent producer and the sequence of the first record (-1 for markers).
    pub fn producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = producer_id;
        self.producer_epoch = producer_epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Marks the batch as part of a transaction.
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.transactional = transactional;
        self
    }

    /// Marks the batch as one of control records.
    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }

    /// Adds a record; its offset must lie after that of the one before.
    ///
    /// Errors when it does not, or when the batch would span more than 2^31 offsets or hold a record over 2 GiB.
    pub fn push(&mut self, record: &Record) -> Result<(), BatchError> {
        let (base_offset, base_timestamp) =
            *self.first.get_or_insert((record.offset, record.timestamp));
        if self.count > 0 && record.offset <= self.last_offset {
            return Err(BatchError::Invalid("the offsets of a batch must ascend"));
        }
        put_record(
            record,
            base_offset,
            base_timestamp,
            &mut self.scratch,
            &mut self.records,
        )?;
        self.last_offset = record.offset;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count = self
            .count
            .checked_add(1)
            .ok_or(BatchError::Invalid("a batch holds at most 2^31 records"))?;
        Ok(())
    }

    /// Returns how many records were added.
    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or_default()
    }

    /// Tells whether no record was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Finishes the batch; without records it has base offset 0 and a last offset delta of -1.
    pub fn build(self) -> Result<BytesMut, BatchError> {
        let (base_offset, base_timestamp) = self.first.unwrap_or((0, NO_TIMESTAMP));
        let last_offset_delta =
            i32::try_from(self.last_offset.wrapping_sub(base_offset)).unwrap_or(-1);
        let header = BatchHeader {
            base_offset,
            size: 0,
            leader_epoch: self.leader_epoch,
            crc: 0,
            attributes: Attributes::new(
                self.compression,
                self.timestamp_type,
                self.transactional,
                self.control,
            ),
            last_offset_delta,
            base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        };
        let mut out = BytesMut::new();
        if self.compression == Compression::None {
            write_batch(&header, &self.records, &mut out)?;
        } else {
            write_batch(
                &header,
                &compress::compress(self.compression, &self.records, None)?,
                &mut out,
            )?;
        }
        Ok(out)
    }

    /// Builds a batch of records in one step.
    pub fn build_from(self, records: &[Record]) -> Result<BytesMut, BatchError> {
        let mut builder = self;
        for record in records {
            builder.push(record)?;
        }
        builder.build()
    }
}

/// Writes a batch again with another codec; header fields stay, length and CRC change.
///
/// `level` is that of the codec, `None` its default; decompression stops with an error past `limit_bytes`.
pub fn recompress(
    batch: &[u8],
    codec: Compression,
    level: Option<i32>,
    limit_bytes: usize,
) -> Result<BytesMut, BatchError> {
    let batch = Batch::parse(batch)?;
    let header = batch.header();
    let records: Bytes = compress::decompress(
        header.attributes.compression()?,
        batch.payload(),
        limit_bytes,
    )?;
    let compressed = compress::compress(codec, &records, level)?;
    let header = BatchHeader {
        attributes: header.attributes.with_compression(codec),
        ..*header
    };
    let mut out = BytesMut::new();
    write_batch(&header, &compressed, &mut out)?;
    Ok(out)
}
