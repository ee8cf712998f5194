//! A compiled query: a tree of tests, each tied to a column.

use std::collections::BTreeSet;
use std::sync::Arc;

use atoll_base::{ServiceName, Timestamp, TraceId};

use super::attribute::AttributeTest;
use super::text::Pattern;
use super::{QueryError, compile, parser};
use crate::schema::{self, Kind};

/// Which rows are wanted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Filter {
    pub(super) kind: Kind,
    /// All of them must hold.
    pub(super) all: Vec<Arc<Node>>,
}

#[derive(Debug)]
pub(super) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Test),
}

/// A test of one row.
#[derive(Debug)]
pub(super) enum Test {
    /// By columns that are small.
    Cheap(Cheap),
    /// The text (a log's message, a span's name) contains this.
    Text(Pattern),
    /// An attribute, or a key of a line that is JSON.
    Attribute(AttributeTest),
}

#[derive(Debug)]
pub(super) enum Cheap {
    /// A column of names, in lower case.
    Names(usize, NameTest),
    /// A column of numbers lies within this, ends included.
    Range(usize, i64, i64),
    /// Of one of these traces, in order.
    Traces(Vec<TraceId>),
    /// A column of span ids.
    Span(usize, u64),
}

/// A test of a name.
#[derive(Debug)]
pub(super) enum NameTest {
    /// It is one of these, in lower case.
    OneOf(Vec<String>),
    /// It matches.
    Like(regex::Regex),
}

/// What all wanted rows have in common, as far as it can be known without reading them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    /// Not older than this, in microseconds since 1970.
    pub(crate) since: Option<i64>,
    /// Not newer than this.
    pub(crate) until: Option<i64>,
    /// Of one of these services.
    pub(crate) services: Option<Vec<String>>,
    /// Of one of these traces.
    pub(crate) traces: Option<Vec<TraceId>>,
    /// With all of these among the numbers of their texts; see [`crate::words`].
    pub(crate) words: Vec<u64>,
}

impl Filter {
    /// Wants every row.
    pub fn all(kind: Kind) -> Self {
        Self {
            kind,
            all: Vec::new(),
        }
    }

    /// Reads a query.
    ///
    /// # Errors
    /// With the place of the first mistake.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, QueryError> {
        let nodes = compile::compile(kind, parser::parse(text)?)?;
        let all = match nodes {
            Node::All(all) => all.into_iter().map(Arc::new).collect(),
            other => vec![Arc::new(other)],
        };
        Ok(Self { kind, all })
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Only of these services; of none of them, if there are none, of all.
    #[must_use]
    pub fn of_services(self, services: &[ServiceName]) -> Self {
        if services.is_empty() {
            return self;
        }
        let names = services.iter().map(ToString::to_string).collect();
        self.and(Cheap::Names(schema::SERVICE, NameTest::OneOf(names)))
    }

    /// Only of this instance.
    #[must_use]
    pub fn of_instance(self, instance: &str) -> Self {
        let names = vec![instance.to_ascii_lowercase()];
        self.and(Cheap::Names(schema::INSTANCE, NameTest::OneOf(names)))
    }

    /// Only of these traces.
    #[must_use]
    pub fn of_traces(self, traces: impl IntoIterator<Item = TraceId>) -> Self {
        let traces: BTreeSet<TraceId> = traces.into_iter().collect();
        self.and(Cheap::Traces(traces.into_iter().collect()))
    }

    /// Only rows whose text matches.
    #[must_use]
    pub fn matching(self, regex: &regex::Regex) -> Self {
        self.with(Node::Test(Test::Text(Pattern::regex(regex.clone()))))
    }

    /// Not older than this.
    #[must_use]
    pub fn since(self, since: Timestamp) -> Self {
        self.and(Cheap::Range(schema::TIME, since.as_micros(), i64::MAX))
    }

    /// Not newer than this.
    #[must_use]
    pub fn until(self, until: Timestamp) -> Self {
        self.and(Cheap::Range(schema::TIME, i64::MIN, until.as_micros()))
    }

    /// Only rows with a number in this range, ends included.
    pub(crate) fn numbered(self, from: u64, to: u64) -> Self {
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        self.and(Cheap::Range(schema::NUMBER, number(from), number(to)))
    }

    fn and(self, test: Cheap) -> Self {
        self.with(Node::Test(Test::Cheap(test)))
    }

    fn with(mut self, node: Node) -> Self {
        self.all.push(Arc::new(node));
        self
    }

    /// What all wanted rows have in common.
    pub(crate) fn bounds(&self) -> Bounds {
        let mut bounds = Bounds::default();
        for node in &self.all {
            let test = match node.as_ref() {
                Node::Test(Test::Cheap(test)) => test,
                Node::Test(Test::Text(pattern)) => {
                    bounds.words.extend_from_slice(pattern.needed());
                    continue;
                }
                _ => continue,
            };
            match test {
                Cheap::Range(schema::TIME, from, to) => {
                    bounds.since = bounds.since.max(Some(*from));
                    bounds.until = Some(bounds.until.map_or(*to, |until| until.min(*to)));
                }
                Cheap::Names(schema::SERVICE, NameTest::OneOf(names)) => {
                    bounds.services = Some(names.clone());
                }
                Cheap::Traces(traces) => bounds.traces = Some(traces.clone()),
                _ => {}
            }
        }
        bounds
    }

    /// The numbers that all wanted rows lie within.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        let mut numbers = (0, u64::MAX);
        for node in &self.all {
            if let Node::Test(Test::Cheap(Cheap::Range(schema::NUMBER, from, to))) = node.as_ref() {
                numbers.0 = numbers.0.max(u64::try_from(*from).unwrap_or(0));
                let to = if *to == i64::MAX {
                    u64::MAX
                } else {
                    u64::try_from(*to).unwrap_or(0)
                };
                numbers.1 = numbers.1.min(to);
            }
        }
        numbers
    }

    /// Those conditions that ask small columns only, then the others.
    pub(super) fn stages(&self) -> (Vec<&Node>, Vec<&Node>) {
        self.all
            .iter()
            .map(Arc::as_ref)
            .partition(|node| node.is_cheap())
    }
}

impl Node {
    fn tests(&self, visit: &mut dyn FnMut(&Test)) {
        match self {
            Self::All(nodes) | Self::Any(nodes) => {
                nodes.iter().for_each(|node| node.tests(visit));
            }
            Self::Not(node) => node.tests(visit),
            Self::Test(test) => visit(test),
        }
    }

    fn is_cheap(&self) -> bool {
        let mut cheap = true;
        self.tests(&mut |test| cheap &= matches!(test, Test::Cheap(_)));
        cheap
    }

    /// Adds the columns that are needed to tell.
    pub(super) fn columns(&self, kind: Kind, columns: &mut BTreeSet<usize>) {
        self.tests(&mut |test| match test {
            Test::Cheap(
                Cheap::Names(column, _) | Cheap::Range(column, ..) | Cheap::Span(column, _),
            ) => {
                columns.insert(*column);
            }
            Test::Cheap(Cheap::Traces(_)) => {
                columns.insert(schema::TRACE);
            }
            Test::Text(_) => {
                columns.insert(kind.text());
            }
            Test::Attribute(_) => {
                columns.insert(schema::ATTRIBUTES);
                if kind == Kind::Logs {
                    columns.insert(kind.text());
                }
            }
        });
    }
}
