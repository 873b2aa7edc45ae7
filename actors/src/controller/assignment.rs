//! Which brokers get the replicas of a new partition.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::metadata::BrokerId;

/// Why partitions can't be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// INVALID_PARTITIONS
    #[error("Number of partitions must be larger than 0.")]
    Partitions,
    /// INVALID_REPLICATION_FACTOR
    #[error("Replication factor must be larger than 0.")]
    ReplicationFactor,
    /// INVALID_REPLICATION_FACTOR
    #[error("Replication factor: {wanted} larger than available brokers: {available}.")]
    TooFewBrokers {
        /// Replicas asked for.
        wanted: i32,
        /// Brokers alive.
        available: usize,
    },
    /// UNKNOWN_SERVER_ERROR
    #[error("Not all brokers have rack information for replica rack aware assignment.")]
    SomeRacks,
}

/// A broker that may get replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its id.
    pub id: BrokerId,
    /// Where it stands (`broker.rack`).
    pub rack: Option<&'a str>,
}

/// Spreads `partitions` new partitions, the first of them numbered `first`, over the brokers.
///
/// As Kafka does (KIP-36): leaders go round robin from `start`; the followers of each partition are the next brokers, shifted
/// by one more each time the leaders have gone round. With racks, brokers of different racks take turns, and no rack gets a
/// second replica of a partition before each has one.
pub fn assign(
    brokers: &[Place<'_>],
    first: i32,
    partitions: i32,
    replication_factor: i32,
    start: usize,
) -> Result<BTreeMap<i32, Vec<BrokerId>>, PlacementError> {
    if partitions <= 0 {
        return Err(PlacementError::Partitions);
    }
    let replicas = usize::try_from(replication_factor)
        .ok()
        .filter(|&replicas| replicas > 0)
        .ok_or(PlacementError::ReplicationFactor)?;
    if replicas > brokers.len() {
        return Err(PlacementError::TooFewBrokers {
            wanted: replication_factor,
            available: brokers.len(),
        });
    }
    let with_rack = brokers.iter().filter(|place| place.rack.is_some()).count();
    if with_rack > 0 && with_rack < brokers.len() {
        return Err(PlacementError::SomeRacks);
    }
    let ring = Ring::of(brokers);
    let rounds = |partition: i32| usize::try_from(partition).unwrap_or(0) / brokers.len();
    let before = rounds(first.saturating_sub(1));
    let placed = (first..first.saturating_add(partitions)).map(|partition| {
        let leader = start + usize::try_from(partition).unwrap_or_default();
        // Kafka counts only the rounds that end among the new partitions.
        let shift = start + rounds(partition) - before;
        (partition, ring.place(leader, shift, replicas))
    });
    Ok(placed.collect())
}

/// The brokers in the order in which they take turns: each next one in another rack, as far as that goes.
struct Ring<'a> {
    brokers: Vec<Place<'a>>,
    /// How many racks there are; one, where nobody says where it stands.
    racks: usize,
}

impl<'a> Ring<'a> {
    fn of(brokers: &[Place<'a>]) -> Self {
        let mut by_rack: BTreeMap<Option<&str>, VecDeque<Place<'a>>> = BTreeMap::new();
        for place in brokers {
            by_rack.entry(place.rack).or_default().push_back(*place);
        }
        let mut ring = Vec::with_capacity(brokers.len());
        while ring.len() < brokers.len() {
            ring.extend(by_rack.values_mut().filter_map(VecDeque::pop_front));
        }
        Self {
            brokers: ring,
            racks: by_rack.len(),
        }
    }

    /// Chooses a leader and its followers, which are the next ones after a gap, of every rack one first. There are at least as
    /// many brokers as replicas.
    fn place(&self, leader: usize, shift: usize, replicas: usize) -> Vec<BrokerId> {
        let count = self.brokers.len();
        let leader = leader % count;
        let others = count.saturating_sub(1).max(1);
        let turns = (0..others).map(|n| (leader + 1 + (shift * self.racks + n) % others) % count);
        // Round and round: who was passed over for its rack has another turn.
        let turns = std::iter::once(leader).chain(turns.cycle());
        let mut racks = BTreeSet::new();
        let mut chosen = Vec::with_capacity(replicas);
        for place in turns.filter_map(|index| self.brokers.get(index)) {
            let is_due = racks.len() == self.racks || !racks.contains(&place.rack);
            if is_due && !chosen.contains(&place.id) {
                racks.insert(place.rack);
                chosen.push(place.id);
            }
            if chosen.len() == replicas {
                break;
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn anywhere(ids: impl IntoIterator<Item = BrokerId>) -> Vec<Place<'static>> {
        let ids = ids.into_iter();
        ids.map(|id| Place { id, rack: None }).collect()
    }

    fn in_racks(racks: &[&'static str]) -> Vec<Place<'static>> {
        let racks = (0..).zip(racks);
        racks
            .map(|(id, rack)| Place {
                id,
                rack: Some(rack),
            })
            .collect()
    }

    #[test]
    fn one_broker_gets_everything() {
        assert_eq!(
            assign(&anywhere([7]), 0, 2, 1, 3),
            Ok(BTreeMap::from([(0, vec![7]), (1, vec![7])]))
        );
    }

    #[test]
    fn more_replicas_than_brokers_are_refused_in_kafkas_words() {
        assert_eq!(
            assign(&anywhere([0]), 0, 1, 2, 0).unwrap_err().to_string(),
            "Replication factor: 2 larger than available brokers: 1."
        );
    }

    /// The example in the comment of Kafka's own assignment: five brokers, ten partitions, three replicas.
    #[test]
    fn followers_shift_with_each_round_as_in_kafka() {
        let assignment = assign(&anywhere(0..5), 0, 10, 3, 0).unwrap();
        let expected = [
            [0, 1, 2],
            [1, 2, 3],
            [2, 3, 4],
            [3, 4, 0],
            [4, 0, 1],
            [0, 2, 3],
            [1, 3, 4],
            [2, 4, 0],
            [3, 0, 1],
            [4, 1, 2],
        ];
        assert!(assignment.values().eq(&expected), "{assignment:?}");
    }

    /// The example of KIP-36: six brokers in three racks, which take turns as 0, 3, 1, 5, 4, 2.
    #[test]
    fn racks_take_turns_as_in_kafka() {
        let brokers = in_racks(&["rack1", "rack3", "rack3", "rack2", "rack2", "rack1"]);
        let assignment = assign(&brokers, 0, 6, 3, 0).unwrap();
        let expected = [
            [0, 3, 1],
            [3, 1, 5],
            [1, 5, 4],
            [5, 4, 2],
            [4, 2, 0],
            [2, 0, 3],
        ];
        assert!(assignment.values().eq(&expected), "{assignment:?}");
    }

    #[test]
    fn without_the_racks_of_some_brokers_nothing_is_placed() {
        let mut brokers = in_racks(&["a", "b"]);
        brokers.extend(anywhere([9]));
        assert_eq!(assign(&brokers, 0, 1, 1, 0), Err(PlacementError::SomeRacks));
    }

    #[test]
    fn what_is_added_goes_on_from_the_first_leader() {
        let all = assign(&anywhere(0..3), 0, 3, 2, 0).unwrap();
        let added = assign(&anywhere(0..3), 2, 1, 2, 0).unwrap();
        assert_eq!(added[&2], all[&2]);
    }

    proptest! {
        #[test]
        fn no_rack_gets_a_second_replica_before_each_has_one(
            racks in proptest::collection::vec(0usize..4, 1..9),
            partitions in 1i32..40, wanted in 1usize..9, start in 0usize..20, first in 0i32..9,
        ) {
            let names = ["a", "b", "c", "d"];
            let of: Vec<&str> = racks.iter().map(|&rack| names[rack]).collect();
            let distinct: BTreeSet<&str> = of.iter().copied().collect();
            let replicas = wanted.min(of.len());
            let brokers = in_racks(&of);
            let assignment = assign(&brokers, first, partitions, i32::try_from(replicas).unwrap(), start).unwrap();
            for placed in assignment.values() {
                let ids: BTreeSet<BrokerId> = placed.iter().copied().collect();
                prop_assert_eq!(ids.len(), replicas);
                let used = placed.iter().map(|&id| of[usize::try_from(id).unwrap()]);
                let used: BTreeSet<&str> = used.collect();
                prop_assert_eq!(used.len(), replicas.min(distinct.len()), "{:?}", placed);
            }
        }

        #[test]
        fn replicas_are_distinct_and_leaders_even(
            count in 1i32..8, partitions in 1i32..60, wanted in 1i32..8, start in 0usize..20, first in 0i32..9,
        ) {
            let brokers = anywhere(100..100 + count);
            let replicas = wanted.min(count);
            let assignment = assign(&brokers, first, partitions, replicas, start).unwrap();
            let mut leads = BTreeMap::<BrokerId, i32>::new();
            for replicas_of in assignment.values() {
                let mut distinct = replicas_of.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), usize::try_from(replicas).unwrap());
                *leads.entry(replicas_of[0]).or_default() += 1;
            }
            let most = leads.values().copied().max().unwrap();
            prop_assert!(most <= partitions / count + 1, "{leads:?}");
        }
    }
}
