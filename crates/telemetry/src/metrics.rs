//! Metrics: points come in, are added up in slots of time, and are asked for by name and labels.
//!
//! A point of a cumulative series becomes what was added since the one before (`increase`), so that
//! everything kept can be added up: over time, which is down-sampling, and over series, which is a
//! query. Histograms merge exactly ([`Histogram`]).
//!
//! The life of a point: [`Handle::take`] finds its series ([`set::Set`]; their number is bounded), makes a
//! [`Cell`] of it and adds it to the open slot of each resolution; slots that are past are packed
//! into bits (`ring`). What has come is written to a journal each second, and twice a minute to the file of the day;
//! files of past days are rewritten coarser, with an index ([`history`]).

mod cell;
mod coding;
mod config;
mod exponential;
mod histogram;
pub mod history;
mod increase;
mod point;
mod query;
mod ring;
mod service;
pub mod set;

pub use cell::Cell;
pub use config::MetricsConfig;
pub use exponential::{Buckets, Exponential};
pub use histogram::{Explicit, Histogram};
pub use point::{Exemplar, Kind, Labels, MetricPoint, Temporality, Value};
pub use query::{Matcher, MetricName, Query, SeriesView, Stat};
pub use service::{Answer, Handle, Service, Stats};
