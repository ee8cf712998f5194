//! The way into a service, for one of its callers: what its breaker, its bulkhead and its budget of
//! retries know, shared by all workers, and what one worker counted since it last told.
//!
//! These things outlive snapshots: a deployment neither closes a breaker nor fills up a budget.
//! The instances of a service are judged for all its callers together ([`Ejectors`]).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_base::{InstanceId, ServiceName, Timestamp};

use crate::cluster::{Cluster, Snapshot};
use crate::resilience::adaptive::Vegas;
use crate::resilience::breaker::Breaker;
use crate::resilience::budget::RetryBudget;
use crate::resilience::bulkhead::{Bulkhead, Limits};
use crate::resilience::ejection::Verdict;
use crate::resilience::settings::DependencySettings;
use crate::resilience::standing::Ejector;
use crate::resilience::{Counts, Failure, Millis, Why};

/// What all workers share about the calls of one caller to one service.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) bulkhead: Arc<Bulkhead>,
    pub(crate) budget: Mutex<RetryBudget>,
    rules: Mutex<Rules>,
}

#[derive(Debug)]
struct Rules {
    settings: DependencySettings,
    limits: Limits,
    /// If the limit is found by measuring.
    vegas: Option<Vegas>,
}

/// One worker's view of a passage.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) passage: Arc<Passage>,
    pub(crate) settings: DependencySettings,
    counts: RefCell<Counts>,
}

/// All passages, by caller (none for the edge) and callee.
#[derive(Debug, Default)]
pub(crate) struct Passages(Mutex<HashMap<Key, Arc<Passage>>>);

type Key = (Option<ServiceName>, ServiceName);

/// Who judges the instances of each service.
#[derive(Debug, Default)]
pub(crate) struct Ejectors(Mutex<HashMap<ServiceName, Judge>>);

#[derive(Debug)]
struct Judge {
    ejector: Arc<Ejector>,
    known: HashSet<InstanceId>,
}

impl Passage {
    fn new(settings: DependencySettings, limits: Limits, now: Millis) -> Self {
        let vegas = vegas(&settings, limits, now);
        let first = vegas
            .as_ref()
            .map_or(limits, |vegas| measured(limits, vegas));
        Self {
            breaker: Breaker::new(settings.breaker),
            bulkhead: Bulkhead::new(first),
            budget: Mutex::new(RetryBudget::new(settings.retries)),
            rules: Mutex::new(Rules {
                settings,
                limits,
                vegas,
            }),
        }
    }

    /// Takes new settings, if they are new.
    fn set(&self, settings: DependencySettings, limits: Limits, now: Millis) {
        let mut rules = lock(&self.rules);
        if rules.settings == settings && rules.limits == limits {
            return;
        }
        if rules.settings.concurrency.adaptive != settings.concurrency.adaptive {
            rules.vegas = vegas(&settings, limits, now);
        } else if let Some(vegas) = &mut rules.vegas {
            vegas.set_most(limits.in_flight);
        }
        let effective = rules
            .vegas
            .as_ref()
            .map_or(limits, |vegas| measured(limits, vegas));
        rules.settings = settings;
        rules.limits = limits;
        drop(rules);
        self.bulkhead.set_limits(effective);
        self.breaker.set(settings.breaker, now);
        lock(&self.budget).set(settings.retries);
    }

    fn counted(&self, counts: Counts, now: Millis, random: u64) {
        self.breaker.counted(counts, now, random);
        lock(&self.budget).deposit(counts.requests(), now);
        let mut rules = lock(&self.rules);
        let limits = rules.limits;
        if let Some(vegas) = &mut rules.vegas {
            vegas.counted(&counts, self.bulkhead.load().in_flight, now);
            let limits = measured(limits, vegas);
            drop(rules);
            self.bulkhead.set_limits(limits);
        }
    }
}

fn vegas(settings: &DependencySettings, limits: Limits, now: Millis) -> Option<Vegas> {
    let adaptive = settings.concurrency.adaptive;
    adaptive.then(|| Vegas::new(limits.in_flight, now))
}

fn measured(limits: Limits, vegas: &Vegas) -> Limits {
    let in_flight = vegas.limit();
    Limits {
        in_flight,
        queue: limits.queue.min(in_flight),
    }
}

impl Gate {
    /// Counts a call that began at `began` and was answered or failed.
    pub(crate) fn count(&self, began: Millis, outcome: Result<std::time::Duration, Failure>) {
        if began < self.passage.breaker.since() {
            // It says how things were.
            return;
        }
        let mut counts = self.counts.borrow_mut();
        match outcome {
            Ok(latency) => counts.answered(latency),
            Err(failure) => counts.failed(failure),
        }
    }

    /// Tells what was counted.
    pub(crate) fn flush(&self, now: Millis, random: u64) {
        let counts = self.counts.borrow_mut().take();
        if !counts.is_empty() {
            self.passage.counted(counts, now, random);
        }
    }
}

impl Passages {
    /// The way from `caller` (the edge, if none) to the service of `cluster`.
    pub(crate) fn gate(
        &self,
        snapshot: &Snapshot,
        caller: Option<&ServiceName>,
        cluster: &Cluster,
        now: Millis,
    ) -> Gate {
        let from = caller.and_then(|caller| snapshot.clusters.get(caller));
        let own = from.and_then(|from| from.dependencies.get(&cluster.service));
        let own = own.cloned().unwrap_or_default();
        let settings = DependencySettings::resolve(&cluster.resilience, &own);
        let limits = settings.concurrency.limits(cluster.endpoints.len());
        let mut passages = lock(&self.0);
        let key = (caller.cloned(), cluster.service.clone());
        let passage = passages
            .entry(key)
            .or_insert_with(|| Arc::new(Passage::new(settings, limits, now)));
        passage.set(settings, limits, now);
        Gate {
            passage: Arc::clone(passage),
            settings,
            counts: RefCell::default(),
        }
    }

    /// Why calls are refused now: caller (none for the edge), callee and reason of each.
    pub(crate) fn explain(
        &self,
        now: Millis,
        wall: Timestamp,
    ) -> Vec<(Option<ServiceName>, ServiceName, Why)> {
        let passages = lock(&self.0);
        let open = passages.iter().filter_map(|((caller, callee), passage)| {
            let why = passage.breaker.why(now, wall)?;
            Some((caller.clone(), callee.clone(), why))
        });
        let mut open: Vec<_> = open.collect();
        open.sort_by(|one, other| (&one.1, &one.0).cmp(&(&other.1, &other.0)));
        open
    }
}

impl Ejectors {
    /// The judge of a service's instances.
    pub(crate) fn of(&self, cluster: &Cluster) -> Arc<Ejector> {
        let mut judges = lock(&self.0);
        let judge = judges
            .entry(cluster.service.clone())
            .or_insert_with(|| Judge {
                ejector: Ejector::new(cluster.resilience.ejection.settings()),
                known: HashSet::new(),
            });
        Arc::clone(&judge.ejector)
    }

    /// Takes over who gets requests from now on.
    pub(crate) fn take_over(&self, snapshot: &Snapshot, now: Millis) {
        for cluster in snapshot.clusters.values() {
            let ejector = self.of(cluster);
            let mut judges = lock(&self.0);
            let Some(judge) = judges.get_mut(&cluster.service) else {
                continue;
            };
            ejector.set(cluster.resilience.ejection.settings());
            let mut gone = std::mem::take(&mut judge.known);
            for endpoint in &cluster.endpoints {
                endpoint.judge(|| ejector.join(endpoint.instance(), now));
                gone.remove(endpoint.instance());
                judge.known.insert(endpoint.instance().clone());
            }
            for instance in gone {
                ejector.leave(&instance, now);
            }
        }
        let mut judges = lock(&self.0);
        judges.retain(|service, _| snapshot.clusters.contains_key(service));
    }

    /// Time has passed.
    pub(crate) fn tick(&self, now: Millis, random: u64) {
        for judge in lock(&self.0).values() {
            judge.ejector.tick(now, random);
        }
    }

    /// Where every instance stands.
    pub(crate) fn explain(&self, now: Millis, wall: Timestamp) -> Vec<Verdict> {
        let judges = lock(&self.0);
        let verdicts = judges
            .values()
            .flat_map(|judge| judge.ejector.explain(now, wall));
        let mut verdicts: Vec<_> = verdicts.collect();
        verdicts.sort_by(|one, other| one.instance.cmp(&other.instance));
        verdicts
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
