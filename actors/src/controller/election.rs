//! Who leads a partition: pure functions over what the znodes say and who is alive.
//!
//! `electable` are the brokers that may lead: those that are alive and not about to stop. No election empties an
//! in-sync set: where nobody may lead there is no result, and the partition keeps the members it has.

use std::collections::BTreeSet;

use crate::coordination::schema::PartitionState;
use crate::metadata::{BrokerId, NO_LEADER};

/// What an election has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    /// Who leads from now on.
    pub leader: BrokerId,
    /// Who is in sync from now on; the leader is among them.
    pub isr: Vec<BrokerId>,
    /// Whether the leader was not in sync, so that acknowledged records may be lost.
    pub unclean: bool,
}

impl Elected {
    fn clean(leader: BrokerId, isr: Vec<BrokerId>) -> Self {
        Self {
            leader,
            isr,
            unclean: false,
        }
    }
}

/// Elects for a partition that nobody has led yet: the first electable replica leads, all of them are in sync.
pub fn new_partition(replicas: &[BrokerId], electable: &BTreeSet<BrokerId>) -> Option<Elected> {
    let isr = among(replicas, electable);
    Some(Elected::clean(*isr.first()?, isr))
}

/// Elects when the leader is gone: the first replica that is electable and in sync.
///
/// When there is none and `unclean` allows it, the first electable replica leads alone.
pub fn offline(
    replicas: &[BrokerId],
    isr: &[BrokerId],
    electable: &BTreeSet<BrokerId>,
    unclean: bool,
) -> Option<Elected> {
    let candidates = among(replicas, electable);
    if let Some(&leader) = candidates.iter().find(|id| isr.contains(id)) {
        let in_sync = |id: &BrokerId| isr.contains(id);
        return Some(Elected::clean(
            leader,
            candidates.into_iter().filter(in_sync).collect(),
        ));
    }
    let leader = *candidates.first().filter(|_| unclean)?;
    Some(Elected {
        leader,
        isr: vec![leader],
        unclean: true,
    })
}

/// Elects the preferred leader, which is the first replica, if it is electable and in sync.
pub fn preferred(
    replicas: &[BrokerId],
    isr: &[BrokerId],
    electable: &BTreeSet<BrokerId>,
) -> Option<Elected> {
    let leader = *replicas.first()?;
    (isr.contains(&leader) && electable.contains(&leader))
        .then(|| Elected::clean(leader, isr.to_vec()))
}

/// Elects at the end of a reassignment: `leader` goes on if it is one of the targets, else the first target takes over
/// that is electable and in sync. Only targets stay in sync.
pub fn reassignment(
    targets: &[BrokerId],
    isr: &[BrokerId],
    electable: &BTreeSet<BrokerId>,
    leader: BrokerId,
) -> Option<Elected> {
    let may_lead = |id: &BrokerId| isr.contains(id) && electable.contains(id);
    let stays = Some(leader).filter(|id| targets.contains(id) && may_lead(id));
    let leader = stays.or_else(|| targets.iter().copied().find(may_lead))?;
    let isr = isr.iter().copied().filter(|id| targets.contains(id));
    Some(Elected::clean(leader, isr.collect()))
}

/// Elects when the leader is about to stop: the first replica that is electable and in sync. Whoever is about to stop
/// leaves the in-sync set.
pub fn controlled_shutdown(
    replicas: &[BrokerId],
    isr: &[BrokerId],
    electable: &BTreeSet<BrokerId>,
    shutting_down: &BTreeSet<BrokerId>,
) -> Option<Elected> {
    let may_lead = |id: &BrokerId| isr.contains(id) && electable.contains(id);
    let leader = replicas.iter().copied().find(may_lead)?;
    let isr = isr.iter().copied().filter(|id| !shutting_down.contains(id));
    Some(Elected::clean(leader, isr.collect()))
}

fn among(replicas: &[BrokerId], brokers: &BTreeSet<BrokerId>) -> Vec<BrokerId> {
    let replicas = replicas.iter().copied();
    replicas.filter(|id| brokers.contains(id)).collect()
}

/// Makes the first state of a partition; `None` when no replica is alive.
pub fn elect_new(
    replicas: &[BrokerId],
    live: &BTreeSet<BrokerId>,
    controller_epoch: i32,
) -> Option<PartitionState> {
    let Elected { leader, isr, .. } = new_partition(replicas, live)?;
    Some(PartitionState {
        controller_epoch,
        leader,
        version: 1,
        leader_epoch: 0,
        isr,
    })
}

/// Makes the next state of a partition whose leader is gone or came back; with nobody to elect it has no leader.
pub fn elect_offline(
    state: &PartitionState,
    replicas: &[BrokerId],
    live: &BTreeSet<BrokerId>,
    controller_epoch: i32,
) -> PartitionState {
    let (leader, isr) = match offline(replicas, &state.isr, live, false) {
        Some(elected) => (elected.leader, elected.isr),
        None => (NO_LEADER, state.isr.clone()),
    };
    PartitionState {
        controller_epoch,
        leader,
        version: 1,
        leader_epoch: state.leader_epoch.saturating_add(1),
        isr,
    }
}

/// Says what becomes of a partition when brokers came or went; `None` when it stays as it is.
///
/// Of `live`, those that are `restarted` may have lost the end of their logs: they stay in sync only where there is nobody
/// else, and lead in a new epoch then.
pub fn after_change(
    state: &PartitionState,
    replicas: &[BrokerId],
    live: &BTreeSet<BrokerId>,
    restarted: &BTreeSet<BrokerId>,
    controller_epoch: i32,
) -> Option<PartitionState> {
    let steady: BTreeSet<BrokerId> = live.difference(restarted).copied().collect();
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
        return Some(PartitionState {
            controller_epoch,
            leader_epoch: state.leader_epoch.saturating_add(1),
            isr: kept,
            ..state.clone()
        });
    }
    let among = if kept.is_empty() { live } else { &steady };
    let next = elect_offline(state, replicas, among, controller_epoch);
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
        let elected = elect_offline(&state(1, &[1, 3]), &[1, 2, 3], &BTreeSet::from([2, 3]), 2);
        assert_eq!((elected.leader, elected.leader_epoch), (3, 5));
        assert_eq!(elected.isr, [3]);
    }

    fn changed(
        state: &PartitionState,
        live: &[BrokerId],
        restarted: &[BrokerId],
    ) -> Option<(BrokerId, i32, Vec<BrokerId>)> {
        let live = live.iter().copied().collect();
        let restarted = restarted.iter().copied().collect();
        let next = after_change(state, &[1, 2, 3], &live, &restarted, 9)?;
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

    #[test]
    fn without_one_the_in_sync_set_is_kept() {
        let elected = elect_offline(&state(1, &[1]), &[1, 2], &BTreeSet::from([2]), 2);
        assert_eq!((elected.leader, elected.leader_epoch), (NO_LEADER, 5));
        assert_eq!(elected.isr, [1]);
    }

    fn found(leader: BrokerId, isr: &[BrokerId]) -> Option<Elected> {
        Some(Elected::clean(leader, isr.to_vec()))
    }

    #[test]
    fn a_new_partition_is_led_by_its_first_electable_replica() {
        for (replicas, electable, expected) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], found(1, &[1, 2, 3])),
            (&[3, 1, 2], &[1, 2], found(1, &[1, 2])),
            (&[3, 1], &[2], None),
            (&[], &[1], None),
        ] {
            let electable = electable.iter().copied().collect();
            let elected = new_partition(replicas, &electable);
            assert_eq!(elected, expected, "{replicas:?} {electable:?}");
        }
    }

    #[test]
    fn an_offline_partition_takes_one_in_sync_and_another_only_uncleanly() {
        let unclean = |leader| {
            Some(Elected {
                leader,
                isr: vec![leader],
                unclean: true,
            })
        };
        for (replicas, isr, electable, allowed, expected) in [
            // The order is the assignment's, not that of the in-sync set.
            (
                &[1, 2, 3][..],
                &[3, 2][..],
                &[2, 3][..],
                false,
                found(2, &[2, 3]),
            ),
            (&[1, 2, 3], &[1, 3], &[2, 3], false, found(3, &[3])),
            // One that is in sync wins even where unclean ones are allowed.
            (&[1, 2, 3], &[1, 3], &[2, 3], true, found(3, &[3])),
            (&[1, 2, 3], &[1], &[2, 3], false, None),
            (&[1, 2, 3], &[1], &[2, 3], true, unclean(2)),
            (&[1, 2, 3], &[1], &[], true, None),
            // In sync by the znode, but not assigned.
            (&[1, 2], &[4], &[4], true, None),
        ] {
            let electable = electable.iter().copied().collect();
            let elected = offline(replicas, isr, &electable, allowed);
            assert_eq!(
                elected, expected,
                "{replicas:?} {isr:?} {electable:?} {allowed}"
            );
        }
    }

    #[test]
    fn the_preferred_leader_is_the_first_replica_or_nobody() {
        for (replicas, isr, electable, expected) in [
            (&[1, 2][..], &[2, 1][..], &[1, 2][..], found(1, &[2, 1])),
            (&[1, 2], &[2], &[1, 2], None),
            (&[1, 2], &[1, 2], &[2], None),
            (&[], &[1], &[1], None),
        ] {
            let electable = electable.iter().copied().collect();
            let elected = preferred(replicas, isr, &electable);
            assert_eq!(elected, expected, "{replicas:?} {isr:?} {electable:?}");
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
                found(1, &[1, 3]),
            ),
            (&[3, 4], &[1, 3, 4], &[1, 3, 4], 1, found(3, &[3, 4])),
            (&[3, 4], &[1, 3, 4], &[1, 4], 1, found(4, &[3, 4])),
            // A target that is not in sync doesn't lead.
            (&[3, 4], &[1, 4], &[1, 3, 4], 3, found(4, &[4])),
            (&[3], &[3], &[1], NO_LEADER, None),
        ] {
            let electable = electable.iter().copied().collect();
            let elected = reassignment(targets, isr, &electable, leader);
            assert_eq!(
                elected, expected,
                "{targets:?} {isr:?} {electable:?} {leader}"
            );
        }
    }

    #[test]
    fn who_is_about_to_stop_hands_over_and_leaves_the_in_sync_set() {
        for (replicas, isr, electable, shutting_down, expected) in [
            (
                &[1, 2, 3][..],
                &[1, 2, 3][..],
                &[2, 3][..],
                &[1][..],
                found(2, &[2, 3]),
            ),
            (&[1, 2, 3], &[1, 2, 3], &[3], &[1, 2], found(3, &[3])),
            (&[1, 2], &[1], &[2], &[1], None),
            (&[1], &[1], &[], &[1], None),
        ] {
            let electable = electable.iter().copied().collect();
            let shutting_down = shutting_down.iter().copied().collect();
            let elected = controlled_shutdown(replicas, isr, &electable, &shutting_down);
            assert_eq!(elected, expected, "{replicas:?} {isr:?} {electable:?}");
        }
    }
}
