//! How long each step of an exchange may take.

use std::time::Duration;

use super::{Exchange, Fault};
use crate::clock::millis;
use crate::limits::{CONTINUE_AFTER, HALF_CLOSED_GRACE, TICK, UPLOAD_BYTES_PER_SECOND_MIN};
use crate::span::ErrorKind;

impl Exchange<'_> {
    /// How long the service may pause within its answer.
    pub(super) fn pause_max(&self) -> Duration {
        let stopping = self.is_stopping();
        self.while_heard(self.download.pause_max(self.plan.timeout, stopping))
    }

    /// A time limit, for a client that is surely there.
    fn while_heard(&self, limit: Duration) -> Duration {
        if self.half_closed {
            limit.min(HALF_CLOSED_GRACE)
        } else {
            limit
        }
    }

    /// How long the next step may take while there is no head.
    pub(super) fn patience(&self) -> Duration {
        if self.upload.is_done() {
            self.while_heard(self.time_left(self.plan.timeout))
        } else if self.plan.expects_continue && !self.download.has_continued() {
            CONTINUE_AFTER
        } else {
            self.time_for_body()
        }
    }

    /// How long the client may pause within its body: less, the slower it was so far.
    fn time_for_body(&self) -> Duration {
        let pause = self.worker.patience(self.plan.side).body;
        let spent = self.worker.clockwork.now().saturating_sub(self.plan.began);
        let earned = self.upload.taken().saturating_mul(1000) / UPLOAD_BYTES_PER_SECOND_MIN;
        let allowed = millis(pause).saturating_add(earned);
        pause.min(Duration::from_millis(allowed.saturating_sub(spent)))
    }

    /// So much of a limit as the request has time for.
    pub(super) fn time_left(&self, limit: Duration) -> Duration {
        let now = self.worker.clockwork.now();
        let left = self.plan.until.map(|until| until.saturating_sub(now));
        left.map_or(limit, |left| limit.min(Duration::from_millis(left)))
    }

    /// Whether the service had about as much time as the request may take by the configuration: what
    /// the client took for its body is not the service's fault.
    pub(super) fn has_own_time(&self) -> bool {
        let given = self
            .plan
            .until
            .map(|until| until.saturating_sub(self.sent_from));
        let whole = millis(self.plan.timeout);
        // The clock is a coarse one.
        let slack = (whole / 10).max(2 * millis(TICK));
        given.is_none_or(|given| given.saturating_add(slack) >= whole)
    }

    /// The deadline has passed before there was a head.
    pub(super) fn head_is_late(&mut self) -> Result<(), Fault> {
        if self.half_closed {
            return Err(self.fault(ErrorKind::ClientGone));
        }
        if self.upload.is_over() {
            return Err(self.fault_of(ErrorKind::Timeout));
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
        Err(self.fault_of(kind))
    }
}
