//! Log records on disk: segments of JSON lines, written by one thread, searched by any.

pub(crate) mod query;
pub(crate) mod search;
pub(crate) mod segment;
pub(crate) mod writer;
