//! A ground without processes: instances become ready when they are started, unless told otherwise.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use atoll_base::{HumanDuration, InstanceId, ServiceName, Tasks};
use atoll_deploy::{
    BoxFuture, DeployConfig, Deployment, Error, Ground, Handle, History, InstanceNews, MIGRATION,
    Progress, Request, Revision, ScaleConfig, Service, Source,
};
use atoll_store::Sql;
use tokio::sync::oneshot;

#[derive(Clone, Copy, PartialEq)]
enum Starts {
    Succeed,
    Fail,
    Hold,
}

struct FakeGround {
    handle: OnceLock<Handle>,
    tasks: Tasks,
    state: Mutex<State>,
}

struct State {
    starts: Starts,
    started: Vec<InstanceId>,
    serving: Vec<String>,
    stopped: Vec<String>,
}

/// A service, its folder, its node.
pub(crate) struct World {
    dir: tempfile::TempDir,
    ground: Arc<FakeGround>,
    handle: Handle,
}

/// A runtime whose time is virtual.
pub(crate) fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

struct Shared(Arc<FakeGround>);

impl Ground for Shared {
    fn build(&self, _: &ServiceName, source: &Source) -> BoxFuture<Result<(), String>> {
        let fails = source.build == ["fail"];
        Box::pin(async move {
            if fails {
                Err("no such luck".to_owned())
            } else {
                Ok(())
            }
        })
    }

    /// The watch is long, because virtual time runs on while the disk is waited for.
    fn settings(&self, _: &Revision) -> (ScaleConfig, DeployConfig) {
        let deploy = DeployConfig {
            watch: HumanDuration::secs(3600),
            ..Default::default()
        };
        (
            ScaleConfig {
                min: 1,
                max: Some(4),
            },
            deploy,
        )
    }

    fn start(&self, id: &InstanceId, _: &Revision) {
        let mut state = self.0.state.lock().unwrap();
        state.started.push(id.clone());
        let news = match state.starts {
            Starts::Succeed => vec![InstanceNews::Ready],
            Starts::Fail => vec![InstanceNews::Lost("failed on purpose".to_owned()); 2],
            Starts::Hold => Vec::new(),
        };
        let (handle, id) = (self.0.handle.get().unwrap().clone(), id.clone());
        self.0.tasks.spawn("news", async move {
            for item in news {
                handle.news(id.clone(), item).await;
            }
        });
    }

    fn serve(&self, _: &Revision, ids: &[InstanceId], _: &[InstanceId]) {
        self.0.state.lock().unwrap().serving = ids.iter().map(ToString::to_string).collect();
    }

    fn drained(&self, id: &InstanceId) -> BoxFuture<()> {
        let serving = self
            .0
            .state
            .lock()
            .unwrap()
            .serving
            .contains(&id.to_string());
        assert!(!serving, "{id} is drained while it serves");
        Box::pin(async {})
    }

    fn stop(&self, id: &InstanceId) -> BoxFuture<()> {
        let mut state = self.0.state.lock().unwrap();
        state.stopped.push(id.to_string());
        Box::pin(async {})
    }

    fn progress(&self, _: &ServiceName, _: i64, _: Progress) {}
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        std::fs::create_dir(dir.path().join("artifacts")).unwrap();
        std::fs::write(dir.path().join("folder/main.py"), "print(1)").unwrap();
        Self::open(dir).await
    }

    /// The same state, after the node has died without a word.
    pub(crate) async fn restarted(self) -> Self {
        Self::open(self.dir).await
    }

    async fn open(dir: tempfile::TempDir) -> Self {
        let sql = Sql::open(&dir.path().join("state.db"), &[MIGRATION]).unwrap();
        let tasks = Tasks::new();
        let ground = Arc::new(FakeGround {
            handle: OnceLock::new(),
            tasks: tasks.clone(),
            state: Mutex::new(State {
                starts: Starts::Succeed,
                started: Vec::new(),
                serving: Vec::new(),
                stopped: Vec::new(),
            }),
        });
        let history = History::open(sql).await.unwrap();
        let shared = Arc::new(Shared(Arc::clone(&ground)));
        let handle = Service::start(shared, history, dir.path().join("artifacts"), tasks)
            .await
            .unwrap();
        assert!(ground.handle.set(handle.clone()).is_ok());
        Self {
            dir,
            ground,
            handle,
        }
    }

    pub(crate) fn source(&self) -> Source {
        Source {
            dir: self.dir.path().join("folder"),
            manifest: "name = \"orders\"".to_owned(),
            build: Vec::new(),
            artifact: Vec::new(),
        }
    }

    pub(crate) async fn up(&self) -> Result<Deployment, Error> {
        let gate = Box::pin(async {});
        self.run(Request::Up {
            source: self.source(),
            build: false,
            gate,
        })
        .await
    }

    pub(crate) async fn begin(
        &self,
        request: Request,
    ) -> Result<(i64, oneshot::Receiver<Result<Deployment, Error>>), Error> {
        self.handle
            .begin(
                &ServiceName::new("orders").unwrap(),
                request,
                "ada",
                "a test",
            )
            .await
    }

    pub(crate) async fn run(&self, request: Request) -> Result<Deployment, Error> {
        self.begin(request).await?.1.await.unwrap()
    }

    pub(crate) async fn news(&self, id: &str, news: InstanceNews) {
        let known = self
            .started()
            .into_iter()
            .find(|known| known.as_str() == id)
            .unwrap();
        self.handle.news(known, news).await;
    }

    pub(crate) async fn stop_all(&self) {
        self.handle.stop_all(Duration::from_secs(60)).await;
    }

    pub(crate) fn ended(&self) -> tokio::sync::watch::Receiver<()> {
        self.handle.ended()
    }

    pub(crate) fn history(&self) -> &History {
        self.handle.history()
    }

    pub(crate) async fn newest(&self) -> Deployment {
        let service = ServiceName::new("orders").unwrap();
        self.history()
            .deployments(&service, None, 1)
            .await
            .unwrap()
            .remove(0)
    }

    pub(crate) fn started(&self) -> Vec<InstanceId> {
        self.ground.state.lock().unwrap().started.clone()
    }

    pub(crate) fn serving(&self) -> Vec<String> {
        self.ground.state.lock().unwrap().serving.clone()
    }

    pub(crate) fn fail_starts(&self) {
        self.ground.state.lock().unwrap().starts = Starts::Fail;
    }

    pub(crate) fn hold_starts(&self) {
        self.ground.state.lock().unwrap().starts = Starts::Hold;
    }

    pub(crate) fn let_starts(&self) {
        self.ground.state.lock().unwrap().starts = Starts::Succeed;
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.dir.path().join("folder").join(file), text).unwrap();
    }

    pub(crate) fn damage_artifacts(&self) {
        for artifact in std::fs::read_dir(self.dir.path().join("artifacts")).unwrap() {
            let file: PathBuf = artifact.unwrap().path().join("main.py");
            std::fs::write(file, "print('damaged')").unwrap();
        }
    }

    pub(crate) async fn until_serving(&self, count: usize) {
        self.until(|world| world.serving().len() == count).await;
    }

    pub(crate) async fn until_stopped(&self, id: &str) {
        self.until(|world| {
            world
                .ground
                .state
                .lock()
                .unwrap()
                .stopped
                .iter()
                .any(|s| s == id)
        })
        .await;
    }

    /// Waits, in virtual time, for what other tasks are about to do.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(36_000), async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        waited.await.expect("it never came to hold");
    }
}
