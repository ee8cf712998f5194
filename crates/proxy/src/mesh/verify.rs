//! Who is at the other end of a connection on this machine, by the kernel's own record.
//!
//! Every instance runs in a cgroup of its own, and the kernel notes for each socket the cgroup in
//! which it was made. Its socket diagnostics (`sock_diag(7)`, `INET_DIAG_CGROUP_ID`, Linux 5.7) tell
//! the number of that cgroup. No process can lie about it, and it needs no secret, no certificate
//! and nothing of the service. One question and one answer, about ten microseconds, for each
//! connection and none for each request.
//!
//! The messages are written and read here: they are one fixed struct and one attribute, and the
//! crates for them would be four.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    sockopt,
};

/// Asks the kernel. One for each worker.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// None once it turned out that the kernel does not tell.
    socket: RefCell<Option<OwnedFd>>,
}

/// What the kernel says about the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Its socket was made in the cgroup of this number.
    Cgroup(u64),
    /// There is no such socket any more.
    Gone,
    /// This kernel does not tell.
    Unknown,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// `struct inet_diag_msg`.
const ANSWER_BYTES: usize = 72;

impl Verifier {
    pub(crate) fn new() -> Self {
        let socket = open().inspect_err(tell).ok();
        Self {
            socket: RefCell::new(socket),
        }
    }

    /// Who has the other end of a connection from `peer` to `local`, both on this machine.
    pub(crate) fn caller(&self, peer: SocketAddr, local: SocketAddr) -> Caller {
        let mut socket = self.socket.borrow_mut();
        let Some(fd) = &*socket else {
            return Caller::Unknown;
        };
        match ask(fd, peer, local) {
            Ok(Some(cgroup)) => Caller::Cgroup(cgroup),
            Ok(None) => {
                tell(&io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this kernel tells no cgroups (Linux 5.7 does)",
                ));
                *socket = None;
                Caller::Unknown
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Caller::Gone,
            Err(error) => {
                // An answer may still be on its way: the next question gets a socket of its own.
                *socket = open().ok();
                tracing::debug!(%error, "the kernel could not be asked about a connection");
                Caller::Unknown
            }
        }
    }
}

/// The cgroup in which this process makes its sockets; none if the kernel does not tell.
pub(super) fn own_cgroup() -> Option<u64> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).ok()?;
    let local = listener.local_addr().ok()?;
    let stream = std::net::TcpStream::connect(local).ok()?;
    match Verifier::new().caller(stream.local_addr().ok()?, local) {
        Caller::Cgroup(cgroup) => Some(cgroup),
        Caller::Gone | Caller::Unknown => None,
    }
}

/// Says once that callers are taken at their word.
fn tell(error: &io::Error) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    TOLD.call_once(|| {
        tracing::warn!(%error, "callers in the mesh cannot be verified; any process of this machine can call any dependency's address");
    });
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    // The kernel answers before the question returns; this is for the case that it never does.
    let patience = std::time::Duration::from_millis(100);
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(patience))?;
    Ok(socket)
}

/// The cgroup of the socket at `peer`, whose connection leads to `local`.
fn ask(socket: &OwnedFd, peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u64>> {
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(socket, &request(peer, local), SendFlags::empty(), &kernel)?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
    let ((answer, _), _) = recv(socket, &mut buffer, RecvFlags::empty())?;
    read(answer)
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2` for one socket.
fn request(peer: SocketAddr, local: SocketAddr) -> [u8; REQUEST_BYTES] {
    let mut out = [0; REQUEST_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&(REQUEST_BYTES as u32).to_ne_bytes());
    put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&NLM_F_REQUEST.to_ne_bytes());
    put(&[0; 8]);
    let family = if peer.is_ipv4() { AF_INET } else { AF_INET6 };
    put(&[family, IPPROTO_TCP, 0, 0]);
    put(&u32::MAX.to_ne_bytes());
    // `struct inet_diag_sockid`: ports and addresses as on the wire, any device, any cookie.
    put(&peer.port().to_be_bytes());
    put(&local.port().to_be_bytes());
    put(&octets(peer.ip()));
    put(&octets(local.ip()));
    put(&0u32.to_ne_bytes());
    put(&[0xff; 8]);
    out
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// Reads an answer: an error, or `struct inet_diag_msg` and attributes.
fn read(answer: &[u8]) -> io::Result<Option<u64>> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    if u16_at(answer, 4).ok_or_else(short)? == NLMSG_ERROR {
        let code = answer
            .get(HEADER_BYTES..HEADER_BYTES + 4)
            .ok_or_else(short)?;
        let code = i32::from_ne_bytes(code.try_into().map_err(|_| short())?);
        return Err(io::Error::from_raw_os_error(-code));
    }
    let mut at = HEADER_BYTES + ANSWER_BYTES;
    while let (Some(length), Some(kind)) = (u16_at(answer, at), u16_at(answer, at + 2)) {
        let length = usize::from(length);
        if length < 4 {
            break;
        }
        if kind == INET_DIAG_CGROUP_ID {
            let value = answer.get(at + 4..at + 12).ok_or_else(short)?;
            let value = value.try_into().map_err(|_| short())?;
            return Ok(Some(u64::from_ne_bytes(value)));
        }
        at += length.next_multiple_of(4);
    }
    Ok(None)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_names_the_cgroup_of_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let local = accepted.local_addr().unwrap();
        let verifier = Verifier::new();
        let Caller::Cgroup(number) = verifier.caller(peer, local) else {
            // A kernel that does not tell, or a container that forbids to ask.
            eprintln!("skipped: the kernel does not tell");
            return;
        };
        assert!(number > 0);
        assert_eq!(
            verifier.caller(peer, local),
            Caller::Cgroup(number),
            "asked again"
        );
        let nobody = SocketAddr::new(peer.ip(), 1);
        assert_eq!(verifier.caller(nobody, local), Caller::Gone);
        drop(client);
    }

    #[test]
    fn answers_that_are_cut_are_errors_and_not_panics() {
        let mut answer = vec![0; HEADER_BYTES + ANSWER_BYTES];
        answer.extend_from_slice(&12u16.to_ne_bytes());
        answer.extend_from_slice(&INET_DIAG_CGROUP_ID.to_ne_bytes());
        answer.extend_from_slice(&77u64.to_ne_bytes());
        assert_eq!(read(&answer).unwrap(), Some(77));
        for length in 0..answer.len() {
            assert!(!matches!(read(&answer[..length]), Ok(Some(_))), "{length}");
        }
    }
}
