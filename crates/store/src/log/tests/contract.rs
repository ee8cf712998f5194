//! What every log does, on the disk of this machine and on the one in memory, from outside: with
//! its own thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::super::sim::SimDisk;
use super::super::{
    BatchError, Disk, Durability, Error, Finding, Log, Partition, PartitionConfig, RealDisk,
    Rewrite, batch,
};
use super::{at, read_all};

/// A disk and a folder on it.
struct Place {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn real() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        Self {
            disk: Arc::new(RealDisk),
            dir: temporary.path().to_owned(),
            _temporary: Some(temporary),
        }
    }

    fn simulated() -> Self {
        let dir = PathBuf::from("/log");
        Self {
            disk: Arc::new(SimDisk::new(1, &dir)),
            dir,
            _temporary: None,
        }
    }

    fn open(&self) -> Log {
        let (log, findings) = self.open_with_findings();
        assert_eq!(findings, []);
        log
    }

    fn open_with_findings(&self) -> (Log, Vec<Finding>) {
        Log::open(&self.dir, Arc::clone(&self.disk)).unwrap()
    }
}

/// Runs each of these on both disks.
macro_rules! on_both_disks {
    ($($name:ident)*) => {
        mod real {
            $(#[tokio::test] async fn $name() { super::$name(&super::Place::real()).await })*
        }
        mod simulated {
            $(#[tokio::test] async fn $name() { super::$name(&super::Place::simulated()).await })*
        }
    };
}

on_both_disks! {
    records_are_read_as_they_were_written
    reading_ends_at_until_and_is_bounded
    what_is_not_there_is_out_of_range
    segments_roll_and_reading_goes_over_them
    large_batches_are_read_whole
    many_partitions_are_written_at_once
    times_are_found
    watchers_wake
    old_segments_go_by_age
    old_segments_go_by_size
    the_start_stays_where_it_was_put
    compaction_keeps_offsets
    a_bad_replacement_is_refused
    a_removed_partition_is_made_again_empty
    records_in_memory_are_read
    what_is_no_batch_is_refused
    nothing_is_accepted_after_the_end
    names_are_checked
}

fn config(segment_bytes: u64) -> PartitionConfig {
    PartitionConfig { segment_bytes }
}

async fn put(to: &Partition, batch: &[u8]) -> i64 {
    let pending = to
        .append(Bytes::copy_from_slice(batch), Durability::Synced)
        .unwrap();
    let base = pending.base_offset();
    pending.acknowledged().await.unwrap();
    base
}

/// `count` batches of two records each, of times 0, 10, 20 …
async fn fill(to: &Partition, count: i64) -> Vec<(i64, Vec<u8>)> {
    let mut out = Vec::new();
    for number in 0..count {
        let batch = batch::sample(2, format!("number{number:02}").as_bytes(), number * 10);
        let base = put(to, &batch).await;
        out.push((base, at(base, &batch)));
    }
    out
}

async fn records_are_read_as_they_were_written(place: &Place) {
    let log = place.open();
    let own = log
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    assert_eq!(
        (own.start_offset(), own.durable_offset(), own.end_offset()),
        (0, 0, 0)
    );
    let written = fill(&own, 20).await;
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), written);
    // Several batches in one append, and reading from the middle of one.
    let three = [
        batch::sample(1, b"a", 0),
        batch::sample(3, b"b", 0),
        batch::sample(1, b"c", 0),
    ];
    let pending = own
        .append(three.concat().into(), Durability::Synced)
        .unwrap();
    assert_eq!((pending.base_offset(), pending.next_offset()), (40, 45));
    pending.acknowledged().await.unwrap();
    let read = own.read(42, 1 << 20, i64::MAX).unwrap();
    assert_eq!(
        read.batches,
        [at(41, &three[1]), at(44, &three[2])].concat()
    );
    assert_eq!(read.next, 45);
    log.close();
    let log = place.open();
    let own = log
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    assert_eq!(read_all(&own, 0, 100).unwrap().len(), 23);
    assert_eq!(put(&own, &three[0]).await, 45);
}

async fn reading_ends_at_until_and_is_bounded(place: &Place) {
    let log = place.open();
    let own = log
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    let written = fill(&own, 10).await;
    let size = written[0].1.len();
    let read = |from, most, until| {
        let read = own.read(from, most, until).unwrap();
        (read.batches.len() / size, read.next)
    };
    assert_eq!(read(0, 1 << 20, 4), (2, 4));
    // A batch that reaches over the end is not given out, nor passed over.
    assert_eq!(read(0, 1 << 20, 5), (2, 4));
    assert_eq!(read(4, 1 << 20, 5), (0, 4));
    assert_eq!(read(4, 1 << 20, 4), (0, 4));
    assert_eq!(read(0, size * 3, i64::MAX), (3, 6));
    assert_eq!(read(0, size * 3 - 1, i64::MAX), (2, 4));
    assert_eq!(read(0, 0, i64::MAX), (1, 2));
    assert_eq!(read(20, 1 << 20, i64::MAX), (0, 20));
}

async fn what_is_not_there_is_out_of_range(place: &Place) {
    let log = place.open();
    let own = log
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    fill(&own, 2).await;
    for from in [-1, 5] {
        let error = own.read(from, 1, i64::MAX).unwrap_err();
        assert!(
            matches!(
                error,
                Error::OutOfRange {
                    start: 0,
                    end: 4,
                    ..
                }
            ),
            "{error}"
        );
    }
    own.advance_start(3).unwrap();
    let error = own.read(2, 1, i64::MAX).unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutOfRange {
                start: 3,
                end: 4,
                ..
            }
        ),
        "{error}"
    );
    // The batch that holds it begins before it.
    assert_eq!(own.read(3, 1, i64::MAX).unwrap().next, 4);
}

async fn segments_roll_and_reading_goes_over_them(place: &Place) {
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    let written = fill(&own, 40).await;
    let files = place.disk.list(&place.dir.join("orders-0")).unwrap();
    assert_eq!(
        files.iter().filter(|name| name.ends_with(".log")).count(),
        6
    );
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), written);
    assert_eq!(
        own.bytes(),
        6 * 16 + written.iter().map(|(_, own)| own.len() as u64).sum::<u64>()
    );
    // In one append too.
    let many: Vec<_> = (0..20)
        .flat_map(|_| batch::sample(1, b"payload", 0))
        .collect();
    own.append(many.into(), Durability::Synced)
        .unwrap()
        .acknowledged()
        .await
        .unwrap();
    assert_eq!(read_all(&own, 80, 1 << 20).unwrap().len(), 20);
    log.close();
    let own = place.open().partition("orders-0", config(500)).unwrap();
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap().len(), 60);
    for (base, bytes) in &written {
        let read = own.read(*base + 1, 1, i64::MAX).unwrap();
        assert_eq!(&read.batches[..], bytes);
    }
}

async fn large_batches_are_read_whole(place: &Place) {
    let log = place.open();
    let own = log.partition("orders-0", config(1 << 20)).unwrap();
    let mut written = Vec::new();
    for kib in [1, 40, 3, 300, 1, 1_500, 2] {
        let batch = batch::sample(1, &vec![kib as u8; kib << 10], 0);
        written.push((put(&own, &batch).await, batch));
    }
    let check = |own: &Partition| {
        for (base, batch) in &written {
            let read = own.read(*base, 1, i64::MAX).unwrap();
            assert_eq!(read.batches, at(*base, batch));
        }
        assert_eq!(read_all(own, 0, 64 << 10).unwrap().len(), written.len());
    };
    check(&own);
    log.close();
    // Without the indexes they are found by walking.
    let dir = place.dir.join("orders-0");
    for name in place.disk.list(&dir).unwrap() {
        if name.ends_with(".index") {
            place.disk.remove(&dir.join(name)).unwrap();
        }
    }
    check(&place.open().partition("orders-0", config(1 << 20)).unwrap());
}

async fn many_partitions_are_written_at_once(place: &Place) {
    let log = place.open();
    let own: Vec<_> = (0..12)
        .map(|number| {
            log.partition(&format!("many-{number}"), config(400))
                .unwrap()
        })
        .collect();
    let mut waiting = Vec::new();
    for number in 0..600 {
        let batch = batch::sample(1, &[number as u8], 0);
        let to = &own[number % own.len()];
        waiting.push(to.append(batch.into(), Durability::Synced).unwrap());
    }
    for pending in waiting {
        pending.acknowledged().await.unwrap();
    }
    log.close();
    let log = place.open();
    assert_eq!(log.partitions().len(), 12);
    for (number, name) in log.partitions().iter().enumerate() {
        let own = log.partition(name, config(400)).unwrap();
        assert_eq!(read_all(&own, 0, 1 << 20).unwrap().len(), 50, "{number}");
    }
}

async fn times_are_found(place: &Place) {
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    assert_eq!(own.offset_for_time(0).unwrap(), None);
    fill(&own, 40).await;
    let check = |own: &Partition| {
        for number in 0..40 {
            let hit = Some((number * 2, number * 10));
            assert_eq!(own.offset_for_time(number * 10).unwrap(), hit);
            assert_eq!(own.offset_for_time(number * 10 - 9).unwrap(), hit);
        }
        assert_eq!(own.offset_for_time(391).unwrap(), None);
    };
    check(&own);
    log.close();
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    check(&own);
    own.advance_start(21).unwrap();
    assert_eq!(own.offset_for_time(0).unwrap(), Some((21, 100)));
}

async fn watchers_wake(place: &Place) {
    let log = place.open();
    let own = log
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    let waiter = Arc::new(Notify::new());
    own.watch(&waiter);
    let batch = batch::sample(1, b"", 0);
    let (_, base) = tokio::join!(waiter.notified(), put(&own, &batch));
    assert_eq!((base, own.durable_offset()), (0, 1));
    own.watch(&waiter);
    log.remove("orders-0").unwrap();
    waiter.notified().await;
    // Those that gave up are not kept.
    for _ in 0..10_000 {
        own.watch(&Arc::new(Notify::new()));
    }
    assert!(own.watching() <= 128);
}

async fn old_segments_go_by_age(place: &Place) {
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    fill(&own, 40).await;
    assert_eq!(
        own.retain(400, Some(Duration::from_millis(400)), None)
            .unwrap(),
        0
    );
    assert_eq!(
        own.retain(400, Some(Duration::from_millis(260)), None)
            .unwrap(),
        2
    );
    // Seven to a segment.
    assert_eq!(own.start_offset(), 28);
    assert!(matches!(
        own.read(27, 1, i64::MAX),
        Err(Error::OutOfRange { start: 28, .. })
    ));
    // The one that grows stays.
    assert_eq!(own.retain(i64::MAX, Some(Duration::ZERO), None).unwrap(), 3);
    assert_eq!(own.start_offset(), 70);
    own.seal().await.unwrap();
    own.seal().await.unwrap();
    assert_eq!(own.retain(i64::MAX, Some(Duration::ZERO), None).unwrap(), 1);
    assert_eq!((own.start_offset(), own.durable_offset()), (80, 80));
    log.close();
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    assert_eq!((own.start_offset(), own.durable_offset()), (80, 80));
    assert_eq!(put(&own, &batch::sample(1, b"", 0)).await, 80);
}

async fn old_segments_go_by_size(place: &Place) {
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    fill(&own, 40).await;
    let all = own.bytes();
    assert_eq!(own.retain(0, None, Some(all)).unwrap(), 0);
    assert_eq!(own.retain(0, None, Some(all - 1)).unwrap(), 1);
    assert_eq!(own.retain(0, None, Some(0)).unwrap(), 4);
    assert_eq!(own.start_offset(), 70);
    assert_eq!(read_all(&own, 70, 1 << 20).unwrap().len(), 5);
}

async fn the_start_stays_where_it_was_put(place: &Place) {
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    fill(&own, 40).await;
    own.advance_start(33).unwrap();
    own.advance_start(20).unwrap();
    assert_eq!(own.start_offset(), 33);
    log.close();
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    assert_eq!(own.start_offset(), 33);
    let found = read_all(&own, 33, 1 << 20).unwrap();
    assert_eq!((found[0].0, found.len()), (32, 24));
    // Not beyond the end.
    own.advance_start(1_000).unwrap();
    assert_eq!((own.start_offset(), own.end_offset()), (80, 80));
}

async fn compaction_keeps_offsets(place: &Place) {
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    let mut written = fill(&own, 40).await;
    let before = own.read(14, 1, i64::MAX).unwrap();
    own.compact(&mut |bytes| {
        let base = super::Header::verify(bytes).unwrap().base_offset;
        match base {
            // One, all of a segment, and the end of another.
            4 | 14..=27 | 34..=41 => Rewrite::Drop,
            2 => Rewrite::Replace(at(3, &batch::sample(1, b"new", 10)).into()),
            _ => Rewrite::Keep,
        }
    })
    .unwrap();
    written.retain(|(base, _)| !matches!(base, 4 | 14..=27 | 34..=41));
    written[1] = (3, at(3, &batch::sample(1, b"new", 10)));
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), written);
    assert_eq!(before.next, 16);
    let check = |own: &Partition| {
        // Into gaps, and over them.
        for (from, found) in [
            (2, 3),
            (3, 3),
            (14, 28),
            (20, 28),
            (27, 28),
            (34, 42),
            (41, 42),
        ] {
            let read = own.read(from, 1, i64::MAX).unwrap();
            assert_eq!(
                super::Header::verify(&read.batches).unwrap().base_offset,
                found,
                "{from}"
            );
        }
        let none = own.read(14, 1, 20).unwrap();
        assert_eq!((none.batches.len(), none.next), (0, 20));
        // Behind the gap is a batch that reaches too far.
        let none = own.read(4, 1, 7).unwrap();
        assert_eq!((none.batches.len(), none.next), (0, 6));
        assert_eq!(own.offset_for_time(80).unwrap(), Some((28, 140)));
        assert_eq!((own.start_offset(), own.end_offset()), (0, 80));
        assert_eq!(read_all(own, 0, 70).unwrap(), written);
    };
    check(&own);
    log.close();
    check(&place.open().partition("orders-0", config(500)).unwrap());
}

async fn a_bad_replacement_is_refused(place: &Place) {
    let log = place.open();
    let own = log.partition("orders-0", config(500)).unwrap();
    let written = fill(&own, 10).await;
    let mut torn = written[0].1.clone();
    *torn.last_mut().unwrap() ^= 1;
    let twice = [&written[0].1[..], &written[1].1[..]].concat();
    let far = at(5, &batch::sample(1, b"", 0));
    let long = at(0, &batch::sample(3, b"", 0));
    for bad in [torn, twice, far, long, Vec::new()] {
        let error = own
            .compact(&mut |_| Rewrite::Replace(bad.clone().into()))
            .unwrap_err();
        assert!(matches!(error, Error::Batch(_)), "{error}");
    }
    log.health().unwrap();
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), written);
}

async fn a_removed_partition_is_made_again_empty(place: &Place) {
    let log = place.open();
    for round in 0..4 {
        let own = log.partition("orders-0", config(500)).unwrap();
        assert_eq!((own.start_offset(), own.end_offset()), (0, 0));
        fill(&own, 20 - round * 3).await;
        let waiting = own
            .append(batch::sample(1, b"", 0).into(), Durability::Synced)
            .unwrap();
        log.remove("orders-0").unwrap();
        assert_eq!(log.partitions(), [""; 0]);
        // Written before it went, or refused.
        let _ = waiting.acknowledged().await;
        let late = own.append(batch::sample(1, b"", 0).into(), Durability::Synced);
        assert!(matches!(late, Err(Error::Removed(_))));
        assert!(matches!(own.read(0, 1, i64::MAX), Err(Error::Removed(_))));
        assert!(matches!(own.advance_start(5), Err(Error::Removed(_))));
        assert!(matches!(
            own.retain(0, None, Some(0)),
            Err(Error::Removed(_))
        ));
        assert!(matches!(own.seal().await, Err(Error::Removed(_))));
    }
    log.remove("orders-0").unwrap();
    let own = log.partition("orders-0", config(500)).unwrap();
    let written = fill(&own, 3).await;
    // Another with a name as long as there is.
    let long = "x".repeat(255);
    put(&log.partition(&long, config(500)).unwrap(), &written[0].1).await;
    log.remove(&long).unwrap();
    log.close();
    let log = place.open();
    assert_eq!(log.partitions(), ["orders-0"]);
    let own = log.partition("orders-0", config(500)).unwrap();
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), written);
}

async fn records_in_memory_are_read(place: &Place) {
    let log = place.open();
    let own = log
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    let batch = batch::sample(1, b"payload", 0);
    let pending = own
        .append(batch.clone().into(), Durability::Memory)
        .unwrap();
    pending.acknowledged().await.unwrap();
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), [(0, at(0, &batch))]);
    // The end of the log has the disk keep them.
    log.close();
    let own = place
        .open()
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap(), [(0, at(0, &batch))]);
}

async fn what_is_no_batch_is_refused(place: &Place) {
    let log = place.open();
    let own = log
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    let batch = batch::sample(1, b"payload", 0);
    let mut negative = batch.clone();
    negative[23..27].copy_from_slice(&(-5_i32).to_be_bytes());
    let trailing = [&batch[..], b"more"].concat();
    for bad in [
        b"".to_vec(),
        b"no batch".to_vec(),
        batch[..65].to_vec(),
        negative,
        trailing,
    ] {
        let error = own.append(bad.into(), Durability::Synced).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Batch(BatchError::Short | BatchError::Count { .. })
            ),
            "{error}"
        );
    }
    assert_eq!(own.end_offset(), 0);
    assert_eq!(put(&own, &batch).await, 0);
}

async fn nothing_is_accepted_after_the_end(place: &Place) {
    let log = place.open();
    let own = log
        .partition("orders-0", PartitionConfig::default())
        .unwrap();
    let batch = batch::sample(1, b"payload", 0);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            own.append(batch.clone().into(), Durability::Synced)
                .unwrap()
        })
        .collect();
    log.close();
    log.close();
    // What was accepted is written.
    for pending in waiting {
        pending.acknowledged().await.unwrap();
    }
    let late = own.append(batch.clone().into(), Durability::Synced);
    assert!(matches!(late, Err(Error::Closed)));
    assert!(matches!(own.seal().await, Err(Error::Closed)));
    assert!(matches!(own.advance_start(1), Err(Error::Closed)));
    assert!(matches!(log.remove("orders-0"), Err(Error::Closed)));
    assert!(matches!(
        log.partition("new", PartitionConfig::default()),
        Err(Error::Closed)
    ));
    // Who holds it may read on.
    assert_eq!(read_all(&own, 0, 1 << 20).unwrap().len(), 100);
}

async fn names_are_checked(place: &Place) {
    let log = place.open();
    let long = "x".repeat(256);
    for bad in [
        "",
        ".",
        "..",
        "a/b",
        "checkpoint",
        "checkpoint.new",
        "a~deleted",
        "ä",
        &long,
    ] {
        let error = log.partition(bad, PartitionConfig::default()).unwrap_err();
        assert!(matches!(error, Error::Name(_)), "{bad}");
    }
    let own = log
        .partition("A.b_c-0", PartitionConfig::default())
        .unwrap();
    assert_eq!((own.name(), own.end_offset()), ("A.b_c-0", 0));
    log.remove("never-there").unwrap();
}
