//! What a service says about calls: its own of others, and those of others.

use atoll_base::ServiceName;
use atoll_proxy::Denials;

use super::super::finding::Report;
use super::super::load::Step;
use super::super::structure::{listed, nearest};
use super::{BAD_ROUTE, Member, NO_SUCH_SERVICE, WRONG_VALUE};

/// Checks `resilience`, `dependency`, `deny`, and the services that routes name.
pub(super) fn member(member: &Member, members: &[Member], unread: &[String], report: &mut Report) {
    let file = &member.file;
    for bad in file.resilience.check("resilience") {
        let place = steps(&bad.key);
        report.push(member.finding(WRONG_VALUE, &place, bad.to_string(), remedy()));
    }
    for (name, config) in &file.dependency {
        let table = [Step::Key("dependency"), Step::Key(name.as_str())];
        if !file.needs.contains(name) {
            let message = format!("`{name}` is not in `needs`");
            let help = "add it to `needs`, or take the table out".to_owned();
            report.push(member.finding(NO_SUCH_SERVICE, &table, message, help));
        }
        for bad in config.check(&format!("dependency.{name}")) {
            report.push(member.finding(WRONG_VALUE, &table, bad.to_string(), remedy()));
        }
    }
    if let Err(errors) = Denials::build(&file.name, &file.deny) {
        for error in errors {
            let help = "a path is `/orders`, `/orders/{id}` or `/catalog/**`".to_owned();
            let place = [Step::Key("deny")];
            report.push(member.finding(BAD_ROUTE, &place, error.to_string(), help));
        }
    }
    for (index, rule) in file.deny.iter().enumerate() {
        for name in &rule.from {
            let place = [Step::Key("deny"), Step::Index(index), Step::Key("from")];
            exists(member, name, &place, members, unread, report);
        }
    }
    for (index, route) in file.route.iter().enumerate() {
        for backend in &route.backends {
            let place = [
                Step::Key("route"),
                Step::Index(index),
                Step::Key("backends"),
            ];
            exists(member, &backend.service, &place, members, unread, report);
        }
        if let Some(mirror) = &route.mirror {
            let place = [Step::Key("route"), Step::Index(index), Step::Key("mirror")];
            exists(member, &mirror.service, &place, members, unread, report);
        }
    }
}

fn exists(
    member: &Member,
    name: &ServiceName,
    place: &[Step<'_>],
    members: &[Member],
    unread: &[String],
    report: &mut Report,
) {
    let known = || {
        let read = members.iter().map(|member| member.file.name.as_str());
        read.chain(unread.iter().map(String::as_str))
    };
    if known().any(|known| known == name.as_str()) {
        return;
    }
    let help = match nearest(name.as_str(), known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the services are {}", listed(known())),
    };
    let message = format!("there is no service called `{name}`");
    report.push(member.finding(NO_SUCH_SERVICE, place, message, help));
}

/// `resilience.breaker.calls`, as steps.
fn steps(key: &str) -> Vec<Step<'_>> {
    key.split('.').map(Step::Key).collect()
}

fn remedy() -> String {
    "leave it out to have the default; `atoll schema` tells each".to_owned()
}
