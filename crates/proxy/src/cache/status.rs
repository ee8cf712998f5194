//! `Cache-Status` (RFC 9211) and `Age` (RFC 9111, 5.1): what the cache did with a request.

use std::io::Write as _;

use super::fresh::Times;

/// Why a request went to the service (RFC 9211, 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// Nothing is kept under its key.
    UriMiss,
    /// Something is, for other values of the fields that it varies by.
    VaryMiss,
    /// What is kept is stale.
    Stale,
    /// The client wants it so.
    Request,
    /// The request is not one that a cache answers.
    Bypass,
}

impl Forwarded {
    const fn name(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Bypass => "bypass",
        }
    }

    /// Writes the line of an answer that the service gave.
    pub(crate) fn write(self, status: u16, stored: bool, out: &mut Vec<u8>) {
        let stored = if stored { "; stored" } else { "" };
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "Cache-Status: atoll; fwd={}; fwd-status={status}{stored}\r\n",
            self.name()
        );
    }
}

/// The line of a request that went past the cache, with the reason.
pub(crate) fn bypass_line(detail: &str, out: &mut Vec<u8>) {
    let fwd = Forwarded::Bypass.name();
    // Writing to memory does not fail.
    let _ = write!(out, "Cache-Status: atoll; fwd={fwd}; detail={detail}\r\n");
}

/// The lines of an answer that was kept. `fetched` says that the service was asked first, why, and what
/// it said.
pub(crate) fn hit_lines(
    times: &Times,
    now: u64,
    fetched: Option<(Forwarded, u16)>,
    out: &mut Vec<u8>,
) {
    let (age, left) = (times.age_at(now), times.left_at(now));
    // Writing to memory does not fail.
    let _ = write!(out, "Age: {age}\r\nCache-Status: atoll; ");
    let _ = match fetched {
        None => write!(out, "hit; ttl={left}\r\n"),
        Some((why, 0)) => write!(out, "fwd={}; ttl={left}; detail=no-answer\r\n", why.name()),
        Some((why, status)) => write!(
            out,
            "fwd={}; fwd-status={status}; ttl={left}\r\n",
            why.name()
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9211, 2.
    #[test]
    fn the_lines_say_what_was_done() {
        let times = Times {
            received: 100,
            age: 5,
            lifetime: 60,
            ..Times::default()
        };
        let mut out = Vec::new();
        hit_lines(&times, 110, None, &mut out);
        hit_lines(&times, 200, Some((Forwarded::Stale, 304)), &mut out);
        hit_lines(&times, 200, Some((Forwarded::Stale, 0)), &mut out);
        Forwarded::VaryMiss.write(200, true, &mut out);
        bypass_line("range", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Age: 15\r\nCache-Status: atoll; hit; ttl=45\r\n\
             Age: 105\r\nCache-Status: atoll; fwd=stale; fwd-status=304; ttl=-45\r\n\
             Age: 105\r\nCache-Status: atoll; fwd=stale; ttl=-45; detail=no-answer\r\n\
             Cache-Status: atoll; fwd=vary-miss; fwd-status=200; stored\r\n\
             Cache-Status: atoll; fwd=bypass; detail=range\r\n"
        );
    }
}
