//! What follows from what happened, of a node that runs: the map, the timeline, errors, and why.

use serde_json::Value;

use crate::testkit::{App, Connection, eventually, holds, until};

/// The edge calls `a`, and some of it fails.
fn on_the_map(map: &Value) {
    let edges = map["edges"].as_array().unwrap();
    let edge = edges.iter().find(|edge| edge["to"] == "a").unwrap();
    assert_eq!(
        (&edge["from"], &edge["kind"]),
        (&"edge".into(), &"http".into())
    );
    // One of two or more failed, and both are told in a second.
    let number = |name: &str| edge[name].as_f64().unwrap();
    assert!(
        number("error_rate") > 0.0 && number("error_rate") < number("rate"),
        "{edge}"
    );
    assert!(number("p50_us") <= number("p99_us"), "{edge}");
    let nodes = map["nodes"].as_array().unwrap();
    assert!(
        nodes
            .iter()
            .any(|node| node["name"] == "edge" && node["kind"] == "edge")
    );
    assert!(
        nodes
            .iter()
            .any(|node| node["name"] == "a" && node["state"].is_string())
    );
}

#[test]
fn a_service_that_fails_is_seen_everywhere() {
    let app = App::with_a();
    let socket = app.path(".atoll/run/admin.sock");
    let ask = |path: &str| {
        let answer = Connection::local(&socket).unwrap().get(path).unwrap();
        answer.has(200).json()
    };
    app.get("/a/x").has(200);
    let post = "POST /a/exit/3 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    let failed = app.exchange(post).has(502);
    let errors = eventually("the error", || {
        let errors = ask("/v1/errors?service=a");
        let own = |error: &&Value| {
            error["message"]
                .as_str()
                .unwrap()
                .contains("failed with 502")
        };
        let found = errors.as_array().unwrap().iter().find(own).cloned();
        found.ok_or_else(|| errors.to_string())
    });
    assert_eq!(errors["trace"], failed.trace());
    assert_eq!(errors["count"], 1);

    on_the_map(&ask("/v1/map"));
    let kinds = |query: &str| {
        let page = ask(&format!("/v1/timeline?{query}"));
        let events = page["events"].as_array().unwrap().iter();
        let kinds: Vec<String> = events
            .map(|own| own["kind"].as_str().unwrap().to_owned())
            .collect();
        kinds
    };
    let all = kinds("service=a");
    for kind in ["deploy", "start", "ready", "exit"] {
        assert!(all.iter().any(|own| own == kind), "{kind}: {all:?}");
    }
    assert!(!all.iter().any(|own| own == "request"), "{all:?}");
    assert!(kinds("kind=exit").iter().all(|own| own == "exit"));

    let why = ask("/v1/why/a");
    let summary = why["summary"].as_str().unwrap();
    assert!(
        summary.contains("of a") && summary.contains("deployment 1: done"),
        "{summary}"
    );
    let of_trace = ask(&format!("/v1/why/{}", failed.trace()));
    assert!(
        !of_trace["errors"].as_array().unwrap().is_empty(),
        "{of_trace}"
    );
    let nobody = Connection::local(&socket)
        .unwrap()
        .get("/v1/why/nobody")
        .unwrap();
    nobody.has(404);
}

/// What sends the JSON that `make` builds, as the service does.
fn sends(signal: &str, make: &str) -> String {
    format!(
        "python3 - <<'END'\nimport json, os, time, urllib.request\nnow = time.time_ns()\n\
         resource = {{'attributes': []}}\n{make}\n\
         url = os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] + '/v1/{signal}'\n\
         request = urllib.request.Request(url, json.dumps(sent).encode(), {{'content-type': 'application/json'}})\n\
         print(urllib.request.urlopen(request).read().decode())\nEND"
    )
}

/// Errors by the seconds before now at which they were.
fn errors_at(seconds: &str) -> String {
    let make = format!(
        "records = [{{'timeUnixNano': str(now - int(at * 1e9)), 'severityNumber': 17, 'body': {{'stringValue': 'no room in the vault'}}}} for at in {seconds}]\n\
         sent = {{'resourceLogs': [{{'resource': resource, 'scopeLogs': [{{'logRecords': records}}]}}]}}"
    );
    sends("logs", &make)
}

/// Ten a second from a deployment on, and one a minute for most of an hour before: that was another matter.
#[test]
fn a_few_errors_before_do_not_hide_what_changed_before_the_many() {
    let app = App::with_a();
    let socket = app.path(".atoll/run/admin.sock");
    app.done_in("a", &errors_at("range(60, 3000, 60)"));
    app.cli(&["deploy", "a"]).succeeded();
    let why = |count: &str, wanted: &str| {
        eventually(wanted, || {
            let answer = Connection::local(&socket)
                .unwrap()
                .get("/v1/why/a")
                .unwrap();
            let why = answer.has(200).json();
            let told = why["summary"].as_str().unwrap();
            let ready = told.starts_with(&format!("{count} errors of a.")) && told.contains(wanted);
            ready.then(|| why.clone()).ok_or(why.to_string())
        })
    };
    let before = why("49", "a: no room in the vault");
    assert_eq!(before["changes"].as_array().unwrap().len(), 0, "{before}");
    app.done_in("a", &errors_at("[at * 0.001 for at in range(50)]"));
    why("99", "Before that, a: deployment 2: done");
    // More than are looked at.
    app.done_in("a", &errors_at("[at * 0.00001 for at in range(6000)]"));
    why("More than 5000", "Before that, a: deployment 2: done");
}

/// A span that failed, of this trace, with an exception.
fn failed_span(trace: &str) -> String {
    let make = format!(
        "event = {{'name': 'exception', 'attributes': [{{'key': 'exception.message', 'value': {{'stringValue': 'the vault is closed'}}}}]}}\n\
         span = {{'traceId': '{trace}', 'spanId': '6' * 16, 'name': 'open', 'startTimeUnixNano': str(now), 'endTimeUnixNano': str(now), 'status': {{'code': 2}}, 'events': [event]}}\n\
         sent = {{'resourceSpans': [{{'resource': resource, 'scopeSpans': [{{'spans': [span]}}]}}]}}"
    );
    sends("traces", &make)
}

#[test]
fn what_only_a_span_tells_is_told_and_without_errors_where_the_time_went() {
    let app = App::with_a();
    let socket = app.path(".atoll/run/admin.sock");
    let ask = |subject: &str| {
        let path = format!("/v1/why/{subject}");
        Connection::local(&socket).unwrap().get(&path).unwrap()
    };
    ask(&"7".repeat(32)).has(404);
    let answered = app.get("/a/x").has(200);
    eventually("where the time went", || {
        let answer = ask(answered.trace()).json();
        let told = answer["summary"].as_str().unwrap_or_default();
        let fine =
            told.contains("No errors of the request") && told.contains("in a itself: GET /a/");
        fine.then_some(()).ok_or(answer.to_string())
    });
    let told = ask("a").has(200).json();
    holds(
        told["summary"].as_str().unwrap(),
        "95 in 100 took no longer than",
    );
    app.done_in("a", &failed_span(&"5".repeat(32)));
    for subject in ["a", &"5".repeat(32)] {
        eventually("what the span says", || {
            let answer = ask(subject).json();
            let error = &answer["errors"][0];
            let fine =
                error["message"] == "open: the vault is closed" && error["trace"] == "5".repeat(32);
            fine.then_some(()).ok_or(answer.to_string())
        });
    }
}

/// The log tells that requests fail, and of something else; why they do stands in a span alone.
#[test]
fn an_error_that_no_request_met_is_not_their_cause() {
    let app = App::with_a();
    let socket = app.path(".atoll/run/admin.sock");
    app.done_in("a", &errors_at("[30]"));
    let failed = app.get("/a/status/503").has(503);
    app.done_in("a", &failed_span(failed.trace()));
    eventually("the cause", || {
        let mut local = Connection::local(&socket).unwrap();
        let why = local.get("/v1/why/a").unwrap().has(200).json();
        let errors = why["errors"].as_array().unwrap();
        let first = errors.first().map(|own| own["message"].as_str().unwrap());
        let fine = first == Some("open: the vault is closed") && errors.len() == 3;
        fine.then_some(()).ok_or(why.to_string())
    });
}

#[test]
fn what_the_platform_does_by_itself_stands_on_the_timeline() {
    let app = App::new();
    let few =
        "[[route]]\npath = \"/few/**\"\nrate_limit = { requests = 1, per = \"1h\", by = \"all\" }";
    let frail = || {
        let service = app.service("frail").route("/frail/**");
        service.table("[resilience.breaker]\ncalls = 5\npause = \"1h\"\npause_max = \"1h\"")
    };
    frail().write();
    app.service("few").table(few).write();
    app.up();
    app.get("/few/x").has(200);
    app.get("/few/x").has(429);
    until("the breaker opens", || {
        app.get("/frail/status/503").body.contains("breaker-open")
    });
    app.cli(&["scale", "few", "2"]).succeeded();
    frail().route("/frail/more").write();
    app.cli(&["deploy", "frail"]).succeeded();
    let socket = app.path(".atoll/run/admin.sock");
    for (service, kind, expected) in [
        (
            "few",
            "limit",
            "its limits refuse requests: 1 were too many in their time",
        ),
        ("few", "scale", "wants 2 instances"),
        ("frail", "breaker", "calls from the edge are refused: "),
        ("frail", "config", "routes new: /frail/more"),
    ] {
        let path = format!("/v1/timeline?service={service}&kind={kind}");
        eventually(kind, || {
            let page = Connection::local(&socket).unwrap().get(&path).unwrap();
            let page = page.has(200).json();
            let events = page["events"].as_array().unwrap();
            let message = events.first().and_then(|own| own["message"].as_str());
            match message {
                Some(message) if events.len() == 1 && message.contains(expected) => Ok(()),
                _ => Err(page.to_string()),
            }
        });
    }
    // Numbers of an event can be asked for.
    let found = app.log(&["few", "kind:limit over_rate:1"]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn an_instance_that_fails_is_left_out_and_comes_back_and_both_are_told() {
    let app = App::new();
    let table = "[scale]\nmin = 2\n[resilience.ejection]\npause = \"500ms\"";
    app.service("twins").route("/twins/**").table(table).write();
    app.up();
    let socket = app.path(".atoll/run/admin.sock");
    let ejections = || {
        let path = "/v1/timeline?service=twins&kind=ejection";
        let page = Connection::local(&socket).unwrap().get(path).unwrap();
        let page = page.has(200).json();
        let events = page["events"].as_array().unwrap().iter().rev();
        let told = events.map(|own| format!("{} {}", own["instance"], own["message"]));
        told.collect::<Vec<String>>()
    };
    until("the first instance is left out", || {
        app.get("/twins/status-of/1/500");
        !ejections().is_empty()
    });
    holds(&ejections()[0], "twins-r1-1");
    holds(&ejections()[0], "left out of traffic: ");
    until("it is back", || {
        app.get("/twins/fast").has(200);
        ejections().len() > 1
    });
    holds(&ejections()[1], "twins-r1-1");
    holds(&ejections()[1], "left out of traffic no more");
}

/// The broker knows who they are; and a topic that is called as a service is, is another box.
#[test]
fn clients_of_kafka_are_on_the_map() {
    let app = App::new();
    let text = app.read("atoll.toml") + "[events]\nlisten = \"127.0.0.1:0\"\n";
    app.write("atoll.toml", &text);
    app.service("orders")
        .route("/orders/**")
        .table("[publish]\ntopics = [\"points\"]")
        .write();
    app.service("points")
        .route("/points/**")
        .table("[[subscribe]]\ntopic = \"points\"")
        .write();
    app.up();
    let kcat = "kcat -b $KAFKA_BOOTSTRAP_SERVERS -X security.protocol=$KAFKA_SECURITY_PROTOCOL \
        -X sasl.mechanisms=$KAFKA_SASL_MECHANISM -X sasl.username=$KAFKA_SASL_USERNAME \
        -X sasl.password=$KAFKA_SASL_PASSWORD -t points";
    app.done_in("orders", &format!("printf '1\\n2\\n3\\n' | {kcat} -P"));
    let read = app.done_in("points", &format!("{kcat} -C -c 3 -q"));
    assert_eq!(read, "1\n2\n3\n");
    let socket = app.path(".atoll/run/admin.sock");
    let map = eventually("the records", || {
        let map = Connection::local(&socket).unwrap().get("/v1/map").unwrap();
        let map = map.has(200).json();
        let events = map["edges"].as_array().unwrap().iter();
        let events = events.filter(|own| own["kind"] == "event");
        let events = events.map(|own| {
            let records = own["rate"].as_f64().unwrap() * 3600.0;
            (own["from"].clone(), own["to"].clone(), records.round())
        });
        let topic = Value::from("topic:points");
        let wanted = [
            ("orders".into(), topic.clone(), 3.0),
            (topic, "points".into(), 3.0),
        ];
        let events: Vec<_> = events.collect();
        if events == wanted {
            Ok(map)
        } else {
            Err(format!("{map:#}"))
        }
    });
    let nodes = map["nodes"].as_array().unwrap();
    let kind = |name: &str| nodes.iter().find(|own| own["name"] == name).unwrap()["kind"].clone();
    assert_eq!(
        (kind("points"), kind("topic:points")),
        ("service".into(), "topic".into())
    );
    holds(&app.cli(&["map"]).succeeded().out, "topic:points");
}
