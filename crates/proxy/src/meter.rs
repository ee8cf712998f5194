//! What went over each route and each dependency: requests, errors, latencies, since the start.
//!
//! These are the counters that a monitoring system reads and takes differences of; the live
//! windows beside them ([`crate::stats`]) are for people. A worker counts in words of its own and adds
//! them up a few times a second, and a route that nobody asks for costs no memory for its counts.
//! Buckets are the same for all, in seconds, from half a millisecond up: a proxied call within one
//! machine is rarely faster, and a histogram whose bounds differ cannot be added up.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_base::{ServiceName, Timestamp, TraceId};

use crate::local::Known;
use crate::route::Route;
use crate::span::ErrorKind;

/// What was counted for one route or one dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Of what.
    pub of: Metered,
    /// The counts since the node started.
    pub counts: Counts,
}

/// What is counted for itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metered {
    /// A route of the edge. Routes that differ only in fields or query count as one.
    Route {
        /// The service that it leads to first.
        service: ServiceName,
        /// Its host, as it was written.
        host: Option<String>,
        /// Its path, as it was written.
        path: String,
        /// Its methods, as they were written; empty for all.
        methods: Vec<String>,
    },
    /// A dependency.
    Call {
        /// Who calls.
        caller: ServiceName,
        /// Who is called.
        callee: ServiceName,
    },
}

/// The upper bounds of the buckets in microseconds; what takes longer is in one more.
pub const BOUNDS_MICROS: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// The names of the classes of statuses, in the order of [`Counts::by_class`].
pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// A request of a bucket, with its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace.
    pub trace: TraceId,
    /// When its last byte was sent.
    pub time: Timestamp,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// Counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests by the first digit of their status; at 0 those without one.
    pub by_class: [u64; CLASSES.len()],
    /// Requests that ended with an error, by its kind, in the order of [`ErrorKind::ALL`].
    pub errors: [u64; ErrorKind::ALL.len()],
    /// Requests by the time until the last byte of the answer: those of each bucket alone.
    pub buckets: [u64; BOUNDS_MICROS.len() + 1],
    /// All these times together, in microseconds.
    pub micros: u64,
    /// The last request of each bucket of which there is a span.
    pub exemplars: [Option<Exemplar>; BOUNDS_MICROS.len() + 1],
}

/// A request that has ended, as it is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) status: u16,
    pub(crate) error: Option<ErrorKind>,
    pub(crate) duration: Duration,
    /// Its trace and when it ended, if there is a span of it.
    pub(crate) traced: Option<(TraceId, Timestamp)>,
}

/// What one worker counts for one route or dependency.
#[derive(Debug)]
pub(crate) struct Meter {
    of: Of,
    counts: RefCell<Option<Box<Counts>>>,
    /// It is among those that have something to tell.
    noted: Cell<bool>,
}

#[derive(Debug)]
enum Of {
    Route(Arc<Route>),
    Call(Rc<Known>, Rc<Known>),
}

/// What all workers have counted.
#[derive(Debug, Default)]
pub(crate) struct Meters(Mutex<HashMap<Metered, Counts>>);

/// The meters of one worker that have something to tell.
#[derive(Debug, Default)]
pub(crate) struct Told(RefCell<Vec<Rc<Meter>>>);

impl Counts {
    fn record(&mut self, ended: &Ended) {
        let micros = u64::try_from(ended.duration.as_micros()).unwrap_or(u64::MAX);
        let class = usize::from(ended.status / 100).min(self.by_class.len() - 1);
        self.by_class[class] += 1;
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket] += 1;
        if let Some((trace, time)) = ended.traced {
            self.exemplars[bucket] = Some(Exemplar {
                trace,
                time,
                micros,
            });
        }
        self.micros = self.micros.saturating_add(micros);
        let error = ended
            .error
            .and_then(|error| self.errors.get_mut(error as usize));
        if let Some(count) = error {
            *count += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        let sum = |mine: &mut [u64], theirs: &[u64]| {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        };
        sum(&mut self.by_class, &other.by_class);
        sum(&mut self.errors, &other.errors);
        sum(&mut self.buckets, &other.buckets);
        self.micros = self.micros.saturating_add(other.micros);
        for (mine, theirs) in self.exemplars.iter_mut().zip(other.exemplars) {
            let newer = |theirs: &Exemplar| mine.is_none_or(|mine| mine.time <= theirs.time);
            *mine = theirs.filter(newer).or(*mine);
        }
    }

    /// All requests.
    pub fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }
}

impl Meter {
    pub(crate) fn of_route(route: &Arc<Route>) -> Self {
        Self::of(Of::Route(Arc::clone(route)))
    }

    pub(crate) fn of_call(caller: &Rc<Known>, callee: &Rc<Known>) -> Self {
        Self::of(Of::Call(Rc::clone(caller), Rc::clone(callee)))
    }

    fn of(of: Of) -> Self {
        Self {
            of,
            counts: RefCell::default(),
            noted: Cell::new(false),
        }
    }

    fn metered(&self) -> Metered {
        match &self.of {
            Of::Route(route) => route.metered(),
            Of::Call(caller, callee) => Metered::Call {
                caller: caller.name.clone(),
                callee: callee.name.clone(),
            },
        }
    }
}

impl Told {
    /// Counts a request.
    pub(crate) fn record(&self, meter: &Rc<Meter>, ended: &Ended) {
        let mut counts = meter.counts.borrow_mut();
        counts.get_or_insert_default().record(ended);
        if !meter.noted.replace(true) {
            self.0.borrow_mut().push(Rc::clone(meter));
        }
    }

    /// Adds everything to what all workers have counted.
    pub(crate) fn flush(&self, all: &Meters) {
        let told = std::mem::take(&mut *self.0.borrow_mut());
        if told.is_empty() {
            return;
        }
        let mut all = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        for meter in told {
            meter.noted.set(false);
            let Some(counts) = meter.counts.take() else {
                continue;
            };
            all.entry(meter.metered()).or_default().add(&counts);
        }
    }
}

impl Meters {
    /// What was counted, sorted by what it is of.
    pub(crate) fn series(&self) -> Vec<Series> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = all.iter().map(|(of, counts)| Series {
            of: of.clone(),
            counts: counts.clone(),
        });
        let mut series: Vec<_> = series.collect();
        series.sort_unstable_by(|one, other| one.of.cmp(&other.of));
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Rc<Meter> {
        let known = |name| Rc::new(Known::new(ServiceName::new(name).unwrap()));
        Rc::new(Meter::of_call(&known("a"), &known("b")))
    }

    fn ended(status: u16, error: Option<ErrorKind>, micros: u64) -> Ended {
        Ended {
            status,
            error,
            duration: Duration::from_micros(micros),
            traced: None,
        }
    }

    #[test]
    fn each_bucket_keeps_its_newest_request_with_a_span() {
        let all = Meters::default();
        for (second, micros) in [(2, 100), (1, 200), (3, 700)] {
            let (told, meter) = (Told::default(), call());
            let trace = TraceId::new(second).unwrap();
            let time = Timestamp::from_micros(i64::try_from(second).unwrap());
            let traced = Ended {
                traced: Some((trace, time)),
                ..ended(200, None, micros)
            };
            told.record(&meter, &traced);
            told.record(&meter, &ended(200, None, micros));
            told.flush(&all);
        }
        let counts = &all.series()[0].counts;
        let kept = counts
            .exemplars
            .map(|own| own.map(|own| (own.trace.get(), own.micros)));
        assert_eq!(kept[..3], [Some((2, 100)), Some((3, 700)), None]);
        assert_eq!(counts.requests(), 6);
    }

    #[test]
    fn requests_are_counted_by_status_time_and_error() {
        let (told, all, meter) = (Told::default(), Meters::default(), call());
        for (status, error, micros) in [
            (200, None, 500),
            (204, None, 501),
            (503, Some(ErrorKind::BreakerOpen), 40_000_000),
            (0, Some(ErrorKind::ClientGone), 1),
        ] {
            told.record(&meter, &ended(status, error, micros));
        }
        assert!(all.series().is_empty(), "not told yet");
        told.flush(&all);
        told.flush(&all);
        let series = all.series();
        let counts = &series[0].counts;
        assert_eq!(counts.by_class, [1, 0, 2, 0, 0, 1]);
        assert_eq!(counts.requests(), 4);
        assert_eq!(counts.buckets[0], 2, "a bound belongs to its bucket");
        assert_eq!(counts.buckets[1], 1);
        assert_eq!(counts.buckets.last(), Some(&1));
        assert_eq!(counts.micros, 40_001_002);
        assert_eq!(counts.errors.iter().sum::<u64>(), 2);
        assert_eq!(counts.errors[ErrorKind::BreakerOpen as usize], 1);
    }

    #[test]
    fn workers_are_added_up() {
        let all = Meters::default();
        for _ in 0..3 {
            let (told, meter) = (Told::default(), call());
            told.record(&meter, &ended(200, None, 0));
            told.flush(&all);
        }
        let series = all.series();
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].counts.requests(), 3);
    }

    #[test]
    fn every_kind_of_error_has_its_place() {
        for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
        }
    }
}
