//! Who may come: `[auth.NAME]` of the application, and the routes that use it.

use atoll_base::Code;
use atoll_proxy::auth::{Access, KeySource};

use super::super::ApplicationFile;
use super::super::finding::Report;
use super::super::load::{Document, Step};
use super::super::structure::{listed, nearest};
use super::{Member, NO_SUCH_SERVICE, WRONG_VALUE, found};

const BAD_ACCESS: Code = WRONG_VALUE;

/// Checks each `[auth.NAME]`, and each route that names one.
pub(super) fn application(
    document: &Document,
    file: &ApplicationFile,
    members: &[Member],
    unread: &[String],
    report: &mut Report,
) {
    for (name, config) in &file.auth {
        let place = [Step::Key("auth"), Step::Key(name)];
        let mut wrong = |code, message: String, help: String| {
            report.push(found(code, document.place(&place), message, "here", help));
        };
        let remedy = || "docs/auth.md has examples of each kind".to_owned();
        if let Err(error) = config.check(name) {
            wrong(BAD_ACCESS, error.to_string(), remedy());
        }
        let known = || {
            let read = members.iter().map(|member| member.file.name.as_str());
            read.chain(unread.iter().map(String::as_str))
        };
        let asked = match config.key_source() {
            Some(KeySource::Url(url)) => service_of(url),
            _ => config.url.as_deref().and_then(service_of),
        };
        if let Some(service) = asked
            && !known().any(|known| known == service)
        {
            let help = match nearest(&service, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the services are {}", listed(known())),
            };
            let message = format!("there is no service called `{service}`");
            wrong(NO_SUCH_SERVICE, message, help);
        }
    }
    let kinds = || {
        file.auth
            .iter()
            .map(|(name, config)| (name.as_str(), config.kind))
    };
    for member in members {
        for (index, route) in member.file.route.iter().enumerate() {
            if let Err(error) = Access::compile(&route.access(), kinds()) {
                let place = [Step::Key("route"), Step::Index(index)];
                let help =
                    "`[auth.NAME]` of atoll.toml says how it is found out who asks".to_owned();
                report.push(member.finding(BAD_ACCESS, &place, error.to_string(), help));
            }
        }
    }
}

/// The service that an http URL means: its host, if that has neither dot nor port.
pub fn service_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://")?;
    let host = rest.split(['/', '?']).next().unwrap_or(rest);
    let is_service = !host.contains(['.', ':']) && host != "localhost";
    is_service.then(|| host.to_owned())
}
