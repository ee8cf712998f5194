//! A connection and the bytes at both its ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::{Buffer, Buffers};
use crate::limits::BUFFER_BYTES;
use crate::transport::Transport;

/// A connection, what was read from it and not used, and what is to be written to it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) transport: Transport,
    pub(crate) input: Buffer,
    pub(crate) output: Vec<u8>,
    /// How much of the output has been written.
    sent: usize,
    /// A read filled the whole buffer: more is on its way.
    in_flood: bool,
    /// Bytes that were handed to the system since the connection began.
    pub(crate) written: u64,
}

impl Wire {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            input: Buffer::default(),
            output: Vec::new(),
            sent: 0,
            in_flood: false,
            written: 0,
        }
    }

    /// Reads once; 0 is the end. The input must not be full.
    ///
    /// A read that leaves room tells the runtime that nothing is left, so the next one asks the
    /// system only after the event loop has heard of more.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        spare: &Buffers,
    ) -> Poll<io::Result<usize>> {
        if !self.input.has_memory() {
            // Don't take a buffer only to find that there is nothing to read.
            ready!(self.transport.poll_readable(cx))?;
            self.input = spare.input();
        } else if self.in_flood && self.input.is_empty() && self.input.capacity() == BUFFER_BYTES {
            spare.return_input(std::mem::take(&mut self.input));
            self.input = spare.large_input();
        }
        let mut buffer = ReadBuf::new(self.input.room());
        let room = buffer.remaining();
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buffer))?;
        let length = buffer.filled().len();
        self.input.filled(length);
        self.in_flood = length == room;
        Poll::Ready(Ok(length))
    }

    /// Writes the first `length` bytes of `from`'s input, or as many as fit now.
    pub(crate) fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Buffer,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let bytes = from.bytes();
        let bytes = &bytes[..length.min(bytes.len())];
        let written = ready!(self.poll_write(cx, bytes))?;
        from.consume(written);
        Poll::Ready(Ok(written))
    }

    /// Writes once. Nothing written is an error.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.transport).poll_write(cx, bytes))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => {
                self.written += written as u64;
                Poll::Ready(Ok(written))
            }
        }
    }

    /// Writes the output. Ready when all of it has been handed to the system.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = self
            .output
            .get(self.sent..)
            .filter(|bytes| !bytes.is_empty())
        {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.written += written as u64;
        }
        self.output.clear();
        self.sent = 0;
        if self.transport.is_behind() {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// How many bytes the other side gets before what is written next.
    pub(crate) fn position(&self) -> u64 {
        self.written + (self.output.len() - self.sent) as u64
    }

    /// Whether there is output that was not written.
    pub(crate) fn has_output(&self) -> bool {
        self.sent < self.output.len() || self.transport.is_behind()
    }

    /// Says that nothing more will be written.
    pub(crate) fn shut_down(&mut self, cx: &mut Context<'_>) {
        // It fails only if the other end is gone already.
        let _ = Pin::new(&mut self.transport).poll_shutdown(cx);
    }

    /// Makes room for output.
    pub(crate) fn prepare_output(&mut self, spare: &Buffers) {
        if self.output.capacity() == 0 {
            self.output = spare.output();
        }
    }

    /// Gives back the buffers that have nothing in them.
    pub(crate) fn release(&mut self, spare: &Buffers) {
        if self.input.is_empty() && self.input.has_memory() {
            spare.return_input(std::mem::take(&mut self.input));
        }
        if !self.has_output() {
            spare.return_output(std::mem::take(&mut self.output));
            self.sent = 0;
        }
        self.in_flood = false;
    }
}
