//! The transactional ids of the node: the machines of [`crate::txn`], and what they have done.
//!
//! Everything about one id happens one after the other, under a lock that is held until what was
//! decided is on disk and carried out: that is what the machine asks of its caller.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atoll_base::Tasks;
use atoll_base::clock::monotonic;
use bytes::Bytes;

use crate::catalog::Catalog;
use crate::groups::{Committer, Groups};
use crate::journal::{Change, Committed, Journal, Kept};
use crate::partition::Produced;
use crate::txn::{
    Action, Command, Init, Limits, Outcome, Partition, Producer, Snapshot, State, Txn, TxnError,
};
use crate::{Error, Ticket};

/// All transactional ids. A cheap handle.
#[derive(Debug, Clone)]
pub struct Transactions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cells: Mutex<HashMap<Arc<str>, Arc<Cell>>>,
    limits: Limits,
    journal: Journal,
    catalog: Catalog,
    groups: Groups,
    tickets: AtomicU64,
    /// Producer ids that were reserved: the next, and the end.
    ids: tokio::sync::Mutex<(i64, i64)>,
}

#[derive(Debug)]
struct Cell {
    id: Arc<str>,
    own: tokio::sync::Mutex<Own>,
    /// Offsets that hold once the transaction is committed, by group. Changed only by who has `own`;
    /// apart from it, so that others can look while something is written.
    pending: Mutex<HashMap<String, Vec<Committed>>>,
}

#[derive(Debug)]
struct Own {
    txn: Txn,
    /// It was forgotten; whoever finds it makes a new one.
    forgotten: bool,
}

/// Why a request of a transaction fails.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// The coordinator does not allow it.
    #[error(transparent)]
    Refused(#[from] TxnError),
    /// Something else.
    #[error(transparent)]
    Other(#[from] Error),
}

/// A transactional id as it is described.
#[derive(Debug, Clone)]
pub struct View {
    /// The transactional id.
    pub id: Arc<str>,
    /// What is kept of it.
    pub held: Snapshot,
    /// How long its transaction has been running. None: none is. After a restart of the node it is
    /// counted from there.
    pub running: Option<Duration>,
}

/// Producer ids are taken from the state in such numbers.
const IDS_AT_ONCE: i64 = 1000;
/// How often it is looked whether a transaction has taken too long. They take seconds at least.
const LOOK_EVERY: Duration = Duration::from_millis(500);

type Answer = Result<Option<Producer>, TxnError>;

impl Transactions {
    /// The ids that are kept. What was decided is carried out in the background.
    pub(crate) fn start(
        kept: &Kept,
        journal: Journal,
        catalog: Catalog,
        groups: Groups,
        tasks: &Tasks,
    ) -> Self {
        let own = Self(Arc::new(Shared {
            cells: Mutex::default(),
            limits: Limits::default(),
            journal,
            catalog,
            groups,
            tickets: AtomicU64::new(1),
            ids: tokio::sync::Mutex::new((0, 0)),
        }));
        let mut unfinished = Vec::new();
        for (id, bytes) in &kept.transactions {
            let Ok(snapshot) = Snapshot::from_bytes(bytes) else {
                tracing::error!(
                    id,
                    "the state of the transactional id cannot be read; it begins anew"
                );
                continue;
            };
            let (txn, actions) = Txn::restore(own.0.limits.clone(), snapshot, monotonic());
            let mut pending: HashMap<String, Vec<Committed>> = HashMap::new();
            for (_, group, offset) in kept.pending.iter().filter(|(own, ..)| own == id) {
                pending
                    .entry(group.clone())
                    .or_default()
                    .push(offset.clone());
            }
            let cell = own.put(id, txn, pending);
            if !actions.is_empty() {
                unfinished.push((cell, actions));
            }
        }
        let (looking, stopping) = (own.clone(), tasks.clone());
        tasks.spawn("broker transactions", async move {
            tokio::select! {
                () = looking.keep_time(unfinished) => {}
                () = stopping.stopping() => {}
            }
        });
        own
    }

    /// Gives a producer its id, and with a transactional id its epoch.
    ///
    /// # Errors
    /// When the coordinator does not allow it, or the state cannot be written.
    pub async fn init(
        &self,
        id: Option<&str>,
        timeout: Duration,
        given: Option<Producer>,
    ) -> Result<Producer, TransactionError> {
        let fresh_id = self.fresh_id().await?;
        let Some(id) = id else {
            return Ok(Producer {
                id: fresh_id,
                epoch: 0,
            });
        };
        let command = |ticket| {
            Command::Init(Init {
                ticket,
                timeout,
                given,
                fresh_id,
            })
        };
        let answer = self.tell(id, command).await?;
        answer.ok_or_else(|| TxnError::InvalidTxnState(State::Dead).into())
    }

    /// A transaction will write to these partitions.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub async fn add_partitions(
        &self,
        id: &str,
        producer: Producer,
        partitions: Vec<Partition>,
    ) -> Result<(), TransactionError> {
        let command = |ticket| Command::AddPartitions(ticket, producer, partitions);
        self.tell(id, command).await.map(drop)
    }

    /// A transaction will commit offsets of this group.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub async fn add_group(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
    ) -> Result<(), TransactionError> {
        let command = |ticket| Command::AddGroup(ticket, producer, group.to_owned());
        self.tell(id, command).await.map(drop)
    }

    /// Ends a transaction. All of it is carried out when this returns.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub async fn end(
        &self,
        id: &str,
        producer: Producer,
        outcome: Outcome,
    ) -> Result<(), TransactionError> {
        let command = |ticket| Command::End(ticket, producer, outcome);
        self.tell(id, command).await.map(drop)
    }

    /// Puts a batch of a transaction in line for its partition.
    ///
    /// # Errors
    /// When the transaction does not include the partition, or the partition refuses the batch.
    pub async fn produce(
        &self,
        id: &str,
        producer: Producer,
        partition: &crate::partition::Partition,
        batch: Bytes,
    ) -> Result<Produced, TransactionError> {
        let cell = self.cell(id);
        let own = cell.own.lock().await;
        let place = Partition {
            topic: partition.topic.to_string(),
            index: partition.index,
        };
        own.txn.check_partition(producer, &place)?;
        // In line before anything else happens to this transaction.
        Ok(partition.produce(batch)?)
    }

    /// Offsets of a group that hold once the transaction is committed.
    ///
    /// # Errors
    /// When coordinator or group do not allow it, or the state cannot be written.
    pub async fn commit_offsets(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
        who: &Committer,
        offsets: Vec<Committed>,
    ) -> Result<(), TransactionError> {
        let cell = self.cell(id);
        let own = cell.own.lock().await;
        own.txn.check_group(producer, group)?;
        let name = self.0.groups.check_commit(group, who, true);
        let name = name.map_err(Error::Group)?;
        let pending = Change::Pending {
            transaction: Arc::clone(&cell.id),
            group: name,
            offsets: offsets.clone(),
        };
        self.0
            .journal
            .write(vec![pending])
            .await
            .map_err(Error::from)?;
        cell.pending()
            .entry(group.to_owned())
            .or_default()
            .extend(offsets);
        Ok(())
    }

    /// The partitions whose offset in this group waits for the end of some transaction: clients that
    /// want only what is settled have to ask again for them.
    pub(crate) fn unsettled(&self, group: &str) -> BTreeSet<(Arc<str>, i32)> {
        let cells: Vec<_> = self.lock().values().cloned().collect();
        let mut places = BTreeSet::new();
        for cell in cells {
            let pending = cell.pending();
            let offsets = pending.get(group).into_iter().flatten();
            places.extend(offsets.map(|own| (Arc::clone(&own.topic), own.partition)));
        }
        places
    }

    /// All transactional ids.
    pub async fn list(&self) -> Vec<View> {
        let cells: Vec<_> = self.lock().values().cloned().collect();
        let mut all = Vec::with_capacity(cells.len());
        for cell in cells {
            all.extend(cell.view().await);
        }
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// One transactional id, if a producer ever asked for it.
    pub async fn find(&self, id: &str) -> Option<View> {
        let cell = self.lock().get(id).cloned()?;
        cell.view().await
    }

    async fn tell(
        &self,
        id: &str,
        command: impl FnOnce(Ticket) -> Command,
    ) -> Result<Option<Producer>, TransactionError> {
        let ticket = Ticket(self.0.tickets.fetch_add(1, Ordering::Relaxed));
        let command = command(ticket);
        loop {
            let cell = self.cell(id);
            let mut own = cell.own.lock().await;
            if own.forgotten {
                continue;
            }
            let actions = own.txn.apply(command, monotonic());
            let answer = self.perform(&cell, &mut own, actions, Some(ticket)).await?;
            return Ok(answer.unwrap_or(Ok(None))?);
        }
    }

    /// Does what the machine says, and what follows from that. The answer is that to `ticket`.
    async fn perform(
        &self,
        cell: &Cell,
        own: &mut Own,
        actions: Vec<Action>,
        ticket: Option<Ticket>,
    ) -> Result<Option<Answer>, Error> {
        let mut answer = None;
        let mut actions = actions;
        while !actions.is_empty() {
            let mut carried_out = None;
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Persist(snapshot) => self.persist(cell, own, &snapshot).await?,
                    Action::Keep(snapshot) => {
                        let bytes = snapshot.to_bytes();
                        let change = Change::Transaction(Arc::clone(&cell.id), bytes);
                        self.0.journal.write(vec![change]).await?;
                    }
                    Action::WriteMarkers(producer, outcome, partitions) => {
                        self.write_markers(producer, outcome, partitions).await?;
                        carried_out = Some(producer);
                    }
                    Action::ApplyOffsets(producer, outcome, _) => {
                        self.apply_offsets(cell, outcome).await?;
                        carried_out = Some(producer);
                    }
                    Action::Initialized(to, outcome) if Some(to) == ticket => {
                        answer = Some(outcome.map(Some));
                    }
                    Action::Done(to, outcome) if Some(to) == ticket => {
                        answer = Some(outcome.map(|()| None));
                    }
                    Action::Initialized(..) | Action::Done(..) => {}
                    Action::Forget => {
                        let gone = Change::NoTransaction(Arc::clone(&cell.id));
                        self.0.journal.write(vec![gone]).await?;
                        own.forgotten = true;
                        self.lock().remove(&cell.id);
                    }
                }
            }
            if let Some(producer) = carried_out {
                actions = own.txn.apply(Command::CarriedOut(producer), monotonic());
            }
        }
        Ok(answer)
    }

    async fn persist(&self, cell: &Cell, own: &mut Own, held: &Snapshot) -> Result<(), Error> {
        let change = Change::Transaction(Arc::clone(&cell.id), held.to_bytes());
        let written = self.0.journal.write(vec![change]).await;
        if written.is_err() {
            // Nobody knows what is on disk: the next who asks is told to try again.
            own.forgotten = true;
            self.lock().remove(&cell.id);
        }
        Ok(written?)
    }

    async fn write_markers(
        &self,
        producer: Producer,
        outcome: Outcome,
        partitions: Vec<Partition>,
    ) -> Result<(), Error> {
        let marks = partitions.into_iter().filter_map(|place| {
            // One that was deleted meanwhile needs no mark.
            let partition = self.0.catalog.partition(&place.topic, place.index).ok()?;
            Some(async move { partition.mark(producer, outcome).await })
        });
        futures_util::future::try_join_all(marks).await.map(drop)
    }

    async fn apply_offsets(&self, cell: &Cell, outcome: Outcome) -> Result<(), Error> {
        let commit = outcome == Outcome::Commit;
        let settle = Change::Settle(Arc::clone(&cell.id), commit);
        self.0.journal.write(vec![settle]).await?;
        if commit {
            let settled = cell.pending().clone();
            for (group, offsets) in settled {
                self.0.groups.settled(&group, offsets);
            }
        }
        // Only now: nobody sees what was before as settled.
        cell.pending().clear();
        Ok(())
    }

    async fn keep_time(&self, unfinished: Vec<(Arc<Cell>, Vec<Action>)>) {
        for (cell, actions) in unfinished {
            let mut own = cell.own.lock().await;
            if let Err(error) = self.perform(&cell, &mut own, actions, None).await {
                tracing::error!(id = %cell.id, %error, "what was decided cannot be carried out");
            }
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let cells: Vec<_> = self.lock().values().cloned().collect();
            for cell in cells {
                let mut own = cell.own.lock().await;
                let due = own.txn.next_deadline();
                if own.forgotten || due.is_none_or(|at: Instant| at > monotonic()) {
                    continue;
                }
                let actions = own.txn.apply(Command::Tick, monotonic());
                if let Err(error) = self.perform(&cell, &mut own, actions, None).await {
                    tracing::error!(id = %cell.id, %error, "a transaction that took too long cannot be ended");
                }
            }
        }
    }

    /// A producer id that nobody has.
    async fn fresh_id(&self) -> Result<i64, Error> {
        let mut ids = self.0.ids.lock().await;
        if ids.0 == ids.1 {
            let first = self.0.journal.reserve("producer", IDS_AT_ONCE).await?;
            *ids = (first, first + IDS_AT_ONCE);
        }
        ids.0 += 1;
        Ok(ids.0 - 1)
    }

    fn cell(&self, id: &str) -> Arc<Cell> {
        let known = self.lock().get(id).cloned();
        known.unwrap_or_else(|| {
            let txn = Txn::new(self.0.limits.clone(), monotonic());
            self.put(id, txn, HashMap::new())
        })
    }

    /// The cell of an id: that which is there, or a new one.
    fn put(&self, id: &str, txn: Txn, pending: HashMap<String, Vec<Committed>>) -> Arc<Cell> {
        let id: Arc<str> = id.into();
        let own = Own {
            txn,
            forgotten: false,
        };
        let new = || {
            Arc::new(Cell {
                id: Arc::clone(&id),
                own: tokio::sync::Mutex::new(own),
                pending: Mutex::new(pending),
            })
        };
        Arc::clone(self.lock().entry(Arc::clone(&id)).or_insert_with(new))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Cell>>> {
        self.0.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    /// None: it was forgotten, or somebody used the id that never asked for it.
    async fn view(&self) -> Option<View> {
        let own = self.own.lock().await;
        let held = own.txn.held();
        if own.forgotten || held.producer.is_none() {
            return None;
        }
        let runs = matches!(
            held.state,
            State::Ongoing | State::PrepareCommit | State::PrepareAbort
        );
        Some(View {
            id: Arc::clone(&self.id),
            held: held.clone(),
            running: runs.then(|| monotonic().saturating_duration_since(own.txn.since())),
        })
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<String, Vec<Committed>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
