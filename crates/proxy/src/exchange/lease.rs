//! Finding an endpoint for an attempt: the one that suits best, or the next that appears.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::{Exchange, Fault};
use crate::balance;
use crate::limits::RETRIES_MAX;
use crate::local::Target;
use crate::pool::{Lease, Pool};
use crate::span::ErrorKind;
use crate::trace::Random;

/// The endpoints that an exchange has tried.
#[derive(Default)]
pub(super) struct Tried {
    pools: [Option<Rc<Pool>>; RETRIES_MAX as usize + 1],
    pub(super) count: usize,
}

impl Exchange<'_> {
    /// Takes an endpoint; waits for one if that is allowed.
    pub(super) async fn lease(&mut self, tried: &Tried) -> Result<Lease, Fault> {
        let now = self.worker.clockwork.now();
        if let Some(lease) = choose(&self.plan.target, tried, now, &self.worker.random) {
            return Ok(lease);
        }
        let wait = self.worker.patience(self.plan.side).wait_for_instance;
        self.timer.arm(wait);
        loop {
            // The snapshot of the request may be old: the newest counts.
            let target = self.current_target();
            if let Some(lease) = choose(&target, tried, now, &self.worker.random) {
                return Ok(lease);
            }
            if wait.is_zero() || !self.next_publication().await? {
                return Err(self.fault(ErrorKind::NoInstance, false));
            }
        }
    }

    /// The service as of the newest snapshot.
    pub(super) fn current_target(&self) -> Rc<Target> {
        let local = self.worker.local();
        let current = local.target(&self.plan.target.service.name);
        Rc::clone(current.unwrap_or(&self.plan.target))
    }

    /// Waits for a publication; false if the deadline passes first.
    async fn next_publication(&mut self) -> Result<bool, Fault> {
        let mut published = std::pin::pin!(self.worker.published.notified());
        std::future::poll_fn(|cx| {
            if published.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(true));
            }
            if let Err(fault) = self.watch_client(cx) {
                return Poll::Ready(Err(fault));
            }
            if self.timer.poll(cx) {
                Poll::Ready(Ok(false))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

impl Tried {
    pub(super) fn add(&mut self, pool: &Rc<Pool>) {
        if let Some(slot) = self.pools.get_mut(self.count) {
            *slot = Some(Rc::clone(pool));
        }
        self.count += 1;
    }

    fn has(&self, pool: &Rc<Pool>) -> bool {
        let tried = self.pools.iter().flatten();
        tried
            .into_iter()
            .any(|own| Arc::ptr_eq(&own.endpoint, &pool.endpoint))
    }

    /// Whether there is an endpoint that was not tried.
    pub(super) fn others(&self, target: &Target) -> bool {
        let mut pools = target.pools.iter();
        pools.any(|pool| !self.has(pool) && !pool.endpoint.is_withdrawn())
    }
}

/// Takes the endpoint that suits best: one that was not tried and is not suspect; else one that
/// was not tried; else any.
pub(super) fn choose(target: &Target, tried: &Tried, now: u64, random: &Random) -> Option<Lease> {
    let untried = |pool: &Rc<Pool>| !tried.has(pool);
    let good = |pool: &Rc<Pool>| !pool.endpoint.is_suspect(now) && untried(pool);
    take(&target.pools, random, good)
        .or_else(|| take(&target.pools, random, untried))
        .or_else(|| take(&target.pools, random, |_| true))
}

/// Takes the less loaded of two random endpoints that fit.
fn take(pools: &[Rc<Pool>], random: &Random, fits: impl Fn(&Rc<Pool>) -> bool) -> Option<Lease> {
    let load = |at: usize| {
        let pool = pools.get(at)?;
        let ready = !pool.endpoint.is_withdrawn() && fits(pool);
        ready.then(|| pool.endpoint.in_flight())
    };
    loop {
        let at = balance::pick(pools.len(), load, |bound| random.below(bound))?;
        // Withdrawn between the look and the taking: then it is looked at again.
        if let Some(lease) = pools.get(at).and_then(Lease::acquire) {
            return Some(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Endpoint;
    use crate::local::Known;
    use atoll_base::{InstanceId, RevisionNumber, ServiceName};

    fn target(count: u32) -> Target {
        let name = ServiceName::new("orders").unwrap();
        let pool = |ordinal| {
            let instance = InstanceId::new(name.clone(), RevisionNumber(1), ordinal);
            let addr = ([127, 0, 0, 1], 1).into();
            Rc::new(Pool::new(Endpoint::new(instance, addr)))
        };
        Target {
            service: Rc::new(Known::new(name.clone())),
            timeout: std::time::Duration::ZERO,
            denials: None,
            protocol: crate::cluster::Protocol::Http1,
            pools: (0..count).map(pool).collect(),
        }
    }

    /// Which of the pools are taken when it is tried often.
    fn taken(target: &Target, tried: &Tried, now: u64) -> Vec<usize> {
        let random = Random::from_os().unwrap();
        let mut taken: Vec<_> = (0..200)
            .filter_map(|_| choose(target, tried, now, &random))
            .filter_map(|lease| {
                let mut pools = target.pools.iter();
                pools.position(|pool| Rc::ptr_eq(pool, lease.pool()))
            })
            .collect();
        taken.sort_unstable();
        taken.dedup();
        taken
    }

    #[test]
    fn untried_ones_without_suspicion_come_first_and_the_last_one_is_never_excluded() {
        let target = target(3);
        let mut tried = Tried::default();
        assert_eq!(taken(&target, &tried, 10), [0, 1, 2]);
        target.pools[0].endpoint.suspect(20);
        assert_eq!(taken(&target, &tried, 10), [1, 2]);
        assert_eq!(taken(&target, &tried, 20), [0, 1, 2], "for a while only");
        tried.add(&target.pools[1]);
        assert_eq!(taken(&target, &tried, 10), [2]);
        target.pools[2].endpoint.withdraw();
        assert_eq!(taken(&target, &tried, 10), [0], "rather suspect than tried");
        assert!(tried.others(&target));
        target.pools[0].endpoint.withdraw();
        assert_eq!(taken(&target, &tried, 10), [1], "rather tried than none");
        assert!(!tried.others(&target));
        target.pools[1].endpoint.withdraw();
        assert!(taken(&target, &tried, 10).is_empty());
    }
}
