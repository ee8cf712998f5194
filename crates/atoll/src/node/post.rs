//! Requests that the node itself makes to the outside: one POST, one answer.
//!
//! A connection for each request: they are seconds apart, and one that was kept would be found dead when it
//! is needed. Files are read each time, so that a new token or certificate needs no start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use atoll_telemetry::otlp::ExportUrl;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use super::keys::{trust, trust_of_system};

/// Of an answer, so much is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// An address outside, and the files that say how it is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Place {
    url: String,
    headers: Option<PathBuf>,
    ca: Option<PathBuf>,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// It asks to come again after this time.
    pub(super) retry_after: Option<Duration>,
    /// Its beginning.
    pub(super) body: Bytes,
}

impl Place {
    /// `headers` and `ca` are files, relative to `dir`: fields of each request, and the certificates that
    /// count instead of those that this system trusts.
    pub(super) fn new(
        url: &ExportUrl,
        dir: &Path,
        headers: Option<&PathBuf>,
        ca: Option<&PathBuf>,
    ) -> Self {
        Self {
            url: url.as_str().to_owned(),
            headers: headers.map(|file| dir.join(file)),
            ca: ca.map(|file| dir.join(file)),
        }
    }

    /// The address with `path` after it.
    pub(super) fn target(&self, path: &str) -> String {
        match path {
            "" => self.url.clone(),
            path => format!("{}{path}", self.url.trim_end_matches('/')),
        }
    }

    /// Whether its files can be read.
    ///
    /// # Errors
    /// When one cannot.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.headers()?;
        self.ca
            .as_deref()
            .map_or(Ok(()), |file| trust_in(file).map(drop))
    }

    /// What its file of headers says: lines of `name: value`. Empty ones, and those that begin with `#`, say
    /// nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn headers(&self) -> anyhow::Result<HeaderMap> {
        let Some(file) = &self.headers else {
            return Ok(HeaderMap::new());
        };
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        parse_headers(&text).with_context(|| format!("in {}", file.display()))
    }

    /// Sends `body` to the address, with `path` after it.
    ///
    /// # Errors
    /// When nobody answers there. There is no time limit: that is the caller's.
    pub(super) async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let uri: Uri = self
            .target(path)
            .parse()
            .context("the address is malformed")?;
        let authority = uri.authority().context("the address has no host")?.clone();
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let target = uri.path_and_query().map_or("/", |own| own.as_str());
        let mut request = Request::post(target)
            .header("host", authority.as_str())
            .header("user-agent", concat!("atoll/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))?;
        request.headers_mut().extend(headers);
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        if !secure {
            return ask(TokioIo::new(stream), request).await;
        }
        let name = rustls::pki_types::ServerName::try_from(host)?;
        let trusted = self.ca.as_deref().map_or_else(trust_of_system, trust_in)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(trusted));
        let stream = connector.connect(name, stream).await?;
        ask(TokioIo::new(stream), request).await
    }
}

fn parse_headers(text: &str) -> anyhow::Result<HeaderMap> {
    let lines = text.lines().map(str::trim).zip(1..);
    let said = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(line, number)| {
        // The line itself may hold a secret, and is not told.
        let wrong = || format!("line {number} is not `name: value`");
        let (name, value) = line.split_once(':').with_context(wrong)?;
        let mut value: HeaderValue = value.trim().parse().with_context(wrong)?;
        value.set_sensitive(true);
        let name: HeaderName = name.trim().parse().with_context(wrong)?;
        Ok((name, value))
    })
    .collect()
}

/// What believes those alone whom the certificates of a file have signed.
fn trust_in(file: &Path) -> anyhow::Result<ClientConfig> {
    let unread = || format!("the certificates in {} cannot be read", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(unread)? {
        roots
            .add(certificate.with_context(unread)?)
            .with_context(unread)?;
    }
    anyhow::ensure!(!roots.is_empty(), "{} holds no certificate", file.display());
    trust(roots)
}

async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Answer>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map(|all| all.to_bytes()).unwrap_or_default();
        let after = head.headers.get("retry-after");
        let seconds = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after: seconds.map(Duration::from_secs),
            body,
        })
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            ended?;
            // The last it did may have been to bring the answer.
            exchange.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_after_one_slash_and_none_leaves_the_address_as_it_is() {
        let url: ExportUrl = "http://h/base/".to_owned().try_into().unwrap();
        let place = Place::new(&url, Path::new("."), None, None);
        assert_eq!(place.target("/v1/logs"), "http://h/base/v1/logs");
        assert_eq!(place.target(""), "http://h/base/");
    }

    #[test]
    fn headers_are_lines_and_a_mistake_does_not_tell_a_secret() {
        let found = parse_headers("# mine\n\nAuthorization: Bearer a:b\nx-tenant:7\n").unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(told, [("authorization", "Bearer a:b"), ("x-tenant", "7")]);
        let error = parse_headers("a: b\nBearer secret\n")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "line 2 is not `name: value`");
    }
}
