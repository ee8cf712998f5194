//! PostgreSQL: one server, and for each service a role and a database that only it may enter.

mod tls;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_base::{ServiceName, clock};
use atoll_supervisor::{Health, InstanceSpec, Resources, Run, User, run_to_end};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, NoTls, Socket};
use tokio_util::sync::CancellationToken;

use super::{Context, Error, find_program, free_port};
use crate::manifest::ServerConfig;
use tls::Tls;

/// The name for messages.
const SERVER: &str = "PostgreSQL";

/// How long the own server may take from its start until it takes connections.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a named server may take to accept a connection, if its URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The administrator of the own server.
const ADMIN: &str = "atoll";

/// The server, once it is known.
pub(super) struct Postgres {
    named: Option<ServerConfig>,
    own: Option<OwnServer>,
}

/// How the administrator connects.
#[derive(Clone)]
struct Admin {
    config: tokio_postgres::Config,
    tls: Tls,
    /// Host and port as in a URL.
    address: String,
}

struct OwnServer {
    port: u16,
    password: String,
}

impl Postgres {
    pub(super) fn new(named: Option<ServerConfig>) -> Self {
        Self { named, own: None }
    }

    pub(super) async fn url(
        &mut self,
        context: &Context,
        service: &ServiceName,
    ) -> Result<String, Error> {
        let admin = self.admin(context).await?;
        let role = role_name(&context.application, service);
        let password = context.password("postgres", &role).await?;
        let client = admin.connect().await?;
        provide(&client, &role, &password).await.map_err(refused)?;
        if self.named.is_none() {
            // On a server of somebody else's, these are not ours to close.
            let close = "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
                         REVOKE CONNECT ON DATABASE template1 FROM PUBLIC";
            client.batch_execute(close).await.map_err(refused)?;
        }
        let inside = admin.of_database(&role).connect().await?;
        // Of a database made by another, its owner may still be somebody else.
        let grant = format!("ALTER SCHEMA public OWNER TO {}", quoted(&role));
        inside.batch_execute(&grant).await.map_err(refused)?;
        let (address, query) = (&admin.address, &admin.tls.query);
        Ok(format!(
            "postgres://{role}:{password}@{address}/{role}{query}"
        ))
    }

    /// How the administrator connects; the own server is started first.
    async fn admin(&mut self, context: &Context) -> Result<Admin, Error> {
        if let Some(named) = &self.named {
            return Admin::named(&named.url);
        }
        if self.own.is_none() {
            self.own = Some(OwnServer::start(context).await?);
        }
        let own = self.own.as_ref().expect("it was just started");
        // It listens on the loopback device only.
        Admin::named(&format!(
            "postgres://{ADMIN}:{}@127.0.0.1:{}/postgres?sslmode=disable",
            own.password, own.port
        ))
        .map(Admin::without_query)
    }
}

/// Connects as a service does, with what it is told.
pub(super) async fn enter(url: &str) -> Result<Client, Error> {
    Admin::named(url)?.connect().await
}

impl Admin {
    fn named(url: &str) -> Result<Self, Error> {
        let wrong = |reason| Error::Refused {
            server: SERVER.to_owned(),
            reason: format!("`[postgres] url` cannot be used: {reason}"),
        };
        let (mut config, tls) = Tls::parse(url).map_err(wrong)?;
        let address = address(&config).ok_or_else(|| wrong("it needs a host name".to_owned()))?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        Ok(Self {
            config,
            tls,
            address,
        })
    }

    /// Services are told nothing of TLS.
    fn without_query(mut self) -> Self {
        self.tls.query.clear();
        self
    }

    /// The same server, another of its databases.
    fn of_database(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.config.dbname(name);
        other
    }

    async fn connect(&self) -> Result<Client, Error> {
        let connector = self.tls.connector(&self.config);
        let connector = connector.map_err(|reason| Error::Refused {
            server: SERVER.to_owned(),
            reason: format!("`[postgres] url` cannot be used: {reason}"),
        })?;
        let deadline = clock::monotonic() + START_TIMEOUT;
        loop {
            let connected = match connector.clone() {
                Some(tls) => connect(&self.config, tls).await,
                None => connect(&self.config, NoTls).await,
            };
            match connected {
                Err(error) if is_starting(&error) && clock::monotonic() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => return other.map_err(|error| self.failed(&error)),
            }
        }
    }

    /// The server said no, or nobody was there to say anything.
    fn failed(&self, error: &tokio_postgres::Error) -> Error {
        let server = format!("{SERVER} at {}", self.address);
        let reason = match error.as_db_error() {
            Some(told) => told.message().to_owned(),
            None => tls::detail(error),
        };
        // Only what comes from the network has an error of the system at its bottom.
        if error.as_db_error().is_none() && is_unreachable(error) {
            return Error::Unreachable { server, reason };
        }
        let mut reason = reason;
        if self.config.get_ssl_mode() == SslMode::Require && reason.contains("support TLS") {
            reason += "; switch `ssl` on there, or write sslmode=prefer if plain text will do";
        }
        Error::Refused { server, reason }
    }
}

/// Whether no server was there, as opposed to one that does not speak as it should.
fn is_unreachable(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    let source = error
        .source()
        .and_then(|e| e.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| !matches!(error.kind(), InvalidData | UnexpectedEof))
}

impl OwnServer {
    async fn start(context: &Context) -> Result<Self, Error> {
        let home = context.state.join("postgres");
        let data = home.join("data");
        let password = context.password("postgres-admin", ADMIN).await?;
        let user = server_user()?;
        prepare_home(&home, user)?;
        let bin = find_binaries(&data)?;
        if !data.join("PG_VERSION").is_file() {
            init_database(&bin, &home, &data, &password, user).await?;
        }
        let port = free_port().map_err(|error| trouble(format!("no free port: {error}")))?;
        let id = Context::own_instance("atoll-postgres");
        let text = |path: &Path| path.display().to_string();
        let command = vec![
            text(&bin.join("postgres")),
            "-D".to_owned(),
            text(&data),
            "-h".to_owned(),
            "127.0.0.1".to_owned(),
            "-p".to_owned(),
            port.to_string(),
            "-k".to_owned(),
            String::new(),
        ];
        context.supervisor.start(InstanceSpec {
            id: id.clone(),
            command,
            dir: home,
            env: Vec::new(),
            health: Health::default(),
            resources: Resources::default(),
            stop_timeout: Duration::from_secs(30),
            sandbox: None,
            user,
            port: Some(port),
            restart: true,
        });
        let ready = context.ready.wait(&id);
        if tokio::time::timeout(START_TIMEOUT, ready).await.is_err() {
            let status = context.supervisor.status(&id);
            context.supervisor.stop(&id).await;
            let reason = status.and_then(|status| status.reason).unwrap_or_default();
            return Err(trouble(format!("it did not come up: {reason}")));
        }
        Ok(Self { port, password })
    }
}

/// Makes the role and the database where they are missing, and closes the database to others.
async fn provide(client: &Client, role: &str, password: &str) -> Result<(), tokio_postgres::Error> {
    let name = quoted(role);
    let known = client
        .query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&role])
        .await?;
    let verb = if known.is_some() { "ALTER" } else { "CREATE" };
    // The password is made of hexadecimal digits, so it needs no escaping.
    let sql = format!("{verb} ROLE {name} LOGIN PASSWORD '{password}'");
    client.batch_execute(&sql).await?;
    let known = client
        .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&role])
        .await?;
    if known.is_none() {
        // The creator must be a member of the new owner's role (PostgreSQL 16, CREATE DATABASE).
        client
            .batch_execute(&format!("GRANT {name} TO CURRENT_USER"))
            .await?;
        client
            .batch_execute(&format!("CREATE DATABASE {name} OWNER {name}"))
            .await?;
    }
    client
        .batch_execute(&format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"))
        .await
}

async fn connect<T>(
    config: &tokio_postgres::Config,
    tls: T,
) -> Result<Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket, Stream: Send + 'static>,
{
    let (client, connection) = config.connect(tls).await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends when the client is dropped"
    )]
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

/// The port is open before the server takes connections ("the database system is starting up").
fn is_starting(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::CANNOT_CONNECT_NOW)
}

async fn init_database(
    bin: &Path,
    home: &Path,
    data: &Path,
    password: &str,
    user: Option<User>,
) -> Result<(), Error> {
    // Made beside and then renamed: a folder that initdb did not finish is never taken for a
    // database.
    let unfinished = home.join("data.new");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(trouble(error.to_string()));
        }
        _ => {}
    }
    let password_file = home.join("initial-password");
    write_secret(&password_file, password, user).map_err(|e| trouble(e.to_string()))?;
    let command = [
        bin.join("initdb").display().to_string(),
        "-D".to_owned(),
        unfinished.display().to_string(),
        "-U".to_owned(),
        ADMIN.to_owned(),
        "--encoding=UTF8".to_owned(),
        "--locale=C.UTF-8".to_owned(),
        "--auth=scram-sha-256".to_owned(),
        format!("--pwfile={}", password_file.display()),
    ];
    let run = Run {
        command: command.to_vec(),
        dir: home.to_owned(),
        env: Vec::new(),
        user,
    };
    let mut lines = Vec::new();
    let outcome = run_to_end(
        run,
        |_, line, _| lines.push(line.to_owned()),
        &CancellationToken::new(),
    )
    .await;
    let removed = fs::remove_file(&password_file);
    match outcome {
        Ok(reason) if reason.is_orderly() => {
            let renamed = removed.and_then(|()| fs::rename(&unfinished, data));
            renamed.map_err(|e| trouble(e.to_string()))
        }
        Ok(reason) => Err(trouble(format!("initdb {reason}: {}", lines.join("; ")))),
        Err(error) => Err(trouble(error.to_string())),
    }
}

fn write_secret(path: &Path, secret: &str, user: Option<User>) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(secret.as_bytes())?;
    give(path, user)
}

/// PostgreSQL refuses to run as root; then it runs as the user that its package made.
fn server_user() -> Result<Option<User>, Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.into_iter().flat_map(|line| line.split(':')).skip(2);
    let mut number = || fields.next().and_then(|field| field.parse().ok());
    match (number(), number()) {
        (Some(uid), Some(gid)) => Ok(Some(User { uid, gid })),
        _ => Err(trouble(
            "it does not run as root, and there is no user `postgres`; run atoll as another user"
                .to_owned(),
        )),
    }
}

fn prepare_home(home: &Path, user: Option<User>) -> Result<(), Error> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home);
    made.and_then(|()| give(home, user))
        .map_err(|error| trouble(error.to_string()))?;
    let closed = home.ancestors().skip(1).find(|folder| {
        let mode = folder
            .metadata()
            .map_or(0, |metadata| metadata.permissions().mode());
        user.is_some() && mode & 0o001 == 0
    });
    match closed {
        None => Ok(()),
        Some(folder) => Err(trouble(format!(
            "as root is refused, and the user `postgres` cannot pass through {}; run atoll as an \
             ordinary user, or `chmod o+x {}`",
            folder.display(),
            folder.display()
        ))),
    }
}

fn give(path: &Path, user: Option<User>) -> std::io::Result<()> {
    match user {
        Some(user) => std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

/// The newest installed server, or the one whose major version made the data.
fn find_binaries(data: &Path) -> Result<PathBuf, Error> {
    let made_by = fs::read_to_string(data.join("PG_VERSION")).ok();
    let made_by = made_by.as_deref().map(str::trim);
    let mut versions: Vec<(u32, PathBuf)> = ["/usr/lib/postgresql", "/opt/homebrew/opt"]
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let digits = name.to_str()?.trim_start_matches("postgresql@");
            Some((digits.parse().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("postgres").is_file() && bin.join("initdb").is_file())
        .collect();
    versions.sort();
    if let Some(made_by) = made_by {
        let fitting = versions
            .iter()
            .find(|(number, _)| number.to_string() == made_by);
        if let Some((_, bin)) = fitting {
            return Ok(bin.clone());
        }
    }
    let newest = versions.pop().map(|(_, bin)| bin);
    let in_path = || {
        let program = fs::canonicalize(find_program("postgres", &[])?).ok()?;
        Some(program.parent()?.to_owned())
    };
    newest.or_else(in_path).ok_or(Error::NotInstalled {
        program: SERVER,
        remedy: "install it (Debian: `apt-get install postgresql`), or name a server: \
                 `[postgres] url` in atoll.toml",
    })
}

/// `market__order_history`: unquoted in most tools, and of one application among several.
fn role_name(application: &str, service: &ServiceName) -> String {
    format!("{application}__{service}").replace('-', "_")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn address(config: &tokio_postgres::Config) -> Option<String> {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match config.get_hosts().first()? {
        Host::Tcp(host) if host.contains(':') => Some(format!("[{host}]:{port}")),
        Host::Tcp(host) => Some(format!("{host}:{port}")),
        Host::Unix(_) => None,
    }
}

fn trouble(reason: String) -> Error {
    Error::Server {
        server: SERVER,
        reason,
    }
}

fn refused(error: tokio_postgres::Error) -> Error {
    let reason = match error.as_db_error() {
        Some(told) => told.message().to_owned(),
        None => tls::detail(&error),
    };
    Error::Refused {
        server: SERVER.to_owned(),
        reason,
    }
}
