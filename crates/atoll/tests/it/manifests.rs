//! Mistakes in manifests, exactly as a person sees them. The texts are part of the product.

use insta::assert_snapshot;

use crate::testkit::App;

/// An application of these services, each with its name, a program that is everywhere, and these
/// lines.
fn app(services: &[(&str, &str)]) -> App {
    let app = App::new();
    for (name, lines) in services {
        let text = format!("name = \"{name}\"\nrun = [\"sh\"]\n{lines}\n");
        app.write(&format!("services/{name}/service.toml"), &text);
    }
    app
}

/// What `atoll check` says, which must find mistakes.
fn told(app: &App) -> String {
    let said = app.cli(&["check"]).ended(3);
    assert_eq!(said.out, "");
    said.err
}

#[test]
fn sound_manifests_are_told_with_what_they_hold() {
    let app = app(&[("a", "needs = [\"b\"]"), ("b", "[[route]]\npath = \"/b\"")]);
    let said = app.cli(&["check"]).succeeded();
    assert_snapshot!(said.err, @"✓ shop: 2 services, 1 routes, 1 dependencies; no mistakes");
    let said = app.cli(&["check", "--json"]).succeeded();
    assert_eq!(
        said.json(),
        serde_json::json!({ "mistakes": [], "warnings": [] })
    );
}

#[test]
fn an_unknown_key_is_told_with_the_one_that_was_meant() {
    let app = app(&[("a", "ownr = \"team-a\"\n[health]\npaht = \"/healthz\"")]);
    assert_snapshot!(told(&app), @r##"
    ATL0102

      × `ownr` is no key that Atoll knows
       ╭─[services/a/service.toml:3:1]
     2 │ run = ["sh"]
     3 │ ownr = "team-a"
       · ──┬─
       ·   ╰── unknown key
     4 │ [health]
       ╰────
      help: did you mean `owner`?

    ATL0102

      × `health.paht` is no key that Atoll knows
       ╭─[services/a/service.toml:5:1]
     4 │ [health]
     5 │ paht = "/healthz"
       · ──┬─
       ·   ╰── unknown key
       ╰────
      help: did you mean `path`?


    error: 2 mistakes in the manifests
    "##);
}

#[test]
fn mistakes_of_all_files_are_told_at_once() {
    let app = app(&[
        ("a", "stop_timeout = \"10\""),
        ("b", "run_as = \"root\"\n[scale]\nmin = \"two\""),
        ("c", "needs = [\"orders\"]"),
        ("order", ""),
    ]);
    assert_snapshot!(told(&app), @r##"
    ATL0104

      × `stop_timeout` cannot be "10": '10' needs a unit, one of: us, ms, s, m, h, d
       ╭─[services/a/service.toml:3:16]
     2 │ run = ["sh"]
     3 │ stop_timeout = "10"
       ·                ──┬─
       ·                  ╰── here
       ╰────
      help: for example "500ms"

    ATL0102

      × `run_as` is no key that Atoll knows
       ╭─[services/b/service.toml:3:1]
     2 │ run = ["sh"]
     3 │ run_as = "root"
       · ───┬──
       ·    ╰── unknown key
     4 │ [scale]
       ╰────
      help: the keys here are `artifact`, `build`, `database`, `deny`, `dependency`, `deploy`,
            `description`, `env`, `health`, `mesh_rate_limit`, `name`, `needs`, `objective`, `outbox`,
            `owner`, `protocol`, `publish`, `request_timeout`, `resilience`, `resources`, `route`,
            `run`, `scale`, `stop_timeout`, `subscribe` and `wait_for`

    ATL0104

      × `scale.min` must be a whole number, not a string
       ╭─[services/b/service.toml:5:7]
     4 │ [scale]
     5 │ min = "two"
       ·       ──┬──
       ·         ╰── here
       ╰────
      help: Instances that run from the start. Default 1.

    ATL0108

      × there is no service called `orders`
       ╭─[services/c/service.toml:3:10]
     2 │ run = ["sh"]
     3 │ needs = ["orders"]
       ·          ────┬───
       ·              ╰── here
       ╰────
      help: did you mean `order`?


    error: 4 mistakes in the manifests
    "##);
}

#[test]
fn services_that_wait_for_each_other_are_told_as_a_ring() {
    let app = app(&[
        ("a", "wait_for = [\"b\"]"),
        ("b", "wait_for = [\"c\"]"),
        ("c", "wait_for = [\"a\"]"),
    ]);
    assert_snapshot!(told(&app), @r##"
    ATL0109

      × these services wait for each other: a → b → c → a
       ╭─[services/a/service.toml:3:12]
     2 │ run = ["sh"]
     3 │ wait_for = ["b"]
       ·            ──┬──
       ·              ╰── here
       ╰────
      help: take one `wait_for` out of the ring; `needs` alone does not delay a start


    error: 1 mistake in the manifests
    "##);
}

#[test]
fn two_services_of_one_name_are_told_with_both_files() {
    let app = app(&[("a", "")]);
    app.write(
        "services/copy-of-a/service.toml",
        &app.read("services/a/service.toml"),
    );
    assert_snapshot!(told(&app), @r##"
    ATL0106

      × two services are called `a`; the other is services/a/service.toml
       ╭─[services/copy-of-a/service.toml:1:8]
     1 │ name = "a"
       ·        ─┬─
       ·         ╰── here
     2 │ run = ["sh"]
       ╰────
      help: give one of them another name


    error: 1 mistake in the manifests
    "##);
}

#[test]
fn an_unknown_dependency_is_told_with_the_one_that_was_meant() {
    let app = app(&[("shop-front", "needs = [\"catalogue\"]"), ("catalog", "")]);
    assert_snapshot!(told(&app), @r##"
    ATL0108

      × there is no service called `catalogue`
       ╭─[services/shop-front/service.toml:3:10]
     2 │ run = ["sh"]
     3 │ needs = ["catalogue"]
       ·          ─────┬─────
       ·               ╰── here
       ╰────
      help: did you mean `catalog`?


    error: 1 mistake in the manifests
    "##);
}

#[test]
fn routes_that_take_the_same_requests_are_told_with_both_services() {
    let app = app(&[
        ("a", "[[route]]\npath = \"/orders/{id}\""),
        (
            "b",
            "[[route]]\npath = \"/orders/{number}\"\nmethods = [\"GET\"]",
        ),
    ]);
    assert_snapshot!(told(&app), @r##"
    ATL0111

      × `/orders/{number}` takes the same requests as `/orders/{id}` of a
       ╭─[services/b/service.toml:4:8]
     3 │ [[route]]
     4 │ path = "/orders/{number}"
       ·        ─────────┬────────
       ·                 ╰── here
     5 │ methods = ["GET"]
       ╰────
      help: change the path, the host or the methods of one of them


    error: 1 mistake in the manifests
    "##);
}

#[test]
fn what_is_no_toml_is_told_at_its_place() {
    let app = app(&[("a", "env = { A = 1")]);
    assert_snapshot!(told(&app), @r##"
    ATL0101

      × this is no valid TOML: unclosed inline table, expected `}`
       ╭─[services/a/service.toml:3:14]
     2 │ run = ["sh"]
     3 │ env = { A = 1
       ·              ▲
       ·              ╰── here
       ╰────
      help: texts stand in quotes, lists in brackets; see https://toml.io


    error: 1 mistake in the manifests
    "##);
}

#[test]
fn a_missing_key_is_told_with_what_it_means() {
    let app = App::new();
    app.write(
        "services/a/service.toml",
        "name = \"a\"\n[[route]]\nmethods = [\"GET\"]\n",
    );
    assert_snapshot!(told(&app), @r##"
    ATL0103

      × the file needs the key `run`
       ╭─[services/a/service.toml:1:1]
     1 │ name = "a"
       · ─────┬────
       ·      ╰── `run` is missing
     2 │ [[route]]
       ╰────
      help: run: The program and its arguments. It must listen on `$HOST:$PORT`.

    ATL0103

      × `route` needs the key `path`
       ╭─[services/a/service.toml:2:1]
     1 │ name = "a"
     2 │ [[route]]
       · ────┬────
       ·     ╰── `path` is missing
     3 │ methods = ["GET"]
       ╰────
      help: path: The path: `/orders` (this path alone), `/orders/{id}` (any one segment in place of
            `{id}`), or `/catalog/**` (`/catalog` and everything below). Segments are compared from
            the left; text wins over a parameter, a parameter over `**`.


    error: 2 mistakes in the manifests
    "##);
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_what_is_wanted() {
    let app = app(&[(
        "a",
        "needs = \"b\"\n[resources]\ncpu = \"half\"\n[database]\nkind = \"postgre\"",
    )]);
    assert_snapshot!(told(&app), @r##"
    ATL0104

      × `needs` must be a list in brackets, not a string
       ╭─[services/a/service.toml:3:9]
     2 │ run = ["sh"]
     3 │ needs = "b"
       ·         ─┬─
       ·          ╰── here
     4 │ [resources]
       ╰────
      help: Services that it calls. Each becomes an address in its environment: "catalog" becomes
            `CATALOG_URL`. What is not listed has no address.

    ATL0104

      × `resources.cpu` must be a number, not a string
       ╭─[services/a/service.toml:5:7]
     4 │ [resources]
     5 │ cpu = "half"
       ·       ───┬──
       ·          ╰── here
     6 │ [database]
       ╰────
      help: Processor time, in cores: 0.5 is half of one core. Default: no limit.

    ATL0104

      × `database.kind` cannot be "postgre"
       ╭─[services/a/service.toml:7:8]
     6 │ [database]
     7 │ kind = "postgre"
       ·        ────┬────
       ·            ╰── not known
       ╰────
      help: did you mean "postgres"?


    error: 3 mistakes in the manifests
    "##);
}

#[test]
fn a_quantity_without_a_unit_is_told_with_the_units() {
    let app = app(&[("a", "stop_timeout = \"10\"\n[resources]\nmemory = \"256\"")]);
    assert_snapshot!(told(&app), @r##"
    ATL0104

      × `stop_timeout` cannot be "10": '10' needs a unit, one of: us, ms, s, m, h, d
       ╭─[services/a/service.toml:3:16]
     2 │ run = ["sh"]
     3 │ stop_timeout = "10"
       ·                ──┬─
       ·                  ╰── here
     4 │ [resources]
       ╰────
      help: for example "500ms"

    ATL0104

      × `resources.memory` cannot be "256": '256' needs a unit, one of: B, KB, MB, GB, TB, KiB, MiB,
      │ GiB, TiB
       ╭─[services/a/service.toml:5:10]
     4 │ [resources]
     5 │ memory = "256"
       ·          ──┬──
       ·            ╰── here
       ╰────
      help: for example "256MiB"


    error: 2 mistakes in the manifests
    "##);
}

#[test]
fn mistakes_can_be_had_as_json() {
    let app = app(&[("a", "needs = [\"b\"]")]);
    let said = app.cli(&["check", "--json"]).ended(3);
    let told = serde_json::to_string_pretty(&said.json()).unwrap();
    assert_snapshot!(told, @r##"
    {
      "error": {
        "code": "ATL0100",
        "help": "`atoll explain ATL0100` tells more",
        "message": "1 mistake in the manifests"
      },
      "mistakes": [
        {
          "code": "ATL0108",
          "column": 10,
          "file": "services/a/service.toml",
          "help": "did you mean `a`?",
          "line": 3,
          "message": "there is no service called `b`"
        }
      ]
    }
    "##);
    assert_eq!(said.err, "");
}

#[test]
fn a_folder_that_is_no_application_is_told_so() {
    let app = App::new();
    std::fs::remove_file(app.path("atoll.toml")).unwrap();
    let told = told(&app).replace(app.dir().to_str().unwrap(), "DIR");
    assert_snapshot!(told, @r##"
    ATL0101

      × there is no atoll.toml in DIR
      help: go to the application's folder, name it (-C DIR), or begin one with `atoll init`


    error: 1 mistake in the manifests
    "##);
}

#[test]
fn members_that_name_nothing_are_told_so() {
    assert_snapshot!(told(&App::new()), @r##"
    ATL0105

      × `services/*` names no folder with a service.toml
       ╭─[atoll.toml:3:12]
     2 │ name = "shop"
     3 │ members = ["services/*"]
       ·            ──────┬─────
       ·                  ╰── nothing found
     4 │ [edge]
       ╰────
      help: make a service with `atoll new service NAME --lang rust|python|node`, or mend the pattern


    error: 1 mistake in the manifests
    "##);
}

#[test]
fn nothing_starts_where_there_are_mistakes() {
    let app = app(&[("a", ""), ("b", "nonsense = 1")]);
    for arguments in [&["up"][..], &["up", "--detach"]] {
        let said = app.cli(arguments).ended(3);
        assert!(said.err.contains("`nonsense` is no key"), "{said}");
    }
    app.is_gone();
    assert!(
        !app.path(".atoll").exists(),
        "a refused start leaves nothing"
    );
}

#[test]
fn a_topic_can_be_compacted_and_a_slip_of_it_is_told() {
    let app = app(&[("a", "")]);
    let text = app.read("atoll.toml");
    let with = |cleanup: &str| {
        let topic = "[topics.customers]\nsegment_age = \"1h\"\ndelete_retention = \"2d\"";
        let more = format!("{text}{topic}\ncleanup = \"{cleanup}\"\n");
        app.write("atoll.toml", &more);
    };
    with("compact,delete");
    app.cli(&["check"]).succeeded();
    with("compacted");
    assert_snapshot!(told(&app), @r##"
    ATL0104

      × `topics.customers.cleanup` cannot be "compacted"
        ╭─[atoll.toml:14:11]
     13 │ delete_retention = "2d"
     14 │ cleanup = "compacted"
        ·           ─────┬─────
        ·                ╰── not known
        ╰────
      help: did you mean "compact"?


    error: 1 mistake in the manifests
    "##);
}

#[test]
fn objectives_that_promise_too_much_or_nothing_are_told() {
    let app = app(&[
        (
            "a",
            "[objective]\navailability = \"99.9\"\nlatency_target = \"100%\"",
        ),
        ("b", "[objective]\nwindow = \"30d\""),
        ("c", "[objective]\nlatency = \"300ms\"\nwindow = \"1d\""),
        ("d", "[objective]\navailabilty = \"99.9%\""),
    ]);
    assert_snapshot!(told(&app), @r##"
    ATL0104

      × `objective.availability` cannot be "99.9": '99.9' is no percentage from 90% to 99.999%
       ╭─[services/a/service.toml:4:16]
     3 │ [objective]
     4 │ availability = "99.9"
       ·                ───┬──
       ·                   ╰── here
     5 │ latency_target = "100%"
       ╰────
      help: for example "99.9%"

    ATL0104

      × `objective.latency_target` cannot be "100%": '100%' is no percentage from 90% to 99.999%
       ╭─[services/a/service.toml:5:18]
     4 │ availability = "99.9"
     5 │ latency_target = "100%"
       ·                  ───┬──
       ·                     ╰── here
       ╰────
      help: for example "99.9%"

    ATL0104

      × `[objective]`: an objective says nothing without `availability` or `latency`
       ╭─[services/b/service.toml:3:1]
     2 │ run = ["sh"]
     3 │ [objective]
       · ─────┬─────
       ·      ╰── here
     4 │ window = "30d"
       ╰────
      help: for example `availability = "99.9%"`

    ATL0104

      × `[objective]`: the window is 1d, not from 3d to 90d
       ╭─[services/c/service.toml:5:10]
     4 │ latency = "300ms"
     5 │ window = "1d"
       ·          ──┬─
       ·            ╰── here
       ╰────
      help: for example "30d"

    ATL0102

      × `objective.availabilty` is no key that Atoll knows
       ╭─[services/d/service.toml:4:1]
     3 │ [objective]
     4 │ availabilty = "99.9%"
       · ─────┬─────
       ·      ╰── unknown key
       ╰────
      help: did you mean `availability`?


    error: 5 mistakes in the manifests
    "##);
}

#[test]
fn alerts_to_a_topic_that_cannot_be_and_headers_for_nobody_are_told() {
    let app = app(&[("a", "[objective]\navailability = \"99.9%\"")]);
    let text = app.read("atoll.toml");
    let alerts = "[alerts]\ntopic = \"alerts\"\nwebhook_headers = \"hook.headers\"\n";
    app.write("atoll.toml", &format!("{text}{alerts}"));
    assert_snapshot!(told(&app), @r##"
    ATL0104

      × `[alerts]`: `alerts` is a topic, and this application has none
        ╭─[atoll.toml:12:9]
     11 │ [alerts]
     12 │ topic = "alerts"
        ·         ────┬───
        ·             ╰── here
     13 │ webhook_headers = "hook.headers"
        ╰────
      help: add `[events]` to atoll.toml

    ATL0104

      × `[alerts]`: there are headers, and no address to send them to
        ╭─[atoll.toml:13:19]
     12 │ topic = "alerts"
     13 │ webhook_headers = "hook.headers"
        ·                   ───────┬──────
        ·                          ╰── here
        ╰────
      help: add `webhook = "https://…"`


    error: 2 mistakes in the manifests
    "##);
}

#[test]
fn an_address_of_a_webhook_that_is_none_is_told() {
    let app = app(&[("a", "[objective]\navailability = \"99.9%\"")]);
    let text = app.read("atoll.toml");
    app.write(
        "atoll.toml",
        &format!("{text}[alerts]\nwebhook = \"hooks.example.com\"\n"),
    );
    assert_snapshot!(told(&app), @r##"
    ATL0104

      × "hooks.example.com" is no address like "http://collector:4318"
        ╭─[atoll.toml:12:11]
     11 │ [alerts]
     12 │ webhook = "hooks.example.com"
        ·           ─────────┬─────────
        ·                    ╰── here
        ╰────
      help: `atoll schema` tells what each key means and takes


    error: 1 mistake in the manifests
    "##);
}
