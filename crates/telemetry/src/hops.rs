//! The newest hops of requests, in memory.
//!
//! A ring bounded by count. It answers one question, "where did this trace go", by a scan: the ring
//! is small, the question is rare, and an index would cost every request.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::{SpanId, Timestamp, TraceId};
use serde::Serialize;

/// Hops kept. One takes about 200 bytes.
const HOPS_MAX: usize = 20_000;

/// How a hop ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HopOutcome {
    /// The HTTP status that the caller got; 0 if it got none.
    pub status: u16,
    /// What the proxy found wrong, in a word; none where the service's own answer was passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

/// One passage of a request through the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The request it belongs to.
    pub trace: TraceId,
    /// This hop.
    pub span: SpanId,
    /// The hop or span that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<SpanId>,
    /// When it began.
    pub time: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Who called: a service, or `edge` for a client outside.
    pub caller: Arc<str>,
    /// Who was called; none if no route matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callee: Option<Arc<str>>,
    /// The instance that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Arc<str>>,
    /// The HTTP method.
    pub method: Arc<str>,
    /// The path, without its query.
    pub path: Arc<str>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: HopOutcome,
}

#[derive(Debug, Default)]
pub(crate) struct Hops {
    ring: VecDeque<Hop>,
}

impl Hops {
    pub(crate) fn extend(&mut self, hops: impl IntoIterator<Item = Hop>) {
        for hop in hops {
            if self.ring.len() == HOPS_MAX {
                self.ring.pop_front();
            }
            self.ring.push_back(hop);
        }
    }

    /// The hops of one trace, in the order in which they began.
    pub(crate) fn of(&self, trace: TraceId) -> Vec<Hop> {
        let mut found: Vec<Hop> = self
            .ring
            .iter()
            .filter(|h| h.trace == trace)
            .cloned()
            .collect();
        found.sort_by_key(|hop| hop.time);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(trace: u128, micros: i64) -> Hop {
        Hop {
            trace: TraceId::new(trace).unwrap(),
            span: SpanId::new(1).unwrap(),
            parent: None,
            time: Timestamp::from_micros(micros),
            duration: Duration::ZERO,
            caller: "edge".into(),
            callee: None,
            instance: None,
            method: "GET".into(),
            path: "/".into(),
            outcome: HopOutcome {
                status: 200,
                error: None,
            },
        }
    }

    #[test]
    fn the_ring_keeps_the_newest_and_answers_in_order_of_time() {
        let mut hops = Hops::default();
        hops.extend([hop(7, 1)]);
        hops.extend((0..HOPS_MAX as i64 - 2).map(|i| hop(8, i)));
        hops.extend([hop(9, 50), hop(9, 40)]);
        assert!(
            hops.of(TraceId::new(7).unwrap()).is_empty(),
            "the oldest went"
        );
        let nine = hops.of(TraceId::new(9).unwrap());
        assert_eq!(
            nine.iter().map(|h| h.time.as_micros()).collect::<Vec<_>>(),
            [40, 50]
        );
    }
}
