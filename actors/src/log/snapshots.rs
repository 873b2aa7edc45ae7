//! Producer state at an offset, in `%020d.snapshot` files.
//!
//! ```text
//! version i16 = 1 | CRC-32C u32 over what follows | count i32 | per producer:
//! id i64 | epoch i16 | last sequence i32 | last offset i64 | offset delta i32 | timestamp i64
//! | coordinator epoch i32 | first offset of the open transaction i64
//! ```

use bytes::{Buf, BufMut};

use super::producers::{BatchMeta, Producers, restored};

const VERSION: i16 = 1;
const ENTRY_LEN: usize = 46;
const HEADER_LEN: usize = 6;

/// Writes a snapshot.
pub(super) fn encode(producers: &Producers) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + 4 + producers.len() * ENTRY_LEN);
    bytes.put_i16(VERSION);
    bytes.put_u32(0);
    bytes.put_i32(i32::try_from(producers.len()).unwrap_or(i32::MAX));
    for (id, producer) in producers.iter() {
        let none = BatchMeta {
            last_sequence: -1,
            last_offset: -1,
            offset_delta: 0,
            timestamp: -1,
        };
        let batch = producer.batches().last().copied().unwrap_or(none);
        bytes.put_i64(id);
        bytes.put_i16(producer.epoch);
        bytes.put_i32(batch.last_sequence);
        bytes.put_i64(batch.last_offset);
        bytes.put_i32(batch.offset_delta);
        bytes.put_i64(producer.last_timestamp);
        bytes.put_i32(producer.coordinator_epoch);
        bytes.put_i64(producer.open_since.unwrap_or(-1));
    }
    let crc = crc32c::crc32c(bytes.get(HEADER_LEN..).unwrap_or_default());
    if let Some(field) = bytes.get_mut(2..HEADER_LEN) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

/// Reads a snapshot; `None` when it is corrupt.
pub(super) fn decode(bytes: &[u8]) -> Option<Producers> {
    let mut header = bytes.get(..HEADER_LEN)?;
    let mut body = bytes.get(HEADER_LEN..)?;
    if header.get_i16() != VERSION || header.get_u32() != crc32c::crc32c(body) {
        return None;
    }
    let count = usize::try_from(body.try_get_i32().ok()?).ok()?;
    if body.len() != count.checked_mul(ENTRY_LEN)? {
        return None;
    }
    let mut producers = Producers::default();
    for mut entry in body.chunks_exact(ENTRY_LEN) {
        let id = entry.get_i64();
        let epoch = entry.get_i16();
        let batch = BatchMeta {
            last_sequence: entry.get_i32(),
            last_offset: entry.get_i64(),
            offset_delta: entry.get_i32(),
            timestamp: entry.get_i64(),
        };
        let coordinator_epoch = entry.get_i32();
        let open_since = Some(entry.get_i64()).filter(|offset| *offset >= 0);
        producers.restore(id, restored(epoch, batch, coordinator_epoch, open_since));
    }
    Some(producers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::{BatchSpec, batch_header};

    fn producers() -> Producers {
        let mut producers = Producers::default();
        let spec = BatchSpec {
            producer: Some((0x0102, 3, 7)),
            base_offset: 0x10,
            count: 2,
            timestamp: 0x1f,
            ..BatchSpec::default()
        };
        producers.update(&batch_header(&spec), None);
        producers
    }

    #[test]
    fn bytes_are_kafkas() {
        let bytes = encode(&producers());
        #[rustfmt::skip]
        let body = [
            0, 0, 0, 1,
            0, 0, 0, 0, 0, 0, 1, 2, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 1,
            0, 0, 0, 0, 0, 0, 0, 0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ];
        assert_eq!(bytes[..2], [0, 1]);
        assert_eq!(bytes[6..], body);
        assert_eq!(bytes[2..6], crc32c::crc32c(&body).to_be_bytes());
        assert_eq!(decode(&bytes), Some(producers()));
    }

    #[test]
    fn the_state_of_no_producer() {
        let bytes = encode(&Producers::default());
        // CRC-32C of four zero bytes.
        assert_eq!(bytes, [0, 1, 0x48, 0x67, 0x4b, 0xc7, 0, 0, 0, 0]);
        assert_eq!(decode(&bytes), Some(Producers::default()));
    }

    #[test]
    fn corrupt_ones_are_told() {
        let bytes = encode(&producers());
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[position] ^= 1 << bit;
                assert_eq!(decode(&bytes), None, "{position} {bit}");
            }
            assert_eq!(decode(&bytes[..position]), None, "{position}");
        }
    }
}
