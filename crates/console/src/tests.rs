//! The door as browsers, programs and attackers meet it.

use std::sync::Arc;

use atoll_base::Tasks;
use atoll_store::Sql;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode, header};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::ServiceExt as _;

use super::*;

struct Scene {
    remote: Router,
    local: Router,
    console: Console,
    /// A slow change has begun; it may go on.
    begun: Arc<Notify>,
    go: Arc<Notify>,
    _folder: tempfile::TempDir,
}

async fn scene(config: ConsoleConfig) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::open(&folder.path().join("state.db"), &[MIGRATION]).unwrap();
    let config = ConsoleConfig {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        ..config
    };
    let (console, _) = Console::open(&config, sql).await.unwrap();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let api = || {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        let slow = async move || {
            begun.notify_one();
            go.notified().await;
            StatusCode::ACCEPTED
        };
        let live = || async {
            let first = stream::once(async {
                Ok::<_, std::convert::Infallible>(Bytes::from("event: one\n\n"))
            });
            let body = Body::from_stream(first.chain(stream::pending()));
            ([(header::CONTENT_TYPE, "text/event-stream")], body)
        };
        Router::new()
            .route("/v1/services/slow/restarts", post(slow))
            .route("/v1/live", get(live))
            .route("/v1/dead/redrive", post(live))
            .route("/v1/services", get(|| async { Json("all") }))
            .route(
                "/v1/services/{name}/deployments",
                post(|Extension(note): Extension<Note>| async move {
                    note.write("scale to 3 instances");
                    StatusCode::ACCEPTED
                }),
            )
    };
    Scene {
        remote: console.remote(api()),
        local: console.local(api()),
        console,
        begun,
        go,
        _folder: folder,
    }
}

fn ask(method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !fields.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "127.0.0.1:8484");
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn json_of(response: Response<Body>) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap_or(Value::Null)
}

impl Scene {
    async fn remote(&self, request: Request<Body>) -> Response<Body> {
        self.remote.clone().oneshot(request).await.unwrap()
    }

    async fn local(&self, request: Request<Body>) -> Response<Body> {
        self.local.clone().oneshot(request).await.unwrap()
    }

    /// A token with this role, and its id.
    async fn token(&self, role: &str) -> (String, String) {
        let new = json!({"name": format!("a {role}"), "role": role}).to_string();
        let fields = [("content-type", "application/json")];
        let made = self.local(ask("POST", "/v1/tokens", &fields, &new)).await;
        assert_eq!(made.status(), 201);
        let made = json_of(made).await;
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("token"), text("id"))
    }

    async fn with_token(&self, token: &str, method: &str, path: &str) -> StatusCode {
        let value = format!("Bearer {token}");
        let request = ask(method, path, &[("authorization", &value)], "");
        self.remote(request).await.status()
    }

    /// Logs a browser in: the cookie as it is sent back.
    async fn login(&self, token: &str) -> Option<String> {
        let body = json!({"token": token}).to_string();
        let fields = [("content-type", "application/json")];
        let answer = self.remote(ask("POST", "/session", &fields, &body)).await;
        let cookie = answer.headers().get(header::SET_COOKIE)?;
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.contains("; HttpOnly; SameSite=Strict;"), "{cookie}");
        cookie.split(';').next().map(str::to_owned)
    }

    async fn code(&self) -> String {
        let link = self.local(ask("POST", "/v1/tokens/link", &[], "")).await;
        let url = json_of(link).await["url"].as_str().unwrap().to_owned();
        let addr = self.console.addr().unwrap();
        let code = url.strip_prefix(&format!("http://{addr}/login#token="));
        code.unwrap().to_owned()
    }
}

#[tokio::test]
async fn who_goes_away_while_it_is_done_is_written_down_all_the_same() {
    let scene = scene(ConsoleConfig::default()).await;
    let (token, _) = scene.token("operator").await;
    let value = format!("Bearer {token}");
    let (method, path) = ("POST", "/v1/services/slow/restarts");
    let request = ask(method, path, &[("authorization", &value)], "");
    {
        let answer = scene.remote(request);
        tokio::pin!(answer);
        tokio::select! {
            _ = &mut answer => panic!("it was to be given up before"),
            () = scene.begun.notified() => {}
        }
    }
    scene.go.notify_one();
    loop {
        let page = scene.console.audit().page(None, 10).await.unwrap();
        if page
            .entries
            .iter()
            .any(|own| own.path == path && own.status == 202)
        {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_know_is_a_problem_too() {
    let scene = scene(ConsoleConfig::default()).await;
    let (token, _) = scene.token("admin").await;
    let value = format!("Bearer {token}");
    let remote = ask("DELETE", "/v1/services", &[("authorization", &value)], "");
    let local = ask("DELETE", "/v1/services", &[], "");
    let session = ask("PUT", "/session", &[], "");
    for answer in [
        scene.remote(remote).await,
        scene.local(local).await,
        scene.remote(session).await,
    ] {
        assert_eq!(answer.status(), 405);
        assert!(
            answer.headers().contains_key("allow"),
            "{:?}",
            answer.headers()
        );
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn nobody_comes_in_without_a_token() {
    let scene = scene(ConsoleConfig::default()).await;
    let answer = scene.remote(ask("GET", "/v1/services", &[], "")).await;
    assert_eq!(answer.status(), 401);
    assert_eq!(
        answer.headers()["www-authenticate"],
        "Bearer realm=\"atoll\""
    );
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(
        scene
            .with_token("atoll_console_0", "GET", "/v1/services")
            .await,
        401
    );
    let cookie = format!("{}=00", scene.console.cookie_name());
    let answer = scene.remote(ask("GET", "/v1/services", &[("cookie", &cookie)], ""));
    assert_eq!(answer.await.status(), 401);
}

#[tokio::test]
async fn a_role_allows_what_it_allows() {
    let scene = scene(ConsoleConfig::default()).await;
    let deploy = "/v1/services/a/deployments";
    for (role, look, change, admin) in [
        ("viewer", 200, 403, 403),
        ("operator", 200, 202, 403),
        ("admin", 200, 202, 200),
    ] {
        let (token, _) = scene.token(role).await;
        assert_eq!(scene.with_token(&token, "GET", "/v1/services").await, look);
        assert_eq!(scene.with_token(&token, "POST", deploy).await, change);
        assert_eq!(scene.with_token(&token, "GET", "/v1/tokens").await, admin);
        assert_eq!(scene.with_token(&token, "GET", "/v1/audit").await, admin);
        assert_eq!(
            scene.with_token(&token, "POST", "/v1/tokens/link").await,
            admin
        );
    }
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_refused_with_its_sessions() {
    let scene = scene(ConsoleConfig::default()).await;
    let (token, id) = scene.token("operator").await;
    let cookie = scene.login(&token).await.unwrap();
    let look = || ask("GET", "/v1/me", &[("cookie", cookie.as_str())], "");
    let me = json_of(scene.remote(look()).await).await;
    assert_eq!(
        (&me["name"], &me["role"]),
        (&json!("a operator"), &json!("operator"))
    );
    let revoke = format!("/v1/tokens/{id}/revoke");
    assert_eq!(
        scene.local(ask("POST", &revoke, &[], "")).await.status(),
        200
    );
    assert_eq!(scene.with_token(&token, "GET", "/v1/services").await, 401);
    assert_eq!(scene.remote(look()).await.status(), 401);
    assert_eq!(scene.login(&token).await, None);
    let none = scene
        .local(ask("POST", "/v1/tokens/none/revoke", &[], ""))
        .await;
    assert_eq!(none.status(), 404);
}

#[tokio::test]
async fn a_stream_ends_with_the_token_or_the_session_that_it_was_asked_with() {
    let scene = scene(ConsoleConfig::default()).await;
    let (token, id) = scene.token("operator").await;
    let (other, _) = scene.token("viewer").await;
    let cookie = scene.login(&other).await.unwrap();
    let open = async |method: &str, path: &str, field: &str, value: &str| {
        let answer = scene.remote(ask(method, path, &[(field, value)], "")).await;
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body().into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), "event: one\n\n");
        body
    };
    let (bearer, another) = (format!("Bearer {token}"), format!("Bearer {other}"));
    let mut by_token = open("GET", "/v1/live", "authorization", &bearer).await;
    let mut of_a_change = open("POST", "/v1/dead/redrive", "authorization", &bearer).await;
    let mut by_session = open("GET", "/v1/live", "cookie", &cookie).await;
    let mut by_other = open("GET", "/v1/live", "authorization", &another).await;
    let revoke = format!("/v1/tokens/{id}/revoke");
    scene.local(ask("POST", &revoke, &[], "")).await;
    assert!(by_token.next().await.is_none());
    assert!(of_a_change.next().await.is_none());
    scene
        .remote(ask("DELETE", "/session", &[("cookie", &cookie)], ""))
        .await;
    assert!(by_session.next().await.is_none());
    let still = tokio::time::timeout(std::time::Duration::from_millis(200), by_other.next());
    assert!(still.await.is_err(), "who has another token goes on");
}

/// Nobody says so when a session's time is over.
#[tokio::test]
async fn a_stream_of_a_session_that_is_over_ends_within_a_minute() {
    let scene = scene(ConsoleConfig::default()).await;
    let (token, _) = scene.token("viewer").await;
    let cookie = scene.login(&token).await.unwrap();
    let answer = scene
        .remote(ask("GET", "/v1/live", &[("cookie", &cookie)], ""))
        .await;
    let mut body = answer.into_body().into_data_stream();
    assert!(body.next().await.is_some());
    let text = cookie.split_once('=').unwrap().1;
    scene.console.sessions().end(text).await.unwrap();
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert!(body.next().await.is_none());
    assert!(began.elapsed() <= std::time::Duration::from_secs(61));
}

#[tokio::test]
async fn a_session_changes_nothing_without_its_mark() {
    let scene = scene(ConsoleConfig::default()).await;
    let (token, _) = scene.token("operator").await;
    let cookie = scene.login(&token).await.unwrap();
    let change = async |mark: Option<&str>| {
        let mut fields = vec![("cookie", cookie.as_str())];
        fields.extend(mark.map(|mark| ("x-atoll-csrf", mark)));
        let request = ask("POST", "/v1/services/a/deployments", &fields, "");
        scene.remote(request).await.status()
    };
    let nobody = scene.remote(ask("GET", "/session", &[], "")).await;
    assert_eq!(
        (nobody.status(), json_of(nobody).await),
        (StatusCode::OK, Value::Null)
    );
    assert_eq!(change(None).await, 403);
    assert_eq!(change(Some("")).await, 403);
    assert_eq!(change(Some("0000")).await, 403);
    let me = scene.remote(ask("GET", "/session", &[("cookie", &cookie)], ""));
    let mark = json_of(me.await).await["csrf"].as_str().unwrap().to_owned();
    assert_eq!(change(Some(&mark)).await, 202);
    let out = scene.remote(ask("DELETE", "/session", &[("cookie", &cookie)], ""));
    assert_eq!(out.await.status(), 204);
    assert_eq!(change(Some(&mark)).await, 401);
}

#[tokio::test]
async fn a_token_tells_when_it_was_used_by_itself_and_by_its_sessions() {
    let scene = scene(ConsoleConfig::default()).await;
    let (token, id) = scene.token("viewer").await;
    let last_used = async || {
        let all = json_of(scene.local(ask("GET", "/v1/tokens", &[], "")).await).await;
        let own = all.as_array().unwrap().iter().find(|own| own["id"] == *id);
        own.unwrap()["last_used"].clone()
    };
    assert!(last_used().await.is_null(), "made, and not used");
    let wrong = format!("{token}0");
    assert_eq!(scene.with_token(&wrong, "GET", "/v1/services").await, 401);
    assert!(last_used().await.is_null(), "that was another one");
    assert_eq!(scene.with_token(&token, "GET", "/v1/services").await, 200);
    assert!(last_used().await.is_string());
    let cookie = scene.login(&token).await.unwrap();
    let long_ago = atoll_base::Timestamp::from_micros(0);
    scene.console.tokens().used(&id, long_ago);
    assert_eq!(last_used().await, json!(long_ago));
    let look = ask("GET", "/v1/services", &[("cookie", &cookie)], "");
    assert_eq!(scene.remote(look).await.status(), 200);
    assert_ne!(last_used().await, json!(long_ago), "its session was used");
}

#[tokio::test]
async fn a_link_logs_in_once() {
    let scene = scene(ConsoleConfig::default()).await;
    let code = scene.code().await;
    let cookie = scene.login(&code).await.unwrap();
    let me = scene.remote(ask("GET", "/v1/me", &[("cookie", &cookie)], ""));
    assert_eq!(json_of(me.await).await["role"], "admin");
    assert_eq!(scene.login(&code).await, None);
}

#[tokio::test]
async fn a_code_is_over_after_ten_minutes() {
    let scene = scene(ConsoleConfig::default()).await;
    let now = atoll_base::Timestamp::now();
    let sessions = scene.console.sessions();
    let code = sessions.code("local", now).unwrap();
    let late = now.after(std::time::Duration::from_secs(601));
    assert_eq!(sessions.redeem(&code, late), None);
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused() {
    let hosts = vec!["console.example.com".to_owned()];
    let config = ConsoleConfig {
        hosts,
        ..ConsoleConfig::default()
    };
    let scene = scene(config).await;
    let (token, _) = scene.token("viewer").await;
    let bearer = format!("Bearer {token}");
    for (host, status) in [
        ("evil.example:8484", 421),
        ("", 421),
        ("localhost.evil.example", 421),
        ("localhost:8484", 200),
        ("[::1]:8484", 200),
        ("console.example.com", 200),
    ] {
        let fields = [("host", host), ("authorization", bearer.as_str())];
        let answer = scene.remote(ask("GET", "/v1/services", &fields, "")).await;
        assert_eq!(answer.status(), status, "{host}");
        let fields = [("host", host), ("content-type", "application/json")];
        let body = json!({"token": token}).to_string();
        let answer = scene.remote(ask("POST", "/session", &fields, &body)).await;
        assert_eq!(answer.status() == 421, status == 421, "{host}");
    }
}

#[tokio::test]
async fn every_change_is_written_down_and_what_was_refused_is_not() {
    let scene = scene(ConsoleConfig::default()).await;
    let (token, _) = scene.token("operator").await;
    let deploy = "/v1/services/a/deployments";
    scene.with_token(&token, "POST", deploy).await;
    scene.with_token(&token, "GET", "/v1/services").await;
    scene.with_token("none", "POST", deploy).await;
    let page = scene.local(ask("GET", "/v1/audit?limit=1", &[], "")).await;
    let page = json_of(page).await;
    let entry = &page["entries"][0];
    assert_eq!(
        (
            &entry["who"],
            &entry["way"],
            &entry["path"],
            &entry["what"],
            &entry["status"]
        ),
        (
            &json!("a operator"),
            &json!("token"),
            &json!(deploy),
            &json!("scale to 3 instances"),
            &json!(202)
        )
    );
    let next = format!("/v1/audit?before={}", page["next"]);
    let rest = json_of(scene.local(ask("GET", &next, &[], "")).await).await;
    assert_eq!(rest["entries"].as_array().unwrap().len(), 1);
    assert_eq!(rest["entries"][0]["path"], "/v1/tokens");
    assert_eq!(
        rest["entries"][0]["what"],
        "make a token for a operator, operator"
    );
    assert_eq!(rest["entries"][0]["way"], "socket");
    assert_eq!(rest["next"], Value::Null);
}

#[tokio::test]
async fn pages_are_given_to_anyone_with_a_policy_and_the_api_is_not() {
    let scene = scene(ConsoleConfig::default()).await;
    for path in ["/", "/logs?q=a", "/services/orders"] {
        let answer = scene.remote(ask("GET", path, &[], "")).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
    }
    for (method, path, status) in [
        ("GET", "/v1/none", 404),
        ("GET", "/assets/old-1234.js", 404),
        ("POST", "/", 405),
    ] {
        let answer = scene.remote(ask(method, path, &[], "")).await;
        assert_eq!(answer.status(), status, "{path}");
    }
}

#[tokio::test]
async fn a_second_console_finds_another_port_and_one_that_is_named_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::open(&folder.path().join("state.db"), &[MIGRATION]).unwrap();
    let open = async |config: ConsoleConfig| Console::open(&config, sql.clone()).await;
    let first = open(ConsoleConfig::default()).await.unwrap();
    let second = open(ConsoleConfig::default()).await.unwrap();
    let taken = first.0.addr();
    assert_ne!(taken, second.0.addr());
    let named = ConsoleConfig {
        listen: taken,
        ..ConsoleConfig::default()
    };
    let error = open(named).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("choose another"), "{error}");
    let off = ConsoleConfig {
        enabled: false,
        ..ConsoleConfig::default()
    };
    let (console, listener) = open(off).await.unwrap();
    assert!(console.addr().is_none() && listener.is_none());
}

#[tokio::test]
async fn it_serves_over_tcp_until_the_node_stops() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempfile::tempdir().unwrap();
    let sql = Sql::open(&folder.path().join("state.db"), &[MIGRATION]).unwrap();
    let (console, listener) = Console::open(&ConsoleConfig::default(), sql).await.unwrap();
    let (addr, tasks) = (console.addr().unwrap(), Tasks::new());
    let running = console.run(listener.unwrap(), Router::new(), tasks.clone());
    let asking = async {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        tasks.stop();
    };
    tokio::join!(running, asking);
}
