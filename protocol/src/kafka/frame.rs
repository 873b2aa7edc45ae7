//! Cuts the byte stream of a connection into frames, reads request headers and writes response headers.
//!
//! A frame is an i32 size and that many bytes. Source: the protocol guide; KIP-482 for flexible headers, KIP-511 for
//! ApiVersions, whose responses always have header v0 so that a client of any age can read them.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use thiserror::Error;
use tokio_util::codec::Decoder;

use super::api::ApiKey;
use super::wire::{DecodeError, Reader, array_at, put_at};

/// The bytes of the size in front of a frame.
pub const SIZE_LEN: usize = 4;
/// The bytes of the smallest request: key, version and correlation id.
pub const MIN_REQUEST_LEN: usize = 8;

/// Says why the stream cannot be cut into frames; the connection has to be closed.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The size is negative, or less than the smallest request.
    #[error("a frame of {size} bytes is too small for a request")]
    TooSmall {
        /// The size on the wire.
        size: i32,
    },
    /// The size exceeds the limit.
    #[error("a frame of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The size on the wire.
        size: i32,
        /// The limit in bytes.
        limit: usize,
    },
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the size of the next frame (without the four bytes of the size itself) as soon as it is there.
///
/// The caller can so reserve memory before the frame arrives. `None` while fewer than four bytes are buffered.
pub fn peek_size(buffer: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(size) = array_at(buffer, 0).map(i32::from_be_bytes) else {
        return Ok(None);
    };
    match usize::try_from(size) {
        Ok(len) if len > limit => Err(FrameError::TooLarge { size, limit }),
        Ok(len) if len >= MIN_REQUEST_LEN => Ok(Some(len)),
        _ => Err(FrameError::TooSmall { size }),
    }
}

/// Yields frames without their size, split off the read buffer without a copy.
#[derive(Debug, Clone, Copy)]
pub struct RequestFrames {
    limit: usize,
}

impl RequestFrames {
    /// Creates a decoder that refuses frames over `limit` bytes (`socket.request.max.bytes`).
    pub fn new(limit: usize) -> Self {
        RequestFrames { limit }
    }
}

impl Decoder for RequestFrames {
    type Item = BytesMut;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<BytesMut>, FrameError> {
        let Some(size) = peek_size(buffer, self.limit)? else {
            return Ok(None);
        };
        let missing = (SIZE_LEN + size).saturating_sub(buffer.len());
        if missing > 0 {
            buffer.reserve(missing);
            return Ok(None);
        }
        buffer.advance(SIZE_LEN);
        Ok(Some(buffer.split_to(size)))
    }
}

/// What each request starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The key as sent; `ApiKey::from_code` tells whether it is known.
    pub api_key: i16,
    /// The version as sent.
    pub api_version: i16,
    /// Opaque: comes back in the response; may repeat or be negative.
    pub correlation_id: i32,
    /// The name that the client gives itself; bytes that are not UTF-8 are replaced.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Reads the header of a frame and returns it with the body.
    ///
    /// Of an API or version that is not known only the first eight bytes must be right, since those are what the
    /// answer (or the log line) needs; the body is then of no use.
    pub fn parse(frame: BytesMut) -> Result<(RequestHeader, BytesMut), DecodeError> {
        let mut reader = Reader::new(frame, false);
        let api_key = reader.i16("the API key")?;
        let api_version = reader.i16("the API version")?;
        let correlation_id = reader.i32("the correlation id")?;
        let mut header = RequestHeader {
            api_key,
            api_version,
            correlation_id,
            client_id: None,
        };
        let known =
            ApiKey::from_code(api_key).filter(|key| key.codec_versions().contains(&api_version));
        let Some(key) = known else {
            header.client_id = reader.client_id().unwrap_or_default();
            return Ok((header, BytesMut::new()));
        };
        let header_version = key.request_header_version(api_version);
        if header_version >= 1 {
            header.client_id = reader.client_id()?;
        }
        if header_version >= 2 {
            reader.set_flexible(true);
            reader.skip_tagged_fields()?;
        }
        Ok((header, reader.into_rest()))
    }
}

/// Appends a response header: the correlation id, and no tagged fields where the version has room for some.
pub fn put_response_header(out: &mut impl BufMut, key: ApiKey, version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    if key.response_header_version(version) >= 1 {
        out.put_u8(0);
    }
}

/// Starts a response frame at the end of `out`: room for the size, and the header. Returns where the frame starts.
pub fn start_response(out: &mut BytesMut, key: ApiKey, version: i16, correlation_id: i32) -> usize {
    let start = out.len();
    out.put_i32(0);
    put_response_header(out, key, version, correlation_id);
    start
}

/// Writes the size of the frame that starts at `start` and ends at the end of `out`.
pub fn finish_response(out: &mut BytesMut, start: usize) {
    let size = out.len().saturating_sub(start + SIZE_LEN);
    put_at(
        out,
        start,
        i32::try_from(size).unwrap_or(i32::MAX).to_be_bytes(),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(size: i32, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_i32(size);
        out.put_slice(body);
        out
    }

    fn header(key: i16, version: i16, rest: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_i16(key);
        out.put_i16(version);
        out.put_i32(-9);
        out.put_slice(rest);
        out
    }

    #[test]
    fn the_size_is_known_before_the_body() {
        assert_eq!(peek_size(&[0, 0, 1], 1000).unwrap(), None);
        assert_eq!(peek_size(&[0, 0, 1, 0], 1000).unwrap(), Some(256));
        assert_eq!(peek_size(&[0, 0, 3, 232], 1000).unwrap(), Some(1000));
    }

    #[test]
    fn sizes_that_no_request_has_are_refused() {
        let message = peek_size(&1001i32.to_be_bytes(), 1000)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("1001") && message.contains("1000"),
            "{message}"
        );
        for size in [i32::MIN, -1, 0, 7] {
            let refused = peek_size(&size.to_be_bytes(), 1000);
            assert!(matches!(refused, Err(FrameError::TooSmall { size: told }) if told == size));
        }
        assert!(matches!(
            peek_size(b"GET / HTTP", 100 << 20),
            Err(FrameError::TooLarge { .. })
        ));
    }

    #[test]
    fn frames_come_out_of_any_division_of_the_stream() {
        let mut stream = frame(9, b"123456789");
        stream.extend_from_slice(&frame(10, b"abcdefghij"));
        for first in 0..stream.len() {
            let mut frames = RequestFrames::new(100);
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            for part in [&stream[..first], &stream[first..]] {
                buffer.extend_from_slice(part);
                while let Some(frame) = frames.decode(&mut buffer).unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, [&b"123456789"[..], b"abcdefghij"]);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn headers_of_every_version_are_read() {
        let (parsed, body) = RequestHeader::parse(header(3, 1, b"\x00\x02mebody")).unwrap();
        assert_eq!(
            (parsed.api_key, parsed.api_version, parsed.correlation_id),
            (3, 1, -9)
        );
        assert_eq!(
            (parsed.client_id.as_deref(), &body[..]),
            (Some("me"), &b"body"[..])
        );
        // Flexible, with a tagged field that nobody knows.
        let (parsed, body) =
            RequestHeader::parse(header(3, 9, b"\xff\xff\x01\x63\x02xybody")).unwrap();
        assert_eq!((parsed.client_id, &body[..]), (None, &b"body"[..]));
        // ControlledShutdown v0 has no client id.
        let (_, body) = RequestHeader::parse(header(7, 0, &[0, 0, 0, 1])).unwrap();
        assert_eq!(&body[..], [0, 0, 0, 1]);
    }

    #[test]
    fn a_client_id_may_be_any_bytes() {
        let (parsed, _) = RequestHeader::parse(header(3, 1, b"\x00\x02\xff\xfe")).unwrap();
        assert_eq!(parsed.client_id.as_deref(), Some("\u{fffd}\u{fffd}"));
        assert!(RequestHeader::parse(header(3, 1, b"\x00\x09me")).is_err());
        assert!(RequestHeader::parse(header(3, 1, b"\xff\xfeme")).is_err());
    }

    #[test]
    fn unknown_apis_and_versions_still_have_a_correlation_id() {
        for (key, version) in [(18, 99), (999, 0), (-1, -1), (3, -1)] {
            let (parsed, _) =
                RequestHeader::parse(header(key, version, b"\x7f\xffgarbage")).unwrap();
            assert_eq!(
                (parsed.api_key, parsed.api_version, parsed.correlation_id),
                (key, version, -9)
            );
        }
        assert!(RequestHeader::parse(BytesMut::from(&b"1234567"[..])).is_err());
    }

    #[test]
    fn api_versions_is_always_answered_with_the_oldest_header() {
        let empty = |key, version| {
            let mut out = BytesMut::new();
            let start = start_response(&mut out, key, version, 7);
            finish_response(&mut out, start);
            out
        };
        assert_eq!(empty(ApiKey::ApiVersions, 3)[..], [0, 0, 0, 4, 0, 0, 0, 7]);
        assert_eq!(empty(ApiKey::Metadata, 8)[..], [0, 0, 0, 4, 0, 0, 0, 7]);
        assert_eq!(empty(ApiKey::Metadata, 9)[..], [0, 0, 0, 5, 0, 0, 0, 7, 0]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = RequestFrames::new(40).decode(&mut BytesMut::from(&bytes[..]));
            let _ = RequestHeader::parse(BytesMut::from(&bytes[..]));
        }
    }
}
