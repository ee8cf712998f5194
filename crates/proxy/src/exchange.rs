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

pub(crate) mod aside;
mod cached;
mod download;
mod enter;
mod lease;
mod mirror;
mod patience;
mod reach;
mod upload;

use std::io;
use std::rc::Rc;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atoll_base::clock::monotonic;

use self::download::Download;
use self::lease::Tried;
use self::mirror::Copy;
use self::upload::Upload;
use crate::admit::Plan;
use crate::clockwork::Timer;
use crate::http::Body;
use crate::limits::RETRIES_MAX;
use crate::pool::Lease;
use crate::recorder::Visit;
use crate::resilience::breaker;
use crate::resilience::bulkhead::Permit;
use crate::resilience::retry::{self, Ending, Facts};
use crate::resilience::{Failure, backoff};
use crate::span::ErrorKind;
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
    /// The client has ended its side of the connection.
    half_closed: bool,
    /// The way into the service is ours for so long.
    permit: Option<Permit>,
    /// Until the head of the answer.
    latency: Option<Duration>,
    retries: Retries,
    /// When the service could have it: a small body was waited for, and a place, by the coarse clock.
    sent_from: u64,
}

/// How often it was tried again.
#[derive(Debug, Default)]
struct Retries {
    count: u8,
    /// Of these, after a connection that broke.
    breaks: u8,
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
    /// How an attempt ended that may be made again; none if it may not.
    ending: Option<Ending>,
    /// It was decided, and paid for, that it is made again.
    paid: bool,
    /// What it says about the instance; none if it says nothing.
    failure: Option<Failure>,
    /// When to try again, if that is known.
    pub(crate) retry_after: Option<Duration>,
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
            download: Download::fetching(plan.caching.as_ref().and_then(|caching| {
                // Beside a hit, it is for a request of our own.
                caching.hit.is_none().then(|| caching.fetch.take())?
            })),
            moved: false,
            hurried: false,
            half_closed: false,
            permit: None,
            latency: None,
            retries: Retries::default(),
            sent_from: plan.began,
        }
    }

    /// Brings it to its end.
    pub(crate) async fn run(&mut self) -> Result<Finished, Fault> {
        let finished = self.work().await;
        self.visit.received = self.upload.taken();
        finished
    }

    async fn work(&mut self) -> Result<Finished, Fault> {
        if let Some(answered) = self.answer_from_cache().await {
            return answered;
        }
        self.upload
            .prime(self.client, self.request, self.plan.max_body)
            .map_err(|kind| self.fault(kind))?;
        self.collect().await?;
        if self.plan.mirror.is_some() {
            self.upload.copy = Some(Copy::begin(self.request));
        }
        let trial = match self.enter().await {
            Ok(trial) => trial,
            Err(fault) => return self.fall_back(Err(fault)).await,
        };
        let outcome = self.try_instances().await;
        let result = match &outcome {
            Ok(_) => match Failure::of_status(self.visit.status) {
                Some(failure) => Some(Err(failure)),
                None => Some(Ok(self.latency.unwrap_or_default())),
            },
            Err(fault) => fault.failure.map(Err),
        };
        self.settle(trial, result);
        if self.download.fetch.is_some() {
            return self.fall_back(outcome).await;
        }
        outcome
    }

    /// Waits for a small body to be whole: so a client that sends byte by byte takes no place of the
    /// service, and the request can be sent again.
    async fn collect(&mut self) -> Result<(), Fault> {
        if self.upload.is_read() || !self.upload.is_small() || self.plan.expects_continue {
            return Ok(());
        }
        let patience = self.worker.patience(self.plan.side).body;
        self.timer.arm(self.time_left(patience));
        std::future::poll_fn(|cx| {
            while !self.upload.is_read() {
                match self.client.poll_fill(cx, &self.worker.buffers) {
                    Poll::Ready(Ok(0) | Err(_)) => {
                        return Poll::Ready(Err(self.fault(ErrorKind::ClientGone)));
                    }
                    Poll::Ready(Ok(_)) => {
                        let most = self.plan.max_body;
                        let added = self.upload.prime(self.client, self.request, most);
                        if let Err(kind) = added {
                            return Poll::Ready(Err(self.fault(kind)));
                        }
                    }
                    Poll::Pending if self.timer.poll(cx) => {
                        return Poll::Ready(Err(self.fault(ErrorKind::ClientTimeout)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        self.sent_from = self.worker.clockwork.now();
        Ok(())
    }

    /// Tells the way in how the call went, if that says anything about it.
    fn settle(&self, trial: Option<breaker::Trial>, result: Option<Result<Duration, Failure>>) {
        let Some(result) = result else { return };
        let (now, random) = (self.worker.clockwork.now(), self.worker.random.next());
        match (trial, result) {
            (Some(trial), Ok(_)) => trial.succeeded(now, random),
            (Some(trial), Err(failure)) => trial.failed(failure, now, random),
            (None, result) => self.plan.gate.count(self.plan.began, result),
        }
    }

    /// One instance after the other, as long as that is safe and of use.
    async fn try_instances(&mut self) -> Result<Finished, Fault> {
        let mut tried = Tried::default();
        loop {
            let mut lease = self.lease(&tried).await?;
            self.visit.pool = Some(Rc::clone(lease.pool()));
            if self.plan.target.calls_others {
                lease.occupy(self.plan.trace.into());
            }
            let began = if tried.count == 0 && self.sent_from == self.plan.began {
                self.visit.start
            } else {
                monotonic()
            };
            let fault = match self.attempt(&mut lease, began, tried.count == 0).await {
                Ok(upstream) => return Ok(self.finish(upstream, lease)),
                Err(fault) => fault,
            };
            if !fault.answer_begun {
                self.download.restart(self.client);
            }
            tried.add(lease.pool());
            drop(lease);
            // A refused connection says enough if there is nobody else to ask.
            let other = tried.others(&self.current_target());
            if fault.ending == Some(Ending::NeverConnected) && !other {
                return Err(fault);
            }
            if !self.may_retry(&fault) {
                return Err(fault);
            }
            self.prepare_retry(&fault).await;
        }
    }

    /// Whether an attempt that ended so may be made again. If it may, it is paid for.
    fn may_retry(&self, fault: &Fault) -> bool {
        let allows = |ending| self.allows(ending, fault.answer_begun);
        fault.paid || fault.ending.is_some_and(allows)
    }

    fn allows(&self, ending: Ending, answer_begun: bool) -> bool {
        let now = self.worker.clockwork.now();
        let facts = Facts {
            idempotent: self.plan.idempotent,
            has_key: self.plan.has_key,
            replayable: !self.upload.has_passed_request(),
            answer_begun,
            retried_above: self.plan.retried_above,
            retries: self.retries.count,
            breaks: self.retries.breaks,
            retries_max: self.plan.gate.settings.retries.max.min(RETRIES_MAX),
            remaining: self
                .plan
                .until
                .map(|until| Duration::from_millis(until.saturating_sub(now))),
            pause: Duration::ZERO,
        };
        let pay = || {
            let shared = &self.worker.shared;
            let trace = self.plan.trace.trace;
            let mut trees = shared.trees.lock().unwrap_or_else(PoisonError::into_inner);
            let budget = &self.plan.gate.passage.budget;
            let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
            trees.allows(trace, now) && budget.withdraw(now) && trees.withdraw(trace, now)
        };
        retry::decide(ending, &facts, pay).is_ok()
    }

    /// Marks the request as one that is sent again, and waits a moment.
    async fn prepare_retry(&mut self, fault: &Fault) {
        let broke = matches!(fault.ending, Some(Ending::Broken | Ending::Stale));
        self.retries.breaks += u8::from(broke);
        self.retries.count += 1;
        self.visit.retries += 1;
        if let Some(mark) = self.plan.retry_mark.and_then(|at| self.request.get_mut(at)) {
            *mark = b'1';
        }
        if self.retries.count > 1 {
            let pause = backoff::pause(u32::from(self.retries.count), self.worker.random.next());
            tokio::time::sleep(pause).await;
        }
    }

    /// One try with one instance. The connection is given back if all went well.
    async fn attempt(
        &mut self,
        lease: &mut Lease,
        began: Instant,
        first: bool,
    ) -> Result<Wire, Fault> {
        self.upload.restart();
        let reached = self.reach(lease.pool(), first).await;
        let (transport, reused) = match reached {
            Ok(reached) => reached,
            Err(error) => {
                self.suspect(lease.pool());
                let mut fault = self.fault(ErrorKind::Connect);
                fault.ending = Some(Ending::NeverConnected);
                fault.failure = Some(match error.kind() {
                    io::ErrorKind::ConnectionRefused => Failure::Refused,
                    _ => Failure::Unreachable,
                });
                self.judge(lease, fault.failure.map(Err));
                return Err(fault);
            }
        };
        let mut upstream = Wire::new(transport);
        let outcome = self.converse(&mut upstream, lease, began).await;
        match &outcome {
            Ok(()) => {
                let status = Failure::of_status(self.visit.status);
                let latency = self.latency.unwrap_or_default();
                self.judge(lease, Some(status.map_or(Ok(latency), Err)));
            }
            Err(fault) => {
                // A kept connection that was dead says nothing about the instance.
                let stale = reused && fault.ending == Some(Ending::Stale);
                if !stale {
                    self.judge(lease, fault.failure.map(Err));
                }
                if matches!(fault.ending, Some(Ending::Broken | Ending::Stale)) {
                    // The others were opened to the same process, which may be gone.
                    lease.pool().clear();
                    if !reused {
                        self.suspect(lease.pool());
                    }
                }
                let length = upstream.input.len();
                upstream.input.consume(length);
                upstream.release(&self.worker.buffers);
            }
        }
        outcome.map(|()| upstream)
    }

    /// Tells how an attempt went, if that says anything about the instance.
    fn judge(&self, lease: &mut Lease, outcome: Option<Result<Duration, Failure>>) {
        if let Some(outcome) = outcome {
            let now = self.worker.clockwork.now();
            lease.settle(outcome, now, self.worker.random.next());
        }
    }

    /// Sends the request and passes the answer on.
    async fn converse(
        &mut self,
        upstream: &mut Wire,
        lease: &mut Lease,
        began: Instant,
    ) -> Result<(), Fault> {
        self.moved = true;
        std::future::poll_fn(|cx| self.poll_head(upstream, cx)).await?;
        self.latency = Some(monotonic().saturating_duration_since(began));
        self.visit.status = self.download.status();
        self.reconsider()?;
        if self.is_replaced() {
            return Ok(());
        }
        self.download.settle_with_cache();
        if self.download.is_endless() {
            // It would hold its place for hours and do no work.
            self.permit = None;
            lease.step_out();
        }
        self.timer.arm(self.pause_max());
        std::future::poll_fn(|cx| self.poll_answer(upstream, cx)).await
    }

    /// An answer that says that the service cannot answer is worth another try.
    fn reconsider(&self) -> Result<(), Fault> {
        let status = self.visit.status;
        if !matches!(status, 502..=504) || self.download.has_begun() {
            return Ok(());
        }
        let ending = Ending::Status {
            status,
            retry_after: self.download.asks_to_wait(),
        };
        // Asked only if there is somebody else: the same instance would say the same.
        if self.current_target().pools.len() < 2 || !self.allows(ending, false) {
            return Ok(());
        }
        let mut fault = self.fault(ErrorKind::BadAnswer);
        fault.paid = true;
        fault.failure = Some(Failure::Status(status));
        Err(fault)
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
                    return Poll::Ready(Err(self.fault(ErrorKind::ClientGone)));
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
                    let mut fault = self.fault(ErrorKind::BadAnswer);
                    fault.ending = Some(Ending::NotProcessed);
                    return Poll::Ready(Err(fault));
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                    // It cannot be said in the service's protocol: nobody's fault but the request's.
                    return Poll::Ready(Err(self.fault(ErrorKind::BadRequest)));
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
                    return Poll::Ready(Err(self.answer_is_bad()));
                }
                self.visit.body_at = self.client.position();
            }
            if self.download.has_head() {
                let digested = self.download.digest(upstream, self.client);
                if digested.is_err() {
                    return Poll::Ready(Err(self.answer_is_bad()));
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
            Poll::Ready(Err(kind)) => return Poll::Ready(Err(self.fault_of(kind))),
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
        let kind = match (client_is_slow, self.half_closed) {
            (_, true) => ErrorKind::ClientGone,
            (true, false) => ErrorKind::ClientTimeout,
            (false, false) => ErrorKind::AnswerCut,
        };
        Poll::Ready(Err(self.fault_of(kind)))
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
        polled.map_err(|kind| self.fault(kind))?;
        if self.upload.is_done()
            && let (Some(copy), Some(target)) = (self.upload.copy.take(), &self.plan.mirror)
        {
            copy.send(self.worker, target, self.plan.to_head);
        }
        Ok(())
    }

    /// Notices a client that leaves while it waits: the service is spared the rest of the work.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        if !self.upload.is_done() || self.half_closed {
            // It is being read from anyway, or was given up, or has said all.
            return Ok(());
        }
        loop {
            let input = &mut self.client.input;
            if input.has_memory() && input.room().is_empty() {
                return Ok(());
            }
            match self.client.poll_fill(cx, &self.worker.buffers) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) if self.client.transport.may_be_half_closed() => {
                    self.half_closed = true;
                    self.moved = true;
                    return Ok(());
                }
                Poll::Ready(Ok(0) | Err(_)) => return Err(self.fault(ErrorKind::ClientGone)),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.worker.is_stopping(self.plan.side)
    }

    /// The service ended the connection, or it broke, before anything was passed on.
    fn broken_before_answer(&self) -> Fault {
        let kind = if self.download.has_head() {
            ErrorKind::AnswerCut
        } else {
            ErrorKind::BadAnswer
        };
        let mut fault = self.fault(kind);
        fault.failure = Some(Failure::Broken);
        fault.ending = Some(if self.download.has_head() {
            Ending::Broken
        } else {
            Ending::Stale
        });
        fault
    }

    fn answer_is_bad(&self) -> Fault {
        let mut fault = self.fault(ErrorKind::BadAnswer);
        fault.failure = Some(Failure::Broken);
        fault
    }

    /// A failure, with what its kind says about the instance.
    fn fault_of(&self, kind: ErrorKind) -> Fault {
        let mut fault = self.fault(kind);
        fault.failure = match kind {
            // Of a caller with less patience than we have, it says nothing about the service.
            ErrorKind::Timeout if self.has_own_time() => Some(Failure::Timeout),
            ErrorKind::AnswerCut => Some(Failure::Cut),
            _ => None,
        };
        fault
    }

    fn fault(&self, kind: ErrorKind) -> Fault {
        let answer_begun = self.download.has_begun();
        Fault {
            kind,
            answer_begun,
            end_would_look_clean: answer_begun && self.download.ends_with_the_connection(),
            request_read: self.upload.is_read(),
            ending: None,
            paid: false,
            failure: None,
            retry_after: None,
        }
    }

    /// Everything was passed on: keeps what can be used again.
    fn finish(&mut self, mut upstream: Wire, mut lease: Lease) -> Finished {
        if self.download.is_upgrade() {
            lease.step_out();
            return Finished::Upgraded { upstream, lease };
        }
        let done = self.upload.is_done();
        let whole = self.download.is_whole() && upstream.input.is_empty();
        let reusable = done && whole && self.download.leaves_connection_open();
        upstream.release(&self.worker.buffers);
        if reusable && let Some(stream) = upstream.transport.into_tcp() {
            lease.pool().put(stream, self.worker.clockwork.now());
        }
        Finished::Answered {
            close: self.download.closes_client() || !done,
        }
    }
}
