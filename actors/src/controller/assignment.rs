//! Which brokers get the replicas of a new partition.

use std::collections::BTreeMap;

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
}

/// Spreads `partitions` new partitions, the first of them numbered `first`, over `brokers`.
///
/// As Kafka does without racks: leaders go round robin from `start`; the followers of each partition are the next
/// brokers, shifted by one more each time the leaders have gone round.
pub fn assign(
    brokers: &[BrokerId],
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
    Ok((first..first.saturating_add(partitions))
        .map(|partition| {
            let index = usize::try_from(partition).unwrap_or_default();
            (partition, place(brokers, index, replicas, start))
        })
        .collect())
}

fn place(brokers: &[BrokerId], partition: usize, replicas: usize, start: usize) -> Vec<BrokerId> {
    let count = brokers.len();
    let leader = (start + partition) % count;
    let others = count.saturating_sub(1).max(1);
    let shift = start + partition / count;
    let followers = (0..replicas - 1).map(|n| (leader + 1 + (shift + n) % others) % count);
    std::iter::once(leader)
        .chain(followers)
        .filter_map(|index| brokers.get(index).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_broker_gets_everything() {
        assert_eq!(
            assign(&[7], 0, 2, 1, 3),
            Ok(BTreeMap::from([(0, vec![7]), (1, vec![7])]))
        );
    }

    #[test]
    fn more_replicas_than_brokers_are_refused_in_kafkas_words() {
        assert_eq!(
            assign(&[0], 0, 1, 2, 0).unwrap_err().to_string(),
            "Replication factor: 2 larger than available brokers: 1."
        );
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_leaders_even(
            count in 1i32..8, partitions in 1i32..60, wanted in 1i32..8, start in 0usize..20, first in 0i32..9,
        ) {
            let brokers: Vec<BrokerId> = (100..100 + count).collect();
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
