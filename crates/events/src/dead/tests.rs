//! Dead letters over a bus in memory, and a service that recovers.

use std::sync::atomic::{AtomicBool, Ordering};

use atoll_base::Tasks;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::*;
use crate::bus::memory::Memory;
use crate::config::SubscribeConfig;
use crate::courier::Courier;
use crate::courier::Failure;
use crate::record::NewRecord;

/// Refuses what has "bad" in it, until it is repaired.
#[derive(Clone, Default)]
struct Points(Arc<AtomicBool>);

impl Courier for Points {
    fn send(
        &self,
        _: &ServiceName,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Bytes>, Failure>> {
        let bad = request.body().windows(3).any(|part| part == b"bad");
        let status = if bad && !self.0.load(Ordering::SeqCst) {
            422
        } else {
            204
        };
        let answer = http::Response::builder().status(status).body(Bytes::new());
        async move { answer.map_err(|error| Failure::Broken(error.to_string())) }.boxed()
    }
}

struct Scene {
    bus: Memory,
    points: Points,
    pushes: Pushes,
    letters: Letters,
    _folder: tempfile::TempDir,
}

fn points() -> ServiceName {
    ServiceName::new("points").unwrap()
}

/// A subscription that has given up records with these values.
async fn scene(values: &[&str]) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::open(&folder.path().join("state.db"), &[MIGRATION]).unwrap();
    let bus = Memory::default();
    bus.create("paid", 1);
    let service = Points::default();
    let courier = Arc::new(service.clone());
    let pushes = Pushes::new(Arc::new(bus.clone()), courier, Tasks::new());
    let all = [SubscribeConfig::new("paid", Some("/paid".to_owned()))];
    pushes.declare(&points(), &all).await.unwrap();
    pushes.serve(&points(), &all);
    for value in values {
        let mut record = NewRecord::new("paid");
        record.value = Some(Bytes::copy_from_slice(value.as_bytes()));
        record.headers.push(Header::text("a", "b"));
        bus.publish(vec![record]).await.unwrap();
    }
    let dead = values.iter().filter(|value| value.contains("bad")).count();
    bus.wait("dead.points.paid", 0, dead as i64 - 1).await;
    let letters = Letters::new(Arc::new(bus.clone()), pushes.clone(), sql);
    Scene {
        bus,
        points: service,
        pushes,
        letters,
        _folder: folder,
    }
}

impl Scene {
    /// Page by page.
    async fn all(&self, filter: &Filter) -> Vec<Letter> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.letters.page(filter, after.as_ref(), 2).await.unwrap();
            assert!(page.letters.len() <= 2);
            all.extend(page.letters);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    async fn open(&self) -> Vec<Letter> {
        self.all(&Filter::default()).await
    }

    /// The newest letters of the records that are kept in the SQL state.
    async fn known(&self) -> Vec<i64> {
        let sql = "SELECT number FROM events_dead_record ORDER BY number";
        let read = self.letters.sql.call(move |db| {
            let mut rows = db.prepare(sql)?;
            rows.query_map([], |row| row.get(0))?.collect()
        });
        read.await.unwrap()
    }

    /// The letters about which something was done that is kept in the SQL state.
    async fn done(&self) -> Vec<i64> {
        let sql = "SELECT offset FROM events_dead ORDER BY offset";
        let read = self.letters.sql.call(move |db| {
            let mut rows = db.prepare(sql)?;
            rows.query_map([], |row| row.get(0))?.collect()
        });
        read.await.unwrap()
    }

    /// How many rows were ever written or deleted.
    async fn changes(&self) -> i64 {
        let sql = "SELECT total_changes()";
        let read = self
            .letters
            .sql
            .call(move |db| db.query_row(sql, [], |row| row.get(0)));
        read.await.unwrap()
    }

    async fn redrive(&self, stop_after: u32) -> Vec<Step> {
        let (told, mut steps) = mpsc::channel(100);
        let how = Redrive {
            rate: 10_000.0,
            stop_after,
        };
        // One letter to a page.
        let filter = Filter::default();
        let first = self.letters.page(&filter, None, 1).await.unwrap();
        self.letters.redrive(first, filter, how, told).await;
        let mut all = Vec::new();
        while let Some(step) = steps.recv().await {
            all.push(step);
        }
        all
    }
}

fn id(number: i64) -> LetterId {
    LetterId {
        service: points(),
        topic: "paid".to_owned(),
        number,
    }
}

#[tokio::test]
async fn a_letter_says_what_died_and_of_what() {
    let scene = scene(&["good", "bad 1"]).await;
    let letters = scene.open().await;
    let [letter] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(letter.id.to_string(), "points/paid/0");
    assert_eq!(letter.value.as_ref().unwrap(), "bad 1");
    assert_eq!((letter.offset, letter.attempts), (1, 1));
    assert_eq!(letter.reason, "answered 422");
    assert_eq!(letter.headers, [Header::text("a", "b")]);
    assert_eq!(scene.letters.one(&id(0)).await.unwrap(), *letter);
    for other in [
        id(1),
        LetterId {
            topic: "other".to_owned(),
            ..id(0)
        },
    ] {
        let error = scene.letters.one(&other).await.unwrap_err();
        assert!(
            error.to_string().contains("there is no dead letter"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_died_of_the_same_is_one_group_whatever_its_numbers() {
    let print = |reason: &str| fingerprint(&points(), "paid", reason);
    assert_eq!(
        print("answered 500: order 17"),
        print("answered 500: order 4711")
    );
    assert_ne!(print("answered 500: x"), print("answered 404: x"));
    let scene = scene(&["bad 1", "bad 2"]).await;
    let letters = scene.open().await;
    assert_eq!(
        groups(&letters)
            .iter()
            .map(|(_, count)| *count)
            .collect::<Vec<_>>(),
        [2]
    );
    let group = Some(letters[0].group.clone());
    let own = Filter {
        group,
        ..Filter::default()
    };
    assert_eq!(scene.all(&own).await.len(), 2);
    let other = Filter {
        service: Some(ServiceName::new("other").unwrap()),
        ..Filter::default()
    };
    assert_eq!(scene.all(&other).await, []);
}

#[tokio::test]
async fn a_repaired_service_takes_them_and_they_are_open_no_more() {
    let scene = scene(&["bad 1", "bad 2"]).await;
    scene.points.0.store(true, Ordering::SeqCst);
    assert_eq!(
        scene.redrive(3).await,
        [Step::Taken(id(0)), Step::Taken(id(1))]
    );
    assert_eq!(scene.open().await, []);
    assert_eq!(
        scene.bus.records("dead.points.paid").len(),
        2,
        "none died again"
    );
}

#[tokio::test]
async fn it_stops_by_itself_when_they_fail_again() {
    let scene = scene(&["bad 1", "bad 2", "bad 3", "bad 4"]).await;
    let steps = scene.redrive(2).await;
    let reason = "points answered 422".to_owned();
    let failed = |number| Step::Failed(id(number), reason.clone());
    assert_eq!(steps, [failed(0), failed(1), Step::Stopped(2)]);
    assert_eq!(scene.open().await.len(), 4);
}

#[tokio::test]
async fn an_edited_copy_is_what_is_sent() {
    let scene = scene(&["bad 1", "bad 2"]).await;
    scene
        .letters
        .edit(&id(1), Bytes::from_static(b"good"))
        .await
        .unwrap();
    let letter = scene.letters.one(&id(1)).await.unwrap();
    assert!(letter.edited && letter.value.unwrap() == "good");
    let steps = scene.redrive(9).await;
    assert!(matches!(&steps[..], [Step::Failed(..), Step::Taken(taken)] if *taken == id(1)));
    assert_eq!(
        scene.bus.records("dead.points.paid")[1]
            .value
            .as_ref()
            .unwrap(),
        "bad 2"
    );
}

#[tokio::test]
async fn what_was_dropped_is_open_no_more() {
    let scene = scene(&["bad 1", "bad 2"]).await;
    scene.letters.drop(&[id(0)]).await.unwrap();
    assert_eq!(scene.open().await.len(), 1);
    assert!(scene.letters.drop(&[id(0)]).await.is_err());
}

#[tokio::test]
async fn a_record_that_dies_again_is_one_letter_the_newest() {
    let scene = scene(&["bad 1", "bad 2"]).await;
    let before = scene.open().await;
    scene.letters.drop(&[id(1)]).await.unwrap();
    scene.pushes.replay(&points(), "paid", 0).await.unwrap();
    scene.bus.wait("dead.points.paid", 0, 3).await;
    let now = scene.open().await;
    let told: Vec<_> = now
        .iter()
        .map(|own| (own.id.number, own.offset, own.deaths))
        .collect();
    assert_eq!(told, [(2, 0, 2), (3, 1, 2)]);
    assert_eq!((before[0].deaths, before[0].offset), (1, 0));
    // The one before is no letter of its own any more.
    assert!(scene.letters.one(&id(0)).await.is_err());
    assert_eq!(scene.letters.one(&id(2)).await.unwrap(), now[0]);
    scene.letters.drop(&[id(2)]).await.unwrap();
    scene.points.0.store(true, Ordering::SeqCst);
    assert_eq!(scene.redrive(3).await, [Step::Taken(id(3))]);
    assert_eq!(scene.open().await, [], "none of those before comes back");
}

#[tokio::test]
async fn a_topic_that_was_made_anew_knows_nothing_of_the_one_before() {
    let old = scene(&["bad 1", "bad 2", "bad 3"]).await;
    assert_eq!(old.open().await.len(), 3);
    let new = scene(&["bad 4"]).await;
    new.pushes.replay(&points(), "paid", 0).await.unwrap();
    new.bus.wait("dead.points.paid", 0, 1).await;
    // Another topic of the same name, over the state of before.
    let letters = Letters {
        sql: old.letters.sql.clone(),
        ..new.letters.clone()
    };
    let page = letters.page(&Filter::default(), None, 9).await.unwrap();
    let told: Vec<_> = page.letters.iter().map(|own| own.deaths).collect();
    assert_eq!(told, [2]);
}

#[tokio::test]
async fn what_retention_took_is_forgotten_also_by_who_looks_often() {
    let scene = scene(&["bad 1", "bad 2", "bad 3"]).await;
    assert_eq!(scene.open().await.len(), 3);
    assert_eq!(scene.known().await, [0, 1, 2]);
    scene.letters.drop(&[id(0)]).await.unwrap();
    let value = Bytes::from_static(b"bad too");
    scene.letters.edit(&id(2), value.clone()).await.unwrap();
    assert_eq!(scene.done().await, [0, 2]);
    scene.bus.retain_from("dead.points.paid", 2);
    let left = scene.open().await;
    assert_eq!((left.len(), left[0].value.as_ref()), (1, Some(&value)));
    assert_eq!(scene.known().await, [2]);
    assert_eq!(scene.done().await, [2]);
    // All die again: the third is known by a letter that is still there.
    scene.pushes.replay(&points(), "paid", 0).await.unwrap();
    scene.bus.wait("dead.points.paid", 0, 5).await;
    assert_eq!(scene.open().await.len(), 3);
    scene.bus.retain_from("dead.points.paid", 5);
    let now = scene.open().await;
    assert_eq!((now[0].id.number, now[0].deaths), (5, 2));
    assert_eq!(scene.known().await, [5]);
    // Nothing is left of it: one look clears, those after it write nothing.
    scene.bus.retain_from("dead.points.paid", 6);
    assert_eq!(scene.open().await, []);
    assert_eq!(scene.known().await, [0_i64; 0]);
    let before = scene.changes().await;
    assert_eq!(scene.open().await, []);
    assert_eq!(scene.changes().await, before);
}

#[tokio::test]
async fn of_a_topic_that_was_deleted_what_was_done_is_kept_for_a_month() {
    let scene = scene(&["bad 1", "bad 2"]).await;
    scene.letters.drop(&[id(0)]).await.unwrap();
    let open = scene.open().await;
    assert_eq!(open.len(), 1);
    let forget = async |days: i64| {
        let then = Timestamp::now().as_micros() + days * 24 * 3600 * 1_000_000;
        let then = Timestamp::from_micros(then);
        let forgotten = deaths::forget_deleted(&scene.letters.sql, &[], then);
        forgotten.await.unwrap();
    };
    // It was not there for a moment, or another broker was looked at.
    forget(29).await;
    assert_eq!((scene.known().await, scene.done().await), (vec![], vec![0]));
    assert_eq!(scene.open().await, open);
    scene.bus.delete("dead.points.paid");
    assert_eq!(scene.open().await, []);
    assert_eq!((scene.known().await, scene.done().await), (vec![], vec![0]));
    forget(31).await;
    assert_eq!(scene.done().await, [0_i64; 0]);
}

#[tokio::test]
async fn without_a_subscription_there_is_nobody_to_take_it() {
    let scene = scene(&["bad 1"]).await;
    scene.pushes.serve(&points(), &[]);
    let steps = scene.redrive(3).await;
    let reason = "points does not subscribe to 'paid' now".to_owned();
    assert_eq!(steps, [Step::Failed(id(0), reason)]);
}

#[test]
fn names_of_letters() {
    assert_eq!("points/paid/0".parse(), Ok(id(0)));
    for wrong in [
        "",
        "points/paid",
        "points/paid/x",
        "points/paid/1/2",
        "Points/paid/1",
    ] {
        let error = LetterId::from_str(wrong).unwrap_err();
        assert!(error.contains("SERVICE/TOPIC/NUMBER"), "{error}");
    }
}
