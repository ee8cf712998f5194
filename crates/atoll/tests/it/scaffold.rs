//! Starting points: `atoll init`, `atoll new`, `atoll schema`, `atoll completions`.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::testkit::{App, Connection, atoll, command, eventually, holds, run};

/// An application that `atoll init` made, on ports of the system's choice.
fn fresh() -> App {
    let app = App::new();
    std::fs::remove_file(app.path("atoll.toml")).unwrap();
    app.cli(&["init"]).succeeded();
    let text = app
        .read("atoll.toml")
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace(
            "[telemetry]\n",
            "[telemetry]\notlp_grpc = \"off\"\notlp_http = \"off\"\n",
        );
    app.write("atoll.toml", &format!("{text}\n[mesh]\nport = 0\n"));
    app
}

#[test]
fn what_is_begun_with_init_and_new_comes_up_answers_and_passes_its_tests() {
    let app = fresh();
    app.cli(&["new", "service", "snake", "--lang", "python"])
        .succeeded();
    app.cli(&["new", "service", "knot", "--lang", "node"])
        .succeeded();
    app.cli(&["check"]).succeeded();
    app.up();
    for name in ["snake", "knot"] {
        let answer = app.get(&format!("/{name}")).has(200);
        assert_eq!(answer.json()["hello"], format!("from {name}"));
        // Its line is found by the trace: the starting point shows how.
        let found = eventually("the line of the request", || {
            match app.log(&["--trace", answer.trace()]) {
                log if log.is_empty() => Err("nothing".to_owned()),
                log => Ok(log),
            }
        });
        assert_eq!(found[0]["service"], name);
    }
    let mut python = command("python3");
    python
        .current_dir(app.path("services/snake"))
        .args(["-m", "unittest"]);
    run(python).succeeded();
    let mut node = command("node");
    node.current_dir(app.path("services/knot")).arg("--test");
    run(node).succeeded();
}

#[test]
fn a_starting_point_in_rust_is_built_comes_up_and_answers() {
    let app = fresh();
    app.cli(&["new", "service", "ferris", "--lang", "rust"])
        .succeeded();
    holds(&app.read("services/ferris/Cargo.toml"), "name = \"ferris\"");
    holds(&app.read("services/ferris/src/main.rs"), "fn main()");
    // It is built as `atoll up` builds it, but without the time that optimizing takes.
    app.write(
        "services/ferris/.cargo/config.toml",
        "[profile.release]\nopt-level = 0\nlto = false\n",
    );
    app.up();
    let answer = app.get("/ferris").has(200);
    assert_eq!(answer.json()["hello"], "from ferris");
    app.get("/ferris/nothing").has(404);
}

#[test]
fn nothing_of_a_persons_is_overwritten() {
    let app = fresh();
    let said = app.cli(&["init"]).ended(1);
    holds(&said.err, "nothing is overwritten");
    app.cli(&["new", "service", "a"]).succeeded();
    app.write("services/a/main.py", "mine");
    let said = app.cli(&["new", "service", "a"]).ended(1);
    holds(&said.err, "exists already");
    assert_eq!(app.read("services/a/main.py"), "mine");
    app.cli(&["new", "service", "Not A Name"]).ended(2);
    holds(&app.read(".gitignore"), ".atoll/");
}

#[test]
fn the_schemas_describe_every_key() {
    let app = App::new();
    for (arguments, title) in [
        (&["schema"][..], "service.toml"),
        (&["schema", "service"], "service.toml"),
        (&["schema", "application"], "atoll.toml"),
    ] {
        let schema = app.cli(arguments).succeeded().json();
        assert_eq!(schema["title"], title);
        assert!(
            schema["$schema"].as_str().unwrap().contains("2020-12"),
            "{schema:#}"
        );
        let keys = described(&schema, title);
        assert!(keys > 5, "{keys} keys in {title}");
    }
}

/// Every key within has a description; tells how many there are.
fn described(schema: &Value, at: &str) -> usize {
    let mut count = 0;
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}: {name}");
        let text = property["description"].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{at} is not described: {property:#}");
        assert_eq!(schema["additionalProperties"], false, "{at} is not alone");
        count += 1 + described(property, &at) + described(&property["items"], &at);
        for variant in property["anyOf"].as_array().into_iter().flatten() {
            count += described(variant, &at);
        }
    }
    count
}

#[test]
fn shells_are_given_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let mut completions = atoll();
        completions.args(["completions", shell]);
        holds(&run(completions).succeeded().out, "rollback");
    }
}

#[test]
fn the_admin_api_describes_itself() {
    let app = App::with_a();
    let socket = app.path(".atoll/run/admin.sock");
    let ask = |path: &str| Connection::local(&socket).unwrap().get(path).unwrap();
    let document = ask("/v1/openapi.json").has(200).json();
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1"),
        "{document:#}"
    );
    for path in document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|path| !path.contains('{'))
    {
        let get = &document["paths"][path]["get"];
        let mut parameters = get["parameters"].as_array().into_iter().flatten();
        let asks = parameters.any(|parameter| parameter["required"] == true);
        // Events never end.
        let ends = get["responses"]["200"]["content"]["text/event-stream"].is_null();
        if get.is_object() && !asks && ends {
            ask(path).has(200);
        }
    }
    let answer = ask("/v1/nothing").has(404);
    assert_eq!(
        answer.field("content-type"),
        Some("application/problem+json")
    );
    let folder = socket
        .parent()
        .unwrap()
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(
        folder & 0o077,
        0,
        "others may not enter the socket's folder: {folder:o}"
    );
}
