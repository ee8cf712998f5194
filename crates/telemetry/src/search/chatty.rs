//! Who asks too often: services that, for one request of their own, call the same service many times.
//!
//! Counted within each trace: how often A called B, divided by how often A was called. So a trace with a
//! hundred requests to A is not blamed on A, and services that put spans of their own between need
//! no special care. What is rare and hidden among other requests of the same trace is missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use arrow_array::Array as _;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use atoll_base::TraceId;

use super::count::scan;
use crate::Error;
use crate::columns::names_of;
use crate::query::Filter;
use crate::schema::{self, span};
use crate::service::Handle;
use crate::shelf::Snapshot;

/// The most pairs of trace and services that are counted at once, about 50 bytes each.
const PAIRS_MAX: usize = 500_000;

/// A caller that asks often.
#[derive(Debug, Clone, PartialEq)]
pub struct Chatty {
    /// Who asks.
    pub caller: String,
    /// Who is asked.
    pub callee: String,
    /// Calls for one request of the caller: the median of the traces in which there were many.
    pub calls_per_request: f64,
    /// How many traces these are.
    pub traces: u64,
    /// The trace with the most.
    pub trace: TraceId,
}

/// Calls within one trace, by the numbers of caller and callee.
type Calls = HashMap<(u128, u32, u32), u32>;

/// Numbers of names.
#[derive(Default)]
struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

impl Handle {
    /// Who asks `least` times or more for one request of its own, in the spans of the proxy that fit; the
    /// worst first.
    ///
    /// # Errors
    /// If the store has stopped.
    pub async fn chatty(&self, filter: Filter, least: u32) -> Result<Vec<Chatty>, Error> {
        self.blocking(move |shared| chatty(&shared.spans.snapshot(), &filter, least))
            .await
    }
}

fn chatty(snapshot: &Snapshot, filter: &Filter, least: u32) -> Vec<Chatty> {
    const COLUMNS: [usize; 3] = [schema::TRACE, schema::SERVICE, span::CALLER];
    let counted = Mutex::new((Names::default(), Calls::new(), false));
    scan(snapshot, filter, &COLUMNS, &|found| {
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (names, calls, cut) = &mut *counted;
        let own = |column| found.columns.get(column).as_dictionary::<Int32Type>();
        let (services, callers) = (own(schema::SERVICE), own(span::CALLER));
        let mut numbers = |column| -> Vec<u32> {
            let texts = names_of(own(column)).iter();
            texts
                .map(|name| names.number(name.unwrap_or_default()))
                .collect()
        };
        let (called, calling) = (numbers(schema::SERVICE), numbers(span::CALLER));
        let traces = found.columns.get(schema::TRACE).as_fixed_size_binary();
        for row in found.mask.set_indices() {
            let (Some(caller), Some(service)) = (callers.key(row), services.key(row)) else {
                continue;
            };
            let trace = traces
                .is_valid(row)
                .then(|| traces.value(row).try_into().ok());
            let Some(trace) = trace.flatten().map(u128::from_be_bytes) else {
                continue;
            };
            let key = (trace, calling[caller], called[service]);
            if calls.len() < PAIRS_MAX || calls.contains_key(&key) {
                *calls.entry(key).or_insert(0) += 1;
            } else {
                *cut = true;
            }
        }
    });
    let (names, calls, cut) = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    judge(&names, (&calls, cut), least)
}

/// `cut`: some pairs were left out, so a caller without requests may have had some.
fn judge(names: &Names, (calls, cut): (&Calls, bool), least: u32) -> Vec<Chatty> {
    let mut requests: HashMap<(u128, u32), u32> = HashMap::new();
    for ((trace, _, callee), count) in calls {
        *requests.entry((*trace, *callee)).or_insert(0) += count;
    }
    let mut often: BTreeMap<(&str, &str), Vec<(f64, u128)>> = BTreeMap::new();
    for ((trace, caller, callee), count) in calls {
        // Nobody called it: it began the trace, so what it did was for one thing.
        let requests = match requests.get(&(*trace, *caller)) {
            Some(requests) => *requests,
            None if cut => continue,
            None => 1,
        };
        let each = f64::from(*count) / f64::from(requests.max(1));
        let name = |number: u32| names.names[number as usize].as_str();
        if each >= f64::from(least) && name(*caller) != "edge" {
            let pair = (name(*caller), name(*callee));
            often.entry(pair).or_default().push((each, *trace));
        }
    }
    let found = often
        .into_iter()
        .filter_map(|((caller, callee), mut traces)| {
            traces.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
            let (_, worst) = *traces.last()?;
            Some(Chatty {
                caller: caller.to_owned(),
                callee: callee.to_owned(),
                calls_per_request: traces[traces.len() / 2].0,
                traces: traces.len() as u64,
                trace: TraceId::new(worst)?,
            })
        });
    let mut found: Vec<_> = found.collect();
    found.sort_by(|one, other| other.calls_per_request.total_cmp(&one.calls_per_request));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_often_is_told_from_who_is_asked_often() {
        let (mut names, mut calls) = (Names::default(), Calls::new());
        let mut call = |trace, caller: &str, callee: &str, count| {
            let key = (trace, names.number(caller), names.number(callee));
            calls.insert(key, count);
        };
        for (trace, count) in [(1, 6), (2, 40), (3, 8), (4, 1)] {
            call(trace, "edge", "orders", 1);
            call(trace, "orders", "catalog", count);
        }
        // Asked ten times, it asks once each.
        call(5, "edge", "orders", 10);
        call(5, "orders", "catalog", 10);
        // It began by itself.
        call(6, "cron", "orders", 5);
        let found = judge(&names, (&calls, false), 5);
        let told: Vec<_> = found
            .iter()
            .map(|own| {
                (
                    own.caller.as_str(),
                    own.callee.as_str(),
                    own.calls_per_request,
                )
            })
            .collect();
        assert_eq!(told, [("orders", "catalog", 8.0), ("cron", "orders", 5.0)]);
        assert_eq!(found[0].traces, 3);
        assert_eq!(found[0].trace, TraceId::new(2).unwrap());
    }
}
