//! Which service a request belongs to, by host, path and method.
//!
//! All routes are compiled into one tree of segments per host, so a lookup costs the length of the
//! path and not the number of routes. What decides between several matches, in this order:
//! 1. an exact host, then the longest matching `*.` host, then no host;
//! 2. the path, segment by segment from the left: text, then a parameter, then `**`.
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

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use atoll_base::ServiceName;

use self::pattern::{HostPattern, PathPattern};
pub use self::pattern::{PatternError, check_host, check_method, check_pattern};
use self::trie::Trie;
use crate::config::RouteConfig;

/// The routes of an application, compiled.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    exact: HashMap<Box<[u8]>, Trie>,
    /// By what follows the `*`, with its dot.
    wildcard: HashMap<Box<[u8]>, Trie>,
    any: Trie,
}

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
    methods: Vec<String>,
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
            if let Err(source) = table.add(index, service, config) {
                errors.push(RouteError::Pattern { index, source });
            }
        }
        if errors.is_empty() {
            Ok(table)
        } else {
            Err(errors)
        }
    }

    /// Finds the route of a request. `host` is the `Host` field as it came, with or without a
    /// port; `path` is normalized (see [`crate::path`]) and has no query.
    pub fn find(&self, host: &[u8], method: &[u8], path: &[u8]) -> Match<'_> {
        let mut allowed = BTreeSet::new();
        let mut lower = [0; HOST_BYTES_MAX];
        let host = plain_host(host, &mut lower);
        for trie in self.tries(host) {
            let mut pick = |index: u32| {
                let route = self.routes.get(index as usize)?;
                if route.takes(method) {
                    return Some(route);
                }
                allowed.extend(route.methods.iter().map(String::as_str));
                None
            };
            if let Some(route) = trie.find(path, &mut pick) {
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

    /// The routes, in the order in which they were given.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    fn add(
        &mut self,
        index: usize,
        service: ServiceName,
        config: RouteConfig,
    ) -> Result<(), PatternError> {
        let path = PathPattern::parse(&config.path)?;
        let host = config.host.as_deref().map(HostPattern::parse).transpose()?;
        for method in &config.methods {
            check_method(method)?;
        }
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
        self.routes.push(Route {
            index,
            service,
            path: config.path,
            timeout: config.timeout.map(|timeout| timeout.0),
            max_body: config.max_body.map(|limit| limit.0),
            methods: config.methods,
        });
        Ok(())
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

/// The pairs of routes that nothing tells apart. Routes that cannot be parsed are passed over.
pub fn conflicts(routes: &[(ServiceName, RouteConfig)]) -> Vec<Conflict> {
    let mut by_shape: HashMap<(Option<HostPattern>, Vec<String>), Vec<usize>> = HashMap::new();
    let mut found = Vec::new();
    for (second, (_, config)) in routes.iter().enumerate() {
        let Ok(path) = PathPattern::parse(&config.path) else {
            continue;
        };
        let Ok(host) = config.host.as_deref().map(HostPattern::parse).transpose() else {
            continue;
        };
        let same = by_shape.entry((host, path.shape())).or_default();
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
