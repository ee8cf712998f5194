//! The answer on its way to the client.

use std::io::Write as _;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atoll_base::Timestamp;

use crate::admit::{Compress, Plan};
use crate::answer::http_date;
use crate::buffer::Buffers;
use crate::cache::{Fetch, Tee, seconds};
use crate::compress::{self, Coding, Encoder};
use crate::http::field::{FieldSet, storage};
use crate::http::response::{BadHead, ResponseFacts, ResponseHead};
use crate::http::{BadChunk, Body, response};
use crate::limits::{
    BUFFER_BYTES, HEAD_BYTES_MAX, HOLD_BYTES_MAX, RESPONSE_IDLE, STOPPING_IDLE, UPGRADED_IDLE,
};
use crate::policy::{self, Cors};
use crate::span::{ErrorKind, Side};
use crate::wire::Wire;

/// How far an answer has come.
#[derive(Debug, Default)]
pub(super) struct Download {
    head: Option<Head>,
    /// Bytes at the front of the service's input that are checked and not written.
    ready: usize,
    /// Where the final answer starts in the client's output: interim answers stand before it.
    begins: usize,
    /// The answer is collected and not yet passed on.
    held: bool,
    /// Part of it may have been written.
    begun: bool,
    interims: u8,
    /// The client was told to go on with its body.
    continued: bool,
    /// What the cache may get of it.
    pub(super) fetch: Option<Box<Fetch>>,
    /// What the cache gets of it.
    tee: Option<Tee>,
    /// The head that says that what is kept still holds.
    validation: Option<Vec<u8>>,
    /// Lines that the answer gets beside those of the plan.
    pub(super) lines: Vec<u8>,
}

/// What is known once the head was there.
#[derive(Debug)]
struct Head {
    status: u16,
    /// What of the body has not been looked at.
    body: Body,
    form: Form,
    upgrade: bool,
    event_stream: bool,
    asks_to_wait: bool,
    leaves_connection_open: bool,
    closes_client: bool,
}

/// How the body is written for the client.
#[derive(Debug)]
enum Form {
    /// As it comes.
    Same,
    /// It comes until the close; the client gets chunks.
    IntoChunks,
    /// It comes in chunks; the client gets bytes until the close.
    OutOfChunks,
    /// The client gets it compressed, in chunks. None once it has ended.
    Compressed(Option<Encoder>),
}

/// A service that sends more interim answers than this is talking nonsense.
const INTERIMS_MAX: u8 = 16;

impl Download {
    /// One that the cache may have a part in.
    pub(super) fn fetching(fetch: Option<Box<Fetch>>) -> Self {
        Self {
            fetch,
            ..Self::default()
        }
    }

    /// Begins anew with another connection; interim answers that wait stay.
    pub(super) fn restart(&mut self, client: &mut Wire) {
        if self.head.take().is_some() {
            client.output.truncate(self.begins);
        }
        self.ready = 0;
        self.held = false;
        self.tee = None;
        self.validation = None;
        self.lines.clear();
    }

    /// Whether it says that what is kept still holds.
    pub(super) fn validates(&self) -> bool {
        self.validation.is_some()
    }

    /// The head that says so.
    pub(super) fn take_validation(&mut self) -> Option<Vec<u8>> {
        self.validation.take()
    }

    /// Whether all of it was read.
    pub(super) fn is_whole(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.body.is_done()) && self.ready == 0
    }

    pub(super) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Whether part of it may have reached the client.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn status(&self) -> u16 {
        self.head.as_ref().map_or(0, |head| head.status)
    }

    pub(super) fn is_upgrade(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.upgrade)
    }

    /// Whether the service's connection can be used again.
    pub(super) fn leaves_connection_open(&self) -> bool {
        self.head
            .as_ref()
            .is_some_and(|head| head.leaves_connection_open)
    }

    /// Whether the client was told that its connection ends.
    pub(super) fn closes_client(&self) -> bool {
        self.head.as_ref().is_none_or(|head| head.closes_client)
    }

    /// Whether the client takes the close of the connection for the end of the answer.
    pub(super) fn ends_with_the_connection(&self) -> bool {
        self.head.as_ref().is_some_and(|head| match head.form {
            Form::Same => head.body == Body::UntilClose,
            Form::OutOfChunks => true,
            Form::IntoChunks | Form::Compressed(_) => false,
        })
    }

    /// Whether it has no end of its own.
    pub(super) fn is_endless(&self) -> bool {
        self.is_event_stream() || self.is_upgrade()
    }

    /// Whether the service said when to come back.
    pub(super) fn asks_to_wait(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.asks_to_wait)
    }

    /// Whether it is a stream of events.
    pub(super) fn is_event_stream(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.event_stream)
    }

    /// How long the service may pause within it; `timeout` is that of the route.
    pub(super) fn pause_max(&self, timeout: Duration, stopping: bool) -> Duration {
        match (self.is_event_stream(), stopping) {
            (true, true) => STOPPING_IDLE,
            (true, false) => UPGRADED_IDLE,
            (false, _) => RESPONSE_IDLE.max(timeout),
        }
    }

    /// Whether there is something that the client has not taken.
    pub(super) fn waits_for(&self, client: &Wire) -> bool {
        self.ready > 0 || client.has_output()
    }

    /// Whether the client was told to send its body.
    pub(super) fn has_continued(&self) -> bool {
        self.continued
    }

    /// Tells the client to send its body, in place of the service. False if it was told.
    pub(super) fn offer_continue(&mut self, client: &mut Wire) -> bool {
        if self.continued {
            return false;
        }
        self.continued = true;
        client
            .output
            .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        true
    }

    /// Parses the head, if it is complete, and writes the one for the client.
    pub(super) fn take_head(
        &mut self,
        upstream: &mut Wire,
        client: &mut Wire,
        plan: &Plan,
        close: bool,
    ) -> Result<(), BadHead> {
        loop {
            let mut storage = storage();
            let Some(head) = response::parse(upstream.input.bytes(), &mut storage)? else {
                break;
            };
            let facts = head.facts(plan.to_head)?;
            let length = head.length;
            let interim = head.status < 200 && head.status != 101;
            if interim {
                self.interim(&head, &facts, client, plan)?;
            } else {
                self.begins = client.output.len();
                self.tell_cache(&head, &facts, plan);
                let out = &mut client.output;
                self.head = Some(Head::decide(&head, facts, plan, close, &self.lines, out)?);
            }
            upstream.input.consume(length);
            if !interim {
                self.hold();
                self.keep_whole();
                return Ok(());
            }
        }
        if upstream.input.room().is_empty() {
            upstream.input.grow(HEAD_BYTES_MAX + BUFFER_BYTES);
        }
        Ok(())
    }

    /// What the head means to the cache.
    fn tell_cache(&mut self, head: &ResponseHead<'_, '_>, facts: &ResponseFacts, plan: &Plan) {
        if let Some(caching) = &plan.caching
            && let Some(key) = &caching.invalidates
            && (200..400).contains(&head.status)
        {
            caching.cache.invalidate(key);
            for name in ["location", "content-location"] {
                let target = head.fields.get(name).unwrap_or_default();
                if let Some(other) = key.sibling(target) {
                    caching.cache.invalidate(&other);
                }
            }
        }
        let Some(fetch) = &mut self.fetch else {
            return;
        };
        if head.status == 304 && fetch.stale.is_some() {
            self.validation = Some(head.fields.head().to_vec());
            return;
        }
        let now = seconds(Timestamp::now());
        self.tee = fetch.begin(head, &facts.body, now);
        fetch
            .why
            .write(head.status, self.tee.is_some(), &mut self.lines);
    }

    /// The answer is passed on. If it says that the service failed, there is nothing to keep.
    pub(super) fn settle_with_cache(&mut self) {
        let status = self.status();
        if let (500.., None, Some(fetch)) = (status, &self.tee, &mut self.fetch) {
            fetch.give_up(status, seconds(Timestamp::now()));
        }
    }

    /// Copies bytes of the body for the cache.
    fn copy(&mut self, bytes: &[u8]) {
        let (Some(tee), Some(fetch)) = (&mut self.tee, &mut self.fetch) else {
            return;
        };
        // What breaks the rules of framing is found by who passes it on.
        if !matches!(tee.copy(bytes, fetch.policy.config.max_entry.0), Ok(true)) {
            fetch.give_up(
                self.head.as_ref().map_or(0, |head| head.status),
                seconds(Timestamp::now()),
            );
            self.tee = None;
        }
    }

    /// Gives the cache what was copied, if that is all.
    fn keep_whole(&mut self) {
        let whole = self.head.as_ref().is_some_and(|head| head.body.is_done());
        if whole && let (Some(tee), Some(fetch)) = (self.tee.take_if(|_| whole), &mut self.fetch) {
            fetch.keep(tee);
        }
    }

    /// A small body of known length is waited for.
    fn hold(&mut self) {
        self.held = match &self.head {
            Some(Head {
                body: Body::Length(length),
                ..
            }) => *length > 0 && *length <= HOLD_BYTES_MAX as u64,
            _ => false,
        };
    }

    fn interim(
        &mut self,
        head: &ResponseHead<'_, '_>,
        facts: &ResponseFacts,
        client: &mut Wire,
        plan: &Plan,
    ) -> Result<(), BadHead> {
        self.interims += 1;
        if self.interims > INTERIMS_MAX {
            return Err(BadHead);
        }
        let wanted = match head.status {
            100 => plan.expects_continue && !std::mem::replace(&mut self.continued, true),
            _ => plan.modern_client,
        };
        if wanted {
            write_head(head, facts.hop | facts.length, &mut client.output);
            client.output.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Checks what of the body has arrived. What comes with the head is written with it.
    pub(super) fn digest(
        &mut self,
        upstream: &mut Wire,
        client: &mut Wire,
    ) -> Result<(), BadChunk> {
        if self.tee.is_some() {
            self.copy(upstream.input.bytes());
        }
        let Some(head) = &mut self.head else {
            return Ok(());
        };
        let bytes = upstream.input.bytes();
        if head.upgrade || head.body.is_done() || bytes.is_empty() {
            return Ok(());
        }
        match &mut head.form {
            Form::Same => {
                let length = head.body.advance(bytes)?;
                if client.has_output() {
                    client
                        .output
                        .extend_from_slice(bytes.get(..length).unwrap_or(bytes));
                    upstream.input.consume(length);
                } else {
                    self.ready = length;
                }
                self.held &= !head.body.is_done();
            }
            Form::IntoChunks => {
                // Writing to memory does not fail.
                let _ = write!(client.output, "{:x}\r\n", bytes.len());
                client.output.extend_from_slice(bytes);
                client.output.extend_from_slice(b"\r\n");
                let length = bytes.len();
                upstream.input.consume(length);
            }
            Form::OutOfChunks => {
                let length = head.body.unwrap(bytes, &mut client.output)?;
                upstream.input.consume(length);
            }
            Form::Compressed(encoder) => {
                let mut plain = Vec::new();
                let length = head.body.unwrap(bytes, &mut plain)?;
                let ended = head.body.is_done();
                compress(encoder, &plain, ended, &mut client.output)?;
                upstream.input.consume(length);
                self.held &= !ended;
            }
        }
        if self.tee.is_some() {
            self.keep_whole();
        }
        Ok(())
    }

    /// Passes on what can be passed on now. Ready when the client has all of it.
    pub(super) fn poll(
        &mut self,
        upstream: &mut Wire,
        client: &mut Wire,
        cx: &mut Context<'_>,
        spare: &Buffers,
        moved: &mut bool,
    ) -> Poll<Result<(), ErrorKind>> {
        self.begun = true;
        loop {
            if client.has_output() {
                ready!(client.poll_flush(cx)).map_err(|_| ErrorKind::ClientGone)?;
                *moved = true;
            }
            if self.ready > 0 {
                let written = ready!(client.poll_relay(cx, &mut upstream.input, self.ready));
                self.ready -= written.map_err(|_| ErrorKind::ClientGone)?;
                *moved = true;
                continue;
            }
            if self
                .head
                .as_ref()
                .is_none_or(|head| head.upgrade || head.body.is_done())
            {
                return Poll::Ready(Ok(()));
            }
            if upstream.input.is_empty() {
                let length = match ready!(upstream.poll_fill(cx, spare)) {
                    Ok(length) => length,
                    Err(_) => return Poll::Ready(Err(ErrorKind::AnswerCut)),
                };
                *moved = true;
                if length == 0 {
                    self.end(client)?;
                    continue;
                }
            }
            self.digest(upstream, client)
                .map_err(|_| ErrorKind::AnswerCut)?;
        }
    }

    /// The service closed its connection.
    fn end(&mut self, client: &mut Wire) -> Result<(), ErrorKind> {
        match &mut self.head {
            Some(head) if head.body == Body::UntilClose => {
                head.body = Body::NONE;
                match &mut head.form {
                    Form::IntoChunks => client.output.extend_from_slice(b"0\r\n\r\n"),
                    Form::Compressed(encoder) => {
                        let ended = compress(encoder, b"", true, &mut client.output);
                        ended.map_err(|_| ErrorKind::AnswerCut)?;
                    }
                    Form::Same | Form::OutOfChunks => {}
                }
                Ok(())
            }
            _ => Err(ErrorKind::AnswerCut),
        }
    }
}

impl Head {
    /// Decides how the answer is passed on and writes its head.
    fn decide(
        head: &ResponseHead<'_, '_>,
        facts: ResponseFacts,
        plan: &Plan,
        close: bool,
        lines: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Self, BadHead> {
        let upgrade = head.status == 101;
        if upgrade && !plan.upgrade {
            return Err(BadHead);
        }
        let compressible = is_compressible(head, &facts, plan);
        let coding = match plan.compress {
            Compress::With(coding) if compressible => Some(coding),
            _ => None,
        };
        let form = match (&facts.body, plan.modern_client, coding) {
            (_, _, Some(coding)) => Form::Compressed(Some(coding.encoder().map_err(|_| BadHead)?)),
            (Body::UntilClose, true, _) => Form::IntoChunks,
            (Body::Chunked(_), false, _) => Form::OutOfChunks,
            _ => Form::Same,
        };
        let until_close = !plan.modern_client && !matches!(facts.body, Body::Length(_));
        let closes_client = close || until_close;
        let mut without: FieldSet = facts.hop;
        if matches!(head.status, 101 | 204) {
            without |= facts.length;
        }
        let etag = coding.and_then(|_| head.fields.get("etag"));
        if coding.is_some() {
            without |= facts.length
                | head
                    .fields
                    .named_any(&CHANGED_BY_COMPRESSION.map(Into::into));
        }
        if plan.side == Side::Edge {
            without |= facts.trace_id;
        }
        write_fields(head, without, plan, out);
        out.extend_from_slice(lines);
        if !facts.dated && head.status >= 200 {
            // Whoever has a clock and passes an answer on says when (RFC 9110, 6.6.1).
            let date = http_date(Timestamp::now());
            out.extend_from_slice(format!("Date: {date}\r\n").as_bytes());
        }
        if compressible {
            out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
        }
        if let Some(coding) = coding {
            write_coding(coding, etag, out);
        }
        let of_unknown_length = !matches!(facts.body, Body::Length(_)) || coding.is_some();
        if plan.modern_client && of_unknown_length {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if upgrade {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        } else if closes_client {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if !plan.modern_client {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Ok(Self {
            status: head.status,
            body: facts.body,
            form,
            upgrade,
            event_stream: facts.event_stream,
            asks_to_wait: head.status >= 500 && head.fields.get("retry-after").is_some(),
            leaves_connection_open: !facts.close && !upgrade,
            closes_client,
        })
    }
}

/// Fields that are wrong about a body once it is compressed.
const CHANGED_BY_COMPRESSION: [&str; 4] = ["accept-ranges", "content-md5", "digest", "etag"];

/// Whether an answer would be compressed for a client that takes it.
fn is_compressible(head: &ResponseHead<'_, '_>, facts: &ResponseFacts, plan: &Plan) -> bool {
    if plan.compress == Compress::Never || !plan.modern_client || facts.event_stream {
        return false;
    }
    let large = match facts.body {
        Body::Length(length) => length >= compress::BYTES_MIN,
        Body::Chunked(_) | Body::UntilClose => true,
    };
    if !large || !(200..300).contains(&head.status) || head.status == 206 {
        return false;
    }
    let fields = &head.fields;
    let forbidden = fields.get("cache-control").is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        memchr::memmem::find(&value, b"no-transform").is_some()
    });
    !forbidden
        && fields.get("content-encoding").is_none()
        && fields
            .get("content-type")
            .is_some_and(compress::is_worth_it)
}

/// Compresses part of a body and writes it as a chunk, and the last chunk at its end.
fn compress(
    encoder: &mut Option<Encoder>,
    payload: &[u8],
    ended: bool,
    out: &mut Vec<u8>,
) -> Result<(), BadChunk> {
    // It fails only for want of memory.
    let mut chunk = |bytes: Vec<u8>| {
        if !bytes.is_empty() {
            // Writing to memory does not fail.
            let _ = write!(out, "{:x}\r\n", bytes.len());
            out.extend_from_slice(&bytes);
            out.extend_from_slice(b"\r\n");
        }
    };
    if let Some(encoder) = encoder
        && !payload.is_empty()
    {
        chunk(encoder.add(payload).map_err(|_| BadChunk::End)?);
    }
    if ended && let Some(encoder) = encoder.take() {
        chunk(encoder.finish().map_err(|_| BadChunk::End)?);
        out.extend_from_slice(b"0\r\n\r\n");
    }
    Ok(())
}

/// Writes the first line, the fields that pass and those that the proxy adds, but for the framing.
fn write_fields(
    head: &ResponseHead<'_, '_>,
    mut without: FieldSet,
    plan: &Plan,
    out: &mut Vec<u8>,
) {
    let begin = out.len();
    let policy = plan.policy.as_deref();
    if let Some(policy) = policy {
        without |= policy.response.without(&head.fields);
        if policy.cors.is_some() {
            without |= Cors::without(&head.fields);
        }
    }
    write_head(head, without, out);
    if let Some(policy) = policy {
        policy.response.write(&head.fields, without, out);
    }
    out.extend_from_slice(&plan.marks);
    if let Some(hsts) = &plan.hsts {
        out.extend_from_slice(hsts);
    }
    if plan.careful {
        policy::add_careful(out, begin);
    }
    if plan.side == Side::Edge {
        out.extend_from_slice(b"X-Trace-Id: ");
        out.extend_from_slice(&plan.trace.trace.to_hex());
        out.extend_from_slice(b"\r\n");
    }
}

/// Says that a body is compressed.
fn write_coding(coding: Coding, etag: Option<&[u8]>, out: &mut Vec<u8>) {
    for part in [b"Content-Encoding: ", coding.name().as_bytes(), b"\r\n"] {
        out.extend_from_slice(part);
    }
    if let Some(etag) = etag {
        // The bytes are others now; what they mean is the same (RFC 9110, 8.8.1).
        let weak: &[u8] = if etag.starts_with(b"W/") { b"" } else { b"W/" };
        for part in [b"ETag: ", weak, etag, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// Writes the first line and the fields that pass.
fn write_head(head: &ResponseHead<'_, '_>, without: FieldSet, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.line);
    out.extend_from_slice(b"\r\n");
    head.fields.copy(without, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_judged_by_the_kind_of_the_answer() {
        let (short, long) = (Duration::from_secs(5), Duration::from_secs(600));
        let mut download = Download::default();
        assert_eq!(download.pause_max(short, false), RESPONSE_IDLE);
        assert_eq!(
            download.pause_max(long, true),
            long,
            "the route asks for more"
        );
        download.head = Some(Head {
            status: 200,
            body: Body::UntilClose,
            form: Form::Same,
            upgrade: false,
            event_stream: true,
            asks_to_wait: false,
            leaves_connection_open: false,
            closes_client: false,
        });
        assert_eq!(download.pause_max(short, false), UPGRADED_IDLE);
        assert_eq!(download.pause_max(short, true), STOPPING_IDLE);
    }
}
