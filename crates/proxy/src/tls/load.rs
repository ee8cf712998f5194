//! From files to what `rustls` serves with.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};

use super::TlsError;
use super::names::Names;
use crate::config::{CertificateConfig, ClientCertificate, TlsConfig, TlsVersion};

/// Reads all files of `config`.
pub(super) fn server(config: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let mut pairs = Vec::with_capacity(config.certificates.len());
    for pair in &config.certificates {
        pairs.push(Arc::new(certified(pair)?));
    }
    let names = Names::new(pairs).ok_or(TlsError::None)?;
    let versions: &[_] = match config.min_version {
        TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring has ciphers for both versions")
        .with_client_cert_verifier(verifier(config)?)
        .with_cert_resolver(Arc::new(names));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Clients come back to any worker with what they kept; nothing is kept here.
    if let Ok(ticketer) = ring::Ticketer::new() {
        server.ticketer = ticketer;
    }
    // Small records at first would help slow links; one machine has none, and large ones cost less.
    server.max_fragment_size = None;
    Ok(Arc::new(server))
}

fn certified(pair: &CertificateConfig) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&pair.cert)?;
    let key = read(&pair.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::Empty {
        path: pair.key.clone(),
        what: "private key",
    })?;
    let unfit = |source| TlsError::Pair {
        path: pair.cert.clone(),
        source,
    };
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
    certified.map_err(unfit)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.unwrap_or_default();
    if certificates.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
            what: "certificate",
        });
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn verifier(config: &TlsConfig) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(path) = &config.client_ca else {
        return Ok(Arc::new(NoClientAuth));
    };
    let issuers = |reason: String| TlsError::Issuers {
        path: path.clone(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| issuers(error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match config.client_certificate {
        ClientCertificate::Required => builder,
        ClientCertificate::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| issuers(error.to_string()))
}
