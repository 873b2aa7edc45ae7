//! The checks on a batch that a client wants to append, as far as they need no partition state.
//!
//! Records are walked over without being copied or allocated; compressed ones while they are decompressed through a
//! small buffer, so that neither a bomb nor a long record is ever held as a whole.
//!
//! Source: KIP-98, KIP-467 (record errors), KIP-32 and KIP-937 (timestamps), KIP-110 (zstd).

use thiserror::Error;

use super::batch::{
    Batch, BatchError, BatchHeader, LOG_OVERHEAD, MAGIC_AT, NO_TIMESTAMP, TimestampType,
};
use super::compress::{Compression, CompressionError};
use super::record::{Input, RecordError, RecordShape, Slice};
use super::stream::Stream;
use crate::kafka::errors::ErrorCode;
use crate::kafka::produce::RecordErrorMessage;
use crate::kafka::wire::array_at;

/// How many records are named at most when several are refused.
const MAX_RECORD_ERRORS: usize = 100;
/// The smallest entry of a log: a message of magic 0 without key and value.
const MIN_ENTRY_LEN: i32 = 14;

/// What the topic's configuration, the request and the clock say about new batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceRules {
    /// `max.message.bytes`: the largest batch, as sent.
    pub max_message_bytes: usize,
    /// The most bytes that the records of a batch may decompress to.
    pub max_uncompressed_bytes: usize,
    /// Whether zstd is allowed: from Produce v7 on.
    pub zstd_allowed: bool,
    /// Whether `cleanup.policy` has `compact`, so that each record needs a key.
    pub compacted: bool,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
}

impl Default for ProduceRules {
    /// Returns the rules of Kafka's default configuration at the start of the epoch.
    fn default() -> Self {
        ProduceRules {
            max_message_bytes: 1_048_588,
            max_uncompressed_bytes: 1 << 30,
            zstd_allowed: true,
            compacted: false,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            now_ms: 0,
        }
    }
}

/// Why a batch is refused, in the terms of a Produce answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct InvalidBatch {
    /// The error of the partition.
    pub code: ErrorCode,
    /// What is wrong, for Produce v8 and later.
    pub message: String,
    /// The records that are at fault, if it is them.
    pub record_errors: Vec<RecordErrorMessage>,
}

impl InvalidBatch {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        InvalidBatch {
            code,
            message: message.into(),
            record_errors: Vec::new(),
        }
    }

    fn record(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRecord, message)
    }
}

impl From<BatchError> for InvalidBatch {
    fn from(error: BatchError) -> Self {
        let code = match &error {
            BatchError::Magic(0 | 1) => ErrorCode::UnsupportedForMessageFormat,
            BatchError::Magic(_) | BatchError::Size(_) | BatchError::Crc { .. } => {
                ErrorCode::CorruptMessage
            }
            BatchError::Compression(CompressionError::UnknownCodec(_)) => {
                ErrorCode::UnsupportedCompressionType
            }
            BatchError::Compression(CompressionError::TooLarge { .. }) => {
                ErrorCode::MessageTooLarge
            }
            _ => ErrorCode::InvalidRecord,
        };
        Self::new(code, error.to_string())
    }
}

impl From<RecordError> for InvalidBatch {
    fn from(error: RecordError) -> Self {
        Self::record(error.to_string())
    }
}

/// Checks the records of one partition in a Produce request of v3 or later.
///
/// Returns the header of the one batch. Bytes after its `size` are a partial entry, which the caller cuts off. The
/// `max_timestamp` is that of the records; where the client wrote another one, [`amend_max_timestamp`] puts it right.
pub fn validate_produced(
    records: &[u8],
    rules: &ProduceRules,
) -> Result<BatchHeader, InvalidBatch> {
    let batch = only_batch(records)?;
    let mut header = *batch.header();
    if header.size > rules.max_message_bytes {
        let message = format!(
            "a batch of {} bytes exceeds {} bytes",
            header.size, rules.max_message_bytes
        );
        return Err(InvalidBatch::new(ErrorCode::MessageTooLarge, message));
    }
    batch.check_crc()?;
    check_header(&header)?;
    header.max_timestamp = match header.attributes.compression().map_err(BatchError::from)? {
        Compression::None => check_records(Slice::new(batch.payload()), &header, rules)?,
        Compression::Zstd if !rules.zstd_allowed => {
            let message = "zstd needs Produce version 7";
            return Err(InvalidBatch::new(
                ErrorCode::UnsupportedCompressionType,
                message,
            ));
        }
        codec => check_records(
            Stream::open(codec, batch.payload(), rules.max_uncompressed_bytes)?,
            &header,
            rules,
        )?,
    };
    Ok(header)
}

/// Writes the max timestamp that [`validate_produced`] found, where the batch has another one.
pub fn amend_max_timestamp(batch: &mut [u8], validated: &BatchHeader) {
    super::batch::set_max_timestamp(batch, validated.max_timestamp);
}

/// Views the batch, and refuses more than one.
fn only_batch(records: &[u8]) -> Result<Batch<'_>, InvalidBatch> {
    const ONE_BATCH: &str = "a partition takes exactly one batch";
    let batch = match Batch::parse(records) {
        // A cut off entry counts as none.
        Err(BatchError::Incomplete { .. }) => return Err(InvalidBatch::record(ONE_BATCH)),
        batch => batch?,
    };
    let rest = records.get(batch.header().size..).unwrap_or_default();
    let next_len = array_at(rest, 8).map(i32::from_be_bytes);
    match next_len {
        Some(len) if len < MIN_ENTRY_LEN => Err(BatchError::Size(len).into()),
        Some(len) if usize::try_from(len).is_ok_and(|len| len <= rest.len() - LOG_OVERHEAD) => {
            Err(InvalidBatch::record(ONE_BATCH))
        }
        _ => Ok(batch),
    }
}

/// Checks what a client must not set, and the numbers that depend on each other.
fn check_header(header: &BatchHeader) -> Result<(), InvalidBatch> {
    let count = header.record_count;
    if count <= 0 {
        return Err(InvalidBatch::record(format!("a batch of {count} records")));
    }
    if header.base_offset != 0 {
        return Err(InvalidBatch::record(format!(
            "base offset {} where a producer sends 0",
            header.base_offset
        )));
    }
    if header.last_offset_delta != count - 1 {
        let message = format!(
            "last offset delta {} with {count} records",
            header.last_offset_delta
        );
        return Err(InvalidBatch::record(message));
    }
    if header.attributes.is_control() {
        return Err(InvalidBatch::record("clients do not write control batches"));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        let message = format!(
            "producer id {} with base sequence {}",
            header.producer_id, header.base_sequence
        );
        return Err(InvalidBatch::record(message));
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        let message = "a producer may not set the timestamp type LogAppendTime";
        return Err(InvalidBatch::new(ErrorCode::InvalidTimestamp, message));
    }
    Ok(())
}

/// Walks over all records; returns the largest timestamp.
fn check_records<I>(
    mut input: I,
    header: &BatchHeader,
    rules: &ProduceRules,
) -> Result<i64, InvalidBatch>
where
    I: Input,
    InvalidBatch: From<I::Error>,
{
    let range = TimestampRange::new(rules);
    let mut max_timestamp = NO_TIMESTAMP;
    let mut refused = Refused::default();
    for index in 0..header.record_count {
        let record = input.record()?;
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        max_timestamp = max_timestamp.max(timestamp);
        if record.offset_delta != index
            || (rules.compacted && !record.has_key)
            || !range.allows(timestamp)
        {
            refused.add(index, &record, timestamp, rules);
        }
    }
    if !input.is_at_end()? {
        return Err(InvalidBatch::record(
            "bytes follow the last record of the batch",
        ));
    }
    refused.into_result()?;
    Ok(max_timestamp)
}

/// The timestamps that a record may have.
struct TimestampRange {
    earliest: i64,
    latest: i64,
}

impl TimestampRange {
    fn new(rules: &ProduceRules) -> Self {
        if rules.timestamp_type == TimestampType::LogAppendTime {
            return TimestampRange {
                earliest: i64::MIN,
                latest: i64::MAX,
            };
        }
        TimestampRange {
            earliest: rules.now_ms.saturating_sub(rules.timestamp_before_max_ms),
            latest: rules.now_ms.saturating_add(rules.timestamp_after_max_ms),
        }
    }

    fn allows(&self, timestamp: i64) -> bool {
        timestamp == NO_TIMESTAMP || (self.earliest..=self.latest).contains(&timestamp)
    }
}

/// The records that break a rule; the first of them decides the error code.
#[derive(Default)]
struct Refused {
    code: Option<ErrorCode>,
    records: Vec<RecordErrorMessage>,
}

impl Refused {
    #[cold]
    fn add(&mut self, index: i32, record: &RecordShape, timestamp: i64, rules: &ProduceRules) {
        let (code, message) = if record.offset_delta != index {
            (
                ErrorCode::InvalidRecord,
                format!("offset delta {} at position {index}", record.offset_delta),
            )
        } else if rules.compacted && !record.has_key {
            (
                ErrorCode::InvalidRecord,
                "a compacted topic takes no record without a key".to_owned(),
            )
        } else {
            (
                ErrorCode::InvalidTimestamp,
                format!("timestamp {timestamp} at {} is out of range", rules.now_ms),
            )
        };
        self.code.get_or_insert(code);
        if self.records.len() < MAX_RECORD_ERRORS {
            self.records.push(RecordErrorMessage {
                batch_index: index,
                message: Some(message),
            });
        }
    }

    fn into_result(self) -> Result<(), InvalidBatch> {
        let Some(code) = self.code else {
            return Ok(());
        };
        let message = "one or more records were refused".to_owned();
        Err(InvalidBatch {
            code,
            message,
            record_errors: self.records,
        })
    }
}

/// Returns the message format of a set of records, at the same place in all formats; `None` where they end before.
pub fn magic(records: &[u8]) -> Option<i8> {
    array_at(records, MAGIC_AT).map(i8::from_be_bytes)
}
