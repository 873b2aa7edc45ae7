//! What compaction leaves of a batch: some of its records, or its header alone.
//!
//! Records keep their bytes, since offsets are relative to the base offset, which stays. The last offset stays too: it
//! tells the producer's last sequence (KIP-98). Only a new delete horizon, which takes the place of the base timestamp
//! (KIP-534), has the timestamps written anew.

use std::borrow::Cow;
use std::ops::Range;

use bytes::BytesMut;

use super::batch::{Batch, BatchError, BatchHeader, NO_TIMESTAMP, TimestampType, write_batch};
use super::compress::{self, Compression};
use super::record::{RecordView, put_shifted};

/// Returns the records of a batch as bytes, decompressed; an error when they exceed `limit_bytes`.
pub fn unpack<'a>(batch: &Batch<'a>, limit_bytes: usize) -> Result<Cow<'a, [u8]>, BatchError> {
    match batch.header().attributes.compression()? {
        Compression::None => Ok(Cow::Borrowed(batch.payload())),
        codec => {
            let records = compress::decompress(codec, batch.payload(), limit_bytes)?;
            Ok(Cow::Owned(records.into()))
        }
    }
}

/// Iterates over decompressed records, with the bytes that each takes; ends after the first error.
///
/// Errors when there are fewer records than the header says, or bytes after them.
pub fn views<'a>(
    header: &BatchHeader,
    records: &'a [u8],
) -> impl Iterator<Item = Result<(RecordView<'a>, Range<usize>), BatchError>> + use<'a> {
    let (mut left, mut at) = (header.record_count.max(0), 0);
    std::iter::from_fn(move || {
        let rest = records.get(at..).unwrap_or_default();
        if left == 0 {
            let surplus = !rest.is_empty();
            at = records.len();
            return surplus.then_some(Err(BatchError::Invalid(
                "bytes follow the last record of a batch",
            )));
        }
        left -= 1;
        match RecordView::parse(rest) {
            Ok((view, len)) => {
                let range = at..at + len;
                at = range.end;
                Some(Ok((view, range)))
            }
            Err(error) => {
                (left, at) = (0, records.len());
                Some(Err(error.into()))
            }
        }
    })
}

/// Some of the records of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Where they are; neighbours are one range.
    ranges: Vec<Range<usize>>,
    /// How many they are.
    count: i32,
    /// The largest of their timestamps, in milliseconds since the epoch.
    max_timestamp: i64,
    has_tombstones: bool,
}

impl Selection {
    /// Selects those of the decompressed records that `keep` says yes to.
    pub fn of(
        header: &BatchHeader,
        records: &[u8],
        mut keep: impl FnMut(&RecordView<'_>) -> bool,
    ) -> Result<Self, BatchError> {
        let mut selection = Self {
            ranges: Vec::new(),
            count: 0,
            max_timestamp: NO_TIMESTAMP,
            has_tombstones: false,
        };
        for found in views(header, records) {
            let (view, range) = found?;
            if keep(&view) {
                selection.add(header, &view, range);
            }
        }
        Ok(selection)
    }

    fn add(&mut self, header: &BatchHeader, view: &RecordView<'_>, range: Range<usize>) {
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
        self.count += 1;
        let timestamp = header.base_timestamp.wrapping_add(view.timestamp_delta);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.has_tombstones |= view.value.is_none();
    }

    /// Returns how many records are selected.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Tells whether a record without a value is among them.
    pub fn has_tombstones(&self) -> bool {
        self.has_tombstones
    }

    /// Appends a batch of the selected records to `out`, with a new delete horizon when one is given, and returns its
    /// header. Offsets, epoch, producer and codec are those of the original.
    pub fn write(
        &self,
        header: &BatchHeader,
        records: &[u8],
        new_delete_horizon_ms: Option<i64>,
        out: &mut BytesMut,
    ) -> Result<BatchHeader, BatchError> {
        let mut kept = BytesMut::with_capacity(self.ranges.iter().map(Range::len).sum());
        let selected = self
            .ranges
            .iter()
            .filter_map(|range| records.get(range.clone()));
        let mut rewritten = BatchHeader {
            record_count: self.count,
            ..*header
        };
        if header.attributes.timestamp_type() == TimestampType::CreateTime {
            rewritten.max_timestamp = self.max_timestamp;
        }
        match new_delete_horizon_ms {
            None => selected.for_each(|bytes| kept.extend_from_slice(bytes)),
            Some(horizon_ms) => {
                rewritten.attributes = header.attributes.with_delete_horizon();
                rewritten.base_timestamp = horizon_ms;
                let shift = header.base_timestamp.wrapping_sub(horizon_ms);
                for mut bytes in selected {
                    while !bytes.is_empty() {
                        let (_, len) = RecordView::parse(bytes)?;
                        let (record, rest) = bytes.split_at(len);
                        put_shifted(record, shift, &mut kept)?;
                        bytes = rest;
                    }
                }
            }
        }
        let start = out.len();
        match header.attributes.compression()? {
            Compression::None => write_batch(&rewritten, &kept, out)?,
            codec => write_batch(&rewritten, &compress::compress(codec, &kept, None)?, out)?,
        }
        BatchHeader::parse(out.get(start..).unwrap_or_default())
    }
}

/// Appends a batch without records to `out` that has the offsets, producer and sequence of another; returns its header.
pub fn write_empty(header: &BatchHeader, out: &mut BytesMut) -> Result<BatchHeader, BatchError> {
    let empty = BatchHeader {
        attributes: header
            .attributes
            .with_compression(Compression::None)
            .without_delete_horizon(),
        base_timestamp: NO_TIMESTAMP,
        record_count: 0,
        ..*header
    };
    let start = out.len();
    write_batch(&empty, &[], out)?;
    BatchHeader::parse(out.get(start..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::builder::BatchBuilder;
    use super::super::record::Record;
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn record(offset: i64) -> Record {
        Record {
            offset,
            timestamp: 1_000 + offset * 7,
            key: Some(Bytes::from(format!("key {offset}"))),
            value: (offset % 3 > 0).then(|| Bytes::from(vec![b'v'; 40])),
            headers: vec![(Bytes::from_static(b"h"), None); usize::from(offset % 2 == 0)],
        }
    }

    fn built(count: i64, codec: Compression) -> BytesMut {
        let records: Vec<Record> = (0..count).map(|delta| record(100 + delta)).collect();
        BatchBuilder::new()
            .compression(codec)
            .leader_epoch(4)
            .producer(7, 2, 50)
            .transactional(true)
            .build_from(&records)
            .unwrap()
    }

    fn read(bytes: &[u8]) -> Vec<Record> {
        let batch = Batch::parse(bytes).unwrap();
        batch.check_crc().unwrap();
        batch.records(LIMIT).unwrap().map(Result::unwrap).collect()
    }

    proptest! {
        #[test]
        fn what_is_kept_is_as_it_was(
            kept in prop::collection::vec(any::<bool>(), 1..30),
            codec in prop::sample::select(&Compression::ALL[..]),
            horizon in prop::option::of(0..i64::MAX / 2),
        ) {
            let bytes = built(kept.len() as i64, codec);
            let batch = Batch::parse(&bytes).unwrap();
            let header = batch.header();
            let records = unpack(&batch, LIMIT).unwrap();
            let wanted = |delta: i32| kept[usize::try_from(delta).unwrap()];
            let selection =
                Selection::of(header, &records, |view| wanted(view.offset_delta)).unwrap();
            let expected: Vec<Record> = (0..kept.len() as i64)
                .filter(|&delta| kept[usize::try_from(delta).unwrap()])
                .map(|delta| record(100 + delta))
                .collect();
            prop_assert_eq!(usize::try_from(selection.count()).unwrap(), expected.len());
            prop_assert_eq!(
                selection.has_tombstones(),
                expected.iter().any(|record| record.value.is_none())
            );
            let mut out = BytesMut::from(&b"before"[..]);
            let written = selection.write(header, &records, horizon, &mut out).unwrap();
            prop_assert_eq!(&read(&out[6..]), &expected);
            prop_assert_eq!(written.size, out.len() - 6);
            prop_assert_eq!(written.delete_horizon_ms(), horizon);
            let newest = expected.iter().map(|record| record.timestamp).max();
            prop_assert_eq!(written.max_timestamp, newest.unwrap_or(-1));
            prop_assert_eq!(
                (written.base_offset, written.last_offset(), written.leader_epoch),
                (header.base_offset, header.last_offset(), 4)
            );
            prop_assert_eq!(
                (written.producer_id, written.producer_epoch, written.last_sequence()),
                (7, 2, header.last_sequence())
            );
            prop_assert_eq!(written.attributes.compression().unwrap(), codec);
        }
    }

    #[test]
    fn a_batch_without_records_keeps_its_place_and_its_producer() {
        let bytes = built(5, Compression::Gzip);
        let header = BatchHeader::parse(&bytes).unwrap();
        let mut out = BytesMut::new();
        let empty = write_empty(&header, &mut out).unwrap();
        assert_eq!(out.len(), super::super::batch::HEADER_LEN);
        assert!(read(&out).is_empty());
        assert_eq!(
            (
                empty.base_offset,
                empty.last_offset(),
                empty.last_sequence(),
                empty.producer_id
            ),
            (100, 104, 54, 7)
        );
        assert_eq!(
            (empty.base_timestamp, empty.max_timestamp),
            (-1, header.max_timestamp)
        );
        assert!(empty.attributes.is_transactional());
        assert_eq!(empty.attributes.compression().unwrap(), Compression::None);
    }

    #[test]
    fn records_that_do_not_fit_the_header_are_refused() {
        let bytes = built(3, Compression::None);
        let batch = Batch::parse(&bytes).unwrap();
        let count = |record_count, records: &[u8]| {
            let header = BatchHeader {
                record_count,
                ..*batch.header()
            };
            let all: Result<Vec<_>, _> = views(&header, records).collect();
            all.map(|all| all.len())
        };
        let records = batch.payload();
        assert_eq!(count(3, records).unwrap(), 3);
        assert!(count(2, records).is_err());
        assert!(count(4, records).is_err());
        assert!(count(3, &records[..records.len() - 1]).is_err());
    }
}
