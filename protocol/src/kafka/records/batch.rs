//! The header of a record batch, views over stored batches, and the few changes that a broker makes in place.
//!
//! ```text
//!  0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 CRC-32C u32 | 21 attributes i16
//! 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64
//! 51 producer epoch i16 | 53 base sequence i32 | 57 record count i32 | 61 records
//! ```
//!
//! Source: the protocol guide's record batch, KIP-98. The CRC covers everything from the attributes on, so the base
//! offset and the leader epoch change without it.

use thiserror::Error;

use super::compress::{self, Compression, CompressionError};
use super::record::{Record, RecordError, Records};
use crate::kafka::wire::{array_at, put_at};

/// The bytes of a batch up to and including the record count.
pub const HEADER_LEN: usize = 61;
/// The bytes before those that the length field counts: base offset and length.
pub const LOG_OVERHEAD: usize = 12;
/// The sequence, epoch or id of a batch that has none.
pub const NO_PRODUCER_ID: i64 = -1;
/// The base sequence of a batch without one.
pub const NO_SEQUENCE: i32 = -1;
/// The timestamp of a record without one.
pub const NO_TIMESTAMP: i64 = -1;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
pub(crate) const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

/// Says whose clock a batch's timestamps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's: each record has its own.
    CreateTime,
    /// The broker's at the append: the max timestamp of the batch holds for all of its records.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION_MASK: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// Returns the codec of the records; an error for the unassigned numbers 5 to 7.
    pub fn compression(self) -> Result<Compression, CompressionError> {
        Compression::from_id((self.0 & Self::COMPRESSION_MASK) as u8)
    }

    /// Returns whose clock the timestamps are.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Tells whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Tells whether the batch holds control records (transaction markers).
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Tells whether the base timestamp is the time after which tombstones may go (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    pub(crate) fn new(
        compression: Compression,
        timestamp_type: TimestampType,
        transactional: bool,
        control: bool,
    ) -> Self {
        let mut bits = i16::from(compression.id());
        if timestamp_type == TimestampType::LogAppendTime {
            bits |= Self::LOG_APPEND_TIME;
        }
        if transactional {
            bits |= Self::TRANSACTIONAL;
        }
        if control {
            bits |= Self::CONTROL;
        }
        Attributes(bits)
    }

    pub(crate) fn with_compression(self, compression: Compression) -> Self {
        Attributes((self.0 & !Self::COMPRESSION_MASK) | i16::from(compression.id()))
    }

    pub(crate) fn with_delete_horizon(self) -> Self {
        Attributes(self.0 | Self::DELETE_HORIZON)
    }

    pub(crate) fn without_delete_horizon(self) -> Self {
        Attributes(self.0 & !Self::DELETE_HORIZON)
    }
}

/// Says what is wrong with the bytes of a batch.
#[derive(Debug, Error)]
pub enum BatchError {
    /// The bytes end before the batch does; `needed` is how many it takes in all, as far as is known.
    #[error("the batch is cut off: it takes {needed} bytes")]
    Incomplete {
        /// Bytes from the start of the batch.
        needed: usize,
    },
    /// The message format is not that of a record batch.
    #[error("magic {0} where a record batch has 2")]
    Magic(i8),
    /// The length field is smaller than a batch header.
    #[error("the batch gives its length as {0}")]
    Size(i32),
    /// The checksum does not match.
    #[error("the batch has CRC {stored:#010x} but its bytes give {computed:#010x}")]
    Crc {
        /// The CRC in the header.
        stored: u32,
        /// The CRC over the bytes.
        computed: u32,
    },
    /// The header or the records break a rule of the format.
    #[error("{0}")]
    Invalid(&'static str),
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The records cannot be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// The fields of a batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record (before compaction).
    pub base_offset: i64,
    /// Bytes of the whole batch, `LOG_OVERHEAD` included.
    pub size: usize,
    /// The epoch of the leader that appended the batch.
    pub leader_epoch: i32,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: Attributes,
    /// The offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// Milliseconds since the epoch, to which record timestamps are relative.
    pub base_timestamp: i64,
    /// Milliseconds since the epoch; the append time for LogAppendTime.
    pub max_timestamp: i64,
    /// -1 without.
    pub producer_id: i64,
    /// -1 without.
    pub producer_epoch: i16,
    /// -1 without.
    pub base_sequence: i32,
    /// How many records the batch holds; 0 is left by compaction.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the first [`HEADER_LEN`] bytes; does not look at the records or the CRC.
    ///
    /// Errors: `Incomplete` below 61 bytes, `Magic` for anything but 2, `Size` when the length field is below that of
    /// an empty batch.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if bytes.len() > MAGIC_AT {
            let magic = i8::from_be_bytes(array_at(bytes, MAGIC_AT).unwrap_or_default());
            if magic != 2 {
                return Err(BatchError::Magic(magic));
            }
        }
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Incomplete { needed: HEADER_LEN });
        };
        let length = i32::from_be_bytes(field(header, LENGTH_AT));
        let size = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(LOG_OVERHEAD));
        let Some(size) = size.filter(|size| *size >= HEADER_LEN) else {
            return Err(BatchError::Size(length));
        };
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(field(header, 0)),
            size,
            leader_epoch: i32::from_be_bytes(field(header, LEADER_EPOCH_AT)),
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            attributes: Attributes(i16::from_be_bytes(field(header, ATTRIBUTES_AT))),
            last_offset_delta: i32::from_be_bytes(field(header, LAST_OFFSET_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(field(header, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(header, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(header, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(header, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(field(header, RECORD_COUNT_AT)),
        })
    }

    /// Returns the offset of the last record (before compaction).
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Returns the offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Returns the sequence of the last record: wraps from 2^31 - 1 to 0; -1 without a sequence.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            NO_SEQUENCE
        } else {
            add_sequence(self.base_sequence, self.last_offset_delta)
        }
    }

    /// Returns the time in milliseconds since the epoch after which tombstones and markers may go (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.attributes
            .has_delete_horizon()
            .then_some(self.base_timestamp)
    }

    /// Tells whether a producer id is set.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }
}

/// Adds to a sequence number, which wraps from 2^31 - 1 to 0.
pub fn add_sequence(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    i32::try_from(sum.rem_euclid(1 << 31)).unwrap_or_default()
}

/// Reads a field at a constant position inside the header.
fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    array_at(header, at).unwrap_or([0; N])
}

/// A view over the bytes of one whole batch.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Views the batch at the start of `bytes`; bytes after its end are left out of the view.
    ///
    /// Errors: as [`BatchHeader::parse`], and `Incomplete` when the batch is longer than `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        match bytes.get(..header.size) {
            Some(bytes) => Ok(Batch { header, bytes }),
            None => Err(BatchError::Incomplete {
                needed: header.size,
            }),
        }
    }

    /// Returns the header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Returns the bytes of the whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the bytes of the records, compressed as the attributes say.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }

    /// Compares the CRC of the header with the bytes.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let computed = compute_crc(self.bytes);
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(BatchError::Crc {
                stored: self.header.crc,
                computed,
            })
        }
    }

    /// Iterates over the records, which are decompressed first; fails when they exceed `limit_bytes`.
    pub fn records(
        &self,
        limit_bytes: usize,
    ) -> Result<impl Iterator<Item = Result<Record, BatchError>> + 'a, BatchError> {
        let payload = compress::decompress(
            self.header.attributes.compression()?,
            self.payload(),
            limit_bytes,
        )?;
        Ok(Records::new(self.header, payload))
    }
}

/// Iterates over concatenated batches, as a segment or a Fetch answer holds them.
///
/// Ends silently at a partial batch; ends after the first error, since nothing after it can be found.
pub fn batches(bytes: &[u8]) -> impl Iterator<Item = Result<Batch<'_>, BatchError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match Batch::parse(rest) {
            Ok(batch) => {
                rest = rest.get(batch.header.size..).unwrap_or_default();
                Some(Ok(batch))
            }
            Err(BatchError::Incomplete { .. }) => None,
            Err(error) => {
                rest = &[];
                Some(Err(error))
            }
        }
    })
}

/// Writes the base offset and the leader epoch in place. The CRC does not cover them. Does nothing below 61 bytes.
pub fn assign_offset(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    if batch.len() >= HEADER_LEN {
        put_at(batch, 0, base_offset.to_be_bytes());
        put_at(batch, LEADER_EPOCH_AT, leader_epoch.to_be_bytes());
    }
}

/// Sets the timestamp type LogAppendTime and the max timestamp, and computes the CRC again. Does nothing below 61 bytes.
pub fn set_log_append_time(batch: &mut [u8], timestamp_ms: i64) {
    if batch.len() >= HEADER_LEN {
        let bits = i16::from_be_bytes(array_at(batch, ATTRIBUTES_AT).unwrap_or_default());
        put_at(
            batch,
            ATTRIBUTES_AT,
            (bits | Attributes::LOG_APPEND_TIME).to_be_bytes(),
        );
        put_at(batch, MAX_TIMESTAMP_AT, timestamp_ms.to_be_bytes());
        update_crc(batch);
    }
}

/// Writes another max timestamp and computes the CRC again; does nothing when it is that already, or below 61 bytes.
pub(crate) fn set_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
    let stored = array_at(batch, MAX_TIMESTAMP_AT).map(i64::from_be_bytes);
    if batch.len() >= HEADER_LEN && stored != Some(timestamp_ms) {
        put_at(batch, MAX_TIMESTAMP_AT, timestamp_ms.to_be_bytes());
        update_crc(batch);
    }
}

/// Writes the CRC over the bytes from the attributes on.
pub(crate) fn update_crc(batch: &mut [u8]) {
    let crc = compute_crc(batch);
    put_at(batch, CRC_AT, crc.to_be_bytes());
}

fn compute_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(ATTRIBUTES_AT..).unwrap_or_default())
}

/// Appends a whole batch: this header over this payload, with length and CRC computed.
///
/// Errors when the batch would be longer than its length field can say.
pub(crate) fn write_batch(
    header: &BatchHeader,
    payload: &[u8],
    out: &mut bytes::BytesMut,
) -> Result<(), BatchError> {
    use bytes::BufMut;
    let length = HEADER_LEN - LOG_OVERHEAD + payload.len();
    let length =
        i32::try_from(length).map_err(|_| BatchError::Invalid("the batch is longer than 2 GiB"))?;
    let start = out.len();
    out.reserve(HEADER_LEN + payload.len());
    out.put_i64(header.base_offset);
    out.put_i32(length);
    out.put_i32(header.leader_epoch);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(header.attributes.0);
    out.put_i32(header.last_offset_delta);
    out.put_i64(header.base_timestamp);
    out.put_i64(header.max_timestamp);
    out.put_i64(header.producer_id);
    out.put_i16(header.producer_epoch);
    out.put_i32(header.base_sequence);
    out.put_i32(header.record_count);
    out.put_slice(payload);
    update_crc(out.get_mut(start..).unwrap_or_default());
    Ok(())
}
