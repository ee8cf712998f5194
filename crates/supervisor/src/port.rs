//! Free ports on the loopback address for instances to listen on.
//!
//! They come from 20000 to 31999, below the range from which Linux takes ports for outgoing
//! connections (32768 and up): such a connection can then never sit on the port of an instance that
//! is just starting. Each node begins at a random place, so that two nodes on a machine rarely
//! meet, and goes round, so that a port is not used again soon after it was freed. That a port is
//! free is found out by binding it; between that and the instance's own binding somebody else can
//! take it, which is why every attempt gets another one.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use crate::service::lock;

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// The ports of a node.
#[derive(Debug)]
pub(crate) struct Ports(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    next: u16,
    taken: BTreeSet<u16>,
}

/// A port that no other live instance of this node has; free again when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    ports: Arc<Ports>,
    port: u16,
}

impl Ports {
    /// All free, beginning at a random one.
    pub(crate) fn new() -> Arc<Self> {
        Self::starting_at((random() * f64::from(COUNT)) as u16)
    }

    fn starting_at(next: u16) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            next: next % COUNT,
            taken: BTreeSet::new(),
        })))
    }

    /// Takes a free port; none when each is taken. Fails when it cannot be found out, as for want of
    /// file descriptors: that would be so for every port.
    pub(crate) fn take(self: &Arc<Self>) -> io::Result<Option<Lease>> {
        let mut inner = lock(&self.0);
        for _ in 0..COUNT {
            let port = FIRST + inner.next;
            inner.next = (inner.next + 1) % COUNT;
            if !inner.taken.contains(&port) && is_free(port)? {
                inner.taken.insert(port);
                let ports = self.clone();
                return Ok(Some(Lease { ports, port }));
            }
        }
        Ok(None)
    }
}

impl Lease {
    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.ports.0).taken.remove(&self.port);
    }
}

/// A number from 0 to 1, good enough to spread things.
pub(crate) fn random() -> f64 {
    // The standard library seeds its hash maps from the kernel's randomness and a counter.
    RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64
}

/// Whether a port can be listened on now.
pub(crate) fn is_free(port: u16) -> io::Result<bool> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_leases_never_share_a_port_and_taken_ones_are_passed_over() {
        let ports = Ports::starting_at(11_990);
        let foreign = ports.take().unwrap().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, foreign.port())).unwrap();
        let busy = foreign.port();
        drop(foreign);
        let leases: Vec<_> = (0..200).map(|_| ports.take().unwrap().unwrap()).collect();
        let distinct: BTreeSet<_> = leases.iter().map(Lease::port).collect();
        assert_eq!(distinct.len(), 200);
        assert!(distinct.iter().all(|port| (20_000..32_000).contains(port)));
        let again = Ports::starting_at(busy - FIRST).take().unwrap().unwrap();
        assert_ne!(again.port(), busy, "somebody listens there");
        drop(listener);
    }

    #[test]
    fn a_port_is_not_used_again_at_once() {
        let ports = Ports::new();
        let first = ports.take().unwrap().unwrap().port();
        assert_ne!(ports.take().unwrap().unwrap().port(), first);
    }
}
