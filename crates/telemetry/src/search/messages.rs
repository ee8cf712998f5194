//! Which services publish to which topics, and which of them get records: from the proxy's spans of
//! records on their way.
//!
//! Their names say what they are, after OpenTelemetry's conventions: `send placed`, `process placed`,
//! `receive placed`. What other clients of a broker do is not among them: they talk to it directly.

use std::collections::BTreeMap;

use super::calls::{self, Calls};
use super::edges::Edge;
use super::group::{Spans, group};
use crate::query::Filter;
use crate::schema::{self, span};
use crate::service::Handle;
use crate::{Error, SpanKind};

/// Records on their way between a service and a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicEdge {
    /// The topic is where they go to, not where they come from.
    pub is_published: bool,
    /// From whom to whom, and how that went: requests, each with one record or more.
    pub edge: Edge,
}

impl TopicEdge {
    /// The topic.
    pub fn topic(&self) -> &str {
        match self.is_published {
            true => &self.edge.to,
            false => &self.edge.from,
        }
    }
}

impl Handle {
    /// Who sent records to topics and who got some, in the spans that fit.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn topic_edges(&self, filter: Filter) -> Result<Vec<TopicEdge>, Error> {
        self.blocking(move |shared| topic_edges(shared.weighed(&shared.spans.snapshot()), &filter))
            .await
    }
}

fn topic_edges(spans: Spans<'_>, filter: &Filter) -> Vec<TopicEdge> {
    let by = [span::KIND, span::CALLER, schema::SERVICE, span::NAME];
    let found = group::<4, Calls>(spans, filter, by, &calls::COLUMNS, calls::take);
    let mut edges = BTreeMap::<(String, String, bool), Calls>::new();
    for ([kind, caller, service, name], calls) in found {
        // What an SDK tells of the same record has no caller.
        if caller.is_empty() {
            continue;
        }
        let Some((operation, topic)) = name.split_once(' ') else {
            continue;
        };
        let key = match (SpanKind::named(&kind), operation) {
            (Some(SpanKind::Producer), "send") => (caller, topic.to_owned(), true),
            (Some(SpanKind::Consumer), "process") => (topic.to_owned(), service, false),
            (Some(SpanKind::Consumer), "receive") => (topic.to_owned(), caller, false),
            _ => continue,
        };
        edges.entry(key).or_default().add(&calls);
    }
    let edges = edges
        .into_iter()
        .map(|((from, to, is_published), calls)| TopicEdge {
            is_published,
            edge: Edge { from, to, calls },
        });
    edges.collect()
}
