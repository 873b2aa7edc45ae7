//! Members of a consumer group that still speak the classic protocol, while their consumers are upgraded one by one.
//!
//! To them the coordinator is the leader: JoinGroup brings them a step towards their target and is answered at once,
//! SyncGroup tells them what they have, Heartbeat says when to join again.

use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::embedded;
use super::group::{ConsumerGroup, Step};
use super::heartbeat::check_instance;
use super::member::{ClassicMember, Member, MemberState, Metadata};
use crate::groups::group::{CONSUMER_PROTOCOL_TYPE, Joined, Synced};
use crate::groups::join::JoinRequest;
use crate::groups::session::SyncRequest;

impl ConsumerGroup {
    /// Lets a classic member join or join again.
    ///
    /// # Errors
    /// Those of the classic protocol: then nothing has changed.
    pub fn join(
        &mut self,
        request: &JoinRequest,
        step: &mut Step<'_>,
    ) -> Result<Joined, ErrorCode> {
        self.check_alive()?;
        let is_unknown = request.member_id.is_empty();
        let id = if is_unknown {
            &request.fresh_member_id
        } else {
            &request.member_id
        };
        self.check_room(id, step.config.max_size)
            .map_err(|refusal| refusal.error)?;
        if !self.supports(request) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let offered = request.protocols.first();
        let offered = offered.ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let subscription = embedded::subscription(&offered.metadata, step.topics)
            .map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        if is_unknown && request.instance_id.is_none() && request.member_id_required {
            return Err(ErrorCode::MemberIdRequired);
        }
        // One that was put out, and has not noticed, still reads: it has to stop first.
        let is_member = is_unknown || self.members.contains_key(id);
        if !is_member && !subscription.owned.is_empty() {
            return Err(ErrorCode::UnknownMemberId);
        }
        let returning = self.returning(request, id)?;
        if let Some(former) = returning {
            let was_classic = self.members.get(&former).is_some_and(Member::is_classic);
            self.rename(&former, id, step);
            step.downgrade |= !was_classic;
        }
        let known = self.members.get(id).map(|member| member.metadata.clone());
        let metadata = Metadata {
            rack_id: subscription.rack_id,
            client_id: Arc::clone(&request.client_id),
            client_host: Arc::clone(&request.client_host),
            topics: subscription.topics,
            pattern: None,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            classic: Some(ClassicMember {
                session_timeout_ms: request.session_timeout_ms,
                protocols: request.protocols.clone(),
            }),
            instance_id: request.instance_id.clone(),
            server_assignor: known.and_then(|known| known.server_assignor),
        };
        self.update(id, metadata, Some(&subscription.owned), step);
        step.downgrade &= self.may_downgrade(step.config);
        self.touch(id, step);
        let sync_ms = step.after(request.rebalance_timeout_ms);
        step.due_ms = Some(step.due_ms.map_or(sync_ms, |due_ms| due_ms.min(sync_ms)));
        let member = self.members.get_mut(id);
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        member.deadlines.join_ms = None;
        member.deadlines.sync_ms = Some(sync_ms);
        Ok(Joined {
            error: ErrorCode::None,
            generation: member.current.epoch,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            protocol: Some(Arc::clone(&offered.name)),
            leader: "".into(),
            skip_assignment: false,
            member_id: Arc::clone(id),
            members: Vec::new(),
        })
    }

    /// Tells whether a member offers a protocol that all classic members offer.
    fn supports(&self, request: &JoinRequest) -> bool {
        let all_offer = |name: &str| {
            let mut classic = self.members.values();
            classic.all(|member| match &member.metadata.classic {
                Some(classic) => classic.protocols.iter().any(|p| *p.name == *name),
                None => true,
            })
        };
        *request.protocol_type == *CONSUMER_PROTOCOL_TYPE
            && request.protocols.iter().any(|p| all_offer(&p.name))
    }

    /// Returns the member id that a static member had, when it comes back under another.
    fn returning(
        &self,
        request: &JoinRequest,
        id: &Arc<str>,
    ) -> Result<Option<Arc<str>>, ErrorCode> {
        let Some(instance) = &request.instance_id else {
            return Ok(None);
        };
        match self.static_members.get(instance) {
            Some(former) if former == id => Ok(None),
            Some(former) if request.member_id.is_empty() => Ok(Some(Arc::clone(former))),
            Some(_) => Err(ErrorCode::FencedInstanceId),
            None if request.member_id.is_empty() => Ok(None),
            None => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Tells a classic member what it has.
    ///
    /// # Errors
    /// Those of the classic protocol; REBALANCE_IN_PROGRESS when it has to join again.
    pub fn sync(
        &mut self,
        request: &SyncRequest,
        step: &mut Step<'_>,
    ) -> Result<Synced, ErrorCode> {
        self.check_alive()?;
        let instance_id = request.instance_id.as_deref();
        let member =
            self.classic_member(&request.member_id, instance_id, Some(request.generation))?;
        let classic = member.metadata.classic.as_ref();
        let offered = classic.and_then(|classic| classic.protocols.first());
        let offered = offered.ok_or(ErrorCode::UnknownMemberId)?;
        let differs =
            |said: &Option<Arc<str>>, is: &str| said.as_ref().is_some_and(|said| **said != *is);
        if differs(&request.protocol_type, CONSUMER_PROTOCOL_TYPE)
            || differs(&request.protocol, &offered.name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let current = &member.current;
        let revokes = current.state == MemberState::UnrevokedPartitions;
        if self.epoch > current.epoch && !revokes {
            self.await_join(&request.member_id, step);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let assignment = embedded::assignment(&current.assigned, &offered.metadata, step.topics);
        let synced = Synced {
            error: ErrorCode::None,
            protocol_type: request.protocol_type.clone(),
            protocol: request.protocol.clone(),
            assignment: assignment.map_err(|_| ErrorCode::UnknownServerError)?,
        };
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.deadlines.sync_ms = None;
        }
        self.touch(&request.member_id, step);
        Ok(synced)
    }

    /// Keeps a classic member alive.
    ///
    /// # Errors
    /// Those of the classic protocol; REBALANCE_IN_PROGRESS when it has to join again: its target is newer, or it has
    /// to give something back, or it can have something that others gave back.
    pub fn classic_heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        self.check_alive()?;
        let member = self.classic_member(member_id, instance_id, Some(generation))?;
        let has_to_join = member.current.epoch < self.epoch
            || match member.current.state {
                MemberState::Stable => false,
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(member_id, member),
            };
        self.touch(member_id, step);
        if has_to_join {
            self.await_join(member_id, step);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Lets a classic member go; with an empty member id, the static member of that name.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
    pub fn classic_leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        self.check_alive()?;
        let known = match instance_id {
            Some(instance) if member_id.is_empty() => self.static_members.get(instance),
            _ => None,
        };
        let id = known.map_or_else(|| Arc::from(member_id), Arc::clone);
        self.classic_member(&id, instance_id, None)?;
        self.fence(&id, step);
        Ok(())
    }

    /// Finds a member that speaks the classic protocol.
    fn classic_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: Option<i32>,
    ) -> Result<&Member, ErrorCode> {
        if let Some(instance) = instance_id {
            let known = self.static_members.get(instance);
            let known = known.ok_or(ErrorCode::UnknownMemberId)?;
            check_instance(known, member_id, instance).map_err(|refusal| refusal.error)?;
        }
        let member = self.members.get(member_id);
        let member = member.filter(|member| member.is_classic());
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if generation.is_some_and(|generation| generation != member.current.epoch) {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(member)
    }

    /// Tells whether others still have partitions that the member is to have.
    fn waits_for_others(&self, member_id: &str, member: &Member) -> bool {
        let target = self.targets.get(member_id).into_iter().flatten();
        let mut missing = target.filter(|partition| !member.current.assigned.contains(partition));
        missing.any(|partition| self.owners.contains_key(partition))
    }

    /// Gives a member its rebalance timeout to join again.
    fn await_join(&mut self, member_id: &str, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let join_ms = step.after(member.metadata.rebalance_timeout_ms);
        let join_ms = *member.deadlines.join_ms.get_or_insert(join_ms);
        step.due_ms = Some(step.due_ms.map_or(join_ms, |due_ms| due_ms.min(join_ms)));
    }
}

/// Returns what a member says for its first protocol.
pub(super) fn first_metadata(classic: &ClassicMember) -> Bytes {
    classic
        .protocols
        .first()
        .map_or_else(Bytes::new, |offered| offered.metadata.clone())
}
