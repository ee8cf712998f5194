//! Database servers that somebody else runs: started by a test, on a port of the system's choice.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::process::{command, kill, run};
use super::until;

/// The password of every administrator in here.
pub(crate) const SECRET: &str = "secret-of-admin";

/// A running server. Ended when dropped.
pub(crate) struct Server {
    folder: TempDir,
    child: Option<Child>,
    pub(crate) port: u16,
}

/// Authorities and the certificates that they signed.
pub(crate) struct Certificates {
    folder: TempDir,
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A folder that other users may pass through.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// PostgreSQL does not run as root.
fn postgres_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("the user postgres").split(':').skip(2);
    let mut number = || fields.next().unwrap().parse().unwrap();
    Some((number(), number()))
}

fn as_postgres(mut command: Command) -> Command {
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command
}

fn given_to_postgres(path: &Path) {
    if let Some((uid, gid)) = postgres_user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// The programs of the newest PostgreSQL that is installed.
fn postgres_programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let versions = versions.flatten().map(|entry| entry.path().join("bin"));
    versions.max().unwrap()
}

impl Server {
    /// A PostgreSQL whose administrator `admin` has the password [`SECRET`].
    pub(crate) fn postgres() -> Self {
        Self::postgres_with("host all all 127.0.0.1/32 scram-sha-256", &[])
    }

    /// One that speaks TLS and nothing else.
    pub(crate) fn postgres_with_tls(certificates: &Certificates, name: &str) -> Self {
        let (certificate, key) = certificates.server(name);
        given_to_postgres(&key);
        let settings = [
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
        ];
        Self::postgres_with("hostssl all all 127.0.0.1/32 scram-sha-256", &settings)
    }

    fn postgres_with(rule: &str, settings: &[String]) -> Self {
        let (folder, port, bin) = (folder(), free_port(), postgres_programs());
        given_to_postgres(folder.path());
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        fs::write(&password, SECRET).unwrap();
        let mut initdb = as_postgres(command(bin.join("initdb")));
        initdb
            .arg("-D")
            .arg(&data)
            .arg("--pwfile")
            .arg(&password)
            .args(["-U", "admin", "-A", "scram-sha-256", "--no-sync"])
            .args(["--no-locale", "-E", "UTF8"])
            .current_dir(folder.path());
        run(initdb).succeeded();
        fs::write(data.join("pg_hba.conf"), format!("{rule}\n")).unwrap();
        let mut postgres = as_postgres(command(bin.join("postgres")));
        postgres
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-k", "", "-c", "fsync=off", "-p"])
            .arg(port.to_string())
            .args(settings.iter().flat_map(|setting| ["-c", setting]));
        let ready = [
            &bin.join("pg_isready").display().to_string(),
            "-h",
            "127.0.0.1",
            "-p",
        ]
        .map(str::to_owned);
        Self::started(folder, port, postgres, &ready)
    }

    /// A Redis whose administrator has the password [`SECRET`].
    pub(crate) fn redis() -> Self {
        let (folder, port) = (folder(), free_port());
        let mut redis = command("redis-server");
        redis
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .args(["--requirepass", SECRET]);
        let ready = ["redis-cli", "-h", "127.0.0.1", "-p"].map(str::to_owned);
        Self::started(folder, port, redis, &ready)
    }

    /// Waits until the question, with the port after it, is answered.
    fn started(folder: TempDir, port: u16, mut program: Command, question: &[String]) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        program
            .current_dir(folder.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = Some(program.spawn().unwrap());
        let server = Self {
            folder,
            child,
            port,
        };
        until("the database server", || {
            let mut ask = command(&question[0]);
            ask.args(&question[1..]).arg(port.to_string());
            if question[0] == "redis-cli" {
                ask.arg("PING");
            }
            ask.stdout(Stdio::null()).stderr(Stdio::null());
            ask.status().unwrap().success()
        });
        server
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // PostgreSQL ends its own children then.
            kill(child.id(), Signal::INT);
            child.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("the server printed:\n{}", self.log());
        }
    }
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let made = Self { folder: folder() };
        for authority in ["ca", "other"] {
            made.openssl(&format!(
                "req -x509 -nodes {KEY} -keyout {authority}.key -out {authority}.pem \
                 -subj /CN={authority} -days 2"
            ));
        }
        made
    }

    /// The certificate of an authority; only `ca` has signed anything.
    pub(crate) fn authority(&self, name: &str) -> String {
        let path = self.folder.path().join(format!("{name}.pem"));
        path.display().to_string()
    }

    /// A certificate for `name`, such as `IP:127.0.0.1`, and its key.
    pub(crate) fn server(&self, name: &str) -> (PathBuf, PathBuf) {
        let file = |name: &str| self.folder.path().join(name);
        fs::write(file("names"), format!("subjectAltName={name}\n")).unwrap();
        self.openssl(&format!(
            "req -nodes {KEY} -keyout server.key -out server.csr -subj /CN=server"
        ));
        self.openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem \
             -days 2 -extfile names",
        );
        fs::set_permissions(file("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
        (file("server.pem"), file("server.key"))
    }

    /// Makes TLS of connections, with a certificate for `name`.
    pub(crate) fn secure(
        &self,
        name: &str,
    ) -> impl Fn(TcpStream) -> StreamOwned<ServerConnection, TcpStream> + Send + 'static {
        let (chain, key) = self.server(name);
        let chain = CertificateDer::pem_file_iter(chain).unwrap();
        let chain = chain.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            StreamOwned::new(connection, stream)
        }
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = command("openssl");
        openssl.args(arguments.split_ascii_whitespace());
        openssl.current_dir(self.folder.path());
        run(openssl).succeeded();
    }
}

/// The quickest kind to make.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1";
