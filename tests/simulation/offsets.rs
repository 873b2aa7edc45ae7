//! Somebody who commits offsets of a group and reads them again: what was committed for certain is not forgotten.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use rand::Rng;
use tokio::time::sleep;

use crate::coordinator::Coordinator;
use crate::history::{History, Partition};
use crate::wire::topic_name;

/// Who commits.
pub struct Committer {
    pub coordinator: Coordinator,
    pub history: History,
    pub partition: Partition,
}

impl Committer {
    /// Commits one offset after the other, and looks what is there.
    pub async fn run(mut self) {
        self.coordinator.wait_for(&self.partition).await;
        let (mut committed, mut late) = (-1, BTreeSet::new());
        for offset in 0.. {
            if self.history.is_ending() {
                break;
            }
            self.history.begin();
            if self.commit(offset).await {
                // One of those without an answer may come after all, also later than another offset.
                late.insert(offset);
            }
            committed = offset;
            let found = self.fetch().await;
            if found != committed && !late.contains(&found) {
                self.history.violated(format!(
                    "offset {committed} was committed, and {found} is there; late may be {late:?}"
                ));
            }
            self.history.finish();
            let pause = self.coordinator.client.random.random_range(0..300);
            sleep(Duration::from_millis(pause)).await;
        }
        tracing::debug!(target: "clients", "committed offset {committed}");
    }

    fn group(&self) -> GroupId {
        GroupId(self.coordinator.key())
    }

    /// Commits an offset; tells whether there were requests without an answer.
    async fn commit(&mut self, offset: i64) -> bool {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(self.partition.index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(&self.partition.topic))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let code = |answer: &OffsetCommitResponse| {
            Some(answer.topics.first()?.partitions.first()?.error_code)
        };
        let done = self.coordinator.ask(7, &request, code).await;
        if let Err(code) = done.answer {
            self.history
                .violated(format!("error {code} for a commit of {offset}"));
        }
        done.unanswered > 0
    }

    async fn fetch(&mut self) -> i64 {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name(&self.partition.topic))
            .with_partition_indexes(vec![self.partition.index]);
        let request = OffsetFetchRequest::default()
            .with_group_id(self.group())
            .with_topics(Some(vec![topic]));
        let code = |answer: &OffsetFetchResponse| {
            let partition = answer.topics.first()?.partitions.first()?;
            Some(answer.error_code.max(partition.error_code))
        };
        match self.coordinator.ask(5, &request, code).await.answer {
            Ok(answer) => answer.topics[0].partitions[0].committed_offset,
            Err(code) => {
                self.history
                    .violated(format!("error {code} for committed offsets"));
                -1
            }
        }
    }
}
