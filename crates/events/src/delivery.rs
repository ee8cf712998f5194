//! One subscription, decided: which records go to the service now, which wait, and which are given up.
//!
//! Records of one key go one after the other; all others at once, as many as are allowed. A record
//! that fails holds back its own key and nothing else. Each waits for the answer to the one before,
//! so at most the records that are under way are delivered twice after a crash.
//!
//! Three failures are told apart. A service that cannot be reached has refused nothing: no attempt is
//! counted, everything waits, and single records try again. One that has no time now is left alone in
//! the same way; but if it takes others and has none for a record again, only the key of that record
//! waits. A service that answers with a failure has refused this record: it is tried again by its
//! policy, and then it is dead.
//!
//! The machine knows offsets and keys, no payloads: what waits long costs a few bytes.

mod lane;
mod policy;
mod runs;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use self::lane::Lane;
pub use self::policy::{Pause, Policy};

/// How a subscription delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Deliveries that may be under way at once; at least 1.
    pub concurrency: usize,
    /// Records of one delivery; at least 1.
    pub batch: usize,
    /// What happens after a failure.
    pub policy: Policy,
}

/// A subscription.
#[derive(Debug)]
pub struct Delivery {
    settings: Settings,
    lanes: BTreeMap<i32, Lane>,
    queues: HashMap<Key, Queue>,
    /// Keys whose first record may go now.
    ready: VecDeque<Key>,
    /// When the first record of a key may be tried again.
    retries: BTreeSet<(Instant, Key)>,
    /// Records that are to be delivered later.
    delayed: BTreeSet<(Instant, i32, i64, Option<u64>)>,
    flights: HashMap<Flight, Aboard>,
    next_flight: u64,
    pause: Option<Resting>,
    /// Deliveries that were taken.
    taken: u64,
    held: bool,
}

/// Names a delivery that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flight(pub u64);

/// While so many keys are ready, nothing more is read.
const READ_AHEAD: usize = 1000;

/// What is in line together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    /// The records of a partition with one key, by its hash.
    Of(i32, u64),
    /// A record without a key.
    Alone(i32, i64),
}

#[derive(Debug, Default)]
struct Queue {
    offsets: VecDeque<i64>,
    /// How often the first has failed.
    attempts: u32,
    /// It failed together with others; it is tried without them.
    single: bool,
    /// How often in a row the service had no time for the first.
    busy: u32,
    /// How many deliveries had been taken when that was so the last time.
    busy_at: u64,
}

#[derive(Debug)]
struct Aboard {
    partition: i32,
    generation: u64,
    /// How many records of which keys.
    keys: Vec<(Key, usize)>,
    count: usize,
}

/// Nobody answers.
#[derive(Debug, Clone, Copy)]
struct Resting {
    until: Instant,
    /// How often in a row.
    times: u32,
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its offset.
    pub offset: i64,
    /// The hash of its key.
    pub key: Option<u64>,
    /// Not to be delivered before.
    pub due: Option<Instant>,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Command {
    /// Records of a partition were read, and the partition is known up to `next`.
    Arrived {
        /// Which partition.
        partition: i32,
        /// From where it was read; an answer to a question that nobody asks any more is ignored.
        from: i64,
        /// The records, in order.
        records: Vec<Arrival>,
        /// The offset after the last that was looked at.
        next: i64,
    },
    /// A delivery has ended.
    Answered {
        /// Which.
        flight: Flight,
        /// How.
        outcome: Outcome,
        /// A random number.
        dice: u64,
    },
    /// Somebody may answer again.
    Reachable,
    /// Nothing new is delivered until it is let go: what was answered is not kept yet.
    Hold(bool),
    /// Reading of the partition begins anew at this offset. What lies before it and is not done stays
    /// to be done.
    Rewind {
        /// Which partition.
        partition: i32,
        /// From where on.
        offset: i64,
    },
    /// The partition is not the one that was known: all of it is new, from this offset on.
    Restart {
        /// Which partition.
        partition: i32,
        /// From where on.
        offset: i64,
    },
    /// Time has passed.
    Tick,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service has taken it.
    Taken,
    /// The service has refused it.
    Refused {
        /// Another attempt makes no sense.
        final_word: bool,
        /// Not again before.
        after: Option<Duration>,
    },
    /// The service has no time for it now.
    Busy {
        /// Not again before.
        after: Option<Duration>,
    },
    /// Nobody has seen it.
    Unreached {
        /// Not again before.
        after: Option<Duration>,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send these records.
    Deliver {
        /// Names it in the answer.
        flight: Flight,
        /// Which partition.
        partition: i32,
        /// Which records.
        offsets: Vec<i64>,
        /// The how manieth attempt, from 1 on.
        attempt: u32,
    },
    /// This record is given up.
    Bury {
        /// Which partition.
        partition: i32,
        /// Which record.
        offset: i64,
        /// How often it was tried.
        attempts: u32,
    },
}

/// Where a partition of the subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// All before it is done.
    pub base: i64,
    /// How far it was read.
    pub next: i64,
    /// Records between the two that are not done.
    pub outstanding: usize,
}

impl Delivery {
    /// A subscription without partitions.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            lanes: BTreeMap::new(),
            queues: HashMap::new(),
            ready: VecDeque::new(),
            retries: BTreeSet::new(),
            delayed: BTreeSet::new(),
            flights: HashMap::new(),
            next_flight: 0,
            pause: None,
            taken: 0,
            held: false,
        }
    }

    /// Takes up a partition where its mark says. A mark that cannot be read counts by its offset.
    pub fn open(&mut self, partition: i32, offset: i64, metadata: &str) {
        self.lanes.insert(partition, Lane::new(offset, metadata));
    }

    /// The partitions.
    pub fn partitions(&self) -> impl Iterator<Item = i32> + '_ {
        self.lanes.keys().copied()
    }

    /// Delivers in another way from now on.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The offset at which the partition is to be read next; none while enough waits.
    pub fn wants(&self, partition: i32) -> Option<i64> {
        let enough = READ_AHEAD.max(2 * self.settings.concurrency * self.settings.batch);
        let lane = self.lanes.get(&partition);
        lane.filter(|_| self.ready.len() < enough)
            .and_then(Lane::wants)
    }

    /// What of a partition is done, if that is not what was asked for last: offset and metadata.
    pub fn progress(&mut self, partition: i32) -> Option<(i64, String)> {
        self.lanes.get_mut(&partition).and_then(Lane::progress)
    }

    /// Whether any partition has something new to say.
    pub fn has_progress(&self) -> bool {
        self.lanes.values().any(|lane| lane.changed)
    }

    /// What was asked for last was not kept.
    pub fn not_kept(&mut self, partition: i32) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.changed = true;
        }
    }

    /// Where a partition stands.
    pub fn standing(&self, partition: i32) -> Standing {
        let lane = self.lanes.get(&partition);
        lane.map(Lane::standing).unwrap_or_default()
    }

    /// Whether the record waits or is under way.
    pub fn is_outstanding(&self, partition: i32, offset: i64) -> bool {
        let lane = self.lanes.get(&partition);
        lane.is_some_and(|lane| lane.outstanding.contains(&offset))
    }

    /// Deliveries that are under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Keys whose first record has failed and waits.
    pub fn failing(&self) -> usize {
        self.retries.len()
    }

    /// Until when everything waits because nobody answers.
    pub fn paused_until(&self) -> Option<Instant> {
        self.pause.map(|pause| pause.until)
    }

    /// When [`Command::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let retry = self.retries.first().map(|(at, _)| *at);
        let delayed = self.delayed.first().map(|(at, ..)| *at);
        // A probe that is under way decides about the pause; time does not.
        let probe = self.pause.filter(|_| self.flights.is_empty() && !self.held);
        let paused = probe.filter(|_| !self.ready.is_empty()).map(|it| it.until);
        [retry, delayed, paused].into_iter().flatten().min()
    }

    /// Tells what happened.
    pub fn apply(&mut self, command: Command, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match command {
            Command::Arrived {
                partition,
                from,
                records,
                next,
            } => self.arrived(partition, from, &records, next),
            Command::Answered {
                flight,
                outcome,
                dice,
            } => self.answered(flight, outcome, dice, now, &mut actions),
            Command::Reachable => self.pause = None,
            Command::Hold(held) => self.held = held,
            Command::Rewind { partition, offset } => {
                self.begin_anew(partition, |lane| lane.rewind(offset));
            }
            Command::Restart { partition, offset } => {
                self.begin_anew(partition, |lane| lane.restart(offset));
            }
            Command::Tick => {}
        }
        self.wake(now);
        self.deliver(now, &mut actions);
        actions
    }

    fn arrived(&mut self, partition: i32, from: i64, records: &[Arrival], next: i64) {
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return;
        };
        if lane.next != from {
            return;
        }
        let mut fresh = Vec::with_capacity(records.len());
        for record in records.iter().filter(|record| record.offset >= from) {
            if lane.arrived(record.offset) {
                fresh.push(*record);
            }
        }
        lane.read_until(next);
        for record in fresh {
            match record.due {
                Some(due) => {
                    let place = (due, partition, record.offset, record.key);
                    self.delayed.insert(place);
                }
                None => self.line_up(partition, record.offset, record.key),
            }
        }
    }

    fn line_up(&mut self, partition: i32, offset: i64, key: Option<u64>) {
        let key = key.map_or(Key::Alone(partition, offset), |hash| {
            Key::Of(partition, hash)
        });
        let queue = self.queues.entry(key).or_default();
        if queue.offsets.is_empty() {
            self.ready.push_back(key);
        }
        queue.offsets.push_back(offset);
    }

    /// What has waited long enough is ready.
    fn wake(&mut self, now: Instant) {
        while let Some((at, key)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.remove(&(at, key));
            self.ready.push_back(key);
        }
        while let Some(first) = self.delayed.first().copied().filter(|(at, ..)| *at <= now) {
            self.delayed.remove(&first);
            let (_, partition, offset, key) = first;
            self.line_up(partition, offset, key);
        }
    }

    fn deliver(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while !self.held && self.has_room(now) {
            let Some(key) = self.ready.pop_front() else {
                return;
            };
            let Some(partition) = self.partition_of(key) else {
                continue;
            };
            let mut aboard = Aboard {
                partition,
                generation: self.lanes.get(&partition).map_or(0, |lane| lane.generation),
                keys: Vec::new(),
                count: 0,
            };
            let mut offsets = Vec::new();
            let (attempts, single) = self.board(key, &mut aboard, &mut offsets);
            if !single {
                self.fill(&mut aboard, &mut offsets);
            }
            let flight = Flight(self.next_flight);
            self.next_flight += 1;
            self.flights.insert(flight, aboard);
            actions.push(Action::Deliver {
                flight,
                partition,
                offsets,
                attempt: attempts + 1,
            });
        }
    }

    fn has_room(&self, now: Instant) -> bool {
        match self.pause {
            None => self.flights.len() < self.settings.concurrency.max(1),
            // One, to see.
            Some(pause) => pause.until <= now && self.flights.is_empty(),
        }
    }

    /// The partition of a key, if it still waits for anything.
    fn partition_of(&self, key: Key) -> Option<i32> {
        self.queues.get(&key).map(|_| match key {
            Key::Of(partition, _) | Key::Alone(partition, _) => partition,
        })
    }

    /// Puts the first records of a key aboard; tells how often the first has failed, and whether it
    /// goes by itself.
    fn board(&mut self, key: Key, aboard: &mut Aboard, offsets: &mut Vec<i64>) -> (u32, bool) {
        let Some(queue) = self.queues.get_mut(&key) else {
            return (0, true);
        };
        let single = queue.single || queue.attempts > 0;
        let room = self.settings.batch.max(1).saturating_sub(aboard.count);
        let count = if single { 1 } else { room.max(1) };
        let taken = count.min(queue.offsets.len());
        offsets.extend(queue.offsets.iter().take(taken));
        aboard.keys.push((key, taken));
        aboard.count += taken;
        (queue.attempts, single)
    }

    /// Fills a batch with records of other keys of the same partition.
    fn fill(&mut self, aboard: &mut Aboard, offsets: &mut Vec<i64>) {
        let mut looked = self.ready.len();
        while aboard.count < self.settings.batch && looked > 0 {
            looked -= 1;
            let Some(key) = self.ready.pop_front() else {
                return;
            };
            let fresh = self.queues.get(&key);
            let fresh = fresh.is_some_and(|queue| !queue.single && queue.attempts == 0);
            if fresh && self.partition_of(key) == Some(aboard.partition) {
                self.board(key, aboard, offsets);
            } else {
                self.ready.push_back(key);
            }
        }
    }

    fn answered(
        &mut self,
        flight: Flight,
        outcome: Outcome,
        dice: u64,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(aboard) = self.flights.remove(&flight) else {
            return;
        };
        match outcome {
            Outcome::Unreached { after } => self.rest(after, now),
            // What this says of the others is seen below.
            Outcome::Busy { .. } => {}
            Outcome::Taken | Outcome::Refused { .. } => self.pause = None,
        }
        let lane = self.lanes.get(&aboard.partition);
        if lane.is_none_or(|lane| lane.generation != aboard.generation) {
            return;
        }
        match outcome {
            Outcome::Taken => {
                self.taken += 1;
                for (key, count) in &aboard.keys {
                    self.land(*key, aboard.partition, *count);
                }
            }
            Outcome::Unreached { .. } => {
                for (key, _) in aboard.keys.iter().rev() {
                    self.back_in_line(*key);
                }
            }
            Outcome::Busy { after } => {
                for (key, _) in &aboard.keys {
                    self.busy(*key, aboard.count > 1, after, dice, now);
                }
            }
            Outcome::Refused { after, .. } if aboard.count > 1 => {
                // Which of them it was, nobody knows: each is tried by itself.
                for (key, _) in aboard.keys.iter().rev() {
                    let Some(queue) = self.queues.get_mut(key) else {
                        continue;
                    };
                    queue.single = true;
                    if let Some(after) = after {
                        self.retries.insert((now + policy::patient(after), *key));
                    } else {
                        self.ready.push_front(*key);
                    }
                }
            }
            Outcome::Refused { final_word, after } => {
                for (key, _) in &aboard.keys {
                    self.refused(*key, &aboard, (final_word, after), dice, now, actions);
                }
            }
        }
    }

    /// The first time everything rests, and another key is asked for first. If others were taken
    /// since, it is this record that the service has no time for: its key waits by itself.
    fn busy(
        &mut self,
        key: Key,
        with_others: bool,
        after: Option<Duration>,
        dice: u64,
        now: Instant,
    ) {
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        let others_went = queue.busy > 0 && self.taken > queue.busy_at;
        queue.busy = queue.busy.saturating_add(1);
        queue.busy_at = self.taken;
        if others_went {
            queue.single |= with_others;
            let delay = self.settings.policy.delay(queue.busy, after, dice);
            self.retries.insert((now + delay, key));
        } else {
            self.ready.push_back(key);
            self.rest(after, now);
        }
    }

    fn refused(
        &mut self,
        key: Key,
        aboard: &Aboard,
        (final_word, after): (bool, Option<Duration>),
        dice: u64,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        queue.attempts += 1;
        let attempts = queue.attempts;
        let policy = &self.settings.policy;
        if final_word || attempts >= policy.attempts {
            if let Some(offset) = queue.offsets.front().copied() {
                actions.push(Action::Bury {
                    partition: aboard.partition,
                    offset,
                    attempts,
                });
            }
            self.land(key, aboard.partition, 1);
            return;
        }
        let delay = policy.delay(attempts, after, dice);
        self.retries.insert((now + delay, key));
    }

    /// The first records of a key are done; the next may go.
    fn land(&mut self, key: Key, partition: i32, count: usize) {
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        if let Some(lane) = self.lanes.get_mut(&partition) {
            for offset in queue.offsets.drain(..count.min(queue.offsets.len())) {
                lane.done(offset);
            }
        }
        queue.attempts = 0;
        queue.single = false;
        queue.busy = 0;
        if queue.offsets.is_empty() {
            self.queues.remove(&key);
        } else {
            self.ready.push_back(key);
        }
    }

    fn back_in_line(&mut self, key: Key) {
        if self.queues.contains_key(&key) {
            self.ready.push_front(key);
        }
    }

    fn rest(&mut self, after: Option<Duration>, now: Instant) {
        let times = self.pause.map_or(0, |pause| pause.times);
        // What was sent before the pause says nothing new about it.
        if self.pause.is_some_and(|pause| pause.until > now) {
            return;
        }
        let wait = self.settings.policy.pause.wait(times, after);
        self.pause = Some(Resting {
            until: now + wait,
            times: times + 1,
        });
    }

    fn begin_anew(&mut self, partition: i32, how: impl FnOnce(&mut Lane)) {
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return;
        };
        how(lane);
        let own = |key: &Key| {
            let (Key::Of(of, _) | Key::Alone(of, _)) = key;
            *of == partition
        };
        self.queues.retain(|key, _| !own(key));
        self.ready.retain(|key| !own(key));
        self.retries.retain(|(_, key)| !own(key));
        self.delayed.retain(|(_, of, ..)| *of != partition);
    }
}
