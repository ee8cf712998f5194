//! What comes of the tables that people may write, or of none: the defaults stand here.
//!
//! They must be right for one to three instances and for three hundred, which is why the limit of
//! requests at once grows with the instances and nothing else needs to.

use std::time::Duration;

use atoll_base::HumanDuration;

use super::Percent;
use super::bulkhead::Limits;
use super::config::{
    BreakerConfig, ConcurrencyConfig, DependencyConfig, EjectionConfig, ResilienceConfig,
    RetryConfig,
};

/// How often one dependency is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// Attempts after the first.
    pub max: u8,
    /// Retries over ten seconds, as a share of requests.
    pub share: Percent,
    /// Retries per second that are always allowed.
    pub at_least: u32,
}

/// When one breaker opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// It opens at all.
    pub enabled: bool,
    /// The share of calls that must fail.
    pub failures: Percent,
    /// The least calls.
    pub calls: u32,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

/// When an instance is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectionSettings {
    /// It is left out at all.
    pub enabled: bool,
    /// Failures in a row.
    pub in_a_row: u32,
    /// The share of requests that must fail.
    pub failures: Percent,
    /// The least requests for that.
    pub requests: u32,
    /// How many times slower than the others.
    pub times_slower: u32,
    /// Never if faster than this.
    pub fast_enough: Duration,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// At most this share of the instances at a time.
    pub share: Percent,
}

/// How many requests one dependency has at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencySettings {
    /// Requests at once, if that is set.
    pub max: Option<u32>,
    /// Requests that wait, if that is set.
    pub queue: Option<u32>,
    /// How long one waits.
    pub wait: Duration,
    /// The limit is found by measuring.
    pub adaptive: bool,
}

/// Everything about the calls of one dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DependencySettings {
    /// Until the head of an answer, if the caller has a limit of its own.
    pub timeout: Option<Duration>,
    /// Retries.
    pub retries: RetrySettings,
    /// The breaker.
    pub breaker: BreakerSettings,
    /// Requests at once.
    pub concurrency: ConcurrencySettings,
}

const HALF: Percent = Percent::new(50).expect("it is at most 100");
const A_FIFTH: Percent = Percent::new(20).expect("it is at most 100");

/// Requests at once for each instance. Below it not even a thread-per-request server of ten years
/// ago is at its limit.
const IN_FLIGHT_PER_INSTANCE: u32 = 64;

/// The least default for requests at once: what Envoy and nginx have. It protects the proxy and the
/// other dependencies, not the callee, which may be quick.
const IN_FLIGHT_MIN: u32 = 1024;

/// One waits for every eight that are served: with the default wait of a second that is what leaves
/// the queue in time if a request takes less than eight.
const IN_FLIGHT_PER_WAITER: u32 = 8;

impl Default for RetrySettings {
    fn default() -> Self {
        RetryConfig::default().over(&RetryConfig::default())
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        BreakerConfig::default().over(&BreakerConfig::default())
    }
}

impl Default for EjectionSettings {
    fn default() -> Self {
        EjectionConfig::default().settings()
    }
}

impl Default for ConcurrencySettings {
    fn default() -> Self {
        ConcurrencyConfig::default().over(&ConcurrencyConfig::default())
    }
}

impl DependencySettings {
    /// What comes of the callee's `[resilience]` and the caller's `[dependency.NAME]`. For the edge
    /// the latter is the default.
    pub fn resolve(callee: &ResilienceConfig, caller: &DependencyConfig) -> Self {
        Self {
            timeout: caller.timeout.map(|timeout| timeout.0),
            retries: caller.retries.over(&callee.retries),
            breaker: caller.breaker.over(&callee.breaker),
            concurrency: caller.concurrency.over(&callee.concurrency),
        }
    }
}

impl RetryConfig {
    fn over(&self, callee: &Self) -> RetrySettings {
        RetrySettings {
            max: self.max.or(callee.max).unwrap_or(3),
            share: self.share.or(callee.share).unwrap_or(A_FIFTH),
            at_least: self.at_least.or(callee.at_least).unwrap_or(3),
        }
    }
}

impl BreakerConfig {
    fn over(&self, callee: &Self) -> BreakerSettings {
        let pause = self.pause.or(callee.pause);
        let pause_max = self.pause_max.or(callee.pause_max);
        let pause = pause.map_or(Duration::from_secs(5), |pause| pause.0);
        BreakerSettings {
            enabled: self.enabled.or(callee.enabled).unwrap_or(true),
            failures: self.failures.or(callee.failures).unwrap_or(HALF),
            calls: self.calls.or(callee.calls).unwrap_or(20),
            pause,
            pause_max: longest(pause, pause_max, Duration::from_secs(60)),
        }
    }
}

impl EjectionConfig {
    /// What holds.
    pub fn settings(&self) -> EjectionSettings {
        let pause = self.pause.map_or(Duration::from_secs(5), |pause| pause.0);
        let fast_enough = self.fast_enough.unwrap_or(HumanDuration::millis(100));
        EjectionSettings {
            enabled: self.enabled.unwrap_or(true),
            in_a_row: self.in_a_row.unwrap_or(5),
            failures: self.failures.unwrap_or(HALF),
            requests: self.requests.unwrap_or(10),
            times_slower: self.times_slower.unwrap_or(3),
            fast_enough: fast_enough.0,
            pause,
            pause_max: longest(pause, self.pause_max, Duration::from_secs(300)),
            share: self.share.unwrap_or(HALF),
        }
    }
}

impl ConcurrencyConfig {
    fn over(&self, callee: &Self) -> ConcurrencySettings {
        let wait = self.wait.or(callee.wait);
        ConcurrencySettings {
            max: self.max.or(callee.max),
            queue: self.queue.or(callee.queue),
            wait: wait.map_or(Duration::from_secs(1), |wait| wait.0),
            adaptive: self.adaptive.or(callee.adaptive).unwrap_or(false),
        }
    }
}

impl ConcurrencySettings {
    /// What holds while the service has so many instances.
    pub fn limits(&self, instances: usize) -> Limits {
        let instances = u32::try_from(instances).unwrap_or(u32::MAX);
        let shared = instances.saturating_mul(IN_FLIGHT_PER_INSTANCE);
        let in_flight = self.max.unwrap_or(shared.max(IN_FLIGHT_MIN)).max(1);
        Limits {
            in_flight,
            queue: self.queue.unwrap_or(in_flight / IN_FLIGHT_PER_WAITER),
        }
    }
}

/// The longest pause: what is set, else the default, and never shorter than the first one.
fn longest(pause: Duration, set: Option<HumanDuration>, default: Duration) -> Duration {
    set.map_or(default, |set| set.0).max(pause)
}
