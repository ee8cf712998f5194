//! Jobs from the row to the answer, over a bus in memory and with a service that does as the test
//! says. A restart is another node over the same topics and the same file.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::bus::memory::Memory;
use crate::courier::Courier;
use crate::dead::{Filter as Dead, Letters};
use crate::push::Pushes;

type Answered = Result<http::Response<Bytes>, crate::courier::Failure>;

/// A request that a service has got, and the way to answer it.
struct Call {
    request: http::Request<Bytes>,
    answer: oneshot::Sender<Answered>,
}

/// Hands over calls; whoever drops one lets it hang.
struct Service(mpsc::Sender<Call>);

impl Courier for Service {
    fn send(&self, _: &ServiceName, request: http::Request<Bytes>) -> BoxFuture<'static, Answered> {
        let calls = self.0.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            let _ = calls.send(Call { request, answer }).await;
            answered
                .await
                .unwrap_or_else(|_| Err(crate::courier::Failure::Unsent("gone".to_owned())))
        }
        .boxed()
    }
}

struct Scene {
    folder: Arc<tempfile::TempDir>,
    bus: Memory,
    sql: Sql,
    jobs: Jobs,
    pushes: Pushes,
    calls: mpsc::Receiver<Call>,
    tasks: Tasks,
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn subscription() -> SubscribeConfig {
    let mut config = SubscribeConfig::new("resize", Some("/resize".to_owned()));
    config.retry.attempts = 2;
    config.retry.delay = atoll_base::HumanDuration(Duration::from_millis(1));
    config
}

fn answer(status: u16, body: &'static str) -> Answered {
    let answer = http::Response::builder()
        .status(status)
        .header("content-type", "text/plain");
    Ok(answer.body(Bytes::from_static(body.as_bytes())).unwrap())
}

async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.unwrap_or_else(|_| panic!("{what}"))
}

impl Scene {
    async fn new() -> Self {
        let bus = Memory::default();
        bus.create("resize", 1);
        Self::over(bus, Arc::new(tempfile::tempdir().unwrap())).await
    }

    async fn over(bus: Memory, folder: Arc<tempfile::TempDir>) -> Self {
        let migrations = [MIGRATION, crate::dead::MIGRATION];
        let sql = Sql::open(&folder.path().join("state.db"), &migrations).unwrap();
        let tasks = Tasks::new();
        let shared: Arc<dyn Bus> = Arc::new(bus.clone());
        let limits = Limits::default();
        let jobs = Jobs::open(Arc::clone(&shared), sql.clone(), limits, &tasks);
        let jobs = jobs.await.unwrap();
        let (sender, calls) = mpsc::channel(16);
        let courier = Arc::new(Service(sender));
        let pushes = Pushes::with_jobs(shared, courier, Some(jobs.clone()), tasks.clone());
        let own = [subscription()];
        pushes.declare(&name("images"), &own).await.unwrap();
        jobs.declare([(&name("images"), &own[..])]);
        Self {
            folder,
            bus,
            sql,
            jobs,
            pushes,
            calls,
            tasks,
        }
    }

    async fn serving() -> Self {
        let scene = Self::new().await;
        scene.serve();
        scene
    }

    fn serve(&self) {
        self.pushes.serve(&name("images"), &[subscription()]);
    }

    /// The same topics and the same file, and nothing that was in memory.
    async fn restarted(self) -> Self {
        self.tasks.stop();
        assert!(self.tasks.join(Duration::from_secs(5)).await);
        Self::over(self.bus, self.folder).await
    }

    async fn ask(&self, body: &'static str) -> Uuid {
        self.ask_as(fresh(), None, body).await.unwrap().0.job.id
    }

    async fn ask_as(
        &self,
        id: Uuid,
        key: Option<&str>,
        body: &'static str,
    ) -> Result<(View, bool), JobError> {
        let mut record = NewRecord::new("resize");
        record.value = Some(Bytes::from_static(body.as_bytes()));
        let new = NewJob {
            id,
            caller: name("shop"),
            key: key.map(|key| (key.to_owned(), body.as_bytes().to_vec())),
            due: None,
            record,
        };
        self.jobs.submit(new).await
    }

    async fn call(&mut self) -> Call {
        let call = in_time("no call came", self.calls.recv()).await;
        call.unwrap()
    }

    async fn until(&self, id: Uuid, what: &str, is: impl Fn(&View) -> bool) -> View {
        let looked = async {
            loop {
                let view = self.jobs.one(id).await.unwrap();
                if is(&view) {
                    return view;
                }
            }
        };
        in_time(what, looked).await
    }

    async fn until_state(&self, id: Uuid, state: State) -> Job {
        let is = |view: &View| view.job.state == state && view.running.is_none();
        self.until(id, state.as_str(), is).await.job
    }

    /// All that was published so far is known to the jobs and delivered as far as it should be.
    async fn is_quiet(&mut self) {
        let settled = async {
            loop {
                let view = self.pushes.views().await.remove(0);
                if view.lags.iter().all(|(_, lag)| *lag == 0) && view.in_flight == 0 {
                    return;
                }
            }
        };
        in_time("the backlog does not go", settled).await;
        assert!(self.calls.try_recv().is_err(), "something was delivered");
    }

    async fn published(&self, count: usize) {
        let there = async {
            while self.bus.records("resize").len() < count {
                tokio::task::yield_now().await;
            }
        };
        in_time("nothing is published", there).await;
    }
}

fn fresh() -> Uuid {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).unwrap();
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn said(call: &Call) -> String {
    String::from_utf8_lossy(call.request.body()).into_owned()
}

#[tokio::test]
async fn a_job_runs_and_its_answer_is_kept() {
    let mut scene = Scene::serving().await;
    let id = scene.ask("cat.png").await;
    let call = scene.call().await;
    assert_eq!(said(&call), "cat.png");
    let running = scene
        .until(id, "running", |view| view.running.is_some())
        .await;
    assert_eq!(
        (running.job.state, running.job.attempts),
        (State::Queued, 0)
    );
    call.answer.send(answer(200, "small cat")).unwrap();
    let job = scene.until_state(id, State::Done).await;
    let kept = job.answer.unwrap();
    assert_eq!(
        (kept.status, kept.body.as_ref(), kept.cut),
        (200, &b"small cat"[..], false)
    );
    assert!(job.started >= Some(job.created) && job.finished >= job.started);
    let scene = scene.restarted().await;
    let found = scene.jobs.one(id).await.unwrap();
    assert_eq!(found.job.answer.unwrap().body, "small cat");
}

#[tokio::test]
async fn a_job_that_fails_can_be_tried_anew() {
    let mut scene = Scene::serving().await;
    let id = scene.ask("dog.png").await;
    for _ in 0..2 {
        scene.call().await.answer.send(answer(500, "ouch")).unwrap();
    }
    let job = scene.until_state(id, State::Failed).await;
    assert_eq!((job.attempts, job.run), (2, 1));
    assert_eq!(job.reason.as_deref(), Some("answered 500"));
    assert_eq!(job.answer.unwrap().body, "ouch");
    let again = scene.jobs.retry(id).await.unwrap().job;
    assert_eq!(
        (again.state, again.attempts, again.answer),
        (State::Queued, 0, None)
    );
    let refused = scene.jobs.retry(id).await.unwrap_err();
    assert!(matches!(refused, JobError::State(_, State::Queued)));
    let call = scene.call().await;
    assert_eq!(said(&call), "dog.png");
    call.answer.send(answer(204, "")).unwrap();
    assert_eq!(scene.until_state(id, State::Done).await.run, 2);
    for refused in [scene.jobs.retry(id).await, scene.jobs.cancel(id).await] {
        assert!(matches!(
            refused.unwrap_err(),
            JobError::State(_, State::Done)
        ));
    }
    scene.is_quiet().await;
}

#[tokio::test]
async fn a_job_that_waits_can_be_cancelled_and_is_never_delivered() {
    let mut scene = Scene::new().await;
    let id = scene.ask("a").await;
    scene.published(1).await;
    let job = scene.jobs.cancel(id).await.unwrap().job;
    assert_eq!(job.state, State::Cancelled);
    scene.jobs.cancel(id).await.unwrap();
    scene.serve();
    scene.is_quiet().await;
    assert_eq!(scene.until_state(id, State::Cancelled).await.attempts, 0);
    scene.jobs.retry(id).await.unwrap();
    scene.call().await.answer.send(answer(200, "")).unwrap();
    scene.until_state(id, State::Done).await;
}

#[tokio::test]
async fn when_a_job_that_runs_is_cancelled_its_call_is_dropped() {
    let mut scene = Scene::serving().await;
    let id = scene.ask("a").await;
    let mut call = scene.call().await;
    scene.jobs.cancel(id).await.unwrap();
    in_time("the call goes on", call.answer.closed()).await;
    scene.until_state(id, State::Cancelled).await;
    let other = scene.ask("b").await;
    let next = scene.call().await;
    assert_eq!(said(&next), "b", "and nobody tries it again");
    next.answer.send(answer(200, "")).unwrap();
    scene.until_state(other, State::Done).await;
    scene.is_quiet().await;
    assert!(scene.bus.records("dead.images.resize").is_empty());
}

#[tokio::test]
async fn what_is_asked_twice_with_one_key_is_one_job() {
    let mut scene = Scene::serving().await;
    let (first, known) = scene.ask_as(fresh(), Some("k"), "a").await.unwrap();
    assert!(!known);
    scene.call().await.answer.send(answer(200, "x")).unwrap();
    scene.until_state(first.job.id, State::Done).await;
    let (second, known) = scene.ask_as(fresh(), Some("k"), "a").await.unwrap();
    assert!(known);
    assert_eq!(
        (second.job.id, second.job.state),
        (first.job.id, State::Done)
    );
    let refused = scene.ask_as(fresh(), Some("k"), "b").await.unwrap_err();
    assert!(matches!(refused, JobError::Reused));
    let mut scene = scene.restarted().await;
    let (third, known) = scene.ask_as(fresh(), Some("k"), "a").await.unwrap();
    assert_eq!((third.job.id, known), (first.job.id, true));
    scene.serve();
    scene.is_quiet().await;
    assert_eq!(scene.bus.records("resize").len(), 1);
}

#[tokio::test]
async fn what_waits_or_runs_at_a_restart_runs_after_it() {
    let mut scene = Scene::serving().await;
    let id = scene.ask("a").await;
    let call = scene.call().await;
    let mut scene = scene.restarted().await;
    assert_eq!(
        scene.jobs.one(id).await.unwrap().running,
        None,
        "nobody runs it now"
    );
    drop(call);
    scene.serve();
    scene.call().await.answer.send(answer(500, "")).unwrap();
    let call = scene.call().await;
    let mut scene = scene.restarted().await;
    assert_eq!(
        scene.jobs.one(id).await.unwrap().job.attempts,
        1,
        "failures are kept"
    );
    drop(call);
    scene.serve();
    scene.call().await.answer.send(answer(200, "")).unwrap();
    assert_eq!(scene.until_state(id, State::Done).await.attempts, 1);
}

#[tokio::test]
async fn a_job_that_is_done_is_not_run_again_by_a_record_that_comes_again() {
    let mut scene = Scene::serving().await;
    let id = scene.ask("a").await;
    scene.call().await.answer.send(answer(200, "")).unwrap();
    scene.until_state(id, State::Done).await;
    // Another node that does not know how far the deliveries were.
    let bus = Memory::default();
    bus.create("resize", 1);
    let record = scene.bus.records("resize").remove(0);
    let mut copy = NewRecord::new("resize");
    (copy.value, copy.headers) = (record.value, record.headers);
    let folder = Arc::clone(&scene.folder);
    scene.tasks.stop();
    let mut scene = Scene::over(bus, folder).await;
    scene.bus.publish(vec![copy]).await.unwrap();
    scene.serve();
    scene.is_quiet().await;
}

#[tokio::test]
async fn a_job_whose_publication_failed_is_published_later_and_runs_once() {
    let scene = Scene::new().await;
    scene
        .bus
        .fail(Some(BusError::Unavailable("the disk".to_owned())));
    // What the topic takes is asked without the disk.
    let id = scene.ask("a").await;
    let mut scene = {
        scene.tasks.stop();
        scene.bus.fail(None);
        Scene::over(scene.bus.clone(), Arc::clone(&scene.folder)).await
    };
    scene.serve();
    scene.call().await.answer.send(answer(200, "")).unwrap();
    scene.until_state(id, State::Done).await;
    // A crash between the publication and its note: the same again.
    let forget = "UPDATE events_jobs SET partition = NULL, offset = NULL, state = 'queued'";
    scene
        .sql
        .call(move |t| t.execute(forget, []))
        .await
        .unwrap();
    let undone = "INSERT OR REPLACE INTO events_jobs_records VALUES (1, NULL, x'61', '[]')";
    scene
        .sql
        .call(move |t| t.execute(undone, []))
        .await
        .unwrap();
    let mut scene = scene.restarted().await;
    scene.published(2).await;
    scene.serve();
    scene.call().await.answer.send(answer(200, "")).unwrap();
    scene.until_state(id, State::Done).await;
    scene.is_quiet().await;
}

#[tokio::test]
async fn redriving_the_dead_letter_completes_the_job() {
    let mut scene = Scene::serving().await;
    let id = scene.ask("a").await;
    for _ in 0..2 {
        scene.call().await.answer.send(answer(500, "")).unwrap();
    }
    scene.until_state(id, State::Failed).await;
    scene.is_quiet().await;
    let bus: Arc<dyn Bus> = Arc::new(scene.bus.clone());
    let letters = Letters::new(bus, scene.pushes.clone(), scene.sql.clone());
    let all = Dead::default();
    let dead = letters.page(&all, None, 10).await.unwrap();
    assert_eq!(dead.letters.len(), 1);
    let (told, mut steps) = mpsc::channel(4);
    let redrive = letters.redrive(dead, all, Default::default(), told);
    let served = async {
        scene.call().await.answer.send(answer(200, "x")).unwrap();
        steps.recv().await
    };
    let (step, ()) = tokio::join!(served, redrive);
    assert!(
        matches!(step, Some(crate::dead::Step::Taken(_))),
        "{step:?}"
    );
    let job = scene.until_state(id, State::Done).await;
    assert_eq!(job.answer.unwrap().body, "x");
}

#[tokio::test]
async fn a_topic_with_no_subscription_or_two_is_no_queue() {
    let scene = Scene::new().await;
    let own = [subscription()];
    let mut batches = subscription();
    batches.batch = 5;
    let batches = [batches];
    scene
        .jobs
        .declare([(&name("images"), &own[..]), (&name("other"), &own[..])]);
    let refused = scene.ask_as(fresh(), None, "a").await.unwrap_err();
    assert!(
        refused.to_string().contains("images and other"),
        "{refused}"
    );
    scene.jobs.declare([(&name("images"), &batches[..])]);
    let refused = scene.ask_as(fresh(), None, "a").await.unwrap_err();
    assert!(matches!(refused, JobError::Batches(_)));
    scene.jobs.declare([]);
    let refused = scene.ask_as(fresh(), None, "a").await.unwrap_err();
    assert!(matches!(refused, JobError::NoQueue(_)));
    assert!(scene.jobs.names().is_empty());
}

#[tokio::test]
async fn finished_jobs_go_by_age_and_by_number_and_waiting_ones_stay() {
    let scene = Scene::new().await;
    // The house is cleaned by the clock, too.
    let base = Timestamp::now().as_micros();
    for second in 1..=5_i64 {
        let id = scene.ask("a").await.to_string();
        let finished = (second < 5).then_some(base + second * 1_000_000);
        let sql = "UPDATE events_jobs SET finished = ?1 WHERE id = ?2";
        let done = move |t: &atoll_store::rusqlite::Transaction<'_>| t.execute(sql, (finished, id));
        scene.sql.call(done).await.unwrap();
    }
    let before = Timestamp::from_micros(base + 1_500_000);
    let forget = scene.sql.call(move |t| table::forget(t, before, 2));
    assert_eq!(forget.await.unwrap(), 2, "one is old, one is too many");
    let open = scene.sql.call(table::open).await.unwrap();
    assert_eq!(open, 1);
    let none = scene.sql.call(move |t| table::forget(t, before, 2));
    assert_eq!(none.await.unwrap(), 0);
}

#[tokio::test]
async fn jobs_are_listed_by_state_the_newest_first() {
    let mut scene = Scene::serving().await;
    let first = scene.ask("a").await;
    let call = scene.call().await;
    let second = scene.ask("b").await;
    let other = scene.call().await;
    other.answer.send(answer(200, "")).unwrap();
    scene.until_state(second, State::Done).await;
    let all = Filter {
        queues: Some(vec!["resize".to_owned()]),
        limit: 10,
        ..Filter::default()
    };
    let list = async |filter| {
        let found = scene.jobs.list(filter).await.unwrap();
        found
            .into_iter()
            .map(|view| view.job.id)
            .collect::<Vec<_>>()
    };
    let queued = |is_running| Filter {
        state: Some(State::Queued),
        running: Some(is_running),
        ..all.clone()
    };
    let done = Filter {
        state: Some(State::Done),
        ..all.clone()
    };
    let before = |id| Filter {
        before: Some(id),
        ..all.clone()
    };
    assert_eq!(list(all.clone()).await, [second, first]);
    assert_eq!(list(queued(true)).await, [first]);
    assert!(list(queued(false)).await.is_empty());
    assert_eq!(list(done).await, [second]);
    assert_eq!(list(before(second)).await, [first]);
    assert!(list(before(first)).await.is_empty());
    let gone = scene.jobs.list(before(Uuid::nil())).await;
    assert!(matches!(gone, Err(JobError::NotFound(_))), "{gone:?}");
    drop(call);
}
