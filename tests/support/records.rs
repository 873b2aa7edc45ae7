//! Record batches made by hand for raw requests.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// Offsets of the fields of a batch that tests damage (KIP-98).
pub mod field {
    pub const BASE_OFFSET: usize = 0;
    pub const LENGTH: usize = 8;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const PRODUCER_ID: usize = 43;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
    pub const RECORDS: usize = 61;
}

/// Who produces, for an idempotent batch.
#[derive(Clone, Copy)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

/// A batch of values without keys.
pub fn batch(values: &[&[u8]]) -> Bytes {
    batch_of(
        values,
        Producer {
            id: -1,
            epoch: -1,
            sequence: -1,
        },
    )
}

/// A batch of values without keys from an idempotent producer.
pub fn batch_of(values: &[&[u8]], producer: Producer) -> Bytes {
    let records: Vec<Record> = values
        .iter()
        .enumerate()
        .map(|(index, value)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            timestamp_type: TimestampType::Creation,
            offset: index as i64,
            // The encoder begins a new batch where this is not consecutive, even without a producer id.
            sequence: producer.sequence + index as i32,
            timestamp: 1_700_000_000_000 + index as i64,
            key: None,
            value: Some(Bytes::copy_from_slice(value)),
            headers: IndexMap::new(),
        })
        .collect();
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(&mut batch, &records, &options).unwrap();
    batch.freeze()
}

/// As [`batch_of`], in a transaction.
pub fn transactional_batch_of(values: &[&[u8]], producer: Producer) -> Bytes {
    const TRANSACTIONAL: u8 = 1 << 4;
    let mut batch = batch_of(values, producer).to_vec();
    batch[field::ATTRIBUTES + 1] |= TRANSACTIONAL;
    seal(&mut batch);
    Bytes::from(batch)
}

/// Makes the CRC of a batch right again after its fields were changed.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[field::ATTRIBUTES..]);
    batch[field::CRC..field::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}

/// Makes a sealed batch around a compressed payload that says to be `count` records.
pub fn compressed_batch(codec: i16, count: i32, payload: &[u8]) -> Bytes {
    let mut bytes = batch(&[b"x"])[..field::RECORDS].to_vec();
    bytes.extend_from_slice(payload);
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[field::LENGTH..field::LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    bytes[field::ATTRIBUTES..field::LAST_OFFSET_DELTA].copy_from_slice(&codec.to_be_bytes());
    bytes[field::LAST_OFFSET_DELTA..field::LAST_OFFSET_DELTA + 4]
        .copy_from_slice(&(count - 1).to_be_bytes());
    bytes[field::RECORD_COUNT..field::RECORD_COUNT + 4].copy_from_slice(&count.to_be_bytes());
    seal(&mut bytes);
    Bytes::from(bytes)
}

/// Cuts fetched bytes into batches; one that is cut off at the end is left out, as clients do.
pub fn batches(mut bytes: Bytes) -> Vec<Bytes> {
    let mut batches = Vec::new();
    while bytes.len() >= field::RECORDS {
        let length =
            i32::from_be_bytes(bytes[field::LENGTH..field::LENGTH + 4].try_into().unwrap());
        let size = 12 + usize::try_from(length).expect("a batch has a length");
        if size > bytes.len() {
            break;
        }
        batches.push(bytes.split_to(size));
    }
    batches
}

/// Reads all records of fetched batches that are not compressed.
pub fn records(bytes: Bytes) -> Vec<Record> {
    batches(bytes)
        .into_iter()
        .flat_map(|mut batch| {
            RecordBatchDecoder::decode(&mut batch)
                .expect("a whole batch")
                .records
        })
        .collect()
}
