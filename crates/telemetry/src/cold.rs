//! Parquet files: written once, sorted by service and time, never changed.

mod file;
mod io;
mod name;
mod words;
mod write;

pub(crate) use file::{ColdFile, Extent};
pub(crate) use name::Name;
pub(crate) use write::write;

#[cfg(test)]
mod tests;
