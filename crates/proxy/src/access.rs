//! The access log of the edge: a line for each request from outside, for the tools that read such
//! lines.
//!
//! It is off unless asked for: spans tell more, and a line costs as much as routing does. A worker
//! writes lines into memory and hands them over a few times a second; what is done with them is
//! the sink's affair. Everything in a line came from outside, so everything is escaped: no request
//! can begin a line of its own.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use atoll_base::{ByteCount, Percent, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Identity;
use crate::http::field::Fields;
use crate::recorder::Visit;

/// `[edge.access_log]`: a line for each request from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// The file, in the application's folder. Default `.atoll/access.log`.
    pub file: PathBuf,
    /// How lines are written: `json`, `common` (the Common Log Format) or `combined` (with referer
    /// and user agent). Default `json`.
    pub format: LogFormat,
    /// This part of requests, by chance. Those that end with 500 and above are written in any case.
    /// Default 100%.
    pub sample: Percent,
    /// When the file is larger than this, it gets `.1` added to its name, and a new one is begun.
    /// The one that had that name before is deleted. Default `100MiB`.
    pub max_size: ByteCount,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// An object on each line.
    #[default]
    Json,
    /// `host - user [time] "request" status bytes`.
    Common,
    /// The same with `"referer" "user agent"`.
    Combined,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            file: PathBuf::from(".atoll/access.log"),
            format: LogFormat::Json,
            sample: Percent::ALL,
            max_size: ByteCount::mib(100),
        }
    }
}

/// What is kept of a request until its line is written.
#[derive(Debug)]
pub(crate) struct Entry {
    client: IpAddr,
    method: String,
    target: String,
    version: &'static str,
    host: String,
    referer: String,
    agent: String,
    user: Option<Rc<Identity>>,
}

/// What is known when the answer has gone out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done<'a> {
    pub(crate) visit: &'a Visit,
    pub(crate) began: Timestamp,
    pub(crate) took: Duration,
    /// Bytes of the body that were handed to the system.
    pub(crate) bytes: u64,
}

/// The lines of one worker that were not yet handed over.
#[derive(Debug, Default)]
pub(crate) struct Lines(RefCell<String>);

/// Beyond this, lines are handed over at once.
const LINES_BYTES: usize = 64 << 10;

impl Entry {
    /// Of a request that could be read.
    pub(crate) fn new(
        client: IpAddr,
        (method, target, version): (&str, &str, &'static str),
        fields: &Fields<'_, '_>,
    ) -> Self {
        let text = |name| {
            let value = fields.get(name).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        Self {
            client,
            method: method.to_owned(),
            target: target.to_owned(),
            version,
            host: text("host"),
            referer: text("referer"),
            agent: text("user-agent"),
            user: None,
        }
    }

    /// Of one that could not.
    pub(crate) fn unreadable(client: IpAddr) -> Self {
        Self {
            client,
            method: String::new(),
            target: String::new(),
            version: "",
            host: String::new(),
            referer: String::new(),
            agent: String::new(),
            user: None,
        }
    }

    /// Whom it is from, once that is verified.
    pub(crate) fn by(&mut self, user: Option<Rc<Identity>>) {
        self.user = user;
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref().and_then(Identity::subject)
    }
}

impl Lines {
    /// Writes the line of a request; tells whether there are many now.
    pub(crate) fn add(&self, format: LogFormat, entry: &Entry, done: &Done<'_>) -> bool {
        let mut out = self.0.borrow_mut();
        match format {
            LogFormat::Json => json(entry, done, &mut out),
            LogFormat::Common => common(entry, done, &mut out),
            LogFormat::Combined => {
                common(entry, done, &mut out);
                out.push_str(" \"");
                quoted(or_dash(&entry.referer), &mut out);
                out.push_str("\" \"");
                quoted(or_dash(&entry.agent), &mut out);
                out.push('"');
            }
        }
        out.push('\n');
        out.len() >= LINES_BYTES
    }

    /// What was written since this was last asked.
    pub(crate) fn take(&self) -> Option<String> {
        let mut lines = self.0.borrow_mut();
        (!lines.is_empty()).then(|| std::mem::take(&mut *lines))
    }
}

fn json(entry: &Entry, done: &Done<'_>, out: &mut String) {
    #[derive(Serialize)]
    struct Line<'a> {
        time: Timestamp,
        client: IpAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        method: &'a str,
        host: &'a str,
        target: &'a str,
        protocol: &'a str,
        status: u16,
        bytes: u64,
        duration_ms: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        service: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'static str>,
        retries: u8,
        trace_id: String,
        #[serde(skip_serializing_if = "str::is_empty")]
        referer: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        user_agent: &'a str,
    }
    let visit = done.visit;
    let service = visit.service.as_ref();
    let instance = visit.pool.as_ref().map(|pool| pool.endpoint.instance());
    let line = Line {
        time: done.began,
        client: entry.client,
        user: entry.user(),
        method: &entry.method,
        host: &entry.host,
        target: &entry.target,
        protocol: entry.version,
        status: visit.status,
        bytes: done.bytes,
        duration_ms: (done.took.as_secs_f64() * 1e6).round() / 1e3,
        service: service.map(|service| service.name.as_str()),
        instance: instance.map(ToString::to_string),
        error: visit.error.map(|error| error.name()),
        retries: visit.retries,
        trace_id: visit.trace.trace.to_string(),
        referer: &entry.referer,
        user_agent: &entry.agent,
    };
    // Nothing in it can fail: the keys are texts.
    out.push_str(&serde_json::to_string(&line).unwrap_or_default());
}

/// The Common Log Format of NCSA httpd, as Apache writes it.
fn common(entry: &Entry, done: &Done<'_>, out: &mut String) {
    // Writing to memory does not fail.
    let _ = write!(out, "{} - ", entry.client);
    let mut user = String::new();
    quoted(or_dash(entry.user().unwrap_or_default()), &mut user);
    // A space would begin the next field.
    out.push_str(&user.replace(' ', "\\x20"));
    let _ = write!(out, " [{}] \"", date(done.began));
    if entry.method.is_empty() {
        out.push('-');
    } else {
        quoted(&entry.method, out);
        out.push(' ');
        quoted(&entry.target, out);
        let _ = write!(out, " {}", entry.version);
    }
    let _ = write!(out, "\" {} {}", done.visit.status, done.bytes);
}

/// `21/Nov/2026:08:00:00 +0000`.
fn date(moment: Timestamp) -> String {
    let moment = jiff::Timestamp::from_microsecond(moment.as_micros()).unwrap_or_default();
    moment.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// What may stand between quotes: the rest as `\xHH`, byte by byte.
fn quoted(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | ..b' ' | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02x}");
            }
            plain => out.push(char::from(plain)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{ErrorKind, Side};
    use crate::trace::{Random, TraceContext};

    fn line(format: LogFormat, entry: &Entry, status: u16) -> String {
        let random = Random::from_os().unwrap();
        let trace = TraceContext::continue_or_begin(None, &random);
        let mut visit = Visit::begin(trace, Side::Edge);
        visit.status = status;
        visit.error = (status >= 500).then_some(ErrorKind::Timeout);
        let lines = Lines::default();
        let done = Done {
            visit: &visit,
            began: Timestamp::from_micros(1_795_248_000_000_000),
            took: Duration::from_micros(1_234),
            bytes: 17,
        };
        lines.add(format, entry, &done);
        lines.take().unwrap()
    }

    fn hostile() -> Entry {
        Entry {
            client: "192.0.2.1".parse().unwrap(),
            method: "GET".to_owned(),
            target: "/a?b=\"c".to_owned(),
            version: "HTTP/1.1",
            host: "shop".to_owned(),
            referer: "http://x/\"\n127.0.0.1 - - \\".to_owned(),
            agent: String::new(),
            user: None,
        }
    }

    #[test]
    fn lines_are_in_the_format_that_tools_read() {
        assert_eq!(
            line(LogFormat::Common, &hostile(), 200),
            "192.0.2.1 - - [21/Nov/2026:08:00:00 +0000] \"GET /a?b=\\x22c HTTP/1.1\" 200 17\n"
        );
        assert_eq!(
            line(LogFormat::Combined, &hostile(), 200),
            "192.0.2.1 - - [21/Nov/2026:08:00:00 +0000] \"GET /a?b=\\x22c HTTP/1.1\" 200 17 \
             \"http://x/\\x22\\x0a127.0.0.1 - - \\x5c\" \"-\"\n"
        );
        let unreadable = Entry::unreadable("::1".parse().unwrap());
        assert_eq!(
            line(LogFormat::Common, &unreadable, 400),
            "::1 - - [21/Nov/2026:08:00:00 +0000] \"-\" 400 17\n"
        );
    }

    #[test]
    fn a_line_of_json_is_one_object() {
        let text = line(LogFormat::Json, &hostile(), 504);
        assert_eq!(text.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["time"], "2026-11-21T08:00:00.000000Z");
        assert_eq!(line["target"], "/a?b=\"c");
        assert_eq!(line["duration_ms"], 1.234);
        assert_eq!(line["error"], "timeout");
        assert_eq!(line["bytes"], 17);
        assert_eq!(line["trace_id"].as_str().unwrap().len(), 32);
    }
}
