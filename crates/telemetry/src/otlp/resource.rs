//! Who sent it: from the attributes of a resource to a service, an instance and a revision.

use atoll_base::id::SERVICE_NAME_LENGTH_MAX;
use atoll_base::{RevisionNumber, ServiceName};

use super::attributes::{Members, Shared, bounded, text};
use super::decode::Sender;
use super::message::{AnyValue, InstrumentationScope, KeyValue, Resource};
use super::notes::Notes;
use super::wire::Malformed;

/// An instance's name takes at most this many bytes.
const INSTANCE_BYTES_MAX: usize = 128;

/// Atoll speaks by this name; nobody else does.
const OWN_NAME: &str = "atoll";

/// Who sent the items of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) service: ServiceName,
    pub(super) instance: String,
    pub(super) revision: RevisionNumber,
}

impl Origin {
    /// Who sent it; and what else is told of them, which all their items have.
    pub(super) fn read(
        resource: &Resource<'_>,
        sender: &Sender,
        out: &mut String,
        notes: &mut Notes,
    ) -> Result<(Self, Shared), Malformed> {
        let told = Told::read(resource)?;
        let service = match &sender.service {
            Some(known) => known.clone(),
            None => service_name(&text(told.service, notes)),
        };
        let others = |pair: &KeyValue<'_>| match pair.key {
            b"service.name" => told.service != service.as_str().as_bytes(),
            b"service.instance.id" => false,
            b"service.version" | b"atoll.revision" => told.revision.is_none(),
            // The same for everything that a program sends; it tells nothing of what happened.
            key => !key.starts_with(b"telemetry.sdk."),
        };
        let mut members = Members::begin(out, &Shared::default());
        members.extend("resource.", resource.attributes, notes, others)?;
        let shared = members.share();
        let instance = bounded(told.instance, INSTANCE_BYTES_MAX, out, notes);
        let origin = Self {
            service,
            instance: out[instance].to_owned(),
            revision: told.revision.unwrap_or(RevisionNumber(0)),
        };
        Ok((origin, shared))
    }
}

/// What the items of this scope have in common, beside what those of the resource have.
pub(super) fn scope(
    scope: &InstrumentationScope<'_>,
    shared: &Shared,
    out: &mut String,
    notes: &mut Notes,
) -> Result<Shared, Malformed> {
    let mut members = Members::begin(out, shared);
    // The names by which OpenTelemetry writes a scope where there is no place for one.
    members.text("otel.scope.name", scope.name, notes);
    members.text("otel.scope.version", scope.version, notes);
    members.extend("otel.scope.", scope.attributes, notes, |_| true)?;
    Ok(members.share())
}

/// What a resource tells of its service.
#[derive(Default)]
struct Told<'a> {
    service: &'a [u8],
    instance: &'a [u8],
    /// As a number, or in the form `r3`.
    revision: Option<RevisionNumber>,
}

impl<'a> Told<'a> {
    /// The first of each key counts.
    fn read(resource: &Resource<'a>) -> Result<Self, Malformed> {
        let (mut service, mut instance, mut version, mut revision) = (None, None, None, None);
        for pair in resource.attributes.iter() {
            let KeyValue { key, value } = pair?;
            let place = match key {
                b"service.name" => &mut service,
                b"service.instance.id" => &mut instance,
                b"service.version" => &mut version,
                b"atoll.revision" => &mut revision,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
        let revision = match revision {
            Some(AnyValue::Int(number)) => u32::try_from(number).ok(),
            Some(AnyValue::Text(text)) => number(text.strip_prefix(b"r").unwrap_or(text)),
            _ => None,
        };
        let version = || number(text_of(version)?.strip_prefix(b"r")?);
        Ok(Self {
            service: text_of(service).unwrap_or_default(),
            instance: text_of(instance).unwrap_or_default(),
            revision: revision.or_else(version).map(RevisionNumber),
        })
    }
}

fn text_of(value: Option<AnyValue<'_>>) -> Option<&[u8]> {
    match value? {
        AnyValue::Text(text) => Some(text),
        _ => None,
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
