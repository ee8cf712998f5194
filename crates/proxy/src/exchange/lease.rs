//! Finding an endpoint for an attempt: the one that suits best, or the next that appears.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use atoll_base::InstanceId;

use super::{Exchange, Fault};
use crate::clock::millis;
use crate::limits::RETRIES_MAX;
use crate::local::Target;
use crate::pool::{Lease, Pool};
use crate::resilience::{Candidates, SlowStart};
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
        let asked = Asked {
            key: self.plan.key,
            repeatable: self.plan.idempotent && !self.upload.has_passed_request(),
            now: self.worker.clockwork.now(),
        };
        if let Some(lease) = choose(&self.plan.target, tried, &asked, &self.worker.random) {
            return Ok(lease);
        }
        let wait = self.worker.patience(self.plan.side).wait_for_instance;
        self.timer.arm(wait);
        loop {
            // The snapshot of the request may be old: the newest counts.
            let target = self.current_target();
            if let Some(lease) = choose(&target, tried, &asked, &self.worker.random) {
                return Ok(lease);
            }
            if wait.is_zero() || !self.next_publication().await? {
                return Err(self.fault(ErrorKind::NoInstance));
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

/// What matters about a request when an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    /// What it has in common with requests that go to the same instance.
    pub(super) key: Option<u64>,
    /// It can be sent elsewhere if this attempt fails.
    pub(super) repeatable: bool,
    /// Milliseconds of the clockwork.
    pub(super) now: u64,
}

/// Takes the endpoint that suits best: one that waits for a trial; else one that was not tried and
/// is good; else one that was not tried; else any.
pub(super) fn choose(
    target: &Target,
    tried: &Tried,
    asked: &Asked,
    random: &Random,
) -> Option<Lease> {
    if target.ejector.has_offer()
        && let Some(lease) = probe(target, tried, asked)
    {
        return Some(lease);
    }
    let untried = |pool: &Rc<Pool>| !tried.has(pool);
    let good = |pool: &Rc<Pool>| pool.endpoint.is_good(asked.now) && untried(pool);
    take(target, asked, random, &good)
        .or_else(|| take(target, asked, random, &untried))
        .or_else(|| take(target, asked, random, &|_| true))
}

/// Makes this request the trial of an endpoint that was left out.
fn probe(target: &Target, tried: &Tried, asked: &Asked) -> Option<Lease> {
    let fitting = |instance: &InstanceId| {
        target.pools.iter().find(|pool| {
            pool.endpoint.instance() == instance
                && !pool.endpoint.is_withdrawn()
                && !tried.has(pool)
        })
    };
    let fits = |instance: &InstanceId| fitting(instance).is_some();
    let trial = target.ejector.probe(asked.repeatable, asked.now, fits)?;
    let pool = fitting(trial.standing().instance())?;
    Lease::acquire_for(trial, pool)
}

/// The pools that fit, for the balancer.
struct Choice<'a> {
    target: &'a Target,
    fits: &'a dyn Fn(&Rc<Pool>) -> bool,
    slow_start: SlowStart,
    now: u64,
}

impl Candidates for Choice<'_> {
    fn count(&self) -> usize {
        self.target.pools.len()
    }

    fn is_usable(&self, at: usize) -> bool {
        let pool = self.target.pools.get(at);
        pool.is_some_and(|pool| !pool.endpoint.is_withdrawn() && (self.fits)(pool))
    }

    fn in_flight(&self, at: usize) -> u32 {
        let pool = self.target.pools.get(at);
        pool.map_or(0, |pool| pool.endpoint.in_flight())
    }

    fn cost(&self, at: usize) -> f32 {
        let pool = self.target.pools.get(at);
        pool.map_or(f32::MAX, |pool| {
            pool.ewma.cost(pool.endpoint.in_flight(), self.now * 1000)
        })
    }

    fn part(&self, at: usize) -> u32 {
        let pool = self.target.pools.get(at);
        let standing = pool.and_then(|pool| pool.endpoint.standing());
        let since = standing.map_or(0, |standing| standing.since());
        self.slow_start.part(since, self.now)
    }

    fn identity(&self, at: usize) -> u64 {
        self.target.pools.get(at).map_or(0, |pool| pool.identity)
    }
}

fn take(
    target: &Target,
    asked: &Asked,
    random: &Random,
    fits: &dyn Fn(&Rc<Pool>) -> bool,
) -> Option<Lease> {
    let choice = Choice {
        target,
        fits,
        slow_start: SlowStart::new(millis(target.balance.slow_start.0)),
        now: asked.now,
    };
    loop {
        let at = target
            .balancer
            .pick(&choice, asked.key, &|| random.next())?;
        // Withdrawn between the look and the taking: then it is looked at again.
        if let Some(lease) = target.pools.get(at).and_then(Lease::acquire) {
            return Some(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, Endpoint, Snapshot};
    use crate::gate::{Ejectors, Passages};
    use crate::local::Known;
    use crate::resilience::{BalanceConfig, BalanceKind, Balancer, Failure};
    use atoll_base::{RevisionNumber, ServiceName};
    use std::collections::HashMap;

    fn target(count: u32) -> Target {
        let name = ServiceName::new("orders").unwrap();
        let ejectors = Ejectors::default();
        let endpoints = (0..count).map(|ordinal| {
            let instance = InstanceId::new(name.clone(), RevisionNumber(1), ordinal);
            Endpoint::new(instance, ([127, 0, 0, 1], 1).into())
        });
        let cluster = Cluster::new(name.clone(), endpoints.collect());
        let snapshot = Snapshot {
            clusters: HashMap::from([(name.clone(), Arc::new(cluster.clone()))]),
            ..Snapshot::default()
        };
        ejectors.take_over(&snapshot, 0);
        let pool = |endpoint: &Arc<Endpoint>| Rc::new(Pool::new(Arc::clone(endpoint), 1000.0, 0));
        Target {
            calls_others: false,
            service: Rc::new(Known::new(name)),
            timeout: std::time::Duration::ZERO,
            denials: None,
            protocol: crate::cluster::Protocol::Http1,
            gate: Rc::new(Passages::default().gate(&snapshot, None, &cluster, 0)),
            ejector: ejectors.of(&cluster),
            balancer: Balancer::new(BalanceKind::Ewma),
            balance: BalanceConfig::default(),
            pools: cluster.endpoints.iter().map(pool).collect(),
        }
    }

    /// Which of the pools are taken when it is tried often.
    fn taken(target: &Target, tried: &Tried, now: u64) -> Vec<usize> {
        let random = Random::from_os().unwrap();
        let mut taken: Vec<_> = (0..200)
            .filter_map(|_| {
                let asked = Asked {
                    now,
                    ..Asked::default()
                };
                choose(target, tried, &asked, &random)
            })
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

    #[test]
    fn an_instance_that_keeps_failing_is_left_out_until_a_trial() {
        let target = target(2);
        let random = Random::from_os().unwrap();
        let mut lease = Lease::acquire(&target.pools[0]).unwrap();
        for _ in 0..5 {
            lease.settle(Err(Failure::Broken), 10, 0);
        }
        drop(lease);
        assert_eq!(taken(&target, &Tried::default(), 10), [1]);
        // Its time is over: the next request that can be repeated decides.
        target.ejector.tick(60_000, 0);
        let asked = Asked {
            repeatable: true,
            now: 60_000,
            key: None,
        };
        let mut trial = choose(&target, &Tried::default(), &asked, &random).unwrap();
        assert!(Rc::ptr_eq(trial.pool(), &target.pools[0]));
        let other = choose(&target, &Tried::default(), &asked, &random).unwrap();
        assert!(
            Rc::ptr_eq(other.pool(), &target.pools[1]),
            "one trial at a time"
        );
        trial.settle(Ok(std::time::Duration::from_millis(1)), 60_000, 0);
        for _ in 0..2 {
            let mut trial = choose(&target, &Tried::default(), &asked, &random).unwrap();
            assert!(Rc::ptr_eq(trial.pool(), &target.pools[0]));
            trial.settle(Ok(std::time::Duration::from_millis(1)), 60_000, 0);
        }
        assert!(target.pools[0].endpoint.is_good(60_000), "it is back");
    }
}
