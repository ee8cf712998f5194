//! HTTPS: certificates by name, read anew, clients with certificates of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use atoll_base::HumanDuration;
use atoll_proxy::config::{CertificateConfig, ClientCertificate, TlsConfig};
use atoll_proxy::{Config, RouteConfig, Service};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::toys::*;

/// Someone who issues certificates.
struct Issuer(CertifiedIssuer<'static, KeyPair>);

impl Issuer {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "tests");
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn issue(&self, names: &[&str], common_name: &str) -> (CertificateDer<'static>, KeyPair) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), key)
    }

    /// Writes a certificate and its key into a folder.
    fn write(&self, dir: &Path, file: &str, names: &[&str]) -> CertificateConfig {
        let (certificate, key) = self.issue(names, file);
        let pair = CertificateConfig {
            cert: dir.join(format!("{file}.pem")),
            key: dir.join(format!("{file}.key")),
        };
        std::fs::write(&pair.cert, pem(&certificate)).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn client(&self, alpn: &[&str]) -> ClientConfig {
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

async fn connect(
    addr: SocketAddr,
    config: ClientConfig,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Sends a request that closes the connection; gives everything that comes back.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> std::io::Result<String> {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    read.await.expect("an answer in time")?;
    Ok(String::from_utf8(answer).unwrap())
}

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

fn proxy(tls: TlsConfig) -> (Proxy, SocketAddr) {
    let proxy = Proxy::with(|config| {
        config.edge.tls = Some(TlsConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ..tls
        });
    });
    let addr = proxy.handle.tls_addr().unwrap();
    (proxy, addr)
}

#[tokio::test]
async fn requests_come_by_tls_in_both_versions_of_http() {
    let (issuer, dir) = (Issuer::new(), tempfile::tempdir().unwrap());
    let toy = Toy::echo().await;
    let (proxy, addr) = proxy(TlsConfig {
        certificates: vec![issuer.write(dir.path(), "a", &["a.example"])],
        hsts: Some(HumanDuration::secs(3600)),
        ..TlsConfig::default()
    });
    let proxy = proxy.forward_to(&[toy.endpoint()]);
    let mut stream = connect(addr, issuer.client(&[]), "a.example")
        .await
        .unwrap();
    let answer = ask(
        &mut stream,
        b"GET /x HTTP/1.1\r\nHost: a.example\r\nClient-Cert: :forged:\r\nConnection: close\r\n\r\n",
    )
    .await
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("\r\nStrict-Transport-Security: max-age=3600\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("\r\nX-Forwarded-Proto: https\r\n"),
        "{answer}"
    );
    assert!(answer.contains("proto=https;host="), "{answer}");
    assert!(!answer.contains("forged"), "{answer}");
    let stream = connect(addr, issuer.client(&["h2"]), "a.example")
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://a.example/y").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["strict-transport-security"],
        "max-age=3600"
    );
    let span = proxy.spans.find(|span| span.path == "/y").await;
    assert_eq!(span.status, 200);
}

#[tokio::test]
async fn large_bodies_pass_through_tls() {
    let (issuer, dir) = (Issuer::new(), tempfile::tempdir().unwrap());
    let toy = Toy::echo().await;
    let (proxy, addr) = proxy(TlsConfig {
        certificates: vec![issuer.write(dir.path(), "a", &["a.example"])],
        ..TlsConfig::default()
    });
    let _proxy = proxy.forward_to(&[toy.endpoint()]);
    let stream = connect(addr, issuer.client(&[]), "a.example")
        .await
        .unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let payload: Bytes = (0..5_000_000u32).map(|at| (at % 251) as u8).collect();
    let sent = payload.clone();
    let send = tokio::spawn(async move {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            sent.len()
        );
        writer.write_all(head.as_bytes()).await.unwrap();
        writer.write_all(&sent).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer));
    read.await.unwrap().unwrap();
    assert!(
        answer.ends_with(&payload),
        "{} bytes came back",
        answer.len()
    );
    send.await.unwrap();
}

#[tokio::test]
async fn the_name_decides_which_certificate_is_shown() {
    let (issuer, dir) = (Issuer::new(), tempfile::tempdir().unwrap());
    let certificates = vec![
        issuer.write(dir.path(), "first", &["first.example"]),
        issuer.write(dir.path(), "wild", &["*.shop.example"]),
        issuer.write(dir.path(), "exact", &["eu.shop.example"]),
    ];
    let (_proxy, addr) = proxy(TlsConfig {
        certificates,
        ..TlsConfig::default()
    });
    for (name, file) in [
        ("first.example", "first"),
        ("us.shop.example", "wild"),
        ("eu.shop.example", "exact"),
    ] {
        let stream = connect(addr, issuer.client(&[]), name).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let expected = std::fs::read_to_string(dir.path().join(format!("{file}.pem"))).unwrap();
        assert_eq!(pem(&shown), expected, "{name}");
    }
    // Another name gets the first, which the client then refuses.
    assert!(
        connect(addr, issuer.client(&[]), "other.example")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn new_files_serve_new_connections_and_broken_ones_change_nothing() {
    let (issuer, dir) = (Issuer::new(), tempfile::tempdir().unwrap());
    let toy = Toy::named("toy").await;
    let (proxy, addr) = proxy(TlsConfig {
        certificates: vec![issuer.write(dir.path(), "a", &["old.example"])],
        ..TlsConfig::default()
    });
    let proxy = proxy.forward_to(&[toy.endpoint()]);
    let mut open = connect(addr, issuer.client(&[]), "old.example")
        .await
        .unwrap();
    assert!(
        !proxy.handle.refresh_certificates().unwrap(),
        "nothing has changed"
    );
    issuer.write(dir.path(), "a", &["new.example"]);
    touch(dir.path(), "a.pem", 10);
    assert!(proxy.handle.refresh_certificates().unwrap());
    let mut stream = connect(addr, issuer.client(&[]), "new.example")
        .await
        .unwrap();
    assert!(ask(&mut stream, GET).await.unwrap().ends_with("toy"));
    assert!(
        ask(&mut open, GET).await.unwrap().ends_with("toy"),
        "who is connected stays"
    );
    std::fs::write(dir.path().join("a.pem"), "no certificate").unwrap();
    touch(dir.path(), "a.pem", 20);
    let error = proxy.handle.refresh_certificates().unwrap_err();
    assert!(
        error.to_string().contains("no certificate in PEM form"),
        "{error}"
    );
    assert!(
        !proxy.handle.refresh_certificates().unwrap(),
        "it is told once"
    );
    connect(addr, issuer.client(&[]), "new.example")
        .await
        .unwrap();
}

/// Makes a file look changed, however coarse the clock of the file system is.
fn touch(dir: &Path, file: &str, seconds: u64) {
    let file = std::fs::File::options()
        .append(true)
        .open(dir.join(file))
        .unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
    file.set_modified(later).unwrap();
}

#[tokio::test]
async fn plain_http_is_sent_to_https() {
    let (issuer, dir) = (Issuer::new(), tempfile::tempdir().unwrap());
    let toy = Toy::named("toy").await;
    let tls = TlsConfig {
        certificates: vec![issuer.write(dir.path(), "a", &["a.example"])],
        ..TlsConfig::default()
    };
    let (secure, addr) = proxy(tls.clone());
    let secure = secure.forward_to(&[toy.endpoint()]);
    let request = "GET /a?b=1 HTTP/1.1\r\nHost: a.example:80\r\n\r\n";
    let answer = secure.client().await.request(request).await;
    let expected = format!("https://a.example:{}/a?b=1", addr.port());
    assert_eq!(
        (answer.status, answer.field("location")),
        (308, Some(&*expected))
    );
    assert_eq!(answer.field("strict-transport-security"), None);
    let (both, _) = proxy(TlsConfig {
        redirect: false,
        ..tls
    });
    let both = both.forward_to(&[toy.endpoint()]);
    assert_eq!(both.get("/").await.status, 200);
}

#[tokio::test]
async fn clients_are_known_by_their_certificates() {
    let (issuer, dir) = (Issuer::new(), tempfile::tempdir().unwrap());
    let toy = Toy::echo().await;
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, issuer.0.pem()).unwrap();
    let tls = TlsConfig {
        certificates: vec![issuer.write(dir.path(), "a", &["a.example"])],
        client_ca: Some(ca),
        ..TlsConfig::default()
    };
    let (required, addr) = proxy(tls.clone());
    let _required = required.forward_to(&[toy.endpoint()]);
    let known = |issuer: &Issuer, roots: &Issuer| {
        let (certificate, key) = issuer.issue(&["billing.example"], "billing");
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        builder
            .with_root_certificates(roots.roots())
            .with_client_auth_cert(vec![certificate], key)
            .unwrap()
    };
    let mut stream = connect(addr, known(&issuer, &issuer), "a.example")
        .await
        .unwrap();
    let answer = ask(&mut stream, GET).await.unwrap();
    let line = answer
        .lines()
        .find(|line| line.starts_with("Client-Cert: :"))
        .unwrap();
    assert!(line.ends_with(':') && line.len() > 100, "{line}");
    // In TLS 1.3 the refusal comes after the client's handshake.
    let nobody = async |config| {
        let mut stream = connect(addr, config, "a.example").await?;
        ask(&mut stream, GET).await
    };
    assert!(
        nobody(issuer.client(&[])).await.is_err(),
        "without a certificate"
    );
    let stranger = Issuer::new();
    assert!(
        nobody(known(&stranger, &issuer)).await.is_err(),
        "of another issuer"
    );
    let (optional, addr) = proxy(TlsConfig {
        client_certificate: ClientCertificate::Optional,
        ..tls
    });
    let _optional = optional.forward_to(&[toy.endpoint()]);
    let mut stream = connect(addr, issuer.client(&[]), "a.example")
        .await
        .unwrap();
    let answer = ask(&mut stream, GET).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("Client-Cert"), "{answer}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (issuer, dir) = (Issuer::new(), tempfile::tempdir().unwrap());
    let good = issuer.write(dir.path(), "good", &["a.example"]);
    let other = issuer.write(dir.path(), "other", &["a.example"]);
    let bind = |certificates| {
        let mut config = Config::default();
        config.edge.listen = ([127, 0, 0, 1], 0).into();
        config.mesh.port = 0;
        config.edge.tls = Some(TlsConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            certificates,
            ..TlsConfig::default()
        });
        let error = Service::bind(config, Arc::<Spans>::default()).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(bind(vec![good.clone()]), "");
    assert!(bind(vec![]).contains("atoll cert dev"));
    let missing = CertificateConfig {
        cert: dir.path().join("none.pem"),
        ..good.clone()
    };
    assert!(bind(vec![missing]).contains("none.pem' cannot be read"));
    let swapped = CertificateConfig {
        cert: good.key.clone(),
        key: good.cert.clone(),
    };
    assert!(bind(vec![swapped]).contains("has no certificate"));
    let mixed = CertificateConfig {
        key: other.key,
        ..good
    };
    assert!(bind(vec![mixed]).contains("cannot be used"));
}

#[tokio::test]
async fn a_client_that_never_greets_is_let_go() {
    let (issuer, dir) = (Issuer::new(), tempfile::tempdir().unwrap());
    let (_, certificates) = ((), vec![issuer.write(dir.path(), "a", &["a.example"])]);
    let proxy = Proxy::with(|config| {
        config.edge.head_timeout = HumanDuration(std::time::Duration::from_millis(300));
        config.edge.tls = Some(TlsConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            certificates,
            ..TlsConfig::default()
        });
    });
    let routes = [("orders", RouteConfig::new("/"))];
    proxy.publish(&routes, &[("orders", &[])]);
    for greeting in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(proxy.handle.tls_addr().unwrap())
            .await
            .unwrap();
        stream.write_all(greeting).await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest));
        let _ = read.await.expect("the connection ends");
    }
}
