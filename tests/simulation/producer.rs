//! An idempotent producer with acks=all: it sends each batch until it is acknowledged, one after the other or a few ahead.

use std::time::Duration;

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    InitProducerIdRequest, ProduceRequest, ProduceResponse, ProducerId,
};
use rand::Rng;
use tokio::time::{Instant, sleep};

use crate::history::{History, Id, Partition};
use crate::records::{self, batch_of};
use crate::wire::{Client, topic_name};

const NONE: i16 = 0;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const DUPLICATE_SEQUENCE: i16 = 46;
/// How long a batch has to be refused before that is for good.
const FOR_GOOD: Duration = Duration::from_secs(10);
/// What the number of the producer that follows on another is larger by.
const ANOTHER: u32 = 100;
/// UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, REPLICA_NOT_AVAILABLE,
/// NETWORK_EXCEPTION, NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND, KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH,
/// UNKNOWN_LEADER_EPOCH: whether the batch is there or not, it can be sent again. OUT_OF_ORDER_SEQUENCE_NUMBER as well:
/// it may come from a leader that has not heard of the next one, which has the batches before. Were they lost, it would be
/// answered for ever.
const RETRIABLE: [i16; 12] = [3, 5, 6, 7, 9, 13, 19, 20, 45, 56, 74, 75];

/// Batches that are sent without waiting in between at most, as brokers remember that many.
const IN_FLIGHT: usize = 5;

/// One of a partition's batches.
pub struct Batch {
    pub partition: Partition,
    pub ids: Vec<Id>,
    /// The sequence number of its first record.
    pub sequence: i32,
}

/// Who sends.
pub struct Producer {
    pub number: u32,
    pub client: Client,
    pub history: History,
    pub partitions: Vec<Partition>,
    /// The number of the next record to each partition, which is its sequence number too.
    next: Vec<u32>,
}

impl Producer {
    pub fn new(number: u32, client: Client, history: History, partitions: Vec<Partition>) -> Self {
        Self {
            number,
            client,
            history,
            next: vec![0; partitions.len()],
            partitions,
        }
    }

    /// Sends until it is told to come to an end.
    pub async fn run(mut self) {
        let mut id = self.producer_id().await;
        while !self.history.is_ending() {
            let batches = self.next_batches();
            self.history.begin();
            // The very first one goes alone: a broker that knows nothing of the producer would take any for the first.
            let is_first = batches.iter().any(|batch| batch.sequence == 0);
            let done = match is_first || batches.len() == 1 {
                true => 0,
                false => self.send_ahead(id, &batches).await,
            };
            for batch in batches.iter().skip(done) {
                if !self.send(id, batch, batches.len() > 1).await {
                    // Nobody knows whether it is there; another producer begins.
                    self.number += ANOTHER;
                    self.next.fill(0);
                    id = self.producer_id().await;
                    break;
                }
            }
            self.history.finish();
            let pause = self.client.random.random_range(0..150);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn producer_id(&mut self) -> (i64, i16) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        loop {
            let broker = self.client.anyone();
            match self.client.ask(broker, 4, &request).await {
                Ok(given) if given.error_code == NONE => {
                    return (given.producer_id.0, given.producer_epoch);
                }
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Draws what to send next: one batch, or several to one partition.
    fn next_batches(&mut self) -> Vec<Batch> {
        let place = self.client.random.random_range(0..self.partitions.len());
        let count = match self.client.random.random_ratio(1, 3) {
            true => self.client.random.random_range(2..=IN_FLIGHT),
            false => 1,
        };
        (0..count).map(|_| self.next_batch(place)).collect()
    }

    fn next_batch(&mut self, place: usize) -> Batch {
        let first = self.next[place];
        let count = self.client.random.random_range(1..=4);
        self.next[place] = first + count;
        let ids = (first..first + count).map(|number| Id {
            producer: self.number,
            number,
        });
        Batch {
            partition: self.partitions[place].clone(),
            ids: ids.collect(),
            sequence: first.cast_signed(),
        }
    }

    /// Sends a batch until it is acknowledged; tells whether it was.
    ///
    /// One of several that were sent ahead may be refused for good: a broker that has restarted remembers only the last
    /// batch of each producer, as the format of Kafka's snapshots has it, and does not recognise those before.
    async fn send(&mut self, producer: (i64, i16), batch: &Batch, ahead: bool) -> bool {
        let request = request(producer, batch);
        let began = Instant::now();
        loop {
            match self.try_send(batch, &request).await {
                Some((NONE, offset)) => {
                    self.acknowledged(batch, Some(offset));
                    return true;
                }
                Some((DUPLICATE_SEQUENCE, _)) => {
                    self.acknowledged(batch, None);
                    return true;
                }
                Some((OUT_OF_ORDER_SEQUENCE, _)) if ahead && began.elapsed() > FOR_GOOD => {
                    return false;
                }
                Some((code, _)) if !RETRIABLE.contains(&code) => {
                    let (partition, ids) = (&batch.partition, &batch.ids);
                    let what = format!("{partition}: error {code} for {ids:?}");
                    self.history.violated(what);
                    return false;
                }
                Some((code, _)) => {
                    let (partition, ids) = (&batch.partition, &batch.ids);
                    tracing::debug!(target: "clients", code, "{partition} refused {ids:?}");
                }
                None => {}
            }
            let pause = self.client.random.random_range(20..200);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    fn acknowledged(&self, batch: &Batch, offset: Option<i64>) {
        self.history
            .acknowledged(&batch.partition, &batch.ids, offset);
    }

    /// Sends several batches to one partition without waiting in between; returns how many of the first ones are
    /// acknowledged.
    async fn send_ahead(&mut self, producer: (i64, i16), batches: &[Batch]) -> usize {
        let Some(first) = batches.first() else {
            return 0;
        };
        let Some((leader, _)) = self.client.leader(&first.partition).await else {
            return 0;
        };
        let requests: Vec<_> = batches
            .iter()
            .map(|batch| request(producer, batch))
            .collect();
        let answers = self.client.ask_all(leader, 9, &requests).await;
        let mut done = 0;
        for (answer, batch) in answers.iter().zip(batches) {
            match answered(answer) {
                Some((NONE, offset)) => self.acknowledged(batch, Some(offset)),
                Some((DUPLICATE_SEQUENCE, _)) => self.acknowledged(batch, None),
                // What follows may be there or not; it is sent again, one after the other.
                _ => break,
            }
            done += 1;
        }
        done
    }

    /// Sends once; returns the error code and the offset of the answer, if there is one.
    async fn try_send(&mut self, batch: &Batch, request: &ProduceRequest) -> Option<(i16, i64)> {
        let (leader, _) = self.client.leader(&batch.partition).await?;
        let answer = self.client.ask(leader, 9, request).await.ok()?;
        answered(&answer)
    }
}

/// The request that sends a batch.
fn request((id, epoch): (i64, i16), batch: &Batch) -> ProduceRequest {
    let values: Vec<Vec<u8>> = batch.ids.iter().map(|id| id.value()).collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    let sent = records::Producer {
        id,
        epoch,
        sequence: batch.sequence,
    };
    let data = PartitionProduceData::default()
        .with_index(batch.partition.index)
        .with_records(Some(batch_of(&values, sent)));
    let topic = TopicProduceData::default()
        .with_name(topic_name(&batch.partition.topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(2_000)
        .with_topic_data(vec![topic])
}

/// The error code and the offset of an answer.
fn answered(answer: &ProduceResponse) -> Option<(i16, i64)> {
    let answer = answer.responses.first()?.partition_responses.first()?;
    Some((answer.error_code, answer.base_offset))
}
