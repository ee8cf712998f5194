//! The log from outside: what was logged is found, kept within bounds, and survives.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod searching;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_base::{ByteCount, HumanDuration, RevisionNumber, ServiceName, Timestamp, TraceId};
use atoll_telemetry::{
    Filter, Handle, Kind, LogRecord, NewRecord, Query, Service, Stream, TelemetryConfig,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn start(dir: &Path) -> Handle {
    Service::start(dir, TelemetryConfig::default()).unwrap()
}

fn all() -> Filter {
    Filter::all(Kind::Logs)
}

fn line(service: &str, message: &str) -> NewRecord {
    NewRecord {
        time: Timestamp::now(),
        service: ServiceName::new(service).unwrap(),
        instance: format!("{service}-r1-1"),
        revision: RevisionNumber(1),
        stream: Stream::Stdout,
        level: None,
        trace: None,
        span: None,
        attributes: String::new(),
        continued: false,
        message: message.to_owned(),
    }
}

async fn search(handle: &Handle, query: Query) -> Vec<LogRecord> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&found);
    handle
        .records(query, move |record| {
            sink.lock().unwrap().push(record);
            true
        })
        .await
        .unwrap();
    std::mem::take(&mut found.lock().unwrap())
}

async fn messages(handle: &Handle, query: Query) -> Vec<String> {
    search(handle, query)
        .await
        .into_iter()
        .map(|record| record.message)
        .collect()
}

#[tokio::test]
async fn a_line_is_found_by_service_text_trace_and_tail() {
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path());
    log.log(line("orders", "one"));
    log.log(line(
        "payments",
        &format!(r#"{{"level":"error","trace_id":"{TRACE}","msg":"declined"}}"#),
    ));
    log.log(line("orders", "three"));

    assert_eq!(messages(&log, Query::default()).await.len(), 3);
    let orders = Query {
        filter: all().of_services(&[ServiceName::new("orders").unwrap()]),
        ..Query::default()
    };
    assert_eq!(messages(&log, orders.clone()).await, ["one", "three"]);
    assert_eq!(
        messages(
            &log,
            Query {
                tail: Some(1),
                ..orders
            }
        )
        .await,
        ["three"]
    );
    let grep = regex::Regex::new("^t.ree$").unwrap();
    assert_eq!(
        messages(
            &log,
            Query {
                filter: all().matching(&grep),
                ..Query::default()
            }
        )
        .await,
        ["three"]
    );
    let trace = TraceId::parse(TRACE.as_bytes());
    let filter = all().of_traces(trace);
    let found = search(
        &log,
        Query {
            filter,
            ..Query::default()
        },
    )
    .await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].service.as_str(), "payments");
    assert_eq!(found[0].level, Some(atoll_telemetry::Level::Error));
}

#[tokio::test]
async fn lines_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path());
    log.log(line("orders", "before"));
    log.close().await;
    drop(log);
    let log = start(dir.path());
    log.log(line("orders", "after"));
    let found = search(&log, Query::default()).await;
    assert_eq!(
        found.iter().map(|r| r.message.as_str()).collect::<Vec<_>>(),
        ["before", "after"]
    );
    assert!(found[1].number > found[0].number);
    let kept = files(dir.path());
    assert!(
        kept.iter().any(|file| file.ends_with("1-1.parquet")),
        "{kept:?}"
    );
}

/// The names of all files below a folder.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path.to_str().unwrap().to_owned()),
        }
    }
    found
}

#[tokio::test]
async fn the_log_stays_within_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let config = TelemetryConfig {
        max_size: ByteCount::mib(1),
        max_age: HumanDuration::secs(3600),
        ..TelemetryConfig::default()
    };
    let log = Service::start(dir.path(), config.clone()).unwrap();
    let mut noise = 1u64;
    for i in 0..4000 {
        let filler: String = (0..60)
            .map(|_| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                format!("{noise:016x}")
            })
            .collect();
        log.log(line("loud", &format!("{i} {filler}")));
        if i % 200 == 0 {
            log.flush().await.unwrap();
        }
    }
    log.close().await;
    drop(log);
    let log = Service::start(dir.path(), config).unwrap();
    let found = search(&log, Query::default()).await;
    assert!(
        found.last().unwrap().message.starts_with("3999 "),
        "the newest stay"
    );
    log.close().await;
    let size: u64 = files(dir.path())
        .iter()
        .map(|file| std::fs::metadata(file).unwrap().len())
        .sum();
    assert!(size <= (1 << 20) + (300 << 10), "{size} bytes on disk");
    assert!(
        found.len() > 300 && found.len() < 3000,
        "most of the allowance is used: {}",
        found.len()
    );
}

#[tokio::test]
async fn what_is_much_becomes_a_file_while_the_store_runs() {
    let dir = tempfile::tempdir().unwrap();
    let config = TelemetryConfig {
        max_size: ByteCount::mib(1),
        max_age: HumanDuration::secs(3600),
        ..TelemetryConfig::default()
    };
    let log = Service::start(dir.path(), config).unwrap();
    let begun = atoll_base::clock::monotonic();
    let filler = "x".repeat(1000);
    // Much longer than a disk takes, much shorter than the round of tidying.
    while files(&dir.path().join("logs")).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "no file");
        log.logs((0..100).map(|_| line("loud", &filler)));
        log.flush().await.unwrap();
    }
}

#[tokio::test]
async fn old_lines_go() {
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path());
    let mut old = line("orders", "old");
    old.time = Timestamp::now().before(Duration::from_secs(8 * 24 * 3600));
    log.log(old);
    log.close().await;
    drop(log);
    let log = start(dir.path());
    log.log(line("orders", "new"));
    log.close().await;
    drop(log);
    let log = start(dir.path());
    assert_eq!(messages(&log, Query::default()).await, ["new"]);
}

#[tokio::test]
async fn a_follower_gets_the_past_then_the_present_and_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path());
    for i in 0..10 {
        log.log(line("orders", &i.to_string()));
    }
    let mut follow = log
        .follow(Query {
            tail: Some(3),
            ..Query::default()
        })
        .await
        .unwrap();
    // More than the channel holds: the follower has to fall back to the disk.
    for i in 10..5000 {
        log.log(line("orders", &i.to_string()));
    }
    log.flush().await.unwrap();
    for expected in 7..5000 {
        assert_eq!(follow.next().await.unwrap().message, expected.to_string());
    }
}

#[tokio::test]
async fn a_follower_without_a_past_gets_nothing_that_was_logged_before() {
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path());
    // Not yet written: following has it written, and it passes by as a batch.
    log.log(line("orders", "before"));
    let none = Query {
        tail: Some(0),
        ..Query::default()
    };
    let mut follow = log.follow(none).await.unwrap();
    log.log(line("orders", "after"));
    assert_eq!(follow.next().await.unwrap().message, "after");
}

#[tokio::test]
async fn a_disk_that_refuses_loses_lines_says_so_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("telemetry");
    let log = start(&inner);
    log.log(line("orders", "kept"));
    log.close().await;
    drop(log);
    let log = start(&inner);
    // A folder that is gone refuses new files as a full disk does, for root too.
    std::fs::rename(inner.join("wal"), dir.path().join("away")).unwrap();
    log.log(line("orders", "lost"));
    log.flush().await.unwrap();
    assert!(log.health().trouble.is_some());
    std::fs::rename(dir.path().join("away"), inner.join("wal")).unwrap();
    // The disk is tried again after a while; lines of that while are lost, and counted.
    let mut lost = 1;
    loop {
        log.log(line("orders", "back"));
        log.flush().await.unwrap();
        if log.health().trouble.is_none() {
            break;
        }
        lost += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(log.health().dropped, lost);
    log.log(line("orders", "again"));
    let found = messages(&log, Query::default()).await;
    assert!(found.contains(&"kept".to_owned()) && found.contains(&"back".to_owned()));
    assert!(
        found
            .iter()
            .any(|m| m.ends_with("lines were lost while the disk refused them")),
        "{found:?}"
    );
}
