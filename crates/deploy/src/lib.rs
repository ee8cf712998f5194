//! Revisions and rollouts: how a folder becomes serving instances without a request being lost.
//!
//! A **revision** is immutable: an artifact (a copy of the folder, named by its digest), a manifest
//! and a number. A **deployment** is one attempt to make a revision serve; all of them are in the
//! history, the failed ones too.
//!
//! The life of a deployment:
//! 1. the folder is built, copied into `artifacts/<digest>` and given the next number;
//! 2. its instances start beside the old ones;
//! 3. when all are ready, traffic moves in one step and the revision is recorded as current;
//! 4. the old instances get no new requests, finish those they have, and stay for a while;
//! 5. if a new instance fails in that while, traffic moves back; otherwise the old ones stop.
//!
//! What happens at each step is decided by a pure machine ([`rollout::Fleet`], one per service) and
//! performed by [`Service`] through the trait [`Ground`], which the node implements. This crate
//! knows neither processes nor proxies.

pub mod artifact;
mod config;
mod error;
mod history;
mod manifest;
pub mod rollout;
mod service;

pub use config::{DeployConfig, ScaleConfig};
pub use error::Error;
pub use history::{Deployment, History, Kind, MIGRATION, Outcome, Revision};
pub use manifest::Manifest;
pub use service::{
    BoxFuture, Ground, Handle, InstanceNews, Progress, Request, Service, ServiceView, Source,
};
