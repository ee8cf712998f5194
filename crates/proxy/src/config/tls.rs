//! `[edge.tls]` of `atoll.toml`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use atoll_base::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[edge.tls]` of `atoll.toml`: HTTPS. Without this table the edge speaks plain HTTP alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Address and port to listen on for HTTPS. Default `127.0.0.1:8443`. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Certificates. Which one a client gets is decided by the name that it asks for (SNI); who asks
    /// for none, or for another, gets the first. Files are read again when they change.
    pub certificates: Vec<CertificateConfig>,
    /// The oldest version of TLS that is spoken. Default `1.2`.
    pub min_version: TlsVersion,
    /// Whether plain HTTP is answered with a redirect to HTTPS (308). Default true.
    pub redirect: bool,
    /// How long browsers remember to come by HTTPS only (HSTS, RFC 6797), for this host. Default:
    /// nothing is said. Begin with an hour, then `365d`: it cannot be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<HumanDuration>,
    /// A file with the certificates (PEM) of those who may issue certificates to clients. Default:
    /// clients are not asked for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate, if `client_ca` is set. Default `required`.
    pub client_certificate: ClientCertificate,
}

/// One of `certificates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// The file with the certificate and those of its issuers, in PEM, the own one first. Relative to
    /// the folder of `atoll.toml`.
    pub cert: PathBuf,
    /// The file with the private key, in PEM.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246) and later.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446) alone.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Whether clients must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// Who has none is not let in.
    #[default]
    Required,
    /// Who has one is known by it; others come as anyone.
    Optional,
}

impl TlsConfig {
    /// Makes paths that are relative start at `dir`.
    pub fn resolve(&mut self, dir: &Path) {
        let pairs = self.certificates.iter_mut();
        let files = pairs.flat_map(|pair| [&mut pair.cert, &mut pair.key]);
        for file in files.chain(&mut self.client_ca) {
            *file = dir.join(&*file);
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)),
            certificates: Vec::new(),
            min_version: TlsVersion::default(),
            redirect: true,
            hsts: None,
            client_ca: None,
            client_certificate: ClientCertificate::default(),
        }
    }
}
