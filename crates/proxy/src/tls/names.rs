//! Which certificate for which name.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

/// Certificates by the names that stand in them.
#[derive(Debug)]
pub(super) struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows the `*`, with its dot.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For whoever asks for no name, or another.
    first: Arc<CertifiedKey>,
}

impl Names {
    /// None if there is no certificate. Of several for one name, the first counts.
    pub(super) fn new(pairs: Vec<Arc<CertifiedKey>>) -> Option<Self> {
        let mut names = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            first: Arc::clone(pairs.first()?),
        };
        for pair in pairs {
            for name in of(&pair) {
                let (map, name) = match name.strip_prefix('*') {
                    Some(below) => (&mut names.wildcard, below.to_owned()),
                    None => (&mut names.exact, name),
                };
                map.entry(name).or_insert_with(|| Arc::clone(&pair));
            }
        }
        Some(names)
    }

    fn find(&self, name: &str) -> &Arc<CertifiedKey> {
        // `rustls` gives names in lower case. A star stands for one label (RFC 9525, 6.3).
        let below = || {
            let dot = name.find('.')?;
            self.wildcard.get(&name[dot..])
        };
        self.exact.get(name).or_else(below).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello
            .server_name()
            .map_or(&self.first, |name| self.find(name));
        Some(Arc::clone(found))
    }
}

/// The names in the own certificate of a chain, in lower case.
fn of(pair: &CertifiedKey) -> Vec<String> {
    let Some(own) = pair.cert.first() else {
        return Vec::new();
    };
    // `rustls` has checked that it is one.
    debug_assert!(ParsedCertificate::try_from(own).is_ok());
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(own) else {
        return Vec::new();
    };
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = alternatives.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}
