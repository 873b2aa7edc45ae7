//! What the coordinator does for share groups.

use std::sync::Arc;

use actix::Context;
use troupe_protocol::kafka::errors::ErrorCode;

use super::assignor::Topic;
use super::group::{JOIN_EPOCH, ShareBeat, ShareGroup, ShareHeartbeat};
use super::records::ShareRecord;
use crate::groups::coordinator::Coordinator;
use crate::groups::entry::{Entry, Kind};
use crate::groups::offsets::Offsets;
use crate::groups::requests::{Request, answer};
use crate::groups::writes::{Completion, Deferred};
use crate::metadata::MetadataImage;
use crate::partition::{Answer, Reply};

impl Coordinator {
    /// Performs a request about share groups; gives others back.
    pub(in crate::groups) fn perform_for_shares(
        &mut self,
        request: Request,
        ctx: &mut Context<Self>,
    ) -> Option<Request> {
        match request {
            Request::ShareHeartbeat {
                group,
                beat,
                image,
                reply,
            } => {
                self.share_heartbeat(&group, beat, &image, reply, ctx);
                None
            }
            Request::DescribeShare { group, reply } => {
                let found = self.entry(&group).and_then(Entry::share).cloned();
                answer(reply, Ok(found));
                None
            }
            // A share group has no joining and no committing members.
            Request::Join { group, reply, .. } if self.is_share(&group) => {
                answer(reply, Err(ErrorCode::InconsistentGroupProtocol));
                None
            }
            Request::Commit { group, reply, .. } if self.is_share(&group) => {
                answer(reply, Err(ErrorCode::GroupIdNotFound));
                None
            }
            Request::TransactionalCommit { group, reply, .. } if self.is_share(&group) => {
                answer(reply, Err(ErrorCode::GroupIdNotFound));
                None
            }
            other => Some(other),
        }
    }

    fn is_share(&mut self, id: &str) -> bool {
        self.entry(id).and_then(Entry::share).is_some()
    }

    fn share_heartbeat(
        &mut self,
        id: &Arc<str>,
        beat: ShareHeartbeat,
        image: &MetadataImage,
        reply: Reply<ShareBeat>,
        ctx: &mut Context<Self>,
    ) {
        let now_ms = self.now().monotonic_ms;
        let group = match self.share_group(id, beat.member_epoch) {
            Ok(group) => group,
            Err(error) => return answer(reply, Err(error)),
        };
        match group.heartbeat(beat, now_ms, |name| find(image, name)) {
            Ok((beat, records)) if records.is_empty() => answer(reply, Ok(beat)),
            Ok((beat, records)) => {
                let then = Deferred::new(move |stored| answer(reply, stored.map(|()| beat)));
                self.store_share(id, &records, then);
            }
            Err(error) => answer(reply, Err(error)),
        }
        self.plan(id);
        self.set_alarm(ctx);
        self.write(ctx);
    }

    /// Returns a share group; whoever joins makes it.
    fn share_group(&mut self, id: &Arc<str>, member_epoch: i32) -> Answer<&mut ShareGroup> {
        let groups = self.groups.as_mut();
        let groups = groups.ok_or(ErrorCode::CoordinatorLoadInProgress)?;
        if member_epoch == JOIN_EPOCH {
            groups
                .entry(Arc::clone(id))
                .or_insert_with(|| Entry::new(Kind::Share(ShareGroup::new()), Offsets::default()));
        }
        let entry = groups.get_mut(id).ok_or(ErrorCode::UnknownMemberId)?;
        entry.share().ok_or(ErrorCode::GroupIdNotFound)
    }

    /// Sends members away that were silent for too long.
    pub(in crate::groups) fn share_tick(&mut self, id: &Arc<str>) {
        let now_ms = self.now().monotonic_ms;
        let Some(group) = self.entry(id).and_then(Entry::share) else {
            return;
        };
        let (expired, records) = group.tick(now_ms);
        for member in expired {
            tracing::info!(group = %id, %member, "a member of a share group was silent for too long");
        }
        if !records.is_empty() {
            // The next heartbeat tells the others.
            self.store_share(id, &records, Deferred::new(|_| {}));
        }
        self.plan(id);
    }

    fn store_share(&mut self, id: &str, records: &[ShareRecord], then: Deferred) {
        let records = records.iter().map(|record| record.encode(id));
        self.enqueue(records.collect(), Completion::Shares { then });
    }
}

fn find(image: &MetadataImage, name: &str) -> Option<Topic> {
    let topic = image.topic(name)?;
    Some(Topic {
        id: topic.id,
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    })
}
