//! Telemetry that services send, and that is sent on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::testkit::{Answer, App, Certificates, Connection, eventually, holds};

/// A log record of one who says to be `payments`.
const LOGS: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"payments"}}]},
    "scopeLogs":[{"logRecords":[{"severityNumber":17,"body":{"stringValue":"it was me"}}]}]}]}"#;

/// Sends by what stands in the environment of the service.
fn script(signal: &str, body: &str) -> String {
    format!(
        "python3 - <<'END'\nimport os, urllib.request\n\
         url = os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] + '/v1/{signal}'\n\
         assert os.environ['OTEL_EXPORTER_OTLP_PROTOCOL'] == 'http/protobuf'\n\
         request = urllib.request.Request(url, r'''{body}'''.encode(), {{'content-type': 'application/json'}})\n\
         print(urllib.request.urlopen(request).read().decode())\nEND"
    )
}

fn with_telemetry(app: &App, keys: &str) {
    let text = app.read("atoll.toml");
    let off = "otlp_grpc = \"off\"\notlp_http = \"off\"\n";
    assert!(text.contains(off), "{text}");
    app.write("atoll.toml", &text.replace(off, keys));
}

fn was_told(app: &App, service: &str) {
    eventually("the record", || {
        let messages = app.messages(service);
        let found = messages.iter().any(|own| own == "it was me");
        found.then_some(()).ok_or(format!("{messages:?}"))
    });
}

fn admin(app: &App, path: &str) -> Value {
    let mut socket = Connection::local(&app.path(".atoll/run/admin.sock")).unwrap();
    socket.get(path).unwrap().has(200).json()
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn post(to: SocketAddr, path: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    Connection::open(to).unwrap().exchange(&request).unwrap()
}

#[test]
fn a_service_sends_in_its_own_name_whatever_it_says() {
    let app = App::with_a();
    assert_eq!(app.done_in("a", &script("logs", LOGS)).trim(), "{}");
    was_told(&app, "a");
    let log = app.log(&["a"]);
    let record = log.iter().find(|own| own["msg"] == "it was me").unwrap();
    assert_eq!(
        (&record["stream"], &record["level"]),
        (&"otlp".into(), &"error".into())
    );
    holds(
        record["attributes"].as_str().unwrap(),
        r#""resource.service.name":"payments""#,
    );
}

#[test]
fn the_open_port_takes_what_runs_beside_and_a_taken_one_is_told() {
    let app = App::new();
    app.service("a").write();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    with_telemetry(
        &app,
        &format!("otlp_grpc = \"off\"\notlp_http = \"{address}\"\n"),
    );
    let said = app.cli(&["up", "--detach"]).ended(3);
    holds(&said.err, "ATL0112");
    holds(
        &said.err,
        &format!("OTLP over HTTP cannot listen on {address}"),
    );
    holds(&said.err, "otlp_http = \"127.0.0.1:14318\"");
    drop(taken);
    app.up();
    post(address, "/v1/logs", LOGS).has(200);
    was_told(&app, "payments");
    let refused = post(
        address,
        "/v1/traces",
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{}]}]}]}"#,
    );
    assert_eq!(
        refused.has(200).json()["partialSuccess"]["rejectedSpans"],
        1
    );
}

/// Takes requests and answers the first ones by `statuses`, all others with 200; tells their heads, and their
/// bodies, unpacked.
fn collector(statuses: &'static [u16]) -> (SocketAddr, mpsc::Receiver<(String, String)>) {
    collector_over(statuses, |stream| stream)
}

/// As [`collector`], over what `wrap` makes of connections. Who goes away at once is not told.
fn collector_over<S: Read + Write>(
    statuses: &'static [u16],
    wrap: impl Fn(TcpStream) -> S + Send + 'static,
) -> (SocketAddr, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, came) = mpsc::channel();
    std::thread::spawn(move || {
        let mut statuses = statuses.iter();
        'next: for stream in listener.incoming() {
            let mut stream = wrap(stream.unwrap());
            let (mut got, mut part) = (Vec::new(), [0; 4096]);
            let end = loop {
                let Ok(count @ 1..) = stream.read(&mut part) else {
                    continue 'next;
                };
                got.extend_from_slice(&part[..count]);
                let end = got.windows(4).position(|four| four == b"\r\n\r\n");
                if let Some(end) = end {
                    break end + 4;
                }
            };
            let head = String::from_utf8(got[..end].to_vec())
                .unwrap()
                .to_lowercase();
            let (_, length) = head.split_once("content-length: ").unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            while got.len() < end + length {
                let count = stream.read(&mut part).unwrap();
                got.extend_from_slice(&part[..count]);
            }
            let status = statuses.next().unwrap_or(&200);
            let answer =
                format!("HTTP/1.1 {status} x\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            let mut body = Vec::new();
            let mut packed = flate2::read::GzDecoder::new(&got[end..]);
            packed.read_to_end(&mut body).unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            if heads.send((head, body)).is_err() {
                return;
            }
        }
    });
    (address, came)
}

#[test]
fn what_services_send_is_sent_on_again_after_a_refusal() {
    let app = App::new();
    app.service("a").route("/a/**").write();
    let (address, came) = collector(&[503]);
    let off = "otlp_grpc = \"off\"\notlp_http = \"off\"\n";
    with_telemetry(
        &app,
        &format!("{off}export = \"http://{address}/base/\"\nexport_headers = \"headers\"\n"),
    );
    app.write("headers", "authorization: Bearer secret\n");
    app.up();
    app.done_in("a", &script("logs", LOGS));
    app.get("/a/way").has(200);
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let (head, body) = came.recv_timeout(Duration::from_secs(30)).unwrap();
        holds(&head, "post /base/v1/");
        holds(&head, "authorization: bearer secret");
        holds(&head, "content-encoding: gzip");
        bodies.push(body);
    }
    assert_eq!(bodies[0], bodies[1], "what was refused comes again");
    // An event, a line that was printed, and a passage of a request need no SDK; then what has one.
    let mut missing = vec!["started as process", "GET /a/way", "url.path", "it was me"];
    bodies.reverse();
    while !missing.is_empty() {
        let body = bodies.pop().unwrap_or_else(|| {
            let came = came.recv_timeout(Duration::from_secs(30));
            came.unwrap_or_else(|_| panic!("{missing:?} did not come"))
                .1
        });
        missing.retain(|own| !body.contains(own));
    }
}

#[test]
fn a_collector_behind_a_certificate_of_ones_own_is_believed_by_who_signed_it() {
    let certificates = Certificates::new();
    let (address, came) = collector_over(&[], certificates.secure("IP:127.0.0.1"));
    let app = App::new();
    app.service("a").route("/a/**").write();
    let off = "otlp_grpc = \"off\"\notlp_http = \"off\"\n";
    let ca = certificates.authority("other");
    let more = format!("{off}export = \"https://{address}\"\nexport_ca = {ca:?}\n");
    with_telemetry(&app, &more);
    app.up();
    let trouble = || app.cli(&["ps"]).succeeded().err;
    eventually("the trouble", || match trouble() {
        said if said.contains("telemetry cannot be sent on: ") => {
            holds(&said, "certificate");
            Ok(())
        }
        said => Err(said),
    });
    assert!(came.try_recv().is_err(), "nobody else gets it");
    app.down();
    let text = app.read("atoll.toml");
    let own = certificates.authority("ca");
    app.write("atoll.toml", &text.replace(&ca, &own));
    app.up();
    let (head, _) = came.recv_timeout(Duration::from_secs(30)).unwrap();
    holds(&head, "post /v1/");
    app.down();
    app.write("empty.pem", "");
    app.write("atoll.toml", &text.replace(&ca, "empty.pem"));
    holds(&app.try_up().ended(1).err, "empty.pem holds no certificate");
}

fn with_metrics() -> (App, SocketAddr) {
    let app = App::new();
    app.service("a").route("/a/**").write();
    let address = free_port();
    let ports = format!("otlp_grpc = \"off\"\notlp_http = \"{address}\"\n");
    with_telemetry(&app, &ports);
    app.up();
    (app, address)
}

/// Counts 42 more of it.
#[track_caller]
fn count(address: SocketAddr, name: &str) {
    let metrics = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"{name}","sum":{{"aggregationTemporality":1,
        "isMonotonic":true,"dataPoints":[{{"asInt":"42"}}]}}}}]}}]}}]}}"#
    );
    post(address, "/v1/metrics", &metrics).has(200);
}

#[track_caller]
fn was_counted_once(app: &App, name: &str) {
    assert_eq!(counted(app, name), 42.0, "{name}");
}

fn counted(app: &App, name: &str) -> f64 {
    let series = admin(app, &format!("/v1/metrics/series?name={name}"));
    let points = series["series"][0]["points"].as_array();
    let values = points.into_iter().flatten();
    values.filter_map(|point| point[1].as_f64()).sum()
}

#[test]
fn metrics_are_there_after_a_new_start() {
    let (app, address) = with_metrics();
    count(address, "things");
    app.down();
    app.up();
    let named = admin(&app, "/v1/metrics/names");
    let named = named.as_array().unwrap();
    assert!(named.iter().any(|own| own["name"] == "things"), "{named:?}");
    was_counted_once(&app, "things");
}

#[test]
fn metrics_outlive_a_node_that_is_killed() {
    let (app, address) = with_metrics();
    app.get("/a/x").has(200);
    app.get("/a/x").has(200);
    let own = "atoll_route_requests_total";
    eventually("what the node counts itself", || {
        let now = counted(&app, own);
        if now == 2.0 {
            Ok(())
        } else {
            Err(now.to_string())
        }
    });
    let written = || -> u64 {
        let files = std::fs::read_dir(app.path(".atoll/telemetry/metrics")).unwrap();
        // One may go meanwhile.
        files
            .filter_map(|own| Some(own.ok()?.metadata().ok()?.len()))
            .sum()
    };
    // What was under way before the first was taken changes the files at most three times: two are made, one is
    // appended to.
    for name in ["things", "b", "c", "d", "e"] {
        let before = written();
        count(address, name);
        eventually("a second of metrics on disk", || match written() {
            now if now == before => Err(now.to_string()),
            _ => Ok(()),
        });
    }
    for _ in 0..2 {
        app.kill_node();
        app.up();
        was_counted_once(&app, "things");
        assert_eq!(counted(&app, own), 2.0);
    }
}
