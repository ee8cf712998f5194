//! Outboxes in real databases, over a bus in memory. Each scene runs with SQLite and PostgreSQL.

mod database;

use std::future::Future;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::bus::memory::Memory;
use crate::record::Record;
use database::Database;

/// `orders` may publish everything but to `secret`; `strict` takes objects only.
struct Open;

impl Rights for Open {
    fn may_publish(&self, _: &ServiceName, topic: &str) -> bool {
        topic != "secret"
    }

    fn may_read(&self, _: &ServiceName, _: &str) -> bool {
        false
    }

    fn check(&self, topic: &str, value: Option<&Bytes>, _: Option<&str>) -> Result<(), String> {
        let object = value.is_some_and(|value| value.starts_with(b"{"));
        match topic == "strict" && !object {
            true => Err("it is no object".to_owned()),
            false => Ok(()),
        }
    }
}

struct Ears(mpsc::Sender<Option<String>>);

impl Told for Ears {
    fn trouble(&self, _: &ServiceName, what: Option<&str>) {
        let _ = self.0.try_send(what.map(str::to_owned));
    }
}

struct Scene {
    bus: Memory,
    outboxes: Outboxes,
    told: mpsc::Receiver<Option<String>>,
    tasks: Tasks,
    config: OutboxConfig,
}

fn orders() -> ServiceName {
    ServiceName::new("orders").unwrap()
}

async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("{what}"))
}

impl Scene {
    fn new() -> Self {
        let bus = Memory::default();
        for topic in ["placed", "strict", "secret"] {
            bus.create(topic, 1);
        }
        Self::over(bus)
    }

    /// Another node over the same topics.
    fn over(bus: Memory) -> Self {
        let (sender, told) = mpsc::channel(100);
        let tasks = Tasks::new();
        let shared: Arc<dyn Bus> = Arc::new(bus.clone());
        let (rights, ears) = (Arc::new(Open), Arc::new(Ears(sender)));
        Self {
            outboxes: Outboxes::new(shared, rights, ears, tasks.clone()),
            bus,
            told,
            tasks,
            config: OutboxConfig {
                poll: atoll_base::HumanDuration(Duration::from_millis(10)),
                batch: 7,
                ..OutboxConfig::default()
            },
        }
    }

    fn serve(&self, database: &Database) {
        let outbox = (&self.config, database.source());
        self.outboxes.serve(&orders(), Some(outbox));
    }

    async fn stop(self) -> Memory {
        self.outboxes.stop(Duration::from_secs(10)).await;
        self.tasks.stop();
        assert!(self.tasks.join(Duration::from_secs(10)).await);
        self.bus
    }

    async fn records(&self, topic: &str, count: usize) -> Vec<Record> {
        let last = i64::try_from(count).unwrap() - 1;
        in_time("records do not come", self.bus.wait(topic, 0, last)).await;
        self.bus.records(topic)
    }

    async fn told(&mut self) -> Option<String> {
        in_time("nothing is told", self.told.recv()).await.unwrap()
    }
}

async fn marked(database: &Database) {
    let all = async { while database.unmarked().await > 0 {} };
    in_time("rows are not marked", all).await;
}

fn insert(topic: &str, key: &str, value: &str) -> String {
    format!("INSERT INTO outbox (topic, key, value) VALUES ('{topic}', '{key}', '{value}');")
}

fn values(records: &[Record]) -> Vec<String> {
    let value = |record: &Record| String::from_utf8(record.value.clone().unwrap().to_vec());
    records.iter().map(|own| value(own).unwrap()).collect()
}

/// Runs a scene with both kinds of databases.
macro_rules! with_each {
    ($($scene:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scene() {
                super::$scene(&super::Database::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scene() {
                let database = super::Database::postgres();
                if let super::Database::Postgres(server) = &database {
                    server.ready().await;
                }
                super::$scene(&database).await;
            })*
        }
    };
}

with_each! {
    rows_are_published_in_order_and_marked
    what_is_published_and_not_marked_in_a_crash_is_published_once
    a_row_that_is_refused_waits_and_is_told
    a_table_that_is_missing_is_told_and_taken_when_it_comes
    many_write_at_once_and_each_row_is_published_once
}

async fn rows_are_published_in_order_and_marked(database: &Database) {
    database.make().await;
    let scene = Scene::new();
    scene.serve(database);
    let rows: String = (0..30)
        .map(|i| insert("placed", "k", &format!("{i}")))
        .collect();
    database.run(&rows).await;
    let headers = r#"{"ce_type": "shop.placed", "content-type": "text/plain", "a": "b"}"#;
    let row = format!("INSERT INTO outbox (topic, headers) VALUES ('placed', '{headers}')");
    database.run(&row).await;
    let records = scene.records("placed", 31).await;
    let expected: Vec<String> = (0..30).map(|i| i.to_string()).collect();
    assert_eq!(values(&records[..30]), expected);
    assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(
        records[0].text("ce_source"),
        Some("/services/orders/outbox")
    );
    assert_eq!(records[0].text("ce_type"), Some("placed"));
    assert_eq!(records[0].text(OUTBOX), Some("orders/1"));
    let last = &records[30];
    assert_eq!((&last.key, &last.value), (&None, &None));
    assert_eq!(
        (last.text("ce_type"), last.text("a")),
        (Some("shop.placed"), Some("b"))
    );
    let event = crate::cloudevents::Event::from_record(last).unwrap();
    assert_eq!(event.datacontenttype.as_deref(), Some("text/plain"));
    marked(database).await;
    assert_eq!(scene.outboxes.views()[0].published, 31);
    assert_eq!(scene.stop().await.records("placed").len(), 31);
}

async fn what_is_published_and_not_marked_in_a_crash_is_published_once(database: &Database) {
    database.make().await;
    database.crash().await;
    database.run(&insert("placed", "k", "before")).await;
    let scene = Scene::new();
    scene.serve(database);
    scene.records("placed", 1).await;
    // It is out, and counts.
    let published = async {
        while scene.outboxes.views()[0].published == 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time("the row is not counted", published).await;
    let bus = scene.stop().await;
    assert_eq!(database.unmarked().await, 1, "the test shows nothing");
    database.recover().await;
    let scene = Scene::over(bus);
    database.run(&insert("placed", "k", "after")).await;
    scene.serve(database);
    assert_eq!(
        values(&scene.records("placed", 2).await),
        ["before", "after"]
    );
    marked(database).await;
    // Another database, whose rows have the numbers of those that went out last.
    let bus = scene.stop().await;
    database
        .run("UPDATE outbox SET published_at = NULL, value = 'new' WHERE id = 2")
        .await;
    let scene = Scene::over(bus);
    scene.serve(database);
    assert_eq!(
        values(&scene.records("placed", 3).await),
        ["before", "after", "new"]
    );
    marked(database).await;
}

async fn a_row_that_is_refused_waits_and_is_told(database: &Database) {
    database.make().await;
    let rows = [
        insert("secret", "k", "{}"),
        insert("strict", "a", "x"),
        insert("strict", "b", "{}"),
        insert("strict", "a", "{1}"),
        insert("nothing", "k", "x"),
        insert("placed", "k", "ok"),
    ];
    database.run(&rows.concat()).await;
    let mut scene = Scene::new();
    scene.serve(database);
    assert_eq!(values(&scene.records("placed", 1).await), ["ok"]);
    assert_eq!(values(&scene.records("strict", 1).await), ["{}"]);
    let told = scene.told().await.unwrap();
    assert!(
        told.contains("row 1") && told.contains("[publish]"),
        "{told}"
    );
    assert!(told.contains("2 others"), "{told}");
    let view = scene.outboxes.views().remove(0);
    assert_eq!((view.refused, view.waiting), (3, 1));
    assert_eq!(view.trouble.unwrap().0, told);
    let mended = "DELETE FROM outbox WHERE topic IN ('secret', 'nothing');
        UPDATE outbox SET value = '{0}' WHERE value = 'x'";
    database.run(mended).await;
    assert_eq!(
        values(&scene.records("strict", 3).await),
        ["{}", "{0}", "{1}"]
    );
    while scene.told().await.is_some() {}
    marked(database).await;
}

async fn a_table_that_is_missing_is_told_and_taken_when_it_comes(database: &Database) {
    let mut scene = Scene::new();
    scene.serve(database);
    let told = scene.told().await.unwrap();
    assert!(
        told.contains("outbox") || told.contains("no database"),
        "{told}"
    );
    database.make().await;
    database.run(&insert("placed", "k", "v")).await;
    scene.records("placed", 1).await;
    assert_eq!(scene.told().await, None);
}

/// Rows become visible in another order than their numbers': the later number is committed first.
async fn many_write_at_once_and_each_row_is_published_once(database: &Database) {
    database.make().await;
    let scene = Scene::new();
    scene.serve(database);
    let write = async |writer: usize| {
        for row in 0..40 {
            let rows = insert("placed", &format!("w{writer}"), &format!("{writer}-{row}"));
            database.run(&format!("BEGIN; {rows} COMMIT;")).await;
        }
    };
    tokio::join!(write(0), write(1), write(2), write(3));
    let records = scene.records("placed", 160).await;
    for writer in 0..4 {
        let key = Bytes::from(format!("w{writer}"));
        let own = records
            .iter()
            .filter(|record| record.key.as_ref() == Some(&key));
        let own: Vec<Record> = own.cloned().collect();
        let expected: Vec<String> = (0..40).map(|row| format!("{writer}-{row}")).collect();
        assert_eq!(values(&own), expected);
    }
    marked(database).await;
    assert_eq!(scene.stop().await.records("placed").len(), 160);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_committed_late_with_a_smaller_number_are_not_lost() {
    let database = Database::postgres();
    let Database::Postgres(server) = &database else {
        panic!("no server");
    };
    server.ready().await;
    database.make().await;
    let scene = Scene::new();
    scene.serve(&database);
    let late = super::Connect::connect(&server.socket).await.unwrap();
    let row = insert("placed", "late", "1");
    late.batch_execute(&format!("BEGIN; {row}")).await.unwrap();
    database.run(&insert("placed", "early", "2")).await;
    assert_eq!(values(&scene.records("placed", 1).await), ["2"]);
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(values(&scene.records("placed", 2).await), ["2", "1"]);
    marked(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_replaced_is_read_with_a_journal_and_with_a_wal() {
    for journal in ["DELETE", "WAL"] {
        let database = Database::sqlite();
        let setup = format!("PRAGMA journal_mode = {journal};");
        database.run(&setup).await;
        database.make().await;
        let scene = Scene::new();
        scene.serve(&database);
        database.run(&insert("placed", "k", "old")).await;
        scene.records("placed", 1).await;
        marked(&database).await;
        for ending in ["", "-wal", "-shm"] {
            let file = format!("{}{ending}", database.file().display());
            let _ = std::fs::remove_file(file);
        }
        database.run(&setup).await;
        database.make().await;
        database.run(&insert("placed", "k", "new")).await;
        assert_eq!(values(&scene.records("placed", 2).await), ["old", "new"]);
        marked(&database).await;
        scene.stop().await;
    }
}
