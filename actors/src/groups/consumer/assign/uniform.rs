//! The uniform assignor: everyone gets as many partitions as the others, and keeps of its own what it can.

use super::balance::balance;
use super::{Assignment, Sizes, Subscriber, subscribe_alike};
use crate::groups::consumer::member::{Partitions, TopicIdPartition};

/// Assigns.
pub(super) fn assign(members: &[Subscriber<'_>], sizes: &Sizes) -> Assignment {
    let all: Vec<TopicIdPartition> = sizes
        .iter()
        .flat_map(|(&topic, &count)| (0..count).map(move |partition| (topic, partition)))
        .filter(|(topic, _)| members.iter().any(|m| m.topics.contains(topic)))
        .collect();
    if subscribe_alike(members) {
        assign_alike(members, &all)
    } else {
        balance(members, &all)
    }
}

/// Assigns to members that all subscribe to the same topics: everyone keeps what it has up to its share, and the rest
/// fills up those below it.
fn assign_alike(members: &[Subscriber<'_>], all: &[TopicIdPartition]) -> Assignment {
    let share = all.len().checked_div(members.len()).unwrap_or(0);
    let extra = all.len().checked_rem(members.len()).unwrap_or(0);
    // Who has most so far gets one more, where it can't come out even: so it gives less back.
    let mut by_size: Vec<&Subscriber<'_>> = members.iter().collect();
    by_size.sort_by_key(|member| (std::cmp::Reverse(member.current.len()), member.id));
    let mut unassigned: Partitions = all.iter().copied().collect();
    let mut assignment = Assignment::new();
    let mut unfilled = Vec::new();
    for (place, member) in by_size.into_iter().enumerate() {
        let quota = share + usize::from(place < extra);
        let kept = member.current.iter().filter(|p| unassigned.contains(p));
        let kept: Partitions = kept.take(quota).copied().collect();
        for partition in &kept {
            unassigned.remove(partition);
        }
        unfilled.push((member.id, quota - kept.len()));
        assignment.insert(member.id.clone(), kept);
    }
    let mut unassigned = unassigned.into_iter();
    for (id, room) in unfilled {
        if let Some(mine) = assignment.get_mut(id) {
            mine.extend(unassigned.by_ref().take(room));
        }
    }
    assignment
}
