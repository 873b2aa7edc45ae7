//! Classic groups become consumer groups, and the other way round, with their members in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::classic::first_metadata;
use super::embedded;
use super::group::{ConsumerGroup, Step};
use super::member::{ClassicMember, Current, Member, Metadata};
use super::topics::Topics;
use crate::groups::group::{CONSUMER_PROTOCOL_TYPE, Group, Now};
use crate::groups::member;

impl ConsumerGroup {
    /// Makes a consumer group of a classic one: everyone keeps what it was assigned, in the generation as its epoch.
    /// `None` when that can't be: its members are no consumers or speak something malformed, there are too many of
    /// them, or the policy forbids it. Members that wait for an answer have to be told to join again.
    pub fn upgraded(group: &Group, step: &mut Step<'_>) -> Option<Self> {
        let is_consumer = group.protocol_type().map(|kind| &**kind) == Some(CONSUMER_PROTOCOL_TYPE);
        let fits = group.members().count() <= step.config.max_size;
        if !step.config.migration.upgrade || !is_consumer || !fits {
            return None;
        }
        let mut upgraded = Self::new(Arc::clone(group.id()));
        upgraded.epoch = group.generation();
        upgraded.target_epoch = group.generation();
        for member in group.members() {
            upgraded.adopt(member, group.generation(), step.topics)?;
        }
        upgraded.touch_all(step);
        step.due_ms = upgraded.next_deadline_ms();
        step.records.extend(upgraded.snapshot());
        Some(upgraded)
    }

    fn adopt(&mut self, member: &member::Member, epoch: i32, topics: &Topics) -> Option<()> {
        let classic = ClassicMember {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        };
        let subscription = embedded::subscription(&first_metadata(&classic), topics).ok()?;
        let mut assigned = embedded::assigned(&member.assignment, topics).ok()?;
        // A leader may have given a partition to two; whoever comes first keeps it.
        assigned.retain(|partition| !self.owners.contains_key(partition));
        let metadata = Metadata {
            instance_id: member.instance_id.clone(),
            rack_id: subscription.rack_id,
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            topics: subscription.topics,
            pattern: None,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            server_assignor: None,
            classic: Some(classic),
        };
        self.targets
            .insert(Arc::clone(&member.id), assigned.clone());
        let current = Current {
            epoch,
            previous_epoch: epoch,
            assigned,
            ..Current::default()
        };
        self.insert_restored(&member.id, metadata, current);
        Some(())
    }

    /// Puts a member in as it was, without storing it.
    pub(super) fn insert_restored(&mut self, id: &Arc<str>, metadata: Metadata, current: Current) {
        for partition in current.assigned.iter().chain(&current.revoking) {
            self.owners.insert(*partition, Arc::clone(id));
        }
        if let Some(instance) = &metadata.instance_id {
            self.static_members
                .insert(Arc::clone(instance), Arc::clone(id));
        }
        let mut member = Member::new(metadata);
        member.current = current;
        self.members.insert(Arc::clone(id), member);
    }

    /// Makes a classic group of one whose members are all classic ones. They keep what they have until they have
    /// joined again; that has to be started.
    pub fn downgraded(&self, topics: &Topics, now: Now) -> Group {
        let members = self.members.iter().filter_map(|(id, member)| {
            let classic = member.metadata.classic.as_ref()?;
            let subscription = first_metadata(classic);
            let assigned = &member.current.assigned;
            let assignment = embedded::assignment(assigned, &subscription, topics);
            Some(member::Member {
                id: Arc::clone(id),
                instance_id: member.metadata.instance_id.clone(),
                client_id: Arc::clone(&member.metadata.client_id),
                client_host: Arc::clone(&member.metadata.client_host),
                rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic.protocols.clone(),
                assignment: assignment.unwrap_or_else(|_| Bytes::new()),
                is_new: false,
                awaiting_join: None,
                awaiting_sync: None,
                expires_ms: now
                    .monotonic_ms
                    .saturating_add(classic.session_timeout_ms.into()),
            })
        });
        let members: BTreeMap<Arc<str>, member::Member> = members
            .map(|member| (Arc::clone(&member.id), member))
            .collect();
        Group::of_members(Arc::clone(&self.id), self.epoch, members, now)
    }
}
