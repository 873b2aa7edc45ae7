//! The requests of a transactional producer, one at a time.

use std::time::{Duration, Instant};

use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    GroupId, InitProducerIdRequest, ProduceRequest, ProducerId, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::process::HANG_GUARD;
use super::records::{self, field, transactional_batch_of};
use super::requests::topic_name;
use super::server::Server;
use super::wire::Wire;

pub const NONE: i16 = 0;
pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
pub const NOT_COORDINATOR: i16 = 16;
pub const CONCURRENT_TRANSACTIONS: i16 = 51;

/// The group whose offsets are committed.
pub const GROUP: &str = "group";

pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

pub fn transactional(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// Repeats a request until its error code is none that asks for just that.
#[track_caller]
pub fn insist<T>(mut request: impl FnMut() -> (i16, T)) -> (i16, T) {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let answer = request();
        let again = [
            COORDINATOR_LOAD_IN_PROGRESS,
            COORDINATOR_NOT_AVAILABLE,
            NOT_COORDINATOR,
            CONCURRENT_TRANSACTIONS,
        ];
        if !again.contains(&answer.0) {
            return answer;
        }
        assert!(Instant::now() < deadline, "error {} for ever", answer.0);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A producer with a transactional id, as its requests show it.
pub struct Producer {
    pub wire: Wire,
    pub id: &'static str,
    pub producer_id: i64,
    pub epoch: i16,
}

impl Producer {
    pub fn new(server: &Server, id: &'static str) -> Producer {
        let mut wire = Wire::connect(server);
        let request = init_request(id);
        let (code, (producer_id, epoch)) = insist(|| {
            let given = wire.call(4, &request);
            (
                given.error_code,
                (given.producer_id.0, given.producer_epoch),
            )
        });
        assert_eq!(code, NONE);
        Producer {
            wire,
            id,
            producer_id,
            epoch,
        }
    }

    /// The same producer on a new connection.
    pub fn reconnect(&mut self, server: &Server) {
        self.wire = Wire::connect(server);
    }

    pub fn try_add(&mut self, version: i16, partitions: &[i32], verify_only: bool) -> Vec<i16> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default();
        if version < 4 {
            let request = request
                .with_v3_and_below_transactional_id(transactional(self.id))
                .with_v3_and_below_producer_id(ProducerId(self.producer_id))
                .with_v3_and_below_producer_epoch(self.epoch)
                .with_v3_and_below_topics(vec![topic]);
            let response = self.wire.call(version, &request);
            let results = &response.results_by_topic_v3_and_below[0].results_by_partition;
            return results.iter().map(|r| r.partition_error_code).collect();
        }
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(transactional(self.id))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_verify_only(verify_only)
            .with_topics(vec![topic]);
        let request = request.with_transactions(vec![transaction]);
        let response = self.wire.call(version, &request);
        assert_eq!(response.error_code, NONE);
        let results = &response.results_by_transaction[0].topic_results[0].results_by_partition;
        results.iter().map(|r| r.partition_error_code).collect()
    }

    pub fn add(&mut self, partition: i32) {
        let (code, ()) = insist(|| (self.try_add(3, &[partition], false)[0], ()));
        assert_eq!(code, NONE);
    }

    pub fn try_add_offsets(&mut self, version: i16) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional(self.id))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_group_id(GroupId(text(GROUP)));
        self.wire.call(version, &request).error_code
    }

    pub fn add_offsets(&mut self) {
        let (code, ()) = insist(|| (self.try_add_offsets(3), ()));
        assert_eq!(code, NONE);
    }

    /// Commits an offset of partition 0 for somebody without membership, or for a member.
    pub fn try_commit(&mut self, version: i16, offset: i64, generation: i32, member: &str) -> i16 {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("note")));
        self.try_commit_of(version, partition, generation, member)
    }

    pub fn try_commit_of(
        &mut self,
        version: i16,
        partition: TxnOffsetCommitRequestPartition,
        generation: i32,
        member: &str,
    ) -> i16 {
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional(self.id))
            .with_group_id(GroupId(text(GROUP)))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_generation_id(generation)
            .with_member_id(text(member))
            .with_topics(vec![topic]);
        let response = self.wire.call(version, &request);
        response.topics[0].partitions[0].error_code
    }

    pub fn commit(&mut self, offset: i64) {
        let (code, ()) = insist(|| (self.try_commit(3, offset, -1, ""), ()));
        assert_eq!(code, NONE);
    }

    /// Produces a record of a sequence to each of some partitions in one request; that to `damaged` has a wrong CRC.
    pub fn try_produce(
        &mut self,
        version: i16,
        sequences: &[(i32, i32)],
        damaged: Option<i32>,
    ) -> Vec<i16> {
        self.try_produce_to("t", version, sequences, damaged)
    }

    pub fn try_produce_to(
        &mut self,
        topic: &str,
        version: i16,
        sequences: &[(i32, i32)],
        damaged: Option<i32>,
    ) -> Vec<i16> {
        let partitions = sequences.iter().map(|&(partition, sequence)| {
            let sent = records::Producer {
                id: self.producer_id,
                epoch: self.epoch,
                sequence,
            };
            let mut batch = transactional_batch_of(&[b"v"], sent).to_vec();
            batch[field::CRC] ^= u8::from(damaged == Some(partition));
            PartitionProduceData::default()
                .with_index(partition)
                .with_records(Some(batch.into()))
        });
        let topic = TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(partitions.collect());
        let request = ProduceRequest::default()
            .with_transactional_id(Some(transactional(self.id)))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let response = self.wire.call(version, &request);
        let answers = &response.responses[0].partition_responses;
        answers.iter().map(|answer| answer.error_code).collect()
    }

    pub fn try_end(&mut self, version: i16, commit: bool) -> (i16, (i64, i16)) {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional(self.id))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        let response = self.wire.call(version, &request);
        let producer = (response.producer_id.0, response.producer_epoch);
        (response.error_code, producer)
    }

    pub fn end(&mut self, commit: bool) {
        let (code, _) = insist(|| self.try_end(3, commit));
        assert_eq!(code, NONE);
    }

    pub fn state(&mut self) -> (i16, String) {
        let request = DescribeTransactionsRequest::default()
            .with_transactional_ids(vec![transactional(self.id)]);
        let response = self.wire.call(0, &request);
        let described = &response.transaction_states[0];
        (
            described.error_code,
            described.transaction_state.to_string(),
        )
    }

    /// Waits until the transaction has come to a state.
    #[track_caller]
    pub fn wait_for(&mut self, state: &str) {
        let deadline = Instant::now() + HANG_GUARD;
        loop {
            let (code, (now, ())) = insist(|| {
                let (code, state) = self.state();
                (code, (state, ()))
            });
            if (code, &*now) == (NONE, state) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{now} (error {code}), not {state}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub fn init_request(id: &str) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional(id)))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
