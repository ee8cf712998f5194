//! Keeps what is remembered of clients across publications: a deployment must not hand everybody a
//! fresh allowance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Table;

/// The tables of all limits, by what they limit.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<String, Arc<Table>>>);

impl Registry {
    /// The table of a limit; a new one if nobody uses it.
    pub(crate) fn table(&self, key: &str, make: impl FnOnce() -> Table) -> Arc<Table> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What no snapshot uses any more is forgotten when the next one comes.
        if !tables.contains_key(key) {
            tables.retain(|_, table| Arc::strong_count(table) > 1);
        }
        let table = tables
            .entry(key.to_owned())
            .or_insert_with(|| Arc::new(make()));
        Arc::clone(table)
    }
}
