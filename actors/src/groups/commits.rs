//! What the coordinator does about committed offsets: it takes, tells and deletes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::Context;
use troupe_protocol::kafka::errors::ErrorCode;

use super::coordinator::Coordinator;
use super::group::{Group, Step};
use super::offsets::{CommittedOffset, TopicPartition};
use super::records;
use super::requests::{FetchedOffset, MemberRef, answer};
use super::writes::{Completion, DeletionReply};
use crate::internal_topic::fields::TooLong;
use crate::internal_topic::writes::KeyValue;
use crate::partition::{Answer, Reply};

impl Coordinator {
    pub(super) fn check_commit(
        &mut self,
        group: &Arc<str>,
        member: &MemberRef,
        generation: i32,
        knows_epochs: bool,
    ) -> Answer<()> {
        if let Some(group) = self.consumer(group) {
            return group.check_commit(&member.member_id, generation, knows_epochs);
        }
        let config = Arc::clone(&self.start.config);
        let step = Step::new(&config, self.now());
        let group = self.committing_group(group, generation)?;
        let instance_id = member.instance_id.as_deref();
        group.check_commit(&member.member_id, instance_id, generation, &step)
    }

    /// Returns the group that somebody commits to; who is no member may be the first to.
    pub(super) fn committing_group(
        &mut self,
        group: &Arc<str>,
        generation: i32,
    ) -> Answer<&mut Group> {
        if generation < 0 {
            self.group_or_new(group);
        }
        self.group(group).ok_or(ErrorCode::IllegalGeneration)
    }

    pub(super) fn commit(
        &mut self,
        group: Arc<str>,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        reply: Reply<()>,
        ctx: &mut Context<Self>,
    ) {
        if let Some(entry) = self.entry(&group) {
            entry.writes_under_way += 1;
        }
        let records = Self::offset_records(&group, &offsets);
        self.enqueue(
            records,
            Completion::Commit {
                group,
                offsets,
                reply,
            },
        );
        self.write(ctx);
    }

    pub(super) fn offset_records(
        group: &str,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<Vec<KeyValue>, TooLong> {
        let records = offsets.iter().map(|((topic, partition), committed)| {
            let key = records::offset_key(group, topic, *partition)?;
            Ok((key, Some(records::offset_value(committed)?)))
        });
        records.collect()
    }

    /// Returns offsets as they are told, except for those that an open transaction may change.
    pub(super) fn told_offsets(
        &mut self,
        group: &str,
        partitions: Option<Vec<TopicPartition>>,
        require_stable: bool,
    ) -> Vec<FetchedOffset> {
        let offsets = self.offsets(group, partitions).into_iter();
        let told = offsets.map(|(partition, committed)| {
            let stable = !require_stable || !self.open_transactions.is_unstable(group, &partition);
            let told = stable.then_some(committed);
            (partition, told.ok_or(ErrorCode::UnstableOffsetCommit))
        });
        told.collect()
    }

    fn offsets(
        &self,
        group: &str,
        partitions: Option<Vec<TopicPartition>>,
    ) -> Vec<(TopicPartition, Option<CommittedOffset>)> {
        let entry = self.groups.as_ref().and_then(|groups| groups.get(group));
        let offsets = entry.map(|entry| &entry.offsets);
        match partitions {
            None => offsets
                .into_iter()
                .flat_map(|offsets| offsets.iter())
                .map(|(partition, committed)| (partition.clone(), Some(committed.clone())))
                .collect(),
            Some(partitions) => partitions
                .into_iter()
                .map(|partition| {
                    let committed = offsets.and_then(|offsets| offsets.get(&partition)).cloned();
                    (partition, committed)
                })
                .collect(),
        }
    }

    pub(super) fn delete_offsets(
        &mut self,
        group_id: &Arc<str>,
        partitions: Vec<TopicPartition>,
        reply: Reply<Vec<Answer<()>>>,
        ctx: &mut Context<Self>,
    ) {
        let Some(entry) = self.entry(group_id) else {
            return answer(reply, Err(ErrorCode::GroupIdNotFound));
        };
        let allowed = match entry.deletable(partitions.iter().map(|(topic, _)| &**topic)) {
            Ok(allowed) => allowed,
            Err(error) => return answer(reply, Err(error)),
        };
        let deleted: Vec<TopicPartition> = partitions
            .into_iter()
            .zip(&allowed)
            .filter(|(_, allowed)| allowed.is_ok())
            .map(|(partition, _)| partition)
            .collect();
        self.enqueue(
            tombstones(group_id, &deleted),
            Completion::DeleteOffsets {
                group: Arc::clone(group_id),
                partitions: deleted,
                reply: Some(DeletionReply { reply, allowed }),
            },
        );
        self.write(ctx);
    }

    /// Deletes what is committed in topics that are no more: one of the same name starts anew.
    pub(super) fn forget_topics(&mut self, topics: &BTreeSet<Arc<str>>, ctx: &mut Context<Self>) {
        let groups = self.groups.iter().flatten();
        let committed = groups.flat_map(|(id, entry)| {
            let offsets = entry.offsets.iter();
            offsets.map(move |(partition, _)| (id, partition))
        });
        let mut gone = BTreeMap::<Arc<str>, BTreeSet<TopicPartition>>::new();
        for (id, partition) in committed.chain(self.open_transactions.partitions()) {
            if topics.contains(&partition.0) {
                let partitions = gone.entry(Arc::clone(id)).or_default();
                partitions.insert(partition.clone());
            }
        }
        for (group, partitions) in gone {
            self.enqueue(
                tombstones(&group, &partitions),
                Completion::DeleteOffsets {
                    group,
                    partitions: partitions.into_iter().collect(),
                    reply: None,
                },
            );
        }
        self.write(ctx);
    }

    pub(super) fn committed(
        &mut self,
        group: &str,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        result: Answer<()>,
    ) {
        if result.is_ok() {
            for (partition, _) in &offsets {
                self.open_transactions.superseded(group, partition);
            }
        }
        if let Some(entry) = self.entry(group) {
            entry.writes_under_way = entry.writes_under_way.saturating_sub(1);
            for (partition, committed) in offsets.into_iter().filter(|_| result.is_ok()) {
                entry.offsets.put(partition, committed);
            }
        }
    }

    pub(super) fn offsets_deleted(&mut self, group: &str, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.open_transactions.superseded(group, partition);
            if let Some(entry) = self.entry(group) {
                entry.offsets.remove(partition);
            }
        }
    }
}

/// Returns the records that delete offsets.
pub(super) fn tombstones<'a>(
    group: &str,
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> Result<Vec<KeyValue>, TooLong> {
    let tombstone = |(topic, partition): &TopicPartition| {
        Ok((records::offset_key(group, topic, *partition)?, None))
    };
    partitions.into_iter().map(tombstone).collect()
}
