//! HTTP/1.1 as RFC 9112 writes it, and nothing looser: heads, framing, chunks. Pure: bytes in,
//! facts out.
//!
//! A proxy that reads a message differently from the server behind it lets an attacker smuggle a
//! second request past every check. So whatever two readers could take differently is refused
//! here, and what passes is framed anew. `httparse` finds names and values quickly; what it is too
//! kind about (line feeds without carriage return) is checked on top. The module is public for the
//! fuzz targets; nothing outside needs it.

pub mod chunk;
pub mod field;
pub mod request;
pub mod response;
#[cfg(test)]
mod tests;

pub use self::chunk::{BadChunk, ChunkDecoder};

/// The version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// As in the first line of a message.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// Why a request is refused: the status and the words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The status to answer with.
    pub status: u16,
    /// What is wrong, for people.
    pub detail: &'static str,
}

/// How long a body is, and how much of it has been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are still to come; zero is a body that is complete or was never there.
    Length(u64),
    /// Chunks.
    Chunked(ChunkDecoder),
    /// Everything until the connection is closed. Only answers can have this.
    UntilClose,
}

impl Refusal {
    pub(crate) const fn new(status: u16, detail: &'static str) -> Self {
        Self { status, detail }
    }

    const fn bad(detail: &'static str) -> Self {
        Self::new(400, detail)
    }
}

impl Body {
    /// No body, or one that has ended.
    pub const NONE: Self = Self::Length(0);

    /// Whether all of it has been seen. A body that lasts until the close never says so.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
            Self::UntilClose => false,
        }
    }

    /// As [`Body::advance`], and appends the payload, without framing.
    pub fn unwrap(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BadChunk> {
        let Self::Chunked(decoder) = self else {
            let length = self.advance(input)?;
            out.extend_from_slice(input.get(..length).unwrap_or(input));
            return Ok(length);
        };
        let mut at = 0;
        while at < input.len() && !decoder.is_done() {
            let rest = input.get(at..).unwrap_or_default();
            at += match decoder.next(rest)? {
                chunk::Piece::Framing(length) => length,
                chunk::Piece::Payload(length) => {
                    out.extend_from_slice(rest.get(..length).unwrap_or(rest));
                    length
                }
            };
        }
        Ok(at)
    }

    /// How many bytes at the start of `input` belong to the body, framing included. They are
    /// counted as seen.
    pub fn advance(&mut self, input: &[u8]) -> Result<usize, BadChunk> {
        match self {
            Self::Length(left) => {
                let length =
                    usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= length as u64;
                Ok(length)
            }
            Self::Chunked(decoder) => decoder.advance(input),
            Self::UntilClose => Ok(input.len()),
        }
    }
}
