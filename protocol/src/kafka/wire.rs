//! Kafka's primitive types, read with checks from bytes that nobody vouches for.
//!
//! Used by the hand-written paths only: request headers, Produce, Fetch and record batches. The varints are those of the
//! records of internal topics as well.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Says why bytes from the network could not be read as the message that they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end inside of a field.
    #[error("{field} is cut off")]
    Incomplete {
        /// The field that was being read.
        field: &'static str,
    },
    /// A length or count is negative, or more than what follows can hold.
    #[error("{field} has the length {length}, but {remaining} bytes follow")]
    Length {
        /// The field that was being read.
        field: &'static str,
        /// The length or count that was given.
        length: i64,
        /// The bytes that follow it.
        remaining: usize,
    },
    /// A field has a value that it may not have.
    #[error("{field} is not valid")]
    Invalid {
        /// The field that was being read.
        field: &'static str,
    },
    /// The codec does not know this version of the API.
    #[error("version {version} of {api} is not known")]
    Version {
        /// Kafka's name of the API.
        api: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// The schema crate refused the message.
    #[error("{api} version {version}: {reason}")]
    Schema {
        /// Kafka's name of the API.
        api: &'static str,
        /// The version of the message.
        version: i16,
        /// What the schema crate says.
        reason: String,
    },
}

/// Says why a message could not be written in a version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{api} version {version} cannot be written: {reason}")]
pub struct EncodeError {
    /// Kafka's name of the API.
    pub api: &'static str,
    /// The version of the message.
    pub version: i16,
    /// What stands in the way.
    pub reason: String,
}

/// Reads N bytes at a position, or `None` where they end before.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// Writes N bytes at a position; does nothing where they would not fit.
pub(crate) fn put_at<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<N>())
    {
        *place = value;
    }
}

/// Decodes an unsigned varint of up to 32 bits: the value and how many bytes it takes.
///
/// `None` where the bytes end inside of it, or it does not end within 5 bytes or fit into 32 bits.
pub fn unsigned_varint(bytes: &[u8]) -> Option<(u32, usize)> {
    let (value, len) = unsigned_varlong(bytes)?;
    if len > 5 {
        return None;
    }
    Some((u32::try_from(value).ok()?, len))
}

/// Decodes an unsigned varint of up to 64 bits: the value and how many bytes it takes.
pub(crate) fn unsigned_varlong(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (position, byte) in bytes.iter().take(10).enumerate() {
        let low = u64::from(byte & 0x7f);
        if position == 9 && *byte > 1 {
            return None;
        }
        value |= low << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
    }
    None
}

/// Appends an unsigned varint.
pub fn put_unsigned_varint(out: &mut impl BufMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Reads fields from owned bytes, front to back, without copying strings and blobs.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: BytesMut,
    flexible: bool,
}

impl Reader {
    pub(crate) fn new(bytes: BytesMut, flexible: bool) -> Self {
        Reader { bytes, flexible }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    pub(crate) fn into_rest(self) -> BytesMut {
        self.bytes
    }

    /// Reads the client id of a request header: a classic nullable string in every version, whatever its bytes.
    pub(crate) fn client_id(&mut self) -> Result<Option<String>, DecodeError> {
        const FIELD: &str = "the client id";
        let length = i64::from(self.i16(FIELD)?);
        let Some(length) = self.checked(FIELD, length)? else {
            return Ok(None);
        };
        Ok(Some(
            String::from_utf8_lossy(&self.bytes.split_to(length)).into_owned(),
        ))
    }

    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let value = array_at(&self.bytes, 0).ok_or(DecodeError::Incomplete { field })?;
        bytes::Buf::advance(&mut self.bytes, N);
        Ok(value)
    }

    pub(crate) fn i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.take(field)?))
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.take(field)?))
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.take(field)?))
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.take(field)?))
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Result<uuid::Uuid, DecodeError> {
        Ok(uuid::Uuid::from_bytes(self.take(field)?))
    }

    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let (value, len) = unsigned_varint(&self.bytes).ok_or(DecodeError::Incomplete { field })?;
        bytes::Buf::advance(&mut self.bytes, len);
        Ok(value)
    }

    /// Reads the length of a blob or the count of an array: `None` for null.
    fn length(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        let length = if self.flexible {
            i64::from(self.varint(field)?) - 1
        } else {
            i64::from(self.i32(field)?)
        };
        self.checked(field, length)
    }

    fn checked(&self, field: &'static str, length: i64) -> Result<Option<usize>, DecodeError> {
        let remaining = self.remaining();
        match usize::try_from(length) {
            Ok(length) if length <= remaining => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            _ => Err(DecodeError::Length {
                field,
                length,
                remaining,
            }),
        }
    }

    /// Reads the count of an array whose elements take at least `element_size` bytes each; null counts as 0.
    pub(crate) fn count(
        &mut self,
        field: &'static str,
        element_size: usize,
    ) -> Result<usize, DecodeError> {
        let count = self.length(field)?.unwrap_or(0);
        let remaining = self.remaining();
        if count > remaining / element_size.max(1) {
            return Err(DecodeError::Length {
                field,
                length: count as i64,
                remaining,
            });
        }
        Ok(count)
    }

    /// Reads a blob as bytes of its own, split off without a copy; `None` for null.
    pub(crate) fn blob(&mut self, field: &'static str) -> Result<Option<BytesMut>, DecodeError> {
        let length = self.length(field)?;
        Ok(length.map(|length| self.bytes.split_to(length)))
    }

    /// Reads a string, `None` for null.
    pub(crate) fn nullable_string(
        &mut self,
        field: &'static str,
    ) -> Result<Option<String>, DecodeError> {
        let length = if self.flexible {
            i64::from(self.varint(field)?) - 1
        } else {
            i64::from(self.i16(field)?)
        };
        let Some(length) = self.checked(field, length)? else {
            return Ok(None);
        };
        let bytes = self.bytes.get(..length).unwrap_or_default();
        let text = std::str::from_utf8(bytes)
            .map_err(|_| DecodeError::Invalid { field })?
            .to_owned();
        bytes::Buf::advance(&mut self.bytes, length);
        Ok(Some(text))
    }

    /// Reads a string; null is an error.
    pub(crate) fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        self.nullable_string(field)?
            .ok_or(DecodeError::Invalid { field })
    }

    /// Reads the tagged fields that end a struct of a flexible version, giving each to `known`; nothing otherwise.
    pub(crate) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        const FIELD: &str = "a tagged field";
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint("the count of tagged fields")?;
        for _ in 0..count {
            let tag = self.varint(FIELD)?;
            let size = self.varint(FIELD)?;
            let remaining = self.remaining();
            let length = usize::try_from(size).unwrap_or(usize::MAX);
            if length > remaining {
                return Err(DecodeError::Length {
                    field: FIELD,
                    length: i64::from(size),
                    remaining,
                });
            }
            let mut value = Reader::new(self.bytes.split_to(length), true);
            known(tag, &mut value)?;
        }
        Ok(())
    }

    /// Skips the tagged fields that end a struct of a flexible version.
    pub(crate) fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(()))
    }
}

/// Appends fields of a message whose version is flexible or not.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut BytesMut,
    flexible: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut BytesMut, flexible: bool) -> Self {
        Writer { out, flexible }
    }

    /// Returns how many bytes the buffer holds.
    pub(crate) fn position(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.out.put_i8(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    pub(crate) fn uuid(&mut self, value: uuid::Uuid) {
        self.out.put_slice(value.as_bytes());
    }

    fn varint(&mut self, value: usize) {
        put_unsigned_varint(self.out, u32::try_from(value).unwrap_or(u32::MAX));
    }

    /// Writes the count of an array or the length of a blob; `None` is null.
    pub(crate) fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.varint(length.map_or(0, |length| length.saturating_add(1)));
        } else {
            self.out
                .put_i32(length.map_or(-1, |length| i32::try_from(length).unwrap_or(i32::MAX)));
        }
    }

    /// Writes a string; `None` is null. Longer ones are cut where a classic string ends, at 32767 bytes.
    pub(crate) fn nullable_string(&mut self, text: Option<&str>) {
        let text = text.map(classic_string);
        if self.flexible {
            self.length(text.map(str::len));
        } else {
            self.out
                .put_i16(text.map_or(-1, |text| i16::try_from(text.len()).unwrap_or(i16::MAX)));
        }
        self.out.put_slice(text.unwrap_or_default().as_bytes());
    }

    /// Writes a string.
    pub(crate) fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    /// Ends a struct without tagged fields.
    pub(crate) fn no_tagged_fields(&mut self) {
        self.tagged_field_count(0);
    }

    /// Says how many tagged fields follow; nothing below the flexible versions.
    pub(crate) fn tagged_field_count(&mut self, count: usize) {
        if self.flexible {
            self.varint(count);
        }
    }

    /// Writes a tagged field; nothing below the flexible versions. Tags must ascend.
    pub(crate) fn tagged_field(&mut self, tag: u32, write: impl FnOnce(&mut Writer<'_>)) {
        if self.flexible {
            let mut value = BytesMut::new();
            write(&mut Writer::new(&mut value, true));
            put_unsigned_varint(self.out, tag);
            self.varint(value.len());
            self.out.put_slice(&value);
        }
    }
}

/// Cuts a text at the last character that ends within what a classic string can hold.
fn classic_string(text: &str) -> &str {
    let mut end = text.len().min(i16::MAX as usize);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
