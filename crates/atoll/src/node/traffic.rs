//! Who may have requests: from ready instances and current manifests to the proxy's snapshot.
//!
//! Two voices meet here. The supervisor says which instances answer, the moment it knows; the
//! deployments say which of them should serve. The snapshot is what both agree on, and it is
//! published before either of them goes on.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_base::{InstanceId, ServiceName};
use atoll_proxy::config::RouteConfig;
use atoll_proxy::{
    Cluster, Denials, Dependency, Endpoint, Handle, RouteTable, Snapshot, mesh_address,
};

use tokio::sync::Notify;

use crate::manifest::ServiceFile;

/// Who reads a topic may wait for a minute.
const OWN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(90);

/// The state behind the snapshot.
pub struct Traffic {
    proxy: Handle,
    board: Mutex<Board>,
    changed: Notify,
}

#[derive(Default)]
struct Board {
    /// Where the instances that answer listen.
    addresses: HashMap<InstanceId, SocketAddr>,
    /// The cgroups of the instances that run.
    cgroups: HashMap<InstanceId, u64>,
    /// The endpoints in the present snapshot.
    endpoints: HashMap<InstanceId, Arc<Endpoint>>,
    /// Endpoints taken out that may still have requests.
    leaving: Vec<Arc<Endpoint>>,
    /// Services that have served, with the manifest of the revision that does.
    services: BTreeMap<ServiceName, Served>,
    /// What the platform itself serves to services, by its name; and the token that proves the proxy.
    own: BTreeMap<ServiceName, (Arc<Endpoint>, Arc<str>)>,
    /// The address of each dependency; never given to another while the node runs.
    mesh: BTreeMap<(ServiceName, ServiceName), Ipv4Addr>,
}

struct Served {
    file: Arc<ServiceFile>,
    instances: Vec<InstanceId>,
    /// Those that take over when none of `instances` answers.
    standby: Vec<InstanceId>,
}

impl Traffic {
    /// Publishes to `proxy`.
    pub fn new(proxy: Handle) -> Self {
        Self {
            proxy,
            board: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// A process of the instance runs in this cgroup, and may call others from there.
    pub fn started(&self, id: &InstanceId, cgroup: Option<u64>) {
        let Some(cgroup) = cgroup else { return };
        self.proxy.callers().add(cgroup, id.clone());
        let before = self.lock().cgroups.insert(id.clone(), cgroup);
        if let Some(before) = before.filter(|before| *before != cgroup) {
            self.proxy.callers().remove(before);
        }
    }

    /// The node itself calls as `service`.
    pub fn adopt(&self, service: ServiceName) {
        self.proxy.callers().adopt(service);
    }

    /// No process of the instance runs any more.
    pub fn stopped(&self, id: &InstanceId) {
        if let Some(cgroup) = self.lock().cgroups.remove(id) {
            self.proxy.callers().remove(cgroup);
        }
    }

    /// The instance answers at `addr`.
    pub fn ready(&self, id: &InstanceId, addr: SocketAddr) {
        let mut board = self.lock();
        board.endpoints.remove(id).inspect(|old| old.withdraw());
        board.addresses.insert(id.clone(), addr);
        self.publish(&mut board);
    }

    /// The instance does not answer any more: no request picks it after this returns.
    pub fn lost(&self, id: &InstanceId) {
        let mut board = self.lock();
        if board.addresses.remove(id).is_some() {
            self.publish(&mut board);
        }
    }

    /// Those instances of the service, and no others, should serve, by the routes of `file`. When
    /// none of them answers, those in `standby` take over in the same moment.
    pub fn serve(
        &self,
        service: &ServiceName,
        file: Arc<ServiceFile>,
        ids: &[InstanceId],
        standby: &[InstanceId],
    ) {
        let mut board = self.lock();
        let served = Served {
            file,
            instances: ids.to_vec(),
            standby: standby.to_vec(),
        };
        board.services.insert(service.clone(), served);
        self.publish(&mut board);
    }

    /// The manifest by which the service serves.
    pub fn file_of(&self, service: &ServiceName) -> Option<Arc<ServiceFile>> {
        self.lock()
            .services
            .get(service)
            .map(|served| Arc::clone(&served.file))
    }

    /// Where an instance of the service that may have requests listens.
    pub fn address(&self, service: &ServiceName) -> Option<SocketAddr> {
        let board = self.lock();
        let mut endpoints = board.endpoints.values();
        let found = endpoints.find(|endpoint| endpoint.instance().service() == service);
        found.map(|endpoint| endpoint.addr())
    }

    /// Completes when the service has an instance that may have requests.
    pub async fn wait_ready(&self, service: &ServiceName) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.lock().is_served(service) {
                return;
            }
            changed.await;
        }
    }

    /// Completes when the instance, which does not serve any more, has no request left.
    pub fn drained(&self, id: &InstanceId) -> impl Future<Output = ()> + Send + 'static {
        let mut board = self.lock();
        let (its, others) = std::mem::take(&mut board.leaving)
            .into_iter()
            .partition::<Vec<_>, _>(|endpoint| endpoint.instance() == id);
        board.leaving = others;
        async move {
            for endpoint in its {
                endpoint.drained().await;
            }
        }
    }

    /// The address under which `caller` reaches `callee`.
    pub fn mesh_address(&self, caller: &ServiceName, callee: &ServiceName) -> SocketAddr {
        let mut board = self.lock();
        let next = mesh_address(u32::try_from(board.mesh.len()).unwrap_or(u32::MAX));
        let key = (caller.clone(), callee.clone());
        let known = board.mesh.contains_key(&key);
        let address = *board.mesh.entry(key).or_insert(next);
        if !known {
            self.publish(&mut board);
        }
        SocketAddr::from((address, self.proxy.mesh_port()))
    }

    /// The platform itself answers at `addr`, as `service`, to those who are introduced by `token`.
    pub fn serve_own(&self, service: ServiceName, addr: SocketAddr, token: Arc<str>) {
        let id = InstanceId::new(service.clone(), atoll_base::RevisionNumber(0), 1);
        let mut board = self.lock();
        let endpoint = Endpoint::new(id, addr);
        board.own.insert(service, (endpoint, token));
        self.publish(&mut board);
    }

    /// Publishes what is, then takes out the endpoints that are no part of it any more.
    fn publish(&self, board: &mut Board) {
        let before = std::mem::take(&mut board.endpoints);
        let mut clusters = HashMap::with_capacity(board.services.len());
        for (service, served) in &board.services {
            let mut endpoints = Vec::with_capacity(served.instances.len());
            for id in served.who_serves(&board.addresses) {
                let Some(addr) = board.addresses.get(id) else {
                    continue;
                };
                let endpoint = before
                    .get(id)
                    .cloned()
                    .unwrap_or_else(|| Endpoint::new(id.clone(), *addr));
                board.endpoints.insert(id.clone(), Arc::clone(&endpoint));
                endpoints.push(endpoint);
            }
            let cluster = cluster(service, &served.file, endpoints);
            clusters.insert(service.clone(), Arc::new(cluster));
        }
        for (service, (endpoint, token)) in &board.own {
            let own = Cluster {
                introduce: Some(Arc::clone(token)),
                timeout: OWN_TIMEOUT,
                ..Cluster::new(service.clone(), vec![Arc::clone(endpoint)])
            };
            clusters.insert(service.clone(), Arc::new(own));
        }
        let mesh = board.mesh.iter().map(|((caller, callee), address)| {
            (
                *address,
                Dependency {
                    caller: caller.clone(),
                    callee: callee.clone(),
                },
            )
        });
        let mesh = mesh.collect();
        self.proxy.publish(Snapshot {
            routes: routes(board),
            clusters,
            mesh,
        });
        self.changed.notify_waiters();
        board.leaving.retain(|endpoint| endpoint.in_flight() > 0);
        for (id, endpoint) in before {
            if !board.endpoints.contains_key(&id) {
                endpoint.withdraw();
                board.leaving.push(endpoint);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Served {
    fn who_serves(&self, addresses: &HashMap<InstanceId, SocketAddr>) -> &[InstanceId] {
        let some_answer = self.instances.iter().any(|id| addresses.contains_key(id));
        if some_answer {
            &self.instances
        } else {
            &self.standby
        }
    }
}

impl Board {
    fn is_served(&self, service: &ServiceName) -> bool {
        let instances = self.services.get(service).map(|served| &served.instances);
        instances
            .into_iter()
            .flatten()
            .any(|id| self.endpoints.contains_key(id))
    }
}

/// A service, as its manifest describes it.
fn cluster(service: &ServiceName, file: &ServiceFile, endpoints: Vec<Arc<Endpoint>>) -> Cluster {
    let denials = Denials::build(service, &file.deny).unwrap_or_else(|errors| {
        // Every manifest was checked before it became a revision.
        tracing::error!(%service, ?errors, "what it does not answer cannot be told");
        Denials::default()
    });
    Cluster {
        timeout: file.request_timeout.0,
        slow_after: file
            .objective
            .as_ref()
            .and_then(|own| own.latency)
            .map(|own| own.0),
        protocol: file.protocol,
        resilience: file.resilience.clone(),
        dependencies: file.dependency.clone(),
        rate: file.mesh_rate_limit.clone(),
        denials: (!file.deny.is_empty()).then(|| Arc::new(denials)),
        ..Cluster::new(service.clone(), endpoints)
    }
}

/// The routes of all services that serve. Manifests of different ages may collide although each
/// deployment was checked; then the service that comes first by name keeps the route.
fn routes(board: &Board) -> RouteTable {
    let mut all: Vec<(ServiceName, RouteConfig)> = board
        .services
        .iter()
        .flat_map(|(service, served)| {
            served
                .file
                .route
                .iter()
                .map(|r| (service.clone(), r.clone()))
        })
        .collect();
    let mut losers: Vec<usize> = atoll_proxy::route::conflicts(&all)
        .into_iter()
        .map(|conflict| conflict.second)
        .collect();
    losers.sort_unstable();
    losers.dedup();
    for index in losers.into_iter().rev() {
        let (service, route) = all.remove(index);
        tracing::warn!(%service, path = route.path, "another service has this route already");
    }
    RouteTable::build(all).unwrap_or_else(|errors| {
        // Every manifest was checked before it became a revision.
        tracing::error!(?errors, "routes cannot be built; none is exposed");
        RouteTable::default()
    })
}
