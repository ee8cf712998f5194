//! The markers that end transactions: batches of one record that say how.
//!
//! The key is a version and a type, the value a version and the epoch of the coordinator. Markers of
//! other types belong to Kafka's own machinery and mean nothing to a reader of transactions.

use bytes::Bytes;

use crate::txn::{Outcome, Producer};

use super::{BatchBuilder, NewRecord, Options, Record, RecordsError};

const VERSION: [u8; 2] = [0, 0];
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// There is one coordinator and it never moves.
const COORDINATOR_EPOCH: i32 = 0;

/// A batch that ends a producer's transaction. `timestamp`: now, in milliseconds since 1970.
pub fn control_batch(producer: Producer, outcome: Outcome, timestamp: i64) -> Bytes {
    let kind = match outcome {
        Outcome::Abort => ABORT,
        Outcome::Commit => COMMIT,
    };
    let key = [VERSION, kind.to_be_bytes()].concat();
    let value = [&VERSION[..], &COORDINATOR_EPOCH.to_be_bytes()].concat();
    let mut batch = BatchBuilder::new(Options {
        producer: Some((producer, -1)),
        transactional: true,
        control: true,
        ..Options::default()
    });
    let record = NewRecord {
        timestamp,
        key: Some(&key),
        value: Some(&value),
        headers: &[],
    };
    let written = batch.push(&record).and_then(|()| batch.finish());
    written.expect("one record of ten bytes fits a batch")
}

/// What the record of a control batch says. None: nothing about a transaction.
pub fn outcome_of(record: &Record) -> Result<Option<Outcome>, RecordsError> {
    let key = record.key.as_deref().unwrap_or_default();
    let kind = key.get(2..4).ok_or(RecordsError::Truncated(key.len()))?;
    Ok(match i16::from_be_bytes([kind[0], kind[1]]) {
        ABORT => Some(Outcome::Abort),
        COMMIT => Some(Outcome::Commit),
        _ => None,
    })
}
