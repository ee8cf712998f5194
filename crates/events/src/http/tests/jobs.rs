//! Work over HTTP: what is answered, and to whom.

use axum::body::Body;

use super::*;
use crate::jobs::{Jobs, Limits as Bounds, MIGRATION as JOBS};
use crate::push::Pushes;

/// An API with jobs, whose queue `wide` is served by `images`.
struct Works {
    world: World,
    jobs: Jobs,
    pushes: Pushes,
}

/// Answers everything in one way.
struct Service;

impl crate::Courier for Service {
    fn send(
        &self,
        _: &ServiceName,
        request: http::Request<Bytes>,
    ) -> futures_util::future::BoxFuture<
        'static,
        Result<http::Response<Bytes>, crate::courier::Failure>,
    > {
        let id = request.headers()["ce-id"].clone();
        let text = request.into_body();
        let answer = match text.starts_with(b"bad") {
            true => http::Response::builder().status(422).body(text),
            false => http::Response::builder()
                .header("content-type", "image/png")
                .header("seen", id)
                .body(Bytes::from_static(b"\x89PNG")),
        };
        Box::pin(std::future::ready(Ok(answer.unwrap())))
    }
}

impl Works {
    async fn new() -> Self {
        let mut world = World::new();
        let path = world.folder.path().join("jobs.db");
        world.sql = Sql::open(&path, &[MIGRATION, JOBS]).unwrap();
        let bus: Arc<dyn Bus> = Arc::new(world.bus.clone());
        let (sql, tasks) = (world.sql.clone(), world.tasks.clone());
        let jobs = Jobs::open(Arc::clone(&bus), sql, Bounds::default(), &tasks);
        let jobs = jobs.await.unwrap();
        let pushes = Pushes::with_jobs(bus, Arc::new(Service), Some(jobs.clone()), tasks);
        let own = [crate::SubscribeConfig::new("wide", Some("/w".to_owned()))];
        let images = ServiceName::new("images").unwrap();
        pushes.declare(&images, &own).await.unwrap();
        jobs.declare([(&images, &own[..])]);
        Self {
            world,
            jobs,
            pushes,
        }
    }

    fn serve(&self) {
        let own = [crate::SubscribeConfig::new("wide", Some("/w".to_owned()))];
        let images = ServiceName::new("images").unwrap();
        self.pushes.serve(&images, &own);
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Answer {
        let world = &self.world;
        let state = State::new(
            Arc::new(world.bus.clone()),
            Arc::new(Open),
            world.sql.clone(),
            world.tasks.clone(),
            world.limits,
        );
        let router = router(state.with_jobs(self.jobs.clone()));
        let request = world.request(method, path, headers, Body::from(body));
        Answer::of(router.oneshot(request).await.unwrap()).await
    }

    async fn ask(&self, headers: &[(&str, &str)], body: &'static str) -> String {
        let answer = self.send("POST", "/jobs/wide", headers, body).await;
        assert_eq!(answer.status, 202);
        answer.headers["location"].to_str().unwrap().to_owned()
    }

    async fn until(&self, path: &str, state: &str) -> Value {
        let looked = async {
            loop {
                let shown = self.send("GET", path, &[], "").await.json();
                if shown["state"] == state {
                    return shown;
                }
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), looked).await;
        waited.unwrap_or_else(|_| panic!("it is never {state}"))
    }
}

#[tokio::test]
async fn a_job_is_answered_with_its_address_and_tells_how_it_ended() {
    let works = Works::new().await;
    let headers = [("content-type", "application/json"), ("traceparent", "x")];
    let answer = works
        .send("POST", "/jobs/wide?key=k&delay=0s", &headers, "{broken")
        .await;
    assert_eq!(answer.status, 202);
    let asked = answer.json();
    assert_eq!(
        (&asked["queue"], &asked["state"]),
        (&"wide".into(), &"queued".into())
    );
    let path = answer.headers["location"].to_str().unwrap();
    assert_eq!(path, format!("/jobs/{}", asked["id"].as_str().unwrap()));
    works.serve();
    let done = works.until(path, "done").await;
    assert_eq!(done["attempts"], 1);
    let expected = serde_json::json!({
        "status": 200, "content_type": "image/png", "body_base64": "iVBORw=="
    });
    assert_eq!(done["answer"], expected);
    let records = works.world.bus.records("wide");
    assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(records[0].text("ce_id"), asked["id"].as_str());
    let refused = works.send("DELETE", path, &[], "").await;
    refused.is_problem(409, "is done");
    let refused = works.send("POST", &format!("{path}/retry"), &[], "").await;
    refused.is_problem(409, "is done");
}

#[tokio::test]
async fn a_job_that_failed_says_why_and_is_tried_anew() {
    let works = Works::new().await;
    works.serve();
    let path = works.ask(&[], "bad").await;
    let failed = works.until(&path, "failed").await;
    assert_eq!(failed["reason"], "answered 422");
    assert_eq!(
        (&failed["attempts"], &failed["answer"]["body"]),
        (&1.into(), &"bad".into())
    );
    let again = works.send("POST", &format!("{path}/retry"), &[], "").await;
    assert_eq!(again.status, StatusCode::ACCEPTED);
    // The service may have it already, or even have refused it.
    assert_ne!(again.json()["state"], "done");
    works.until(&path, "failed").await;
    assert_eq!(works.world.bus.records("wide").len(), 2);
}

#[tokio::test]
async fn a_job_is_called_off_and_listed() {
    let works = Works::new().await;
    let first = works.ask(&[], "a").await;
    let second = works.ask(&[], "b").await;
    for (method, path) in [
        ("DELETE", first.clone()),
        ("POST", format!("{second}/cancel")),
    ] {
        let answer = works.send(method, &path, &[], "").await;
        assert_eq!(answer.json()["state"], "cancelled");
    }
    let list = async |query: &str| {
        let answer = works.send("GET", &format!("/jobs?{query}"), &[], "").await;
        let jobs = answer.json()["jobs"].as_array().unwrap().clone();
        let ids = jobs
            .iter()
            .map(|job| format!("/jobs/{}", job["id"].as_str().unwrap()));
        ids.collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [second.clone(), first.clone()]);
    assert_eq!(list("queue=wide&limit=1").await, [second]);
    assert!(list("state=queued").await.is_empty());
    let wrong = works.send("GET", "/jobs?state=lost", &[], "").await;
    wrong.is_problem(400, "state");
}

#[tokio::test]
async fn the_same_key_is_the_same_job() {
    let works = Works::new().await;
    let key = [("idempotency-key", "\"a\"")];
    let first = works.ask(&key, "a").await;
    let again = works.send("POST", "/jobs/wide", &key, "a").await;
    assert_eq!(again.headers["location"], first.as_str());
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let other = works.send("POST", "/jobs/wide", &key, "b").await;
    other.is_problem(422, "new key");
}

#[tokio::test]
async fn what_is_no_job_of_the_callers_is_refused() {
    let mut works = Works::new().await;
    let refused = works.send("POST", "/jobs/orders", &[], "a").await;
    refused.is_problem(404, "is no queue");
    let refused = works.send("POST", "/jobs/nothing", &[], "a").await;
    refused.is_problem(404, "there is no topic");
    let refused = works.send("POST", "/jobs/wide?delay=1", &[], "a").await;
    refused.is_problem(400, "delay");
    let batch = [("content-type", "application/cloudevents-batch+json")];
    let refused = works.send("POST", "/jobs/wide", &batch, "[]").await;
    refused.is_problem(400, "one event");
    let path = works.ask(&[], "a").await;
    works.world.caller = "stranger";
    let refused = works.send("POST", "/jobs/wide", &[], "a").await;
    refused.is_problem(403, "[publish]");
    for method in ["GET", "DELETE"] {
        let refused = works.send(method, &path, &[], "").await;
        refused.is_problem(404, "there is no job");
    }
    let none = works.send("GET", "/jobs", &[], "").await;
    assert_eq!(none.json()["jobs"], serde_json::json!([]));
}
