//! What a coordinator answers.

use std::time::Duration;

use thiserror::Error;

use crate::Ticket;

use super::{Partition, Producer, Snapshot, State};

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Its records and offsets count.
    Commit,
    /// Its records and offsets are to be dropped.
    Abort,
}

/// Something to be done for a transactional id, in the order given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Store this instead of what was stored before. What follows waits until it is durable.
    Persist(Snapshot),
    /// Store this some time, but before anything later. Nothing waits for it.
    Keep(Snapshot),
    /// Append a marker of this producer to each partition. Repeating it does no harm.
    WriteMarkers(Producer, Outcome, Vec<Partition>),
    /// Commit: the offsets that this producer committed in its transaction for these groups hold
    /// from now on. Abort: drop them. When the markers are durable too, say
    /// [`super::Command::CarriedOut`].
    ApplyOffsets(Producer, Outcome, Vec<String>),
    /// Answer an InitProducerId request.
    Initialized(Ticket, Result<Producer, TxnError>),
    /// Answer another request.
    Done(Ticket, Result<(), TxnError>),
    /// Delete what is stored, and drop the machine.
    Forget,
}

/// What a producer did wrong or must do next. Each is the error of the same name in Kafka's protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TxnError {
    /// It should ask again soon: a transaction is just ending.
    #[error("the last transaction is not at its end yet")]
    ConcurrentTransactions,
    /// What it asks for makes no sense now.
    #[error("this cannot be done to a transaction that is {0:?}")]
    InvalidTxnState(State),
    /// Another producer has taken over, or its transaction took too long. In older versions of
    /// requests and in Produce: `INVALID_PRODUCER_EPOCH`.
    #[error("epoch {given} is over, {current} holds")]
    ProducerFenced {
        /// What it said.
        given: i16,
        /// What holds.
        current: i16,
    },
    /// The transactional id has another producer id.
    #[error("producer {0} does not belong to this transactional id")]
    InvalidProducerIdMapping(i64),
    /// Its transactions may take no time, or too long.
    #[error("a transaction may not take {0:?}")]
    InvalidTransactionTimeout(Duration),
    /// Too many groups in one transaction.
    #[error("a transaction commits offsets of at most {0} groups")]
    PolicyViolation(usize),
}
