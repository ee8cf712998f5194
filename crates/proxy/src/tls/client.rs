//! Who a client is by its certificate, which was checked.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// A client known by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The subject, as `CN=billing, O=Example` (RFC 4514).
    pub subject: String,
    /// The common name within it.
    pub common_name: Option<String>,
    /// DNS names, URIs (SPIFFE ids among them) and mail addresses that it has besides.
    pub names: Vec<String>,
    /// The certificate for services: `:` base64 of its DER `:` (RFC 9440, `Client-Cert`).
    pub(crate) field: String,
}

impl ClientIdentity {
    /// Reads a certificate that was checked; none if it cannot be read.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let common_name = subject
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .map(str::to_owned);
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names = alternatives.map(|found| &found.value.general_names);
        let names = names.into_iter().flatten().filter_map(|name| match name {
            GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
                Some((*text).to_owned())
            }
            _ => None,
        });
        Some(Self {
            subject: subject.to_string(),
            common_name,
            names: names.collect(),
            field: format!(":{}:", base64(certificate)),
        })
    }
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
