//! Where OTLP is taken and sent on to: `[telemetry]` in `atoll.toml`.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An address to listen on, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortConfig(pub Option<SocketAddr>);

/// An address to send to, with `http` or `https`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExportUrl(String);

impl ExportUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is asked over TLS.
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// What is wrong with the files that belong to an address: the key, what, and what to do (`help`).
    /// Each key comes with whether it is given.
    pub(crate) fn mistakes(
        url: Option<&Self>,
        (headers, has_headers): (&'static str, bool),
        (ca, has_ca): (&'static str, bool),
        help: &'static str,
    ) -> Vec<(&'static str, String, &'static str)> {
        let mut mistakes = Vec::new();
        if has_headers && url.is_none() {
            let message = "there are headers, and no address to send them to";
            mistakes.push((headers, message.to_owned(), help));
        }
        if has_ca && !url.is_some_and(Self::is_secure) {
            let message = "certificates are for an address with https, and there is none";
            mistakes.push((ca, message.to_owned(), help));
        }
        mistakes
    }

    /// Whether it is this address of this machine.
    pub fn leads_to(&self, address: SocketAddr) -> bool {
        let uri: Option<http::Uri> = self.0.parse().ok();
        uri.is_some_and(|uri| {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let here = |own: IpAddr| own == address.ip() || own.is_loopback();
            let same = host.parse().map_or(host == "localhost", here);
            same && uri.port_u16() == Some(address.port())
        })
    }
}

impl TryFrom<String> for ExportUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let uri: Option<http::Uri> = text.parse().ok();
        let is_sound = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        if is_sound {
            return Ok(Self(text));
        }
        Err(format!(
            "\"{text}\" is no address like \"http://collector:4318\""
        ))
    }
}

impl From<ExportUrl> for String {
    fn from(url: ExportUrl) -> Self {
        url.0
    }
}

impl JsonSchema for ExportUrl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ExportUrl".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^https?://.+",
            "examples": ["http://collector:4318"],
        })
    }
}

impl FromStr for PortConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address = text.parse();
        address.map(|address| Self(Some(address))).map_err(|_| {
            format!(
                "\"{text}\" is neither an address with a port, like \"127.0.0.1:4318\", nor \"off\""
            )
        })
    }
}

impl TryFrom<String> for PortConfig {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortConfig> for String {
    fn from(port: PortConfig) -> Self {
        port.0
            .map_or_else(|| "off".to_owned(), |address| address.to_string())
    }
}

impl JsonSchema for PortConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortConfig".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(off|.+:[0-9]{1,5})$",
            "examples": ["127.0.0.1:4318", "off"],
        })
    }
}
