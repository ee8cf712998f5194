//! Events as services have them without a client of Kafka: published and read over HTTP, pushed to
//! them, as jobs, and out of their own databases.
//!
//! All of it stands on a [`Bus`], which is the embedded broker or a real Kafka: nothing here knows
//! which. What decides is pure and is told what happened and when; the rest carries bytes.

pub mod bus;
pub mod cloudevents;
pub mod config;
pub mod courier;
pub mod dead;
pub mod delivery;
pub mod http;
pub mod jobs;
pub mod kafka;
pub mod outbox;
pub mod push;
pub mod record;
pub mod registry;
pub mod schema;

pub use bus::{Bus, BusError};
pub use config::{OutboxConfig, PublishConfig, SubscribeConfig};
pub use courier::Courier;
pub use jobs::Jobs;
pub use outbox::Outboxes;
pub use push::Pushes;
pub use record::{NewRecord, Place, Record};
pub use registry::Registry;
