//! What a person is told about mistakes, file by file.

use std::fs;
use std::path::Path;

use super::{Report, application_schema, load, service_schema};

/// An application with the given files.
fn application(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

const APPLICATION: &str = "name = \"shop\"\nmembers = [\"services/*\"]\n";

fn mistakes(files: &[(&str, &str)]) -> Vec<String> {
    let mut files = files.to_vec();
    if !files.iter().any(|(name, _)| *name == "atoll.toml") {
        files.push(("atoll.toml", APPLICATION));
    }
    let dir = application(&files);
    let report = load(dir.path()).expect_err("there are mistakes");
    report.to_string().lines().map(str::to_owned).collect()
}

/// The mistakes of a service called `a` with these lines.
fn in_service(lines: &str) -> Vec<String> {
    let text = format!("name = \"a\"\nrun = [\"true\"]\n{lines}\n");
    mistakes(&[("services/a/service.toml", &text)])
}

#[test]
fn a_sound_application_is_read() {
    let dir = application(&[
        ("atoll.toml", APPLICATION),
        (
            "services/a/service.toml",
            "name = \"a\"\nrun = [\"true\"]\nneeds = [\"b\"]\n",
        ),
        (
            "services/b/service.toml",
            "name = \"b\"\nrun = [\"true\"]\n[[route]]\npath = \"/b/**\"\n",
        ),
        ("services/notes/README", "no service"),
    ]);
    let application = load(dir.path()).unwrap();
    let names: Vec<&str> = application
        .services
        .keys()
        .map(|name| name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once() {
    let told = mistakes(&[
        (
            "atoll.toml",
            "name = \"Shop\"\nmembers = [\"services/*\"]\nedges = {}\n",
        ),
        ("services/a/service.toml", "name = \"a\"\nrn = [\"true\"]\n"),
        ("services/b/service.toml", "name = \"b\"\nrun = \"true\"\n"),
    ]);
    // atoll.toml cannot be used, so its members are not looked for.
    assert_eq!(told.len(), 2, "{told:#?}");
    let told = mistakes(&[
        ("services/a/service.toml", "name = \"a\"\nrn = [\"true\"]\n"),
        (
            "services/b/service.toml",
            "name = \"b\"\nrun = \"true\"\nstop_timeout = \"10\"\n",
        ),
    ]);
    assert_eq!(
        told,
        [
            "services/a/service.toml:1:1: the file needs the key `run` (ATL0103); run: The program \
             and its arguments. It must listen on `$HOST:$PORT`.",
            "services/a/service.toml:2:1: `rn` is no key that Atoll knows (ATL0102); did you mean \
             `run`?",
            "services/b/service.toml:2:7: `run` must be a list in brackets, not a string (ATL0104); \
             The program and its arguments. It must listen on `$HOST:$PORT`.",
            "services/b/service.toml:3:16: `stop_timeout` cannot be \"10\": '10' needs a unit, one \
             of: us, ms, s, m, h, d (ATL0104); for example \"500ms\"",
        ]
    );
}

#[test]
fn keys_within_tables_are_held_against_their_schema() {
    let told = in_service("[health]\npaht = \"/\"\n[resources]\nmemory = 5\n[scale]\nmin = 0");
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].contains("4:1: `health.paht` is no key") && told[0].contains("`path`"));
    assert!(told[1].contains("a text with a number and a unit, such as \"256MiB\""));
    assert!(told[2].contains("`scale.min` must be at least 1"));
}

#[test]
fn names_that_do_not_exist_are_told_with_what_was_meant() {
    let told = mistakes(&[
        (
            "services/a/service.toml",
            "name = \"a\"\nrun = [\"true\"]\nneeds = [\"catalogue\", \"a\", \"catalog\", \"catalog\"]\n",
        ),
        (
            "services/catalog/service.toml",
            "name = \"catalog\"\nrun = [\"true\"]\n",
        ),
    ]);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].contains("3:10: there is no service called `catalogue`"));
    assert!(told[0].ends_with("did you mean `catalog`?"));
    assert!(told[1].contains("cannot name itself"));
    assert!(told[2].contains("stands twice"));
}

#[test]
fn a_mistake_in_one_file_causes_none_in_others() {
    let told = mistakes(&[
        (
            "services/a/service.toml",
            "name = \"a\"\nrun = [\"true\"]\nneeds = [\"b\", \"c\"]\n",
        ),
        (
            "services/b/service.toml",
            "name = \"b\"\nrun = [\"true\"]\nmni = 1\n",
        ),
        ("services/c/service.toml", "name = \"c\"\nrun = [\n"),
    ]);
    assert!(
        told.iter()
            .all(|mistake| !mistake.starts_with("services/a")),
        "{told:#?}"
    );
}

#[test]
fn two_services_cannot_have_one_name_nor_one_of_atolls() {
    let service = "name = \"a\"\nrun = [\"true\"]\n";
    let told = mistakes(&[
        ("services/a/service.toml", service),
        ("services/b/service.toml", service),
    ]);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("services/b/service.toml:1:8: two services are called `a`"));
    assert!(told[0].contains("the other is services/a/service.toml"));
    let told = mistakes(&[(
        "services/a/service.toml",
        "name = \"atoll-x\"\nrun = [\"true\"]\n",
    )]);
    assert!(told[0].contains("ATL0107"), "{told:#?}");
}

#[test]
fn a_ring_of_wait_for_is_told_once() {
    let service = |name: &str, next: &str| {
        format!("name = \"{name}\"\nrun = [\"true\"]\nwait_for = [\"{next}\"]\n")
    };
    let told = mistakes(&[
        ("services/a/service.toml", &service("a", "b")),
        ("services/b/service.toml", &service("b", "c")),
        ("services/c/service.toml", &service("c", "a")),
        ("services/d/service.toml", &service("d", "a")),
    ]);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains("wait for each other: a → b → c → a"),
        "{told:#?}"
    );
}

#[test]
fn routes_must_be_sound_and_unambiguous() {
    let route = |name: &str, path: &str| {
        format!("name = \"{name}\"\nrun = [\"true\"]\n[[route]]\npath = \"{path}\"\n")
    };
    let told = mistakes(&[
        ("services/a/service.toml", &route("a", "/orders/{id}")),
        ("services/b/service.toml", &route("b", "/orders/{order}")),
        ("services/c/service.toml", &route("c", "orders")),
    ]);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].contains("4:8: `/orders/{order}` takes the same requests as `/orders/{id}` of a")
    );
    assert!(told[1].contains("ATL0110"), "{told:#?}");
}

#[test]
fn variables_of_atoll_cannot_be_set() {
    let told = in_service("[env]\nPORT = \"80\"\nMINE = \"ok\"");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("4:8: `PORT` is set by Atoll"), "{told:#?}");
    for name in [
        "HOST",
        "DATABASE_URL",
        "DATA_DIR",
        "REDIS_PREFIX",
        "ATOLL_NODE",
        "ATOLL_INSTANCE",
        "ATOLL_OF_TOMORROW",
    ] {
        let told = in_service(&format!("[env]\n{name} = \"x\""));
        assert_eq!(told.len(), 1, "{name}: {told:#?}");
        assert!(
            told[0].contains(&format!("`{name}` is set by Atoll (ATL0107)")),
            "{told:#?}"
        );
    }
    // Only the last of these.
    let free = "OTEL_SERVICE_NAME = \"x\"\nOTEL_SDK_DISABLED = \"true\"\nHOSTNAME = \"x\"";
    let told = in_service(&format!("[env]\n{free}\nHOST = \"x\""));
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("`HOST` is set"), "{told:#?}");
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let told = in_service("needs = [\"b\"\nowner = \"me\"");
    assert!(told[0].starts_with("services/a/service.toml:") && told[0].contains("no valid TOML"));
}

#[test]
fn patterns_without_a_service_are_told() {
    let told = mistakes(&[("atoll.toml", APPLICATION)]);
    assert!(
        told[0].starts_with("atoll.toml:2:12: `services/*` names no folder"),
        "{told:#?}"
    );
    let empty = tempfile::tempdir().unwrap();
    let report = load(empty.path()).unwrap_err();
    assert!(report.to_string().contains("there is no atoll.toml in"));
}

#[test]
fn a_report_is_drawn_with_a_caret_under_the_fault() {
    let dir = application(&[
        ("atoll.toml", APPLICATION),
        (
            "services/a/service.toml",
            "name = \"a\"\nrun = [\"true\"]\nnedes = []\n",
        ),
    ]);
    let report: Report = load(dir.path()).unwrap_err();
    let drawn = report.render(false, 100);
    assert!(drawn.contains("services/a/service.toml:3:1"), "{drawn}");
    assert!(
        drawn.contains("unknown key") && drawn.contains("did you mean `needs`?"),
        "{drawn}"
    );
}

/// The walk knows only a part of JSON Schema; the types must stay within it.
#[test]
fn both_schemas_use_only_what_the_walk_knows() {
    fn look(schema: &serde_json::Value, at: &str) {
        let Some(schema) = schema.as_object() else {
            return;
        };
        for (key, value) in schema {
            match key.as_str() {
                "properties" => {
                    for (name, inner) in value.as_object().unwrap() {
                        assert!(
                            inner["description"].is_string(),
                            "{at}.{name} lacks a description"
                        );
                        look(inner, &format!("{at}.{name}"));
                    }
                }
                "items" | "additionalProperties" => look(value, at),
                "anyOf" => value
                    .as_array()
                    .unwrap()
                    .iter()
                    .for_each(|inner| look(inner, at)),
                "$schema" | "title" | "description" | "type" | "required" | "default"
                | "format" | "pattern" | "examples" | "enum" | "oneOf" | "const" | "minimum"
                | "maximum" | "minItems" | "maxLength" => {}
                other => panic!("{at}: the walk does not know `{other}`"),
            }
        }
    }
    look(service_schema().as_value(), "service");
    look(application_schema().as_value(), "application");
}

/// No file makes the reader panic: cut everywhere, and with every byte changed.
#[test]
fn broken_files_are_told_and_never_fatal() {
    let whole = "name = \"a\"\nrun = [\"x\"]\n[health]\npath = \"/h\"\n[[route]]\npath = \"/a\"\n";
    let dir = application(&[("atoll.toml", APPLICATION)]);
    let file = dir.path().join("services/a/service.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let read = |text: &str| {
        fs::write(&file, text).unwrap();
        if let Err(report) = load(Path::new(dir.path())) {
            assert!(!report.render(false, 80).is_empty());
        }
    };
    for end in 0..whole.len() {
        read(&whole[..end]);
        read(&format!("{}\u{0}{}", &whole[..end], &whole[end..]));
        read(&format!("{}ä={}", &whole[..end], &whole[end..]));
    }
}

#[test]
fn telemetry_is_not_sent_to_the_node_that_sends_it() {
    let with = |export: &str| {
        let text = format!("{APPLICATION}[telemetry]\nexport = \"{export}\"\n");
        let dir = application(&[
            ("atoll.toml", text.as_str()),
            (
                "services/a/service.toml",
                "name = \"a\"\nrun = [\"true\"]\n",
            ),
        ]);
        load(dir.path())
            .map(drop)
            .map_err(|report| report.to_string())
    };
    for own in ["http://127.0.0.1:4318", "http://localhost:4318/x"] {
        assert!(
            with(own).unwrap_err().contains("to the node itself"),
            "{own}"
        );
    }
    let grpc = "http://localhost:4317\"\nexport_protocol = \"grpc";
    let said = with(grpc).unwrap_err();
    assert!(said.contains("otlp_grpc` another port"), "{said}");
    let others = [
        "http://127.0.0.1:4319",
        "https://collector:4318",
        "http://127.0.0.1:4317",
        "http://127.0.0.1:4318\"\nexport_protocol = \"grpc",
    ];
    for other in others {
        with(other).unwrap();
    }
    let said = with("http://collector:4318\"\nexport_ca = \"ca.pem").unwrap_err();
    assert!(
        said.contains("certificates are for an address with https"),
        "{said}"
    );
    with("https://collector:4318\"\nexport_ca = \"ca.pem").unwrap();
    with("https://collector:4318\"\nexport_headers = \"own").unwrap();
}
