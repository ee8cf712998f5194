//! What tells clients apart.

use crate::policy::PolicyError;

/// What tells clients apart. Who lacks it is told apart by address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum By {
    /// The address; of IPv6 the first 64 bits, which is what one customer of a provider has.
    Client,
    /// Nothing: all requests together.
    All,
    /// The API key.
    Key,
    /// A claim of the token.
    Claim(String),
    /// A header field.
    Header(String),
}

impl By {
    /// Whether it must be known who asks.
    pub(crate) fn needs_identity(&self) -> bool {
        matches!(self, Self::Key | Self::Claim(_))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, PolicyError> {
        let bad = || PolicyError::By(text.to_owned());
        match text {
            "client" => return Ok(Self::Client),
            "all" => return Ok(Self::All),
            "key" => return Ok(Self::Key),
            _ => {}
        }
        match text.split_once(':') {
            Some(("claim", name)) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            Some(("header", name)) => {
                http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
                Ok(Self::Header(name.to_owned()))
            }
            _ => Err(bad()),
        }
    }
}
