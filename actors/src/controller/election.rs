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
/// would lose acknowledged records.
pub fn elect_offline(
    state: &PartitionState,
    replicas: &[BrokerId],
    live: &BTreeSet<BrokerId>,
    controller_epoch: i32,
) -> PartitionState {
    let in_sync: BTreeSet<BrokerId> = state.isr.iter().copied().collect();
    let candidates: Vec<BrokerId> = live_of(replicas, live)
        .into_iter()
        .filter(|id| in_sync.contains(id))
        .collect();
    let (leader, isr) = match candidates.first() {
        Some(&leader) => (leader, candidates),
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

    #[test]
    fn without_one_the_in_sync_set_is_kept() {
        let elected = elect_offline(&state(1, &[1]), &[1, 2], &BTreeSet::from([2]), 2);
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
}
