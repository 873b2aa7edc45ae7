//! What a log remembers of its producers: the sequence check of idempotence and the open transactions (KIP-98).

use std::collections::BTreeMap;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::BatchHeader;
use troupe_protocol::kafka::records::control::EndTxnMarker;

use super::txn_index::AbortedTransaction;

/// How many batches of a producer are remembered to recognise a repeated one.
const REMEMBERED: usize = 5;
/// The epoch, sequence or offset of what is not there.
pub(super) const NONE: i16 = -1;

/// One appended batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchMeta {
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The offset of its last record.
    pub last_offset: i64,
    /// Its record count minus one.
    pub offset_delta: i32,
    /// Its largest timestamp.
    pub timestamp: i64,
}

impl BatchMeta {
    fn of(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        }
    }

    /// Returns the offset of its first record.
    pub fn base_offset(&self) -> i64 {
        self.last_offset
            .saturating_sub(i64::from(self.offset_delta))
    }
}

/// What is known of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Its epoch, -1 when unknown.
    pub epoch: i16,
    /// The epoch of the transaction coordinator that wrote its last marker, -1 when none did.
    pub coordinator_epoch: i32,
    /// The timestamp of what it appended last.
    pub last_timestamp: i64,
    /// The first offset of its open transaction.
    pub open_since: Option<i64>,
    batches: [BatchMeta; REMEMBERED],
    count: usize,
}

impl Producer {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: -1,
            open_since: None,
            batches: [BatchMeta::default(); REMEMBERED],
            count: 0,
        }
    }

    /// Returns the remembered batches, oldest first.
    pub fn batches(&self) -> &[BatchMeta] {
        self.batches.get(..self.count).unwrap_or_default()
    }

    /// Returns the sequence of the last record, -1 when there is none in this epoch.
    pub fn last_sequence(&self) -> i32 {
        self.batches()
            .last()
            .map_or(-1, |batch| batch.last_sequence)
    }

    fn remember(&mut self, batch: BatchMeta) {
        if self.count == REMEMBERED {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        if let Some(slot) = self.batches.get_mut(self.count) {
            *slot = batch;
            self.count += 1;
        }
    }

    fn enter(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.count = 0;
        }
    }

    /// Tells whether a batch's sequence goes on where the last one ended: from 0 in a new epoch.
    fn is_followed_by(&self, header: &BatchHeader) -> bool {
        let expected = match self.last_sequence() {
            _ if header.producer_epoch != self.epoch => 0,
            i32::MAX => 0,
            last => last + 1,
        };
        self.epoch == NONE || header.base_sequence == expected
    }

    fn duplicate_of(&self, header: &BatchHeader) -> Option<&BatchMeta> {
        if self.epoch != header.producer_epoch {
            return None;
        }
        self.batches().iter().find(|batch| {
            batch.last_sequence == header.last_sequence()
                && batch.offset_delta == header.last_offset_delta
        })
    }
}

/// What a batch's sequence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// It continues what is there, or has no sequence: to be appended.
    New,
    /// It was appended before: to be answered as it was then.
    Duplicate {
        /// The offset of its first record.
        base_offset: i64,
        /// The offset of its last record.
        last_offset: i64,
        /// Its largest timestamp.
        timestamp: i64,
    },
}

/// The producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producers {
    producers: BTreeMap<i64, Producer>,
    /// Open transactions: first offset to producer id.
    open: BTreeMap<i64, i64>,
    /// Ended transactions whose marker the high watermark has not passed: first offset to the marker's offset.
    undecided: BTreeMap<i64, i64>,
}

impl Producers {
    /// Returns every producer by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// Returns what is known of a producer.
    pub fn get(&self, producer_id: i64) -> Option<&Producer> {
        self.producers.get(&producer_id)
    }

    /// Returns how many producers are known.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Tells whether no producer is known.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Judges a batch of data before it is appended.
    ///
    /// A producer that is not known may start anywhere: its state may have expired. What a coordinator of this broker
    /// writes in a producer's name has no sequence.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` for an epoch below the known one, `OutOfOrderSequenceNumber` for a gap or a step back of
    /// the sequence, `InvalidTxnState` for a batch outside of the transaction that its producer has open.
    pub fn check_data(&self, header: &BatchHeader) -> Result<Sequence, ErrorCode> {
        if header.producer_id < 0 {
            return Ok(Sequence::New);
        }
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return Ok(Sequence::New);
        };
        let sequenced = header.base_sequence >= 0;
        if sequenced && let Some(batch) = producer.duplicate_of(header) {
            return Ok(Sequence::Duplicate {
                base_offset: batch.base_offset(),
                last_offset: batch.last_offset,
                timestamp: batch.timestamp,
            });
        }
        if header.producer_epoch < producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if sequenced && !producer.is_followed_by(header) {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        if producer.open_since.is_some() && !header.attributes.is_transactional() {
            return Err(ErrorCode::InvalidTxnState);
        }
        Ok(Sequence::New)
    }

    /// Judges a transaction marker before it is appended. With `newer_epoch` its epoch has to be newer than that of the
    /// transaction's records (KIP-890); the marker of a transaction that is over already may come again.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` for an older producer epoch, `TransactionCoordinatorFenced` for an older coordinator.
    pub fn check_marker(
        &self,
        header: &BatchHeader,
        marker: EndTxnMarker,
        newer_epoch: bool,
    ) -> Result<(), ErrorCode> {
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return Ok(());
        };
        let same_is_old = newer_epoch && producer.open_since.is_some();
        let epoch = header.producer_epoch;
        if epoch < producer.epoch || (same_is_old && epoch == producer.epoch) {
            Err(ErrorCode::InvalidProducerEpoch)
        } else if marker.coordinator_epoch < producer.coordinator_epoch {
            Err(ErrorCode::TransactionCoordinatorFenced)
        } else {
            Ok(())
        }
    }

    /// Takes note of an appended batch; `marker` is what a control batch says.
    ///
    /// Returns the transaction that it aborted, for the transaction index.
    pub fn update(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndTxnMarker>,
    ) -> Option<AbortedTransaction> {
        if header.producer_id < 0 {
            return None;
        }
        if header.attributes.is_control() {
            return marker.and_then(|marker| self.end_transaction(header, marker));
        }
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        producer.enter(header.producer_epoch);
        producer.remember(BatchMeta::of(header));
        producer.last_timestamp = header.max_timestamp;
        if header.attributes.is_transactional() && producer.open_since.is_none() {
            producer.open_since = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
        None
    }

    fn end_transaction(
        &mut self,
        header: &BatchHeader,
        marker: EndTxnMarker,
    ) -> Option<AbortedTransaction> {
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        producer.enter(header.producer_epoch);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_timestamp = header.max_timestamp;
        // A marker without data before it ends nothing.
        let first_offset = producer.open_since.take()?;
        self.open.remove(&first_offset);
        let last_offset = header.last_offset();
        self.undecided.insert(first_offset, last_offset);
        (!marker.commit).then(|| AbortedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            last_stable_offset: self
                .open
                .keys()
                .next()
                .copied()
                .unwrap_or_else(|| last_offset.saturating_add(1)),
        })
    }

    /// Returns the first offset that belongs to a transaction whose end is not below `high_watermark`.
    pub fn first_unstable_offset(&mut self, high_watermark: i64) -> Option<i64> {
        if !self.undecided.is_empty() {
            self.undecided.retain(|_, marker| *marker >= high_watermark);
        }
        let open = self.open.keys().next();
        let undecided = self.undecided.keys().next();
        open.into_iter().chain(undecided).min().copied()
    }

    /// Forgets producers that appended nothing for `expiration_ms`, unless they have an open transaction.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.retain(|_, producer| {
            producer.open_since.is_some()
                || now_ms.saturating_sub(producer.last_timestamp) < expiration_ms
        });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts a producer in, as a snapshot has it: with its last batch alone.
    pub(super) fn restore(&mut self, id: i64, producer: Producer) {
        if let Some(first_offset) = producer.open_since {
            self.open.insert(first_offset, id);
        }
        self.producers.insert(id, producer);
    }
}

/// Builds a producer from what a snapshot keeps of it.
pub(super) fn restored(
    epoch: i16,
    batch: BatchMeta,
    coordinator_epoch: i32,
    open_since: Option<i64>,
) -> Producer {
    let mut producer = Producer::new(epoch);
    producer.coordinator_epoch = coordinator_epoch;
    producer.open_since = open_since;
    producer.last_timestamp = batch.timestamp;
    if batch.last_offset >= 0 {
        producer.remember(batch);
    }
    producer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::{BatchSpec, batch_header};

    fn header(epoch: i16, sequence: i32, base_offset: i64, count: i32) -> BatchHeader {
        batch_header(&BatchSpec {
            producer: Some((9, epoch, sequence)),
            base_offset,
            count,
            ..BatchSpec::default()
        })
    }

    fn known(headers: &[BatchHeader]) -> Producers {
        let mut producers = Producers::default();
        for header in headers {
            assert_eq!(producers.update(header, None), None);
        }
        producers
    }

    #[test]
    fn a_sequence_goes_on() {
        let producers = known(&[header(0, 0, 0, 3)]);
        assert_eq!(producers.check_data(&header(0, 3, 3, 1)), Ok(Sequence::New));
        for wrong in [1, 2, 4, 100] {
            assert_eq!(
                producers.check_data(&header(0, wrong, 3, 1)),
                Err(ErrorCode::OutOfOrderSequenceNumber)
            );
        }
    }

    #[test]
    fn a_sequence_wraps() {
        let producers = known(&[header(0, i32::MAX - 1, 0, 2)]);
        assert_eq!(producers.check_data(&header(0, 0, 2, 1)), Ok(Sequence::New));
        let producers = known(&[header(0, i32::MAX, 0, 3)]);
        assert_eq!(producers.check_data(&header(0, 2, 3, 1)), Ok(Sequence::New));
    }

    #[test]
    fn the_last_five_are_recognised() {
        let headers: Vec<_> = (0..6)
            .map(|n| header(0, n * 2, i64::from(n) * 2, 2))
            .collect();
        let producers = known(&headers);
        assert_eq!(
            producers.check_data(&headers[0]),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        for header in &headers[1..] {
            assert_eq!(
                producers.check_data(header),
                Ok(Sequence::Duplicate {
                    base_offset: header.base_offset,
                    last_offset: header.base_offset + 1,
                    timestamp: header.max_timestamp,
                })
            );
        }
        // The same end and another start is another batch.
        assert!(producers.check_data(&header(0, 11, 0, 1)).is_err());
    }

    #[test]
    fn epochs_fence() {
        let mut producers = known(&[header(3, 0, 0, 3)]);
        assert_eq!(
            producers.check_data(&header(2, 3, 3, 1)),
            Err(ErrorCode::InvalidProducerEpoch)
        );
        assert_eq!(
            producers.check_data(&header(4, 3, 3, 1)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(producers.check_data(&header(4, 0, 3, 1)), Ok(Sequence::New));
        producers.update(&header(4, 0, 3, 1), None);
        assert_eq!(
            producers.get(9).unwrap().batches().len(),
            1,
            "batches of the older epoch are gone"
        );
    }

    #[test]
    fn an_unknown_producer_starts_anywhere() {
        let mut producers = known(&[header(0, 0, 0, 3)]);
        producers.expire(producers.get(9).unwrap().last_timestamp + 10, 10);
        assert!(producers.is_empty());
        assert_eq!(
            producers.check_data(&header(0, 77, 3, 1)),
            Ok(Sequence::New)
        );
    }

    fn transactional(id: i64, base_offset: i64, control: bool) -> BatchHeader {
        let sequence = if control { -1 } else { 0 };
        batch_header(&BatchSpec {
            producer: Some((id, 0, sequence)),
            base_offset,
            transactional: true,
            control,
            ..BatchSpec::default()
        })
    }

    #[test]
    fn open_transactions_hold_the_last_stable_offset() {
        let mut producers = Producers::default();
        producers.update(&transactional(1, 10, false), None);
        producers.update(&transactional(2, 11, false), None);
        producers.update(&transactional(1, 12, false), None);
        assert_eq!(producers.first_unstable_offset(13), Some(10));
        producers.expire(i64::MAX, 1);
        assert_eq!(producers.len(), 2, "an open transaction does not expire");
        let abort = EndTxnMarker {
            commit: false,
            coordinator_epoch: 5,
        };
        let aborted = producers.update(&transactional(1, 13, true), Some(abort));
        let expected = AbortedTransaction {
            producer_id: 1,
            first_offset: 10,
            last_offset: 13,
            last_stable_offset: 11,
        };
        assert_eq!(aborted, Some(expected));
        assert_eq!(
            producers.first_unstable_offset(13),
            Some(10),
            "its marker is not below the high watermark"
        );
        assert_eq!(producers.first_unstable_offset(14), Some(11));
        let older = EndTxnMarker {
            commit: true,
            coordinator_epoch: 4,
        };
        assert_eq!(
            producers.check_marker(&transactional(1, 14, true), older, false),
            Err(ErrorCode::TransactionCoordinatorFenced)
        );
        let commit = EndTxnMarker {
            commit: true,
            coordinator_epoch: 5,
        };
        assert_eq!(
            producers.update(&transactional(2, 14, true), Some(commit)),
            None
        );
        assert_eq!(
            producers.update(&transactional(1, 15, true), Some(abort)),
            None,
            "nothing to end"
        );
        assert_eq!(producers.first_unstable_offset(15), None);
    }

    #[test]
    fn an_open_transaction_takes_nothing_from_outside() {
        let mut producers = Producers::default();
        let plain = |sequence| header(0, sequence, 11, 1);
        producers.update(&transactional(9, 10, false), None);
        assert_eq!(
            producers.check_data(&plain(1)),
            Err(ErrorCode::InvalidTxnState)
        );
        producers.update(&transactional(9, 11, true), Some(COMMIT));
        assert_eq!(producers.check_data(&plain(1)), Ok(Sequence::New));
    }

    #[test]
    fn what_a_coordinator_writes_has_an_epoch_and_no_sequence() {
        let producers = known(&[header(3, 7, 0, 3)]);
        let written = |epoch| producers.check_data(&header(epoch, -1, 3, 1));
        assert_eq!(written(3), Ok(Sequence::New));
        assert_eq!(written(4), Ok(Sequence::New));
        assert_eq!(written(2), Err(ErrorCode::InvalidProducerEpoch));
    }

    const COMMIT: EndTxnMarker = EndTxnMarker {
        commit: true,
        coordinator_epoch: 5,
    };

    #[test]
    fn a_newer_epoch_may_be_demanded_of_a_marker() {
        let marker = |epoch| {
            batch_header(&BatchSpec {
                producer: Some((9, epoch, -1)),
                transactional: true,
                control: true,
                ..BatchSpec::default()
            })
        };
        let mut producers = Producers::default();
        producers.update(&transactional(9, 10, false), None);
        let check = |producers: &Producers, epoch, newer| {
            producers.check_marker(&marker(epoch), COMMIT, newer)
        };
        assert_eq!(check(&producers, 0, false), Ok(()));
        assert_eq!(
            check(&producers, 0, true),
            Err(ErrorCode::InvalidProducerEpoch)
        );
        assert_eq!(check(&producers, 1, true), Ok(()));
        producers.update(&marker(1), Some(COMMIT));
        assert_eq!(check(&producers, 1, true), Ok(()), "it comes again");
        assert_eq!(
            check(&producers, 0, false),
            Err(ErrorCode::InvalidProducerEpoch)
        );
        // The first batch of the next transaction starts over.
        assert_eq!(
            producers.check_data(&header(1, 0, 12, 1)),
            Ok(Sequence::New)
        );
    }
}
