//! How groups go: deleted by somebody, or because nothing is left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::Context;
use troupe_protocol::kafka::errors::ErrorCode;

use super::commits::tombstones;
use super::coordinator::Coordinator;
use super::offsets::TopicPartition;
use super::requests::answer;
use super::writes::Completion;
use crate::partition::{Answer, Reply};

impl Coordinator {
    pub(super) fn delete_group(
        &mut self,
        id: &Arc<str>,
        reply: Reply<()>,
        ctx: &mut Context<Self>,
    ) {
        let Some(entry) = self.entry(id) else {
            return answer(reply, Err(ErrorCode::GroupIdNotFound));
        };
        if let Err(error) = entry.kill() {
            return answer(reply, Err(error));
        }
        self.bury(id, Some(reply));
        self.write(ctx);
    }

    /// Has a group that was killed removed once everything under way is in the log: that has to go too.
    fn bury(&mut self, id: &Arc<str>, reply: Option<Reply<()>>) {
        let group = Arc::clone(id);
        self.writes
            .push(Vec::new(), Completion::Burial { group, reply });
    }

    /// Writes the tombstones of a group that was killed.
    pub(super) fn remove_group(&mut self, id: &Arc<str>, reply: Option<Reply<()>>) {
        let Some(entry) = self.groups.as_ref().and_then(|groups| groups.get(id)) else {
            return;
        };
        let committed = entry.offsets.iter().map(|(partition, _)| partition);
        let partitions: BTreeSet<&TopicPartition> = committed
            .chain(self.open_transactions.partitions_of(id))
            .collect();
        let group = entry.tombstones(id);
        let records = tombstones(id, partitions).and_then(|mut records| {
            records.extend(group?);
            Ok(records)
        });
        let group = Arc::clone(id);
        self.enqueue(records, Completion::DeleteGroup { group, reply });
    }

    /// Forgets offsets that have expired, except for those that an open transaction may change, and groups of which
    /// nothing is left.
    pub(super) fn expire(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        let retention_ms = self.start.config.offsets_retention_ms;
        let ids: Vec<Arc<str>> = self
            .groups
            .iter()
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect();
        for id in ids {
            let Some(entry) = self.groups.as_mut().and_then(|groups| groups.get_mut(&id)) else {
                continue;
            };
            // What a transaction has to say of a partition may count soon.
            let open = &self.open_transactions;
            let mut expired = entry.expired_offsets(retention_ms, now);
            expired.retain(|partition| !open.is_unstable(&id, partition));
            let nothing_left = expired.len() == entry.offsets.iter().count();
            if nothing_left
                && !open.concern(&id)
                && entry.writes_under_way == 0
                && entry.is_idle()
                && entry.can_expire()
                && entry.kill().is_ok()
            {
                tracing::info!(group = %id, offsets = expired.len(), "a group expired");
                self.bury(&id, None);
            } else if !expired.is_empty() {
                tracing::info!(group = %id, offsets = expired.len(), "offsets expired");
                self.enqueue(
                    tombstones(&id, &expired),
                    Completion::DeleteOffsets {
                        group: id,
                        partitions: expired,
                        reply: None,
                    },
                );
            }
        }
        self.write(ctx);
    }

    pub(super) fn group_removed(
        &mut self,
        group: &str,
        reply: Option<Reply<()>>,
        result: Answer<()>,
    ) {
        match (result, &mut self.groups) {
            (Ok(()), Some(groups)) => {
                groups.remove(group);
                self.open_transactions.group_superseded(group);
            }
            (Err(_), Some(groups)) => {
                if let Some(entry) = groups.get_mut(group) {
                    entry.revive();
                }
            }
            (_, None) => {}
        }
        if let Some(reply) = reply {
            answer(reply, result);
        }
    }
}
