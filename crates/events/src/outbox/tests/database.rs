//! Databases for the tests: a file of SQLite, and a server of PostgreSQL behind a socket in a folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use atoll_store::rusqlite;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::super::{Connect, Source};

/// What the documentation says.
const SQLITE: &str = "CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key TEXT, value BLOB, headers TEXT,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), published_at TEXT
);
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;";
const POSTGRES: &str = "CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text NOT NULL, key text, value bytea,
    headers jsonb, created timestamptz NOT NULL DEFAULT now(), published_at timestamptz
);
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;";

/// Rows can be marked no more.
const SQLITE_CRASH: &str =
    "CREATE TRIGGER crash BEFORE UPDATE ON outbox BEGIN SELECT RAISE(FAIL, 'crash'); END";
const POSTGRES_CRASH: &str = "CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'crash'; END $$;
    CREATE TRIGGER crash BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION crash()";

/// A database of a service.
pub(super) enum Database {
    Sqlite(TempDir),
    Postgres(Server),
}

impl Database {
    pub(super) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(super) fn postgres() -> Self {
        Self::Postgres(Server::start())
    }

    pub(super) fn file(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("db.sqlite3"),
            Self::Postgres(_) => panic!("no file"),
        }
    }

    pub(super) fn source(&self) -> Source {
        match self {
            Self::Sqlite(_) => Source::Sqlite(self.file()),
            Self::Postgres(server) => Source::Postgres(Arc::new(server.socket.clone())),
        }
    }

    /// As documented.
    pub(super) async fn make(&self) {
        self.run(match self {
            Self::Sqlite(_) => SQLITE,
            Self::Postgres(_) => POSTGRES,
        })
        .await;
    }

    pub(super) async fn crash(&self) {
        self.run(match self {
            Self::Sqlite(_) => SQLITE_CRASH,
            Self::Postgres(_) => POSTGRES_CRASH,
        })
        .await;
    }

    pub(super) async fn recover(&self) {
        self.run(match self {
            Self::Sqlite(_) => "DROP TRIGGER crash",
            Self::Postgres(_) => "DROP TRIGGER crash ON outbox",
        })
        .await;
    }

    pub(super) async fn run(&self, sql: &str) {
        match self {
            Self::Sqlite(_) => {
                let db = rusqlite::Connection::open(self.file()).unwrap();
                db.busy_timeout(Duration::from_secs(10)).unwrap();
                db.execute_batch(sql).unwrap();
            }
            Self::Postgres(server) => {
                let client = connected(server.socket.0.clone()).await.unwrap();
                client.batch_execute(sql).await.unwrap();
            }
        }
    }

    pub(super) async fn unmarked(&self) -> i64 {
        let sql = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
        match self {
            Self::Sqlite(_) => {
                let db = rusqlite::Connection::open(self.file()).unwrap();
                db.busy_timeout(Duration::from_secs(10)).unwrap();
                db.query_row(sql, [], |row| row.get(0)).unwrap()
            }
            Self::Postgres(server) => {
                let client = connected(server.socket.0.clone()).await.unwrap();
                client.query_one(sql, &[]).await.unwrap().get(0)
            }
        }
    }
}

/// Where a server listens.
#[derive(Clone)]
pub(super) struct Socket(PathBuf);

impl Connect for Socket {
    fn connect(&self) -> BoxFuture<'static, Result<Client, String>> {
        connected(self.0.clone()).boxed()
    }
}

pub(super) async fn connected(folder: PathBuf) -> Result<Client, String> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(folder).user("test").dbname("postgres");
    let (client, connection) = config
        .connect(NoTls)
        .await
        .map_err(|error| error.to_string())?;
    let connection = async move { connection.await.unwrap_or_default() };
    atoll_base::Tasks::new().spawn("connection", connection);
    Ok(client)
}

/// A server that ends with the test.
pub(super) struct Server {
    pub(super) socket: Socket,
    process: Child,
    _folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let (data, path) = (folder.path().join("data"), folder.path().to_owned());
        if is_root() {
            let given = Command::new("chown").arg("postgres").arg(&path).status();
            assert!(given.unwrap().success());
        }
        let made = program("initdb")
            .args(["-U", "test", "-A", "trust", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let process = program("postgres")
            .args(["-F", "-h", "", "-k"])
            .arg(&path)
            .arg("-D")
            .arg(&data)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            socket: Socket(path),
            process,
            _folder: folder,
        }
    }

    /// Until it takes connections.
    pub(super) async fn ready(&self) {
        let ready = async {
            while connected(self.socket.0.clone()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), ready).await;
        waited.expect("PostgreSQL does not come up");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output().unwrap();
    user.stdout == b"0\n"
}

/// A program of the newest server that is installed; as root it refuses to run.
fn program(name: &str) -> Command {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("postgresql is not installed; `cargo xtask test` installs what the tests need")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    versions.sort();
    let path = versions.last().unwrap().join("bin").join(name);
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    let own = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];
    command.args(own).arg("--pdeathsig=KILL").arg(path);
    command.current_dir(Path::new("/"));
    command
}
