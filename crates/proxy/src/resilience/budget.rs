//! How many retries the system can afford.
//!
//! Retries help when one request in a hundred fails; when every request fails they multiply the
//! load on whatever is already too slow, and in a chain of services the layers multiply with each
//! other. So a retry must be paid for twice: from the budget of the dependency, which is a share of
//! its requests, and from that of the whole request tree. The second works because every hop of a
//! tree goes through this one process, edge and mesh alike, and is known by its trace.
//!
//! A token bucket was refused for the first: it saves up in quiet times exactly what is fatal to
//! spend in bad ones. A sliding window forgets.
//!
//! Both are asked once per retry, never per request; workers share them behind a mutex each. Ask
//! [`TreeBudget::allows`] first, then withdraw from the dependency, then from the tree.

use std::collections::{HashMap, VecDeque};

use atoll_base::TraceId;

use super::Millis;
use super::settings::RetrySettings;
use super::window::{SECONDS, Window};

/// Traces that a [`TreeBudget`] remembers.
pub const TRACES_MAX: usize = 8192;

/// How long a [`TreeBudget`] remembers a trace, from its first retry, in milliseconds. A job that
/// runs for hours under one trace has its retries again after this.
pub const TRACE_MEMORY: Millis = 60_000;

/// Retries that one trace may cost in all.
pub const RETRIES_PER_TREE: u8 = 3;

/// The retries of one dependency over ten seconds: a share of its requests, and never less than a
/// few per second, as three requests have no share to speak of.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    settings: RetrySettings,
    /// Requests and retries.
    window: Window,
}

/// The retries of whole request trees. At most [`TRACES_MAX`] are remembered, some 600 KiB; beyond
/// that the oldest are forgotten, and the budgets of the dependencies still hold.
#[derive(Debug)]
pub struct TreeBudget {
    retries_max: u8,
    spent: HashMap<TraceId, Spent>,
    /// The traces of `spent`, by the time of their first retry.
    order: VecDeque<(TraceId, Millis)>,
}

#[derive(Debug, Clone, Copy)]
struct Spent {
    retries: u8,
    since: Millis,
}

impl RetryBudget {
    /// A budget that has seen no request.
    pub fn new(settings: RetrySettings) -> Self {
        Self {
            settings,
            window: Window::default(),
        }
    }

    /// Counts first attempts. Workers hand in what they counted since they last did.
    pub fn deposit(&mut self, requests: u32, now: Millis) {
        self.window.add(requests, 0, now);
    }

    /// Pays for one retry, or tells that there is no money for it.
    pub fn withdraw(&mut self, now: Millis) -> bool {
        let [requests, retries] = self.window.sums(now);
        let least = u64::from(self.settings.at_least) * SECONDS as u64;
        let affordable = retries < least.max(self.settings.share.of(requests));
        if affordable {
            self.window.add(0, 1, now);
        }
        affordable
    }

    /// Takes new settings; what was spent stays spent.
    pub fn set(&mut self, settings: RetrySettings) {
        self.settings = settings;
    }
}

impl Default for TreeBudget {
    fn default() -> Self {
        Self::new(RETRIES_PER_TREE)
    }
}

impl TreeBudget {
    /// A budget of so many retries for each tree.
    pub fn new(retries_max: u8) -> Self {
        Self {
            retries_max,
            spent: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether the tree has a retry left.
    pub fn allows(&self, trace: TraceId, now: Millis) -> bool {
        let spent = self.spent.get(&trace);
        let spent = spent.filter(|spent| spent.since.saturating_add(TRACE_MEMORY) > now);
        spent.map_or(0, |spent| spent.retries) < self.retries_max
    }

    /// Pays for one retry, or tells that the tree has had all of its.
    pub fn withdraw(&mut self, trace: TraceId, now: Millis) -> bool {
        self.forget(now);
        if !self.allows(trace, now) {
            return false;
        }
        if let Some(spent) = self.spent.get_mut(&trace) {
            spent.retries += 1;
            return true;
        }
        if self.spent.len() >= TRACES_MAX {
            self.forget_oldest();
        }
        let spent = Spent {
            retries: 1,
            since: now,
        };
        self.spent.insert(trace, spent);
        self.order.push_back((trace, now));
        true
    }

    fn forget(&mut self, now: Millis) {
        while let Some((_, since)) = self.order.front() {
            if since.saturating_add(TRACE_MEMORY) > now {
                break;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((trace, _)) = self.order.pop_front() {
            self.spent.remove(&trace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::settings::RetrySettings;
    use proptest::prelude::*;

    fn trace(number: u128) -> TraceId {
        TraceId::new(number + 1).unwrap()
    }

    fn withdrawals(budget: &mut RetryBudget, now: Millis) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_quiet_dependency_has_three_a_second() {
        let mut budget = RetryBudget::new(RetrySettings::default());
        budget.deposit(10, 0);
        assert_eq!(withdrawals(&mut budget, 0), 30);
        assert_eq!(withdrawals(&mut budget, 9_999), 0);
        assert_eq!(withdrawals(&mut budget, 10_000), 30);
    }

    #[test]
    fn a_busy_one_has_a_fifth_of_its_requests() {
        let mut budget = RetryBudget::new(RetrySettings::default());
        for tenth in 0..100 {
            budget.deposit(100, tenth * 100);
        }
        assert_eq!(withdrawals(&mut budget, 9_999), 2_000);
    }

    #[test]
    fn nothing_is_saved_up_in_quiet_times() {
        let mut budget = RetryBudget::new(RetrySettings::default());
        budget.deposit(10_000, 0);
        assert_eq!(withdrawals(&mut budget, 60_000), 30);
    }

    #[test]
    fn a_tree_has_three_retries_whatever_its_layers_want() {
        let mut budget = TreeBudget::default();
        let paid = (0..20).filter(|_| budget.withdraw(trace(7), 5)).count();
        assert_eq!(paid, 3);
        assert!(!budget.allows(trace(7), 60_004));
        assert!(budget.withdraw(trace(8), 5), "another tree has its own");
        assert!(budget.withdraw(trace(7), 60_005), "a minute later");
    }

    #[test]
    fn a_flood_of_traces_is_bounded_and_drops_the_oldest() {
        let mut budget = TreeBudget::new(1);
        for number in 0..20_000 {
            assert!(budget.withdraw(trace(number), number as u64 / 1000));
        }
        assert_eq!(budget.spent.len(), TRACES_MAX);
        assert_eq!(budget.order.len(), TRACES_MAX);
        assert!(!budget.allows(trace(19_999), 20));
        assert!(budget.allows(trace(0), 20));
        budget.withdraw(trace(30_000), 100_000);
        assert_eq!(budget.spent.len(), 1);
    }

    proptest! {
        /// The promise of the whole: whatever the order of requests and failures, ten seconds never
        /// see more retries than the larger of thirty and a fifth of their requests.
        #[test]
        fn no_ten_seconds_cost_more_than_the_budget(
            steps in proptest::collection::vec((0u64..700, 0u32..60, 0u32..40), 1..120),
        ) {
            let mut budget = RetryBudget::new(RetrySettings::default());
            let (mut now, mut log) = (0, Vec::new());
            for (pause, requests, wanted) in steps {
                now += pause;
                budget.deposit(requests, now);
                let paid = (0..wanted).filter(|_| budget.withdraw(now)).count() as u64;
                log.push((now / 1000, u64::from(requests), paid));
                let recent = log.iter().filter(|(second, ..)| second + 10 > now / 1000);
                let (requests, retries) = recent.fold((0, 0), |sum, (_, requests, retries)| {
                    (sum.0 + requests, sum.1 + retries)
                });
                // Money may have been spent while requests that paid for it were still in sight.
                let most = log.iter().map(|(_, requests, _)| requests).sum::<u64>();
                prop_assert!(retries <= 30.max(most / 5), "{retries} of {requests}");
                prop_assert!(paid == 0 || retries <= 30.max(requests / 5), "{retries} of {requests}");
            }
        }

        #[test]
        fn no_tree_retries_more_often_than_it_may(
            asks in proptest::collection::vec((0u128..6, 0u64..9_000), 1..200),
        ) {
            let mut budget = TreeBudget::default();
            let (mut now, mut paid) = (0, Vec::new());
            for (number, pause) in asks {
                now += pause;
                let allowed = budget.allows(trace(number), now);
                let done = budget.withdraw(trace(number), now);
                prop_assert_eq!(allowed, done);
                if done {
                    paid.push((number, now));
                }
                prop_assert_eq!(budget.spent.len(), budget.order.len());
            }
            // From a first retry on, a minute holds three at the most; two halves of two minutes
            // may meet in one, hence six.
            for (number, at) in &paid {
                let within = paid.iter().filter(|(other, when)| {
                    other == number && (*at..*at + TRACE_MEMORY).contains(when)
                });
                prop_assert!(within.count() <= 5);
            }
        }
    }
}
