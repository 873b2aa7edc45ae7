//! What a member of a consumer group is assigned: the bytes of Kafka's consumer protocol.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};

/// Partitions by topic, in the order of the topics' names.
pub(super) type Assignment = BTreeMap<String, Vec<i32>>;

/// Decodes `version: i16, [topic, [partition: i32]], user data`; `None` where the bytes are not that.
///
/// No bytes at all are an assignment of nothing: a member that has not been given any yet.
pub(super) fn parse(mut bytes: Bytes) -> Option<Assignment> {
    let mut assignment = Assignment::new();
    if bytes.is_empty() {
        return Some(assignment);
    }
    bytes.try_get_i16().ok()?;
    for _ in 0..bytes.try_get_i32().ok()? {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        if length > bytes.len() {
            return None;
        }
        let topic = String::from_utf8(bytes.split_to(length).to_vec()).ok()?;
        let partitions = assignment.entry(topic).or_default();
        for _ in 0..bytes.try_get_i32().ok()? {
            partitions.push(bytes.try_get_i32().ok()?);
        }
        partitions.sort_unstable();
    }
    Some(assignment)
}

/// Shows an assignment as `--verbose` does: `t(0,1), u(0)`.
pub(super) fn show(assignment: &Assignment) -> String {
    let topics = assignment.iter().map(|(topic, partitions)| {
        let partitions: Vec<_> = partitions.iter().map(i32::to_string).collect();
        format!("{topic}({})", partitions.join(","))
    });
    topics.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::*;

    fn encoded() -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(1);
        bytes.put_i32(2);
        for (topic, partitions) in [("u", &[0][..]), ("t", &[10, 2])] {
            bytes.put_i16(1);
            bytes.put_slice(topic.as_bytes());
            bytes.put_i32(partitions.len() as i32);
            for partition in partitions {
                bytes.put_i32(*partition);
            }
        }
        bytes.put_i32(-1);
        bytes.freeze()
    }

    #[test]
    fn shows_topics_and_partitions_in_order() {
        assert_eq!(show(&parse(encoded()).unwrap()), "t(2,10), u(0)");
        assert_eq!(show(&parse(Bytes::new()).unwrap()), "");
    }

    #[test]
    fn what_is_cut_short_is_no_assignment() {
        let user_data = 4;
        for length in 1..encoded().len() - user_data {
            assert_eq!(parse(encoded().slice(..length)), None, "{length} bytes");
        }
    }
}
