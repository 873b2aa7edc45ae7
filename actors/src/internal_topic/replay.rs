//! Reads a partition of an internal topic from its start to its end.

use tokio::sync::oneshot;
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::records::batch::{Batch, BatchError, BatchHeader, batches};
use troupe_protocol::kafka::records::record::Record;

use super::fields::CorruptRecord;
use crate::partition::messages::{Read, ReadResult, Reader};
use crate::partition::{PartitionHandle, TopicPartition};

/// What the records of one batch may take when they are decompressed.
const MAX_BATCH_BYTES: usize = 128 << 20;
/// So many of what is skipped are told of one by one.
const TOLD: usize = 5;

/// Why a partition can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("the partition answers {0}")]
    Partition(#[from] ErrorCode),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The records and batches that could not be read.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    count: u64,
    /// Offset and reason of the first few.
    first: Vec<(Option<i64>, String)>,
}

impl Skipped {
    fn add(&mut self, offset: Option<i64>, reason: &dyn std::error::Error) {
        self.count = self.count.saturating_add(1);
        if self.first.len() < TOLD {
            self.first.push((offset, reason.to_string()));
        }
    }

    fn tell(&self, partition: &TopicPartition) {
        let topic = &partition.topic;
        for (offset, reason) in &self.first {
            tracing::warn!(%partition, offset, reason, "a record of {topic} is skipped");
        }
        if self.count > 0 {
            let skipped = self.count;
            tracing::warn!(%partition, skipped, "records of {topic} could not be read");
        }
    }

    /// Returns how many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// Hands all records of a log to `take`, each with the header of its batch. About `max_bytes` of whole batches are read at
/// a time. What can't be read is skipped, and told of in the end.
///
/// Only for actors on the thread of that partition: files are read here and now.
pub(crate) async fn replay(
    partition: &PartitionHandle,
    max_bytes: usize,
    take: impl FnMut(&BatchHeader, &Record) -> Result<(), CorruptRecord>,
) -> Result<(), ReplayError> {
    let mut skipped = Skipped::default();
    let replayed = replay_all(partition, max_bytes, &mut skipped, take).await;
    skipped.tell(partition.topic_partition());
    replayed
}

async fn replay_all(
    partition: &PartitionHandle,
    max_bytes: usize,
    skipped: &mut Skipped,
    mut take: impl FnMut(&BatchHeader, &Record) -> Result<(), CorruptRecord>,
) -> Result<(), ReplayError> {
    let mut offset = partition.progress().log_start_offset;
    loop {
        let (reply, answer) = oneshot::channel();
        let read = Read {
            offset,
            max_bytes: max_bytes as u64,
            at_least_one: true,
            reader: Reader::Debug,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            reply,
        };
        partition.send(read).await?;
        let ReadResult { error, records, .. } =
            answer.await.map_err(|_| ErrorCode::KafkaStorageError)?;
        if error.is_error() {
            return Err(error.into());
        }
        let Some(records) = records.filter(|records| records.len > 0) else {
            return Ok(());
        };
        let next = take_batches(&records.read()?, skipped, &mut take);
        // Where nothing can be read, the next offset may do.
        offset = next.unwrap_or(offset).max(offset.saturating_add(1));
    }
}

/// Hands all records of whole batches to `take`; returns the offset after the last of the batches, if there was one.
pub(crate) fn take_batches(
    bytes: &[u8],
    skipped: &mut Skipped,
    mut take: impl FnMut(&BatchHeader, &Record) -> Result<(), CorruptRecord>,
) -> Option<i64> {
    let mut next = None;
    for batch in batches(bytes) {
        match batch {
            Ok(batch) => {
                next = Some(batch.header().next_offset());
                if let Err(error) = take_batch(&batch, skipped, &mut take) {
                    skipped.add(Some(batch.header().base_offset), &error);
                }
            }
            Err(error) => skipped.add(next, &error),
        }
    }
    next
}

fn take_batch(
    batch: &Batch<'_>,
    skipped: &mut Skipped,
    mut take: impl FnMut(&BatchHeader, &Record) -> Result<(), CorruptRecord>,
) -> Result<(), BatchError> {
    batch.check_crc()?;
    for record in batch.records(MAX_BATCH_BYTES)? {
        let record = record?;
        if let Err(error) = take(batch.header(), &record) {
            skipped.add(Some(record.offset), &error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use troupe_protocol::kafka::records::batch::assign_offset;
    use troupe_protocol::kafka::records::builder::BatchBuilder;

    use super::*;

    /// Makes a batch of records with these keys.
    fn batch(base_offset: i64, keys: &[&'static str]) -> Vec<u8> {
        let records: Vec<Record> = (0..)
            .zip(keys)
            .map(|(offset, key)| Record {
                offset,
                timestamp: 0,
                key: Some(Bytes::from_static(key.as_bytes())),
                value: None,
                headers: Vec::new(),
            })
            .collect();
        let mut batch = BatchBuilder::new().build_from(&records).unwrap().to_vec();
        assign_offset(&mut batch, base_offset, 0);
        batch
    }

    /// Takes batches; returns the next offset, the offsets that were taken, and what was skipped.
    fn taken(log: &[Vec<u8>]) -> (Option<i64>, Vec<i64>, Skipped) {
        let (mut taken, mut skipped) = (Vec::new(), Skipped::default());
        let next = take_batches(&log.concat(), &mut skipped, |_, record| {
            if record.key.as_deref() == Some(b"bad") {
                return Err(CorruptRecord::Text);
            }
            taken.push(record.offset);
            Ok(())
        });
        (next, taken, skipped)
    }

    #[test]
    fn what_can_not_be_read_takes_nothing_with_it() {
        let mut broken = batch(12, &["good", "good"]);
        *broken.last_mut().unwrap() ^= 1;
        let cut = batch(15, &["good"]);
        let log = [
            batch(9, &["good", "bad", "good"]),
            broken,
            batch(14, &["good"]),
            cut[..cut.len() - 1].to_vec(),
        ];
        let (next, taken, skipped) = taken(&log);
        assert_eq!((next, taken), (Some(15), vec![9, 11, 14]));
        let offsets: Vec<_> = skipped.first.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [Some(10), Some(12)]);
        assert_eq!(skipped.count, 2);
        assert_eq!(skipped.first[0].1, CorruptRecord::Text.to_string());
    }

    #[test]
    fn all_that_is_skipped_is_counted_but_only_the_first_is_told_of() {
        let log: Vec<_> = (0..20).map(|n| batch(2 * n, &["good", "bad"])).collect();
        let (_, taken, skipped) = taken(&log);
        assert_eq!((taken.len(), skipped.count), (20, 20));
        let offsets: Vec<_> = skipped.first.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [1, 3, 5, 7, 9].map(Some));
    }

    #[test]
    fn what_is_no_batch_ends_what_is_taken() {
        let nonsense = vec![0xff; 100];
        let (next, taken, skipped) = taken(&[batch(3, &["good"]), nonsense]);
        assert_eq!((next, taken, skipped.count), (Some(4), vec![3], 1));
        assert_eq!(skipped.first[0].0, Some(4));
    }
}
