//! Who leads a partition: pure functions over what the znodes say and who is alive.

use std::collections::BTreeSet;

use crate::coordination::schema::PartitionState;
use crate::metadata::{BrokerId, NO_LEADER};

/// Elects for a partition that has no state yet: the first live replica leads, all live replicas are in sync.
///
/// `None` when no replica is alive; the partition waits for one.
pub fn elect_new(
    replicas: &[BrokerId],
    live: &BTreeSet<BrokerId>,
    controller_epoch: i32,
) -> Option<PartitionState> {
    let isr: Vec<BrokerId> = live_of(replicas, live);
    Some(PartitionState {
        controller_epoch,
        leader: *isr.first()?,
        version: 1,
        leader_epoch: 0,
        isr,
    })
}

/// Elects when the leader is gone or came back: the first replica that is alive and in sync.
///
/// When there is none, the partition keeps its last in-sync set and has no leader, because electing anyone else
/// would lose acknowledged records. Where that is accepted (`unclean`), the first live replica leads alone.
pub fn elect_offline(
    state: &PartitionState,
    replicas: &[BrokerId],
    live: &BTreeSet<BrokerId>,
    unclean: bool,
    controller_epoch: i32,
) -> PartitionState {
    let alive = live_of(replicas, live);
    let in_sync: Vec<BrokerId> = among(&alive, &state.isr);
    let (leader, isr) = match (in_sync.first(), alive.first().filter(|_| unclean)) {
        (Some(&leader), _) => (leader, in_sync),
        (None, Some(&leader)) => (leader, vec![leader]),
        (None, None) => (NO_LEADER, state.isr.clone()),
    };
    next(state, leader, isr, controller_epoch)
}

/// Elects the preferred leader, which is the first replica, when it is one of the `electable` and in sync.
pub fn elect_preferred(
    state: &PartitionState,
    replicas: &[BrokerId],
    electable: &BTreeSet<BrokerId>,
    controller_epoch: i32,
) -> Option<PartitionState> {
    let leader = *replicas.first()?;
    let can_lead = electable.contains(&leader) && state.isr.contains(&leader);
    can_lead.then(|| next(state, leader, state.isr.clone(), controller_epoch))
}

/// Elects at the end of a reassignment, when all `targets` are in sync: the leader goes on if it is one of them, else the
/// first that is `electable` takes over. Only targets stay in sync.
///
/// `None` as long as the reassignment can't end.
pub fn elect_reassigned(
    state: &PartitionState,
    targets: &[BrokerId],
    electable: &BTreeSet<BrokerId>,
    controller_epoch: i32,
) -> Option<PartitionState> {
    if among(targets, &state.isr).len() < targets.len() {
        return None;
    }
    let can_lead = live_of(targets, electable);
    let stays = can_lead.iter().find(|&&id| id == state.leader);
    let leader = *stays.or(can_lead.first())?;
    let isr = among(&state.isr, targets);
    Some(next(state, leader, isr, controller_epoch))
}

/// Makes the state that follows: in a new leader epoch, even when the same broker leads.
pub fn next(
    state: &PartitionState,
    leader: BrokerId,
    isr: Vec<BrokerId>,
    controller_epoch: i32,
) -> PartitionState {
    PartitionState {
        controller_epoch,
        leader,
        version: 1,
        leader_epoch: state.leader_epoch.saturating_add(1),
        isr,
    }
}

fn among(ids: &[BrokerId], others: &[BrokerId]) -> Vec<BrokerId> {
    let ids = ids.iter().copied();
    ids.filter(|id| others.contains(id)).collect()
}

fn live_of(replicas: &[BrokerId], live: &BTreeSet<BrokerId>) -> Vec<BrokerId> {
    replicas
        .iter()
        .copied()
        .filter(|id| live.contains(id))
        .collect()
}

/// Says what becomes of a partition when brokers came or went; `None` when it stays as it is.
///
/// Of `live`, those that are `restarted` may have lost the end of their logs: they stay in sync only where there is nobody
/// else, and lead in a new epoch then. Who is no replica any more neither leads nor is in sync. `unclean` tells whether
/// somebody may lead who is not in sync.
pub fn after_change(
    state: &PartitionState,
    replicas: &[BrokerId],
    live: &BTreeSet<BrokerId>,
    restarted: &BTreeSet<BrokerId>,
    unclean: bool,
    controller_epoch: i32,
) -> Option<PartitionState> {
    let assigned = live_of(replicas, live).into_iter();
    let steady: BTreeSet<BrokerId> = assigned.filter(|id| !restarted.contains(id)).collect();
    let is_led = steady.contains(&state.leader);
    let all_steady = state.isr.iter().all(|id| steady.contains(id));
    if is_led && all_steady {
        return None;
    }
    let kept: Vec<BrokerId> = state
        .isr
        .iter()
        .copied()
        .filter(|id| steady.contains(id))
        .collect();
    if is_led {
        return Some(next(state, state.leader, kept, controller_epoch));
    }
    let electable = if kept.is_empty() { live } else { &steady };
    let next = elect_offline(state, replicas, electable, unclean, controller_epoch);
    let still_nobody = next.leader == NO_LEADER && state.leader == NO_LEADER;
    (!still_nobody).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(leader: BrokerId, isr: &[BrokerId]) -> PartitionState {
        PartitionState {
            controller_epoch: 1,
            leader,
            version: 1,
            leader_epoch: 4,
            isr: isr.to_vec(),
        }
    }

    #[test]
    fn the_first_live_replica_leads_a_new_partition() {
        let elected = elect_new(&[3, 1, 2], &BTreeSet::from([1, 2]), 9).unwrap();
        assert_eq!((elected.leader, elected.leader_epoch), (1, 0));
        assert_eq!(elected.isr, [1, 2]);
        assert_eq!(elected.controller_epoch, 9);
    }

    #[test]
    fn nobody_alive_means_no_state() {
        assert_eq!(elect_new(&[3], &BTreeSet::from([1]), 9), None);
    }

    #[test]
    fn only_an_in_sync_replica_takes_over() {
        let live = BTreeSet::from([2, 3]);
        // One that is in sync wins even where others might lead.
        for unclean in [false, true] {
            let elected = elect_offline(&state(1, &[1, 3]), &[1, 2, 3], &live, unclean, 2);
            assert_eq!((elected.leader, elected.leader_epoch), (3, 5));
            assert_eq!(elected.isr, [3]);
        }
    }

    #[test]
    fn one_that_is_not_in_sync_leads_only_where_that_is_accepted() {
        let live = BTreeSet::from([2, 3, 4]);
        let elected = elect_offline(&state(1, &[1, 4]), &[1, 2, 3], &live, true, 2);
        assert_eq!((elected.leader, elected.leader_epoch), (2, 5));
        assert_eq!(elected.isr, [2]);
    }

    #[test]
    fn the_preferred_leader_is_the_first_replica_or_nobody() {
        for (isr, electable, expected) in [
            (&[2, 1][..], &[1, 2][..], Some(1)),
            (&[2], &[1, 2], None),
            (&[1, 2], &[2], None),
        ] {
            let electable = electable.iter().copied().collect();
            let elected = elect_preferred(&state(2, isr), &[1, 2], &electable, 2);
            let leader = elected.as_ref().map(|elected| elected.leader);
            assert_eq!(leader, expected, "{isr:?} {electable:?}");
            assert!(elected.is_none_or(|elected| elected.isr == isr && elected.leader_epoch == 5));
        }
    }

    #[test]
    fn a_reassignment_ends_with_a_target_that_leads() {
        for (targets, isr, electable, leader, expected) in [
            // The leader stays, though it is not the first.
            (
                &[3, 1][..],
                &[1, 2, 3][..],
                &[1, 2, 3][..],
                1,
                Some((1, vec![1, 3])),
            ),
            (&[3, 4], &[1, 3, 4], &[1, 3, 4], 1, Some((3, vec![3, 4]))),
            (&[3, 4], &[1, 3, 4], &[1, 4], 1, Some((4, vec![3, 4]))),
            // Not all have caught up, or nobody can lead.
            (&[3, 4], &[1, 4], &[1, 3, 4], 1, None),
            (&[3], &[3], &[1], NO_LEADER, None),
        ] {
            let electable = electable.iter().copied().collect();
            let elected = elect_reassigned(&state(leader, isr), targets, &electable, 2);
            let elected = elected.map(|elected| (elected.leader, elected.isr));
            assert_eq!(elected, expected, "{targets:?} {isr:?} {electable:?}");
        }
    }

    #[test]
    fn who_is_no_replica_any_more_leaves() {
        let after = changed(&state(1, &[1, 4]), &[1, 4], &[]);
        assert_eq!(after, Some((1, 5, vec![1])));
        let led = changed(&state(4, &[4, 2]), &[2, 4], &[]);
        assert_eq!(led, Some((2, 5, vec![2])));
    }

    #[test]
    fn without_one_the_in_sync_set_is_kept() {
        let elected = elect_offline(&state(1, &[1]), &[1, 2], &BTreeSet::from([2]), false, 2);
        assert_eq!((elected.leader, elected.leader_epoch), (NO_LEADER, 5));
        assert_eq!(elected.isr, [1]);
    }

    fn changed(
        state: &PartitionState,
        live: &[BrokerId],
        restarted: &[BrokerId],
    ) -> Option<(BrokerId, i32, Vec<BrokerId>)> {
        let live = live.iter().copied().collect();
        let restarted = restarted.iter().copied().collect();
        let next = after_change(state, &[1, 2, 3], &live, &restarted, false, 9)?;
        assert_eq!(next.controller_epoch, 9);
        Some((next.leader, next.leader_epoch, next.isr))
    }

    #[test]
    fn nothing_happens_to_those_that_are_not_concerned() {
        assert_eq!(changed(&state(1, &[1, 2]), &[1, 2], &[]), None);
        assert_eq!(changed(&state(1, &[1, 2]), &[1, 2, 3], &[3]), None);
        assert_eq!(changed(&state(NO_LEADER, &[1]), &[2, 3], &[]), None);
    }

    #[test]
    fn a_dead_follower_leaves_the_in_sync_set() {
        let after = changed(&state(1, &[1, 2, 3]), &[1, 3], &[]);
        assert_eq!(after, Some((1, 5, vec![1, 3])));
    }

    #[test]
    fn a_restarted_replica_makes_room_for_one_that_was_there_all_the_time() {
        let after = changed(&state(1, &[1, 2]), &[1, 2], &[1]);
        assert_eq!(after, Some((2, 5, vec![2])));
        let follower = changed(&state(1, &[1, 2]), &[1, 2], &[2]);
        assert_eq!(follower, Some((1, 5, vec![1])));
    }

    #[test]
    fn a_restarted_replica_leads_again_where_nobody_else_is_in_sync() {
        let after = changed(&state(1, &[1]), &[1, 2], &[1]);
        assert_eq!(after, Some((1, 5, vec![1])));
        let returned = changed(&state(NO_LEADER, &[1]), &[1, 2], &[1]);
        assert_eq!(returned, Some((1, 5, vec![1])));
    }

    #[test]
    fn when_the_last_in_sync_replica_dies_nobody_leads() {
        let after = changed(&state(1, &[1]), &[2, 3], &[]);
        assert_eq!(after, Some((NO_LEADER, 5, vec![1])));
    }
}
