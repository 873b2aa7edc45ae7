//! What becomes of a topic's partitions under the brokers that there are: one rule, whatever has happened.
//!
//! It looks at how things are, not at how they came about. So a decision that was lost is made again the next time, and a
//! new controller, which has only the znodes to read, goes on where the last one ended.

use std::collections::BTreeSet;

use super::election::{after_change, elect_new, elect_reassigned};
use super::reassignment::Assignment;
use super::stored::{Electorate, StoredState, StoredTopic};
use crate::coordination::schema::PartitionState;
use crate::metadata::BrokerId;

impl Electorate {
    /// Lists who may become a leader: those who live and are not about to stop.
    pub(super) fn electable(&self) -> BTreeSet<BrokerId> {
        self.live.difference(&self.leaving).copied().collect()
    }

    /// Lists who may have lost the end of their logs since a state was written, or is about to stop.
    pub(super) fn avoided(&self, stored: &StoredState) -> BTreeSet<BrokerId> {
        let registered = self.registered.iter();
        let since = registered.filter(|(_, zxid)| **zxid > stored.zxid);
        let since = since.map(|(id, _)| *id);
        let avoided = self.restarted.union(&self.leaving).copied();
        avoided.chain(since).collect()
    }
}

impl StoredTopic {
    /// Elects leaders where it takes one, and ends reassignments whose targets are all in sync.
    pub(super) fn settle(&mut self, electorate: &Electorate) {
        let unclean = electorate.unclean.contains(&self.name);
        for (&partition, assignment) in &mut self.assignment {
            // What it should be nobody knows.
            if self.senseless.contains_key(&partition) {
                continue;
            }
            let Some(stored) = self.states.get_mut(&partition) else {
                let state = first_state(&assignment.replicas, electorate);
                let stored = state.map(StoredState::new);
                self.states.extend(stored.map(|stored| (partition, stored)));
                continue;
            };
            let next = next_led(stored, &assignment.replicas, unclean, electorate);
            if let Some(next) = next {
                stored.lead(next, &self.name, partition);
            }
            end_reassignment(assignment, stored, electorate);
        }
    }

    /// Tells whether for one of its partitions others are there, but nobody in sync.
    pub(super) fn is_stuck(&self, electorate: &Electorate) -> bool {
        let there = |ids: &[BrokerId]| ids.iter().any(|id| electorate.live.contains(id));
        self.states.iter().any(|(partition, stored)| {
            let assigned = self.assignment.get(partition);
            !there(&stored.state.isr) && assigned.is_some_and(|assigned| there(&assigned.replicas))
        })
    }

    /// Tells whether one of its partitions is on its way to other brokers.
    pub(super) fn is_reassigning(&self) -> bool {
        self.assignment.values().any(Assignment::is_reassigning)
    }
}

fn first_state(replicas: &[BrokerId], electorate: &Electorate) -> Option<PartitionState> {
    let epoch = electorate.controller_epoch;
    elect_new(replicas, &electorate.electable(), epoch)
        .or_else(|| elect_new(replicas, &electorate.live, epoch))
}

fn next_led(
    stored: &StoredState,
    replicas: &[BrokerId],
    unclean: bool,
    electorate: &Electorate,
) -> Option<PartitionState> {
    let (live, epoch) = (&electorate.live, electorate.controller_epoch);
    let avoided = electorate.avoided(stored);
    let next = after_change(&stored.state, replicas, live, &avoided, unclean, epoch);
    // Whoever is about to stop leads on as it did where nobody else can.
    let stays = |next: &PartitionState| {
        next.leader == stored.state.leader && electorate.leaving.contains(&next.leader)
    };
    next.filter(|next| !stays(next))
}

fn end_reassignment(
    assignment: &mut Assignment,
    stored: &mut StoredState,
    electorate: &Electorate,
) {
    if !assignment.is_reassigning() {
        return;
    }
    let (targets, electable) = (assignment.targets(), electorate.electable());
    let epoch = electorate.controller_epoch;
    if let Some(next) = elect_reassigned(&stored.state, &targets, &electable, epoch) {
        stored.state = next;
        *assignment = Assignment::settled(targets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::NO_LEADER;

    #[test]
    fn one_that_is_not_in_sync_leads_only_where_the_topic_allows_it() {
        for (live, allowed, stuck, expected) in [
            (&[2][..], false, true, (NO_LEADER, vec![1])),
            (&[2], true, true, (2, vec![2])),
            // In sync comes first, whatever is allowed.
            (&[1, 2], true, false, (1, vec![1])),
            // Nobody is there: that is no question of what is allowed.
            (&[3], true, false, (NO_LEADER, vec![1])),
        ] {
            let state = PartitionState {
                controller_epoch: 1,
                leader: 1,
                version: 1,
                leader_epoch: 4,
                isr: vec![1],
            };
            let assignment = Assignment::settled(vec![1, 2]);
            let mut topic = StoredTopic::of("t", [(assignment, state)].into_iter());
            let electorate = Electorate {
                live: live.iter().copied().collect(),
                unclean: BTreeSet::from_iter(allowed.then(|| "t".to_owned())),
                ..Electorate::default()
            };
            assert_eq!(topic.is_stuck(&electorate), stuck, "{live:?}");
            topic.settle(&electorate);
            let state = topic.states.remove(&0).expect("a state").state;
            assert_eq!((state.leader, state.isr), expected, "{live:?} {allowed}");
        }
    }
}
