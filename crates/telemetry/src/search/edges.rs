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
    /// How that went.
    pub calls: Calls,
}

/// The calls among the spans that fit; those that nobody is known to have made are left out.
pub(crate) fn edges(snapshot: &Snapshot, filter: &Filter) -> Vec<Edge> {
    let by = [span::CALLER, schema::SERVICE];
    let pairs = group::<2, Calls>(snapshot, filter, by, &calls::COLUMNS, calls::take);
    let edges = pairs.into_iter();
    edges
        .map(|([from, to], calls)| Edge { from, to, calls })
        .collect()
}
