//! TLS to a PostgreSQL server that somebody else runs, as its URL asks for it.
//!
//! `sslmode` and `sslrootcert` mean what they mean to libpq, so that a URL that works in `psql`
//! works here. tokio-postgres knows neither `verify-…` nor `sslrootcert`; so both are taken out of
//! the URL before it sees it. The default is libpq's too: `prefer`, encrypted where the server can,
//! and unchecked. What asks for TLS never falls back to plain text.
//!
//! One thing differs: without `sslrootcert`, `verify-ca` and `verify-full` trust what the system
//! trusts, and not a file in the home of whoever runs the node.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore};
use rustls::{Error as TlsError, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How sure one must be of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Anybody may answer: eavesdroppers are kept out, impostors are not.
    Anybody,
    /// A certificate that a trusted authority has signed, for whatever name.
    Authority,
    /// A certificate for the host in the URL.
    Host,
}

/// What a URL asks for.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    trust: Trust,
    authorities: Option<PathBuf>,
    /// The part of the query that others need to connect in the same way; empty or `?sslmode=…`.
    pub(super) query: String,
}

impl Tls {
    /// Takes a URL, or the `key=value` form, apart. The error is for a person and holds no secret.
    pub(super) fn parse(url: &str) -> Result<(tokio_postgres::Config, Self), String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let pairs = || query.split('&').filter(|pair| !pair.is_empty());
        let named = |name: &str| {
            let mut pairs = pairs().filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then_some(value))
        };
        let (mode, trust) = match named("sslmode") {
            Some("verify-ca") => (Some("require"), Trust::Authority),
            Some("verify-full") => (Some("require"), Trust::Host),
            mode => (mode, Trust::Anybody),
        };
        let authorities = named("sslrootcert").map(|path| PathBuf::from(decoded(path)));
        if let Some(path) = authorities.as_ref().filter(|path| path.is_relative()) {
            return Err(format!(
                "sslrootcert must be an absolute path, not '{}'",
                path.display()
            ));
        }
        // With authorities at hand, `require` checks them (libpq, "SSL Certificate Verification").
        let trust = match (trust, mode, &authorities) {
            (Trust::Anybody, Some("require"), Some(_)) => Trust::Authority,
            _ => trust,
        };
        let is_tls = |pair: &&str| pair.starts_with("sslmode=") || pair.starts_with("sslrootcert=");
        let mode = mode.map(|mode| format!("sslmode={mode}"));
        let known = pairs().filter(|pair| !is_tls(pair)).map(str::to_owned);
        let known: Vec<String> = known.chain(mode).collect();
        let config = format!("{base}?{}", known.join("&"));
        let config = config.trim_end_matches('?').parse();
        let config: tokio_postgres::Config = config.map_err(|error| detail(&error))?;
        let told: Vec<&str> = pairs().filter(is_tls).collect();
        let query = if told.is_empty() {
            String::new()
        } else {
            format!("?{}", told.join("&"))
        };
        let tls = Self {
            trust,
            authorities,
            query,
        };
        Ok((config, tls))
    }

    /// Makes connections as `config` wants them; none if it wants plain text.
    pub(super) fn connector(
        &self,
        config: &tokio_postgres::Config,
    ) -> Result<Option<MakeRustlsConnect>, String> {
        if config.get_ssl_mode() == SslMode::Disable {
            return Ok(None);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier {
            provider: Arc::clone(&provider),
            trust: self.trust,
            inner: self.verifier(&provider)?,
        };
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Some(MakeRustlsConnect::new(client)))
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<WebPkiServerVerifier>>, String> {
        if self.trust == Trust::Anybody {
            return Ok(None);
        }
        let roots = match &self.authorities {
            Some(path) => from_file(path)?,
            None => from_system()?,
        };
        let provider = Arc::clone(provider);
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        built.map(Some).map_err(|error| error.to_string())
    }
}

/// The reason behind an error of the client, where it has one.
pub(super) fn detail(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let failed = |why: String| format!("sslrootcert {}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path);
    for certificate in certificates.map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}

fn from_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let why = "the system trusts no authority; install ca-certificates, or name a file: \
                   sslrootcert=/path/to/ca.pem";
        return Err(why.to_owned());
    }
    Ok(roots)
}

/// `%2F` and the like, as in every URL.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|two| str::from_utf8(two).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Checks as much as was asked for. That the server holds the key of its certificate is always
/// checked.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    /// None where anybody may answer.
    inner: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = inner.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match verified {
            // The chain is checked before the name.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.trust == Trust::Authority => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> (SslMode, Tls) {
        let (config, tls) = Tls::parse(&format!("postgres://a:b@db/x{query}")).unwrap();
        assert_eq!(config.get_dbname(), Some("x"));
        (config.get_ssl_mode(), tls)
    }

    #[test]
    fn the_modes_mean_what_they_mean_to_libpq() {
        for (query, mode, trust) in [
            ("", SslMode::Prefer, Trust::Anybody),
            ("?sslmode=disable", SslMode::Disable, Trust::Anybody),
            ("?sslmode=require", SslMode::Require, Trust::Anybody),
            ("?sslmode=verify-ca", SslMode::Require, Trust::Authority),
            ("?sslmode=verify-full", SslMode::Require, Trust::Host),
            (
                "?sslrootcert=/a%20b&sslmode=require",
                SslMode::Require,
                Trust::Authority,
            ),
        ] {
            let (found, tls) = parse(query);
            assert_eq!((found, tls.trust), (mode, trust), "{query}");
            assert_eq!(tls.query, query);
        }
        let (_, tls) = parse("?connect_timeout=3&sslmode=require&sslrootcert=/a%20b");
        assert_eq!(tls.query, "?sslmode=require&sslrootcert=/a%20b");
        assert_eq!(tls.authorities, Some(PathBuf::from("/a b")));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_and_never_plain_text() {
        for query in ["sslmode=verify_full", "sslmode=", "sslrootcert=ca.pem"] {
            let error = Tls::parse(&format!("postgres://a:geheim@db/x?{query}")).unwrap_err();
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
