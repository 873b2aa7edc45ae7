//! The fields of keys and values in internal topics, as Kafka lays them out.
//!
//! Keys and values begin with a version. Integers are big-endian. Lengths are plain (16 bits before strings, 32 before
//! bytes and arrays, -1 for null) or compact: a varint, one more than is meant, 0 for null. With compact lengths each
//! structure ends with tags.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use troupe_protocol::kafka::wire::{put_unsigned_varint, unsigned_varint};
use uuid::Uuid;

/// What is wrong with a record; such a record is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CorruptRecord {
    /// It ends before its fields do.
    #[error("it ends too early")]
    Truncated,
    /// A length is negative where something must be, or no length at all.
    #[error("a length is negative or too large")]
    Length,
    /// A string is no UTF-8.
    #[error("a string is no UTF-8")]
    Text,
    /// Its value is of a version that is not known.
    #[error("its value has version {0}")]
    Version(i16),
    /// It is about something that can't be in such a state.
    #[error("there is no state {0}")]
    State(i8),
    /// Offsets that belong together are not in order.
    #[error("a range of offsets ends before it begins")]
    Range,
}

/// A string, bytes or an array do not fit into a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("something of length {0} does not fit into a record")]
pub struct TooLong(pub usize);

/// Reads the fields of a key or a value, front to back.
///
/// Nothing is set aside for a length or count before its bytes were seen.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    compact: bool,
}

impl<'a> Reader<'a> {
    /// Reads plain lengths, and a version as any other integer: keys do not say theirs by it but what they are about.
    pub(crate) fn plain(bytes: &'a [u8]) -> Self {
        let (rest, compact) = (bytes, false);
        Self { rest, compact }
    }

    /// Reads a value that has compact lengths and only this version.
    pub(crate) fn compact(bytes: &'a [u8], version: i16) -> Result<Self, CorruptRecord> {
        let (_, reader) = Self::value(bytes, version..=version, version)?;
        Ok(reader)
    }

    /// Reads a value of one of these versions, and says of which. Lengths are compact from a version on.
    pub(crate) fn value(
        bytes: &'a [u8],
        known: RangeInclusive<i16>,
        first_compact: i16,
    ) -> Result<(i16, Self), CorruptRecord> {
        let mut reader = Self::plain(bytes);
        let version = reader.i16()?;
        if !known.contains(&version) {
            return Err(CorruptRecord::Version(version));
        }
        reader.compact = version >= first_compact;
        Ok((version, reader))
    }

    pub(crate) fn i8(&mut self) -> Result<i8, CorruptRecord> {
        self.array().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, CorruptRecord> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, CorruptRecord> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, CorruptRecord> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, CorruptRecord> {
        self.array().map(Uuid::from_bytes)
    }

    /// Reads a string; null is an error.
    pub(crate) fn string(&mut self) -> Result<&'a str, CorruptRecord> {
        self.nullable_string()?.ok_or(CorruptRecord::Length)
    }

    /// Reads a string, `None` for null.
    pub(crate) fn nullable_string(&mut self) -> Result<Option<&'a str>, CorruptRecord> {
        let length = if self.compact {
            self.compact_length()
        } else {
            self.i16().and_then(|length| plain_length(length.into()))
        };
        let Some(length) = length? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(length)?);
        text.map(Some).map_err(|_| CorruptRecord::Text)
    }

    /// Reads bytes; null is an error.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CorruptRecord> {
        self.nullable_bytes()?.ok_or(CorruptRecord::Length)
    }

    /// Reads bytes, `None` for null.
    pub(crate) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, CorruptRecord> {
        let length = self.nullable_count()?;
        length.map(|length| self.take(length)).transpose()
    }

    /// Reads how many elements an array has; null is an error.
    pub(crate) fn count(&mut self) -> Result<usize, CorruptRecord> {
        self.nullable_count()?.ok_or(CorruptRecord::Length)
    }

    /// Reads how many elements an array has, `None` for null.
    pub(crate) fn nullable_count(&mut self) -> Result<Option<usize>, CorruptRecord> {
        if self.compact {
            self.compact_length()
        } else {
            plain_length(self.i32()?)
        }
    }

    /// Reads the tags that end a structure with compact lengths, and gives each to `known`.
    pub(crate) fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<(), CorruptRecord>,
    ) -> Result<(), CorruptRecord> {
        if !self.compact {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = usize::try_from(self.varint()?).map_err(|_| CorruptRecord::Length)?;
            let (rest, compact) = (self.take(size)?, true);
            known(tag, &mut Self { rest, compact })?;
        }
        Ok(())
    }

    /// Skips the tags that end a structure with compact lengths.
    pub(crate) fn skip_tags(&mut self) -> Result<(), CorruptRecord> {
        self.tags(|_, _| Ok(()))
    }

    fn compact_length(&mut self) -> Result<Option<usize>, CorruptRecord> {
        let length = self.varint()?.checked_sub(1).map(usize::try_from);
        length.transpose().map_err(|_| CorruptRecord::Length)
    }

    fn varint(&mut self) -> Result<u32, CorruptRecord> {
        let (value, size) = unsigned_varint(self.rest).ok_or(match self.rest {
            [_, _, _, _, _, ..] => CorruptRecord::Length,
            _ => CorruptRecord::Truncated,
        })?;
        self.take(size)?;
        Ok(value)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CorruptRecord> {
        let split = self.rest.split_at_checked(length);
        let (taken, rest) = split.ok_or(CorruptRecord::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CorruptRecord> {
        let split = self.rest.split_first_chunk();
        let (taken, rest) = split.ok_or(CorruptRecord::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

fn plain_length(length: i32) -> Result<Option<usize>, CorruptRecord> {
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length);
    length.map(Some).map_err(|_| CorruptRecord::Length)
}

/// Writes the fields of a key or a value, front to back. What does not fit fails at the [end](Self::finish).
#[derive(Debug)]
pub(crate) struct Writer {
    out: BytesMut,
    compact: bool,
    too_long: Option<TooLong>,
}

impl Writer {
    /// Begins with a version; lengths are plain.
    pub(crate) fn plain(version: i16) -> Self {
        let mut writer = Self::new(false);
        writer.i16(version);
        writer
    }

    /// Begins with a version; lengths are compact.
    pub(crate) fn compact(version: i16) -> Self {
        let mut writer = Self::new(true);
        writer.i16(version);
        writer
    }

    fn new(compact: bool) -> Self {
        Self {
            out: BytesMut::with_capacity(64),
            compact,
            too_long: None,
        }
    }

    /// Returns what was written.
    ///
    /// # Errors
    /// Something did not fit.
    pub(crate) fn finish(self) -> Result<Bytes, TooLong> {
        match self.too_long {
            Some(too_long) => Err(too_long),
            None => Ok(self.out.freeze()),
        }
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

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.out.put_slice(value.as_bytes());
    }

    pub(crate) fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    pub(crate) fn nullable_string(&mut self, text: Option<&str>) {
        let length = text.map(str::len);
        if self.compact {
            self.nullable_count(length);
        } else {
            let plain = length.map_or(Ok(-1), i16::try_from);
            let plain = plain.unwrap_or_else(|_| self.refuse(length));
            self.out.put_i16(plain);
        }
        self.out.put_slice(text.unwrap_or_default().as_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.out.put_slice(bytes);
    }

    /// Writes how many elements an array has.
    pub(crate) fn count(&mut self, count: usize) {
        self.nullable_count(Some(count));
    }

    /// Writes how many elements an array has, or how many bytes follow; `None` is null.
    pub(crate) fn nullable_count(&mut self, count: Option<usize>) {
        if self.compact {
            self.varint(count.map_or(0, |count| count.saturating_add(1)));
        } else {
            let plain = count.map_or(Ok(-1), i32::try_from);
            let plain = plain.unwrap_or_else(|_| self.refuse(count));
            self.out.put_i32(plain);
        }
    }

    /// Ends a structure without tags; nothing with plain lengths, with which there are none.
    pub(crate) fn no_tags(&mut self) {
        self.tag_count(0);
    }

    /// Says how many tags end a structure; nothing with plain lengths.
    pub(crate) fn tag_count(&mut self, count: usize) {
        if self.compact {
            self.varint(count);
        }
    }

    /// Writes a tag; nothing with plain lengths. Tags must ascend.
    pub(crate) fn tag(&mut self, tag: u32, write: impl FnOnce(&mut Self)) {
        if self.compact {
            let mut content = Self::new(true);
            write(&mut content);
            put_unsigned_varint(&mut self.out, tag);
            self.varint(content.out.len());
            self.out.put_slice(&content.out);
            self.too_long = self.too_long.or(content.too_long);
        }
    }

    fn varint(&mut self, value: usize) {
        let fitting = u32::try_from(value).unwrap_or_else(|_| self.refuse(Some(value)));
        put_unsigned_varint(&mut self.out, fitting);
    }

    /// Notes what does not fit; returns what stands in its place, which nobody sees.
    fn refuse<T: Default>(&mut self, length: Option<usize>) -> T {
        self.too_long = self.too_long.or(length.map(TooLong));
        T::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A field of each kind.
    #[derive(Debug, Clone, PartialEq)]
    enum Field {
        I8(i8),
        I16(i16),
        I32(i32),
        I64(i64),
        Uuid(u128),
        String(String),
        NullableString(Option<String>),
        Bytes(Vec<u8>),
        Count(usize),
        NullableCount(Option<usize>),
        Tags(Vec<(u32, String)>),
    }

    impl Field {
        fn write(&self, out: &mut Writer) {
            match self {
                Field::I8(value) => out.i8(*value),
                Field::I16(value) => out.i16(*value),
                Field::I32(value) => out.i32(*value),
                Field::I64(value) => out.i64(*value),
                Field::Uuid(value) => out.uuid(Uuid::from_u128(*value)),
                Field::String(text) => out.string(text),
                Field::NullableString(text) => out.nullable_string(text.as_deref()),
                Field::Bytes(bytes) => out.bytes(bytes),
                Field::Count(count) => out.count(*count),
                Field::NullableCount(count) => out.nullable_count(*count),
                Field::Tags(tags) => {
                    out.tag_count(tags.len());
                    for (tag, text) in tags {
                        out.tag(*tag, |content| content.string(text));
                    }
                }
            }
        }

        /// Reads a field of the same kind.
        fn read(&self, input: &mut Reader<'_>) -> Result<Field, CorruptRecord> {
            Ok(match self {
                Field::I8(_) => Field::I8(input.i8()?),
                Field::I16(_) => Field::I16(input.i16()?),
                Field::I32(_) => Field::I32(input.i32()?),
                Field::I64(_) => Field::I64(input.i64()?),
                Field::Uuid(_) => Field::Uuid(input.uuid()?.as_u128()),
                Field::String(_) => Field::String(input.string()?.to_owned()),
                Field::NullableString(_) => {
                    Field::NullableString(input.nullable_string()?.map(str::to_owned))
                }
                Field::Bytes(_) => Field::Bytes(input.bytes()?.to_vec()),
                Field::Count(_) => Field::Count(input.count()?),
                Field::NullableCount(_) => Field::NullableCount(input.nullable_count()?),
                Field::Tags(_) => {
                    let mut tags = Vec::new();
                    input.tags(|tag, content| {
                        tags.push((tag, content.string()?.to_owned()));
                        Ok(())
                    })?;
                    Field::Tags(tags)
                }
            })
        }
    }

    fn field() -> impl Strategy<Value = Field> {
        let count = || 0..i32::MAX as usize;
        prop_oneof![
            any::<i8>().prop_map(Field::I8),
            any::<i16>().prop_map(Field::I16),
            any::<i32>().prop_map(Field::I32),
            any::<i64>().prop_map(Field::I64),
            any::<u128>().prop_map(Field::Uuid),
            ".{0,200}".prop_map(Field::String),
            prop::option::of(".{0,9}").prop_map(Field::NullableString),
            vec(any::<u8>(), 0..200).prop_map(Field::Bytes),
            count().prop_map(Field::Count),
            prop::option::of(count()).prop_map(Field::NullableCount),
            vec((any::<u32>(), ".{0,9}"), 0..3).prop_map(Field::Tags),
        ]
    }

    fn written(fields: &[Field], mut out: Writer) -> Bytes {
        fields.iter().for_each(|field| field.write(&mut out));
        out.finish().unwrap()
    }

    /// Reads fields of the same kinds.
    fn read(fields: &[Field], input: &mut Reader<'_>) -> Result<Vec<Field>, CorruptRecord> {
        fields.iter().map(|field| field.read(input)).collect()
    }

    #[test]
    fn lengths_are_plain_or_compact() {
        let fields = [
            Field::String("ab".to_owned()),
            Field::NullableString(None),
            Field::Bytes(b"cd".to_vec()),
            Field::NullableCount(None),
            Field::Count(300),
            Field::Tags(vec![(7, "e".to_owned())]),
        ];
        assert_eq!(
            &written(&fields, Writer::plain(1))[..],
            b"\0\x01\0\x02ab\xff\xff\0\0\0\x02cd\xff\xff\xff\xff\0\0\x01\x2c"
        );
        assert_eq!(
            &written(&fields, Writer::compact(1))[..],
            b"\0\x01\x03ab\0\x03cd\0\xad\x02\x01\x07\x02\x02e"
        );
    }

    #[test]
    fn a_version_decides_how_lengths_are_read() {
        let string = |bytes| {
            let (version, mut input) = Reader::value(bytes, 1..=2, 2)?;
            Ok((version, input.string()?))
        };
        assert_eq!(string(b"\0\x01\0\x01a"), Ok((1, "a")));
        assert_eq!(string(b"\0\x02\x02a"), Ok((2, "a")));
        assert_eq!(string(b"\0\0\x02a"), Err(CorruptRecord::Version(0)));
        assert_eq!(string(b"\0\x03\x02a"), Err(CorruptRecord::Version(3)));
        let version = |bytes| Reader::compact(bytes, 0).map(drop);
        assert_eq!(version(b"\0\0"), Ok(()));
        assert_eq!(version(b"\0\x01"), Err(CorruptRecord::Version(1)));
        assert_eq!(version(b"\0"), Err(CorruptRecord::Truncated));
    }

    #[test]
    fn what_can_not_be_is_corrupt() {
        let plain = |bytes| Reader::plain(bytes).string();
        assert_eq!(plain(b"\xff\xff"), Err(CorruptRecord::Length));
        assert_eq!(plain(b"\xff\xfe"), Err(CorruptRecord::Length));
        assert_eq!(plain(b"\0\x02a"), Err(CorruptRecord::Truncated));
        assert_eq!(plain(b"\0\x01\xff"), Err(CorruptRecord::Text));
        let count = |bytes| Reader::plain(bytes).nullable_count();
        assert_eq!(count(b"\x80\0\0\0"), Err(CorruptRecord::Length));
        let compact = |bytes| Reader::compact(bytes, 0)?.count();
        assert_eq!(compact(b"\0\0\0"), Err(CorruptRecord::Length));
        assert_eq!(compact(b"\0\0\xff\xff"), Err(CorruptRecord::Truncated));
        let endless = compact(b"\0\0\xff\xff\xff\xff\xff\x01");
        assert_eq!(endless, Err(CorruptRecord::Length));
        let cut_tag = Reader::compact(b"\0\0\x01\0\x05abc", 0).and_then(|mut r| r.skip_tags());
        assert_eq!(cut_tag, Err(CorruptRecord::Truncated));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = "x".repeat(40_000);
        let mut plain = Writer::plain(0);
        plain.string(&long);
        plain.string("fits");
        assert_eq!(plain.finish(), Err(TooLong(40_000)));
        let mut many = Writer::plain(0);
        many.count(1 << 31);
        assert_eq!(many.finish(), Err(TooLong(1 << 31)));
        let mut compact = Writer::compact(0);
        compact.string(&long);
        assert!(compact.finish().is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            fields in vec(field(), 0..20),
            is_compact: bool,
            cut in any::<prop::sample::Index>(),
        ) {
            let out = if is_compact { Writer::compact(3) } else { Writer::plain(3) };
            let bytes = written(&fields, out);
            let reader = |bytes| Reader::value(bytes, 3..=3, if is_compact { 3 } else { 4 });
            let (_, mut input) = reader(&bytes).unwrap();
            let expected = fields.iter().map(|field| match field {
                Field::Tags(_) if !is_compact => Field::Tags(Vec::new()),
                field => field.clone(),
            });
            prop_assert_eq!(read(&fields, &mut input), Ok(expected.collect()));
            prop_assert!(input.rest.is_empty());
            let cut = &bytes[..cut.index(bytes.len())];
            let cut = reader(cut).and_then(|(_, mut input)| read(&fields, &mut input));
            prop_assert_eq!(cut, Err(CorruptRecord::Truncated));
        }

        #[test]
        fn nonsense_is_an_error_or_fields_but_no_panic(
            fields in vec(field(), 0..20),
            bytes in vec(any::<u8>(), 0..200),
            compact: bool,
        ) {
            let mut input = Reader { rest: &bytes, compact };
            let _ = read(&fields, &mut input);
        }
    }
}
