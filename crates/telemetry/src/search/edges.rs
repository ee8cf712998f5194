//! Who calls whom, how often, how well and how fast: from the hops of the proxy.

use super::calls::{self, Calls};
use super::group::{Spans, group};
use crate::query::Filter;
use crate::schema::{self, span};

/// Calls from one to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// Who called: a service, or `edge` for clients outside.
    pub from: String,
    /// Who was called.
    pub to: String,
    /// How that went.
    pub calls: Calls,
}

/// The calls among the spans that fit; those that nobody is known to have made are left out.
pub(crate) fn edges(spans: Spans<'_>, filter: &Filter) -> Vec<Edge> {
    let by = [span::CALLER, schema::SERVICE];
    let pairs = group::<2, Calls>(spans, filter, by, &calls::COLUMNS, calls::take);
    let edges = pairs.into_iter();
    edges
        .map(|([from, to], calls)| Edge { from, to, calls })
        .collect()
}
