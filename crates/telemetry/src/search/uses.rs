//! Who had which work done: requests, the time they were worked on, and bytes, by caller and route.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};

use super::group::{Gathered, Spans, Take, group};
use crate::Error;
use crate::columns::{Texts, names_of};
use crate::query::{Columns, Filter};
use crate::schema::{self, span};
use crate::service::Handle;

/// What one caller had done by one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Who asked: a service, or `edge` for clients outside.
    pub caller: String,
    /// Who was asked.
    pub service: String,
    /// `GET /orders/{id}`; the method alone where no route is known.
    pub route: String,
    /// How often.
    pub requests: u64,
    /// How long an instance had these requests, all together, in microseconds. Nothing for requests that
    /// came to none.
    pub busy_us: u64,
    /// Bytes of the bodies of requests and answers.
    pub bytes: u64,
}

#[derive(Default)]
struct Work {
    requests: f64,
    busy_us: f64,
    bytes: f64,
}

impl Gathered for Work {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.busy_us += other.busy_us;
        self.bytes += other.bytes;
    }
}

impl Handle {
    /// Who had which work done, in the spans of the proxy that fit. The first 20,000 are told.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn uses(&self, filter: Filter) -> Result<Vec<Use>, Error> {
        self.blocking(move |shared| uses(shared.weighed(&shared.spans.snapshot()), &filter))
            .await
    }
}

fn uses(spans: Spans<'_>, filter: &Filter) -> Vec<Use> {
    let by = [span::CALLER, schema::SERVICE, span::NAME];
    let more = [span::DURATION, schema::INSTANCE, schema::ATTRIBUTES];
    let found = group::<3, Work>(spans, filter, by, &more, take);
    let uses = found
        .into_iter()
        .map(|([caller, service, route], work)| Use {
            caller,
            service,
            route,
            requests: work.requests.round() as u64,
            busy_us: work.busy_us.round() as u64,
            bytes: work.bytes.round() as u64,
        });
    uses.collect()
}

fn take(columns: &Columns) -> Take<'_, Work> {
    let durations = columns.get(span::DURATION);
    let durations = durations.as_primitive::<Int64Type>().values();
    let instances = columns.get(schema::INSTANCE).as_dictionary::<Int32Type>();
    let is_somebody: Vec<bool> = names_of(instances)
        .iter()
        .map(|name| name != Some(""))
        .collect();
    let attributes = Texts::of(columns.get(schema::ATTRIBUTES));
    Box::new(move |row, weight, work| {
        work.requests += weight;
        if instances.key(row).is_some_and(|key| is_somebody[key]) {
            work.busy_us += weight * durations[row].max(0) as f64;
        }
        if let Some(text) = attributes.get(row) {
            let bytes = number(text, "\"http.request.body.size\":")
                + number(text, "\"http.response.body.size\":");
            work.bytes += weight * bytes;
        }
    })
}

/// The number behind a key. Within a text of the JSON, quotes stand behind backslashes: only a key has
/// one right before its colon.
fn number(json: &str, key: &str) -> f64 {
    let Some(at) = json.find(key) else { return 0.0 };
    let rest = &json[at + key.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let number: u64 = rest[..end.unwrap_or(rest.len())].parse().unwrap_or(0);
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_out_of_attributes_and_not_out_of_what_a_client_sent() {
        let key = "\"http.response.body.size\":";
        let honest = r#"{"url.path":"/a","http.response.body.size":70,"x":1}"#;
        assert_eq!(number(honest, key), 70.0);
        let sly = r#"{"url.path":"/\"http.response.body.size\":99","http.response.body.size":7}"#;
        assert_eq!(number(sly, key), 7.0);
        assert_eq!(number(r#"{"url.path":"/a"}"#, key), 0.0);
        assert_eq!(
            number("\"http.response.body.size\":99999999999999999999", key),
            0.0
        );
    }
}
