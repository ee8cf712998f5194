//! What sound manifests still need of this machine: free ports, installed programs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use atoll_base::{Code, Coded};
use atoll_supervisor::resolve_program;

use super::finding::{Finding, Report};
use super::load::{Document, Step};
use super::{APPLICATION_FILE, Application, SERVICE_FILE, ServiceManifest};

const PORT_IN_USE: Code = Code("ATL0112");

/// Looks for what is missing. Ports are looked at only if no node of this application runs.
pub fn preflight(application: &Application, ports: bool) -> Report {
    let mut report = Report::default();
    if ports {
        ports_in_use(application, &mut report);
    }
    for service in application.services.values() {
        missing_program(application, service, &mut report);
    }
    report.sorted()
}

fn ports_in_use(application: &Application, report: &mut Report) {
    let path = application.dir.join(APPLICATION_FILE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let document = Document::new(path, &application.dir, text.into());
    let edge = application.file.edge.listen;
    let mesh = SocketAddr::new(
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        application.file.mesh.port,
    );
    let wanted = [
        (
            edge,
            ["edge", "listen"],
            "the edge",
            "`[edge] listen = \"127.0.0.1:8081\"`",
        ),
        (mesh, ["mesh", "port"], "the mesh", "`[mesh] port = 7071`"),
    ];
    let topics = kafka_addr(application).map(|address| {
        let example = "`[events] listen = \"127.0.0.1:9093\"`";
        (address, ["events", "listen"], "the broker", example)
    });
    let otlp = otlp_addrs(application);
    let wanted = wanted.into_iter().chain(topics).chain(otlp);
    for (address, [section, key], side, example) in wanted {
        // The mistakes other than a taken port (a foreign address) are told by the node itself.
        let taken = address.port() != 0
            && TcpListener::bind(address)
                .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
        if taken {
            report.push(Finding {
                code: PORT_IN_USE,
                message: format!("{side} cannot listen on {address}: another program does"),
                place: Some(document.place(&[Step::Key(section), Step::Key(key)])),
                label: "in use".to_owned(),
                help: format!("stop that program, or choose another port: {example}"),
            });
        }
    }
}

/// Where clients of Kafka connect, if there are topics.
fn kafka_addr(application: &Application) -> Option<SocketAddr> {
    application.file.events.as_ref()?.addr().ok()
}

/// An address that is wanted, its keys, whose it is, and how to choose another.
type Wanted = (SocketAddr, [&'static str; 2], &'static str, &'static str);

/// Where OTLP is taken.
fn otlp_addrs(application: &Application) -> impl Iterator<Item = Wanted> {
    let config = &application.file.telemetry;
    let doors = [
        (
            config.otlp_grpc,
            "otlp_grpc",
            "OTLP over gRPC",
            "`[telemetry] otlp_grpc = \"127.0.0.1:14317\"`, or \"off\"",
        ),
        (
            config.otlp_http,
            "otlp_http",
            "OTLP over HTTP",
            "`[telemetry] otlp_http = \"127.0.0.1:14318\"`, or \"off\"",
        ),
    ];
    doors
        .into_iter()
        .filter_map(|(port, key, side, example)| Some((port.0?, ["telemetry", key], side, example)))
}

/// A program with a path of its own may be what the build makes; then it is looked at later.
fn missing_program(application: &Application, service: &ServiceManifest, report: &mut Report) {
    let path = std::env::var("PATH").unwrap_or_default();
    let document = || {
        Document::new(
            service.dir.join(SERVICE_FILE),
            &application.dir,
            service.text.as_str().into(),
        )
    };
    for (key, command) in [("run", &service.file.run), ("build", &service.file.build)] {
        let made_by_build = key == "run"
            && !service.file.build.is_empty()
            && command.first().is_some_and(|program| program.contains('/'));
        if command.is_empty() || made_by_build {
            continue;
        }
        if let Err(error) = resolve_program(command, &service.dir, &path) {
            report.push(Finding {
                code: error.code(),
                message: error.to_string(),
                place: Some(document().place(&[Step::Key(key), Step::Index(0)])),
                label: "this program".to_owned(),
                help: format!("install it, or mend `{key}` of {}", service.file.name),
            });
        }
    }
}
