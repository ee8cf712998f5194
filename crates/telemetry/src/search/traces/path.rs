//! The critical path of a trace: the spans that made it take as long as it took.
//!
//! From the end of the root backwards: whoever ended last before the moment is what was waited for;
//! from its start, the same again. What ran beside it did not matter. Pure.

use std::collections::{HashMap, HashSet};

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

fn end(span: &Span) -> i64 {
    span.start.after(span.duration).as_micros()
}
