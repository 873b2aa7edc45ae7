//! A transactional producer: each transaction is ended for certain, or given up with an outcome that nobody knows.

use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse,
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProducerId, TransactionalId,
};
use rand::Rng;
use tokio::time::sleep;

use crate::coordinator::{Coordinator, Kind, RETRIABLE};
use crate::history::{History, Id, Partition};
use crate::records::{self, transactional_batch_of};
use crate::wire::{Client, topic_name};

const NONE: i16 = 0;
const DUPLICATE_SEQUENCE: i16 = 46;
/// Who sends.
pub struct Transactional {
    number: u32,
    coordinator: Coordinator,
    history: History,
    partitions: Vec<Partition>,
    producer: (i64, i16),
    /// The number of the next record to each partition, and the next sequence number.
    next: Vec<(u32, i32)>,
}

/// Records that were sent to a partition in a transaction.
type Sent = (Partition, Vec<Id>);

impl Transactional {
    pub fn new(number: u32, client: Client, history: History, partitions: Vec<Partition>) -> Self {
        let id = format!("transactional-{number}");
        Self {
            number,
            coordinator: Coordinator::new(client, Kind::Transaction, &id),
            history,
            producer: (-1, -1),
            next: vec![(0, 0); partitions.len()],
            partitions,
        }
    }

    /// Sends until it is told to come to an end.
    pub async fn run(mut self) {
        let first = self.partitions[0].clone();
        self.coordinator.wait_for(&first).await;
        while !self.history.is_ending() {
            self.history.begin();
            self.begin().await;
            // Another start of the same producer, or a request of its own that was late, ends what it does.
            while !self.history.is_ending() {
                let mut sent = Vec::new();
                let ended = self.transact(&mut sent).await;
                for (partition, ids) in &sent {
                    match ended {
                        Some(true) => self.history.acknowledged(partition, ids, None),
                        Some(false) => self.history.aborted(partition, ids),
                        None => {}
                    }
                }
                if ended.is_none() {
                    break;
                }
                let pause = self.coordinator.client.random.random_range(0..400);
                sleep(Duration::from_millis(pause)).await;
            }
            self.history.finish();
        }
    }

    fn id(&self) -> TransactionalId {
        TransactionalId(self.coordinator.key())
    }

    /// Takes up the producer id, in a new epoch; that ends what was open.
    async fn begin(&mut self) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.id()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let code = |answer: &InitProducerIdResponse| Some(answer.error_code);
        let answer = loop {
            match self.coordinator.ask(4, &request, code).await.answer {
                Ok(answer) => break answer,
                Err(code) => tracing::debug!(target: "clients", code, "no producer id"),
            }
        };
        self.producer = (answer.producer_id.0, answer.producer_epoch);
        for (_, sequence) in &mut self.next {
            *sequence = 0;
        }
    }

    /// Does a transaction; tells whether it was committed, `None` when nobody knows.
    async fn transact(&mut self, sent: &mut Vec<Sent>) -> Option<bool> {
        let mut places: Vec<usize> = (0..self.partitions.len()).collect();
        if self.coordinator.client.random.random_ratio(1, 3) {
            let only = self.coordinator.client.random.random_range(0..places.len());
            places = vec![only];
        }
        self.add(&places).await?;
        for place in places {
            let ids = self.send(place, sent).await?;
            tracing::debug!(target: "clients", "in a transaction: {ids:?}");
        }
        let commit = self.coordinator.client.random.random_ratio(2, 3);
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_committed(commit);
        let code = |answer: &EndTxnResponse| Some(answer.error_code);
        match self.coordinator.ask(3, &request, code).await.answer {
            Ok(_) => Some(commit),
            Err(code) => {
                tracing::debug!(target: "clients", code, "an end without an answer");
                None
            }
        }
    }

    /// Adds partitions to the transaction.
    async fn add(&mut self, places: &[usize]) -> Option<()> {
        let indices = places.iter().map(|place| self.partitions[*place].index);
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(&self.partitions[0].topic))
            .with_partitions(indices.collect());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id())
            .with_v3_and_below_producer_id(ProducerId(self.producer.0))
            .with_v3_and_below_producer_epoch(self.producer.1)
            .with_v3_and_below_topics(vec![topic]);
        let code = |answer: &AddPartitionsToTxnResponse| {
            let topic = answer.results_by_topic_v3_and_below.first()?;
            let codes = topic.results_by_partition.iter();
            let codes = codes.map(|result| result.partition_error_code);
            codes.max()
        };
        self.coordinator
            .ask(3, &request, code)
            .await
            .answer
            .ok()
            .map(|_| ())
    }

    /// Sends records of the transaction to a partition; `None` when the partition does not take them any more.
    async fn send(&mut self, place: usize, sent: &mut Vec<Sent>) -> Option<Vec<Id>> {
        let partition = self.partitions[place].clone();
        let (first, sequence) = self.next[place];
        let count = self.coordinator.client.random.random_range(1..=3);
        self.next[place] = (first + count, sequence + count.cast_signed());
        let ids = (first..first + count).map(|number| Id {
            producer: self.number,
            number,
        });
        let ids: Vec<Id> = ids.collect();
        sent.push((partition.clone(), ids.clone()));
        let values: Vec<Vec<u8>> = ids.iter().map(|id| id.value()).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let producer = records::Producer {
            id: self.producer.0,
            epoch: self.producer.1,
            sequence,
        };
        let data = PartitionProduceData::default()
            .with_index(partition.index)
            .with_records(Some(transactional_batch_of(&values, producer)));
        let topic = TopicProduceData::default()
            .with_name(topic_name(&partition.topic))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.id()))
            .with_acks(-1)
            .with_timeout_ms(2_000)
            .with_topic_data(vec![topic]);
        loop {
            match self.try_send(&partition, &request).await {
                Some(NONE | DUPLICATE_SEQUENCE) => return Some(ids),
                Some(code) if !RETRIABLE.contains(&code) => {
                    tracing::debug!(target: "clients", code, "{partition} takes no more");
                    return None;
                }
                _ => {}
            }
            let pause = self.coordinator.client.random.random_range(20..200);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn try_send(&mut self, partition: &Partition, request: &ProduceRequest) -> Option<i16> {
        let (leader, _) = self.coordinator.client.leader(partition).await?;
        let answer = self.coordinator.client.ask(leader, 9, request).await.ok()?;
        Some(
            answer
                .responses
                .first()?
                .partition_responses
                .first()?
                .error_code,
        )
    }
}
