//! Instances compared with each other: who fails much more often, and who is much slower.
//!
//! Both rules look at one instance against what the others did in the same seconds, so that they hold
//! for two instances, and a fault that all share ejects nobody.

use std::time::Duration;

use atoll_base::InstanceId;

use super::super::Millis;
use super::super::why::{Cause, millis};
use super::{Action, Ejection};

/// Latencies are compared over some seconds, and an instance must be slow in so many of these
/// windows in a row …
const SLOW_WINDOWS: u32 = 3;

/// … in each of which it gave this many answers. With fewer it harms few; and with a balancer that
/// minds latency a slow instance soon has few.
const ANSWERS_MIN: u32 = 5;

/// Latencies of an instance that is younger say nothing: caches are cold, code is being compiled.
const WARM_UP: Millis = 60_000;

impl Ejection {
    /// Ejects, worst first, those that fail much while the others do not.
    pub(super) fn compare_rates(&mut self, now: Millis, random: u64, actions: &mut Vec<Action>) {
        let rates = self.settings.failures;
        let least = u64::from(self.settings.requests).max(1);
        let members = self.members.values_mut().filter(|member| member.is_in());
        let all = members.fold([0; 2], |[requests, failures]: [u64; 2], member| {
            let [own_requests, own_failures] = member.window.sums(now);
            [requests + own_requests, failures + own_failures]
        });
        let mut bad: Vec<(u64, InstanceId, Cause)> = Vec::new();
        for (instance, member) in &mut self.members {
            if !member.is_in() {
                continue;
            }
            let [requests, failures] = member.window.sums(now);
            let others = [all[0] - requests, all[1] - failures];
            let fails = requests >= least && rates.is_reached(failures, requests);
            // Seen often enough to say that they are better.
            if fails && others[0] >= least && at_most_half(others, [requests, failures]) {
                let cause = Cause::FailureRate {
                    failures,
                    requests,
                    others_percent: others[1] * 100 / others[0],
                };
                bad.push((failures * 1000 / requests, instance.clone(), cause));
            } else if matches!(member.cause, Some(Cause::FailureRate { .. })) {
                member.cause = None;
            }
        }
        bad.sort_by(|(one, ..), (other, ..)| other.cmp(one));
        for (_, instance, cause) in bad {
            self.eject(&instance, cause, now, random, actions);
        }
    }

    /// Ejects, slowest first, those that have been slow for long enough.
    pub(super) fn compare_paces(&mut self, now: Millis, random: u64, actions: &mut Vec<Action>) {
        let mut paces: Vec<(Duration, InstanceId)> = Vec::new();
        for (instance, member) in &mut self.members {
            let pace = member.pace.take();
            // What a young one does is no measure for the others either.
            let warm = member.joined.saturating_add(WARM_UP) <= now;
            match pace.typical() {
                Some(typical) if member.is_in() && warm && pace.answers() >= ANSWERS_MIN => {
                    paces.push((typical, instance.clone()));
                }
                _ => member.is_not_slow(),
            }
        }
        paces.sort_unstable();
        for at in (0..paces.len()).rev() {
            let (own, instance) = &paces[at];
            let others = median_of_others(&paces, at);
            let Some(member) = self.members.get_mut(instance) else {
                continue;
            };
            let Some(others) = others.filter(|others| {
                let bar = others.saturating_mul(self.settings.times_slower);
                *own >= bar && *own > self.settings.fast_enough
            }) else {
                member.is_not_slow();
                continue;
            };
            member.slow_windows = member.slow_windows.saturating_add(1);
            if member.slow_windows >= SLOW_WINDOWS {
                let cause = Cause::Slow {
                    typical_ms: millis(*own),
                    others_ms: millis(others),
                };
                self.eject(instance, cause, now, random, actions);
            }
        }
    }
}

/// Whether the failure rate of `others`, requests and failures, is at most half of `own`.
fn at_most_half(others: [u64; 2], own: [u64; 2]) -> bool {
    let [others_requests, others_failures] = others.map(u128::from);
    let [requests, failures] = own.map(u128::from);
    others_failures * requests * 2 <= failures * others_requests
}

/// The median of a sorted list without its element `at`.
fn median_of_others(sorted: &[(Duration, InstanceId)], at: usize) -> Option<Duration> {
    let others = sorted.len().checked_sub(1).filter(|others| *others > 0)?;
    let without = |index: usize| sorted.get(index + usize::from(index >= at));
    let (low, _) = without((others - 1) / 2)?;
    let (high, _) = without(others / 2)?;
    Some((*low + *high) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_base::{RevisionNumber, ServiceName};

    fn median(millis: &[u64], at: usize) -> Option<u64> {
        let service = ServiceName::new("orders").unwrap();
        let instance = InstanceId::new(service, RevisionNumber(1), 1);
        let pace = |millis: &u64| (Duration::from_millis(*millis), instance.clone());
        let paces: Vec<_> = millis.iter().map(pace).collect();
        median_of_others(&paces, at).map(super::millis)
    }

    #[test]
    fn the_median_is_that_of_the_others() {
        assert_eq!(median(&[5], 0), None);
        assert_eq!([0, 1].map(|at| median(&[5, 9], at)), [Some(9), Some(5)]);
        let of_three = [0, 1, 2].map(|at| median(&[10, 20, 60], at));
        assert_eq!(of_three, [Some(40), Some(35), Some(15)]);
        let of_four = [0, 1, 2, 3].map(|at| median(&[1, 2, 3, 4], at));
        assert_eq!(of_four, [Some(3), Some(3), Some(2), Some(2)]);
    }
}
