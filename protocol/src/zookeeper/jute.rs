//! Jute, ZooKeeper's record encoding: fields in order, without tags or padding.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Why bytes are not the record that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JuteError {
    /// The record goes on past the end of the frame.
    #[error("the frame ends inside of a field")]
    Truncated,
    /// A length or count that cannot be true.
    #[error("a field claims a length of {0}")]
    Length(i32),
    /// A string or vector that must be there is null.
    #[error("a required field is null")]
    Null,
    /// A number that names no mode or type.
    #[error("{0} names no mode")]
    Mode(i32),
    /// A multi with an item that cannot be one.
    #[error("operation {0} has no place in a multi")]
    Operation(i32),
}

/// Reads fields from the front of a frame; buffers are slices of it, not copies.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Returns how many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Reads a 4 byte integer.
    pub fn int(&mut self) -> Result<i32, JuteError> {
        self.bytes.try_get_i32().map_err(|_| JuteError::Truncated)
    }

    /// Reads an 8 byte integer.
    pub fn long(&mut self) -> Result<i64, JuteError> {
        self.bytes.try_get_i64().map_err(|_| JuteError::Truncated)
    }

    /// Reads one byte that is true when it is not 0.
    pub fn boolean(&mut self) -> Result<bool, JuteError> {
        self.bytes
            .try_get_u8()
            .map(|byte| byte != 0)
            .map_err(|_| JuteError::Truncated)
    }

    /// Reads a buffer; a length of -1 is null, which is not the same as empty.
    pub fn buffer(&mut self) -> Result<Option<Bytes>, JuteError> {
        let length = self.int()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| JuteError::Length(length))?;
        if length > self.bytes.len() {
            return Err(JuteError::Truncated);
        }
        Ok(Some(self.bytes.split_to(length)))
    }

    /// Reads a string that must not be null.
    pub fn string(&mut self) -> Result<Bytes, JuteError> {
        self.buffer()?.ok_or(JuteError::Null)
    }

    /// Reads a vector; null is `None`. Grows with what is really there, not with what the count claims.
    pub fn vector<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, JuteError>,
    ) -> Result<Option<Vec<T>>, JuteError> {
        let count = self.int()?;
        if count == -1 {
            return Ok(None);
        }
        let count = usize::try_from(count).map_err(|_| JuteError::Length(count))?;
        // Every element takes at least its own 4 byte length.
        if count > self.bytes.len() / 4 {
            return Err(JuteError::Truncated);
        }
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads a vector of strings; null is empty.
    pub fn strings(&mut self) -> Result<Vec<Bytes>, JuteError> {
        Ok(self.vector(Self::string)?.unwrap_or_default())
    }
}

/// Appends fields to a buffer.
pub trait Writer {
    /// Writes a length or count.
    fn length(&mut self, length: usize);
    /// Writes a boolean as one byte.
    fn boolean(&mut self, value: bool);
    /// Writes a buffer, null as length -1.
    fn buffer(&mut self, value: Option<&[u8]>);
    /// Writes a string.
    fn string(&mut self, value: &[u8]);
}

impl Writer for BytesMut {
    fn length(&mut self, length: usize) {
        // Nothing that is written here comes near the limit: frames are far smaller.
        self.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    }

    fn boolean(&mut self, value: bool) {
        self.put_u8(u8::from(value));
    }

    fn buffer(&mut self, value: Option<&[u8]>) {
        match value {
            Some(bytes) => self.string(bytes),
            None => self.put_i32(-1),
        }
    }

    fn string(&mut self, value: &[u8]) {
        self.length(value.len());
        self.put_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_stay_different() {
        let mut out = BytesMut::new();
        out.buffer(None);
        out.buffer(Some(b""));
        let mut reader = Reader::new(out.freeze());
        assert_eq!(reader.buffer(), Ok(None));
        assert_eq!(reader.buffer(), Ok(Some(Bytes::new())));
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_allocated() {
        let read = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes));
        assert_eq!(
            read(b"\x7f\xff\xff\xffab").buffer(),
            Err(JuteError::Truncated)
        );
        assert_eq!(
            read(b"\xff\xff\xff\xfe").buffer(),
            Err(JuteError::Length(-2))
        );
        assert_eq!(
            read(b"\x7f\xff\xff\xff\0\0\0\0").strings(),
            Err(JuteError::Truncated)
        );
        assert_eq!(read(b"\0\0").int(), Err(JuteError::Truncated));
    }
}
