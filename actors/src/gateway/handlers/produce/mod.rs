//! Produce: batches go to their partitions in the order of the requests, answers wait for acknowledgements.
//!
//! Versions 0 to 2, with message sets, are not served yet. A topic whose `compression.type` is not that of the producer has its batches compressed
//! again here, on the connection's thread.

mod transaction;

use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;
use troupe_protocol::kafka::api::DecodeError;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::produce::{
    LeaderIdAndEpoch, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse,
    ProduceTopic, ProduceTopicResponse,
};
use troupe_protocol::kafka::records::batch::{BatchHeader, TimestampType};
use troupe_protocol::kafka::records::builder::recompress;
use troupe_protocol::kafka::records::compress::Compression;
use troupe_protocol::kafka::records::validate::{
    InvalidBatch, ProduceRules, amend_max_timestamp, validate_produced,
};
use uuid::Uuid;

use super::leaders;
use crate::config::{self, CompressionType, TopicConfig};
use crate::gateway::connection::{Outcome, Pending, Work};
use crate::gateway::dispatch::{Envelope, frame};
use crate::gateway::request::RequestContext;
use crate::metadata::{MetadataImage, TopicImage};
use crate::partition::messages::{Acks, Append, Appended};
use crate::partition::{Answer, PartitionHandle, Verification};

const FIRST_WITH_TOPIC_ID: i16 = 13;
const FIRST_WITH_ZSTD: i16 = 7;
const LAST_WITHOUT_STORAGE_ERROR: i16 = 3;
/// Bytes that the records of one batch may decompress to while they are walked over.
const MAX_UNCOMPRESSED: usize = 1 << 30;
/// Bytes that they may decompress to in memory, to be compressed again.
const MAX_RECOMPRESSED: usize = 128 << 20;

/// Decodes a request and says how to run it: appended at once, answered in its turn.
pub(crate) fn start(
    cx: RequestContext,
    envelope: Envelope,
    body: BytesMut,
) -> Result<Work, DecodeError> {
    let request = ProduceRequest::decode(envelope.version, body)?;
    Ok(Work::Pipelined(begin(cx, envelope, request)))
}

/// A topic of the request and what happens to its partitions.
struct Topic<P> {
    name: String,
    id: Uuid,
    partitions: Vec<P>,
}

/// A batch that was checked, on its way to its partition.
struct Ready {
    index: i32,
    replica: PartitionHandle,
    /// Who leads the partition.
    leader: LeaderIdAndEpoch,
    batch: BytesMut,
    header: BatchHeader,
    acks: Acks,
    /// Whether the transaction of the batch is open.
    verification: Answer<Verification>,
}

enum Step {
    Answered(ProducePartitionResponse),
    Appending(Appending),
}

/// A batch that is handed over.
struct Appending {
    index: i32,
    /// The thread that it went to.
    thread: usize,
    answer: oneshot::Receiver<Answer<Appended>>,
}

#[expect(
    clippy::async_yields_async,
    reason = "the two phases of a pipelined request"
)]
fn begin(
    cx: RequestContext,
    envelope: Envelope,
    request: ProduceRequest,
) -> LocalBoxFuture<'static, Pending> {
    Box::pin(async move {
        let acks = acks(request.acks);
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let deadline = Instant::now() + timeout;
        let checked = transaction::check(&request);
        let acks_or_error = checked.and(acks.ok_or(ErrorCode::InvalidRequiredAcks));
        let (transactional_id, topics) = (request.transactional_id, request.topics);
        let id = transactional_id.as_deref();
        let topics = dispatch(&cx, id, topics, acks_or_error).await;
        Box::pin(finish(cx, envelope, acks, deadline, topics)) as Pending
    })
}

/// Returns what `acks` asks for; `None` when it is a number that means nothing.
fn acks(acks: i16) -> Option<Acks> {
    match acks {
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        -1 => Some(Acks::All),
        _ => None,
    }
}

/// Hands every batch to its partition, in order. That of a transaction goes when it is known that this is open.
async fn dispatch(
    cx: &RequestContext,
    transactional_id: Option<&str>,
    topics: Vec<ProduceTopic>,
    acks: Answer<Acks>,
) -> Vec<Topic<Step>> {
    let image = cx.broker.image();
    let now_ms = cx.broker.runtime.clock.now_ms();
    let topics = topics.into_iter();
    let mut checked: Vec<_> = topics
        .map(|topic| check(cx, &image, topic, acks, now_ms))
        .collect();
    if let Some(id) = transactional_id {
        let partitions = checked.iter_mut().flat_map(|topic| &mut topic.partitions);
        transaction::verify(cx, id, partitions.flatten().collect()).await;
    }
    let mut begun = Vec::with_capacity(checked.len());
    for Topic {
        name,
        id,
        partitions,
    } in checked
    {
        let mut steps = Vec::with_capacity(partitions.len());
        for partition in partitions {
            steps.push(match partition {
                Ok(ready) => hand_over(ready).await,
                Err(response) => Step::Answered(*response),
            });
        }
        begun.push(Topic {
            name,
            id,
            partitions: steps,
        });
    }
    let steps = begun.iter().flat_map(|topic| &topic.partitions);
    let threads = steps.filter_map(|step| match step {
        Step::Appending(appending) => Some(appending.thread),
        Step::Answered(_) => None,
    });
    cx.affinity.borrow_mut().observe(threads);
    begun
}

/// Checks the batches for a topic.
fn check(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: ProduceTopic,
    acks: Answer<Acks>,
    now_ms: i64,
) -> Topic<Result<Ready, Refusal>> {
    let (name, id) = (topic.name, topic.topic_id);
    let found = find_topic(image, cx.version, &name, id);
    let wanted = acks.and_then(|acks| Ok((acks, found?)));
    let partitions = topic.partitions.into_iter();
    let partitions = partitions.map(|partition| match wanted {
        Ok((acks, topic)) => check_partition(cx, topic, partition, acks, now_ms),
        Err(error) => Err(failed(partition.index, error)),
    });
    Topic {
        partitions: partitions.collect(),
        name,
        id,
    }
}

type Refusal = Box<ProducePartitionResponse>;

fn failed(index: i32, error: ErrorCode) -> Refusal {
    Box::new(ProducePartitionResponse::failed(index, error))
}

fn find_topic<'a>(
    image: &'a MetadataImage,
    version: i16,
    name: &str,
    id: Uuid,
) -> Result<&'a TopicImage, ErrorCode> {
    let topic = if version >= FIRST_WITH_TOPIC_ID {
        image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        image
            .topic(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    if topic.is_internal {
        Err(ErrorCode::InvalidTopicException)
    } else {
        Ok(topic)
    }
}

/// Checks one partition's batch, and that it can be taken here.
fn check_partition(
    cx: &RequestContext,
    topic: &TopicImage,
    partition: ProducePartition,
    acks: Acks,
    now_ms: i64,
) -> Result<Ready, Refusal> {
    let ProducePartition { index, records } = partition;
    let partition = topic
        .partition(index)
        .ok_or_else(|| failed(index, ErrorCode::UnknownTopicOrPartition))?;
    let leader = leaders::current_leader(partition);
    let local = partition.local.as_ref();
    let replica = local
        .filter(|_| partition.leader == cx.broker.broker_id)
        .ok_or_else(|| Box::new(not_leader_or(index, ErrorCode::NotLeaderOrFollower, leader)))?;
    let (batch, header) = prepare(records, &topic.config, cx.version, now_ms)
        .map_err(|invalid| refused(index, invalid))?;
    Ok(Ready {
        index,
        replica: replica.clone(),
        leader,
        batch,
        header,
        acks,
        verification: Ok(Verification::NotNeeded),
    })
}

/// Hands a batch to its partition, if its transaction is open; the answer comes through the channel.
async fn hand_over(ready: Ready) -> Step {
    let index = ready.index;
    let verification = match ready.verification {
        Ok(verification) => verification,
        Err(error) => return Step::Answered(not_in_transaction(index, error)),
    };
    let (reply, answer) = oneshot::channel();
    let append = Append {
        batch: ready.batch,
        header: ready.header,
        acks: ready.acks,
        verification,
        reply,
    };
    match ready.replica.send(append).await {
        Ok(()) => Step::Appending(Appending {
            index,
            thread: ready.replica.thread(),
            answer,
        }),
        Err(error) => Step::Answered(not_leader_or(index, error, ready.leader)),
    }
}

/// Checks a batch against the topic's configuration, and brings it into the form in which it is stored.
fn prepare(
    records: Option<BytesMut>,
    config: &TopicConfig,
    version: i16,
    now_ms: i64,
) -> Result<(BytesMut, BatchHeader), InvalidBatch> {
    let invalid = |code, message: &str| InvalidBatch {
        code,
        message: message.to_owned(),
        record_errors: Vec::new(),
    };
    let mut batch = records.ok_or_else(|| {
        invalid(
            ErrorCode::InvalidRecord,
            "a partition takes exactly one batch",
        )
    })?;
    let mut header = validate_produced(&batch, &rules(config, version, now_ms))?;
    batch.truncate(header.size);
    amend_max_timestamp(&mut batch, &header);
    if let Some(codec) = stored_codec(config.compression_type)
        && header
            .attributes
            .compression()
            .is_ok_and(|sent| sent != codec)
    {
        batch = recompress(&batch, codec, level(config, codec), MAX_RECOMPRESSED)?;
        header = BatchHeader::parse(&batch)?;
        if header.size > config.max_message_bytes {
            return Err(invalid(
                ErrorCode::MessageTooLarge,
                "the batch is too large with the codec of the topic",
            ));
        }
    }
    if u64::try_from(header.size).is_ok_and(|size| size > config.segment_bytes) {
        return Err(invalid(
            ErrorCode::RecordListTooLarge,
            "the batch is larger than a segment",
        ));
    }
    Ok((batch, header))
}

fn rules(config: &TopicConfig, version: i16, now_ms: i64) -> ProduceRules {
    ProduceRules {
        max_message_bytes: config.max_message_bytes,
        max_uncompressed_bytes: MAX_UNCOMPRESSED,
        zstd_allowed: version >= FIRST_WITH_ZSTD,
        compacted: config.cleanup_policy.compact,
        timestamp_type: match config.message_timestamp_type {
            config::TimestampType::CreateTime => TimestampType::CreateTime,
            config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: config.message_timestamp_before_max_ms,
        timestamp_after_max_ms: config.message_timestamp_after_max_ms,
        now_ms,
    }
}

/// Returns the codec in which a topic keeps its batches; `None` for that of the producer.
fn stored_codec(compression: CompressionType) -> Option<Compression> {
    match compression {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some(Compression::None),
        CompressionType::Gzip => Some(Compression::Gzip),
        CompressionType::Snappy => Some(Compression::Snappy),
        CompressionType::Lz4 => Some(Compression::Lz4),
        CompressionType::Zstd => Some(Compression::Zstd),
    }
}

fn level(config: &TopicConfig, codec: Compression) -> Option<i32> {
    match codec {
        Compression::Gzip => Some(config.compression_gzip_level).filter(|&level| level >= 0),
        Compression::Lz4 => Some(config.compression_lz4_level),
        Compression::Zstd => Some(config.compression_zstd_level),
        Compression::None | Compression::Snappy => None,
    }
}

fn refused(index: i32, invalid: InvalidBatch) -> Refusal {
    let mut response = failed(index, invalid.code);
    response.error_message = Some(invalid.message);
    response.record_errors = invalid.record_errors;
    response
}

fn not_in_transaction(index: i32, error: ErrorCode) -> ProducePartitionResponse {
    let mut response = ProducePartitionResponse::failed(index, error);
    response.error_message = Some(match error {
        ErrorCode::NotEnoughReplicas => {
            "the coordinator of the transaction cannot be asked".to_owned()
        }
        _ => "the partition is not in the transaction".to_owned(),
    });
    response
}

fn not_leader_or(
    index: i32,
    error: ErrorCode,
    leader: LeaderIdAndEpoch,
) -> ProducePartitionResponse {
    ProducePartitionResponse {
        current_leader: (error == ErrorCode::NotLeaderOrFollower).then_some(leader),
        ..ProducePartitionResponse::failed(index, error)
    }
}

/// Waits for the partitions, until `deadline` when it is other brokers that they wait for, and answers.
async fn finish(
    cx: RequestContext,
    envelope: Envelope,
    acks: Option<Acks>,
    deadline: Instant,
    topics: Vec<Topic<Step>>,
) -> Outcome {
    let mut response = ProduceResponse::default();
    for Topic {
        name,
        id,
        partitions,
    } in topics
    {
        let mut answers = Vec::with_capacity(partitions.len());
        for step in partitions {
            answers.push(match step {
                Step::Answered(response) => response,
                Step::Appending(Appending { index, answer, .. }) => {
                    let deadline = (acks == Some(Acks::All)).then_some(deadline);
                    match appended(answer, deadline).await {
                        Ok(done) => ProducePartitionResponse::appended(
                            index,
                            done.base_offset,
                            done.log_append_time_ms,
                            done.log_start_offset,
                        ),
                        Err(error) => {
                            let image = cx.broker.image();
                            let topic = find_topic(&image, cx.version, &name, id).ok();
                            match topic.and_then(|topic| topic.partition(index)) {
                                Some(partition) => {
                                    let leader = leaders::current_leader(partition);
                                    not_leader_or(index, error, leader)
                                }
                                None => ProducePartitionResponse::failed(index, error),
                            }
                        }
                    }
                }
            });
        }
        response.topics.push(ProduceTopicResponse {
            name,
            topic_id: id,
            partitions: answers,
        });
    }
    if acks == Some(Acks::None) {
        return first_error(&response).map_or(Outcome::Silent, Outcome::Close);
    }
    if cx.version <= LAST_WITHOUT_STORAGE_ERROR {
        without_storage_error(&mut response);
    }
    let hints = response
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .filter_map(|partition| partition.current_leader);
    response.node_endpoints = leaders::endpoints(&cx, &cx.broker.image(), hints);
    frame(envelope, |out| response.encode(envelope.version, out))
}

/// Tells producers that do not know KAFKA_STORAGE_ERROR what makes them try again likewise.
fn without_storage_error(response: &mut ProduceResponse) {
    let partitions = response
        .topics
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions);
    for partition in partitions {
        if partition.error == ErrorCode::KafkaStorageError {
            partition.error = ErrorCode::NotLeaderOrFollower;
        }
    }
}

/// Waits for one partition; without an answer by `deadline`: REQUEST_TIMED_OUT, and the records stay.
async fn appended(
    answer: oneshot::Receiver<Answer<Appended>>,
    deadline: Option<Instant>,
) -> Answer<Appended> {
    let answered = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, answer)
            .await
            .map_err(|_| ErrorCode::RequestTimedOut)?,
        None => answer.await,
    };
    answered.unwrap_or(Err(ErrorCode::KafkaStorageError))
}

/// Tells what failed to a producer that gets no reply, for the log.
fn first_error(response: &ProduceResponse) -> Option<String> {
    let partitions = response.topics.iter().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(move |partition| (topic, partition))
    });
    partitions
        .into_iter()
        .find(|(_, partition)| partition.error != ErrorCode::None)
        .map(|(topic, partition)| {
            format!(
                "Produce without acknowledgement to {}-{}: {}",
                topic.name,
                partition.index,
                partition.error.name()
            )
        })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use troupe_protocol::kafka::records::batch::Batch;
    use troupe_protocol::kafka::records::builder::BatchBuilder;
    use troupe_protocol::kafka::records::record::Record;

    use super::*;

    fn batch(builder: BatchBuilder) -> BytesMut {
        let record = Record {
            offset: 0,
            timestamp: 1_000,
            key: Some(Bytes::from_static(b"key")),
            value: Some(Bytes::from(vec![b'v'; 500])),
            headers: Vec::new(),
        };
        builder.build_from(&[record]).expect("a batch")
    }

    fn refusal(records: Option<BytesMut>, config: &TopicConfig) -> ErrorCode {
        prepare(records, config, 11, 2_000)
            .expect_err("refused")
            .code
    }

    #[test]
    fn acks_are_none_one_or_all() {
        let meanings = [
            (0, Some(Acks::None)),
            (1, Some(Acks::Leader)),
            (-1, Some(Acks::All)),
            (2, None),
            (-2, None),
        ];
        for (sent, means) in meanings {
            assert_eq!(acks(sent), means, "{sent}");
        }
    }

    #[test]
    fn a_partial_entry_behind_the_batch_is_cut_off() {
        let sent = batch(BatchBuilder::new());
        let mut with_tail = sent.clone();
        with_tail.extend_from_slice(&[0; 7]);
        let (stored, header) =
            prepare(Some(with_tail), &TopicConfig::default(), 11, 2_000).expect("taken");
        assert_eq!((stored.len(), stored), (header.size, sent));
    }

    #[test]
    fn the_codec_of_the_topic_wins() {
        let config = TopicConfig {
            compression_type: CompressionType::Gzip,
            ..TopicConfig::default()
        };
        let (stored, header) =
            prepare(Some(batch(BatchBuilder::new())), &config, 11, 2_000).expect("taken");
        assert!(
            header
                .attributes
                .compression()
                .is_ok_and(|codec| codec == Compression::Gzip)
        );
        let stored = Batch::parse(&stored).expect("a batch");
        assert!(stored.check_crc().is_ok());
        assert_eq!(*stored.header(), header);
    }

    #[test]
    fn what_does_not_fit_the_topic_is_refused() {
        let config = TopicConfig::default();
        assert_eq!(refusal(None, &config), ErrorCode::InvalidRecord);
        let control = BatchBuilder::new().producer(1, 0, 0).control(true);
        assert_eq!(
            refusal(Some(batch(control)), &config),
            ErrorCode::InvalidRecord
        );
        let small = TopicConfig {
            max_message_bytes: 100,
            ..config.clone()
        };
        assert_eq!(
            refusal(Some(batch(BatchBuilder::new())), &small),
            ErrorCode::MessageTooLarge
        );
        let short = TopicConfig {
            segment_bytes: 100,
            ..config
        };
        assert_eq!(
            refusal(Some(batch(BatchBuilder::new())), &short),
            ErrorCode::RecordListTooLarge
        );
    }

    #[actix_rt::test]
    async fn acknowledgements_are_waited_for_until_the_deadline() {
        tokio::time::pause();
        let deadline = Some(Instant::now() + Duration::from_secs(30));
        let (reply, answer) = oneshot::channel();
        assert_eq!(
            appended(answer, deadline).await,
            Err(ErrorCode::RequestTimedOut)
        );
        assert!(reply.is_closed());
        let (reply, answer) = oneshot::channel();
        drop(reply);
        assert_eq!(
            appended(answer, deadline).await,
            Err(ErrorCode::KafkaStorageError)
        );
        // An answer that is there counts although the deadline has passed.
        let (reply, answer) = oneshot::channel();
        let done = Appended {
            base_offset: 5,
            log_append_time_ms: -1,
            log_start_offset: 0,
        };
        reply.send(Ok(done)).expect("somebody waits");
        assert_eq!(appended(answer, deadline).await, Ok(done));
    }

    #[test]
    fn a_silent_producer_s_failure_is_named() {
        let partitions = vec![
            ProducePartitionResponse::appended(0, 1, -1, 0),
            ProducePartitionResponse::failed(1, ErrorCode::MessageTooLarge),
        ];
        let topic = ProduceTopicResponse {
            name: "t".to_owned(),
            topic_id: Uuid::nil(),
            partitions,
        };
        let response = ProduceResponse {
            topics: vec![topic],
            ..ProduceResponse::default()
        };
        assert!(
            first_error(&response).is_some_and(|told| told.ends_with("t-1: MESSAGE_TOO_LARGE"))
        );
        assert_eq!(first_error(&ProduceResponse::default()), None);
    }
}
