//! Which service a request belongs to, by host, path and method.
//!
//! All routes are compiled into one tree of segments per host, so a lookup costs the length of the
//! path and not the number of routes. What decides between several matches, in this order:
//! 1. an exact host, then the longest matching `*.` host, then no host;
//! 2. the path, segment by segment from the left: text, then a parameter, then `**`;
//! 3. for one path, the route that asks for more header fields, then for more query parameters
//!    (the precedence of the Gateway API), then the one whose service and demands come first by
//!    name.
//!
//! The method is part of the match: `POST /a/**` gets a POST even if `GET /a/{id}` is closer. Only
//! if no route takes the method is the answer 405. Two routes that no rule tells apart are a
//! mistake ([`conflicts`]); "the first one wins" was refused, as routes live in the files of many
//! teams, which have no order. So were regular expressions: they cannot be compared, nor put into
//! a tree.

mod pattern;
#[cfg(test)]
mod tests;
mod trie;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use atoll_base::ServiceName;

use self::pattern::{HostPattern, PathPattern};
pub use self::pattern::{PatternError, check_host, check_method, check_pattern};
use self::trie::Trie;
use crate::config::RouteConfig;
use crate::http::field::Fields;
use crate::meter::Metered;
use crate::policy::{self, Matches, Policy, PolicyError};

/// The routes of an application, compiled.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    exact: HashMap<Box<[u8]>, Trie>,
    /// By what follows the `*`, with its dot.
    wildcard: HashMap<Box<[u8]>, Trie>,
    any: Trie,
    /// What each service answers, whatever the host: for calls that do not come by the edge.
    own: Vec<Trie>,
    own_of: HashMap<ServiceName, OwnRoutes>,
}

/// The routes of one service, by the paths that it sees itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnRoutes(usize);

/// One compiled route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its index in the order in which the routes were given.
    pub index: usize,
    /// The service that it leads to.
    pub service: ServiceName,
    /// The path as it was written.
    pub path: String,
    /// Its own time limit, if it has one.
    pub timeout: Option<Duration>,
    /// Its own limit for request bodies in bytes, if it has one.
    pub max_body: Option<u64>,
    /// Whether answers are compressed, if it says so.
    pub compress: Option<bool>,
    host: Option<String>,
    methods: Vec<String>,
    matches: Matches,
    /// What else it does; none for most.
    pub(crate) policy: Option<Arc<Policy>>,
}

/// What is looked up.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// The `Host` field as it came, with or without a port; may be empty.
    pub host: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// The path, normalized (see [`crate::path`]), without the query.
    pub path: &'a [u8],
    /// The query, without its question mark.
    pub query: &'a str,
    /// The header fields.
    pub fields: Option<&'a Fields<'a, 'a>>,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match<'a> {
    /// This route.
    Route(&'a Route),
    /// Routes for this path, but none for this method. Holds the methods that there are, for the
    /// `Allow` field.
    WrongMethod(String),
    /// No route for this path.
    Nothing,
}

/// A route that cannot be compiled. Indexes are those of the order in which routes were given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Its path, host or a method is not understood.
    #[error("{source}")]
    Pattern {
        /// Which route.
        index: usize,
        /// What is wrong with it.
        source: PatternError,
    },
    /// What it does besides is not understood.
    #[error("{source}")]
    Policy {
        /// Which route.
        index: usize,
        /// What is wrong with it.
        source: PolicyError,
    },
    /// Nothing tells two routes apart.
    #[error("two routes claim {path}: '{}' and '{}'", services.0, services.1)]
    Ambiguous {
        /// The two routes.
        conflict: Conflict,
        /// The path of the first.
        path: String,
        /// Their services.
        services: (ServiceName, ServiceName),
    },
}

/// Two routes with the same host, the same shape of path and a method in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conflict {
    /// The index of the one that was given first.
    pub first: usize,
    /// The index of the other.
    pub second: usize,
}

impl Route {
    /// What tells it from all other routes, also in another snapshot.
    pub(crate) fn identity(&self) -> String {
        let (service, host) = (&self.service, &self.host);
        format!(
            "{service} {host:?} {} {:?} {:?}",
            self.path, self.methods, self.matches
        )
    }

    pub(crate) fn metered(&self) -> Metered {
        Metered::Route {
            service: self.service.clone(),
            host: self.host.clone(),
            path: self.path.clone(),
            methods: self.methods.clone(),
        }
    }

    /// Whether it takes `method`. A route for GET takes HEAD.
    pub fn takes(&self, method: &[u8]) -> bool {
        self.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|own| own.as_bytes() == method || (method == b"HEAD" && own.as_str() == "GET"))
    }
}

impl RouteTable {
    /// Compiles routes. Tells everything that is wrong with any of them, at once.
    pub fn build(
        routes: impl IntoIterator<Item = (ServiceName, RouteConfig)>,
    ) -> Result<Self, Vec<RouteError>> {
        let given: Vec<_> = routes.into_iter().collect();
        let mut errors: Vec<_> = conflicts(&given)
            .into_iter()
            .map(|conflict| RouteError::Ambiguous {
                conflict,
                path: given[conflict.first].1.path.clone(),
                services: (
                    given[conflict.first].0.clone(),
                    given[conflict.second].0.clone(),
                ),
            })
            .collect();
        let mut table = Self::default();
        for (index, (service, config)) in given.into_iter().enumerate() {
            if let Err(error) = table.add(index, service, config) {
                errors.push(error);
            }
        }
        table.sort();
        if errors.is_empty() {
            Ok(table)
        } else {
            Err(errors)
        }
    }

    /// Finds the route of a request.
    pub fn find(&self, asked: &Lookup<'_>) -> Match<'_> {
        let mut allowed = BTreeSet::new();
        let mut lower = [0; HOST_BYTES_MAX];
        let host = plain_host(asked.host, &mut lower);
        for trie in self.tries(host) {
            let mut pick = |index: u32| {
                let route = self.routes.get(index as usize)?;
                if !route.matches.is_empty() && !route.matches.fit(asked.fields, asked.query) {
                    return None;
                }
                if route.takes(asked.method) {
                    return Some(&**route);
                }
                allowed.extend(route.methods.iter().map(String::as_str));
                None
            };
            if let Some(route) = trie.find(asked.path, &mut pick) {
                return Match::Route(route);
            }
        }
        if allowed.is_empty() {
            return Match::Nothing;
        }
        if allowed.contains("GET") {
            allowed.insert("HEAD");
        }
        Match::WrongMethod(allowed.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// The routes of `service` whose paths it sees as they are written; none if there are none.
    pub(crate) fn own(&self, service: &ServiceName) -> Option<OwnRoutes> {
        self.own_of.get(service).copied()
    }

    /// The closest of a service's own routes for a call.
    pub(crate) fn find_own(&self, own: OwnRoutes, method: &[u8], path: &[u8]) -> Option<&Route> {
        self.own.get(own.0)?.find(path, &mut |index| {
            let route = self.routes.get(index as usize)?;
            route.takes(method).then_some(&**route)
        })
    }

    /// The routes, in the order in which they were given.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    fn add(
        &mut self,
        index: usize,
        service: ServiceName,
        config: RouteConfig,
    ) -> Result<(), RouteError> {
        let wrong = |source| RouteError::Pattern { index, source };
        let path = PathPattern::parse(&config.path).map_err(wrong)?;
        let host = config.host.as_deref().map(HostPattern::parse).transpose();
        let host = host.map_err(wrong)?;
        for method in &config.methods {
            check_method(method).map_err(wrong)?;
        }
        let policy = Policy::compile(&config);
        let policy = policy.map_err(|source| RouteError::Policy { index, source })?;
        let trie = match host {
            None => &mut self.any,
            Some(HostPattern::Exact(name)) => {
                self.exact.entry(name.into_bytes().into()).or_default()
            }
            Some(HostPattern::Below(name)) => {
                self.wildcard.entry(name.into_bytes().into()).or_default()
            }
        };
        let slot = u32::try_from(self.routes.len()).unwrap_or(u32::MAX);
        trie.insert(&path, slot);
        let matches = Matches::compile(&config.headers, &config.query);
        // What is rewritten or answered by the edge, the service does not see.
        let is_seen = |policy: &Policy| policy.rewrite.is_none() && policy.local.is_none();
        if matches.is_empty() && policy.as_ref().is_none_or(is_seen) {
            let next = OwnRoutes(self.own.len());
            let own = *self.own_of.entry(service.clone()).or_insert(next);
            if own == next {
                self.own.push(Trie::default());
            }
            self.own[own.0].insert(&path, slot);
        }
        self.routes.push(Arc::new(Route {
            index,
            service,
            path: config.path,
            timeout: config.timeout.map(|timeout| timeout.0),
            max_body: config.max_body.map(|limit| limit.0),
            compress: config.compress,
            host: config.host,
            methods: config.methods,
            matches,
            policy: policy.map(Arc::new),
        }));
        Ok(())
    }

    /// Brings routes for one path into the order in which they are tried.
    fn sort(&mut self) {
        let routes = &self.routes;
        let order = |slot: &u32| {
            let route = routes.get(*slot as usize);
            route.map(|route| {
                (
                    Reverse(route.matches.rank()),
                    &route.service,
                    &route.matches,
                )
            })
        };
        let exact = self.exact.values_mut().chain(self.wildcard.values_mut());
        for trie in exact.chain([&mut self.any]) {
            trie.sort_by(|one, other| order(one).cmp(&order(other)));
        }
    }

    /// The trees that apply to a host, the closest first.
    fn tries<'a>(&'a self, host: &'a [u8]) -> impl Iterator<Item = &'a Trie> {
        let exact = if self.exact.is_empty() {
            None
        } else {
            self.exact.get(host)
        };
        let dots = if self.wildcard.is_empty() { &[] } else { host };
        let wildcard = dots.iter().enumerate().filter_map(move |(at, byte)| {
            // At least one byte stands for the star.
            (*byte == b'.' && at > 0).then(|| self.wildcard.get(&host[at..]))?
        });
        exact.into_iter().chain(wildcard).chain([&self.any])
    }
}

/// Host names are at most this long (RFC 1035); longer ones match no route with a host.
const HOST_BYTES_MAX: usize = 255;

/// The host without port and final dot, in lower case.
fn plain_host<'a>(host: &[u8], lower: &'a mut [u8; HOST_BYTES_MAX]) -> &'a [u8] {
    let end = if host.first() == Some(&b'[') {
        host.iter()
            .position(|byte| *byte == b']')
            .map_or(host.len(), |at| at + 1)
    } else {
        host.iter()
            .position(|byte| *byte == b':')
            .unwrap_or(host.len())
    };
    let name = &host[..end];
    let name = name.strip_suffix(b".").unwrap_or(name);
    let Some(out) = lower.get_mut(..name.len()) else {
        return &[];
    };
    out.copy_from_slice(name);
    out.make_ascii_lowercase();
    out
}

/// Checks what a route says besides path, host and methods; tells the key that is wrong.
pub fn check_policy(config: &RouteConfig) -> Result<(), (&'static str, PolicyError)> {
    policy::check(config)
}

/// The pairs of routes that nothing tells apart. Routes that cannot be parsed are passed over.
pub fn conflicts(routes: &[(ServiceName, RouteConfig)]) -> Vec<Conflict> {
    type Shape = (Option<HostPattern>, Vec<String>, Matches);
    let mut by_shape: HashMap<Shape, Vec<usize>> = HashMap::new();
    let mut found = Vec::new();
    for (second, (_, config)) in routes.iter().enumerate() {
        let Ok(path) = PathPattern::parse(&config.path) else {
            continue;
        };
        let Ok(host) = config.host.as_deref().map(HostPattern::parse).transpose() else {
            continue;
        };
        let matches = Matches::compile(&config.headers, &config.query);
        let same = by_shape.entry((host, path.shape(), matches)).or_default();
        for first in same.iter().copied() {
            if methods_overlap(&routes[first].1.methods, &config.methods) {
                found.push(Conflict { first, second });
            }
        }
        same.push(second);
    }
    found
}

fn methods_overlap(one: &[String], other: &[String]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|method| other.contains(method))
}
