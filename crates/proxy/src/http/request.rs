//! The head of a request: parsed, refused if two readers could differ about it, and its facts for
//! the proxy collected in one pass.

use httparse::Status;

use super::field::{FieldSet, Fields, Framing, Name, Storage, classify, tokens};
use super::{Body, ChunkDecoder, Refusal, Version};
use crate::limits::{EMPTY_LINES_MAX, HEAD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};

/// The head of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'h, 'b> {
    /// The method, a token.
    pub method: &'b str,
    /// The request target as it came; see [`crate::path::parse`].
    pub target: &'b str,
    /// The version.
    pub version: Version,
    /// The header fields.
    pub fields: Fields<'h, 'b>,
    /// Its length in bytes, from the start of the input.
    pub length: usize,
}

/// What a proxy must know about a request.
#[derive(Debug)]
pub struct RequestFacts<'b> {
    /// The host, checked; none only in HTTP/1.0.
    pub host: Option<&'b [u8]>,
    /// How long the body is.
    pub body: Body,
    /// The client wants the connection to end after the answer.
    pub close: bool,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
    /// The client understands trailers.
    pub takes_trailers: bool,
    /// The client wants to go on with WebSocket.
    pub upgrade: bool,
    /// Its content is that of gRPC.
    pub grpc: bool,
    /// `traceparent`, if there is exactly one.
    pub traceparent: Option<&'b [u8]>,
    /// It has an `Idempotency-Key`.
    pub idempotency_key: bool,
    /// `grpc-timeout`.
    pub grpc_timeout: Option<&'b [u8]>,
    /// Fields that are never passed on.
    pub hop: FieldSet,
    /// `Atoll-*`.
    pub own: FieldSet,
    /// `grpc-timeout`.
    pub grpc_timeout_set: FieldSet,
    /// Fields that a service could take for one that frames the message or that the edge sets:
    /// their names have `_` for `-`.
    pub aliases: FieldSet,
    /// `Host`.
    pub host_set: FieldSet,
    /// `Forwarded`, `X-Forwarded-*`.
    pub forwarded: FieldSet,
    /// `traceparent`.
    pub traceparent_set: FieldSet,
    /// `tracestate`.
    pub tracestate: FieldSet,
}

/// Parses the head at the start of `input`; none if it is not complete yet.
pub fn parse<'h, 'b>(
    input: &'b [u8],
    storage: &'h mut Storage<'b>,
) -> Result<Option<RequestHead<'h, 'b>>, Refusal> {
    // Some clients send an empty line after a body (RFC 9112, 2.2).
    let mut skipped = 0;
    while input[skipped..].starts_with(b"\r\n") {
        skipped += 2;
        if skipped > 2 * EMPTY_LINES_MAX {
            return Err(Refusal::bad("there is no request, only empty lines"));
        }
    }
    let rest = &input[skipped..];
    let mut request = httparse::Request::new(&mut []);
    let status = request
        .parse_with_uninit_headers(rest, storage)
        .map_err(|error| refusal(error, rest))?;
    let Status::Complete(length) = status else {
        return incomplete(rest).map(|()| None);
    };
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(MALFORMED);
    };
    if method.len() + target.len() + " HTTP/1.1 \r\n".len() > REQUEST_LINE_BYTES_MAX {
        return Err(LINE_TOO_LONG);
    }
    if length > HEAD_BYTES_MAX {
        return Err(HEAD_TOO_LARGE);
    }
    let fields = Fields::new(&rest[..length], request.headers).ok_or(MALFORMED)?;
    // Without fields, the first line's end is not among those that were checked.
    if rest.first() == Some(&b'\n') || (fields.is_empty() && line_end(rest) != Some(length - 4)) {
        return Err(MALFORMED);
    }
    Ok(Some(RequestHead {
        method,
        target,
        version: if version == 0 {
            Version::Http10
        } else {
            Version::Http11
        },
        fields,
        length: skipped + length,
    }))
}

const MALFORMED: Refusal = Refusal::bad("the head of the request is malformed");
const LINE_TOO_LONG: Refusal = Refusal::new(414, "the request line is longer than 8 KiB");
const HEAD_TOO_LARGE: Refusal = Refusal::new(431, "the head of the request is larger than 32 KiB");

fn refusal(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => {
            Refusal::new(431, "the request has more than 100 header fields")
        }
        httparse::Error::Version if names_version(head) => {
            Refusal::new(505, "only HTTP/1.1 and HTTP/1.0 are understood")
        }
        _ => MALFORMED,
    }
}

/// Whether the first line has three parts, of which the last is some version of HTTP.
fn names_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    parts.next().is_some_and(|part| part.starts_with(b"HTTP/")) && parts.next().is_none()
}

fn incomplete(rest: &[u8]) -> Result<(), Refusal> {
    if rest.len() >= REQUEST_LINE_BYTES_MAX
        && memchr::memchr(b'\n', &rest[..REQUEST_LINE_BYTES_MAX]).is_none()
    {
        return Err(LINE_TOO_LONG);
    }
    if rest.len() >= HEAD_BYTES_MAX {
        return Err(HEAD_TOO_LARGE);
    }
    Ok(())
}

fn line_end(rest: &[u8]) -> Option<usize> {
    memchr::memchr(b'\r', rest)
}

impl<'b> RequestHead<'_, 'b> {
    /// Collects what a proxy must know, or says why the request is refused.
    pub fn facts(&self) -> Result<RequestFacts<'b>, Refusal> {
        let mut facts = RequestFacts::none();
        let mut framing = Framing::default();
        let mut connection = Connection::default();
        let (mut traceparents, mut upgrade) = (0, None);
        for (at, (name, value)) in self.fields.iter().enumerate() {
            let bit: FieldSet = 1 << at;
            match classify(name) {
                Name::Other | Name::TraceId => {}
                Name::ContentType => facts.grpc = is_grpc(value),
                Name::Alias => facts.aliases |= bit,
                Name::Own => facts.own |= bit,
                Name::IdempotencyKey => facts.idempotency_key = true,
                Name::GrpcTimeout => {
                    facts.grpc_timeout = Some(value);
                    facts.grpc_timeout_set |= bit;
                }
                Name::Host if facts.host.is_some() => {
                    return Err(Refusal::bad("the request names several hosts"));
                }
                Name::Host => {
                    facts.host = Some(check_host(value)?);
                    facts.host_set = bit;
                }
                Name::Connection => {
                    facts.hop |= bit;
                    connection.read(bit, value);
                }
                Name::ContentLength => framing.content_length(at, value)?,
                Name::TransferEncoding => {
                    facts.hop |= bit;
                    framing.transfer_encoding(value)?;
                }
                Name::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                    facts.expects_continue = self.version == Version::Http11;
                }
                Name::Expect => {
                    return Err(Refusal::new(
                        417,
                        "only the expectation 100-continue is understood",
                    ));
                }
                Name::Forwarded => facts.forwarded |= bit,
                Name::Hop => facts.hop |= bit,
                Name::Te => {
                    facts.hop |= bit;
                    facts.takes_trailers |=
                        tokens(value).any(|t| t.eq_ignore_ascii_case(b"trailers"));
                }
                Name::Traceparent => {
                    traceparents += 1;
                    facts.traceparent = (traceparents == 1).then_some(value);
                    facts.traceparent_set |= bit;
                }
                Name::Tracestate => facts.tracestate |= bit,
                Name::Upgrade => {
                    facts.hop |= bit;
                    upgrade = Some(value);
                }
            }
        }
        self.finish(&mut facts, &framing, &connection, upgrade)?;
        Ok(facts)
    }

    fn finish(
        &self,
        facts: &mut RequestFacts<'b>,
        framing: &Framing,
        connection: &Connection,
        upgrade: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        framing.check()?;
        if connection.count > OPTIONS_MAX {
            return Err(Refusal::bad("Connection has more than 32 options"));
        }
        if self.version == Version::Http11 && facts.host.is_none() {
            return Err(Refusal::bad("the request names no host"));
        }
        if self.version == Version::Http10 && framing.chunked {
            return Err(Refusal::bad("HTTP/1.0 has no Transfer-Encoding"));
        }
        facts.close =
            connection.close || (self.version == Version::Http10 && !connection.keep_alive);
        facts.hop |= framing.repeated;
        if connection.names_others {
            facts.hop |= self.fields.named(connection.set);
        }
        facts.body = if framing.chunked {
            Body::Chunked(ChunkDecoder::new())
        } else {
            Body::Length(framing.length.unwrap_or(0))
        };
        // Other protocols (h2c above all) would carry requests past every check.
        let websocket = upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
        facts.upgrade = websocket
            && connection.upgrade
            && self.version == Version::Http11
            && self.method == "GET"
            && facts.body.is_done();
        Ok(())
    }
}

impl RequestFacts<'_> {
    fn none() -> Self {
        Self {
            host: None,
            body: Body::NONE,
            close: false,
            expects_continue: false,
            takes_trailers: false,
            upgrade: false,
            grpc: false,
            idempotency_key: false,
            grpc_timeout: None,
            own: 0,
            grpc_timeout_set: 0,
            traceparent: None,
            hop: 0,
            aliases: 0,
            host_set: 0,
            forwarded: 0,
            traceparent_set: 0,
            tracestate: 0,
        }
    }
}

/// `application/grpc`, with or without the name of an encoding.
fn is_grpc(value: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let (start, rest) = value.split_at(value.len().min(TYPE.len()));
    start.eq_ignore_ascii_case(TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// What the `Connection` fields of a message say.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// There are names of other fields.
    pub(super) names_others: bool,
    /// How many options there are.
    pub(super) count: u32,
    pub(super) set: FieldSet,
}

impl Connection {
    pub(super) fn read(&mut self, bit: FieldSet, value: &[u8]) {
        self.set |= bit;
        for token in tokens(value) {
            self.count = self.count.saturating_add(1);
            if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.names_others = true;
            }
        }
    }
}

/// A head with more options in `Connection` is looking for trouble: each is looked up among all fields.
pub(super) const OPTIONS_MAX: u32 = 32;

/// Checks `host` or `host:port`: a name, an IPv4 address, or an IPv6 address in brackets.
pub fn check_host(host: &[u8]) -> Result<&[u8], Refusal> {
    const BAD: Refusal = Refusal::bad("the host is malformed");
    let (name, port) = if let Some(inner) = host.strip_prefix(b"[") {
        let end = memchr::memchr(b']', inner).ok_or(BAD)?;
        let (address, rest) = (&inner[..end], &inner[end + 1..]);
        let fits = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        let text = std::str::from_utf8(address).unwrap_or_default();
        if !address.iter().all(fits) || text.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(BAD);
        }
        match rest {
            [] => (address, None),
            [b':', port @ ..] => (address, Some(port)),
            _ => return Err(BAD),
        }
    } else {
        let end = memchr::memchr(b':', host);
        let name = &host[..end.unwrap_or(host.len())];
        let fits =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if !name.iter().all(fits) {
            return Err(BAD);
        }
        (name, end.map(|end| &host[end + 1..]))
    };
    let port_fits = port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit));
    if name.is_empty() || name.len() > 255 || !port_fits {
        return Err(BAD);
    }
    Ok(host)
}
