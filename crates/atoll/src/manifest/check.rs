//! What only the whole application shows: names that do not exist, cycles, ambiguous routes.

pub(super) mod auth;
mod events;
mod mesh;
mod objectives;
pub mod schemas;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use atoll_base::{Code, ServiceName};
use atoll_proxy::config::RouteConfig;
use atoll_proxy::route;

use super::finding::{Finding, Place, Report};
use super::load::{Document, Step};
use super::structure::{listed, nearest};
use super::{ApplicationFile, Named, ServiceFile};

const DUPLICATE_NAME: Code = Code("ATL0106");
const RESERVED: Code = Code("ATL0107");
const NO_SUCH_SERVICE: Code = Code("ATL0108");
const CYCLE: Code = Code("ATL0109");
const BAD_ROUTE: Code = Code("ATL0110");
const AMBIGUOUS_ROUTES: Code = Code("ATL0111");
const WRONG_VALUE: Code = Code("ATL0104");

/// Variables that Atoll sets itself, beside all that begin with `ATOLL_`. A program that listened on
/// another port or wrote to another database than its own would be found out late. Those that begin
/// with `OTEL_` may be set: whoever has a collector of their own knows better.
const OWN_VARIABLES: &[&str] = &["HOST", "PORT", "DATABASE_URL", "DATA_DIR", "REDIS_PREFIX"];

/// A service's folder and file, read and sound by itself.
pub(super) struct Member {
    pub(super) dir: PathBuf,
    pub(super) document: Document,
    pub(super) file: ServiceFile,
    pub(super) named: Named,
}

impl Member {
    fn finding(&self, code: Code, path: &[Step<'_>], message: String, help: String) -> Finding {
        found(code, self.document.place(path), message, "here", help)
    }
}

/// Checks everything that concerns more than one key. `unread` are the names of services whose own
/// files have mistakes: they exist, but nothing else is known of them.
pub(super) fn application(
    (document, file, named): (&Document, &ApplicationFile, &Named),
    members: &[Member],
    unread: &[String],
    report: &mut Report,
) {
    if file.mesh.port != 0 && file.edge.listen.port() == file.mesh.port {
        report.push(found(
            WRONG_VALUE,
            document.place(&[Step::Key("edge"), Step::Key("listen")]),
            format!(
                "the edge and the mesh cannot both have port {}",
                file.mesh.port
            ),
            "the same port",
            "give one of `[edge] listen` and `[mesh] port` another one".to_owned(),
        ));
    }
    for (key, mistake) in file.console.mistakes() {
        report.push(found(
            WRONG_VALUE,
            document.place(&[Step::Key("console"), Step::Key(key)]),
            format!("`[console] {key}`: {mistake}"),
            "here",
            "see docs/console.md".to_owned(),
        ));
    }
    let telemetry = &file.telemetry;
    for (key, mistake, help) in telemetry.mistakes() {
        report.push(found(
            WRONG_VALUE,
            document.place(&[Step::Key("telemetry"), Step::Key(key)]),
            format!("`[telemetry]`: {mistake}"),
            "here",
            help.to_owned(),
        ));
    }
    if let Some(own) = telemetry.sends_to_own() {
        report.push(found(
            WRONG_VALUE,
            document.place(&[Step::Key("telemetry"), Step::Key("export")]),
            "telemetry would be sent on to the node itself, again and again".to_owned(),
            &format!("its own `{own}`"),
            format!("name another place, or give `[telemetry] {own}` another port"),
        ));
    }
    duplicate_names(members, report);
    for member in members {
        reserved_name(member, report);
        references(member, members, unread, report);
        values(member, report);
        mesh::member(member, members, unread, report);
        objectives::member(member, report);
    }
    objectives::application(document, file, report);
    if let Err((key, error)) = file.edge.check() {
        report.push(found(
            WRONG_VALUE,
            document.place(&[Step::Key("edge"), Step::Key(key)]),
            error.to_string(),
            "here",
            "see `atoll schema`, or docs/edge.md".to_owned(),
        ));
    }
    auth::application(document, file, members, unread, report);
    events::application(document, file, members, report);
    schemas::application((document, file, named), members, report);
    cycles(members, report);
    routes(members, report);
}

fn duplicate_names(members: &[Member], report: &mut Report) {
    let mut seen: BTreeMap<&ServiceName, &Member> = BTreeMap::new();
    for member in members {
        let name = &member.file.name;
        if let Some(first) = seen.insert(name, member) {
            report.push(member.finding(
                DUPLICATE_NAME,
                &[Step::Key("name")],
                format!(
                    "two services are called `{name}`; the other is {}",
                    first.document.source.shown
                ),
                "give one of them another name".to_owned(),
            ));
        }
    }
}

fn reserved_name(member: &Member, report: &mut Report) {
    let name = member.file.name.as_str();
    if matches!(name, "edge" | "atoll" | "localhost") || name.starts_with("atoll-") {
        report.push(member.finding(
            RESERVED,
            &[Step::Key("name")],
            format!("`{name}` is a name that Atoll keeps for itself"),
            "choose another one; `edge`, `localhost`, `atoll` and what begins with `atoll-` are taken"
                .to_owned(),
        ));
    }
}

/// `needs` and `wait_for` name services that exist, others than itself, each once.
fn references(member: &Member, members: &[Member], unread: &[String], report: &mut Report) {
    let known = || {
        let read = members.iter().map(|member| member.file.name.as_str());
        read.chain(unread.iter().map(String::as_str))
    };
    for (key, names) in [
        ("needs", &member.file.needs),
        ("wait_for", &member.file.wait_for),
    ] {
        let mut seen = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            let place = [Step::Key(key), Step::Index(index)];
            let (message, help) = if *name == member.file.name {
                (
                    format!("`{name}` cannot name itself in `{key}`"),
                    "take it out".to_owned(),
                )
            } else if !seen.insert(name) {
                (
                    format!("`{name}` stands twice in `{key}`"),
                    "take one out".to_owned(),
                )
            } else if known().any(|known| known == name.as_str()) {
                continue;
            } else {
                let help = match nearest(name.as_str(), known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the services are {}", listed(known())),
                };
                (format!("there is no service called `{name}`"), help)
            };
            report.push(member.finding(NO_SUCH_SERVICE, &place, message, help));
        }
    }
}

/// What the types cannot say about single values.
fn values(member: &Member, report: &mut Report) {
    let file = &member.file;
    for key in file.env.keys() {
        let place = [Step::Key("env"), Step::Key(key)];
        let owned = OWN_VARIABLES.contains(&key.as_str())
            || key.starts_with("ATOLL_")
            || file
                .needs
                .iter()
                .any(|need| *key == format!("{}_URL", need.env_prefix()));
        if owned {
            let message = format!("`{key}` is set by Atoll");
            let help = "choose another name, or take it out to get Atoll's value".to_owned();
            report.push(member.finding(RESERVED, &place, message, help));
        } else if key.is_empty() || key.contains(['=', '\0']) {
            let message = format!("`{key}` cannot be the name of an environment variable");
            let help = "use letters, digits and underscores".to_owned();
            report.push(member.finding(WRONG_VALUE, &place, message, help));
        }
    }
    if file.database.is_some() && file.needs.iter().any(|need| need.as_str() == "database") {
        report.push(member.finding(
            RESERVED,
            &[Step::Key("needs")],
            "the service `database` and `[database]` would both be DATABASE_URL".to_owned(),
            "give that service another name, or do without `[database]`".to_owned(),
        ));
    }
    if file.scale.max.is_some_and(|max| max < file.scale.min) {
        report.push(member.finding(
            WRONG_VALUE,
            &[Step::Key("scale"), Step::Key("max")],
            format!(
                "`scale.max` is less than `scale.min`, which is {}",
                file.scale.min
            ),
            "raise `max` or lower `min`".to_owned(),
        ));
    }
    for (index, pattern) in file.artifact.iter().enumerate() {
        if let Err(error) = globset::Glob::new(pattern) {
            let place = [Step::Key("artifact"), Step::Index(index)];
            let message = format!("`{pattern}` is no pattern: {}", error.kind());
            let help = "for example \"dist/**\" or \"target/release/orders\"".to_owned();
            report.push(member.finding(WRONG_VALUE, &place, message, help));
        }
    }
}

/// A ring of `wait_for` would never start.
fn cycles(members: &[Member], report: &mut Report) {
    let by_name: BTreeMap<&ServiceName, &Member> = members
        .iter()
        .map(|member| (&member.file.name, member))
        .collect();
    let mut told: BTreeSet<&ServiceName> = BTreeSet::new();
    for member in by_name.values() {
        let Some(ring) = ring_through(member, &by_name) else {
            continue;
        };
        if ring.iter().any(|name| told.contains(name)) {
            continue;
        }
        told.extend(&ring);
        let names: Vec<&str> = ring.iter().map(|name| name.as_str()).collect();
        report.push(member.finding(
            CYCLE,
            &[Step::Key("wait_for")],
            format!(
                "these services wait for each other: {} → {}",
                names.join(" → "),
                names[0]
            ),
            "take one `wait_for` out of the ring; `needs` alone does not delay a start".to_owned(),
        ));
    }
}

/// The services on a way from `start` back to itself.
fn ring_through<'m>(
    start: &'m Member,
    by_name: &BTreeMap<&'m ServiceName, &'m Member>,
) -> Option<Vec<&'m ServiceName>> {
    let mut ways = vec![vec![&start.file.name]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        let Some(member) = way.last().and_then(|name| by_name.get(name)) else {
            continue;
        };
        for next in &member.file.wait_for {
            if *next == start.file.name {
                return Some(way);
            }
            if seen.insert(next) {
                let mut longer = way.clone();
                longer.push(next);
                ways.push(longer);
            }
        }
    }
    None
}

fn routes(members: &[Member], report: &mut Report) {
    let mut sound: Vec<(ServiceName, RouteConfig)> = Vec::new();
    let mut origins: Vec<(&Member, usize)> = Vec::new();
    for member in members {
        for (index, config) in member.file.route.iter().enumerate() {
            if let Some((key, problem)) = route_problem(config) {
                let place = [Step::Key("route"), Step::Index(index), Step::Key(key)];
                let help = match key {
                    "path" => "a path is `/orders`, `/orders/{id}` or `/catalog/**`",
                    _ => "docs/edge.md has examples of everything that a route can say",
                };
                let help = help.to_owned();
                report.push(member.finding(BAD_ROUTE, &place, problem, help));
            } else {
                sound.push((member.file.name.clone(), config.clone()));
                origins.push((member, index));
            }
        }
    }
    for conflict in route::conflicts(&sound) {
        let (Some((first, _)), Some((second, index))) =
            (origins.get(conflict.first), origins.get(conflict.second))
        else {
            continue;
        };
        let path = &sound[conflict.second].1.path;
        let other = &sound[conflict.first].1.path;
        let place = [Step::Key("route"), Step::Index(*index), Step::Key("path")];
        report.push(second.finding(
            AMBIGUOUS_ROUTES,
            &place,
            format!(
                "`{path}` takes the same requests as `{other}` of {}",
                first.file.name
            ),
            "change the path, the host or the methods of one of them".to_owned(),
        ));
    }
}

fn route_problem(config: &RouteConfig) -> Option<(&'static str, String)> {
    if let Err(error) = route::check_pattern(&config.path) {
        return Some(("path", error.to_string()));
    }
    if let Some(Err(error)) = config.host.as_deref().map(route::check_host) {
        return Some(("host", error.to_string()));
    }
    let bad = config
        .methods
        .iter()
        .find_map(|method| route::check_method(method).err());
    if let Some(error) = bad {
        return Some(("methods", error.to_string()));
    }
    let (key, error) = route::check_policy(config).err()?;
    Some((key, error.to_string()))
}

fn found(code: Code, place: Place, message: String, label: &str, help: String) -> Finding {
    Finding {
        code,
        message,
        place: Some(place),
        label: label.to_owned(),
        help,
    }
}
