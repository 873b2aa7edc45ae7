//! JoinGroup: who gets in, under which member id, and whether that needs a rebalance.

use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::group::{Effect, Group, Joined, JoinedMember, Purpose, State, Step};
use super::member::{Member, Protocol, Ticket};
use super::rebalance::refuse_waiting;

/// How long the JoinGroup of a new member may wait. Its session can't end while it waits, and its client may be gone
/// unnoticed; one that is not comes again.
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 300_000;

/// A JoinGroup.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The member id that the client has, empty for none.
    pub member_id: Arc<str>,
    /// The member id that it gets if it needs one; never seen before.
    pub fresh_member_id: Arc<str>,
    /// Name of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// What the client calls itself.
    pub client_id: Arc<str>,
    /// Where the client is, as `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// How long it may stay silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long it may take to join again, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// What the members speak among themselves: `consumer`, `connect`.
    pub protocol_type: Arc<str>,
    /// What it offers, best first.
    pub protocols: Vec<Protocol>,
    /// Whether a dynamic member has to come again with the member id it gets (KIP-394, version 4).
    pub member_id_required: bool,
    /// Whether the client knows of `skip_assignment` (KIP-814, version 9).
    pub can_skip_assignment: bool,
}

impl JoinRequest {
    fn into_member(self, id: Arc<str>, ticket: Ticket) -> Member {
        Member {
            id,
            instance_id: self.instance_id,
            client_id: self.client_id,
            client_host: self.client_host,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            protocols: self.protocols,
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(ticket),
            awaiting_sync: None,
            expires_ms: 0,
        }
    }
}

impl Group {
    /// Lets a member join. The answer comes by an effect, now or when the join phase ends.
    pub fn join(&mut self, request: JoinRequest, ticket: Ticket, step: &mut Step<'_>) {
        let member_id = Arc::clone(&request.member_id);
        if let Err(error) = self.admit(request, ticket, step) {
            step.answer_join(ticket, Joined::error(member_id, error));
        }
        self.try_complete_join(step);
    }

    fn admit(
        &mut self,
        request: JoinRequest,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        let session_timeouts =
            step.config.min_session_timeout_ms..=step.config.max_session_timeout_ms;
        if !session_timeouts.contains(&request.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if !self.has_room_for(&request.member_id, step.config.max_size) {
            self.pending.remove(&request.member_id);
            self.remove_member(&request.member_id, step);
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if !self.supports(&request) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if request.member_id.is_empty() {
            self.admit_unknown(request, ticket, step);
            return Ok(());
        }
        if self.pending.contains_key(&request.member_id) {
            if request.instance_id.is_some() {
                // Only dynamic members are given an id in advance.
                return Err(ErrorCode::UnknownMemberId);
            }
            let id = Arc::clone(&request.member_id);
            self.add_member(request, id, ticket, step);
            return Ok(());
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        self.admit_known(request, ticket, step)
    }

    /// Admits somebody without a member id.
    fn admit_unknown(&mut self, request: JoinRequest, ticket: Ticket, step: &mut Step<'_>) {
        let fresh = Arc::clone(&request.fresh_member_id);
        let former = request
            .instance_id
            .as_ref()
            .and_then(|instance| self.static_members.get(instance).cloned());
        match former {
            Some(former) => self.replace_static_member(request, &former, ticket, step),
            None if request.instance_id.is_none() && request.member_id_required => {
                let forgotten_ms = step
                    .now
                    .monotonic_ms
                    .saturating_add(i64::from(request.session_timeout_ms));
                self.pending.insert(Arc::clone(&fresh), forgotten_ms);
                step.answer_join(ticket, Joined::error(fresh, ErrorCode::MemberIdRequired));
            }
            None => self.add_member(request, fresh, ticket, step),
        }
    }

    /// Admits a member of the group.
    fn admit_known(
        &mut self,
        request: JoinRequest,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        let member = self.members.get(&request.member_id);
        let unchanged = member.is_some_and(|member| member.protocols == request.protocols);
        let nothing_new = match self.state {
            State::Empty | State::Dead => return Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance(_) => false,
            // The answer may have been lost.
            State::CompletingRebalance => unchanged,
            // The leader joins again to say that it wants to assign anew.
            State::Stable => unchanged && !self.is_leader(&request.member_id),
        };
        if nothing_new {
            let with_members = self.is_leader(&request.member_id);
            let joined = self.joined(&request.member_id, with_members);
            step.answer_join(ticket, joined);
            return Ok(());
        }
        self.update_member(request, ticket, step);
        self.prepare_rebalance(step);
        Ok(())
    }

    fn add_member(
        &mut self,
        request: JoinRequest,
        id: Arc<str>,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        if let State::PreparingRebalance(phase) = &mut self.state {
            phase.new_member_came |= self.generation == 0;
        }
        self.pending.remove(&id);
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::clone(&request.protocol_type));
        }
        let mut member = request.into_member(Arc::clone(&id), ticket);
        member.expires_ms = step
            .now
            .monotonic_ms
            .saturating_add(NEW_MEMBER_JOIN_TIMEOUT_MS);
        if let Some(instance) = &member.instance_id {
            self.static_members
                .insert(Arc::clone(instance), Arc::clone(&id));
        }
        self.leader.get_or_insert_with(|| Arc::clone(&id));
        self.members.insert(id, member);
        self.prepare_rebalance(step);
    }

    /// Takes over what a member says when it joins again, and lets it wait.
    fn update_member(&mut self, request: JoinRequest, ticket: Ticket, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(&request.member_id) else {
            return;
        };
        member.protocols = request.protocols;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        if let Some(earlier) = member.awaiting_join.replace(ticket) {
            let id = Arc::clone(&member.id);
            step.answer_join(earlier, Joined::error(id, ErrorCode::RebalanceInProgress));
        }
    }

    /// Gives a static member that comes back its new member id. Whoever still uses the old one is fenced.
    ///
    /// In a stable group whose protocol stays the same nobody else notices.
    fn replace_static_member(
        &mut self,
        mut request: JoinRequest,
        former_id: &Arc<str>,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) {
        let former_leader = self.leader.clone().unwrap_or_default();
        let id = Arc::clone(&request.fresh_member_id);
        let Some(former) = self.rename_member(former_id, &id, step) else {
            return self.add_member(request, id, ticket, step);
        };
        request.member_id = Arc::clone(&id);
        let can_skip_assignment = request.can_skip_assignment;
        self.update_member(request, ticket, step);
        if let Some(member) = self.members.get_mut(&id) {
            member.touch(step.now.monotonic_ms);
        }
        match self.state {
            State::Stable if self.protocol == self.choose_protocol() => {
                let value = self.value(|member| member.assignment.clone());
                let purpose = Purpose::Replaced {
                    former: Box::new(former),
                    member_id: id,
                    former_leader,
                    can_skip_assignment,
                };
                step.effects.push(Effect::Store(value, purpose));
            }
            // In CompletingRebalance the leader may be assigning to the old id.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(step),
            State::PreparingRebalance(_) | State::Empty | State::Dead => {}
        }
    }

    /// Moves a static member to another member id and answers its old requests; returns the member as it was.
    fn rename_member(
        &mut self,
        from: &Arc<str>,
        to: &Arc<str>,
        step: &mut Step<'_>,
    ) -> Option<Member> {
        let mut member = self.members.remove(from)?;
        refuse_waiting(&mut member, ErrorCode::FencedInstanceId, step);
        let former = member.clone();
        member.id = Arc::clone(to);
        if let Some(instance) = &member.instance_id {
            self.static_members
                .insert(Arc::clone(instance), Arc::clone(to));
        }
        if self.is_leader(from) {
            self.leader = Some(Arc::clone(to));
        }
        if let Some(syncing) = &mut self.syncing
            && syncing.missing.remove(from)
        {
            syncing.missing.insert(Arc::clone(to));
        }
        self.members.insert(Arc::clone(to), member);
        Some(former)
    }

    /// Answers a static member that came back, now that its new id is stored, or undoes it.
    pub(super) fn static_member_stored(
        &mut self,
        former: Member,
        member_id: &Arc<str>,
        former_leader: Arc<str>,
        can_skip_assignment: bool,
        result: Result<(), ErrorCode>,
        step: &mut Step<'_>,
    ) {
        // A rebalance that began meanwhile answers in its own time.
        if self.state != State::Stable {
            return;
        }
        let is_leader = self.is_leader(member_id);
        let joined = match result {
            Ok(()) => {
                let mut joined = self.joined(member_id, is_leader && can_skip_assignment);
                if can_skip_assignment {
                    joined.skip_assignment = is_leader;
                } else {
                    // One that does not know the flag must not take itself for the leader: it would assign, and nobody
                    // would listen.
                    joined.leader = former_leader;
                }
                joined
            }
            Err(error) => Joined::error("".into(), error),
        };
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let Some(ticket) = member.awaiting_join.take() else {
            return;
        };
        member.touch(step.now.monotonic_ms);
        if result.is_err() {
            let id = Arc::clone(&former.id);
            self.rename_member(member_id, &id, step);
            self.members.insert(id, former);
        }
        step.answer_join(ticket, joined);
    }

    /// Returns what a member learns of the current generation.
    pub(super) fn joined(&self, member_id: &Arc<str>, with_members: bool) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().filter(|_| with_members);
        Joined {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: Arc::clone(member_id),
            members: members
                .map(|member| JoinedMember {
                    id: Arc::clone(&member.id),
                    instance_id: member.instance_id.clone(),
                    metadata: member.metadata(protocol),
                })
                .collect(),
        }
    }

    fn has_room_for(&self, member_id: &str, max_size: usize) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance(_) => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.awaiting_join().count() < max_size
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < max_size
            }
        }
    }

    /// Tells whether a member offers a protocol that all the others offer too.
    fn supports(&self, request: &JoinRequest) -> bool {
        if self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request
                .protocols
                .iter()
                .any(|offered| self.all_support(&offered.name))
    }

    pub(super) fn all_support(&self, protocol: &str) -> bool {
        self.members
            .values()
            .all(|member| member.supports(protocol))
    }
}
