//! The writes of a coordinator: one at a time, each with everything that came up during the one before.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::{BatchError, BatchHeader};
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::record::Record;

use super::group::Purpose;
use super::offsets::{CommittedOffset, TopicPartition};
use crate::partition::messages::{Acks, Append, Origin};
use crate::partition::{Answer, PartitionHandle, Reply};

/// No more is added to a batch of this size.
const BATCH_BYTES: usize = 1 << 20;

/// A key, and a value or a tombstone.
type KeyValue = (Bytes, Option<Bytes>);

/// What waits for records to be written.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A group.
    Group { group: Arc<str>, purpose: Purpose },
    /// Committed offsets, and who committed them.
    Commit {
        group: Arc<str>,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        reply: Reply<()>,
    },
    /// Offsets that go, and who had them deleted.
    DeleteOffsets {
        group: Arc<str>,
        partitions: Vec<TopicPartition>,
        reply: Option<DeletionReply>,
    },
    /// A group that goes with all of its offsets.
    DeleteGroup {
        group: Arc<str>,
        reply: Option<Reply<()>>,
    },
}

/// Answers for each offset that somebody wants deleted.
#[derive(Debug)]
pub(crate) struct DeletionReply {
    pub(crate) reply: Reply<Vec<Answer<()>>>,
    /// Which may be.
    pub(crate) allowed: Vec<Answer<()>>,
}

#[derive(Debug)]
struct Waiting {
    records: Vec<KeyValue>,
    completion: Completion,
    failed: Option<ErrorCode>,
}

/// The writes that wait, and the one under way.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    waiting: VecDeque<Waiting>,
    under_way: Vec<(Completion, Option<ErrorCode>)>,
}

impl Writes {
    /// Adds records to be written together.
    pub(crate) fn push(&mut self, records: Vec<KeyValue>, completion: Completion) {
        self.waiting.push_back(Waiting {
            records,
            completion,
            failed: None,
        });
    }

    /// Adds something that fails when its turn comes.
    pub(crate) fn push_failed(&mut self, completion: Completion) {
        self.waiting.push_back(Waiting {
            records: Vec::new(),
            completion,
            failed: Some(ErrorCode::UnknownServerError),
        });
    }

    /// Starts the next write; `None` while one is under way, or when there is nothing to write.
    pub(crate) fn start(
        &mut self,
        partition: &PartitionHandle,
        now_ms: i64,
    ) -> Option<impl Future<Output = Answer<()>> + 'static> {
        if !self.under_way.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let batch = self.next_batch(now_ms);
        let partition = partition.clone();
        Some(async move {
            match batch {
                Ok(Some(batch)) => append(&partition, batch).await,
                Ok(None) => Ok(()),
                Err(error) => {
                    tracing::error!(%error, "groups can't be stored");
                    Err(ErrorCode::UnknownServerError)
                }
            }
        })
    }

    /// Returns what waited for the write that has ended, in order, with the failures of their own.
    pub(crate) fn finish(&mut self) -> Vec<(Completion, Option<ErrorCode>)> {
        std::mem::take(&mut self.under_way)
    }

    fn next_batch(&mut self, now_ms: i64) -> Result<Option<BytesMut>, BatchError> {
        let mut builder = BatchBuilder::new();
        let mut outcome = Ok(());
        let (mut offset, mut size) = (0, 0);
        while size < BATCH_BYTES {
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            for (key, value) in next.records {
                size += key.len() + value.as_ref().map_or(0, Bytes::len);
                let record = Record {
                    offset,
                    timestamp: now_ms,
                    key: Some(key),
                    value,
                    headers: Vec::new(),
                };
                outcome = outcome.and_then(|()| builder.push(&record));
                offset += 1;
            }
            self.under_way.push((next.completion, next.failed));
        }
        outcome?;
        if builder.is_empty() {
            return Ok(None);
        }
        builder.build().map(Some)
    }
}

async fn append(partition: &PartitionHandle, batch: BytesMut) -> Answer<()> {
    let header = BatchHeader::parse(&batch).map_err(|_| ErrorCode::UnknownServerError)?;
    let appended = partition.ask(|reply| Append {
        batch,
        header,
        acks: Acks::All,
        origin: Origin::Broker,
        reply,
    });
    match appended.await {
        Ok(_) => Ok(()),
        Err(error) => Err(told(error)),
    }
}

/// Says what members are told when their group's partition answers an append with an error.
fn told(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        _ => ErrorCode::UnknownServerError,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use troupe_protocol::kafka::records::batch::Batch;

    use super::*;

    fn commit() -> Completion {
        Completion::Commit {
            group: "g".into(),
            offsets: Vec::new(),
            reply: oneshot::channel().0,
        }
    }

    fn record(size: usize) -> KeyValue {
        (
            Bytes::from_static(b"key"),
            Some(Bytes::from(vec![b'x'; size])),
        )
    }

    fn keys(batch: &[u8]) -> usize {
        Batch::parse(batch)
            .unwrap()
            .records(1 << 24)
            .unwrap()
            .count()
    }

    #[test]
    fn what_waits_goes_into_one_batch_up_to_its_size() {
        let mut writes = Writes::default();
        writes.push(vec![record(1), record(1)], commit());
        writes.push_failed(commit());
        writes.push(vec![record(BATCH_BYTES)], commit());
        writes.push(vec![record(1)], commit());
        let first = writes.next_batch(0).unwrap().unwrap();
        assert_eq!(keys(&first), 3);
        let failures: Vec<bool> = writes
            .finish()
            .iter()
            .map(|(_, failed)| failed.is_some())
            .collect();
        assert_eq!(failures, [false, true, false]);
        assert_eq!(keys(&writes.next_batch(0).unwrap().unwrap()), 1);
        assert_eq!(writes.finish().len(), 1);
    }

    #[test]
    fn nothing_is_written_for_nothing() {
        let mut writes = Writes::default();
        writes.push(Vec::new(), commit());
        assert!(writes.next_batch(0).unwrap().is_none());
        assert_eq!(writes.finish().len(), 1);
    }
}
