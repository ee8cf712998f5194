//! The store on a disk that fails, at every operation: what was acknowledged is there once, nothing is twice.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};

use atoll_base::ByteCount;
use atoll_store::log::sim::{Fault, SimDisk};

use super::*;
use crate::queue::Work;
use crate::record::tests::line;
use crate::sample::tests::of as span;
use crate::search::TraceOrder;

const ROOT: &str = "/telemetry";

fn start(disk: &SimDisk) -> Result<Handle, Error> {
    // So small that every second batch makes a file.
    let config = TelemetryConfig {
        max_size: ByteCount::mib(64),
        ..TelemetryConfig::default()
    };
    Service::start_on(Arc::new(disk.clone()), Path::new(ROOT), config)
}

/// A span of a trace of its own, whose name is this text of at most 16 bytes.
fn named(text: &str) -> Span {
    let mut trace = [0; 16];
    trace[..text.len()].copy_from_slice(text.as_bytes());
    Span {
        name: text.to_owned(),
        start: Timestamp::now(),
        ..span(u128::from_be_bytes(trace))
    }
}

/// Gives batches of lines and spans until the disk refuses one; the texts that were acknowledged.
async fn work(handle: &Handle, name: &str) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for batch in 0..4 {
        let lines: Vec<String> = (0..3)
            .map(|line| format!("{name} {batch} {line}"))
            .collect();
        let spans = lines.iter().map(|text| format!("{text} s"));
        let spans: Vec<String> = spans.collect();
        handle.logs(lines.iter().map(|text| line("orders", text)));
        handle.spans(spans.iter().map(|text| named(text)));
        handle.flush().await.unwrap();
        let health = handle.health();
        if health.dropped == 0 {
            acknowledged.extend(lines);
        }
        if health.dropped_spans == 0 {
            acknowledged.extend(spans);
        }
    }
    acknowledged
}

async fn messages(handle: &Handle) -> Vec<String> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&found);
    let all = handle.records(Query::default(), move |record| {
        sink.lock().unwrap().push(record.message);
        true
    });
    all.await.unwrap();
    let mut found = std::mem::take(&mut *found.lock().unwrap());
    found.retain(|message| !message.contains("lost while"));
    let traces = TraceQuery {
        filter: Filter::all(Kind::Spans),
        limit: 1000,
        order: TraceOrder::Time,
        before: None,
    };
    for trace in handle.search_traces(traces).await.unwrap().traces {
        found.extend(std::iter::repeat_n(
            trace.root_name,
            trace.spans.try_into().unwrap(),
        ));
    }
    found
}

async fn holds(handle: &Handle, acknowledged: &BTreeSet<String>, operation: u64) {
    let found = messages(handle).await;
    let once: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(once.len(), found.len(), "twice, at {operation}: {found:?}");
    let missing: Vec<&String> = acknowledged.difference(&once).collect();
    assert!(missing.is_empty(), "at {operation} lost: {missing:?}");
}

/// How many operations a whole life has.
async fn operations() -> u64 {
    let disk = SimDisk::new(1, Path::new(ROOT));
    let handle = start(&disk).unwrap();
    work(&handle, "a").await;
    handle.close().await;
    disk.operations()
}

async fn fault(operation: u64, fault: Fault) {
    let disk = SimDisk::new(operation, Path::new(ROOT));
    let mut acknowledged = BTreeSet::new();
    // A first life without faults, so that there is something to open.
    let handle = start(&disk).unwrap();
    acknowledged.extend(work(&handle, "before").await);
    handle.close().await;
    drop(handle);
    disk.fail_at(disk.operations() + operation, fault);
    if let Ok(handle) = start(&disk) {
        acknowledged.extend(work(&handle, "during").await);
        handle.close().await;
    }
    disk.restart();
    let handle = start(&disk).unwrap();
    holds(&handle, &acknowledged, operation).await;
    acknowledged.extend(work(&handle, "after").await);
    handle.close().await;
    drop(handle);
    let handle = start(&disk).unwrap();
    holds(&handle, &acknowledged, operation).await;
}

#[tokio::test]
async fn a_crash_at_any_operation_loses_nothing_that_was_acknowledged() {
    for operation in 0..operations().await + 20 {
        fault(operation, Fault::Crash).await;
    }
}

#[tokio::test]
async fn a_disk_that_is_full_at_any_operation_loses_only_what_is_counted() {
    for operation in 0..operations().await + 20 {
        fault(operation, Fault::Error(ErrorKind::StorageFull)).await;
    }
}

/// How many Parquet files there are.
fn files(disk: &SimDisk) -> usize {
    let names = disk.files().into_iter().map(|(path, _)| path);
    names
        .filter(|path| path.extension().is_some_and(|end| end == "parquet"))
        .count()
}

/// A disk with a file for each of these texts, all of an hour that is over.
async fn small_files(texts: &BTreeSet<String>) -> SimDisk {
    let disk = SimDisk::new(7, Path::new(ROOT));
    for text in texts {
        // A start puts together what was there before it, so the last one is always new.
        let handle = start(&disk).unwrap();
        let mut old = line("orders", text);
        let hour = std::time::Duration::from_secs(3600);
        let now = Timestamp::now().as_micros() / 3_600_000_000 * 3_600_000_000;
        old.time = Timestamp::from_micros(now).before(2 * hour);
        handle.log(old);
        handle.close().await;
    }
    disk
}

#[tokio::test]
async fn small_files_become_one_and_a_crash_on_the_way_changes_nothing() {
    let texts: BTreeSet<String> = (0..4).map(|text| format!("old {text}")).collect();
    let disk = small_files(&texts).await;
    assert_eq!(files(&disk), 2);
    let whole = disk.copy();
    let handle = start(&whole).unwrap();
    handle.close().await;
    drop(handle);
    assert_eq!(files(&whole), 1, "{:?}", whole.files());
    let handle = start(&whole).unwrap();
    holds(&handle, &texts, 0).await;
    let last = whole.operations();
    for operation in disk.operations()..last {
        let torn = disk.copy();
        torn.fail_at(operation, Fault::Crash);
        if let Ok(handle) = start(&torn) {
            handle.close().await;
        }
        torn.restart();
        let handle = start(&torn).unwrap();
        holds(&handle, &texts, operation).await;
        handle.close().await;
    }
}

#[tokio::test]
async fn a_damaged_file_keeps_no_others_from_becoming_one() {
    let texts: BTreeSet<String> = (0..2).map(|text| format!("old {text}")).collect();
    let disk = small_files(&texts).await;
    let parquet = disk.files().into_iter().map(|(path, _)| path);
    let parquet = parquet.filter(|path| path.extension().is_some_and(|end| end == "parquet"));
    // The first rows of the first file; its footer is sound.
    let first = parquet.min().unwrap();
    (4..200).for_each(|at| disk.damage(&first, at, 0xff));
    // Two more, which are put together with what is sound only: the next life looks at all four.
    let config = TelemetryConfig::default();
    let handle = start(&disk).unwrap();
    for text in ["sound 1", "sound 2"] {
        let mut old = line("orders", text);
        old.time = Timestamp::now().before(2 * std::time::Duration::from_secs(3600));
        handle.log(old);
        handle.flush().await.unwrap();
    }
    handle.close().await;
    drop(handle);
    let (_, mover) = threads(Arc::new(disk.clone()), Path::new(ROOT), config).unwrap();
    let before = files(&disk);
    assert!(before > 2, "{:?}", disk.files());
    mover.tidy(Timestamp::now());
    assert_eq!(files(&disk), before, "{:?}", disk.files());
    mover.tidy(Timestamp::now());
    assert_eq!(files(&disk), 2, "{:?}", disk.files());
    let left = mover.shared.logs.snapshot();
    let damaged = left.cold.iter().filter(|file| file.is_broken()).count();
    assert_eq!(damaged, 1);
}

#[tokio::test(start_paused = true)]
async fn spans_that_sampling_leaves_out_are_counted_though_no_more_come() {
    let config = TelemetryConfig {
        sample: "0%".parse().unwrap(),
        ..TelemetryConfig::default()
    };
    let disk = SimDisk::new(7, Path::new(ROOT));
    let (mut writer, _) = threads(Arc::new(disk), Path::new(ROOT), config).unwrap();
    let left_out = |writer: &Writer| writer.shared.left_out_spans.load(Ordering::Relaxed);
    let mut work = Work::default();
    work.spans.push(Box::new(vec![span(1), span(2)]));
    writer.write(&mut work);
    assert_eq!(left_out(&writer), 0);
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    writer.write(&mut work);
    assert_eq!(left_out(&writer), 2);
}
