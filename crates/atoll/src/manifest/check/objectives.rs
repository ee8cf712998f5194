//! What services promise, and who is told when they do not keep it.

use atoll_broker::catalog;

use super::super::ApplicationFile;
use super::super::finding::Report;
use super::super::load::{Document, Step};
use super::{Member, WRONG_VALUE, found};

/// Checks `[objective]`.
pub(super) fn member(member: &Member, report: &mut Report) {
    let objective = member.file.objective.iter();
    for (key, mistake, help) in objective.flat_map(|own| own.mistakes()) {
        let place = [Step::Key("objective"), Step::Key(key)];
        let message = format!("`[objective]`: {mistake}");
        report.push(member.finding(WRONG_VALUE, &place, message, help.to_owned()));
    }
}

/// Checks `[alerts]`.
pub(super) fn application(document: &Document, file: &ApplicationFile, report: &mut Report) {
    let mut wrong = |key: &str, message: String, help: &str| {
        let place = document.place(&[Step::Key("alerts"), Step::Key(key)]);
        let message = format!("`[alerts]`: {message}");
        report.push(found(WRONG_VALUE, place, message, "here", help.to_owned()));
    };
    for (key, mistake, help) in file.alerts.mistakes() {
        wrong(key, mistake, help);
    }
    let Some(topic) = &file.alerts.topic else {
        return;
    };
    if let Err(error) = catalog::check_name(topic) {
        wrong("topic", error.to_string(), "for example \"alerts\"");
    } else if file.events.is_none() {
        let message = format!("`{topic}` is a topic, and this application has none");
        wrong("topic", message, "add `[events]` to atoll.toml");
    }
}
