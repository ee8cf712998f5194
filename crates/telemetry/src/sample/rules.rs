//! How many spans one stands for that was kept: how all were is reckoned from those that are.
//!
//! A span that is worth keeping for its own sake, with an error or slow, is always kept: it stands for itself. An
//! ordinary one is kept if its trace was chosen, and stands for as many as the share says: at 10%, for ten. One
//! that was kept for another span of its trace alone stands for none: those that were chosen stand for it
//! already. So sums over what is kept are, on average, those over all that came (Horvitz and Thompson, "A
//! Generalization of Sampling Without Replacement from a Finite Universe", 1952).
//!
//! The share may change while spans are kept that came before. So it is written down from when on which one
//! held, instead of a number beside each span.

use atoll_base::{HumanDuration, Percent, Timestamp, TraceId};
use serde::{Deserialize, Serialize};

use super::Choice;

/// The file that tells what held when.
pub(crate) const FILE: &str = "sampling.json";

/// What was kept of ordinary traces since a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rule {
    since: Timestamp,
    sample: Percent,
    sample_slow: HumanDuration,
}

/// Those that held, one after the other. Before the first, all was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Rules(Vec<Rule>);

/// Tells how many spans one stands for.
#[derive(Debug)]
pub(crate) struct Weights(Vec<Held>);

#[derive(Debug)]
struct Held {
    since: i64,
    choice: Choice,
    /// What a chosen span stands for.
    chosen: f64,
}

/// What the weight of a span follows from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighed {
    /// In microseconds since 1970.
    pub(crate) start: i64,
    pub(crate) trace: Option<TraceId>,
    pub(crate) failed: bool,
    pub(crate) micros: u64,
}

impl Rules {
    /// What holds from now on. Answers whether that is news; what held before `oldest` only is forgotten then.
    pub(crate) fn hold(
        &mut self,
        (sample, sample_slow): (Percent, HumanDuration),
        now: Timestamp,
        oldest: Timestamp,
    ) -> bool {
        // The clock was set back.
        self.0.retain(|own| own.since < now);
        let holds = match self.0.last() {
            Some(last) if last.sample < Percent::ALL => {
                (last.sample, last.sample_slow) == (sample, sample_slow)
            }
            _ => sample == Percent::ALL,
        };
        if holds {
            return false;
        }
        let past = self.0.iter().rposition(|own| own.since <= oldest);
        self.0.drain(..past.unwrap_or(0));
        self.0.push(Rule {
            since: now,
            sample,
            sample_slow,
        });
        true
    }

    /// None if all was kept at all times.
    pub(crate) fn weights(&self) -> Option<Weights> {
        let held = self.0.iter().map(|own| Held {
            since: own.since.as_micros(),
            choice: Choice::new(own.sample, own.sample_slow.0),
            chosen: own.sample.fraction().recip(),
        });
        let some_left_out = self.0.iter().any(|own| own.sample < Percent::ALL);
        some_left_out.then(|| Weights(held.collect()))
    }
}

impl Weights {
    /// For how many spans this one stands, itself among them.
    pub(crate) fn of(&self, span: Weighed) -> f64 {
        let mut held = self.0.iter().rev();
        let Some(rule) = held.find(|own| own.since <= span.start) else {
            return 1.0;
        };
        let duration = std::time::Duration::from_micros(span.micros);
        if rule.choice.is_worth(span.failed, duration) {
            1.0
        } else if span.trace.is_some_and(|trace| rule.choice.takes(trace)) {
            rule.chosen
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use atoll_base::clock;

    use super::super::Sampler;
    use super::super::tests::{failed, of};
    use super::*;
    use crate::{Span, SpanStatus};

    const DAY: i64 = 24 * 3600 * 1_000_000;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_micros(days * DAY)
    }

    fn rule(share: &str) -> (Percent, HumanDuration) {
        (share.parse().unwrap(), HumanDuration::secs(1))
    }

    fn weighed(span: &Span) -> Weighed {
        Weighed {
            start: span.start.as_micros(),
            trace: Some(span.trace),
            failed: span.status == SpanStatus::Error,
            micros: u64::try_from(span.duration.as_micros()).unwrap(),
        }
    }

    #[test]
    fn what_is_kept_adds_up_to_what_came() {
        let mut rules = Rules::default();
        assert!(rules.hold(rule("10%"), Timestamp::from_micros(0), at(-1)));
        let weights = rules.weights().unwrap();
        let mut sampler = Sampler::new(rule("10%").0, Duration::from_secs(1)).unwrap();
        let (mut kept, mut ordinary) = (Vec::new(), 0);
        // Ids that lie as evenly as random ones do: multiples of the golden ratio.
        for number in 1..=20_000_u128 {
            let trace = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let mut take = |span| sampler.apply(span, clock::monotonic(), &mut kept);
            take(of(trace));
            take(of(trace));
            ordinary += 2;
            match number % 20 {
                0 => take(failed(trace)),
                1 => take(Span {
                    duration: Duration::from_secs(2),
                    ..of(trace)
                }),
                _ => {
                    take(of(trace));
                    ordinary += 1;
                }
            }
        }
        let sum = |fits: fn(&Span) -> bool| -> f64 {
            let fit = kept.iter().filter(|span| fits(span));
            fit.map(|span| weights.of(weighed(span))).sum()
        };
        assert!(kept.len() < 12_000, "{} are kept", kept.len());
        assert_eq!(sum(|span| span.status == SpanStatus::Error), 1_000.0);
        assert_eq!(sum(|span| span.duration.as_secs() == 2), 1_000.0);
        let rest = sum(|span| span.status != SpanStatus::Error && span.duration.as_secs() < 2);
        let off = (rest / f64::from(ordinary) - 1.0).abs();
        assert!(off < 0.01, "{rest} for {ordinary}");
    }

    #[test]
    fn a_span_is_weighed_by_what_held_when_it_began() {
        let mut rules = Rules::default();
        assert!(!rules.hold(rule("100%"), at(1), at(0)), "as ever");
        assert!(rules.weights().is_none());
        assert!(rules.hold(rule("50%"), at(2), at(0)));
        assert!(!rules.hold(rule("50%"), at(3), at(0)));
        assert!(rules.hold(rule("1%"), at(4), at(0)));
        assert!(rules.hold(rule("100%"), at(6), at(0)));
        let json = serde_json::to_string(&rules).unwrap();
        let rules: Rules = serde_json::from_str(&json).unwrap();
        let weight = |days| {
            let start = at(days);
            let weights = rules.weights().unwrap();
            weights.of(weighed(&Span { start, ..of(1) }))
        };
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 7].map(weight),
            [1.0, 2.0, 2.0, 100.0, 100.0, 1.0, 1.0]
        );
    }

    #[test]
    fn what_nothing_is_left_of_is_forgotten_and_a_clock_that_goes_back_is_believed() {
        let mut rules = Rules::default();
        for (share, days) in [("50%", 1), ("40%", 2), ("30%", 3)] {
            assert!(rules.hold(rule(share), at(days), at(0)));
        }
        assert!(rules.hold(rule("20%"), at(9), at(2)));
        let since = |rules: &Rules| rules.0.iter().map(|own| own.since).collect::<Vec<_>>();
        assert_eq!(since(&rules), [at(2), at(3), at(9)]);
        assert!(rules.hold(rule("20%"), at(5), at(0)));
        assert_eq!(since(&rules), [at(2), at(3), at(5)]);
    }
}
