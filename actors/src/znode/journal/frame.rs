//! One group of transactions as bytes, and how they are found again.
//!
//! ```text
//! u32 magic, u32 length of what follows the checksum, u32 CRC-32C of that
//! u64 number of the frame, then repeated: u32 key length, key, u32 value length, value
//! ```
//!
//! The value length `0xffff_ffff` stands for a key that is removed.

use std::io::{self, Read};

use bytes::{Buf, BufMut, Bytes};

use super::super::records::Batch;

const MAGIC: [u8; 4] = *b"TzJ1";
/// Bytes before the part that the checksum covers.
const HEAD: usize = 12;
const REMOVED: u32 = u32::MAX;

/// Replaces what is in `out` by the frame of a batch.
///
/// # Errors
/// When a key, a value or all of them are longer than a length can say.
pub(super) fn encode(number: u64, batch: &Batch, out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; HEAD - MAGIC.len()]);
    out.put_u64(number);
    for (key, value) in &batch.entries {
        out.put_u32(length(key.len())?);
        out.put_slice(key);
        match value {
            Some(value) => {
                out.put_u32(length(value.len())?);
                out.put_slice(value);
            }
            None => out.put_u32(REMOVED),
        }
    }
    let Some((head, body)) = out.split_first_chunk_mut::<HEAD>() else {
        return Err(too_long());
    };
    let mut head = head.get_mut(MAGIC.len()..).unwrap_or_default();
    head.put_u32(length(body.len())?);
    head.put_u32(crc32c::crc32c(body));
    Ok(())
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes)
        .ok()
        .filter(|&length| length != REMOVED)
        .ok_or_else(too_long)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "too much at once")
}

/// A frame that was read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) number: u64,
    /// Its length in the file.
    pub(super) bytes: u64,
    entries: Bytes,
}

impl Frame {
    /// Goes through its changes in order; false if they do not decode, although the checksum is right.
    pub(super) fn entries(&self, mut take: impl FnMut(Bytes, Option<Bytes>)) -> bool {
        let mut rest = self.entries.clone();
        while !rest.is_empty() {
            let Some(key) = part(&mut rest).flatten() else {
                return false;
            };
            let Some(value) = part(&mut rest) else {
                return false;
            };
            // Copies, so that no frame is kept for one value of it.
            take(
                Bytes::copy_from_slice(&key),
                value.map(|value| Bytes::copy_from_slice(&value)),
            );
        }
        true
    }
}

/// Splits a length and as many bytes off; the inner `None` is a removal.
fn part(rest: &mut Bytes) -> Option<Option<Bytes>> {
    let length = rest.try_get_u32().ok()?;
    if length == REMOVED {
        return Some(None);
    }
    let length = usize::try_from(length).ok()?;
    (length <= rest.len()).then(|| Some(rest.split_to(length)))
}

/// Reads the frame that begins here, of no more than `left` bytes; `None` if there is no whole one.
pub(super) fn read(input: &mut impl Read, left: u64) -> io::Result<Option<Frame>> {
    if left < HEAD as u64 {
        return Ok(None);
    }
    let mut head = [0; HEAD];
    input.read_exact(&mut head)?;
    let Some((length, crc)) = parse_head(&head, left) else {
        return Ok(None);
    };
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(body_of(body.into(), crc))
}

/// Returns the length and the checksum of the body.
fn parse_head(head: &[u8; HEAD], left: u64) -> Option<(usize, u32)> {
    let mut head = head.strip_prefix(&MAGIC)?;
    let length = head.try_get_u32().ok()?;
    let crc = head.try_get_u32().ok()?;
    let fits = length >= 8 && u64::from(length) <= left.saturating_sub(HEAD as u64);
    fits.then_some((usize::try_from(length).ok()?, crc))
}

fn body_of(mut body: Bytes, crc: u32) -> Option<Frame> {
    if crc32c::crc32c(&body) != crc {
        return None;
    }
    let bytes = (HEAD + body.len()) as u64;
    let number = body.try_get_u64().ok()?;
    Some(Frame {
        number,
        bytes,
        entries: body,
    })
}

/// Looks anywhere in some bytes for whole frames that are numbered `from` or later; returns the last number.
pub(super) fn last_anywhere(bytes: &[u8], from: u64) -> Option<u64> {
    let mut last = None;
    let mut rest = bytes;
    while let Some(at) = rest.windows(MAGIC.len()).position(|four| four == MAGIC) {
        rest = rest.get(at..).unwrap_or_default();
        // The number first: checksums of what was written in an earlier life of the file are not asked for.
        let number = rest
            .get(HEAD..)
            .and_then(<[u8]>::first_chunk)
            .map(|number| u64::from_be_bytes(*number));
        if number.is_some_and(|number| number >= from)
            && let Ok(Some(frame)) = read(&mut { rest }, rest.len() as u64)
        {
            last = last.max(Some(frame.number));
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    last
}
