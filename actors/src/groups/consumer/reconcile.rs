//! Leads a member from what it has to what it is to have: first it gives back, then it gets what is free.
//!
//! ```text
//!             target is newer, something to give back
//!   Stable ──────────────────────────────────────────▶ UnrevokedPartitions
//!     ▲ ▲                                                      │ given back
//!     │ └───────────── all of the target is free ◀─────────────┤
//!     └──── the rest became free ── UnreleasedPartitions ◀─────┘ others still have to give back
//! ```
//! The member stays in its epoch until it has given back; so who reads a partition in an epoch has it alone.

use super::member::{Current, MemberState, Partitions, TopicIdPartition};

/// What a member is to have.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Since which epoch.
    pub epoch: i32,
    /// The partitions.
    pub partitions: &'a Partitions,
}

/// Returns what a member has next. `owned` is what it says it owns, if it says so; `is_free` tells whether nobody else
/// has a partition.
pub fn next(
    current: &Current,
    target: Target<'_>,
    owned: Option<&Partitions>,
    is_free: impl Fn(&TopicIdPartition) -> bool,
) -> Current {
    match current.state {
        MemberState::Stable if current.epoch == target.epoch => current.clone(),
        MemberState::UnrevokedPartitions if owns(owned, &current.revoking) => current.clone(),
        // It has given back all that its next epoch asked for.
        MemberState::UnrevokedPartitions => {
            let epoch = current.epoch.saturating_add(1);
            towards(current, epoch, target, owned, is_free)
        }
        MemberState::Stable | MemberState::UnreleasedPartitions => {
            towards(current, current.epoch, target, owned, is_free)
        }
    }
}

/// Tells whether a member may still own some of these partitions: one that does not say may.
fn owns(owned: Option<&Partitions>, partitions: &Partitions) -> bool {
    owned.is_none_or(|owned| !owned.is_disjoint(partitions))
}

fn towards(
    current: &Current,
    epoch: i32,
    target: Target<'_>,
    owned: Option<&Partitions>,
    is_free: impl Fn(&TopicIdPartition) -> bool,
) -> Current {
    let kept: Partitions = &current.assigned & target.partitions;
    let revoking: Partitions = &current.assigned - &kept;
    if !revoking.is_empty() && owns(owned, &revoking) {
        return Current {
            epoch,
            previous_epoch: current.epoch,
            state: MemberState::UnrevokedPartitions,
            assigned: kept,
            revoking,
        };
    }
    let missing = target.partitions - &kept;
    let (free, unreleased): (Partitions, Partitions) = missing.into_iter().partition(is_free);
    Current {
        epoch: target.epoch,
        previous_epoch: current.epoch,
        state: if unreleased.is_empty() {
            MemberState::Stable
        } else {
            MemberState::UnreleasedPartitions
        },
        assigned: &kept | &free,
        revoking: Partitions::new(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn partitions(numbers: &[i32]) -> Partitions {
        numbers.iter().map(|&n| (Uuid::nil(), n)).collect()
    }

    fn current(epoch: i32, state: MemberState, assigned: &[i32], revoking: &[i32]) -> Current {
        Current {
            epoch,
            previous_epoch: epoch,
            state,
            assigned: partitions(assigned),
            revoking: partitions(revoking),
        }
    }

    /// Steps towards epoch 9; `taken` is what others have.
    fn step(current: &Current, target: &[i32], owned: Option<&[i32]>, taken: &[i32]) -> Current {
        let (target, owned) = (partitions(target), owned.map(partitions));
        let taken = partitions(taken);
        let target = Target {
            epoch: 9,
            partitions: &target,
        };
        next(current, target, owned.as_ref(), |p| !taken.contains(p))
    }

    #[test]
    fn a_member_gives_back_before_it_gets() {
        let stable = current(5, MemberState::Stable, &[1, 2], &[]);
        let revoking = step(&stable, &[2, 3], None, &[]);
        assert_eq!(
            (revoking.epoch, revoking.state),
            (5, MemberState::UnrevokedPartitions)
        );
        assert_eq!(revoking.assigned, partitions(&[2]));
        assert_eq!(revoking.revoking, partitions(&[1]));
        // It does not say, or still owns it.
        assert_eq!(step(&revoking, &[2, 3], None, &[]), revoking);
        assert_eq!(step(&revoking, &[2, 3], Some(&[1, 2]), &[]), revoking);
        let done = step(&revoking, &[2, 3], Some(&[2]), &[]);
        assert_eq!((done.epoch, done.state), (9, MemberState::Stable));
        assert_eq!(done.assigned, partitions(&[2, 3]));
    }

    #[test]
    fn what_others_have_is_waited_for() {
        let new = Current::default();
        let waiting = step(&new, &[1, 2], Some(&[]), &[2]);
        assert_eq!(
            (waiting.epoch, waiting.state),
            (9, MemberState::UnreleasedPartitions)
        );
        assert_eq!(waiting.assigned, partitions(&[1]));
        let done = step(&waiting, &[1, 2], None, &[]);
        assert_eq!(
            (done.epoch, done.state, done.previous_epoch),
            (9, MemberState::Stable, 9)
        );
    }

    #[test]
    fn after_it_gave_back_the_newest_target_counts() {
        let revoking = current(5, MemberState::UnrevokedPartitions, &[2, 3], &[1]);
        let again = step(&revoking, &[2], Some(&[2, 3]), &[]);
        assert_eq!(
            (again.epoch, again.previous_epoch, again.state),
            (6, 5, MemberState::UnrevokedPartitions)
        );
        assert_eq!(again.revoking, partitions(&[3]));
        // What it gave back before it was asked needs no further round.
        let at_once = step(&revoking, &[2], Some(&[2]), &[]);
        assert_eq!((at_once.epoch, at_once.state), (9, MemberState::Stable));
    }

    #[test]
    fn a_reconciled_member_stays() {
        let stable = current(9, MemberState::Stable, &[1], &[]);
        assert_eq!(step(&stable, &[1], Some(&[1]), &[]), stable);
    }
}
