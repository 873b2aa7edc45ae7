//! The writes of a coordinator: one at a time, each with everything that came up during the one before.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::{BatchError, BatchHeader, NO_SEQUENCE};
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::record::Record;

use crate::partition::messages::{Acks, Append};
use crate::partition::{Answer, PartitionHandle, Verification};
use crate::transactions::{Marker, Producer};

/// Nothing is added to a batch that would make it larger than this.
const BATCH_BYTES: usize = 1 << 20;

/// A key, and a value or a tombstone.
pub(crate) type KeyValue = (Bytes, Option<Bytes>);

/// The transaction that records belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) producer: Producer,
    /// How it is known that the transaction is open.
    pub(crate) verification: Verification,
}

/// What is written.
#[derive(Debug)]
enum What {
    /// Records, of a producer's transaction or of none.
    Records(Vec<KeyValue>, Option<Membership>),
    /// The end of a producer's transaction.
    Marker(Marker),
    /// Nothing: this can't be stored.
    Unstorable,
}

/// What one write appends.
enum Next {
    Batch(BytesMut, Verification),
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
        membership: Membership,
        completion: C,
    ) {
        self.add(What::Records(records, Some(membership)), completion);
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
                Ok(Next::Batch(batch, verification)) => {
                    append(&partition, batch, verification).await.map_err(told)
                }
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
    }

    fn next_batch(&mut self, now_ms: i64) -> Result<Next, BatchError> {
        let membership = self.waiting.iter().find_map(|(what, _)| what.membership());
        let mut builder = builder(membership.flatten());
        let mut outcome = Ok(());
        let (mut offset, mut size) = (0, 0);
        while self.waiting.front().is_some_and(|(what, _)| {
            what.may_join(membership) && (size == 0 || size + what.size() <= BATCH_BYTES)
        }) && let Some((next, completion)) = self.waiting.pop_front()
        {
            size += next.size();
            let (records, failed) = match next {
                What::Records(records, _) => (records, None),
                _ => (Vec::new(), Some(ErrorCode::UnknownServerError)),
            };
            for (key, value) in records {
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
            return Ok(Next::Nothing);
        }
        let verification = membership.flatten().map(|one| one.verification);
        let verification = verification.unwrap_or(Verification::NotNeeded);
        Ok(Next::Batch(builder.build()?, verification))
    }
}

impl What {
    /// Returns which transaction the records belong to; `None` when there are no records.
    fn membership(&self) -> Option<Option<Membership>> {
        match self {
            What::Records(_, membership) => Some(*membership),
            What::Marker(_) | What::Unstorable => None,
        }
    }

    /// Tells whether this goes into a batch whose records are of that transaction.
    fn may_join(&self, membership: Option<Option<Membership>>) -> bool {
        match self {
            What::Records(_, own) => Some(*own) == membership,
            What::Marker(_) => false,
            What::Unstorable => true,
        }
    }

    /// Returns the bytes of keys and values.
    fn size(&self) -> usize {
        let What::Records(records, _) = self else {
            return 0;
        };
        let value = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let sizes = records.iter().map(|(key, of)| key.len() + value(of));
        sizes.sum()
    }
}

/// Starts a batch. Those of a coordinator have no sequence, in transactions neither.
fn builder(membership: Option<Membership>) -> BatchBuilder {
    match membership {
        None => BatchBuilder::new(),
        Some(Membership { producer, .. }) => BatchBuilder::new().transactional(true).producer(
            producer.id,
            producer.epoch,
            NO_SEQUENCE,
        ),
    }
}

async fn append(
    partition: &PartitionHandle,
    batch: BytesMut,
    verification: Verification,
) -> Answer<()> {
    let header = BatchHeader::parse(&batch).map_err(|_| ErrorCode::UnknownServerError)?;
    let appended = partition.ask(|reply| Append {
        batch,
        header,
        acks: Acks::All,
        verification,
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

    fn batch(next: Result<Next, BatchError>) -> BytesMut {
        match next {
            Ok(Next::Batch(batch, _)) => batch,
            _ => panic!("no batch"),
        }
    }

    fn keys(next: Result<Next, BatchError>) -> usize {
        let batch = batch(next);
        let batch = Batch::parse(&batch).unwrap();
        batch.records(1 << 24).unwrap().count()
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
        writes.push(vec![record(1)], 3);
        writes.push(vec![record(BATCH_BYTES)], 4);
        writes.push(vec![record(1)], 5);
        assert_eq!(keys(writes.next_batch(0)), 3);
        assert_eq!(finished(&mut writes), [(1, false), (2, true), (3, false)]);
        // What may be too large for the log takes nobody with it.
        assert_eq!(keys(writes.next_batch(0)), 1);
        assert_eq!(finished(&mut writes), [(4, false)]);
        assert_eq!(keys(writes.next_batch(0)), 1);
        assert_eq!(finished(&mut writes), [(5, false)]);
    }

    #[test]
    fn nothing_is_written_for_nothing() {
        let mut writes = Writes::default();
        writes.push(Vec::new(), 1);
        assert!(matches!(writes.next_batch(0), Ok(Next::Nothing)));
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
        let first = Membership {
            producer,
            verification: Verification::NotNeeded,
        };
        let ongoing = Membership {
            verification: Verification::Ongoing,
            ..first
        };
        let mut writes = Writes::default();
        writes.push(vec![record(1)], 1);
        writes.push_transactional(vec![record(1)], first, 2);
        writes.push_transactional(vec![record(1)], first, 3);
        writes.push_transactional(vec![record(1)], ongoing, 4);
        writes.push_marker(marker, 5);
        writes.push(vec![record(1)], 6);
        let mut order: Vec<Vec<u8>> = Vec::new();
        let mut next = || {
            let next = writes.next(0);
            order.push(finished(&mut writes).iter().map(|(c, _)| *c).collect());
            next
        };
        let header = |next| BatchHeader::parse(&batch(next)).unwrap();
        assert!(!header(next()).attributes.is_transactional());
        for _ in [first, ongoing] {
            let header = header(next());
            assert!(header.attributes.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
        }
        assert!(matches!(next(), Ok(Next::Marker(written)) if written == marker));
        assert!(!header(next()).attributes.is_transactional());
        assert_eq!(order, [vec![1], vec![2, 3], vec![4], vec![5], vec![6]]);
    }
}
