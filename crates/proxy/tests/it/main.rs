//! The proxy from outside: real sockets, real worker threads, and toy services that behave or
//! misbehave as each test needs.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests spawn toy services freely, measure real time and may panic"
)]

mod bodies;
mod cache;
mod connections;
mod differential;
mod failures;
mod headers;
mod http2;
mod lifecycle;
mod limits;
mod mesh;
mod policy;
mod resilience;
mod routing;
mod telemetry;
mod tls;
mod toys;
mod upgrade;
