//! Rows become columns, and columns rows again.

mod fold;
mod ids;
mod names;
mod read;
mod write;

pub(crate) use fold::{Gather, concat, fold, unfold, unfold_column, unfolded_bytes};
pub(crate) use ids::{fix_ids, loosen_ids};
pub(crate) use read::{Row, Texts, log_record, names_of, span_of};
pub(crate) use write::{LogColumns, SpanColumns};
