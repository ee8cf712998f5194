//! Records, as they come from a topic and go into one.
//!
//! They are Kafka's, so that a client of Kafka and a service that knows only HTTP see the same thing:
//! key, value, headers and a time. What CloudEvents says stands in the headers (`cloudevents`).

use std::sync::Arc;

use bytes::Bytes;

/// The header of a record that says when subscriptions get it, not before: RFC 3339.
pub const DELIVER_AT: &str = "atoll-deliver-at";

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: Arc<str>,
    /// Which of its partitions.
    pub partition: i32,
    /// Its number there.
    pub offset: i64,
}

/// A header of a record. One name may come several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value; Kafka knows headers that have none.
    pub value: Option<Bytes>,
}

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub place: Place,
    /// Its time, in milliseconds since 1970; -1: none.
    pub time: i64,
    /// Records of one key are in one partition, and are delivered in order.
    pub key: Option<Bytes>,
    /// What it says.
    pub value: Option<Bytes>,
    /// What is said about it.
    pub headers: Vec<Header>,
}

/// A record to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// Which of its partitions; none: that of the key, or any if there is no key.
    pub partition: Option<i32>,
    /// Its time, in milliseconds since 1970; none: now.
    pub time: Option<i64>,
    /// As in [`Record`].
    pub key: Option<Bytes>,
    /// As in [`Record`].
    pub value: Option<Bytes>,
    /// As in [`Record`].
    pub headers: Vec<Header>,
}

impl Record {
    /// The value of the last header of this name that has one.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        find(&self.headers, name)
    }

    /// The same as text; none if it is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }
}

impl Record {
    /// The same with memory of its own: what was read together is one piece of memory, and the last
    /// record that holds it keeps all of it.
    pub(crate) fn compact(mut self) -> Self {
        let own = |bytes: &mut Option<Bytes>| {
            if let Some(bytes) = bytes {
                *bytes = Bytes::copy_from_slice(bytes);
            }
        };
        own(&mut self.key);
        own(&mut self.value);
        for header in &mut self.headers {
            own(&mut header.value);
        }
        self
    }
}

impl NewRecord {
    /// A record with nothing but a topic.
    pub fn new(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            time: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    /// The value of the last header of this name that has one.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        find(&self.headers, name)
    }
}

impl Header {
    /// A header with text.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: Some(Bytes::from(value.into())),
        }
    }
}

fn find<'a>(headers: &'a [Header], name: &str) -> Option<&'a Bytes> {
    let mut from_last = headers.iter().rev().filter(|header| header.name == name);
    from_last.find_map(|header| header.value.as_ref())
}
