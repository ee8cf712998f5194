//! What happens beside the upkeep of a partition: long runs, deleted topics, records that may not last.

use std::collections::HashSet;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use atoll_base::Tasks;
use atoll_store::Sql;
use atoll_store::log::hooked::Hooked;
use atoll_store::log::{Log, RealDisk};

use super::*;
use crate::access::Access;
use crate::broker::Broker;
use crate::config::{Cleanup, Durability};
use crate::records::{BatchBuilder, NewRecord, Options};

/// Called when the disk reads or keeps something of a file of records: what, to which.
type Hook = dyn Fn(&str) + Send + Sync;

async fn broker(folder: &Path, hook: Arc<Hook>) -> (Broker, Tasks) {
    let tasks = Tasks::new();
    let migrations = [crate::journal::MIGRATION];
    let sql = Sql::open(&folder.join("state.db"), &migrations).unwrap();
    let dir = folder.join("log");
    std::fs::create_dir_all(&dir).unwrap();
    let disk = Hooked::new(RealDisk, move |what, path| {
        let is_of_records = path.extension().is_some_and(|own| own == "log");
        if is_of_records && ["read", "sync"].contains(&what) {
            hook(what);
        }
    });
    let (log, _) = Log::open(&dir, Arc::new(disk)).unwrap();
    let opened = Broker::open(sql, log, Access::new(true), true, &tasks);
    (opened.await.unwrap(), tasks)
}

async fn topic(broker: &Broker, name: &str, edit: impl FnOnce(&mut TopicConfig)) -> Arc<Partition> {
    let mut config = TopicConfig::default();
    edit(&mut config);
    broker.catalog().create(name, config).await.unwrap();
    let own = broker.catalog().partition(name, 0).unwrap();
    own.ready().await.unwrap();
    own
}

fn compacts(config: &mut TopicConfig) {
    config.cleanup = Cleanup::Compact;
}

async fn put(to: &Partition, options: Options) {
    let mut batch = BatchBuilder::new(options);
    let record = NewRecord {
        timestamp: Timestamp::now().as_micros() / 1000,
        key: Some(b"k"),
        value: Some(b"v"),
        ..NewRecord::default()
    };
    batch.push(&record).unwrap();
    let produced = to.produce(batch.finish().unwrap()).unwrap();
    to.acknowledged(produced).await.unwrap();
}

fn later() -> Timestamp {
    Timestamp::now().after(Duration::from_secs(60))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_records_do_not_wait_for_a_long_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, _tasks) = broker(dir.path(), Arc::new(|_| {})).await;
    let first = topic(&broker, "a", compacts).await;
    let second = topic(&broker, "b", |config| {
        config.retention_size = Some(atoll_base::ByteCount(0));
    })
    .await;
    put(&second, Options::default()).await;
    second.log.seal().await.unwrap();
    let gone = Arc::new(Notify::new());
    second.watch(&gone);
    // A run over the first one is under way, and does not end.
    let _run = first.upkeep.lock().await;
    tokio::select! {
        () = broker.tend(later()) => panic!("nobody waits for the run"),
        () = gone.notified() => {}
    }
    assert_eq!(second.ends().unwrap().start, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_records_of_a_topic_that_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, _tasks) = broker(dir.path(), Arc::new(|_| {})).await;
    let own = topic(&broker, "a", compacts).await;
    let waiting = Arc::clone(&own);
    let (waited, deleted) = tokio::join!(waiting.durable_until(5), broker.delete_topic("a"));
    deleted.unwrap();
    let error = waited.unwrap_err();
    assert_eq!(error.response(), ResponseError::UnknownTopicOrPartition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_to_memory_replaces_nothing_when_the_setting_changes() {
    let dir = tempfile::tempdir().unwrap();
    // Whoever wants a file of records kept waits while this is held.
    let gate: Arc<Mutex<()>> = Arc::default();
    let hook = {
        let gate = Arc::clone(&gate);
        move |what: &str| {
            if what == "sync" {
                drop(gate.lock().unwrap());
            }
        }
    };
    let (broker, _tasks) = broker(dir.path(), Arc::new(hook)).await;
    let own = topic(&broker, "a", |config| {
        compacts(config);
        config.durability = Durability::Memory;
    })
    .await;
    put(&own, Options::default()).await;
    own.log.seal().await.unwrap();
    let (closed, opened) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let holding = std::thread::spawn(move || {
        let _held = gate.lock().unwrap();
        closed.0.send(()).unwrap();
        let _ = opened.1.recv();
    });
    closed.1.recv().unwrap();
    put(&own, Options::default()).await;
    let edit = |config: &mut TopicConfig| {
        config.durability = Durability::Synced;
        Ok(())
    };
    broker.catalog().change("a", edit).await.unwrap();
    broker.tend(later()).await;
    let first = own.fetch(0, 1, false).unwrap().batches;
    assert_eq!(
        Header::parse(&first).unwrap().records,
        1,
        "a power failure takes the other"
    );
    assert_eq!(Header::parse(&first).unwrap().base_offset, 0);
    opened.0.send(()).unwrap();
    holding.join().unwrap();
    // The next one that is synced makes the second one last.
    put(&own, Options::default()).await;
    own.log.seal().await.unwrap();
    broker.tend(later()).await;
    let first = own.fetch(0, 1, false).unwrap().batches;
    assert!(Header::parse(&first).is_ok_and(|own| own.base_offset > 0));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_not_forgotten_between_its_records_and_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let armed: Arc<OnceLock<Arc<Partition>>> = Arc::default();
    let reads = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let hook = {
        let (armed, reads) = (Arc::clone(&armed), Arc::clone(&reads));
        move |what: &str| {
            let Some(own) = armed.get().filter(|_| what == "read") else {
                return;
            };
            if reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                // As a run does at its end, when it has taken the records.
                let mut state = own.lock();
                let state = state.as_mut().unwrap();
                state.open.forget(&HashSet::from([1]));
                state.forgotten += 1;
            }
        }
    };
    let (broker, _tasks) = broker(dir.path(), Arc::new(hook)).await;
    let own = topic(&broker, "a", compacts).await;
    let producer = Producer { id: 7, epoch: 0 };
    let options = Options {
        producer: Some((producer, 0)),
        transactional: true,
        ..Options::default()
    };
    put(&own, options).await;
    own.mark(producer, Outcome::Abort).await.unwrap();
    let told = own.fetch(0, 1 << 20, true).unwrap();
    assert_eq!(told.aborted.len(), 1);
    assert!(armed.set(Arc::clone(&own)).is_ok());
    let told = own.fetch(0, 1 << 20, true).unwrap();
    assert_eq!(told.aborted, []);
    let reads = reads.load(std::sync::atomic::Ordering::SeqCst);
    assert!(reads > 1, "what was read before is not what the list is of");
}
