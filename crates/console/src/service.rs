//! The console: opened once, asked by every request.

use std::net::SocketAddr;
use std::sync::Arc;

use atoll_base::{Tasks, Timestamp};
use atoll_store::{Migration, Sql};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest as _, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router, middleware};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use utoipa::{IntoParams, OpenApi, ToSchema};

use crate::audit::{Audit, AuditPage, Note};
use crate::config::ConsoleConfig;
use crate::door::{self, Who};
use crate::problem::Problem;
use crate::role::Role;
use crate::sessions::{SESSION_LASTS, Sessions};
use crate::tokens::{TokenView, Tokens};
use crate::{Error, pages};

/// Tokens, sessions and the audit log.
pub const MIGRATION: Migration = Migration {
    subsystem: "console",
    steps: &[
        "
        CREATE TABLE console_tokens (
            id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,
            created INTEGER NOT NULL, revoked INTEGER
        ) STRICT;
        CREATE TABLE console_sessions (
            hash TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, token TEXT,
            csrf TEXT NOT NULL, ends INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE console_audit (
            number INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, who TEXT NOT NULL,
            role TEXT NOT NULL, way TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
            status INTEGER NOT NULL
        ) STRICT;
    ",
        "ALTER TABLE console_audit ADD COLUMN what TEXT NOT NULL DEFAULT '';",
    ],
};

/// Entries of the audit log on one page.
const PAGE_MAX: u32 = 1000;

/// Who may come, and what they did. A cheap handle.
#[derive(Debug, Clone)]
pub struct Console(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: ConsoleConfig,
    addr: Option<SocketAddr>,
    tokens: Tokens,
    sessions: Sessions,
    audit: Audit,
    /// Told when a token was taken back, or a session ended.
    endings: watch::Sender<()>,
}

/// Whoever is logged in.
#[derive(Debug, Serialize, ToSchema)]
struct Me {
    /// For people.
    name: String,
    /// What they may.
    role: Role,
    /// Sent as `X-Atoll-CSRF` with each change; empty where none is needed.
    csrf: String,
}

/// What a session is begun with.
#[derive(Debug, Deserialize, ToSchema)]
struct Login {
    /// A token, or a code of `atoll console`.
    token: String,
}

/// A token to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Who has it, for people.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

/// A token that was made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MadeToken {
    /// The token. It is shown this once.
    pub token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub view: TokenView,
}

/// Where a browser is logged in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Good for ten minutes, once.
    pub url: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// Older ones than this number: `next` of the page before.
    before: Option<i64>,
    /// So many at most, up to 1,000. Default 100.
    limit: Option<u32>,
}

/// What the console adds to the admin API.
#[derive(Debug, OpenApi)]
#[openapi(paths(whoami, login, logout, me, tokens, create, revoke, audit, link))]
pub struct Document;

impl Console {
    /// Takes the port, if there is to be a console. [`MIGRATION`] was run in `sql`.
    ///
    /// # Errors
    /// When the port that is named is taken.
    pub async fn open(
        config: &ConsoleConfig,
        sql: Sql,
    ) -> Result<(Self, Option<TcpListener>), Error> {
        let listener = if config.enabled {
            Some(bind(config).await?)
        } else {
            None
        };
        let addr = listener.as_ref().and_then(|own| own.local_addr().ok());
        let console = Self(Arc::new(Shared {
            config: config.clone(),
            addr,
            tokens: Tokens::new(sql.clone()),
            sessions: Sessions::new(sql.clone()),
            audit: Audit::new(sql),
            endings: watch::Sender::new(()),
        }));
        Ok((console, listener))
    }

    /// Where browsers reach it; none if there is no console.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.0.addr
    }

    /// The API as it is served on the Unix socket. Who comes by it needs no session, and may ask for it.
    pub fn local(&self, api: Router) -> Router {
        let all = self.routes().merge(api).route("/session", get(me));
        let all = all.method_not_allowed_fallback(pages::wrong_method);
        all.route_layer(middleware::from_fn_with_state(self.clone(), door::local))
    }

    /// The API and the pages as they are served over TCP.
    pub fn remote(&self, api: Router) -> Router {
        let all = self.routes().merge(api);
        let all = all.method_not_allowed_fallback(pages::wrong_method);
        let guarded = all.route_layer(middleware::from_fn_with_state(self.clone(), door::guard));
        let session = get(whoami).post(login).delete(logout);
        let session = Router::new().route("/session", session);
        let session = session.method_not_allowed_fallback(pages::wrong_method);
        guarded
            .merge(session.with_state(self.clone()))
            .fallback(pages::file)
    }

    /// Serves browsers and programs until the node stops.
    pub async fn run(self, listener: TcpListener, api: Router, tasks: Tasks) {
        let router = self.remote(api);
        let stopping = {
            let tasks = tasks.clone();
            async move { tasks.stopping().await }
        };
        let served = axum::serve(listener, router).with_graceful_shutdown(stopping);
        if let Err(error) = served.await {
            tracing::error!(%error, "the console has ended");
        }
    }

    fn routes(&self) -> Router {
        Router::new()
            .route("/v1/me", get(me))
            .route("/v1/tokens", get(tokens).post(create))
            .route("/v1/tokens/{id}/revoke", post(revoke))
            .route("/v1/audit", get(audit))
            .route("/v1/tokens/link", post(link))
            .with_state(self.clone())
    }

    pub(crate) fn config(&self) -> &ConsoleConfig {
        &self.0.config
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    pub(crate) fn endings(&self) -> watch::Receiver<()> {
        self.0.endings.subscribe()
    }

    /// Cookies know no ports: two consoles on one machine must not end each other's sessions.
    pub(crate) fn cookie_name(&self) -> String {
        let port = self.0.addr.map_or(0, |addr| addr.port());
        format!("atoll_session_{port}")
    }

    fn cookie(&self, value: &str, age: u64) -> HeaderValue {
        let name = self.cookie_name();
        let secure = if self.0.config.behind_tls {
            "; Secure"
        } else {
            ""
        };
        let cookie =
            format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
        HeaderValue::from_str(&cookie).expect("hex digits and words are visible ASCII")
    }
}

impl From<Who> for Me {
    fn from(who: Who) -> Self {
        Self {
            name: who.name,
            role: who.role,
            csrf: who.csrf.unwrap_or_default(),
        }
    }
}

async fn bind(config: &ConsoleConfig) -> Result<TcpListener, Error> {
    let mut last = None;
    for addr in config.addrs() {
        match TcpListener::bind(addr).await {
            Ok(listener) => return Ok(listener),
            Err(source) => last = Some(Error::Listen { addr, source }),
        }
    }
    Err(last.expect("there is always an address"))
}

/// Begins a session, in a cookie: with a token, or with a code of `atoll console`. Not over the socket.
#[utoipa::path(
    post, path = "/session", request_body = Login, security(()),
    responses((status = 204, description = "The cookie"), (status = 401, description = "Nobody's token"))
)]
async fn login(State(console): State<Console>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    door::check_name(&console, &head)?;
    let read = Json::<Login>::from_request(Request::from_parts(head, body), &()).await;
    let Json(Login { token }) = read.map_err(|_| {
        let detail = "send {\"token\": \"…\"} as application/json";
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    let (token, now) = (token.trim(), Timestamp::now());
    let session = if let Some(name) = console.sessions().redeem(token, now) {
        console
            .sessions()
            .begin(&name, Role::Admin, None, now)
            .await?
    } else {
        let found = console.tokens().find(token, now).await?;
        let found = found.ok_or_else(|| {
            let detail = "this token is not known: `atoll console` prints a link that logs you in, \
                          once and within ten minutes";
            Problem::new(StatusCode::UNAUTHORIZED, detail)
        })?;
        let (name, role) = (&found.name, found.role);
        let begun = console.sessions().begin(name, role, Some(&found.id), now);
        begun.await?
    };
    let cookie = console.cookie(&session, SESSION_LASTS.as_secs());
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Who is logged in; null if nobody is. Pages ask this first, and nobody is no error.
#[utoipa::path(get, path = "/session", security(()), responses((status = 200, body = Option<Me>)))]
async fn whoami(
    State(console): State<Console>,
    request: Request,
) -> Result<Json<Option<Me>>, Problem> {
    let (head, _) = request.into_parts();
    door::check_name(&console, &head)?;
    let who = door::identify(&console, &head.headers).await?;
    Ok(Json(who.ok().map(Me::from)))
}

/// Ends the session. Nobody but the browser itself can ask for it: the cookie is for this site alone. Not
/// over the socket.
#[utoipa::path(
    delete, path = "/session", security(()), responses((status = 204, description = "It is over"))
)]
async fn logout(State(console): State<Console>, headers: HeaderMap) -> Result<Response, Problem> {
    if let Some(cookie) = door::cookie(&headers, &console.cookie_name()) {
        console.sessions().end(cookie).await?;
        console.0.endings.send_replace(());
    }
    let cookie = console.cookie("", 0);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Who asks.
#[utoipa::path(get, path = "/v1/me", responses((status = 200, body = Me)))]
async fn me(Extension(who): Extension<Who>) -> Json<Me> {
    Json(who.into())
}

/// All tokens, but for their texts.
#[utoipa::path(get, path = "/v1/tokens", responses((status = 200, body = [TokenView])))]
async fn tokens(State(console): State<Console>) -> Result<Json<Vec<TokenView>>, Problem> {
    Ok(Json(console.tokens().list().await?))
}

/// Makes a token.
#[utoipa::path(
    post, path = "/v1/tokens", request_body = NewToken,
    responses((status = 201, body = MadeToken), (status = 422, description = "No name"))
)]
async fn create(
    State(console): State<Console>,
    Extension(note): Extension<Note>,
    new: Result<Json<NewToken>, JsonRejection>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let Json(new) = new?;
    note.write(&format!(
        "make a token for {}, {}",
        new.name,
        new.role.as_str()
    ));
    let (token, view) = console.tokens().create(&new.name, new.role).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { token, view })))
}

/// Takes a token back, and ends the sessions that were begun by it, with the streams that either has open.
#[utoipa::path(
    post, path = "/v1/tokens/{id}/revoke", params(("id" = String, Path)),
    responses((status = 200, body = TokenView), (status = 404, description = "There is none"))
)]
async fn revoke(
    State(console): State<Console>,
    Extension(note): Extension<Note>,
    Path(id): Path<String>,
) -> Result<Json<TokenView>, Problem> {
    let revoked = console.tokens().revoke(&id).await?;
    console.0.endings.send_replace(());
    let (name, role) = (&revoked.name, revoked.role.as_str());
    note.write(&format!("take back the token of {name}, {role}"));
    Ok(Json(revoked))
}

/// Who changed what, the newest first.
#[utoipa::path(get, path = "/v1/audit", params(AuditQuery), responses((status = 200, body = AuditPage)))]
async fn audit(
    State(console): State<Console>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditPage>, Problem> {
    let Query(query) = query?;
    let count = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    Ok(Json(console.audit().page(query.before, count).await?))
}

/// Makes a link that logs a browser in as an admin.
#[utoipa::path(
    post, path = "/v1/tokens/link",
    responses((status = 200, body = Link), (status = 409, description = "There is no console"))
)]
async fn link(
    State(console): State<Console>,
    Extension(who): Extension<Who>,
    Extension(note): Extension<Note>,
) -> Result<Json<Link>, Problem> {
    note.write("make a link that logs an admin in");
    let addr = console.addr().ok_or_else(|| {
        let detail = "there is no console: `[console] enabled` is false";
        Problem::new(StatusCode::CONFLICT, detail)
    })?;
    let code = console.sessions().code(&who.name, Timestamp::now())?;
    let host = console.config().hosts.first();
    let place = match host {
        Some(host) if console.config().behind_tls => format!("https://{host}"),
        _ => format!("http://{addr}"),
    };
    Ok(Json(Link {
        url: format!("{place}/login#token={code}"),
    }))
}
