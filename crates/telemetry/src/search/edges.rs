//! Who calls whom, how often, how well and how fast: from the hops of the proxy.

use super::calls::{self, Calls};
use super::group::group;
use crate::query::Filter;
use crate::schema::{self, span};
use crate::shelf::Snapshot;

/// Calls from one to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who called: a service, or `edge` for clients outside.
    pub from: String,
    /// Who was called.
    pub to: String,
    /// How often.
    pub calls: u64,
    /// Calls that ended with an error.
    pub errors: u64,
    /// Half of the calls took no longer than this, in microseconds.
    pub p50_us: u64,
    /// The same of 95 in 100.
    pub p95_us: u64,
    /// The same of 99 in 100.
    pub p99_us: u64,
}

/// The calls among the spans that fit; those that nobody is known to have made are left out.
pub(crate) fn edges(snapshot: &Snapshot, filter: &Filter) -> Vec<Edge> {
    let by = [span::CALLER, schema::SERVICE];
    let pairs = group::<2, Calls>(snapshot, filter, by, &calls::COLUMNS, calls::take);
    let edges = pairs.into_iter();
    edges
        .map(|([from, to], calls)| calls.edge(from, to))
        .collect()
}

impl Calls {
    pub(super) fn edge(&self, from: String, to: String) -> Edge {
        Edge {
            from,
            to,
            calls: self.count,
            errors: self.errors,
            p50_us: self.percentile(50),
            p95_us: self.percentile(95),
            p99_us: self.percentile(99),
        }
    }
}
