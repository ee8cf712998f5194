//! Single stories: what once was wrong, or is easy to get wrong.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;

use super::super::hooked::Hooked;
use super::super::sim::{Random, SimDisk};
use super::super::{
    Durability, Error, Finding, Header, Log, Partition, PartitionConfig, Rewrite, batch,
};
use super::{ROOT, Rig, answer, at, read_all};

fn rig(disk: &SimDisk) -> Rig {
    let (rig, findings) = Rig::open(disk).unwrap();
    assert_eq!(findings, []);
    rig
}

fn disk() -> SimDisk {
    SimDisk::new(1, Path::new(ROOT))
}

#[test]
fn a_partition_made_again_does_not_inherit_the_checkpoint() {
    let disk = disk();
    let mut rig = rig(&disk);
    let batch = batch::sample(1, b"payload", 0);
    let own = rig.partition("orders-0", 1 << 20).unwrap();
    for _ in 0..9 {
        rig.append(&own, &batch).unwrap();
    }
    rig.committer.checkpoint();
    rig.remove("orders-0").unwrap();
    let own = rig.partition("orders-0", 1 << 20).unwrap();
    let larger = batch::sample(1, &[7; 2_000], 0);
    assert_eq!(rig.append(&own, &larger).unwrap(), 0);
    disk.crash();
    let own = self::rig(&disk).log.known("orders-0").unwrap();
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), [(0, at(0, &larger))]);
}

#[test]
fn a_start_after_a_close_reads_no_records() {
    let mut counts = Vec::new();
    for batches in [1, 4_000] {
        let disk = disk();
        let mut rig = rig(&disk);
        let own = rig.partition("orders-0", 1 << 20).unwrap();
        let many: Vec<u8> = (0..batches)
            .flat_map(|_| batch::sample(1, &[1; 900], 0))
            .collect();
        rig.append(&own, &many).unwrap();
        rig.close();
        let before = disk.operations();
        let segments = self::rig(&disk)
            .log
            .known("orders-0")
            .unwrap()
            .0
            .lock()
            .segments
            .len();
        // Of each finished segment the index is looked at, in three operations.
        counts.push((disk.operations() - before) - 5 * (segments as u64 - 1));
    }
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn too_much_is_refused_until_it_is_written() {
    let disk = disk();
    let mut rig = rig(&disk);
    let own = rig.partition("orders-0", 1 << 20).unwrap();
    let batch = Bytes::from(batch::sample(1, &vec![1; 30 << 20], 0));
    let append = || own.append(batch.clone(), Durability::Synced);
    let waiting: Vec<_> = (0..4).map(|_| append().unwrap()).collect();
    assert!(matches!(append(), Err(Error::Busy(_))));
    assert_eq!(own.end_offset(), 4);
    rig.step();
    for pending in waiting {
        answer(pending).unwrap();
    }
    let pending = append().unwrap();
    assert_eq!(pending.base_offset(), 4);
    rig.step();
    answer(pending).unwrap();
    assert_eq!(rig.log.waiting_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn a_batch_larger_than_what_may_wait_is_written() {
    let disk = disk();
    let mut rig = rig(&disk);
    let own = rig.partition("orders-0", 1 << 20).unwrap();
    let batch = batch::sample(1, &vec![1; 130 << 20], 0);
    rig.append(&own, &batch).unwrap();
    let read = own.read(0, 1, i64::MAX).unwrap();
    assert_eq!(read.batches.len(), batch.len());
}

#[test]
fn an_idle_partition_has_no_open_file() {
    let disk = disk();
    let mut rig = rig(&disk);
    let own = rig.partition("orders-0", 400).unwrap();
    let mut written = Vec::new();
    for number in 0..20 {
        let batch = batch::sample(1, &[number], 0);
        let base = rig.append(&own, &batch).unwrap();
        written.push((base, at(base, &batch)));
    }
    for _ in 0..3 {
        assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), written);
        assert!(own.0.lock().last.is_some() && !own.0.lock().open.is_empty());
        rig.committer.checkpoint();
        assert!(own.0.lock().last.is_some());
        rig.committer.checkpoint();
        let state = own.0.lock();
        assert!(state.last.is_none() && state.open.is_empty() && state.index.is_none());
    }
    let batch = batch::sample(1, b"more", 0);
    let base = rig.append(&own, &batch).unwrap();
    written.push((base, at(base, &batch)));
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), written);
}

#[test]
fn a_reader_that_goes_on_needs_no_index() {
    let disk = disk();
    let mut rig = rig(&disk);
    let own = rig.partition("orders-0", 1 << 20).unwrap();
    let batch = batch::sample(1, &[1; 900], 0);
    let many: Vec<u8> = (0..900).flat_map(|_| batch.clone()).collect();
    rig.append(&own, &many).unwrap();
    rig.close();
    let mut rig = self::rig(&disk);
    let own = rig.partition("orders-0", 1 << 20).unwrap();
    rig.append(&own, &batch).unwrap();
    let before = disk.operations();
    assert_eq!(own.read(900, 1 << 20, i64::MAX).unwrap().next, 901);
    assert_eq!(disk.operations() - before, 1);
    assert!(own.0.lock().index.is_none());
}

#[test]
fn a_failed_sync_is_not_forgotten_by_the_next_start() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed, Path::new(ROOT));
        let mut rig = rig(&disk);
        let own = rig.partition("orders-0", 1 << 20).unwrap();
        let batch = batch::sample(1, &[3; 9_000], 0);
        rig.append(&own, &batch).unwrap();
        let pending = own.append(batch.into(), Durability::Synced).unwrap();
        // The write goes well, the sync does not: some pages are said to be written and are not.
        disk.fail_at(
            disk.operations() + 1,
            super::super::sim::Fault::Error(io::ErrorKind::Other),
        );
        rig.step();
        assert!(answer(pending).is_err());
        drop(rig);
        disk.restart();
        // The process finds all of it, and lets it be read.
        let read = self::rig(&disk)
            .log
            .known("orders-0")
            .unwrap()
            .durable_offset();
        assert_eq!(read, 2);
        disk.crash();
        let own = self::rig(&disk).log.known("orders-0").unwrap();
        assert_eq!(
            own.durable_offset(),
            2,
            "seed {seed}: what was read is gone"
        );
        assert_eq!(read_all(&own, 0, 1 << 20).unwrap().len(), 2);
    }
}

#[test]
fn unsynced_records_that_a_crash_takes_are_no_loss() {
    let disk = disk();
    let mut rig = rig(&disk);
    let own = rig.partition("orders-0", 1 << 20).unwrap();
    let batch = batch::sample(1, &[3; 9_000], 0);
    for _ in 0..5 {
        let pending = own
            .append(batch.clone().into(), Durability::Memory)
            .unwrap();
        rig.step();
        answer(pending).unwrap();
    }
    own.advance_start(4).unwrap();
    for round in 0..3 {
        disk.crash();
        let (mut rig, findings) = Rig::open(&disk).unwrap();
        let cut = |own: &Finding| matches!(own, Finding::Cut { .. });
        assert!(findings.iter().all(cut), "{findings:?}");
        let own = rig.log.known("orders-0").unwrap();
        assert_eq!(own.start_offset(), 4);
        assert!(own.end_offset() >= 4 + round);
        // What comes now lies behind the start, and stays.
        rig.append(&own, &batch).unwrap();
    }
}

#[tokio::test]
async fn nobody_waits_for_ever_when_the_writer_panics() {
    let panics = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&panics);
    let hook = move |what: &str| {
        assert!(
            what != "write" || !told.load(Ordering::SeqCst),
            "the disk panics"
        );
    };
    let disk = Arc::new(Hooked::new(disk(), move |what, _| hook(what)));
    let (log, _) = Log::open(Path::new(ROOT), disk).unwrap();
    let own = log
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    let batch = Bytes::from(batch::sample(1, b"", 0));
    let append = || own.append(batch.clone(), Durability::Synced);
    append().unwrap().acknowledged().await.unwrap();
    panics.store(true, Ordering::SeqCst);
    assert!(append().unwrap().acknowledged().await.is_err());
    while let Ok(pending) = append() {
        assert!(pending.acknowledged().await.is_err());
    }
    assert!(log.health().is_err());
    assert!(own.seal().await.is_err());
    assert!(log.remove("orders-0").is_err());
    assert_eq!(own.read(0, 1, i64::MAX).unwrap().next, 1);
}

#[test]
fn what_comes_while_the_disk_writes_is_of_the_next_group() {
    let own: Arc<OnceLock<Partition>> = Arc::default();
    let late = Arc::new(Mutex::new(None));
    let batch = Bytes::from(batch::sample(1, b"payload", 0));
    let hook = {
        let (own, late, batch) = (Arc::clone(&own), Arc::clone(&late), batch.clone());
        move |what: &str| {
            if let Some(own) = own.get().filter(|_| what == "write") {
                let append = || own.append(batch.clone(), Durability::Synced).unwrap();
                late.lock().unwrap().get_or_insert_with(append);
            }
        }
    };
    let disk = Hooked::new(disk(), move |what, _| hook(what));
    let (mut rig, _) = Rig::over(Arc::new(disk)).unwrap();
    let partition = rig.partition("orders-0", 1 << 20).unwrap();
    own.set(partition.clone()).unwrap();
    assert_eq!(rig.append(&partition, &batch).unwrap(), 0);
    assert_eq!((partition.durable_offset(), partition.end_offset()), (1, 2));
    assert_eq!(partition.read(0, 1 << 20, i64::MAX).unwrap().next, 1);
    let pending = late.lock().unwrap().take().unwrap();
    assert_eq!(pending.base_offset(), 1);
    rig.step();
    answer(pending).unwrap();
    assert_eq!(partition.read(0, 1 << 20, i64::MAX).unwrap().next, 2);
}

#[test]
fn compaction_in_the_middle_of_a_read_harms_nobody() {
    for moment in ["open", "read"] {
        let own: Arc<OnceLock<Partition>> = Arc::default();
        let armed = Arc::new(AtomicBool::new(false));
        let hook = {
            let (own, armed) = (Arc::clone(&own), Arc::clone(&armed));
            move |what: &str| {
                if what == moment && armed.swap(false, Ordering::SeqCst) {
                    let drops = |bytes: &[u8]| match Header::verify(bytes).unwrap().base_offset {
                        0 | 3 => Rewrite::Drop,
                        _ => Rewrite::Keep,
                    };
                    own.get().unwrap().compact(&mut { drops }).unwrap();
                }
            }
        };
        let disk = Hooked::new(disk(), move |what, _| hook(what));
        let (mut rig, _) = Rig::over(Arc::new(disk)).unwrap();
        let partition = rig.partition("orders-0", 500).unwrap();
        own.set(partition.clone()).unwrap();
        for number in 0..8 {
            rig.append(&partition, &batch::sample(1, &[number; 20], 0))
                .unwrap();
        }
        if moment == "read" {
            // The file is open already.
            read_all(&partition, 0, 1).unwrap();
            partition.0.lock().hints.clear();
        }
        armed.store(true, Ordering::SeqCst);
        let mut found = Vec::new();
        let mut next = 0;
        while next < partition.durable_offset() {
            let read = partition.read(next, 1, i64::MAX).unwrap();
            found.push(Header::verify(&read.batches).unwrap().base_offset);
            next = read.next;
        }
        assert!(!armed.load(Ordering::SeqCst));
        // Who had the old file reads from it what was in it; then the new one goes on.
        let expected = if moment == "read" {
            vec![0, 1, 2]
        } else {
            vec![1, 2]
        };
        assert_eq!(found, [expected, vec![4, 5, 6, 7]].concat(), "{moment}");
    }
}

#[test]
fn a_file_that_is_deleted_before_it_is_opened_is_out_of_range() {
    let own: Arc<OnceLock<Partition>> = Arc::default();
    let armed = Arc::new(AtomicBool::new(false));
    let hook = {
        let (own, armed) = (Arc::clone(&own), Arc::clone(&armed));
        move |what: &str| {
            if what == "opening" && armed.swap(false, Ordering::SeqCst) {
                own.get().unwrap().retain(0, None, Some(0)).unwrap();
            }
        }
    };
    let disk = Hooked::new(disk(), move |what, _| hook(what));
    let (mut rig, _) = Rig::over(Arc::new(disk)).unwrap();
    let partition = rig.partition("orders-0", 300).unwrap();
    own.set(partition.clone()).unwrap();
    for _ in 0..6 {
        rig.append(&partition, &batch::sample(1, &[7; 20], 0))
            .unwrap();
    }
    armed.store(true, Ordering::SeqCst);
    let error = partition.read(0, 1, i64::MAX).unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutOfRange {
                start: 3,
                end: 6,
                ..
            }
        ),
        "{error}"
    );
    assert!(!armed.load(Ordering::SeqCst));
}

#[test]
fn a_compaction_that_is_stopped_leaves_its_file_and_all_behind_it() {
    let (mut rig, _) = Rig::over(Arc::new(disk())).unwrap();
    let partition = rig.partition("orders-0", 500).unwrap();
    for number in 0..16 {
        rig.append(&partition, &batch::sample(1, &[number; 20], 0))
            .unwrap();
    }
    let bases: Vec<_> = partition.segments().iter().map(|own| own.base).collect();
    assert!(bases.len() > 3 && bases[1] > 1, "{bases:?}");
    let stop = bases[1] + 1;
    let mut offered = Vec::new();
    let mut rewrite = |bytes: &[u8]| {
        let base = Header::verify(bytes).unwrap().base_offset;
        offered.push(base);
        if base == stop {
            Rewrite::Stop
        } else {
            Rewrite::Drop
        }
    };
    partition.compact(&mut rewrite).unwrap();
    assert_eq!(offered, (0..=stop).collect::<Vec<_>>());
    let left = read_all(&partition, 0, 1 << 20).unwrap();
    let left: Vec<_> = left.iter().map(|(base, _)| *base).collect();
    assert_eq!(left, (bases[1]..16).collect::<Vec<_>>());
}

#[test]
fn what_is_not_acknowledged_is_not_compacted() {
    let own: Arc<OnceLock<Partition>> = Arc::default();
    let offered = Arc::new(Mutex::new(0));
    let hook = {
        let (own, offered) = (Arc::clone(&own), Arc::clone(&offered));
        move |what: &str| {
            if let Some(own) = own.get().filter(|_| what == "write") {
                own.compact(&mut |bytes| {
                    let header = Header::verify(bytes).unwrap();
                    assert!(header.next_offset() <= own.durable_offset());
                    *offered.lock().unwrap() += 1;
                    Rewrite::Keep
                })
                .unwrap();
            }
        }
    };
    let disk = Hooked::new(disk(), move |what, _| hook(what));
    let (mut rig, _) = Rig::over(Arc::new(disk)).unwrap();
    let partition = rig.partition("orders-0", 300).unwrap();
    own.set(partition.clone()).unwrap();
    let group: Vec<u8> = (0..12)
        .flat_map(|_| batch::sample(1, &[7; 20], 0))
        .collect();
    rig.append(&partition, &group).unwrap();
    assert_eq!(*offered.lock().unwrap(), 0);
    rig.append(&partition, &group).unwrap();
    assert!(*offered.lock().unwrap() > 0);
}

/// All at once, on real threads: whatever the order, readers see what was written, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_are_never_led_astray() {
    let (log, _) = Log::open(Path::new(ROOT), Arc::new(disk())).unwrap();
    let own = log
        .partition(
            "orders-0",
            PartitionConfig {
                segment_bytes: 2_000,
            },
        )
        .unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (own, ended) = (&own, &ended);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !ended.load(Ordering::Acquire) {
                    let start = own.start_offset();
                    match read_all(own, start, 1 + random.index(3_000)) {
                        Ok(_) | Err(Error::OutOfRange { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    let _ = own.offset_for_time(random.below(2_000).cast_signed());
                }
            });
        }
        let (own, ended) = (&own, &ended);
        scope.spawn(move || {
            let mut random = Random::new(9);
            while !ended.load(Ordering::Acquire) {
                own.compact(&mut |_| match random.below(8) {
                    0 => Rewrite::Drop,
                    _ => Rewrite::Keep,
                })
                .unwrap();
                own.retain(0, None, Some(40_000)).unwrap();
            }
        });
        let waiting: Vec<_> = (0..3_000)
            .map(|number| {
                let batch = batch::sample(2, &[1; 40], number);
                own.append(batch.into(), Durability::Synced).unwrap()
            })
            .collect();
        for pending in waiting {
            futures_wait(pending).unwrap();
        }
        ended.store(true, Ordering::Release);
    });
    assert_eq!(own.durable_offset(), 6_000);
    log.health().unwrap();
}

fn futures_wait(pending: super::Pending) -> Result<(), Error> {
    tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(pending.acknowledged())
    })
}

/// Appends and the end meet in every order, and each append gets an answer.
#[tokio::test]
async fn an_end_leaves_nobody_waiting() {
    for _ in 0..50 {
        let (log, _) = Log::open(Path::new(ROOT), Arc::new(disk())).unwrap();
        let own = log
            .partition("orders-0", PartitionConfig::default())
            .unwrap();
        let other = own.clone();
        let thread = std::thread::spawn(move || {
            let batch = Bytes::from(batch::sample(1, b"", 0));
            let mut waiting = Vec::new();
            while let Ok(pending) = other.append(batch.clone(), Durability::Synced) {
                waiting.push(pending);
            }
            waiting
        });
        own.append(batch::sample(1, b"", 0).into(), Durability::Synced)
            .unwrap()
            .acknowledged()
            .await
            .unwrap();
        log.close();
        let mut acknowledged = 1;
        for pending in thread.join().unwrap() {
            acknowledged += i64::from(pending.acknowledged().await.is_ok());
        }
        assert_eq!(own.durable_offset(), acknowledged);
        let shared = Arc::downgrade(&log.0.shared);
        drop((log, own));
        assert!(shared.upgrade().is_none(), "the log is still in memory");
    }
}
