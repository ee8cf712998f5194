//! The proxy as a whole: binds, starts its workers, and hands out the handle that steers them.
//!
//! Ports are taken and threads are made in [`Service::bind`], so whatever can fail at start fails
//! there. From then on nothing is shared between workers but the snapshot, a few counters and the
//! endpoints' in-flight words.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use arc_swap::ArcSwap;
use atoll_base::{ServiceName, Timestamp};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, CacheStats, Purge};
use crate::cluster::Snapshot;
use crate::config::Config;
use crate::error::Error;
use crate::gate::{Ejectors, Passages};
use crate::limits::RETRIES_PER_TREE;
use crate::mesh::Callers;
use crate::meter::{Meters, Series};
use crate::policy::Networks;
use crate::rate::Registry;
use crate::resilience::Why;
use crate::resilience::budget::TreeBudget;
use crate::resilience::ejection::Verdict;
use crate::span::SpanSink;
use crate::stats::{ServiceStats, ServiceTally, Window};
use crate::tls::{Certificates, TlsError};
use crate::{clock, limits, listen, worker};

/// How often it is looked whether the edge has become quiet.
const EDGE_LOOK: Duration = Duration::from_millis(5);

/// The proxy, bound and not yet started. Dropped, it gives its ports back.
#[derive(Debug)]
pub struct Service {
    shared: Arc<Shared>,
    edge_addr: SocketAddr,
    mesh_port: u16,
    /// A message sets a waiting worker going.
    starters: Vec<SyncSender<()>>,
}

/// Steers the running proxy. A cheap clone. Dropping it stops nothing: see [`Handle::stop`].
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    edge_addr: SocketAddr,
    mesh_port: u16,
}

/// What the workers share with each other and with the handle.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Counts publications; a worker that sees it change takes the new snapshot.
    pub(crate) generation: AtomicU64,
    /// Wakes each worker: a snapshot was published or an endpoint withdrawn.
    pub(crate) wake: Vec<Arc<Notify>>,
    pub(crate) sink: Arc<dyn SpanSink>,
    pub(crate) windows: Mutex<HashMap<ServiceName, Window>>,
    /// Answers that are kept.
    pub(crate) cache: Arc<Cache>,
    /// What went over each route and dependency.
    pub(crate) meters: Meters,
    /// As `stop`, for the edge alone.
    pub(crate) edge_stop: CancellationToken,
    /// Workers whose edge has not stopped accepting, and edge connections that are open.
    pub(crate) edge_busy: AtomicUsize,
    /// More edge connections than this are left waiting in the kernel's queue.
    pub(crate) edge_connections_max: usize,
    /// The proxies in front of this one that are believed.
    pub(crate) trusted_proxies: Option<Networks>,
    /// What is known about calls, by caller and callee.
    pub(crate) passages: Passages,
    /// Who judges the instances of each service.
    pub(crate) ejectors: Ejectors,
    /// Retries of whole trees of requests.
    pub(crate) trees: Mutex<TreeBudget>,
    /// What is remembered of clients for rate limits.
    pub(crate) tables: Registry,
    /// Which service lives in which cgroup.
    pub(crate) callers: Callers,
    /// What HTTPS is served with, if it is.
    pub(crate) certificates: Option<Certificates>,
    /// Where HTTPS is served.
    pub(crate) tls_addr: Option<SocketAddr>,
    /// The field that tells browsers to come by HTTPS only.
    pub(crate) hsts: Option<Arc<[u8]>>,
    /// HTTP/2 connections that were ended because the client flooded them.
    pub(crate) floods: AtomicU64,
    /// No new connections; those in use finish their request.
    pub(crate) stop: CancellationToken,
    /// The time for that is over.
    pub(crate) abort: CancellationToken,
    /// Workers that have not ended.
    pub(crate) alive: watch::Sender<usize>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Whether the edge has as many connections as it may.
    pub(crate) fn edge_is_full(&self) -> bool {
        self.edge_busy.load(Ordering::Relaxed) >= self.edge_connections_max
    }
}

impl Service {
    /// Takes the ports and makes the worker threads, which wait for [`Service::start`]. Until a
    /// snapshot is published, the edge answers 404 and the mesh closes every connection.
    ///
    /// Fails if a setting is not understood ([`Error::Setting`]), a certificate cannot be used
    /// ([`Error::Tls`]), a port cannot be had ([`Error::Edge`], [`Error::Mesh`], [`Error::Loopback`]) or a
    /// thread cannot be made ([`Error::Worker`]).
    pub fn bind(config: Config, sink: Arc<dyn SpanSink>) -> Result<Self, Error> {
        let count = config.thread_count().get();
        let trusted_proxies = Networks::parse(&config.edge.trusted_proxies)?;
        let tls = config.edge.tls.as_ref();
        let certificates = tls.cloned().map(Certificates::load).transpose()?;
        let hsts = tls.and_then(|tls| tls.hsts).map(|age| {
            let line = format!("Strict-Transport-Security: max-age={}\r\n", age.0.as_secs());
            line.into_bytes().into()
        });
        let (edge, edge_addr) = listen::edge(config.edge.listen, count)?;
        let tls = tls.map(|tls| listen::edge(tls.listen, count)).transpose()?;
        let (tls, tls_addr) = tls.unzip();
        let mut tls = tls.into_iter().flatten();
        let (mesh, mesh_port) = listen::mesh(config.mesh.port, count)?;
        clock::origin();
        let cache_size = config.edge.cache_size.0;
        let shared = Arc::new(Shared {
            config,
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            generation: AtomicU64::new(0),
            wake: (0..count).map(|_| Arc::default()).collect(),
            sink,
            windows: Mutex::default(),
            cache: Arc::new(Cache::new(cache_size)),
            meters: Meters::default(),
            edge_stop: CancellationToken::new(),
            edge_busy: AtomicUsize::new(if tls_addr.is_some() { 2 * count } else { count }),
            passages: Passages::default(),
            ejectors: Ejectors::default(),
            trees: Mutex::new(TreeBudget::new(RETRIES_PER_TREE)),
            tables: Registry::default(),
            callers: Callers::default(),
            certificates,
            tls_addr,
            hsts,
            edge_connections_max: limits::edge_connections_max(),
            trusted_proxies,
            floods: AtomicU64::new(0),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            alive: watch::Sender::new(0),
        });
        let mut starters = Vec::with_capacity(count);
        for (index, (edge, mesh)) in edge.into_iter().zip(mesh).enumerate() {
            let listeners = Listeners {
                edge,
                mesh,
                tls: tls.next(),
            };
            let starter = spawn(index, Arc::clone(&shared), listeners);
            starters.push(starter.map_err(|source| Error::Worker { source })?);
        }
        Ok(Self {
            shared,
            edge_addr,
            mesh_port,
            starters,
        })
    }

    /// Where the edge listens.
    pub fn edge_addr(&self) -> SocketAddr {
        self.edge_addr
    }

    /// The port of every mesh address.
    pub fn mesh_port(&self) -> u16 {
        self.mesh_port
    }

    /// Sets the workers going.
    pub fn start(self) -> Handle {
        for starter in &self.starters {
            // A worker counts until it ends, so that `stop` can wait for all.
            self.shared.alive.send_modify(|alive| *alive += 1);
            starter
                .send(())
                .expect("a worker waits for its start and ends only after it");
        }
        Handle {
            shared: self.shared,
            edge_addr: self.edge_addr,
            mesh_port: self.mesh_port,
        }
    }
}

impl Handle {
    /// Replaces everything that decides where requests go. Requests that are under way finish as
    /// they began. Idle connections to endpoints that are no longer listed are closed.
    pub fn publish(&self, snapshot: Snapshot) {
        let now = clock::millis(clock::uptime());
        self.shared.ejectors.take_over(&snapshot, now);
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        for wake in &self.shared.wake {
            wake.notify_one();
        }
    }

    /// Where every instance that gets requests stands, those too with which all is well, and which calls are
    /// refused, and why.
    pub fn explain(&self) -> Resilience {
        let now = clock::millis(clock::uptime());
        let wall = Timestamp::now();
        let breakers = self.shared.passages.explain(now, wall).into_iter();
        let instances = self.shared.ejectors.explain(now, wall);
        Resilience {
            breakers: breakers
                .map(|(caller, callee, why)| OpenBreaker {
                    caller,
                    callee,
                    why,
                })
                .collect(),
            instances,
        }
    }

    /// Live figures of every service that has a cluster or had requests, sorted by name. They lag
    /// by less than half a second.
    pub fn stats(&self) -> Vec<ServiceStats> {
        let now = clock::uptime();
        let snapshot = self.shared.snapshot.load();
        let windows = self
            .shared
            .windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let idle = Window::new();
        let mut names: Vec<_> = snapshot.clusters.keys().chain(windows.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|name| {
                let in_flight = snapshot.clusters.get(name).map_or(0, |cluster| {
                    cluster
                        .endpoints
                        .iter()
                        .map(|endpoint| endpoint.in_flight())
                        .sum()
                });
                windows
                    .get(name)
                    .unwrap_or(&idle)
                    .stats(name, in_flight, now)
            })
            .collect()
    }

    /// What was counted of every service that had requests, since the start; sorted by name. Far cheaper than
    /// [`Self::stats`], and as old.
    pub fn tallies(&self) -> Vec<ServiceTally> {
        let windows = self.shared.windows.lock();
        let windows = windows.unwrap_or_else(PoisonError::into_inner);
        let tallies = windows.iter().map(|(name, window)| window.tally(name));
        let mut tallies: Vec<_> = tallies.collect();
        tallies.sort_unstable_by(|one, other| one.service.cmp(&other.service));
        tallies
    }

    /// What went over each route and each dependency since the start, for those that had requests,
    /// sorted. It lags by less than half a second.
    pub fn series(&self) -> Vec<Series> {
        self.shared.meters.series()
    }

    /// Forgets answers that are kept; tells how many pages. What is being fetched now is not kept.
    pub fn purge(&self, what: &Purge) -> usize {
        self.shared.cache.store.purge(what)
    }

    /// How the cache does.
    pub fn cache(&self) -> CacheStats {
        self.shared.cache.stats()
    }

    /// The list by which callers in the mesh are verified; whoever starts instances keeps it.
    pub fn callers(&self) -> &Callers {
        &self.shared.callers
    }

    /// Where HTTPS is served, if it is.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.shared.tls_addr
    }

    /// Reads certificates again if their files have changed since they were last read; tells whether
    /// they did. New connections get the new ones. If they cannot be used, the old ones stay and
    /// nothing is tried until the files change again. Reads files: not for a thread that must not
    /// wait.
    pub fn refresh_certificates(&self) -> Result<bool, TlsError> {
        let certificates = self.shared.certificates.as_ref();
        certificates.map_or(Ok(false), Certificates::refresh)
    }

    /// HTTP/2 connections that were ended because the client flooded them with frames that carry
    /// nothing, since the start.
    pub fn floods(&self) -> u64 {
        self.shared.floods.load(Ordering::Relaxed)
    }

    /// Where the edge listens.
    pub fn edge_addr(&self) -> SocketAddr {
        self.edge_addr
    }

    /// The port of every mesh address.
    pub fn mesh_port(&self) -> u16 {
        self.mesh_port
    }

    /// Closes the edge and leaves the mesh open: services that are still at work, or finish before
    /// they leave, go on calling each other. Stops accepting, lets requests finish for at most
    /// `drain` (their answers close the connection). Needs a tokio runtime with time, any one.
    pub async fn stop_edge(&self, drain: Duration) {
        self.shared.edge_stop.cancel();
        let quiet = async {
            while self.shared.edge_busy.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(EDGE_LOOK).await;
            }
        };
        if tokio::time::timeout(drain, quiet).await.is_err() {
            let open = self.shared.edge_busy.load(Ordering::SeqCst);
            tracing::warn!(open, ?drain, "requests of the edge are cut off");
        }
    }

    /// Stops accepting on both sides, lets requests finish for at most `drain` (their answers close
    /// the connection), then ends the threads. Needs a tokio runtime with time, any one.
    pub async fn stop(&self, drain: Duration) {
        self.shared.edge_stop.cancel();
        self.shared.stop.cancel();
        let mut alive = self.shared.alive.subscribe();
        if tokio::time::timeout(drain, alive.wait_for(|alive| *alive == 0))
            .await
            .is_err()
        {
            self.shared.abort.cancel();
            // Ends as soon as each worker has polled its tasks once more.
            let ended = alive.wait_for(|alive| *alive == 0);
            if tokio::time::timeout(Duration::from_secs(5), ended)
                .await
                .is_err()
            {
                tracing::error!("a proxy worker did not end");
            }
        }
    }
}

/// What keeps requests away from where they would go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resilience {
    /// Breakers that are not closed.
    pub breakers: Vec<OpenBreaker>,
    /// Instances that are out, on probation, or would be out if enough others were in.
    pub instances: Vec<Verdict>,
}

/// A breaker that is not closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenBreaker {
    /// Who calls; none for the edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<ServiceName>,
    /// Who is called.
    pub callee: ServiceName,
    /// Why it is not.
    pub why: Why,
}

/// The sockets of one worker.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) edge: TcpListener,
    pub(crate) mesh: TcpListener,
    pub(crate) tls: Option<TcpListener>,
}

fn spawn(index: usize, shared: Arc<Shared>, listeners: Listeners) -> io::Result<SyncSender<()>> {
    let (ready, is_ready) = sync_channel::<io::Result<()>>(1);
    let (starter, start) = sync_channel::<()>(1);
    thread::Builder::new()
        .name(format!("proxy-{index}"))
        .spawn(move || wait_and_run(index, &shared, &listeners, &ready, &start))?;
    match is_ready.recv() {
        Ok(ready) => ready.map(|()| starter),
        Err(_) => Err(io::Error::other("the worker thread panicked")),
    }
}

fn wait_and_run(
    index: usize,
    shared: &Arc<Shared>,
    listeners: &Listeners,
    ready: &SyncSender<io::Result<()>>,
    start: &Receiver<()>,
) {
    // A first try tells whether the system grants what an event loop needs.
    let tried = worker::runtime().map(drop);
    let failed = tried.is_err();
    if ready.send(tried).is_err() || failed || start.recv().is_err() {
        return;
    }
    worker::run_until_stopped(index, shared, listeners);
    shared.alive.send_modify(|alive| *alive -= 1);
}
