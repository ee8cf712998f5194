//! The log from outside: what was logged is found, kept within bounds, and survives.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_base::{ByteCount, HumanDuration, RevisionNumber, ServiceName, Timestamp, TraceId};
use atoll_telemetry::{Handle, LogRecord, LogsConfig, NewRecord, Query, Service, Stream};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn start(dir: &Path) -> Handle {
    Service::start(dir.to_owned(), LogsConfig::default()).unwrap()
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
        continued: false,
        message: message.to_owned(),
    }
}

async fn search(handle: &Handle, query: Query) -> Vec<LogRecord> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&found);
    handle
        .search(query, move |record| {
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
        services: vec![ServiceName::new("orders").unwrap()],
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
                grep: Some(grep),
                ..Query::default()
            }
        )
        .await,
        ["three"]
    );
    let trace = TraceId::parse(TRACE.as_bytes());
    let found = search(
        &log,
        Query {
            trace,
            ..Query::default()
        },
    )
    .await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].service.as_str(), "payments");
    assert_eq!(found[0].level, Some(atoll_telemetry::Level::Error));
}

#[tokio::test]
async fn lines_survive_a_restart_and_a_torn_tail_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path());
    log.log(line("orders", "before"));
    log.flush().await.unwrap();
    drop(log);
    let segment = std::fs::read_dir(dir.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes.extend_from_slice(br#"{"n":2,"time":"2026-11-2"#);
    std::fs::write(&segment, bytes).unwrap();

    let log = start(dir.path());
    log.log(line("orders", "after"));
    let found = search(&log, Query::default()).await;
    assert_eq!(
        found.iter().map(|r| r.message.as_str()).collect::<Vec<_>>(),
        ["before", "after"]
    );
    assert!(found[1].number > found[0].number);
}

#[tokio::test]
async fn the_log_stays_within_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogsConfig {
        max_size: ByteCount::mib(1),
        max_age: HumanDuration::secs(3600),
    };
    let log = Service::start(dir.path().to_owned(), config).unwrap();
    let filler = "x".repeat(1000);
    for i in 0..4000 {
        log.log(line("loud", &format!("{i} {filler}")));
        if i % 500 == 0 {
            log.flush().await.unwrap();
        }
    }
    let found = search(&log, Query::default()).await;
    assert!(
        found.last().unwrap().message.starts_with("3999 "),
        "the newest stay"
    );
    let size: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= (1 << 20) + (300 << 10), "{size} bytes on disk");
    assert!(
        found.len() > 300,
        "most of the allowance is used: {}",
        found.len()
    );
}

#[tokio::test]
async fn old_lines_go() {
    let dir = tempfile::tempdir().unwrap();
    drop_after(&start(dir.path()), "old").await;
    let first = std::fs::read_dir(dir.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = std::fs::File::options().append(true).open(&first).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1))
        .unwrap();
    drop_after(&start(dir.path()), "new").await;
    let log = start(dir.path());
    log.log(line("orders", "newest"));
    assert_eq!(messages(&log, Query::default()).await, ["new", "newest"]);
}

async fn drop_after(log: &Handle, message: &str) {
    log.log(line("orders", message));
    log.flush().await.unwrap();
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
async fn a_disk_that_refuses_loses_lines_says_so_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("logs");
    let log = start(&inner);
    log.log(line("orders", "kept"));
    log.flush().await.unwrap();
    // A folder that is gone refuses new segments as a full disk does, for root too.
    std::fs::rename(&inner, dir.path().join("away")).unwrap();
    drop(log);
    let log = {
        std::fs::create_dir(&inner).unwrap();
        let log = start(&inner);
        std::fs::remove_dir(&inner).unwrap();
        log
    };
    log.log(line("orders", "lost"));
    log.flush().await.unwrap();
    assert!(log.health().trouble.is_some());
    std::fs::rename(dir.path().join("away"), &inner).unwrap();
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
    let found = messages(&log, Query::default()).await;
    assert!(found.contains(&"kept".to_owned()) && found.contains(&"back".to_owned()));
    assert!(
        found
            .iter()
            .any(|m| m.ends_with("lines were lost while the disk refused them")),
        "{found:?}"
    );
}
