//! Sessions of Fetch (KIP-227): what a client reads is remembered, so that a request names only what
//! has changed, and its answer only what there is to tell.
//!
//! ```text
//! (id 0, epoch 0)   all partitions   -> the answer names a session, whose first epoch is 1
//! (id, epoch n)     what changed     -> partitions with records, an error, or ends that moved
//! (id, epoch 0)     all partitions   -> the session ends, and another begins
//! (id, epoch -1)    all partitions   -> the session ends; with id 0 there was none
//! ```
//!
//! The epoch rises by one with each request: what was lost or came twice is noticed, and the client
//! begins anew. A partition that gave records goes behind the others, so that one with many does not
//! starve them when an answer has no more room.
//!
//! A session is memory that a client asks for. It belongs to who made it; for others there is none.
//! Their number and that of all their partitions are bounded; when there is no room, one that was idle
//! for long or is smaller and old goes, or else the client gets none and names its partitions each
//! time, as it did before there were sessions. What may be read is not remembered: that is asked anew
//! by every request.
//!
//! Told what happened and when; knows no clock, no log and no chance.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access::Principal;

/// The epoch of a request that names all and asks for a session.
pub const FIRST: i32 = 0;
/// The epoch of a request that names all and wants none.
pub const NONE: i32 = -1;

/// What sessions may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sessions at one time. Default 1,000, as in Kafka.
    pub sessions: usize,
    /// Partitions of all sessions together. Default 100,000: some 15 MB, and four times as much if each
    /// is of a topic of its own with the longest name.
    pub partitions: usize,
    /// Partitions of one session. Default 10,000: more are named anew each time.
    pub of_one: usize,
    /// One that was not used for so long goes when there is no room; one that has been there for so
    /// long gives way to a larger one. Default 2 min, as in Kafka.
    pub idle: Duration,
}

/// A topic as a session knows it.
#[derive(Debug, Clone)]
pub enum Topic {
    /// By its name: up to version 12 of Fetch.
    Name(Arc<str>),
    /// By its id, from version 13 on.
    Id {
        /// The id.
        id: [u8; 16],
        /// The name that it had when it came into the session. None: nobody knew it. Two of the same id
        /// are the same topic, whatever the name.
        name: Option<Arc<str>>,
    },
}

/// What a client wants of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// From where on.
    pub offset: i64,
    /// At most so many bytes, but one batch.
    pub bytes_max: i32,
}

/// The ends of a partition as a client was told them; -1: it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The offset after the last acknowledged record.
    pub high_watermark: i64,
    /// How far readers of committed records may read.
    pub last_stable: i64,
    /// The first offset.
    pub start: i64,
}

/// A request that continues a session.
#[derive(Debug)]
pub struct Increment {
    /// Which.
    pub id: i32,
    /// What the client thinks comes next.
    pub epoch: i32,
    /// Its topics go by their ids.
    pub by_id: bool,
    /// Partitions that are new or wanted otherwise.
    pub changed: Vec<(Topic, Vec<(i32, Want)>)>,
    /// Partitions that are not wanted any more.
    pub forgotten: Vec<(Topic, Vec<i32>)>,
}

/// What is to be read for a request.
#[derive(Debug)]
pub struct Round {
    /// Which session; 0: nothing was left of it, and it is gone.
    pub id: i32,
    /// What [`Sessions::told`] has to be given.
    pub epoch: i32,
    /// All its partitions, in the order in which they are read.
    pub wanted: Vec<Wanted>,
}

/// A partition of a session.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its place in the order.
    pub place: u64,
    /// Its topic.
    pub topic: Arc<Topic>,
    /// Which partition of it.
    pub index: i32,
    /// What is wanted.
    pub want: Want,
    /// What was told last.
    pub told: Ends,
}

/// What an answer tells of a partition.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Its place in the order.
    pub place: u64,
    /// Its ends.
    pub ends: Ends,
    /// It gave records.
    pub gave: bool,
}

/// Why a session cannot go on. The client begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none of this id, or it is another's, or it grew too large.
    #[error("there is no session {0}")]
    NotFound(i32),
    /// A request was lost, or came twice.
    #[error("epoch {given} does not follow, {expected} comes next")]
    Epoch {
        /// What came.
        given: i32,
        /// What comes next.
        expected: i32,
    },
    /// Its topics went by names before, or the other way round.
    #[error("the session's topics are called in another way")]
    TopicIds,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    limits: Limits,
    known: HashMap<i32, Session>,
    /// Of all sessions.
    partitions: usize,
}

#[derive(Debug)]
struct Session {
    who: Principal,
    by_id: bool,
    /// What comes next.
    epoch: i32,
    made: Instant,
    used: Instant,
    /// In the order in which they are read.
    order: BTreeMap<u64, Wanted>,
    places: HashMap<Arc<Topic>, HashMap<i32, u64>>,
    next_place: u64,
}

/// What tells topics apart.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Name(&'a str),
    Id(&'a [u8; 16]),
}

impl Topic {
    fn key(&self) -> Key<'_> {
        match self {
            Self::Name(name) => Key::Name(name),
            Self::Id { id, .. } => Key::Id(id),
        }
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Topic {}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1_000,
            partitions: 100_000,
            of_one: 10_000,
            idle: Duration::from_secs(2 * 60),
        }
    }
}

impl Ends {
    /// Nothing was told.
    pub const UNKNOWN: Self = Self {
        high_watermark: -1,
        last_stable: -1,
        start: -1,
    };
}

impl Sessions {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Makes a session of what was asked for and told. Its first request has epoch 1. `id`: a number
    /// left to chance. None: there is no room, or nothing to remember.
    pub fn make(
        &mut self,
        id: i32,
        who: &Principal,
        by_id: bool,
        wanted: Vec<(Arc<Topic>, i32, Want, Ends)>,
        now: Instant,
    ) -> Option<i32> {
        let size = wanted.len();
        let sound = id > 0 && !self.known.contains_key(&id);
        if !sound || !self.would_take(size) || !self.make_room(size, now) {
            return None;
        }
        let mut session = Session {
            who: who.clone(),
            by_id,
            epoch: 1,
            made: now,
            used: now,
            order: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        for (topic, index, want, told) in wanted {
            session.put(topic, index, want, told);
        }
        self.partitions += session.order.len();
        self.known.insert(id, session);
        Some(id)
    }

    /// Takes a request that continues a session. Its answer is to be shown to [`Self::told`].
    ///
    /// # Errors
    /// When there is no such session, or the request is not its next.
    pub fn next(
        &mut self,
        who: &Principal,
        increment: Increment,
        now: Instant,
    ) -> Result<Round, Refused> {
        let id = increment.id;
        let known = self.known.get_mut(&id).filter(|own| own.who == *who);
        let session = known.ok_or(Refused::NotFound(id))?;
        if session.epoch != increment.epoch {
            return Err(Refused::Epoch {
                given: increment.epoch,
                expected: session.epoch,
            });
        }
        if session.by_id != increment.by_id {
            return Err(Refused::TopicIds);
        }
        let before = session.order.len();
        let others = self.partitions - before;
        let most = self.limits.of_one.min(self.limits.partitions - others);
        let fits = session.change(increment, most);
        let after = session.order.len();
        self.partitions = others + after;
        if !fits {
            self.end(id, who);
            return Err(Refused::NotFound(id));
        }
        if after == 0 {
            self.end(id, who);
            return Ok(Round {
                id: 0,
                epoch: NONE,
                wanted: Vec::new(),
            });
        }
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        session.used = now;
        Ok(Round {
            id,
            epoch: session.epoch,
            wanted: session.order.values().cloned().collect(),
        })
    }

    /// What the answer of a round tells. A session that is gone meanwhile is not missed: the next
    /// request finds out.
    ///
    /// # Errors
    /// When another request of the session came in between.
    pub fn told(
        &mut self,
        id: i32,
        epoch: i32,
        told: impl IntoIterator<Item = Told>,
    ) -> Result<(), Refused> {
        let Some(session) = self.known.get_mut(&id) else {
            return Ok(());
        };
        if session.epoch != epoch {
            return Err(Refused::Epoch {
                given: epoch,
                expected: session.epoch,
            });
        }
        for told in told {
            session.told(told);
        }
        Ok(())
    }

    /// Ends a session, if it is there and of `who`.
    pub fn end(&mut self, id: i32, who: &Principal) {
        if self.known.get(&id).is_some_and(|own| own.who == *who) {
            self.remove(id);
        }
    }

    /// Whether there could be one of so many partitions.
    pub fn would_take(&self, partitions: usize) -> bool {
        (1..=self.limits.of_one).contains(&partitions)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The partitions of all sessions together.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    fn remove(&mut self, id: i32) {
        if let Some(gone) = self.known.remove(&id) {
            self.partitions -= gone.order.len();
        }
    }

    fn has_room(&self, size: usize, less: usize, partitions_less: usize) -> bool {
        self.known.len() - less < self.limits.sessions
            && self.partitions - partitions_less + size <= self.limits.partitions
    }

    /// Room for a session of this size: those go that were idle for long, the longest first, and then
    /// those that are smaller and not new, the smallest first; none, if that does not suffice.
    fn make_room(&mut self, size: usize, now: Instant) -> bool {
        if self.has_room(size, 0, 0) {
            return true;
        }
        let long = |since: Instant| now.saturating_duration_since(since) >= self.limits.idle;
        let mut idle = Vec::new();
        let mut smaller = Vec::new();
        for (id, session) in &self.known {
            let own = session.order.len();
            if long(session.used) {
                idle.push((session.used, own, *id));
            } else if long(session.made) && own < size {
                smaller.push((own, *id));
            }
        }
        idle.sort_unstable();
        smaller.sort_unstable();
        let idle = idle.into_iter().map(|(_, own, id)| (own, id));
        let mut gone = Vec::new();
        let mut freed = 0;
        for (own, id) in idle.chain(smaller) {
            freed += own;
            gone.push(id);
            if self.has_room(size, gone.len(), freed) {
                gone.into_iter().for_each(|id| self.remove(id));
                return true;
            }
        }
        false
    }
}

impl Session {
    /// False: it would have more than `most` partitions.
    fn change(&mut self, increment: Increment, most: usize) -> bool {
        for (topic, partitions) in increment.changed {
            let topic = self.same(topic);
            for (index, want) in partitions {
                self.put(Arc::clone(&topic), index, want, Ends::UNKNOWN);
                // Not only at the end: a request may name more than there is room for.
                if self.order.len() > most {
                    return false;
                }
            }
        }
        for (topic, partitions) in increment.forgotten {
            self.forget(&topic, &partitions);
        }
        true
    }

    /// The topic as it is here already, so that it is held once.
    fn same(&self, topic: Topic) -> Arc<Topic> {
        let known = self.places.get_key_value(&topic);
        known.map_or_else(|| Arc::new(topic), |(topic, _)| Arc::clone(topic))
    }

    /// One that is there keeps its place and what was told of it.
    fn put(&mut self, topic: Arc<Topic>, index: i32, want: Want, told: Ends) {
        let places = self.places.entry(Arc::clone(&topic)).or_default();
        if let Some(place) = places.get(&index) {
            if let Some(known) = self.order.get_mut(place) {
                known.want = want;
            }
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        places.insert(index, place);
        let wanted = Wanted {
            place,
            topic,
            index,
            want,
            told,
        };
        self.order.insert(place, wanted);
    }

    fn forget(&mut self, topic: &Topic, partitions: &[i32]) {
        let Some(places) = self.places.get_mut(topic) else {
            return;
        };
        for index in partitions {
            if let Some(place) = places.remove(index) {
                self.order.remove(&place);
            }
        }
        if places.is_empty() {
            self.places.remove(topic);
        }
    }

    fn told(&mut self, told: Told) {
        let Some(known) = self.order.get_mut(&told.place) else {
            return;
        };
        known.told = told.ends;
        if !told.gave {
            return;
        }
        let Some(mut known) = self.order.remove(&told.place) else {
            return;
        };
        known.place = self.next_place;
        self.next_place += 1;
        if let Some(places) = self.places.get_mut(&known.topic) {
            places.insert(known.index, known.place);
        }
        self.order.insert(known.place, known);
    }
}
