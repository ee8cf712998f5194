//! A database of its own for each service that asks for one.
//!
//! The server is the one that `atoll.toml` names, or one that Atoll runs from the installed
//! binaries, as an instance of its own under the same supervisor. Each service gets a user and a
//! password that nobody else has; passwords are made here, once, and kept in the node's state.

mod postgres;
mod redis;

use std::path::PathBuf;
use std::sync::Arc;

use atoll_base::{Code, Coded, InstanceId, RevisionNumber, ServiceName};
use atoll_store::rusqlite::OptionalExtension;
use atoll_store::{Migration, Sql};
use atoll_supervisor::Handle as Supervisor;
use tokio::sync::Mutex;

use crate::manifest::{ApplicationFile, DatabaseKind};
use crate::node::OwnReady;

/// The tables of this module.
pub const MIGRATION: Migration = Migration {
    subsystem: "database",
    steps: &["CREATE TABLE passwords (
                  kind TEXT NOT NULL, owner TEXT NOT NULL, password TEXT NOT NULL,
                  PRIMARY KEY (kind, owner)
              ) STRICT"],
};

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's programs are not installed.
    #[error("{program} is not installed; {remedy}")]
    NotInstalled {
        /// Which program.
        program: &'static str,
        /// How to get it.
        remedy: &'static str,
    },
    /// The server that Atoll runs cannot be set up or does not come up.
    #[error("{server} cannot be run: {reason}")]
    Server {
        /// Which server.
        server: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// There is no way to a server that somebody else runs.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// Which server, where.
        server: String,
        /// What the network said.
        reason: String,
    },
    /// The server refuses Atoll.
    #[error("{server} refuses: {reason}")]
    Refused {
        /// Which server.
        server: String,
        /// What it said.
        reason: String,
    },
    /// The node's state cannot be used.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::NotInstalled { .. } => Code("ATL0501"),
            Self::Server { .. } => Code("ATL0502"),
            Self::Refused { .. } => Code("ATL0503"),
            Self::Unreachable { .. } => Code("ATL0504"),
            Self::Store(error) => error.code(),
        }
    }
}

/// What all kinds of servers need.
pub(crate) struct Context {
    /// The application's name.
    pub(crate) application: String,
    /// The state folder.
    pub(crate) state: PathBuf,
    pub(crate) sql: Sql,
    pub(crate) supervisor: Supervisor,
    pub(crate) ready: Arc<OwnReady>,
}

/// All databases of an application.
pub struct Databases {
    context: Context,
    postgres: Mutex<postgres::Postgres>,
    redis: Mutex<redis::Redis>,
}

impl Databases {
    /// Nothing is started before it is asked for.
    pub(crate) fn new(context: Context, file: &ApplicationFile) -> Self {
        let postgres = postgres::Postgres::new(file.postgres.clone());
        let redis = redis::Redis::new(file.redis.clone());
        Self {
            context,
            postgres: Mutex::new(postgres),
            redis: Mutex::new(redis),
        }
    }

    /// What tells a service of its own database, which is made where it is missing: `DATABASE_URL`,
    /// and for Redis `REDIS_PREFIX`, with which its keys begin.
    ///
    /// # Errors
    /// When the server is not there or refuses; asking again is safe.
    pub async fn variables(
        &self,
        service: &ServiceName,
        kind: DatabaseKind,
    ) -> Result<Vec<(String, String)>, Error> {
        let url = match kind {
            DatabaseKind::Postgres => {
                self.postgres
                    .lock()
                    .await
                    .url(&self.context, service)
                    .await?
            }
            DatabaseKind::Redis => self.redis.lock().await.url(&self.context, service).await?,
            DatabaseKind::Sqlite => {
                let reason = "it is a file in the service's folder and needs no server".to_owned();
                return Err(Error::Server {
                    server: "SQLite",
                    reason,
                });
            }
        };
        let mut variables = vec![("DATABASE_URL".to_owned(), url)];
        if kind == DatabaseKind::Redis {
            let prefix = self.context.redis_prefix(service);
            variables.push(("REDIS_PREFIX".to_owned(), prefix));
        }
        Ok(variables)
    }

    /// A connection to the service's own database in PostgreSQL, as the service has it.
    ///
    /// # Errors
    /// When the server is not there or refuses; asking again is safe.
    pub async fn enter_postgres(
        &self,
        service: &ServiceName,
    ) -> Result<tokio_postgres::Client, Error> {
        let url = {
            let mut postgres = self.postgres.lock().await;
            postgres.url(&self.context, service).await?
        };
        postgres::enter(&url).await
    }
}

impl Context {
    /// What the keys of a service begin with. On a server of its own it is a custom, on a shared
    /// one a rule; so code that keeps to it runs on both.
    pub(crate) fn redis_prefix(&self, service: &ServiceName) -> String {
        format!("{}-{service}:", self.application)
    }

    /// The password of `owner` on the servers of `kind`; made when first asked for.
    pub(crate) async fn password(&self, kind: &'static str, owner: &str) -> Result<String, Error> {
        let fresh = random_password().map_err(|error| Error::Server {
            server: "the system",
            reason: format!("no random numbers: {error}"),
        })?;
        let owner = owner.to_owned();
        let password = self
            .sql
            .call(move |t| {
                let sql = "SELECT password FROM passwords WHERE kind = ?1 AND owner = ?2";
                let known: Option<String> = t
                    .query_row(sql, (kind, &owner), |row| row.get(0))
                    .optional()?;
                if let Some(known) = known {
                    return Ok(known);
                }
                t.execute(
                    "INSERT INTO passwords VALUES (?1, ?2, ?3)",
                    (kind, &owner, &fresh),
                )?;
                Ok(fresh)
            })
            .await?;
        Ok(password)
    }

    /// The id of a server that Atoll runs itself.
    pub(crate) fn own_instance(name: &str) -> InstanceId {
        let service = ServiceName::new(name).expect("own names are valid");
        InstanceId::new(service, RevisionNumber(0), 1)
    }
}

/// 32 hexadecimal digits from the system's random numbers: safe in a URL without escaping.
fn random_password() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A port that is free now. Another program may take it before the server does; the supervisor then
/// starts the server again, and says why.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

/// The first of `names` that is a file in one of `folders` or in `PATH`.
pub(crate) fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path);
    folders
        .iter()
        .cloned()
        .chain(in_path)
        .map(|folder| folder.join(name))
        .find(|p| p.is_file())
}
