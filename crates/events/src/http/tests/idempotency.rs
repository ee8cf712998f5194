//! One key, one publication: twice, at once, after crashes at every step.

use atoll_base::Timestamp;
use futures_util::FutureExt as _;
use tokio::sync::Notify;

use super::odd::Odd;
use super::*;

const KEY: [(&str, &str); 2] = [
    ("idempotency-key", "\"k-1\""),
    ("content-type", "application/x-ndjson"),
];

fn world() -> World {
    let world = World::new();
    world.bus.set_now(Timestamp::now().as_micros() / 1000);
    world
}

#[tokio::test]
async fn the_second_time_gives_the_first_answer_and_publishes_nothing() {
    let world = world();
    let first = world.post("/topics/wide", &KEY, "1\n2").await;
    first.is_published(2);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let bare = [("idempotency-key", "k-1"), KEY[1]];
    for (world, headers) in [(&world, &KEY), (&world, &bare), (&world.restarted(), &KEY)] {
        let again = world.post("/topics/wide", headers, "1\n2").await;
        assert_eq!(again.headers["idempotency-replayed"], "true");
        assert_eq!(again.body, first.body);
        assert_eq!(world.bus.records("wide").len(), 2);
    }
    let header = world.bus.records("wide")[1]
        .text(IDEMPOTENCY)
        .unwrap()
        .to_owned();
    assert!(header.ends_with("/1"), "{header}");
}

#[tokio::test]
async fn a_key_is_of_one_caller_one_topic_and_one_request() {
    let mut world = world();
    world
        .post("/topics/orders", &KEY, "1")
        .await
        .is_published(1);
    let other = world.post("/topics/orders", &KEY, "2").await;
    other.is_problem(422, "was used within 24 hours for another request");
    let other = world.post("/topics/orders?key=a", &KEY, "1").await;
    other.is_problem(422, "another request");
    world.post("/topics/wide", &KEY, "2").await.is_published(1);
    world.caller = "other";
    world
        .post("/topics/orders", &KEY, "2")
        .await
        .is_published(1);
    assert_eq!(world.bus.records("orders").len(), 2);
    let long = "k".repeat(256);
    for key in ["", "\"\"", "a\"b", &long] {
        let answer = world
            .post("/topics/orders", &[("idempotency-key", key)], "2")
            .await;
        answer.is_problem(400, "Idempotency-Key must be");
    }
}

#[tokio::test]
async fn what_is_refused_leaves_the_key_free() {
    let world = world();
    world
        .post("/topics/strict", &KEY, "1")
        .await
        .is_problem(422, "schema");
    world
        .post("/topics/strict", &KEY, "{}")
        .await
        .is_published(1);
}

#[tokio::test]
async fn while_the_first_is_under_way_the_second_is_told_to_wait() {
    let world = world();
    let go = Arc::new(Notify::new());
    let bus = Odd {
        go: Some(Arc::clone(&go)),
        ..Odd::over(&world.bus)
    };
    let router = world.over(bus);
    let ask = || world.request("POST", "/topics/orders", &KEY, Body::from("1"));
    let mut first = router.clone().oneshot(ask());
    // Until it waits for the bus: nothing else makes the second one busy.
    let second = loop {
        assert!((&mut first).now_or_never().is_none());
        let second = Answer::of(router.clone().oneshot(ask()).await.unwrap()).await;
        if second.status != 503 {
            break second;
        }
    };
    second.is_problem(409, "still under way");
    assert_eq!(second.headers["retry-after"], "1");
    // The client goes; what it has begun is done all the same, and the key is free again.
    let work = world.tasks.clone();
    let mut first = Box::pin(first);
    while world.bus.records("orders").is_empty() {
        go.notify_one();
        assert!(first.as_mut().now_or_never().is_none() || !world.bus.records("orders").is_empty());
        tokio::task::yield_now().await;
    }
    drop(first);
    work.stop();
    assert!(work.join(std::time::Duration::from_secs(10)).await);
    let again = Answer::of(router.oneshot(ask()).await.unwrap()).await;
    again.is_published(1);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(world.bus.records("orders").len(), 1);
}

#[tokio::test]
async fn after_a_crash_only_what_is_missing_is_published() {
    for after in 0..=3 {
        let world = world();
        let bus = Odd {
            after: Some(after),
            ..Odd::over(&world.bus)
        };
        let ask = world.request("POST", "/topics/wide?key=x", &KEY, Body::from("1\n2\n3"));
        let crashed = Answer::of(world.over(bus).oneshot(ask).await.unwrap()).await;
        crashed.is_problem(503, "the node is gone");
        assert_eq!(world.bus.records("wide").len(), after);
        // Records of others, with and without keys of their own.
        let other = [("idempotency-key", "other")];
        world
            .post("/topics/wide?key=x", &other, "0")
            .await
            .is_published(1);

        let world = world.restarted();
        let again = world.post("/topics/wide?key=x", &KEY, "1\n2\n3").await;
        let told = again.is_published(3);
        assert_eq!(
            again.headers.contains_key("idempotency-replayed"),
            after == 3
        );
        let there = world.bus.records("wide");
        assert_eq!(there.len(), 4, "after {after}");
        for (index, told) in told.iter().enumerate() {
            let offset = told["offset"].as_i64().unwrap();
            let partition = told["partition"].as_i64().unwrap();
            let found = there.iter().find(|own| {
                own.place.offset == offset && i64::from(own.place.partition) == partition
            });
            let found = found.unwrap();
            assert_eq!(
                found.value.as_deref(),
                Some((index + 1).to_string().as_bytes())
            );
            assert_eq!(found.text("ce_id"), told["id"].as_str(), "ids stay");
        }
        let third = world.post("/topics/wide?key=x", &KEY, "1\n2\n3").await;
        assert_eq!(third.body, again.body);
    }
}

#[tokio::test]
async fn keys_expire_and_are_bounded() {
    let world = world();
    world
        .post("/topics/orders", &KEY, "1")
        .await
        .is_published(1);
    let count = |t: &atoll_store::rusqlite::Transaction<'_>| {
        t.query_row("SELECT count(*) FROM events_idempotency", [], |row| {
            row.get::<_, i64>(0)
        })
    };
    let day: i64 = 24 * 3600 * 1_000_000;
    let older = "UPDATE events_idempotency SET began = began - ?1";
    world
        .sql
        .call(move |t| t.execute(older, [day - 60_000_000]))
        .await
        .unwrap();
    world
        .post("/topics/orders", &KEY, "2")
        .await
        .is_problem(422, "another request");
    world
        .sql
        .call(move |t| t.execute(older, [day]))
        .await
        .unwrap();
    let other = [("idempotency-key", "k-2")];
    world
        .post("/topics/orders", &other, "2")
        .await
        .is_published(1);
    assert_eq!(
        world.sql.call(count).await.unwrap(),
        1,
        "the old one went with the new one"
    );
    world
        .post("/topics/orders", &KEY, "2")
        .await
        .is_published(1);

    let full = "UPDATE events_idempotency_counts SET count = 100000";
    world.sql.call(move |t| t.execute(full, [])).await.unwrap();
    let third = [("idempotency-key", "k-3")];
    let answer = world.post("/topics/orders", &third, "3").await;
    answer.is_problem(429, "100000 keys");
    assert_eq!(world.bus.records("orders").len(), 3);
}
