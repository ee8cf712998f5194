//! HTTP/2 (RFC 9113), as a coat over the one pipeline: each stream is read and written as an
//! HTTP/1.1 connection that has a single request.
//!
//! ```text
//!  client ── h2 connection ─┬─ Stream: frames ⇄ HTTP/1.1 text ── connection.rs ── service
//!                           └─ Stream …
//!  client ── connection.rs ── Call: HTTP/1.1 text ⇄ frames ── Link (h2 connection) ── service
//! ```
//! The text never leaves the process. What it costs is a copy of the head and a copy of the body's
//! bytes; what it buys is that routing, limits, authorization and retries exist once, and that
//! everything an HTTP/2 client sends passes the same strict parser as everything else: the usual
//! ways to smuggle requests through a downgrade end there. Frames, flow control and HPACK are the
//! crate `h2`'s. A window opens again only when bytes were passed on, so a slow reader at one end
//! stops the writer at the other.

mod body;
mod call;
mod flood;
mod link;
mod serve;
mod stream;
mod text;

pub(crate) use self::call::Call;
pub(crate) use self::link::{Link, Links};
pub(crate) use self::serve::{PREFACE, serve};
pub(crate) use self::stream::Stream;
