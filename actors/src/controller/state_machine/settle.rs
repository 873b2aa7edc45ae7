//! What becomes of a partition under the brokers and replicas that there are: one rule, whatever has happened.
//!
//! It looks at how things are, not at how they came about. So a decision that was lost is made again the next time, and
//! a new controller, which has only the znodes to read, goes on where the last one ended.

use std::collections::BTreeSet;

use super::context::{Assignment, ClusterContext, Leadership, Partition, Topic};
use crate::controller::election::{self, Elected};
use crate::metadata::{BrokerId, NO_LEADER};

/// Who can do what, of the brokers.
pub(super) struct Brokers {
    pub(super) electable: BTreeSet<BrokerId>,
    pub(super) shutting_down: BTreeSet<BrokerId>,
    pub(super) controller_epoch: i32,
}

impl Brokers {
    pub(super) fn of(context: &ClusterContext) -> Self {
        Self {
            electable: context.electable(),
            shutting_down: context.shutting_down.clone(),
            controller_epoch: context.controller_epoch,
        }
    }

    fn are_live(&self, id: BrokerId) -> bool {
        self.electable.contains(&id) || self.shutting_down.contains(&id)
    }

    /// Decides what a partition becomes; `None` when it is as it should be, or nothing can be done.
    pub(super) fn settle(&self, topic: &Topic, partition: &Partition) -> Option<(Partition, bool)> {
        let assignment = &partition.assignment;
        let Some(current) = &partition.leadership else {
            let elected = election::new_partition(&assignment.replicas, &self.electable)?;
            let leadership = Leadership::first(elected, self.controller_epoch);
            return Some((with(assignment, leadership), false));
        };
        if let Some(done) = self.end_reassignment(assignment, current) {
            return Some((done, false));
        }
        let Elected {
            leader,
            isr,
            unclean,
        } = if self.leads(assignment, current) {
            self.keep_leader(assignment, current)
        } else {
            self.replace_leader(assignment, current, topic.unclean_election)
        };
        let same = leader == current.leader && isr == current.isr;
        (!same).then(|| {
            let next = current.next(leader, isr, self.controller_epoch);
            (with(assignment, next), unclean)
        })
    }

    /// A reassignment ends when all targets are in sync and one of them can lead.
    fn end_reassignment(&self, assignment: &Assignment, current: &Leadership) -> Option<Partition> {
        let targets = assignment.targets();
        let caught_up = targets.iter().all(|id| current.isr.contains(id));
        if !assignment.is_reassigning() || !caught_up {
            return None;
        }
        let elected =
            election::reassignment(&targets, &current.isr, &self.electable, current.leader)?;
        let next = current.next(elected.leader, elected.isr, self.controller_epoch);
        Some(with(&Assignment::settled(targets), next))
    }

    fn leads(&self, assignment: &Assignment, current: &Leadership) -> bool {
        let leader = current.leader;
        self.are_live(leader)
            && assignment.replicas.contains(&leader)
            && current.isr.contains(&leader)
    }

    /// The leader stays, unless it is about to stop and another one can take over; who is gone or going leaves the
    /// in-sync set.
    fn keep_leader(&self, assignment: &Assignment, current: &Leadership) -> Elected {
        let stays = |id: &BrokerId| {
            *id == current.leader
                || (self.electable.contains(id) && assignment.replicas.contains(id))
        };
        let isr: Vec<BrokerId> = current.isr.iter().copied().filter(stays).collect();
        let (replicas, going) = (&assignment.replicas, &self.shutting_down);
        let handed_over = going
            .contains(&current.leader)
            .then(|| election::controlled_shutdown(replicas, &isr, &self.electable, going))
            .flatten();
        handed_over.unwrap_or(Elected {
            leader: current.leader,
            isr,
            unclean: false,
        })
    }

    /// Without anybody to elect the in-sync set stays as it was when the leader went: nothing was acknowledged since,
    /// so each of its members has everything.
    fn replace_leader(
        &self,
        assignment: &Assignment,
        current: &Leadership,
        unclean: bool,
    ) -> Elected {
        election::offline(&assignment.replicas, &current.isr, &self.electable, unclean)
            .unwrap_or_else(|| Elected {
                leader: NO_LEADER,
                isr: current.isr.clone(),
                unclean: false,
            })
    }
}

fn with(assignment: &Assignment, leadership: Leadership) -> Partition {
    Partition {
        assignment: assignment.clone(),
        leadership: Some(leadership),
    }
}
