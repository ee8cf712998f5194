//! What stands before each request: under which name it came, who it is, what they may, and a note of
//! what they changed.
//!
//! Three attacks by other web sites are closed here. A name that an attacker points at this machine
//! (DNS rebinding) is not ours, so its requests are refused. A form that a browser sends along with
//! the cookie (CSRF) lacks the mark that only our pages can read. And a cookie is never enough for a
//! change. Tokens need none of this: browsers do not send them by themselves.

use std::sync::Arc;
use std::time::Duration;

use atoll_base::Timestamp;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use subtle::ConstantTimeEq as _;

use crate::audit::Note;
use crate::problem::Problem;
use crate::role::{Role, is_safe};
use crate::service::Console;

/// The field that proves a change to be wanted.
pub(crate) const CSRF: &str = "x-atoll-csrf";

/// How often it is looked whether whoever has a stream open is still known. What takes tokens and sessions back says
/// so at once; this is for sessions whose time is over.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Answers that go on until somebody ends them.
const STREAMS: [&str; 2] = ["text/event-stream", "application/x-ndjson"];

/// How somebody may come.
pub(crate) const WAYS: [&str; 3] = ["token", "session", "socket"];

/// Whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// For people.
    pub name: String,
    /// What they may.
    pub role: Role,
    /// How they came: `token`, `session` or `socket`.
    pub way: &'static str,
    /// What changes of this session are proved by.
    pub(crate) csrf: Option<String>,
}

impl Who {
    /// Whether they came by the Unix socket: they own the node's folder.
    pub fn is_local(&self) -> bool {
        self.way == SOCKET
    }
}

/// The way by the Unix socket.
const SOCKET: &str = "socket";

/// The Unix socket: whoever can open it owns the folder, and may do everything.
pub(crate) async fn local(
    State(console): State<Console>,
    request: Request,
    next: Next,
) -> Response {
    let who = Who {
        name: "local".to_owned(),
        role: Role::Admin,
        way: SOCKET,
        csrf: None,
    };
    answer(&console, who, request, next).await
}

/// A request over TCP to the API.
pub(crate) async fn guard(
    State(console): State<Console>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    match admit(&console, &head).await {
        Ok(who) => answer(&console, who, Request::from_parts(head, body), next).await,
        Err(problem) => refused(problem),
    }
}

async fn admit(console: &Console, head: &Parts) -> Result<Who, Problem> {
    check_name(console, head)?;
    let headers = &head.headers;
    let who = identify(console, headers).await??;
    let needed = Role::needed(&head.method, head.uri.path());
    if who.role < needed {
        let (name, role) = (&who.name, who.role.as_str());
        let detail = format!(
            "this needs the role {}; {name} is {role}. `atoll token create --role {0}` makes a token",
            needed.as_str()
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if let Some(expected) = &who.csrf
        && !is_safe(&head.method)
    {
        let shown = headers.get(CSRF).map_or(&[][..], HeaderValue::as_bytes);
        if !bool::from(shown.ct_eq(expected.as_bytes())) {
            let detail = "the field X-Atoll-CSRF is missing or wrong; load the page again";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
    }
    Ok(who)
}

/// Whether the request came under a name of ours. Addresses are always: nobody can point them
/// elsewhere.
pub(crate) fn check_name(console: &Console, head: &Parts) -> Result<(), Problem> {
    let named = head.headers.get(header::HOST);
    let named = named.and_then(|own| own.to_str().ok());
    let named = named.or_else(|| head.uri.authority().map(|own| own.as_str()));
    let host = named.map(host_of).unwrap_or_default();
    let is_address = host
        .trim_matches(['[', ']'])
        .parse::<std::net::IpAddr>()
        .is_ok();
    let hosts = &console.config().hosts;
    let ours = is_address
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
    if ours {
        return Ok(());
    }
    let detail = format!("'{host}' is no name of this console; add it to `[console] hosts`");
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
}

/// The host of `HOST[:PORT]`.
fn host_of(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority
            .find(']')
            .map_or(authority, |end| &authority[..=end]);
    }
    authority.split(':').next().unwrap_or_default()
}

/// Whoever asks; the inner error: nobody that is known.
pub(crate) async fn identify(
    console: &Console,
    headers: &HeaderMap,
) -> Result<Result<Who, Problem>, Problem> {
    let unknown = |detail| Ok(Err(Problem::new(StatusCode::UNAUTHORIZED, detail)));
    let now = Timestamp::now();
    if let Some(token) = bearer(headers) {
        let Some(found) = console.tokens().find(token, now).await? else {
            return unknown("the token is not known, or was taken back");
        };
        return Ok(Ok(Who {
            name: found.name,
            role: found.role,
            way: "token",
            csrf: None,
        }));
    }
    let Some(cookie) = cookie(headers, &console.cookie_name()) else {
        return unknown(
            "log in: `atoll console` prints a link, or send a token as `Authorization: Bearer`",
        );
    };
    let Some(found) = console.sessions().find(cookie, now).await? else {
        return unknown("the session is over; log in again");
    };
    if let Some(token) = &found.token {
        console.tokens().used(token, now);
    }
    Ok(Ok(Who {
        name: found.name,
        role: found.role,
        way: "session",
        csrf: Some(found.csrf),
    }))
}

/// The token of a request (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A cookie by its name (RFC 6265, section 5.4).
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|own| own.to_str().ok())
        .flat_map(|own| own.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// Has it answered, for as long as whoever asks is known.
async fn answer(console: &Console, who: Who, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(who.clone());
    let (headers, is_local) = (request.headers().clone(), who.is_local());
    let response = if is_safe(request.method()) {
        next.run(request).await
    } else {
        change(console, who, request, next).await
    };
    if is_local {
        return response;
    }
    while_known(console, headers, response)
}

/// Has it answered, and writes down what it changed.
async fn change(console: &Console, who: Who, mut request: Request, next: Next) -> Response {
    let note = Note::default();
    request.extensions_mut().insert(note.clone());
    let (method, path) = (
        request.method().clone(),
        Arc::<str>::from(request.uri().path()),
    );
    let audit = console.audit().clone();
    // In a task of its own: who goes away while it is done has changed something all the same.
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever asks waits for its end, and is told of its panic"
    )]
    let changed = tokio::spawn(async move {
        let response = next.run(request).await;
        let status = response.status().as_u16();
        let written = audit.write(&who, method.as_str(), &path, &note, status);
        if let Err(error) = written.await {
            tracing::error!(%error, who = who.name, %method, %path, status, "a change is missing in the audit log");
        }
        response
    });
    changed.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change has failed");
        let detail = "it has failed within the node; its log tells why";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
    })
}

/// The answer; a stream ends when nobody is known any more by these headers.
fn while_known(console: &Console, headers: HeaderMap, response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|own| own.to_str().ok()).unwrap_or_default();
    if !STREAMS.iter().any(|stream| kind.starts_with(stream)) {
        return response;
    }
    let unknown = Box::pin(unknown(console.clone(), headers));
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(unknown)))
}

/// Waits until nobody is known by these headers. While it cannot be told, they are.
async fn unknown(console: Console, headers: HeaderMap) {
    let mut endings = console.endings();
    while !matches!(identify(&console, &headers).await, Ok(Err(_))) {
        tokio::select! {
            _ = endings.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn refused(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let how = HeaderValue::from_static("Bearer realm=\"atoll\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_ports() {
        for (authority, host) in [
            ("localhost:8484", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]:8484", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        let all = HeaderValue::from_static("a=1; xsid=2; sid=3; sid=4");
        headers.insert(header::COOKIE, all);
        assert_eq!(cookie(&headers, "sid"), Some("3"));
        assert_eq!(cookie(&headers, "si"), None);
    }
}
