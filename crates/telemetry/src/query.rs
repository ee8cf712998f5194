//! The query language of logs and spans: `service:orders level>=warn "timed out" -path:/health`.
//!
//! Pure. A text becomes tokens ([`lexer`]), those an expression ([`parser`]), and that a [`Filter`] for logs or
//! for spans ([`compile`]), in which every test is tied to a column. [`eval`] runs it over columns. A mistake is
//! told with its place. Length, depth and number of tests are bounded, so that nobody's question can hold
//! up the node.

mod attribute;
mod compile;
mod eval;
mod filter;
mod lexer;
mod parser;
mod text;

pub use filter::Filter;

pub(crate) use eval::Columns;
pub(crate) use filter::Bounds;

use filter::{Cheap, Node, Test};

/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 4096;

/// A query that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at character {at})")]
pub struct QueryError {
    /// Where: the number of the character, from 1 on.
    pub at: usize,
    /// What is wrong there.
    pub message: String,
}

#[cfg(test)]
mod tests;
