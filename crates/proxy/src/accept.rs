//! Takes connections in, on both sides, and decides whether they may be here at all.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use tokio::net::{TcpListener, TcpStream};

use crate::connection;
use crate::limits::TICK;
use crate::origin::Origin;
use crate::service::{Listeners, Shared};
use crate::span::Side;
use crate::transport::Transport;
use crate::worker::Worker;

/// Starts accepting on both listeners.
pub(crate) fn start(worker: &Rc<Worker>, listeners: &Listeners) -> io::Result<()> {
    for (side, listener) in [(Side::Edge, &listeners.edge), (Side::Mesh, &listeners.mesh)] {
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        worker.accepting.set(worker.accepting.get() + 1);
        tokio::task::spawn_local(accept(Rc::clone(worker), listener, side));
    }
    Ok(())
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, side: Side) {
    let stop = match side {
        Side::Edge => &worker.shared.edge_stop,
        Side::Mesh => &worker.shared.stop,
    };
    let mut failing = false;
    let mut full = false;
    loop {
        if side == Side::Edge && worker.shared.edge_is_full() {
            if !std::mem::replace(&mut full, true) {
                tracing::warn!("the edge has as many connections as it may; others wait");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(TICK) => continue,
            }
        }
        full = false;
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                open(&worker, stream, peer, side);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors, most likely. Who waits stays queued in the kernel.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the proxy cannot accept connections");
                }
                tokio::time::sleep(TICK).await;
            }
        }
    }
    // Who is connected already is served; then the port answers no more, although the worker
    // still holds the socket.
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Ok((stream, peer))) = listener.poll_accept(&mut cx) {
        open(&worker, stream, peer, side);
    }
    if let Err(error) = socket2::SockRef::from(&listener).shutdown(std::net::Shutdown::Both) {
        tracing::debug!(%error, "a listener could not be shut down");
    }
    if side == Side::Edge {
        worker.shared.edge_busy.fetch_sub(1, Ordering::SeqCst);
    }
    worker.accepting.set(worker.accepting.get() - 1);
    worker.wake.notify_one();
}

fn open(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, side: Side) {
    let Some(origin) = origin(worker, &stream, peer, side) else {
        return;
    };
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let guard = (side == Side::Edge).then(|| EdgeGuard::new(&worker.shared));
    let serving = connection::serve(Rc::clone(worker), Transport::Tcp(stream), origin);
    tokio::task::spawn_local(async move {
        serving.await;
        drop(guard);
    });
}

/// Counts an edge connection for as long as it is open, however it ends.
struct EdgeGuard(Arc<Shared>);

impl EdgeGuard {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.edge_busy.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for EdgeGuard {
    fn drop(&mut self) {
        self.0.edge_busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Who is at the other end; none if it may not be.
fn origin(worker: &Worker, stream: &TcpStream, peer: SocketAddr, side: Side) -> Option<Origin> {
    if side == Side::Edge {
        let proxies = worker.shared.trusted_proxies.as_ref();
        return Some(Origin::edge(peer.ip(), false, proxies));
    }
    let IpAddr::V4(local) = stream.local_addr().ok()?.ip() else {
        return None;
    };
    // The listener is confined to the loopback device; this holds even if that should fail.
    let from_here = peer.ip().is_loopback() && local.is_loopback();
    (from_here && worker.local().mesh(local).is_some()).then(|| Origin::mesh(local))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
