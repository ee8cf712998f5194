//! Schemas of topics: that they are some, and that who reads gets what it relies on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atoll_base::Code;
use atoll_events::registry::Written;
use atoll_events::schema::{Schema, breaks};

use super::super::finding::{Place, Report};
use super::super::load::{Document, Step};
use super::super::{Application, Named};
use super::{Member, WRONG_VALUE, found};
use crate::manifest::ApplicationFile;

const BREAKS: Code = Code("ATL0114");

/// Checks all schemas of the application in `dir`.
pub(super) fn application(
    (document, file, named): (&Document, &ApplicationFile, &Named),
    members: &[Member],
    report: &mut Report,
) {
    let mut written = BTreeMap::new();
    for (topic, config) in &file.topics {
        let Some(name) = &config.schema else { continue };
        let path = [Step::Key("topics"), Step::Key(topic), Step::Key("schema")];
        let place = document.place(&path);
        if let Some(schema) = sound(named, name, &place, report) {
            written.insert(topic.as_str(), (schema, name));
        }
    }
    for member in members {
        let Some(publish) = &member.file.publish else {
            continue;
        };
        for (topic, name) in &publish.schemas {
            let path = [Step::Key("publish"), Step::Key("schemas"), Step::Key(topic)];
            if !publish.topics.contains(topic) {
                let message = format!("a schema for `{topic}`, which it does not publish to");
                let help = "add the topic to `topics`, or take the schema away".to_owned();
                report.push(member.finding(WRONG_VALUE, &path, message, help));
            }
            let place = member.document.place(&path);
            let Some(schema) = sound(&member.named, name, &place, report) else {
                continue;
            };
            let before = written.insert(topic, (Arc::clone(&schema), name));
            if before.is_some_and(|(before, _)| before.text != schema.text) {
                let message = format!("`{topic}` has another schema already");
                let help = "let one service, or atoll.toml, say what the topic takes".to_owned();
                report.push(member.finding(WRONG_VALUE, &path, message, help));
            }
        }
    }
    for member in members {
        readers(member, &written, report);
    }
}

struct Read {
    schema: Schema,
    text: String,
}

fn readers(member: &Member, written: &BTreeMap<&str, (Arc<Read>, &String)>, report: &mut Report) {
    for (index, own) in member.file.subscribe.iter().enumerate() {
        let Some(name) = &own.schema else { continue };
        let path = [
            Step::Key("subscribe"),
            Step::Index(index),
            Step::Key("schema"),
        ];
        let place = member.document.place(&path);
        let Some(read) = sound(&member.named, name, &place, report) else {
            continue;
        };
        let topic = &own.topic;
        let Some((schema, file)) = written.get(topic.as_str()) else {
            let message = format!("it relies on a schema of `{topic}`, which has none");
            let help = "let the publisher say what it writes: `[publish.schemas]`".to_owned();
            report.push(member.finding(WRONG_VALUE, &path, message, help));
            continue;
        };
        let broken = breaks(&schema.schema, &read.schema);
        if broken.is_empty() {
            continue;
        }
        let lines = broken
            .iter()
            .map(|own| format!("{}: {}", own.pointer, own.reason));
        let lines = lines.collect::<Vec<_>>().join("; ");
        let message = format!(
            "what {file} lets be written to `{topic}` breaks {}: {lines}",
            member.file.name
        );
        let help =
            "let the publisher keep what is relied on, or change this schema and its code first";
        report.push(member.finding(BREAKS, &path, message, help.to_owned()));
    }
}

/// A schema that can be used; otherwise it is told why not.
fn sound(named: &Named, name: &str, place: &Place, report: &mut Report) -> Option<Arc<Read>> {
    let mut wrong = |message: String| {
        let help = "a JSON Schema in a file, its path relative to this one".to_owned();
        report.push(found(WRONG_VALUE, place.clone(), message, "here", help));
    };
    let text = match named.get(name)? {
        Ok(text) => text.clone(),
        Err(error) => {
            wrong(format!("the schema {name} cannot be read: {error}"));
            return None;
        }
    };
    match Schema::parse(&text, name) {
        Ok(schema) => Some(Arc::new(Read { schema, text })),
        Err(error) => {
            wrong(error.to_string());
            None
        }
    }
}

/// The schemas of a sound application, by topic, and the topics with readers that say nothing of what
/// they rely on.
pub fn of(application: &Application) -> (BTreeMap<String, Written>, BTreeSet<String>) {
    let own = application.file.topics.iter();
    let own = own
        .filter_map(|(topic, config)| Some((topic, &application.named, config.schema.as_ref()?)));
    let services = application.services.values();
    let of_services = services.flat_map(|service| {
        let publish = service.file.publish.iter();
        let schemas = publish.flat_map(|publish| &publish.schemas);
        schemas.map(|(topic, name)| (topic, &service.named, name))
    });
    let mut written = BTreeMap::new();
    for (topic, named, name) in own.chain(of_services) {
        let Some(Ok(text)) = named.get(name) else {
            continue;
        };
        if let Ok(schema) = Schema::parse(text, name) {
            let (file, text) = (name.clone(), text.clone());
            let schema = Arc::new(schema);
            written.insert(topic.clone(), Written { schema, text, file });
        }
    }
    let subscriptions = application
        .services
        .values()
        .flat_map(|service| &service.file.subscribe);
    let silent = subscriptions.filter(|own| own.schema.is_none());
    (written, silent.map(|own| own.topic.clone()).collect())
}
