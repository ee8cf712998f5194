//! The machine behind objectives: counts in, alerts out.
//!
//! Each alert remembers what it has told. Whenever that differs from how it stands, and nobody has asked
//! for silence, it tells: so each change is told once, a silence that ends tells what still holds, and what
//! came and went within it is told to nobody. What is told is kept with it, in one transaction, by who runs
//! the machine; a start goes on from there.
//!
//! At a start it is not known yet which objectives hold: those of the revisions that serve, and none does so far.
//! Until one does, those of the folders are judged: a service that cannot come up is a reason to wake somebody,
//! and one that nobody asks is none. But nothing is trimmed or forgotten for it, as a folder may have a shorter
//! window, or no objective, and a month of counts would be gone. What was kept and is in no folder is held: it
//! cannot fire, as nobody says against which target, and what fires ends when nothing bad has come for so long
//! that it would end against any.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atoll_base::{HumanDuration, ServiceName, Timestamp};

use super::alert::{Alert, AlertId, AlertState, Change, Notice, Severity};
use super::burn::{self, Standing};
use super::counts::{Counts, Row, Scale, Tally};
use super::{Key, Objective, WINDOW_MAX, WINDOW_MIN};

/// Why an alert ends with its objective.
const GONE: &str = "the service, or this objective of it, was taken out of the application";
/// Why an alert ends that nobody can judge: its service does not serve, and its folder has no such objective.
const QUIET: &str = "no request has failed or was slow for long enough; the service does not serve";
/// If no request came for so long, an alert that is resolved says so.
const SILENT: Duration = Duration::from_secs(300);
/// An alert that was resolved is shown for so long.
const SHOWN: Duration = Duration::from_secs(3600);

/// What the machine is told.
#[derive(Debug, Clone)]
pub enum Command {
    /// These objectives hold, and no others.
    Declare {
        /// All of them.
        objectives: Vec<Objective>,
        /// Services whose own objectives are not known yet, as no revision of them serves: these are those of
        /// their folders, and nothing is forgotten because of them.
        coming: BTreeSet<ServiceName>,
    },
    /// So many requests came since it was last told; what time alone changes is seen, too.
    Observe(Vec<(Key, Tally)>),
    /// Nobody is told of this alert before `until`; none or a past time ends that.
    Silence {
        /// Which.
        id: AlertId,
        /// Until when.
        until: Option<Timestamp>,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Keep an alert as it is now.
    Keep(Kept),
    /// Forget all of an objective.
    Forget(Key),
    /// Write this into the history.
    Record(Change),
    /// Tell everybody.
    Tell(Notice),
}

/// An alert, as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub id: AlertId,
    /// How it stands; none: all is well.
    pub state: Option<AlertState>,
    /// Since when.
    pub since: Timestamp,
    /// The end of its silence.
    pub silenced_until: Option<Timestamp>,
    /// Who is told was told last that it fires.
    pub told: bool,
    /// What is the matter.
    pub message: String,
}

/// What an earlier run has kept.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Buckets; those of one objective and scale oldest first.
    pub rows: Vec<(Key, Row)>,
    /// Alerts.
    pub alerts: Vec<Kept>,
}

/// All objectives of an application.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    watched: BTreeMap<Key, Watched>,
    /// What was kept, and nobody declares so far. No key is in both.
    held: BTreeMap<Key, Held>,
}

/// What is known of an objective before it is declared.
#[derive(Debug, Clone)]
struct Held {
    counts: Counts,
    alarms: [Kept; 2],
}

#[derive(Debug, Clone)]
struct Watched {
    objective: Objective,
    counts: Counts,
    /// In the order of [`Severity::ALL`].
    alarms: [Kept; 2],
}

impl Machine {
    /// Goes on from what was kept. Nothing of it is forgotten before it is known that nobody declares it.
    pub fn open(restored: Restored) -> Self {
        let mut machine = Self::default();
        for (key, row) in restored.rows {
            machine.hold(key).counts.restore(row);
        }
        for kept in restored.alerts {
            let alarms = &mut machine.hold(kept.id.key.clone()).alarms;
            let severity = kept.id.severity;
            alarms[severity as usize] = kept;
        }
        machine
    }

    /// Takes a command, and says what is to be done: in this order.
    pub fn apply(&mut self, command: Command, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        match command {
            Command::Declare { objectives, coming } => {
                self.declare(objectives, &coming, now, &mut actions);
            }
            Command::Observe(tallies) => {
                for (key, tally) in tallies {
                    if let Some(watched) = self.watched.get_mut(&key) {
                        watched.counts.add(tally, now);
                    }
                }
                for watched in self.watched.values_mut() {
                    watched.look(now, &mut actions);
                }
                for held in self.held.values_mut() {
                    held.look(now, &mut actions);
                }
            }
            Command::Silence { id, until } => {
                let until = until.filter(|until| *until > now);
                if let Some(watched) = self.watched.get_mut(&id.key) {
                    actions.push(watched.alarm(id.severity).silence(until, now));
                    watched.tell(id.severity, now, &mut actions);
                } else if let Some(held) = self.held.get_mut(&id.key) {
                    // What is to be told of it is told once it is declared.
                    actions.push(held.alarms[id.severity as usize].silence(until, now));
                }
            }
        }
        actions
    }

    /// Whether an objective has this alert.
    pub fn knows(&self, id: &AlertId) -> bool {
        self.watched.contains_key(&id.key) || self.held.contains_key(&id.key)
    }

    /// Alerts that fire, are about to, or were resolved within the last hour, and those that are silenced
    /// although all is well; by name.
    pub fn alerts(&self) -> Vec<Alert> {
        let watched = self.watched.iter().map(|(key, own)| (key, &own.alarms));
        let held = self.held.iter().map(|(key, own)| (key, &own.alarms));
        let all: BTreeMap<_, _> = watched.chain(held).collect();
        let alarms = all.into_values().flatten();
        let shown = alarms.filter(|own| own.state.is_some() || own.silenced_until.is_some());
        shown.map(Kept::shown).collect()
    }

    /// How all objectives that were declared stand, by service.
    pub fn standings(&self, now: Timestamp) -> Vec<Standing> {
        let all = self.watched.values();
        all.map(|own| burn::standing(&own.objective, &own.counts, now))
            .collect()
    }

    /// Buckets that have changed since this was last asked.
    pub fn take_unsaved(&mut self) -> Vec<(Key, Row)> {
        let mut rows = Vec::new();
        for (key, watched) in &mut self.watched {
            let own = watched.counts.take_unsaved().into_iter();
            rows.extend(own.map(|row| (key.clone(), row)));
        }
        rows
    }

    /// What [`Self::take_unsaved`] has told did not get to the disk: it tells everything the next time.
    pub fn unsave(&mut self) {
        self.watched
            .values_mut()
            .for_each(|own| own.counts.unsave());
    }

    /// For each objective that was declared, the oldest buckets that are needed: what is older may go from the
    /// disk.
    pub fn oldest(&self, now: Timestamp) -> Vec<(Key, [(Scale, i64); 2])> {
        let all = self.watched.iter();
        all.map(|(key, own)| (key.clone(), own.counts.oldest(now)))
            .collect()
    }

    fn hold(&mut self, key: Key) -> &mut Held {
        self.held.entry(key).or_insert_with_key(|key| Held {
            counts: Counts::new(WINDOW_MIN),
            alarms: calm(key),
        })
    }

    fn declare(
        &mut self,
        objectives: Vec<Objective>,
        coming: &BTreeSet<ServiceName>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let mut before = std::mem::take(&mut self.watched);
        for objective in objectives {
            let key = objective.key.clone();
            let window = match coming.contains(&key.service) {
                true => WINDOW_MAX,
                false => objective.window.max(WINDOW_MIN),
            };
            let watched = match before.remove(&key) {
                Some(watched) => watched.becomes(objective, window),
                None => Watched::new(objective, window, self.held.remove(&key)),
            };
            self.watched.insert(key, watched);
        }
        for (key, mut gone) in before {
            if coming.contains(&key.service) {
                let Watched { counts, alarms, .. } = gone;
                self.held.insert(key, Held { counts, alarms });
            } else {
                gone.end(now, actions);
                actions.push(Action::Forget(key));
            }
        }
        for (key, gone) in std::mem::take(&mut self.held) {
            if coming.contains(&key.service) {
                self.held.insert(key, gone);
            } else {
                gone.end(now, actions);
                actions.push(Action::Forget(key));
            }
        }
    }
}

impl Held {
    /// What follows from time alone, whatever the target may be.
    fn look(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for alarm in &mut self.alarms {
            let quiet = burn::quiet(alarm.id.severity);
            let is_quiet = self.counts.over(quiet, now).bad == 0;
            let wanted = match alarm.state {
                Some(AlertState::Firing) if is_quiet => Some(AlertState::Resolved),
                Some(AlertState::Pending) if is_quiet => None,
                Some(AlertState::Resolved) if now.since(alarm.since) >= SHOWN => None,
                same => same,
            };
            if wanted != alarm.state {
                alarm.enter(wanted, QUIET.to_owned(), now, actions);
            }
            if let Some(alarm) = alarm.news(now, actions) {
                actions.push(Action::Tell(unknown(alarm)));
            }
        }
    }

    /// No service has this objective any more: nobody shall wait for the end of what was told.
    fn end(mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for alarm in &mut self.alarms {
            alarm.silenced_until = None;
            if alarm.state == Some(AlertState::Firing) {
                let resolved = Some(AlertState::Resolved);
                alarm.enter(resolved, GONE.to_owned(), now, actions);
            }
            if let Some(alarm) = alarm.news(now, actions) {
                actions.push(Action::Tell(unknown(alarm)));
            }
        }
    }
}

/// What is told of an alert whose objective is not known.
fn unknown(alarm: Kept) -> Notice {
    Notice {
        state: alarm.told_as(),
        id: alarm.id,
        since: alarm.since,
        message: alarm.message,
        target: "none".to_owned(),
        window: "none".to_owned(),
        budget_left: 1.0,
        burn_1h: 0.0,
        burn_6h: 0.0,
    }
}

impl Watched {
    /// With what was kept of it, if anything was. Counts are kept for so long.
    fn new(objective: Objective, window: Duration, held: Option<Held>) -> Self {
        let (counts, alarms) = match held {
            Some(mut held) => {
                held.counts.resize(window);
                (held.counts, held.alarms)
            }
            None => (Counts::new(window), calm(&objective.key)),
        };
        Self {
            objective,
            counts,
            alarms,
        }
    }

    /// The objective has changed; what is counted stays.
    fn becomes(mut self, objective: Objective, window: Duration) -> Self {
        self.counts.resize(window);
        self.objective = objective;
        self
    }

    fn alarm(&mut self, severity: Severity) -> &mut Kept {
        &mut self.alarms[severity as usize]
    }

    /// What follows from counts and time.
    fn look(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        // The time alone lets buckets go.
        self.counts.add(Tally::default(), now);
        for severity in Severity::ALL {
            let alarm = &self.alarms[severity as usize];
            let fires = alarm.state == Some(AlertState::Firing);
            let paged = self.alarms[Severity::Page as usize].state == Some(AlertState::Firing);
            let held = burn::held(severity, fires, (&self.objective, &self.counts), now);
            // Who was woken need not be told that it is also a task for tomorrow.
            let held = held.filter(|_| fires || severity == Severity::Page || !paged);
            let wanted = match &held {
                Some(held) if held.sure => Some(AlertState::Firing),
                Some(_) => Some(AlertState::Pending),
                None if fires => Some(AlertState::Resolved),
                None => match alarm.state {
                    Some(AlertState::Resolved) if now.since(alarm.since) < SHOWN => alarm.state,
                    _ => None,
                },
            };
            if wanted != alarm.state {
                let message = match &held {
                    Some(held) => held.message(&self.objective),
                    None => self.relief(now),
                };
                self.alarm(severity).enter(wanted, message, now, actions);
            }
            self.tell(severity, now, actions);
        }
    }

    /// What is said when it is over.
    fn relief(&self, now: Timestamp) -> String {
        let left = burn::standing(&self.objective, &self.counts, now).budget_left * 100.0;
        let window = HumanDuration(self.objective.window);
        let why = match self.counts.over(SILENT, now).total {
            // It is not known whether they would fail: somebody may want to know that nobody asks.
            0 => format!("no request came in {}", HumanDuration(SILENT)),
            _ => "the budget burns no faster than it may".to_owned(),
        };
        format!("{why}; {left:.1}% of {window} is left")
    }

    /// Tells what was not told, unless there is to be silence.
    fn tell(&mut self, severity: Severity, now: Timestamp, actions: &mut Vec<Action>) {
        if let Some(alarm) = self.alarm(severity).news(now, actions) {
            actions.push(Action::Tell(self.notice(alarm, now)));
        }
    }

    fn notice(&self, alarm: Kept, now: Timestamp) -> Notice {
        let standing = burn::standing(&self.objective, &self.counts, now);
        let state = alarm.told_as();
        // It was resolved in a silence, and is on its way again at its end.
        let message = match alarm.state {
            Some(AlertState::Pending) => format!("it was resolved; but {}", alarm.message),
            _ => alarm.message,
        };
        Notice {
            id: alarm.id,
            state,
            since: alarm.since,
            message,
            target: self.objective.target(),
            window: HumanDuration(self.objective.window).to_string(),
            budget_left: standing.budget_left,
            burn_1h: standing.burn_1h,
            burn_6h: standing.burn_6h,
        }
    }

    /// The objective does not hold any more: nobody shall wait for the end of what was told.
    fn end(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for severity in Severity::ALL {
            let alarm = self.alarm(severity);
            let fires = alarm.state == Some(AlertState::Firing);
            alarm.silenced_until = None;
            if fires {
                let resolved = Some(AlertState::Resolved);
                alarm.enter(resolved, GONE.to_owned(), now, actions);
            }
            self.tell(severity, now, actions);
        }
    }
}

/// The alerts of an objective of which nothing is known yet.
fn calm(key: &Key) -> [Kept; 2] {
    Severity::ALL.map(|severity| Kept {
        id: AlertId {
            key: key.clone(),
            severity,
        },
        state: None,
        since: Timestamp::from_micros(0),
        silenced_until: None,
        told: false,
        message: String::new(),
    })
}

impl Kept {
    /// Silent until then; what is to be kept.
    fn silence(&mut self, until: Option<Timestamp>, now: Timestamp) -> Action {
        self.silenced_until = until;
        if self.state.is_none() {
            (self.since, self.message) = (now, "all is well".to_owned());
        }
        Action::Keep(self.clone())
    }

    /// What others are told of how it stands: what does not fire is over.
    fn told_as(&self) -> AlertState {
        match self.state {
            Some(AlertState::Firing) => AlertState::Firing,
            _ => AlertState::Resolved,
        }
    }

    /// It stands differently from now on.
    fn enter(
        &mut self,
        state: Option<AlertState>,
        message: String,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        (self.state, self.since, self.message) = (state, now, message);
        actions.push(Action::Keep(self.clone()));
        if let Some(state @ (AlertState::Firing | AlertState::Resolved)) = state {
            actions.push(Action::Record(Change {
                id: self.id.clone(),
                state,
                at: now,
                message: self.message.clone(),
                silenced: self.is_silent(now),
            }));
        }
    }

    /// Itself, if it is to be told: it stands otherwise than was told, and there is to be no silence.
    fn news(&mut self, now: Timestamp, actions: &mut Vec<Action>) -> Option<Self> {
        if self.is_silent(now) {
            return None;
        }
        let over = self.silenced_until.take().is_some();
        let fires = self.state == Some(AlertState::Firing);
        let news = fires != self.told;
        self.told = fires;
        if over || news {
            actions.push(Action::Keep(self.clone()));
        }
        news.then(|| self.clone())
    }

    fn is_silent(&self, now: Timestamp) -> bool {
        self.silenced_until.is_some_and(|until| until > now)
    }

    fn shown(&self) -> Alert {
        Alert {
            id: self.id.clone(),
            state: self.state.unwrap_or(AlertState::Resolved),
            since: self.since,
            silenced_until: self.silenced_until,
            message: self.message.clone(),
        }
    }
}
