//! What every part of Atoll stands on, and nothing else: names and ids, time, quantities with
//! units, tasks that end in order, and the codes of the errors that a person can act on.
//!
//! Nothing here knows what a service does. A type belongs in `base` only when two subsystems that
//! may not import each other must agree on it.

pub mod clock;
pub mod code;
pub mod hash;
pub mod id;
pub mod quantity;
pub mod task;

pub use clock::Timestamp;
pub use code::{Code, Coded};
pub use id::{InstanceId, RevisionNumber, ServiceName, SpanId, TraceId};
pub use quantity::{ByteCount, HumanDuration, Percent};
pub use task::Tasks;
