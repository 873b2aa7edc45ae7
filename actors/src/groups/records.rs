//! The records of `__consumer_offsets`, as Kafka writes them: its tools print ours, and we read its.
//!
//! ```text
//! key    version:i16 then   0, 1: group:string topic:string partition:i32      2: group:string      3…: newer groups
//! offset version:i16 then   0: offset:i64 metadata:string commit:i64           1: the same, expire:i64
//!                           2: as 0     3: offset:i64 leader_epoch:i32 metadata:string commit:i64     4: 3, flexible
//! group  version:i16 then   protocol_type:string generation:i32 protocol:string? leader:string?
//!                           2…: state_since:i64      members:[member]           4: 3, flexible
//! member id:string 3…: instance_id:string? client_id:string client_host:string 1…: rebalance_timeout:i32
//!        session_timeout:i32 subscription:bytes assignment:bytes
//! ```
//! Integers are big-endian. A value that is missing altogether is a tombstone.

use bytes::Bytes;

use super::offsets::CommittedOffset;
use crate::internal_topic::fields::{CorruptRecord, Reader, TooLong, Writer};

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A committed offset.
    Offset {
        /// Group id.
        group: String,
        /// Topic.
        topic: String,
        /// Partition of the topic.
        partition: i32,
    },
    /// The state of a group.
    Group(String),
    /// Something that classic groups have no part in: the version of the key.
    Other(i16),
}

/// The state of a group, as far as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    /// What the members speak among themselves: `consumer`, `connect`.
    pub protocol_type: String,
    /// Number of the last finished join phase.
    pub generation: i32,
    /// The assignor or the like that was chosen.
    pub protocol: Option<String>,
    /// Member id of the leader.
    pub leader: Option<String>,
    /// Since when the group is in its state, milliseconds since the epoch; -1 when unknown.
    pub state_since_ms: i64,
    /// The members.
    pub members: Vec<MemberValue>,
}

/// A member of a group, as far as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    /// Member id.
    pub id: String,
    /// Name of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where its client is, as `/127.0.0.1`.
    pub client_host: String,
    /// How long it may take to join again, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// How long it may stay silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// What it said for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader gave it.
    pub assignment: Bytes,
}

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 3;
const EXPIRING_OFFSET_VALUE: i16 = 1;
const GROUP_VALUE: i16 = 3;
/// The first version of both values that has compact lengths, which is the newest one.
const FLEXIBLE: i16 = 4;

/// Encodes the key of a committed offset.
pub fn offset_key(group: &str, topic: &str, partition: i32) -> Result<Bytes, TooLong> {
    let mut out = Writer::plain(OFFSET_KEY);
    out.string(group);
    out.string(topic);
    out.i32(partition);
    out.finish()
}

/// Encodes the key of a group.
pub fn group_key(group: &str) -> Result<Bytes, TooLong> {
    let mut out = Writer::plain(GROUP_KEY);
    out.string(group);
    out.finish()
}

/// Decodes a key.
pub fn decode_key(key: &[u8]) -> Result<Key, CorruptRecord> {
    let mut input = Reader::plain(key);
    match input.i16()? {
        0..=OFFSET_KEY => Ok(Key::Offset {
            group: input.string()?.to_owned(),
            topic: input.string()?.to_owned(),
            partition: input.i32()?,
        }),
        GROUP_KEY => Ok(Key::Group(input.string()?.to_owned())),
        other => Ok(Key::Other(other)),
    }
}

/// Encodes a committed offset: in the newest plain version, or in the one that says when it expires.
pub fn offset_value(committed: &CommittedOffset) -> Result<Bytes, TooLong> {
    let mut out;
    if let Some(expires_ms) = committed.expires_ms {
        out = Writer::plain(EXPIRING_OFFSET_VALUE);
        out.i64(committed.offset);
        out.string(&committed.metadata);
        out.i64(committed.committed_ms);
        out.i64(expires_ms);
    } else {
        out = Writer::plain(OFFSET_VALUE);
        out.i64(committed.offset);
        out.i32(committed.leader_epoch);
        out.string(&committed.metadata);
        out.i64(committed.committed_ms);
    }
    out.finish()
}

/// Decodes a committed offset.
pub fn decode_offset_value(value: &[u8]) -> Result<CommittedOffset, CorruptRecord> {
    let (version, mut input) = Reader::value(value, 0..=FLEXIBLE, FLEXIBLE)?;
    let offset = input.i64()?;
    let leader_epoch = if version >= 3 { input.i32()? } else { -1 };
    let metadata = input.string()?.into();
    let committed_ms = input.i64()?;
    let expires_ms = if version == EXPIRING_OFFSET_VALUE {
        // -1 stands for "not said".
        Some(input.i64()?).filter(|&expires_ms| expires_ms >= 0)
    } else {
        None
    };
    Ok(CommittedOffset {
        offset,
        leader_epoch,
        metadata,
        committed_ms,
        expires_ms,
    })
}

/// Encodes the state of a group.
pub fn group_value(group: &GroupValue) -> Result<Bytes, TooLong> {
    let mut out = Writer::plain(GROUP_VALUE);
    out.string(&group.protocol_type);
    out.i32(group.generation);
    out.nullable_string(group.protocol.as_deref());
    out.nullable_string(group.leader.as_deref());
    out.i64(group.state_since_ms);
    out.count(group.members.len());
    for member in &group.members {
        out.string(&member.id);
        out.nullable_string(member.instance_id.as_deref());
        out.string(&member.client_id);
        out.string(&member.client_host);
        out.i32(member.rebalance_timeout_ms);
        out.i32(member.session_timeout_ms);
        out.bytes(&member.subscription);
        out.bytes(&member.assignment);
    }
    out.finish()
}

/// Decodes the state of a group.
pub fn decode_group_value(value: &[u8]) -> Result<GroupValue, CorruptRecord> {
    let (version, mut input) = Reader::value(value, 0..=FLEXIBLE, FLEXIBLE)?;
    let mut group = GroupValue {
        protocol_type: input.string()?.to_owned(),
        generation: input.i32()?,
        protocol: input.nullable_string()?.map(str::to_owned),
        leader: input.nullable_string()?.map(str::to_owned),
        state_since_ms: if version >= 2 { input.i64()? } else { -1 },
        members: Vec::new(),
    };
    for _ in 0..input.count()? {
        group.members.push(member(&mut input, version)?);
    }
    Ok(group)
}

fn member(input: &mut Reader<'_>, version: i16) -> Result<MemberValue, CorruptRecord> {
    let id = input.string()?.to_owned();
    let instance_id = match version {
        3.. => input.nullable_string()?.map(str::to_owned),
        _ => None,
    };
    let client_id = input.string()?.to_owned();
    let client_host = input.string()?.to_owned();
    let timeout_ms = input.i32()?;
    let member = MemberValue {
        id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: timeout_ms,
        // The first version had one time-out for both.
        session_timeout_ms: if version >= 1 {
            input.i32()?
        } else {
            timeout_ms
        },
        subscription: Bytes::copy_from_slice(input.bytes()?),
        assignment: Bytes::copy_from_slice(input.bytes()?),
    };
    input.skip_tags()?;
    Ok(member)
}

/// Reads the topics out of a consumer's subscription (`ConsumerProtocolSubscription`); `None` when it is malformed.
pub fn subscribed_topics(subscription: &[u8]) -> Option<Vec<String>> {
    let mut input = Reader::plain(subscription);
    input.i16().ok()?;
    let mut topics = Vec::new();
    for _ in 0..input.count().ok()? {
        topics.push(input.string().ok()?.to_owned());
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offset(expires_ms: Option<i64>) -> CommittedOffset {
        CommittedOffset {
            offset: 7,
            leader_epoch: if expires_ms.is_some() { -1 } else { 3 },
            metadata: "note".into(),
            committed_ms: 1000,
            expires_ms,
        }
    }

    fn group() -> GroupValue {
        GroupValue {
            protocol_type: "consumer".to_owned(),
            generation: 4,
            protocol: Some("range".to_owned()),
            leader: Some("m".to_owned()),
            state_since_ms: 99,
            members: vec![MemberValue {
                id: "m".to_owned(),
                instance_id: None,
                client_id: "c".to_owned(),
                client_host: "/127.0.0.1".to_owned(),
                rebalance_timeout_ms: 300_000,
                session_timeout_ms: 45_000,
                subscription: Bytes::from_static(b"\0\x03topics"),
                assignment: Bytes::from_static(b"partitions"),
            }],
        }
    }

    #[test]
    fn keys_are_laid_out_as_in_kafka() {
        assert_eq!(
            &offset_key("g", "t", 5).unwrap()[..],
            b"\0\x01\0\x01g\0\x01t\0\0\0\x05"
        );
        assert_eq!(&group_key("g").unwrap()[..], b"\0\x02\0\x01g");
        let key = Key::Offset {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            partition: 5,
        };
        assert_eq!(decode_key(&offset_key("g", "t", 5).unwrap()), Ok(key));
        assert_eq!(
            decode_key(&group_key("g").unwrap()),
            Ok(Key::Group("g".to_owned()))
        );
        assert_eq!(decode_key(b"\0\x08whatever"), Ok(Key::Other(8)));
    }

    #[test]
    fn offsets_are_laid_out_as_in_kafka() {
        let plain = offset_value(&offset(None)).unwrap();
        assert_eq!(
            &plain[..],
            b"\0\x03\0\0\0\0\0\0\0\x07\0\0\0\x03\0\x04note\0\0\0\0\0\0\x03\xe8"
        );
        assert_eq!(decode_offset_value(&plain), Ok(offset(None)));
        let expiring = offset_value(&offset(Some(2000))).unwrap();
        assert_eq!(&expiring[..2], b"\0\x01");
        assert_eq!(decode_offset_value(&expiring), Ok(offset(Some(2000))));
        // Version 4, with the topic's id in a tag.
        let flexible = b"\0\x04\0\0\0\0\0\0\0\x07\0\0\0\x03\x05note\0\0\0\0\0\0\x03\xe8\x01\0\x10aaaaaaaaaaaaaaaa";
        assert_eq!(decode_offset_value(flexible), Ok(offset(None)));
    }

    #[test]
    fn groups_are_laid_out_as_in_kafka() {
        let bytes = group_value(&group()).unwrap();
        let expected: &[u8] = b"\0\x03\0\x08consumer\0\0\0\x04\0\x05range\0\x01m\0\0\0\0\0\0\0\x63\0\0\0\x01\
            \0\x01m\xff\xff\0\x01c\0\x0a/127.0.0.1\0\x04\x93\xe0\0\0\xaf\xc8\0\0\0\x08\0\x03topics\0\0\0\x0apartitions";
        assert_eq!(&bytes[..], expected);
        assert_eq!(decode_group_value(&bytes), Ok(group()));
        // Version 4: compact lengths, a tag section behind each member and at the end.
        let flexible: &[u8] = b"\0\x04\x09consumer\0\0\0\x04\x06range\x02m\0\0\0\0\0\0\0\x63\x02\
            \x02m\0\x02c\x0b/127.0.0.1\0\x04\x93\xe0\0\0\xaf\xc8\x09\0\x03topics\x0bpartitions\0\0";
        assert_eq!(decode_group_value(flexible), Ok(group()));
    }

    #[test]
    fn a_string_that_does_not_fit_is_refused() {
        let long = "x".repeat(40_000);
        assert_eq!(group_key(&long), Err(TooLong(40_000)));
    }

    #[test]
    fn a_subscription_names_its_topics() {
        assert_eq!(
            subscribed_topics(b"\0\x01\0\0\0\x02\0\x01a\0\x01b\xff\xff\xff\xff"),
            Some(vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(subscribed_topics(b"\0\x01\x7f\xff\xff\xff\0\x01a"), None);
        assert_eq!(subscribed_topics(b""), None);
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_or_a_record_but_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), version in 0u8..6) {
            let mut versioned = vec![0, version];
            versioned.extend(&bytes);
            let _ = decode_key(&versioned);
            let _ = decode_offset_value(&versioned);
            let _ = decode_group_value(&versioned);
            let _ = subscribed_topics(&bytes);
        }

        #[test]
        fn a_cut_record_is_corrupt(cut in 0usize..60) {
            let bytes = group_value(&group()).unwrap();
            prop_assert_eq!(decode_group_value(&bytes[..cut]), Err(CorruptRecord::Truncated));
        }
    }
}
