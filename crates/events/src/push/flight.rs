//! One delivery under way: from offsets to the answer.
//!
//! Records that are not in memory any more are read again. For those that are jobs, the jobs are
//! asked first: what is done or cancelled is not sent, and what is cancelled meanwhile is dropped.

use std::sync::Arc;

use atoll_base::ServiceName;

use super::{carry, letter};
use crate::bus::{Bus, BusError};
use crate::config::SubscribeConfig;
use crate::courier::{Courier, Ending};
use crate::delivery::Flight;
use crate::jobs::{Entered, Jobs, Pass};
use crate::record::Record;

/// A delivery that begins.
pub(super) struct Started {
    pub(super) flight: Flight,
    pub(super) partition: i32,
    /// Offsets, and the records as far as they are in memory.
    pub(super) records: Vec<(i64, Option<Record>)>,
    pub(super) attempt: u32,
    pub(super) dice: u64,
    pub(super) service: ServiceName,
    pub(super) topic: Arc<str>,
    pub(super) config: Arc<SubscribeConfig>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) courier: Arc<dyn Courier>,
    pub(super) jobs: Option<Jobs>,
}

/// A delivery that has ended.
pub(super) struct Answered {
    pub(super) flight: Flight,
    pub(super) records: Vec<Record>,
    pub(super) ending: Ending,
    pub(super) letter: letter::Facts,
    /// Records that are not in the topic any more.
    pub(super) gone: bool,
    /// What of the records are jobs.
    pub(super) passes: Vec<Pass>,
    /// They are jobs that nobody wants any more, or that are done.
    pub(super) skipped: bool,
}

impl Started {
    /// Sends the records, and waits for the answer.
    pub(super) async fn carry(mut self) -> Answered {
        let mut answered = Answered {
            flight: self.flight,
            records: Vec::with_capacity(self.records.len()),
            ending: Ending::Unsent("nothing is left to send".to_owned()),
            letter: letter::Facts::default(),
            gone: false,
            passes: Vec::new(),
            skipped: false,
        };
        if let Err(error) = self.gather(&mut answered).await {
            answered.ending = Ending::Unsent(format!("the topic cannot be read: {error}"));
            return answered;
        }
        let entered = match &self.jobs {
            Some(jobs) => jobs.enter(&self.service, &answered.records).await,
            None => Ok(Entered::default()),
        };
        match entered {
            Ok(entered) => self.send(&mut answered, entered).await,
            Err(error) => answered.ending = Ending::Unsent(error),
        }
        answered
    }

    async fn gather(&mut self, answered: &mut Answered) -> Result<(), BusError> {
        for (offset, cached) in std::mem::take(&mut self.records) {
            let record = match cached {
                Some(record) => Some(record),
                None => self.again(offset).await?,
            };
            answered.gone |= record.is_none();
            answered.records.extend(record);
        }
        Ok(())
    }

    async fn send(&self, answered: &mut Answered, entered: Entered) {
        let going = entered.going(&answered.records);
        let (request, letter) =
            letter::write(&self.config, &self.service, &going, self.attempt, self.dice);
        answered.letter = letter;
        let mut ending = None;
        if !going.is_empty() {
            let limit = self.config.timeout.0;
            let carried = carry(&*self.courier, &self.service, request, limit);
            ending = entered.unless_cancelled(&going, carried).await;
        }
        answered.skipped = ending.is_none() && !answered.records.is_empty();
        if let Some(ending) = ending {
            answered.ending = ending;
        }
        answered.passes = entered.passes;
    }

    /// A record that is not in memory any more; none if it is not in the topic either.
    async fn again(&self, offset: i64) -> Result<Option<Record>, BusError> {
        let read = self.bus.read(&self.topic, self.partition, offset, 1).await;
        match read {
            Ok(chunk) => {
                let mut records = chunk.records.into_iter();
                Ok(records.find(|own| own.place.offset == offset))
            }
            Err(BusError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
