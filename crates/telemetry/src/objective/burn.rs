//! How fast budgets burn, and from when on somebody is told.
//!
//! A burn rate of 1 uses the budget up in exactly its window. The rules are those of Google's SRE workbook
//! (chapter 5, "multiwindow, multi-burn-rate"), made for windows of 30 days: 14.4 for an hour takes 2% of
//! such a budget, 6 for six hours 5%, 1 for three days 10%.
//!
//! Ratios of few requests mean little: one failure of three is a burn of 333 where 99.9% is promised, and
//! nobody should be woken for it. So a rule counts only when [`FAILED_MIN`] requests were bad in its long
//! window. A service with less traffic than that is told of later, by the longer windows.

use std::time::Duration;

use atoll_base::Timestamp;

use super::alert::Severity;
use super::counts::{Counts, Tally};
use super::{Aim, Objective};

/// Fewer bad requests than this in a rule's long window alert nobody. With ten, the true ratio is within a
/// factor of two of the measured one, 19 times in 20.
pub const FAILED_MIN: u64 = 10;

/// What fires goes on until it is this much below: a rate right at the limit would come and go all the time.
const EASED: f64 = 0.9;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// So fast over both windows, and somebody is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    severity: Severity,
    burn: f64,
    long: Duration,
    short: Duration,
}

const RULES: [Rule; 4] = [
    rule(Severity::Page, 14.4, HOUR, 5 * MINUTE),
    rule(Severity::Page, 6.0, 6 * HOUR, 30 * MINUTE),
    rule(Severity::Ticket, 3.0, DAY, 2 * HOUR),
    rule(Severity::Ticket, 1.0, 3 * DAY, 6 * HOUR),
];

/// How an objective stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Which.
    pub objective: Objective,
    /// The share of the budget that is left: 1 if nothing was bad, below 0 if more was than may be.
    pub budget_left: f64,
    /// How fast it burnt over the last hour; 1 uses it up in exactly its window.
    pub burn_1h: f64,
    /// The same over six hours.
    pub burn_6h: f64,
}

/// A rule that holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    rule: Rule,
    long: Tally,
    short: Tally,
    /// There were enough requests to be sure.
    pub(super) sure: bool,
}

const fn rule(severity: Severity, burn: f64, long: u64, short: u64) -> Rule {
    Rule {
        severity,
        burn,
        long: Duration::from_secs(long),
        short: Duration::from_secs(short),
    }
}

/// After so long without a bad request, no rule of this severity holds, whatever the target is.
pub(super) fn quiet(severity: Severity) -> Duration {
    let own = RULES.iter().filter(|rule| rule.severity == severity);
    own.map(|rule| rule.short).max().unwrap_or_default()
}

/// How fast a budget burns at this ratio.
fn burn(tally: Tally, objective: &Objective) -> f64 {
    tally.ratio() / objective.target.budget()
}

/// How the objective stands.
pub(super) fn standing(objective: &Objective, counts: &Counts, now: Timestamp) -> Standing {
    let over = |seconds| burn(counts.over(Duration::from_secs(seconds), now), objective);
    let spent = burn(counts.over(objective.window, now), objective);
    Standing {
        objective: objective.clone(),
        budget_left: 1.0 - spent,
        burn_1h: over(HOUR),
        burn_6h: over(6 * HOUR),
    }
}

/// The rule of this severity that holds; a sure one if there is one. `fires`: it is what goes on already.
pub(super) fn held(
    severity: Severity,
    fires: bool,
    (objective, counts): (&Objective, &Counts),
    now: Timestamp,
) -> Option<Held> {
    let rules = RULES.iter().filter(|rule| rule.severity == severity);
    let held = rules.filter_map(|rule| {
        let (long, short) = (counts.over(rule.long, now), counts.over(rule.short, now));
        let limit = if fires { rule.burn * EASED } else { rule.burn };
        let holds = [long, short]
            .iter()
            .all(|own| burn(*own, objective) >= limit);
        holds.then_some(Held {
            rule: *rule,
            long,
            short,
            sure: fires || long.bad >= FAILED_MIN,
        })
    });
    // Of those that are equal the last is taken, and the first rule is the most urgent.
    held.rev().max_by_key(|own| own.sure)
}

impl Held {
    /// What is the matter, for people.
    pub(super) fn message(&self, objective: &Objective) -> String {
        let times = burn(self.long, objective);
        let what = match (objective.key.aim, objective.bound) {
            (Aim::Latency, Some(bound)) => format!("took longer than {bound}"),
            _ => "failed".to_owned(),
        };
        let part = |tally: Tally| format!("{} of {}", tally.bad, tally.total);
        let (long, short) = (words(self.rule.long), words(self.rule.short));
        let few = if self.sure {
            ""
        } else {
            "; too few to alert anyone"
        };
        format!(
            "the budget burns {times:.1} times too fast: {} requests {what} in {long}, {} in {short}{few}",
            part(self.long),
            part(self.short),
        )
    }
}

fn words(span: Duration) -> String {
    atoll_base::HumanDuration(span).to_string()
}
