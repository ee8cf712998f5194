//! A request on its way to a service, whose answer may be kept.

use std::sync::Arc;

use bytes::Bytes;

use super::flight::{Boarding, Flight, Goal};
use super::status::Forwarded;
use super::store::Moment;
use super::stored::{Asked, Judged, Stored};
use super::vary::Key;
use super::{Cache, CachePolicy};
use crate::http::field::storage;
use crate::http::response::ResponseHead;
use crate::http::{BadChunk, Body};
use crate::http::{request, response};

/// What goes along with a request to a service.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) cache: Arc<Cache>,
    pub(crate) policy: Arc<CachePolicy>,
    pub(crate) key: Key,
    /// Others wait for this one, and its answer may be kept. None: it goes for itself.
    pub(crate) flight: Option<Flight>,
    /// What had been changed and purged before.
    pub(crate) moment: Moment,
    /// When it was sent, in seconds since the epoch.
    pub(crate) at: u64,
    pub(crate) authenticated: bool,
    /// It has cookies that its answer may depend on.
    pub(crate) with_cookies: bool,
    /// Fields that the service gets from the proxy, by the configuration of the route.
    pub(crate) rewritten: Vec<Box<str>>,
    /// The head, as it came.
    pub(crate) request: Box<[u8]>,
    /// Why the service is asked.
    pub(crate) why: Forwarded,
    /// What is kept and must not be used as it is.
    pub(crate) stale: Option<Arc<Stored>>,
}

/// An answer that is copied while it passes.
#[derive(Debug)]
pub(crate) struct Tee {
    judged: Judged,
    body: Body,
    payload: Vec<u8>,
}

impl Fetch {
    /// Whether it is the one that others wait for, or waits.
    pub(crate) fn board(&self) -> Boarding {
        let goal = Goal {
            key: self.key.clone(),
            route: self.policy.route,
            authenticated: self.authenticated,
            with_cookies: self.with_cookies,
        };
        self.cache.flights.board(goal, self.at)
    }

    /// Looks at the head of the answer: if it may be kept, a copy begins. If not, nobody waits for it
    /// any more.
    pub(crate) fn begin(
        &mut self,
        head: &ResponseHead<'_, '_>,
        body: &Body,
        now: u64,
    ) -> Option<Tee> {
        self.flight.as_ref().filter(|flight| flight.is_current())?;
        let most = self.policy.config.max_entry.0;
        let fits = match body {
            Body::Length(length) => *length <= most,
            Body::Chunked(_) => true,
            // Its end cannot be told from that of the process.
            Body::UntilClose => false,
        };
        let judged = fits.then(|| self.judge(head, now)).flatten();
        match (&judged, &self.flight) {
            (Some(_), Some(flight)) => flight.answered(now),
            // Of a failure it is not known yet whether it is passed on.
            (None, _) if head.status < 500 => self.give_up(head.status, now),
            _ => {}
        }
        Some(Tee {
            judged: judged?,
            body: body.clone(),
            payload: Vec::new(),
        })
    }

    fn judge(&self, head: &ResponseHead<'_, '_>, now: u64) -> Option<Judged> {
        self.with_asked(|asked| Judged::judge(head, asked, &self.policy, now))?
    }

    fn with_asked<T>(&self, work: impl FnOnce(&Asked<'_>) -> T) -> Option<T> {
        let mut storage = storage();
        // It was taken once.
        let head = request::parse(&self.request, &mut storage).ok()??;
        Some(work(&Asked {
            fields: head.fields,
            authenticated: self.authenticated,
            at: self.at,
            rewritten: &self.rewritten,
        }))
    }

    /// There will be nothing to keep of an answer with this status.
    pub(crate) fn give_up(&mut self, status: u16, now: u64) {
        // What is still fresh stays so, whatever a client that wanted more was told.
        if self.why == Forwarded::Request {
            self.flight = None;
            return;
        }
        // What stands there from before is no longer what the service says; a failure says nothing.
        if let Some(stale) = self.stale.as_ref().filter(|_| status < 500) {
            self.cache.store.forget(&self.key, stale);
        }
        if let Some(flight) = self.flight.take() {
            flight.give_up(now);
        }
    }

    /// Keeps the answer that was copied.
    pub(crate) fn keep(&mut self, mut tee: Tee) {
        tee.payload.shrink_to_fit();
        let stored = tee
            .judged
            .with_body(Bytes::from(tee.payload), self.policy.route);
        self.put(&Arc::new(stored));
        // Those who wait find it now.
        self.flight = None;
    }

    fn put(&mut self, stored: &Arc<Stored>) {
        let Some(flight) = self.flight.take().filter(Flight::is_current) else {
            return;
        };
        // A head that had just room for its fields may have none for those that were added.
        if stored.is_readable() && self.cache.store.keep(&self.key, stored, self.moment) {
            self.cache.count_kept();
            flight.landed();
        }
    }

    /// Takes the answer to a request of our own, whole; a body that is none was too large.
    pub(crate) fn settle(&mut self, head: &[u8], body: Option<Vec<u8>>, now: u64) {
        let mut storage = storage();
        let Ok(Some(parsed)) = response::parse(head, &mut storage) else {
            return;
        };
        if parsed.status == 304 {
            self.freshen(head, now);
        } else if let (Some(judged), Some(payload)) = (self.judge(&parsed, now), body) {
            let body = Body::NONE;
            self.keep(Tee {
                judged,
                body,
                payload,
            });
        } else {
            self.give_up(parsed.status, now);
        }
    }

    /// What is kept, brought up to date by the head of a 304; none if that cannot be read.
    pub(crate) fn freshen(&mut self, by: &[u8], now: u64) -> Option<Arc<Stored>> {
        let stale = &Arc::clone(self.stale.as_ref()?);
        let freshened = self.with_asked(|asked| stale.freshened(by, asked, &self.policy, now))?;
        let (fresh, may_be_kept) = freshened?;
        let fresh = Arc::new(fresh);
        if may_be_kept {
            self.put(&fresh);
        } else {
            self.cache.store.forget(&self.key, stale);
        }
        self.flight = None;
        Some(fresh)
    }
}

impl Tee {
    /// Copies bytes of the body, with their framing; false if there are too many.
    pub(crate) fn copy(&mut self, bytes: &[u8], most: u64) -> Result<bool, BadChunk> {
        self.body.unwrap(bytes, &mut self.payload)?;
        Ok(self.payload.len() as u64 <= most)
    }
}
