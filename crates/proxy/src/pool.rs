//! Connections to one endpoint that wait for their next request, of one worker.
//!
//! Last in, first out: the freshest connection is the least likely to have been closed by the
//! service, and the surplus ages out. Each is looked at again right before its use.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::clock::millis;
use crate::cluster::Endpoint;
use crate::h2::Links;
use crate::limits::{IDLE_PER_ENDPOINT_MAX, UPSTREAM_IDLE};
use crate::span::NameIndex;

/// The idle connections to one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) endpoint: Arc<Endpoint>,
    idle: RefCell<Vec<Idle>>,
    /// Connections that many requests share, if the service speaks HTTP/2.
    pub(crate) links: Links,
    /// Nothing is kept any more.
    closed: Cell<bool>,
    /// The instance's index in the batch of this number.
    pub(crate) span_name: Cell<(u32, NameIndex)>,
}

/// A request is at the endpoint. Dropped, it no longer is.
#[derive(Debug)]
pub(crate) struct Lease(Rc<Pool>);

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: u64,
}

impl Pool {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint,
            idle: RefCell::new(Vec::new()),
            links: Links::default(),
            closed: Cell::new(false),
            span_name: Cell::new((0, 0)),
        }
    }

    /// A connection that looks alive. `must_be_fresh` asks the system and not only what it told
    /// last: for requests that cannot be sent twice.
    pub(crate) fn take(&self, must_be_fresh: bool) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { stream, .. }) = idle.pop() {
            if is_quiet(&stream) && (!must_be_fresh || is_open(&stream)) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put(&self, stream: TcpStream, now: u64) {
        let mut idle = self.idle.borrow_mut();
        let wanted = !self.closed.get() && !self.endpoint.is_withdrawn();
        if wanted && idle.len() < IDLE_PER_ENDPOINT_MAX {
            idle.push(Idle { stream, since: now });
        }
    }

    /// Closes all that are idle now: one of them was found broken.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.links.clear();
    }

    /// Closes all, and every connection that comes back later.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.clear();
    }

    /// Closes what was idle for too long or was closed by the service.
    pub(crate) fn sweep(&self, now: u64) {
        let oldest = now.saturating_sub(millis(UPSTREAM_IDLE));
        self.idle
            .borrow_mut()
            .retain(|idle| idle.since > oldest && is_quiet(&idle.stream));
    }
}

impl Lease {
    /// Counts a request in, unless the endpoint was withdrawn.
    pub(crate) fn acquire(pool: &Rc<Pool>) -> Option<Self> {
        pool.endpoint.acquire().then(|| Self(Rc::clone(pool)))
    }

    pub(crate) fn pool(&self) -> &Rc<Pool> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.endpoint.release();
    }
}

/// Neither closed nor with bytes that nobody asked for, as far as the event loop has heard. Costs
/// no system call unless there is news.
fn is_quiet(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// The same, asked of the system.
fn is_open(stream: &TcpStream) -> bool {
    let peeked = socket2::SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()]);
    matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
