//! The assignor `simple`: gives out partitions that may be shared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

/// Partitions by topic id.
pub type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// A topic as far as assignors are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
}

/// Assigns the partitions of each topic to those who subscribe to it: each partition has a member, each member a
/// partition, and neither has more than it must.
pub fn assign(
    subscriptions: &BTreeMap<Arc<str>, BTreeSet<String>>,
    topics: &BTreeMap<String, Topic>,
) -> BTreeMap<Arc<str>, Assignment> {
    let members = subscriptions.keys();
    let mut assignments: BTreeMap<_, Assignment> = members
        .map(|member| (Arc::clone(member), Assignment::new()))
        .collect();
    // Whoever is first in one topic is not first in the next, so that topics with few partitions spread as well.
    let mut shift = 0;
    for (name, topic) in topics {
        let subscribers = subscriptions
            .iter()
            .filter(|(_, topics)| topics.contains(name));
        let subscribers: Vec<&Arc<str>> = subscribers.map(|(member, _)| member).collect();
        let partitions = usize::try_from(topic.partitions).unwrap_or(0);
        if subscribers.is_empty() || partitions == 0 {
            continue;
        }
        let rounds = partitions.max(subscribers.len());
        let members = subscribers.iter().cycle().skip(shift % subscribers.len());
        let partitions = (0..topic.partitions).cycle();
        for (member, partition) in members.zip(partitions).take(rounds) {
            let assignment = assignments.entry(Arc::clone(member)).or_default();
            assignment.entry(topic.id).or_default().insert(partition);
        }
        shift += rounds;
    }
    assignments
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_partition_is_shared() {
        let topics = BTreeMap::from([(
            "t".to_owned(),
            Topic {
                id: Uuid::from_u128(1),
                partitions: 1,
            },
        )]);
        let subscription = BTreeSet::from(["t".to_owned()]);
        let members = ["a", "b"].map(|member| (Arc::from(member), subscription.clone()));
        let assignments = assign(&BTreeMap::from(members), &topics);
        let expected = Assignment::from([(Uuid::from_u128(1), BTreeSet::from([0]))]);
        assert_eq!(assignments["a"], expected);
        assert_eq!(assignments["b"], expected);
    }

    proptest! {
        #[test]
        fn everything_is_covered_evenly(
            partitions in prop::collection::vec(0i32..8, 1..5),
            subscriptions in prop::collection::vec(0u8..32, 0..8),
        ) {
            let topics: BTreeMap<String, Topic> = (0u8..).zip(&partitions).map(|(number, &partitions)| {
                (number.to_string(), Topic { id: Uuid::from_u128(number.into()), partitions })
            }).collect();
            let subscribed = |bits: u8| (0u8..5).filter(move |bit| bits & 1 << bit != 0).map(|bit| bit.to_string());
            let members: BTreeMap<Arc<str>, BTreeSet<String>> = subscriptions.iter().enumerate()
                .map(|(number, &bits)| (number.to_string().into(), subscribed(bits).collect()))
                .collect();
            let assignments = assign(&members, &topics);
            prop_assert_eq!(assignments.len(), members.len());
            for (name, topic) in &topics {
                let subscribers: Vec<_> = members.iter().filter(|(_, topics)| topics.contains(name)).collect();
                let counts: Vec<usize> = subscribers.iter()
                    .map(|(member, _)| assignments[*member].get(&topic.id).map_or(0, BTreeSet::len))
                    .collect();
                let covered: BTreeSet<i32> = assignments.values()
                    .filter_map(|assignment| assignment.get(&topic.id))
                    .flatten().copied().collect();
                let expected: BTreeSet<i32> = if subscribers.is_empty() { BTreeSet::new() } else { (0..topic.partitions).collect() };
                prop_assert_eq!(covered, expected);
                if topic.partitions > 0 {
                    prop_assert!(counts.iter().all(|count| *count > 0), "{:?}", counts);
                    let spread = counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0);
                    prop_assert!(spread <= 1, "{:?}", counts);
                }
            }
            for (member, assignment) in &assignments {
                for id in assignment.keys() {
                    let (name, _) = topics.iter().find(|(_, topic)| topic.id == *id).unwrap();
                    prop_assert!(members[member].contains(name));
                }
            }
        }
    }
}
