//! The phases of a rebalance: members join, a leader and a protocol are chosen, the leader assigns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::group::{Effect, Group, JoinPhase, Joined, Purpose, State, Step, SyncPhase, Synced};
use super::member::Member;

impl Group {
    /// Starts the join phase, unless it runs already.
    pub(super) fn prepare_rebalance(&mut self, step: &mut Step<'_>) {
        if matches!(self.state, State::PreparingRebalance(_) | State::Dead) {
            return;
        }
        if self.state == State::CompletingRebalance {
            self.fail_assignment(ErrorCode::RebalanceInProgress, step);
        }
        self.syncing = None;
        let now_ms = step.now.monotonic_ms;
        let timeout_ms = self.rebalance_timeout_ms();
        let phase = if self.state == State::Empty {
            let delay_ms = step.config.initial_rebalance_delay_ms;
            JoinPhase {
                deadline_ms: now_ms.saturating_add(delay_ms),
                extensible_ms: Some(timeout_ms.saturating_sub(delay_ms).max(0)),
                new_member_came: false,
            }
        } else {
            JoinPhase {
                deadline_ms: now_ms.saturating_add(timeout_ms),
                extensible_ms: None,
                new_member_came: false,
            }
        };
        self.transition(State::PreparingRebalance(phase), step.now);
    }

    /// Ends the join phase if everyone is there or the time is up.
    pub(super) fn try_complete_join(&mut self, step: &mut Step<'_>) {
        let State::PreparingRebalance(phase) = &mut self.state else {
            return;
        };
        let now_ms = step.now.monotonic_ms;
        let is_due = now_ms >= phase.deadline_ms;
        if let Some(left_ms) = phase.extensible_ms {
            if !is_due {
                return;
            }
            if phase.new_member_came && left_ms > 0 {
                let delay_ms = left_ms.min(step.config.initial_rebalance_delay_ms);
                phase.deadline_ms = now_ms.saturating_add(delay_ms);
                phase.extensible_ms = Some(left_ms.saturating_sub(delay_ms));
                phase.new_member_came = false;
                if delay_ms > 0 {
                    return;
                }
            }
        } else if !is_due && !self.all_joined() {
            return;
        }
        self.complete_join(step);
    }

    fn all_joined(&self) -> bool {
        self.pending.is_empty()
            && self
                .members
                .values()
                .all(|member| member.awaiting_join.is_some())
    }

    /// Goes on to the next generation with those who have joined, and with static members in any case.
    fn complete_join(&mut self, step: &mut Step<'_>) {
        let late: Vec<Arc<str>> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| Arc::clone(&member.id))
            .collect();
        for id in late {
            self.remove_member(&id, step);
        }
        if self.members.is_empty() {
            return self.become_empty(step);
        }
        if !self.elect_joined_leader() {
            // Only silent static members are left. Their sessions may still end.
            let timeout_ms = self.rebalance_timeout_ms();
            self.state = State::PreparingRebalance(JoinPhase {
                deadline_ms: step.now.monotonic_ms.saturating_add(timeout_ms.max(1)),
                extensible_ms: None,
                new_member_came: false,
            });
            return;
        }
        self.generation = next_generation(self.generation);
        self.protocol = self.choose_protocol();
        self.transition(State::CompletingRebalance, step.now);
        self.syncing = Some(SyncPhase {
            deadline_ms: step
                .now
                .monotonic_ms
                .saturating_add(self.rebalance_timeout_ms()),
            missing: self.members.keys().cloned().collect(),
        });
        self.answer_joins(step);
    }

    fn answer_joins(&mut self, step: &mut Step<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id, self.is_leader(&id));
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.touch(step.now.monotonic_ms);
            member.is_new = false;
            if let Some(ticket) = member.awaiting_join.take() {
                step.answer_join(ticket, joined);
            }
        }
    }

    fn become_empty(&mut self, step: &mut Step<'_>) {
        self.generation = next_generation(self.generation);
        self.protocol = None;
        self.leader = None;
        self.syncing = None;
        self.transition(State::Empty, step.now);
        let value = self.value(|_| Bytes::new());
        step.effects.push(Effect::Store(value, Purpose::Emptied));
    }

    /// Keeps the leader if it has joined, or else makes one of those who have; tells whether there is one.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |member: &Member| member.awaiting_join.is_some();
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.is_some_and(has_joined) {
            return true;
        }
        let Some(successor) = self.members.values().find(|member| has_joined(member)) else {
            return false;
        };
        self.leader = Some(Arc::clone(&successor.id));
        true
    }

    /// Chooses the protocol: each member votes for its first that all support; between equals, the first by name.
    pub(super) fn choose_protocol(&self) -> Option<Arc<str>> {
        let first = self.members.values().next()?;
        let common: BTreeSet<&Arc<str>> = first
            .protocols
            .iter()
            .map(|offered| &offered.name)
            .filter(|name| self.all_support(name))
            .collect();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut offered = member.protocols.iter().map(|offered| &offered.name);
            if let Some(name) = offered.find(|name| common.contains(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let mut best: Option<(&Arc<str>, usize)> = None;
        for (name, count) in votes {
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((name, count));
            }
        }
        best.map(|(name, _)| Arc::clone(name))
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.members.values();
        timeouts
            .map(|member| i64::from(member.rebalance_timeout_ms))
            .max()
            .unwrap_or_default()
            .max(0)
    }

    pub(super) fn awaiting_join(&self) -> impl Iterator<Item = &Member> {
        self.members
            .values()
            .filter(|member| member.awaiting_join.is_some())
    }

    /// Tells the group how it went to store it.
    pub fn stored(&mut self, purpose: Purpose, result: Result<(), ErrorCode>, step: &mut Step<'_>) {
        match purpose {
            Purpose::Emptied => {}
            Purpose::Assigned {
                generation,
                assignment,
            } => self.assignment_stored(generation, assignment, result, step),
            Purpose::Replaced {
                former,
                member_id,
                former_leader,
                can_skip_assignment,
            } => self.static_member_stored(
                *former,
                &member_id,
                former_leader,
                can_skip_assignment,
                result,
                step,
            ),
        }
        self.try_complete_join(step);
    }

    fn assignment_stored(
        &mut self,
        generation: i32,
        mut assignment: BTreeMap<Arc<str>, Bytes>,
        result: Result<(), ErrorCode>,
        step: &mut Step<'_>,
    ) {
        // Somebody may have joined or left meanwhile: then another assignment follows.
        if self.state != State::CompletingRebalance || generation != self.generation {
            return;
        }
        if let Err(error) = result {
            self.fail_assignment(error, step);
            return self.prepare_rebalance(step);
        }
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        for member in self.members.values_mut() {
            member.assignment = assignment.remove(&member.id).unwrap_or_default();
            let Some(ticket) = member.awaiting_sync.take() else {
                continue;
            };
            member.touch(step.now.monotonic_ms);
            let synced = Synced {
                error: ErrorCode::None,
                protocol_type: protocol_type.clone(),
                protocol: protocol.clone(),
                assignment: member.assignment.clone(),
            };
            step.answer_sync(ticket, synced);
        }
        self.transition(State::Stable, step.now);
    }

    /// Takes every assignment back and refuses everyone who waits for one.
    fn fail_assignment(&mut self, error: ErrorCode, step: &mut Step<'_>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(ticket) = member.awaiting_sync.take() {
                member.touch(step.now.monotonic_ms);
                step.answer_sync(ticket, Synced::error(error));
            }
        }
    }

    /// Removes a member and answers what it waits for, with the consequences for the leader but not for the phase.
    pub(super) fn remove_member(&mut self, id: &str, step: &mut Step<'_>) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        refuse_waiting(&mut member, ErrorCode::UnknownMemberId, step);
        if let Some(instance) = &member.instance_id
            && self.static_members.get(instance).map(|id| &**id) == Some(id)
        {
            self.static_members.remove(instance);
        }
        if let Some(syncing) = &mut self.syncing {
            syncing.missing.remove(id);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Removes a member, and lets the others share its part.
    pub(super) fn remove_and_rebalance(&mut self, id: &str, step: &mut Step<'_>) {
        self.remove_member(id, step);
        if matches!(self.state, State::Stable | State::CompletingRebalance) {
            self.prepare_rebalance(step);
        }
    }
}

/// Refuses whatever a member waits for.
pub(super) fn refuse_waiting(member: &mut Member, error: ErrorCode, step: &mut Step<'_>) {
    if let Some(ticket) = member.awaiting_join.take() {
        step.answer_join(ticket, Joined::error(Arc::clone(&member.id), error));
    }
    if let Some(ticket) = member.awaiting_sync.take() {
        step.answer_sync(ticket, Synced::error(error));
    }
}

/// Counts generations; after the last there is the first again, as in Java.
fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}
