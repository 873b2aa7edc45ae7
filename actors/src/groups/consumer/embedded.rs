//! What consumers say within the classic protocol: subscriptions and assignments, as their clients write them.
//!
//! ```text
//! subscription version:i16 topics:[string] user_data:bytes?   1…: owned:[topic:string [i32]]  2…: generation:i32  3…: rack:string?
//! assignment   version:i16 assigned:[topic:string [i32]] user_data:bytes?
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::member::{Partitions, by_topic};
use super::topics::Topics;
use crate::groups::records::{
    CorruptRecord, TooLong, i16_of, i32_of, length, nullable, put_length, put_string, string, take,
};

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
pub fn subscription(mut bytes: &[u8], known: &Topics) -> Result<Subscription, CorruptRecord> {
    let input = &mut bytes;
    let version = i16_of(input)?;
    let mut topics = BTreeSet::new();
    for _ in 0..count(input)? {
        topics.insert(string(input, false)?.into());
    }
    skip_user_data(input)?;
    let owned = if version >= 1 {
        partitions(input, known)?
    } else {
        Partitions::new()
    };
    if version >= 2 {
        // The generation of that ownership.
        i32_of(input)?;
    }
    let rack_id = if version >= 3 {
        nullable(input, false)?.map(Arc::from)
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
pub fn assigned(mut bytes: &[u8], known: &Topics) -> Result<Partitions, CorruptRecord> {
    if bytes.is_empty() {
        return Ok(Partitions::new());
    }
    let input = &mut bytes;
    i16_of(input)?;
    partitions(input, known)
}

/// Writes an assignment, in the version in which the member wrote its subscription.
///
/// # Errors
/// The name of a topic does not fit.
pub fn assignment(
    partitions: &Partitions,
    mut subscription: &[u8],
    known: &Topics,
) -> Result<Bytes, TooLong> {
    let version = i16_of(&mut subscription).unwrap_or(0).clamp(0, NEWEST);
    let topics = by_topic(partitions);
    let named: Vec<(&Arc<str>, Vec<i32>)> = topics
        .into_iter()
        .filter_map(|(id, numbers)| Some((known.name(id)?, numbers)))
        .collect();
    let mut out = BytesMut::new();
    out.put_i16(version);
    put_length(&mut out, named.len())?;
    for (name, numbers) in named {
        put_string(&mut out, name)?;
        put_length(&mut out, numbers.len())?;
        for number in numbers {
            out.put_i32(number);
        }
    }
    // No user data.
    out.put_i32(-1);
    Ok(out.freeze())
}

fn count(input: &mut &[u8]) -> Result<usize, CorruptRecord> {
    Ok(length(input, false, false)?.unwrap_or(0))
}

fn skip_user_data(input: &mut &[u8]) -> Result<(), CorruptRecord> {
    let size = count(input)?;
    take(input, size).map(drop)
}

fn partitions(input: &mut &[u8], known: &Topics) -> Result<Partitions, CorruptRecord> {
    let mut partitions = Partitions::new();
    for _ in 0..count(input)? {
        let topic = known.get(&string(input, false)?);
        for _ in 0..count(input)? {
            let number = i32_of(input)?;
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
