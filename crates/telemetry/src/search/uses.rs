//! Who had which work done: requests, the time they were worked on, and bytes, by caller and route.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};

use super::group::{Gathered, Take, group};
use crate::Error;
use crate::columns::{Texts, names_of};
use crate::query::{Columns, Filter};
use crate::schema::{self, span};
use crate::service::Handle;
use crate::shelf::Snapshot;

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
    requests: u64,
    busy_us: u64,
    bytes: u64,
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
        self.blocking(move |shared| uses(&shared.spans.snapshot(), &filter))
            .await
    }
}

fn uses(snapshot: &Snapshot, filter: &Filter) -> Vec<Use> {
    let by = [span::CALLER, schema::SERVICE, span::NAME];
    let more = [span::DURATION, schema::INSTANCE, schema::ATTRIBUTES];
    let found = group::<3, Work>(snapshot, filter, by, &more, take);
    let uses = found
        .into_iter()
        .map(|([caller, service, route], work)| Use {
            caller,
            service,
            route,
            requests: work.requests,
            busy_us: work.busy_us,
            bytes: work.bytes,
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
    Box::new(move |row, work| {
        work.requests += 1;
        if instances.key(row).is_some_and(|key| is_somebody[key]) {
            work.busy_us += u64::try_from(durations[row]).unwrap_or(0);
        }
        if let Some(text) = attributes.get(row) {
            work.bytes += number(text, "\"http.request.body.size\":")
                + number(text, "\"http.response.body.size\":");
        }
    })
}

/// The number behind a key. Within a text of the JSON, quotes stand behind backslashes: only a key has
/// one right before its colon.
fn number(json: &str, key: &str) -> u64 {
    let Some(at) = json.find(key) else { return 0 };
    let rest = &json[at + key.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_out_of_attributes_and_not_out_of_what_a_client_sent() {
        let key = "\"http.response.body.size\":";
        let honest = r#"{"url.path":"/a","http.response.body.size":70,"x":1}"#;
        assert_eq!(number(honest, key), 70);
        let sly = r#"{"url.path":"/\"http.response.body.size\":99","http.response.body.size":7}"#;
        assert_eq!(number(sly, key), 7);
        assert_eq!(number(r#"{"url.path":"/a"}"#, key), 0);
        assert_eq!(
            number("\"http.response.body.size\":99999999999999999999", key),
            0
        );
    }
}
