//! Heads, from the one form to the other.
//!
//! What HTTP/2 lets through and HTTP/1.1 could misread is not judged here: the text is parsed again,
//! strictly, by whoever reads it. Only what would change the text's own structure is refused. Fields
//! of one hop (RFC 9113, 8.2.2) do not cross in either direction.

use std::borrow::Cow;
use std::io::{self, Write as _};

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version, request, response};

use crate::http::Body;
use crate::http::field::{FieldSet, Fields, storage};
use crate::http::request::parse as parse_request;
use crate::http::response::parse as parse_response;

/// How the text frames a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none, or its length was announced.
    Plain,
    /// It comes in chunks.
    Chunked,
}

/// A head, ready for frames.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    pub(super) head: T,
    /// The length of its text.
    pub(super) length: usize,
    /// How the text behind it is framed.
    pub(super) body: Body,
}

/// Writes a request as text; none if it has no text form.
pub(super) fn write_request(
    parts: &request::Parts,
    ended: bool,
    out: &mut Vec<u8>,
) -> Option<Framing> {
    let path = parts.uri.path_and_query()?.as_str();
    let host = authority(&parts.uri, &parts.headers)?;
    for part in [parts.method.as_str(), " ", path, " HTTP/1.1\r\nhost: "] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    write_fields(&parts.headers, out, |name| {
        name != HOST && name != COOKIE && name != TE
    });
    write_cookies(&parts.headers, out);
    let trailers = parts.headers.get_all(TE).iter();
    if trailers.into_iter().any(|value| value == "trailers") {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    let framing = if ended || parts.headers.contains_key(CONTENT_LENGTH) {
        Framing::Plain
    } else {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        Framing::Chunked
    };
    out.extend_from_slice(b"\r\n");
    Some(framing)
}

/// Writes the head of an answer as text. `bodiless` says that no body can follow, whatever the
/// fields say: the answer to HEAD, 204 and 304.
pub(super) fn write_response(
    parts: &response::Parts,
    ended: bool,
    bodiless: bool,
    out: &mut Vec<u8>,
) -> Framing {
    let reason = parts.status.canonical_reason().unwrap_or_default();
    // Writing to memory does not fail.
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", parts.status.as_u16());
    write_fields(&parts.headers, out, |_| true);
    let known = parts.headers.contains_key(CONTENT_LENGTH);
    let framing = if bodiless || parts.status.is_informational() || known {
        Framing::Plain
    } else if ended {
        out.extend_from_slice(b"content-length: 0\r\n");
        Framing::Plain
    } else {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        Framing::Chunked
    };
    out.extend_from_slice(b"\r\n");
    framing
}

/// Writes trailers as the end of a chunked body.
pub(super) fn write_trailers(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        write_fields(trailers, out, |_| true);
    }
    out.extend_from_slice(b"\r\n");
}

/// The host: `:authority`, or `Host` where there is none. Both, and different, is an attack.
fn authority<'a>(uri: &'a Uri, fields: &'a HeaderMap) -> Option<&'a [u8]> {
    let named = fields.get(HOST).map(HeaderValue::as_bytes);
    match (uri.authority(), named) {
        (Some(authority), None) => Some(authority.as_str().as_bytes()),
        (Some(authority), Some(host)) => {
            let same = authority.as_str().as_bytes().eq_ignore_ascii_case(host);
            same.then_some(host)
        }
        (None, host) => host,
    }
}

fn write_fields(fields: &HeaderMap, out: &mut Vec<u8>, wanted: impl Fn(&HeaderName) -> bool) {
    for (name, value) in fields {
        if wanted(name) && !is_of_one_hop(name) {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Cookies may come in several fields; HTTP/1.1 has one (RFC 9113, 8.2.3).
fn write_cookies(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (at, value) in fields.get_all(COOKIE).iter().enumerate() {
        let before: &[u8] = if at == 0 { b"cookie: " } else { b"; " };
        out.extend_from_slice(before);
        out.extend_from_slice(value.as_bytes());
    }
    if fields.contains_key(COOKIE) {
        out.extend_from_slice(b"\r\n");
    }
}

fn is_of_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
    )
}

/// Reads the head of a request for a service. The text was written by this program, whole.
pub(super) fn read_request(text: &[u8]) -> io::Result<Parsed<Request<()>>> {
    let mut storage = storage();
    let head = match parse_request(text, &mut storage) {
        Ok(Some(head)) => head,
        _ => return Err(not_whole()),
    };
    let facts = head.facts().map_err(|_| not_whole())?;
    let host = facts.host.unwrap_or(b"localhost");
    let uri = Uri::builder()
        .scheme("http")
        .authority(host)
        .path_and_query(&*escaped(head.target))
        .build()
        .map_err(unfit)?;
    let mut request = Request::builder()
        .method(head.method)
        .uri(uri)
        .version(Version::HTTP_2)
        .body(())
        .map_err(unfit)?;
    let without = facts.hop | facts.host_set;
    read_fields(&head.fields, without, request.headers_mut())?;
    if facts.takes_trailers {
        request
            .headers_mut()
            .insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(Parsed {
        head: request,
        length: head.length,
        body: facts.body,
    })
}

/// A target as URIs have it (RFC 3986, 3.3 and 3.4): HTTP/1.1 lets a few characters through that many
/// clients send unescaped, and nothing else takes them.
fn escaped(target: &str) -> Cow<'_, str> {
    let foreign = |byte: u8| matches!(byte, b'"' | b'<' | b'>' | b'`');
    if !target.bytes().any(foreign) {
        return Cow::Borrowed(target);
    }
    let mut out = String::with_capacity(target.len() + 16);
    for letter in target.chars() {
        match letter {
            '"' | '<' | '>' | '`' => {
                // Writing to memory does not fail.
                let _ =
                    std::fmt::Write::write_fmt(&mut out, format_args!("%{:02X}", letter as u32));
            }
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// Reads the head of an answer. The text was written by this program, whole.
pub(super) fn read_response(text: &[u8], to_head: bool) -> io::Result<Parsed<Response<()>>> {
    let mut storage = storage();
    let head = match parse_response(text, &mut storage) {
        Ok(Some(head)) => head,
        _ => return Err(not_whole()),
    };
    let facts = head.facts(to_head).map_err(unfit)?;
    let mut response = Response::new(());
    *response.version_mut() = Version::HTTP_2;
    *response.status_mut() = StatusCode::from_u16(head.status).map_err(unfit)?;
    read_fields(&head.fields, facts.hop, response.headers_mut())?;
    Ok(Parsed {
        head: response,
        length: head.length,
        body: facts.body,
    })
}

/// Reads the trailers behind the last chunk, with their empty line.
pub(super) fn read_trailers(text: &[u8]) -> io::Result<HeaderMap> {
    let mut list = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    let mut trailers = HeaderMap::new();
    let parsed = httparse::parse_headers(text, &mut list).map_err(unfit)?;
    let httparse::Status::Complete((_, fields)) = parsed else {
        return Err(not_whole());
    };
    for field in fields {
        append(&mut trailers, field.name, field.value)?;
    }
    Ok(trailers)
}

/// More trailers than this are refused, in answers and in requests.
const TRAILERS_MAX: usize = 64;

fn read_fields(fields: &Fields<'_, '_>, without: FieldSet, into: &mut HeaderMap) -> io::Result<()> {
    into.reserve(fields.len());
    for (at, (name, value)) in fields.iter().enumerate() {
        if without & (1 << at) == 0 {
            append(into, name, value)?;
        }
    }
    Ok(())
}

fn append(into: &mut HeaderMap, name: &str, value: &[u8]) -> io::Result<()> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(unfit)?;
    let value = HeaderValue::from_bytes(value).map_err(unfit)?;
    into.append(name, value);
    Ok(())
}

fn not_whole() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a head that is not whole")
}

fn unfit<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
