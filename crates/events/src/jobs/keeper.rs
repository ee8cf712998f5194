//! What is done about jobs in the background: their records are published, and old ones go.
//!
//! One task publishes, in the order in which jobs were asked for, and only what is not known to be
//! there. After an error or a crash some may be published twice; their jobs run once all the same.

use std::sync::atomic::Ordering;
use std::time::Duration;

use atoll_base::Timestamp;
use uuid::Uuid;

use super::machine::Command;
use super::{Jobs, header, table};
use crate::bus::BusError;
use crate::record::{NewRecord, Place};

/// About so much is published at once.
const PUBLISH_BYTES: usize = 4 << 20;
/// What fails is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Old jobs are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

type Unpublished = (Uuid, u32, NewRecord);

impl Jobs {
    /// Publishes and cleans up, for ever.
    pub(super) async fn keep_house(&self) {
        let mut swept = None;
        loop {
            let now = tokio::time::Instant::now();
            if swept.is_none_or(|last| now - last >= SWEEP_EVERY) {
                swept = Some(now);
                if let Err(error) = self.sweep().await {
                    tracing::warn!(%error, "old jobs cannot be removed");
                }
            }
            let wait = match self.publish().await {
                Ok(0) => SWEEP_EVERY,
                // There may be more.
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(%error, "jobs wait to be published");
                    TRY_AGAIN
                }
            };
            // Work that comes meanwhile ends the wait at once.
            let _ = tokio::time::timeout(wait, self.0.work.notified()).await;
        }
    }

    /// Publishes some of what waits for it; tells how many are known to be there now.
    async fn publish(&self) -> Result<usize, String> {
        let read = self.0.sql.call(|t| table::unpublished(t, PUBLISH_BYTES));
        let mut waiting = read.await.map_err(|error| error.to_string())?;
        if waiting.is_empty() {
            return Ok(0);
        }
        for (id, run, record) in &mut waiting {
            record.headers.push(header(*id, *run));
        }
        let records = waiting.iter().map(|(.., record)| record.clone());
        let outcomes = match self.0.bus.publish(records.collect()).await {
            Ok(places) => waiting.iter().zip(places).map(published).collect(),
            Err(BusError::Unavailable(error)) => return Err(error),
            // One of them is refused; the others have nothing to do with it.
            Err(_) => self.publish_singly(waiting).await?,
        };
        let count = outcomes.len();
        let now = Timestamp::now();
        let kept = self.0.sql.call(move |t| {
            for (id, command) in outcomes {
                table::change(t, id, |_| true, command, now)?;
            }
            Ok(())
        });
        kept.await.map_err(|error| error.to_string())?;
        Ok(count)
    }

    async fn publish_singly(
        &self,
        waiting: Vec<Unpublished>,
    ) -> Result<Vec<(Uuid, Command)>, String> {
        let mut outcomes = Vec::new();
        for own in waiting {
            let done = match self.0.bus.publish(vec![own.2.clone()]).await {
                Ok(places) => places
                    .into_iter()
                    .map(|place| published((&own, place)))
                    .next(),
                Err(BusError::Unavailable(error)) if outcomes.is_empty() => return Err(error),
                Err(BusError::Unavailable(_)) => break,
                Err(error) => {
                    let reason = format!("it cannot be published: {error}");
                    Some((own.0, Command::Lost(reason)))
                }
            };
            outcomes.extend(done);
        }
        Ok(outcomes)
    }

    /// Old jobs go, and those whose records were deleted before they ran are told to have failed.
    async fn sweep(&self) -> Result<(), String> {
        let waiting = self.0.sql.call(table::waiting).await;
        for (queue, partition) in waiting.map_err(|error| error.to_string())? {
            let start = match self.0.bus.ends(&queue, partition).await {
                Ok(ends) => ends.start,
                Err(BusError::NoTopic(_) | BusError::NoPartition { .. }) => i64::MAX,
                Err(error) => return Err(error.to_string()),
            };
            self.lose(queue, partition, start).await?;
        }
        let before = Timestamp::now().before(self.0.limits.kept);
        let finished_max = self.0.limits.finished_max;
        let counted = self.0.sql.call(move |t| {
            table::forget(t, before, finished_max)?;
            table::open(t)
        });
        let open = counted.await.map_err(|error| error.to_string())?;
        self.0.open.store(open, Ordering::Relaxed);
        Ok(())
    }

    async fn lose(&self, queue: String, partition: i32, start: i64) -> Result<(), String> {
        let now = Timestamp::now();
        let (jobs, live) = (self.0.sql.clone(), self.0.live.clone());
        let lost = jobs.call(move |t| {
            for id in table::behind(t, &queue, partition, start)? {
                // One that runs or waits for its next attempt is in memory, and may still be done.
                if live.since(id).is_none() {
                    let reason = "its record was deleted before it was done: the topic's retention is too short";
                    table::change(t, id, |_| true, Command::Lost(reason.to_owned()), now)?;
                }
            }
            Ok(())
        });
        lost.await.map_err(|error| error.to_string())
    }
}

fn published((own, place): (&Unpublished, Place)) -> (Uuid, Command) {
    let place = (place.partition, place.offset);
    let run = own.1;
    (own.0, Command::Published { run, place })
}
