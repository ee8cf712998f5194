//! What a route asks of a request beyond host, path and method.

use std::collections::BTreeMap;

use crate::http::field::Fields;

/// Fields and query parameters that a request must have.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Matches {
    fields: Vec<(Box<str>, Wanted)>,
    query: Vec<(Box<str>, Wanted)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Wanted {
    Any,
    Exactly(Box<str>),
}

impl Matches {
    pub(crate) fn compile(
        fields: &BTreeMap<String, String>,
        query: &BTreeMap<String, String>,
    ) -> Self {
        let compile = |given: &BTreeMap<String, String>| {
            let wanted = given.iter().map(|(name, value)| {
                let wanted = match value.as_str() {
                    "*" => Wanted::Any,
                    exact => Wanted::Exactly(exact.into()),
                };
                (name.as_str().into(), wanted)
            });
            wanted.collect()
        };
        Self {
            fields: compile(fields),
            query: compile(query),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.query.is_empty()
    }

    /// How closely it describes a request: more fields first, then more parameters (Gateway API,
    /// `HTTPRouteMatch`).
    pub(crate) fn rank(&self) -> (usize, usize) {
        (self.fields.len(), self.query.len())
    }

    /// Whether a request has all of it. `query` is what stands behind the question mark.
    pub(crate) fn fit(&self, fields: Option<&Fields<'_, '_>>, query: &str) -> bool {
        let has_field = |(name, wanted): &(Box<str>, Wanted)| {
            let found = fields.and_then(|fields| fields.get(name));
            match (found, wanted) {
                (None, _) => false,
                (Some(_), Wanted::Any) => true,
                (Some(value), Wanted::Exactly(exact)) => value.trim_ascii() == exact.as_bytes(),
            }
        };
        let has_parameter = |(name, wanted): &(Box<str>, Wanted)| {
            // The first of several counts, as in most frameworks.
            let value = parameters(query).find(|(own, _)| *own == &**name);
            match (value, wanted) {
                (None, _) => false,
                (Some(_), Wanted::Any) => true,
                (Some((_, value)), Wanted::Exactly(exact)) => *value == **exact,
            }
        };
        self.fields.iter().all(has_field) && self.query.iter().all(has_parameter)
    }
}

/// Names and values of a query, as they are written: nothing is decoded.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_compared_as_written() {
        let query = |name: &str, value: &str| {
            let query = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            Matches::compile(&BTreeMap::new(), &query)
        };
        for (name, value, given, fits) in [
            ("a", "1", "a=1", true),
            ("a", "1", "b=2&a=1", true),
            ("a", "1", "a=2&a=1", false),
            ("a", "*", "a", true),
            ("a", "", "a", true),
            ("a", "*", "aa=1", false),
            ("a", "1", "", false),
        ] {
            assert_eq!(
                query(name, value).fit(None, given),
                fits,
                "{name}={value} in {given}"
            );
        }
    }
}
