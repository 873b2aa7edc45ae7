//! The range assignor: of each topic everyone gets a range, in the order of the members.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Assignment, Sizes, Subscriber};

/// What is left of a topic.
struct Rest {
    next: i32,
    /// How many each member gets at least.
    quota: i32,
    /// How many members get one more.
    extra: i32,
}

/// Assigns: static members first, by their names, then the others by their ids. Where all topics have as many
/// partitions and all members subscribe to them, everyone gets the same numbers of each.
pub(super) fn assign(members: &[Subscriber<'_>], sizes: &Sizes) -> Assignment {
    let mut members: Vec<&Subscriber<'_>> = members.iter().collect();
    members.sort_by_key(|member| (member.instance_id.is_none(), member.instance_id, member.id));
    let mut rests: BTreeMap<Uuid, Rest> = BTreeMap::new();
    for (&topic, &partitions) in sizes {
        let subscribers = members.iter().filter(|m| m.topics.contains(&topic));
        let subscribers = i32::try_from(subscribers.count()).unwrap_or(i32::MAX);
        let rest = Rest {
            next: 0,
            quota: partitions.checked_div(subscribers).unwrap_or(0),
            extra: partitions.checked_rem(subscribers).unwrap_or(0),
        };
        rests.insert(topic, rest);
    }
    let mut assignment = Assignment::new();
    for member in members {
        let mine = assignment.entry(member.id.clone()).or_default();
        for topic in &member.topics {
            let Some(rest) = rests.get_mut(topic) else {
                continue;
            };
            let more = i32::from(rest.extra > 0);
            rest.extra -= more;
            let end = rest.next.saturating_add(rest.quota).saturating_add(more);
            mine.extend((rest.next..end).map(|partition| (*topic, partition)));
            rest.next = end;
        }
    }
    assignment
}
