//! The critical path of a trace: the spans that made it take as long as it took.
//!
//! From the end of the root backwards: whoever ended last before the moment is what was waited for;
//! from its start, the same again. What ran beside it did not matter. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use atoll_base::SpanId;

use crate::Span;

/// The ids of the spans on the critical path, by their start.
pub fn critical_path(spans: &[Span]) -> Vec<SpanId> {
    let ids: HashSet<SpanId> = spans.iter().map(|span| span.span).collect();
    let mut children: HashMap<SpanId, Vec<&Span>> = HashMap::new();
    for span in spans {
        if let Some(parent) = span.parent {
            children.entry(parent).or_default().push(span);
        }
    }
    let is_root = |span: &&Span| span.parent.is_none_or(|parent| !ids.contains(&parent));
    let roots = spans.iter().filter(is_root);
    let Some(root) = roots.max_by_key(|span| (span.duration, std::cmp::Reverse(span.start))) else {
        return Vec::new();
    };
    let mut path: Vec<&Span> = Vec::new();
    // Ids are whatever services send: a circle must not be walked twice.
    let mut seen = HashSet::new();
    let mut open = vec![root];
    while let Some(span) = open.pop() {
        let mut moment = end(span);
        if !seen.insert(span.span) {
            continue;
        }
        path.push(span);
        let mut below = children.remove(&span.span).unwrap_or_default();
        below.sort_by_key(|child| end(child));
        for child in below.into_iter().rev() {
            let (start, ended) = (child.start.as_micros(), end(child).min(end(span)));
            // What was still running at the moment ran beside what was waited for.
            if ended <= moment && start < moment {
                moment = start;
                open.push(child);
            }
        }
    }
    path.sort_by_key(|span| (span.start, span.span));
    path.into_iter().map(|span| span.span).collect()
}

/// The spans on the critical path, by their start, each with the time for which it waited for none of the others:
/// together they are what the trace took.
pub fn own_times(spans: &[Span]) -> Vec<(&Span, Duration)> {
    let by_id: HashMap<SpanId, &Span> = spans.iter().map(|span| (span.span, span)).collect();
    let path = critical_path(spans).into_iter();
    let path: Vec<&Span> = path.filter_map(|id| by_id.get(&id).copied()).collect();
    let mut waited: HashMap<SpanId, i64> = HashMap::new();
    for span in &path {
        let Some(parent) = span.parent.and_then(|parent| by_id.get(&parent)) else {
            continue;
        };
        let within = end(span).min(end(parent)) - span.start.max(parent.start).as_micros();
        *waited.entry(parent.span).or_default() += within.max(0);
    }
    let own = path.into_iter().map(|span| {
        let waited = waited.get(&span.span).copied().unwrap_or_default();
        let waited = Duration::from_micros(waited.try_into().unwrap_or_default());
        (span, span.duration.saturating_sub(waited))
    });
    own.collect()
}

fn end(span: &Span) -> i64 {
    span.start.after(span.duration).as_micros()
}
