//! Records on their way: published by a service or by hand, pushed to another, given up, sent again.

mod outbox;

use rustix::process::Signal;
use serde_json::Value;

use crate::testkit::{Answer, App, Connection, eventually, free_port, holds, kill, until};

/// An application with topics on a port of the system's choice.
fn shop() -> App {
    let app = App::new();
    let mut text = app.read("atoll.toml");
    text.push_str("[events]\nlisten = \"127.0.0.1:0\"\n");
    app.write("atoll.toml", &text);
    app
}

/// `orders` publishes to `placed`, `points` takes from there.
fn orders_and_points(points: &str) -> App {
    let app = shop();
    app.service("orders")
        .route("/orders/**")
        .table("[publish]\ntopics = [\"placed\"]")
        .write();
    app.service("points")
        .route("/points/**")
        .table(&format!(
            "[[subscribe]]\ntopic = \"placed\"\npath = \"/take\"\n{points}"
        ))
        .write();
    app
}

/// What a service was sent, in order.
fn taken(app: &App, service: &str) -> Vec<Value> {
    let path = app.path(&format!(".atoll/data/{service}/taken"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn bodies(all: &[Value]) -> Vec<&str> {
    all.iter()
        .map(|own| own["body"].as_str().unwrap())
        .collect()
}

/// So many records were sent to the service, at least.
#[track_caller]
fn wait_taken(app: &App, service: &str, count: usize) -> Vec<Value> {
    eventually("records", || {
        let all = taken(app, service);
        if all.len() >= count {
            Ok(all)
        } else {
            Err(format!("{:?}", bodies(&all)))
        }
    })
}

/// By `orders`, at its EVENTS_URL.
#[track_caller]
fn publish(app: &App, path: &str, kind: &str, body: &str) -> Answer {
    let length = body.len();
    app.exchange(&format!(
        "POST /orders/events/{path} HTTP/1.1\r\nHost: t\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

fn lag(app: &App) -> i64 {
    let all = app.cli(&["--json", "events", "lag"]).succeeded().json();
    all[0]["lag"].as_i64().unwrap()
}

#[test]
fn a_record_that_a_service_publishes_is_pushed_to_another() {
    let app = orders_and_points("");
    app.up();
    let answer = publish(
        &app,
        "topics/placed?key=ada",
        "application/json",
        r#"{"order":1}"#,
    );
    let answer = answer.has(201).json();
    let id = answer["records"][0]["id"].as_str().unwrap();
    let all = wait_taken(&app, "points", 1);
    let fields = &all[0]["fields"];
    assert_eq!(all[0]["body"], r#"{"order":1}"#);
    assert_eq!(fields["ce-id"], id);
    assert_eq!(fields["ce-type"], "placed");
    assert_eq!(fields["ce-source"], "/services/orders");
    assert_eq!(fields["ce-partitionkey"], "ada");
    assert_eq!(fields["ce-attempt"], "1");
    assert_eq!(fields["content-type"], "application/json");
    // One trace from the request that came in to the one that was pushed.
    let parent = fields["traceparent"].as_str().unwrap();
    let way = eventually("all hops", || {
        let way = app.way(&parent[3..35]);
        if way.len() >= 3 {
            Ok(way)
        } else {
            Err(format!("{way:?}"))
        }
    });
    holds(&format!("{way:?}"), "orders to atoll");
    holds(&format!("{way:?}"), "atoll to points-r1-1");
    until("no lag", || lag(&app) == 0);
    on_the_map(&app);
    let trace = app.cli(&["--json", "trace", &parent[3..35]]).succeeded();
    let trace = trace.json();
    let spans = trace["spans"].as_array().unwrap().iter();
    let names = spans.map(|span| format!("{} {}", span["kind"], span["name"]).replace('"', ""));
    let names: Vec<String> = names.collect();
    assert_eq!(
        names[1..],
        ["producer send placed", "consumer process placed"]
    );
}

/// The topic stands between who publishes and who is called.
#[track_caller]
fn on_the_map(app: &App) {
    let socket = app.path(".atoll/run/admin.sock");
    let map = Connection::local(&socket).unwrap().get("/v1/map").unwrap();
    let map = map.has(200).json();
    let edges: Vec<String> = map["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|own| format!("{} {} {}", own["from"], own["kind"], own["to"]).replace('"', ""))
        .collect();
    for edge in [
        "orders event placed",
        "placed event points",
        "edge http orders",
    ] {
        assert!(
            edges.iter().any(|own| own == edge),
            "no {edge} in {edges:?}"
        );
    }
    assert!(
        !edges.iter().any(|own| own.contains("http atoll")),
        "{edges:?}"
    );
    let nodes = map["nodes"].as_array().unwrap();
    let topic = nodes.iter().find(|own| own["name"] == "placed").unwrap();
    assert_eq!(topic["kind"], "topic");
}

#[test]
fn what_is_not_declared_is_refused_with_the_line_to_add() {
    let app = orders_and_points("");
    app.up();
    let answer = publish(&app, "topics/other", "text/plain", "x")
        .has(403)
        .json();
    holds(
        answer["detail"].as_str().unwrap(),
        "[publish] topics = [\"other\"]",
    );
    let answer = app.get("/orders/events/topics/placed").has(403).json();
    holds(
        answer["detail"].as_str().unwrap(),
        "[[subscribe]] topic = \"placed\"",
    );
    app.get("/points/events/topics/placed").has(200);
}

#[test]
fn a_request_with_an_idempotency_key_publishes_once() {
    let app = orders_and_points("");
    app.up();
    let send = || {
        app.exchange(
            "POST /orders/events/topics/placed HTTP/1.1\r\nHost: t\r\nIdempotency-Key: k1\r\nContent-Length: 1\r\n\r\nx",
        )
    };
    assert_eq!(send().has(201).json(), send().has(201).json());
    publish(&app, "topics/placed", "text/plain", "y").has(201);
    assert_eq!(bodies(&wait_taken(&app, "points", 2)), ["x", "y"]);
}

#[test]
fn a_record_that_fails_is_a_dead_letter_that_can_be_repaired() {
    let app = orders_and_points("[subscribe.retry]\nattempts = 3\ndelay = \"10ms\"");
    app.up();
    app.write(".atoll/data/points/refused", "bad");
    for (key, body) in [
        ("a", "bad 1"),
        ("a", "good 1"),
        ("b", "bad 2"),
        ("b", "good 2"),
    ] {
        app.cli(&["events", "publish", "placed", body, "--key", key])
            .succeeded();
    }
    let all = wait_taken(&app, "points", 8);
    let of_a: Vec<_> = bodies(&all)
        .into_iter()
        .filter(|body| body.ends_with('1'))
        .collect();
    assert_eq!(of_a, ["bad 1", "bad 1", "bad 1", "good 1"]);
    let listed = eventually("two dead letters", || {
        let all = app
            .cli(&["--json", "events", "dead", "list"])
            .succeeded()
            .json();
        let count = all.as_array().unwrap().len();
        if count == 2 {
            Ok(all)
        } else {
            Err(all.to_string())
        }
    });
    let (one, two) = (&listed[0], &listed[1]);
    assert_eq!(one["value"], "bad 1");
    assert_eq!(
        (&one["attempts"], &one["reason"]),
        (&3.into(), &"answered 500".into())
    );
    assert_eq!(one["group"], two["group"]);
    let (one, two) = (one["id"].as_str().unwrap(), two["id"].as_str().unwrap());
    let shown = app.cli(&["events", "dead", "show", one]).succeeded();
    holds(&shown.out, "points was sent it at /take 3 times");
    holds(&shown.out, r#"its answer: {"taken": "bad 1"}"#);

    // The fault is still there: it stops by itself.
    let stopped = app
        .cli(&["events", "dead", "redrive", "--all", "--stop-after", "1"])
        .ended(1);
    holds(&stopped.err, "stopped");
    holds(&stopped.err, "1 letter was not tried");
    app.write("edited", "mended 1");
    let edited = app.path("edited");
    let edit = [
        "events",
        "dead",
        "edit",
        one,
        "--value",
        edited.to_str().unwrap(),
    ];
    app.cli(&edit).succeeded();
    app.cli(&["events", "dead", "redrive", one]).succeeded();
    app.write(".atoll/data/points/refused", "");
    app.cli(&["events", "dead", "redrive", two]).succeeded();
    let all = taken(&app, "points");
    assert_eq!(bodies(&all)[all.len() - 2..], ["mended 1", "bad 2"]);
    holds(
        &app.cli(&["events", "dead", "list"]).succeeded().err,
        "No dead letters.",
    );
}

#[test]
fn while_a_service_is_away_its_records_wait() {
    let app = orders_and_points("");
    app.up();
    publish(&app, "topics/placed", "text/plain", "1").has(201);
    wait_taken(&app, "points", 1);
    app.write(".atoll/data/points/away", "");
    kill(app.pids("points")[0], Signal::KILL);
    until("no points", || app.pids("points").is_empty());
    for body in ["2", "3"] {
        publish(&app, "topics/placed?key=k", "text/plain", body).has(201);
    }
    let told = eventually("a subscription that waits", || {
        let told = app.cli(&["events", "lag"]).succeeded();
        if told.out.contains("nobody answers") {
            Ok(told)
        } else {
            Err(told.to_string())
        }
    });
    holds(&told.err, "points has no ready instance");
    assert_eq!(lag(&app), 2);
    in_one_partition(&app, 2);
    std::fs::remove_file(app.path(".atoll/data/points/away")).unwrap();
    assert_eq!(bodies(&wait_taken(&app, "points", 3)), ["1", "2", "3"]);
    let dead = app
        .cli(&["--json", "events", "dead", "list"])
        .succeeded()
        .json();
    assert_eq!(dead, Value::Array(Vec::new()));
}

/// Who takes from `placed` is behind in one partition alone, by so many records that are there.
#[track_caller]
fn in_one_partition(app: &App, behind: i64) {
    let all = app.cli(&["--json", "events", "lag"]).succeeded().json();
    let lags = all[0]["lags"].as_array().unwrap();
    let numbers: Vec<_> = lags.iter().map(|own| own["partition"].as_u64()).collect();
    let socket = app.path(".atoll/run/admin.sock");
    let mut socket = Connection::local(&socket).unwrap();
    let partitions = socket.get("/v1/topics/placed/partitions").unwrap();
    let partitions = partitions.has(200).json();
    let partitions = partitions.as_array().unwrap();
    let there: Vec<_> = partitions
        .iter()
        .map(|own| own["partition"].as_u64())
        .collect();
    assert_eq!(numbers, there);
    let late: Vec<_> = lags.iter().filter(|own| own["lag"] != 0).collect();
    assert_eq!(late.len(), 1, "{lags:?}");
    assert_eq!(late[0]["lag"], behind);
    let number = usize::try_from(late[0]["partition"].as_u64().unwrap()).unwrap();
    let ends = &partitions[number];
    assert!(ends["end"].as_i64().unwrap() - ends["start"].as_i64().unwrap() >= behind);
}

#[test]
fn a_replay_goes_to_one_subscription_and_no_other() {
    let app = orders_and_points("");
    app.service("audit")
        .table("[[subscribe]]\ntopic = \"placed\"\npath = \"/take\"")
        .write();
    app.up();
    for body in ["1", "2"] {
        publish(&app, "topics/placed?key=k", "text/plain", body).has(201);
    }
    wait_taken(&app, "points", 2);
    wait_taken(&app, "audit", 2);
    app.cli(&["events", "replay", "points", "placed", "--from", "1h"])
        .succeeded();
    assert_eq!(bodies(&wait_taken(&app, "points", 4)), ["1", "2", "1", "2"]);
    assert_eq!(taken(&app, "audit").len(), 2);
}

/// Each input has exactly one output, and they are in order, however often the node dies.
#[test]
fn a_pipeline_gives_each_record_one_answer_although_the_node_is_killed() {
    const RECORDS: usize = 300;
    let app = orders_and_points("output = \"credited\"\n[publish]\ntopics = [\"credited\"]");
    let mut up = app.up_in_foreground(&[]);
    until("orders", || app.view("orders")["state"] == "ready");
    let lines: Vec<String> = (0..RECORDS).map(|number| number.to_string()).collect();
    let kind = "application/x-ndjson";
    publish(&app, "topics/placed?key=k", kind, &lines.join("\n")).has(201);
    for round in 1..4 {
        let due = RECORDS / 5 * round;
        wait_taken(&app, "points", due);
        kill(up.pid(), Signal::KILL);
        up.ended();
        drop(up);
        up = app.up_in_foreground(&[]);
    }
    let outputs = eventually("all answers", || {
        let told = app
            .cli(&["--json", "events", "tail", "credited", "-n", "1000"])
            .succeeded();
        let all: Vec<Value> = told
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if all.len() >= RECORDS {
            Ok(all)
        } else {
            Err(all.len().to_string())
        }
    });
    let values = outputs
        .iter()
        .map(|own| own["value"].as_str().unwrap().to_owned());
    let expected = lines
        .iter()
        .map(|line| format!("{{\"taken\": \"{line}\"}}"));
    assert_eq!(values.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    until("no lag", || lag(&app) == 0);
    // The handler may see a record again after a crash, but no other than those that were under way.
    let seen = taken(&app, "points").len();
    assert!(seen <= RECORDS + 3 * 200, "{seen}");
    up.signal(Signal::TERM);
    up.ended();
}

/// An application whose topics live at this port; `login` as TOML.
fn elsewhere(app: &App, port: u16, login: &str) {
    let text = app.read("atoll.toml");
    let (before, _) = text.split_once("[events]").unwrap();
    let kafka = format!("[events]\nkafka = \"127.0.0.1:{port}\"\n{login}");
    app.write("atoll.toml", &format!("{before}{kafka}"));
}

/// An application whose broker the others take for their Kafka. `more`: of `[events]`.
fn kafka(port: u16, more: &str) -> App {
    kafka_in(App::new(), port, more)
}

fn kafka_in(home: App, port: u16, more: &str) -> App {
    let text = home.read("atoll.toml");
    let events = format!("[events]\nlisten = \"127.0.0.1:{port}\"\n{more}\n");
    home.write(
        "atoll.toml",
        &format!("{text}{events}[topics.placed]\npartitions = 2\n"),
    );
    home.service("market")
        .route("/market/**")
        .table("[publish]\ntopics = [\"placed\"]")
        .write();
    home.up();
    home
}

#[test]
fn a_kafka_of_ones_own_is_logged_in_to() {
    let port = free_port();
    let home = kafka(port, "open = false");
    let password = home.done_in("market", "echo $KAFKA_SASL_PASSWORD");
    let app = shop();
    app.service("orders")
        .route("/orders/**")
        .table("[publish]\ntopics = [\"placed\"]")
        .write();
    let login = "[events.sasl]\nmechanism = \"scram-sha-256\"\nuser = \"market\"\npassword_file = \"secret\"\n";
    elsewhere(&app, port, login);
    app.write("secret", "wrong\n");
    holds(&app.try_up().ended(1).err, "Kafka cannot be reached");
    app.write("secret", &password);
    app.up();
    publish(&app, "topics/placed", "text/plain", "1").has(201);
    let told = home
        .cli(&["--json", "events", "tail", "placed"])
        .succeeded();
    holds(&told.out, "\"value\":\"1\"");
}

#[test]
fn kafkas_protocol_is_spoken_in_tls() {
    let port = free_port();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let home = App::new();
    home.write("broker.pem", &cert);
    home.write("broker.key", &key);
    let tls = "[events.tls]\ncert = \"broker.pem\"\nkey = \"broker.key\"\nca = \"broker.pem\"";
    let home = kafka_in(
        home,
        port,
        &format!("open = false\nadvertise = \"localhost:{port}\"\n{tls}"),
    );
    let told = "echo $KAFKA_SECURITY_PROTOCOL $KAFKA_BOOTSTRAP_SERVERS; cat $KAFKA_SSL_CA_LOCATION";
    let expected = format!("SASL_SSL localhost:{port}\n{cert}");
    assert_eq!(
        home.done_in("market", told).replace('\r', "").trim(),
        expected.replace('\r', "").trim()
    );
    let password = home.done_in("market", "echo $KAFKA_SASL_PASSWORD");

    let app = shop();
    app.service("orders")
        .route("/orders/**")
        .table("[publish]\ntopics = [\"placed\"]")
        .write();
    app.write("secret", &password);
    app.write("ca.pem", &cert);
    let text = app.read("atoll.toml");
    let (before, _) = text.split_once("[events]").unwrap();
    let with = |tls: &str, host: &str| {
        let login =
            "[events.sasl]\nmechanism = \"plain\"\nuser = \"market\"\npassword_file = \"secret\"\n";
        let events = format!("[events]\nkafka = \"{host}:{port}\"\n{tls}{login}");
        app.write("atoll.toml", &format!("{before}{events}"));
    };
    // Neither in the clear, nor to whom nobody vouches for, nor under another name.
    let ca = "[events.tls]\nca = \"ca.pem\"\n";
    for (tls, host) in [
        ("", "localhost"),
        ("[events.tls]\n", "localhost"),
        (ca, "127.0.0.1"),
    ] {
        with(tls, host);
        holds(&app.try_up().ended(1).err, "Kafka cannot be reached");
    }
    with(ca, "localhost");
    app.up();
    publish(&app, "topics/placed", "text/plain", "1").has(201);
    let told = home
        .cli(&["--json", "events", "tail", "placed"])
        .succeeded();
    holds(&told.out, "\"value\":\"1\"");

    // A renewed certificate is used by who comes then; a broken one changes nothing.
    let says = |what: &str| {
        until(what, || {
            let all = home.messages("atoll");
            all.iter().any(|own| own.contains(what))
        });
    };
    app.down();
    home.write("broker.pem", "broken");
    says("the broker's certificate from before stays in use");
    app.up();
    app.down();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    home.write("broker.key", &made.signing_key.serialize_pem());
    home.write("broker.pem", &made.cert.pem());
    says("the broker's new certificate is in use");
    holds(&app.try_up().ended(1).err, "Kafka cannot be reached");
    app.write("ca.pem", &made.cert.pem());
    app.up();
}

#[test]
fn a_broker_that_speaks_tls_needs_a_certificate() {
    let app = shop();
    app.service("orders").write();
    let text = app.read("atoll.toml");
    app.write("atoll.toml", &format!("{text}[events.tls]\nca = \"x\"\n"));
    let said = app.cli(&["check"]).ended(3);
    holds(&said.err, "the broker needs a certificate");
    let tls = "advertise = \"nowhere\"\n[events.tls]\ncert = \"none.pem\"\nkey = \"none.key\"\n";
    let (before, after) = text.split_once("[events]\n").unwrap();
    app.write("atoll.toml", &format!("{before}[events]\n{tls}"));
    holds(&app.cli(&["check"]).ended(3).err, "is no HOST:PORT");
    let tls = tls.replace("advertise = \"nowhere\"\n", "");
    app.write("atoll.toml", &format!("{before}[events]\n{after}{tls}"));
    holds(&app.try_up().ended(1).err, "none.pem, cannot be read");
}

#[test]
fn an_application_may_have_a_kafka_of_its_own() {
    let port = free_port();
    let home = kafka(port, "");
    let app = orders_and_points(
        "output = \"credited\"\n[subscribe.retry]\nattempts = 2\ndelay = \"10ms\"\n[publish]\ntopics = [\"credited\"]",
    );
    elsewhere(&app, port, "");
    app.up();
    app.write(".atoll/data/points/refused", "bad");
    for body in ["1", "bad", "2"] {
        publish(&app, "topics/placed?key=k", "text/plain", body).has(201);
    }
    let all = wait_taken(&app, "points", 4);
    assert_eq!(bodies(&all), ["1", "bad", "bad", "2"]);
    until("no lag", || lag(&app) == 0);
    let dead = app
        .cli(&["--json", "events", "dead", "list"])
        .succeeded()
        .json();
    assert_eq!(dead[0]["value"], "bad");
    app.write(".atoll/data/points/refused", "");
    app.cli(&["events", "dead", "redrive", "--all"]).succeeded();

    // What was done stays done.
    app.down();
    app.up();
    publish(&app, "topics/placed?key=k", "text/plain", "3").has(201);
    let all = wait_taken(&app, "points", 6);
    assert_eq!(bodies(&all)[4..], ["bad", "3"]);
    let answers = eventually("all answers", || {
        let told = home
            .cli(&["--json", "events", "tail", "credited", "-n", "100"])
            .succeeded();
        let all: Vec<Value> = told
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if all.len() >= 4 {
            Ok(all)
        } else {
            Err(told.out)
        }
    });
    let answers: Vec<_> = answers
        .iter()
        .map(|own| own["value"].as_str().unwrap())
        .collect();
    let expected = ["1", "2", "bad", "3"].map(|body| format!("{{\"taken\": \"{body}\"}}"));
    assert_eq!(answers, expected);
}

#[test]
fn a_topic_that_may_lose_records_is_warned_of() {
    let app = orders_and_points("");
    let text = app.read("atoll.toml");
    app.write(
        "atoll.toml",
        &format!("{text}[topics.placed]\ndurability = \"memory\"\n"),
    );
    let said = app.cli(&["check"]).succeeded();
    holds(
        &said.err,
        "records of the topic placed are acknowledged before they are on disk",
    );
    let told = app.cli(&["--json", "check"]).succeeded().json();
    assert_eq!(told["warnings"].as_array().unwrap().len(), 1);
}

const STRICT: &str =
    r#"{"type":"object","required":["order"],"properties":{"order":{"type":"integer"}}}"#;
const MORE: &str = r#"{"type":"object","required":["order"],"properties":{"order":{"type":"integer"},"note":{"type":"string"}}}"#;
const LOOSE: &str = r#"{"type":"object","properties":{"order":{"type":"integer"}}}"#;

/// `orders` says what it writes.
fn with_schema(points: &str) -> App {
    let app = orders_and_points(points);
    let manifest = app.read("services/orders/service.toml");
    let publish = "[publish.schemas]\nplaced = \"placed.json\"\n";
    app.write(
        "services/orders/service.toml",
        &format!("{manifest}\n{publish}"),
    );
    app.write("services/orders/placed.json", STRICT);
    app
}

#[test]
fn what_does_not_match_the_schema_is_refused_at_every_door() {
    let app = with_schema("");
    app.up();
    let json = "application/json";
    publish(&app, "topics/placed", json, r#"{"order":1}"#).has(201);
    let refused = publish(&app, "topics/placed", json, r#"{"order":"x"}"#)
        .has(422)
        .json();
    holds(refused["detail"].as_str().unwrap(), "/order");
    let said = app.cli(&["events", "publish", "placed", "{}"]).ended(1);
    holds(&said.err, "does not match the schema of 'placed'");
    assert_eq!(bodies(&wait_taken(&app, "points", 1)), [r#"{"order":1}"#]);
}

#[test]
fn a_schema_that_breaks_a_reader_is_not_deployed() {
    let app = with_schema("");
    app.up();
    app.write("services/orders/placed.json", LOOSE);
    let said = app.cli(&["deploy", "orders"]).ended(1);
    holds(&said.err, "placed.json would break who reads 'placed'");
    holds(&said.err, "ATL0114");
    // It is in nobody else's way, and the schema of before is in force.
    app.cli(&["deploy", "points"]).succeeded();
    publish(&app, "topics/placed", "application/json", "{}").has(422);
    app.write("services/orders/placed.json", MORE);
    app.cli(&["deploy", "orders"]).succeeded();
    publish(
        &app,
        "topics/placed",
        "application/json",
        r#"{"order":1,"note":7}"#,
    )
    .has(422);
}

#[test]
fn a_reader_may_say_what_it_relies_on() {
    let app = with_schema("schema = \"relies.json\"");
    app.write("services/points/relies.json", LOOSE);
    app.up();
    app.write("services/orders/placed.json", LOOSE);
    app.cli(&["deploy", "orders"]).succeeded();
    app.write("services/points/relies.json", STRICT);
    let said = app.cli(&["deploy", "points"]).ended(3);
    holds(&said.err, "ATL0114");
    holds(&said.err, "breaks points");
    app.write("services/points/relies.json", "{");
    holds(&app.cli(&["check"]).ended(3).err, "relies.json");
}

#[test]
fn mistakes_in_subscriptions_are_told() {
    let app = shop();
    app.service("a")
        .table("[publish]\ntopics = [\"t\"]")
        .table(
            "[[subscribe]]\ntopic = \"t\"\npath = \"x\"\noutput = \"elsewhere\"\nbatch = 5\n\
             [subscribe.retry]\nstatuses = [\"6xx\"]\n[[subscribe]]\ntopic = \"t\"",
        )
        .write();
    let said = app.cli(&["check"]).ended(3);
    for part in [
        "a path begins with '/'",
        "the answer to a batch belongs to no record",
        "'6xx' is neither a status",
        "there are two subscriptions to `t`",
        "the answers go to `elsewhere`, which it does not publish to",
    ] {
        holds(&said.err, part);
    }
}
