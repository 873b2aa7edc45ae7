//! What consumers say within the classic protocol: subscriptions and assignments, as their clients write them.
//!
//! ```text
//! subscription version:i16 topics:[string] user_data:bytes?   1…: owned:[topic:string [i32]]  2…: generation:i32  3…: rack:string?
//! assignment   version:i16 assigned:[topic:string [i32]] user_data:bytes?
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::member::{Partitions, by_topic};
use super::topics::Topics;
use crate::internal_topic::fields::{CorruptRecord, Reader, TooLong, Writer};

/// The newest version of both.
const NEWEST: i16 = 3;

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topics.
    pub topics: BTreeSet<Arc<str>>,
    /// What the member owns, as far as the topics exist.
    pub owned: Partitions,
    /// Where the member is.
    pub rack_id: Option<Arc<str>>,
}

/// Reads a subscription.
///
/// # Errors
/// It is malformed.
pub fn subscription(bytes: &[u8], known: &Topics) -> Result<Subscription, CorruptRecord> {
    let mut input = Reader::plain(bytes);
    let version = input.i16()?;
    let mut topics = BTreeSet::new();
    for _ in 0..count(&mut input)? {
        topics.insert(input.string()?.into());
    }
    // User data.
    input.nullable_bytes()?;
    let owned = if version >= 1 {
        partitions(&mut input, known)?
    } else {
        Partitions::new()
    };
    if version >= 2 {
        // The generation of that ownership.
        input.i32()?;
    }
    let rack_id = if version >= 3 {
        input.nullable_string()?.map(Arc::from)
    } else {
        None
    };
    Ok(Subscription {
        topics,
        owned,
        rack_id,
    })
}

/// Reads an assignment, as far as its topics exist.
///
/// # Errors
/// It is malformed.
pub fn assigned(bytes: &[u8], known: &Topics) -> Result<Partitions, CorruptRecord> {
    if bytes.is_empty() {
        return Ok(Partitions::new());
    }
    let mut input = Reader::plain(bytes);
    input.i16()?;
    partitions(&mut input, known)
}

/// Writes an assignment, in the version in which the member wrote its subscription.
///
/// # Errors
/// The name of a topic does not fit.
pub fn assignment(
    partitions: &Partitions,
    subscription: &[u8],
    known: &Topics,
) -> Result<Bytes, TooLong> {
    let version = Reader::plain(subscription).i16();
    let topics = by_topic(partitions);
    let named: Vec<(&Arc<str>, Vec<i32>)> = topics
        .into_iter()
        .filter_map(|(id, numbers)| Some((known.name(id)?, numbers)))
        .collect();
    let mut out = Writer::plain(version.unwrap_or(0).clamp(0, NEWEST));
    out.count(named.len());
    for (name, numbers) in named {
        out.string(name);
        out.count(numbers.len());
        for number in numbers {
            out.i32(number);
        }
    }
    // No user data.
    out.nullable_count(None);
    out.finish()
}

fn count(input: &mut Reader<'_>) -> Result<usize, CorruptRecord> {
    Ok(input.nullable_count()?.unwrap_or(0))
}

fn partitions(input: &mut Reader<'_>, known: &Topics) -> Result<Partitions, CorruptRecord> {
    let mut partitions = Partitions::new();
    for _ in 0..count(input)? {
        let topic = known.get(input.string()?);
        for _ in 0..count(input)? {
            let number = input.i32()?;
            let topic = topic.filter(|topic| (0..topic.partitions).contains(&number));
            partitions.extend(topic.map(|topic| (topic.id, number)));
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::topics::Topic;
    use super::*;

    fn topics() -> Topics {
        let topic = Topic {
            id: Uuid::from_u128(1),
            partitions: 4,
        };
        Topics::new(1, [(Arc::from("t"), topic)].into())
    }

    #[test]
    fn subscriptions_of_all_versions_are_read() {
        let oldest = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";
        let read = subscription(oldest, &topics()).unwrap();
        assert_eq!(read.topics, ["t".into()].into());
        assert_eq!((read.owned.len(), read.rack_id), (0, None));
        let newest = b"\0\x03\0\0\0\x01\0\x01t\0\0\0\x01x\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x01\0\0\0\x09\0\0\0\x05\0\x01r";
        let read = subscription(newest, &topics()).unwrap();
        assert_eq!(read.owned, [(Uuid::from_u128(1), 1)].into());
        assert_eq!(read.rack_id.as_deref(), Some("r"));
    }

    #[test]
    fn an_assignment_is_read_as_it_is_written() {
        let partitions: Partitions = [(Uuid::from_u128(1), 0), (Uuid::from_u128(1), 2)].into();
        let bytes = assignment(&partitions, b"\0\x01", &topics()).unwrap();
        let expected: &[u8] =
            b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x02\xff\xff\xff\xff";
        assert_eq!(&bytes[..], expected);
        assert_eq!(assigned(&bytes, &topics()), Ok(partitions));
        assert_eq!(assigned(b"", &topics()), Ok(Partitions::new()));
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_but_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), version in 0u8..5) {
            let mut versioned = vec![0, version];
            versioned.extend(&bytes);
            let _ = subscription(&versioned, &topics());
            let _ = assigned(&versioned, &topics());
        }
    }
}
