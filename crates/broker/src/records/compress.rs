//! The compressions of Kafka, never yielding more than was allowed.
//!
//! Each decompressor writes into a buffer that grows as it is filled, and stops one byte beyond the
//! limit. What a header promises is believed only where it is needed to begin, and checked against
//! the limit first: so a few bytes that would become gigabytes cost their limit at most.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::{Compression, RecordsError};

/// The frames of xerial's snappy library: this, two version numbers, then blocks with their lengths.
const XERIAL: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEAD: usize = 16;
/// As many bytes as that library puts into a block.
const XERIAL_BLOCK: usize = 32 * 1024;
/// An LZ4 frame begins so. The older format, which other programs still read, is not used by Kafka.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The greatest window that a zstd frame may ask for, as a power of two: 128 MiB, what its level 22
/// asks for even if little follows. It is reserved and not touched: memory is taken as it is filled,
/// which the limit stops.
const ZSTD_WINDOW_LOG: u32 = 27;
/// The level that zstd itself thinks right.
const ZSTD_LEVEL: i32 = 3;

/// The uncompressed bytes, at most `bytes_max`. What is not compressed is not copied.
pub fn decompress(
    codec: Compression,
    bytes: &Bytes,
    bytes_max: usize,
) -> Result<Bytes, RecordsError> {
    let damaged = |source| RecordsError::Damaged { codec, source };
    let input = bytes.as_ref();
    match codec {
        Compression::None if input.len() > bytes_max => Err(RecordsError::TooLarge(bytes_max)),
        Compression::None => Ok(bytes.clone()),
        Compression::Gzip => fill(
            flate2::bufread::MultiGzDecoder::new(input),
            codec,
            bytes_max,
        ),
        Compression::Snappy => unsnap(input, bytes_max),
        Compression::Lz4 if !input.starts_with(&LZ4_MAGIC) => {
            Err(damaged(io::Error::other("not an lz4 frame")))
        }
        Compression::Lz4 => fill(lz4_flex::frame::FrameDecoder::new(input), codec, bytes_max),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input).map_err(damaged)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(damaged)?;
            fill(decoder, codec, bytes_max)
        }
    }
}

fn fill(from: impl Read, codec: Compression, bytes_max: usize) -> Result<Bytes, RecordsError> {
    let mut out = Vec::new();
    let limit = bytes_max as u64 + 1;
    let read = from.take(limit).read_to_end(&mut out);
    read.map_err(|source| RecordsError::Damaged { codec, source })?;
    if out.len() > bytes_max {
        return Err(RecordsError::TooLarge(bytes_max));
    }
    Ok(out.into())
}

/// One raw block, or the frames of xerial's library.
fn unsnap(input: &[u8], bytes_max: usize) -> Result<Bytes, RecordsError> {
    let mut out = Vec::new();
    if !input.starts_with(&XERIAL) {
        unsnap_block(input, &mut out, bytes_max)?;
        return Ok(out.into());
    }
    let mut rest = input.get(XERIAL_HEAD..).ok_or_else(|| cut_off(input))?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk().ok_or_else(|| cut_off(rest))?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = after.get(..length).ok_or_else(|| cut_off(after))?;
        unsnap_block(block, &mut out, bytes_max)?;
        rest = &after[length..];
    }
    Ok(out.into())
}

fn unsnap_block(block: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), RecordsError> {
    let length = snap::raw::decompress_len(block).map_err(snapped)?;
    let start = out.len();
    let end = start.saturating_add(length);
    if end > bytes_max {
        return Err(RecordsError::TooLarge(bytes_max));
    }
    out.resize(end, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(snapped)?;
    out.truncate(start + written);
    Ok(())
}

fn snapped(error: snap::Error) -> RecordsError {
    RecordsError::Damaged {
        codec: Compression::Snappy,
        source: io::Error::other(error),
    }
}

fn cut_off(rest: &[u8]) -> RecordsError {
    let missing = format!("a block breaks off within {} bytes", rest.len());
    RecordsError::Damaged {
        codec: Compression::Snappy,
        source: io::Error::new(io::ErrorKind::UnexpectedEof, missing),
    }
}

/// The compressed bytes.
pub fn compress(codec: Compression, bytes: &[u8]) -> Result<Vec<u8>, RecordsError> {
    let compressed = match codec {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => gzip(bytes),
        Compression::Snappy => snap_blocks(bytes),
        Compression::Lz4 => lz4(bytes),
        Compression::Zstd => zstd::encode_all(bytes, ZSTD_LEVEL),
    };
    compressed.map_err(|source| RecordsError::NotCompressed { codec, source })
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let level = flate2::Compression::default();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Independent blocks of 64 KiB without checksums, as Kafka's clients write them: the batch has a
/// checksum of its own.
fn lz4(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let frame = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(bytes)?;
    encoder.finish().map_err(io::Error::from)
}

fn snap_blocks(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = XERIAL.to_vec();
    out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(XERIAL_BLOCK) {
        let block = encoder.compress_vec(block)?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields zeros, and fails once it was asked for far more than the limit.
    struct Endless(usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let rest = self.0.checked_sub(buffer.len());
            self.0 = rest.ok_or_else(|| io::Error::other("asked for too much"))?;
            buffer.fill(0);
            Ok(buffer.len())
        }
    }

    #[test]
    fn nothing_is_decompressed_beyond_the_limit() {
        let limit = 64 * 1024;
        let refused = fill(Endless(4 * limit), Compression::Gzip, limit);
        assert!(matches!(refused, Err(RecordsError::TooLarge(_))));
    }
}
