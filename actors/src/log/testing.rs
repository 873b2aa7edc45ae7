//! Batches for the tests of this module.

use bytes::Bytes;
use troupe_protocol::kafka::records::batch::{BatchHeader, assign_offset};
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::record::Record;

/// What a test wants of a batch.
#[derive(Debug, Clone)]
pub(super) struct BatchSpec {
    pub(super) base_offset: i64,
    pub(super) count: i32,
    pub(super) timestamp: i64,
    pub(super) value_len: usize,
    pub(super) leader_epoch: i32,
    /// Id, epoch and base sequence.
    pub(super) producer: Option<(i64, i16, i32)>,
    pub(super) transactional: bool,
    pub(super) control: bool,
    /// Fills the values, so that batches differ.
    pub(super) fill: u8,
    /// For control batches: whether the marker commits.
    pub(super) commit: bool,
}

impl Default for BatchSpec {
    fn default() -> Self {
        Self {
            base_offset: 0,
            count: 1,
            timestamp: 1_000,
            value_len: 10,
            leader_epoch: 0,
            producer: None,
            transactional: false,
            control: false,
            fill: b'v',
            commit: false,
        }
    }
}

/// Builds a batch; its records' timestamps are `timestamp`, `timestamp` + 1 and so on.
pub(super) fn batch(spec: &BatchSpec) -> Vec<u8> {
    let mut builder = BatchBuilder::new()
        .transactional(spec.transactional)
        .control(spec.control);
    if let Some((id, epoch, sequence)) = spec.producer {
        builder = builder.producer(id, epoch, sequence);
    }
    for number in 0..i64::from(spec.count) {
        let (key, value) = if spec.control {
            let key = vec![0, 0, 0, u8::from(spec.commit)];
            (Some(Bytes::from(key)), Bytes::from(vec![0, 0, 0, 0, 0, 3]))
        } else {
            (None, Bytes::from(vec![spec.fill; spec.value_len]))
        };
        builder
            .push(&Record {
                offset: number,
                timestamp: spec.timestamp + number,
                key,
                value: Some(value),
                headers: Vec::new(),
            })
            .unwrap();
    }
    let mut bytes = builder.build().unwrap();
    assign_offset(&mut bytes, spec.base_offset, spec.leader_epoch);
    bytes.to_vec()
}

/// Builds a batch and returns its header alone.
pub(super) fn batch_header(spec: &BatchSpec) -> BatchHeader {
    BatchHeader::parse(&batch(spec)).unwrap()
}
