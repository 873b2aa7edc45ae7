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

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use uuid::Uuid;

use super::ShareKey;
use super::ranges::RangeMap;
use super::stored::{Change, Delivered, Stored, StoredState};

const SNAPSHOT: i16 = 0;
const UPDATE: i16 = 1;
const VERSION: i16 = 0;

/// What is wrong with a record; such a record is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CorruptRecord {
    /// It ends before its fields do.
    #[error("it ends too early")]
    Truncated,
    /// A field has a value that means nothing.
    #[error("its {0} means nothing")]
    Field(&'static str),
}

/// The group's id is too long for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a group id of {0} bytes does not fit into a record")]
pub struct TooLong(usize);

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
    let length = i16::try_from(key.group.len()).map_err(|_| TooLong(key.group.len()))?;
    let mut out = BytesMut::with_capacity(24 + key.group.len());
    out.put_i16(kind);
    out.put_i16(length);
    out.put_slice(key.group.as_bytes());
    out.put_slice(key.topic_id.as_bytes());
    out.put_i32(key.partition);
    Ok(out.freeze())
}

/// Encodes a snapshot.
pub fn snapshot(stored: &Stored, now_ms: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(VERSION);
    out.put_i32(stored.snapshot_epoch);
    out.put_i32(stored.state_epoch);
    out.put_i32(stored.leader_epoch);
    out.put_i64(stored.start_offset);
    out.put_i64(now_ms);
    out.put_i64(now_ms);
    let batches = stored.batches.iter();
    put_batches(
        &mut out,
        batches.map(|(first, last, delivered)| (first, last, *delivered)),
    );
    out.freeze()
}

/// Encodes a change since the snapshot of that epoch.
pub fn update(snapshot_epoch: i32, change: &Change) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(VERSION);
    out.put_i32(snapshot_epoch);
    out.put_i32(change.leader_epoch);
    out.put_i64(change.start_offset);
    put_batches(&mut out, change.batches.iter().copied());
    out.freeze()
}

fn put_batches(out: &mut BytesMut, batches: impl Iterator<Item = (i64, i64, Delivered)>) {
    let batches: Vec<_> = batches.collect();
    put_varint(
        out,
        u32::try_from(batches.len().saturating_add(1)).unwrap_or(u32::MAX),
    );
    for (first, last, delivered) in batches {
        out.put_i64(first);
        out.put_i64(last);
        out.put_i8(delivered.state as i8);
        out.put_i16(delivered.delivery_count);
        put_varint(out, 0);
    }
    put_varint(out, 0);
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Decodes a record; `None` when it is of a kind that is not known.
pub fn decode(
    mut key: &[u8],
    value: Option<&[u8]>,
) -> Result<Option<(ShareKey, StateRecord)>, CorruptRecord> {
    let input = &mut key;
    let kind = input.try_get_i16().map_err(truncated)?;
    if kind != SNAPSHOT && kind != UPDATE {
        return Ok(None);
    }
    let length = input.try_get_u16().map_err(truncated)?;
    let group = take(input, usize::from(length))?;
    let group = std::str::from_utf8(group).map_err(|_| CorruptRecord::Field("group"))?;
    let topic_id = Uuid::from_slice(take(input, 16)?).map_err(|_| CorruptRecord::Truncated)?;
    let key = ShareKey {
        group: group.into(),
        topic_id,
        partition: input.try_get_i32().map_err(truncated)?,
    };
    let record = match (kind, value) {
        (_, None) => StateRecord::Gone,
        (SNAPSHOT, Some(value)) => StateRecord::Snapshot(decode_snapshot(value)?),
        (_, Some(value)) => decode_update(value)?,
    };
    Ok(Some((key, record)))
}

fn decode_snapshot(mut value: &[u8]) -> Result<Stored, CorruptRecord> {
    let input = &mut value;
    check_version(input)?;
    let mut stored = Stored {
        snapshot_epoch: input.try_get_i32().map_err(truncated)?,
        state_epoch: input.try_get_i32().map_err(truncated)?,
        leader_epoch: input.try_get_i32().map_err(truncated)?,
        start_offset: input.try_get_i64().map_err(truncated)?,
        batches: RangeMap::default(),
    };
    take(input, 16)?;
    for (first, last, delivered) in batches(input)? {
        stored.batches.set(first, last, delivered);
    }
    stored.batches.clear_below(stored.start_offset);
    Ok(stored)
}

fn decode_update(mut value: &[u8]) -> Result<StateRecord, CorruptRecord> {
    let input = &mut value;
    check_version(input)?;
    let snapshot_epoch = input.try_get_i32().map_err(truncated)?;
    let change = Change {
        leader_epoch: input.try_get_i32().map_err(truncated)?,
        start_offset: input.try_get_i64().map_err(truncated)?,
        batches: batches(input)?,
    };
    Ok(StateRecord::Update(snapshot_epoch, change))
}

fn check_version(input: &mut &[u8]) -> Result<(), CorruptRecord> {
    match input.try_get_i16().map_err(truncated)? {
        VERSION => Ok(()),
        _ => Err(CorruptRecord::Field("version")),
    }
}

fn batches(input: &mut &[u8]) -> Result<Vec<(i64, i64, Delivered)>, CorruptRecord> {
    let count = varint(input)?.saturating_sub(1);
    // Nothing is set aside for a count that the bytes may not keep.
    let mut batches = Vec::new();
    for _ in 0..count {
        let first = input.try_get_i64().map_err(truncated)?;
        let last = input.try_get_i64().map_err(truncated)?;
        let code = input.try_get_i8().map_err(truncated)?;
        let delivered = Delivered {
            state: StoredState::from_code(code).ok_or(CorruptRecord::Field("state"))?,
            delivery_count: input.try_get_i16().map_err(truncated)?,
        };
        skip_tags(input)?;
        if first < 0 || last < first || last == i64::MAX {
            return Err(CorruptRecord::Field("range"));
        }
        batches.push((first, last, delivered));
    }
    Ok(batches)
}

fn skip_tags(input: &mut &[u8]) -> Result<(), CorruptRecord> {
    for _ in 0..varint(input)? {
        varint(input)?;
        let length = varint(input)?;
        take(input, usize::try_from(length).unwrap_or(usize::MAX))?;
    }
    Ok(())
}

fn varint(input: &mut &[u8]) -> Result<u32, CorruptRecord> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = input.try_get_u8().map_err(truncated)?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(CorruptRecord::Field("length"))
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], CorruptRecord> {
    let (taken, rest) = input
        .split_at_checked(length)
        .ok_or(CorruptRecord::Truncated)?;
    *input = rest;
    Ok(taken)
}

fn truncated(_: bytes::TryGetError) -> CorruptRecord {
    CorruptRecord::Truncated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        let bytes = snapshot(&stored(), 5);
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
        let bytes = update(9, &change);
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
            let bytes = snapshot(&stored(), 5);
            let decoded = decode(&snapshot_key(&key()).unwrap(), Some(&bytes[..cut.min(bytes.len() - 1)]));
            prop_assert!(decoded.is_err() || cut >= bytes.len() - 1);
        }
    }
}
