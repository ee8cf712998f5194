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
    async fn open(&self) -> Vec<Letter> {
        self.letters.list(&Filter::default()).await.unwrap()
    }

    async fn redrive(&self, stop_after: u32) -> Vec<Step> {
        let (told, mut steps) = mpsc::channel(100);
        let how = Redrive {
            rate: 10_000.0,
            stop_after,
        };
        self.letters.redrive(self.open().await, how, told).await;
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
    assert_eq!(scene.letters.list(&own).await.unwrap().len(), 2);
    let other = Filter {
        service: Some(ServiceName::new("other").unwrap()),
        ..Filter::default()
    };
    assert_eq!(scene.letters.list(&other).await.unwrap(), []);
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
