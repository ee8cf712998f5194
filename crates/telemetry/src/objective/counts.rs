//! How many requests of an objective were bad, by time: minutes for what burns now, hours for the budget.
//!
//! A bucket takes 24 bytes and is there only if it had requests: at most 361 minutes and, for a window of
//! 30 days, 721 hours. So a window is exact to one bucket, and never longer than it says: five minutes are the
//! present minute and the four before. A clock that is set back counts on in the newest bucket; one that was
//! far ahead and came back loses what lies in the future.

use std::collections::VecDeque;
use std::time::Duration;

use atoll_base::Timestamp;

/// Windows up to this are made of minutes.
const FINE: Duration = Duration::from_secs(6 * 3600);
/// Buckets that are more of their kind ahead of the clock are wrong.
const AHEAD_MAX: i64 = 60;

/// Requests, and those of them that were bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// All.
    pub total: u64,
    /// Bad ones.
    pub bad: u64,
}

/// How long a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scale {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

/// A bucket, as it is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// How long it is.
    pub scale: Scale,
    /// Which, counted from 1970.
    pub at: i64,
    /// What is in it.
    pub tally: Tally,
}

/// What was counted.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    minutes: Line,
    hours: Line,
}

#[derive(Debug, Clone)]
struct Line {
    scale: Scale,
    /// So many of the newest are kept.
    length: i64,
    buckets: VecDeque<(i64, Tally)>,
    /// Those from here on may differ from what is on disk.
    unsaved: i64,
}

impl Tally {
    /// The share of bad ones; 0 if there were no requests.
    pub fn ratio(self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        self.bad as f64 / self.total as f64
    }

    pub(super) fn add(&mut self, other: Self) {
        self.total = self.total.saturating_add(other.total);
        self.bad = self.bad.saturating_add(other.bad);
    }
}

impl Scale {
    /// How long it is.
    pub const fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3600,
        })
    }

    /// The bucket of a moment.
    pub fn at(self, now: Timestamp) -> i64 {
        now.as_micros().div_euclid(self.length().as_micros() as i64)
    }

    fn buckets(self, window: Duration) -> i64 {
        window.as_secs().div_ceil(self.length().as_secs()) as i64
    }
}

impl Counts {
    /// Empty; `window` is the longest that will be asked for.
    pub(super) fn new(window: Duration) -> Self {
        Self {
            minutes: Line::new(Scale::Minute, FINE),
            hours: Line::new(Scale::Hour, window),
        }
    }

    /// Another longest window; what is counted stays.
    pub(super) fn resize(&mut self, window: Duration) {
        self.hours.length = Scale::Hour.buckets(window);
    }

    pub(super) fn add(&mut self, tally: Tally, now: Timestamp) {
        self.minutes.add(tally, now);
        self.hours.add(tally, now);
    }

    /// All within the last `window`.
    pub(super) fn over(&self, window: Duration, now: Timestamp) -> Tally {
        if window <= FINE {
            self.minutes.over(window, now)
        } else {
            self.hours.over(window, now)
        }
    }

    /// Takes back a bucket that was kept. They come oldest first.
    pub(super) fn restore(&mut self, row: Row) {
        let line = match row.scale {
            Scale::Minute => &mut self.minutes,
            Scale::Hour => &mut self.hours,
        };
        line.buckets.push_back((row.at, row.tally));
        line.unsaved = row.at;
    }

    /// Buckets that have changed since this was last asked.
    pub(super) fn take_unsaved(&mut self) -> Vec<Row> {
        let mut rows = self.minutes.take_unsaved();
        rows.extend(self.hours.take_unsaved());
        rows
    }

    /// Nothing is on disk as it should be.
    pub(super) fn unsave(&mut self) {
        self.minutes.unsaved = i64::MIN;
        self.hours.unsaved = i64::MIN;
    }

    /// The oldest minute and hour that are kept at `now`: what is older may go from the disk.
    pub(super) fn oldest(&self, now: Timestamp) -> [(Scale, i64); 2] {
        [&self.minutes, &self.hours].map(|line| (line.scale, line.scale.at(now) - line.length))
    }

    #[cfg(test)]
    pub(super) fn buckets(&self) -> usize {
        self.minutes.buckets.len() + self.hours.buckets.len()
    }
}

impl Line {
    fn new(scale: Scale, window: Duration) -> Self {
        Self {
            scale,
            length: scale.buckets(window),
            buckets: VecDeque::new(),
            unsaved: i64::MIN,
        }
    }

    fn add(&mut self, tally: Tally, now: Timestamp) {
        let at = self.scale.at(now);
        while self
            .buckets
            .back()
            .is_some_and(|(own, _)| *own > at + AHEAD_MAX)
        {
            self.buckets.pop_back();
            self.unsaved = self.unsaved.min(at);
        }
        while self
            .buckets
            .front()
            .is_some_and(|(own, _)| *own < at - self.length)
        {
            self.buckets.pop_front();
        }
        if tally.total == 0 {
            return;
        }
        match self.buckets.back_mut() {
            Some((own, newest)) if *own >= at => newest.add(tally),
            _ => self.buckets.push_back((at, tally)),
        }
    }

    fn over(&self, window: Duration, now: Timestamp) -> Tally {
        let after = self.scale.at(now) - self.scale.buckets(window);
        let mut sum = Tally::default();
        for (at, tally) in self.buckets.iter().rev() {
            if *at <= after {
                break;
            }
            sum.add(*tally);
        }
        sum
    }

    fn take_unsaved(&mut self) -> Vec<Row> {
        let newest = self.buckets.iter().rev();
        let changed = newest.take_while(|(at, _)| *at >= self.unsaved);
        let rows = changed.map(|(at, tally)| Row {
            scale: self.scale,
            at: *at,
            tally: *tally,
        });
        let rows = rows.collect();
        if let Some((at, _)) = self.buckets.back() {
            self.unsaved = *at;
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: i64 = 60_000_000;

    fn tally(total: u64, bad: u64) -> Tally {
        Tally { total, bad }
    }

    #[test]
    fn a_window_is_never_longer_than_it_says() {
        let mut counts = Counts::new(Duration::from_secs(30 * 24 * 3600));
        let minute = |at: i64| Timestamp::from_micros(at * MINUTE);
        counts.add(tally(10, 1), minute(1000));
        let five = Duration::from_secs(300);
        assert_eq!(counts.over(five, minute(1004)), tally(10, 1));
        assert_eq!(counts.over(five, minute(1005)), tally(0, 0));
        assert_eq!(
            counts.over(Duration::from_secs(86_400), minute(1005)),
            tally(10, 1)
        );
    }

    #[test]
    fn a_clock_that_was_far_ahead_does_not_stop_the_counting() {
        let mut counts = Counts::new(Duration::from_secs(30 * 24 * 3600));
        counts.add(tally(1, 1), Timestamp::from_micros(1_000_000 * MINUTE));
        let now = Timestamp::from_micros(1000 * MINUTE);
        counts.add(tally(5, 0), now);
        assert_eq!(counts.over(Duration::from_secs(3600), now), tally(5, 0));
        // Set back a little, nothing is lost.
        counts.add(tally(5, 1), Timestamp::from_micros(990 * MINUTE));
        assert_eq!(counts.over(Duration::from_secs(3600), now), tally(10, 1));
    }

    proptest! {
        #[test]
        fn windows_are_what_adding_up_gives_and_memory_is_bounded(
            steps in proptest::collection::vec((0i64..4000, 0u64..50, 0u64..50), 1..200),
            days in 3u64..90,
        ) {
            let window = Duration::from_secs(days * 86_400);
            let (mut counts, mut all) = (Counts::new(window), Vec::new());
            let mut minute = 0;
            for (pause, good, bad) in steps {
                minute += pause;
                let now = Timestamp::from_micros(minute * MINUTE);
                counts.add(tally(good + bad, bad), now);
                all.push((now, tally(good + bad, bad)));
                for length in [300, 3600, 6 * 3600, 86_400, days * 86_400] {
                    let scale = if length <= 6 * 3600 { Scale::Minute } else { Scale::Hour };
                    let span = Duration::from_secs(length);
                    let first = scale.at(now) - scale.buckets(span) + 1;
                    let mut sum = Tally::default();
                    all.iter().filter(|(at, _)| scale.at(*at) >= first).for_each(|(_, own)| sum.add(*own));
                    prop_assert_eq!(counts.over(span, now), sum);
                }
                prop_assert!(counts.buckets() as u64 <= 361 + days * 24 + 1);
            }
        }
    }
}
