//! Requests that the node itself makes to the outside: one POST, one answer.
//!
//! A connection for each request: they are seconds apart, and one that was kept would be found dead when it
//! is needed. Headers are read from their file each time, so that a new token needs no start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use super::keys::{trust, trust_of_system};

/// Of an answer, so much is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Fields of a request.
pub(super) type Headers = Vec<(HeaderName, HeaderValue)>;

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// It asks to come again after this time.
    pub(super) retry_after: Option<Duration>,
    /// Its beginning.
    pub(super) body: Bytes,
}

/// The headers in a file: lines of `name: value`. Empty ones, and those that begin with `#`, say nothing.
pub(super) fn read_headers(path: &Path) -> anyhow::Result<Headers> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    parse_headers(&text).with_context(|| format!("in {}", path.display()))
}

fn parse_headers(text: &str) -> anyhow::Result<Headers> {
    let lines = text.lines().map(str::trim).zip(1..);
    let said = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(line, number)| {
        // The line itself may hold a secret, and is not told.
        let wrong = || format!("line {number} is not `name: value`");
        let (name, value) = line.split_once(':').with_context(wrong)?;
        let mut value: HeaderValue = value.trim().parse().with_context(wrong)?;
        value.set_sensitive(true);
        Ok((name.trim().parse().with_context(wrong)?, value))
    })
    .collect()
}

/// What believes those alone whom the certificates of a file have signed.
pub(super) fn trust_in(file: &Path) -> anyhow::Result<ClientConfig> {
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

/// Sends `body` to `target`, an address with `http` or `https`. With it comes a file with the certificates that
/// count instead of those that this system trusts; it is read each time.
///
/// # Errors
/// When nobody answers there. There is no time limit: that is the caller's.
pub(super) async fn post(
    (target, ca): (&str, Option<&Path>),
    headers: Headers,
    body: Bytes,
) -> anyhow::Result<Answer> {
    let uri: Uri = target.parse().context("the address is malformed")?;
    let authority = uri.authority().context("the address has no host")?.clone();
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let path = uri.path_and_query().map_or("/", |own| own.as_str());
    let mut request = Request::post(path)
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
    let trusted = ca.map_or_else(trust_of_system, trust_in)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trusted));
    ask(
        TokioIo::new(connector.connect(name, stream).await?),
        request,
    )
    .await
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
