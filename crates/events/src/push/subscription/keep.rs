//! What came of records: answers to publish, dead letters, and how far all of it is kept.
//!
//! Progress is kept together with what came of it, in one transaction of the bus: both hold, or neither
//! does. What the bus refuses for good is set aside, or it would hold up everything else.

use std::sync::Arc;

use atoll_base::Timestamp;

use super::{
    Action, BusError, Command, Done, Ending, KEEP_EVERY, Mark, NewRecord, Progress, Record,
    Subscription, TRY_AGAIN, UNKEPT_MAX, Unkept, grave, letter, monotonic,
};

impl Subscription {
    /// What is given up becomes a dead letter.
    pub(super) fn bury(
        &mut self,
        actions: &[Action],
        records: &[Record],
        reason: &str,
        ending: &Ending,
        trace: &str,
    ) {
        for action in actions {
            let Action::Bury {
                partition,
                offset,
                attempts,
            } = action
            else {
                continue;
            };
            let dead = (*partition, *offset);
            let own = |record: &&Record| (record.place.partition, record.place.offset) == dead;
            let Some(record) = records.iter().find(own) else {
                continue;
            };
            let death = grave::Death {
                service: &self.service,
                path: self.config.path.as_deref().unwrap_or_default(),
                attempts: *attempts,
                reason,
                ending,
                trace,
                time: Timestamp::now(),
            };
            self.unkept.push(grave::letter(record, &death));
            self.buried += 1;
        }
    }

    /// What the service has answered becomes a record, if that is wanted.
    pub(super) fn publish_answer(
        &mut self,
        records: &[Record],
        ending: &Ending,
        facts: &letter::Facts,
    ) -> Option<Result<(), BusError>> {
        let topic = self.config.output.as_deref()?;
        let (Ending::Answer(answer), Some(record)) = (ending, records.first()) else {
            return None;
        };
        let output = letter::output(topic, record, answer, facts)?;
        let checked = output.map_err(BusError::Refused).and_then(|output| {
            self.bus.check(&output)?;
            self.unkept.push(output);
            Ok(())
        });
        Some(checked)
    }

    pub(super) fn hold(&mut self) {
        if self.leaving {
            return;
        }
        let full = self.unkept.len() + self.ends.len() > UNKEPT_MAX;
        if full != self.held {
            self.held = full;
            self.apply(Command::Hold(full));
        }
    }

    /// Keeps all that is done, if it is time.
    pub(super) fn start_settle(&mut self) {
        let now = monotonic();
        let patient = (self.unkept.is_empty() && self.ends.is_empty()) || self.unkeepable;
        let early = patient && self.settle_after > now;
        if self.settling || early || !self.has_news() {
            return;
        }
        self.settle_after = now + KEEP_EVERY;
        let partitions: Vec<i32> = self.machine.partitions().collect();
        let done = partitions.into_iter().filter_map(|partition| {
            let (offset, metadata) = self.machine.progress(partition)?;
            Some(Progress {
                topic: Arc::clone(&self.topic),
                partition,
                mark: Mark { offset, metadata },
            })
        });
        let mut unkept = Unkept {
            progress: done.collect(),
            records: std::mem::take(&mut self.unkept),
            ends: std::mem::take(&mut self.ends),
        };
        self.settling = true;
        let (bus, group) = (Arc::clone(&self.bus), self.group.clone());
        let jobs = self.jobs.clone();
        self.work.push(Box::pin(async move {
            // Jobs first: what is known to be done does no harm when it is delivered again.
            if let (Some(jobs), false) = (jobs, unkept.ends.is_empty()) {
                if let Err(error) = jobs.keep(&unkept.ends).await {
                    let error = BusError::Unavailable(error.to_string());
                    return Done::Settled(unkept, Err(error));
                }
                unkept.ends.clear();
            }
            let (progress, records) = (unkept.progress.clone(), unkept.records.clone());
            if progress.is_empty() && records.is_empty() {
                return Done::Settled(unkept, Ok(()));
            }
            let again = (progress.clone(), records.clone());
            let settled = match bus.settle(&group, progress, records).await {
                // Somebody has deleted the topic of the dead letters.
                Err(BusError::NoTopic(topic)) if topic.starts_with("dead.") => {
                    match bus.ensure(&topic).await {
                        Ok(()) => bus.settle(&group, again.0, again.1).await,
                        Err(error) => Err(error),
                    }
                }
                settled => settled,
            };
            Done::Settled(unkept, settled)
        }));
    }

    pub(super) fn has_news(&self) -> bool {
        self.machine.has_progress() || !self.ends.is_empty()
    }

    pub(super) fn settled(&mut self, mut unkept: Unkept, result: Result<(), BusError>) {
        self.settling = false;
        self.unkeepable = result.is_err();
        if let Err(error) = result {
            self.trouble(format!("what is done cannot be kept: {error}"));
            for own in unkept.progress {
                self.machine.not_kept(own.partition);
            }
            if let BusError::Refused(_) = error {
                self.set_aside(&mut unkept.records);
            }
            unkept.records.append(&mut self.unkept);
            unkept.ends.append(&mut self.ends);
            (self.unkept, self.ends) = (unkept.records, unkept.ends);
            self.settle_after = monotonic() + TRY_AGAIN;
        }
        self.hold();
    }

    /// What the bus will never take must not hold up all the rest.
    fn set_aside(&mut self, records: &mut Vec<NewRecord>) {
        records.retain(|record| match self.bus.check(record) {
            Err(BusError::Refused(why)) => {
                let key = record.key.as_deref().map(String::from_utf8_lossy);
                tracing::error!(service = %self.service, topic = %record.topic, ?key, why, "a record is lost: it was checked before, and is refused now");
                false
            }
            _ => true,
        });
    }
}
