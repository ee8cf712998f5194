//! Many lives of a subscription, by seed: services that fail, vanish and come back, crashes at any
//! moment. Nothing is lost, keys stay in order, and after a crash only what was not kept comes again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use atoll_base::clock::monotonic;

use super::*;

/// A small generator of numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

struct World {
    dice: Dice,
    now: Instant,
    /// The key of each record; records that are missing here were never committed.
    log: Vec<Option<Option<u64>>>,
    written: usize,
    machine: Delivery,
    settings: Settings,
    /// Under way: what, and when it is answered.
    sky: BTreeMap<Flight, (Vec<i64>, Instant)>,
    kept: (i64, String),
    /// Records that are done, by what the service and the grave saw, in this life and before.
    done: BTreeSet<i64>,
    /// What is done and kept: it must never come again.
    safe: BTreeSet<i64>,
    /// The record of each key that is under way.
    busy: HashMap<u64, Flight>,
    buried: usize,
}

#[test]
fn thousands_of_lives() {
    let (mut buried, mut crashes) = (0, 0);
    for seed in 0..2000 {
        let mut world = World::new(seed);
        crashes += world.live();
        buried += world.buried;
    }
    assert!(buried > 1000 && crashes > 1000, "{buried} {crashes}");
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let settings = Settings {
            concurrency: 1 + dice.below(5) as usize,
            batch: 1 + dice.below(3) as usize,
            policy: Policy {
                attempts: 1 + dice.below(3) as u32,
                ..Policy::default()
            },
        };
        let count = 5 + dice.below(60);
        let keys = 1 + dice.below(6);
        let log = (0..count).map(|_| match dice.below(10) {
            0 => None,
            1 | 2 => Some(None),
            _ => Some(Some(dice.below(keys))),
        });
        let log = log.collect();
        let mut machine = Delivery::new(settings.clone());
        machine.open(0, 0, "");
        Self {
            dice,
            now: monotonic(),
            log,
            written: 0,
            machine,
            settings,
            sky: BTreeMap::new(),
            kept: (0, String::new()),
            done: BTreeSet::new(),
            safe: BTreeSet::new(),
            busy: HashMap::new(),
            buried: 0,
        }
    }

    fn live(&mut self) -> usize {
        let mut crashes = 0;
        for _ in 0..400 {
            match self.dice.below(12) {
                0..=2 => self.write(),
                3..=5 => self.read(),
                6..=8 => self.answer(),
                9 => {
                    self.keep();
                }
                10 => self.pass(),
                _ if self.dice.below(8) == 0 && crashes < 5 => {
                    crashes += 1;
                    self.crash();
                }
                _ => {}
            }
        }
        self.written = self.log.len();
        while self.done.len() < self.log.iter().flatten().count() || !self.sky.is_empty() {
            self.read();
            self.answer();
            self.pass();
        }
        let all = self.log.iter().zip(0..).filter(|(key, _)| key.is_some());
        let all: BTreeSet<i64> = all.map(|(_, offset)| offset).collect();
        assert_eq!(self.done, all, "everything is done in the end");
        while self.keep() {}
        assert_eq!(self.kept, (self.log.len() as i64, String::new()));
        crashes
    }

    fn write(&mut self) {
        let more = self.dice.below(4) as usize;
        self.written = (self.written + more).min(self.log.len());
    }

    fn read(&mut self) {
        let Some(from) = self.machine.wants(0) else {
            return;
        };
        let most = 1 + self.dice.below(10) as usize;
        let begin = from as usize;
        let next = (begin + most).min(self.written);
        if next <= begin {
            return;
        }
        let records = (begin..next).filter_map(|index| {
            let key = self.log[index]?;
            Some(Arrival {
                offset: index as i64,
                key,
                due: None,
            })
        });
        let command = Command::Arrived {
            partition: 0,
            from,
            records: records.collect(),
            next: next as i64,
        };
        self.apply(command);
    }

    fn answer(&mut self) {
        let due = self.sky.iter().find(|(_, (_, at))| *at <= self.now);
        let Some((flight, (offsets, _))) = due.map(|(flight, what)| (*flight, what.clone())) else {
            return;
        };
        self.sky.remove(&flight);
        self.busy.retain(|_, own| *own != flight);
        let outcome = match self.dice.below(10) {
            0..=5 => Outcome::Taken,
            6 | 7 => Outcome::Refused {
                final_word: self.dice.below(10) == 0,
                after: None,
            },
            8 => Outcome::Busy {
                after: (self.dice.below(2) == 0).then_some(Duration::from_secs(1)),
            },
            _ => Outcome::Unreached { after: None },
        };
        if outcome == Outcome::Taken {
            self.done.extend(&offsets);
        }
        let dice = self.dice.next();
        self.apply(Command::Answered {
            flight,
            outcome,
            dice,
        });
    }

    /// Keeps the mark, or fails to; false if there is nothing new.
    fn keep(&mut self) -> bool {
        let Some(mark) = self.machine.progress(0) else {
            return false;
        };
        if self.dice.below(5) == 0 {
            self.machine.not_kept(0);
        } else {
            self.kept = mark;
            self.safe = self.done.clone();
        }
        true
    }

    fn pass(&mut self) {
        self.now += Duration::from_millis(self.dice.below(3000));
        if self
            .machine
            .next_deadline()
            .is_some_and(|at| at <= self.now)
        {
            self.apply(Command::Tick);
        }
    }

    fn crash(&mut self) {
        self.machine = Delivery::new(self.settings.clone());
        self.machine.open(0, self.kept.0, &self.kept.1);
        self.sky.clear();
        self.busy.clear();
        // What was done and not kept may come again.
        self.done = self.safe.clone();
    }

    fn apply(&mut self, command: Command) {
        for action in self.machine.apply(command, self.now) {
            match action {
                Action::Deliver {
                    flight, offsets, ..
                } => self.take_off(flight, offsets),
                Action::Bury { offset, .. } => {
                    assert!(self.done.insert(offset), "{offset} is given up once");
                    self.buried += 1;
                }
            }
        }
        assert!(self.sky.len() <= self.settings.concurrency);
    }

    fn take_off(&mut self, flight: Flight, offsets: Vec<i64>) {
        assert!((1..=self.settings.batch).contains(&offsets.len()));
        for offset in &offsets {
            assert!(!self.done.contains(offset), "{offset} is done already");
            assert!(!self.safe.contains(offset), "{offset} is done and kept");
            let key = self.log[*offset as usize].expect("it was committed");
            let Some(key) = key else { continue };
            let other = self.busy.insert(key, flight);
            assert!(
                other.is_none_or(|other| other == flight),
                "two of {key} at once"
            );
            let earlier = (0..*offset).filter(|own| self.log[*own as usize] == Some(Some(key)));
            for own in earlier {
                let settled = self.done.contains(&own) || offsets.contains(&own);
                assert!(settled, "{own} comes before {offset}");
            }
        }
        let lasts = Duration::from_millis(self.dice.below(2000));
        self.sky.insert(flight, (offsets, self.now + lasts));
    }
}
