//! The sockets that requests come in on.
//!
//! Every worker listens for itself (`SO_REUSEPORT`), so the kernel spreads connections and no
//! thread hands work to another. That flag has a trap: two programs that both set it share the
//! port in silence. So the address is first taken once without it, which fails if anyone listens.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;

const BACKLOG: i32 = 1024;

/// One listener for each of `count` workers on the edge's address. Tells the address, which has
/// its port filled in.
pub(crate) fn edge(
    addr: SocketAddr,
    count: usize,
) -> Result<(Vec<TcpListener>, SocketAddr), Error> {
    let bind = || {
        if addr.port() != 0 {
            socket(addr)?.bind(&addr.into())?;
        }
        several(addr, count, |_| Ok(()))
    };
    bind().map_err(|source| Error::Edge { addr, source })
}

/// One listener for each of `count` workers on every loopback address. Tells the port.
pub(crate) fn mesh(port: u16, count: usize) -> Result<(Vec<TcpListener>, u16), Error> {
    let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let probe = socket(addr).map_err(|source| Error::Mesh { port, source })?;
    confine(&probe).map_err(|source| Error::Loopback { source })?;
    let bind = || {
        if port != 0 {
            probe.bind(&addr.into())?;
        }
        drop(probe);
        several(addr, count, confine)
    };
    let (listeners, addr) = bind().map_err(|source| Error::Mesh { port, source })?;
    Ok((listeners, addr.port()))
}

fn several(
    addr: SocketAddr,
    count: usize,
    prepare: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let mut addr = addr;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(addr)?;
        socket.set_reuse_port(true)?;
        prepare(&socket)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        addr = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok((listeners, addr))
}

fn socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Lets only the loopback device reach the socket, whatever address a packet carries.
#[cfg(target_os = "linux")]
fn confine(socket: &Socket) -> io::Result<()> {
    socket.bind_device(Some(b"lo"))
}

#[cfg(not(target_os = "linux"))]
fn confine(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
