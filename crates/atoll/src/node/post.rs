//! Requests that the node itself makes to the outside: one POST, one answer.
//!
//! A connection for each request: they are seconds apart, and one that was kept would be found dead when it
//! is needed. Files are read each time, so that a new token or certificate needs no start.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use atoll_telemetry::otlp::ExportUrl;
use bytes::{Bytes, BytesMut};
use http::header::{HOST, RETRY_AFTER, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::keys::{trust, trust_of_system};

/// Of an answer, so much is kept.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// So much is read, for what comes after it.
const ANSWER_BYTES_READ: usize = 1 << 20;

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
    /// Its fields.
    pub(super) head: HeaderMap,
    /// Its beginning.
    pub(super) body: Bytes,
    /// The fields that came after the body.
    pub(super) trailers: HeaderMap,
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

    /// The port, where the address has one.
    pub(super) fn port(&self) -> Option<u16> {
        self.url.parse::<Uri>().ok()?.port_u16()
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

    /// Sends `body` to the address, with `path` after it, by HTTP/1.1.
    ///
    /// # Errors
    /// When nobody answers there. There is no time limit: that is the caller's.
    pub(super) async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let (uri, authority) = self.uri(path)?;
        let target = uri.path_and_query().map_or("/", |own| own.as_str());
        let mut request = request(target, headers, body)?;
        let host = authority.as_str().parse()?;
        request.headers_mut().entry(HOST).or_insert(host);
        let stream = self.connect(&uri, b"http/1.1").await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        exchange(sender.send_request(request), connection).await
    }

    /// As [`post`](Self::post), by HTTP/2; without TLS it is begun at once ("prior knowledge", RFC 9113 section 3.3).
    ///
    /// # Errors
    /// When nobody answers there.
    pub(super) async fn post_h2(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let (uri, _) = self.uri(path)?;
        let stream = self.connect(&uri, b"h2").await?;
        let mut request = request(&self.target(path), headers, body)?;
        // The address says it (RFC 9113 section 8.3.1).
        request.headers_mut().remove(HOST);
        let executor = TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, stream).await?;
        exchange(sender.send_request(request), connection).await
    }

    fn uri(&self, path: &str) -> anyhow::Result<(Uri, Authority)> {
        let uri: Uri = self
            .target(path)
            .parse()
            .context("the address is malformed")?;
        let authority = uri.authority().context("the address has no host")?.clone();
        Ok((uri, authority))
    }

    /// Connects; over TLS, for what is spoken by the name `protocol` (ALPN, RFC 7301).
    async fn connect(&self, uri: &Uri, protocol: &[u8]) -> anyhow::Result<TokioIo<Stream>> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await?;
        if !secure {
            return Ok(TokioIo::new(Box::new(stream)));
        }
        let name = ServerName::try_from(host.to_owned())?;
        let mut trusted = self.ca.as_deref().map_or_else(trust_of_system, trust_in)?;
        trusted.alpn_protocols.push(protocol.to_vec());
        let connector = tokio_rustls::TlsConnector::from(Arc::new(trusted));
        let stream = connector.connect(name, stream).await?;
        Ok(TokioIo::new(Box::new(stream)))
    }
}

/// A connection, in the clear or not.
type Stream = Box<dyn ReadWrite>;

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for S {}

fn request(
    target: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::post(target)
        .header(USER_AGENT, concat!("atoll/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))?;
    request.headers_mut().extend(headers);
    Ok(request)
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

/// The beginning of a body, and the fields after its end, if that is not far.
async fn beginning(mut body: Incoming) -> (Bytes, HeaderMap) {
    let (mut kept, mut trailers) = (BytesMut::new(), HeaderMap::new());
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => {
                read += data.len();
                if read > ANSWER_BYTES_READ {
                    break;
                }
                let room = ANSWER_BYTES_MAX - kept.len();
                kept.extend_from_slice(&data[..data.len().min(room)]);
            }
            Err(frame) => trailers.extend(frame.into_trailers().into_iter().flatten()),
        }
    }
    (kept.freeze(), trailers)
}

/// Waits for the answer, while the connection does its work.
async fn exchange(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> anyhow::Result<Answer> {
    let exchange = async {
        let (head, body) = answer.await?.into_parts();
        let (body, trailers) = beginning(body).await;
        let after = head.headers.get(RETRY_AFTER);
        let seconds = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after: seconds.map(Duration::from_secs),
            head: head.headers,
            body,
            trailers,
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
