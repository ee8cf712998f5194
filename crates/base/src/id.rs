//! Names and ids that cross the walls between subsystems.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest service name: it becomes part of host names (RFC 1035 labels), of cgroup names and
/// of PostgreSQL role names (63 bytes), with room for a prefix.
pub const SERVICE_NAME_LENGTH_MAX: usize = 40;

/// Why a text is no service name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a service name is 1 to {SERVICE_NAME_LENGTH_MAX} of a-z, 0-9 and '-', and starts with a letter and ends with a letter or digit"
)]
pub struct BadServiceName;

/// The name of a service: lowercase letters, digits and hyphens, as in a host name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks and takes a name.
    pub fn new(text: &str) -> Result<Self, BadServiceName> {
        let bytes = text.as_bytes();
        let inside = bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        let edges = bytes.first().is_some_and(u8::is_ascii_lowercase) && !text.ends_with('-');
        if inside && edges && bytes.len() <= SERVICE_NAME_LENGTH_MAX {
            Ok(Self(text.into()))
        } else {
            Err(BadServiceName)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the beginning of an environment variable: `order-history` is `ORDER_HISTORY`.
    pub fn env_prefix(&self) -> String {
        self.0.to_ascii_uppercase().replace('-', "_")
    }
}

impl FromStr for ServiceName {
    type Err = BadServiceName;

    fn from_str(text: &str) -> Result<Self, BadServiceName> {
        Self::new(text)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = BadServiceName;

    fn try_from(text: String) -> Result<Self, BadServiceName> {
        Self::new(&text)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl schemars::JsonSchema for ServiceName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServiceName".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "service-name",
            "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$",
            "maxLength": SERVICE_NAME_LENGTH_MAX,
        })
    }
}

/// The number of a revision of one service: 1, 2, 3, …
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionNumber(pub u32);

impl fmt::Display for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Debug for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One running copy of a revision. Written `orders-r2-1`: service, revision, ordinal. The ordinal
/// grows for as long as the node runs and is never used twice, so an id names one instance for
/// good. A restart after a crash keeps the id; a rollout makes new ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<InstanceParts>);

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct InstanceParts {
    service: ServiceName,
    revision: RevisionNumber,
    ordinal: u32,
    text: String,
}

impl InstanceId {
    /// Names an instance.
    pub fn new(service: ServiceName, revision: RevisionNumber, ordinal: u32) -> Self {
        let text = format!("{service}-{revision}-{ordinal}");
        Self(Arc::new(InstanceParts {
            service,
            revision,
            ordinal,
            text,
        }))
    }

    /// The service it is a copy of.
    pub fn service(&self) -> &ServiceName {
        &self.0.service
    }

    /// The revision it is a copy of.
    pub fn revision(&self) -> RevisionNumber {
        self.0.revision
    }

    /// The last part of the id.
    pub fn ordinal(&self) -> u32 {
        self.0.ordinal
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.text)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.text)
    }
}

impl Serialize for InstanceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.text)
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $number:ty, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($number);

        impl $name {
            /// Takes a number; zero is no id.
            pub const fn new(value: $number) -> Option<Self> {
                if value == 0 { None } else { Some(Self(value)) }
            }

            /// The number behind it; never zero.
            pub const fn get(self) -> $number {
                self.0
            }

            /// Reads exactly the lowercase hexadecimal digits of W3C Trace Context.
            pub fn parse(text: &[u8]) -> Option<Self> {
                if text.len() != $bytes * 2 {
                    return None;
                }
                let mut value: $number = 0;
                for byte in text {
                    let digit = match byte {
                        b'0'..=b'9' => byte - b'0',
                        b'a'..=b'f' => byte - b'a' + 10,
                        _ => return None,
                    };
                    value = (value << 4) | <$number>::from(digit);
                }
                Self::new(value)
            }

            /// The lowercase hexadecimal digits, without allocation.
            pub fn to_hex(self) -> [u8; $bytes * 2] {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let mut out = [0; $bytes * 2];
                let mut rest = self.0;
                for slot in out.iter_mut().rev() {
                    *slot = DIGITS[(rest & 15) as usize];
                    rest >>= 4;
                }
                out
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:0width$x}", self.0, width = $bytes * 2)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(text.as_bytes())
                    .ok_or_else(|| serde::de::Error::custom(concat!("not a ", stringify!($name))))
            }
        }
    };
}

hex_id!(
    /// A trace: everything that one request from outside caused (W3C Trace Context, `trace-id`).
    TraceId, u128, 16
);
hex_id!(
    /// One hop or piece of work within a trace (W3C Trace Context, `parent-id`).
    SpanId, u64, 8
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "orders", "order-history", "a1"] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(SERVICE_NAME_LENGTH_MAX + 1);
        for bad in [
            "",
            "1a",
            "-a",
            "a-",
            "Orders",
            "a_b",
            "a.b",
            "ä",
            long.as_str(),
        ] {
            assert!(ServiceName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn trace_ids_are_read_and_written_as_w3c_says() {
        let text = "4bf92f3577b34da6a3ce929d0e0e4736";
        let id = TraceId::parse(text.as_bytes()).unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.to_hex(), text.as_bytes());
        assert_eq!(TraceId::parse(&[b'0'; 32]), None, "all zero is invalid");
        assert_eq!(
            TraceId::parse(b"4BF92F3577B34DA6A3CE929D0E0E4736"),
            None,
            "uppercase is invalid"
        );
    }
}
