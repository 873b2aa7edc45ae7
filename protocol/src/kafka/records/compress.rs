//! The codecs of record batches. Every decompression has a limit, so that a few bytes cannot ask for gigabytes.
//!
//! - gzip: one member is written; several are read.
//! - snappy: written in the framing of the Java library (magic, two version numbers, blocks of at most 32 KiB with an
//!   i32 length each), which every Kafka client reads; read with and without that framing.
//! - lz4: frames of independent 64 KiB blocks without checksums or content size, as the Java clients write them.
//! - zstd: KIP-110; not for producers and consumers below Produce 7 and Fetch 10.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use thiserror::Error;

use crate::kafka::wire::array_at;

/// Names the codec of a batch by its number in the attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Records as they are.
    #[default]
    None = 0,
    /// gzip
    Gzip = 1,
    /// snappy
    Snappy = 2,
    /// lz4
    Lz4 = 3,
    /// zstd
    Zstd = 4,
}

impl Compression {
    /// Lists every codec, by number.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// Returns the number in the attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Returns the codec of a number; an error for those not assigned.
    pub fn from_id(id: u8) -> Result<Compression, CompressionError> {
        Self::ALL
            .get(usize::from(id))
            .copied()
            .ok_or(CompressionError::UnknownCodec(id))
    }

    /// Returns the name as in `compression.type`; `uncompressed` for none.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Says why records could not be compressed or decompressed.
#[derive(Debug, Error)]
pub enum CompressionError {
    /// The attributes name a codec that does not exist.
    #[error("compression codec {0} does not exist")]
    UnknownCodec(u8),
    /// The decompressed records exceed the limit.
    #[error("the records decompress to more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The compressed bytes are not of their codec.
    #[error("{codec} cannot read the records: {reason}")]
    Corrupt {
        /// The codec.
        codec: Compression,
        /// What its library says.
        reason: String,
    },
}

impl CompressionError {
    fn corrupt(codec: Compression, reason: impl fmt::Display) -> Self {
        CompressionError::Corrupt {
            codec,
            reason: reason.to_string(),
        }
    }
}

/// What the xerial framing of snappy starts with; two i32 version numbers follow.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_LEN: usize = 16;
const XERIAL_BLOCK_LEN: usize = 32 * 1024;
/// No snappy element makes more than 64 bytes out of 3, so that a longer output is a lie of the length field.
const SNAPPY_MAX_RATIO: usize = 22;
/// Windows of 128 MiB: the largest that zstd's own decoders accept by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const ZSTD_DEFAULT_LEVEL: i32 = 3;

/// Compresses records. `level` is that of the codec, `None` its default; snappy and lz4 have one level here.
pub fn compress(
    codec: Compression,
    records: &[u8],
    level: Option<i32>,
) -> Result<Bytes, CompressionError> {
    let failed = |error: io::Error| CompressionError::corrupt(codec, error);
    match codec {
        Compression::None => Ok(Bytes::copy_from_slice(records)),
        Compression::Gzip => {
            let level = level
                .and_then(|level| u32::try_from(level).ok())
                .filter(|level| (1..=9).contains(level));
            let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(records).map_err(failed)?;
            Ok(encoder.finish().map_err(failed)?.into())
        }
        Compression::Snappy => compress_snappy(records),
        Compression::Lz4 => {
            let info = FrameInfo::new()
                .block_mode(BlockMode::Independent)
                .block_size(BlockSize::Max64KB);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(records).map_err(failed)?;
            Ok(encoder
                .finish()
                .map_err(|error| CompressionError::corrupt(codec, error))?
                .into())
        }
        Compression::Zstd => {
            let compressed = zstd::stream::encode_all(records, level.unwrap_or(ZSTD_DEFAULT_LEVEL));
            Ok(compressed.map_err(failed)?.into())
        }
    }
}

fn compress_snappy(records: &[u8]) -> Result<Bytes, CompressionError> {
    let mut out = BytesMut::with_capacity(XERIAL_HEADER_LEN + records.len() / 2);
    out.put_slice(&XERIAL_MAGIC);
    out.put_i32(1);
    out.put_i32(1);
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_LEN) {
        let compressed = encoder.compress_vec(block);
        let compressed =
            compressed.map_err(|error| CompressionError::corrupt(Compression::Snappy, error))?;
        out.put_i32(i32::try_from(compressed.len()).unwrap_or(i32::MAX));
        out.put_slice(&compressed);
    }
    Ok(out.freeze())
}

/// Decompresses records as a whole; an error when they exceed `limit_bytes`, before that much is allocated.
pub fn decompress(
    codec: Compression,
    compressed: &[u8],
    limit_bytes: usize,
) -> Result<Bytes, CompressionError> {
    if codec == Compression::None {
        return Ok(Bytes::copy_from_slice(compressed));
    }
    let mut out = Vec::new();
    let limit = u64::try_from(limit_bytes)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let read = decompressor(codec, compressed)?
        .take(limit)
        .read_to_end(&mut out);
    read.map_err(|error| CompressionError::corrupt(codec, error))?;
    if out.len() > limit_bytes {
        return Err(CompressionError::TooLarge { limit: limit_bytes });
    }
    Ok(out.into())
}

/// Opens a reader of the decompressed bytes, whose buffers stay small whatever the input says.
pub(crate) fn decompressor<'a>(
    codec: Compression,
    compressed: &'a [u8],
) -> Result<Box<dyn Read + 'a>, CompressionError> {
    Ok(match codec {
        Compression::None => Box::new(compressed),
        Compression::Gzip => Box::new(MultiGzDecoder::new(compressed)),
        Compression::Snappy => Box::new(SnappyReader::new(compressed)),
        Compression::Lz4 => Box::new(FrameDecoder::new(compressed)),
        Compression::Zstd => {
            let open = |compressed| {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(decoder)
            };
            Box::new(
                open(compressed)
                    .map_err(|error: io::Error| CompressionError::corrupt(codec, error))?,
            )
        }
    })
}

/// Reads snappy block by block, in xerial framing or as one raw block.
struct SnappyReader<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
}

impl<'a> SnappyReader<'a> {
    fn new(compressed: &'a [u8]) -> Self {
        let framed = compressed.starts_with(&XERIAL_MAGIC) && compressed.len() >= XERIAL_HEADER_LEN;
        let rest = if framed {
            compressed.get(XERIAL_HEADER_LEN..).unwrap_or_default()
        } else {
            compressed
        };
        SnappyReader {
            rest,
            framed,
            block: Vec::new(),
            at: 0,
        }
    }

    /// Decompresses the next block; `false` at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        if self.rest.is_empty() {
            return Ok(false);
        }
        let compressed = if self.framed {
            self.take_framed()?
        } else {
            std::mem::take(&mut self.rest)
        };
        let len = snap::raw::decompress_len(compressed)?;
        if len > compressed.len().saturating_mul(SNAPPY_MAX_RATIO) {
            return Err(invalid("a snappy block gives a length that it cannot have"));
        }
        self.block.resize(len, 0);
        let written = snap::raw::Decoder::new().decompress(compressed, &mut self.block)?;
        self.block.truncate(written);
        self.at = 0;
        Ok(true)
    }

    fn take_framed(&mut self) -> io::Result<&'a [u8]> {
        // Concatenated streams repeat the header.
        if self.rest.starts_with(&XERIAL_MAGIC) {
            self.rest = self
                .rest
                .get(XERIAL_HEADER_LEN..)
                .ok_or_else(|| invalid("a snappy header is cut off"))?;
        }
        let len = array_at(self.rest, 0)
            .map(i32::from_be_bytes)
            .and_then(|len| usize::try_from(len).ok());
        let end = len
            .and_then(|len| len.checked_add(4))
            .ok_or_else(|| invalid("a snappy block has no length"))?;
        let block = self
            .rest
            .get(4..end)
            .ok_or_else(|| invalid("a snappy block is cut off"))?;
        self.rest = self.rest.get(end..).unwrap_or_default();
        Ok(block)
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let mut available = self.block.get(self.at..).unwrap_or_default();
        let count = available.read(buf)?;
        self.at += count;
        Ok(count)
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
