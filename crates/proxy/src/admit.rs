//! From the head of a request to what is sent to the service: everything that is decided before
//! the first wait.
//!
//! The head for the service is written here, straight from the read buffer: fields that pass are
//! copied in whole runs, never one by one. It is kept until an answer begins, so that another
//! instance can be tried with the same bytes.

mod cached;
mod edge;
mod write;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Entry;
use crate::answer::{Form, Reply};
use crate::auth::{Authenticator, Forward, Identity, Keys};
use crate::clock::millis;
use crate::compress::Coding;
use crate::exchange::aside::Answer;
use crate::gate::Gate;
use crate::http::field::FieldSet;
use crate::http::request::{RequestFacts, RequestHead, check_host};
use crate::http::{Body, Refusal, Version};
use crate::limits::SMALL_BODY_BYTES;
use crate::local::{Call, Known, Local, Pattern, Target};
use crate::meter::Meter;
use crate::origin::Origin;
use crate::path;
use crate::policy::Policy;
use crate::recorder::Label;
use crate::resilience::deadline::{
    Deadline, TIMEOUT_FIELD, Wishes, parse_grpc_timeout, parse_timeout,
};
use crate::resilience::retry::is_idempotent;
use crate::resilience::tracestate::Hop;
use crate::resilience::{BalanceKind, HashBy, hash_key};
use crate::span::{ErrorKind, Side};
use crate::trace::TraceContext;
use crate::worker::Worker;
use atoll_base::Timestamp;
use tokio_util::sync::CancellationToken;

pub(crate) use self::cached::Caching;
use self::edge::Stage;

/// By this a caller in the mesh says that its request carries a record of a topic. For spans alone.
pub const TOPIC_FIELD: &str = "Atoll-Topic";

/// What becomes of a request.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once for each request; a box would be an allocation for each"
)]
pub(crate) enum Verdict {
    /// A service answers it.
    Forward(Plan, Body),
    /// It is answered here.
    Reply(Box<Reply>),
    /// This is to be waited for first; then it is to be admitted again.
    Wait(Box<Wait>),
}

/// What is missing before it can be decided who a request is from.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) need: Need,
    /// What it was told about its rate limit, which is not to be counted twice.
    limits: Vec<u8>,
}

/// What is missing.
#[derive(Debug)]
pub(crate) enum Need {
    /// Keys that are fetched.
    Keys(Keys),
    /// A service's answer to a request: it knows who may come.
    Answer {
        target: Rc<Target>,
        request: Vec<u8>,
    },
    /// The end of a fetch for the cache.
    Flight(CancellationToken),
}

/// What waiting has brought.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    limits: Vec<u8>,
    /// What the service answered, if one was asked and did.
    answer: Option<Answer>,
    /// A fetch of the same was waited for: all limits have counted it.
    collapsed: bool,
    /// A service was asked who may come.
    asked: bool,
    /// Keys were waited for.
    refreshed: bool,
}

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
    /// Its method may be sent twice without harm.
    pub(crate) idempotent: bool,
    /// The client promises that it may be sent twice.
    pub(crate) has_key: bool,
    /// An upper layer tries it again already.
    pub(crate) retried_above: bool,
    /// Where in the head for the service stands whether it is sent again.
    pub(crate) retry_mark: Option<usize>,
    /// What it has in common with requests that go to the same instance.
    pub(crate) key: Option<u64>,
    /// The way into the service.
    pub(crate) gate: Rc<Gate>,
    /// When it arrived, in milliseconds of the clockwork.
    pub(crate) began: u64,
    /// After that nobody waits, in milliseconds of the clockwork.
    pub(crate) until: Option<u64>,
    pub(crate) upgrade: bool,
    pub(crate) expects_continue: bool,
    /// The client's connection ends after the answer.
    pub(crate) close: bool,
    /// The largest body in bytes.
    pub(crate) max_body: u64,
    /// How long the service may take until the head of its answer.
    pub(crate) timeout: Duration,
    /// What the route does besides, if anything.
    pub(crate) policy: Option<Arc<Policy>>,
    /// Lines of fields that the answer gets.
    pub(crate) marks: Vec<u8>,
    /// The field that tells browsers to come by HTTPS only, where it is to be told.
    pub(crate) hsts: Option<Arc<[u8]>>,
    /// Browsers are told to be careful.
    pub(crate) careful: bool,
    /// Who gets a copy.
    pub(crate) mirror: Option<Rc<Target>>,
    /// How the answer may be compressed.
    pub(crate) compress: Compress,
    /// What counts it.
    pub(crate) meter: Rc<Meter>,
    /// Of the route that matched.
    pub(crate) route: Option<Rc<Pattern>>,
    /// Who it is from, where that was asked for.
    pub(crate) identity: Option<Rc<Identity>>,
    /// The part that the cache has in it, if any.
    pub(crate) caching: Option<Box<Caching>>,
}

/// Whether an answer may be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compress {
    /// Not here.
    Never,
    /// It would, but the client does not take it.
    NotFor,
    With(Coding),
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
    /// Lines of more fields for the answer.
    pub(crate) fields: Vec<u8>,
    pub(crate) form: Form,
    /// What follows the head cannot be understood or is not wanted.
    pub(crate) close: bool,
    /// What counts it; none if it got to no route.
    pub(crate) meter: Option<Rc<Meter>>,
    /// Of the route that matched.
    pub(crate) route: Option<Rc<Pattern>>,
}

/// Where a request goes, and what happens to it on the way.
pub(super) struct Course {
    target: Rc<Target>,
    gate: Rc<Gate>,
    timeout: Duration,
    max_body: u64,
    policy: Option<Arc<Policy>>,
    /// The path for the service, if it is another one.
    path: Option<String>,
    marks: Vec<u8>,
    /// Who it is from.
    identity: Option<Rc<Identity>>,
    /// Fields that do not go to the service: it would take them for ours, or they are about what
    /// this client has.
    foreign: FieldSet,
    /// Fields of the operator's choice tell the service who asks.
    told_by: Option<Arc<Authenticator>>,
    /// Lines that the service gets besides.
    more: Vec<u8>,
    caching: Option<Box<Caching>>,
    mirror: Option<Rc<Target>>,
    meter: Rc<Meter>,
    compress: Compress,
}

/// What has been found out about a request so far.
struct Candidate<'a, 'h, 'b> {
    worker: &'a Worker,
    origin: &'a Origin,
    head: &'a RequestHead<'h, 'b>,
    /// What was waited for.
    heard: Option<&'a Heard>,
    facts: RequestFacts<'b>,
    target: path::Target<'b>,
    trace: TraceContext,
    /// What counts it, once that is known.
    meter: OnceCell<Rc<Meter>>,
    /// The route that matched, once that is known.
    route: OnceCell<Rc<Pattern>>,
    /// What is read was HTTP/2 on the wire.
    over_http2: bool,
}

/// Decides on a request. If it is let in, the head for the service is in `out`.
pub(crate) fn admit(
    worker: &Worker,
    origin: &Origin,
    head: &RequestHead<'_, '_>,
    label: &mut Label,
    heard: Option<&Heard>,
    out: &mut Vec<u8>,
) -> Result<Verdict, Box<Rejection>> {
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
    // Nearly nobody says so; the field itself goes no further.
    if facts.own != 0
        && origin.side() == Side::Mesh
        && let Some(topic) = head.fields.get(TOPIC_FIELD)
        && let Ok(topic) = std::str::from_utf8(topic)
    {
        label.set_topic(topic);
    }
    let candidate = Candidate {
        trace: TraceContext::continue_or_join(
            facts.traceparent,
            || worker.local().occupant(origin.caller()?),
            &worker.random,
        ),
        worker,
        origin,
        head,
        heard,
        facts,
        target,
        meter: OnceCell::new(),
        route: OnceCell::new(),
        over_http2: label.over_http2,
    };
    let verdict = candidate.admit(out);
    if let (Origin::Edge(outside), Some(_)) = (origin, &worker.shared.config.edge.access_log) {
        let client = outside.client(&head.fields, worker.shared.trusted_proxies.as_ref());
        let version = if label.over_http2 {
            "HTTP/2.0"
        } else {
            head.version.name()
        };
        let request = (head.method, head.target, version);
        let mut entry = Box::new(Entry::new(client, request, &head.fields));
        if let Ok(Verdict::Forward(plan, _)) = &verdict {
            entry.by(plan.identity.clone());
        }
        label.entry = Some(entry);
    }
    verdict
}

impl Wait {
    /// With what came of it.
    pub(crate) fn over(self, answer: Option<Answer>, before: Option<Heard>) -> Heard {
        let before = before.unwrap_or_default();
        Heard {
            limits: self.limits,
            answer: answer.or(before.answer),
            collapsed: before.collapsed || matches!(self.need, Need::Flight(_)),
            asked: before.asked || matches!(self.need, Need::Answer { .. }),
            refreshed: before.refreshed || matches!(self.need, Need::Keys(_)),
        }
    }
}

impl Rejection {
    /// For a request whose trace could not be read.
    pub(crate) fn refusal(refusal: &Refusal, worker: &Worker) -> Box<Self> {
        Box::new(Self {
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
            fields: Vec::new(),
            form: Form::Problem,
            close: true,
            meter: None,
            route: None,
        })
    }
}

impl Candidate<'_, '_, '_> {
    fn admit(self, out: &mut Vec<u8>) -> Result<Verdict, Box<Rejection>> {
        let local = self.worker.local();
        let (course, call) = match self.origin {
            Origin::Edge(outside) => match self.at_edge(outside, &local)? {
                Stage::Passed(course) => (course, None),
                Stage::Answered(reply) => return Ok(Verdict::Reply(Box::new(reply))),
                Stage::Waiting(wait) => return Ok(Verdict::Wait(wait)),
            },
            Origin::Mesh { .. } => {
                let call = self.call(&local)?;
                self.recognize(&local, call);
                (self.in_mesh(call)?, Some(call))
            }
        };
        if matches!(self.facts.body, Body::Length(length) if length > course.max_body) {
            let detail = "the body of the request is too large";
            let mut rejection = self.turn_away(ErrorKind::TooLarge, detail, course);
            rejection.close = true;
            return Err(rejection);
        }
        let hop = self.hop(call.is_some_and(|call| call.inherits_deadlines));
        let now = Timestamp::now();
        let deadline = self.deadline(&course, hop, now);
        let remaining = deadline.map(|deadline| deadline.remaining(now));
        if remaining.is_some_and(|remaining| remaining.is_zero()) {
            let detail = "no time is left for this request";
            return Err(self.turn_away(ErrorKind::Timeout, detail, course));
        }
        let at_edge = self.origin.side() == Side::Edge;
        // What is kept needs no head for a service.
        let is_asked = course.caching.as_ref().is_none_or(|own| own.asks());
        let written = is_asked.then(|| self.write(&course, deadline, remaining, hop, out));
        let method = self.head.method;
        let began = self.worker.clockwork.now();
        let plan = Plan {
            caller: call.map(|call| Rc::clone(&call.caller)),
            side: self.origin.side(),
            trace: self.trace,
            modern_client: self.head.version == Version::Http11,
            to_head: method == "HEAD",
            grpc: self.facts.grpc,
            idempotent: is_idempotent(method),
            has_key: self.facts.idempotency_key,
            retried_above: hop.retried,
            retry_mark: written.flatten(),
            key: self.key(&course.target),
            began,
            until: remaining.map(|remaining| began.saturating_add(millis(remaining))),
            gate: course.gate,
            upgrade: self.facts.upgrade,
            expects_continue: self.facts.expects_continue,
            close: self.facts.close,
            max_body: course.max_body,
            timeout: course.timeout,
            target: course.target,
            policy: course.policy,
            marks: course.marks,
            mirror: course.mirror,
            meter: course.meter,
            route: self.route.get().cloned(),
            identity: course.identity,
            caching: course.caching,
            compress: course.compress,
            hsts: self.hsts(),
            careful: at_edge && self.worker.shared.config.edge.security_headers,
        };
        let mut body = self.facts.body;
        if let (Body::Chunked(decoder), Some(_)) = (&mut body, course.told_by) {
            decoder.refuse_trailers();
        }
        Ok(Verdict::Forward(plan, body))
    }

    /// Finds the callee's own route that the call is for: nothing hangs on it but its name.
    fn recognize(&self, local: &Local, call: &Call) {
        let (method, path) = (self.head.method.as_bytes(), self.target.path.as_bytes());
        let routes = &local.snapshot.routes;
        let found = call
            .own_routes
            .and_then(|own| routes.find_own(own, method, path));
        if let Some(way) = found.and_then(|route| local.route(route.index)) {
            self.route.get_or_init(|| Rc::clone(&way.pattern));
        }
    }

    /// The way of a call between services.
    fn in_mesh(&self, call: &Call) -> Result<Course, Box<Rejection>> {
        let meter = self.meter.get_or_init(|| Rc::clone(&call.meter));
        self.may_call(call)?;
        let mut course = Course::to(&call.target, meter, u64::MAX);
        course.gate = Rc::clone(&call.gate);
        course.timeout = call.timeout;
        course.more.extend_from_slice(&call.introduction);
        Ok(course)
    }

    /// Whether the caller is who it should be, and the callee answers to it.
    fn may_call(&self, call: &Call) -> Result<(), Box<Rejection>> {
        let caller = &call.caller.name;
        if self.origin.is_forged() {
            let mut rejection = self.reject(ErrorKind::Forbidden, "");
            rejection.detail =
                Cow::Owned(format!("only instances of {caller} may call this address"));
            rejection.close = true;
            return Err(rejection);
        }
        if let Some((limit, table)) = &call.rate {
            let decision = table.take(limit, (), self.worker.nanos());
            if !decision.allowed {
                let mut rejection = self.reject(ErrorKind::RateLimited, "");
                rejection.detail = Cow::Owned(format!("{caller} makes too many calls"));
                rejection.service = Some(Rc::clone(&call.target.service));
                limit.write(&decision, &mut rejection.fields);
                return Err(rejection);
            }
        }
        let Some(denials) = &call.target.denials else {
            return Ok(());
        };
        let path = self.target.path.as_bytes();
        if denials.refuse(caller, self.head.method.as_bytes(), path) {
            let callee = &call.target.service;
            let mut rejection = self.reject(ErrorKind::Forbidden, "");
            rejection.detail = Cow::Owned(format!("{} does not answer {caller} here", callee.name));
            rejection.service = Some(Rc::clone(callee));
            return Err(rejection);
        }
        Ok(())
    }

    fn hsts(&self) -> Option<Arc<[u8]>> {
        match self.origin {
            Origin::Edge(outside) if outside.secure => self.worker.shared.hsts.clone(),
            _ => None,
        }
    }

    fn call<'l>(&self, local: &'l Local) -> Result<&'l Rc<Call>, Box<Rejection>> {
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

    fn reject(&self, kind: ErrorKind, detail: &'static str) -> Box<Rejection> {
        Box::new(Rejection {
            status: crate::answer::status(kind),
            kind,
            detail: Cow::Borrowed(detail),
            service: None,
            trace: self.trace,
            allow: None,
            fields: Vec::new(),
            form: Form::of(self.head.method == "HEAD", self.facts.grpc),
            // A body that nobody wants would have to be read before the next request.
            close: self.facts.close || !self.facts.body.is_done(),
            meter: self.meter.get().cloned(),
            route: self.route.get().cloned(),
        })
    }

    /// Refuses what had a way to go.
    fn turn_away(&self, kind: ErrorKind, detail: &'static str, course: Course) -> Box<Rejection> {
        let mut rejection = self.reject(kind, detail);
        rejection.service = Some(Rc::clone(&course.target.service));
        rejection.fields = course.marks;
        rejection
    }

    /// The host that the client meant: an absolute URI wins over the field (RFC 9112, 3.2.2).
    fn host(&self) -> Option<&[u8]> {
        self.target.authority.map(str::as_bytes).or(self.facts.host)
    }

    /// What the request carries from the hop before it.
    fn hop(&self, inherits: bool) -> Hop {
        if self.facts.tracestate == 0 || self.origin.side() == Side::Edge {
            return Hop::default();
        }
        let mut hop = Hop::read(self.tracestates());
        if !inherits {
            hop.deadline = None;
        }
        hop
    }

    /// Until when the request is worth anything.
    fn deadline(&self, course: &Course, hop: Hop, now: Timestamp) -> Option<Deadline> {
        let small = matches!(self.facts.body, Body::Length(length) if length <= SMALL_BODY_BYTES);
        let own = (small && !self.facts.upgrade).then_some(course.timeout);
        let of_caller = self.origin.side() == Side::Mesh && self.facts.own != 0;
        let timeout = of_caller
            .then(|| self.head.fields.get(TIMEOUT_FIELD))
            .flatten();
        let wishes = Wishes {
            inherited: hop.deadline,
            timeout: timeout.and_then(parse_timeout),
            grpc: self.facts.grpc_timeout.and_then(parse_grpc_timeout),
        };
        if own.is_none() && wishes == Wishes::default() {
            return None;
        }
        Some(Deadline::combine(
            now,
            own.unwrap_or(Duration::MAX),
            &wishes,
        ))
    }

    /// What decides the instance, where requests go by that.
    fn key(&self, target: &Target) -> Option<u64> {
        let balance = &target.balance;
        if balance.kind != BalanceKind::Hash {
            return None;
        }
        let name = balance.name.as_deref().unwrap_or_default();
        let fields = &self.head.fields;
        match balance.by? {
            HashBy::Header => fields.get(name).map(hash_key),
            HashBy::Cookie => fields
                .get("cookie")
                .and_then(|all| cookie(all, name))
                .map(hash_key),
            HashBy::Client => match self.origin {
                Origin::Edge(outside) => {
                    let proxies = self.worker.shared.trusted_proxies.as_ref();
                    let client = outside.client(fields, proxies);
                    Some(hash_key(client.to_string().as_bytes()))
                }
                Origin::Mesh { address, .. } => Some(hash_key(&address.octets())),
            },
        }
    }
}

/// The value of a cookie (RFC 6265, 5.4).
fn cookie<'a>(all: &'a [u8], name: &str) -> Option<&'a [u8]> {
    all.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=")
    })
}

impl Course {
    /// The fields that the service gets from the proxy by the route's configuration.
    fn rewritten(&self) -> Vec<Box<str>> {
        let told = self.told_by.as_ref().and_then(|own| own.forward());
        let copied = told.map_or(&[][..], Forward::copied);
        let edits = self.policy.as_ref().map(|policy| policy.request.names());
        let edited = edits.into_iter().flatten().map(Box::from);
        copied.iter().cloned().chain(edited).collect()
    }

    /// Straight to a service.
    fn to(target: &Rc<Target>, meter: &Rc<Meter>, max_body: u64) -> Self {
        Self {
            target: Rc::clone(target),
            gate: Rc::clone(&target.gate),
            timeout: target.timeout,
            max_body,
            policy: None,
            path: None,
            marks: Vec::new(),
            identity: None,
            foreign: 0,
            told_by: None,
            more: Vec::new(),
            caching: None,
            mirror: None,
            meter: Rc::clone(meter),
            compress: Compress::Never,
        }
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
