//! Frames: a 4 byte length, then so many bytes.

use bytes::{Buf, Bytes, BytesMut};

/// `jute.maxbuffer` unless configured: the longest frame that is accepted, in bytes.
pub const DEFAULT_MAX_FRAME: usize = 0xf_ffff;

/// A frame whose length cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes is outside of 0..={max}")]
pub struct FrameError {
    /// The length that the frame claims.
    pub length: i32,
    /// The longest that is accepted.
    pub max: usize,
}

/// Takes the next whole frame, without its length, from the front of `buffer`; `None` until all of it is there.
pub fn split_frame(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(&prefix) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(prefix);
    let wanted = usize::try_from(length)
        .ok()
        .filter(|&wanted| wanted <= max)
        .ok_or(FrameError { length, max })?;
    if buffer.len() - 4 < wanted {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(wanted).freeze()))
}

/// Builds one frame: `body` writes what follows the length.
pub fn build_frame(body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(128);
    out.extend_from_slice(&[0; 4]);
    body(&mut out);
    let length = i32::try_from(out.len() - 4).unwrap_or(i32::MAX);
    if let Some(prefix) = out.first_chunk_mut::<4>() {
        *prefix = length.to_be_bytes();
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_whole_or_not_at_all() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x03ab"[..]);
        assert_eq!(split_frame(&mut buffer, 10), Ok(None));
        buffer.extend_from_slice(b"c\0\0");
        assert_eq!(
            split_frame(&mut buffer, 10),
            Ok(Some(Bytes::from_static(b"abc")))
        );
        assert_eq!(split_frame(&mut buffer, 10), Ok(None));
        assert_eq!(&buffer[..], b"\0\0");
    }

    #[test]
    fn negative_and_huge_lengths_are_errors() {
        for (bytes, length) in [(&b"\xff\xff\xff\xff"[..], -1), (b"\0\0\0\x0b", 11)] {
            assert_eq!(
                split_frame(&mut BytesMut::from(bytes), 10),
                Err(FrameError { length, max: 10 })
            );
        }
    }

    #[test]
    fn a_built_frame_splits_again() {
        let frame = build_frame(|out| out.extend_from_slice(b"xyz"));
        assert_eq!(
            split_frame(&mut BytesMut::from(&frame[..]), 3),
            Ok(Some(Bytes::from_static(b"xyz")))
        );
    }
}
