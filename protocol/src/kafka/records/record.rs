//! Records inside of a batch.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//! key length varint, key | value length varint, value | header count varint, (key length, key, value length, value)*
//! ```
//!
//! Varints are zig-zag; a length of -1 is null (not for header keys). Source: the protocol guide's record.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::batch::{BatchError, BatchHeader, TimestampType};
use crate::kafka::wire::{put_unsigned_varint, unsigned_varint, unsigned_varlong};

/// Says why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The records end inside of one.
    #[error("a record is cut off")]
    Incomplete,
    /// A varint does not end, or exceeds its type.
    #[error("a record has a varint that is too long")]
    Varint,
    /// A length inside of the record does not fit the record's own length.
    #[error("the lengths inside of a record do not fit together")]
    Length,
    /// A header has no key.
    #[error("a record header has a null key")]
    HeaderKey,
}

/// A record with its absolute offset and timestamp; the data shares the batch's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch; -1 without.
    pub timestamp: i64,
    /// `None` is null.
    pub key: Option<Bytes>,
    /// `None` is null: a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Keys (UTF-8 by convention) and values, in order; keys may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A record that borrows from the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// The offset after the batch's base offset.
    pub offset_delta: i32,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// How many headers follow.
    pub header_count: i32,
    headers: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Reads the record at the start of `bytes`, its headers too, and returns it with the bytes it takes.
    pub fn parse(bytes: &'a [u8]) -> Result<(RecordView<'a>, usize), RecordError> {
        let mut input = Slice::new(bytes);
        let length = input.varint()?;
        let body_at = input.at;
        let body_len = usize::try_from(length).map_err(|_| RecordError::Length)?;
        let end = body_at.checked_add(body_len).ok_or(RecordError::Length)?;
        let mut body = Slice::new(bytes.get(..end).ok_or(RecordError::Incomplete)?);
        body.at = body_at;
        let record = Self::parse_body(&mut body).map_err(|error| match error {
            RecordError::Incomplete => RecordError::Length,
            error => error,
        })?;
        if body.at == end {
            Ok((record, end))
        } else {
            Err(RecordError::Length)
        }
    }

    fn parse_body(body: &mut Slice<'a>) -> Result<RecordView<'a>, RecordError> {
        body.skip(1)?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.nullable()?;
        let value = body.nullable()?;
        let header_count = body.varint()?;
        let headers_at = body.at;
        for _ in 0..header_count.max(0) {
            body.nullable()?.ok_or(RecordError::HeaderKey)?;
            body.nullable()?;
        }
        if header_count < 0 {
            return Err(RecordError::Length);
        }
        let headers = body.bytes.get(headers_at..body.at).unwrap_or_default();
        Ok(RecordView {
            timestamp_delta,
            offset_delta,
            key,
            value,
            header_count,
            headers,
        })
    }

    /// Iterates over the headers.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut input = Slice::new(self.headers);
        // `parse` has walked over them, so that none of the reads fails.
        std::iter::from_fn(move || Some((input.nullable().ok()??, input.nullable().ok()?)))
    }
}

/// Writes a record again whose timestamp delta is `shift` larger; everything else stays byte for byte.
pub(crate) fn put_shifted(
    record: &[u8],
    shift: i64,
    out: &mut BytesMut,
) -> Result<(), RecordError> {
    let mut input = Slice::new(record);
    input.varint()?;
    let attributes = input.skip(1)?;
    let delta = input.varlong()?.wrapping_add(shift);
    let rest = input.rest();
    // Ten bytes hold any varlong.
    let mut head = BytesMut::with_capacity(11);
    head.put_slice(attributes);
    put_varlong(&mut head, delta);
    let length = i32::try_from(head.len() + rest.len()).map_err(|_| RecordError::Length)?;
    put_varint(out, length);
    out.put_slice(&head);
    out.put_slice(rest);
    Ok(())
}

/// What validation must know of a record; its data has been walked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordShape {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) has_key: bool,
}

/// Bytes that records are read from: a slice, or the output of a decompressor that is never held as a whole.
pub(crate) trait Input {
    /// Why reading fails.
    type Error: From<RecordError>;

    fn byte(&mut self) -> Result<u8, Self::Error>;
    fn skip(&mut self, len: usize) -> Result<(), Self::Error>;
    /// Bytes read and skipped up to now.
    fn consumed(&self) -> usize;
    /// Tells whether nothing follows.
    fn is_at_end(&mut self) -> Result<bool, Self::Error>;

    /// Reads a varint: nearly all take one or two bytes, which is the path to keep short.
    #[inline]
    fn next_varint(&mut self) -> Result<i32, Self::Error> {
        let first = u32::from(self.byte()?);
        if first < 0x80 {
            return Ok(unzigzag32(first));
        }
        let second = u32::from(self.byte()?);
        let low = (first & 0x7f) | (second & 0x7f) << 7;
        if second < 0x80 {
            Ok(unzigzag32(low))
        } else {
            self.rest_of_varint(low)
        }
    }

    /// Reads a varint from its third byte on.
    #[cold]
    fn rest_of_varint(&mut self, mut value: u32) -> Result<i32, Self::Error> {
        for shift in [14, 21, 28] {
            let byte = u32::from(self.byte()?);
            if shift == 28 && byte > 0x0f {
                return Err(RecordError::Varint.into());
            }
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(unzigzag32(value));
            }
        }
        Err(RecordError::Varint.into())
    }

    /// Reads a varlong, as [`Input::next_varint`] does.
    #[inline]
    fn next_varlong(&mut self) -> Result<i64, Self::Error> {
        let first = u64::from(self.byte()?);
        if first < 0x80 {
            return Ok(unzigzag64(first));
        }
        let second = u64::from(self.byte()?);
        let low = (first & 0x7f) | (second & 0x7f) << 7;
        if second < 0x80 {
            Ok(unzigzag64(low))
        } else {
            self.rest_of_varlong(low)
        }
    }

    /// Reads a varlong from its third byte on.
    #[cold]
    fn rest_of_varlong(&mut self, mut value: u64) -> Result<i64, Self::Error> {
        for shift in (14..70).step_by(7) {
            let byte = u64::from(self.byte()?);
            if shift == 63 && byte > 1 {
                return Err(RecordError::Varint.into());
            }
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(unzigzag64(value));
            }
        }
        Err(RecordError::Varint.into())
    }

    /// Skips a nullable blob that must end before `end`, and tells whether it was there.
    #[inline]
    fn skip_nullable(&mut self, end: usize) -> Result<bool, Self::Error> {
        let length = self.next_varint()?;
        let Ok(length) = usize::try_from(length) else {
            return if length == -1 {
                Ok(false)
            } else {
                Err(RecordError::Length.into())
            };
        };
        if self
            .consumed()
            .checked_add(length)
            .is_none_or(|after| after > end)
        {
            return Err(RecordError::Length.into());
        }
        self.skip(length)?;
        Ok(true)
    }

    /// Walks over one record.
    #[inline]
    fn record(&mut self) -> Result<RecordShape, Self::Error> {
        let length = usize::try_from(self.next_varint()?).map_err(|_| RecordError::Length)?;
        let end = self
            .consumed()
            .checked_add(length)
            .ok_or(RecordError::Length)?;
        self.byte()?;
        let timestamp_delta = self.next_varlong()?;
        let offset_delta = self.next_varint()?;
        let has_key = self.skip_nullable(end)?;
        self.skip_nullable(end)?;
        let header_count = self.next_varint()?;
        if header_count < 0 {
            return Err(RecordError::Length.into());
        }
        for _ in 0..header_count {
            if !self.skip_nullable(end)? {
                return Err(RecordError::HeaderKey.into());
            }
            self.skip_nullable(end)?;
        }
        if self.consumed() != end {
            return Err(RecordError::Length.into());
        }
        Ok(RecordShape {
            timestamp_delta,
            offset_delta,
            has_key,
        })
    }
}

/// A position in a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Slice<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Slice { bytes, at: 0 }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn varint(&mut self) -> Result<i32, RecordError> {
        let (value, len) = unsigned_varint(self.rest()).ok_or(self.varint_error(5))?;
        self.at += len;
        Ok(unzigzag32(value))
    }

    fn varlong(&mut self) -> Result<i64, RecordError> {
        let (value, len) = unsigned_varlong(self.rest()).ok_or(self.varint_error(10))?;
        self.at += len;
        Ok(unzigzag64(value))
    }

    fn varint_error(&self, max_len: usize) -> RecordError {
        if self.rest().len() < max_len {
            RecordError::Incomplete
        } else {
            RecordError::Varint
        }
    }

    fn skip(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let end = self.at.checked_add(len).ok_or(RecordError::Length)?;
        let skipped = self
            .bytes
            .get(self.at..end)
            .ok_or(RecordError::Incomplete)?;
        self.at = end;
        Ok(skipped)
    }

    fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        match self.varint()? {
            -1 => Ok(None),
            length => self
                .skip(usize::try_from(length).map_err(|_| RecordError::Length)?)
                .map(Some),
        }
    }
}

impl Input for Slice<'_> {
    type Error = RecordError;

    #[inline]
    fn byte(&mut self) -> Result<u8, RecordError> {
        let byte = *self.bytes.get(self.at).ok_or(RecordError::Incomplete)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, len: usize) -> Result<(), RecordError> {
        Slice::skip(self, len).map(|_| ())
    }

    #[inline]
    fn consumed(&self) -> usize {
        self.at
    }

    fn is_at_end(&mut self) -> Result<bool, RecordError> {
        Ok(self.rest().is_empty())
    }
}

/// Iterates over the records of one batch.
#[derive(Debug)]
pub(crate) struct Records {
    header: BatchHeader,
    payload: Bytes,
    left: i32,
}

impl Records {
    /// `payload` is decompressed.
    pub(crate) fn new(header: BatchHeader, payload: Bytes) -> Self {
        Records {
            header,
            payload,
            left: header.record_count,
        }
    }

    fn absolute(&self, view: &RecordView<'_>) -> Record {
        let share = |data: &[u8]| self.payload.slice_ref(data);
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self
                .header
                .base_timestamp
                .wrapping_add(view.timestamp_delta),
        };
        Record {
            offset: self
                .header
                .base_offset
                .wrapping_add(i64::from(view.offset_delta)),
            timestamp,
            key: view.key.map(share),
            value: view.value.map(share),
            headers: view
                .headers()
                .map(|(key, value)| (share(key), value.map(share)))
                .collect(),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        match RecordView::parse(&self.payload) {
            Ok((view, len)) => {
                let record = self.absolute(&view);
                bytes::Buf::advance(&mut self.payload, len);
                Some(Ok(record))
            }
            Err(error) => {
                self.left = 0;
                Some(Err(error.into()))
            }
        }
    }
}

/// Appends one record; `record.offset` and `record.timestamp` are taken relative to the two bases.
///
/// Errors when an offset delta or a length exceeds 31 bits.
pub(crate) fn put_record(
    record: &Record,
    base_offset: i64,
    base_timestamp: i64,
    scratch: &mut BytesMut,
    out: &mut BytesMut,
) -> Result<(), BatchError> {
    let offset_delta = record
        .offset
        .checked_sub(base_offset)
        .and_then(|delta| i32::try_from(delta).ok());
    let offset_delta = offset_delta.ok_or(BatchError::Invalid(
        "the offsets of a batch span more than 2^31",
    ))?;
    scratch.clear();
    scratch.put_i8(0);
    put_varlong(scratch, record.timestamp.wrapping_sub(base_timestamp));
    put_varint(scratch, offset_delta);
    put_nullable(scratch, record.key.as_deref())?;
    put_nullable(scratch, record.value.as_deref())?;
    put_varint(scratch, length_of(record.headers.len())?);
    for (key, value) in &record.headers {
        put_nullable(scratch, Some(key))?;
        put_nullable(scratch, value.as_deref())?;
    }
    put_varint(out, length_of(scratch.len())?);
    out.put_slice(scratch);
    Ok(())
}

fn length_of(length: usize) -> Result<i32, BatchError> {
    i32::try_from(length).map_err(|_| BatchError::Invalid("a record is longer than 2 GiB"))
}

fn put_nullable(out: &mut BytesMut, data: Option<&[u8]>) -> Result<(), BatchError> {
    put_varint(out, data.map_or(Ok(-1), |data| length_of(data.len()))?);
    out.put_slice(data.unwrap_or_default());
    Ok(())
}

/// Appends a zig-zag varint.
pub fn put_varint(out: &mut impl BufMut, value: i32) {
    put_unsigned_varint(out, ((value << 1) ^ (value >> 31)) as u32);
}

/// Appends a zig-zag varlong.
pub fn put_varlong(out: &mut impl BufMut, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn unzigzag32(value: u32) -> i32 {
    ((value >> 1) as i32) ^ -((value & 1) as i32)
}

fn unzigzag64(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}
