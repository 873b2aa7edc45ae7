//! A group of any kind, with what it has committed.
//!
//! To add a kind of groups: a variant of [`Kind`], what [`Entry`] asks of it, its requests in the coordinator.

use std::collections::BTreeSet;

use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::consumer::group::ConsumerGroup;
use super::group::{CONSUMER_PROTOCOL_TYPE, Group, GroupDescription, Now, Retention};
use super::offsets::{Offsets, RetainedFrom, TopicPartition};
use super::records::group_key;
use super::share::group::ShareGroup;
use crate::internal_topic::fields::TooLong;
use crate::partition::Answer;

/// What a group is, by the protocol of its members.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Members assign among themselves.
    Classic(Group),
    /// The coordinator assigns (KIP-848).
    Consumer(ConsumerGroup),
    /// Members share partitions (KIP-932).
    Share(ShareGroup),
}

/// A group.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// What it has committed.
    pub(super) offsets: Offsets,
    /// How many writes of its offsets are under way.
    pub(super) writes_under_way: usize,
}

impl Entry {
    pub(super) fn new(kind: Kind, offsets: Offsets) -> Self {
        Self {
            kind,
            offsets,
            writes_under_way: 0,
        }
    }

    /// Returns the group if it is a classic one.
    pub(super) fn classic(&mut self) -> Option<&mut Group> {
        match &mut self.kind {
            Kind::Classic(group) => Some(group),
            Kind::Consumer(_) | Kind::Share(_) => None,
        }
    }

    /// Returns the group if it is a consumer group.
    pub(super) fn consumer(&mut self) -> Option<&mut ConsumerGroup> {
        match &mut self.kind {
            Kind::Classic(_) | Kind::Share(_) => None,
            Kind::Consumer(group) => Some(group),
        }
    }

    /// Returns the group if it is a share group.
    pub(super) fn share(&mut self) -> Option<&mut ShareGroup> {
        match &mut self.kind {
            Kind::Classic(_) | Kind::Consumer(_) => None,
            Kind::Share(group) => Some(group),
        }
    }

    /// Tells whether the group goes by itself when nothing is left of it. The states of a share group's partitions are
    /// kept elsewhere.
    pub(super) fn can_expire(&self) -> bool {
        !matches!(self.kind, Kind::Share(_))
    }

    /// Tells whether the group has no members and none on their way.
    pub(super) fn is_idle(&self) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.is_idle(),
            Kind::Consumer(group) => group.is_empty(),
            Kind::Share(group) => group.members().next().is_none(),
        }
    }

    /// Tells whether nothing would be lost without the group: it never came to be anything.
    pub(super) fn is_void(&self) -> bool {
        let nothing_stored = match &self.kind {
            Kind::Classic(group) => group.generation() == 0,
            Kind::Consumer(group) => group.epoch() == 0,
            Kind::Share(group) => group.epoch() == 0,
        };
        nothing_stored && self.is_idle() && self.offsets.is_empty() && self.writes_under_way == 0
    }

    /// Returns when the group has something to do at the earliest, on the monotonic clock.
    pub(super) fn next_deadline_ms(&self) -> Option<i64> {
        match &self.kind {
            Kind::Classic(group) => group.next_deadline_ms(),
            Kind::Consumer(group) => group.next_deadline_ms(),
            Kind::Share(group) => group.next_deadline_ms(),
        }
    }

    /// Tells whether offsets of these topics may be deleted, as [`Group::deletable`] does.
    pub(super) fn deletable<'t>(
        &self,
        topics: impl Iterator<Item = &'t str>,
    ) -> Answer<Vec<Answer<()>>> {
        match &self.kind {
            Kind::Classic(group) => group.deletable(topics),
            Kind::Consumer(group) => {
                let subscribed: BTreeSet<&str> =
                    group.subscribed_topics().map(|topic| &**topic).collect();
                let check = |topic: &str| match subscribed.contains(topic) {
                    true => Err(ErrorCode::GroupSubscribedToTopic),
                    false => Ok(()),
                };
                Ok(topics.map(check).collect())
            }
            Kind::Share(_) => Ok(topics.map(|_| Ok(())).collect()),
        }
    }

    /// Marks the group for removal, as [`Group::kill`] does.
    pub(super) fn kill(&mut self) -> Answer<()> {
        match &mut self.kind {
            Kind::Classic(group) => group.kill(),
            Kind::Consumer(group) => group.kill(),
            Kind::Share(group) => group.kill(),
        }
    }

    /// Takes that mark back.
    pub(super) fn revive(&mut self) {
        match &mut self.kind {
            Kind::Classic(group) => group.revive(),
            Kind::Consumer(group) => group.revive(),
            Kind::Share(group) => group.revive(),
        }
    }

    /// Returns the tombstones of the group itself.
    pub(super) fn tombstones(&self, id: &str) -> Result<Vec<(Bytes, Option<Bytes>)>, TooLong> {
        match &self.kind {
            Kind::Classic(_) => Ok(vec![(group_key(id)?, None)]),
            Kind::Consumer(group) => {
                let records = group.tombstones();
                records.iter().map(|record| record.encode(id)).collect()
            }
            Kind::Share(_) => {
                let records = ShareGroup::tombstones();
                records.iter().map(|record| record.encode(id)).collect()
            }
        }
    }

    fn retention(&self) -> Option<Retention> {
        match &self.kind {
            Kind::Classic(group) => group.retention(),
            Kind::Consumer(group) => {
                let subscribed = group.subscribed_topics().map(|topic| topic.to_string());
                Some((RetainedFrom::Commit, subscribed.collect()))
            }
            Kind::Share(_) => None,
        }
    }

    /// Lists the offsets that have expired, `retention_ms` after the moment that the group says.
    pub(super) fn expired_offsets(&self, retention_ms: i64, now: Now) -> Vec<TopicPartition> {
        if self.writes_under_way > 0 {
            return Vec::new();
        }
        let Some((from, subscribed)) = self.retention() else {
            return Vec::new();
        };
        self.offsets
            .expired(from, retention_ms, now.wall_ms, &subscribed)
    }

    /// Describes the group without its members.
    pub(super) fn summary(&self) -> GroupDescription {
        match &self.kind {
            Kind::Classic(group) => group.summary(),
            Kind::Consumer(group) => GroupDescription {
                kind: "Consumer",
                state: group.state_name(),
                protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
                protocol: "".into(),
                members: Vec::new(),
            },
            Kind::Share(group) => GroupDescription {
                kind: "Share",
                state: group.state(),
                protocol_type: "share".into(),
                protocol: "".into(),
                members: Vec::new(),
            },
        }
    }
}
