//! Decodes messages of the schema crates without trusting a length.
//!
//! Their array decoders reserve room for as many elements as the wire says, so that one lying count asks the allocator
//! for terabytes, and the process aborts. Therefore a request is decoded twice: first from a [`Probe`], whose result is
//! thrown away, and only when that succeeds from the bytes themselves. The probe makes lies fail:
//!
//! - It cannot tell an i32 that is a count from one that is a plain number. It hands out at most one more than the
//!   bytes that follow: harmless for a number (nothing in a decoder depends on it), and for a count too many elements,
//!   since each takes at least a byte. A blob is told from an array because its bytes are taken next.
//! - Each byte at which a varint may start is checked: varints are lengths, counts and tags, so one above what follows
//!   is refused. The check keeps no state, so that no other field can confuse it; the tail of a varint that passed
//!   passes too.
//! - It ends after a number of reads, which bounds what an honest count can make the decoder allocate.

use bytes::{Buf, Bytes, BytesMut, TryGetError};

use super::api::ApiKey;
use super::wire::{DecodeError, EncodeError, array_at, unsigned_varint};

/// The most reads that a request may take: a field is one to three.
const MAX_READS: usize = 1 << 22;
/// The largest compact length or count in a request.
const MAX_COMPACT: usize = 1 << 20;

/// The bytes of a request, with every length that the decoder sees cut to what is there.
#[derive(Debug)]
struct Probe {
    bytes: Bytes,
    reads_left: usize,
    /// The last i32 if it was cut: what was handed out, and the number on the wire.
    cut: Option<(usize, usize)>,
}

impl Probe {
    fn new(bytes: Bytes) -> Self {
        Probe {
            bytes,
            reads_left: MAX_READS,
            cut: None,
        }
    }

    fn too_short(&self, requested: usize) -> TryGetError {
        TryGetError {
            requested,
            available: self.bytes.len(),
        }
    }

    /// Takes a blob; `None` when it is longer than what is there.
    fn take(&mut self, size: usize) -> Option<Bytes> {
        let size = match self.cut {
            Some((handed_out, actual)) if handed_out == size => actual,
            _ => size,
        };
        if size > self.remaining() {
            return None;
        }
        self.advance(0);
        Some(self.bytes.split_to(size))
    }
}

impl Buf for Probe {
    fn remaining(&self) -> usize {
        if self.reads_left == 0 {
            0
        } else {
            self.bytes.len()
        }
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.reads_left = self.reads_left.saturating_sub(1);
        self.cut = None;
        self.bytes.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let first = *self
            .bytes
            .first()
            .filter(|_| self.reads_left > 0)
            .ok_or(self.too_short(1))?;
        if first >= 0x80 {
            let (value, len) = unsigned_varint(&self.bytes).ok_or(self.too_short(5))?;
            let value = usize::try_from(value).unwrap_or(usize::MAX);
            if value > (self.bytes.len() - len).min(MAX_COMPACT) + 1 {
                return Err(self.too_short(value));
            }
        }
        self.advance(1);
        Ok(first)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let bytes = array_at(&self.bytes, 0).filter(|_| self.reads_left > 0);
        let value = i32::from_be_bytes(bytes.ok_or(self.too_short(4))?);
        self.advance(4);
        let limit = self.bytes.len().min(self.reads_left) + 1;
        match usize::try_from(value) {
            Ok(actual) if actual > limit => {
                self.cut = Some((limit, actual));
                Ok(i32::try_from(limit).unwrap_or(i32::MAX))
            }
            _ => Ok(value),
        }
    }

    fn try_copy_to_slice(&mut self, target: &mut [u8]) -> Result<(), TryGetError> {
        let source = self
            .bytes
            .get(..target.len())
            .filter(|_| self.reads_left > 0 && self.cut.is_none());
        target.copy_from_slice(source.ok_or(self.too_short(target.len()))?);
        self.advance(target.len());
        Ok(())
    }
}

macro_rules! schema {
    ($(#[$docs:meta])* $module:ident over $schema:ident) => {
        $(#[$docs])*
        pub(crate) mod $module {
            use super::*;
            use $schema::protocol::buf::{ByteBuf, NotEnoughBytesError};
            use $schema::protocol::{Decodable, Encodable};

            impl ByteBuf for Probe {
                fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
                    self.bytes.slice(range)
                }

                fn get_bytes(&mut self, size: usize) -> Bytes {
                    self.take(size).unwrap_or_default()
                }

                fn try_get_bytes(&mut self, size: usize) -> Result<Bytes, NotEnoughBytesError> {
                    self.take(size).ok_or(NotEnoughBytesError)
                }
            }

            /// Decodes a message from bytes that nobody vouches for.
            pub(crate) fn decode<T: Decodable>(key: ApiKey, version: i16, body: Bytes) -> Result<T, DecodeError> {
                let probe = T::decode(&mut Probe::new(body.clone()), version);
                probe.map_err(|error| schema_error(key, version, error))?;
                decode_trusted(key, version, body)
            }

            /// Decodes a message from a peer that is trusted not to lie about lengths.
            pub(crate) fn decode_trusted<T: Decodable>(
                key: ApiKey,
                version: i16,
                mut body: Bytes,
            ) -> Result<T, DecodeError> {
                T::decode(&mut body, version).map_err(|error| schema_error(key, version, error))
            }

            /// Appends a message; appends nothing on an error.
            pub(crate) fn encode<T: Encodable>(
                key: ApiKey,
                version: i16,
                message: &T,
                out: &mut BytesMut,
            ) -> Result<(), EncodeError> {
                let start = out.len();
                message.encode(out, version).map_err(|error| {
                    out.truncate(start);
                    EncodeError { api: key.name(), version, reason: error.to_string() }
                })
            }
        }
    };
}

schema! {
    /// The schemas of Kafka 4.
    current over kafka_protocol
}

schema! {
    /// The schemas of Kafka 3, with what Kafka 4 removed.
    removed over kafka_protocol_legacy
}

fn schema_error(key: ApiKey, version: i16, error: impl std::fmt::Display) -> DecodeError {
    DecodeError::Schema {
        api: key.name(),
        version,
        reason: error.to_string().trim_end().to_owned(),
    }
}
