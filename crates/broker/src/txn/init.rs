//! Producers that begin, begin again, or push another one out.

use std::time::Instant;

use super::{Action, Init, Outcome, Producer, State, Txn, TxnError};

/// The last epoch that is given to a producer. One more is kept for fencing it.
const EPOCH_LAST: i16 = i16::MAX - 1;

impl Txn {
    pub(super) fn init(
        &mut self,
        init: &Init,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<Producer, TxnError> {
        if init.timeout.as_millis() == 0 || init.timeout > self.limits.timeout_max {
            return Err(TxnError::InvalidTransactionTimeout(init.timeout));
        }
        let producer = match (self.held.state, self.held.producer) {
            (State::PrepareCommit | State::PrepareAbort | State::Dead, _) => {
                return Err(TxnError::ConcurrentTransactions);
            }
            (_, None) => Producer {
                id: init.fresh_id,
                epoch: 0,
            },
            (State::Ongoing, Some(current)) => {
                let stale = init.given.filter(|given| *given != current);
                if let Some(stale) = stale {
                    return Err(fenced(stale, current));
                }
                self.fence(init.given, actions);
                return Err(TxnError::ConcurrentTransactions);
            }
            (_, Some(current)) => self.succeed(current, init)?,
        };
        self.held.producer = Some(producer);
        self.held.timeout = init.timeout;
        self.held.state = State::Empty;
        self.since = now;
        actions.push(Action::Persist(self.held.clone()));
        Ok(producer)
    }

    /// Who follows `current` while no transaction is open.
    fn succeed(&mut self, current: Producer, init: &Init) -> Result<Producer, TxnError> {
        if let Some(given) = init.given.filter(|given| *given != current) {
            // The answer to an earlier request of the same producer was lost: nobody else has asked
            // since, or its former self would be forgotten.
            return if self.held.former == Some(given) {
                Ok(current)
            } else {
                Err(fenced(given, current))
            };
        }
        self.held.former = init.given;
        if current.epoch >= EPOCH_LAST {
            return Ok(Producer {
                id: init.fresh_id,
                epoch: 0,
            });
        }
        Ok(Producer {
            epoch: current.epoch + 1,
            ..current
        })
    }

    /// Ongoing -> PrepareAbort, in an epoch that was given to nobody: whoever still writes is
    /// refused. A producer that asked for it itself is recognized when it asks again.
    pub(super) fn fence(&mut self, by: Option<Producer>, actions: &mut Vec<Action>) {
        let Some(producer) = &mut self.held.producer else {
            return;
        };
        producer.epoch = producer.epoch.saturating_add(1);
        let may_be_given = producer.epoch <= EPOCH_LAST;
        self.held.former = by.filter(|_| may_be_given);
        self.decide(Outcome::Abort, actions);
    }
}

fn fenced(given: Producer, current: Producer) -> TxnError {
    TxnError::ProducerFenced {
        given: given.epoch,
        current: current.epoch,
    }
}
