//! What a coordinator is told.

use std::time::Duration;

use crate::Ticket;

use super::Outcome;

/// Something that happened to a transactional id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// An InitProducerId request: answered at once with [`super::Action::Initialized`].
    Init(Init),
    /// An AddPartitionsToTxn request: answered at once with [`super::Action::Done`].
    AddPartitions(Ticket, Producer, Vec<Partition>),
    /// An AddOffsetsToTxn request: answered at once with [`super::Action::Done`].
    AddGroup(Ticket, Producer, String),
    /// An EndTxn request: answered with [`super::Action::Done`] when everything is carried out.
    End(Ticket, Producer, Outcome),
    /// The markers of this producer's transaction are durable, and its offsets applied or dropped.
    /// A partition or group that was deleted meanwhile counts as done.
    CarriedOut(Producer),
    /// The client that waited under this ticket has closed its connection. The ticket will not be
    /// answered any more.
    Gone(Ticket),
    /// Time has passed: [`super::Txn::next_deadline`] is reached.
    Tick,
}

/// An InitProducerId request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Init {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// How long its transactions may take.
    pub timeout: Duration,
    /// Who it was until now, if it wants to go on after an error (KIP-360).
    pub given: Option<Producer>,
    /// A producer id that was never used, in case one is needed.
    pub fresh_id: i64,
}

/// A producer of a certain time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// How often the id changed hands.
    pub epoch: i16,
}

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition {
    /// The topic's name.
    pub topic: String,
    /// Which of its partitions.
    pub index: i32,
}
