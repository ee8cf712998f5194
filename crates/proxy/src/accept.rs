//! Takes connections in, on both sides, and decides whether they may be here at all.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use atoll_base::InstanceId;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::buffer::Buffer;
use crate::connection;
use crate::h2;
use crate::limits::{LOOK_FOR_CALLER, LOOKS_FOR_CALLER, TICK};
use crate::mesh::{Caller, Dweller};
use crate::origin::Origin;
use crate::service::{Listeners, Shared};
use crate::span::Side;
use crate::tls::ClientIdentity;
use crate::transport::Transport;
use crate::worker::Worker;

/// What a listener leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Edge,
    /// The edge, by TLS.
    Tls,
    Mesh,
}

/// Starts accepting on all listeners.
pub(crate) fn start(worker: &Rc<Worker>, listeners: &Listeners) -> io::Result<()> {
    let edge = [(Door::Edge, &listeners.edge), (Door::Mesh, &listeners.mesh)];
    let tls = listeners.tls.iter().map(|listener| (Door::Tls, listener));
    for (door, listener) in edge.into_iter().chain(tls) {
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        worker.accepting.set(worker.accepting.get() + 1);
        tokio::task::spawn_local(accept(Rc::clone(worker), listener, door));
    }
    Ok(())
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, door: Door) {
    let stop = match door {
        Door::Edge | Door::Tls => &worker.shared.edge_stop,
        Door::Mesh => &worker.shared.stop,
    };
    let mut failing = false;
    let mut full = false;
    loop {
        if door != Door::Mesh && worker.shared.edge_is_full() {
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
                open(&worker, stream, peer, door);
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
        open(&worker, stream, peer, door);
    }
    if let Err(error) = socket2::SockRef::from(&listener).shutdown(std::net::Shutdown::Both) {
        tracing::debug!(%error, "a listener could not be shut down");
    }
    if door != Door::Mesh {
        worker.shared.edge_busy.fetch_sub(1, Ordering::SeqCst);
    }
    worker.accepting.set(worker.accepting.get() - 1);
    worker.wake.notify_one();
}

fn open(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, door: Door) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    match door {
        Door::Edge => {
            let proxies = worker.shared.trusted_proxies.as_ref();
            let origin = Origin::edge(peer.ip(), false, None, proxies);
            let serving = connection::serve(Rc::clone(worker), Transport::Tcp(stream), origin);
            serve_edge(worker, serving);
        }
        Door::Tls => {
            if let Some(certificates) = &worker.shared.certificates {
                let acceptor = TlsAcceptor::from(certificates.current());
                serve_edge(worker, greet(Rc::clone(worker), acceptor, stream, peer));
            }
        }
        Door::Mesh => {
            tokio::task::spawn_local(serve_mesh(Rc::clone(worker), stream, peer));
        }
    }
}

fn serve_edge(worker: &Rc<Worker>, serving: impl Future<Output = ()> + 'static) {
    let guard = EdgeGuard::new(&worker.shared);
    tokio::task::spawn_local(async move {
        serving.await;
        drop(guard);
    });
}

/// The handshake of TLS, then what was agreed on.
async fn greet(worker: Rc<Worker>, acceptor: TlsAcceptor, stream: TcpStream, peer: SocketAddr) {
    let timer = worker.clockwork.timer();
    timer.arm(worker.patience(Side::Edge).head);
    let mut accepting = Box::pin(acceptor.accept(stream));
    let stream = std::future::poll_fn(|cx| match accepting.as_mut().poll(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending if timer.poll(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    let Some(stream) = stream.await else { return };
    drop((accepting, timer));
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let identity = certificate.and_then(ClientIdentity::read);
    let proxies = worker.shared.trusted_proxies.as_ref();
    let origin = Origin::edge(peer.ip(), true, identity, proxies);
    let http2 = session.alpn_protocol() == Some(b"h2");
    let transport = Transport::Tls(Box::new(stream));
    if http2 {
        Box::pin(h2::serve(worker, transport, Buffer::default(), origin)).await;
    } else {
        connection::serve(worker, transport, origin).await;
    }
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

async fn serve_mesh(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let IpAddr::V4(address) = local.ip() else {
        return;
    };
    // The listener is confined to the loopback device; this holds even if that should fail.
    if !peer.ip().is_loopback() || !address.is_loopback() {
        return;
    }
    let Some(seen) = look(&worker, peer, local, address).await else {
        return;
    };
    let origin = Origin::Mesh {
        address,
        forged: seen.forged,
        caller: seen.instance.map(Rc::new),
    };
    connection::serve(worker, Transport::Tcp(stream), origin).await;
}

/// Who called, by the kernel.
#[derive(Default)]
struct Seen {
    /// Not the service that the address is for.
    forged: bool,
    /// The instance, if that is known.
    instance: Option<InstanceId>,
}

/// Looks who called `address`; none if the connection leads nowhere.
async fn look(
    worker: &Worker,
    peer: SocketAddr,
    local: SocketAddr,
    address: Ipv4Addr,
) -> Option<Seen> {
    let callers = &worker.shared.callers;
    let meant = worker.local().mesh(address)?.caller.name.clone();
    if callers.is_empty() {
        return Some(Seen::default());
    }
    for _ in 0..LOOKS_FOR_CALLER {
        match worker.verifier.caller(peer, local) {
            Caller::Cgroup(cgroup) => match callers.find(cgroup) {
                Some(Dweller::Instance(instance)) => {
                    return Some(Seen {
                        forged: *instance.service() != meant,
                        instance: Some(instance),
                    });
                }
                Some(Dweller::Own(service)) => {
                    return Some(Seen {
                        forged: service != meant,
                        instance: None,
                    });
                }
                // A process may call before the news of its start is here.
                None => tokio::time::sleep(LOOK_FOR_CALLER).await,
            },
            Caller::Gone => return None,
            Caller::Unknown => return Some(Seen::default()),
        }
    }
    tracing::debug!(%peer, %meant, "a process outside the application called into the mesh");
    Some(Seen {
        forged: true,
        instance: None,
    })
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
