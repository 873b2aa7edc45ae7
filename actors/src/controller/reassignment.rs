//! Where a partition's replicas are, and where they are to go (KIP-455): pure.
//!
//! While a reassignment lasts, a partition's replicas are the targets, then those that there were before. It ends when all
//! targets are in sync; then the others go.

use std::collections::BTreeSet;

use troupe_protocol::kafka::errors::ErrorCode;

use super::topics::AdminError;
use crate::metadata::BrokerId;

/// Which brokers hold a partition, and which are to hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// All replicas; the first one is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// Those of them that a reassignment is adding.
    pub adding: Vec<BrokerId>,
    /// Those of them that a reassignment will remove.
    pub removing: Vec<BrokerId>,
}

impl Assignment {
    /// Makes an assignment that is not on its way to another.
    pub fn settled(replicas: Vec<BrokerId>) -> Self {
        Self {
            replicas,
            adding: Vec::new(),
            removing: Vec::new(),
        }
    }

    /// Tells whether a reassignment is under way.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// Returns the replicas that a reassignment leads to.
    pub fn targets(&self) -> Vec<BrokerId> {
        without(&self.replicas, &self.removing)
    }

    /// Returns the replicas that there were before the reassignment.
    pub fn origins(&self) -> Vec<BrokerId> {
        without(&self.replicas, &self.adding)
    }

    /// Makes the assignment that leads to `targets` from here; without targets, back to where it was.
    ///
    /// Replicas that an earlier reassignment was adding and that are no longer wanted go at once, unless nobody else of
    /// those in sync (`isr`) can lead (`electable`). Then they stay until the end, as both added and to be removed, so that
    /// going back leaves them out too.
    ///
    /// # Errors
    /// NO_REASSIGNMENT_IN_PROGRESS, INVALID_REPLICA_ASSIGNMENT.
    pub fn towards(
        &self,
        targets: Option<&[BrokerId]>,
        isr: &[BrokerId],
        live: &BTreeSet<BrokerId>,
        electable: &BTreeSet<BrokerId>,
    ) -> Result<Self, AdminError> {
        let targets = match targets {
            Some(targets) => targets.to_vec(),
            None if self.is_reassigning() => self.origins(),
            None => return Err(ErrorCode::NoReassignmentInProgress.into()),
        };
        let origins = self.origins();
        check(&targets, &origins, live)?;
        let mut replicas = targets.clone();
        replicas.extend(without(&origins, &targets));
        let can_lead = |id: &BrokerId| isr.contains(id) && electable.contains(id);
        if !replicas.iter().any(can_lead) {
            let unwanted = without(&self.replicas, &replicas).into_iter();
            replicas.extend(unwanted.filter(|id| isr.contains(id)));
        }
        Ok(Self {
            adding: without(&replicas, &origins),
            removing: without(&replicas, &targets),
            replicas,
        })
    }
}

/// Refuses replicas that make no sense; those that are not `there` already have to be alive.
fn check(
    targets: &[BrokerId],
    there: &[BrokerId],
    live: &BTreeSet<BrokerId>,
) -> Result<(), AdminError> {
    let distinct: BTreeSet<BrokerId> = targets.iter().copied().collect();
    let message = if targets.is_empty() {
        "The list of replicas is empty.".to_owned()
    } else if distinct.len() < targets.len() {
        format!("A broker is more than once among the replicas {targets:?}.")
    } else if let Some(id) = targets.iter().find(|id| **id < 0) {
        format!("There is no broker {id}: ids are not negative.")
    } else {
        let mut unknown = without(targets, there).into_iter();
        match unknown.find(|id| !live.contains(id)) {
            Some(id) => format!(
                "Broker {id} of the replicas {targets:?} is not alive, or does not exist; alive are {live:?}."
            ),
            None => return Ok(()),
        }
    };
    Err(AdminError::new(
        ErrorCode::InvalidReplicaAssignment,
        message,
    ))
}

/// Lists what is in `all` and not in `others`, in the order of `all`.
pub(super) fn without(all: &[BrokerId], others: &[BrokerId]) -> Vec<BrokerId> {
    let all = all.iter().copied();
    all.filter(|id| !others.contains(id)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;

    const NONE: &[BrokerId] = &[];

    fn assignment([replicas, adding, removing]: [&[BrokerId]; 3]) -> Assignment {
        Assignment {
            replicas: replicas.to_vec(),
            adding: adding.to_vec(),
            removing: removing.to_vec(),
        }
    }

    #[test]
    fn the_targets_come_first_and_who_was_there_stays_until_the_end() {
        let live = BTreeSet::from([1, 2, 3, 4, 5]);
        for (current, isr, targets, expected) in [
            (
                [&[1, 2][..], NONE, NONE],
                &[1, 2][..],
                Some(&[3, 2][..]),
                [&[3, 2, 1][..], &[3], &[1]],
            ),
            // Only another order.
            (
                [&[1, 2], NONE, NONE],
                &[1, 2],
                Some(&[2, 1]),
                [&[2, 1], NONE, NONE],
            ),
            // In place of an earlier one: 3 goes at once, though it is in sync.
            (
                [&[3, 1], &[3], &[1]],
                &[1, 3],
                Some(&[4]),
                [&[4, 1], &[4], &[1]],
            ),
            // 3 is all that there is.
            (
                [&[3, 1], &[3], &[1]],
                &[3],
                Some(&[4]),
                [&[4, 1, 3], &[4, 3], &[1, 3]],
            ),
            // Going back.
            ([&[3, 1], &[3], &[1]], &[1, 3], None, [&[1], NONE, NONE]),
            ([&[3, 1], &[3], &[1]], &[3], None, [&[1, 3], &[3], &[3]]),
        ] {
            let found = assignment(current).towards(targets, isr, &live, &live);
            assert_eq!(
                found,
                Ok(assignment(expected)),
                "{current:?} {isr:?} {targets:?}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let live = BTreeSet::from([1, 2]);
        let there = assignment([&[1, 7], NONE, NONE]);
        let refused = |targets: Option<&[BrokerId]>| {
            let refused = there.towards(targets, &[1], &live, &live);
            refused.map_err(|error| (error.code, error.message))
        };
        let (code, _) = refused(None).expect_err("nothing is under way");
        assert_eq!(code, ErrorCode::NoReassignmentInProgress);
        for (targets, named) in [
            (&[][..], "empty"),
            (&[1, 1], "more than once"),
            (&[1, 9], "Broker 9"),
            (&[1, -1], "broker -1"),
        ] {
            let (code, message) = refused(Some(targets)).expect_err("refused");
            assert_eq!(code, ErrorCode::InvalidReplicaAssignment);
            assert!(message.contains(named), "{message}");
        }
        // One that is away may stay.
        assert!(refused(Some(&[7, 2])).is_ok());
    }

    proptest! {
        #[test]
        fn every_way_leads_there_and_back(
            steps in prop::collection::vec(prop::option::of(subsequence(vec![1, 2, 3, 4, 5], 1..=4)), 1..6),
            isr in subsequence(vec![1, 2, 3, 4, 5], 1..=5),
        ) {
            let live = BTreeSet::from([1, 2, 3, 4, 5]);
            let home = vec![1, 2];
            let mut current = Assignment::settled(home.clone());
            for targets in steps {
                let Ok(next) = current.towards(targets.as_deref(), &isr, &live, &live) else {
                    prop_assert!(targets.is_none() && !current.is_reassigning());
                    continue;
                };
                let goal: BTreeSet<_> = targets.unwrap_or_else(|| current.origins()).into_iter().collect();
                prop_assert_eq!(next.targets().into_iter().collect::<BTreeSet<_>>(), goal);
                let origins: BTreeSet<_> = next.origins().into_iter().collect();
                if next.is_reassigning() {
                    prop_assert_eq!(&origins, &home.iter().copied().collect(), "{:?}", next);
                } else {
                    // Where nothing is added or removed, that is home from then on.
                    prop_assert_eq!(origins, next.replicas.iter().copied().collect());
                }
                // Nobody is left without anybody to copy from.
                let leads = |assignment: &Assignment| assignment.replicas.iter().any(|id| isr.contains(id));
                prop_assert!(!leads(&current) || leads(&next), "{:?} to {:?}", current, next);
                current = if next.is_reassigning() { next } else { Assignment::settled(home.clone()) };
            }
        }
    }
}
