//! HTTP/2 connections to one endpoint, of one worker.
//!
//! Many requests share a connection. Another one is made when the service takes no more streams on
//! those there are; one that ended or says so (GOAWAY) gets no new request. While one is being made,
//! others wait for it instead of making their own.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

use super::call::Call;
use crate::limits::{H2_CONNECTION_WINDOW, H2_STREAM_WINDOW, HEAD_BYTES_MAX};

/// Connections to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Links {
    open: RefCell<Vec<Link>>,
    making: Mutex<()>,
}

/// One connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    send: SendRequest<Bytes>,
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: Cell<bool>,
    requests: Cell<usize>,
}

/// A request is on a link. Dropped, it no longer is.
#[derive(Debug)]
pub(super) struct InUse(Rc<State>);

/// More connections than this are not made to one endpoint; requests then wait for a stream.
const LINKS_MAX: usize = 8;

/// What is assumed until the service says how many streams it takes.
const STREAMS_AT_FIRST: usize = 100;

/// How long the service may take to acknowledge that a stream was reset; more than enough here.
const RESET_MEMORY: Duration = Duration::from_secs(1);

impl Links {
    /// Room for a request on an open connection.
    pub(crate) fn take(&self) -> Option<Call> {
        let mut open = self.open.borrow_mut();
        open.retain(|link| !link.state.ended.get());
        let full = open.len() >= LINKS_MAX;
        let fewest = open.iter().min_by_key(|link| link.state.requests.get())?;
        (full || fewest.has_room()).then(|| fewest.call())
    }

    /// Waits until nobody else makes a connection.
    pub(crate) async fn begin(&self) -> MutexGuard<'_, ()> {
        self.making.lock().await
    }

    /// Takes a new connection in.
    pub(crate) fn add(&self, link: Link) {
        self.open.borrow_mut().push(link);
    }

    /// Uses none of them any more; they close when their requests are over.
    pub(crate) fn clear(&self) {
        self.open.borrow_mut().clear();
    }
}

impl Link {
    /// Begins HTTP/2 on a connection, with prior knowledge (RFC 9113, 3.3).
    pub(crate) async fn begin(stream: TcpStream) -> io::Result<Self> {
        let (send, connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .initial_max_send_streams(STREAMS_AT_FIRST)
            .reset_stream_duration(RESET_MEMORY)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(super::body::failed)?;
        let state = Rc::new(State::default());
        let ended = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            // Its requests learn of a failure each for themselves.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to an instance ended");
            }
            ended.ended.set(true);
        });
        Ok(Self { send, state })
    }

    /// A request on it.
    pub(crate) fn call(&self) -> Call {
        self.state.requests.set(self.state.requests.get() + 1);
        Call::new(self.send.clone(), InUse(Rc::clone(&self.state)))
    }

    fn has_room(&self) -> bool {
        self.state.requests.get() < self.send.current_max_send_streams()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
    }
}
