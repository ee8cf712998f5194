//! What the edge decides before it asks a service: which route, who may come, answers of its own.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use atoll_base::Timestamp;

use super::{Candidate, Compress, Course, Heard, Need, Rejection, Wait};
use crate::answer::Reply;
use crate::auth::{self, Access, Authenticator, Credentials, Forward, Identity, Outcome, Refusal};
use crate::compress::Coding;
use crate::http::{field, response};
use crate::local::{Local, Way};
use crate::origin::Outside;
use crate::policy::{self, Cors, Policy, Preflight};
use crate::rate::By;
use crate::route::{Lookup, Match, Route};
use crate::span::ErrorKind;

/// How far a request has come at the edge.
pub(super) enum Stage {
    /// It goes on to a service.
    Passed(Course),
    /// It was answered here.
    Answered(Reply),
    /// This is needed first.
    Waiting(Box<Wait>),
}

impl Stage {
    /// Something is missing.
    pub(super) fn needs(need: Need) -> Self {
        let limits = Vec::new();
        Self::Waiting(Box::new(Wait { need, limits }))
    }
}

/// The methods that every server knows, for answers to questions about none in particular.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Candidate<'_, '_, '_> {
    /// Finds the route and does what it says.
    pub(super) fn at_edge(
        &self,
        outside: &Outside,
        local: &Local,
    ) -> Result<Stage, Box<Rejection>> {
        if self.head.method == "TRACE" {
            // It would show a page what the browser keeps from it: cookies, credentials.
            let mut rejection = self.reject(ErrorKind::WrongMethod, "TRACE is not served here");
            rejection.allow = Some(METHODS.to_owned());
            return Err(rejection);
        }
        if let Some(reply) = self.to_https(outside)? {
            return Ok(Stage::Answered(reply));
        }
        if self.target.path == "*" {
            let fields = format!("Allow: {METHODS}\r\n");
            return Ok(Stage::Answered(self.reply(204, fields, Vec::new())));
        }
        if let Some(reply) = self.last_forward() {
            return Ok(Stage::Answered(reply));
        }
        if let Some(reply) = self.preflight(local) {
            return Ok(Stage::Answered(reply));
        }
        let route = match self.find(local, self.head.method.as_bytes()) {
            Match::Route(route) => route,
            Match::WrongMethod(allow) => {
                let mut rejection = self.reject(ErrorKind::WrongMethod, "");
                rejection.detail = Cow::Owned(format!("this path takes only {allow}"));
                rejection.allow = Some(allow);
                return Err(rejection);
            }
            Match::Nothing => return Err(self.no_route()),
        };
        let way = local.route(route.index).ok_or_else(|| self.no_route())?;
        let max_body = self.worker.shared.config.edge.max_body.0;
        let meter = self.meter.get_or_init(|| Rc::clone(&way.meter));
        self.route.get_or_init(|| Rc::clone(&way.pattern));
        let mut course = Course::to(&way.target, meter, route.max_body.unwrap_or(max_body));
        if let Some(timeout) = route.timeout {
            course.timeout = timeout;
        }
        if route
            .compress
            .unwrap_or(self.worker.shared.config.edge.compress)
        {
            let coding = Coding::negotiate(&self.head.fields);
            course.compress = coding.map_or(Compress::NotFor, Compress::With);
        }
        match &route.policy {
            None => {
                course.caching = self.invalidates(None);
                Ok(Stage::Passed(course))
            }
            Some(policy) => self.obey(policy, route, (local, way), outside, course),
        }
    }

    /// The answer to a question about how far it has come, where this is how far it may go (RFC 9110,
    /// 7.6.2).
    fn last_forward(&self) -> Option<Reply> {
        let is_over = self.head.method == "OPTIONS"
            && self.head.fields.get("max-forwards").map(<[u8]>::trim_ascii) == Some(b"0");
        is_over.then(|| self.reply(204, format!("Allow: {METHODS}\r\n"), Vec::new()))
    }

    /// Sends a client that came by plain HTTP to where HTTPS is served.
    fn to_https(&self, outside: &Outside) -> Result<Option<Reply>, Box<Rejection>> {
        let shared = &self.worker.shared;
        let wanted = shared
            .config
            .edge
            .tls
            .as_ref()
            .is_some_and(|tls| tls.redirect);
        let (true, Some(addr)) = (wanted, shared.tls_addr) else {
            return Ok(None);
        };
        if outside.is_secure(&self.head.fields) {
            return Ok(None);
        }
        let host = self.host().and_then(|host| std::str::from_utf8(host).ok());
        let Some(host) = host else {
            return Err(self.reject(ErrorKind::BadRequest, "the request names no host"));
        };
        // The port is behind the last colon, but not within an IPv6 address.
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => name,
            _ => host,
        };
        let (path, query) = (&self.target.path, self.target.query);
        let location = match addr.port() {
            443 => format!("Location: https://{name}{path}{query}\r\n"),
            port => format!("Location: https://{name}:{port}{path}{query}\r\n"),
        };
        Ok(Some(self.reply(308, location, Vec::new())))
    }

    /// Does what a route says besides leading to its service.
    fn obey(
        &self,
        policy: &Arc<Policy>,
        route: &Route,
        (local, way): (&Local, &Way),
        outside: &Outside,
        mut course: Course,
    ) -> Result<Stage, Box<Rejection>> {
        let fields = &self.head.fields;
        if let Some(cors) = &policy.cors {
            course.marks = cors.mark(fields.get("origin")).into_bytes();
        }
        if !self.may_come(policy, outside) {
            let mut rejection = self.reject(ErrorKind::Forbidden, "your address is not let in");
            rejection.fields = course.marks;
            return Err(rejection);
        }
        if let Some(local) = &policy.local {
            return self.answer(local, route, course).map(Stage::Answered);
        }
        // What needs no name comes first: a flood must not cost signatures.
        let by_name = matches!(&policy.rate, Some(rate) if rate.by.needs_identity());
        let before = course.marks.len();
        match self.heard {
            Some(heard) => course.marks.extend_from_slice(&heard.limits),
            None if !by_name => self.limit_rate(policy, way, outside, &mut course)?,
            None => {}
        }
        if let Some(access) = &policy.access
            && let Some(need) = self.identify(access, local, outside, &mut course)?
        {
            let limits = course.marks.split_off(before);
            return Ok(Stage::Waiting(Box::new(Wait { need, limits })));
        }
        if by_name && !self.heard.is_some_and(|heard| heard.collapsed) {
            self.limit_rate(policy, way, outside, &mut course)?;
        }
        course.target = Rc::clone(way.choose(|bound| self.worker.random.below(bound)));
        course.gate = Rc::clone(&course.target.gate);
        if route.timeout.is_none() {
            course.timeout = course.target.timeout;
        }
        course.policy = Some(Arc::clone(policy));
        if let Some(cache) = &policy.cache {
            match self.look_up(cache, &mut course) {
                Some(Stage::Waiting(mut wait)) => {
                    wait.limits = course.marks.split_off(before);
                    return Ok(Stage::Waiting(wait));
                }
                Some(stage) => return Ok(stage),
                None => {}
            }
        } else {
            course.caching = self.invalidates(None);
        }
        let rewrite = policy.rewrite.as_ref();
        course.path = rewrite.map(|rewrite| rewrite.fill(&self.target.path));
        if let (Some(mirror), Some(target)) = (&policy.mirror, &way.mirror)
            && self.worker.random.below(100) < usize::from(mirror.percent)
        {
            course.mirror = Some(Rc::clone(target));
        }
        Ok(Stage::Passed(course))
    }

    /// Counts the request against what its client may make.
    fn limit_rate(
        &self,
        policy: &Policy,
        way: &Way,
        outside: &Outside,
        course: &mut Course,
    ) -> Result<(), Box<Rejection>> {
        let (Some(rate), Some(table)) = (&policy.rate, &way.clients) else {
            return Ok(());
        };
        let fields = &self.head.fields;
        let identity = course.identity.as_deref();
        let named: Option<Cow<'_, [u8]>> = match &rate.by {
            By::Header(name) => fields.get(name).map(Cow::Borrowed),
            By::All => Some(Cow::Borrowed(b"")),
            By::Client => None,
            By::Key => identity
                .and_then(Identity::key)
                .map(|key| key.as_bytes().into()),
            By::Claim(name) => identity
                .and_then(|identity| identity.claim(name))
                .map(|claim| claim.into_owned().into_bytes().into()),
        };
        let now = self.worker.nanos();
        let decision = match named {
            Some(named) => table.take(&rate.limit, &*named, now),
            None => {
                let proxies = self.worker.shared.trusted_proxies.as_ref();
                let client = outside.client(fields, proxies);
                table.take(&rate.limit, network(client), now)
            }
        };
        rate.limit.write(&decision, &mut course.marks);
        if decision.allowed {
            return Ok(());
        }
        let mut rejection = self.reject(ErrorKind::RateLimited, "there were too many requests");
        rejection.fields = std::mem::take(&mut course.marks);
        Err(rejection)
    }

    /// Finds out who the request is from, and whether they may come; or what is needed to know it.
    fn identify(
        &self,
        access: &Access,
        local: &Local,
        outside: &Outside,
        course: &mut Course,
    ) -> Result<Option<Need>, Box<Rejection>> {
        let shared = &self.worker.shared;
        let Some(authenticator) = shared.config.auth.get(access.auth()) else {
            // The manifests of this moment do not fit together: nobody comes in by that.
            return Err(self.reject(
                ErrorKind::Forbidden,
                "nobody can be let in here at the moment",
            ));
        };
        let mut origin = Vec::new();
        if authenticator.forward().is_some() {
            let proxies = shared.trusted_proxies.as_ref();
            outside.write(None, &self.head.fields, proxies, &mut origin);
        }
        let credentials = Credentials {
            origin: &origin,
            fields: self.head.fields,
            client: outside.identity.as_ref(),
            method: self.head.method,
            host: self.host().unwrap_or_default(),
            path: &self.target.path,
            query: self.target.query.strip_prefix('?').unwrap_or_default(),
        };
        course.foreign = authenticator.foreign(&self.head.fields);
        course.told_by = authenticator.tells_who().then(|| Arc::clone(authenticator));
        let refusal = match self.ask_for_name(authenticator, &credentials) {
            Outcome::Verified(identity) => match access.permits(&identity) {
                Ok(()) => {
                    course.identity = Some(identity);
                    return Ok(None);
                }
                Err(denied) => authenticator.denied(&denied),
            },
            Outcome::Missing if access.is_optional() => return Ok(None),
            Outcome::Missing => authenticator.missing(),
            Outcome::NeedsKeys(refusal) => match authenticator.keys() {
                Some(keys) if self.heard.is_none_or(|heard| !heard.refreshed) => {
                    return Ok(Some(Need::Keys(keys.clone())));
                }
                _ => refusal,
            },
            Outcome::Refused(refusal) => refusal,
            Outcome::NeedsForward => {
                let asked = self.heard.is_some_and(|heard| heard.asked);
                let forward = authenticator.forward().filter(|_| !asked);
                let question =
                    forward.and_then(|forward| self.question(forward, &credentials, local));
                match question {
                    Some(need) => return Ok(Some(need)),
                    None => Forward::unreachable(),
                }
            }
        };
        Err(self.refuse(&refusal, course))
    }

    /// Checks the credentials, or judges what a service has said of them.
    fn ask_for_name(&self, auth: &Authenticator, credentials: &Credentials<'_>) -> Outcome {
        let mut tokens = self.worker.tokens.borrow_mut();
        let now = Timestamp::now();
        let Some(Heard {
            answer: Some(answer),
            ..
        }) = self.heard
        else {
            return auth.check(credentials, &mut tokens, now);
        };
        let mut storage = field::storage();
        match response::parse(&answer.head, &mut storage) {
            Ok(Some(head)) => {
                let (status, fields) = (head.status, head.fields);
                let answer = auth::Answer { status, fields };
                auth.answered(credentials, &answer, &mut tokens, now)
            }
            _ => Outcome::Refused(Forward::unreachable()),
        }
    }

    /// What a service is asked about the request.
    fn question(
        &self,
        forward: &Forward,
        credentials: &Credentials<'_>,
        local: &Local,
    ) -> Option<Need> {
        let target = local.target(forward.service())?;
        let mut request = Vec::with_capacity(512);
        forward.write_head(credentials, &mut request);
        super::line(&mut request, b"traceparent: ", &self.trace.traceparent());
        request.extend_from_slice(b"\r\n");
        Some(Need::Answer {
            target: Rc::clone(target),
            request,
        })
    }

    fn refuse(&self, refusal: &Refusal, course: &mut Course) -> Box<Rejection> {
        let kind = match refusal.status {
            401 => ErrorKind::Unauthorized,
            400 => ErrorKind::BadRequest,
            503 => ErrorKind::Overloaded,
            _ => ErrorKind::Forbidden,
        };
        let mut rejection = self.reject(kind, "");
        rejection.status = refusal.status;
        rejection.detail = refusal.detail.clone();
        rejection.fields = std::mem::take(&mut course.marks);
        refusal.write_fields(&mut rejection.fields);
        rejection
    }

    fn may_come(&self, policy: &Policy, outside: &Outside) -> bool {
        if policy.allow.is_none() && policy.deny.is_none() {
            return true;
        }
        let proxies = self.worker.shared.trusted_proxies.as_ref();
        let client = outside.client(&self.head.fields, proxies);
        policy
            .allow
            .as_ref()
            .is_none_or(|allow| allow.contain(client))
            && !policy
                .deny
                .as_ref()
                .is_some_and(|deny| deny.contain(client))
    }

    /// An answer that needs no service.
    fn answer(
        &self,
        local: &policy::Local,
        route: &Route,
        course: Course,
    ) -> Result<Reply, Box<Rejection>> {
        let mut fields = course.marks;
        fields.extend_from_slice(self.hsts().as_deref().unwrap_or_default());
        let mut reply = match local {
            policy::Local::Maintenance(text) => {
                let mut rejection = self.reject(ErrorKind::Maintenance, "");
                rejection.detail = Cow::Owned(text.clone());
                rejection.service = Some(Rc::clone(&course.target.service));
                rejection.fields = fields;
                return Err(rejection);
            }
            policy::Local::Redirect { to, status } => {
                let to = to.fill(&self.target.path);
                let query = if to.contains('?') {
                    ""
                } else {
                    self.target.query
                };
                fields.extend_from_slice(format!("Location: {to}{query}\r\n").as_bytes());
                self.reply(*status, "", Vec::new())
            }
            policy::Local::Answer {
                status,
                content_type,
                body,
            } => {
                fields.extend_from_slice(format!("Content-Type: {content_type}\r\n").as_bytes());
                self.reply(*status, "", body.clone().into_bytes())
            }
        };
        if let Some(policy) = &route.policy {
            policy.response.write_alone(&mut fields);
        }
        self.be_careful(&mut fields);
        reply.fields = fields;
        reply.service = Some(Rc::clone(&course.target.service));
        Ok(reply)
    }

    /// The answer to a browser that asks what it may do, if a route has an opinion on that.
    fn preflight(&self, local: &Local) -> Option<Reply> {
        if self.head.method != "OPTIONS" {
            return None;
        }
        let fields = &self.head.fields;
        let asked = Preflight {
            origin: fields.get("origin")?,
            method: fields.get("access-control-request-method")?,
        };
        let Match::Route(route) = self.find(local, asked.method) else {
            return None;
        };
        let cors: &Cors = route.policy.as_ref()?.cors.as_ref()?;
        Some(self.reply(204, cors.preflight(&asked), Vec::new()))
    }

    fn find<'l>(&self, local: &'l Local, method: &[u8]) -> Match<'l> {
        local.snapshot.routes.find(&Lookup {
            host: self.host().unwrap_or_default(),
            method,
            path: self.target.path.as_bytes(),
            query: self.target.query.strip_prefix('?').unwrap_or_default(),
            fields: Some(&self.head.fields),
        })
    }

    pub(super) fn reply(&self, status: u16, fields: impl Into<Vec<u8>>, body: Vec<u8>) -> Reply {
        let mut fields = fields.into();
        fields.extend_from_slice(self.hsts().as_deref().unwrap_or_default());
        self.be_careful(&mut fields);
        Reply {
            status,
            fields,
            body,
            service: None,
            trace: self.trace,
            side: self.origin.side(),
            to_head: self.head.method == "HEAD",
            close: self.facts.close || !self.facts.body.is_done(),
            meter: self.meter.get().cloned(),
            route: self.route.get().cloned(),
        }
    }

    fn be_careful(&self, fields: &mut Vec<u8>) {
        if self.worker.shared.config.edge.security_headers {
            policy::add_careful(fields, 0);
        }
    }

    fn no_route(&self) -> Box<Rejection> {
        self.reject(ErrorKind::NoRoute, "no route leads to this path")
    }
}

/// What one client has of an address: of IPv6, a provider hands out 64 bits and more.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}
