//! ShareFetch: takes acknowledgements, then locks records for a member and returns them.
//!
//! An answer leaves as soon as there is anything to say: `min_bytes` above 1 count as 1. Records go through memory, unlike
//! those of Fetch: which batches are acquired is known from their headers only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::share_fetch_response::{
    AcquiredRecords, PartitionData, ShareFetchableTopicResponse,
};
use troupe_protocol::kafka::messages::{ShareFetchRequest, ShareFetchResponse};
use uuid::Uuid;

use super::{
    Acknowledgements, LeaderHints, acknowledge, read_acknowledgements, release, session_key,
    share_key,
};
use crate::gateway::handlers::common::text;
use crate::gateway::handlers::find_coordinator::ensure_share_topic;
use crate::gateway::request::RequestContext;
use crate::partition::Answer;
use crate::partition::messages::Reader;
use crate::share::live::{Acquire, Acquired, LiveHandle, Request, Wakeup};
use crate::share::partition::Limits;
use crate::share::sessions::{FINAL_EPOCH, INITIAL_EPOCH, SessionKey, TopicIdPartition};

/// What is said of each partition: acknowledged, acquired.
#[derive(Default)]
struct Said {
    acknowledged: Option<ErrorCode>,
    acquired: Option<Answer<Acquired>>,
}

type Answers = BTreeMap<TopicIdPartition, Said>;

/// Serves a request.
pub(crate) async fn handle(cx: RequestContext, request: ShareFetchRequest) -> ShareFetchResponse {
    match try_handle(&cx, &request).await {
        Ok((answers, limits)) => respond(&cx, answers, &limits),
        Err(error) => ShareFetchResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(error.message()))),
    }
}

async fn try_handle(cx: &RequestContext, request: &ShareFetchRequest) -> Answer<(Answers, Limits)> {
    let session = session_key(request.group_id.as_ref(), request.member_id.as_ref())?;
    let share = &cx.broker.share;
    let settings = share.settings(&session.0);
    let limits = share.limits(&settings);
    let acknowledgements = acknowledgements(request);
    let ended = enter_session(cx, request, &session, &acknowledgements)?;
    let created = ensure_share_topic(cx).await;
    created.map_err(|_| ErrorCode::NotLeaderOrFollower)?;
    let mut answers = Answers::new();
    for (at, error) in acknowledge(cx, &session, acknowledgements).await {
        answers.entry(at).or_default().acknowledged = Some(error);
    }
    match ended {
        Some(partitions) => release(cx, &session, partitions).await,
        None => {
            let fetch = Fetch {
                cx,
                request,
                session: &session,
                limits,
                reader: if settings.read_committed {
                    Reader::CommittedConsumer
                } else {
                    Reader::Consumer
                },
            };
            for (at, acquired) in fetch.acquire_something().await {
                answers.entry(at).or_default().acquired = Some(acquired);
            }
        }
    }
    Ok((answers, limits))
}

/// Opens, continues or closes a session; of one that is closed, returns the partitions.
fn enter_session(
    cx: &RequestContext,
    request: &ShareFetchRequest,
    session: &SessionKey,
    acknowledgements: &Acknowledgements,
) -> Answer<Option<Vec<TopicIdPartition>>> {
    let partitions = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| (topic.topic_id, partition.partition_index))
    });
    let partitions: Vec<_> = partitions.collect();
    let forgotten = request.forgotten_topics_data.iter();
    let forgotten: Vec<_> = forgotten
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|&index| (topic.topic_id, index))
        })
        .collect();
    let mut sessions = cx.broker.share.sessions().lock();
    match request.share_session_epoch {
        INITIAL_EPOCH if !acknowledgements.is_empty() => Err(ErrorCode::InvalidRequest),
        INITIAL_EPOCH => sessions.open(session, &partitions).map(|()| None),
        FINAL_EPOCH => sessions.close(session).map(Some),
        epoch => sessions
            .update(session, epoch, &partitions, &forgotten)
            .map(|()| None),
    }
}

fn acknowledgements(request: &ShareFetchRequest) -> Acknowledgements {
    let partitions = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| ((topic.topic_id, partition.partition_index), partition))
    });
    let with_batches =
        partitions.filter(|(_, partition)| !partition.acknowledgement_batches.is_empty());
    with_batches
        .map(|(at, partition)| {
            let batches = partition.acknowledgement_batches.iter();
            let batches = batches.map(|batch| {
                (
                    batch.first_offset,
                    batch.last_offset,
                    &batch.acknowledge_types[..],
                )
            });
            (at, read_acknowledgements(batches))
        })
        .collect()
}

struct Fetch<'a> {
    cx: &'a RequestContext,
    request: &'a ShareFetchRequest,
    session: &'a SessionKey,
    limits: Limits,
    reader: Reader,
}

impl Fetch<'_> {
    /// Acquires from the partitions of the session until there is something, or the time is over.
    async fn acquire_something(&self) -> Vec<(TopicIdPartition, Answer<Acquired>)> {
        let wait = Duration::from_millis(u64::try_from(self.request.max_wait_ms).unwrap_or(0));
        let deadline = Instant::now() + wait;
        let mut partitions = {
            let mut sessions = self.cx.broker.share.sessions().lock();
            sessions.partitions_of(self.session)
        };
        if self.request.max_records <= 0 || self.request.max_bytes <= 0 {
            partitions.clear();
        } else if partitions.is_empty() {
            // A member without partitions asks on and on; it need not do so in haste.
            tokio::time::sleep_until(deadline).await;
        }
        let mut in_time = !wait.is_zero();
        loop {
            let (found, wakeups) = self.acquire_once(&partitions).await;
            if !found.is_empty() || !in_time || partitions.is_empty() {
                return found;
            }
            let changes: FuturesUnordered<_> = wakeups.into_iter().map(Wakeup::changed).collect();
            let mut changes = std::pin::pin!(changes);
            let woken = tokio::time::timeout_at(deadline, changes.next()).await;
            in_time = woken.is_ok();
        }
    }

    /// Acquires what there is, in the order of the partitions; returns what there is to say, and how to wait for more.
    async fn acquire_once(
        &self,
        partitions: &[TopicIdPartition],
    ) -> (Vec<(TopicIdPartition, Answer<Acquired>)>, Vec<Wakeup>) {
        let limit = u64::try_from(self.cx.broker.config.fetch_max_bytes).unwrap_or(u64::MAX);
        let mut bytes = u64::try_from(self.request.max_bytes)
            .unwrap_or(0)
            .min(limit);
        let mut records = i64::from(self.request.max_records);
        let (mut found, mut wakeups) = (Vec::new(), Vec::new());
        for &at in partitions {
            if records <= 0 || bytes == 0 {
                break;
            }
            let live = match self
                .cx
                .broker
                .share
                .live(&share_key(self.session, at))
                .await
            {
                Ok(live) => live,
                Err(error) => {
                    found.push((at, Err(error)));
                    continue;
                }
            };
            wakeups.push(live.watch());
            match self.acquire_from(&live, bytes, records).await {
                Ok(acquired) if acquired.ranges.is_empty() => {}
                Ok(acquired) => {
                    let ranges = acquired.ranges.iter();
                    let count: i64 = ranges.map(|range| range.last - range.first + 1).sum();
                    records -= count;
                    bytes = bytes.saturating_sub(acquired.records.len() as u64);
                    found.push((at, Ok(acquired)));
                }
                Err(error) => found.push((at, Err(error))),
            }
        }
        (found, wakeups)
    }

    async fn acquire_from(&self, live: &LiveHandle, bytes: u64, records: i64) -> Answer<Acquired> {
        let acquire = Acquire {
            member: Arc::clone(&self.session.1),
            max_bytes: bytes,
            max_records: records,
            batch_size: i64::from(self.request.batch_size).max(1),
            reader: self.reader,
            limits: self.limits,
        };
        live.ask(|reply| Request::Acquire { acquire, reply }).await
    }
}

fn respond(cx: &RequestContext, answers: Answers, limits: &Limits) -> ShareFetchResponse {
    let mut topics: BTreeMap<Uuid, Vec<PartitionData>> = BTreeMap::new();
    let mut hints = LeaderHints::new(cx);
    for (at, said) in answers {
        let errors = [
            said.acknowledged,
            said.acquired
                .as_ref()
                .and_then(|one| one.as_ref().err().copied()),
        ];
        let mut answer = partition_data(at.1, said);
        for error in errors.into_iter().flatten() {
            if let Some(leader) = hints.leader(at, error) {
                answer.current_leader = leader;
            }
        }
        topics.entry(at.0).or_default().push(answer);
    }
    let responses = topics.into_iter().map(|(topic_id, partitions)| {
        ShareFetchableTopicResponse::default()
            .with_topic_id(topic_id)
            .with_partitions(partitions)
    });
    ShareFetchResponse::default()
        .with_acquisition_lock_timeout_ms(
            i32::try_from(limits.lock_duration_ms).unwrap_or(i32::MAX),
        )
        .with_responses(responses.collect())
        .with_node_endpoints(hints.endpoints())
}

fn partition_data(index: i32, said: Said) -> PartitionData {
    let mut answer = PartitionData::default()
        .with_partition_index(index)
        .with_records(Some(Bytes::new()));
    if let Some(error) = said.acknowledged.filter(|error| error.is_error()) {
        answer.acknowledge_error_code = error.code();
        answer.acknowledge_error_message = Some(text(error.message()));
    }
    match said.acquired {
        None => {}
        Some(Ok(acquired)) => {
            answer.records = Some(acquired.records);
            let ranges = acquired.ranges.iter().map(|range| {
                AcquiredRecords::default()
                    .with_first_offset(range.first)
                    .with_last_offset(range.last)
                    .with_delivery_count(range.delivery_count)
            });
            answer.acquired_records = ranges.collect();
        }
        Some(Err(error)) => {
            answer.error_code = error.code();
            answer.error_message = Some(text(error.message()));
        }
    }
    answer
}
