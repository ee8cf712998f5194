//! Events by the letter of CloudEvents 1.0, in every form in which they cross the network.
//!
//! An [`Event`] comes from HTTP (attributes in headers, one JSON object, or a batch of them) or from a
//! record of Kafka, and goes back to either. What is decoded is held against the rules of the
//! specification, and a refusal says what to do. Any record makes an event, whoever has written it
//! ([`Event::of_record`]): a service that gets pushes never has to know who publishes.
//!
//! Data are bytes, and are never parsed and printed again: `1.10` stays `1.10`. Refused: the formats
//! Avro and Protobuf, which nobody sends over HTTP without asking first.

mod http;
mod json;
mod kafka;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

pub use self::http::{Content, Message, decode, encode_batch};
pub use self::json::Limits;
pub(crate) use self::json::depth;
pub(crate) use self::kafka::guess;
pub(crate) use self::rules::{is_json, is_time};

/// The media type of one event as a JSON object.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// The media type of several events as a JSON array.
pub const BATCH: &str = "application/cloudevents-batch+json";

const PREFIX: &str = "application/cloudevents";

/// Something that has happened, as CloudEvents describes it.
///
/// The fields may be set freely; [`Event::check`] tells whether they follow the rules. What is decoded
/// follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Tells it from all others of its source.
    pub id: String,
    /// Where it happened: a reference to a URI, such as `/services/orders`.
    pub source: String,
    /// What happened: its `type`, such as `com.example.order.placed`.
    pub kind: String,
    /// What it happened to, within the source.
    pub subject: Option<String>,
    /// When it happened: RFC 3339, as it was written.
    pub time: Option<String>,
    /// The media type of the data.
    pub datacontenttype: Option<String>,
    /// The URI of the schema of the data.
    pub dataschema: Option<String>,
    extensions: BTreeMap<String, Value>,
    /// What is to be known about it.
    pub data: Option<Bytes>,
}

/// The value of an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A number; larger ones are sent as text.
    Integer(i32),
    /// Text; also all that the specification writes as text (binary, URIs, times).
    Text(String),
}

/// Why something is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// An attribute is not there.
    #[error("the attribute '{0}' is missing; an event has id, source, type and specversion")]
    Missing(&'static str),
    /// Not version 1.0.
    #[error("the specversion is '{0}'; send 1.0")]
    Version(String),
    /// A name that no attribute can have.
    #[error("'{0}' cannot be the name of an attribute; use a-z and 0-9 only, and not 'data'")]
    Name(String),
    /// A value that the attribute cannot have.
    #[error("the attribute '{name}' {rule}")]
    Value {
        /// The attribute.
        name: String,
        /// What it must be.
        rule: &'static str,
    },
    /// Two values for one attribute.
    #[error("the attribute '{0}' comes twice; send it once")]
    Twice(String),
    /// No JSON, or not of the form that is needed.
    #[error("the body is not {wanted}: {why}")]
    Json {
        /// What it should be.
        wanted: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// `data` and `data_base64` together.
    #[error("there are both 'data' and 'data_base64'; send one of them")]
    BothData,
    /// A batch with an event that is wrong.
    #[error("event {index} of the batch: {why}")]
    InBatch {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        why: Box<Invalid>,
    },
    /// More events than are taken at once.
    #[error(
        "there are {count} events in one request, and at most {max} are taken; send several requests"
    )]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// JSON within JSON within JSON.
    #[error("the JSON is nested deeper than {0} levels; send less depth, or the data as text")]
    TooDeep(usize),
    /// An event format that is not known.
    #[error(
        "the format '{0}' is not known; send {STRUCTURED} or {BATCH}, or the attributes as ce- headers"
    )]
    Format(String),
}

/// What decoders gather before it becomes an event.
#[derive(Debug, Default)]
struct Draft {
    attributes: BTreeMap<String, Value>,
    data: Option<Bytes>,
}

impl Event {
    /// An event with what every event has.
    pub fn new(id: impl Into<String>, source: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            source: source.into(),
            kind: kind.into(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: BTreeMap::new(),
            data: None,
        }
    }

    /// The value of an extension.
    pub fn extension(&self, name: &str) -> Option<&Value> {
        self.extensions.get(name)
    }

    /// All extensions, by name.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.extensions
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// Gives an extension a value.
    ///
    /// # Errors
    /// When the name or the value breaks the rules, or the name is that of an attribute.
    pub fn extend(&mut self, name: &str, value: impl Into<Value>) -> Result<(), Invalid> {
        let value = value.into();
        if !rules::is_name(name) || rules::ATTRIBUTES.contains(&name) {
            return Err(Invalid::Name(rules::cut(name)));
        }
        rules::check_text(name, &value)?;
        self.extensions.insert(name.to_owned(), value);
        Ok(())
    }

    /// The extension `partitionkey`: events of one key stay in order.
    pub fn partition_key(&self) -> Option<String> {
        let key = self.extensions.get("partitionkey")?.to_string();
        (!key.is_empty()).then_some(key)
    }

    /// Whether all attributes follow the rules.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Invalid> {
        let (names, values): (Vec<_>, Vec<_>) = self.attributes().unzip();
        for (name, value) in names.iter().zip(&values) {
            rules::check(name, value)?;
        }
        Ok(())
    }

    /// All attributes and extensions but `specversion` and `datacontenttype`: those are written in
    /// another place or in another way in each form.
    fn context(&self) -> impl Iterator<Item = (&str, Value)> {
        self.attributes()
            .filter(|(name, _)| *name != "datacontenttype")
    }

    fn attributes(&self) -> impl Iterator<Item = (&str, Value)> {
        let required = [
            ("id", Some(&self.id)),
            ("source", Some(&self.source)),
            ("type", Some(&self.kind)),
            ("subject", self.subject.as_ref()),
            ("time", self.time.as_ref()),
            ("datacontenttype", self.datacontenttype.as_ref()),
            ("dataschema", self.dataschema.as_ref()),
        ];
        let attributes = required
            .into_iter()
            .filter_map(|(name, value)| Some((name, Value::Text(value?.clone()))));
        let extensions = self.extensions();
        attributes.chain(extensions.map(|(name, value)| (name, value.clone())))
    }
}

impl Draft {
    fn put(&mut self, name: &str, value: Value) -> Result<(), Invalid> {
        if !rules::is_name(name) {
            return Err(Invalid::Name(rules::cut(name)));
        }
        rules::check(name, &value)?;
        match self.attributes.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(Invalid::Twice(rules::cut(name))),
        }
    }

    fn event(mut self) -> Result<Event, Invalid> {
        let version = self.required("specversion")?;
        if version != "1.0" {
            return Err(Invalid::Version(rules::cut(&version)));
        }
        Ok(Event {
            id: self.required("id")?,
            source: self.required("source")?,
            kind: self.required("type")?,
            subject: self.take("subject"),
            time: self.take("time"),
            datacontenttype: self.take("datacontenttype"),
            dataschema: self.take("dataschema"),
            extensions: self.attributes,
            data: self.data,
        })
    }

    fn required(&mut self, name: &'static str) -> Result<String, Invalid> {
        self.take(name).ok_or(Invalid::Missing(name))
    }

    /// `put` has let only text in under these names.
    fn take(&mut self, name: &str) -> Option<String> {
        self.attributes.remove(name).map(|value| value.to_string())
    }
}

/// The canonical text of a value.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Integer(number)
    }
}
