//! One request of a client's HTTP/2 connection, in the shape of a connection.
//!
//! Reading gives the request as text, then waits for as long as the client does. Writing takes the
//! answer as text; heads come whole, as the pipeline writes them. After the answer, reading gives
//! the end.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request};
use tokio::io::ReadBuf;

use super::body::{Incoming, Outgoing, failed};
use super::text;

/// One request of a client.
#[derive(Debug)]
pub(crate) struct Stream {
    incoming: Incoming,
    answer: Answer,
    to_head: bool,
}

#[derive(Debug)]
enum Answer {
    /// Its head was not sent.
    Owed(SendResponse<Bytes>),
    Begun(Outgoing),
}

impl Stream {
    /// Takes a request over; none if it cannot be expressed. It is then refused.
    pub(crate) fn new(
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        mut head: Vec<u8>,
    ) -> Option<Self> {
        let (parts, frames) = request.into_parts();
        head.clear();
        let Some(framing) = text::write_request(&parts, frames.is_end_stream(), &mut head) else {
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return None;
        };
        Some(Self {
            incoming: Incoming::new(head, frames, framing),
            answer: Answer::Owed(respond),
            to_head: parts.method == Method::HEAD,
        })
    }

    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if ready!(self.incoming.poll_readable(cx))? {
            return Poll::Ready(Ok(()));
        }
        // The request is over. What can still come is that the client wants no answer any more.
        match &mut self.answer {
            Answer::Begun(out) if out.has_ended() => Poll::Ready(Ok(())),
            Answer::Begun(out) => out.poll_reset(cx),
            Answer::Owed(respond) => respond.poll_reset(cx).map(|_| Ok(())),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_readable(cx))?;
        self.incoming.poll_read(cx, buffer)
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        text: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.answer {
            Answer::Owed(_) => Poll::Ready(self.send_head(text)),
            Answer::Begun(out) => out.poll_write(cx, text),
        }
    }

    fn send_head(&mut self, text: &[u8]) -> io::Result<usize> {
        let Answer::Owed(respond) = &mut self.answer else {
            return Ok(0);
        };
        let parsed = text::read_response(text, self.to_head)?;
        if parsed.head.status().is_informational() {
            respond.send_informational(parsed.head).map_err(failed)?;
            return Ok(parsed.length);
        }
        let ended = parsed.body.is_done();
        let frames = respond.send_response(parsed.head, ended).map_err(failed)?;
        self.answer = Answer::Begun(Outgoing::new(parsed.body, frames, ended));
        Ok(parsed.length)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        match &mut self.answer {
            Answer::Begun(out) if out.has_ended() => {}
            Answer::Begun(out) => out.reset(Reason::INTERNAL_ERROR),
            Answer::Owed(respond) => respond.send_reset(Reason::CANCEL),
        }
    }
}
