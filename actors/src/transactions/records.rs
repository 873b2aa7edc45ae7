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
use std::sync::Arc;

use bytes::Bytes;

use super::state::State;
use super::transaction::{NO_PRODUCER_ID, Producer, Value};
use crate::internal_topic::fields::{CorruptRecord, Reader, TooLong, Writer};
use crate::partition::TopicPartition;

const KEY: i16 = 0;
const PLAIN: i16 = 0;
const FLEXIBLE: i16 = 1;

const PREVIOUS_PRODUCER_ID: u32 = 0;
const NEXT_PRODUCER_ID: u32 = 1;
const TRANSACTION_VERSION: u32 = 2;

/// Encodes a key.
///
/// # Errors
/// When the id does not fit into a record.
pub fn key(transactional_id: &str) -> Result<Bytes, TooLong> {
    let mut out = Writer::plain(KEY);
    out.string(transactional_id);
    out.finish()
}

/// Decodes a key; `None` for one of a version that is not known.
///
/// # Errors
/// When it is cut off.
pub fn decode_key(key: &[u8]) -> Result<Option<String>, CorruptRecord> {
    let mut input = Reader::plain(key);
    if input.i16()? != KEY {
        return Ok(None);
    }
    Ok(Some(input.string()?.to_owned()))
}

/// Encodes a value.
///
/// # Errors
/// When it does not fit into a record.
pub fn value(value: &Value) -> Result<Bytes, TooLong> {
    let mut out = Writer::compact(FLEXIBLE);
    out.i64(value.producer.id);
    out.i16(value.producer.epoch);
    out.i32(value.timeout_ms);
    out.i8(value.state.code());
    put_partitions(&mut out, &value.partitions);
    out.i64(value.last_update_ms);
    out.i64(value.start_ms);
    put_tags(&mut out, value);
    out.finish()
}

fn put_partitions(out: &mut Writer, partitions: &BTreeSet<TopicPartition>) {
    let mut topics = BTreeMap::<&str, Vec<i32>>::new();
    for partition in partitions {
        let topic = topics.entry(&partition.topic).or_default();
        topic.push(partition.partition);
    }
    out.count(topics.len());
    for (topic, indexes) in topics {
        out.string(topic);
        out.count(indexes.len());
        for index in indexes {
            out.i32(index);
        }
        out.no_tags();
    }
}

/// Only what differs from its default is written.
fn put_tags(out: &mut Writer, value: &Value) {
    let ids = [
        (PREVIOUS_PRODUCER_ID, value.previous_producer_id),
        (NEXT_PRODUCER_ID, value.next_producer_id),
    ];
    let ids = ids.iter().filter(|(_, id)| *id != NO_PRODUCER_ID);
    let version = Some(value.transaction_version).filter(|version| *version != 0);
    out.tag_count(ids.clone().count() + version.iter().count());
    for &(tag, id) in ids {
        out.tag(tag, |content| content.i64(id));
    }
    if let Some(version) = version {
        out.tag(TRANSACTION_VERSION, |content| content.i16(version));
    }
}

/// Decodes a value.
///
/// # Errors
/// When it is cut off, of an unknown version, or says what can't be.
pub fn decode_value(value: &[u8]) -> Result<Value, CorruptRecord> {
    let (_, mut input) = Reader::value(value, PLAIN..=FLEXIBLE, FLEXIBLE)?;
    let producer = Producer {
        id: input.i64()?,
        epoch: input.i16()?,
    };
    let timeout_ms = input.i32()?;
    let state = input.i8()?;
    let mut value = Value {
        producer,
        previous_producer_id: NO_PRODUCER_ID,
        next_producer_id: NO_PRODUCER_ID,
        timeout_ms,
        state: State::stored(state).ok_or(CorruptRecord::State(state))?,
        partitions: partitions(&mut input)?,
        last_update_ms: input.i64()?,
        start_ms: input.i64()?,
        transaction_version: 0,
    };
    input.tags(|tag, content| {
        match tag {
            PREVIOUS_PRODUCER_ID => value.previous_producer_id = content.i64()?,
            NEXT_PRODUCER_ID => value.next_producer_id = content.i64()?,
            TRANSACTION_VERSION => value.transaction_version = content.i16()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(value)
}

fn partitions(input: &mut Reader<'_>) -> Result<BTreeSet<TopicPartition>, CorruptRecord> {
    let mut partitions = BTreeSet::new();
    for _ in 0..input.nullable_count()?.unwrap_or(0) {
        let topic: Arc<str> = input.string()?.into();
        for _ in 0..input.nullable_count()?.unwrap_or(0) {
            partitions.insert(TopicPartition::new(Arc::clone(&topic), input.i32()?));
        }
        input.skip_tags()?;
    }
    Ok(partitions)
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
        assert_eq!(&value(&ongoing()).unwrap()[..], expected);
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
            let mut bytes = value(&ongoing()).unwrap().to_vec();
            bytes[16] = i8::cast_unsigned(state);
            assert_eq!(decode_value(&bytes), Err(CorruptRecord::State(state)));
        }
        assert_eq!(decode_value(b"\0\x02"), Err(CorruptRecord::Version(2)));
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
            let bytes = value(&ongoing()).unwrap();
            prop_assume!(cut < bytes.len());
            prop_assert_eq!(decode_value(&bytes[..cut]), Err(CorruptRecord::Truncated));
        }
    }
}
