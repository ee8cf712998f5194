//! The pages: files that were built into the binary.
//!
//! They hold no data, so anyone may have them. Their names carry a hash of their content, so browsers
//! keep them for ever; the one page that names them is asked for each time. What the page may do is
//! said by a policy: nothing is loaded from anywhere else, and no other site may frame it.

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use rust_embed::RustEmbed;

use crate::problem::Problem;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/ui"]
struct Files;

/// The page that all views begin with.
const PAGE: &str = "index.html";

/// What browsers are told about everything. Styles that scripts set are inline to the policy.
const TOLD: [(header::HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        header::HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// A method that a path of the API does not know; the field `Allow` says which it does.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!(
        "{} is not for {method}; /v1/openapi.json lists all",
        uri.path()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// A file of the pages; for every path that is none, the page itself: it knows its views.
pub(crate) async fn file(method: Method, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path == "v1" || path.starts_with("v1/") {
        let detail = format!("there is no {}; /v1/openapi.json lists all", uri.path());
        return Problem::new(StatusCode::NOT_FOUND, detail).into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        let detail = "pages are only read";
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
    }
    let asset = path.starts_with("assets/");
    let name = if Files::get(path).is_some() {
        path
    } else {
        PAGE
    };
    // A file of an older version must not be taken for the page.
    let found = Files::get(name).filter(|_| !asset || name != PAGE);
    let Some(found) = found else {
        return Problem::new(StatusCode::NOT_FOUND, "there is no such file").into_response();
    };
    let mut response = Response::new(Body::from(found.data.into_owned()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind(name));
    let keep = if asset {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    for (name, value) in TOLD {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn kind(name: &str) -> HeaderValue {
    let kind = match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    HeaderValue::from_static(kind)
}
