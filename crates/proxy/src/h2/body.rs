//! Bodies, from the one form to the other, with the backpressure of both.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::ReadBuf;

use super::text::{self, Framing};
use crate::http::Body;
use crate::http::chunk::{ChunkDecoder, Piece};

/// Frames in, text out: a head that stands ready, then the body behind it.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Text to be read first: the head, the size of a chunk, trailers.
    text: Vec<u8>,
    read: usize,
    /// What of a frame was not read.
    data: Bytes,
    frames: RecvStream,
    framing: Framing,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Data,
    /// A chunk was read to its end; its line end is not written.
    ChunkEnd,
    Trailers,
    Done,
}

impl Incoming {
    pub(super) fn new(head: Vec<u8>, frames: RecvStream, framing: Framing) -> Self {
        Self {
            text: head,
            read: 0,
            data: Bytes::new(),
            frames,
            framing,
            stage: Stage::Data,
        }
    }

    /// Ready with true when there is something to read, with false at the end.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.read == self.text.len() && self.data.is_empty() {
            self.text.clear();
            self.read = 0;
            match self.stage {
                Stage::ChunkEnd => {
                    self.text.extend_from_slice(b"\r\n");
                    self.stage = Stage::Data;
                }
                Stage::Data => match ready!(self.frames.poll_data(cx)) {
                    Some(data) => self.begin(data.map_err(failed)?),
                    None => self.stage = Stage::Trailers,
                },
                Stage::Trailers => {
                    let trailers = ready!(self.frames.poll_trailers(cx)).map_err(failed)?;
                    if self.framing == Framing::Chunked {
                        text::write_trailers(trailers.as_ref(), &mut self.text);
                    }
                    self.stage = Stage::Done;
                }
                Stage::Done => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Reads as much as is there. Nothing is read only at the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.remaining();
        while buffer.remaining() > 0 {
            match self.poll_readable(cx)? {
                Poll::Ready(true) => self.read_into(buffer)?,
                // What was read comes first.
                Poll::Pending if buffer.remaining() == before => return Poll::Pending,
                Poll::Ready(false) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn begin(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        if self.framing == Framing::Chunked {
            use std::io::Write as _;
            // Writing to memory does not fail.
            let _ = write!(self.text, "{:x}\r\n", data.len());
            self.stage = Stage::ChunkEnd;
        }
        self.data = data;
    }

    fn read_into(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let text = self.text.get(self.read..).unwrap_or_default();
        if !text.is_empty() {
            let length = text.len().min(buffer.remaining());
            buffer.put_slice(&text[..length]);
            self.read += length;
            return Ok(());
        }
        let length = self.data.len().min(buffer.remaining());
        buffer.put_slice(&self.data[..length]);
        self.data.advance(length);
        // The sender may go on with as much.
        let window = self.frames.flow_control();
        window.release_capacity(length).map_err(failed)
    }
}

/// Text in, frames out: the body behind a head that was sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: Body,
    frames: SendStream<Bytes>,
    /// Payload that waits: what follows tells whether the stream ends with it.
    held: Bytes,
    trailers: Vec<u8>,
    ended: bool,
}

/// The largest piece that is copied at once.
const PIECE_BYTES: usize = 64 << 10;

impl Outgoing {
    /// `ended` says that the head ended the stream.
    pub(super) fn new(body: Body, frames: SendStream<Bytes>, ended: bool) -> Self {
        Self {
            body,
            frames,
            held: Bytes::new(),
            trailers: Vec::new(),
            ended,
        }
    }

    /// Whether the stream was ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Ends the stream as one that failed.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.frames.send_reset(reason);
    }

    /// Ready when the other side wants no more of the stream.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_reset(cx).map(|_| Ok(()))
    }

    /// Sends what the other side has room for; tells how many bytes of text were used.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        text: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut at = 0;
        while at < text.len() && !self.body.is_done() {
            let rest = text.get(at..).unwrap_or_default();
            match self.poll_piece(cx, rest)? {
                Poll::Ready(length) => at += length,
                Poll::Pending if at == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        self.finish()?;
        Poll::Ready(Ok(at))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, text: &[u8]) -> Poll<io::Result<usize>> {
        let wanted = match &mut self.body {
            Body::Length(left) => usize::try_from(*left).map_or(text.len(), |l| l.min(text.len())),
            Body::UntilClose => text.len(),
            Body::Chunked(decoder) if decoder.expects_payload() => text.len(),
            Body::Chunked(decoder) => {
                let used = framing(decoder, text, &mut self.trailers)?;
                return Poll::Ready(Ok(used));
            }
        };
        let room = ready!(self.poll_room(cx, wanted.min(PIECE_BYTES)))?;
        let piece = &text[..wanted.min(room)];
        let length = match &mut self.body {
            // What frames the next chunk is not payload.
            Body::Chunked(decoder) => match decoder.next(piece).map_err(unfit)? {
                Piece::Payload(length) | Piece::Framing(length) => length,
            },
            body => body.advance(piece).map_err(unfit)?,
        };
        self.flush()?;
        self.held = Bytes::copy_from_slice(piece.get(..length).unwrap_or(piece));
        Poll::Ready(Ok(length))
    }

    /// How much may be sent, beyond what is held.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let held = self.held.len();
        self.frames.reserve_capacity(held + wanted);
        loop {
            let room = self.frames.capacity();
            if room > held {
                return Poll::Ready(Ok(room - held));
            }
            match ready!(self.frames.poll_capacity(cx)) {
                Some(capacity) => capacity.map_err(failed)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
    }

    /// Sends what is held; more follows.
    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.frames.send_data(held, false).map_err(failed)
    }

    /// Sends what is held, and the end if it was reached.
    fn finish(&mut self) -> io::Result<()> {
        if !self.body.is_done() {
            return self.flush();
        }
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        // Trailers end with an empty line of their own.
        if self.trailers.len() > 2 {
            let trailers = text::read_trailers(&self.trailers)?;
            self.flush()?;
            return self.frames.send_trailers(trailers).map_err(failed);
        }
        let held = std::mem::take(&mut self.held);
        self.frames.send_data(held, true).map_err(failed)
    }
}

/// Takes the framing at the start of `text`, and keeps the trailers.
fn framing(decoder: &mut ChunkDecoder, text: &[u8], trailers: &mut Vec<u8>) -> io::Result<usize> {
    let mut at = 0;
    while let Some(byte) = text.get(at..=at) {
        if decoder.expects_payload() || decoder.is_done() {
            break;
        }
        let is_trailer = decoder.is_in_trailers();
        match decoder.next(byte).map_err(unfit)? {
            Piece::Framing(length) | Piece::Payload(length) => at += length,
        }
        if is_trailer {
            trailers.extend_from_slice(byte);
        }
    }
    Ok(at)
}

/// An error of a stream, as one of a connection. What was surely not processed is told apart: it
/// may be sent again whatever it is (RFC 9113, 8.7).
pub(super) fn failed(error: h2::Error) -> io::Error {
    let untouched = error.reason() == Some(Reason::REFUSED_STREAM)
        || (error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR));
    let kind = if untouched {
        io::ErrorKind::ConnectionRefused
    } else {
        io::ErrorKind::ConnectionReset
    };
    io::Error::new(kind, error)
}

fn unfit<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
