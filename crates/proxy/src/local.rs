//! A worker's own view of the snapshot: what it looks up per request, resolved once per
//! publication, with the worker's pools and counters beside it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::ServiceName;

use crate::cluster::{Cluster, Dependency, Endpoint, Protocol, Snapshot};
use crate::limits::DEFAULT_RESPONSE_TIMEOUT;
use crate::mesh::Denials;
use crate::pool::Pool;
use crate::rate::{Limit, Registry, Table};
use crate::route::Route;
use crate::span::NameIndex;
use crate::stats::Delta;

/// A snapshot, resolved.
#[derive(Debug, Default)]
pub(crate) struct Local {
    pub(crate) snapshot: Arc<Snapshot>,
    /// By the index of a route in the table.
    routes: Vec<Way>,
    mesh: HashMap<Ipv4Addr, Rc<Call>>,
    targets: HashMap<ServiceName, Rc<Target>>,
}

/// Where a route leads.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) target: Rc<Target>,
    /// Services that share the requests, with the sum of weights up to each.
    backends: Vec<(Rc<Target>, u32)>,
    pub(crate) mirror: Option<Rc<Target>>,
    /// What is remembered of clients, if the route limits them.
    pub(crate) clients: Option<Arc<Table>>,
}

/// A service that requests go to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) service: Rc<Known>,
    pub(crate) timeout: Duration,
    pub(crate) protocol: Protocol,
    pub(crate) denials: Option<Arc<Denials>>,
    /// One for each endpoint that was ready when the snapshot was made.
    pub(crate) pools: Vec<Rc<Pool>>,
}

/// A mesh address in use: one service may call another.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Rc<Known>,
    pub(crate) target: Rc<Target>,
    /// How many calls there may be, and what is remembered of them.
    pub(crate) rate: Option<(Limit, Arc<Table>)>,
}

/// What a worker keeps about a service for as long as it runs.
pub(crate) struct Known {
    pub(crate) name: ServiceName,
    /// Its index in the batch of spans of this number.
    pub(crate) span_name: Cell<(u32, NameIndex)>,
    pub(crate) delta: RefCell<Delta>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Known({})", self.name)
    }
}

impl Known {
    pub(crate) fn new(name: ServiceName) -> Self {
        Self {
            name,
            span_name: Cell::new((0, 0)),
            delta: RefCell::new(Delta::new()),
        }
    }
}

impl Way {
    fn resolve(
        route: &Route,
        target: &mut impl FnMut(&ServiceName) -> Rc<Target>,
        tables: &Registry,
    ) -> Self {
        let policy = route.policy.as_deref();
        let backends = policy.map_or(&[][..], |policy| &policy.backends);
        let mirror = policy.and_then(|policy| policy.mirror.as_ref());
        Self {
            target: target(&route.service),
            backends: backends
                .iter()
                .map(|(service, sum)| (target(service), *sum))
                .collect(),
            mirror: mirror.map(|mirror| target(&mirror.service)),
            clients: policy.and_then(|policy| policy.rate.as_ref()).map(|rate| {
                let key = format!("route {} {rate:?}", route.identity());
                tables.table(&key, Table::new)
            }),
        }
    }

    /// The service for one request, by weight; `below(n)` is a random number less than `n`.
    pub(crate) fn choose(&self, below: impl FnOnce(usize) -> usize) -> &Rc<Target> {
        let Some((_, total)) = self.backends.last() else {
            return &self.target;
        };
        let ticket = below(*total as usize);
        let mut shares = self.backends.iter();
        let share = shares.find(|(_, sum)| ticket < *sum as usize);
        share.map_or(&self.target, |(target, _)| target)
    }
}

impl Local {
    /// Resolves a snapshot. `service` and `pool` give what the worker keeps across snapshots.
    pub(crate) fn resolve(
        snapshot: Arc<Snapshot>,
        mut service: impl FnMut(&ServiceName) -> Rc<Known>,
        mut pool: impl FnMut(&Arc<Endpoint>) -> Rc<Pool>,
        tables: &Registry,
    ) -> Self {
        let mut targets: HashMap<ServiceName, Rc<Target>> = HashMap::new();
        let mut target = |name: &ServiceName| {
            let resolved = targets.entry(name.clone()).or_insert_with(|| {
                let cluster = snapshot.clusters.get(name).map(Arc::as_ref);
                let endpoints = cluster.map_or(&[][..], |cluster: &Cluster| &cluster.endpoints);
                Rc::new(Target {
                    service: service(name),
                    timeout: cluster.map_or(DEFAULT_RESPONSE_TIMEOUT, |cluster| cluster.timeout),
                    denials: cluster.and_then(|cluster| cluster.denials.clone()),
                    protocol: cluster.map_or(Protocol::Http1, |cluster| cluster.protocol),
                    pools: endpoints.iter().map(&mut pool).collect(),
                })
            });
            Rc::clone(resolved)
        };
        let routes = snapshot
            .routes
            .routes()
            .iter()
            .map(|route| Way::resolve(route, &mut target, tables))
            .collect();
        let mesh = snapshot
            .mesh
            .iter()
            .map(|(address, dependency)| {
                let caller = Rc::clone(&target(&dependency.caller).service);
                let target = target(&dependency.callee);
                let cluster = snapshot.clusters.get(&dependency.callee);
                let rate = cluster
                    .and_then(|cluster| cluster.rate.as_ref())
                    .map(|config| {
                        let limit = Limit::new(config);
                        let Dependency { caller, callee } = dependency;
                        let key = format!("call {caller} {callee} {limit:?}");
                        (limit, tables.table(&key, Table::single))
                    });
                let call = Call {
                    caller,
                    target,
                    rate,
                };
                (*address, Rc::new(call))
            })
            .collect();
        Self {
            routes,
            mesh,
            targets,
            snapshot,
        }
    }

    /// Where a route of the table leads.
    pub(crate) fn route(&self, slot: usize) -> Option<&Way> {
        self.routes.get(slot)
    }

    /// What a mesh address means.
    pub(crate) fn mesh(&self, address: Ipv4Addr) -> Option<&Rc<Call>> {
        self.mesh.get(&address)
    }

    /// Whether an endpoint is among those of its service.
    pub(crate) fn lists(&self, endpoint: &Arc<Endpoint>) -> bool {
        let cluster = self.snapshot.clusters.get(endpoint.instance().service());
        cluster.is_some_and(|cluster| {
            cluster
                .endpoints
                .iter()
                .any(|own| Arc::ptr_eq(own, endpoint))
        })
    }

    /// A service by name.
    pub(crate) fn target(&self, name: &ServiceName) -> Option<&Rc<Target>> {
        self.targets.get(name)
    }
}
