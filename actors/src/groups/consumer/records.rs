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

use bytes::Bytes;

use super::member::{ClassicMember, Current, MemberState, Metadata, Partitions, by_topic};
use super::pattern::Matches;
use super::topics::Topic;
use crate::groups::member::Protocol;
use crate::internal_topic::fields::{CorruptRecord, Reader, TooLong, Writer};

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
        let mut key = Writer::plain(version);
        key.string(group);
        if let Some(name) = name {
            key.string(name);
        }
        let value = self.value().map(Writer::finish).transpose()?;
        Ok((key.finish()?, value))
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

    fn value(&self) -> Option<Writer> {
        let mut out = Writer::compact(VALUE);
        match self {
            Record::Epoch(epoch) | Record::TargetEpoch(epoch) => out.i32((*epoch)?),
            Record::Topics(topics) => put_topics(&mut out, topics.as_ref()?),
            Record::Member(_, metadata) => {
                put_metadata(&mut out, metadata.as_ref()?);
                return Some(out);
            }
            Record::Target(_, target) => put_partitions(&mut out, target.as_ref()?),
            Record::Current(_, current) => put_current(&mut out, current.as_ref()?),
            Record::Pattern(_, matches) => put_matches(&mut out, matches.as_ref()?),
        }
        out.no_tags();
        Some(out)
    }

    /// Reads a record with one of [the keys](is_key); returns its group, too.
    ///
    /// # Errors
    /// It is malformed.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<(String, Self), CorruptRecord> {
        let mut key = Reader::plain(key);
        let version = key.i16()?;
        let group = key.string()?.to_owned();
        let mut name = || key.string().map(Arc::<str>::from);
        let record = match version {
            EPOCH => Record::Epoch(read(value, Reader::i32)?),
            TOPICS => Record::Topics(read(value, topics)?),
            MEMBER => Record::Member(name()?, read(value, metadata)?),
            TARGET_EPOCH => Record::TargetEpoch(read(value, Reader::i32)?),
            TARGET => Record::Target(name()?, read(value, partitions)?),
            CURRENT => Record::Current(name()?, read(value, current)?),
            PATTERN => Record::Pattern(name()?, read(value, matches)?),
            other => return Err(CorruptRecord::Version(other)),
        };
        Ok((group, record))
    }
}

fn put_names<'a>(out: &mut Writer, names: impl ExactSizeIterator<Item = &'a Arc<str>>) {
    out.count(names.len());
    for name in names {
        out.string(name);
    }
}

fn put_partitions(out: &mut Writer, partitions: &Partitions) {
    let topics = by_topic(partitions);
    out.count(topics.len());
    for (topic, numbers) in topics {
        out.uuid(topic);
        out.count(numbers.len());
        for number in numbers {
            out.i32(number);
        }
        out.no_tags();
    }
}

fn put_topics(out: &mut Writer, topics: &BTreeMap<Arc<str>, Topic>) {
    out.count(topics.len());
    for (name, topic) in topics {
        out.uuid(topic.id);
        out.string(name);
        out.i32(topic.partitions);
        // The racks of the replicas, which do not matter here.
        out.count(0);
        out.no_tags();
    }
}

fn put_current(out: &mut Writer, current: &Current) {
    out.i32(current.epoch);
    out.i32(current.previous_epoch);
    out.i8(match current.state {
        MemberState::Stable => 0,
        MemberState::UnrevokedPartitions => 1,
        MemberState::UnreleasedPartitions => 2,
    });
    put_partitions(out, &current.assigned);
    put_partitions(out, &current.revoking);
}

fn put_matches(out: &mut Writer, matches: &Matches) {
    put_names(out, matches.topics.iter());
    out.i64(matches.version);
    out.i64(matches.looked_ms);
}

fn put_metadata(out: &mut Writer, metadata: &Metadata) {
    out.nullable_string(metadata.instance_id.as_deref());
    out.nullable_string(metadata.rack_id.as_deref());
    out.string(&metadata.client_id);
    out.string(&metadata.client_host);
    put_names(out, metadata.topics.iter());
    out.nullable_string(metadata.pattern.as_deref());
    out.i32(metadata.rebalance_timeout_ms);
    out.nullable_string(metadata.server_assignor.as_deref());
    let Some(classic) = &metadata.classic else {
        return out.no_tags();
    };
    out.tag_count(1);
    out.tag(CLASSIC_TAG, |out| {
        // A nullable structure says first that it is there.
        out.i8(1);
        out.i32(classic.session_timeout_ms);
        out.count(classic.protocols.len());
        for protocol in &classic.protocols {
            out.string(&protocol.name);
            out.bytes(&protocol.metadata);
            out.no_tags();
        }
        out.no_tags();
    });
}

fn read<'a, T>(
    value: Option<&'a [u8]>,
    body: impl FnOnce(&mut Reader<'a>) -> Result<T, CorruptRecord>,
) -> Result<Option<T>, CorruptRecord> {
    let value = value.map(|value| body(&mut Reader::compact(value, VALUE)?));
    value.transpose()
}

fn optional(input: &mut Reader<'_>) -> Result<Option<Arc<str>>, CorruptRecord> {
    Ok(input.nullable_string()?.map(Arc::from))
}

fn text(input: &mut Reader<'_>) -> Result<Arc<str>, CorruptRecord> {
    Ok(input.string()?.into())
}

fn names<C: FromIterator<Arc<str>>>(input: &mut Reader<'_>) -> Result<C, CorruptRecord> {
    (0..input.count()?).map(|_| text(input)).collect()
}

fn partitions(input: &mut Reader<'_>) -> Result<Partitions, CorruptRecord> {
    let mut partitions = Partitions::new();
    for _ in 0..input.count()? {
        let topic = input.uuid()?;
        for _ in 0..input.count()? {
            partitions.insert((topic, input.i32()?));
        }
        input.skip_tags()?;
    }
    Ok(partitions)
}

fn topics(input: &mut Reader<'_>) -> Result<BTreeMap<Arc<str>, Topic>, CorruptRecord> {
    let mut topics = BTreeMap::new();
    for _ in 0..input.count()? {
        let id = input.uuid()?;
        let name = text(input)?;
        let partitions = input.i32()?;
        for _ in 0..input.count()? {
            input.i32()?;
            names::<Vec<_>>(input)?;
            input.skip_tags()?;
        }
        input.skip_tags()?;
        topics.insert(name, Topic { id, partitions });
    }
    Ok(topics)
}

fn current(input: &mut Reader<'_>) -> Result<Current, CorruptRecord> {
    Ok(Current {
        epoch: input.i32()?,
        previous_epoch: input.i32()?,
        state: match input.i8()? {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            other => return Err(CorruptRecord::State(other)),
        },
        assigned: partitions(input)?,
        revoking: partitions(input)?,
    })
}

fn matches(input: &mut Reader<'_>) -> Result<Matches, CorruptRecord> {
    Ok(Matches {
        topics: names(input)?,
        version: input.i64()?,
        looked_ms: input.i64()?,
    })
}

fn metadata(input: &mut Reader<'_>) -> Result<Metadata, CorruptRecord> {
    let mut metadata = Metadata {
        instance_id: optional(input)?,
        rack_id: optional(input)?,
        client_id: text(input)?,
        client_host: text(input)?,
        topics: names(input)?,
        pattern: optional(input)?.filter(|pattern| !pattern.is_empty()),
        rebalance_timeout_ms: input.i32()?,
        server_assignor: optional(input)?,
        classic: None,
    };
    input.tags(|tag, content| {
        if tag == CLASSIC_TAG {
            metadata.classic = classic(content)?;
        }
        Ok(())
    })?;
    Ok(metadata)
}

fn classic(input: &mut Reader<'_>) -> Result<Option<ClassicMember>, CorruptRecord> {
    let is_there = input.i8()?;
    if is_there < 0 {
        return Ok(None);
    }
    let session_timeout_ms = input.i32()?;
    let mut protocols = Vec::new();
    for _ in 0..input.count()? {
        let (name, metadata) = (text(input)?, Bytes::copy_from_slice(input.bytes()?));
        input.skip_tags()?;
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
    use uuid::Uuid;

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
