//! What the proxy forwards to: endpoints, clusters of them, and the snapshot that says which
//! requests go where.
//!
//! The one promise that a deployment relies on: once [`Endpoint::drained`] completes, no request
//! is on its way to the endpoint and none will ever be. It holds because the count of requests and
//! the mark "withdrawn" are one atomic word: whoever takes the endpoint adds one and sees in the
//! same step whether it was withdrawn. A snapshot that still lists it does no harm.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use atoll_base::{InstanceId, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::limits::DEFAULT_RESPONSE_TIMEOUT;
use crate::mesh::Denials;
use crate::occupant::Occupants;
use crate::rate::RateLimitConfig;
use crate::resilience::standing::Standing;
use crate::resilience::{DependencyConfig, ResilienceConfig};
use crate::route::RouteTable;

const WITHDRAWN: u32 = 1 << 31;

/// The address of one ready instance, shared by all workers.
pub struct Endpoint {
    instance: InstanceId,
    addr: SocketAddr,
    /// Requests in flight, and [`WITHDRAWN`].
    load: AtomicU32,
    /// Avoided until then, in milliseconds of [`crate::clock`].
    suspect_until: AtomicU64,
    drained: Notify,
    /// Where it stands with those who send requests; set when it is first published.
    standing: OnceLock<Arc<Standing>>,
    /// The requests in flight, as far as their calls may be joined to them.
    pub(crate) occupants: Occupants,
    /// Workers that hold idle connections to it.
    watchers: Mutex<Vec<Weak<Notify>>>,
}

/// The instances of one service that may get requests.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The service.
    pub service: ServiceName,
    /// Its ready instances. May be empty: requests are then answered 503.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// What its instances speak.
    pub protocol: Protocol,
    /// How many calls each caller may make. `by` does not matter: callers are told apart.
    pub rate: Option<RateLimitConfig>,
    /// How it is called by everyone.
    pub resilience: ResilienceConfig,
    /// How it calls others, where it says so itself.
    pub dependencies: BTreeMap<ServiceName, DependencyConfig>,
    /// Calls of other services that it does not answer.
    pub denials: Option<Arc<Denials>>,
    /// It is told who calls it from the mesh: as `Atoll-Caller`, beside this as `Atoll-Token`, by which
    /// it knows that the proxy says so. For services of the platform itself.
    pub introduce: Option<Arc<str>>,
    /// How long it may take until the head of an answer, unless the route says else. See
    /// [`crate::limits::DEFAULT_RESPONSE_TIMEOUT`].
    pub timeout: Duration,
    /// Requests that take longer, to the last byte of their answer, are counted as slow
    /// ([`crate::Handle::tallies`]). Default: none are.
    pub slow_after: Option<Duration>,
}

/// What an instance speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, with prior knowledge (RFC 9113, 3.3).
    H2c,
    /// gRPC, which is spoken over the same.
    Grpc,
}

/// One service may call another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dependency {
    /// Who calls.
    pub caller: ServiceName,
    /// Who is called.
    pub callee: ServiceName,
}

/// Everything that decides where requests go. Immutable; replaced as a whole with
/// [`crate::Handle::publish`].
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What the edge exposes.
    pub routes: RouteTable,
    /// The services that there are.
    pub clusters: HashMap<ServiceName, Arc<Cluster>>,
    /// The meaning of each mesh address.
    pub mesh: HashMap<Ipv4Addr, Dependency>,
}

impl Protocol {
    /// Whether it is HTTP/2.
    pub const fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::Grpc)
    }
}

impl Cluster {
    /// The instances of a service that speaks HTTP/1.1, with the defaults of everything else.
    pub fn new(service: ServiceName, endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self {
            service,
            endpoints,
            protocol: Protocol::default(),
            resilience: ResilienceConfig::default(),
            dependencies: BTreeMap::new(),
            rate: None,
            denials: None,
            introduce: None,
            timeout: DEFAULT_RESPONSE_TIMEOUT,
            slow_after: None,
        }
    }
}

impl Endpoint {
    /// The endpoint of an instance that listens on `addr`.
    pub fn new(instance: InstanceId, addr: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            instance,
            addr,
            load: AtomicU32::new(0),
            suspect_until: AtomicU64::new(0),
            drained: Notify::new(),
            standing: OnceLock::new(),
            occupants: Occupants::default(),
            watchers: Mutex::new(Vec::new()),
        })
    }

    /// The instance behind it.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes it out of rotation for good: no new request will reach it, idle connections to it are
    /// closed soon. Requests in flight go on; wait for them with [`Endpoint::drained`].
    pub fn withdraw(&self) {
        let before = self.load.fetch_or(WITHDRAWN, SeqCst);
        if before == 0 {
            self.drained.notify_waiters();
        }
        for watcher in self.watchers().drain(..) {
            if let Some(notify) = watcher.upgrade() {
                notify.notify_one();
            }
        }
    }

    /// Whether [`Endpoint::withdraw`] was called.
    pub fn is_withdrawn(&self) -> bool {
        self.load.load(SeqCst) & WITHDRAWN != 0
    }

    /// Requests that were given to it and whose answers have not fully been sent.
    pub fn in_flight(&self) -> u32 {
        self.load.load(SeqCst) & !WITHDRAWN
    }

    /// Completes when the endpoint is withdrawn and no request is in flight. From then on none can
    /// reach it. May be awaited on any runtime; never completes if nobody withdraws it.
    pub async fn drained(&self) {
        loop {
            let mut notified = std::pin::pin!(self.drained.notified());
            notified.as_mut().enable();
            if self.load.load(SeqCst) == WITHDRAWN {
                return;
            }
            notified.await;
        }
    }

    /// Has it judged from now on, if it is not.
    pub(crate) fn judge(&self, join: impl FnOnce() -> Arc<Standing>) {
        self.standing.get_or_init(join);
    }

    /// Where it stands; none before it is published.
    pub(crate) fn standing(&self) -> Option<&Arc<Standing>> {
        self.standing.get()
    }

    /// Counts a request in, unless the endpoint was withdrawn. Pairs with [`Endpoint::release`].
    pub(crate) fn acquire(&self) -> bool {
        let before = self.load.fetch_add(1, SeqCst);
        if before & WITHDRAWN == 0 {
            return true;
        }
        self.release();
        false
    }

    /// Counts a request out.
    pub(crate) fn release(&self) {
        let before = self.load.fetch_sub(1, SeqCst);
        if before == WITHDRAWN + 1 {
            self.drained.notify_waiters();
        }
    }

    /// Prefers other endpoints until `until`, in milliseconds of the process clock.
    pub(crate) fn suspect(&self, until: u64) {
        self.suspect_until.fetch_max(until, SeqCst);
    }

    /// Whether other endpoints are to be preferred at `now`.
    pub(crate) fn is_suspect(&self, now: u64) -> bool {
        self.suspect_until.load(SeqCst) > now
    }

    /// Whether it gets requests as any other at `now`.
    pub(crate) fn is_good(&self, now: u64) -> bool {
        !self.is_suspect(now) && self.standing().is_none_or(|standing| standing.admits())
    }

    /// Notifies `watcher` when the endpoint is withdrawn; at once if it already was.
    pub(crate) fn watch(&self, watcher: &Arc<Notify>) {
        let weak = Arc::downgrade(watcher);
        let mut watchers = self.watchers();
        if !watchers.iter().any(|own| own.ptr_eq(&weak)) {
            watchers.push(weak);
        }
        drop(watchers);
        if self.is_withdrawn() {
            watcher.notify_one();
        }
    }

    fn watchers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Notify>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("instance", &self.instance)
            .field("addr", &self.addr)
            .field("in_flight", &self.in_flight())
            .field("withdrawn", &self.is_withdrawn())
            .finish_non_exhaustive()
    }
}

/// The mesh address number `index`: 127.64.0.1, 127.64.0.2, … Last bytes 0 and 255 are left out,
/// as some programs take them for networks and broadcasts. There are 4.1 million; a larger index
/// starts over.
pub fn mesh_address(index: u32) -> Ipv4Addr {
    const PER_BLOCK: u32 = 254;
    const BLOCKS: u32 = 1 << 14;
    let index = index % (PER_BLOCK * BLOCKS);
    let base = u32::from(Ipv4Addr::new(127, 64, 0, 0));
    Ipv4Addr::from(base + (index / PER_BLOCK) * 256 + index % PER_BLOCK + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_base::RevisionNumber;

    fn endpoint() -> Arc<Endpoint> {
        let service = ServiceName::new("orders").unwrap();
        Endpoint::new(
            InstanceId::new(service, RevisionNumber(1), 1),
            SocketAddr::from(([127, 0, 0, 1], 1)),
        )
    }

    #[test]
    fn mesh_addresses_are_distinct_and_within_their_block() {
        assert_eq!(mesh_address(0), Ipv4Addr::new(127, 64, 0, 1));
        assert_eq!(mesh_address(253), Ipv4Addr::new(127, 64, 0, 254));
        assert_eq!(mesh_address(254), Ipv4Addr::new(127, 64, 1, 1));
        assert_eq!(
            mesh_address(254 * (1 << 14) - 1),
            Ipv4Addr::new(127, 127, 255, 254)
        );
    }

    #[test]
    fn nothing_takes_a_withdrawn_endpoint() {
        let endpoint = endpoint();
        assert!(endpoint.acquire());
        endpoint.withdraw();
        assert!(!endpoint.acquire());
        assert_eq!(endpoint.in_flight(), 1);
        endpoint.release();
        assert_eq!(endpoint.in_flight(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn drained_means_that_no_request_is_left_and_none_can_come() {
        for _ in 0..200 {
            let endpoint = endpoint();
            let inside = Arc::new(AtomicU32::new(0));
            let takers: Vec<_> = (0..2)
                .map(|_| {
                    let (endpoint, inside) = (Arc::clone(&endpoint), Arc::clone(&inside));
                    std::thread::spawn(move || {
                        while endpoint.acquire() {
                            inside.fetch_add(1, SeqCst);
                            std::hint::spin_loop();
                            inside.fetch_sub(1, SeqCst);
                            endpoint.release();
                        }
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            endpoint.withdraw();
            endpoint.drained().await;
            assert_eq!(inside.load(SeqCst), 0);
            for taker in takers {
                taker.join().unwrap();
            }
            assert_eq!(inside.load(SeqCst), 0);
        }
    }
}
