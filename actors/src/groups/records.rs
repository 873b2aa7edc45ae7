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

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::offsets::CommittedOffset;

/// What is wrong with a record; such a record is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CorruptRecord {
    /// It ends before its fields do.
    #[error("it ends too early")]
    Truncated,
    /// A length is negative where something must be.
    #[error("a length is negative")]
    Length,
    /// A string is no UTF-8.
    #[error("a string is no UTF-8")]
    Text,
    /// Its value is of a version that is not known.
    #[error("its value has version {0}")]
    Version(i16),
}

/// A string does not fit into a record, whose lengths have 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a string of {0} bytes does not fit into a record")]
pub struct TooLong(pub(super) usize);

impl TooLong {
    /// Says how long it is.
    pub(super) fn of(length: usize) -> Self {
        Self(length)
    }
}

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

/// Encodes the key of a committed offset.
pub fn offset_key(group: &str, topic: &str, partition: i32) -> Result<Bytes, TooLong> {
    let mut out = BytesMut::with_capacity(10 + group.len() + topic.len());
    out.put_i16(OFFSET_KEY);
    put_string(&mut out, group)?;
    put_string(&mut out, topic)?;
    out.put_i32(partition);
    Ok(out.freeze())
}

/// Encodes the key of a group.
pub fn group_key(group: &str) -> Result<Bytes, TooLong> {
    let mut out = BytesMut::with_capacity(4 + group.len());
    out.put_i16(GROUP_KEY);
    put_string(&mut out, group)?;
    Ok(out.freeze())
}

/// Decodes a key.
pub fn decode_key(mut key: &[u8]) -> Result<Key, CorruptRecord> {
    let input = &mut key;
    match i16_of(input)? {
        0..=OFFSET_KEY => Ok(Key::Offset {
            group: string(input, false)?,
            topic: string(input, false)?,
            partition: i32_of(input)?,
        }),
        GROUP_KEY => Ok(Key::Group(string(input, false)?)),
        other => Ok(Key::Other(other)),
    }
}

/// Encodes a committed offset: in the newest plain version, or in the one that says when it expires.
pub fn offset_value(committed: &CommittedOffset) -> Result<Bytes, TooLong> {
    let mut out = BytesMut::with_capacity(32 + committed.metadata.len());
    if let Some(expires_ms) = committed.expires_ms {
        out.put_i16(EXPIRING_OFFSET_VALUE);
        out.put_i64(committed.offset);
        put_string(&mut out, &committed.metadata)?;
        out.put_i64(committed.committed_ms);
        out.put_i64(expires_ms);
    } else {
        out.put_i16(OFFSET_VALUE);
        out.put_i64(committed.offset);
        out.put_i32(committed.leader_epoch);
        put_string(&mut out, &committed.metadata)?;
        out.put_i64(committed.committed_ms);
    }
    Ok(out.freeze())
}

/// Decodes a committed offset.
pub fn decode_offset_value(mut value: &[u8]) -> Result<CommittedOffset, CorruptRecord> {
    let input = &mut value;
    let version = i16_of(input)?;
    if !(0..=4).contains(&version) {
        return Err(CorruptRecord::Version(version));
    }
    let offset = i64_of(input)?;
    let leader_epoch = if version >= 3 { i32_of(input)? } else { -1 };
    let metadata = string(input, version >= 4)?;
    let committed_ms = i64_of(input)?;
    let expires_ms = if version == EXPIRING_OFFSET_VALUE {
        // -1 stands for "not said".
        Some(i64_of(input)?).filter(|&expires_ms| expires_ms >= 0)
    } else {
        None
    };
    Ok(CommittedOffset {
        offset,
        leader_epoch,
        metadata: metadata.into(),
        committed_ms,
        expires_ms,
    })
}

/// Encodes the state of a group.
pub fn group_value(group: &GroupValue) -> Result<Bytes, TooLong> {
    let mut out = BytesMut::with_capacity(64 + 256 * group.members.len());
    out.put_i16(GROUP_VALUE);
    put_string(&mut out, &group.protocol_type)?;
    out.put_i32(group.generation);
    put_nullable(&mut out, group.protocol.as_deref())?;
    put_nullable(&mut out, group.leader.as_deref())?;
    out.put_i64(group.state_since_ms);
    put_length(&mut out, group.members.len())?;
    for member in &group.members {
        put_string(&mut out, &member.id)?;
        put_nullable(&mut out, member.instance_id.as_deref())?;
        put_string(&mut out, &member.client_id)?;
        put_string(&mut out, &member.client_host)?;
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription)?;
        put_bytes(&mut out, &member.assignment)?;
    }
    Ok(out.freeze())
}

/// Decodes the state of a group.
pub fn decode_group_value(mut value: &[u8]) -> Result<GroupValue, CorruptRecord> {
    let input = &mut value;
    let version = i16_of(input)?;
    if !(0..=4).contains(&version) {
        return Err(CorruptRecord::Version(version));
    }
    let flexible = version >= 4;
    Ok(GroupValue {
        protocol_type: string(input, flexible)?,
        generation: i32_of(input)?,
        protocol: nullable(input, flexible)?,
        leader: nullable(input, flexible)?,
        state_since_ms: if version >= 2 { i64_of(input)? } else { -1 },
        members: members(input, version)?,
    })
}

fn members(input: &mut &[u8], version: i16) -> Result<Vec<MemberValue>, CorruptRecord> {
    let count = length(input, version >= 4, false)?.ok_or(CorruptRecord::Length)?;
    // Nothing is set aside for a count that the bytes may not keep.
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(member(input, version)?);
    }
    Ok(members)
}

fn member(input: &mut &[u8], version: i16) -> Result<MemberValue, CorruptRecord> {
    let flexible = version >= 4;
    let id = string(input, flexible)?;
    let instance_id = if version >= 3 {
        nullable(input, flexible)?
    } else {
        None
    };
    let client_id = string(input, flexible)?;
    let client_host = string(input, flexible)?;
    let timeout_ms = i32_of(input)?;
    // The first version had one time-out for both.
    let session_timeout_ms = if version >= 1 {
        i32_of(input)?
    } else {
        timeout_ms
    };
    let member = MemberValue {
        id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: timeout_ms,
        session_timeout_ms,
        subscription: blob(input, flexible)?,
        assignment: blob(input, flexible)?,
    };
    if flexible {
        skip_tags(input)?;
    }
    Ok(member)
}

/// Reads the topics out of a consumer's subscription (`ConsumerProtocolSubscription`); `None` when it is malformed.
pub fn subscribed_topics(mut subscription: &[u8]) -> Option<Vec<String>> {
    let input = &mut subscription;
    i16_of(input).ok()?;
    let count = length(input, false, false).ok()??;
    let mut topics = Vec::new();
    for _ in 0..count {
        topics.push(string(input, false).ok()?);
    }
    Some(topics)
}

pub(crate) fn put_string(out: &mut BytesMut, text: &str) -> Result<(), TooLong> {
    out.put_i16(i16::try_from(text.len()).map_err(|_| TooLong(text.len()))?);
    out.put_slice(text.as_bytes());
    Ok(())
}

fn put_nullable(out: &mut BytesMut, text: Option<&str>) -> Result<(), TooLong> {
    match text {
        Some(text) => put_string(out, text),
        None => {
            out.put_i16(-1);
            Ok(())
        }
    }
}

pub(super) fn put_length(out: &mut BytesMut, length: usize) -> Result<(), TooLong> {
    out.put_i32(i32::try_from(length).map_err(|_| TooLong(length))?);
    Ok(())
}

pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) -> Result<(), TooLong> {
    put_length(out, bytes.len())?;
    out.put_slice(bytes);
    Ok(())
}

pub(crate) fn i16_of(input: &mut &[u8]) -> Result<i16, CorruptRecord> {
    input.try_get_i16().map_err(|_| CorruptRecord::Truncated)
}

pub(crate) fn i32_of(input: &mut &[u8]) -> Result<i32, CorruptRecord> {
    input.try_get_i32().map_err(|_| CorruptRecord::Truncated)
}

pub(crate) fn i64_of(input: &mut &[u8]) -> Result<i64, CorruptRecord> {
    input.try_get_i64().map_err(|_| CorruptRecord::Truncated)
}

/// Reads a length: compact ones are one more than they mean, and 0 is null.
pub(crate) fn length(
    input: &mut &[u8],
    compact: bool,
    short: bool,
) -> Result<Option<usize>, CorruptRecord> {
    let length = if compact {
        i64::from(varint(input)?) - 1
    } else if short {
        i64::from(i16_of(input)?)
    } else {
        i64::from(i32_of(input)?)
    };
    match length {
        -1 => Ok(None),
        length => usize::try_from(length)
            .map(Some)
            .map_err(|_| CorruptRecord::Length),
    }
}

pub(crate) fn varint(input: &mut &[u8]) -> Result<u32, CorruptRecord> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = input.try_get_u8().map_err(|_| CorruptRecord::Truncated)?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(CorruptRecord::Length)
}

pub(crate) fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], CorruptRecord> {
    let (taken, rest) = input
        .split_at_checked(length)
        .ok_or(CorruptRecord::Truncated)?;
    *input = rest;
    Ok(taken)
}

pub(super) fn nullable(input: &mut &[u8], compact: bool) -> Result<Option<String>, CorruptRecord> {
    let Some(length) = length(input, compact, true)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(take(input, length)?).map_err(|_| CorruptRecord::Text)?;
    Ok(Some(text.to_owned()))
}

pub(crate) fn string(input: &mut &[u8], compact: bool) -> Result<String, CorruptRecord> {
    nullable(input, compact)?.ok_or(CorruptRecord::Length)
}

pub(super) fn blob(input: &mut &[u8], compact: bool) -> Result<Bytes, CorruptRecord> {
    let length = length(input, compact, false)?.ok_or(CorruptRecord::Length)?;
    Ok(Bytes::copy_from_slice(take(input, length)?))
}

pub(crate) fn skip_tags(input: &mut &[u8]) -> Result<(), CorruptRecord> {
    for _ in 0..varint(input)? {
        varint(input)?;
        let size = varint(input)?;
        take(
            input,
            usize::try_from(size).map_err(|_| CorruptRecord::Length)?,
        )?;
    }
    Ok(())
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
