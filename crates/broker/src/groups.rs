//! The consumer groups of the node: the machines of [`crate::group`], those who wait for them, and
//! how far each has read.
//!
//! One lock for all groups: what happens under it takes microseconds, and whoever waits for an answer
//! waits outside, under a [`Ticket`]. Offsets are in memory too, so that they are read without the
//! disk; they change there only after they are on it.

mod clock;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use atoll_base::Tasks;
use atoll_base::clock::monotonic;
use tokio::sync::oneshot;

use self::clock::Alarms;
use crate::group::{
    Action, Command, Group, GroupError, Join, JoinRefused, Joined, Leaver, Limits, Snapshot, State,
    Sync, Synced, View,
};
use crate::journal::{Change, Committed, Journal, Kept};
use crate::{Error, Ticket};

/// All groups. A cheap handle.
#[derive(Debug, Clone)]
pub struct Groups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cells: Mutex<HashMap<Arc<str>, Cell>>,
    alarms: Alarms,
    journal: Journal,
    limits: Limits,
    tickets: AtomicU64,
}

#[derive(Debug)]
struct Cell {
    name: Arc<str>,
    machine: Group,
    waiting: HashMap<Ticket, Waiting>,
    offsets: Offsets,
    /// The earliest time for which an alarm is set.
    alarm: Option<Instant>,
}

/// How far a group has read, by topic and partition.
pub type Offsets = BTreeMap<(Arc<str>, i32), Committed>;

#[derive(Debug)]
enum Waiting {
    Join(oneshot::Sender<Result<Joined, JoinRefused>>),
    Sync(oneshot::Sender<Result<Synced, GroupError>>),
}

/// What a commit of offsets says about who commits.
#[derive(Debug, Clone, Default)]
pub struct Committer {
    /// The member; empty if the group is used for its offsets only.
    pub member: String,
    /// Its instance id, if it is static.
    pub instance: Option<String>,
    /// Its generation; below zero if it has none.
    pub generation: i32,
}

/// Why offsets were not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The group does not allow it.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// They cannot be kept.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
}

impl Groups {
    /// The groups that are kept; their time begins to run.
    pub(crate) fn start(kept: &Kept, limits: Limits, journal: Journal, tasks: &Tasks) -> Self {
        let mut cells = HashMap::new();
        for (name, generation, protocol_type) in &kept.groups {
            let name: Arc<str> = name.as_str().into();
            let snapshot = Snapshot {
                generation: *generation,
                protocol_type: protocol_type.clone(),
            };
            let cell = Cell::new(Arc::clone(&name), Group::restore(limits.clone(), snapshot));
            cells.insert(name, cell);
        }
        for (name, committed) in &kept.offsets {
            let name: Arc<str> = name.as_str().into();
            let cell = cells
                .entry(Arc::clone(&name))
                .or_insert_with(|| Cell::new(name, Group::new(limits.clone())));
            cell.keep(committed.clone());
        }
        let groups = Self(Arc::new(Shared {
            cells: Mutex::new(cells),
            alarms: Alarms::default(),
            journal,
            limits,
            tickets: AtomicU64::new(1),
        }));
        let (own, stopping) = (groups.clone(), tasks.clone());
        tasks.spawn("broker groups", async move {
            tokio::select! {
                () = own.keep_time() => {}
                () = stopping.stopping() => {}
            }
        });
        groups
    }

    /// Joins a group, and waits until all others have. The ticket of `join` is set here.
    ///
    /// # Errors
    /// What the group answers; the node is stopping: `CoordinatorNotAvailable`.
    pub async fn join(&self, group: &str, mut join: Join) -> Result<Joined, JoinRefused> {
        let member_id = join.member_id.clone();
        let (answer, answered) = oneshot::channel();
        let ticket = self.ticket();
        join.ticket = ticket;
        let _gone = Leaving::new(self, group, ticket);
        self.tell(
            group,
            Some((ticket, Waiting::Join(answer))),
            Command::Join(join),
        );
        answered.await.unwrap_or(Err(JoinRefused {
            error: GroupError::CoordinatorNotAvailable,
            member_id,
        }))
    }

    /// Asks for an assignment, and waits for it. The ticket of `sync` is set here.
    ///
    /// # Errors
    /// What the group answers.
    pub async fn sync(&self, group: &str, mut sync: Sync) -> Result<Synced, GroupError> {
        let (answer, answered) = oneshot::channel();
        let ticket = self.ticket();
        sync.ticket = ticket;
        let _gone = Leaving::new(self, group, ticket);
        self.tell(
            group,
            Some((ticket, Waiting::Sync(answer))),
            Command::Sync(sync),
        );
        answered
            .await
            .unwrap_or(Err(GroupError::CoordinatorNotAvailable))
    }

    /// Members leave. One outcome for each.
    ///
    /// # Errors
    /// When the group is not there for anyone.
    pub fn leave(
        &self,
        group: &str,
        members: Vec<Leaver>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let ticket = self.ticket();
        let leave = crate::group::Leave { ticket, members };
        let outcome = self.tell(group, None, Command::Leave(leave));
        outcome.unwrap_or(Err(GroupError::CoordinatorNotAvailable))
    }

    /// A member says that it lives.
    ///
    /// # Errors
    /// What it should do instead.
    pub fn heartbeat(
        &self,
        group: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        let mut cells = self.lock();
        let cell = cells
            .get_mut(group)
            .ok_or_else(|| GroupError::UnknownMemberId(member.to_owned()))?;
        cell.machine
            .heartbeat(member, instance, generation, monotonic())
    }

    /// Keeps how far the group has read. On disk when this returns.
    ///
    /// # Errors
    /// When the group does not allow it or the state cannot be written.
    pub async fn commit(
        &self,
        group: &str,
        who: &Committer,
        offsets: Vec<Committed>,
    ) -> Result<(), CommitError> {
        let name = self.check_commit(group, who, false)?;
        let change = Change::Offsets(Arc::clone(&name), offsets.clone());
        self.0.journal.write(vec![change]).await?;
        self.settled(&name, offsets);
        Ok(())
    }

    /// Whether offsets may be committed, and the group's name as it is kept.
    pub(crate) fn check_commit(
        &self,
        group: &str,
        who: &Committer,
        transactional: bool,
    ) -> Result<Arc<str>, GroupError> {
        let mut cells = self.lock();
        let cell = self.0.cell(&mut cells, group);
        let (member, instance) = (&who.member, who.instance.as_deref());
        cell.machine
            .check_commit(member, instance, who.generation, transactional, monotonic())?;
        Ok(Arc::clone(&cell.name))
    }

    /// Offsets are on disk: they hold.
    pub(crate) fn settled(&self, group: &str, offsets: Vec<Committed>) {
        let mut cells = self.lock();
        let cell = self.0.cell(&mut cells, group);
        offsets.into_iter().for_each(|own| cell.keep(own));
    }

    /// How far the group has read; nothing of a group that nobody knows.
    pub fn offsets(&self, group: &str) -> Offsets {
        let cells = self.lock();
        cells
            .get(group)
            .map_or_else(Offsets::new, |cell| cell.offsets.clone())
    }

    /// Forgets offsets.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn forget(
        &self,
        group: &str,
        places: Vec<(Arc<str>, i32)>,
    ) -> Result<(), atoll_store::Error> {
        let change = Change::NoOffsets(group.into(), places.clone());
        self.0.journal.write(vec![change]).await?;
        if let Some(cell) = self.lock().get_mut(group) {
            cell.offsets.retain(|place, _| !places.contains(place));
        }
        Ok(())
    }

    /// A topic is gone, and with it all offsets in it.
    pub(crate) fn forget_topic(&self, topic: &str) {
        for cell in self.lock().values_mut() {
            cell.offsets.retain(|(own, _), _| &**own != topic);
        }
    }

    /// All groups: name, state, kind.
    pub fn list(&self) -> Vec<(Arc<str>, State, String)> {
        let cells = self.lock();
        let mut all: Vec<_> = cells
            .values()
            .map(|cell| {
                let view = cell.machine.describe();
                (Arc::clone(&cell.name), view.state, view.protocol_type)
            })
            .collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// A group as it is now; none if nobody knows it.
    pub fn describe(&self, group: &str) -> Option<View> {
        let cells = self.lock();
        cells.get(group).map(|cell| cell.machine.describe())
    }

    /// Deletes a group without members, and its offsets.
    ///
    /// # Errors
    /// When it has members, is not known, or the state cannot be written.
    pub async fn delete(&self, group: &str) -> Result<(), CommitError> {
        {
            let mut cells = self.lock();
            let cell = cells.get_mut(group).ok_or(GroupError::GroupIdNotFound)?;
            cell.machine.delete()?;
        }
        // It is dead: nobody joins or commits until the cell is gone too.
        let written = self
            .0
            .journal
            .write(vec![Change::NoGroup(group.into())])
            .await;
        self.lock().remove(group);
        Ok(written?)
    }

    /// Tells a group's machine, and does what it says. The outcome is that of a Leave.
    fn tell(
        &self,
        group: &str,
        waiting: Option<(Ticket, Waiting)>,
        command: Command,
    ) -> Option<Result<Vec<Result<(), GroupError>>, GroupError>> {
        let mut kept = None;
        let mut left = None;
        {
            let mut cells = self.lock();
            let cell = self.0.cell(&mut cells, group);
            cell.waiting.extend(waiting);
            for action in cell.machine.apply(command, monotonic()) {
                match action {
                    Action::Joined(ticket, answer) => cell.answer_join(ticket, answer),
                    Action::Synced(ticket, answer) => cell.answer_sync(ticket, answer),
                    Action::Left(_, answer) => left = Some(answer),
                    Action::Keep(snapshot) => kept = Some((Arc::clone(&cell.name), snapshot)),
                    Action::BecameEmpty => {}
                }
            }
            cell.set_alarm(&self.0.alarms);
        }
        if let Some((name, snapshot)) = kept {
            self.0.journal.write_soon(vec![Change::Group {
                name,
                generation: snapshot.generation,
                protocol_type: snapshot.protocol_type,
            }]);
        }
        left
    }

    async fn keep_time(&self) {
        loop {
            let group = self.0.alarms.next().await;
            let due = {
                let mut cells = self.lock();
                let Some(cell) = cells.get_mut(&group) else {
                    continue;
                };
                cell.alarm = None;
                cell.set_alarm(&self.0.alarms);
                cell.alarm
            };
            if due.is_some_and(|at| at <= monotonic()) {
                self.tell(&group, None, Command::Tick);
            }
        }
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.0.tickets.fetch_add(1, Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Cell>> {
        self.0.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn cell<'a>(&self, cells: &'a mut HashMap<Arc<str>, Cell>, group: &str) -> &'a mut Cell {
        if !cells.contains_key(group) {
            let name: Arc<str> = group.into();
            let machine = Group::new(self.limits.clone());
            cells.insert(Arc::clone(&name), Cell::new(name, machine));
        }
        cells.get_mut(group).expect("it was put there just now")
    }
}

impl Cell {
    fn new(name: Arc<str>, machine: Group) -> Self {
        Self {
            name,
            machine,
            waiting: HashMap::new(),
            offsets: Offsets::new(),
            alarm: None,
        }
    }

    fn set_alarm(&mut self, alarms: &Alarms) {
        let wanted = self.machine.next_deadline();
        if let Some(at) = wanted.filter(|at| self.alarm.is_none_or(|set| *at < set)) {
            self.alarm = Some(at);
            alarms.set(at, &self.name);
        }
    }

    fn keep(&mut self, own: Committed) {
        let place = (Arc::clone(&own.topic), own.partition);
        self.offsets.insert(place, own);
    }

    // Whoever waited may have gone; the machine hears of it from `Leaving`.
    fn answer_join(&mut self, ticket: Ticket, answer: Result<Joined, JoinRefused>) {
        if let Some(Waiting::Join(waiting)) = self.waiting.remove(&ticket) {
            let _ = waiting.send(answer);
        }
    }

    fn answer_sync(&mut self, ticket: Ticket, answer: Result<Synced, GroupError>) {
        if let Some(Waiting::Sync(waiting)) = self.waiting.remove(&ticket) {
            let _ = waiting.send(answer);
        }
    }
}

/// Someone who waits for a group. Gone before the answer, the group is told.
struct Leaving<'a> {
    groups: &'a Groups,
    group: &'a str,
    ticket: Ticket,
}

impl<'a> Leaving<'a> {
    fn new(groups: &'a Groups, group: &'a str, ticket: Ticket) -> Self {
        Self {
            groups,
            group,
            ticket,
        }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let waits = {
            let mut cells = self.groups.lock();
            let cell = cells.get_mut(self.group);
            cell.is_some_and(|cell| cell.waiting.remove(&self.ticket).is_some())
        };
        if waits {
            self.groups
                .tell(self.group, None, Command::Gone(self.ticket));
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Group(error) => Self::Group(error),
            CommitError::Store(error) => Self::Store(error),
        }
    }
}
