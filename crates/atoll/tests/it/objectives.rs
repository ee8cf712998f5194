//! Objectives of a node that runs: who is told when a service fails its users, how often, and what of it
//! outlives a node that is killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::testkit::{App, Certificates, Connection, eventually, holds, until};

/// What came to a webhook: head and body of each request.
type Came = Arc<Mutex<Vec<(String, Value)>>>;

/// Answers the first requests by `statuses`, all others with 200.
fn webhook(statuses: &'static [u16]) -> (SocketAddr, Came) {
    let mut statuses = statuses.iter();
    served(move |stream| hear(stream, *statuses.next().unwrap_or(&200)).unwrap())
}

/// As [`webhook`], over TLS. Who does not like the certificate is not heard.
fn secure_webhook(certificates: &Certificates) -> (SocketAddr, Came) {
    let secure = certificates.secure("IP:127.0.0.1");
    served(move |stream| hear(secure(stream), 200).ok()?)
}

fn served(
    mut hear: impl FnMut(TcpStream) -> Option<(String, Value)> + Send + 'static,
) -> (SocketAddr, Came) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, came) = (listener.local_addr().unwrap(), Came::default());
    let own = Arc::clone(&came);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            own.lock().unwrap().extend(hear(stream.unwrap()));
        }
    });
    (address, came)
}

/// Reads a request and answers it; it has come if the answer is 200.
fn hear(
    stream: impl std::io::Read + std::io::Write,
    status: u16,
) -> std::io::Result<Option<(String, Value)>> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head)? > 0, "{head}");
    }
    let head = head.to_lowercase();
    let (_, length) = head.split_once("content-length: ").unwrap();
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes())?;
    reader.get_mut().flush()?;
    Ok((status == 200).then(|| (head, serde_json::from_slice(&body).unwrap())))
}

/// An application whose service `a` promises that 95% of requests do not fail. Everybody is told.
fn shop(hook: SocketAddr) -> App {
    let app = App::new();
    app.service("a")
        .route("/a/**")
        .env("QUIET", "1")
        .table("[objective]\navailability = \"95%\"\nlatency = \"10s\"")
        .write();
    let script = "cat >>told; echo >>told; echo $ALERT_STATE $ALERT_SEVERITY >>variables";
    let alerts = format!(
        "[events]\nlisten = \"127.0.0.1:0\"\n[alerts]\nwebhook = \"http://{hook}/hook?to=us\"\n\
         webhook_headers = \"hook.headers\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\ntopic = \"alerts\"\n"
    );
    app.write("atoll.toml", &(app.read("atoll.toml") + &alerts));
    app.write("hook.headers", "authorization: Bearer hook-secret\n");
    app
}

fn ask(app: &App, path: &str) -> Value {
    let mut socket = Connection::local(&app.path(".atoll/run/admin.sock")).unwrap();
    socket.get(path).unwrap().has(200).json()
}

/// How the alert that wakes somebody stands; null if all is well.
fn page(app: &App) -> Value {
    let alerts = ask(app, "/v1/alerts");
    let mut alerts = alerts.as_array().unwrap().iter();
    let found = alerts.find(|own| own["id"] == "a-availability-page");
    found.cloned().unwrap_or_default()
}

fn stands(app: &App, state: &str) -> Value {
    eventually(state, || {
        let page = page(app);
        let so = page["state"] == state;
        if so { Ok(page) } else { Err(page.to_string()) }
    })
}

/// So many requests that do not fail.
fn good(app: &App, count: u32) {
    // The breaker lets nobody through for a moment.
    until("an answer", || app.get("/a/x").status == 200);
    let mut edge = Connection::open(app.edge()).unwrap();
    for _ in 0..count {
        edge.get("/a/x").unwrap().has(200);
    }
}

/// The states of the alert that wakes somebody, in the order in which they were told. One that a node was
/// telling when it was killed may come again, with the same id.
fn of_pages<'a>(told: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut pages: Vec<&Value> = told
        .filter(|own| own["alert"] == "a-availability-page")
        .collect();
    pages.dedup_by_key(|own| own["id"].clone());
    let states = pages.iter().map(|own| own["state"].as_str().unwrap());
    states.map(str::to_owned).collect()
}

fn by_webhook(came: &Came) -> Vec<String> {
    of_pages(came.lock().unwrap().iter().map(|(_, body)| body))
}

fn by_command(app: &App) -> Vec<String> {
    let text = std::fs::read_to_string(app.path("told")).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let told: Vec<Value> = whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    of_pages(told.iter())
}

fn by_topic(app: &App) -> Vec<String> {
    let records = app
        .cli(&["events", "tail", "alerts", "--tail", "1000", "--json"])
        .succeeded();
    let values = records.out.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        serde_json::from_str::<Value>(record["value"].as_str().unwrap()).unwrap()
    });
    of_pages(values.collect::<Vec<_>>().iter())
}

fn told_everywhere(app: &App, came: &Came, wanted: &[&str]) {
    eventually("all to be told", || {
        let all = [by_webhook(came), by_command(app), by_topic(app)];
        let so = all.iter().all(|own| own == wanted);
        if so { Ok(()) } else { Err(format!("{all:?}")) }
    });
}

/// The share of the budget that is left: of requests that may fail.
fn left(app: &App) -> f64 {
    let all = ask(app, "/v1/objectives");
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    assert_eq!(
        (&all[0]["target"], &all[0]["window"]),
        (&"95%".into(), &"30d".into())
    );
    assert_eq!(all[1]["target"], "99% within 10s");
    assert_eq!(all[1]["budget_left"], 1.0);
    all[0]["budget_left"].as_f64().unwrap()
}

/// The same, once it is more than that.
fn left_beyond(app: &App, before: f64) -> f64 {
    eventually("more of the budget", || {
        let now = left(app);
        if now > before {
            Ok(now)
        } else {
            Err(now.to_string())
        }
    })
}

#[test]
fn a_service_that_fails_is_told_once_everywhere_also_if_the_node_is_killed() {
    let (hook, came) = webhook(&[503]);
    let app = shop(hook);
    app.up();
    assert_eq!(ask(&app, "/v1/alerts"), json!([]));
    for _ in 0..12 {
        app.get("/a/status/500");
    }
    let firing = stands(&app, "firing");
    holds(firing["message"].as_str().unwrap(), "requests failed in");
    assert_eq!(
        (
            &firing["service"],
            &firing["objective"],
            &firing["severity"]
        ),
        (&"a".into(), &"availability".into(), &"page".into())
    );
    let before = left(&app);
    assert!(before < -10.0, "{before}");
    told_everywhere(&app, &came, &["firing"]);
    assert_eq!(came.lock().unwrap().len(), 1, "once");
    assert_eq!(app.read("variables"), "firing page\n", "once");
    // Few enough that the alert goes on: nothing but counts is written. When the last of them is seen, those before it
    // are on disk.
    good(&app, 1);
    let counted = left_beyond(&app, before);
    good(&app, 0);
    left_beyond(&app, counted);
    app.kill_node();
    app.up();
    assert_eq!(page(&app), firing, "as it was");
    // A revision that serves says what is promised.
    until("the objectives", || {
        ask(&app, "/v1/objectives") != json!([])
    });
    let after = left(&app);
    assert!(after < -10.0, "what is spent is spent: {after}");
    assert!(after >= counted, "{after} after the kill, {counted} before");

    // What is resolved in silence is told at its end.
    let id = "a-availability-page";
    app.cli(&["alerts", "silence", id, "--for", "2h"])
        .succeeded();
    assert!(page(&app)["silenced_until"].is_string());
    good(&app, 400);
    stands(&app, "resolved");
    told_everywhere(&app, &came, &["firing"]);
    app.cli(&["alerts", "silence", id, "--end"]).succeeded();
    told_everywhere(&app, &came, &["firing", "resolved"]);

    let (head, body) = came.lock().unwrap()[0].clone();
    holds(&head, "post /hook?to=us http/1.1");
    holds(&head, "authorization: bearer hook-secret");
    holds(&head, "content-type: application/json");
    for (key, value) in [
        ("application", "shop"),
        ("severity", "page"),
        ("target", "95%"),
    ] {
        assert_eq!(body[key], value, "{body}");
    }
    holds(&app.read("variables"), "firing page\n");
    remembered(&app, &firing);
}

/// What is found of it later.
fn remembered(app: &App, firing: &Value) {
    let history = ask(app, "/v1/alerts/history?limit=1");
    let next = history["next"].as_str().unwrap().to_owned();
    let rest = ask(app, &format!("/v1/alerts/history?before={next}"));
    let all = [&history["alerts"], &rest["alerts"]];
    let all: Vec<&Value> = all.iter().flat_map(|own| own.as_array().unwrap()).collect();
    let pages: Vec<&&Value> = all.iter().filter(|own| own["id"] == firing["id"]).collect();
    assert_eq!(pages.len(), 2, "{all:#?}");
    assert_eq!(
        (&pages[0]["state"], &pages[0]["silenced"]),
        (&"resolved".into(), &true.into())
    );
    assert_eq!(
        (&pages[1]["state"], &pages[1]["since"]),
        (&"firing".into(), &firing["since"])
    );
    eventually("the timeline", || {
        let events = ask(app, "/v1/timeline?kind=alert&service=a");
        let events = events["events"].as_array().unwrap().clone();
        let fired = events.iter().any(|own| {
            own["level"] == "error"
                && own["message"]
                    .as_str()
                    .unwrap()
                    .starts_with("availability (page) firing")
        });
        if fired {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        }
    });
    let table = app.cli(&["alerts", "history"]).succeeded();
    holds(&table.out, "a-availability-page");
    assert_eq!(table.err, "", "all of it");
    let newest = app.cli(&["alerts", "history", "-n", "1"]).succeeded();
    holds(&newest.out, "resolved");
    holds(&newest.err, &format!("`--before {next}` shows older ones"));
    let older = ["alerts", "history", "--before", &next];
    let older = app.cli(&older).succeeded().out;
    holds(&older, "firing");
    holds(&app.cli(&["objectives"]).succeeded().out, "99% within 10s");
}

#[test]
fn few_failures_alert_nobody_and_what_nobody_knows_cannot_be_silenced() {
    let (hook, came) = webhook(&[]);
    let app = shop(hook);
    app.up();
    for _ in 0..3 {
        app.get("/a/status/500");
    }
    stands(&app, "pending");
    assert!(came.lock().unwrap().is_empty());
    let said = app.cli(&["alerts", "silence", "b-availability-page", "--for", "2h"]);
    assert_eq!(said.code, 1);
    holds(&said.err, "there is no alert 'b-availability-page'");
    let mut socket = Connection::local(&app.path(".atoll/run/admin.sock")).unwrap();
    let body = r#"{"until": "tomorrow"}"#;
    let request = format!(
        "POST /v1/alerts/a-latency-page/silence HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let refused = socket.exchange(&request).unwrap().has(422);
    assert_eq!(
        refused.field("content-type"),
        Some("application/problem+json")
    );
}

#[test]
fn slow_answers_and_a_service_that_is_gone_count_against_what_was_promised() {
    let app = App::new();
    let promise =
        "[objective]\navailability = \"99%\"\nlatency = \"300ms\"\nlatency_target = \"95%\"";
    app.service("a").route("/a/**").table(promise).write();
    app.service("b")
        .route("/b/**")
        .top("run", "[\"sleep\", \"1000\"]")
        .table(promise)
        .write();
    // One of the two never answers.
    assert_eq!(app.cli(&["up", "--detach", "--timeout", "2s"]).code, 1);
    let node = ask(&app, "/v1/node");
    let address = node["edge"].as_str().unwrap().strip_prefix("http://");
    let mut edge = Connection::open(address.unwrap().parse().unwrap()).unwrap();
    edge.get("/a/x").unwrap().has(200);
    for _ in 0..12 {
        edge.get("/a/slow/0.4").unwrap().has(200);
        edge.get("/b/x").unwrap().has(503);
    }
    let firing = eventually("both to fire", || {
        let alerts = ask(&app, "/v1/alerts");
        let firing = alerts
            .as_array()
            .unwrap()
            .iter()
            .filter(|own| own["state"] == "firing");
        let firing: Vec<Value> = firing.cloned().collect();
        if firing.len() == 2 {
            Ok(firing)
        } else {
            Err(alerts.to_string())
        }
    });
    assert_eq!(firing[0]["id"], "a-latency-page");
    holds(
        firing[0]["message"].as_str().unwrap(),
        "requests took longer than 300ms in 1h",
    );
    assert_eq!(firing[1]["id"], "b-availability-page");
    holds(
        firing[1]["message"].as_str().unwrap(),
        "requests failed in 1h",
    );
    // Of 13 requests the first was fast and 12 were slow, and 5% might have been.
    eventually("all to be counted", || {
        let all = ask(&app, "/v1/objectives");
        let left = all[1]["budget_left"].as_f64().unwrap();
        let so = all[1]["kind"] == "latency" && (left - (1.0 - 12.0 / 13.0 / 0.05)).abs() < 1e-6;
        if so { Ok(()) } else { Err(all.to_string()) }
    });
}

#[test]
fn objectives_of_a_service_that_does_not_come_up_are_listed_with_what_was_counted_and_end_with_it()
{
    let (hook, came) = webhook(&[]);
    let app = shop(hook);
    app.service("b").route("/b/**").write();
    app.up();
    for _ in 0..12 {
        app.get("/a/status/500");
    }
    stands(&app, "firing");
    app.down();
    app.service("a")
        .route("/a/**")
        .top("run", "[\"sleep\", \"1000\"]")
        .table("[objective]\navailability = \"90%\"")
        .write();
    assert_eq!(app.cli(&["up", "--detach", "--timeout", "2s"]).code, 1);
    // By the folder, which has no latency any more; 12 of 12 is ten times more than may be.
    let all = eventually("the objectives", || match ask(&app, "/v1/objectives") {
        all if all[0]["target"] == "90%" => Ok(all),
        all => Err(all.to_string()),
    });
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    let left = all[0]["budget_left"].as_f64().unwrap();
    assert!((left + 9.0).abs() < 1e-6, "{all}");
    stands(&app, "firing");
    app.cli(&["down"]);
    std::fs::remove_dir_all(app.path("services/a")).unwrap();
    app.up();
    let resolved = eventually("the end of the alert", || {
        let all = ask(&app, "/v1/alerts/history");
        match &all["alerts"][0] {
            last if last["state"] == "resolved" => Ok(last.clone()),
            last => Err(last.to_string()),
        }
    });
    let why = "the service, or this objective of it, was taken out of the application";
    assert_eq!(resolved["message"], why);
    until("everybody to be told", || {
        by_webhook(&came)
            .last()
            .is_some_and(|own| own == "resolved")
    });
    assert_eq!(ask(&app, "/v1/objectives"), serde_json::json!([]));
}

#[test]
fn alerts_are_told_live() {
    let (hook, _came) = webhook(&[]);
    let app = shop(hook);
    app.up();
    let mut socket = UnixStream::connect(app.path(".atoll/run/admin.sock")).unwrap();
    socket
        .write_all(b"GET /v1/live HTTP/1.1\r\nHost: t\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(socket).lines().map(Result::unwrap);
    let mut next = |kind: &str| {
        lines
            .find(|line| line == &format!("event: {kind}"))
            .unwrap();
        let data = lines.next().unwrap();
        serde_json::from_str::<Value>(data.strip_prefix("data: ").unwrap()).unwrap()
    };
    assert_eq!(next("alerts"), json!([]));
    for _ in 0..12 {
        app.get("/a/status/500");
    }
    let firing = std::iter::from_fn(|| Some(next("alerts")));
    let mut states = firing.map(|own| own[0]["state"].clone());
    assert!(states.any(|state| state == "firing"));
}

#[test]
fn a_way_that_does_not_work_is_told_as_trouble() {
    let (hook, _came) = webhook(&[500; 1000]);
    let app = shop(hook);
    app.up();
    for _ in 0..12 {
        app.get("/a/status/500");
    }
    stands(&app, "firing");
    eventually("the trouble", || {
        let said = app.cli(&["ps"]).succeeded().err;
        let told = said.contains("alerts do not get to the webhook since")
            && said.contains("it answers 500");
        if told { Ok(()) } else { Err(said) }
    });
    let own = app.messages("atoll");
    let told = own
        .iter()
        .filter(|line| line.starts_with("alerts do not get to the webhook"));
    assert_eq!(told.count(), 1, "{own:?}");
}

#[test]
fn headers_that_cannot_be_read_fail_the_start() {
    let (hook, _came) = webhook(&[]);
    let app = shop(hook);
    std::fs::remove_file(app.path("hook.headers")).unwrap();
    let said = app.try_up();
    assert_ne!(said.code, 0);
    holds(&said.err, "hook.headers");
}

#[test]
fn a_webhook_behind_a_certificate_of_ones_own_is_believed_by_who_signed_it() {
    let certificates = Certificates::new();
    let (hook, came) = secure_webhook(&certificates);
    let app = shop(hook);
    let plain = app.read("atoll.toml").replace("http://", "https://");
    let trusting = |name: &str| {
        let ca = certificates.authority(name);
        let text = plain.replace("[alerts]\n", &format!("[alerts]\nwebhook_ca = {ca:?}\n"));
        app.write("atoll.toml", &text);
    };
    trusting("other");
    app.up();
    for _ in 0..12 {
        app.get("/a/status/500");
    }
    stands(&app, "firing");
    let said = eventually("the trouble", || match app.cli(&["ps"]).succeeded().err {
        said if said.contains("alerts do not get to the webhook") => Ok(said),
        said => Err(said),
    });
    holds(&said, "certificate");
    assert!(came.lock().unwrap().is_empty());
    app.down();
    trusting("ca");
    app.up();
    until("it to be told", || {
        by_webhook(&came).first().is_some_and(|own| own == "firing")
    });
    app.down();
    app.write("empty.pem", "");
    let text = app
        .read("atoll.toml")
        .replace(&certificates.authority("ca"), "empty.pem");
    app.write("atoll.toml", &text);
    holds(&app.try_up().ended(1).err, "empty.pem holds no certificate");
}
