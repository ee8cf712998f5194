//! `[postgres] url` and `[redis] url` of atoll.toml: servers that somebody else runs.

use crate::testkit::{App, Certificates, SECRET, Said, Server, free_port, holds, lacks};

/// Services of this kind, `a` and `b`, whose server is named; not up yet.
fn two(kind: &str, url: &str) -> App {
    let app = App::new();
    let application = app.read("atoll.toml");
    app.write(
        "atoll.toml",
        &format!("{application}\n[{kind}]\nurl = \"{url}\"\n"),
    );
    for name in ["a", "b"] {
        let route = format!("/{name}/**");
        let database = format!("[database]\nkind = \"{kind}\"");
        app.service(name).route(&route).table(&database).write();
    }
    app
}

fn postgres_url(port: u16, query: &str) -> String {
    format!("postgres://admin:{SECRET}@127.0.0.1:{port}/postgres{query}")
}

fn psql(statement: &str) -> String {
    format!("psql -X -At -v ON_ERROR_STOP=1 \"$DATABASE_URL\" -c \"{statement}\"")
}

fn redis(command: &str) -> String {
    format!("redis-cli --no-auth-warning -u \"$DATABASE_URL\" {command}")
}

fn variable(app: &App, service: &str, name: &str) -> String {
    app.done_in(service, &format!("printf %s \"${name}\""))
}

/// The node is up, its services are not, and this is why.
#[track_caller]
fn fails(app: &App, code: &str, reason: &str) -> Said {
    let said = app.try_up().ended(1);
    holds(&said.err, reason);
    holds(&said.err, code);
    lacks(&said.err, SECRET);
    lacks(&app.messages("a").join("\n"), SECRET);
    said
}

#[test]
fn on_a_named_postgres_each_service_has_a_role_and_a_database_of_its_own() {
    let server = Server::postgres();
    let app = two("postgres", &postgres_url(server.port, ""));
    app.up();
    let url = variable(&app, "a", "DATABASE_URL");
    let end = format!("@127.0.0.1:{}/shop__a", server.port);
    assert!(
        url.starts_with("postgres://shop__a:") && url.ends_with(&end),
        "{url}"
    );
    lacks(&url, SECRET);
    app.done_in("a", &psql("CREATE TABLE orders AS SELECT 7 AS id"));
    app.done_in("b", &psql("CREATE TABLE orders (id int)"));
    let b = variable(&app, "b", "DATABASE_URL");
    let (b_elsewhere, _) = b.rsplit_once('/').unwrap();
    let intrude = format!("psql -X {b_elsewhere}/shop__a -c 'SELECT 1'");
    let (code, said) = app.run_in("b", &intrude);
    assert_ne!(code, 0, "b is in the database of a");
    holds(&said, "permission denied for database");
    for statement in [
        "CREATE ROLE intruder",
        "CREATE DATABASE more",
        "SET ROLE shop__a",
    ] {
        let (code, _) = app.run_in("b", &psql(statement));
        assert_ne!(code, 0, "b may {statement}");
    }
    app.down();
    app.up();
    assert_eq!(variable(&app, "a", "DATABASE_URL"), url);
    assert_eq!(app.done_in("a", &psql("SELECT id FROM orders")).trim(), "7");
}

#[test]
fn a_named_postgres_that_refuses_or_is_not_there_is_told() {
    let server = Server::postgres();
    let wrong = postgres_url(server.port, "").replace(SECRET, "wrong");
    let app = two("postgres", &wrong);
    let at = format!("PostgreSQL at 127.0.0.1:{} refuses", server.port);
    let said = fails(
        &app,
        "ATL0503",
        "password authentication failed for user \"admin\"",
    );
    holds(&said.err, &at);

    let nobody = free_port();
    let app = two("postgres", &postgres_url(nobody, ""));
    let at = format!("PostgreSQL at 127.0.0.1:{nobody} cannot be reached: ");
    let said = fails(&app, "ATL0504", &at);
    holds(&said.err, "refused");

    let app = two("postgres", &postgres_url(nobody, "?sslmode=verify_full"));
    fails(&app, "ATL0503", "`[postgres] url` cannot be used");
}

#[test]
fn a_named_postgres_is_spoken_to_in_tls_as_its_url_asks() {
    let certificates = Certificates::new();
    // It takes nothing but TLS, so whatever works is encrypted.
    let server = Server::postgres_with_tls(&certificates, "IP:127.0.0.1");
    let (ca, other) = (
        certificates.authority("ca"),
        certificates.authority("other"),
    );
    let full = format!("?sslmode=verify-full&sslrootcert={ca}");
    for query in ["", "?sslmode=require", full.as_str()] {
        let app = two("postgres", &postgres_url(server.port, query));
        app.up();
        // The service connects in the same way.
        assert!(variable(&app, "a", "DATABASE_URL").ends_with(&format!("/shop__a{query}")));
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert_eq!(app.done_in("a", &psql(sql)).trim(), "t", "{query}");
    }
    for query in [
        // Whom the system trusts has not signed this.
        "?sslmode=verify-full".to_owned(),
        format!("?sslmode=verify-full&sslrootcert={other}"),
        format!("?sslmode=require&sslrootcert={other}"),
    ] {
        let app = two("postgres", &postgres_url(server.port, &query));
        fails(&app, "ATL0503", "invalid peer certificate");
    }
    let app = two("postgres", &postgres_url(server.port, "?sslmode=disable"));
    fails(&app, "ATL0503", "no encryption");
}

#[test]
fn a_certificate_for_another_host_is_refused_unless_the_authority_is_enough() {
    let certificates = Certificates::new();
    let server = Server::postgres_with_tls(&certificates, "DNS:db.example.com");
    let ca = certificates.authority("ca");
    let query = |mode: &str| format!("?sslmode={mode}&sslrootcert={ca}");
    let app = two(
        "postgres",
        &postgres_url(server.port, &query("verify-full")),
    );
    fails(&app, "ATL0503", "not valid for name");
    let app = two("postgres", &postgres_url(server.port, &query("verify-ca")));
    app.up();
    app.done_in("a", &psql("SELECT 1"));
}

#[test]
fn what_asks_for_tls_is_never_plain_text() {
    let server = Server::postgres();
    for query in ["?sslmode=require", "?sslmode=verify-full"] {
        let app = two("postgres", &postgres_url(server.port, query));
        fails(&app, "ATL0503", "server does not support TLS");
    }
}

#[test]
fn on_a_named_redis_each_service_has_a_user_for_its_own_keys() {
    let server = Server::redis();
    let app = two(
        "redis",
        &format!("redis://:{SECRET}@127.0.0.1:{}", server.port),
    );
    app.up();
    let url = variable(&app, "a", "DATABASE_URL");
    let end = format!("@127.0.0.1:{}/0", server.port);
    assert!(
        url.starts_with("redis://shop-a:") && url.ends_with(&end),
        "{url}"
    );
    lacks(&url, SECRET);
    assert_eq!(variable(&app, "a", "REDIS_PREFIX"), "shop-a:");
    let set = redis("SET \"${REDIS_PREFIX}order\" seven");
    assert_eq!(app.done_in("a", &set).trim(), "OK");
    for command in [
        "GET shop-a:order",
        "SET order 1",
        "CONFIG GET dir",
        "FLUSHALL",
        "ACL LIST",
    ] {
        let (_, said) = app.run_in("b", &redis(command));
        holds(&said, "NOPERM");
    }
    app.down();
    app.up();
    assert_eq!(variable(&app, "a", "DATABASE_URL"), url);
    assert_eq!(app.done_in("a", &redis("GET shop-a:order")).trim(), "seven");
}

#[test]
fn a_named_redis_that_refuses_or_is_not_there_is_told() {
    let server = Server::redis();
    let port = server.port;
    let app = two("redis", &format!("redis://:wrong@127.0.0.1:{port}"));
    fails(
        &app,
        "ATL0503",
        &format!("Redis at 127.0.0.1:{port} refuses: "),
    );
    let nobody = free_port();
    let app = two("redis", &format!("redis://:{SECRET}@127.0.0.1:{nobody}"));
    fails(
        &app,
        "ATL0504",
        &format!("Redis at 127.0.0.1:{nobody} cannot be reached: "),
    );
    let app = two("redis", &format!("rediss://:{SECRET}@127.0.0.1:{port}"));
    fails(&app, "ATL0503", "`[redis] url` cannot be used");
}
