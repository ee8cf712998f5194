//! Where a connection comes from, and what services are told about it.
//!
//! From outside, nobody is believed: `X-Forwarded-*` and `Forwarded` of a client are taken out and
//! written anew from the connection. Only a proxy that stands in front of this one, and is named in
//! `trusted_proxies`, is believed about whom it speaks for: its chain is continued, and the client
//! is the last address in it that no trusted proxy has.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use atoll_base::InstanceId;

use crate::http::field::Fields;
use crate::policy::Networks;
use crate::span::Side;
use crate::tls::ClientIdentity;

/// Where a connection comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// Outside.
    Edge(Rc<Outside>),
    /// A service, known by the address that it called.
    Mesh {
        /// The address.
        address: Ipv4Addr,
        /// The kernel says that it is another.
        forged: bool,
        /// The instance that it is, if the kernel says.
        caller: Option<Rc<InstanceId>>,
    },
}

/// A client at the edge.
#[derive(Debug)]
pub(crate) struct Outside {
    peer: IpAddr,
    /// It came by TLS.
    pub(crate) secure: bool,
    /// It is a proxy that is believed.
    trusted: bool,
    /// The fields that tell a service about it, but for the host.
    forwarded: Box<[u8]>,
    /// Who it is by its certificate.
    pub(crate) identity: Option<ClientIdentity>,
}

impl Origin {
    /// A client at `peer`.
    pub(crate) fn edge(
        peer: IpAddr,
        secure: bool,
        identity: Option<ClientIdentity>,
        proxies: Option<&Networks>,
    ) -> Self {
        let peer = peer.to_canonical();
        let scheme = if secure { "https" } else { "http" };
        let forwarded = format!(
            "X-Forwarded-For: {peer}\r\nX-Forwarded-Proto: {scheme}\r\n\
             Forwarded: for={};proto={scheme}",
            node(peer)
        );
        Self::Edge(Rc::new(Outside {
            peer,
            secure,
            trusted: proxies.is_some_and(|proxies| proxies.contain(peer)),
            forwarded: forwarded.into_bytes().into(),
            identity,
        }))
    }

    pub(crate) fn side(&self) -> Side {
        match self {
            Self::Edge(_) => Side::Edge,
            Self::Mesh { .. } => Side::Mesh,
        }
    }

    pub(crate) fn mesh_address(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Edge(_) => None,
            Self::Mesh { address, .. } => Some(*address),
        }
    }

    /// The instance that called, if that is known for sure.
    pub(crate) fn caller(&self) -> Option<&InstanceId> {
        match self {
            Self::Mesh {
                caller,
                forged: false,
                ..
            } => caller.as_deref(),
            _ => None,
        }
    }

    /// Whether a process called an address that is another service's.
    pub(crate) fn is_forged(&self) -> bool {
        matches!(self, Self::Mesh { forged: true, .. })
    }
}

impl Outside {
    /// Who opened the connection, whoever it speaks for.
    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The address of the client, by whoever is believed.
    pub(crate) fn client(&self, fields: &Fields<'_, '_>, proxies: Option<&Networks>) -> IpAddr {
        if !self.trusted {
            return self.peer;
        }
        let chain = chain(fields);
        let addresses = chain.rsplit(',').map_while(|text| address(text.trim()));
        let mut client = self.peer;
        for address in addresses {
            client = address;
            if !proxies.is_some_and(|proxies| proxies.contain(address)) {
                break;
            }
        }
        client
    }

    /// Writes the fields that tell a service about the client (RFC 7239 and their elders).
    pub(crate) fn write(
        &self,
        host: Option<&[u8]>,
        fields: &Fields<'_, '_>,
        proxies: Option<&Networks>,
        out: &mut Vec<u8>,
    ) {
        if self.trusted {
            out.extend_from_slice(self.continued(fields, proxies).as_bytes());
        } else {
            out.extend_from_slice(&self.forwarded);
        }
        if let Some(host) = host {
            // A checked host has neither quotes nor backslashes.
            for part in [b";host=\"", host, b"\"\r\nX-Forwarded-Host: ", host] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"\r\n");
        if let Some(identity) = &self.identity {
            for part in ["Client-Cert: ", &identity.field, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }

    /// Whether the client came by HTTPS, by whoever is believed.
    pub(crate) fn is_secure(&self, fields: &Fields<'_, '_>) -> bool {
        if !self.trusted {
            return self.secure;
        }
        let said = fields.get("x-forwarded-proto");
        said.map_or(self.secure, |said| said.eq_ignore_ascii_case(b"https"))
    }

    /// The chain of a trusted proxy, with the proxy itself at its end.
    fn continued(&self, fields: &Fields<'_, '_>, proxies: Option<&Networks>) -> String {
        let mut out = String::with_capacity(256);
        let client = self.client(fields, proxies);
        let known = chain(fields);
        let scheme = if self.is_secure(fields) {
            "https"
        } else {
            "http"
        };
        // Writing to memory does not fail.
        let _ = write!(out, "X-Forwarded-For: ");
        for text in known.split(',').filter_map(|text| address(text.trim())) {
            let _ = write!(out, "{text}, ");
        }
        let _ = write!(
            out,
            "{}\r\nX-Forwarded-Proto: {scheme}\r\nForwarded: for={};proto={scheme}",
            self.peer,
            node(client),
        );
        out
    }
}

/// All `X-Forwarded-For` of a message, in order.
fn chain(fields: &Fields<'_, '_>) -> String {
    let mut chain = String::new();
    for (name, value) in fields.iter() {
        if name.eq_ignore_ascii_case("x-forwarded-for") {
            if !chain.is_empty() {
                chain.push(',');
            }
            chain.push_str(&String::from_utf8_lossy(value));
        }
    }
    chain
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse::<IpAddr>().ok();
    let with_port = || {
        text.parse::<std::net::SocketAddr>()
            .ok()
            .map(|addr| addr.ip())
    };
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    plain
        .or_else(with_port)
        .or_else(bracketed)
        .map(|address: IpAddr| address.to_canonical())
}

/// How RFC 7239 writes an address.
fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::field::storage;
    use crate::http::request::parse;

    fn with_fields<T>(lines: &str, act: impl FnOnce(&Fields<'_, '_>) -> T) -> T {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut storage = storage();
        let head = parse(text.as_bytes(), &mut storage).unwrap().unwrap();
        act(&head.fields)
    }

    fn proxies() -> Networks {
        Networks::parse(&["10.0.0.0/8".to_owned()])
            .unwrap()
            .unwrap()
    }

    fn outside(peer: &str) -> Rc<Outside> {
        match Origin::edge(peer.parse().unwrap(), false, None, Some(&proxies())) {
            Origin::Edge(outside) => outside,
            Origin::Mesh { .. } => unreachable!(),
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_as_far_as_they_go() {
        for (peer, lines, client) in [
            ("9.9.9.9", "X-Forwarded-For: 1.1.1.1\r\n", "9.9.9.9"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"),
            (
                "10.0.0.1",
                "X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n",
                "1.1.1.1",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 1.1.1.1, 10.2.2.2\r\n",
                "1.1.1.1",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 10.2.2.2\r\n",
                "1.1.1.1",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 1.1.1.1, junk, 10.2.2.2\r\n",
                "10.2.2.2",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: [2001:db8::1]:443\r\n",
                "2001:db8::1",
            ),
            (
                "::ffff:10.0.0.1",
                "X-Forwarded-For: 1.1.1.1:80\r\n",
                "1.1.1.1",
            ),
        ] {
            let found = with_fields(lines, |fields| {
                outside(peer).client(fields, Some(&proxies()))
            });
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {lines}");
        }
    }

    #[test]
    fn a_trusted_chain_is_continued_and_any_other_begun_anew() {
        let written = |peer: &str, lines: &str| {
            let mut out = Vec::new();
            with_fields(lines, |fields| {
                outside(peer).write(Some(b"shop"), fields, Some(&proxies()), &mut out);
            });
            String::from_utf8(out).unwrap()
        };
        let lines = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n";
        let trusted = written("10.0.0.1", lines);
        assert!(
            trusted
                .starts_with("X-Forwarded-For: 1.1.1.1, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n"),
            "{trusted}"
        );
        assert!(
            trusted.contains("Forwarded: for=1.1.1.1;proto=https;host=\"shop\"\r\n"),
            "{trusted}"
        );
        let other = written("9.9.9.9", lines);
        assert!(
            other.starts_with("X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: http\r\n"),
            "{other}"
        );
    }
}
