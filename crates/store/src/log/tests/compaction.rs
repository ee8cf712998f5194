//! Compaction and what goes on beside it: a disk without room, deletions, large files.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

use super::super::sim::{Fault, SimDisk};
use super::super::{Durability, Error, Header, Partition, Rewrite, batch};
use super::{ROOT, Rig, answer, read_all};

fn base(bytes: &[u8]) -> i64 {
    Header::verify(bytes).unwrap().base_offset
}

/// A partition of small files, with batches of one record.
fn filled(disk: &SimDisk, count: u8) -> (Rig, Partition) {
    let (mut rig, _) = Rig::open(disk).unwrap();
    let own = rig.partition("orders-0", 500).unwrap();
    for number in 0..count {
        rig.append(&own, &batch::sample(1, &[number; 20], 0))
            .unwrap();
    }
    (rig, own)
}

fn offsets(own: &Partition) -> Vec<i64> {
    let all = read_all(own, own.start_offset(), 1 << 20).unwrap();
    all.iter().map(|(base, _)| *base).collect()
}

fn drops_odd(bytes: &[u8]) -> Rewrite {
    match base(bytes) % 2 {
        1 => Rewrite::Drop,
        _ => Rewrite::Keep,
    }
}

fn leftovers(disk: &SimDisk) -> bool {
    let files = disk.files();
    let mut names = files.iter().map(|(path, _)| path.to_string_lossy());
    names.any(|name| name.ends_with(".log.new"))
}

#[test]
fn a_disk_without_room_costs_a_run_and_nothing_else() {
    let prepared = SimDisk::new(3, Path::new(ROOT));
    drop(filled(&prepared, 16));
    let (mut harmless, mut fatal) = (0, 0);
    for after in 0.. {
        let disk = prepared.copy();
        let (mut rig, _) = Rig::open(&disk).unwrap();
        let own = rig.partition("orders-0", 500).unwrap();
        rig.append(&own, &batch::sample(1, b"", 0)).unwrap();
        let before = offsets(&own);
        disk.fail_at(
            disk.operations() + after,
            Fault::Error(ErrorKind::StorageFull),
        );
        let done = own.compact(&mut drops_odd);
        if disk.is_sound() {
            // The last one: it fails at none.
            break;
        }
        if rig.log.health().is_err() {
            assert!(matches!(done, Err(Error::Io { .. })), "{done:?}");
            fatal += 1;
            continue;
        }
        harmless += 1;
        assert!(!leftovers(&disk));
        let failed = done.is_err();
        assert!(failed || offsets(&own) != before, "operation {after}");
        // Records are taken as before, and the next run does what this one could not.
        rig.append(&own, &batch::sample(1, b"", 0)).unwrap();
        own.compact(&mut drops_odd).unwrap();
        let finished = own.segments().last().unwrap().base;
        let left = offsets(&own);
        assert!(
            left.iter()
                .all(|offset| offset % 2 == 0 || *offset >= finished)
        );
    }
    // Of four files: all that is done with the new one before the old index goes, and the rest.
    assert_eq!((harmless, fatal), (20, 30));
}

#[test]
fn who_deletes_does_not_wait_for_a_compaction() {
    let disk = SimDisk::new(3, Path::new(ROOT));
    let (_rig, own) = filled(&disk, 16);
    let bases: Vec<_> = own.segments().iter().map(|file| file.base).collect();
    let mut offered = Vec::new();
    own.compact(&mut |bytes| {
        offered.push(base(bytes));
        if base(bytes) == 1 {
            // The file that is being read goes, and the next one.
            own.advance_start(bases[2]).unwrap();
        }
        drops_odd(bytes)
    })
    .unwrap();
    assert!(!offered.contains(&bases[1]), "{offered:?}");
    assert_eq!(own.start_offset(), bases[2]);
    let last = *bases.last().unwrap();
    let expected = (bases[2]..16).filter(|offset| offset % 2 == 0 || *offset >= last);
    assert_eq!(offsets(&own), expected.collect::<Vec<_>>());
    assert!(!leftovers(&disk));
    let gone = format!("{:020}.log", bases[0]);
    assert!(disk.files().iter().all(|(path, _)| !path.ends_with(&gone)));
}

#[test]
fn a_partition_that_is_removed_meanwhile_leaves_the_next_of_its_name_alone() {
    let disk = SimDisk::new(3, Path::new(ROOT));
    for moment in [1, 2] {
        let (mut rig, own) = filled(&disk, 16);
        let mut again = None;
        let done = own.compact(&mut |bytes| {
            if base(bytes) == moment && again.is_none() {
                rig.remove("orders-0").unwrap();
                let other = rig.partition("orders-0", 500).unwrap();
                for _ in 0..16 {
                    rig.append(&other, &batch::sample(1, b"again", 0)).unwrap();
                }
                again = Some(other);
            }
            drops_odd(bytes)
        });
        assert!(matches!(done, Err(Error::Removed(_))), "{done:?}");
        assert!(!leftovers(&disk));
        assert_eq!(offsets(&again.unwrap()), (0..16).collect::<Vec<_>>());
        rig.log.health().unwrap();
        rig.remove("orders-0").unwrap();
    }
}

#[test]
fn only_chosen_files_are_read() {
    let disk = SimDisk::new(3, Path::new(ROOT));
    let (_rig, own) = filled(&disk, 16);
    let files = own.segments();
    let mut offered = Vec::new();
    let mut rewrite = |bytes: &[u8]| {
        offered.push(base(bytes));
        Rewrite::Keep
    };
    let before = disk.operations();
    own.compact_some(&|base| base == files[1].base, &mut rewrite)
        .unwrap();
    let some = disk.operations() - before;
    assert_eq!(offered, (files[1].base..files[2].base).collect::<Vec<_>>());
    own.compact(&mut |_| Rewrite::Keep).unwrap();
    assert!(disk.operations() - before > 3 * some);
}

#[test]
fn files_larger_than_a_piece_are_written_anew() {
    let disk = SimDisk::new(3, Path::new(ROOT));
    let (mut rig, _) = Rig::open(&disk).unwrap();
    let own = rig.partition("orders-0", 8 << 20).unwrap();
    let sizes = [700_000, 300_000, 2_500_000, 10, 1_048_576 - 61, 900_000, 5];
    for (number, size) in (0_u8..).zip(sizes) {
        rig.append(&own, &batch::sample(1, &vec![number; size], 0))
            .unwrap();
    }
    rig.seal(&own).unwrap();
    let mut expected = read_all(&own, 0, 1 << 20).unwrap();
    for gone in [5, 1, 2, 0] {
        expected.retain(|(offset, _)| *offset != gone);
        own.compact(&mut |bytes| match base(bytes) {
            own if own == gone => Rewrite::Drop,
            _ => Rewrite::Keep,
        })
        .unwrap();
        assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), expected);
        let kept: usize = expected.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(own.segments()[0].bytes, 16 + kept as u64);
    }
    drop(rig);
    disk.restart();
    let (rig, findings) = Rig::open(&disk).unwrap();
    assert_eq!(findings, []);
    let own = rig.partition("orders-0", 8 << 20).unwrap();
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), expected);
}

#[test]
fn what_lasts_is_told_apart_from_what_is_acknowledged() {
    let disk = SimDisk::new(3, Path::new(ROOT));
    let (mut rig, own) = filled(&disk, 1);
    let ends = |own: &Partition| (own.synced_offset(), own.durable_offset());
    assert_eq!(ends(&own), (1, 1));
    let put = |rig: &mut Rig, durability| {
        let batch = batch::sample(1, b"", 0);
        let pending = own.append(batch.into(), durability).unwrap();
        rig.step();
        answer(pending).unwrap();
        ends(&own)
    };
    assert_eq!(put(&mut rig, Durability::Memory), (1, 2));
    assert_eq!(put(&mut rig, Durability::Synced), (3, 3));
    assert_eq!(put(&mut rig, Durability::Memory), (3, 4));
    rig.committer.checkpoint();
    assert_eq!(ends(&own), (4, 4));
    for _ in 0..5 {
        put(&mut rig, Durability::Memory);
    }
    // A file was finished between.
    let (synced, durable) = ends(&own);
    assert!(synced == own.segments()[1].base && synced < durable);
}

#[tokio::test]
async fn who_waits_for_records_hears_that_none_will_come() {
    for what in ["failure", "removal"] {
        let disk = SimDisk::new(3, Path::new(ROOT));
        let (mut rig, own) = filled(&disk, 1);
        let waiter = Arc::new(Notify::new());
        own.watch(&waiter);
        own.health().unwrap();
        let batch = batch::sample(1, b"", 0);
        if what == "failure" {
            disk.fail_at(disk.operations(), Fault::Error(ErrorKind::Other));
            rig.append(&own, &batch).unwrap_err();
        } else {
            rig.remove("orders-0").unwrap();
        }
        waiter.notified().await;
        assert!(own.health().is_err());
    }
}
