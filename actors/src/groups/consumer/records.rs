//! The records of consumer groups in `__consumer_offsets`, as Kafka writes them: its tools print ours.
//!
//! ```text
//! key   version:i16 group:string, then     3, 4, 6: nothing     5, 7, 8: member id:string     16: regular expression:string
//! value version:i16 = 0, then
//!  3 epoch:i32      6 target epoch:i32      7 [topic id:uuid [i32]]
//!  4 [topic id:uuid name:string partitions:i32 racks:[partition:i32 [string]]]
//!  5 instance:string? rack:string? client id:string client host:string topics:[string] regular expression:string?
//!    rebalance timeout:i32 assignor:string?      tag 0: session timeout:i32 [protocol:string metadata:bytes]
//!  8 epoch:i32 previous epoch:i32 state:i8 assigned:[topic id:uuid [i32]] to revoke:[topic id:uuid [i32]]
//! 16 topics:[string] version:i64 time:i64
//! ```
//! Strings and arrays are compact in values; each structure ends with tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::member::{ClassicMember, Current, MemberState, Metadata, Partitions, by_topic};
use super::pattern::Matches;
use super::topics::Topic;
use crate::groups::member::Protocol;
use crate::groups::records::{
    CorruptRecord, TooLong, blob, i16_of, i32_of, i64_of, length, nullable, put_string, skip_tags,
    string, take, varint,
};

const EPOCH: i16 = 3;
const TOPICS: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const PATTERN: i16 = 16;
/// The version of all values.
const VALUE: i16 = 0;
/// The tag of what only classic members have.
const CLASSIC_TAG: u32 = 0;

/// A record; `None` is its tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The group's epoch. A group is there as long as this is.
    Epoch(Option<i32>),
    /// The topics that are subscribed to.
    Topics(Option<BTreeMap<Arc<str>, Topic>>),
    /// What a member said of itself.
    Member(Arc<str>, Option<Metadata>),
    /// The epoch that the assignor ran for.
    TargetEpoch(Option<i32>),
    /// What a member is to have.
    Target(Arc<str>, Option<Partitions>),
    /// What a member has.
    Current(Arc<str>, Option<Current>),
    /// What a regular expression matches.
    Pattern(Arc<str>, Option<Matches>),
}

/// Tells whether keys of this version are those of consumer groups.
pub fn is_key(version: i16) -> bool {
    matches!(version, EPOCH..=CURRENT | PATTERN)
}

impl Record {
    /// Returns key and value.
    ///
    /// # Errors
    /// A string does not fit.
    pub fn encode(&self, group: &str) -> Result<(Bytes, Option<Bytes>), TooLong> {
        let (version, name) = self.key();
        let mut key = BytesMut::new();
        key.put_i16(version);
        put_string(&mut key, group)?;
        if let Some(name) = name {
            put_string(&mut key, name)?;
        }
        Ok((key.freeze(), self.value()?))
    }

    fn key(&self) -> (i16, Option<&str>) {
        match self {
            Record::Epoch(_) => (EPOCH, None),
            Record::Topics(_) => (TOPICS, None),
            Record::Member(id, _) => (MEMBER, Some(id)),
            Record::TargetEpoch(_) => (TARGET_EPOCH, None),
            Record::Target(id, _) => (TARGET, Some(id)),
            Record::Current(id, _) => (CURRENT, Some(id)),
            Record::Pattern(pattern, _) => (PATTERN, Some(pattern)),
        }
    }

    fn value(&self) -> Result<Option<Bytes>, TooLong> {
        let mut out = BytesMut::new();
        out.put_i16(VALUE);
        match self {
            Record::Epoch(Some(epoch)) | Record::TargetEpoch(Some(epoch)) => out.put_i32(*epoch),
            Record::Topics(Some(topics)) => put_topics(&mut out, topics)?,
            Record::Member(_, Some(metadata)) => return member(out, metadata).map(Some),
            Record::Target(_, Some(target)) => put_partitions(&mut out, target)?,
            Record::Current(_, Some(current)) => put_current(&mut out, current)?,
            Record::Pattern(_, Some(matches)) => {
                put_names(&mut out, matches.topics.iter())?;
                out.put_i64(matches.version);
                out.put_i64(matches.looked_ms);
            }
            _ => return Ok(None),
        }
        put_no_tags(&mut out);
        Ok(Some(out.freeze()))
    }

    /// Reads a record with one of [the keys](is_key); returns its group, too.
    ///
    /// # Errors
    /// It is malformed.
    pub fn decode(mut key: &[u8], value: Option<&[u8]>) -> Result<(String, Self), CorruptRecord> {
        let key = &mut key;
        let version = i16_of(key)?;
        let group = string(key, false)?;
        let mut name = || string(key, false).map(Arc::<str>::from);
        let record = match version {
            EPOCH => Record::Epoch(read(value, i32_of)?),
            TOPICS => Record::Topics(read(value, topics)?),
            MEMBER => Record::Member(name()?, read(value, metadata)?),
            TARGET_EPOCH => Record::TargetEpoch(read(value, i32_of)?),
            TARGET => Record::Target(name()?, read(value, partitions)?),
            CURRENT => Record::Current(name()?, read(value, current)?),
            PATTERN => Record::Pattern(name()?, read(value, matches)?),
            other => return Err(CorruptRecord::Version(other)),
        };
        Ok((group, record))
    }
}

fn read<T>(
    value: Option<&[u8]>,
    body: impl FnOnce(&mut &[u8]) -> Result<T, CorruptRecord>,
) -> Result<Option<T>, CorruptRecord> {
    let Some(mut value) = value else {
        return Ok(None);
    };
    match i16_of(&mut value)? {
        VALUE => body(&mut value).map(Some),
        other => Err(CorruptRecord::Version(other)),
    }
}

/// Writes a number that takes as many bytes as it needs.
fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a length: one more, since 0 is null.
fn put_count(out: &mut BytesMut, count: usize) -> Result<(), TooLong> {
    let more = u32::try_from(count)
        .ok()
        .and_then(|count| count.checked_add(1));
    put_varint(out, more.ok_or(TooLong::of(count))?);
    Ok(())
}

fn put_no_tags(out: &mut BytesMut) {
    out.put_u8(0);
}

fn put_text(out: &mut BytesMut, text: &str) -> Result<(), TooLong> {
    put_count(out, text.len())?;
    out.put_slice(text.as_bytes());
    Ok(())
}

fn put_optional(out: &mut BytesMut, text: Option<&str>) -> Result<(), TooLong> {
    match text {
        Some(text) => put_text(out, text),
        None => {
            out.put_u8(0);
            Ok(())
        }
    }
}

fn put_names<'a>(
    out: &mut BytesMut,
    names: impl ExactSizeIterator<Item = &'a Arc<str>>,
) -> Result<(), TooLong> {
    put_count(out, names.len())?;
    for name in names {
        put_text(out, name)?;
    }
    Ok(())
}

fn put_partitions(out: &mut BytesMut, partitions: &Partitions) -> Result<(), TooLong> {
    let topics = by_topic(partitions);
    put_count(out, topics.len())?;
    for (topic, numbers) in topics {
        out.put_slice(topic.as_bytes());
        put_count(out, numbers.len())?;
        for number in numbers {
            out.put_i32(number);
        }
        put_no_tags(out);
    }
    Ok(())
}

fn put_topics(out: &mut BytesMut, topics: &BTreeMap<Arc<str>, Topic>) -> Result<(), TooLong> {
    put_count(out, topics.len())?;
    for (name, topic) in topics {
        out.put_slice(topic.id.as_bytes());
        put_text(out, name)?;
        out.put_i32(topic.partitions);
        // The racks of the replicas, which do not matter here.
        put_count(out, 0)?;
        put_no_tags(out);
    }
    Ok(())
}

fn put_current(out: &mut BytesMut, current: &Current) -> Result<(), TooLong> {
    out.put_i32(current.epoch);
    out.put_i32(current.previous_epoch);
    out.put_i8(match current.state {
        MemberState::Stable => 0,
        MemberState::UnrevokedPartitions => 1,
        MemberState::UnreleasedPartitions => 2,
    });
    put_partitions(out, &current.assigned)?;
    put_partitions(out, &current.revoking)
}

fn member(mut out: BytesMut, metadata: &Metadata) -> Result<Bytes, TooLong> {
    put_optional(&mut out, metadata.instance_id.as_deref())?;
    put_optional(&mut out, metadata.rack_id.as_deref())?;
    put_text(&mut out, &metadata.client_id)?;
    put_text(&mut out, &metadata.client_host)?;
    put_names(&mut out, metadata.topics.iter())?;
    put_optional(&mut out, metadata.pattern.as_deref())?;
    out.put_i32(metadata.rebalance_timeout_ms);
    put_optional(&mut out, metadata.server_assignor.as_deref())?;
    let Some(classic) = &metadata.classic else {
        put_no_tags(&mut out);
        return Ok(out.freeze());
    };
    let mut tag = BytesMut::new();
    // A nullable structure says first that it is there.
    tag.put_i8(1);
    tag.put_i32(classic.session_timeout_ms);
    put_count(&mut tag, classic.protocols.len())?;
    for protocol in &classic.protocols {
        put_text(&mut tag, &protocol.name)?;
        put_count(&mut tag, protocol.metadata.len())?;
        tag.put_slice(&protocol.metadata);
        put_no_tags(&mut tag);
    }
    put_no_tags(&mut tag);
    put_varint(&mut out, 1);
    put_varint(&mut out, CLASSIC_TAG);
    put_varint(
        &mut out,
        u32::try_from(tag.len()).map_err(|_| TooLong::of(tag.len()))?,
    );
    out.put_slice(&tag);
    Ok(out.freeze())
}

fn count(input: &mut &[u8]) -> Result<usize, CorruptRecord> {
    length(input, true, false)?.ok_or(CorruptRecord::Length)
}

fn optional(input: &mut &[u8]) -> Result<Option<Arc<str>>, CorruptRecord> {
    Ok(nullable(input, true)?.map(Arc::from))
}

fn text(input: &mut &[u8]) -> Result<Arc<str>, CorruptRecord> {
    Ok(string(input, true)?.into())
}

fn names<C: FromIterator<Arc<str>>>(input: &mut &[u8]) -> Result<C, CorruptRecord> {
    (0..count(input)?).map(|_| text(input)).collect()
}

fn topic_id(input: &mut &[u8]) -> Result<Uuid, CorruptRecord> {
    Uuid::from_slice(take(input, 16)?).map_err(|_| CorruptRecord::Truncated)
}

fn partitions(input: &mut &[u8]) -> Result<Partitions, CorruptRecord> {
    let mut partitions = Partitions::new();
    for _ in 0..count(input)? {
        let topic = topic_id(input)?;
        for _ in 0..count(input)? {
            partitions.insert((topic, i32_of(input)?));
        }
        skip_tags(input)?;
    }
    Ok(partitions)
}

fn topics(input: &mut &[u8]) -> Result<BTreeMap<Arc<str>, Topic>, CorruptRecord> {
    let mut topics = BTreeMap::new();
    for _ in 0..count(input)? {
        let id = topic_id(input)?;
        let name = text(input)?;
        let partitions = i32_of(input)?;
        for _ in 0..count(input)? {
            i32_of(input)?;
            names::<Vec<_>>(input)?;
            skip_tags(input)?;
        }
        skip_tags(input)?;
        topics.insert(name, Topic { id, partitions });
    }
    Ok(topics)
}

fn current(input: &mut &[u8]) -> Result<Current, CorruptRecord> {
    Ok(Current {
        epoch: i32_of(input)?,
        previous_epoch: i32_of(input)?,
        state: match input.try_get_i8().map_err(|_| CorruptRecord::Truncated)? {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            other => return Err(CorruptRecord::Version(other.into())),
        },
        assigned: partitions(input)?,
        revoking: partitions(input)?,
    })
}

fn matches(input: &mut &[u8]) -> Result<Matches, CorruptRecord> {
    Ok(Matches {
        topics: names(input)?,
        version: i64_of(input)?,
        looked_ms: i64_of(input)?,
    })
}

fn metadata(input: &mut &[u8]) -> Result<Metadata, CorruptRecord> {
    let mut metadata = Metadata {
        instance_id: optional(input)?,
        rack_id: optional(input)?,
        client_id: text(input)?,
        client_host: text(input)?,
        topics: names(input)?,
        pattern: optional(input)?.filter(|pattern| !pattern.is_empty()),
        rebalance_timeout_ms: i32_of(input)?,
        server_assignor: optional(input)?,
        classic: None,
    };
    for _ in 0..varint(input)? {
        let tag = varint(input)?;
        let size = usize::try_from(varint(input)?).map_err(|_| CorruptRecord::Length)?;
        let mut content = take(input, size)?;
        if tag == CLASSIC_TAG {
            metadata.classic = classic(&mut content)?;
        }
    }
    Ok(metadata)
}

fn classic(input: &mut &[u8]) -> Result<Option<ClassicMember>, CorruptRecord> {
    let is_there = input.try_get_i8().map_err(|_| CorruptRecord::Truncated)?;
    if is_there < 0 {
        return Ok(None);
    }
    let session_timeout_ms = i32_of(input)?;
    let mut protocols = Vec::new();
    for _ in 0..count(input)? {
        let (name, metadata) = (text(input)?, blob(input, true)?);
        skip_tags(input)?;
        protocols.push(Protocol { name, metadata });
    }
    Ok(Some(ClassicMember {
        session_timeout_ms,
        protocols,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn examples() -> Vec<Record> {
        let topic = Topic {
            id: id(1),
            partitions: 3,
        };
        let metadata = Metadata {
            instance_id: Some("i".into()),
            rack_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            topics: ["t".into()].into(),
            pattern: Some("a.*".into()),
            rebalance_timeout_ms: 300_000,
            server_assignor: Some("range".into()),
            classic: None,
        };
        let classic = Metadata {
            classic: Some(ClassicMember {
                session_timeout_ms: 45_000,
                protocols: vec![Protocol {
                    name: "range".into(),
                    metadata: Bytes::from_static(b"meta"),
                }],
            }),
            ..metadata.clone()
        };
        let partitions: Partitions = [(id(1), 0), (id(1), 2), (id(2), 1)].into();
        let current = Current {
            epoch: 5,
            previous_epoch: 4,
            state: MemberState::UnrevokedPartitions,
            assigned: partitions.clone(),
            revoking: [(id(2), 0)].into(),
        };
        let matches = Matches {
            topics: ["a1".into(), "a2".into()].into(),
            version: 7,
            looked_ms: 1_000,
        };
        vec![
            Record::Epoch(Some(5)),
            Record::Topics(Some([(Arc::from("t"), topic)].into())),
            Record::Member("m".into(), Some(metadata)),
            Record::Member("m".into(), Some(classic)),
            Record::TargetEpoch(Some(5)),
            Record::Target("m".into(), Some(partitions)),
            Record::Current("m".into(), Some(current)),
            Record::Pattern("a.*".into(), Some(matches)),
            Record::Epoch(None),
            Record::Topics(None),
            Record::Member("m".into(), None),
            Record::TargetEpoch(None),
            Record::Target("m".into(), None),
            Record::Current("m".into(), None),
            Record::Pattern("a.*".into(), None),
        ]
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        for record in examples() {
            let (key, value) = record.encode("g").unwrap();
            let read = Record::decode(&key, value.as_deref());
            assert_eq!(read, Ok(("g".to_owned(), record)));
        }
    }

    #[test]
    fn records_are_laid_out_as_in_kafka() {
        let encoded = |record: Record| {
            let (key, value) = record.encode("g").unwrap();
            (key.to_vec(), value.unwrap().to_vec())
        };
        let (key, value) = encoded(Record::Epoch(Some(5)));
        assert_eq!(key, b"\0\x03\0\x01g");
        assert_eq!(value, b"\0\0\0\0\0\x05\0");
        let (key, value) = encoded(Record::Target("m".into(), Some([(id(1), 2)].into())));
        assert_eq!(key, b"\0\x07\0\x01g\0\x01m");
        assert_eq!(
            value,
            b"\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\0\0\0\x02\0\0"
        );
        let (key, _) = encoded(examples().remove(7));
        assert_eq!(key, b"\0\x10\0\x01g\0\x03a.*");
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_or_a_record_but_no_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0usize..8,
        ) {
            let (key, _) = examples().remove(kind).encode("g").unwrap();
            let mut value = vec![0, 0];
            value.extend(&bytes);
            let _ = Record::decode(&key, Some(&value));
            let _ = Record::decode(&bytes, Some(&bytes));
        }

        #[test]
        fn a_cut_record_is_corrupt(kind in 0usize..8, cut in any::<prop::sample::Index>()) {
            let (key, value) = examples().remove(kind).encode("g").unwrap();
            let value = value.unwrap();
            // The last byte says that there are no tags, and is not looked at.
            let cut = cut.index(value.len() - 1);
            prop_assert!(Record::decode(&key, Some(&value[..cut])).is_err());
        }
    }
}
