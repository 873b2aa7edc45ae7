//! ConsumerGroupHeartbeat: members join, say what they have, learn what is theirs, and leave.

use std::collections::BTreeSet;
use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;

use super::assign::Assignor;
use super::group::{ConsumerConfig, ConsumerGroup, Refusal, Step};
use super::member::{Current, Member, Metadata, Partitions};
use super::pattern;
use super::records::Record;

/// The epoch of a member that leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// The epoch of a static member that leaves for a while.
pub const LEAVE_FOR_A_WHILE_EPOCH: i32 = -2;

/// A heartbeat. What is `None` is as it was.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat {
    /// Member id.
    pub member_id: Arc<str>,
    /// The epoch it is in; 0 to join, -1 to leave, -2 to leave for a while.
    pub member_epoch: i32,
    /// Name of a static member.
    pub instance_id: Option<Arc<str>>,
    /// Where it is.
    pub rack_id: Option<Arc<str>>,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Where its client is, as `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// How long it may take to give partitions back, in milliseconds.
    pub rebalance_timeout_ms: Option<i32>,
    /// The topics that it subscribes to by name.
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// The topics that it subscribes to by a regular expression; empty for none.
    pub pattern: Option<Arc<str>>,
    /// The assignor that it wants.
    pub server_assignor: Option<Arc<str>>,
    /// What it owns.
    pub owned: Option<Partitions>,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Member id.
    pub member_id: Arc<str>,
    /// The member's epoch from now on.
    pub member_epoch: i32,
    /// When to heartbeat next, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// What the member may read; `None` when that is as it was.
    pub assignment: Option<Partitions>,
}

/// Who speaks, to the group.
enum Speaker {
    New,
    Known,
    /// A member that begins anew, since it was fenced or heard nothing: it has given up what it had.
    Rejoining,
    /// A static member that comes back under another member id.
    Returning(Arc<str>),
}

impl Heartbeat {
    /// Checks what can be checked without a group.
    ///
    /// # Errors
    /// INVALID_REQUEST, UNSUPPORTED_ASSIGNOR, INVALID_REGULAR_EXPRESSION.
    pub fn check(&self, config: &ConsumerConfig) -> Result<(), Refusal> {
        let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        let is_blank =
            |text: &Option<Arc<str>>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        if is_blank(&self.instance_id) {
            return invalid("InstanceId can't be empty.");
        }
        if is_blank(&self.rack_id) {
            return invalid("RackId can't be empty.");
        }
        if self.member_id.trim().is_empty() {
            return invalid("MemberId can't be empty.");
        }
        match self.member_epoch {
            LEAVE_FOR_A_WHILE_EPOCH if self.instance_id.is_none() => {
                return invalid("InstanceId can't be null.");
            }
            0 => self.check_join()?,
            LEAVE_FOR_A_WHILE_EPOCH.. => {}
            _ => return invalid("MemberEpoch is invalid."),
        }
        if self
            .rebalance_timeout_ms
            .is_some_and(|timeout_ms| timeout_ms < 0)
        {
            return invalid("RebalanceTimeoutMs is invalid.");
        }
        self.check_assignor(config)?;
        self.check_pattern()
    }

    fn check_join(&self) -> Result<(), Refusal> {
        let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        if self.rebalance_timeout_ms.is_none() {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        let by_name = self
            .topics
            .as_ref()
            .is_some_and(|topics| !topics.is_empty());
        let by_pattern = self
            .pattern
            .as_ref()
            .is_some_and(|pattern| !pattern.is_empty());
        if !by_name && !by_pattern {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
        Ok(())
    }

    fn check_assignor(&self, config: &ConsumerConfig) -> Result<(), Refusal> {
        let Some(name) = self.server_assignor.as_deref() else {
            return Ok(());
        };
        let offered = Assignor::named(name);
        if offered.is_some_and(|assignor| config.assignors.contains(&assignor)) {
            return Ok(());
        }
        let names: Vec<&str> = config.assignors.iter().map(|a| a.name()).collect();
        let names = names.join(", ");
        Err(Refusal::new(
            ErrorCode::UnsupportedAssignor,
            format!("ServerAssignor {name} is not supported. Supported assignors: {names}."),
        ))
    }

    fn check_pattern(&self) -> Result<(), Refusal> {
        let Some(pattern) = self.pattern.as_deref() else {
            return Ok(());
        };
        pattern::compile(pattern).map(drop).map_err(|reason| {
            Refusal::new(
                ErrorCode::InvalidRegularExpression,
                format!(
                    "SubscribedTopicRegex `{pattern}` is not a valid regular expression: {reason}."
                ),
            )
        })
    }

    /// Tells whether the member says all that it can, as after an error: it wants to hear all, too.
    fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.pattern.is_some();
        let complete = self.rebalance_timeout_ms.is_some() && subscribes && self.owned.is_some();
        self.member_epoch == 0 || complete
    }

    fn apply(&self, mut metadata: Metadata) -> Metadata {
        metadata.client_id = Arc::clone(&self.client_id);
        metadata.client_host = Arc::clone(&self.client_host);
        metadata.classic = None;
        if let Some(instance_id) = &self.instance_id {
            metadata.instance_id = Some(Arc::clone(instance_id));
        }
        if let Some(rack_id) = &self.rack_id {
            metadata.rack_id = Some(Arc::clone(rack_id));
        }
        if let Some(timeout_ms) = self.rebalance_timeout_ms {
            metadata.rebalance_timeout_ms = timeout_ms;
        }
        if let Some(topics) = &self.topics {
            metadata.topics.clone_from(topics);
        }
        if let Some(pattern) = &self.pattern {
            metadata.pattern = Some(Arc::clone(pattern)).filter(|pattern| !pattern.is_empty());
        }
        if let Some(assignor) = &self.server_assignor {
            metadata.server_assignor = Some(Arc::clone(assignor));
        }
        metadata
    }
}

impl ConsumerGroup {
    /// Takes a heartbeat that [`Heartbeat::check`] found fine.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH, FENCED_INSTANCE_ID, UNRELEASED_INSTANCE_ID, GROUP_MAX_SIZE_REACHED: then
    /// nothing has changed.
    pub fn heartbeat(&mut self, beat: &Heartbeat, step: &mut Step<'_>) -> Result<Beat, Refusal> {
        self.check_alive()?;
        if beat.member_epoch < 0 {
            return self.leave(beat, step);
        }
        self.check_room(&beat.member_id, step.config.max_size)?;
        let speaker = self.speaker(beat)?;
        let id = &beat.member_id;
        match &speaker {
            Speaker::Returning(former) => self.rename(former, id, step),
            Speaker::Rejoining => self.put_current(id, Current::default(), step),
            Speaker::New | Speaker::Known => {}
        }
        let member = self.members.get(id);
        let before = member.map_or_else(Partitions::new, |m| m.current.assigned.clone());
        let metadata = member.map(|m| m.metadata.clone()).unwrap_or_default();
        self.update(id, beat.apply(metadata), beat.owned.as_ref(), step);
        if let Some(member) = self.members.get_mut(id) {
            // Whoever was a classic member has these no more.
            member.deadlines.join_ms = None;
            member.deadlines.sync_ms = None;
        }
        self.touch(id, step);
        let current = self.members.get(id).map(|member| &member.current);
        let current = current.ok_or(ErrorCode::UnknownMemberId)?;
        let tells = beat.is_full() || current.assigned != before;
        Ok(Beat {
            member_id: Arc::clone(id),
            member_epoch: current.epoch,
            heartbeat_interval_ms: step.config.heartbeat_interval_ms,
            assignment: tells.then(|| current.assigned.clone()),
        })
    }

    pub(super) fn check_room(&self, member_id: &str, max_size: usize) -> Result<(), Refusal> {
        if self.members.len() < max_size || self.members.contains_key(member_id) {
            return Ok(());
        }
        Err(Refusal::new(
            ErrorCode::GroupMaxSizeReached,
            format!("The consumer group has reached its maximum capacity of {max_size} members."),
        ))
    }

    fn speaker(&self, beat: &Heartbeat) -> Result<Speaker, Refusal> {
        let joins = beat.member_epoch == 0;
        let Some(instance) = &beat.instance_id else {
            return match self.members.get(&beat.member_id) {
                Some(_) if joins => Ok(Speaker::Rejoining),
                Some(member) => check_epoch(member, beat).map(|()| Speaker::Known),
                None if joins => Ok(Speaker::New),
                None => Err(unknown(&beat.member_id, &self.id)),
            };
        };
        let Some(id) = self.static_members.get(instance) else {
            return if joins {
                Ok(Speaker::New)
            } else {
                Err(Refusal::new(
                    ErrorCode::UnknownMemberId,
                    format!("Instance id {instance} is unknown."),
                ))
            };
        };
        let member = self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?;
        if !joins {
            check_instance(id, &beat.member_id, instance)?;
            return check_epoch(member, beat).map(|()| Speaker::Known);
        }
        let is_away = member.current.epoch == LEAVE_FOR_A_WHILE_EPOCH;
        if *id == beat.member_id && !is_away {
            return Ok(Speaker::Rejoining);
        }
        if !is_away && !member.is_classic() {
            return Err(Refusal::new(
                ErrorCode::UnreleasedInstanceId,
                format!(
                    "Static member {} with instance id {instance} cannot join the group because the instance id is owned by {id} member.",
                    beat.member_id
                ),
            ));
        }
        Ok(Speaker::Returning(Arc::clone(id)))
    }

    /// Gives what a static member has to its new member id, in which it begins with epoch 0.
    pub(super) fn rename(&mut self, from: &Arc<str>, to: &Arc<str>, step: &mut Step<'_>) {
        let target = self.targets.get(from).cloned().unwrap_or_default();
        let Some(member) = self.remove(from, step) else {
            return;
        };
        let metadata = member.metadata;
        let record = Record::Member(Arc::clone(to), Some(metadata.clone()));
        step.records.push(record);
        step.records
            .push(Record::Target(Arc::clone(to), Some(target.clone())));
        if let Some(instance) = &metadata.instance_id {
            self.static_members
                .insert(Arc::clone(instance), Arc::clone(to));
        }
        self.members.insert(Arc::clone(to), Member::new(metadata));
        self.targets.insert(Arc::clone(to), target);
        self.departed.remove(to);
        let current = Current {
            epoch: 0,
            previous_epoch: 0,
            ..member.current
        };
        self.put_current(to, current, step);
    }

    fn leave(&mut self, beat: &Heartbeat, step: &mut Step<'_>) -> Result<Beat, Refusal> {
        let id = &beat.member_id;
        if let Some(instance) = &beat.instance_id {
            let known = self.static_members.get(instance).ok_or_else(|| {
                let message = format!("Instance id {instance} is unknown.");
                Refusal::new(ErrorCode::UnknownMemberId, message)
            })?;
            check_instance(known, id, instance)?;
        }
        let member = self.members.get(id);
        let member = member.ok_or_else(|| unknown(id, &self.id))?;
        if beat.member_epoch == LEAVE_FOR_A_WHILE_EPOCH {
            // It keeps what it is to have, as long as its session lasts.
            let current = Current {
                epoch: LEAVE_FOR_A_WHILE_EPOCH,
                revoking: Partitions::new(),
                ..member.current.clone()
            };
            self.put_current(id, current, step);
            if let Some(member) = self.members.get_mut(id) {
                member.deadlines.revoke_ms = None;
            }
        } else {
            self.fence(id, step);
        }
        Ok(Beat {
            member_id: Arc::clone(id),
            member_epoch: beat.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// Checks who commits offsets: a member in its epoch, or anybody while the group is empty.
    ///
    /// # Errors
    /// Those of [`check_member_epoch`](Self::check_member_epoch).
    pub fn check_commit(
        &self,
        member_id: &str,
        epoch: i32,
        knows_epochs: bool,
    ) -> Result<(), ErrorCode> {
        self.check_alive()?;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check_member_epoch(member_id, epoch, knows_epochs)
    }

    /// Checks who commits or reads offsets. `knows_epochs` tells whether the request is of a version that does.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID; STALE_MEMBER_EPOCH, for a classic member ILLEGAL_GENERATION; UNSUPPORTED_VERSION.
    pub fn check_member_epoch(
        &self,
        member_id: &str,
        epoch: i32,
        knows_epochs: bool,
    ) -> Result<(), ErrorCode> {
        let member = self.members.get(member_id);
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if !knows_epochs && !member.is_classic() {
            return Err(ErrorCode::UnsupportedVersion);
        }
        match epoch == member.current.epoch {
            true => Ok(()),
            false if member.is_classic() => Err(ErrorCode::IllegalGeneration),
            false => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}

fn unknown(member_id: &str, group: &str) -> Refusal {
    Refusal::new(
        ErrorCode::UnknownMemberId,
        format!("Member {member_id} is not a member of group {group}."),
    )
}

pub(super) fn check_instance(known: &str, said: &str, instance: &str) -> Result<(), Refusal> {
    if known == said {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::FencedInstanceId,
        format!("Static member {said} with instance id {instance} was fenced by member {known}."),
    ))
}

/// Checks the epoch that a member says it is in. The one before is fine when the answer that told the newer one may
/// have got lost: the member has nothing then that it did not have before.
fn check_epoch(member: &Member, beat: &Heartbeat) -> Result<(), Refusal> {
    let (said, current) = (beat.member_epoch, &member.current);
    if said == current.epoch {
        return Ok(());
    }
    let has_no_more = |owned: &Partitions| owned.is_subset(&current.assigned);
    if said < current.epoch
        && said == current.previous_epoch
        && beat.owned.as_ref().is_some_and(has_no_more)
    {
        return Ok(());
    }
    let comparison = if said > current.epoch {
        "greater"
    } else {
        "smaller"
    };
    Err(Refusal::new(
        ErrorCode::FencedMemberEpoch,
        format!(
            "The consumer group member has a {comparison} member epoch ({said}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
            current.epoch
        ),
    ))
}
