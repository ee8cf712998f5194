//! One connection of a client, from accept to close: read a head, admit it, have it answered,
//! repeat.
//!
//! Requests that arrive in a row are answered one after the other, in order. Whatever a client
//! does wrong is answered before its connection is closed.

use std::future::Future;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::access::Entry;
use crate::admit::{self, Heard, Need, Plan, Rejection, Verdict, Wait};
use crate::answer::{self, Form, Problem, Reply};
use crate::clockwork::Timer;
use crate::config::Patience;
use crate::exchange::aside::{self, Want};
use crate::exchange::{Exchange, Fault, Finished};
use crate::h2;
use crate::http::field::storage;
use crate::http::request;
use crate::http::{Body, Refusal};
use crate::limits::{
    ANSWER_WITHIN, BUFFER_BYTES, FETCH_WITHIN, HEAD_BYTES_MAX, KEYS_WITHIN, LINGER,
};
use crate::origin::Origin;
use crate::recorder::{Label, Visit};
use crate::transport::Transport;
use crate::tunnel;
use crate::wire::Wire;
use crate::worker::Worker;
use atoll_base::clock::monotonic;

/// Serves a connection until either side ends it.
pub(crate) async fn serve(worker: Rc<Worker>, transport: Transport, origin: Origin) {
    let _guard = PanicGuard;
    let mut connection = Connection {
        timer: worker.clockwork.timer(),
        label: Label::over(transport.is_single()),
        client: Wire::new(transport),
        request: Vec::new(),
        is_new: true,
        worker: &worker,
        origin,
    };
    let next = loop {
        match connection.serve_one().await {
            Next::Request => {}
            Next::Linger => {
                connection.linger().await;
                break Next::Close;
            }
            next => break next,
        }
    };
    let Connection {
        mut client,
        origin,
        timer,
        ..
    } = connection;
    drop(timer);
    if next == Next::Close {
        farewell(&mut client).await;
    }
    if next == Next::Http2 {
        let (transport, read) = (client.transport, client.input);
        Box::pin(h2::serve(Rc::clone(&worker), transport, read, origin)).await;
    }
    if worker.stopping.get() {
        worker.wake.notify_one();
    }
}

/// Tells the other side that this is the end, where the protocol has a word for it.
async fn farewell(client: &mut Wire) {
    if client.transport.says_goodbye() {
        std::future::poll_fn(|cx| {
            // Once: nobody waits for a peer that does not read.
            client.shut_down(cx);
            Poll::Ready(())
        })
        .await;
    }
}

/// Says that a connection ended by a panic; the runtime would swallow it.
struct PanicGuard;

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("serving a connection panicked; the connection is closed");
        }
    }
}

struct Connection<'w> {
    worker: &'w Rc<Worker>,
    origin: Origin,
    timer: Timer,
    client: Wire,
    label: Label,
    /// The head for the service, and what of the body came with it.
    request: Vec<u8>,
    /// Nothing has been read yet.
    is_new: bool,
}

/// The length of the head that this begins with.
fn head_bytes(output: &[u8]) -> usize {
    memchr::memmem::find(output, b"\r\n\r\n").map_or(output.len(), |at| at + 4)
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Request,
    /// Close once the client surely has its answer.
    Linger,
    Close,
    /// The client speaks HTTP/2.
    Http2,
}

/// What reading a head came to.
#[expect(
    clippy::large_enum_variant,
    reason = "moved once for each request; a box would be an allocation for each"
)]
enum Read {
    Admitted(Plan, Body),
    Rejected(Box<Rejection>),
    /// An answer that is no refusal, and needs no service.
    Answered(Box<Reply>),
    /// This is to be waited for before the head is looked at again.
    Waiting(Box<Wait>),
    /// Nothing to answer.
    Ended,
    /// The client speaks HTTP/2.
    Http2,
}

impl Connection<'_> {
    async fn serve_one(&mut self) -> Next {
        let mut read = self.read_head().await;
        let mut heard = None;
        while let Read::Waiting(wait) = read {
            heard = Some(self.wait_for(*wait, heard).await);
            read = self.try_head(heard.as_ref()).unwrap_or(Read::Ended);
        }
        self.timer.disarm();
        let next = match read {
            Read::Admitted(plan, body) => self.forward(plan, body).await,
            Read::Rejected(rejection) => self.refuse(rejection).await,
            Read::Answered(reply) => self.reply(reply).await,
            Read::Ended => Next::Close,
            Read::Http2 => return Next::Http2,
            // There was a verdict.
            Read::Waiting(_) => Next::Close,
        };
        let spare = &self.worker.buffers;
        spare.return_output(std::mem::take(&mut self.request));
        self.client.release(spare);
        next
    }

    /// Waits for a complete head and decides on it.
    async fn read_head(&mut self) -> Read {
        // Bytes that were looked at and are no complete head.
        let mut seen = 0;
        self.timer.arm(self.patience().idle);
        if !self.client.input.is_empty() {
            self.timer.arm(self.patience().head);
        }
        std::future::poll_fn(|cx| {
            loop {
                let length = self.client.input.len();
                // A head cannot be complete, or wrong, without another line feed.
                let fresh = self.client.input.bytes().get(seen..).unwrap_or_default();
                let more = memchr::memchr(b'\n', fresh).is_some();
                if length > seen
                    && (more || seen == 0 || length >= HEAD_BYTES_MAX)
                    && let Some(read) = self.try_head(None)
                {
                    return Poll::Ready(read);
                }
                seen = length;
                if self.client.input.has_memory() && self.client.input.room().is_empty() {
                    self.client.input.grow(HEAD_BYTES_MAX + BUFFER_BYTES);
                }
                match self.client.poll_fill(cx, &self.worker.buffers) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Read::Ended),
                    Poll::Ready(Ok(_)) if seen == 0 => {
                        self.timer.arm(self.patience().head);
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending if seen == 0 && self.worker.is_stopping(self.origin.side()) => {
                        return Poll::Ready(Read::Ended);
                    }
                    Poll::Pending if self.timer.poll(cx) => {
                        return Poll::Ready(self.too_slow(seen));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Waits for what is missing, for a moment at most.
    async fn wait_for(&mut self, wait: Wait, before: Option<Heard>) -> Heard {
        let answer = match &wait.need {
            Need::Keys(keys) => {
                self.within(KEYS_WITHIN, keys.refreshed(monotonic())).await;
                None
            }
            Need::Answer { target, request } => {
                let asked = aside::ask(self.worker, target, request, false, Want::Head);
                self.within(ANSWER_WITHIN.min(target.timeout), asked)
                    .await
                    .flatten()
            }
            Need::Flight(over) => {
                self.within(FETCH_WITHIN, over.cancelled()).await;
                None
            }
        };
        wait.over(answer, before)
    }

    /// Waits for something, for so long at most.
    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        self.timer.arm(limit);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.timer.poll(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn too_slow(&mut self, seen: usize) -> Read {
        if seen == 0 {
            return Read::Ended;
        }
        let refusal = Refusal {
            status: 408,
            detail: "the head of the request did not arrive in time",
        };
        self.label_nothing(&refusal)
    }

    /// A refusal of what has neither method nor path: the label is still that of the request before.
    fn label_nothing(&mut self, refusal: &Refusal) -> Read {
        self.label.clear();
        if let (Origin::Edge(outside), Some(_)) =
            (&self.origin, &self.worker.shared.config.edge.access_log)
        {
            self.label.entry = Some(Box::new(Entry::unreadable(outside.peer())));
        }
        Read::Rejected(Rejection::refusal(refusal, self.worker))
    }

    /// Parses what there is; none if the head is not complete.
    fn try_head(&mut self, heard: Option<&Heard>) -> Option<Read> {
        if self.is_new
            && !self.client.transport.is_single()
            && self.client.input.bytes().starts_with(&h2::PREFACE[..16])
        {
            return Some(Read::Http2);
        }
        let mut storage = storage();
        let head = match request::parse(self.client.input.bytes(), &mut storage) {
            Ok(Some(head)) => head,
            Ok(None) => return None,
            Err(refusal) => return Some(self.label_nothing(&refusal)),
        };
        self.is_new = false;
        let length = head.length;
        if self.request.capacity() == 0 {
            self.request = self.worker.buffers.output();
        }
        let admitted = admit::admit(
            self.worker,
            &self.origin,
            &head,
            &mut self.label,
            heard,
            &mut self.request,
        );
        let read = match admitted {
            // The head stays where it is.
            Ok(Verdict::Wait(wait)) => return Some(Read::Waiting(wait)),
            Ok(Verdict::Forward(plan, body)) => Read::Admitted(plan, body),
            Ok(Verdict::Reply(reply)) => Read::Answered(reply),
            Err(rejection) => Read::Rejected(rejection),
        };
        self.client.input.consume(length);
        Some(read)
    }

    async fn forward(&mut self, plan: Plan, body: Body) -> Next {
        let mut visit = Visit {
            caller: plan.caller.clone(),
            service: Some(Rc::clone(&plan.target.service)),
            meter: Some(Rc::clone(&plan.meter)),
            route: plan.route.clone(),
            ..Visit::begin(plan.trace, plan.side)
        };
        let mut exchange = Exchange::new(
            self.worker,
            &self.timer,
            &mut self.client,
            &mut self.request,
            &plan,
            &mut visit,
            body,
        );
        let outcome = exchange.run().await;
        self.timer.disarm();
        match outcome {
            Ok(Finished::Answered { close }) => {
                self.record(&visit);
                if close { Next::Linger } else { Next::Request }
            }
            Ok(Finished::Upgraded {
                mut upstream,
                lease,
            }) => {
                let (side, timer) = (plan.side, &self.timer);
                tunnel::run(self.worker, side, timer, &mut self.client, &mut upstream).await;
                drop(lease);
                self.record(&visit);
                Next::Close
            }
            Err(fault) => self.fail(&plan, visit, fault).await,
        }
    }

    /// Answers for a service that did not, if there is still something to answer.
    async fn fail(&mut self, plan: &Plan, mut visit: Visit, fault: Fault) -> Next {
        visit.error = Some(fault.kind);
        if fault.answer_begun || fault.kind == crate::span::ErrorKind::ClientGone {
            // The client sees a connection that ends early: never a clean end of a cut answer.
            if visit.status == 0 {
                visit.status = answer::status(fault.kind);
            }
            if fault.answer_begun && fault.end_would_look_clean {
                self.client.transport.break_off();
            }
            self.record(&visit);
            return Next::Close;
        }
        let detail = answer::detail(fault.kind, Some(&plan.target.service.name));
        let problem = Problem {
            status: answer::status(fault.kind),
            kind: fault.kind,
            detail: &detail,
            service: Some(&plan.target.service.name),
            trace: plan.trace.trace,
            side: plan.side,
            allow: None,
            fields: &plan.marks,
            retry_after: fault.retry_after,
            form: Form::of(plan.to_head, plan.grpc),
            close: plan.close || !fault.request_read || self.worker.is_stopping(self.origin.side()),
        };
        self.client.prepare_output(&self.worker.buffers);
        problem.write(&mut self.client.output);
        self.send(problem.status, problem.close, visit).await
    }

    async fn refuse(&mut self, rejection: Box<Rejection>) -> Next {
        let visit = Visit {
            caller: self.caller(),
            service: rejection.service.clone(),
            error: Some(rejection.kind),
            meter: rejection.meter.clone(),
            route: rejection.route.clone(),
            ..Visit::begin(rejection.trace, self.origin.side())
        };
        let problem = Problem {
            status: rejection.status,
            kind: rejection.kind,
            detail: &rejection.detail,
            service: rejection.service.as_ref().map(|service| &service.name),
            trace: rejection.trace.trace,
            side: self.origin.side(),
            allow: rejection.allow.as_deref(),
            fields: &rejection.fields,
            retry_after: None,
            form: rejection.form,
            close: rejection.close || self.worker.is_stopping(self.origin.side()),
        };
        self.client.prepare_output(&self.worker.buffers);
        problem.write(&mut self.client.output);
        self.send(problem.status, problem.close, visit).await
    }

    /// Answers what was asked for, without a service.
    async fn reply(&mut self, mut reply: Box<Reply>) -> Next {
        let visit = Visit {
            service: reply.service.clone(),
            meter: reply.meter.clone(),
            route: reply.route.clone(),
            ..Visit::begin(reply.trace, self.origin.side())
        };
        reply.close |= self.worker.is_stopping(self.origin.side());
        self.client.prepare_output(&self.worker.buffers);
        reply.write(&mut self.client.output);
        self.send(reply.status, reply.close, visit).await
    }

    /// Sends an answer of the proxy's own, which was written.
    async fn send(&mut self, status: u16, close: bool, mut visit: Visit) -> Next {
        visit.status = status;
        visit.body_at = self.client.written + head_bytes(&self.client.output) as u64;
        self.timer.arm(self.patience().body);
        let sent = std::future::poll_fn(|cx| match self.client.poll_flush(cx) {
            Poll::Ready(sent) => Poll::Ready(sent.is_ok()),
            Poll::Pending if self.timer.poll(cx) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.timer.disarm();
        self.record(&visit);
        match (sent, close) {
            (true, false) => Next::Request,
            (true, true) => Next::Linger,
            (false, _) => Next::Close,
        }
    }

    /// Ends the connection so that the client surely gets the answer: closing while unread bytes
    /// are there would send a reset, which may destroy it (RFC 9112, 9.6).
    async fn linger(&mut self) {
        self.timer.arm(LINGER);
        let mut shut = false;
        std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut shut, true) {
                self.client.shut_down(cx);
            }
            loop {
                let length = self.client.input.len();
                self.client.input.consume(length);
                match self.client.poll_fill(cx, &self.worker.buffers) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    // A flood of unwanted bytes must not keep the deadline from being seen.
                    Poll::Ready(Ok(_)) if self.timer.poll(cx) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending if self.timer.poll(cx) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        let length = self.client.input.len();
        self.client.input.consume(length);
    }

    /// Takes down a request that is over.
    fn record(&mut self, visit: &Visit) {
        let bytes = match visit.body_at {
            0 => 0,
            begin => self.client.written.saturating_sub(begin),
        };
        self.worker.record(visit, &self.label, bytes);
        if let Some(entry) = self.label.entry.take() {
            self.worker.log_access(visit, &entry, bytes);
        }
    }

    fn patience(&self) -> &Patience {
        self.worker.patience(self.origin.side())
    }

    fn caller(&self) -> Option<Rc<crate::local::Known>> {
        let address = self.origin.mesh_address()?;
        let local = self.worker.local();
        local.mesh(address).map(|call| Rc::clone(&call.caller))
    }
}
