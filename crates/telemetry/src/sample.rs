//! Which spans are kept, where not all are. Pure: spans and the time in, spans out.
//!
//! Tail sampling: a trace is judged when it is known how it went. One with an error, or with a span that took
//! long, is kept whole. Of the others a share is kept, chosen by the trace id: by its last 56 bits, which W3C Trace
//! Context, level 2, section 3.2.2.3 has random, so that others who sample the same way keep the same traces.
//! Refused: to let each process choose at the head of a trace. It costs less, and loses the errors.

mod rules;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use atoll_base::{Percent, TraceId};

use crate::queue::ROW_BYTES;
use crate::{Span, SpanStatus};

pub(crate) use rules::{FILE, Rules, Weighed, Weights};

/// Spans of a trace wait so long for one that shows it to be worth keeping.
const WAIT: Duration = Duration::from_secs(10);

/// Late spans of a trace that was kept are kept too, for so long.
const REMEMBER: Duration = Duration::from_secs(120);

/// Traces that are remembered as kept.
const REMEMBERED_MAX: usize = 50_000;

/// Bytes of spans that may wait. Beyond it, the oldest trace is judged by what is known of it.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// The random bits of a trace id.
const RANDOM_BITS: u32 = 56;

/// What is kept, whatever else comes of its trace.
#[derive(Debug, Clone, Copy)]
struct Choice {
    /// Traces whose random bits are below it are kept, however they went.
    threshold: u64,
    /// A span that takes this long or longer is worth keeping.
    slow: Duration,
}

impl Choice {
    fn new(share: Percent, slow: Duration) -> Self {
        let threshold = share.fraction() * (1_u64 << RANDOM_BITS) as f64;
        Self {
            threshold: threshold as u64,
            slow,
        }
    }

    /// Whether an ordinary trace is kept.
    fn takes(self, trace: TraceId) -> bool {
        let random = trace.get() & ((1 << RANDOM_BITS) - 1);
        random < u128::from(self.threshold)
    }

    /// Whether a span is worth keeping for its own sake, and its trace with it.
    fn is_worth(self, failed: bool, duration: Duration) -> bool {
        failed || duration >= self.slow
    }
}

/// Chooses.
#[derive(Debug)]
pub(crate) struct Sampler {
    choice: Choice,
    waiting: HashMap<TraceId, Vec<Span>>,
    /// Traces that wait, by the time of their first span; also some that were kept meanwhile.
    order: VecDeque<(Instant, TraceId)>,
    bytes: usize,
    kept: HashSet<TraceId>,
    kept_order: VecDeque<(Instant, TraceId)>,
    /// Spans that were not kept, since that was last asked.
    left_out: u64,
}

impl Sampler {
    /// Keeps `share` of the ordinary traces, and all with an error or a span of at least `slow`. None if all
    /// are to be kept.
    pub(crate) fn new(share: Percent, slow: Duration) -> Option<Self> {
        (share < Percent::ALL).then(|| Self {
            choice: Choice::new(share, slow),
            waiting: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            kept: HashSet::new(),
            kept_order: VecDeque::new(),
            left_out: 0,
        })
    }

    /// Takes a span. What is kept by that, it or others of its trace, goes to `keep`.
    pub(crate) fn apply(&mut self, span: Span, now: Instant, keep: &mut Vec<Span>) {
        let trace = span.trace;
        let failed = span.status == SpanStatus::Error;
        if self.choice.takes(trace) || self.kept.contains(&trace) {
            keep.push(span);
        } else if self.choice.is_worth(failed, span.duration) {
            let waited = self.waiting.remove(&trace).unwrap_or_default();
            self.bytes -= waited.iter().map(bytes).sum::<usize>();
            keep.extend(waited);
            keep.push(span);
            self.remember(trace, now);
        } else {
            self.bytes += bytes(&span);
            let waiting = self.waiting.entry(trace).or_default();
            if waiting.is_empty() {
                self.order.push_back((now, trace));
            }
            waiting.push(span);
        }
        self.tick(now);
    }

    /// Gives up what has waited long enough, or is too much.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some((since, trace)) = self.order.front().copied() {
            if now < since + WAIT && self.bytes <= WAITING_BYTES_MAX {
                break;
            }
            self.order.pop_front();
            let gone = self.waiting.remove(&trace).unwrap_or_default();
            self.bytes -= gone.iter().map(bytes).sum::<usize>();
            self.left_out += gone.len() as u64;
        }
        while let Some((since, trace)) = self.kept_order.front().copied() {
            if now < since + REMEMBER && self.kept.len() <= REMEMBERED_MAX {
                break;
            }
            self.kept_order.pop_front();
            self.kept.remove(&trace);
        }
    }

    /// Spans that were not kept, since the last call.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    fn remember(&mut self, trace: TraceId, now: Instant) {
        if self.kept.insert(trace) {
            self.kept_order.push_back((now, trace));
        }
    }
}

fn bytes(span: &Span) -> usize {
    let texts = span.name.len() + span.attributes.len() + span.events.len() + span.links.len();
    ROW_BYTES + texts + span.message.len()
}

#[cfg(test)]
pub(crate) mod tests {
    use atoll_base::clock;

    use super::*;
    use crate::SpanKind;
    use atoll_base::{RevisionNumber, ServiceName, SpanId, Timestamp};

    const SLOW: Duration = Duration::from_secs(1);

    fn sampler(share: &str) -> Sampler {
        Sampler::new(share.parse().unwrap(), SLOW).unwrap()
    }

    pub(crate) fn of(trace: u128) -> Span {
        Span {
            trace: TraceId::new(trace).unwrap(),
            span: SpanId::new(1).unwrap(),
            parent: None,
            start: Timestamp::from_micros(0),
            duration: Duration::from_millis(1),
            service: ServiceName::new("orders").unwrap(),
            instance: "orders-r1-1".to_owned(),
            revision: RevisionNumber(1),
            name: "GET /orders/{id}".to_owned(),
            kind: SpanKind::Server,
            status: SpanStatus::Unset,
            message: String::new(),
            caller: None,
            http_status: None,
            inferred: false,
            attributes: String::new(),
            events: String::new(),
            links: String::new(),
        }
    }

    pub(super) fn failed(trace: u128) -> Span {
        Span {
            status: SpanStatus::Error,
            ..of(trace)
        }
    }

    /// What is kept of these, each of which comes a second after the one before.
    fn kept(sampler: &mut Sampler, spans: Vec<Span>) -> Vec<Span> {
        let start = clock::monotonic();
        let mut keep = Vec::new();
        for (second, span) in spans.into_iter().enumerate() {
            sampler.apply(span, start + Duration::from_secs(second as u64), &mut keep);
        }
        keep
    }

    #[test]
    fn all_is_kept_without_a_sampler_and_nothing_ordinary_at_zero() {
        assert!(Sampler::new(Percent::ALL, SLOW).is_none());
        let mut none = sampler("0%");
        let spans: Vec<Span> = (1..30).map(of).collect();
        assert!(kept(&mut none, spans).is_empty());
        // The last ten seconds are still undecided.
        assert_eq!(none.take_left_out(), 19);
        assert_eq!(none.take_left_out(), 0);
    }

    #[test]
    fn the_share_is_chosen_by_the_last_bits_of_the_trace() {
        let mut half = sampler("50%");
        let middle = 1_u128 << (RANDOM_BITS - 1);
        let spans = vec![
            of(middle - 1),
            of(middle),
            of(1 << 100),
            of((1 << 100) | middle),
        ];
        let traces: Vec<u128> = kept(&mut half, spans)
            .iter()
            .map(|span| span.trace.get())
            .collect();
        assert_eq!(traces, [middle - 1, 1 << 100]);
    }

    #[test]
    fn an_error_and_a_slow_span_keep_what_came_before_and_comes_after() {
        let slow = Span {
            duration: SLOW,
            ..of(2)
        };
        let mut none = sampler("0%");
        let spans = vec![of(1), of(2), of(3), failed(1), slow, of(1), of(2), of(3)];
        let traces: Vec<u128> = kept(&mut none, spans)
            .iter()
            .map(|span| span.trace.get())
            .collect();
        assert_eq!(traces, [1, 1, 2, 2, 1, 2]);
        assert_eq!(none.bytes, 2 * bytes(&of(3)));
    }

    #[test]
    fn an_error_after_the_wait_is_kept_alone() {
        let mut none = sampler("0%");
        let mut spans = vec![of(1)];
        spans.extend((2..20).map(of));
        spans.push(failed(1));
        assert_eq!(kept(&mut none, spans), [failed(1)]);
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let mut none = sampler("0%");
        let now = clock::monotonic();
        let mut keep = Vec::new();
        for trace in 1..200_000 {
            none.apply(of(trace), now, &mut keep);
            assert!(none.bytes <= WAITING_BYTES_MAX);
        }
        assert!(keep.is_empty());
        for trace in 1..=60_000 {
            none.apply(failed(trace), now, &mut keep);
        }
        assert_eq!(
            (none.kept.len(), none.kept_order.len()),
            (REMEMBERED_MAX, REMEMBERED_MAX)
        );
        none.tick(now + REMEMBER);
        assert_eq!((none.kept.len(), none.waiting.len(), none.bytes), (0, 0, 0));
    }
}
