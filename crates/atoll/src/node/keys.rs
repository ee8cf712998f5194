//! The keys that tokens are checked with: read from a file or a variable, or fetched from whoever
//! issues the tokens and fetched again before they are old.
//!
//! When to fetch is decided by the proxy ([`Keys`]); what is here is the fetching. A service of the
//! application is asked directly at one of its ready instances.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use atoll_base::clock::monotonic;
use atoll_base::{ServiceName, Tasks};
use atoll_proxy::auth::{Authenticator, KeySet, KeySource, Keys, Origin, SET_BYTES_MAX, Trust};
use atoll_telemetry::Level;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::KeyRing;
use super::events::Events;
use super::traffic::Traffic;
use crate::manifest::{Application, service_of};

/// The authenticators of an application, and what has to be fetched for them.
pub(super) struct Doors {
    pub(super) authenticators: HashMap<String, Arc<Authenticator>>,
    fetched: Vec<Source>,
    files: Vec<Watched>,
}

/// Keys of a file, which may be replaced.
struct Watched {
    name: String,
    path: PathBuf,
    keys: Keys,
}

/// Keys that are fetched.
struct Source {
    name: String,
    url: String,
    service: Option<ServiceName>,
    keys: Keys,
}

/// A fetch is given this long.
const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether a file has changed or a fetch is due; a fetch that is asked for
/// begins at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Doors {
    /// Makes the authenticators, with the keys that are on this machine.
    pub(super) fn open(application: &Application, ring: &KeyRing) -> anyhow::Result<Self> {
        let mut doors = Self {
            authenticators: HashMap::new(),
            fetched: Vec::new(),
            files: Vec::new(),
        };
        for (name, config) in &application.file.auth {
            let keys = match config.key_source() {
                None => Keys::default(),
                Some(KeySource::Url(url)) => {
                    let keys = Keys::remote(monotonic());
                    let service = service_of(url);
                    doors.fetched.push(Source {
                        name: name.clone(),
                        url: url.to_owned(),
                        service: service.and_then(|service| ServiceName::new(&service).ok()),
                        keys: keys.clone(),
                    });
                    keys
                }
                Some(KeySource::File(path)) => {
                    let path = application.dir.join(path);
                    let keys = Keys::fixed(from_file(&path)?);
                    doors.files.push(Watched {
                        name: name.clone(),
                        path,
                        keys: keys.clone(),
                    });
                    keys
                }
                Some(KeySource::Env(variable)) => {
                    let secret = std::env::var(variable);
                    let secret = secret.with_context(|| {
                        format!("[auth.{name}] needs the environment variable {variable}; set it where `atoll up` is started")
                    })?;
                    let set = KeySet::secret(secret.as_bytes());
                    Keys::fixed(set.with_context(|| format!("{variable} of [auth.{name}]"))?)
                }
            };
            let trust = Trust {
                keys,
                api_keys: ring.in_use(),
            };
            let authenticator = Authenticator::compile(name, config, trust)?;
            doors
                .authenticators
                .insert(name.clone(), Arc::new(authenticator));
        }
        Ok(doors)
    }

    /// Fetches and reads again, until the node stops.
    pub(super) fn keep(self, traffic: &Arc<Traffic>, events: &Arc<Events>, tasks: &Tasks) {
        for file in self.files {
            let (events, stopping) = (Arc::clone(events), tasks.clone());
            tasks.spawn("key file", async move {
                tokio::select! {
                    () = file.keep(&events) => {}
                    () = stopping.stopping() => {}
                }
            });
        }
        for source in self.fetched {
            let (traffic, events) = (Arc::clone(traffic), Arc::clone(events));
            let stopping = tasks.clone();
            tasks.spawn("keys", async move {
                tokio::select! {
                    () = source.keep(&traffic, &events) => {}
                    () = stopping.stopping() => {}
                }
            });
        }
    }
}

impl Watched {
    /// Looks at the file from time to time. One that cannot be used is told once and takes no keys
    /// away.
    async fn keep(&self, events: &Events) {
        let mut failing = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let path = self.path.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || from_file(&path)).await else {
                continue;
            };
            let name = &self.name;
            match read {
                Ok(set) => {
                    let count = set.len();
                    if self.keys.replace(set) || failing {
                        let message =
                            format!("[auth.{name}]: {count} keys from the file are in use");
                        events.node(Level::Info, message);
                    }
                    failing = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let message =
                            format!("[auth.{name}]: {error:#}; the keys from before stay in use");
                        events.node(Level::Error, message);
                    }
                }
            }
        }
    }
}

impl Source {
    async fn keep(&self, traffic: &Traffic, events: &Events) {
        let mut failing = false;
        loop {
            if let Some(service) = &self.service {
                traffic.wait_ready(service).await;
            }
            if self.keys.due().is_some_and(|due| due <= monotonic()) {
                self.keys.begin(monotonic());
                let fetched = tokio::time::timeout(FETCH_WITHIN, self.fetch(traffic)).await;
                let fetched = fetched.unwrap_or_else(|_| bail_late());
                self.settle(fetched, &mut failing, events);
            }
            tokio::select! {
                () = self.keys.wanted() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn settle(
        &self,
        fetched: anyhow::Result<(KeySet, Option<Duration>)>,
        failing: &mut bool,
        events: &Events,
    ) {
        let name = &self.name;
        match fetched {
            Ok((set, max_age)) => {
                let count = set.len();
                if self.keys.succeeded(set, max_age, monotonic()) || *failing {
                    let message = format!("[auth.{name}]: {count} keys from {}", self.url);
                    events.node(Level::Info, message);
                }
                *failing = false;
            }
            Err(error) => {
                let dropped = self.keys.failed(monotonic());
                if !std::mem::replace(failing, true) || dropped {
                    let rest = if dropped {
                        "the keys from before are too old to be used any longer"
                    } else {
                        "the keys from before stay in use"
                    };
                    let message =
                        format!("[auth.{name}]: keys cannot be fetched: {error:#}; {rest}");
                    events.node(Level::Error, message);
                }
            }
        }
    }

    async fn fetch(&self, traffic: &Traffic) -> anyhow::Result<(KeySet, Option<Duration>)> {
        let uri: Uri = self.url.parse().context("the URL is malformed")?;
        let host = uri.host().context("the URL has no host")?.to_owned();
        let secure = uri.scheme_str() == Some("https");
        let stream = match &self.service {
            Some(service) => {
                let address = traffic.address(service);
                TcpStream::connect(address.context("the service has no ready instance")?).await?
            }
            None => {
                let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
                TcpStream::connect((host.as_str(), port)).await?
            }
        };
        if !secure {
            return ask(TokioIo::new(stream), &uri, &host).await;
        }
        let name = rustls::pki_types::ServerName::try_from(host.clone())?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(trust_of_system()?));
        ask(
            TokioIo::new(connector.connect(name, stream).await?),
            &uri,
            &host,
        )
        .await
    }
}

fn bail_late<T>() -> anyhow::Result<T> {
    bail!("no answer within {} s", FETCH_WITHIN.as_secs())
}

/// One question on a connection of its own.
async fn ask<S>(stream: S, uri: &Uri, host: &str) -> anyhow::Result<(KeySet, Option<Duration>)>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header("host", host)
        .header("accept", "application/json")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != 200 {
            bail!("it answers {}", response.status());
        }
        let max_age = response.headers().get("cache-control").and_then(|value| {
            let mut parts = value.to_str().ok()?.split(',');
            let seconds = parts.find_map(|part| part.trim().strip_prefix("max-age="))?;
            Some(Duration::from_secs(seconds.parse().ok()?))
        });
        let body = Limited::new(response.into_body(), SET_BYTES_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?;
        let set = KeySet::parse(&body.to_bytes(), Origin::Remote)?;
        Ok((set, max_age))
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => {
            ended?;
            bail!("the connection ended before the answer")
        }
    }
}

fn from_file(path: &Path) -> anyhow::Result<KeySet> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    KeySet::parse(&text, Origin::Local).with_context(|| format!("{}", path.display()))
}

/// Those that this system trusts.
pub(super) fn trust_of_system() -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        bail!("this system has no certificates to trust; install ca-certificates");
    }
    trust(roots)
}

/// What believes those whom these have signed.
pub(super) fn trust(roots: rustls::RootCertStore) -> anyhow::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
