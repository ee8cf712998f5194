//! The disk fails once, at every operation of a script in turn. What was acknowledged can be read,
//! in this life and the next ones; after the failure nothing is acknowledged, and the log says why.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::super::sim::{Fault, SimDisk};
use super::super::{Error, Partition, Rewrite, batch};
use super::{ROOT, Rig, at, read_all};

/// What was acknowledged in each partition.
type Acknowledged = Vec<(&'static str, i64, Vec<u8>)>;

/// A script of all that changes a log.
struct Script {
    rig: Rig,
    acknowledged: Acknowledged,
    count: u8,
    /// Something failed that writes.
    failed: bool,
}

impl Script {
    fn run(rig: Rig, before: Acknowledged) -> (Acknowledged, bool) {
        let mut script = Self {
            rig,
            acknowledged: before,
            count: 0,
            failed: false,
        };
        for _ in 0..2 {
            script.appends("orders-0", 9);
            script.appends("points-0", 3);
            script.keep(|rig, own| rig.seal(own));
            script.rig.committer.checkpoint();
            script.appends("gone-0", 4);
            script.keep(|_, own| own.compact(&mut |_| Rewrite::Keep));
            script.keep(|_, own| {
                // The same batch again: a new file, with nothing new in it.
                own.compact(&mut |bytes| Rewrite::Replace(bytes.to_vec().into()))
            });
            script.appends("orders-0", 5);
            script.keep(|_, own| own.advance_start(4));
            script.keep(|_, own| own.retain(0, Some(Duration::ZERO), Some(1 << 20)).map(drop));
            script.remove();
            script.appends("gone-0", 2);
        }
        script.is_all_there();
        let failed = script.failed;
        let acknowledged = std::mem::take(&mut script.acknowledged);
        script.rig.close();
        (acknowledged, failed)
    }

    fn appends(&mut self, name: &'static str, count: u8) {
        for _ in 0..count {
            let batch = batch::sample(1, &[self.count; 40], 1_000);
            self.count = self.count.wrapping_add(1);
            let own = self.rig.partition(name, 500);
            let appended = own.and_then(|own| self.rig.append(&own, &batch));
            match appended {
                Ok(base) => {
                    assert!(!self.failed, "{base} was acknowledged after a failure");
                    self.acknowledged.push((name, base, at(base, &batch)));
                }
                Err(error) => self.failure(&error),
            }
        }
    }

    fn keep(&mut self, act: impl FnOnce(&mut Rig, &Partition) -> Result<(), Error>) {
        let own = self.rig.partition("orders-0", 500);
        match own.and_then(|own| act(&mut self.rig, &own)) {
            Ok(()) => {}
            // Compaction may fail to read; nothing was written then.
            Err(Error::Io { .. }) if self.rig.log.health().is_ok() => {}
            Err(error) => self.failure(&error),
        }
    }

    fn remove(&mut self) {
        if self.rig.log.known("gone-0").is_none() {
            return;
        }
        if let Err(error) = self.rig.remove("gone-0") {
            self.failure(&error);
        }
        self.acknowledged.retain(|(name, _, _)| *name != "gone-0");
    }

    fn failure(&mut self, error: &Error) {
        let health = self.rig.log.health();
        assert!(
            matches!(health, Err(Error::Poisoned(_))),
            "{error}, and nobody is told"
        );
        self.failed = true;
    }

    fn is_all_there(&self) {
        is_all_there(&self.rig, &self.acknowledged);
    }
}

fn is_all_there(rig: &Rig, acknowledged: &Acknowledged) {
    for name in ["orders-0", "points-0", "gone-0"] {
        let Some(own) = rig.log.known(name) else {
            assert!(
                acknowledged.iter().all(|(own, _, _)| *own != name),
                "{name} is gone"
            );
            continue;
        };
        if own.0.lock().removed {
            continue;
        }
        let start = own.start_offset();
        // A failed read harms nobody: the next one may go well.
        let found = read_all(&own, start, 1 << 20).or_else(|_| read_all(&own, start, 1 << 20));
        let found = found.unwrap();
        let mut must = acknowledged
            .iter()
            .filter(|(own, base, _)| *own == name && *base >= start);
        let missing = must.find(|(_, base, bytes)| !found.contains(&(*base, bytes.clone())));
        assert_eq!(missing, None);
    }
}

/// Runs the script with every operation failing in turn, on a disk with what `prepare` left there.
fn at_every_operation(fault: Fault, disk: &SimDisk, before: &Acknowledged) -> u64 {
    let first = disk.operations();
    let mut failures = 0;
    for operation in first.. {
        let disk = disk.copy();
        disk.fail_at(operation, fault);
        let mut acknowledged = before.clone();
        // A start may fail; the next one does not.
        if let Ok((rig, findings)) = Rig::open(&disk) {
            assert_eq!(findings, []);
            let failed;
            (acknowledged, failed) = Script::run(rig, acknowledged);
            failures += u64::from(failed);
        }
        if disk.is_sound() {
            return failures;
        }
        for crash in [false, true, true] {
            if crash {
                disk.crash();
            } else {
                disk.restart();
            }
            let (rig, _) = Rig::open(&disk).unwrap();
            is_all_there(&rig, &acknowledged);
        }
    }
    failures
}

#[test]
fn a_failure_loses_nothing_and_ends_everything() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let empty = SimDisk::new(7, Path::new(ROOT));
        let failures = at_every_operation(Fault::Error(kind), &empty, &Vec::new());
        assert!(failures > 200, "{failures}");

        // Again, on a disk where something is already, of a life that ended badly.
        let disk = SimDisk::new(8, Path::new(ROOT));
        let mut script = Script {
            rig: Rig::open(&disk).unwrap().0,
            acknowledged: Vec::new(),
            count: 0,
            failed: false,
        };
        script.appends("orders-0", 12);
        script.rig.committer.checkpoint();
        script.appends("orders-0", 1);
        script.appends("gone-0", 1);
        let before = script.acknowledged;
        drop(script.rig);
        disk.crash();
        let failures = at_every_operation(Fault::Error(kind), &disk, &before);
        assert!(failures > 200, "{failures}");
    }
}

#[test]
fn what_waits_when_the_disk_fails_is_refused() {
    let disk = SimDisk::new(1, Path::new(ROOT));
    let (mut rig, _) = Rig::open(&disk).unwrap();
    let names = ["a-0", "b-0", "c-0"];
    let own = names.map(|name| rig.partition(name, 1 << 20).unwrap());
    let batch = batch::sample(1, b"", 0);
    for own in &own {
        rig.append(own, &batch).unwrap();
    }
    let waiting: Vec<_> = own
        .iter()
        .map(|own| {
            own.append(batch.clone().into(), super::Durability::Synced)
                .unwrap()
        })
        .collect();
    // The three writes happen, and the second sync fails: nobody is told that it went well.
    disk.fail_at(disk.operations() + 4, Fault::Error(ErrorKind::Other));
    rig.step();
    assert!(!disk.is_sound());
    for pending in waiting {
        assert!(super::answer(pending).is_err());
    }
    for own in &own {
        assert_eq!((own.durable_offset(), own.end_offset()), (1, 2));
        assert_eq!(read_all(own, 0, 1 << 20).unwrap().len(), 1);
        let late = own.append(batch.clone().into(), super::Durability::Memory);
        assert!(matches!(late, Err(Error::Poisoned(_))));
    }
    assert!(matches!(rig.partition("d-0", 1), Err(Error::Poisoned(_))));
    assert_eq!(
        rig.log
            .waiting_bytes
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
}
