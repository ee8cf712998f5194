//! TLS of Kafka's protocol: what the embedded broker shows to clients, and what is believed of a Kafka
//! of the operator's own.
//!
//! Files are named relative to `atoll.toml`. The broker's certificate is looked at every few seconds,
//! as the edge's is: a broken file never takes a working certificate away, and who is connected
//! stays.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use atoll_base::Tasks;
use atoll_broker::config::EventsTlsConfig;
use atoll_telemetry::Level;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;

use super::events::Events;

/// How soon a renewed certificate is used.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What of a file tells that it is another now: inode, size, and when it was changed last, which
/// covers its rights.
type Mark = (u64, u64, i64, i64);

/// A certificate with those above it, and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What the embedded broker speaks TLS with, now and after its files have changed.
pub(super) fn server(
    config: &EventsTlsConfig,
    dir: &Path,
    events: &Arc<Events>,
    tasks: &Tasks,
) -> anyhow::Result<watch::Receiver<Arc<ServerConfig>>> {
    let files = files(config, dir).context("`[events.tls]` needs `cert` and `key`")?;
    let seen = marks(&files);
    let (sender, receiver) = watch::channel(load(&files)?);
    let (events, stopping) = (Arc::clone(events), tasks.clone());
    tasks.spawn("broker certificate", async move {
        tokio::select! {
            () = renew(files, seen, sender, events) => {}
            () = stopping.stopping() => {}
        }
    });
    Ok(receiver)
}

/// What a Kafka of the operator's own is spoken to with.
pub(super) fn client(config: &EventsTlsConfig, dir: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match &config.ca {
        Some(ca) => {
            let file = dir.join(ca);
            for certificate in certificates(&file)? {
                let added = roots.add(certificate);
                added.with_context(|| unread("the certificates of Kafka", &file))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    let config = match files(config, dir) {
        Some(files) => {
            let (chain, key) = identity(&files)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Reads the files again when they change. What cannot be read is tried again each time, as rights may
/// change without the file; it is told once.
async fn renew(
    files: [PathBuf; 2],
    mut seen: [Option<Mark>; 2],
    sender: watch::Sender<Arc<ServerConfig>>,
    events: Arc<Events>,
) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let own = files.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let now = marks(&own);
            (now, (now != seen).then(|| load(&own)))
        });
        let Ok((now, Some(loaded))) = looked.await else {
            continue;
        };
        match loaded {
            Ok(config) => {
                seen = now;
                told = None;
                sender.send_replace(config);
                let message = "the broker's new certificate is in use";
                events.node(Level::Info, message.to_owned());
            }
            Err(error) => {
                let message =
                    format!("{error:#}; the broker's certificate from before stays in use");
                if told.as_ref() != Some(&message) {
                    events.node(Level::Error, message.clone());
                    told = Some(message);
                }
            }
        }
    }
}

fn load(files: &[PathBuf; 2]) -> anyhow::Result<Arc<ServerConfig>> {
    let (chain, key) = identity(files)?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key);
    let [cert, key] = files;
    let config = config.with_context(|| {
        let (cert, key) = (cert.display(), key.display());
        format!("the broker's certificate {cert} and the key {key} cannot be used together")
    })?;
    Ok(Arc::new(config))
}

fn identity([cert, key]: &[PathBuf; 2]) -> anyhow::Result<Identity> {
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key);
    let private = private.with_context(|| unread("the key of `[events.tls]`", key))?;
    Ok((chain, private))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let unread = || unread("the certificate of `[events.tls]`", file);
    let read = CertificateDer::pem_file_iter(file).with_context(unread)?;
    let read: Vec<_> = read.collect::<Result<_, _>>().with_context(unread)?;
    anyhow::ensure!(!read.is_empty(), "{} holds no certificate", file.display());
    Ok(read)
}

fn files(config: &EventsTlsConfig, dir: &Path) -> Option<[PathBuf; 2]> {
    Some([
        dir.join(config.cert.as_ref()?),
        dir.join(config.key.as_ref()?),
    ])
}

fn marks(files: &[PathBuf; 2]) -> [Option<Mark>; 2] {
    let [cert, key] = files;
    [cert, key].map(|file| {
        let own = std::fs::metadata(file).ok()?;
        let changed = (own.ctime(), own.ctime_nsec());
        Some((own.ino(), own.len(), changed.0, changed.1))
    })
}

fn unread(what: &str, file: &Path) -> String {
    format!("{what}, {}, cannot be read", file.display())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
