//! Finds out why an instance does not become ready: mostly it listens somewhere else.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::event::Rough;
use crate::proc;

/// Tells in a sentence why nothing good was heard from `addr` for so long. `pids` are the processes
/// of the instance, `last` what was wrong at the last check. Reads `/proc`; blocks for some
/// milliseconds.
pub(crate) fn explain(
    addr: SocketAddr,
    pids: &[u32],
    waited: Duration,
    last: Option<&str>,
) -> String {
    let mut text = format!("not ready after {}: ", Rough(waited));
    let listens = listening(pids);
    let here = listens.iter().any(|listens| reaches(*listens, addr));
    let there: Vec<String> = listens.iter().map(SocketAddr::to_string).collect();
    let port = addr.port();
    // Writing to a String does not fail.
    let _ = match (here, there.is_empty(), last) {
        (true, _, Some(last)) => write!(text, "listens on $PORT ({port}), but {last}"),
        (true, _, None) => write!(text, "listens on $PORT ({port}), but is not checked yet"),
        (false, false, _) => {
            let there = there.join(", ");
            write!(text, "listens on {there} instead of $PORT ({port})")
        }
        (false, true, _) => {
            write!(
                text,
                "listens on no port; expected is 127.0.0.1:$PORT ({port})"
            )
        }
    };
    text
}

/// Who listens on a port of the loopback address, for people; none where that cannot be seen. Reads
/// all of `/proc`; blocks for some milliseconds.
pub(crate) fn holder(port: u16) -> Option<String> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let inodes: BTreeSet<u64> = listeners()
        .into_iter()
        .filter_map(|(listens, inode)| reaches(listens, addr).then_some(inode))
        .collect();
    let holds = |pid: &u32| proc::socket_inodes(*pid).iter().any(|i| inodes.contains(i));
    let pid = proc::pids().into_iter().find(holds)?;
    Some(format!("`{}` (process {pid})", proc::command_line(pid)))
}

/// Where the processes accept TCP connections.
fn listening(pids: &[u32]) -> BTreeSet<SocketAddr> {
    let mut inodes = BTreeSet::new();
    for pid in pids {
        inodes.extend(proc::socket_inodes(*pid));
    }
    let entries = listeners().into_iter();
    let own = entries.filter(|(_, inode)| inodes.contains(inode));
    own.map(|(addr, _)| addr).collect()
}

/// All sockets that accept TCP connections, with their inodes.
fn listeners() -> Vec<(SocketAddr, u64)> {
    let mut all = Vec::new();
    // One namespace for all: an instance shares the network of its node.
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        all.extend(text.lines().skip(1).filter_map(parse_entry));
    }
    all
}

/// A line of `/proc/net/tcp` or `tcp6`, if the socket listens: its address and inode.
fn parse_entry(line: &str) -> Option<(SocketAddr, u64)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of four bytes, each in the order of this machine.
    let mut bytes = Vec::new();
    for start in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(start..start + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some((SocketAddr::new(ip, port), fields.get(9)?.parse().ok()?))
}

fn reaches(listens: SocketAddr, addr: SocketAddr) -> bool {
    let ip = listens.ip().to_canonical();
    listens.port() == addr.port() && (ip == addr.ip() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn entries_of_the_kernels_tables_are_read() {
        let line =
            "0: 0100007F:4FBD 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1";
        let (addr, inode) = parse_entry(line).unwrap();
        assert_eq!((addr.to_string().as_str(), inode), ("127.0.0.1:20413", 77));
        let line = "0: 00000000000000000000000001000000:1F90 0:0 0A 0:0 0:0 0 0 0 9 1";
        assert_eq!(parse_entry(line).unwrap().0.to_string(), "[::1]:8080");
        let established = line.replace(" 0A ", " 01 ");
        assert_eq!(parse_entry(&established), None);
    }

    #[test]
    fn a_listener_elsewhere_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let pids = [std::process::id()];
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let text = explain(elsewhere, &pids, Duration::from_secs(60), None);
        assert!(text.contains(&format!("{own}")), "{text}");
        assert!(text.ends_with("instead of $PORT (1)"), "{text}");
        let text = explain(own, &pids, Duration::from_secs(60), Some("it answered 500"));
        let port = own.port();
        let expected =
            format!("not ready after 1m 0s: listens on $PORT ({port}), but it answered 500");
        assert_eq!(text, expected);
        let text = explain(elsewhere, &[], Duration::from_secs(60), None);
        assert!(text.contains("listens on no port"), "{text}");
    }
}
