//! Connections to one endpoint that wait for their next request, of one worker.
//!
//! Last in, first out: the freshest connection is the least likely to have been closed by the
//! service, and the surplus ages out. Each is looked at again right before its use.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::clock::millis;
use crate::cluster::Endpoint;
use crate::h2::Links;
use crate::limits::{IDLE_PER_ENDPOINT_MAX, UPSTREAM_IDLE};
use crate::occupant::Occupant;
use crate::resilience::standing::Trial;
use crate::resilience::{Counts, Failure, PeakEwma, hash_key};
use crate::span::NameIndex;

/// The idle connections to one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) endpoint: Arc<Endpoint>,
    idle: RefCell<Vec<Idle>>,
    /// Connections that many requests share, if the service speaks HTTP/2.
    pub(crate) links: Links,
    /// How it answers, as this worker sees it.
    pub(crate) ewma: PeakEwma,
    /// Attempts that this worker has not told of.
    pub(crate) counts: RefCell<Counts>,
    /// Who it is, for requests that go by a key.
    pub(crate) identity: u64,
    /// Nothing is kept any more.
    closed: Cell<bool>,
    /// The instance's index in the batch of this number.
    pub(crate) span_name: Cell<(u32, NameIndex)>,
}

/// A request is at the endpoint. Dropped, it no longer is.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Rc<Pool>,
    /// It decides whether the endpoint is back.
    trial: Option<Trial>,
    /// It is known to be there.
    occupant: Option<Occupant>,
    /// It was, and as far as is known the instance works on for it.
    pending: bool,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: u64,
}

impl Pool {
    /// `latency` is what is assumed until it has answered, in microseconds.
    pub(crate) fn new(endpoint: Arc<Endpoint>, latency: f32, now: u64) -> Self {
        Self {
            ewma: PeakEwma::new(latency, now * 1000),
            counts: RefCell::default(),
            identity: hash_key(endpoint.instance().to_string().as_bytes()),
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
        let acquired = pool.endpoint.acquire();
        acquired.then(|| Self {
            pool: Rc::clone(pool),
            trial: None,
            occupant: None,
            pending: false,
        })
    }

    /// The same, as the trial of an endpoint that was left out.
    pub(crate) fn acquire_for(trial: Trial, pool: &Rc<Pool>) -> Option<Self> {
        let mut lease = Self::acquire(pool)?;
        lease.trial = Some(trial);
        Some(lease)
    }

    /// Has calls that the instance makes for this request joined to it, if they do not say theirs.
    pub(crate) fn occupy(&mut self, one: Occupant) {
        self.step_out();
        self.pool.endpoint.occupants.enter(&one);
        self.occupant = Some(one);
        self.pending = true;
    }

    /// It is there still, but for so long that no call is joined to it any more.
    pub(crate) fn step_out(&mut self) {
        if let Some(one) = self.occupant.take() {
            self.pool.endpoint.occupants.leave(&one);
        }
    }

    pub(crate) fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Tells how an attempt went: the time until the head of the answer, or the failure. `now` is in
    /// milliseconds. An answer is told once it is whole; who tells nothing has given up.
    pub(crate) fn settle(&mut self, outcome: Result<Duration, Failure>, now: u64, random: u64) {
        if is_over(outcome) {
            self.pending = false;
        }
        let pool = &self.pool;
        match outcome {
            Ok(latency) => pool.ewma.answered(micros(latency), now * 1000),
            Err(_) => pool.ewma.failed(0, now * 1000),
        }
        if let Some(trial) = self.trial.take() {
            match outcome {
                Ok(latency) => trial.succeeded(latency, now, random),
                Err(failure) => trial.failed(failure, now, random),
            }
            return;
        }
        let mut counts = pool.counts.borrow_mut();
        match outcome {
            Ok(latency) => counts.answered(latency),
            Err(failure) => counts.failed(failure),
        }
        let Some(standing) = pool.endpoint.standing() else {
            return;
        };
        match outcome {
            Ok(_) => standing.succeeded(now),
            Err(failure) => standing.failed(failure, now, random),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.pending {
            let one = self.occupant.take();
            self.pool.endpoint.occupants.give_up(one.as_ref());
        }
        self.step_out();
        self.pool.endpoint.release();
    }
}

/// Whether the instance does no more for a request that has ended so: it has answered, or never had it.
fn is_over(outcome: Result<Duration, Failure>) -> bool {
    matches!(
        outcome,
        Ok(_) | Err(Failure::Status(_) | Failure::Refused | Failure::Unreachable)
    )
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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
