//! What a partition does about its old records, now and then: those that are too old or too many go,
//! and, where its topic is compacted, those that a later record of their key replaces.
//!
//! What goes is decided in [`crate::compaction`]; here it is read, and files are written anew. That
//! takes long, so it has a thread of its own, and ends early when the node does: each file is as before
//! or as after. Records are looked for keys up to the last one that lasts; with `durability =
//! "memory"` only in finished files, because a power failure may take back what came later.

use std::collections::HashSet;
use std::sync::Arc;

use atoll_base::{Tasks, Timestamp};
use atoll_store::log::{Header, Rewrite};
use kafka_protocol::error::ResponseError;

use super::{Partition, SCAN_BYTES, not_ready, storage};
use crate::Error;
use crate::compaction::horizon::{Cleanings, apart};
use crate::compaction::upkeep::{Bounds, Facts, Upkeep};
use crate::compaction::{Aborts, Found, KEYS_MAX, Known, Plan, Survey};
use crate::config::{Durability, TopicConfig};
use crate::journal::Change;

impl Partition {
    /// Deletes what is too old or too much at `now`, and forgets producers that were idle too long.
    /// May block.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn retain(&self, now: Timestamp) -> Result<(), Error> {
        if let Some(state) = self.lock().as_mut() {
            state.producers.expire(now);
        }
        let config = self.config();
        if !config.cleanup.deletes() {
            return Ok(());
        }
        let most = config.retention_size.map(|size| size.0);
        let age = Some(config.retention.0);
        self.log.retain(millis(now), age, most).map_err(storage)?;
        Ok(())
    }

    /// Compacts what is worth it at `now`. Takes long.
    ///
    /// # Errors
    /// When it fails, the first time: it is tried again later, and told once.
    pub(crate) async fn compact(
        self: &Arc<Self>,
        now: Timestamp,
        tasks: &Tasks,
    ) -> Result<(), Error> {
        let config = self.config();
        if !config.cleanup.compacts() {
            return Ok(());
        }
        let mut upkeep = self.upkeep.lock().await;
        match self.clean(&mut upkeep, &config, now, tasks).await {
            Err(error) if upkeep.failed(now) => Err(error),
            Err(error) => {
                let (topic, partition) = (&self.topic, self.index);
                tracing::debug!(%topic, partition, %error, "not compacted again");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn clean(
        self: &Arc<Self>,
        upkeep: &mut Upkeep,
        config: &TopicConfig,
        now: Timestamp,
        tasks: &Tasks,
    ) -> Result<(), Error> {
        self.ripen(upkeep, config, now).await?;
        self.ready().await?;
        if upkeep.cleanings.is_none() {
            let kept = self.journal.cleanings(self.topic_id, self.index).await?;
            upkeep.cleanings = Some(Cleanings::restore(kept, self.log.synced_offset()));
        }
        let stable = self.ends()?.last_stable;
        let Some(bounds) = self.due(upkeep, config, stable, now) else {
            return Ok(());
        };
        self.write_snapshot(upkeep).await?;
        let known = self.known(config, upkeep, &bounds, now)?;
        let survey = Survey::new(bounds.from, KEYS_MAX, self.aborts()?);
        // What is known of producers counts batches that a crash could still take back.
        let end = self.log.end_offset();
        tokio::select! {
            durable = self.durable_until(end) => durable?,
            () = tasks.stopping() => return Ok(()),
        }
        let (own, stopping, limits) = (Arc::clone(self), tasks.clone(), bounds.clone());
        let run = move || own.run(&limits, survey, known, &stopping);
        let run = tokio::task::spawn_blocking(run).await;
        let Some(found) = run.unwrap_or_else(|panic| Err(broken(&panic)))? else {
            // The node stops.
            return Ok(());
        };
        upkeep.done(&bounds, &found, now);
        self.forget(upkeep, &found.emptied).await?;
        if bounds.chosen.is_none() {
            let until = found.end.min(bounds.finished);
            self.cleaned(upkeep, config, until, now).await?;
        }
        Ok(())
    }

    /// Of these aborted transactions nothing is left: nobody has to be told of them. Their marks may go
    /// once that is on disk.
    async fn forget(&self, upkeep: &mut Upkeep, emptied: &HashSet<i64>) -> Result<(), Error> {
        if emptied.is_empty() {
            return Ok(());
        }
        {
            let mut state = self.lock();
            let state = state.as_mut().ok_or_else(not_ready)?;
            state.open.forget(emptied);
            state.forgotten += 1;
        }
        // Until there is a snapshot without them no mark may go.
        upkeep.snapshot = i64::MIN;
        self.write_snapshot(upkeep).await
    }

    /// From now on tombstones before `until` get older.
    async fn cleaned(
        &self,
        upkeep: &mut Upkeep,
        config: &TopicConfig,
        until: i64,
        now: Timestamp,
    ) -> Result<(), Error> {
        // The run was long, and up to its end somebody could read what it took.
        let at = now.max(Timestamp::now());
        let cleanings = upkeep.cleanings.get_or_insert_default();
        if cleanings.note(until, at, config.delete_retention.0) {
            let change = Change::Cleanings {
                topic: self.topic_id,
                partition: self.index,
                kept: cleanings.list().to_vec(),
            };
            self.journal.write(vec![change]).await?;
        }
        Ok(())
    }

    /// Finishes the last file if it is old enough.
    async fn ripen(
        &self,
        upkeep: &mut Upkeep,
        config: &TopicConfig,
        now: Timestamp,
    ) -> Result<(), Error> {
        let last = self.log.segments().last().map(|file| file.base);
        let last = last.filter(|base| *base < self.log.durable_offset());
        let begun = || {
            let first = last.and_then(|base| {
                let from = base.max(self.log.start_offset());
                tokio::task::block_in_place(|| self.log.read(from, 1, i64::MAX)).ok()
            });
            let first = first.and_then(|read| Header::parse(&read.batches).ok());
            first.map_or(now, |first| {
                Timestamp::from_micros(first.max_timestamp.saturating_mul(1000))
            })
        };
        if upkeep.is_ripe(last, begun, config.segment_age.0, now) {
            self.log.seal().await.map_err(storage)?;
        }
        Ok(())
    }

    fn due(
        &self,
        upkeep: &Upkeep,
        config: &TopicConfig,
        stable: i64,
        now: Timestamp,
    ) -> Option<Bounds> {
        let files = self.log.segments();
        let durable = self.log.durable_offset();
        let lasting = match config.durability {
            // Some may be from when it was not.
            Durability::Synced => self.log.synced_offset(),
            Durability::Memory => files.last()?.base,
        };
        let lag = config.compaction_lag.0;
        let youngest = if lag.is_zero() {
            i64::MAX
        } else {
            millis(now.before(lag))
        };
        let facts = Facts {
            files: &files,
            until: stable.min(lasting),
            durable,
            youngest,
            horizon: horizon(upkeep, config, now),
            dirty_percent: config.compaction_dirty,
            apart: apart(config.delete_retention.0),
        };
        upkeep.due(&facts, now)
    }

    /// What is known of producers and transactions is on disk up to here: marks of before are not
    /// needed to make sense of it. While records come without a pause it stays at what it was.
    async fn write_snapshot(&self, upkeep: &mut Upkeep) -> Result<(), Error> {
        if let Some((next, change)) = self.snapshot()? {
            self.journal.write(vec![change]).await?;
            upkeep.snapshot = next;
        }
        Ok(())
    }

    fn known(
        &self,
        config: &TopicConfig,
        upkeep: &Upkeep,
        bounds: &Bounds,
        now: Timestamp,
    ) -> Result<Known, Error> {
        let state = self.lock();
        let state = state.as_ref().ok_or_else(not_ready)?;
        Ok(Known {
            producers: state.producers.last_batches().collect(),
            snapshot: upkeep.snapshot,
            finished: bounds.finished,
            horizon: match bounds.chosen {
                None => horizon(upkeep, config, now),
                Some(_) => upkeep.blocked(horizon(upkeep, config, now)),
            },
            files: bounds.files.clone(),
            partial: bounds.chosen.is_some(),
        })
    }

    fn aborts(&self) -> Result<Aborts, Error> {
        let state = self.lock();
        let state = state.as_ref().ok_or_else(not_ready)?;
        Ok(Aborts::new(state.open.aborted_spans()))
    }

    /// What was found; none if the node stops. Blocks, long.
    fn run(
        &self,
        bounds: &Bounds,
        mut survey: Survey,
        known: Known,
        tasks: &Tasks,
    ) -> Result<Option<Found>, Error> {
        self.look(bounds, &mut survey, tasks)?;
        let mut plan = Plan::new(survey, known);
        let before = self.log.bytes();
        let mut stopped = false;
        let mut rewrite = |batch: &[u8]| {
            stopped = stopped || tasks.is_stopping();
            if stopped {
                return Rewrite::Stop;
            }
            plan.decide(batch)
        };
        // A file that was finished since was not looked at.
        let chosen = |base: i64| match &bounds.chosen {
            Some(chosen) => chosen.contains(&base),
            None => base < bounds.finished,
        };
        let compacted = self.log.compact_some(&chosen, &mut rewrite);
        compacted.map_err(storage)?;
        let found = plan.finish();
        let (topic, partition) = (&self.topic, self.index);
        if let Some((first, batches)) = found.unreadable {
            tracing::warn!(%topic, partition, batches, first, "batches cannot be read, and stay as they are");
        }
        let (bytes, end) = (self.log.bytes(), found.end);
        tracing::debug!(%topic, partition, before, bytes, end, "compacted");
        Ok((!stopped).then_some(found))
    }

    /// Looks for keys.
    fn look(&self, bounds: &Bounds, survey: &mut Survey, tasks: &Tasks) -> Result<(), Error> {
        let mut at = bounds.from.max(self.log.start_offset());
        while at < bounds.until && !tasks.is_stopping() {
            let read = self.log.read(at, SCAN_BYTES, bounds.until);
            let read = read.map_err(storage)?;
            if read.next <= at {
                break;
            }
            let mut rest = read.batches;
            while let Ok(header) = Header::parse(&rest) {
                let batch = rest.split_to(header.bytes.min(rest.len()));
                if !survey.note(&header, &batch) {
                    return Ok(());
                }
            }
            at = read.next;
            survey.skip(at);
        }
        Ok(())
    }
}

/// Tombstones before this offset may go.
fn horizon(upkeep: &Upkeep, config: &TopicConfig, now: Timestamp) -> i64 {
    let known = upkeep.cleanings.as_ref();
    known.map_or(i64::MIN, |own| own.horizon(now, config.delete_retention.0))
}

fn millis(time: Timestamp) -> i64 {
    time.as_micros() / 1000
}

fn broken(panic: &tokio::task::JoinError) -> Error {
    Error::Refused(ResponseError::UnknownServerError, panic.to_string())
}
