//! How each route does: how often it is asked for, how often it fails, how long it takes.
//!
//! A route is what spans of the proxy are named by: `GET /orders/{id}`, at the edge and in the mesh
//! alike, as it is the same work. Spans that services send are not counted: they would count a request
//! twice.

use super::calls::{self, Calls};
use super::group::{Gathered as _, group};
use crate::Error;
use crate::query::Filter;
use crate::schema::{self, span};
use crate::service::Handle;
use crate::shelf::Snapshot;

/// Requests of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteCalls {
    /// Whose it is.
    pub service: String,
    /// `GET /orders/{id}`; the method alone where no route is known.
    pub route: String,
    /// How often it was asked for.
    pub calls: u64,
    /// Requests that ended with an error.
    pub errors: u64,
    /// Half of them took no longer than this, in microseconds.
    pub p50_us: u64,
    /// The same of 95 in 100.
    pub p95_us: u64,
    /// The same of 99 in 100.
    pub p99_us: u64,
}

impl Handle {
    /// How each route did, in the spans that fit: by service and route. The first 20,000 are told.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn routes(&self, filter: Filter) -> Result<Vec<RouteCalls>, Error> {
        self.blocking(move |shared| routes(&shared.spans.snapshot(), &filter))
            .await
    }
}

fn routes(snapshot: &Snapshot, filter: &Filter) -> Vec<RouteCalls> {
    // What has a caller is of the proxy.
    let by = [schema::SERVICE, span::NAME, span::CALLER];
    let mut routes: Vec<([String; 2], Calls)> = Vec::new();
    let found = group::<3, Calls>(snapshot, filter, by, &calls::COLUMNS, calls::take);
    for ([service, route, _], calls) in found {
        let key = [service, route];
        match routes.last_mut() {
            Some((last, all)) if *last == key => all.add(&calls),
            _ => routes.push((key, calls)),
        }
    }
    let routes = routes
        .into_iter()
        .map(|([service, route], calls)| RouteCalls {
            service,
            route,
            calls: calls.count,
            errors: calls.errors,
            p50_us: calls.percentile(50),
            p95_us: calls.percentile(95),
            p99_us: calls.percentile(99),
        });
    routes.collect()
}
