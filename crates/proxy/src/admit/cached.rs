//! What the cache has for a request, and what the request may bring it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use atoll_base::Timestamp;

use super::edge::Stage;
use super::{Candidate, Course, Need};
use crate::answer::Reply;
use crate::cache::{
    Boarding, Cache, CachePolicy, Conditions, Fetch, Flight, Forwarded, Ignored, Key, Stored, Use,
    Wishes, bypass_line, conditional, seconds,
};
use crate::origin::Origin;

/// The part that the cache has in an exchange.
#[derive(Debug)]
pub(crate) struct Caching {
    pub(crate) cache: Arc<Cache>,
    /// This is the answer.
    pub(crate) hit: Option<Arc<Stored>>,
    /// What may be kept: of the answer to this request; or, beside a hit, of the answer to one of our
    /// own.
    pub(crate) fetch: RefCell<Option<Box<Fetch>>>,
    /// What the client has.
    pub(crate) conditions: Conditions,
    /// What is wrong once this request has succeeded (RFC 9111, 4.4).
    pub(crate) invalidates: Option<Key>,
}

/// Methods that change nothing (RFC 9110, 9.2.1).
const SAFE: [&str; 4] = ["GET", "HEAD", "OPTIONS", "TRACE"];

impl Candidate<'_, '_, '_> {
    /// A request that changes something makes what is kept of its target wrong.
    pub(super) fn invalidates(&self, policy: Option<&CachePolicy>) -> Option<Box<Caching>> {
        let cache = &self.worker.shared.cache;
        if SAFE.contains(&self.head.method) || !cache.is_used() {
            return None;
        }
        let none = Ignored::default();
        let ignored = policy.map_or(&none, |policy| &policy.ignored);
        Some(Box::new(Caching {
            invalidates: Some(self.key_in_cache(ignored)),
            ..Caching::new(cache)
        }))
    }

    /// Looks for an answer; tells what is to be waited for, or answered at once.
    pub(super) fn look_up(&self, policy: &Arc<CachePolicy>, course: &mut Course) -> Option<Stage> {
        if !matches!(self.head.method, "GET" | "HEAD") {
            course.caching = self.invalidates(Some(policy));
            return None;
        }
        if let Some(reason) = self.bypasses() {
            bypass_line(reason, &mut course.marks);
            return None;
        }
        let fields = &self.head.fields;
        let wishes = match policy.config.client_control {
            true => Wishes::read(fields),
            false => Wishes::default(),
        };
        let authenticated = course.identity.is_some() || fields.get("authorization").is_some();
        let (fetch, verdict) = self.find_kept(policy, authenticated, &wishes);
        let mut caching = Box::new(Caching {
            conditions: Conditions::read(fields),
            ..Caching::new(&fetch.cache)
        });
        let keeps = !wishes.no_store && self.head.method == "GET";
        match verdict {
            Some(Use::Fresh | Use::Stale) => caching.hit(&fetch),
            Some(Use::WhileRevalidating) => {
                caching.hit(&fetch);
                // What is fetched behind it is this request: another method is none of use.
                if keeps && let Boarding::Lead(flight) = fetch.board() {
                    self.prepare(fetch, Some(flight), &mut caching, course);
                }
            }
            None | Some(Use::Validate { .. }) if wishes.only_if_cached => {
                return Some(Stage::Answered(self.nothing_kept()));
            }
            None | Some(Use::Validate { .. }) => {
                let waited = self.heard.is_some_and(|heard| heard.collapsed);
                let flight = match keeps.then(|| fetch.board()) {
                    Some(Boarding::Lead(flight) | Boarding::Alone(flight)) => Some(flight),
                    Some(Boarding::Follow(over)) if !waited => {
                        return Some(Stage::needs(Need::Flight(over)));
                    }
                    _ => None,
                };
                fetch.cache.count_miss();
                self.prepare(fetch, flight, &mut caching, course);
            }
        }
        course.caching = Some(caching);
        None
    }

    /// What is kept for the request, and what that is good for.
    fn find_kept(
        &self,
        policy: &Arc<CachePolicy>,
        authenticated: bool,
        wishes: &Wishes,
    ) -> (Box<Fetch>, Option<Use>) {
        let cache = &self.worker.shared.cache;
        let key = self.key_in_cache(&policy.ignored);
        let moment = cache.store.moment(&key);
        let (found, others) = cache.store.find(&key, policy.route, &self.head.fields);
        let with_cookies = policy.is_about_cookies(&self.head.fields);
        let found = found.filter(|stored| stored.is_for(authenticated, with_cookies));
        let now = seconds(Timestamp::now());
        let verdict = found.as_ref().map(|stored| stored.times.judge(wishes, now));
        let why = match verdict {
            None if others => Forwarded::VaryMiss,
            None => Forwarded::UriMiss,
            Some(Use::Validate { asked: true }) => Forwarded::Request,
            Some(_) => Forwarded::Stale,
        };
        let fetch = Fetch {
            cache: Arc::clone(cache),
            policy: Arc::clone(policy),
            key,
            flight: None,
            moment,
            at: now,
            authenticated,
            with_cookies,
            rewritten: Vec::new(),
            request: Box::default(),
            why,
            stale: found,
        };
        (Box::new(fetch), verdict)
    }

    /// The answer to who wants nothing else than what is kept.
    fn nothing_kept(&self) -> Reply {
        let text = "only what is kept was asked for, and nothing is (RFC 9111, 5.2.1.7)\n";
        let fields = "Content-Type: text/plain\r\nCache-Status: atoll; detail=only-if-cached\r\n";
        self.reply(504, fields, text.into())
    }

    /// Makes the request to the service one whose answer is of use to all.
    fn prepare(
        &self,
        mut fetch: Box<Fetch>,
        flight: Option<Flight>,
        caching: &mut Caching,
        course: &mut Course,
    ) {
        fetch.flight = flight;
        if fetch.flight.is_some() || fetch.stale.is_some() {
            // What this client has is of no use to others.
            course.foreign |= conditional(&self.head.fields);
            fetch.request = self.head.fields.head().into();
            fetch.rewritten = course.rewritten();
            if let Some(stale) = &fetch.stale {
                stale.validators.write(&mut course.more);
            }
        }
        caching.fetch = RefCell::new(Some(fetch));
    }

    /// Why the cache has no part in a request.
    fn bypasses(&self) -> Option<&'static str> {
        let fields = &self.head.fields;
        let has = |name| fields.get(name).is_some();
        if has("range") {
            // Parts are passed, and not kept.
            Some("range")
        } else if has("if-match") || has("if-unmodified-since") {
            Some("precondition")
        } else if self.facts.upgrade {
            Some("upgrade")
        } else if !self.facts.body.is_done() {
            // It has no meaning (RFC 9110, 9.3.1); a service may see one all the same.
            Some("body")
        } else {
            None
        }
    }

    fn key_in_cache(&self, ignored: &Ignored) -> Key {
        let host = Cow::Borrowed(self.host().unwrap_or_default());
        let fields = &self.head.fields;
        let secure = matches!(self.origin, Origin::Edge(outside) if outside.is_secure(fields));
        Key::new(secure, &host, &self.target.path, self.target.query, ignored)
    }
}

impl Caching {
    /// What is kept is the answer.
    fn hit(&mut self, fetch: &Fetch) {
        fetch.cache.count_hit();
        self.hit.clone_from(&fetch.stale);
    }

    /// Whether a service is asked.
    pub(super) fn asks(&self) -> bool {
        self.hit.is_none() || self.fetch.borrow().is_some()
    }

    fn new(cache: &Arc<Cache>) -> Self {
        Self {
            cache: Arc::clone(cache),
            hit: None,
            fetch: RefCell::default(),
            conditions: Conditions::default(),
            invalidates: None,
        }
    }
}
