//! The data plane of Atoll: the *edge*, which lets requests in from outside, and the *mesh*,
//! through which services call each other. Both are the same HTTP/1.1 proxy.
//!
//! **The life of a request.** A worker thread accepts the connection on a listener of its own,
//! reads the head, and admits it: strict parsing ([`http`]), one normal form of the path
//! ([`path`]), a route or a mesh address ([`route`]), a trace ([`trace`]). Then the exchange leases
//! an endpoint ([`cluster`]), takes a kept connection to it or makes one, writes the
//! request with one system call where it can, and passes the answer on while it arrives. What
//! happened goes into the thread's own batch of spans ([`span`]) and counts ([`stats`]).
//!
//! **What decides its form** is the cost per request, which was measured (design.md, "The data
//! plane"): no lock, no hop between threads, no allocation and no timer per request. Hence a
//! thread with its own event loop, pools and buffers for each core, and one immutable
//! [`Snapshot`] that is replaced as a whole.
//!
//! **What a deployment relies on**: an endpoint that is withdrawn and has nothing in flight gets
//! no request any more ([`Endpoint::drained`]); whoever stops it then loses none.
//!
//! Absent on purpose: buffering of bodies (everything streams, with backpressure), retries of
//! requests that may have had an effect, knobs that nobody should turn ([`limits`]).

mod accept;
mod access;
mod admit;
mod answer;
pub mod auth;
mod balance;
mod buffer;
pub mod cache;
mod clock;
mod clockwork;
pub mod cluster;
mod compress;
pub mod config;
mod connection;
pub mod error;
mod exchange;
mod gate;
mod h2;
pub mod http;
pub mod limits;
mod listen;
mod local;
pub mod mesh;
pub mod meter;
mod occupant;
mod origin;
pub mod path;
mod policy;
mod pool;
pub mod rate;
mod recorder;
pub mod resilience;
pub mod route;
pub mod service;
pub mod span;
pub mod stats;
pub mod tls;
pub mod trace;
mod transport;
mod tunnel;
mod wire;
mod worker;

pub use self::access::{AccessLogConfig, LogFormat};
pub use self::admit::TOPIC_FIELD;
pub use self::cluster::{Cluster, Dependency, Endpoint, Protocol, Snapshot, mesh_address};
pub use self::config::{Config, EdgeConfig, MeshConfig, RouteConfig};
pub use self::error::Error;
pub use self::limits::DEFAULT_RESPONSE_TIMEOUT;
pub use self::mesh::{Callers, Denials, DenyConfig};
pub use self::policy::PolicyError;
pub use self::route::{
    Conflict, Lookup, Match, PatternError, RouteError, RouteTable, check_host, check_method,
    check_pattern, conflicts,
};
pub use self::service::{Handle, OpenBreaker, Resilience, Service};
pub use self::span::{Blame, ErrorKind, Side, SpanBatch, SpanRef, SpanSink};
pub use self::stats::{ServiceStats, ServiceTally};
