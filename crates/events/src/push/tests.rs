//! Subscriptions at work, over a bus in memory and with a service that does as the test says. Time is
//! virtual: it passes when nobody has anything to do.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::*;
use crate::bus::memory::Memory;
use crate::record::{DELIVER_AT, Header, NewRecord, Record};

type Answers = dyn Fn(&Post) -> Result<http::Response<Bytes>, Failure> + Send + Sync;

/// What the service was sent.
#[derive(Debug, Clone)]
struct Post {
    path: String,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Post {
    fn field(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// A service.
struct Service {
    posts: Mutex<Vec<Post>>,
    came: Notify,
    answers: Mutex<Arc<Answers>>,
    /// If there is one, each answer waits for a permit of it.
    gate: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
}

impl Courier for Arc<Service> {
    fn send(
        &self,
        _: &ServiceName,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Bytes>, Failure>> {
        let own = Arc::clone(self);
        async move {
            let (head, body) = request.into_parts();
            let post = Post {
                path: head.uri.to_string(),
                headers: head.headers,
                body,
            };
            let answers = own.answers.lock().unwrap().clone();
            own.posts.lock().unwrap().push(post.clone());
            own.came.notify_waiters();
            let gate = own.gate.lock().unwrap().clone();
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            answers(&post)
        }
        .boxed()
    }
}

struct Scene {
    bus: Memory,
    service: Arc<Service>,
    pushes: Pushes,
    tasks: Tasks,
}

fn points() -> ServiceName {
    ServiceName::new("points").unwrap()
}

fn status(status: u16) -> http::Response<Bytes> {
    http::Response::builder()
        .status(status)
        .body(Bytes::new())
        .unwrap()
}

impl Scene {
    fn new() -> Self {
        let bus = Memory::default();
        bus.create("orders.placed", 2);
        Self::over(bus)
    }

    /// Another node over the same topics.
    fn over(bus: Memory) -> Self {
        let service = Arc::new(Service {
            posts: Mutex::default(),
            came: Notify::new(),
            answers: Mutex::new(Arc::new(|_: &Post| Ok(status(204)))),
            gate: Mutex::default(),
        });
        let tasks = Tasks::new();
        let courier = Arc::new(Arc::clone(&service));
        let pushes = Pushes::new(Arc::new(bus.clone()), courier, tasks.clone());
        Self {
            bus,
            service,
            pushes,
            tasks,
        }
    }

    fn answer(
        &self,
        answers: impl Fn(&Post) -> Result<http::Response<Bytes>, Failure> + Send + Sync + 'static,
    ) {
        *self.service.answers.lock().unwrap() = Arc::new(answers);
    }

    async fn run(&self, config: SubscribeConfig) {
        let all = [config];
        self.pushes.declare(&points(), &all).await.unwrap();
        self.pushes.serve(&points(), &all);
    }

    async fn publish(&self, key: &str, value: &str) {
        let mut record = NewRecord::new("orders.placed");
        record.key = Some(Bytes::copy_from_slice(key.as_bytes()));
        record.value = Some(Bytes::copy_from_slice(value.as_bytes()));
        self.bus.publish(vec![record]).await.unwrap();
    }

    /// What was sent, once it is this much.
    async fn posts(&self, count: usize) -> Vec<Post> {
        loop {
            let came = self.service.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            let posts = self.service.posts.lock().unwrap().clone();
            if posts.len() >= count {
                return posts;
            }
            let waited = tokio::time::timeout(Duration::from_secs(36_000), came).await;
            waited.unwrap_or_else(|_| panic!("{} of {count} came: {posts:?}", posts.len()));
        }
    }

    async fn view(&self) -> View {
        self.pushes.views().await.remove(0)
    }

    async fn stop(self) -> Memory {
        self.pushes.stop(Duration::from_secs(5)).await;
        self.tasks.stop();
        self.bus
    }
}

fn config() -> SubscribeConfig {
    SubscribeConfig::new("orders.placed", Some("/events/placed".to_owned()))
}

fn bodies(posts: &[Post]) -> Vec<String> {
    let texts = posts
        .iter()
        .map(|post| String::from_utf8_lossy(&post.body).into_owned());
    texts.collect()
}

fn said(record: &Record, name: &str) -> String {
    record.text(name).unwrap_or("nothing").to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_record_is_posted_as_a_cloud_event() {
    let scene = Scene::new();
    scene.run(config()).await;
    scene.publish("k", "{\"a\":1}").await;
    let post = scene.posts(1).await.remove(0);
    assert_eq!(post.path, "/events/placed");
    assert_eq!(post.body, "{\"a\":1}");
    assert_eq!(post.field("ce-type"), "orders.placed");
    assert_eq!(post.field("ce-attempt"), "1");
    assert_eq!(post.field("content-type"), "application/json");
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_subscription_begins_when_it_is_declared() {
    let scene = Scene::new();
    scene.publish("k", "before").await;
    scene.pushes.declare(&points(), &[config()]).await.unwrap();
    scene.publish("k", "between").await;
    scene.pushes.serve(&points(), &[config()]);
    scene.publish("k", "after").await;
    assert_eq!(bodies(&scene.posts(2).await), ["between", "after"]);
    let bus = scene.stop().await;

    let earliest = Scene::over(bus);
    let mut config = config();
    config.topic = "orders.placed".to_owned();
    config.from = crate::config::From::Earliest;
    let other = ServiceName::new("other").unwrap();
    earliest
        .pushes
        .declare(&other, &[config.clone()])
        .await
        .unwrap();
    earliest.pushes.serve(&other, &[config]);
    assert_eq!(
        bodies(&earliest.posts(3).await),
        ["before", "between", "after"]
    );
    earliest.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_is_not_sent_again_after_a_restart() {
    let scene = Scene::new();
    scene.run(config()).await;
    for value in ["a", "b", "c"] {
        scene.publish(value, value).await;
    }
    scene.posts(3).await;
    let bus = scene.stop().await;

    let scene = Scene::over(bus);
    scene.run(config()).await;
    scene.publish("d", "d").await;
    assert_eq!(bodies(&scene.posts(1).await), ["d"]);
    assert!(scene.view().await.lags.iter().all(|(_, lag)| *lag == 0));
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_loses_nothing() {
    let scene = Scene::new();
    scene.answer(|_| Err(Failure::Unsent("nobody listens".to_owned())));
    scene.run(config()).await;
    for value in ["a", "b", "c"] {
        scene.publish("k", value).await;
    }
    tokio::time::sleep(Duration::from_secs(7200)).await;
    let view = scene.view().await;
    assert_eq!(
        (
            view.lags.iter().map(|(_, lag)| lag).sum::<i64>(),
            view.buried
        ),
        (3, 0)
    );
    assert!(view.paused_until.is_some());
    let (trouble, _) = view.trouble.unwrap();
    assert_eq!(trouble, "points could not be reached: nobody listens");

    scene.answer(|_| Ok(status(200)));
    let before = scene.service.posts.lock().unwrap().len();
    scene.pushes.reachable(&points());
    let posts = scene.posts(before + 3).await;
    assert_eq!(bodies(&posts[before..]), ["a", "b", "c"]);
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_always_fails_is_a_dead_letter_and_others_go_on() {
    let scene = Scene::new();
    scene.answer(|post| {
        let bad = post.body == "bad";
        let mut answer = status(if bad { 500 } else { 200 });
        *answer.body_mut() = Bytes::from_static(b"cannot");
        Ok(answer)
    });
    let mut config = config();
    config.retry.attempts = 3;
    scene.run(config).await;
    for (key, value) in [("k", "bad"), ("k", "good"), ("l", "other")] {
        scene.publish(key, value).await;
    }
    let posts = scene.posts(5).await;
    let sent = bodies(&posts);
    assert_eq!(sent.iter().filter(|body| *body == "bad").count(), 3);
    let last_bad = sent.iter().rposition(|body| body == "bad").unwrap();
    let good = sent.iter().position(|body| body == "good").unwrap();
    let other = sent.iter().position(|body| body == "other").unwrap();
    assert!(other < last_bad && last_bad < good, "{sent:?}");
    let attempts: Vec<_> = posts.iter().filter(|post| post.body == "bad").collect();
    assert_eq!(attempts.last().unwrap().field("ce-attempt"), "3");

    let bus = scene.stop().await;
    let dead = bus.records("dead.points.orders.placed").remove(0);
    assert_eq!(dead.value.as_ref().unwrap(), "bad");
    assert_eq!(dead.key.as_ref().unwrap(), "k");
    assert_eq!(said(&dead, "atoll-dead-reason"), "answered 500");
    assert_eq!(said(&dead, "atoll-dead-attempts"), "3");
    assert_eq!(said(&dead, "atoll-dead-answer"), "cannot");
    let parent = attempts.last().unwrap().field("traceparent").to_owned();
    assert!(
        parent.contains(&said(&dead, "atoll-dead-trace")),
        "{parent}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_counts_and_a_late_one_does_not() {
    struct Slow(Arc<Service>);
    impl Courier for Slow {
        fn send(
            &self,
            service: &ServiceName,
            request: http::Request<Bytes>,
        ) -> BoxFuture<'static, Result<http::Response<Bytes>, Failure>> {
            let sent = Arc::clone(&self.0).send(service, request);
            async move {
                let answer = sent.await;
                tokio::time::sleep(Duration::from_secs(2)).await;
                answer
            }
            .boxed()
        }
    }
    let scene = Scene::new();
    let courier = Arc::new(Slow(Arc::clone(&scene.service)));
    let pushes = Pushes::new(Arc::new(scene.bus.clone()), courier, scene.tasks.clone());
    let mut config = config();
    config.timeout = atoll_base::HumanDuration(Duration::from_secs(1));
    config.retry.attempts = 2;
    pushes.declare(&points(), &[config.clone()]).await.unwrap();
    pushes.serve(&points(), &[config]);
    scene.publish("k", "v").await;
    scene.posts(2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let dead = scene.bus.records("dead.points.orders.placed");
    assert_eq!(
        said(&dead[0], "atoll-dead-reason"),
        "did not answer within 1s"
    );
    pushes.stop(Duration::from_secs(1)).await;
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_published_together_with_the_acknowledgement() {
    let scene = Scene::new();
    scene.bus.create("receipts", 1);
    scene.answer(|post| {
        let mut answer = status(200);
        *answer.body_mut() = [b"receipt of ", &post.body[..]].concat().into();
        Ok(answer)
    });
    let mut config = config();
    config.output = Some("receipts".to_owned());
    scene.run(config.clone()).await;
    scene.publish("k", "1").await;
    scene.publish("k", "2").await;
    scene.posts(2).await;
    let bus = scene.stop().await;
    let values = |bus: &Memory| -> Vec<_> {
        bus.records("receipts")
            .into_iter()
            .map(|own| own.value.unwrap())
            .collect()
    };
    assert_eq!(values(&bus), ["receipt of 1", "receipt of 2"]);
    assert_eq!(bus.records("receipts")[0].key.as_ref().unwrap(), "k");

    // While nothing can be kept, neither is there; afterwards both are, once.
    let scene = Scene::over(bus);
    let failing = scene.bus.clone();
    scene.answer(move |_| {
        failing.fail(Some(BusError::Unavailable("the disk is full".to_owned())));
        Ok(status(200).map(|_| Bytes::from_static(b"late")))
    });
    scene.run(config).await;
    scene.publish("k", "3").await;
    scene.posts(1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(values(&scene.bus).len(), 2);
    let (trouble, _) = scene.view().await.trouble.unwrap();
    assert!(trouble.ends_with("the disk is full"), "{trouble}");
    scene.bus.fail(None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(values(&scene.bus).last().unwrap(), "late");
    assert_eq!(scene.bus.records("receipts").len(), 3);
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_published_makes_the_record_a_dead_letter() {
    let scene = Scene::new();
    scene.answer(|_| Ok(status(200).map(|_| Bytes::from_static(b"x"))));
    let mut config = config();
    config.output = Some("nowhere".to_owned());
    scene.run(config).await;
    scene.publish("k", "1").await;
    scene.posts(1).await;
    let bus = scene.stop().await;
    let dead = bus.records("dead.points.orders.placed").remove(0);
    let reason = said(&dead, "atoll-dead-reason");
    assert_eq!(
        reason,
        "its answer cannot be published: there is no topic 'nowhere'"
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_waits_for_its_time() {
    let scene = Scene::new();
    scene.run(config()).await;
    let at = jiff::Timestamp::now() + Duration::from_secs(3600);
    let mut record = NewRecord::new("orders.placed");
    record.value = Some(Bytes::from_static(b"later"));
    record
        .headers
        .push(Header::text(DELIVER_AT, at.to_string()));
    scene.bus.publish(vec![record]).await.unwrap();
    scene.publish("k", "now").await;
    assert_eq!(bodies(&scene.posts(1).await), ["now"]);
    let before = tokio::time::Instant::now();
    assert_eq!(bodies(&scene.posts(2).await), ["now", "later"]);
    let waited = before.elapsed();
    assert!(waited > Duration::from_secs(3500), "{waited:?}");
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_sends_what_was_published_since() {
    let scene = Scene::new();
    scene.run(config()).await;
    scene.bus.set_now(1000);
    scene.publish("k", "old").await;
    scene.bus.set_now(2000);
    scene.publish("k", "new").await;
    scene.posts(2).await;
    let count = scene
        .pushes
        .replay(&points(), "orders.placed", 1500)
        .await
        .unwrap();
    assert_eq!(count, 1);
    assert_eq!(bodies(&scene.posts(3).await), ["old", "new", "new"]);
    let nobody = ServiceName::new("nobody").unwrap();
    let error = scene
        .pushes
        .replay(&nobody, "orders.placed", 0)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("nobody has no subscription"),
        "{error}"
    );
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_named_any_more_rests_and_goes_on_where_it_was() {
    let scene = Scene::new();
    scene.run(config()).await;
    scene.publish("k", "1").await;
    scene.posts(1).await;
    scene.pushes.serve(&points(), &[]);
    scene.publish("k", "2").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(scene.service.posts.lock().unwrap().len(), 1);
    scene.run(config()).await;
    assert_eq!(bodies(&scene.posts(2).await), ["1", "2"]);
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_named_again_waits_for_what_was_under_way() {
    let scene = Scene::new();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *scene.service.gate.lock().unwrap() = Some(Arc::clone(&gate));
    scene.run(config()).await;
    scene.publish("k", "1").await;
    scene.posts(1).await;
    scene.pushes.serve(&points(), &[]);
    scene.run(config()).await;
    // Two that run at once would both send it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(scene.service.posts.lock().unwrap().len(), 1);
    // It answers questions, and an order is not lost.
    let asked = tokio::time::Instant::now();
    assert_eq!(scene.pushes.views().await.len(), 1);
    assert_eq!(asked.elapsed(), Duration::ZERO);
    let points = points();
    let again = scene.pushes.replay(&points, "orders.placed", 0);
    assert_eq!(again.await.unwrap(), 1);
    gate.add_permits(10);
    scene.publish("k", "2").await;
    assert_eq!(bodies(&scene.posts(3).await), ["1", "1", "2"]);
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn partitions_that_somebody_adds_are_delivered() {
    let scene = Scene::new();
    scene.run(config()).await;
    scene.publish("k", "1").await;
    scene.posts(1).await;
    scene.bus.grow("orders.placed");
    let mut record = NewRecord::new("orders.placed");
    record.partition = Some(2);
    record.value = Some(Bytes::from_static(b"2"));
    scene.bus.publish(vec![record]).await.unwrap();
    assert_eq!(bodies(&scene.posts(2).await), ["1", "2"]);
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_manifest_holds_at_once() {
    let scene = Scene::new();
    scene.run(config()).await;
    let mut other = config();
    other.path = Some("/v2".to_owned());
    scene.pushes.serve(&points(), &[other]);
    // The order is passed on by a task.
    tokio::time::sleep(Duration::from_millis(1)).await;
    scene.publish("k", "1").await;
    assert_eq!(scene.posts(1).await[0].path, "/v2");
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_dropped_from_memory_is_read_again() {
    let scene = Scene::new();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (open, count) = (Arc::clone(&gate), 40);
    scene.answer(move |_| {
        let passes = open.try_acquire();
        passes
            .map(|_| status(200))
            .map_err(|_| Failure::Unsent("closed".to_owned()))
    });
    scene.run(config()).await;
    let big = "x".repeat(1 << 20);
    for index in 0..count {
        scene.publish("k", &format!("{index} {big}")).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    scene.service.posts.lock().unwrap().clear();
    gate.add_permits(1000);
    scene.pushes.reachable(&points());
    let posts = scene.posts(count).await;
    let first = |post: &Post| {
        let text = String::from_utf8_lossy(&post.body).into_owned();
        text.split(' ').next().unwrap_or_default().to_owned()
    };
    let order: Vec<_> = posts.iter().map(first).collect();
    let expected: Vec<_> = (0..count).map(|index| index.to_string()).collect();
    assert_eq!(order, expected);
    scene.stop().await;
}
