//! The records of `__share_group_state`, as Kafka writes them.
//!
//! ```text
//! key      kind:i16 (0 snapshot, 1 update) group:string topic_id:uuid partition:i32
//! snapshot version:i16 (0) snapshot_epoch:i32 state_epoch:i32 leader_epoch:i32 start_offset:i64
//!          created:i64 written:i64 [batch] tags
//! update   version:i16 (0) snapshot_epoch:i32 leader_epoch:i32 start_offset:i64 [batch] tags
//! batch    first:i64 last:i64 state:i8 delivery_count:i16 tags
//! ```
//! Integers are big-endian. Lengths of arrays in values are compact. A snapshot without a value is a tombstone.

use bytes::Bytes;

use super::ShareKey;
use super::ranges::RangeMap;
use super::stored::{Change, Delivered, Stored, StoredState};
use crate::internal_topic::fields::{CorruptRecord, Reader, TooLong, Writer};

const SNAPSHOT: i16 = 0;
const UPDATE: i16 = 1;
const VERSION: i16 = 0;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateRecord {
    /// The whole state.
    Snapshot(Stored),
    /// A change since the snapshot of that epoch.
    Update(i32, Change),
    /// The state is gone.
    Gone,
}

/// Encodes the key of a snapshot.
pub fn snapshot_key(key: &ShareKey) -> Result<Bytes, TooLong> {
    encode_key(SNAPSHOT, key)
}

/// Encodes the key of an update.
pub fn update_key(key: &ShareKey) -> Result<Bytes, TooLong> {
    encode_key(UPDATE, key)
}

fn encode_key(kind: i16, key: &ShareKey) -> Result<Bytes, TooLong> {
    let mut out = Writer::plain(kind);
    out.string(&key.group);
    out.uuid(key.topic_id);
    out.i32(key.partition);
    out.finish()
}

/// Encodes a snapshot.
pub fn snapshot(stored: &Stored, now_ms: i64) -> Result<Bytes, TooLong> {
    let mut out = Writer::compact(VERSION);
    out.i32(stored.snapshot_epoch);
    out.i32(stored.state_epoch);
    out.i32(stored.leader_epoch);
    out.i64(stored.start_offset);
    out.i64(now_ms);
    out.i64(now_ms);
    let batches = stored.batches.iter();
    let batches = batches.map(|(first, last, delivered)| (first, last, *delivered));
    put_batches(&mut out, &batches.collect::<Vec<_>>());
    out.finish()
}

/// Encodes a change since the snapshot of that epoch.
pub fn update(snapshot_epoch: i32, change: &Change) -> Result<Bytes, TooLong> {
    let mut out = Writer::compact(VERSION);
    out.i32(snapshot_epoch);
    out.i32(change.leader_epoch);
    out.i64(change.start_offset);
    put_batches(&mut out, &change.batches);
    out.finish()
}

fn put_batches(out: &mut Writer, batches: &[(i64, i64, Delivered)]) {
    out.count(batches.len());
    for (first, last, delivered) in batches {
        out.i64(*first);
        out.i64(*last);
        out.i8(delivered.state as i8);
        out.i16(delivered.delivery_count);
        out.no_tags();
    }
    out.no_tags();
}

/// Decodes a record; `None` when it is of a kind that is not known.
pub fn decode(
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<Option<(ShareKey, StateRecord)>, CorruptRecord> {
    let mut input = Reader::plain(key);
    let kind = input.i16()?;
    if kind != SNAPSHOT && kind != UPDATE {
        return Ok(None);
    }
    let key = ShareKey {
        group: input.string()?.into(),
        topic_id: input.uuid()?,
        partition: input.i32()?,
    };
    let record = match (kind, value) {
        (_, None) => StateRecord::Gone,
        (SNAPSHOT, Some(value)) => StateRecord::Snapshot(decode_snapshot(value)?),
        (_, Some(value)) => decode_update(value)?,
    };
    Ok(Some((key, record)))
}

fn decode_snapshot(value: &[u8]) -> Result<Stored, CorruptRecord> {
    let mut input = Reader::compact(value, VERSION)?;
    let mut stored = Stored {
        snapshot_epoch: input.i32()?,
        state_epoch: input.i32()?,
        leader_epoch: input.i32()?,
        start_offset: input.i64()?,
        batches: RangeMap::default(),
    };
    // When it was created and written.
    let _ = (input.i64()?, input.i64()?);
    for (first, last, delivered) in batches(&mut input)? {
        stored.batches.set(first, last, delivered);
    }
    stored.batches.clear_below(stored.start_offset);
    Ok(stored)
}

fn decode_update(value: &[u8]) -> Result<StateRecord, CorruptRecord> {
    let mut input = Reader::compact(value, VERSION)?;
    let snapshot_epoch = input.i32()?;
    let change = Change {
        leader_epoch: input.i32()?,
        start_offset: input.i64()?,
        batches: batches(&mut input)?,
    };
    Ok(StateRecord::Update(snapshot_epoch, change))
}

fn batches(input: &mut Reader<'_>) -> Result<Vec<(i64, i64, Delivered)>, CorruptRecord> {
    let mut batches = Vec::new();
    for _ in 0..input.nullable_count()?.unwrap_or(0) {
        let (first, last, state) = (input.i64()?, input.i64()?, input.i8()?);
        let delivered = Delivered {
            state: StoredState::from_code(state).ok_or(CorruptRecord::State(state))?,
            delivery_count: input.i16()?,
        };
        input.skip_tags()?;
        if first < 0 || last < first || last == i64::MAX {
            return Err(CorruptRecord::Range);
        }
        batches.push((first, last, delivered));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn key() -> ShareKey {
        ShareKey {
            group: "g".into(),
            topic_id: Uuid::from_bytes(*b"aaaaaaaaaaaaaaaa"),
            partition: 7,
        }
    }

    fn stored() -> Stored {
        let mut stored = Stored::new(2, 3, 10);
        stored.snapshot_epoch = 1;
        let delivered = Delivered {
            state: StoredState::Acknowledged,
            delivery_count: 4,
        };
        stored.batches.set(11, 12, delivered);
        stored
    }

    #[test]
    fn records_are_laid_out_as_in_kafka() {
        assert_eq!(
            &snapshot_key(&key()).unwrap()[..],
            b"\0\0\0\x01gaaaaaaaaaaaaaaaa\0\0\0\x07"
        );
        let bytes = snapshot(&stored(), 5).unwrap();
        let expected: &[u8] = b"\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x05\
            \x02\0\0\0\0\0\0\0\x0b\0\0\0\0\0\0\0\x0c\x02\0\x04\0\0";
        assert_eq!(&bytes[..], expected);
        let decoded = decode(&snapshot_key(&key()).unwrap(), Some(&bytes));
        assert_eq!(decoded, Ok(Some((key(), StateRecord::Snapshot(stored())))));
    }

    #[test]
    fn an_update_comes_back() {
        let change = Change {
            leader_epoch: 1,
            start_offset: -1,
            batches: stored()
                .batches
                .iter()
                .map(|(first, last, delivered)| (first, last, *delivered))
                .collect(),
        };
        let bytes = update(9, &change).unwrap();
        let decoded = decode(&update_key(&key()).unwrap(), Some(&bytes));
        assert_eq!(decoded, Ok(Some((key(), StateRecord::Update(9, change)))));
        let gone = decode(&snapshot_key(&key()).unwrap(), None);
        assert_eq!(gone, Ok(Some((key(), StateRecord::Gone))));
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_or_a_record_but_no_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            kind in 0u8..3,
        ) {
            let _ = decode(&[&[0, kind][..], &bytes].concat(), Some(&bytes));
            let key = encode_key(i16::from(kind), &key()).unwrap();
            let _ = decode(&key, Some(&[&[0, 0][..], &bytes].concat()));
        }

        #[test]
        fn a_cut_record_is_corrupt(cut in 0usize..64) {
            let bytes = snapshot(&stored(), 5).unwrap();
            let decoded = decode(&snapshot_key(&key()).unwrap(), Some(&bytes[..cut.min(bytes.len() - 1)]));
            prop_assert!(decoded.is_err() || cut >= bytes.len() - 1);
        }
    }
}
