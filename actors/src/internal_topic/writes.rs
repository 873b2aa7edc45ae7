//! The writes of a coordinator: one at a time, each with everything that came up during the one before.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::{BatchError, BatchHeader, NO_SEQUENCE};
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::record::Record;

use crate::partition::messages::{Acks, Append, Origin};
use crate::partition::{Answer, PartitionHandle};
use crate::transactions::{Marker, Producer};

/// No more is added to a batch of this size.
const BATCH_BYTES: usize = 1 << 20;

/// A key, and a value or a tombstone.
pub(crate) type KeyValue = (Bytes, Option<Bytes>);

/// What is written.
#[derive(Debug)]
enum What {
    /// Records, of a producer's transaction or of none.
    Records(Vec<KeyValue>, Option<Producer>),
    /// The end of a producer's transaction.
    Marker(Marker),
    /// Nothing: this can't be stored.
    Unstorable,
}

/// What one write appends.
enum Next {
    Batch(BytesMut),
    Marker(Marker),
    Nothing,
}

/// The writes that wait, and the one under way; each with a `C` that waits for it.
#[derive(Debug)]
pub(crate) struct Writes<C> {
    waiting: VecDeque<(What, C)>,
    under_way: Vec<(C, Option<ErrorCode>)>,
}

impl<C> Default for Writes<C> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: Vec::new(),
        }
    }
}

impl<C> Writes<C> {
    /// Adds records to be written together.
    pub(crate) fn push(&mut self, records: Vec<KeyValue>, completion: C) {
        self.add(What::Records(records, None), completion);
    }

    /// Adds records of a transaction to be written together.
    pub(crate) fn push_transactional(
        &mut self,
        records: Vec<KeyValue>,
        producer: Producer,
        completion: C,
    ) {
        self.add(What::Records(records, Some(producer)), completion);
    }

    /// Adds the end of a transaction.
    pub(crate) fn push_marker(&mut self, marker: Marker, completion: C) {
        self.add(What::Marker(marker), completion);
    }

    /// Adds something that fails when its turn comes.
    pub(crate) fn push_failed(&mut self, completion: C) {
        self.add(What::Unstorable, completion);
    }

    fn add(&mut self, what: What, completion: C) {
        self.waiting.push_back((what, completion));
    }

    /// Tells whether nothing is written or waits for that.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
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
        let next = self.next(now_ms);
        let partition = partition.clone();
        Some(async move {
            match next {
                Ok(Next::Batch(batch)) => append(&partition, batch).await.map_err(told),
                Ok(Next::Marker(marker)) => marker.write_to(&partition).await,
                Ok(Next::Nothing) => Ok(()),
                Err(error) => {
                    let partition = partition.topic_partition();
                    tracing::error!(%partition, %error, "the state of a coordinator can't be stored");
                    Err(ErrorCode::UnknownServerError)
                }
            }
        })
    }

    /// Returns what waited for the write that has ended, in order, with the failures of their own.
    pub(crate) fn finish(&mut self) -> Vec<(C, Option<ErrorCode>)> {
        std::mem::take(&mut self.under_way)
    }

    /// Takes the next marker, or else records, as many as may go into one batch.
    fn next(&mut self, now_ms: i64) -> Result<Next, BatchError> {
        if let Some((What::Marker(marker), _)) = self.waiting.front() {
            let marker = *marker;
            self.under_way
                .extend(self.waiting.pop_front().map(|(_, c)| (c, None)));
            return Ok(Next::Marker(marker));
        }
        self.next_batch(now_ms)
            .map(|batch| batch.map_or(Next::Nothing, Next::Batch))
    }

    fn next_batch(&mut self, now_ms: i64) -> Result<Option<BytesMut>, BatchError> {
        let producer = self.waiting.iter().find_map(|(what, _)| what.producer());
        let mut builder = builder(producer.flatten());
        let mut outcome = Ok(());
        let (mut offset, mut size) = (0, 0);
        while size < BATCH_BYTES
            && self
                .waiting
                .front()
                .is_some_and(|(what, _)| what.may_join(producer))
            && let Some((next, completion)) = self.waiting.pop_front()
        {
            let (records, failed) = match next {
                What::Records(records, _) => (records, None),
                _ => (Vec::new(), Some(ErrorCode::UnknownServerError)),
            };
            for (key, value) in records {
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
            self.under_way.push((completion, failed));
        }
        outcome?;
        if builder.is_empty() {
            return Ok(None);
        }
        builder.build().map(Some)
    }
}

impl What {
    /// Returns whose transaction the records belong to; `None` when there are no records.
    fn producer(&self) -> Option<Option<Producer>> {
        match self {
            What::Records(_, producer) => Some(*producer),
            What::Marker(_) | What::Unstorable => None,
        }
    }

    /// Tells whether this goes into a batch whose records are of that transaction.
    fn may_join(&self, producer: Option<Option<Producer>>) -> bool {
        match self {
            What::Records(_, own) => Some(*own) == producer,
            What::Marker(_) => false,
            What::Unstorable => true,
        }
    }
}

/// Starts a batch. Those of a coordinator have no sequence, in transactions neither.
fn builder(producer: Option<Producer>) -> BatchBuilder {
    match producer {
        None => BatchBuilder::new(),
        Some(producer) => BatchBuilder::new().transactional(true).producer(
            producer.id,
            producer.epoch,
            NO_SEQUENCE,
        ),
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
    appended.await.map(|_| ())
}

/// Says what clients are told when the partition answers an append with an error.
fn told(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::InvalidProducerEpoch | ErrorCode::InvalidTxnState => error,
        _ => ErrorCode::UnknownServerError,
    }
}

#[cfg(test)]
mod tests {
    use troupe_protocol::kafka::records::batch::Batch;

    use super::*;

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

    fn finished(writes: &mut Writes<u8>) -> Vec<(u8, bool)> {
        let finished = writes.finish().into_iter();
        finished.map(|(c, failed)| (c, failed.is_some())).collect()
    }

    #[test]
    fn what_waits_goes_into_one_batch_up_to_its_size() {
        let mut writes = Writes::default();
        writes.push(vec![record(1), record(1)], 1);
        writes.push_failed(2);
        writes.push(vec![record(BATCH_BYTES)], 3);
        writes.push(vec![record(1)], 4);
        let first = writes.next_batch(0).unwrap().unwrap();
        assert_eq!(keys(&first), 3);
        assert_eq!(finished(&mut writes), [(1, false), (2, true), (3, false)]);
        assert_eq!(keys(&writes.next_batch(0).unwrap().unwrap()), 1);
        assert_eq!(finished(&mut writes), [(4, false)]);
    }

    #[test]
    fn nothing_is_written_for_nothing() {
        let mut writes = Writes::default();
        writes.push(Vec::new(), 1);
        assert!(writes.next_batch(0).unwrap().is_none());
        assert_eq!(finished(&mut writes), [(1, false)]);
    }

    #[test]
    fn a_transaction_has_batches_of_its_own_and_its_marker_keeps_its_place() {
        let producer = Producer { id: 7, epoch: 3 };
        let marker = Marker {
            producer,
            committed: true,
            coordinator_epoch: 1,
            transaction_version: 0,
        };
        let mut writes = Writes::default();
        writes.push(vec![record(1)], 1);
        writes.push_transactional(vec![record(1)], producer, 2);
        writes.push_transactional(vec![record(1)], producer, 3);
        writes.push_marker(marker, 4);
        writes.push(vec![record(1)], 5);
        let mut order: Vec<Vec<u8>> = Vec::new();
        let mut next = || {
            let next = writes.next(0).unwrap();
            order.push(finished(&mut writes).iter().map(|(c, _)| *c).collect());
            next
        };
        let batch = |next| match next {
            Next::Batch(batch) => BatchHeader::parse(&batch).unwrap(),
            _ => panic!("no batch"),
        };
        assert!(!batch(next()).attributes.is_transactional());
        let header = batch(next());
        assert!(header.attributes.is_transactional());
        assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
        assert!(matches!(next(), Next::Marker(written) if written == marker));
        assert!(!batch(next()).attributes.is_transactional());
        assert_eq!(order, [vec![1], vec![2, 3], vec![4], vec![5]]);
    }
}
