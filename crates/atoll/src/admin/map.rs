//! The map put together: calls of the proxy, records on their way, and what clients of Kafka count.
//!
//! Each comes from elsewhere. Calls and records that pass through Atoll's HTTP are spans; a service that speaks
//! Kafka by itself is seen by the broker alone, which counts. One name stands for one box: a topic that is called
//! as a service is gets `topic:` before its name, which no topic can have in it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use atoll_base::{ServiceName, Timestamp};
use atoll_telemetry::{Calls, Edge, TopicEdge};

use super::derived::{CallsView, MapEdge, MapNode, MapView};
use super::types::Problem;
use crate::node::{Node, metric};

/// Clients outside.
const EDGE: &str = "edge";

/// What a map is made of.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Calls through the proxy.
    pub(super) calls: Vec<Edge>,
    /// Records between services and topics.
    pub(super) records: Vec<TopicEdge>,
    /// How the services are that run.
    pub(super) states: BTreeMap<String, String>,
}

/// The records that services published and read by the protocol of Kafka.
pub(super) async fn by_kafka(
    node: &Node,
    (since, until): (Timestamp, Timestamp),
) -> Result<Vec<TopicEdge>, Problem> {
    let totals = node.metrics().totals(metric::RECORDS, since, until).await?;
    let edges = totals.into_iter().filter_map(|(labels, records)| {
        let label = |name| labels.get(name).map(str::to_owned);
        let (service, topic) = (label("service")?, label("topic")?);
        let is_published = labels.get("direction")? == metric::PUBLISHED;
        let count = records.round() as u64;
        let (from, to) = match is_published {
            true => (service, topic),
            false => (topic, service),
        };
        let edge = Edge {
            from,
            to,
            calls: Calls::counted(count),
        };
        (count > 0).then_some(TopicEdge { is_published, edge })
    });
    Ok(edges.collect())
}

impl Parts {
    /// Adds records: to those between the same two, if there are some.
    pub(super) fn add(&mut self, more: Vec<TopicEdge>) {
        let ends = |own: &TopicEdge| {
            let edge = &own.edge;
            (own.is_published, edge.from.clone(), edge.to.clone())
        };
        let known = self.records.iter().enumerate();
        let mut known: HashMap<_, _> = known.map(|(at, own)| (ends(own), at)).collect();
        for own in more {
            match known.entry(ends(&own)) {
                Entry::Occupied(at) => self.records[*at.get()].edge.calls.add(&own.edge.calls),
                Entry::Vacant(free) => {
                    free.insert(self.records.len());
                    self.records.push(own);
                }
            }
        }
    }

    /// The map, of one service and those beside it if `wanted` names one.
    pub(super) fn view(mut self, wanted: Option<&ServiceName>, seconds: f64) -> MapView {
        self.keep_apart();
        let topics: BTreeSet<String> = self
            .records
            .iter()
            .map(|own| own.topic().to_owned())
            .collect();
        let Self {
            mut calls,
            records,
            states,
        } = self;
        let mut records: Vec<Edge> = records.into_iter().map(|own| own.edge).collect();
        if let Some(service) = wanted {
            let of = |own: &Edge| [own.from.as_str(), &own.to].contains(&service.as_str());
            calls.retain(of);
            records.retain(of);
        }
        let all = || calls.iter().chain(&records);
        let mut names: BTreeSet<&str> = all()
            .flat_map(|own| [own.from.as_str(), own.to.as_str()])
            .collect();
        match wanted {
            Some(service) if states.contains_key(service.as_str()) => {
                names.insert(service.as_str());
            }
            Some(_) => {}
            None => names.extend(states.keys().map(String::as_str)),
        }
        let nodes = names.into_iter().map(|name| MapNode {
            name: name.to_owned(),
            kind: match name {
                EDGE => "edge",
                name if topics.contains(name) => "topic",
                _ => "service",
            }
            .to_owned(),
            state: states.get(name).cloned(),
            calls: CallsView::of(
                &Calls::sum(all().filter(|own| own.to == name).map(|own| &own.calls)),
                seconds,
            ),
        });
        let drawn = |kind: &'static str| {
            move |own: &Edge| MapEdge {
                from: own.from.clone(),
                to: own.to.clone(),
                kind: kind.to_owned(),
                calls: CallsView::of(&own.calls, seconds),
            }
        };
        let nodes = nodes.collect();
        let edges = calls.iter().map(drawn("http"));
        MapView {
            nodes,
            edges: edges.chain(records.iter().map(drawn("event"))).collect(),
        }
    }

    /// Gives topics another name that are called as a service is, or as the edge.
    fn keep_apart(&mut self) {
        let ends = self
            .calls
            .iter()
            .flat_map(|own| [own.from.clone(), own.to.clone()]);
        let readers = self.records.iter().map(|own| match own.is_published {
            true => own.edge.from.clone(),
            false => own.edge.to.clone(),
        });
        let mut taken: BTreeSet<String> = ends.chain(readers).collect();
        taken.extend(self.states.keys().cloned());
        taken.insert(EDGE.to_owned());
        for own in &mut self.records {
            let topic = match own.is_published {
                true => &mut own.edge.to,
                false => &mut own.edge.from,
            };
            if taken.contains(topic.as_str()) {
                topic.insert_str(0, "topic:");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str, calls: u64) -> Edge {
        Edge {
            from: from.to_owned(),
            to: to.to_owned(),
            calls: Calls::counted(calls),
        }
    }

    fn records(is_published: bool, from: &str, to: &str, calls: u64) -> TopicEdge {
        let edge = edge(from, to, calls);
        TopicEdge { is_published, edge }
    }

    /// `points` calls itself what its topic is called; two others use the topic, one of them both ways.
    fn parts() -> Parts {
        let mut parts = Parts {
            calls: vec![edge("edge", "orders", 10)],
            records: vec![records(true, "orders", "points", 2)],
            states: ["orders", "points", "idle"]
                .map(|name| (name.to_owned(), "ready".to_owned()))
                .into(),
        };
        parts.add(vec![
            records(true, "orders", "points", 3),
            records(false, "points", "orders", 4),
            records(false, "points", "points", 5),
            records(false, "paid", "points", 6),
        ]);
        parts
    }

    fn told(view: &MapView) -> (Vec<String>, Vec<String>) {
        let nodes = view.nodes.iter();
        let nodes = nodes.map(|own| format!("{} {} {}", own.kind, own.name, own.calls.rate));
        let edges = view.edges.iter();
        let edges = edges.map(|own| {
            let rate = own.calls.rate;
            format!("{} {} {} {rate}", own.from, own.kind, own.to)
        });
        (nodes.collect(), edges.collect())
    }

    #[test]
    fn a_topic_and_a_service_of_one_name_are_two_boxes() {
        let (nodes, edges) = told(&parts().view(None, 1.0));
        assert_eq!(
            nodes,
            [
                "edge edge 0",
                "service idle 0",
                "service orders 14",
                "topic paid 0",
                "service points 11",
                "topic topic:points 5"
            ]
        );
        assert_eq!(
            edges,
            [
                "edge http orders 10",
                "orders event topic:points 5",
                "topic:points event orders 4",
                "topic:points event points 5",
                "paid event points 6"
            ]
        );
    }

    #[test]
    fn of_one_service_its_neighbors_are_shown() {
        let one = ServiceName::new("points").unwrap();
        let (nodes, edges) = told(&parts().view(Some(&one), 1.0));
        let expected = ["topic paid 0", "service points 11", "topic topic:points 0"];
        assert_eq!(nodes, expected);
        assert_eq!(edges.len(), 2, "{edges:?}");
    }
}
