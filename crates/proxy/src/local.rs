//! A worker's own view of the snapshot: what it looks up per request, resolved once per
//! publication, with the worker's pools and counters beside it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::{InstanceId, ServiceName};

use crate::cluster::{Cluster, Dependency, Endpoint, Protocol, Snapshot};
use crate::gate::Gate;
use crate::mesh::Denials;
use crate::meter::Meter;
use crate::occupant::Occupant;
use crate::pool::Pool;
use crate::rate::{Limit, Registry, Table};
use crate::resilience::config::Deadlines;
use crate::resilience::standing::Ejector;
use crate::resilience::{BalanceConfig, Balancer};
use crate::route::{OwnRoutes, Route};
use crate::service::Shared;
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
    gates: Vec<Rc<Gate>>,
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
    pub(crate) meter: Rc<Meter>,
    pub(crate) pattern: Rc<Pattern>,
}

/// The pattern of a route's path, for spans.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// As it was written.
    pub(crate) path: Arc<str>,
    /// Its index in the batch of spans of this number.
    pub(crate) span_name: Cell<(u32, NameIndex)>,
}

/// A service that requests go to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) service: Rc<Known>,
    pub(crate) timeout: Duration,
    pub(crate) protocol: Protocol,
    pub(crate) denials: Option<Arc<Denials>>,
    /// The way in from the edge.
    pub(crate) gate: Rc<Gate>,
    /// Who judges its instances.
    pub(crate) ejector: Arc<Ejector>,
    pub(crate) balancer: Balancer,
    pub(crate) balance: BalanceConfig,
    /// It has an address to call somebody by.
    pub(crate) calls_others: bool,
    /// One for each endpoint that was ready when the snapshot was made.
    pub(crate) pools: Vec<Rc<Pool>>,
}

/// A mesh address in use: one service may call another.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Rc<Known>,
    pub(crate) target: Rc<Target>,
    /// The way in for this caller.
    pub(crate) gate: Rc<Gate>,
    /// How long it may take until the head of an answer.
    pub(crate) timeout: Duration,
    /// The caller's calls end with the requests that cause them.
    pub(crate) inherits_deadlines: bool,
    /// How many calls there may be, and what is remembered of them.
    pub(crate) rate: Option<(Limit, Arc<Table>)>,
    pub(crate) meter: Rc<Meter>,
    /// The routes that the callee knows by the same paths as its callers, if it has any.
    pub(crate) own_routes: Option<OwnRoutes>,
    /// Lines that tell the callee who calls, if it is to know.
    pub(crate) introduction: Vec<u8>,
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
        route: &Arc<Route>,
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
            meter: Rc::new(Meter::of_route(route)),
            pattern: Rc::new(Pattern {
                path: route.path.as_str().into(),
                span_name: Cell::new((0, 0)),
            }),
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

impl Call {
    fn resolve(
        snapshot: &Snapshot,
        shared: &Shared,
        dependency: &Dependency,
        (caller, target, gate): (Rc<Known>, Rc<Target>, Rc<Gate>),
    ) -> Self {
        let from = snapshot.clusters.get(&dependency.caller);
        let to = snapshot.clusters.get(&dependency.callee);
        let rate = to.and_then(|to| to.rate.as_ref()).map(|config| {
            let limit = Limit::new(config);
            let Dependency { caller, callee } = dependency;
            let key = format!("call {caller} {callee} {limit:?}");
            (limit, shared.tables.table(&key, Table::single))
        });
        let token = to.and_then(|to| to.introduce.as_deref());
        let introduction = token.map_or_else(Vec::new, |token| {
            let name = &dependency.caller;
            format!("Atoll-Caller: {name}\r\nAtoll-Token: {token}\r\n").into_bytes()
        });
        let own = from.and_then(|from| from.dependencies.get(&dependency.callee));
        let timeout = own.and_then(|own| own.timeout);
        let deadlines = from.map(|from| from.resilience.deadlines);
        Self {
            timeout: timeout.map_or(target.timeout, |timeout| timeout.0),
            inherits_deadlines: deadlines != Some(Deadlines::Own),
            meter: Rc::new(Meter::of_call(&caller, &target.service)),
            own_routes: snapshot.routes.own(&dependency.callee),
            caller,
            gate,
            target,
            rate,
            introduction,
        }
    }
}

impl Local {
    /// Resolves a snapshot. `service` and `pool` give what the worker keeps across snapshots, `shared`
    /// what all workers do.
    pub(crate) fn resolve(
        snapshot: Arc<Snapshot>,
        shared: &Shared,
        now: u64,
        mut service: impl FnMut(&ServiceName) -> Rc<Known>,
        mut pool: impl FnMut(&Arc<Endpoint>) -> Rc<Pool>,
    ) -> Self {
        let mut gates = Vec::new();
        let mut gate = |caller: Option<&ServiceName>, cluster: &Cluster| {
            let gate = shared.passages.gate(&snapshot, caller, cluster, now);
            let gate = Rc::new(gate);
            gates.push(Rc::clone(&gate));
            gate
        };
        let callers: HashSet<&ServiceName> =
            snapshot.mesh.values().map(|own| &own.caller).collect();
        let mut targets: HashMap<ServiceName, Rc<Target>> = HashMap::new();
        let mut target = |name: &ServiceName| {
            let resolved = targets.entry(name.clone()).or_insert_with(|| {
                let unknown = || Arc::new(Cluster::new(name.clone(), Vec::new()));
                let cluster = snapshot.clusters.get(name).map_or_else(unknown, Arc::clone);
                let known = service(name);
                known.delta.borrow_mut().slow_after(cluster.slow_after);
                Rc::new(Target {
                    service: known,
                    timeout: cluster.timeout,
                    denials: cluster.denials.clone(),
                    gate: gate(None, &cluster),
                    ejector: shared.ejectors.of(&cluster),
                    balancer: Balancer::new(cluster.resilience.balance.kind),
                    balance: cluster.resilience.balance.clone(),
                    protocol: cluster.protocol,
                    calls_others: callers.contains(name),
                    pools: cluster.endpoints.iter().map(&mut pool).collect(),
                })
            });
            Rc::clone(resolved)
        };
        let routes = snapshot
            .routes
            .routes()
            .iter()
            .map(|route| Way::resolve(route, &mut target, &shared.tables))
            .collect();
        // Who is asked about requests (forward-auth) may have neither routes nor callers.
        let asked = shared
            .config
            .auth
            .values()
            .filter_map(|auth| auth.forward());
        asked.for_each(|forward| drop(target(forward.service())));
        let calls: Vec<_> = snapshot
            .mesh
            .iter()
            .map(|(address, dependency)| {
                let caller = Rc::clone(&target(&dependency.caller).service);
                (*address, dependency, caller, target(&dependency.callee))
            })
            .collect();
        let mesh = calls
            .into_iter()
            .map(|(address, dependency, caller, target)| {
                let cluster = snapshot.clusters.get(&dependency.callee);
                let own = cluster.map(|cluster| gate(Some(&dependency.caller), cluster));
                let gate = own.unwrap_or_else(|| Rc::clone(&target.gate));
                let call = Call::resolve(&snapshot, shared, dependency, (caller, target, gate));
                (address, Rc::new(call))
            });
        let mesh = mesh.collect();
        Self {
            routes,
            mesh,
            targets,
            gates,
            snapshot,
        }
    }

    /// The ways in that this worker counts calls of.
    pub(crate) fn gates(&self) -> &[Rc<Gate>] {
        &self.gates
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

    /// The one request that an instance works on, if it has one alone.
    pub(crate) fn occupant(&self, instance: &InstanceId) -> Option<Occupant> {
        let pools = &self.targets.get(instance.service())?.pools;
        let mut endpoints = pools.iter().map(|pool| &pool.endpoint);
        let endpoint = endpoints.find(|endpoint| endpoint.instance() == instance)?;
        endpoint.occupants.only(|| endpoint.in_flight())
    }

    /// All services.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Rc<Target>> {
        self.targets.values()
    }

    /// A service by name.
    pub(crate) fn target(&self, name: &ServiceName) -> Option<&Rc<Target>> {
        self.targets.get(name)
    }
}
