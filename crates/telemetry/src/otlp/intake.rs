//! Where decoded items go. The node implements it over the store, the metrics and what is sent on.

use crate::metrics::MetricPoint;
use crate::{Records, Spans};

/// What became of items that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// All of them were taken.
    All,
    /// All but so many, which will not be taken later either; why is for a person.
    Except(u64, &'static str),
    /// None was taken: there is no room at present. The sender should come again.
    Busy,
}

/// Takes what was sent. Never waits.
pub trait Intake: Send + Sync + 'static {
    /// Takes spans.
    fn spans(&self, spans: Box<dyn Spans>) -> Taken;
    /// Takes log records.
    fn logs(&self, records: Box<dyn Records>) -> Taken;
    /// Takes metric points.
    fn metrics(&self, points: Vec<MetricPoint>) -> Taken;
}
