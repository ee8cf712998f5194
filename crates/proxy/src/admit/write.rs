//! The head for the service, written straight from the read buffer.

use std::io::Write as _;
use std::time::Duration;

use super::{Candidate, Course, line};
use crate::http::{Body, Version};
use crate::origin::Origin;
use crate::resilience::deadline::{Deadline, GrpcTimeout, TIMEOUT_FIELD};
use crate::resilience::tracestate::{self, Hop};
use crate::span::Side;

impl Candidate<'_, '_, '_> {
    /// Writes the head for the service.
    ///
    /// Tells where in it stands whether the request is sent again, so that this can be changed.
    pub(super) fn write(
        &self,
        course: &Course,
        deadline: Option<Deadline>,
        remaining: Option<Duration>,
        hop: Hop,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let service = course.target.service.name.as_str();
        let path = course.path.as_deref().unwrap_or(&self.target.path);
        for part in [
            self.head.method,
            " ",
            path,
            self.target.query,
            " HTTP/1.1\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        let mut without = self.facts.hop | self.facts.traceparent_set;
        without |= self.facts.tracestate | self.facts.own;
        if remaining.is_some() {
            without |= self.facts.grpc_timeout_set;
        }
        let at_edge = self.origin.side() == Side::Edge;
        if at_edge {
            without |= self.facts.forwarded | self.facts.aliases | course.foreign;
        }
        let edits = course.policy.as_ref().map(|policy| &policy.request);
        let new_host = !at_edge
            || self.target.authority.is_some()
            || self.facts.host.is_none()
            || edits.is_some_and(|edits| edits.set_host());
        if new_host {
            without |= self.facts.host_set;
        }
        if let Some(edits) = edits {
            without |= edits.without(&self.head.fields);
        }
        let hops = self.hops_left();
        if hops.is_some() {
            without |= self.head.fields.named_any(&["max-forwards".into()]);
        }
        self.head.fields.copy(without, out);
        if new_host && !edits.is_some_and(|edits| edits.set_host()) {
            let host = if at_edge { self.host() } else { None };
            line(out, b"Host: ", host.unwrap_or(service.as_bytes()));
        }
        if let Some(edits) = edits {
            edits.write(&self.head.fields, without, out);
        }
        out.extend_from_slice(&course.more);
        if matches!(self.facts.body, Body::Chunked(_)) {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if self.facts.upgrade {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        } else if self.facts.takes_trailers {
            out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
        }
        if let Some(hops) = hops {
            // Writing to memory does not fail.
            let _ = write!(out, "Max-Forwards: {hops}\r\n");
        }
        // RFC 9110, 7.6.3.
        line(out, b"Via: ", self.via());
        line(out, b"traceparent: ", &self.trace.traceparent());
        let retry_mark = self.write_hop(deadline, hop, out);
        if let Some(remaining) = remaining {
            // Writing to memory does not fail.
            let _ = write!(out, "{TIMEOUT_FIELD}: {}\r\n", remaining.as_millis());
            if self.facts.grpc_timeout.is_some() {
                let _ = write!(out, "grpc-timeout: {}\r\n", GrpcTimeout::new(remaining));
            }
        }
        self.write_origin(course, out);
        out.extend_from_slice(b"\r\n");
        retry_mark
    }

    /// How far a question about the way may go on (RFC 9110, 7.6.2).
    fn hops_left(&self) -> Option<u64> {
        if self.head.method != "OPTIONS" {
            return None;
        }
        let value = self.head.fields.get("max-forwards")?;
        let hops: u64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
        Some(hops.saturating_sub(1))
    }

    fn via(&self) -> &'static [u8] {
        match self.head.version {
            Version::Http10 => b"1.0 atoll",
            Version::Http11 if self.over_http2 => b"2 atoll",
            Version::Http11 => b"1.1 atoll",
        }
    }

    /// Writes who asks.
    fn write_origin(&self, course: &Course, out: &mut Vec<u8>) {
        let Origin::Edge(outside) = self.origin else {
            return;
        };
        let proxies = self.worker.shared.trusted_proxies.as_ref();
        outside.write(self.host(), &self.head.fields, proxies, out);
        if let Some(identity) = &course.identity {
            identity.write_headers(out);
        }
    }

    /// Writes the `tracestate`, with a mark that this is no retry; tells where the mark stands.
    fn write_hop(&self, deadline: Option<Deadline>, hop: Hop, out: &mut Vec<u8>) -> Option<usize> {
        let before = out.len();
        out.extend_from_slice(b"tracestate: ");
        let begin = out.len();
        let ours = Hop {
            deadline,
            retried: true,
        };
        // A trace that was begun here has no past.
        let continued = self.trace.parent.is_some();
        let states = self.tracestates().filter(|_| continued);
        if !tracestate::write(&ours, states, out) {
            out.truncate(before);
            return None;
        }
        out.extend_from_slice(b"\r\n");
        let mark = begin + memchr::memmem::find(out.get(begin..)?, b"r:1")? + 2;
        if !hop.retried {
            *out.get_mut(mark)? = b'0';
        }
        Some(mark)
    }

    pub(super) fn tracestates(&self) -> impl Iterator<Item = &[u8]> {
        let set = self.facts.tracestate;
        let fields = self.head.fields.iter().enumerate();
        fields
            .filter(move |(at, _)| set & (1 << at) != 0)
            .map(|(_, (_, value))| value)
    }
}
