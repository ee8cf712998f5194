//! One request to a service that speaks HTTP/2, in the shape of a connection to it.
//!
//! Writing takes the request as text; its head comes whole, as the pipeline writes it. Reading
//! gives the answer as text, then the end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use tokio::io::ReadBuf;

use super::body::{Incoming, Outgoing, failed};
use super::link::InUse;
use super::text;

/// One request to a service.
#[derive(Debug)]
pub(crate) struct Call {
    request: Out,
    answer: In,
    to_head: bool,
    _in_use: InUse,
}

#[derive(Debug)]
enum Out {
    /// Its head was not sent.
    Owed(SendRequest<Bytes>),
    Begun(Outgoing),
}

#[derive(Debug)]
enum In {
    /// There is no request yet.
    Nothing,
    /// An answer is due; interim ones come before it, as text.
    Due(ResponseFuture, Vec<u8>),
    Begun(Incoming),
    /// The request cannot be said in HTTP/2: there will be no answer.
    Never,
}

impl Call {
    /// A request on `link`, which has room for it.
    pub(super) fn new(link: SendRequest<Bytes>, in_use: InUse) -> Self {
        Self {
            request: Out::Owed(link),
            answer: In::Nothing,
            to_head: false,
            _in_use: in_use,
        }
    }

    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.poll_answer(cx))? {
            Some(incoming) => incoming.poll_readable(cx).map_ok(|_| ()),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(incoming) = ready!(self.poll_answer(cx))? {
            return incoming.poll_read(cx, buffer);
        }
        if let In::Due(_, interim) = &mut self.answer {
            let length = interim.len().min(buffer.remaining());
            buffer.put_slice(&interim[..length]);
            interim.drain(..length);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready with the final answer, or with none while there is an interim one to read.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<&mut Incoming>>> {
        if let In::Due(answer, interim) = &mut self.answer {
            if !interim.is_empty() {
                return Poll::Ready(Ok(None));
            }
            if let Poll::Ready(Some(found)) = answer.poll_informational(cx) {
                let (parts, ()) = found.map_err(failed)?.into_parts();
                text::write_response(&parts, true, true, interim);
                return Poll::Ready(Ok(None));
            }
            let response = ready!(Pin::new(answer).poll(cx)).map_err(failed)?;
            let (parts, frames) = response.into_parts();
            let bodiless = self.to_head || matches!(parts.status.as_u16(), 204 | 304);
            let mut head = Vec::with_capacity(512);
            let ended = frames.is_end_stream();
            let framing = text::write_response(&parts, ended, bodiless, &mut head);
            self.answer = In::Begun(Incoming::new(head, frames, framing));
        }
        match &mut self.answer {
            In::Begun(incoming) => Poll::Ready(Ok(Some(incoming))),
            // Nothing was asked: the writing side wakes the task.
            In::Nothing | In::Due(..) => Poll::Pending,
            In::Never => Poll::Ready(Err(io::ErrorKind::InvalidInput.into())),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        text: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.request {
            Out::Owed(link) => {
                ready!(link.poll_ready(cx)).map_err(failed)?;
                Poll::Ready(self.send_head(text))
            }
            Out::Begun(out) => out.poll_write(cx, text),
        }
    }

    fn send_head(&mut self, text: &[u8]) -> io::Result<usize> {
        let Out::Owed(link) = &mut self.request else {
            return Ok(0);
        };
        let parsed = match text::read_request(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.answer = In::Never;
                return Err(error);
            }
        };
        self.to_head = parsed.head.method() == http::Method::HEAD;
        let ended = parsed.body.is_done();
        let sent = link.send_request(parsed.head, ended);
        let (answer, frames) = sent.map_err(failed)?;
        self.request = Out::Begun(Outgoing::new(parsed.body, frames, ended));
        self.answer = In::Due(answer, Vec::new());
        Ok(parsed.length)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Nobody waits for the answer any more: the service is told, if it does not know.
        if let Out::Begun(out) = &mut self.request {
            out.reset(Reason::CANCEL);
        }
    }
}
