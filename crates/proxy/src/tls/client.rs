//! Who a client is by its certificate, which was checked.

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// A client known by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The subject, as `CN=billing, O=Example`: in the order of the certificate, with `,`, `+`, `=`
    /// and the like within values as `\2C` (RFC 4514, 2.4).
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
            subject: write_subject(subject),
            common_name,
            names: names.collect(),
            field: format!(":{}:", base64(certificate)),
        })
    }
}

/// The parts of a subject in the order of the certificate. What separates parts is written as a
/// hexadecimal pair within a value (RFC 4514, 2.4), so that no value can pass for two parts.
fn write_subject(subject: &X509Name<'_>) -> String {
    let mut out = String::new();
    for part in subject.iter_rdn() {
        let mut separator = if out.is_empty() { "" } else { ", " };
        for attribute in part.iter() {
            out.push_str(separator);
            separator = " + ";
            let oid = attribute.attr_type();
            match oid2abbrev(oid, oid_registry()) {
                Ok(short) => out.push_str(short),
                Err(_) => out.push_str(&oid.to_id_string()),
            }
            out.push('=');
            write_value(attribute, &mut out);
        }
    }
    out
}

fn write_value(attribute: &AttributeTypeAndValue<'_>, out: &mut String) {
    let Ok(text) = attribute.as_str() else {
        // RFC 4514, 2.4: a value that is no text.
        out.push('#');
        attribute
            .as_slice()
            .iter()
            .for_each(|byte| pair(*byte, out));
        return;
    };
    for letter in text.chars() {
        let mut bytes = [0; 4];
        match letter {
            ',' | '+' | '=' | '"' | '\\' | '<' | '>' | ';' | '#' | '\0'..='\x1f' | '\x7f' => {
                for byte in letter.encode_utf8(&mut bytes).bytes() {
                    out.push('\\');
                    pair(byte, out);
                }
            }
            _ => out.push(letter),
        }
    }
}

fn pair(byte: u8, out: &mut String) {
    // Writing to memory does not fail.
    let _ = write!(out, "{byte:02X}");
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn subject(common_name: &str) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.remove(DnType::CommonName);
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Other");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientIdentity::read(certificate.der()).unwrap().subject
    }

    #[test]
    fn a_value_cannot_pass_for_two_parts() {
        assert_eq!(subject("billing"), "CN=billing, O=Other");
        assert_eq!(
            subject("x, O=Example + y\n"),
            "CN=x\\2C O\\3DExample \\2B y\\0A, O=Other"
        );
        assert_eq!(subject("Zoë"), "CN=Zoë, O=Other");
    }
}
