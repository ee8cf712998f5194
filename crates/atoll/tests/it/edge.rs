//! What manifests say about the edge and the mesh, with real clients: gRPC, HTTPS, denials.

use std::process::Command;

use crate::testkit::{Ability, App, Connection, Said, atoll, holds, lacking, run, until};

const GRPC_SERVER: &str = include_str!("../fixtures/grpc_server.py");
const GRPC_CLIENT: &str = include_str!("../fixtures/grpc_client.py");

/// A Python that has grpcio; Debian's is for Debian's own Python.
fn python_with_grpc() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let imported = Command::new(python).args(["-c", "import grpc"]).output();
        imported.is_ok_and(|output| output.status.success())
    })
}

#[test]
fn grpc_passes_in_all_its_kinds() {
    let Some(python) = python_with_grpc() else {
        return lacking(Ability::PythonGrpc);
    };
    let app = App::new();
    app.service("calls")
        .top("run", &format!("[{python:?}, \"grpc_server.py\"]"))
        .top("protocol", "\"grpc\"")
        .table("[health]\ngrpc = \"\"\ninterval = \"1s\"")
        .route("/test.Test/**")
        .write();
    app.write("services/calls/grpc_server.py", GRPC_SERVER);
    app.write("client.py", GRPC_CLIENT);
    app.up();
    let mut client = Command::new(python);
    client
        .arg(app.path("client.py"))
        .arg(app.edge().to_string());
    let said = run(client);
    assert_eq!((said.out.trim(), said.err.trim()), ("all well", ""));
}

#[test]
fn https_with_a_certificate_of_the_own_issuer() {
    let app = App::new();
    app.service("a").route("/a/**").write();
    let mut cert = atoll();
    cert.arg("-C")
        .arg(app.dir())
        .args(["cert", "dev", "--json"]);
    let made = run_with_home(&app, cert).succeeded().json();
    let ca = made["ca"].as_str().unwrap().to_owned();
    assert!(ca.starts_with(app.dir().to_str().unwrap()), "{ca}");
    let text = app.read("atoll.toml").replace(
        "[edge]",
        "[edge.tls]\nlisten = \"127.0.0.1:0\"\nhsts = \"1h\"\ncertificates = [{ cert = \"certs/dev.pem\", key = \"certs/dev-key.pem\" }]\n[edge]",
    );
    app.write("atoll.toml", &text);
    let said = app.up();
    let url = said.out.trim().to_owned();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    for version in ["--http1.1", "--http2"] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-D-", version, "--cacert", &ca]);
        curl.arg(format!("{}/a/x", url.replace("127.0.0.1", "localhost")));
        let said = run(curl).succeeded();
        let head = said.out.to_ascii_lowercase();
        holds(&head, "strict-transport-security: max-age=3600");
        holds(&head, "\"x-forwarded-proto\": \"https\"");
    }
    // The key is nobody else's to read, and not for the repository.
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(app.path("certs/dev-key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(app.read("certs/.gitignore"), "*-key.pem\n");
}

fn run_with_home(app: &App, mut command: Command) -> Said {
    command.env("XDG_DATA_HOME", app.path("home"));
    run(command)
}

#[test]
fn a_broken_certificate_says_what_to_do() {
    let app = App::new();
    app.service("a").write();
    let text = app.read("atoll.toml").replace(
        "[edge]",
        "[edge.tls]\nlisten = \"127.0.0.1:0\"\ncertificates = [{ cert = \"none.pem\", key = \"none.key\" }]\n[edge]",
    );
    app.write("atoll.toml", &text);
    let said = app.try_up();
    assert_eq!(said.code, 1, "{}", said.err);
    holds(&said.err, "none.pem' cannot be read");
    holds(&said.err, "ATL0406");
}

#[test]
fn an_address_in_the_mesh_is_for_its_caller_alone() {
    let app = App::new();
    app.service("front")
        .needs(&["back"])
        .route("/front/**")
        .write();
    app.service("back").write();
    app.up();
    app.get("/front/call/back/x").has(200);
    let url = app.done_in("front", "echo $BACK_URL");
    let addr = url.trim().strip_prefix("http://").unwrap().parse().unwrap();
    let answer = Connection::open(addr).unwrap().get("/x").unwrap();
    if answer.status == 200 {
        // A kernel that does not tell who calls; the log says so.
        assert!(!app.messages("atoll").is_empty());
        return lacking(Ability::Callers);
    }
    assert_eq!(answer.status, 403);
    holds(
        &answer.body,
        "only instances of front may call this address",
    );
    // Every process of the instance may.
    let said = app.done_in("front", "curl -s $BACK_URL/y");
    holds(&said, "\"path\": \"/y\"");
}

#[test]
fn a_service_denies_and_limits_calls() {
    let app = App::new();
    for caller in ["front", "other"] {
        app.service(caller)
            .needs(&["back"])
            .route(&format!("/{caller}/**"))
            .write();
    }
    app.service("back")
        .table("[[deny]]\nfrom = [\"front\"]\npath = \"/admin/**\"")
        .table("[mesh_rate_limit]\nrequests = 3\nper = \"1h\"")
        .write();
    app.up();
    app.get("/front/call/back/admin/x").has(403);
    app.get("/other/call/back/admin/x").has(200);
    for _ in 0..2 {
        app.get("/front/call/back/x").has(200);
    }
    app.get("/front/call/back/x").has(429);
    app.get("/other/call/back/x").has(200);
}

#[test]
fn explain_breaker_tells_what_is_left_out_and_why() {
    let app = App::new();
    app.service("a")
        .table("[resilience.breaker]\ncalls = 5\npause = \"1h\"\npause_max = \"1h\"")
        .route("/a/**")
        .write();
    app.up();
    holds(
        &app.cli(&["explain", "breaker"]).succeeded().out,
        "all is well",
    );
    until("the breaker opens", || {
        app.get("/a/status/503").body.contains("breaker-open")
    });
    let said = app.cli(&["explain", "breaker"]).succeeded();
    holds(&said.out, "edge -> a:");
    holds(&said.out, "calls failed within 10s, last: status 503");
    let view = app
        .cli(&["explain", "breaker", "--json"])
        .succeeded()
        .json();
    assert_eq!(view["breakers"][0]["callee"], "a");
    assert_eq!(view["breakers"][0]["facts"]["cause"]["kind"], "calls");
}

#[test]
fn mistakes_about_calls_and_routes_are_found_before_anything_runs() {
    let app = App::new();
    app.service("a")
        .table("[resilience]\nbreaker = { calls = 0 }")
        .table("[dependency.b]\ntimeout = \"1s\"")
        .table("[[deny]]\nfrom = [\"c\"]")
        .table("[[route]]\npath = \"/x/{id}\"\nrewrite = \"/y/{name}\"")
        .table(
            "[[route]]\npath = \"/z\"\nbackends = [{ service = \"d\" }]\nallow = [\"10.0.0.0/33\"]",
        )
        .write();
    let said = app.cli(&["check"]);
    assert_eq!(said.code, 3, "{}", said.err);
    for part in [
        "`resilience.breaker.calls` cannot be 0: write 1 or more",
        "`b` is not in `needs`",
        "there is no service called `c`",
        "'{name}' in '/y/{name}' stands for nothing",
        "there is no service called `d`",
        "'10.0.0.0/33' is no network",
    ] {
        holds(&said.err, part);
    }
}

#[test]
fn what_goes_over_routes_and_dependencies_is_counted() {
    let app = App::new();
    app.service("a").route("/a/**").needs(&["b"]).write();
    app.service("b").write();
    app.up();
    for _ in 0..3 {
        app.get("/a/call/b/status/503").has(503);
    }
    app.get("/a/x").has(200);
    let text = || {
        let socket = app.path(".atoll/run/admin.sock");
        let mut node = Connection::local(&socket).unwrap();
        node.get("/v1/metrics").unwrap().has(200).body
    };
    let route = r#"service="a",host="",path="/a/**",methods="""#;
    until("all four requests are told", || {
        text().contains(&format!(
            "atoll_route_duration_seconds_count{{{route}}} 4\n"
        ))
    });
    let text = text();
    holds(
        &text,
        &format!("atoll_route_requests_total{{{route},class=\"2xx\"}} 1\n"),
    );
    holds(
        &text,
        "atoll_call_requests_total{caller=\"a\",callee=\"b\",class=\"5xx\"} 3\n",
    );
}

#[test]
fn requests_from_outside_are_in_the_access_log() {
    let app = App::new();
    let text = app.read("atoll.toml");
    let log = "[edge.access_log]\nfile = \"logs/access.log\"\nformat = \"combined\"\nmax_size = \"1500B\"\n";
    app.write("atoll.toml", &format!("{text}\n{log}"));
    app.service("a").route("/a/**").write();
    app.up();
    let fast = app
        .exchange("GET /a/fast?x=%22 HTTP/1.1\r\nHost: test\r\nUser-Agent: me \"and\" you\r\n\r\n");
    let length = fast.has(200).body.len();
    app.get("/nowhere").has(404);
    app.exchange("GET /a b HTTP/1.1\r\n\r\n").has(400);
    let lines = || std::fs::read_to_string(app.path("logs/access.log")).unwrap();
    until("all three are written", || lines().lines().count() == 3);
    let lines = lines();
    let line =
        format!("\"GET /a/fast?x=%22 HTTP/1.1\" 200 {length} \"-\" \"me \\x22and\\x22 you\"\n");
    holds(&lines, &line);
    holds(&lines, "\"GET /nowhere HTTP/1.1\" 404 ");
    holds(&lines, "\"-\" 400 ");
    // All together are more than one file holds, and the new ones alone are not: however the workers
    // hand them over, a new file is begun once.
    for _ in 0..17 {
        app.get("/a/fast").has(200);
    }
    app.down();
    let older = std::fs::read_to_string(app.path("logs/access.log.1")).unwrap();
    holds(&older, "GET /nowhere");
    let newer = std::fs::read_to_string(app.path("logs/access.log")).unwrap();
    let all = older.lines().count() + newer.lines().count();
    assert_eq!(all, 20, "{older}\n{newer}");
}

#[test]
fn answers_are_kept_and_forgotten_when_asked() {
    let app = App::new();
    app.service("a")
        .table("[[route]]\npath = \"/a/**\"\ncache = { ttl = \"10m\" }")
        .write();
    app.up();
    let first = app.get("/a/x").has(200);
    assert_eq!(first.field("age"), None);
    let again = app.get("/a/x").has(200);
    assert_eq!(again.body, first.body);
    holds(again.field("cache-status").unwrap(), "atoll; hit; ttl=");
    let status = app.cli(&["cache", "status", "--json"]).succeeded().json();
    assert_eq!((&status["hits"], &status["misses"]), (&1.into(), &1.into()));
    holds(&app.cli(&["cache", "status"]).succeeded().out, "MEMORY");
    let purged = app.cli(&["cache", "purge", "--path", "/a/**", "--json"]);
    assert_eq!(purged.succeeded().json()["pages"], 1);
    assert_eq!(app.get("/a/x").has(200).field("age"), None);
    holds(
        &app.cli(&["cache", "purge", "--tag", "x"]).succeeded().err,
        "nothing was kept",
    );
    holds(
        &app.cli(&["cache", "purge", "--all"]).succeeded().err,
        "1 page",
    );
    holds(
        &app.cli(&["cache", "purge", "--path", "a"]).ended(1).err,
        "starts with '/'",
    );
    app.cli(&["cache", "purge"]).ended(2);
}
