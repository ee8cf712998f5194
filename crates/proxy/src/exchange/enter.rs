//! The way into a service: its breaker, then a place among the requests that it has at once.

use std::future::Future;
use std::task::Poll;

use super::{Exchange, Fault};
use crate::resilience::breaker::{Admission, Trial};
use crate::resilience::bulkhead::{Entry, Waiting};
use crate::span::ErrorKind;

impl Exchange<'_> {
    /// Waits for the way in; tells whether the call decides if the breaker closes.
    pub(super) async fn enter(&mut self) -> Result<Option<Trial>, Fault> {
        let passage = &self.plan.gate.passage;
        let trial = match passage.breaker.admit(self.worker.clockwork.now()) {
            Admission::Pass => None,
            Admission::Trial(trial) => Some(trial),
            Admission::Refuse(pause) => {
                let mut fault = self.fault(ErrorKind::BreakerOpen);
                fault.retry_after = Some(pause);
                return Err(fault);
            }
        };
        self.permit = match passage.bulkhead.enter() {
            Entry::Entered(permit) => Some(permit),
            Entry::Queued(waiting) => {
                let permit = self.wait(waiting).await?;
                self.sent_from = self.worker.clockwork.now();
                Some(permit)
            }
            Entry::Refused(refusal) => {
                let mut fault = self.fault(ErrorKind::Overloaded);
                fault.retry_after = Some(refusal.retry_after());
                return Err(fault);
            }
        };
        Ok(trial)
    }

    async fn wait(
        &mut self,
        waiting: Waiting,
    ) -> Result<crate::resilience::bulkhead::Permit, Fault> {
        let mut waiting = std::pin::pin!(waiting);
        let limit = self.plan.gate.settings.concurrency.wait;
        self.timer.arm(self.time_left(limit));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(permit) = waiting.as_mut().poll(cx) {
                return Poll::Ready(Ok(permit));
            }
            if let Err(fault) = self.watch_client(cx) {
                return Poll::Ready(Err(fault));
            }
            if self.timer.poll(cx) {
                return Poll::Ready(Err(self.fault(ErrorKind::Overloaded)));
            }
            Poll::Pending
        })
        .await
    }
}
