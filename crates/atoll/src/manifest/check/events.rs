//! Topics: their names, how they are kept, and that somebody publishes what is read.

use atoll_base::Code;
use atoll_broker::catalog;

use super::super::finding::Report;
use super::super::load::{Document, Step};
use super::super::structure::{listed, nearest};
use super::super::{ApplicationFile, DatabaseKind};
use super::{Member, WRONG_VALUE, found};

const NO_SUCH_TOPIC: Code = Code("ATL0113");

/// Checks `[events]` and `[topics]`, and what services publish and read.
pub(super) fn application(
    document: &Document,
    file: &ApplicationFile,
    members: &[Member],
    report: &mut Report,
) {
    let mut wrong = |path: &[Step<'_>], message: String, help: &str| {
        let place = document.place(path);
        report.push(found(WRONG_VALUE, place, message, "here", help.to_owned()));
    };
    if let Some(Err(error)) = file.events.as_ref().map(|events| events.addr()) {
        let place = [Step::Key("events"), Step::Key("listen")];
        wrong(&place, error.to_string(), "for example \"127.0.0.1:9092\"");
    }
    if let Some(Err(error)) = file.events.as_ref().map(|events| events.advertised()) {
        let place = [Step::Key("events"), Step::Key("advertise")];
        wrong(
            &place,
            error.to_string(),
            "for example \"kafka.example.com:9092\"",
        );
    }
    for (key, mistake) in file.events.iter().flat_map(|events| events.mistakes()) {
        let place = [Step::Key("events"), Step::Key(key)];
        let message = format!("`[events]`: {mistake}");
        wrong(&place, message, "see docs/events.md");
    }
    for (name, config) in &file.topics {
        let place = [Step::Key("topics"), Step::Key(name)];
        let sound = catalog::check_name(name).and_then(|()| catalog::check(config));
        if let Err(error) = sound {
            wrong(&place, error.to_string(), "see docs/events.md");
        }
    }
    for member in members {
        service(file, members, member, report);
    }
}

/// What a subscription says beside its topic.
fn subscriptions(member: &Member, report: &mut Report) {
    let all = &member.file.subscribe;
    for (index, own) in all.iter().enumerate() {
        let at = |key| [Step::Key("subscribe"), Step::Index(index), Step::Key(key)];
        for (key, reason) in own.mistakes() {
            let message = format!("the subscription to `{}`: {reason}", own.topic);
            let help = "see docs/events.md".to_owned();
            report.push(member.finding(WRONG_VALUE, &at(key), message, help));
        }
        if all.iter().take(index).any(|other| other.topic == own.topic) {
            let message = format!("there are two subscriptions to `{}`", own.topic);
            let help =
                "a service has one for each topic; let its handler share the work".to_owned();
            report.push(member.finding(WRONG_VALUE, &at("topic"), message, help));
        }
        let published = member.file.publish.iter().flat_map(|own| &own.topics);
        if let Some(output) = &own.output
            && !published.clone().any(|topic| topic == output)
        {
            let message = format!("the answers go to `{output}`, which it does not publish to");
            let help = format!("add it: `[publish] topics = [\"{output}\"]`");
            report.push(member.finding(WRONG_VALUE, &at("output"), message, help));
        }
        if own.path.is_some() {
            let dead = atoll_events::push::dead_topic(&member.file.name, &own.topic);
            if let Err(error) = catalog::check_name(&dead) {
                let message = format!("the topic of its dead letters cannot be made: {error}");
                let help = "take a shorter name for the topic".to_owned();
                report.push(member.finding(WRONG_VALUE, &at("topic"), message, help));
            }
        }
    }
}

/// An outbox is a table of a database that Atoll knows, and its rows go where the service publishes.
fn outbox(member: &Member, report: &mut Report) {
    let Some(outbox) = &member.file.outbox else {
        return;
    };
    for (key, reason) in outbox.mistakes() {
        let place = [Step::Key("outbox"), Step::Key(key)];
        let message = format!("`{key}` of the outbox: {reason}");
        let help = "see docs/events-outbox.md".to_owned();
        report.push(member.finding(WRONG_VALUE, &place, message, help));
    }
    let place = [Step::Key("outbox")];
    let kind = member.file.database.as_ref().map(|own| own.kind);
    if !matches!(kind, Some(DatabaseKind::Sqlite | DatabaseKind::Postgres)) {
        let message =
            "an outbox is a table, and the service has no database with tables".to_owned();
        let help = "add `[database] kind = \"sqlite\"`, or \"postgres\"".to_owned();
        report.push(member.finding(WRONG_VALUE, &place, message, help));
    }
    if member.file.publish.iter().all(|own| own.topics.is_empty()) {
        let message =
            "the service publishes to no topic, so its outbox has nowhere to go".to_owned();
        let help = "add `[publish] topics = [\"…\"]`".to_owned();
        report.push(member.finding(WRONG_VALUE, &place, message, help));
    }
}

fn service(file: &ApplicationFile, members: &[Member], member: &Member, report: &mut Report) {
    subscriptions(member, report);
    outbox(member, report);
    let publishes = member.file.publish.iter().flat_map(|own| &own.topics);
    let publishes = publishes.enumerate().map(|(index, topic)| {
        let place = vec![
            Step::Key("publish"),
            Step::Key("topics"),
            Step::Index(index),
        ];
        (place, topic, false)
    });
    let reads = member
        .file
        .subscribe
        .iter()
        .enumerate()
        .map(|(index, own)| {
            let place = vec![
                Step::Key("subscribe"),
                Step::Index(index),
                Step::Key("topic"),
            ];
            (place, &own.topic, true)
        });
    for (place, topic, must_exist) in publishes.chain(reads) {
        if topic.starts_with("dead.") && !must_exist {
            let message = format!("`{topic}`: topics that begin with `dead.` are for dead letters");
            let help = "take another name".to_owned();
            report.push(member.finding(WRONG_VALUE, &place, message, help));
        } else if file.events.is_none() {
            let message = format!("`{topic}` is a topic, and this application has none");
            let help = "add `[events]` to atoll.toml".to_owned();
            report.push(member.finding(WRONG_VALUE, &place, message, help));
        } else if let Err(error) = catalog::check_name(topic) {
            let help = "for example \"orders.placed\"".to_owned();
            report.push(member.finding(WRONG_VALUE, &place, error.to_string(), help));
        } else if must_exist && !known(file, members).any(|known| known == topic) {
            let help = match nearest(topic, known(file, members)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "the topics are {}; if it is filled from outside, add `[topics.\"{topic}\"]` to atoll.toml",
                    listed(known(file, members))
                ),
            };
            let message = format!("nobody publishes to `{topic}`");
            report.push(member.finding(NO_SUCH_TOPIC, &place, message, help));
        }
    }
}

/// The topics that services or alerts are published to, or that are set up.
fn known<'a>(
    file: &'a ApplicationFile,
    members: &'a [Member],
) -> impl Iterator<Item = &'a str> + 'a {
    let published = members.iter().filter_map(|own| own.file.publish.as_ref());
    let published = published.flat_map(|own| &own.topics);
    let told = file.alerts.topic.iter();
    published
        .chain(file.topics.keys())
        .chain(told)
        .map(String::as_str)
}
