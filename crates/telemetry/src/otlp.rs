//! OTLP: what services with an SDK send about themselves, and what is sent on to others.
//!
//! The life of a request: [`http`] or [`grpc`] takes its bytes within a bound for all requests
//! together; [`decode`] makes spans, log records and metric points of them, pure, with every limit
//! against hostile input and a count of what was refused or cut; an [`Intake`] takes them or says that
//! it has no room. What was refused is answered as a partial success, with the reason.
//!
//! Who sends is told by the mesh, where a service comes through its own door: then what it claims to
//! be does not count. On the open ports everyone is who they say.

mod attributes;
mod batch;
mod config;
pub mod decode;
mod door;
pub mod grpc;
pub mod http;
mod intake;
pub mod json;
mod logs;
mod message;
mod metrics;
mod notes;
mod resource;
mod traces;
mod wire;

pub use batch::{RecordBatch, SpanBatch};
pub use config::{ExportUrl, PortConfig};
pub use decode::{Decoded, Sender};
pub use door::{Door, Refusal, Signal};
pub use intake::{Intake, Taken};
pub use notes::{Note, Notes};
pub use wire::Malformed;

#[cfg(test)]
pub(crate) mod tests;
