//! Header fields: which ones mean something to a proxy, and copying the others in whole runs.

use std::mem::MaybeUninit;

use httparse::Header;

use super::Refusal;
use crate::limits::FIELDS_MAX;

/// Fields that `Connection` cannot take away.
const ESSENTIAL: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];

/// Room for the fields of a head; on the stack, not initialized.
pub type Storage<'b> = [MaybeUninit<Header<'b>>; FIELDS_MAX];

/// A fresh [`Storage`].
pub const fn storage<'b>() -> Storage<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// A set of fields of one head, by index.
pub type FieldSet = u128;

/// The fields of a head, in place.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'h, 'b> {
    /// The whole head, up to and including the empty line.
    head: &'b [u8],
    list: &'h [Header<'b>],
}

/// A field that the proxy cares about. An *alias* is the name of one with `_` for `-`: CGI, WSGI and
/// PHP give both the same variable, so that a service would take one for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// An alias of a field that frames the message or that the edge sets itself.
    Alias,
    Connection,
    ContentLength,
    ContentType,
    Expect,
    /// `Forwarded`, `X-Forwarded-*`, `X-Real-IP` and `Client-Cert`, `Client-Cert-Chain` (or any name
    /// as long that begins so).
    Forwarded,
    GrpcTimeout,
    Host,
    IdempotencyKey,
    /// `Atoll-*`, which only Atoll sets.
    Own,
    /// Hop by hop, and without meaning to us: `Keep-Alive`, `Proxy-*`.
    Hop,
    Te,
    Traceparent,
    Tracestate,
    TraceId,
    TransferEncoding,
    Upgrade,
    /// Passed on as it is.
    Other,
}

impl<'h, 'b> Fields<'h, 'b> {
    /// Takes the fields that `httparse` found in `head`, if every line ends as it must.
    pub(super) fn new(head: &'b [u8], list: &'h [Header<'b>]) -> Option<Self> {
        let fields = Self { head, list };
        // `httparse` takes a bare line feed for the end of a line. Two readers may differ on that,
        // so it is refused. A value has no line breaks, hence each line ends just before the next
        // name, or at the empty line.
        let lines_end = (0..list.len()).all(|at| {
            let start = fields.start(at);
            start >= 2 && head.get(start - 2..start) == Some(b"\r\n")
        });
        (lines_end && head.ends_with(b"\r\n\r\n")).then_some(fields)
    }

    /// The whole head that they are of.
    pub fn head(&self) -> &'b [u8] {
        self.head
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.list.iter().map(|field| (field.name, field.value))
    }

    /// The value of the first field of a name.
    pub fn get(&self, name: &str) -> Option<&'b [u8]> {
        let mut fields = self.iter();
        fields
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The fields that have one of these names.
    pub fn named_any(&self, names: &[Box<str>]) -> FieldSet {
        self.select(|own| names.iter().any(|name| own.eq_ignore_ascii_case(name)))
    }

    /// The fields whose names start with this, which is in lower case.
    pub fn starting_with(&self, start: &str) -> FieldSet {
        self.select(|own| {
            let own = own.as_bytes().get(..start.len());
            own.is_some_and(|own| own.eq_ignore_ascii_case(start.as_bytes()))
        })
    }

    fn select(&self, wanted: impl Fn(&str) -> bool) -> FieldSet {
        let mut set = 0;
        for (at, (name, _)) in self.iter().enumerate() {
            if wanted(name) {
                set |= 1 << at;
            }
        }
        set
    }

    /// Copies the lines of all fields but those in `without`.
    pub fn copy(&self, without: FieldSet, out: &mut Vec<u8>) {
        let mut at = 0;
        while at < self.list.len() {
            let skipped = (without >> at).trailing_ones() as usize;
            let from = (at + skipped).min(self.list.len());
            let taken = if without >> from == 0 {
                self.list.len() - from
            } else {
                (without >> from).trailing_zeros() as usize
            };
            let to = (from + taken).min(self.list.len());
            if from < to {
                out.extend_from_slice(&self.head[self.start(from)..self.start(to)]);
            }
            at = to.max(from);
        }
    }

    /// The fields that `Connection` names besides its own options. Fields that frame or address the
    /// message are never among them, whatever it says: without its Content-Length, a body would be
    /// read as the next request (RFC 9110, section 7.6.1, forbids to name such fields).
    pub(super) fn named(&self, connection: FieldSet) -> FieldSet {
        let mut set = 0;
        for (at, (_, value)) in self.iter().enumerate() {
            if connection & (1 << at) == 0 {
                continue;
            }
            for token in tokens(value) {
                for (other, (name, _)) in self.iter().enumerate() {
                    let essential = ESSENTIAL.iter().any(|e| token.eq_ignore_ascii_case(e));
                    if !essential && name.as_bytes().eq_ignore_ascii_case(token) {
                        set |= 1 << other;
                    }
                }
            }
        }
        set
    }

    /// Where the line of a field begins; for the index behind the last one, where they all end.
    fn start(&self, at: usize) -> usize {
        match self.list.get(at) {
            Some(field) => field.name.as_ptr().addr() - self.head.as_ptr().addr(),
            None => self.head.len() - 2,
        }
    }
}

/// Finds out which field a name means. Length and first letter rule out nearly all at once.
pub(super) fn classify(name: &str) -> Name {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let name = name.as_bytes();
    // The same, or an alias of it.
    let meant = |other: &str, as_name: Name| {
        let start = &name[..other.len()];
        if start.eq_ignore_ascii_case(other.as_bytes()) {
            return Some(as_name);
        }
        let mut pairs = start.iter().zip(other.as_bytes());
        let alias = pairs.all(|(a, b)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-'));
        alias.then_some(Name::Alias)
    };
    let Some(first) = name.first() else {
        return Name::Other;
    };
    let found = match (first | 0x20, name.len()) {
        (b'a', 6..) => meant("atoll-", Name::Own),
        (b'c', 14) => meant("content-length", Name::ContentLength),
        (b'k', 10) => meant("keep-alive", Name::Hop),
        (b'p', 6..) => meant("proxy-", Name::Hop),
        (b't', 17) => meant("transfer-encoding", Name::TransferEncoding),
        (b'c', 11 | 17) => meant("client-cert", Name::Forwarded),
        (b'x', 9) => meant("x-real-ip", Name::Forwarded),
        (b'x', 12..) => meant("x-forwarded-", Name::Forwarded),
        _ => None,
    };
    if let Some(found) = found {
        return found;
    }
    match (first | 0x20, name.len()) {
        (b'c', 10) if is("connection") => Name::Connection,
        (b'c', 12) if is("content-type") => Name::ContentType,
        (b'e', 6) if is("expect") => Name::Expect,
        (b'g', 12) if is("grpc-timeout") => Name::GrpcTimeout,
        (b'i', 15) if is("idempotency-key") => Name::IdempotencyKey,
        (b'f', 9) if is("forwarded") => Name::Forwarded,
        (b'h', 4) if is("host") => Name::Host,
        (b't', 2) if is("te") => Name::Te,
        (b't', 10) if is("tracestate") => Name::Tracestate,
        (b't', 11) if is("traceparent") => Name::Traceparent,
        (b'u', 7) if is("upgrade") => Name::Upgrade,
        (b'x', 10) if is("x-trace-id") => Name::TraceId,
        _ => Name::Other,
    }
}

/// The elements of a comma-separated list, without the space around them.
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Collects the fields that say how long the body is, as they come by.
#[derive(Debug, Default)]
pub(super) struct Framing {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    /// Repetitions of the length, which are passed on once.
    pub(super) repeated: FieldSet,
}

impl Framing {
    pub(super) fn content_length(&mut self, at: usize, value: &[u8]) -> Result<(), Refusal> {
        let length = decimal(value).ok_or(Refusal::bad("Content-Length is not a number"))?;
        match self.length {
            None => self.length = Some(length),
            Some(first) if first == length => self.repeated |= 1 << at,
            Some(_) => return Err(Refusal::bad("the request has several lengths")),
        }
        Ok(())
    }

    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::bad("Transfer-Encoding is given twice"));
        }
        let last = tokens(value).last().unwrap_or_default();
        if !last.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::bad("the last transfer coding is not chunked"));
        }
        if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::new(
                501,
                "only the transfer coding chunked is understood",
            ));
        }
        self.chunked = true;
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.chunked && self.length.is_some() {
            return Err(Refusal::bad(
                "Content-Length and Transfer-Encoding exclude each other",
            ));
        }
        Ok(())
    }
}

/// Digits only, as many as fit.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        value
            .iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')),
    )
}
