//! A consumer that reads one partition from its beginning, over and over.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest};
use tokio::time::sleep;

use crate::history::{History, Id, Partition};
use crate::records::records;
use crate::wire::{Client, topic_name};

/// Who reads.
pub struct Consumer {
    pub client: Client,
    pub history: History,
    pub partition: Partition,
    pub committed: bool,
    /// The epoch and the high watermark of the last answer.
    last: (i32, i64),
}

impl Consumer {
    pub fn new(client: Client, history: History, partition: Partition, committed: bool) -> Self {
        Self {
            client,
            history,
            partition,
            committed,
            last: (-1, -1),
        }
    }

    /// Reads until producers have come to an end and all is read that was acknowledged.
    pub async fn run(mut self) {
        let mut offset = 0;
        loop {
            match self.read(offset).await {
                Some(next) if next > offset => offset = next,
                _ => sleep(Duration::from_millis(50)).await,
            }
            let is_over = self.history.is_ending() && self.history.is_quiet();
            if is_over && self.history.is_read(&self.partition, self.committed) {
                return;
            }
        }
    }

    /// Reads once, from the leader; returns what offset follows.
    async fn read(&mut self, offset: i64) -> Option<i64> {
        let (leader, epoch) = self.client.leader(&self.partition).await?;
        let wanted = FetchPartition::default()
            .with_partition(self.partition.index)
            .with_current_leader_epoch(epoch)
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(16 * 1024);
        let topic = FetchTopic::default()
            .with_topic(topic_name(&self.partition.topic))
            .with_partitions(vec![wanted]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(200)
            .with_min_bytes(1)
            .with_max_bytes(64 * 1024)
            .with_isolation_level(i8::from(self.committed))
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.client.ask(leader, 12, &request).await.ok()?;
        let answer = answer.responses.first()?.partitions.first()?.clone();
        if answer.error_code != 0 {
            return None;
        }
        self.note(epoch, answer.high_watermark);
        Some(self.take(offset, &answer))
    }

    /// Takes note of a high watermark, which a leader answers for its epoch alone.
    fn note(&mut self, epoch: i32, high_watermark: i64) {
        let (last_epoch, last) = self.last;
        // A leader that has not heard of the next one answers on.
        if epoch < last_epoch {
            return;
        }
        if epoch == last_epoch && high_watermark < last {
            self.history.violated(format!(
                "{}: the high watermark went back from {last} to {high_watermark} in epoch {epoch}",
                self.partition
            ));
        }
        self.last = (epoch, high_watermark);
    }

    /// Takes note of what came; returns what offset follows.
    fn take(&self, offset: i64, answer: &PartitionData) -> i64 {
        let fetched: Bytes = answer.records.clone().unwrap_or_default();
        let mut next = offset;
        let aborted = answer.aborted_transactions.clone().unwrap_or_default();
        let mut aborting: Vec<(i64, i64)> = aborted
            .iter()
            .map(|aborted| (aborted.first_offset, aborted.producer_id.0))
            .collect();
        for record in records(fetched) {
            next = next.max(record.offset + 1);
            if record.control {
                // An abort marker ends what the list began.
                if let Some(key) = &record.key
                    && key.get(3) == Some(&0)
                    && let Some(place) = aborting.iter().position(|(first, producer)| {
                        *producer == record.producer_id && *first <= record.offset
                    })
                {
                    aborting.remove(place);
                }
                continue;
            }
            if record.offset < offset {
                continue;
            }
            let is_aborted = record.transactional
                && aborting.iter().any(|(first, producer)| {
                    *producer == record.producer_id && *first <= record.offset
                });
            let Some(id) = record.value.as_deref().and_then(Id::of) else {
                self.history.violated(format!(
                    "{}: a strange record at {}",
                    self.partition, record.offset
                ));
                continue;
            };
            let epoch = record.partition_leader_epoch;
            self.history.read(&self.partition, record.offset, id, epoch);
            if self.committed && !is_aborted {
                self.history.read_committed(&self.partition, id);
            }
        }
        next
    }
}
