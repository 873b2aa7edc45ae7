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

use bytes::Bytes;

use super::assignor::Assignment;
use crate::internal_topic::fields::{CorruptRecord, Reader, TooLong, Writer};

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
        let mut key = Writer::plain(kind);
        key.string(group);
        if let Some(member) = member {
            key.string(member);
        }
        let value = self.value().map(Writer::finish).transpose()?;
        Ok((key.finish()?, value))
    }

    fn value(&self) -> Option<Writer> {
        let mut out = Writer::compact(VERSION);
        match self {
            Self::Member(_, value) => {
                let value = value.as_ref()?;
                out.nullable_string(value.rack_id.as_deref());
                out.string(&value.client_id);
                out.string(&value.client_host);
                out.count(value.topics.len());
                for topic in &value.topics {
                    out.string(topic);
                }
            }
            Self::Group(epoch) => {
                out.i32((*epoch)?);
                out.i64(0);
            }
            Self::TargetEpoch(epoch) => out.i32((*epoch)?),
            Self::Target(_, target) => put_assignment(&mut out, target.as_ref()?),
            Self::Current(_, current) => {
                let (epoch, previous_epoch, assigned) = current.as_ref()?;
                out.i32(*epoch);
                out.i32(*previous_epoch);
                out.i8(STABLE);
                put_assignment(&mut out, assigned);
            }
        }
        out.no_tags();
        Some(out)
    }

    /// Decodes a record: the group's id with it; `None` when it is of another kind.
    pub fn decode(
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Option<(String, Self)>, CorruptRecord> {
        let mut key = Reader::plain(key);
        let kind = key.i16()?;
        if !(MEMBER..=CURRENT).contains(&kind) {
            return Ok(None);
        }
        let group = key.string()?.to_owned();
        let mut member = || key.string().map(Arc::<str>::from);
        let value = value.map(|value| Reader::compact(value, VERSION));
        let value = value.transpose()?;
        let record = match kind {
            MEMBER => Self::Member(member()?, value.map(decode_member).transpose()?),
            GROUP => Self::Group(value.map(decode_epoch).transpose()?),
            TARGET_EPOCH => Self::TargetEpoch(value.map(decode_epoch).transpose()?),
            TARGET => Self::Target(member()?, value.map(decode_assignment).transpose()?),
            _ => Self::Current(member()?, value.map(decode_current).transpose()?),
        };
        Ok(Some((group, record)))
    }
}

fn put_assignment(out: &mut Writer, assignment: &Assignment) {
    out.count(assignment.len());
    for (topic_id, partitions) in assignment {
        out.uuid(*topic_id);
        out.count(partitions.len());
        for partition in partitions {
            out.i32(*partition);
        }
        out.no_tags();
    }
}

fn decode_member(mut input: Reader<'_>) -> Result<ShareMemberValue, CorruptRecord> {
    let rack_id = input.nullable_string()?.map(str::to_owned);
    let client_id = input.nullable_string()?.unwrap_or_default().to_owned();
    let client_host = input.nullable_string()?.unwrap_or_default().to_owned();
    let mut topics = BTreeSet::new();
    for _ in 0..input.count()? {
        topics.insert(input.string()?.to_owned());
    }
    Ok(ShareMemberValue {
        rack_id,
        client_id,
        client_host,
        topics,
    })
}

fn decode_epoch(mut input: Reader<'_>) -> Result<i32, CorruptRecord> {
    input.i32()
}

fn decode_current(mut input: Reader<'_>) -> Result<(i32, i32, Assignment), CorruptRecord> {
    let epoch = input.i32()?;
    let previous_epoch = input.i32()?;
    // The state: there is only one.
    input.i8()?;
    Ok((epoch, previous_epoch, decode_assignment(input)?))
}

fn decode_assignment(mut input: Reader<'_>) -> Result<Assignment, CorruptRecord> {
    let mut assignment = Assignment::new();
    for _ in 0..input.count()? {
        let id = input.uuid()?;
        let mut partitions = BTreeSet::new();
        for _ in 0..input.count()? {
            partitions.insert(input.i32()?);
        }
        input.skip_tags()?;
        assignment.insert(id, partitions);
    }
    Ok(assignment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

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
