//! One HTTP/2 connection of a client: its streams become connections of the pipeline.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use atoll_base::clock::monotonic;
use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flood::Watch;
use super::stream::Stream;
use crate::buffer::Buffer;
use crate::clockwork::Timer;
use crate::connection;
use crate::limits::{
    H2_CONNECTION_WINDOW, H2_RESETS_MAX, H2_SEND_BUFFER, H2_STREAM_WINDOW, H2_STREAMS_MAX,
    HEAD_BYTES_MAX,
};
use crate::origin::Origin;
use crate::transport::Transport;
use crate::worker::Worker;

/// What a client begins with (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection until either side ends it. `read` are bytes of it that were read already.
pub(crate) async fn serve(worker: Rc<Worker>, transport: Transport, read: Buffer, origin: Origin) {
    let timer = worker.clockwork.timer();
    let flooded = Rc::default();
    let watched = Watched {
        transport,
        read,
        watch: Watch::new(monotonic()),
        flooded: Rc::clone(&flooded),
    };
    let Some(mut connection) = begin(&worker, &timer, watched, &origin).await else {
        return;
    };
    let mut leaving = false;
    loop {
        if worker.is_stopping(origin.side()) && !std::mem::replace(&mut leaving, true) {
            connection.graceful_shutdown();
        }
        let idle = !connection.has_streams();
        if idle {
            timer.arm(worker.patience(origin.side()).idle);
        } else {
            timer.disarm();
        }
        let next = std::future::poll_fn(|cx| {
            if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                return Poll::Ready(Next::Accepted(accepted));
            }
            let stopping = worker.is_stopping(origin.side());
            if (stopping && !leaving) || idle == connection.has_streams() {
                return Poll::Ready(Next::Look);
            }
            if timer.poll(cx) {
                return Poll::Ready(Next::Idle);
            }
            Poll::Pending
        })
        .await;
        match next {
            Next::Accepted(Some(Ok((request, respond)))) => {
                let head = worker.buffers.output();
                if let Some(stream) = Stream::new(request, respond, head) {
                    let transport = Transport::Stream(Box::new(stream));
                    let serving = connection::serve(Rc::clone(&worker), transport, origin.clone());
                    tokio::task::spawn_local(serving);
                }
            }
            Next::Accepted(Some(Err(error))) => {
                note(&worker, &error, &flooded);
                break;
            }
            Next::Accepted(None) => break,
            Next::Look => {}
            // The client is told, and may have sent a request in the meantime.
            Next::Idle if !std::mem::replace(&mut leaving, true) => connection.graceful_shutdown(),
            Next::Idle => break,
        }
    }
}

/// Counts floods; anything else that ends a connection is everyday.
fn note(worker: &Worker, error: &h2::Error, flooded: &Cell<bool>) {
    let flood = flooded.get() || error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    if flood {
        worker.shared.floods.fetch_add(1, Ordering::Relaxed);
    }
    tracing::debug!(%error, flood, "an HTTP/2 connection of a client ended");
}

enum Next<T> {
    Accepted(T),
    /// Something else than the connection has changed.
    Look,
    Idle,
}

/// Settings first; none if the client is not there or too slow.
async fn begin(
    worker: &Worker,
    timer: &Timer,
    watched: Watched,
    origin: &Origin,
) -> Option<Connection<Watched, Bytes>> {
    let handshake = Builder::new()
        .initial_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_concurrent_reset_streams(H2_RESETS_MAX)
        .max_pending_accept_reset_streams(H2_RESETS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buffer_size(H2_SEND_BUFFER)
        .handshake::<_, Bytes>(watched);
    let mut handshake = std::pin::pin!(handshake);
    timer.arm(worker.patience(origin.side()).head);
    let begun = std::future::poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(begun) => Poll::Ready(begun.ok()),
        Poll::Pending if timer.poll(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    begun.await
}

/// A connection whose frames are counted.
struct Watched {
    transport: Transport,
    /// Bytes that come first.
    read: Buffer,
    watch: Watch,
    flooded: Rc<Cell<bool>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.read.is_empty() {
            ready!(Pin::new(&mut this.transport).poll_read(cx, buffer))?;
        } else {
            let length = this.read.len().min(buffer.remaining());
            buffer.put_slice(&this.read.bytes()[..length]);
            this.read.consume(length);
            if this.read.is_empty() {
                this.read = Buffer::default();
            }
        }
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        let seen = this.watch.see(fresh, monotonic());
        this.flooded.set(seen.is_err());
        Poll::Ready(seen.map_err(|flood| io::Error::new(io::ErrorKind::ConnectionAborted, flood)))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}
