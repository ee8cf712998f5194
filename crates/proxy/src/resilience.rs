//! What keeps one bad instance, one slow service or one burst from taking the rest with it.
//!
//! Nine small decisions, each a pure machine with its own file: no clock, no I/O, no randomness.
//! Time comes in as [`Millis`], a random number as a `u64`, and tests run hours in a moment.
//!
//! | question | machine | shared by the workers as |
//! |---|---|---|
//! | how long may this request take? | [`deadline`], carried by [`tracestate`] | nothing: it travels |
//! | may this dependency be called now? | [`breaker::Circuit`] | [`breaker::Breaker`] |
//! | how many may call it at once? | [`bulkhead::Load`], [`adaptive::Vegas`] | [`bulkhead::Bulkhead`] |
//! | which instances may be asked? | [`ejection::Ejection`] | [`standing::Ejector`] |
//! | may a failed attempt be tried again? | [`retry::decide`] | nothing: facts in, answer out |
//! | can the system afford it? | [`budget::RetryBudget`], [`budget::TreeBudget`] | a mutex: only retries touch it |
//! | how long to wait before? | [`backoff::pause`] | nothing |
//!
//! **The success path takes no lock.** A worker reads one word of the breaker and one of the
//! endpoint, and adds one to the bulkhead's; it counts into [`Counts`] of its own, which it hands in
//! with its other counts a few times a second. Locks are taken by failures, by trials and by ticks.
//!
//! Refused: a cluster-wide view by gossip (every proxy sees enough of its own), health probes that
//! return an instance to service (it may pass them and fail the requests; one real request at a time
//! decides), and policies that only work with five hosts or more: most services have two.

pub mod adaptive;
pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod config;
mod counts;
pub mod deadline;
pub mod ejection;
mod failure;
mod penalty;
mod percent;
pub mod retry;
pub mod settings;
pub mod standing;
pub mod tracestate;
mod why;
mod window;

pub use self::config::{BadSetting, DependencyConfig, ResilienceConfig};
pub use self::counts::Counts;
pub use self::failure::Failure;
pub use self::percent::{BadPercent, Percent};
pub use self::why::{Cause, Why};
pub use crate::balance::{
    BalanceConfig, BalanceKind, Balancer, Candidates, HashBy, PeakEwma, SlowStart, fair_default,
    hash_key,
};

/// Milliseconds of the process clock: those that the endpoints' words and the workers' clockworks
/// count in.
pub type Millis = u64;
