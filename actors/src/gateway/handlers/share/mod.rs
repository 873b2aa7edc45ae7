//! Share groups (KIP-932): ShareFetch and ShareAcknowledge, ShareGroupHeartbeat and ShareGroupDescribe, and their
//! offsets.

pub(crate) mod acknowledge;
pub(crate) mod fetch;
pub(crate) mod membership;
pub(crate) mod offsets;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::GroupId;
use troupe_protocol::kafka::produce::{LeaderIdAndEpoch, NodeEndpoint};

use super::leaders;
use crate::gateway::request::RequestContext;
use crate::metadata::MetadataImage;
use crate::partition::Answer;
use crate::share::ShareKey;
use crate::share::live::Request;
use crate::share::partition::{AcknowledgeType, AcknowledgementBatch, check_acknowledgements};
use crate::share::sessions::{SessionKey, TopicIdPartition};
use crate::uuid_text::decode_id;

/// Acknowledgements by partition, or what is wrong with them.
type Acknowledgements = BTreeMap<TopicIdPartition, Answer<Vec<AcknowledgementBatch>>>;

/// Names the session of a request.
///
/// # Errors
/// INVALID_REQUEST without a group or with a member id that is no Kafka UUID.
fn session_key(group: Option<&GroupId>, member: Option<&StrBytes>) -> Answer<SessionKey> {
    let group = group.filter(|group| !group.is_empty());
    let group = group.ok_or(ErrorCode::InvalidRequest)?;
    let member = member.filter(|member| decode_id(member).is_some());
    let member = member.ok_or(ErrorCode::InvalidRequest)?;
    Ok((
        super::group_membership::group_id(group)?,
        Arc::from(&**member),
    ))
}

/// Reads the acknowledgements of one partition: first and last offset, and types.
fn read_acknowledgements<'a>(
    batches: impl Iterator<Item = (i64, i64, &'a [i8])>,
) -> Answer<Vec<AcknowledgementBatch>> {
    let batches = batches.map(|(first, last, types)| {
        let types = types.iter().map(|&code| AcknowledgeType::try_from(code));
        Ok(AcknowledgementBatch {
            first,
            last,
            types: types.collect::<Answer<_>>()?,
        })
    });
    let batches: Vec<_> = batches.collect::<Answer<_>>()?;
    check_acknowledgements(&batches)?;
    Ok(batches)
}

fn share_key(session: &SessionKey, (topic_id, partition): TopicIdPartition) -> ShareKey {
    ShareKey {
        group: Arc::clone(&session.0),
        topic_id,
        partition,
    }
}

/// Hands acknowledgements to their share partitions, all at once.
async fn acknowledge(
    cx: &RequestContext,
    session: &SessionKey,
    acknowledgements: Acknowledgements,
) -> BTreeMap<TopicIdPartition, ErrorCode> {
    let each = acknowledgements.into_iter().map(async |(at, batches)| {
        let outcome = match batches {
            Ok(batches) => acknowledge_one(cx, session, at, batches).await,
            Err(error) => Err(error),
        };
        (at, outcome.err().unwrap_or(ErrorCode::None))
    });
    join_all(each).await.into_iter().collect()
}

async fn acknowledge_one(
    cx: &RequestContext,
    session: &SessionKey,
    at: TopicIdPartition,
    batches: Vec<AcknowledgementBatch>,
) -> Answer<()> {
    let share = &cx.broker.share;
    let live = share.live(&share_key(session, at)).await?;
    let member = Arc::clone(&session.1);
    let limits = share.limits(&share.settings(&session.0));
    live.ask(|reply| Request::Acknowledge {
        member,
        batches,
        limits,
        reply,
    })
    .await
}

/// Ends a session: whatever its member holds in these partitions is available again.
async fn release(cx: &RequestContext, session: &SessionKey, partitions: Vec<TopicIdPartition>) {
    let each = partitions.into_iter().map(async |at| {
        let live = cx.broker.share.live(&share_key(session, at)).await?;
        let member = Arc::clone(&session.1);
        live.ask(|reply| Request::Release { member, reply }).await
    });
    for released in join_all(each).await {
        if let Err(error) = released {
            // Their locks end by themselves.
            tracing::debug!(group = %session.0, %error, "records of a member are not released at once");
        }
    }
}

/// Tells clients that asked the wrong broker where to go, while an answer is made.
struct LeaderHints<'a> {
    cx: &'a RequestContext,
    image: Arc<MetadataImage>,
    leaders: Vec<LeaderIdAndEpoch>,
}

impl<'a> LeaderHints<'a> {
    fn new(cx: &'a RequestContext) -> Self {
        Self {
            cx,
            image: cx.broker.image(),
            leaders: Vec::new(),
        }
    }

    /// Names who leads a partition, when it was answered that somebody else does.
    fn leader<L: From<LeaderIdAndEpoch>>(
        &mut self,
        (topic_id, partition): TopicIdPartition,
        error: ErrorCode,
    ) -> Option<L> {
        if error != ErrorCode::NotLeaderOrFollower {
            return None;
        }
        let partition = self.image.topic_by_id(topic_id)?.partition(partition)?;
        let leader = leaders::current_leader(partition);
        self.leaders.push(leader);
        Some(leader.into())
    }

    /// Tells where those that were named are reached.
    fn endpoints<E: From<NodeEndpoint>>(self) -> Vec<E> {
        let endpoints = leaders::endpoints(self.cx, &self.image, self.leaders.into_iter());
        endpoints.into_iter().map(E::from).collect()
    }
}
