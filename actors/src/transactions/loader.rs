//! Rebuilds transactional ids from the records of a partition of `__transaction_state`.

use std::collections::BTreeMap;
use std::sync::Arc;

use troupe_protocol::kafka::records::batch::BatchHeader;
use troupe_protocol::kafka::records::record::Record;

use super::records::{decode_key, decode_value};
use super::transaction::{Transaction, Value};
use crate::internal_topic::fields::CorruptRecord;

/// Takes records in the order of the log; the last one of an id counts.
#[derive(Debug, Default)]
pub(super) struct Loader {
    ids: BTreeMap<String, Value>,
}

impl Loader {
    /// Takes a record of a batch.
    pub(super) fn take(
        &mut self,
        batch: &BatchHeader,
        record: &Record,
    ) -> Result<(), CorruptRecord> {
        if batch.attributes.is_control() {
            return Ok(());
        }
        let key = record.key.as_ref().ok_or(CorruptRecord::Truncated)?;
        let Some(id) = decode_key(key)? else {
            return Ok(());
        };
        match &record.value {
            Some(value) => self.ids.insert(id, decode_value(value)?),
            None => self.ids.remove(&id),
        };
        Ok(())
    }

    /// Returns the transactional ids as they were.
    pub(super) fn finish(self) -> BTreeMap<Arc<str>, Transaction> {
        let ids = self.ids.into_iter();
        ids.map(|(id, value)| (id.into(), Transaction::restored(value)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use troupe_protocol::kafka::records::builder::BatchBuilder;

    use super::super::records::{key, value};
    use super::*;
    use crate::internal_topic::{Skipped, take_batches};

    fn stored(id: &str, producer_id: i64) -> (Bytes, Option<Bytes>) {
        let transaction = Transaction::new(producer_id, 0);
        (key(id).unwrap(), Some(value(transaction.value()).unwrap()))
    }

    fn batch(records: &[(Bytes, Option<Bytes>)]) -> Vec<u8> {
        let records: Vec<Record> = (0..)
            .zip(records)
            .map(|(offset, (key, value))| Record {
                offset,
                timestamp: 0,
                key: Some(key.clone()),
                value: value.clone(),
                headers: Vec::new(),
            })
            .collect();
        BatchBuilder::new().build_from(&records).unwrap().to_vec()
    }

    fn load(log: &[Vec<u8>]) -> (Vec<(String, i64)>, u64) {
        let (mut loader, mut skipped) = (Loader::default(), Skipped::default());
        take_batches(&log.concat(), &mut skipped, |batch, record| {
            loader.take(batch, record)
        });
        let ids = loader.finish();
        let ids = ids.iter().map(|(id, transaction)| {
            let producer = transaction.value().producer;
            (id.to_string(), producer.id)
        });
        (ids.collect(), skipped.count())
    }

    #[test]
    fn the_last_record_counts_and_a_tombstone_deletes() {
        let tombstone = (key("gone").unwrap(), None);
        let log = [
            batch(&[stored("id", 1), stored("gone", 2)]),
            batch(&[stored("id", 3), tombstone]),
        ];
        assert_eq!(load(&log), (vec![("id".to_owned(), 3)], 0));
    }

    #[test]
    fn what_is_corrupt_is_skipped_and_counted() {
        let nonsense = (Bytes::from_static(b"\0\0\0"), Some(Bytes::new()));
        let bad_value = (key("id").unwrap(), Some(Bytes::from_static(b"\0\x09")));
        let newer = (Bytes::from_static(b"\0\x01whatever"), Some(Bytes::new()));
        let mut broken = batch(&[stored("id", 9)]);
        *broken.last_mut().unwrap() ^= 1;
        let log = [
            batch(&[nonsense, stored("id", 1), bad_value, newer]),
            broken,
            batch(&[stored("other", 2)]),
        ];
        let left = vec![("id".to_owned(), 1), ("other".to_owned(), 2)];
        assert_eq!(load(&log), (left, 3));
    }
}
