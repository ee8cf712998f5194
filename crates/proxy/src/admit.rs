//! From the head of a request to what is sent to the service: everything that is decided before
//! the first wait.
//!
//! The head for the service is written here, straight from the read buffer: fields that pass are
//! copied in whole runs, never one by one. It is kept until an answer begins, so that another
//! instance can be tried with the same bytes.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use crate::answer::Form;
use crate::connection::Origin;
use crate::http::request::{RequestFacts, RequestHead, check_host};
use crate::http::{Body, Refusal, Version};
use crate::local::{Call, Known, Local, Target};
use crate::path;
use crate::recorder::Label;
use crate::route::Match;
use crate::span::{ErrorKind, Side};
use crate::trace::TraceContext;
use crate::worker::Worker;

/// A request that is let in.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) target: Rc<Target>,
    /// Who calls, in the mesh.
    pub(crate) caller: Option<Rc<Known>>,
    pub(crate) side: Side,
    pub(crate) trace: TraceContext,
    /// The client understands chunks and interim answers.
    pub(crate) modern_client: bool,
    pub(crate) to_head: bool,
    /// It is a call of gRPC.
    pub(crate) grpc: bool,
    /// It may be sent twice without harm.
    pub(crate) idempotent: bool,
    pub(crate) upgrade: bool,
    pub(crate) expects_continue: bool,
    /// The client's connection ends after the answer.
    pub(crate) close: bool,
    /// The largest body in bytes.
    pub(crate) max_body: u64,
    /// How long the service may take until the head of its answer.
    pub(crate) timeout: Duration,
}

/// A request that is refused.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) status: u16,
    pub(crate) kind: ErrorKind,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) service: Option<Rc<Known>>,
    pub(crate) trace: TraceContext,
    pub(crate) allow: Option<String>,
    pub(crate) form: Form,
    /// What follows the head cannot be understood or is not wanted.
    pub(crate) close: bool,
}

/// What has been found out about a request so far.
struct Candidate<'a, 'h, 'b> {
    worker: &'a Worker,
    origin: &'a Origin,
    head: &'a RequestHead<'h, 'b>,
    facts: RequestFacts<'b>,
    target: path::Target<'b>,
    trace: TraceContext,
}

/// Decides on a request. If it is let in, the head for the service is in `out`.
pub(crate) fn admit(
    worker: &Worker,
    origin: &Origin,
    head: &RequestHead<'_, '_>,
    label: &mut Label,
    out: &mut Vec<u8>,
) -> Result<(Plan, Body), Rejection> {
    label.set(head.method, "");
    let refuse = |refusal: Refusal| Rejection::refusal(&refusal, worker);
    let facts = head.facts().map_err(refuse)?;
    if head.method == "CONNECT" {
        return Err(refuse(Refusal::new(501, "this is no forward proxy")));
    }
    let target = path::parse(head.target).map_err(|error| {
        refuse(Refusal::new(
            400,
            match error {
                path::BadTarget::Form => "the request target is neither a path nor a URI",
                path::BadTarget::Character => "the path has a character that must be escaped",
                path::BadTarget::Escape => "the path has a broken escape",
            },
        ))
    })?;
    if target.path == "*" && head.method != "OPTIONS" {
        return Err(refuse(Refusal::new(
            400,
            "only OPTIONS takes the target '*'",
        )));
    }
    if let Some(authority) = target.authority {
        check_host(authority.as_bytes()).map_err(refuse)?;
    }
    label.set(head.method, &target.path);
    let candidate = Candidate {
        trace: TraceContext::continue_or_begin(facts.traceparent, &worker.random),
        worker,
        origin,
        head,
        facts,
        target,
    };
    candidate.admit(out)
}

impl Rejection {
    /// For a request whose trace could not be read.
    pub(crate) fn refusal(refusal: &Refusal, worker: &Worker) -> Self {
        Self {
            status: refusal.status,
            kind: match refusal.status {
                413 | 414 | 431 => ErrorKind::TooLarge,
                408 => ErrorKind::ClientTimeout,
                _ => ErrorKind::BadRequest,
            },
            detail: Cow::Borrowed(refusal.detail),
            service: None,
            trace: TraceContext::continue_or_begin(None, &worker.random),
            allow: None,
            form: Form::Problem,
            close: true,
        }
    }
}

impl Candidate<'_, '_, '_> {
    fn admit(self, out: &mut Vec<u8>) -> Result<(Plan, Body), Rejection> {
        let local = self.worker.local();
        let mut caller = None;
        let (target, timeout, max_body) = match self.origin.side() {
            Side::Edge => self.route(&local)?,
            Side::Mesh => {
                let call = self.call(&local)?;
                caller = Some(Rc::clone(&call.caller));
                (Rc::clone(&call.target), call.target.timeout, u64::MAX)
            }
        };
        if matches!(self.facts.body, Body::Length(length) if length > max_body) {
            let mut rejection =
                self.reject(ErrorKind::TooLarge, "the body of the request is too large");
            rejection.service = Some(Rc::clone(&target.service));
            rejection.close = true;
            return Err(rejection);
        }
        self.write(target.service.name.as_str(), out);
        let method = self.head.method;
        let plan = Plan {
            target,
            caller,
            side: self.origin.side(),
            trace: self.trace,
            modern_client: self.head.version == Version::Http11,
            to_head: method == "HEAD",
            grpc: self.facts.grpc,
            idempotent: is_idempotent(method),
            upgrade: self.facts.upgrade,
            expects_continue: self.facts.expects_continue,
            close: self.facts.close,
            max_body,
            timeout,
        };
        Ok((plan, self.facts.body))
    }

    fn route(&self, local: &Local) -> Result<(Rc<Target>, Duration, u64), Rejection> {
        if self.head.method == "TRACE" {
            // It would show a page what the browser keeps from it: cookies, credentials.
            let mut rejection = self.reject(ErrorKind::WrongMethod, "TRACE is not served here");
            rejection.allow = Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned());
            return Err(rejection);
        }
        let found = local.snapshot.routes.find(
            self.host().unwrap_or_default(),
            self.head.method.as_bytes(),
            self.target.path.as_bytes(),
        );
        let route = match found {
            Match::Route(route) => route,
            Match::WrongMethod(allow) => {
                let mut rejection = self.reject(ErrorKind::WrongMethod, "");
                rejection.detail = Cow::Owned(format!("this path takes only {allow}"));
                rejection.allow = Some(allow);
                return Err(rejection);
            }
            Match::Nothing => {
                return Err(self.reject(ErrorKind::NoRoute, "no route leads to this path"));
            }
        };
        let target = local
            .route(route.index)
            .ok_or_else(|| self.reject(ErrorKind::NoRoute, "no route leads to this path"))?;
        let max_body = self.worker.shared.config.edge.max_body.0;
        Ok((
            Rc::clone(target),
            route.timeout.unwrap_or(target.timeout),
            route.max_body.unwrap_or(max_body),
        ))
    }

    fn call<'l>(&self, local: &'l Local) -> Result<&'l Rc<Call>, Rejection> {
        let call = self
            .origin
            .mesh_address()
            .and_then(|address| local.mesh(address));
        call.ok_or_else(|| {
            let mut rejection =
                self.reject(ErrorKind::NoRoute, "this dependency is no longer declared");
            rejection.close = true;
            rejection
        })
    }

    fn reject(&self, kind: ErrorKind, detail: &'static str) -> Rejection {
        Rejection {
            status: crate::answer::status(kind),
            kind,
            detail: Cow::Borrowed(detail),
            service: None,
            trace: self.trace,
            allow: None,
            form: Form::of(self.head.method == "HEAD", self.facts.grpc),
            // A body that nobody wants would have to be read before the next request.
            close: self.facts.close || !self.facts.body.is_done(),
        }
    }

    /// The host that the client meant: an absolute URI wins over the field (RFC 9112, 3.2.2).
    fn host(&self) -> Option<&[u8]> {
        self.target.authority.map(str::as_bytes).or(self.facts.host)
    }

    /// Writes the head for the service.
    fn write(&self, service: &str, out: &mut Vec<u8>) {
        for part in [
            self.head.method,
            " ",
            &*self.target.path,
            self.target.query,
            " HTTP/1.1\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        let mut without = self.facts.hop | self.facts.traceparent_set;
        if self.trace.parent.is_none() {
            without |= self.facts.tracestate;
        }
        let at_edge = self.origin.side() == Side::Edge;
        if at_edge {
            without |= self.facts.forwarded | self.facts.aliases;
        }
        if !at_edge || self.target.authority.is_some() {
            without |= self.facts.host_set;
        }
        self.head.fields.copy(without, out);
        if !at_edge || self.target.authority.is_some() || self.facts.host.is_none() {
            let host = if at_edge { self.host() } else { None };
            line(out, b"Host: ", host.unwrap_or(service.as_bytes()));
        }
        if matches!(self.facts.body, Body::Chunked(_)) {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if self.facts.upgrade {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        } else if self.facts.takes_trailers {
            out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
        }
        line(out, b"traceparent: ", &self.trace.traceparent());
        if at_edge {
            self.origin.write_forwarded(self.host(), out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE"
    )
}
