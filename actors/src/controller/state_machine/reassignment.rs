//! Partitions on their way to other brokers (KIP-455).
//!
//! While it lasts, a partition's replicas are the targets, then those that there were before. It ends when all targets are
//! in sync ([`super::settle`]): then the others go.

use std::collections::{BTreeMap, BTreeSet};

use troupe_protocol::kafka::errors::ErrorCode;

use super::context::{Assignment, Partition, without};
use super::draft::Draft;
use crate::metadata::BrokerId;
use crate::partition::TopicPartition;

impl Draft {
    /// Starts reassignments to the given replicas in place of any that are under way, or, without replicas, goes back.
    pub(super) fn reassign(&mut self, asked: BTreeMap<TopicPartition, Option<Vec<BrokerId>>>) {
        let epoch = self.context.controller_epoch;
        for (name, targets) in asked {
            match self.reassigned(&name, targets) {
                Ok(assignment) => {
                    if let Some(partition) = self.context.partition_mut(&name)
                        && partition.assignment != assignment
                    {
                        partition.assignment = assignment;
                        // Replicas take a new assignment only with a new leader epoch.
                        let leadership = partition.leadership.as_mut();
                        if let Some(current) = leadership {
                            *current = current.next(current.leader, current.isr.clone(), epoch);
                        }
                    }
                }
                Err(code) => _ = self.refused.insert(name, code),
            }
        }
    }

    fn reassigned(
        &self,
        name: &TopicPartition,
        targets: Option<Vec<BrokerId>>,
    ) -> Result<Assignment, ErrorCode> {
        let partition = self.context.partition(name);
        let partition = partition
            .filter(|_| !self.context.deletions.contains_key(&name.topic))
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let assignment = &partition.assignment;
        let targets = match targets {
            Some(targets) => targets,
            None if assignment.is_reassigning() => assignment.origins(),
            None => return Err(ErrorCode::NoReassignmentInProgress),
        };
        let distinct: BTreeSet<&BrokerId> = targets.iter().collect();
        let mut unknown = without(&targets, &assignment.replicas).into_iter();
        if targets.is_empty()
            || distinct.len() < targets.len()
            || unknown.any(|id| !self.context.brokers.contains_key(&id))
        {
            return Err(ErrorCode::InvalidReplicaAssignment);
        }
        Ok(towards(&targets, partition, &self.context.electable()))
    }
}

/// Makes the assignment that leads a partition to `targets`.
///
/// Replicas that an earlier reassignment was adding and that are no longer wanted go at once, as with Kafka; unless
/// nobody else in sync can lead. Then they stay until the end, as both added and to be removed, so that going back leaves
/// them out too.
fn towards(
    targets: &[BrokerId],
    partition: &Partition,
    electable: &BTreeSet<BrokerId>,
) -> Assignment {
    let current = &partition.assignment;
    let origins = current.origins();
    let isr = partition.leadership.iter().flat_map(|found| &found.isr);
    let isr: Vec<BrokerId> = isr.copied().collect();
    let mut replicas = targets.to_vec();
    replicas.extend(without(&origins, targets));
    let can_lead = |id: &BrokerId| isr.contains(id) && electable.contains(id);
    if !replicas.iter().any(can_lead) {
        let unwanted = without(&current.replicas, &replicas).into_iter();
        replicas.extend(unwanted.filter(|id| isr.contains(id)));
    }
    Assignment {
        adding: without(&replicas, &origins),
        removing: without(&replicas, targets),
        replicas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::state_machine::Leadership;

    fn partition(assignment: [&[BrokerId]; 3], isr: &[BrokerId]) -> Partition {
        let [replicas, adding, removing] = assignment.map(<[BrokerId]>::to_vec);
        Partition {
            assignment: Assignment {
                replicas,
                adding,
                removing,
            },
            leadership: Some(Leadership {
                leader: isr[0],
                leader_epoch: 0,
                isr: isr.to_vec(),
                controller_epoch: 1,
                zk_version: 0,
            }),
        }
    }

    #[test]
    fn the_targets_come_first_and_who_was_there_stays_until_the_end() {
        let electable = BTreeSet::from([1, 2, 3, 4, 5]);
        let none: &[BrokerId] = &[];
        for (current, isr, targets, expected) in [
            (
                [&[1, 2][..], none, none],
                &[1, 2][..],
                &[3, 2][..],
                [&[3, 2, 1][..], &[3], &[1]],
            ),
            // Only another order.
            (
                [&[1, 2], none, none],
                &[1, 2],
                &[2, 1],
                [&[2, 1], none, none],
            ),
            // In place of an earlier one: 3 goes at once, though it is in sync.
            ([&[3, 1], &[3], &[1]], &[1, 3], &[4], [&[4, 1], &[4], &[1]]),
            // 3 is all that there is.
            (
                [&[3, 1], &[3], &[1]],
                &[3],
                &[4],
                [&[4, 1, 3], &[4, 3], &[1, 3]],
            ),
            // Going back.
            ([&[3, 1], &[3], &[1]], &[1, 3], &[1], [&[1], none, none]),
            ([&[3, 1], &[3], &[1]], &[3], &[1], [&[1, 3], &[3], &[3]]),
        ] {
            let found = towards(targets, &partition(current, isr), &electable);
            let found = [&found.replicas[..], &found.adding, &found.removing];
            assert_eq!(found, expected, "{current:?} {isr:?} {targets:?}");
        }
    }
}
