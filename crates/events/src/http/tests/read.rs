//! Reading, waiting and streaming.

use std::time::Duration;

use http_body_util::BodyExt as _;

use super::odd::Odd;
use super::*;
use crate::bus::BusError;
use crate::record::NewRecord;

impl World {
    async fn put(&self, topic: &str, partition: i32, value: &str) {
        let record = NewRecord {
            partition: Some(partition),
            value: Some(value.to_owned().into()),
            ..NewRecord::new(topic)
        };
        self.bus.publish(vec![record]).await.unwrap();
    }

    async fn stream(&self, path: &str, headers: &[(&str, &str)]) -> Body {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend(headers);
        let request = self.request("GET", path, &all, Body::empty());
        let response = self.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.into_body()
    }
}

async fn frame(body: &mut Body) -> String {
    let frame = body.frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

fn data(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let answer = answer.json();
    let events = answer["events"].as_array().unwrap().iter();
    events.map(|event| event["data"].to_string()).collect()
}

fn next(answer: &Answer) -> String {
    answer.json()["next"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn all_partitions_are_read_to_their_end_by_cursor() {
    let world = World::new();
    for value in 0..4 {
        for partition in 0..3 {
            world
                .put("wide", partition, &format!("{}", 10 * partition + value))
                .await;
        }
    }
    // Each has its share, the first has not all.
    let each = world.get("/topics/wide?max=6").await;
    assert_eq!(next(&each), "0:2,1:2,2:2");
    let mut seen = Vec::new();
    let mut path = "/topics/wide?max=5".to_owned();
    for expected in [5, 5, 2, 0] {
        let answer = world.get(&path).await;
        assert_eq!(data(&answer).len(), expected);
        seen.extend(data(&answer));
        path = format!("/topics/wide?max=5&cursor={}", next(&answer));
    }
    assert!(path.ends_with("cursor=0:4,1:4,2:4"), "{path}");
    for partition in 0..3 {
        let tens = seen.iter().map(|own| own.parse::<i32>().unwrap());
        let own: Vec<i32> = tens.filter(|own| own / 10 == partition).collect();
        assert_eq!(
            own,
            (0..4).map(|own| 10 * partition + own).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn an_event_says_where_its_record_stands() {
    let world = World::new();
    world.put("orders", 0, "{\"n\":1.10}").await;
    let answer = world.get("/topics/orders").await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    let event = &answer.json()["events"][0];
    assert_eq!(event["id"], "orders-0-0");
    assert_eq!(event["topic"], "orders");
    assert_eq!(event["partition"], 0);
    assert_eq!(event["offset"], "0");
    assert!(answer.body.windows(10).any(|own| own == b"{\"n\":1.10}"));
}

#[tokio::test]
async fn reading_begins_where_it_is_asked_to() {
    let world = World::new();
    for time in [1000, 2000, 3000] {
        world.bus.set_now(time);
        world.put("orders", 0, &time.to_string()).await;
    }
    for (from, expected) in [
        ("", vec!["1000", "2000", "3000"]),
        ("?from=earliest", vec!["1000", "2000", "3000"]),
        ("?from=latest", vec![]),
        ("?from=1970-01-01T00:00:02Z", vec!["2000", "3000"]),
        ("?from=1970-01-01T00:00:02.0001Z", vec!["3000"]),
        ("?from=2030-01-01T00:00:00Z", vec![]),
        ("?from=latest&cursor=0:1", vec!["2000", "3000"]),
    ] {
        let answer = world.get(&format!("/topics/orders{from}")).await;
        assert_eq!(data(&answer), expected, "{from}");
        assert_eq!(next(&answer), "0:3");
    }
    // A topic that has got more partitions.
    let answer = world.get("/topics/wide?cursor=1:0").await;
    assert_eq!(next(&answer), "0:0,1:0,2:0");
}

#[tokio::test]
async fn marks_of_transactions_are_passed_over() {
    let world = World::new();
    for value in 0..5 {
        world.put("orders", 0, &value.to_string()).await;
    }
    let bus = Odd {
        marks: 4,
        ..Odd::over(&world.bus)
    };
    let request = world.request("GET", "/topics/orders", &[], Body::empty());
    let answer = Answer::of(world.over(bus).oneshot(request).await.unwrap()).await;
    assert_eq!(data(&answer), ["4"]);
    assert_eq!(next(&answer), "0:5");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_with_what_to_do() {
    let mut world = World::new();
    for (path, status, says) in [
        ("/topics/nothing", 404, "no topic"),
        ("/topics/orders?max=0", 400, "'max' is 0"),
        ("/topics/orders?max=1001", 400, "1 to 1000"),
        ("/topics/orders?wait=61s", 400, "longer than 60s"),
        ("/topics/orders?wait=5", 400, "needs a unit"),
        ("/topics/orders?from=yesterday", 400, "'from' is not"),
        ("/topics/orders?cursor=x", 400, "leave it out"),
        (
            "/topics/orders?cursor=0:0,1:0",
            400,
            "names partition 1, and 'orders' has 1",
        ),
        ("/topics/orders?curser=0:0", 400, "unknown field"),
    ] {
        world.get(path).await.is_problem(status, says);
    }
    let gone = world.get("/topics/orders?cursor=0:5").await;
    gone.is_problem(410, "deleted before they were read");
    assert_eq!(gone.json()["cursor"], "0:0");
    world
        .bus
        .fail(Some(BusError::Unavailable("away".to_owned())));
    world.get("/topics/orders").await.is_problem(503, "away");
    world.bus.fail(None);
    world.caller = "stranger";
    let answer = world.get("/topics/orders").await;
    answer.is_problem(403, "[[subscribe]] topic = \"orders\"");
    world.caller = "shop";
    world.limits.readers_max = 0;
    let answer = world.get("/topics/orders").await;
    answer.is_problem(503, "too many read at once");
    assert_eq!(answer.headers["retry-after"], "1");
    world.limits.readers_max = 10;
    world.limits.readers_of_one_max = 0;
    let answer = world.get("/topics/orders").await;
    answer.is_problem(503, "shop has 0 reads under way");
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_with_the_first_event_or_with_its_time() {
    let world = World::new();
    let begun = tokio::time::Instant::now();
    let answer = world.get("/topics/wide?wait=30s").await;
    assert_eq!(data(&answer).len(), 0);
    assert_eq!(begun.elapsed(), Duration::from_secs(30));

    let writer = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        world.put("wide", 2, "1").await;
    };
    let begun = tokio::time::Instant::now();
    let path = format!("/topics/wide?wait=30s&cursor={}", next(&answer));
    let (answer, ()) = tokio::join!(world.get(&path), writer);
    assert_eq!(data(&answer), ["1"]);
    assert_eq!(next(&answer), "0:0,1:0,2:1");
    assert_eq!(begun.elapsed(), Duration::from_secs(7));

    let stopper = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.tasks.stop();
    };
    let path = format!("/topics/wide?wait=30s&cursor={}", next(&answer));
    let begun = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(world.get(&path), stopper);
    assert_eq!(data(&answer).len(), 0);
    assert_eq!(
        begun.elapsed(),
        Duration::from_secs(3),
        "a node that stops keeps nobody"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_sends_events_with_cursors_and_heartbeats() {
    let world = World::new();
    world.put("wide", 1, "{\n\"a\": 1}").await;
    let mut body = world.stream("/topics/wide?from=earliest", &[]).await;
    let first = frame(&mut body).await;
    assert!(
        first.starts_with(": from 0:0,1:0,2:0\n\nid: 0:0,1:1,2:0\ndata: {"),
        "{first}"
    );
    assert!(first.contains("\ndata: \"a\": 1}"), "{first}");
    let lines = first.lines().filter_map(|line| line.strip_prefix("data: "));
    let event: Value = serde_json::from_str(&lines.collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(event["data"]["a"], 1);

    let begun = tokio::time::Instant::now();
    assert_eq!(frame(&mut body).await, ": still here\n\n");
    assert_eq!(begun.elapsed(), Duration::from_secs(15));

    world.put("wide", 0, "2").await;
    world.put("wide", 1, "3").await;
    let more = frame(&mut body).await;
    let ids: Vec<_> = more
        .lines()
        .filter(|line| line.starts_with("id: "))
        .collect();
    assert_eq!(ids.len(), 2, "{more}");
    assert_eq!(ids[1], "id: 0:1,1:2,2:0");

    // It comes back after the first of the two.
    let last = ids[0].strip_prefix("id: ").unwrap();
    let path = "/topics/wide?from=latest";
    let mut body = world.stream(path, &[("last-event-id", last)]).await;
    let rest = frame(&mut body).await;
    assert_eq!(rest.matches("id: ").count(), 1, "{rest}");
    assert!(rest.contains("id: 0:1,1:2,2:0"), "{rest}");

    world.tasks.stop();
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_go_on_says_why_and_ends() {
    let world = World::new();
    let mut body = world.stream("/topics/orders", &[]).await;
    assert_eq!(frame(&mut body).await, ": from 0:0\n\n");
    world
        .bus
        .fail(Some(BusError::Unavailable("away".to_owned())));
    let said = frame(&mut body).await;
    assert!(
        said.starts_with("event: problem\ndata: {") && said.contains("away"),
        "{said}"
    );
    assert!(body.frame().await.is_none());
    world.bus.fail(None);
    let request = world.request(
        "GET",
        "/topics/orders",
        &[("accept", "text/event-stream"), ("last-event-id", "0:9")],
        Body::empty(),
    );
    world.send(request).await.is_problem(410, "deleted");
}

#[tokio::test]
async fn a_slow_reader_has_nothing_read_ahead_for_it() {
    let mut world = World::new();
    world.limits.readers_max = 1;
    let router = world.router();
    for value in 0..250 {
        world.put("orders", 0, &value.to_string()).await;
    }
    let accept = [("accept", "text/event-stream")];
    let request = world.request("GET", "/topics/orders", &accept, Body::empty());
    let mut body = router.clone().oneshot(request).await.unwrap().into_body();
    for expected in [100, 100, 50] {
        assert_eq!(frame(&mut body).await.matches("id: ").count(), expected);
    }
    let ask = || world.request("GET", "/topics/orders", &[], Body::empty());
    let refused = router.clone().oneshot(ask()).await.unwrap();
    assert_eq!(refused.status(), 503);
    drop(body);
    let taken = router.oneshot(ask()).await.unwrap();
    assert_eq!(taken.status(), 200, "the place of who has gone is free");
}
