//! One request and its answer: find an instance, send, and bring the answer back.
//!
//! ```text
//!            ┌──────────── again, with another instance ───────────┐
//!            ▼                                                     │ nothing of the answer was passed on,
//!  lease ─ connect ─ send head and body ─ wait for the head ───────┤ and the request may be sent again
//!                          │ (the body goes on meanwhile)          │
//!                          └──────────────── pass the answer on ───┴─ done
//! ```
//! The request's body and the answer are moved by one task and two small state machines
//! ([`upload`], [`download`]) that are polled in turn, so a service may answer while it still
//! reads. What was refused: a task per direction (a spawn, a channel and two wake-ups for what is
//! one write and one read in nearly every case).

mod download;
mod lease;
mod mirror;
mod upload;

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use self::download::Download;
use self::lease::Tried;
use self::mirror::Copy;
use self::upload::Upload;
use crate::admit::Plan;
use crate::clock::millis;
use crate::clockwork::Timer;
use crate::h2::Link;
use crate::http::Body;
use crate::limits::{
    CONNECT_TIMEOUT, CONTINUE_AFTER, RETRIES_AFTER_BREAK_MAX, RETRIES_MAX, SUSPECT_FOR,
};
use crate::pool::{Lease, Pool};
use crate::recorder::Visit;
use crate::span::ErrorKind;
use crate::transport::Transport;
use crate::wire::Wire;
use crate::worker::Worker;

/// A request under way.
pub(crate) struct Exchange<'a> {
    worker: &'a Rc<Worker>,
    timer: &'a Timer,
    client: &'a mut Wire,
    /// The head for the service, and what of the body came with it.
    request: &'a mut Vec<u8>,
    plan: &'a Plan,
    visit: &'a mut Visit,
    upload: Upload,
    download: Download,
    /// Bytes were moved since the deadline was last set.
    moved: bool,
    /// A stream of events was given less time, as the proxy is stopping.
    hurried: bool,
}

/// An exchange that came to its end.
pub(crate) enum Finished {
    /// The answer was passed on in full.
    Answered {
        /// The client's connection cannot be used again.
        close: bool,
    },
    /// Client and service go on in a protocol of their own.
    Upgraded {
        /// The connection to the service.
        upstream: Wire,
        /// Keeps the endpoint counted as in use.
        lease: Lease,
    },
}

/// An exchange that failed, or one attempt at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    /// Part of the answer may have reached the client: there can be no other.
    pub(crate) answer_begun: bool,
    /// Closing the connection would look like the answer's proper end.
    pub(crate) end_would_look_clean: bool,
    /// The whole request was taken off the client's connection.
    pub(crate) request_read: bool,
    /// The same request may succeed with another connection.
    retry: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        worker: &'a Rc<Worker>,
        timer: &'a Timer,
        client: &'a mut Wire,
        request: &'a mut Vec<u8>,
        plan: &'a Plan,
        visit: &'a mut Visit,
        body: Body,
    ) -> Self {
        Self {
            worker,
            timer,
            client,
            request,
            plan,
            visit,
            upload: Upload::new(body),
            download: Download::default(),
            moved: false,
            hurried: false,
        }
    }

    /// Brings it to its end.
    pub(crate) async fn run(&mut self) -> Result<Finished, Fault> {
        self.upload
            .prime(self.client, self.request, self.plan.max_body)
            .map_err(|kind| self.fault(kind, false))?;
        if self.plan.mirror.is_some() {
            self.upload.copy = Some(Copy::begin(self.request));
        }
        let mut tried = Tried::default();
        let mut breaks = 0;
        loop {
            let lease = self.lease(&tried).await?;
            self.visit.pool = Some(Rc::clone(lease.pool()));
            let fault = match self.attempt(&lease, tried.count == 0).await {
                Ok(upstream) => return Ok(self.finish(upstream, lease)),
                Err(fault) => fault,
            };
            if !fault.answer_begun {
                self.download.restart(self.client);
            }
            tried.add(lease.pool());
            breaks += u8::from(fault.kind != ErrorKind::Connect);
            let again = fault.retry
                && tried.count <= usize::from(RETRIES_MAX)
                && breaks <= RETRIES_AFTER_BREAK_MAX;
            // A refused connection says enough if there is nobody else to ask.
            let other = tried.others(&self.current_target());
            if !again || (fault.kind == ErrorKind::Connect && !other) {
                return Err(fault);
            }
            self.visit.retries += 1;
        }
    }

    /// One try with one instance. The connection is given back if all went well.
    async fn attempt(&mut self, lease: &Lease, first: bool) -> Result<Wire, Fault> {
        self.upload.restart();
        let pool = lease.pool();
        let (transport, reused) = match self.reach(pool, first).await {
            Ok(reached) => reached,
            Err(_) => {
                self.suspect(pool);
                return Err(self.fault(ErrorKind::Connect, !self.upload.has_passed_request()));
            }
        };
        let mut upstream = Wire::new(transport);
        let outcome = self.converse(&mut upstream).await;
        if let Err(fault) = &outcome {
            if fault.retry {
                // The others were opened to the same process, which may be gone.
                pool.clear();
                if !reused {
                    self.suspect(pool);
                }
            }
            let length = upstream.input.len();
            upstream.input.consume(length);
            upstream.release(&self.worker.buffers);
        }
        outcome.map(|()| upstream)
    }

    /// A way to the instance, and whether others have used it before. Only a first attempt trusts a
    /// kept connection.
    async fn reach(&self, pool: &Pool, first: bool) -> io::Result<(Transport, bool)> {
        if self.plan.target.protocol.is_http2() {
            return reach_http2(pool, first, self.connect(pool)).await;
        }
        if first {
            let safe = self
                .upload
                .survives_a_stale_connection(self.plan.idempotent);
            if let Some(stream) = pool.take(!safe) {
                return Ok((Transport::Tcp(stream), true));
            }
        }
        Ok((Transport::Tcp(self.connect(pool).await?), false))
    }

    /// Sends the request and passes the answer on.
    async fn converse(&mut self, upstream: &mut Wire) -> Result<(), Fault> {
        self.moved = true;
        std::future::poll_fn(|cx| self.poll_head(upstream, cx)).await?;
        self.visit.status = self.download.status();
        self.timer.arm(self.pause_max());
        std::future::poll_fn(|cx| self.poll_answer(upstream, cx)).await
    }

    /// Sends the request until an answer begins. A small one is collected to its end.
    fn poll_head(&mut self, upstream: &mut Wire, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            self.poll_upload(upstream, cx)?;
            if self.poll_receive(upstream, cx)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if self.client.has_output() && !self.download.has_head() {
                // An interim answer; the client may be waiting for it.
                let flushed = self.client.poll_flush(cx);
                if matches!(flushed, Poll::Ready(Err(_))) {
                    return Poll::Ready(Err(self.fault(ErrorKind::ClientGone, false)));
                }
            }
            self.watch_client(cx)?;
            if std::mem::take(&mut self.moved) {
                self.timer.arm(self.patience());
            }
            if !self.timer.poll(cx) {
                return Poll::Pending;
            }
            self.head_is_late()?;
        }
    }

    /// Reads from the service until there is a head, and a whole answer if it is held.
    fn poll_receive(
        &mut self,
        upstream: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        loop {
            match upstream.poll_fill(cx, &self.worker.buffers) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    // An HTTP/2 service says that it has not begun with it.
                    let untouched = !self.upload.has_passed_request();
                    return Poll::Ready(Err(self.fault(ErrorKind::BadAnswer, untouched)));
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Poll::Ready(Err(self.broken_before_answer()));
                }
                Poll::Ready(Ok(_)) => {}
            }
            if !self.download.has_head() {
                self.client.prepare_output(&self.worker.buffers);
                let close = self.plan.close || !self.upload.is_done() || self.is_stopping();
                let taken = self
                    .download
                    .take_head(upstream, self.client, self.plan, close);
                if taken.is_err() {
                    return Poll::Ready(Err(self.fault(ErrorKind::BadAnswer, false)));
                }
            }
            if self.download.has_head() {
                let digested = self.download.digest(upstream, self.client);
                if digested.is_err() {
                    return Poll::Ready(Err(self.fault(ErrorKind::BadAnswer, false)));
                }
                if !self.download.is_held() {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Passes the answer on to its end.
    fn poll_answer(
        &mut self,
        upstream: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        if !self.download.is_upgrade() {
            self.poll_upload(upstream, cx)?;
        }
        let spare = &self.worker.buffers;
        match self
            .download
            .poll(upstream, self.client, cx, spare, &mut self.moved)
        {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(kind)) => return Poll::Ready(Err(self.fault(kind, false))),
            Poll::Pending => {}
        }
        self.watch_client(cx)?;
        let client_is_slow = self.download.waits_for(self.client);
        if !self.hurried && self.is_stopping() && self.download.is_event_stream() {
            self.hurried = true;
            self.moved = true;
        }
        if std::mem::take(&mut self.moved) {
            self.timer.arm(if client_is_slow {
                self.worker.patience(self.plan.side).body
            } else {
                self.pause_max()
            });
        }
        if !self.timer.poll(cx) {
            return Poll::Pending;
        }
        let kind = if client_is_slow {
            ErrorKind::ClientTimeout
        } else {
            ErrorKind::AnswerCut
        };
        Poll::Ready(Err(self.fault(kind, false)))
    }

    fn poll_upload(&mut self, upstream: &mut Wire, cx: &mut Context<'_>) -> Result<(), Fault> {
        if self.upload.is_over() {
            return Ok(());
        }
        let spare = &self.worker.buffers;
        let moved = &mut self.moved;
        let polled = self.upload.poll(
            self.client,
            upstream,
            self.request,
            self.plan.max_body,
            cx,
            spare,
            moved,
        );
        polled.map_err(|kind| self.fault(kind, false))?;
        if self.upload.is_done()
            && let (Some(copy), Some(target)) = (self.upload.copy.take(), &self.plan.mirror)
        {
            copy.send(self.worker, target, self.plan.to_head);
        }
        Ok(())
    }

    /// Notices a client that leaves while it waits: the service is spared the rest of the work.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        if !self.upload.is_done() {
            // It is being read from anyway, or was given up.
            return Ok(());
        }
        loop {
            let input = &mut self.client.input;
            if input.has_memory() && input.room().is_empty() {
                return Ok(());
            }
            match self.client.poll_fill(cx, &self.worker.buffers) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0) | Err(_)) => return Err(self.fault(ErrorKind::ClientGone, false)),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// How long the service may pause within its answer.
    fn pause_max(&self) -> Duration {
        self.download
            .pause_max(self.plan.timeout, self.is_stopping())
    }

    fn is_stopping(&self) -> bool {
        self.worker.is_stopping(self.plan.side)
    }

    /// How long the next step may take while there is no head.
    fn patience(&self) -> Duration {
        if self.upload.is_done() {
            self.plan.timeout
        } else if self.plan.expects_continue && !self.download.has_continued() {
            CONTINUE_AFTER
        } else {
            self.worker.patience(self.plan.side).body
        }
    }

    /// The deadline has passed before there was a head.
    fn head_is_late(&mut self) -> Result<(), Fault> {
        if self.upload.is_over() {
            return Err(self.fault(ErrorKind::Timeout, false));
        }
        if self.plan.expects_continue && self.download.offer_continue(self.client) {
            self.timer.arm(self.worker.patience(self.plan.side).body);
            return Ok(());
        }
        let service_is_slow = self.upload.waits_for_service(self.request);
        let kind = if service_is_slow {
            ErrorKind::Timeout
        } else {
            ErrorKind::ClientTimeout
        };
        Err(self.fault(kind, false))
    }

    /// The service ended the connection, or it broke, before anything was passed on.
    fn broken_before_answer(&self) -> Fault {
        let kind = if self.download.has_head() {
            ErrorKind::AnswerCut
        } else {
            ErrorKind::BadAnswer
        };
        let replayable = self.plan.idempotent && !self.upload.has_passed_request();
        self.fault(kind, replayable)
    }

    fn fault(&self, kind: ErrorKind, retry: bool) -> Fault {
        let answer_begun = self.download.has_begun();
        Fault {
            kind,
            answer_begun,
            end_would_look_clean: answer_begun && self.download.ends_with_the_connection(),
            request_read: self.upload.is_read(),
            retry: retry && !answer_begun,
        }
    }

    /// Everything was passed on: keeps what can be used again.
    fn finish(&mut self, mut upstream: Wire, lease: Lease) -> Finished {
        if self.download.is_upgrade() {
            return Finished::Upgraded { upstream, lease };
        }
        let done = self.upload.is_done();
        let reusable = done && self.download.leaves_connection_open() && upstream.input.is_empty();
        upstream.release(&self.worker.buffers);
        if reusable && let Some(stream) = upstream.transport.into_tcp() {
            lease.pool().put(stream, self.worker.clockwork.now());
        }
        Finished::Answered {
            close: self.download.closes_client() || !done,
        }
    }

    async fn connect(&self, pool: &Pool) -> io::Result<TcpStream> {
        let mut connecting = std::pin::pin!(connect(pool));
        self.timer.arm(CONNECT_TIMEOUT);
        std::future::poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(connected) => Poll::Ready(connected),
            Poll::Pending if self.timer.poll(cx) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn suspect(&self, pool: &Pool) {
        pool.endpoint
            .suspect(self.worker.clockwork.now() + millis(SUSPECT_FOR));
    }
}

/// A new connection to an instance.
async fn connect(pool: &Pool) -> io::Result<TcpStream> {
    let addr = pool.endpoint.addr();
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_nodelay(true)?;
    socket.connect(addr).await
}

/// A stream to an instance that speaks HTTP/2, on a connection that is open (only if `kept` may be
/// trusted) or on a new one.
async fn reach_http2(
    pool: &Pool,
    kept: bool,
    connect: impl Future<Output = io::Result<TcpStream>>,
) -> io::Result<(Transport, bool)> {
    let open = || pool.links.take().filter(|_| kept);
    let shared = |call| (Transport::Call(Box::new(call)), true);
    if let Some(call) = open() {
        return Ok(shared(call));
    }
    let _making = pool.links.begin().await;
    // Whoever made one in the meantime did it for all.
    if let Some(call) = open() {
        return Ok(shared(call));
    }
    let link = Link::begin(connect.await?).await?;
    let call = link.call();
    pool.links.add(link);
    Ok((Transport::Call(Box::new(call)), false))
}
