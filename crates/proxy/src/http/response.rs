//! The head of an answer. A service that breaks the rules of framing is answered for with 502: a
//! guess at where its answer ends could hand one client the answer of another.

use httparse::Status;

use super::field::{FieldSet, Fields, Framing, Name, Storage, classify};
use super::request::{Connection, OPTIONS_MAX};
use super::{Body, ChunkDecoder, Version};
use crate::limits::HEAD_BYTES_MAX;

/// An answer that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head of the answer is malformed or too large")]
pub struct BadHead;

/// The head of an answer.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'h, 'b> {
    /// The status, 100 to 999.
    pub status: u16,
    /// The rest of the first line after the version: `200 OK`, without the line's end.
    pub line: &'b [u8],
    /// The version.
    pub version: Version,
    /// The header fields.
    pub fields: Fields<'h, 'b>,
    /// Its length in bytes.
    pub length: usize,
}

/// What a proxy must know about an answer.
#[derive(Debug)]
pub struct ResponseFacts {
    /// How long the body is.
    pub body: Body,
    /// The service ends the connection after this answer.
    pub close: bool,
    /// Fields that are never passed on.
    pub hop: FieldSet,
    /// `Content-Length`.
    pub length: FieldSet,
    /// `X-Trace-Id`, which the edge sets itself.
    pub trace_id: FieldSet,
    /// It is a stream of events, which may be silent for long.
    pub event_stream: bool,
    /// It says when it was made.
    pub dated: bool,
}

/// Parses the head at the start of `input`; none if it is not complete yet.
pub fn parse<'h, 'b>(
    input: &'b [u8],
    storage: &'h mut Storage<'b>,
) -> Result<Option<ResponseHead<'h, 'b>>, BadHead> {
    // `httparse` skips empty lines; an answer must not start with one.
    if matches!(input.first(), Some(b'\r' | b'\n')) {
        return Err(BadHead);
    }
    let mut response = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, input, storage)
        .map_err(|_| BadHead)?;
    let Status::Complete(length) = status else {
        return if input.len() >= HEAD_BYTES_MAX {
            Err(BadHead)
        } else {
            Ok(None)
        };
    };
    let (Some(version), Some(status)) = (response.version, response.code) else {
        return Err(BadHead);
    };
    if length > HEAD_BYTES_MAX || status < 100 {
        return Err(BadHead);
    }
    let head = &input[..length];
    let end = memchr::memchr(b'\n', head).ok_or(BadHead)?;
    let line = head
        .get("HTTP/1.1 ".len()..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .ok_or(BadHead)?;
    Ok(Some(ResponseHead {
        status,
        line,
        version: if version == 0 {
            Version::Http10
        } else {
            Version::Http11
        },
        fields: Fields::new(head, response.headers).ok_or(BadHead)?,
        length,
    }))
}

impl ResponseHead<'_, '_> {
    /// Collects what a proxy must know. `to_head` says that the request was HEAD.
    pub fn facts(&self, to_head: bool) -> Result<ResponseFacts, BadHead> {
        let mut framing = Framing::default();
        let mut connection = Connection::default();
        let mut event_stream = false;
        let mut dated = false;
        let (mut hop, mut length, mut trace_id): (FieldSet, FieldSet, FieldSet) = (0, 0, 0);
        for (at, (name, value)) in self.fields.iter().enumerate() {
            let bit: FieldSet = 1 << at;
            match classify(name) {
                Name::Connection => {
                    hop |= bit;
                    connection.read(bit, value);
                }
                Name::ContentLength => {
                    length |= bit;
                    framing.content_length(at, value).map_err(|_| BadHead)?;
                }
                Name::TransferEncoding => {
                    hop |= bit;
                    framing.transfer_encoding(value).map_err(|_| BadHead)?;
                }
                Name::Hop | Name::Te | Name::Upgrade => hop |= bit,
                Name::TraceId => trace_id |= bit,
                Name::ContentType => event_stream = is_event_stream(value),
                _ => dated |= name.eq_ignore_ascii_case("date"),
            }
        }
        framing.check().map_err(|_| BadHead)?;
        if connection.count > OPTIONS_MAX {
            return Err(BadHead);
        }
        if framing.chunked && self.version == Version::Http10 {
            return Err(BadHead);
        }
        hop |= framing.repeated;
        if connection.names_others {
            hop |= self.fields.named(connection.set);
        }
        let bodiless = to_head || self.status < 200 || matches!(self.status, 204 | 304);
        let body = if bodiless {
            Body::NONE
        } else if framing.chunked {
            Body::Chunked(ChunkDecoder::new())
        } else {
            framing.length.map_or(Body::UntilClose, Body::Length)
        };
        let close = connection.close
            || body == Body::UntilClose
            || (self.version == Version::Http10 && !connection.keep_alive);
        Ok(ResponseFacts {
            body,
            close,
            hop,
            length,
            trace_id,
            event_stream,
            dated,
        })
    }
}

/// Whether a media type, with or without parameters, is that of server-sent events.
fn is_event_stream(value: &[u8]) -> bool {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    value[..end]
        .trim_ascii()
        .eq_ignore_ascii_case(b"text/event-stream")
}
