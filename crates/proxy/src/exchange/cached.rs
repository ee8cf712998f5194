//! Answers from the cache: at once, after the service said that they still hold, or in place of a
//! failure.

use std::rc::Rc;
use std::sync::Arc;

use atoll_base::Timestamp;

use super::aside::{self, Want};
use super::{Exchange, Fault, Finished};
use crate::cache::{Fetch, Forwarded, Replay, Stored, hit_lines, seconds};
use crate::limits::MIRRORS_MAX;
use crate::local::Target;
use crate::span::{Blame, ErrorKind};
use crate::transport::Transport;
use crate::wire::Wire;
use crate::worker::Worker;

impl Exchange<'_> {
    /// Gives what is kept, if that is the answer; and begins to fetch a new one behind it, if it is to
    /// be.
    pub(super) async fn answer_from_cache(&mut self) -> Option<Result<Finished, Fault>> {
        let caching = self.plan.caching.as_deref()?;
        let hit = caching.hit.as_ref()?;
        if let Some(fetch) = caching.fetch.take() {
            refresh(
                self.worker,
                &self.plan.target,
                fetch,
                std::mem::take(self.request),
            );
        }
        Some(self.replay(hit, None).await)
    }

    /// Whether the answer that has begun to come is not the one that is given.
    pub(super) fn is_replaced(&self) -> bool {
        if self.download.validates() {
            return true;
        }
        let failed = matches!(self.download.status(), 500 | 502..=504);
        failed && !self.download.has_begun() && self.replacement().is_some()
    }

    /// What is kept and may stand for a failure.
    fn replacement(&self) -> Option<Arc<Stored>> {
        let stale = self.download.fetch.as_ref()?.stale.as_ref()?;
        let now = seconds(Timestamp::now());
        stale
            .times
            .replaces_an_error(now)
            .then(|| Arc::clone(stale))
    }

    /// Gives what is kept where the service has said that it still holds, or has failed.
    pub(super) async fn fall_back(
        &mut self,
        outcome: Result<Finished, Fault>,
    ) -> Result<Finished, Fault> {
        let failed = match &outcome {
            Ok(_) if self.is_replaced() => self.download.status(),
            Err(fault) if !fault.answer_begun && !is_clients(fault.kind) => 0,
            Ok(_) | Err(_) => return outcome,
        };
        let now = seconds(Timestamp::now());
        let validated = self.download.take_validation();
        let (stored, why) = match (validated, self.download.fetch.as_mut()) {
            (Some(head), Some(fetch)) => {
                let fresh = fetch.freshen(&head, now);
                if fresh.is_none() {
                    // It is about something else: the next request fetches the whole.
                    if let Some(stale) = &fetch.stale {
                        fetch.cache.store.forget(&fetch.key, stale);
                    }
                }
                (fresh, fetch.why)
            }
            _ => (self.replacement(), Forwarded::Stale),
        };
        match stored {
            Some(stored) => self.replay(&stored, Some((why, failed))).await,
            None if outcome.is_ok() => Err(self.fault(ErrorKind::BadAnswer)),
            None => outcome,
        }
    }

    /// Passes on what is kept as if a service sent it. `fetched`: one was asked before.
    async fn replay(
        &mut self,
        stored: &Arc<Stored>,
        fetched: Option<(Forwarded, u16)>,
    ) -> Result<Finished, Fault> {
        self.permit = None;
        self.upload.restart();
        self.download.restart(self.client);
        self.download.fetch = None;
        let now = seconds(Timestamp::now());
        hit_lines(&stored.times, now, fetched, &mut self.download.lines);
        let conditions = self
            .plan
            .caching
            .as_ref()
            .map(|caching| &caching.conditions);
        let has_it = conditions.is_some_and(|conditions| conditions.have(&stored.validators));
        let replay = match has_it && stored.status == 200 {
            true => Replay::not_modified(stored),
            false => Replay::whole(stored),
        };
        let mut wire = Wire::new(Transport::Replay(Box::new(replay)));
        let passed = self.pass(&mut wire).await;
        let length = wire.input.len();
        wire.input.consume(length);
        wire.release(&self.worker.buffers);
        passed.map(|()| Finished::Answered {
            close: self.download.closes_client() || !self.upload.is_done(),
        })
    }

    async fn pass(&mut self, wire: &mut Wire) -> Result<(), Fault> {
        std::future::poll_fn(|cx| self.poll_head(wire, cx)).await?;
        self.visit.status = self.download.status();
        self.timer.arm(self.pause_max());
        std::future::poll_fn(|cx| self.poll_answer(wire, cx)).await
    }
}

/// Whether a failure is of the client's making: then nothing else helps it.
fn is_clients(kind: ErrorKind) -> bool {
    kind.blame() == Blame::Client
}

/// Fetches a new answer for the cache, by a request of our own.
fn refresh(worker: &Rc<Worker>, target: &Rc<Target>, mut fetch: Box<Fetch>, request: Vec<u8>) {
    if worker.mirrors.get() >= MIRRORS_MAX {
        return;
    }
    worker.mirrors.set(worker.mirrors.get() + 1);
    let (worker, target) = (Rc::clone(worker), Rc::clone(target));
    tokio::task::spawn_local(async move {
        let want = Want::Body(fetch.policy.config.max_entry.0);
        let asked = aside::ask(&worker, &target, &request, false, want);
        if let Ok(Some(answer)) = tokio::time::timeout(target.timeout, asked).await {
            fetch.settle(&answer.head, answer.body, seconds(Timestamp::now()));
        }
        worker.mirrors.set(worker.mirrors.get() - 1);
    });
}
