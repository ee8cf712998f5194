//! Whole lives of a log on a disk that forgets: random work, a crash after any operation of the
//! disk, a start, and a look at what must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::super::sim::{Fault, Random, SimDisk};
use super::super::{Durability, Error, Finding, Partition, Pending, Rewrite, batch};
use super::{ROOT, Rig, answer, at, read_all};

/// What is known of a batch.
#[derive(Debug)]
struct Known {
    next: i64,
    /// What it may be: as it was written, and as compaction has replaced it.
    versions: Vec<Vec<u8>>,
    /// Compaction may have dropped it.
    may_be_gone: bool,
    /// It was acknowledged as synced, or something after it was.
    certain: bool,
}

/// What is known of a partition.
#[derive(Debug, Default)]
struct Model {
    batches: BTreeMap<i64, Known>,
    /// Where it may begin.
    start_min: i64,
    start_max: i64,
    /// It was being made or removed when the crash came.
    may_be_gone: bool,
}

/// A world: a disk and what must be on it.
struct World {
    random: Random,
    disk: SimDisk,
    models: BTreeMap<&'static str, Model>,
    /// What happened, for whoever has to understand a failure.
    acknowledged: usize,
    found: usize,
}

const NAMES: [&str; 3] = ["orders-0", "orders-1", "points-0"];

#[test]
fn what_was_acknowledged_survives_every_crash() {
    // More of them: ATOLL_SEEDS=0..1000000.
    let seeds = std::env::var("ATOLL_SEEDS").ok();
    let range = seeds.as_deref().and_then(|seeds| {
        let (first, end) = seeds.split_once("..")?;
        Some(first.parse().ok()?..end.parse().ok()?)
    });
    let (mut acknowledged, mut found) = (0, 0);
    for seed in range.unwrap_or(0..2_000) {
        let world = World::run(seed);
        acknowledged += world.acknowledged;
        found += world.found;
    }
    // A simulation in which nothing happens proves nothing.
    assert!(
        seeds.is_some() || acknowledged > 10_000,
        "{acknowledged} were acknowledged"
    );
    assert!(
        seeds.is_some() || found > 10_000,
        "{found} were found again"
    );
}

impl World {
    fn run(seed: u64) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            disk: SimDisk::new(seed ^ 0xa5a5, Path::new(ROOT)),
            models: BTreeMap::new(),
            acknowledged: 0,
            found: 0,
        };
        let lives = 2 + world.random.below(4);
        for life in 0..lives {
            let context = Context(seed, life);
            world.live();
            if world.random.below(3) == 0 {
                world.disk.restart();
            } else {
                world.disk.crash();
            }
            world.check();
            drop(context);
        }
        world
    }

    /// One life, that ends with a fault or in order.
    fn live(&mut self) {
        let many = [30, 200, 800][self.random.index(3)];
        let at = self.disk.operations() + self.random.below(many);
        let fault = match self.random.below(4) {
            0 => Fault::Error(std::io::ErrorKind::StorageFull),
            _ => Fault::Crash,
        };
        self.disk.fail_at(at, fault);
        let Ok((mut rig, findings)) = Rig::open(&self.disk) else {
            return;
        };
        no_loss(&findings);
        let steps = 5 + self.random.below(40);
        for _ in 0..steps {
            self.act(&mut rig);
        }
        if self.random.below(3) == 0 {
            rig.close();
        }
    }

    fn act(&mut self, rig: &mut Rig) {
        match self.random.below(20) {
            0 => self.remove(rig),
            1 => self.retain(rig),
            2 => self.advance(rig),
            3 => self.compact(rig),
            4 => {
                if let Some((_, own)) = self.open(rig) {
                    // Nothing is expected of it but that it does no harm.
                    let _ = rig.seal(&own);
                }
            }
            5 => rig.committer.checkpoint(),
            6 => self.read(rig),
            _ => self.append(rig),
        }
    }

    /// Some partition, made if need be.
    fn open(&mut self, rig: &Rig) -> Option<(&'static str, Partition)> {
        let name = NAMES[self.random.index(NAMES.len())];
        let fresh = !self.models.contains_key(name);
        let segment_bytes = 1_000 + self.random.below(20_000);
        let opened = rig.partition(name, segment_bytes).ok();
        if fresh {
            let model = Model {
                may_be_gone: opened.is_none(),
                ..Model::default()
            };
            self.models.insert(name, model);
        }
        opened.map(|own| (name, own))
    }

    /// A group of appends, to several partitions.
    fn append(&mut self, rig: &mut Rig) {
        let mut group: Vec<(&str, i64, Durability, Pending)> = Vec::new();
        for _ in 0..=self.random.below(6) {
            let Some((name, own)) = self.open(rig) else {
                return;
            };
            let durability = match self.random.below(5) {
                0 => Durability::Memory,
                _ => Durability::Synced,
            };
            let batch = self.batch();
            let expected = own.end_offset();
            let Ok(pending) = own.append(Bytes::from(batch.clone()), durability) else {
                continue;
            };
            let base = pending.base_offset();
            assert_eq!(base, expected);
            let known = Known {
                next: pending.next_offset(),
                versions: vec![at(base, &batch)],
                may_be_gone: false,
                certain: false,
            };
            let model = self.models.get_mut(name).expect("it was opened");
            let before = model.batches.insert(base, known);
            assert!(
                before.is_none_or(|before| !before.certain),
                "{name}: {base} was given twice"
            );
            group.push((name, base, durability, pending));
        }
        rig.step();
        for (name, base, durability, pending) in group {
            if answer(pending).is_ok() {
                self.acknowledged += 1;
                let model = self.models.get_mut(name).expect("it was opened");
                if durability == Durability::Synced {
                    model
                        .batches
                        .range_mut(..=base)
                        .for_each(|(_, own)| own.certain = true);
                }
            } else {
                assert!(!self.disk.is_sound(), "only the fault makes an append fail");
            }
        }
    }

    fn batch(&mut self) -> Vec<u8> {
        let bytes = [20, 300, 9_000][self.random.index(3)];
        let bytes = self.random.index(bytes);
        let mut payload = self.random.any().to_le_bytes().to_vec();
        payload.resize(8 + bytes, payload[0] | 1);
        let records = 1 + i32::try_from(self.random.below(4)).expect("small");
        let time = i64::try_from(self.random.below(1_000)).expect("small");
        batch::sample(records, &payload, time)
    }

    fn remove(&mut self, rig: &mut Rig) {
        let name = NAMES[self.random.index(NAMES.len())];
        if rig.log.known(name).is_none() {
            return;
        }
        if rig.remove(name).is_ok() {
            self.models.remove(name);
        } else if let Some(model) = self.models.get_mut(name) {
            model.may_be_gone = true;
        }
    }

    fn retain(&mut self, rig: &Rig) {
        let Some((name, own)) = self.open(rig) else {
            return;
        };
        let age = (self.random.below(2) == 0).then_some(Duration::from_millis(500));
        let bytes = (self.random.below(2) == 0).then_some(self.random.below(30_000));
        let end = own.durable_offset();
        let kept = own.retain(1_200, age, bytes);
        let start = own.start_offset();
        assert!(start <= end);
        self.begins(name, start, if kept.is_ok() { start } else { end });
    }

    fn advance(&mut self, rig: &Rig) {
        let Some((name, own)) = self.open(rig) else {
            return;
        };
        let end = own.durable_offset();
        let wanted = own.start_offset() + 1 + i64::try_from(self.random.below(10)).expect("small");
        let wanted = wanted.min(end);
        let advanced = own.advance_start(wanted);
        if advanced.is_ok() {
            assert!(own.start_offset() >= wanted);
        }
        self.begins(name, own.start_offset(), wanted);
    }

    fn begins(&mut self, name: &str, least: i64, most: i64) {
        let model = self.models.get_mut(name).expect("it was opened");
        model.start_min = model.start_min.max(least);
        model.start_max = model.start_max.max(most).max(least);
    }

    /// Drops some batches, and replaces others by empty ones.
    fn compact(&mut self, rig: &Rig) {
        let Some((name, own)) = self.open(rig) else {
            return;
        };
        let model = self.models.get_mut(name).expect("it was opened");
        let random = &mut self.random;
        // It fails with the disk; what it may have done by then is known all the same.
        let _ = own.compact(&mut |bytes| {
            let header = super::Header::verify(bytes).expect("what is offered is sound");
            let known = model.batches.get_mut(&header.base_offset);
            let known = known.expect("what is offered was written");
            assert!(known.versions.iter().any(|own| own == bytes));
            match random.below(4) {
                0 => {
                    known.may_be_gone = true;
                    Rewrite::Drop
                }
                1 => {
                    let empty = batch::sample(header.last_offset_delta + 1, b"", 0);
                    let empty = at(header.base_offset, &empty);
                    known.versions.push(empty.clone());
                    Rewrite::Replace(empty.into())
                }
                _ => Rewrite::Keep,
            }
        });
    }

    /// What a reader sees at any time is what was written.
    fn read(&mut self, rig: &Rig) {
        let Some((name, own)) = self.open(rig) else {
            return;
        };
        let most = 1 + self.random.index(20_000);
        match read_all(&own, own.start_offset(), most) {
            Ok(found) => compare(&self.models[name], &found, own.start_offset()),
            Err(Error::Io { .. }) if !self.disk.is_sound() => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// What must hold after a start; from here on what is there is certain.
    fn check(&mut self) {
        let (rig, findings) = Rig::open(&self.disk).expect("a sound disk can be opened");
        no_loss(&findings);
        let mut names: Vec<_> = rig
            .log
            .all()
            .iter()
            .map(|own| own.name.to_string())
            .collect();
        names.sort();
        self.models.retain(|name, model| {
            let there = names.iter().any(|own| own == name);
            assert!(there || model.may_be_gone, "{name} is gone");
            there
        });
        for name in names {
            let own = rig.log.known(&name).expect("it is listed");
            let model = self.models.get_mut(&*name);
            let model = model.unwrap_or_else(|| panic!("{name} is back"));
            let start = own.start_offset();
            let may_start = model.start_min..=model.start_max;
            assert!(
                may_start.contains(&start),
                "{name}: {start} of {may_start:?}"
            );
            let found = read_all(&own, start, 1 << 20).expect("what is there can be read");
            self.found += found.len();
            compare(model, &found, start);
            let end = own.durable_offset();
            assert_eq!(end, own.end_offset());
            model.batches.retain(|_, known| known.next <= end);
            for known in model.batches.values_mut() {
                known.certain = true;
            }
            (model.start_min, model.start_max) = (start, start);
            model.may_be_gone = false;
        }
    }
}

/// What was found is what was written, and all that is certain is there.
fn compare(model: &Model, found: &[(i64, Vec<u8>)], start: i64) {
    for (base, bytes) in found {
        let known = model.batches.get(base);
        let known = known.unwrap_or_else(|| panic!("{base} was never written"));
        assert!(
            known.versions.contains(bytes),
            "{base} is not what was written"
        );
    }
    let found: BTreeSet<_> = found.iter().map(|(base, _)| base).collect();
    let must = model.batches.iter();
    for (base, _) in must.filter(|(_, own)| own.certain && !own.may_be_gone && own.next > start) {
        assert!(found.contains(base), "{base} is gone");
    }
}

fn no_loss(findings: &[Finding]) {
    let bad = findings
        .iter()
        .find(|own| !matches!(own, Finding::Cut { .. }));
    assert_eq!(bad, None, "a crash is no loss");
}

/// Tells the seed when a test fails.
struct Context(u64, u64);

impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, life {}", self.0, self.1);
        }
    }
}
