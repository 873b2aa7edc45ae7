//! The records of share groups in `__consumer_offsets`, as Kafka 4.1 writes them.
//!
//! ```text
//! key     kind:i16 group:string           then, of 10, 13 and 14, member:string
//! 10 member          version:i16 rack:string? client_id:string client_host:string topics:[string] tags
//! 11 group           version:i16 epoch:i32 metadata_hash:i64 tags
//! 12 target          version:i16 epoch:i32 tags
//! 13 target, member  version:i16 [topic_id:uuid partitions:[i32] tags] tags
//! 14 current, member version:i16 epoch:i32 previous_epoch:i32 state:i8 [topic_id:uuid partitions:[i32] tags] tags
//! ```
//! Keys have plain lengths, values compact ones. A value that is missing altogether is a tombstone. Metadata hashes are
//! not kept: 0 is written. Kind 15, the partitions whose state is kept, is not written: their states say so themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::assignor::Assignment;
use crate::groups::records::{CorruptRecord, TooLong};

const MEMBER: i16 = 10;
const GROUP: i16 = 11;
const TARGET_EPOCH: i16 = 12;
const TARGET: i16 = 13;
const CURRENT: i16 = 14;
const VERSION: i16 = 0;
/// The one state of a member.
const STABLE: i8 = 0;

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareMemberValue {
    /// Its rack.
    pub rack_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where its client is, as `/127.0.0.1`.
    pub client_host: String,
    /// What it subscribes to.
    pub topics: BTreeSet<String>,
}

/// A record of a share group; without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareRecord {
    /// A member.
    Member(Arc<str>, Option<ShareMemberValue>),
    /// The group's epoch.
    Group(Option<i32>),
    /// The epoch of the targets.
    TargetEpoch(Option<i32>),
    /// The partitions that a member is to have.
    Target(Arc<str>, Option<Assignment>),
    /// Epoch, epoch before, and the partitions that a member knows of.
    Current(Arc<str>, Option<(i32, i32, Assignment)>),
}

impl ShareRecord {
    fn kind(&self) -> (i16, Option<&Arc<str>>) {
        match self {
            Self::Member(member, _) => (MEMBER, Some(member)),
            Self::Group(_) => (GROUP, None),
            Self::TargetEpoch(_) => (TARGET_EPOCH, None),
            Self::Target(member, _) => (TARGET, Some(member)),
            Self::Current(member, _) => (CURRENT, Some(member)),
        }
    }

    /// Encodes the record of a group: key, and value or tombstone.
    pub fn encode(&self, group: &str) -> Result<(Bytes, Option<Bytes>), TooLong> {
        let (kind, member) = self.kind();
        let mut key = BytesMut::new();
        key.put_i16(kind);
        put_plain(&mut key, group)?;
        if let Some(member) = member {
            put_plain(&mut key, member)?;
        }
        Ok((key.freeze(), self.value().map(BytesMut::freeze)))
    }

    fn value(&self) -> Option<BytesMut> {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        match self {
            Self::Member(_, value) => {
                let value = value.as_ref()?;
                match &value.rack_id {
                    Some(rack) => put_compact(&mut out, rack),
                    None => put_varint(&mut out, 0),
                }
                put_compact(&mut out, &value.client_id);
                put_compact(&mut out, &value.client_host);
                put_count(&mut out, value.topics.len());
                for topic in &value.topics {
                    put_compact(&mut out, topic);
                }
            }
            Self::Group(epoch) => {
                out.put_i32((*epoch)?);
                out.put_i64(0);
            }
            Self::TargetEpoch(epoch) => out.put_i32((*epoch)?),
            Self::Target(_, target) => put_assignment(&mut out, target.as_ref()?),
            Self::Current(_, current) => {
                let (epoch, previous_epoch, assigned) = current.as_ref()?;
                out.put_i32(*epoch);
                out.put_i32(*previous_epoch);
                out.put_i8(STABLE);
                put_assignment(&mut out, assigned);
            }
        }
        put_varint(&mut out, 0);
        Some(out)
    }

    /// Decodes a record: the group's id with it; `None` when it is of another kind.
    pub fn decode(
        mut key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Option<(String, Self)>, CorruptRecord> {
        let input = &mut key;
        let kind = input.try_get_i16().map_err(truncated)?;
        if !(MEMBER..=CURRENT).contains(&kind) {
            return Ok(None);
        }
        let group = plain(input)?;
        let member: Arc<str> = match kind {
            GROUP | TARGET_EPOCH => "".into(),
            _ => plain(input)?.into(),
        };
        let record = match kind {
            MEMBER => Self::Member(member, value.map(decode_member).transpose()?),
            GROUP => Self::Group(value.map(decode_epoch).transpose()?),
            TARGET_EPOCH => Self::TargetEpoch(value.map(decode_epoch).transpose()?),
            TARGET => Self::Target(member, value.map(decode_target).transpose()?),
            _ => Self::Current(member, value.map(decode_current).transpose()?),
        };
        Ok(Some((group, record)))
    }
}

fn decode_member(mut value: &[u8]) -> Result<ShareMemberValue, CorruptRecord> {
    let input = &mut value;
    check_version(input)?;
    let rack_id = compact(input)?;
    let client_id = compact(input)?.unwrap_or_default();
    let client_host = compact(input)?.unwrap_or_default();
    let mut topics = BTreeSet::new();
    for _ in 0..count(input)? {
        topics.insert(compact(input)?.ok_or(CorruptRecord::Length)?);
    }
    Ok(ShareMemberValue {
        rack_id,
        client_id,
        client_host,
        topics,
    })
}

fn decode_epoch(mut value: &[u8]) -> Result<i32, CorruptRecord> {
    let input = &mut value;
    check_version(input)?;
    input.try_get_i32().map_err(truncated)
}

fn decode_target(mut value: &[u8]) -> Result<Assignment, CorruptRecord> {
    let input = &mut value;
    check_version(input)?;
    assignment(input)
}

fn decode_current(mut value: &[u8]) -> Result<(i32, i32, Assignment), CorruptRecord> {
    let input = &mut value;
    check_version(input)?;
    let epoch = input.try_get_i32().map_err(truncated)?;
    let previous_epoch = input.try_get_i32().map_err(truncated)?;
    input.try_get_i8().map_err(truncated)?;
    Ok((epoch, previous_epoch, assignment(input)?))
}

fn put_plain(out: &mut BytesMut, text: &str) -> Result<(), TooLong> {
    let length = i16::try_from(text.len()).map_err(|_| TooLong(text.len()))?;
    out.put_i16(length);
    out.put_slice(text.as_bytes());
    Ok(())
}

fn put_compact(out: &mut BytesMut, text: &str) {
    put_count(out, text.len());
    out.put_slice(text.as_bytes());
}

fn put_count(out: &mut BytesMut, count: usize) {
    put_varint(
        out,
        u32::try_from(count.saturating_add(1)).unwrap_or(u32::MAX),
    );
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_assignment(out: &mut BytesMut, assignment: &Assignment) {
    put_count(out, assignment.len());
    for (topic_id, partitions) in assignment {
        out.put_slice(topic_id.as_bytes());
        put_count(out, partitions.len());
        for partition in partitions {
            out.put_i32(*partition);
        }
        put_varint(out, 0);
    }
}

fn check_version(input: &mut &[u8]) -> Result<(), CorruptRecord> {
    match input.try_get_i16().map_err(truncated)? {
        VERSION => Ok(()),
        other => Err(CorruptRecord::Version(other)),
    }
}

fn plain(input: &mut &[u8]) -> Result<String, CorruptRecord> {
    let length = input.try_get_u16().map_err(truncated)?;
    text(input, length.into())
}

fn compact(input: &mut &[u8]) -> Result<Option<String>, CorruptRecord> {
    match varint(input)? {
        0 => Ok(None),
        length => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            text(input, length.saturating_sub(1)).map(Some)
        }
    }
}

fn text(input: &mut &[u8], length: usize) -> Result<String, CorruptRecord> {
    let text = std::str::from_utf8(take(input, length)?).map_err(|_| CorruptRecord::Text)?;
    Ok(text.to_owned())
}

fn count(input: &mut &[u8]) -> Result<u32, CorruptRecord> {
    varint(input)?.checked_sub(1).ok_or(CorruptRecord::Length)
}

fn assignment(input: &mut &[u8]) -> Result<Assignment, CorruptRecord> {
    let mut assignment = Assignment::new();
    for _ in 0..count(input)? {
        let id = take(input, 16)?;
        let id = Uuid::from_slice(id).map_err(|_| CorruptRecord::Truncated)?;
        let mut partitions = BTreeSet::new();
        for _ in 0..count(input)? {
            partitions.insert(input.try_get_i32().map_err(truncated)?);
        }
        skip_tags(input)?;
        assignment.insert(id, partitions);
    }
    Ok(assignment)
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
    Err(CorruptRecord::Length)
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

    fn records() -> Vec<ShareRecord> {
        let assignment = Assignment::from([(Uuid::from_bytes(*b"aaaaaaaaaaaaaaaa"), [1].into())]);
        let value = ShareMemberValue {
            rack_id: None,
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            topics: ["t".to_owned()].into(),
        };
        vec![
            ShareRecord::Member("m".into(), Some(value)),
            ShareRecord::Group(Some(4)),
            ShareRecord::TargetEpoch(Some(4)),
            ShareRecord::Target("m".into(), Some(assignment.clone())),
            ShareRecord::Current("m".into(), Some((4, 3, assignment))),
        ]
    }

    #[test]
    fn records_are_laid_out_as_in_kafka() {
        let encoded: Vec<_> = records().iter().map(|r| r.encode("g").unwrap()).collect();
        let expected: [(&[u8], &[u8]); 5] = [
            (b"\0\x0a\0\x01g\0\x01m", b"\0\0\0\x02c\x03/h\x02\x02t\0"),
            (b"\0\x0b\0\x01g", b"\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0"),
            (b"\0\x0c\0\x01g", b"\0\0\0\0\0\x04\0"),
            (
                b"\0\x0d\0\x01g\0\x01m",
                b"\0\0\x02aaaaaaaaaaaaaaaa\x02\0\0\0\x01\0\0",
            ),
            (
                b"\0\x0e\0\x01g\0\x01m",
                b"\0\0\0\0\0\x04\0\0\0\x03\0\x02aaaaaaaaaaaaaaaa\x02\0\0\0\x01\0\0",
            ),
        ];
        for ((key, value), (expected_key, expected_value)) in encoded.iter().zip(expected) {
            assert_eq!(&key[..], expected_key);
            assert_eq!(value.as_deref(), Some(expected_value));
        }
    }

    #[test]
    fn records_come_back() {
        let tombstones = vec![
            ShareRecord::Member("m".into(), None),
            ShareRecord::Group(None),
        ];
        for record in records().into_iter().chain(tombstones) {
            let (key, value) = record.encode("g").unwrap();
            let decoded = ShareRecord::decode(&key, value.as_deref());
            assert_eq!(decoded, Ok(Some(("g".to_owned(), record))));
        }
        assert_eq!(ShareRecord::decode(b"\0\x02\0\x01g", None), Ok(None));
        assert_eq!(ShareRecord::decode(b"\0\x0f\0\x01g", None), Ok(None));
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_or_a_record_but_no_panic(
            kind in 9u8..16,
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let value = [&[0, 0][..], &bytes].concat();
            let _ = ShareRecord::decode(&[&[0, kind][..], &bytes].concat(), Some(&value));
            let key = [&[0, kind][..], b"\0\x01g\0\x01m"].concat();
            let _ = ShareRecord::decode(&key, Some(&value));
        }
    }
}
