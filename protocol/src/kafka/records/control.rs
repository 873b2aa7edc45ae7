//! Transaction markers: the control records with which a coordinator ends a transaction in a partition (KIP-98).
//!
//! ```text
//! key: version i16 = 0 | type i16: 0 abort, 1 commit
//! value: version i16 = 0 | coordinator epoch i32
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::batch::{BatchError, NO_SEQUENCE};
use super::builder::BatchBuilder;
use super::record::Record;

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// What a marker says of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Whether the transaction was committed; aborted otherwise.
    pub commit: bool,
    /// The epoch of the coordinator that ended it.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads the key and value of a control record; `None` when it is no marker.
    pub fn parse(mut key: &[u8], mut value: &[u8]) -> Option<Self> {
        let _version = key.try_get_i16().ok().filter(|version| *version >= 0)?;
        let commit = match key.try_get_i16().ok()? {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        let _version = value.try_get_i16().ok().filter(|version| *version >= 0)?;
        Some(Self {
            commit,
            coordinator_epoch: value.try_get_i32().ok()?,
        })
    }

    /// Builds the batch that holds the marker and nothing else; `timestamp` in milliseconds since the epoch.
    ///
    /// # Errors
    /// None that happens: a marker always fits.
    pub fn batch(
        self,
        producer_id: i64,
        producer_epoch: i16,
        timestamp: i64,
    ) -> Result<BytesMut, BatchError> {
        let (mut key, mut value) = (BytesMut::with_capacity(4), BytesMut::with_capacity(6));
        key.put_i16(VERSION);
        key.put_i16(if self.commit { COMMIT } else { ABORT });
        value.put_i16(VERSION);
        value.put_i32(self.coordinator_epoch);
        let mut builder = BatchBuilder::new()
            .producer(producer_id, producer_epoch, NO_SEQUENCE)
            .transactional(true)
            .control(true);
        builder.push(&Record {
            offset: 0,
            timestamp,
            key: Some(key.freeze()),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        })?;
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::records::batch::Batch;

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        for commit in [false, true] {
            let marker = EndTxnMarker {
                commit,
                coordinator_epoch: 7,
            };
            let bytes = marker.batch(5, 3, 1_000).unwrap();
            let batch = Batch::parse(&bytes).unwrap();
            batch.check_crc().unwrap();
            let header = batch.header();
            assert!(header.attributes.is_control() && header.attributes.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch), (5, 3));
            assert_eq!((header.base_sequence, header.record_count), (-1, 1));
            assert_eq!(header.max_timestamp, 1_000);
            let record = batch.records(100).unwrap().next().unwrap().unwrap();
            let (key, value) = (record.key.unwrap(), record.value.unwrap());
            assert_eq!(key, [0, 0, 0, u8::from(commit)][..]);
            assert_eq!(value, [0, 0, 0, 0, 0, 7][..]);
            assert_eq!(EndTxnMarker::parse(&key, &value), Some(marker));
        }
    }

    #[test]
    fn other_control_records_are_none() {
        for (key, value) in [
            (&[0, 0, 0, 2][..], &[0, 0, 0, 0, 0, 7][..]),
            (&[0, 0, 0], &[0, 0, 0, 0, 0, 7]),
            (&[0xff, 0xff, 0, 1], &[0, 0, 0, 0, 0, 7]),
            (&[0, 0, 0, 1], &[0, 0, 0, 0, 7]),
            (&[], &[]),
        ] {
            assert_eq!(EndTxnMarker::parse(key, value), None, "{key:?} {value:?}");
        }
    }
}
