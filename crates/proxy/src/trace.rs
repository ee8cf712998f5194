//! W3C Trace Context: which trace a request belongs to, and the ids of its hops.
//!
//! Ids come from a generator of each thread (xoshiro256++), seeded by the operating system: they
//! must be distinct, not secret, and a system call per request would cost more than the routing.

use std::cell::Cell;
use std::io;

use atoll_base::{Percent, SpanId, TraceId};

use crate::occupant::Occupant;

/// The place of one hop in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span of whoever sent the request, if it said.
    pub parent: Option<SpanId>,
    /// This hop.
    pub span: SpanId,
    /// The flags that are passed on; bit 0 is "sampled".
    pub flags: u8,
    /// Nobody said whose part it is: it is of the one request that the sender had at this moment.
    pub inferred: bool,
}

/// The length of a `traceparent` of version 00.
pub const TRACEPARENT_BYTES: usize = 55;

/// A fast generator of one thread.
#[derive(Debug)]
pub(crate) struct Random([Cell<u64>; 4]);

/// Reads a `traceparent`: the trace, the sender's span and the flags. None if it is invalid.
///
/// A version above 00 is read as 00, as the specification says; of its flags only "sampled" is
/// known to mean the same.
pub fn parse(value: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let fields = value.get(..TRACEPARENT_BYTES)?;
    let version = hex_byte(fields.get(0..2)?)?;
    let dashes = [2, 35, 52].iter().all(|at| fields.get(*at) == Some(&b'-'));
    let ends = match version {
        0 => value.len() == TRACEPARENT_BYTES,
        255 => false,
        _ => matches!(value.get(TRACEPARENT_BYTES), None | Some(b'-')),
    };
    if !dashes || !ends {
        return None;
    }
    let trace = TraceId::parse(fields.get(3..35)?)?;
    let parent = SpanId::parse(fields.get(36..52)?)?;
    let flags = hex_byte(fields.get(53..55)?)?;
    // Bits without a meaning are zero when passed on: "sampled" has one, and "random" of level 2.
    Some((trace, parent, flags & if version == 0 { 3 } else { 1 }))
}

impl TraceContext {
    /// Continues the trace that `traceparent` names, or begins one that is sampled.
    pub(crate) fn continue_or_begin(traceparent: Option<&[u8]>, random: &Random) -> Self {
        Self::continue_or_join(traceparent, || None, random)
    }

    /// The same for whoever may be known by what it does: without a trace that is named, it is part of
    /// the `only` request that the sender has.
    pub(crate) fn continue_or_join(
        traceparent: Option<&[u8]>,
        only: impl FnOnce() -> Option<Occupant>,
        random: &Random,
    ) -> Self {
        let span = random.span();
        if let Some((trace, parent, flags)) = traceparent.and_then(parse) {
            return Self {
                trace,
                parent: Some(parent),
                span,
                flags,
                inferred: false,
            };
        }
        match only() {
            Some(Occupant {
                trace,
                span: parent,
                flags,
            }) => Self {
                trace,
                parent: Some(parent),
                span,
                flags,
                inferred: true,
            },
            None => Self {
                trace: random.trace(),
                parent: None,
                span,
                flags: 1,
                inferred: false,
            },
        }
    }

    /// The `traceparent` for whoever this hop calls.
    pub fn traceparent(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        out[3..35].copy_from_slice(&self.trace.to_hex());
        out[36..52].copy_from_slice(&self.span.to_hex());
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out[53] = DIGITS[usize::from(self.flags >> 4)];
        out[54] = DIGITS[usize::from(self.flags & 15)];
        out
    }
}

impl Random {
    /// Seeds a generator from the operating system.
    pub(crate) fn from_os() -> io::Result<Self> {
        let mut seed = [0; 32];
        let mut filled = 0;
        while filled < seed.len() {
            filled += rustix::rand::getrandom(
                &mut seed[filled..],
                rustix::rand::GetRandomFlags::empty(),
            )?;
        }
        Ok(Self::from_seed(seed))
    }

    fn from_seed(seed: [u8; 32]) -> Self {
        let mut words = seed.chunks_exact(8).map(|chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            // All zero is the one state that xoshiro never leaves.
            Cell::new(u64::from_le_bytes(word) | 1)
        });
        Self(std::array::from_fn(|_| words.next().unwrap_or_default()))
    }

    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        let [s0, s1, s2, s3] = &self.0;
        let (mut a, mut b, mut c, mut d) = (s0.get(), s1.get(), s2.get(), s3.get());
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let shifted = b << 17;
        c ^= a;
        d ^= b;
        b ^= c;
        a ^= d;
        c ^= shifted;
        d = d.rotate_left(45);
        s0.set(a);
        s1.set(b);
        s2.set(c);
        s3.set(d);
        result
    }

    /// A number below `bound`, near enough to even.
    pub(crate) fn below(&self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// True in this part of all cases.
    pub(crate) fn chance(&self, of: Percent) -> bool {
        (self.next() as f64) < of.fraction() * 2_f64.powi(64)
    }

    fn span(&self) -> SpanId {
        loop {
            if let Some(id) = SpanId::new(self.next()) {
                return id;
            }
        }
    }

    fn trace(&self) -> TraceId {
        loop {
            let value = u128::from(self.next()) << 64 | u128::from(self.next());
            if let Some(id) = TraceId::new(value) {
                return id;
            }
        }
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    match digits {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_parent_is_continued() {
        let random = Random::from_os().unwrap();
        let context = TraceContext::continue_or_begin(Some(VALID.as_bytes()), &random);
        assert_eq!(
            context.trace.to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(context.parent.unwrap().to_string(), "00f067aa0ba902b7");
        assert_ne!(context.parent, Some(context.span));
        let sent = context.traceparent();
        let (trace, span, flags) = parse(&sent).unwrap();
        assert_eq!((trace, span, flags), (context.trace, context.span, 1));
    }

    #[test]
    fn an_invalid_parent_is_replaced() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_this_one() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09-what";
        assert_eq!(parse(later.as_bytes()).map(|(_, _, flags)| flags), Some(1));
    }

    #[test]
    fn generated_ids_differ() {
        let random = Random::from_os().unwrap();
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| random.trace()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!((0..1000).all(|_| random.below(3) < 3));
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(value: Vec<u8>) {
            let _ = parse(&value);
        }
    }
}
