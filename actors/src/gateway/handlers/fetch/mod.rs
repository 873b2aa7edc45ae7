//! Fetch: ranges of the log, from file to socket, now or as soon as there is enough (KIP-74, KIP-227, KIP-516).
//!
//! Versions 0 to 3 are not served yet: their readers want message sets. A partition whose first batch exceeds its own
//! limit is returned all the same while the limit of the request has room; Kafka does so for the first partition only.

mod budget;
mod target;

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use troupe_protocol::kafka::api::DecodeError;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::fetch::{
    self, FetchRequest, FetchResponse, FetchTopicResponse, RecordPayload,
};
use uuid::Uuid;

use self::budget::{FetchBudget, Share};
use self::target::{Asked, Place, Response, Target, reader};
use super::leaders;
use crate::gateway::connection::{Outcome, Work};
use crate::gateway::dispatch::Envelope;
use crate::gateway::fetch_session::{Fetched, TopicKey};
use crate::gateway::reply::{Piece, Reply};
use crate::gateway::request::RequestContext;
use crate::partition::messages::Reader;
use crate::storage::FileSlice;

/// The last version that does not know KAFKA_STORAGE_ERROR.
const LAST_WITHOUT_STORAGE_ERROR: i16 = 5;

impl RecordPayload for FileSlice {
    fn size(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }
}

/// Decodes a request.
pub(crate) fn start(
    cx: RequestContext,
    envelope: Envelope,
    body: BytesMut,
) -> Result<Work, DecodeError> {
    let request = FetchRequest::decode(envelope.version, body)?;
    Ok(Work::Alone(Box::pin(async move {
        let response = fetch(&cx, request).await;
        encode(envelope, response)
    })))
}

/// What one look at all partitions brought.
struct Pass {
    responses: Vec<Response>,
    bytes: u64,
    /// Something that the client has to know at once.
    urgent: bool,
}

async fn fetch(cx: &RequestContext, request: FetchRequest) -> FetchResponse<FileSlice> {
    let now = || cx.broker.runtime.clock.monotonic();
    let plan = match cx.sessions.lock().begin(&request, cx.version, now()) {
        Ok(plan) => plan,
        Err(error) => {
            return FetchResponse {
                error,
                ..FetchResponse::default()
            };
        }
    };
    let reader = reader(&request);
    let mut targets: Vec<Target> = {
        let image = cx.broker.image();
        plan.wanted
            .iter()
            .map(|wanted| Target::find(cx, &image, wanted, reader))
            .collect()
    };
    let places = targets
        .iter()
        .filter_map(|target| target.place.as_ref().ok());
    cx.affinity.borrow_mut().observe(places.map(Place::thread));
    let responses = read_enough(cx, &request, reader, &mut targets).await;
    let answered = targets.into_iter().zip(responses);
    let mut fetched: Vec<_> = answered
        .map(|(target, response)| Fetched {
            topic: target.topic,
            response,
        })
        .collect();
    match cx
        .sessions
        .lock()
        .finish(&plan, &mut fetched, now(), rand::random)
    {
        Ok(session_id) => respond(cx, session_id, fetched),
        Err(error) => FetchResponse {
            error,
            ..FetchResponse::default()
        },
    }
}

/// Reads until there are `min_bytes`, or something urgent, or `max_wait_ms` are over.
async fn read_enough(
    cx: &RequestContext,
    request: &FetchRequest,
    reader: Reader,
    targets: &mut [Target],
) -> Vec<Response> {
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let min_bytes = u64::try_from(request.min_bytes).unwrap_or(0);
    let limit = cx.broker.config.fetch_max_bytes as u64;
    let max_bytes = u64::try_from(request.max_bytes).unwrap_or(0).min(limit);
    let deadline = Instant::now() + max_wait;
    let mut in_time = !max_wait.is_zero() && !targets.is_empty();
    loop {
        let pass = read_all(targets, reader, max_bytes).await;
        if !in_time || pass.urgent || pass.bytes >= min_bytes.min(max_bytes) {
            return pass.responses;
        }
        let enough = wait_for_growth(targets, reader, min_bytes.saturating_sub(pass.bytes));
        in_time = tokio::time::timeout_at(deadline, enough).await.is_ok();
    }
}

/// Asks all partitions at once, and shares the bytes in the order of the request.
async fn read_all(targets: &mut [Target], reader: Reader, max_bytes: u64) -> Pass {
    let mut asked = Vec::with_capacity(targets.len());
    for target in targets.iter_mut() {
        asked.push(target.ask(reader, max_bytes).await);
    }
    let mut budget = FetchBudget::new(max_bytes);
    let mut pass = Pass {
        responses: Vec::with_capacity(targets.len()),
        bytes: 0,
        urgent: false,
    };
    for (target, asked) in targets.iter_mut().zip(asked) {
        let mut response = match asked {
            Asked::Known(response) => response,
            Asked::Reading(reading) => target.answer(reading.await, reader),
        };
        let len = response.records.as_ref().map_or(0, |records| records.len);
        match budget.share(len) {
            Share::All => {}
            Share::Less(rest) => match target.ask_less(reader, rest).await {
                Some(less) => response = less,
                None => without_records(&mut response),
            },
            Share::Nothing => without_records(&mut response),
        }
        pass.bytes += response.records.as_ref().map_or(0, |records| records.len);
        pass.urgent |= response.error != ErrorCode::None || response.diverging_epoch.is_some();
        pass.responses.push(response);
    }
    pass
}

fn without_records(response: &mut Response) {
    response.records = None;
    if let Some(aborted) = &mut response.aborted_transactions {
        aborted.clear();
    }
}

/// Waits until the partitions have grown by `bytes` together, or one of them changed in another way.
async fn wait_for_growth(targets: &mut [Target], reader: Reader, bytes: u64) {
    let places = targets
        .iter_mut()
        .filter_map(|target| target.place.as_mut().ok());
    let mut changes: FuturesUnordered<_> = places.map(|place| place.changed()).collect();
    let mut grown = 0;
    while let Some(place) = changes.next().await {
        match place.grow(reader) {
            Some(more) => grown += more,
            None => return,
        }
        if grown >= bytes.max(1) {
            return;
        }
        changes.push(place.changed());
    }
}

/// Puts the answer together: partitions by topic, in order.
fn respond(
    cx: &RequestContext,
    session_id: i32,
    fetched: Vec<Fetched<FileSlice>>,
) -> FetchResponse<FileSlice> {
    let image = cx.broker.image();
    let hints = fetched.iter().filter_map(|one| one.response.current_leader);
    let node_endpoints = leaders::endpoints(cx, &image, hints);
    let mut topics: Vec<(TopicKey, FetchTopicResponse<FileSlice>)> = Vec::new();
    for Fetched {
        topic,
        mut response,
    } in fetched
    {
        if cx.version <= LAST_WITHOUT_STORAGE_ERROR
            && response.error == ErrorCode::KafkaStorageError
        {
            response.error = ErrorCode::NotLeaderOrFollower;
        }
        match topics.last_mut().filter(|(last, _)| *last == topic) {
            Some((_, open)) => open.partitions.push(response),
            None => {
                let (name, topic_id) = match &topic {
                    TopicKey::Name(name) => (name.to_string(), Uuid::nil()),
                    TopicKey::Id(id) => (String::new(), *id),
                };
                topics.push((
                    topic,
                    FetchTopicResponse {
                        name,
                        topic_id,
                        partitions: vec![response],
                    },
                ));
            }
        }
    }
    let topics = topics.into_iter().map(|(_, topic)| topic).collect();
    FetchResponse {
        session_id,
        topics,
        node_endpoints,
        ..FetchResponse::default()
    }
}

fn encode(envelope: Envelope, response: FetchResponse<FileSlice>) -> Outcome {
    let pieces = response.encode_frame(envelope.version, envelope.correlation_id);
    let pieces = pieces.into_iter().map(|piece| match piece {
        fetch::Piece::Bytes(bytes) => Piece::Bytes(bytes),
        fetch::Piece::Records(slice) => Piece::File(slice),
    });
    Outcome::Reply(Reply {
        pieces: pieces.collect(),
    })
}
