//! Who sent it: from the attributes of a resource to a service, an instance and a revision.

use atoll_base::id::SERVICE_NAME_LENGTH_MAX;
use atoll_base::{RevisionNumber, ServiceName};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::attributes::{Members, bounded};
use super::decode::Sender;
use super::notes::Notes;

/// An instance's name takes at most this many bytes.
const INSTANCE_BYTES_MAX: usize = 128;

/// Atoll speaks by this name; nobody else does.
const OWN_NAME: &str = "atoll";

/// What all items of one resource have in common.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) service: ServiceName,
    pub(super) instance: String,
    pub(super) revision: RevisionNumber,
    /// Everything else that the resource tells, as members of the items' attributes.
    pub(super) members: Members,
}

impl Origin {
    pub(super) fn read(resource: Option<&Resource>, sender: &Sender, notes: &mut Notes) -> Self {
        let list = resource.map_or(&[][..], |resource| &resource.attributes);
        let claimed = text_of(list, "service.name").unwrap_or_default();
        let service = sender.service.clone();
        let service = service.unwrap_or_else(|| service_name(claimed));
        let instance = text_of(list, "service.instance.id").unwrap_or_default();
        let (revision, is_told) = revision(list);
        let mut members = Members::default();
        for pair in list {
            let known = match pair.key.as_str() {
                "service.name" => claimed == service.as_str(),
                "service.instance.id" => true,
                "service.version" | "atoll.revision" => is_told,
                // The same for everything that a program sends; it tells nothing of what happened.
                key => key.starts_with("telemetry.sdk."),
            };
            if !known {
                members.extend("resource.", std::slice::from_ref(pair), notes);
            }
        }
        Self {
            service,
            instance: bounded(instance, INSTANCE_BYTES_MAX, notes),
            revision,
            members,
        }
    }

    /// The members that items of this scope have in common.
    pub(super) fn scope(&self, scope: Option<&InstrumentationScope>, notes: &mut Notes) -> Members {
        let mut members = self.members.fork(0);
        let Some(scope) = scope else {
            return members;
        };
        // The names by which OpenTelemetry writes a scope where there is no place for one.
        for (key, value) in [
            ("otel.scope.name", &scope.name),
            ("otel.scope.version", &scope.version),
        ] {
            if !value.is_empty() {
                members.text(key, value, notes);
            }
        }
        members.extend("otel.scope.", &scope.attributes, notes);
        members
    }
}

/// `text` in the form of a service's name: lower case, `-` for what it may not have. A text of which
/// nothing is left is `unknown-service`; nobody is called as Atoll is.
pub fn service_name(text: &str) -> ServiceName {
    let mut name: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| {
            let fits = c.is_ascii_lowercase() || c.is_ascii_digit();
            if fits { c } else { '-' }
        })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert_str(0, "s-");
    }
    let name = name.trim_start_matches('-');
    // All of it is ASCII, so every place is one to cut at.
    let name = &name[..name.len().min(SERVICE_NAME_LENGTH_MAX)];
    match name.trim_end_matches('-') {
        "" => unknown(),
        OWN_NAME => ServiceName::new("not-atoll").expect("a valid name"),
        name => {
            let name = if name.starts_with(|c: char| c.is_ascii_digit()) {
                format!("s-{}", &name[..name.len().min(SERVICE_NAME_LENGTH_MAX - 2)])
            } else {
                name.to_owned()
            };
            ServiceName::new(name.trim_end_matches('-')).unwrap_or_else(|_| unknown())
        }
    }
}

fn unknown() -> ServiceName {
    ServiceName::new("unknown-service").expect("a valid name")
}

/// The revision, and whether one is told: as a number, or in the form `r3`.
fn revision(list: &[KeyValue]) -> (RevisionNumber, bool) {
    let number = value_of(list, "atoll.revision").and_then(|value| match value {
        Value::IntValue(number) => u32::try_from(*number).ok(),
        Value::StringValue(text) => text.trim_start_matches('r').parse().ok(),
        _ => None,
    });
    let version = || {
        text_of(list, "service.version")?
            .strip_prefix('r')?
            .parse()
            .ok()
    };
    match number.or_else(version) {
        Some(number) => (RevisionNumber(number), true),
        None => (RevisionNumber(0), false),
    }
}

pub(super) fn value_of<'a>(list: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let pair = list.iter().find(|pair| pair.key == key)?;
    pair.value.as_ref()?.value.as_ref()
}

fn text_of<'a>(list: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match value_of(list, key)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_brought_into_its_form() {
        for (text, name) in [
            ("orders", "orders"),
            ("Order History", "order-history"),
            ("unknown_service:python", "unknown-service-python"),
            ("", "unknown-service"),
            ("___", "unknown-service"),
            ("1a", "s-1a"),
            ("_1a", "s-1a"),
            ("atoll", "not-atoll"),
            ("Atoll_", "not-atoll"),
        ] {
            assert_eq!(service_name(text).as_str(), name, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_gives_a_name_other_than_ours(text in ".{0,60}|[0-9_-]{0,60}") {
            let name = service_name(&text);
            prop_assert_ne!(name.as_str(), OWN_NAME);
        }
    }
}
