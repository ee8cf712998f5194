//! Since when errors come more often than before: the moment before which a cause is looked for. Pure.
//!
//! Errors that come one after the other, each by itself, are a Poisson process. At each error it is asked how
//! much better two rates explain the times, one until then and a higher one from then on, than a single rate
//! does: the logarithm of the likelihood ratio, the measure of the scan statistic for a Poisson process
//! (M. Kulldorff, *A spatial scan statistic*, 1997, section 3.2). The best of those that are large enough
//! is where it began; from there on the same is asked again, since there may have been more than one.
//!
//! Errors that come in bursts, as those of a job that runs every five minutes, say less than as many by themselves.
//! So what they tell is divided by how many came within a second before, as the dispersion of a quasi-Poisson
//! model is (P. McCullagh, J. Nelder, *Generalized Linear Models*, 1989, section 6.2).

use std::time::Duration;

use atoll_base::Timestamp;

/// One rate may be higher than the other only by so much before it counts.
const FACTOR: f64 = 3.0;
/// How much better two rates must explain the times.
const EVIDENCE: f64 = 10.0;
/// What comes within this is not told from what comes at once.
const GRAIN: Duration = Duration::from_secs(30);
/// Errors that are too few for a rate have a new cause after so long a pause.
const PAUSE: Duration = Duration::from_secs(300);

/// When the last spike began, or, if there was none, the first error after the last pause of five minutes. None: there
/// are no errors, or they come as they came when it was begun to look. `errors`: how many at which time, the oldest
/// first; they were looked for since `since`.
pub fn began(errors: &[(Timestamp, u64)], since: Timestamp) -> Option<Timestamp> {
    let mut found = None;
    let (mut rest, mut from) = (errors, since);
    while let Some(at) = step(rest, from) {
        from = rest[at].0;
        found = Some(from);
        rest = &rest[at..];
        if rest.len() < 2 {
            break;
        }
    }
    found.or_else(|| after_pause(errors, since))
}

/// The error from which on they come more often, if there is one.
fn step(errors: &[(Timestamp, u64)], from: Timestamp) -> Option<usize> {
    let end = errors.last()?.0;
    let total = errors.iter().map(|(_, count)| *count).sum::<u64>() as f64;
    let (mut before, mut bursts, mut last) = (0.0, 0.0_f64, None);
    let mut best = (0.0, 1.0, None);
    for (at, (time, count)) in errors.iter().enumerate() {
        // What has only just begun is no rate of thousands in a second.
        let (until, since) = (
            seconds(from, *time),
            seconds(*time, end) + GRAIN.as_secs_f64(),
        );
        let (old, new, mean) = (
            before / until,
            (total - before) / since,
            total / (until + since),
        );
        let is_higher = before == 0.0 || new > FACTOR * old;
        let told = before * log(old / mean) + (total - before) * log(new / mean);
        if is_higher && told > best.0 {
            best = (told, (before / bursts.max(1.0)).max(1.0), Some(at));
        }
        before += *count as f64;
        let second = Some(time.as_micros() / 1_000_000);
        bursts += if second == last { 0.0 } else { 1.0 };
        last = second;
    }
    let (told, burst, at) = best;
    at.filter(|_| told / burst > EVIDENCE)
}

/// The logarithm; nothing, of what there is nothing of.
fn log(ratio: f64) -> f64 {
    if ratio > 0.0 { ratio.ln() } else { 0.0 }
}

fn seconds(from: Timestamp, until: Timestamp) -> f64 {
    (until.as_micros() - from.as_micros()).max(0) as f64 / 1e6
}

fn after_pause(errors: &[(Timestamp, u64)], since: Timestamp) -> Option<Timestamp> {
    let times = errors.iter().rev().map(|(time, _)| *time);
    let before = times.clone().skip(1).chain([since]);
    let mut pauses = times
        .zip(before)
        .filter(|(time, before)| before.after(PAUSE) < *time);
    pauses.next().map(|(time, _)| time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

    fn second(second: f64) -> Timestamp {
        Timestamp::from_micros(SINCE.as_micros() + (second * 1e6) as i64)
    }

    /// One every so many seconds, between two.
    fn every(seconds: f64, from: f64, until: f64) -> Vec<(Timestamp, u64)> {
        let count = ((until - from) / seconds) as u32;
        let each = (0..count).map(|number| from + f64::from(number) * seconds);
        each.map(|at| (second(at), 1)).collect()
    }

    fn began_at(parts: &[Vec<(Timestamp, u64)>]) -> Option<Timestamp> {
        let mut all = parts.concat();
        all.sort_unstable();
        began(&all, SINCE)
    }

    #[test]
    fn a_trickle_before_does_not_hide_where_a_flood_began() {
        let trickle = every(60.0, 0.0, 3600.0);
        let flood = every(0.5, 2430.0, 2500.0);
        assert_eq!(began_at(&[trickle.clone(), flood]), Some(second(2430.0)));
        // It has only just begun, and is small.
        let few = every(1.0, 3590.0, 3600.0);
        assert_eq!(began_at(&[trickle, few]), Some(second(3590.0)));
    }

    #[test]
    fn of_two_floods_the_last_counts_and_what_is_left_of_one_does_not() {
        let first = every(0.2, 600.0, 700.0);
        let second_one = every(0.2, 3000.0, 3100.0);
        assert_eq!(began_at(&[first.clone(), second_one]), Some(second(3000.0)));
        let rest = every(100.0, 700.0, 3600.0);
        assert_eq!(began_at(&[first, rest]), Some(second(600.0)));
    }

    #[test]
    fn after_silence_the_first_one_counts() {
        assert_eq!(
            began_at(&[every(2.0, 1800.0, 1900.0)]),
            Some(second(1800.0))
        );
        assert_eq!(
            began_at(&[every(0.001, 3599.0, 3599.1)]),
            Some(second(3599.0))
        );
        assert_eq!(began(&[(second(700.0), 1)], SINCE), Some(second(700.0)));
        assert_eq!(began(&[], SINCE), None);
    }

    #[test]
    fn few_begin_after_a_pause() {
        let minutes = [1.0, 5.0, 53.0, 57.0, 58.0];
        let few: Vec<_> = minutes.map(|at| (second(at * 60.0), 1)).to_vec();
        assert_eq!(began(&few, SINCE), Some(second(53.0 * 60.0)));
        assert_eq!(began(&few[3..4], SINCE), Some(second(57.0 * 60.0)));
        // They came before it was looked, as often.
        assert_eq!(began_at(&[every(60.0, 5.0, 3600.0)]), None);
        assert_eq!(began(&few[..1], SINCE), None);
    }

    #[test]
    fn a_burst_like_those_before_is_no_spike() {
        let bursts = |size: u32| {
            let starts = (0..9).map(|number| 1200.0 + f64::from(number) * 290.0);
            let burst = starts.map(|at| every(0.5 / f64::from(size), at, at + 0.5));
            burst.collect::<Vec<_>>()
        };
        for size in [3, 5, 10, 30] {
            assert_eq!(began_at(&bursts(size)), Some(second(1200.0)), "{size}");
        }
    }

    #[test]
    fn counts_are_as_many_errors_at_once() {
        let mut counted: Vec<_> = (0..360)
            .map(|at| (second(f64::from(at) * 10.0), 20))
            .collect();
        for (_, count) in &mut counted[250..] {
            *count = 400;
        }
        assert_eq!(began(&counted, SINCE), Some(second(2500.0)));
    }

    /// Errors of one request come together; that is no spike.
    #[test]
    fn what_comes_evenly_by_chance_or_in_small_bursts_has_no_step() {
        let mut state = 7_u64;
        let mut chance = || {
            // xorshift64 (Marsaglia 2003)
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        for _ in 0..300 {
            let mean = 1.0 + 60.0 * chance();
            let (mut at, mut errors) = (0.0, Vec::new());
            loop {
                at -= mean * (1.0 - chance()).ln();
                if at > 3600.0 {
                    break;
                }
                errors.extend([(second(at), 1), (second(at + 0.001), 1)]);
            }
            // A long silence before the first is no step either; there is nothing else that it could be told from.
            let found = step(&errors, SINCE).unwrap_or(0);
            assert_eq!(found, 0, "one every {mean} s");
        }
    }
}
