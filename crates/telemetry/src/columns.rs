//! Rows become columns, and columns rows again.

mod fold;
mod names;
mod read;
mod write;

pub(crate) use fold::{Gather, concat, fold, unfold, unfold_column, unfolded_bytes};
pub(crate) use read::{Row, Texts, log_record, names_of, span_of};
pub(crate) use write::{LogColumns, SpanColumns};
