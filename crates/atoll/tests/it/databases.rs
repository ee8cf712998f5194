//! A database of its own for each service.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::testkit::{Ability, App, called, eventually, holds, kill, lacking};

/// What is missing on this machine is a failure, not a reason to skip: these are promises too.
fn needs_program(found: bool, program: &str) {
    assert!(
        found,
        "{program} is not installed; `cargo xtask test` installs what the tests need"
    );
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Services of this kind, `a` and `b`, that are up.
fn two(kind: &str) -> App {
    let app = App::new();
    for name in ["a", "b"] {
        let route = format!("/{name}/**");
        app.service(name)
            .route(&route)
            .table(&format!("[database]\nkind = \"{kind}\""))
            .write();
    }
    app.up();
    app
}

fn url(app: &App, service: &str) -> String {
    app.done_in(service, "printf %s \"$DATABASE_URL\"")
}

fn sqlite(statement: &str) -> String {
    format!(
        "python3 -c \"import os, sqlite3; c = sqlite3.connect(os.environ['DATABASE_URL'].removeprefix('sqlite:///')); \
         print(c.execute('{statement}').fetchall()); c.commit()\""
    )
}

#[test]
fn sqlite_is_a_file_of_the_services_own_that_outlives_the_application() {
    let app = two("sqlite");
    let state = app.dir().canonicalize().unwrap().join(".atoll");
    for name in ["a", "b"] {
        let file = state.join("data").join(name).join("db.sqlite3");
        assert_eq!(url(&app, name), format!("sqlite:///{}", file.display()));
    }
    app.done_in("a", &sqlite("CREATE TABLE orders (id INTEGER)"));
    app.done_in("a", &sqlite("INSERT INTO orders VALUES (7)"));
    app.cli(&["restart", "a"]).succeeded();
    assert_eq!(
        app.done_in("a", &sqlite("SELECT id FROM orders")).trim(),
        "[(7,)]"
    );
    app.down();
    app.up();
    assert_eq!(
        app.done_in("a", &sqlite("SELECT id FROM orders")).trim(),
        "[(7,)]"
    );
    let (code, _) = app.run_in("b", &sqlite("SELECT id FROM orders"));
    assert_ne!(code, 0, "b has a database of its own");
}

#[test]
fn a_service_writes_to_its_data_folder_and_nowhere_near_its_program() {
    let app = App::with_a();
    if app.warned("ATL0221") {
        return lacking(Ability::Sandbox);
    }
    app.done_in("a", "echo note > $DATA_DIR/note && cat $DATA_DIR/note");
    assert_eq!(app.read(".atoll/data/a/note"), "note\n");
    let (code, said) = app.run_in("a", "echo worm >> server.py");
    assert_ne!(code, 0);
    holds(&said, "Read-only file system");
    let (code, _) = app.run_in("a", "touch new-file");
    assert_ne!(code, 0);
}

#[test]
fn a_service_sees_nothing_of_the_node_and_of_others() {
    let app = two("sqlite");
    if app.warned("ATL0221") {
        return lacking(Ability::Sandbox);
    }
    app.done_in("a", "echo secret > $DATA_DIR/secret");
    let state = app.path(".atoll");
    let state = state.display();
    for file in [
        "data/a/secret",
        "state.db",
        "run/admin.sock",
        "node-id",
        "lock",
        "telemetry",
    ] {
        assert!(app.path(&format!(".atoll/{file}")).exists(), "{file}");
        let (code, said) = app.run_in("b", &format!("ls {state}/{file}"));
        assert_ne!(code, 0, "b sees {file}: {said}");
    }
    let seen = app.done_in(
        "b",
        &format!("ls {state}/data {state}/artifacts | grep -v : | grep ."),
    );
    assert_eq!(seen.lines().count(), 2, "b sees more than its own: {seen}");
}

#[test]
fn postgres_gives_each_service_a_database_that_no_other_enters() {
    needs_program(
        std::path::Path::new("/usr/lib/postgresql").is_dir(),
        "postgresql",
    );
    let app = two("postgres");
    let psql = |statement: &str| {
        format!("psql -X -At -v ON_ERROR_STOP=1 \"$DATABASE_URL\" -c \"{statement}\"")
    };
    app.done_in(
        "a",
        &psql("CREATE TABLE orders (id int); INSERT INTO orders VALUES (7)"),
    );
    assert_eq!(app.done_in("a", &psql("SELECT id FROM orders")).trim(), "7");
    app.done_in("b", &psql("CREATE TABLE orders (id int)"));
    assert_eq!(
        app.done_in("b", &psql("SELECT count(*) FROM orders"))
            .trim(),
        "0"
    );
    // The role of one, the database of the other.
    let (a, b) = (url(&app, "a"), url(&app, "b"));
    assert_ne!(a, b);
    let database = a.rsplit('/').next().unwrap();
    let (server, _) = b.rsplit_once('/').unwrap();
    for other in [database, "postgres", "template1"] {
        let (code, said) = app.run_in("b", &format!("psql -X {server}/{other} -c 'SELECT 1'"));
        assert_ne!(code, 0, "b is in {other}");
        holds(&said, "permission denied for database");
    }
    let (code, _) = app.run_in("b", &psql("CREATE ROLE intruder SUPERUSER"));
    assert_ne!(code, 0);
    let (code, _) = app.run_in("b", &psql("CREATE DATABASE more"));
    assert_ne!(code, 0);
    app.down();
    app.is_gone();
    app.up();
    assert_eq!(app.done_in("a", &psql("SELECT id FROM orders")).trim(), "7");
}

#[test]
fn redis_gives_each_service_a_server_with_a_password() {
    needs_program(
        is_installed("redis-server") && is_installed("redis-cli"),
        "redis",
    );
    let app = two("redis");
    let redis =
        |command: &str| format!("redis-cli --no-auth-warning -u \"$DATABASE_URL\" {command}");
    assert_eq!(app.done_in("a", &redis("SET order seven")).trim(), "OK");
    assert_eq!(app.done_in("a", &redis("GET order")).trim(), "seven");
    assert_eq!(app.done_in("b", &redis("GET order")).trim(), "");
    // `redis://default:PASSWORD@127.0.0.1:PORT/0`
    let secret = |service: &str| -> (String, String) {
        let url = url(&app, service);
        let (user, address) = url.trim_start_matches("redis://").split_once('@').unwrap();
        let password = user.strip_prefix("default:").unwrap();
        assert_eq!(password.len(), 32, "{url}");
        let port = address.split([':', '/']).nth(1).unwrap();
        (password.to_owned(), port.to_owned())
    };
    let ((_, port), (password, _)) = (secret("a"), secret("b"));
    let ask = format!("redis-cli --no-auth-warning -p {port}");
    let (_, said) = app.run_in("b", &format!("{ask} GET order"));
    holds(&said, "NOAUTH");
    let (_, said) = app.run_in("b", &format!("{ask} -a {password} GET order"));
    holds(&said, "NOAUTH");
    app.down();
    app.is_gone();
    app.up();
    assert_eq!(app.done_in("a", &redis("GET order")).trim(), "seven");
}

#[test]
fn a_server_whose_port_was_taken_says_by_whom_and_comes_back_under_the_same_address() {
    let app = two("redis");
    let before = url(&app, "a");
    let redis = "redis-cli --no-auth-warning -u \"$DATABASE_URL\" PING";
    let port: u16 = before.rsplit([':', '/']).nth(1).unwrap().parse().unwrap();
    // It is down for a fifth of a second, at least, after each end.
    let taken = eventually("the port", || {
        // Its title, which it sets itself, has the address as a word.
        for (pid, _) in called(&[&format!("127.0.0.1:{port}")]) {
            kill(pid, Signal::KILL);
        }
        TcpListener::bind(("127.0.0.1", port)).map_err(|error| error.to_string())
    });
    let warned = || app.cli(&["ps"]).succeeded().err;
    let holder = format!("(process {})", std::process::id());
    let warning = eventually("the warning", || {
        Some(warned())
            .filter(|said| said.contains(&holder))
            .ok_or_else(&warned)
    });
    holds(
        &warning,
        &format!("atoll-redis-a does not run: port {port}, "),
    );
    holds(&warning, "ATL0214");
    drop(taken);
    eventually("the server", || match app.run_in("a", redis) {
        (0, said) if said.trim() == "PONG" => Ok(()),
        (_, said) => Err(said),
    });
    assert_eq!(url(&app, "a"), before);
    eventually("the end of the warning", || match warned() {
        said if said.contains("atoll-redis-a") => Err(said),
        _ => Ok(()),
    });
}
