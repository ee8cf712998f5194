//! How long to wait after a failure.

use std::time::Duration;

/// What happens after a failure of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// So many attempts in all; at least 1.
    pub attempts: u32,
    /// The wait after the first failure; it doubles with each.
    pub delay: Duration,
    /// The longest wait.
    pub delay_max: Duration,
    /// What happens while nobody answers.
    pub pause: Pause,
}

/// How long nothing is sent while nobody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// After the first failure; it doubles with each.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

/// A service that asks for more patience than this is asked again all the same.
const PATIENCE: Duration = Duration::from_secs(3600);

impl Policy {
    /// The wait after so many failures: between half of the nominal delay and all of it, by chance,
    /// so that what failed together does not come back together; `after` at least.
    pub(super) fn delay(&self, failures: u32, after: Option<Duration>, dice: u64) -> Duration {
        let nominal = doubled(self.delay, failures.saturating_sub(1), self.delay_max);
        let half = nominal / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        let chosen = half + Duration::from_micros(dice % spread.saturating_add(1).max(1));
        chosen.max(patient(after.unwrap_or_default()))
    }
}

impl Pause {
    pub(super) fn wait(&self, times: u32, after: Option<Duration>) -> Duration {
        let own = doubled(self.first, times, self.longest);
        own.max(patient(after.unwrap_or_default()))
    }
}

impl Default for Policy {
    /// Ten attempts within about three minutes.
    fn default() -> Self {
        Self {
            attempts: 10,
            delay: Duration::from_millis(500),
            delay_max: Duration::from_secs(60),
            pause: Pause::default(),
        }
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
        }
    }
}

/// What a service asks for, as far as it is heeded.
pub(super) fn patient(after: Duration) -> Duration {
    after.min(PATIENCE)
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(30)).min(longest)
}
