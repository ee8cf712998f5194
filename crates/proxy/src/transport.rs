//! What carries a connection's bytes. The code above it reads and writes HTTP/1.1, whatever it is.
//!
//! One pipeline serves every protocol: a stream of HTTP/2 is given the shape of a connection that
//! has one request ([`crate::h2`]), so each rule is written, tested and attacked once. Refused: a
//! second pipeline over `http::Request`, where each check would be made twice and one day differ.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::cache::Replay;
use crate::h2::{Call, Stream};

/// What carries a connection's bytes.
#[derive(Debug)]
pub(crate) enum Transport {
    /// The network, as it is.
    Tcp(TcpStream),
    /// The network, encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// One request of an HTTP/2 connection, from the side that serves.
    Stream(Box<Stream>),
    /// One request of an HTTP/2 connection, from the side that asks.
    Call(Box<Call>),
    /// What the cache has kept.
    Replay(Box<Replay>),
}

impl Transport {
    /// Ready when reading is worth a buffer: there are bytes, or the end, or an error.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) => {
                let (tcp, session) = stream.get_mut();
                let state = session.process_new_packets();
                match state.map(|state| state.plaintext_bytes_to_read()) {
                    Ok(0) if !session.wants_read() => Poll::Ready(Ok(())),
                    Ok(0) => tcp.poll_read_ready(cx),
                    // An error is told by reading.
                    Ok(_) | Err(_) => Poll::Ready(Ok(())),
                }
            }
            Self::Stream(stream) => stream.poll_readable(cx),
            Self::Call(call) => call.poll_readable(cx),
            Self::Replay(_) => Poll::Ready(Ok(())),
        }
    }

    /// Makes its end look like a failure to the other side, where it would look like the proper
    /// end of an answer.
    pub(crate) fn break_off(&mut self) {
        match self {
            Self::Tcp(stream) => reset(stream),
            // Without the closing alert, the end is one that an attacker could have made.
            Self::Tls(stream) => reset(stream.get_ref().0),
            // Dropped before its end, a stream is reset.
            Self::Stream(_) | Self::Call(_) | Self::Replay(_) => {}
        }
    }

    /// The plain connection, if it is one: only those are kept for the next request.
    pub(crate) fn into_tcp(self) -> Option<TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(_) | Self::Stream(_) | Self::Call(_) | Self::Replay(_) => None,
        }
    }

    /// Whether it has taken bytes that it could not pass on yet: they must be flushed before anything
    /// is waited for.
    pub(crate) fn is_behind(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.get_ref().1.wants_write(),
            Self::Tcp(_) | Self::Stream(_) | Self::Call(_) | Self::Replay(_) => false,
        }
    }

    /// Whether the end of what it reads may leave the other direction open.
    pub(crate) fn may_be_half_closed(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Whether its end is told to the other side by a message.
    pub(crate) fn says_goodbye(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether it ends with its one request.
    pub(crate) fn is_single(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Call(_))
    }
}

/// Has the kernel close with a reset.
fn reset(stream: &TcpStream) {
    let asked = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
    if let Err(error) = asked {
        tracing::debug!(%error, "a cut answer could not be marked as such");
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Self::Stream(stream) => stream.poll_read(cx, buffer),
            Self::Call(call) => call.poll_read(cx, buffer),
            Self::Replay(replay) => Poll::Ready(replay.read(buffer)),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Self::Stream(stream) => stream.poll_write(cx, bytes),
            Self::Call(call) => call.poll_write(cx, bytes),
            Self::Replay(_) => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bytes),
            own @ (Self::Stream(_) | Self::Call(_) | Self::Replay(_)) => {
                let first = bytes.iter().find(|slice| !slice.is_empty());
                let first = first.map_or(&[][..], |slice| slice);
                Pin::new(own).poll_write(cx, first)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Tls(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Tcp(_) | Self::Stream(_) | Self::Call(_) | Self::Replay(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Stream(_) | Self::Call(_) | Self::Replay(_) => Poll::Ready(Ok(())),
        }
    }
}
