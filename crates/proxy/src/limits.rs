//! The limits that are fixed, each with the reason for its value.
//!
//! They are constants and not settings: every one of them protects the process or follows from a
//! convention of the field, and none needs to differ between two applications.

use std::num::NonZeroUsize;
use std::time::Duration;

/// More threads than this bring nothing on a machine that also runs the services.
pub const DEFAULT_THREADS_MAX: NonZeroUsize = NonZeroUsize::new(4).expect("four is not zero");

/// The head of a request or answer, in bytes: what nginx (4 x 8 KiB) and most servers take.
pub const HEAD_BYTES_MAX: usize = 32 << 10;

/// The first line of a request, in bytes (RFC 9112 recommends at least 8000).
pub const REQUEST_LINE_BYTES_MAX: usize = 8 << 10;

/// Empty lines before a request that are passed over. RFC 9112, 2.2, asks for one.
pub const EMPTY_LINES_MAX: usize = 4;

/// The number of header fields of a message: what Apache and most servers take.
pub const FIELDS_MAX: usize = 100;

/// An answer whose body is known to be this small is collected before its first byte is passed
/// on: an instance that dies between head and body then costs the client nothing.
pub const HOLD_BYTES_MAX: usize = 16 << 10;

/// Read buffers. One read takes in nearly every request and small answer.
pub const BUFFER_BYTES: usize = 16 << 10;

/// Read buffers of a transfer that filled the small one: fewer system calls for large bodies.
pub const LARGE_BUFFER_BYTES: usize = 128 << 10;

/// Idle connections kept to one instance by one worker thread. Fewer than there are requests at once,
/// and most of them open a connection each; those that are not used are closed after some seconds.
pub const IDLE_PER_ENDPOINT_MAX: usize = 512;

/// How long an idle connection to an instance is kept. Common servers close at 5 s (Node, uvicorn,
/// Go's examples); leaving first avoids the race between their closing and our next request.
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(4);

/// How long making a connection to an instance may take. It is on this machine or next to it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a service may take until the head of its answer, unless it or the route says else.
pub const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a service may pause within the body of its answer, unless the route's timeout is longer.
pub const RESPONSE_IDLE: Duration = Duration::from_secs(60);

/// How long an upgraded connection (WebSocket) may stay silent in both directions, and a stream of
/// events (`text/event-stream`) in its one. Both are silent by nature.
pub const UPGRADED_IDLE: Duration = Duration::from_secs(3600);

/// The same once the proxy is stopping: they have no end of their own to be waited for.
pub const STOPPING_IDLE: Duration = Duration::from_secs(1);

/// An instance that refused or broke a connection is avoided for this long if there are others.
pub const SUSPECT_FOR: Duration = Duration::from_millis(100);

/// Attempts after the first one, at most, whatever is set. Each goes to an instance that was not
/// tried if there is one.
pub const RETRIES_MAX: u8 = 10;

/// Retries of all requests together that one request from outside has caused.
pub const RETRIES_PER_TREE: u8 = 3;

/// A client that ends its side of the connection may be gone, or may only have said all that it has to
/// say: the same sign for both. For so long it gets what the service answers; then the work is ended.
pub const HALF_CLOSED_GRACE: Duration = Duration::from_secs(1);

/// A body that is not small must come with so many bytes per second, once `body_timeout` is over: it holds
/// a place of the service that others could have.
pub const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 512;

/// The time that a route or a service gives is taken for a deadline of the whole request only if its
/// body is at most this large, in bytes. Sending a larger one may take longer than answering it.
pub const SMALL_BODY_BYTES: u64 = 64 << 10;

/// Requests larger than this, in bytes, are not copied to a mirror: a copy is held in memory.
pub const MIRROR_BYTES_MAX: usize = 1 << 20;

/// Copies that one worker has under way at once; there are none of further requests. A mirror that
/// is slow must not fill the memory.
pub const MIRRORS_MAX: u32 = 64;

/// A service that ignores `Expect: 100-continue` for this long: the proxy answers 100 for it.
pub const CONTINUE_AFTER: Duration = Duration::from_secs(1);

/// How long the rest of a refused request is read and thrown away, so that the refusal arrives
/// instead of being destroyed by a reset (RFC 9112, 9.6).
pub const LINGER: Duration = Duration::from_secs(2);

/// Streams that a client may have open on one HTTP/2 connection: what nginx takes, above the 100
/// that RFC 9113 recommends at least.
pub const H2_STREAMS_MAX: u32 = 128;

/// How far a sender of HTTP/2 may be ahead of us on one stream, in bytes. On one machine there is
/// no distance to fill; this is enough for a fast link of 20 ms.
pub const H2_STREAM_WINDOW: u32 = 256 << 10;

/// The same for all streams of a connection together: what one client can make us hold.
pub const H2_CONNECTION_WINDOW: u32 = 1 << 20;

/// How much of an answer is kept for a stream of a slow client, in bytes.
pub const H2_SEND_BUFFER: usize = 64 << 10;

/// Streams that a client began and reset and that are still remembered. More of them is a flood
/// ("rapid reset", CVE-2023-44487) and ends the connection.
pub const H2_RESETS_MAX: usize = 32;

/// A caller in the mesh that nobody knows is looked for again after this long: a new process may
/// call before its start was told.
pub const LOOK_FOR_CALLER: Duration = Duration::from_millis(10);

/// So many times; then it is refused.
pub const LOOKS_FOR_CALLER: u32 = 20;

/// A request waits this long for another one's answer that may be kept. Then it goes for itself.
pub const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// A service that is asked whether a request may come has this long to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A request with a token by a key that is not known waits this long for the keys to be fetched.
pub const KEYS_WITHIN: Duration = Duration::from_secs(2);

/// The period of a worker's clockwork: deadlines are met to within this.
pub const TICK: Duration = Duration::from_millis(100);

/// Spans are handed to the sink after so many ticks, or when [`SPANS_PER_BATCH`] are there.
pub const TICKS_PER_FLUSH: u32 = 2;

/// A batch of spans is handed over early when it has grown to this many.
pub const SPANS_PER_BATCH: usize = 8192;

/// Paths in spans are cut here, in bytes.
pub const SPAN_PATH_BYTES_MAX: usize = 256;

/// File descriptors that clients cannot take: those of health checks, of new instances, of files.
const DESCRIPTORS_KEPT: u64 = 512;

/// How many edge connections may be open at once: as many as the process has file descriptors for,
/// two each (the client's and the service's), without those that must stay free. A flood of clients
/// must never starve the health checks; the supervisor would take every instance for dead.
pub fn edge_connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let descriptors = limit.unwrap_or(u64::MAX);
    let left = descriptors
        .saturating_sub(DESCRIPTORS_KEPT)
        .max(descriptors / 4);
    usize::try_from(left / 2).unwrap_or(usize::MAX)
}
