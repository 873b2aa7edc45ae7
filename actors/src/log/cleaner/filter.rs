//! Decides what of a batch stays.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::BytesMut;
use troupe_protocol::kafka::records::batch::{Batch, BatchError, BatchHeader};
use troupe_protocol::kafka::records::record::RecordView;
use troupe_protocol::kafka::records::retain::{Selection, unpack, write_empty};

use super::offset_map::OffsetMap;
use crate::log::producers::Producers;

/// The most that the records of one batch may take, unpacked: as much as a producer's may.
pub(super) const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// The last batches of the producers that are remembered: without them, a restart would forget their sequences.
#[derive(Debug, Clone, Default)]
pub(super) struct LastBatches(BTreeMap<i64, LastBatch>);

#[derive(Debug, Clone, Copy)]
enum LastBatch {
    /// Data that ends at this offset.
    Data(i64),
    /// A marker, of this epoch.
    Marker(i16),
}

impl LastBatches {
    /// Takes note of where the producers are now.
    pub(super) fn of(producers: &Producers) -> Self {
        let last = producers.iter().map(|(id, producer)| {
            let last = match producer.batches().last() {
                Some(batch) => LastBatch::Data(batch.last_offset),
                None => LastBatch::Marker(producer.epoch),
            };
            (id, last)
        });
        Self(last.collect())
    }

    fn has(&self, header: &BatchHeader) -> bool {
        if !header.has_producer_id() {
            return false;
        }
        match self.0.get(&header.producer_id) {
            Some(LastBatch::Data(offset)) => header.last_offset() == *offset,
            Some(LastBatch::Marker(epoch)) => {
                header.attributes.is_control() && header.producer_epoch == *epoch
            }
            None => false,
        }
    }
}

/// What is the same for all batches of one compaction.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    pub(super) last_batches: LastBatches,
}

/// What of a batch stays.
#[derive(Debug)]
pub(super) enum Kept<'a> {
    /// Nothing.
    Nothing,
    /// All, byte for byte.
    Whole,
    /// The header.
    Empty,
    /// Some records, or all of them under a new delete horizon.
    Some {
        records: Cow<'a, [u8]>,
        selection: Selection,
        delete_horizon_ms: Option<i64>,
    },
}

impl Filter {
    /// Decides about a batch. `needless` is what [`Transactions::pass`](super::transactions::Transactions::pass) says;
    /// `must_stay` whether at least its header has to stay, for its last offset.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub(super) fn judge<'a>(
        &self,
        batch: &Batch<'a>,
        needless: bool,
        must_stay: bool,
        map: &OffsetMap,
    ) -> Result<Kept<'a>, BatchError> {
        let header = batch.header();
        let is_control = header.attributes.is_control();
        let horizon_ms = header.delete_horizon_ms();
        let is_past_horizon = horizon_ms.is_some_and(|horizon| horizon <= self.now_ms);
        let none_stays = needless && (!is_control || is_past_horizon);
        let without_records = match must_stay || self.last_batches.has(header) {
            true => Kept::Empty,
            false => Kept::Nothing,
        };
        if none_stays || header.record_count == 0 {
            return Ok(without_records);
        }
        let records = unpack(batch, UNPACKED_BYTES_MAX)?;
        let selection = Selection::of(header, &records, |record| {
            is_control || stays(record, header, is_past_horizon, map)
        })?;
        if selection.count() == 0 {
            return Ok(without_records);
        }
        // From now on it is known how long tombstones, and markers of which all data is gone, have to stay.
        let ends = selection.has_tombstones() || (needless && is_control);
        let delete_horizon_ms = (ends && horizon_ms.is_none())
            .then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        if selection.count() == header.record_count && delete_horizon_ms.is_none() {
            return Ok(Kept::Whole);
        }
        Ok(Kept::Some {
            records,
            selection,
            delete_horizon_ms,
        })
    }
}

/// Tells whether a record of data stays: it is the last of its key, and no tombstone whose time is over.
fn stays(
    record: &RecordView<'_>,
    header: &BatchHeader,
    is_past_horizon: bool,
    map: &OffsetMap,
) -> bool {
    let offset = header
        .base_offset
        .saturating_add(i64::from(record.offset_delta));
    if offset > map.latest_offset() {
        return true;
    }
    // Records without a key are not for compacted topics: they came before the topic was one.
    let Some(key) = record.key else {
        return false;
    };
    let is_last = map.get(key).is_none_or(|last| offset >= last);
    is_last && (record.value.is_some() || !is_past_horizon)
}

impl Kept<'_> {
    /// Appends what stays to `out`; returns its header, if there is one, and how many records it has.
    pub(super) fn write(
        &self,
        batch: &Batch<'_>,
        out: &mut BytesMut,
    ) -> Result<Option<BatchHeader>, BatchError> {
        let header = batch.header();
        match self {
            Kept::Nothing => Ok(None),
            Kept::Whole => {
                out.extend_from_slice(batch.bytes());
                Ok(Some(*header))
            }
            Kept::Empty => write_empty(header, out).map(Some),
            Kept::Some {
                records,
                selection,
                delete_horizon_ms,
            } => selection
                .write(header, records, *delete_horizon_ms, out)
                .map(Some),
        }
    }
}
