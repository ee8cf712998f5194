//! Chunked bodies: an incremental decoder that can be cut at any byte.
//!
//! Valid framing is passed on as it came, so the decoder mostly only counts. It is strict where
//! servers are known to differ: no space around sizes, no bare line feeds, no more than 15 digits,
//! bounded extensions and trailers, and no trailer that would change framing or routing
//! (RFC 9110, 6.5.1).

/// A body that breaks the rules of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// The size is no hexadecimal number of at most 15 digits.
    #[error("a chunk's size is malformed")]
    Size,
    /// A line does not end with carriage return and line feed.
    #[error("a chunk does not end where its size says")]
    End,
    /// Too long, or with control characters.
    #[error("a chunk's extension is malformed or too long")]
    Extension,
    /// Malformed, too large, or of a name that must not be a trailer.
    #[error("the trailers are malformed, too large or forbidden")]
    Trailer,
}

/// Follows a chunked body. Small: it is part of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkDecoder {
    state: State,
    /// Of the size: digits. Of a name: letters.
    count: u8,
    /// Bytes of the current chunk that are still to come.
    left: u64,
    payload: u64,
    /// Bytes of extensions and trailers so far.
    extra: u32,
    /// No trailer is let through.
    bare: bool,
    name: [u8; NAME_BYTES],
}

/// What stands at the start of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes of sizes, line ends and trailers.
    Framing(usize),
    /// So many bytes of payload.
    Payload(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Payload,
    PayloadReturn,
    PayloadEnd,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastEnd,
    Done,
}

/// One more than the longest forbidden trailer's name could have: a longer name is none of them.
const NAME_BYTES: usize = 20;
const DIGITS_MAX: u8 = 15;
const EXTRA_BYTES_MAX: u32 = 16 << 10;

/// Fields that must not arrive after the body: they decide on framing, routing or access, are of one
/// hop only, or are set by the proxy itself. A service may merge trailers into the fields of the
/// head. With `-` for `_`, which many servers do not tell apart.
const FORBIDDEN_TRAILERS: [&[u8]; 20] = [
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"keep-alive",
    b"set-cookie",
    b"te",
    b"traceparent",
    b"tracestate",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-real-ip",
    b"x-trace-id",
];

/// The beginnings of others.
const FORBIDDEN_PREFIXES: [&[u8]; 4] = [b"atoll-", b"client-cert", b"proxy-", b"x-forwarded-"];

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkDecoder {
    /// At the start of a body.
    pub const fn new() -> Self {
        Self {
            state: State::Size,
            count: 0,
            left: 0,
            payload: 0,
            extra: 0,
            bare: false,
            name: [0; NAME_BYTES],
        }
    }

    /// Refuses every trailer from here on: for a service that is told by fields of any name who
    /// asks, and may merge trailers into them.
    pub fn refuse_trailers(&mut self) {
        self.bare = true;
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether payload comes next.
    pub fn expects_payload(&self) -> bool {
        self.state == State::Payload
    }

    /// Whether the last chunk is over and trailers, or the empty line, come next.
    pub fn is_in_trailers(&self) -> bool {
        matches!(
            self.state,
            State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerEnd
                | State::LastEnd
        )
    }

    /// Bytes of payload so far, including the rest of a chunk that was announced: a limit can be
    /// enforced before they arrive.
    pub fn announced(&self) -> u64 {
        self.payload.saturating_add(self.left)
    }

    /// How many bytes at the start of `input` belong to the body. They are counted as seen.
    pub fn advance(&mut self, input: &[u8]) -> Result<usize, BadChunk> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            at += match self.next(&input[at..])? {
                Piece::Framing(length) | Piece::Payload(length) => length,
            };
        }
        Ok(at)
    }

    /// Takes the next piece at the start of `input`. Empty only if `input` is, or the body is done.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, BadChunk> {
        if self.state == State::Payload {
            let length =
                usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
            self.left -= length as u64;
            self.payload = self.payload.saturating_add(length as u64);
            if self.left == 0 {
                self.state = State::PayloadReturn;
            }
            return Ok(Piece::Payload(length));
        }
        let mut at = 0;
        while let Some(byte) = input.get(at) {
            if matches!(self.state, State::Payload | State::Done) {
                break;
            }
            self.state = self.step(*byte)?;
            at += 1;
        }
        Ok(Piece::Framing(at))
    }

    fn step(&mut self, byte: u8) -> Result<State, BadChunk> {
        match (self.state, byte) {
            (State::Size, _) => self.size(byte),
            (State::Extension, b'\r') => Ok(State::SizeEnd),
            (State::Extension, _) => {
                self.extra(BadChunk::Extension)?;
                text(byte)
                    .then_some(State::Extension)
                    .ok_or(BadChunk::Extension)
            }
            (State::SizeEnd, b'\n') => {
                self.count = 0;
                Ok(if self.left == 0 {
                    State::TrailerStart
                } else {
                    State::Payload
                })
            }
            (State::PayloadReturn, b'\r') => Ok(State::PayloadEnd),
            (State::PayloadEnd, b'\n') => Ok(State::Size),
            (State::TrailerStart, b'\r') => Ok(State::LastEnd),
            (State::TrailerStart | State::TrailerName, _) => self.trailer_name(byte),
            (State::TrailerValue, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerValue, _) => {
                self.extra(BadChunk::Trailer)?;
                text(byte)
                    .then_some(State::TrailerValue)
                    .ok_or(BadChunk::Trailer)
            }
            (State::TrailerEnd, b'\n') => {
                self.count = 0;
                Ok(State::TrailerStart)
            }
            (State::LastEnd, b'\n') => Ok(State::Done),
            _ => Err(BadChunk::End),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, BadChunk> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' if self.count > 0 => return Ok(State::Extension),
            b'\r' if self.count > 0 => return Ok(State::SizeEnd),
            _ => return Err(BadChunk::Size),
        };
        if self.count == DIGITS_MAX {
            return Err(BadChunk::Size);
        }
        self.count += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn trailer_name(&mut self, byte: u8) -> Result<State, BadChunk> {
        self.extra(BadChunk::Trailer)?;
        let length = usize::from(self.count);
        if byte == b':' && length > 0 {
            let name = self.name.get(..length).unwrap_or(&self.name);
            let forbidden = self.bare
                || FORBIDDEN_TRAILERS.contains(&name)
                || FORBIDDEN_PREFIXES.iter().any(|p| name.starts_with(p));
            return if forbidden {
                Err(BadChunk::Trailer)
            } else {
                Ok(State::TrailerValue)
            };
        }
        if !is_token(byte) {
            return Err(BadChunk::Trailer);
        }
        if let Some(slot) = self.name.get_mut(length) {
            *slot = match byte {
                b'_' => b'-',
                _ => byte.to_ascii_lowercase(),
            };
        }
        self.count = self.count.saturating_add(1);
        Ok(State::TrailerName)
    }

    fn extra(&mut self, error: BadChunk) -> Result<(), BadChunk> {
        self.extra += 1;
        if self.extra > EXTRA_BYTES_MAX {
            Err(error)
        } else {
            Ok(())
        }
    }
}

fn text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
