//! One thread of the proxy: its clockwork, its view of the snapshot, and what its connections
//! share.
//!
//! Everything here is of one thread, so there is no lock and no atomic on the way of a request but
//! the endpoint's in-flight word. A panic in one connection ends that connection; a panic of the
//! worker itself is logged and the worker starts again on the same sockets, as a proxy with fewer
//! threads than it seems to have is worse than either.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use atoll_base::ServiceName;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::accept;
use crate::access::{Done, Entry, Lines};
use crate::auth::TokenCache;
use crate::buffer::Buffers;
use crate::clock::{self, millis};
use crate::clockwork::Clockwork;
use crate::cluster::Endpoint;
use crate::config::Patience;
use crate::limits::{TICK, TICKS_PER_FLUSH};
use crate::local::{Known, Local};
use crate::mesh::Verifier;
use crate::pool::Pool;
use crate::recorder::{Label, Recorder, Visit};
use crate::resilience::fair_default;
use crate::service::{Listeners, Shared};
use crate::span::Side;
use crate::stats::Window;
use crate::trace::Random;

/// What the connections of one thread share.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) buffers: Buffers,
    pub(crate) clockwork: Rc<Clockwork>,
    pub(crate) random: Random,
    /// Tokens that were verified.
    pub(crate) tokens: RefCell<TokenCache>,
    /// Asks who is at the other end of a connection.
    pub(crate) verifier: Verifier,
    /// Notified when a new snapshot has been taken over: for requests that wait for an instance.
    pub(crate) published: Notify,
    /// Connections finish their request and close.
    pub(crate) stopping: Cell<bool>,
    /// As `stopping`, for the edge alone.
    edge_stopping: Cell<bool>,
    /// Accept loops that have not ended.
    pub(crate) accepting: Cell<u32>,
    /// Copies of requests that are under way.
    pub(crate) mirrors: Cell<u32>,
    /// Wakes the worker's main loop.
    pub(crate) wake: Arc<Notify>,
    edge_patience: Patience,
    mesh_patience: Patience,
    recorder: Recorder,
    lines: Lines,
    generation: Cell<u64>,
    local: RefCell<Rc<Local>>,
    known: RefCell<HashMap<ServiceName, Rc<Known>>>,
    /// By the place of the endpoint in memory, which its pool keeps occupied.
    pools: RefCell<HashMap<*const Endpoint, Rc<Pool>>>,
}

/// An event loop for one thread.
pub(crate) fn runtime() -> io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

/// Runs a worker on this thread until the proxy has stopped.
pub(crate) fn run_until_stopped(index: usize, shared: &Arc<Shared>, listeners: &Listeners) {
    loop {
        let ran = catch_unwind(AssertUnwindSafe(|| run(index, shared, listeners)));
        match ran {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(index, %error, "proxy worker failed; starting again"),
            Err(_) => tracing::error!(index, "proxy worker panicked; starting again"),
        }
        if shared.stop.is_cancelled() {
            return;
        }
        // Never spin on a failure that lasts.
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn run(index: usize, shared: &Arc<Shared>, listeners: &Listeners) -> io::Result<()> {
    let worker = Rc::new(Worker::new(index, Arc::clone(shared))?);
    runtime()?.block_on(async {
        accept::start(&worker, listeners)?;
        worker.keep_time().await;
        Ok(())
    })
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let wake = shared.wake.get(index).map(Arc::clone).unwrap_or_default();
        let worker = Self {
            recorder: Recorder::new(shared.config.failed_spans_only),
            edge_patience: shared.config.edge.patience(),
            mesh_patience: shared.config.mesh.patience(),
            shared,
            buffers: Buffers::default(),
            clockwork: Rc::default(),
            random: Random::from_os()?,
            tokens: RefCell::new(TokenCache::new()),
            verifier: Verifier::new(),
            published: Notify::new(),
            stopping: Cell::new(false),
            edge_stopping: Cell::new(false),
            accepting: Cell::new(0),
            mirrors: Cell::new(0),
            wake,
            lines: Lines::default(),
            // No publication has this number: the first request takes the snapshot over.
            generation: Cell::new(u64::MAX),
            local: RefCell::default(),
            known: RefCell::default(),
            pools: RefCell::default(),
        };
        worker.clockwork.tick(millis(clock::uptime()));
        Ok(worker)
    }

    /// How patient to be with the clients of one side.
    pub(crate) fn patience(&self, side: Side) -> &Patience {
        match side {
            Side::Edge => &self.edge_patience,
            Side::Mesh => &self.mesh_patience,
        }
    }

    /// Whether connections of this side finish their request and close.
    pub(crate) fn is_stopping(&self, side: Side) -> bool {
        self.stopping.get() || (side == Side::Edge && self.edge_stopping.get())
    }

    /// The newest snapshot, resolved.
    pub(crate) fn local(&self) -> Rc<Local> {
        let published = self.shared.generation.load(Ordering::Acquire);
        if published != self.generation.get() {
            self.take_over(published);
        }
        Rc::clone(&self.local.borrow())
    }

    /// The time since some fixed moment, in nanoseconds, never zero.
    pub(crate) fn nanos(&self) -> u64 {
        u64::try_from(clock::uptime().as_nanos()).map_or(u64::MAX, |nanos| nanos.max(1))
    }

    /// Takes down a finished request, whose answer's body had `sent` bytes.
    pub(crate) fn record(&self, visit: &Visit, label: &Label, sent: u64) {
        if self.recorder.record(visit, label, sent) {
            self.flush_spans();
        }
    }

    /// Writes a line of the access log, if the request is among those that get one. `bytes` are those
    /// of the body.
    pub(crate) fn log_access(&self, visit: &Visit, entry: &Entry, bytes: u64) {
        let Some(log) = &self.shared.config.edge.access_log else {
            return;
        };
        let failed = visit.status >= 500;
        if !failed && !self.random.chance(log.sample) {
            return;
        }
        let done = Done {
            visit,
            began: self.recorder.wall_clock(visit.start),
            took: atoll_base::clock::monotonic().saturating_duration_since(visit.start),
            bytes,
        };
        if self.lines.add(log.format, entry, &done) {
            self.flush_lines();
        }
    }

    fn flush_lines(&self) {
        if let Some(lines) = self.lines.take() {
            self.shared.sink.access_lines(lines);
        }
    }

    fn take_over(&self, generation: u64) {
        let snapshot = self.shared.snapshot.load_full();
        // What was counted for the old one is not lost.
        self.flush_gates();
        let local = Local::resolve(
            snapshot,
            &self.shared,
            self.clockwork.now(),
            |name| self.known(name),
            |endpoint| self.pool(endpoint),
        );
        *self.local.borrow_mut() = Rc::new(local);
        self.generation.set(generation);
        self.published.notify_waiters();
        self.drop_unused_pools();
    }

    fn known(&self, name: &ServiceName) -> Rc<Known> {
        let mut known = self.known.borrow_mut();
        let known = known
            .entry(name.clone())
            .or_insert_with(|| Rc::new(Known::new(name.clone())));
        Rc::clone(known)
    }

    fn pool(&self, endpoint: &Arc<Endpoint>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(&Arc::as_ptr(endpoint)) {
            return Rc::clone(pool);
        }
        endpoint.watch(&self.wake);
        let now = self.clockwork.now();
        let service = endpoint.instance().service();
        let siblings = pools
            .values()
            .filter(|pool| pool.endpoint.instance().service() == service);
        let latency = fair_default(siblings.map(|pool| pool.ewma.latency(now * 1000)));
        let pool = Rc::new(Pool::new(Arc::clone(endpoint), latency, now));
        pools.insert(Arc::as_ptr(endpoint), Rc::clone(&pool));
        pool
    }

    /// Closes idle connections to endpoints that were withdrawn or are no longer listed.
    fn drop_unused_pools(&self) {
        let local = Rc::clone(&self.local.borrow());
        self.pools.borrow_mut().retain(|_, pool| {
            let used = local.lists(&pool.endpoint) && !pool.endpoint.is_withdrawn();
            if !used {
                pool.close();
            }
            used
        });
    }

    /// The main loop: time, publications, withdrawals, the end.
    async fn keep_time(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count: u32 = 0;
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    count = count.wrapping_add(1);
                    self.tick(count);
                }
                () = self.wake.notified() => {
                    self.local();
                    self.drop_unused_pools();
                }
                () = self.shared.edge_stop.cancelled(), if !self.edge_stopping.get() => {
                    self.edge_stopping.set(true);
                    self.clockwork.wake_all();
                }
                () = self.shared.stop.cancelled(), if !self.stopping.get() => {
                    self.stopping.set(true);
                    self.clockwork.wake_all();
                }
                () = self.shared.abort.cancelled() => break,
            }
            let idle = self.accepting.get() == 0 && self.clockwork.connections() == 0;
            if self.stopping.get() && idle {
                break;
            }
        }
        self.flush_spans();
        self.flush_lines();
        self.flush_counts();
    }

    fn tick(&self, count: u32) {
        let now = millis(clock::uptime());
        self.clockwork.tick(now);
        self.recorder.anchor();
        if count.is_multiple_of(TICKS_PER_FLUSH) {
            self.flush_spans();
            self.flush_lines();
            self.flush_counts();
            self.flush_gates();
            self.shared.ejectors.tick(now, self.random.next());
            for pool in self.pools.borrow().values() {
                pool.sweep(now);
            }
        }
    }

    /// Tells breakers, budgets and the judges of instances what was counted.
    fn flush_gates(&self) {
        let now = self.clockwork.now();
        let local = Rc::clone(&self.local.borrow());
        for gate in local.gates() {
            gate.flush(now, self.random.next());
        }
        for target in local.targets() {
            let counted = target.pools.iter().filter_map(|pool| {
                let counts = pool.counts.borrow_mut().take();
                (!counts.is_empty()).then(|| (pool.endpoint.instance(), counts))
            });
            let mut counted = counted.peekable();
            if counted.peek().is_some() {
                target.ejector.counted(counted, now);
            }
        }
    }

    fn flush_spans(&self) {
        if let Some(batch) = self.recorder.take() {
            self.shared.sink.spans(batch);
        }
    }

    fn flush_counts(&self) {
        self.recorder.tell(&self.shared.meters);
        let now = clock::uptime();
        let known = self.known.borrow();
        let mut changed = known
            .values()
            .filter(|known| !known.delta.borrow().is_empty())
            .peekable();
        if changed.peek().is_none() {
            return;
        }
        let windows = self.shared.windows.lock();
        let mut windows = windows.unwrap_or_else(PoisonError::into_inner);
        for known in changed {
            let window = windows
                .entry(known.name.clone())
                .or_insert_with(Window::new);
            window.add(&mut known.delta.borrow_mut(), now);
        }
    }
}
