//! The door of the console: who may come in, what they may do, what they have done, and the pages.
//!
//! The admin API itself crosses all parts of the platform, so it lives with the node; here is what
//! stands before it. A request comes by one of two ways: over TCP with a token (programs) or a session
//! (browsers), or over the Unix socket, which the folder's owner alone can open. Either way it
//! becomes a [`Who`] with a [`Role`]; the role is held against what is asked; and every change is
//! written down when it has been answered.
//!
//! Decided: tokens are 256 random bits, kept as a hash. Browsers get a session in a cookie that scripts
//! cannot read, and prove each change by a header that other sites cannot send. Refused: passwords
//! and users of our own, which would be one more place to keep people in.

mod audit;
pub mod config;
mod door;
mod error;
mod pages;
mod problem;
mod role;
mod secret;
mod service;
mod sessions;
#[cfg(test)]
mod tests;
mod tokens;

pub use audit::{AuditEntry, AuditPage, Note};
pub use config::ConsoleConfig;
pub use door::Who;
pub use error::Error;
pub use problem::answer as answer_problem;
pub use role::Role;
pub use service::{Console, Document, Link, MIGRATION, MadeToken, NewToken};
pub use tokens::TokenView;
