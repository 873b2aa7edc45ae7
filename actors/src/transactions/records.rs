//! The records of `__transaction_state`, as Kafka writes them: its tools print ours, and we read its.
//!
//! ```text
//! key    version:i16 = 0  transactional_id:string
//! value  version:i16 = 0 or 1  producer_id:i64 producer_epoch:i16 timeout_ms:i32 state:i8
//!        partitions:[topic:string [partition:i32]]? last_update_ms:i64 start_ms:i64
//! ```
//! Version 1 has compact lengths, and tags at the end: 0 previous producer id, 1 next producer id, 2 version of the
//! transaction protocol (KIP-890). It is the one that is written. A value that is missing altogether is a tombstone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::state::State;
use super::transaction::{NO_PRODUCER_ID, Producer, Value};
use crate::groups::records as fields;
use crate::groups::records::TooLong;
use crate::partition::TopicPartition;

const KEY: i16 = 0;
const PLAIN: i16 = 0;
const FLEXIBLE: i16 = 1;

const PREVIOUS_PRODUCER_ID: u32 = 0;
const NEXT_PRODUCER_ID: u32 = 1;
const TRANSACTION_VERSION: u32 = 2;

/// What is wrong with a record; such a record is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CorruptRecord {
    /// A field can't be read.
    #[error(transparent)]
    Field(#[from] fields::CorruptRecord),
    /// There is no such state.
    #[error("a transaction can't be in state {0}")]
    State(i8),
}

/// Encodes a key.
///
/// # Errors
/// When the id does not fit into a record.
pub fn key(transactional_id: &str) -> Result<Bytes, TooLong> {
    let mut out = BytesMut::with_capacity(4 + transactional_id.len());
    out.put_i16(KEY);
    fields::put_string(&mut out, transactional_id)?;
    Ok(out.freeze())
}

/// Decodes a key; `None` for one of a version that is not known.
///
/// # Errors
/// When it is cut off.
pub fn decode_key(mut key: &[u8]) -> Result<Option<String>, CorruptRecord> {
    let input = &mut key;
    if fields::i16_of(input)? != KEY {
        return Ok(None);
    }
    Ok(Some(fields::string(input, false)?))
}

/// Encodes a value.
pub fn value(value: &Value) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + 32 * value.partitions.len());
    out.put_i16(FLEXIBLE);
    out.put_i64(value.producer.id);
    out.put_i16(value.producer.epoch);
    out.put_i32(value.timeout_ms);
    out.put_i8(value.state.code());
    put_partitions(&mut out, &value.partitions);
    out.put_i64(value.last_update_ms);
    out.put_i64(value.start_ms);
    put_tags(&mut out, value);
    out.freeze()
}

fn put_partitions(out: &mut BytesMut, partitions: &BTreeSet<TopicPartition>) {
    let mut topics = BTreeMap::<&str, Vec<i32>>::new();
    for partition in partitions {
        let topic = topics.entry(&partition.topic).or_default();
        topic.push(partition.partition);
    }
    put_compact_length(out, topics.len());
    for (topic, indexes) in topics {
        put_compact_length(out, topic.len());
        out.put_slice(topic.as_bytes());
        put_compact_length(out, indexes.len());
        for index in indexes {
            out.put_i32(index);
        }
        // No tags of the topic.
        put_varint(out, 0);
    }
}

/// Only what differs from its default is written.
fn put_tags(out: &mut BytesMut, value: &Value) {
    let ids = [
        (PREVIOUS_PRODUCER_ID, value.previous_producer_id),
        (NEXT_PRODUCER_ID, value.next_producer_id),
    ];
    let ids = ids.iter().filter(|(_, id)| *id != NO_PRODUCER_ID);
    let versioned = value.transaction_version != 0;
    put_varint(
        out,
        ids.clone().map(|_| 1).sum::<u32>() + u32::from(versioned),
    );
    for &(tag, id) in ids {
        put_varint(out, tag);
        put_varint(out, 8);
        out.put_i64(id);
    }
    if versioned {
        put_varint(out, TRANSACTION_VERSION);
        put_varint(out, 2);
        out.put_i16(value.transaction_version);
    }
}

/// Decodes a value.
///
/// # Errors
/// When it is cut off, of an unknown version, or says what can't be.
pub fn decode_value(mut value: &[u8]) -> Result<Value, CorruptRecord> {
    let input = &mut value;
    let version = fields::i16_of(input)?;
    if !(PLAIN..=FLEXIBLE).contains(&version) {
        return Err(fields::CorruptRecord::Version(version).into());
    }
    let flexible = version == FLEXIBLE;
    let producer = Producer {
        id: fields::i64_of(input)?,
        epoch: fields::i16_of(input)?,
    };
    let timeout_ms = fields::i32_of(input)?;
    let [state] = *fields::take(input, 1)? else {
        return Err(fields::CorruptRecord::Truncated.into());
    };
    let state = state.cast_signed();
    let mut value = Value {
        producer,
        previous_producer_id: NO_PRODUCER_ID,
        next_producer_id: NO_PRODUCER_ID,
        timeout_ms,
        state: State::stored(state).ok_or(CorruptRecord::State(state))?,
        partitions: partitions(input, flexible)?,
        last_update_ms: fields::i64_of(input)?,
        start_ms: fields::i64_of(input)?,
        transaction_version: 0,
    };
    if flexible {
        take_tags(input, &mut value)?;
    }
    Ok(value)
}

fn partitions(
    input: &mut &[u8],
    flexible: bool,
) -> Result<BTreeSet<TopicPartition>, CorruptRecord> {
    let mut partitions = BTreeSet::new();
    // Nothing is set aside for a count that the bytes may not keep.
    for _ in 0..fields::length(input, flexible, false)?.unwrap_or_default() {
        let topic: std::sync::Arc<str> = fields::string(input, flexible)?.into();
        for _ in 0..fields::length(input, flexible, false)?.unwrap_or_default() {
            partitions.insert(TopicPartition::new(topic.clone(), fields::i32_of(input)?));
        }
        if flexible {
            fields::skip_tags(input)?;
        }
    }
    Ok(partitions)
}

fn take_tags(input: &mut &[u8], value: &mut Value) -> Result<(), CorruptRecord> {
    for _ in 0..fields::varint(input)? {
        let tag = fields::varint(input)?;
        let size =
            usize::try_from(fields::varint(input)?).map_err(|_| fields::CorruptRecord::Length)?;
        let mut content = fields::take(input, size)?;
        match tag {
            PREVIOUS_PRODUCER_ID => value.previous_producer_id = fields::i64_of(&mut content)?,
            NEXT_PRODUCER_ID => value.next_producer_id = fields::i64_of(&mut content)?,
            TRANSACTION_VERSION => value.transaction_version = fields::i16_of(&mut content)?,
            _ => {}
        }
    }
    Ok(())
}

/// Compact lengths are one more than they mean.
fn put_compact_length(out: &mut BytesMut, length: usize) {
    // No count here comes near the limit: requests are bounded.
    put_varint(
        out,
        u32::try_from(length)
            .unwrap_or(u32::MAX - 1)
            .saturating_add(1),
    );
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        // The low seven bits, and one more for "there is more".
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ongoing() -> Value {
        Value {
            producer: Producer { id: 9, epoch: 2 },
            previous_producer_id: 8,
            next_producer_id: NO_PRODUCER_ID,
            timeout_ms: 60_000,
            state: State::Ongoing,
            partitions: BTreeSet::from([TopicPartition::new("t", 0), TopicPartition::new("t", 3)]),
            last_update_ms: 5,
            start_ms: 4,
            transaction_version: 2,
        }
    }

    #[test]
    fn records_are_laid_out_as_in_kafka() {
        assert_eq!(&key("id").unwrap()[..], b"\0\0\0\x02id");
        assert_eq!(decode_key(b"\0\0\0\x02id"), Ok(Some("id".to_owned())));
        assert_eq!(decode_key(b"\0\x01whatever"), Ok(None));
        let expected: &[u8] = b"\0\x01\0\0\0\0\0\0\0\x09\0\x02\0\0\xea\x60\x01\
            \x02\x02t\x03\0\0\0\0\0\0\0\x03\0\
            \0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x04\
            \x02\0\x08\0\0\0\0\0\0\0\x08\x02\x02\0\x02";
        assert_eq!(&value(&ongoing())[..], expected);
        assert_eq!(decode_value(expected), Ok(ongoing()));
    }

    #[test]
    fn the_oldest_version_is_read() {
        let plain: &[u8] = b"\0\0\0\0\0\0\0\0\0\x09\0\x02\0\0\xea\x60\x04\xff\xff\xff\xff\
            \0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x04";
        let expected = Value {
            previous_producer_id: NO_PRODUCER_ID,
            state: State::CompleteCommit,
            partitions: BTreeSet::new(),
            transaction_version: 0,
            ..ongoing()
        };
        assert_eq!(decode_value(plain), Ok(expected));
    }

    #[test]
    fn what_is_never_stored_is_corrupt() {
        for state in [6, 7, 8, -1] {
            let mut bytes = value(&ongoing()).to_vec();
            bytes[16] = i8::cast_unsigned(state);
            assert_eq!(decode_value(&bytes), Err(CorruptRecord::State(state)));
        }
        let newer = fields::CorruptRecord::Version(2);
        assert_eq!(decode_value(b"\0\x02"), Err(newer.into()));
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_or_a_record_but_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), version in 0u8..3) {
            let mut versioned = vec![0, version];
            versioned.extend(&bytes);
            let _ = decode_key(&versioned);
            let _ = decode_value(&versioned);
        }

        #[test]
        fn a_cut_record_is_corrupt(cut in 0usize..61) {
            let bytes = value(&ongoing());
            prop_assume!(cut < bytes.len());
            prop_assert_eq!(decode_value(&bytes[..cut]), Err(fields::CorruptRecord::Truncated.into()));
        }
    }
}
