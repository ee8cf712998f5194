//! How each route does: how often it is asked for, how often it fails, how long it takes.
//!
//! A route is what spans of the proxy are named by: `GET /orders/{id}`, at the edge and in the mesh
//! alike, as it is the same work. Spans that services send are not counted: they would count a request
//! twice.

use super::calls::{self, Calls};
use super::group::{Spans, group};
use crate::Error;
use crate::query::Filter;
use crate::schema::{self, span};
use crate::service::Handle;

/// Requests of one route.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteCalls {
    /// Whose it is.
    pub service: String,
    /// `GET /orders/{id}`; the method alone where no route is known.
    pub route: String,
    /// How often it was asked for, and how that went.
    pub calls: Calls,
}

impl Handle {
    /// How each route did, in the spans that fit: by service and route. The first 20,000 are told.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn routes(&self, filter: Filter) -> Result<Vec<RouteCalls>, Error> {
        self.blocking(move |shared| routes(shared.weighed(&shared.spans.snapshot()), &filter))
            .await
    }
}

fn routes(spans: Spans<'_>, filter: &Filter) -> Vec<RouteCalls> {
    // What has a caller is of the proxy.
    let by = [schema::SERVICE, span::NAME, span::CALLER];
    let mut routes: Vec<([String; 2], Calls)> = Vec::new();
    let found = group::<3, Calls>(spans, filter, by, &calls::COLUMNS, calls::take);
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
            calls,
        });
    routes.collect()
}
