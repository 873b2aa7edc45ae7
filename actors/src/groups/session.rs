//! What a member does between two rebalances: sync, heartbeat, commit, leave; and what happens when it does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::group::{Effect, Group, Purpose, State, Step, Synced};
use super::member::Ticket;

/// A SyncGroup.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// Member id.
    pub member_id: Arc<str>,
    /// Name of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The generation that the member takes itself to be in.
    pub generation: i32,
    /// What it takes for the protocol type, from version 5.
    pub protocol_type: Option<Arc<str>>,
    /// What it takes for the protocol, from version 5.
    pub protocol: Option<Arc<str>>,
    /// From the leader: the assignments by member id.
    pub assignment: BTreeMap<Arc<str>, Bytes>,
}

impl Group {
    /// Gives a member its assignment, now or when the leader has assigned. The answer comes by an effect.
    pub fn sync(&mut self, request: SyncRequest, ticket: Ticket, step: &mut Step<'_>) {
        if let Err(error) = self.try_sync(request, ticket, step) {
            step.answer_sync(ticket, Synced::error(error));
        }
    }

    fn try_sync(
        &mut self,
        request: SyncRequest,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        self.check_generation(
            &request.member_id,
            request.instance_id.as_deref(),
            request.generation,
        )?;
        let differs = |said: &Option<Arc<str>>, is: &Option<Arc<str>>| {
            said.as_ref().is_some_and(|said| is.as_ref() != Some(said))
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty | State::Dead => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance => {
                self.await_assignment(request, ticket, step);
                Ok(())
            }
            State::Stable => {
                self.has_synced(&request.member_id);
                let member = self.members.get_mut(&request.member_id);
                let member = member.ok_or(ErrorCode::UnknownMemberId)?;
                member.touch(step.now.monotonic_ms);
                let synced = Synced {
                    error: ErrorCode::None,
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                step.answer_sync(ticket, synced);
                Ok(())
            }
        }
    }

    fn await_assignment(&mut self, request: SyncRequest, ticket: Ticket, step: &mut Step<'_>) {
        self.has_synced(&request.member_id);
        if let Some(member) = self.members.get_mut(&request.member_id)
            && let Some(earlier) = member.awaiting_sync.replace(ticket)
        {
            step.answer_sync(earlier, Synced::error(ErrorCode::RebalanceInProgress));
        }
        if !self.is_leader(&request.member_id) {
            return;
        }
        let assignment = request.assignment;
        let value = self.value(|member| assignment.get(&member.id).cloned().unwrap_or_default());
        let purpose = Purpose::Assigned {
            generation: self.generation,
            assignment,
        };
        step.effects.push(Effect::Store(value, purpose));
    }

    fn has_synced(&mut self, member_id: &str) {
        if let Some(syncing) = &mut self.syncing {
            syncing.missing.remove(member_id);
            if syncing.missing.is_empty() {
                self.syncing = None;
            }
        }
    }

    /// Keeps a member alive.
    ///
    /// # Errors
    /// What the member has to know: above all REBALANCE_IN_PROGRESS, which makes it join again.
    pub fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        step: &Step<'_>,
    ) -> Result<(), ErrorCode> {
        self.check_generation(member_id, instance_id, generation)?;
        self.touch(member_id, step);
        match self.state {
            State::PreparingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Checks who commits offsets. A member shows by it that it lives.
    ///
    /// # Errors
    /// Those of [`heartbeat`](Self::heartbeat), but a member may commit while others join, so that it loses nothing; and
    /// UNKNOWN_MEMBER_ID when somebody without membership commits to a group that has members.
    pub fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        step: &Step<'_>,
    ) -> Result<(), ErrorCode> {
        self.check_committer(member_id, instance_id, generation, false, step)
    }

    /// Checks who commits offsets in a transaction. Only a producer that says for which member it does so is checked: it
    /// is fenced with the member (KIP-447).
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, FENCED_INSTANCE_ID.
    pub fn check_transactional_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        step: &Step<'_>,
    ) -> Result<(), ErrorCode> {
        self.check_committer(member_id, instance_id, generation, true, step)
    }

    fn check_committer(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        in_transaction: bool,
        step: &Step<'_>,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let is_nobody = in_transaction && member_id.is_empty() && instance_id.is_none();
        if generation < 0 && (is_nobody || self.state == State::Empty) {
            // A producer that says for no member that it commits, or a consumer that only stores its offsets here.
            return Ok(());
        }
        self.check_generation(member_id, instance_id, generation)?;
        if self.state == State::CompletingRebalance && !in_transaction {
            // The member has the new generation but not yet its partitions.
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.touch(member_id, step);
        Ok(())
    }

    /// Notes that a member lives.
    fn touch(&mut self, member_id: &str, step: &Step<'_>) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(step.now.monotonic_ms);
        }
    }

    /// Lets a member go; with an empty member id, the static member of that name.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
    pub fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if member_id.is_empty() {
            let id = instance_id.and_then(|instance| self.static_members.get(instance));
            let id = Arc::clone(id.ok_or(ErrorCode::UnknownMemberId)?);
            self.remove_and_rebalance(&id, step);
        } else if self.pending.remove(member_id).is_none() {
            self.check_member(member_id, instance_id)?;
            self.remove_and_rebalance(member_id, step);
        }
        self.try_complete_join(step);
        Ok(())
    }

    /// Does what the time brings: ends sessions, join phases and sync phases that are due.
    pub fn tick(&mut self, step: &mut Step<'_>) {
        let now_ms = step.now.monotonic_ms;
        self.pending
            .retain(|_, &mut forgotten_ms| forgotten_ms > now_ms);
        let expired: Vec<Arc<str>> = self
            .members
            .values()
            .filter(|member| member.deadline_ms().is_some_and(|due_ms| due_ms <= now_ms))
            .map(|member| Arc::clone(&member.id))
            .collect();
        for id in expired {
            tracing::info!(group = %self.id, member = %id, "the session of a member ended");
            self.remove_and_rebalance(&id, step);
        }
        if let Some(syncing) = self
            .syncing
            .take_if(|syncing| syncing.deadline_ms <= now_ms)
        {
            for id in syncing.missing {
                tracing::info!(group = %self.id, member = %id, "a member joined but did not sync");
                self.remove_and_rebalance(&id, step);
            }
        }
        self.try_complete_join(step);
    }

    /// Returns when [`tick`](Self::tick) has something to do at the earliest, on the monotonic clock. Heartbeats only
    /// move it away.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let sessions = self.members.values().filter_map(|m| m.deadline_ms());
        let pending = self.pending.values().copied();
        let syncing = self.syncing.as_ref().map(|syncing| syncing.deadline_ms);
        let joining = match self.state {
            State::PreparingRebalance(phase) => Some(phase.deadline_ms),
            _ => None,
        };
        sessions.chain(pending).chain(syncing).chain(joining).min()
    }

    /// Checks that a member is who it says.
    ///
    /// # Errors
    /// FENCED_INSTANCE_ID when another one took over its name, UNKNOWN_MEMBER_ID.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(id) if **id != *member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    /// Checks a member and the generation it is in.
    fn check_generation(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(())
    }
}
