//! The API over a bus in memory, request by request.

mod idempotency;
mod jobs;
mod odd;
mod publish;
mod read;

use std::sync::Arc;

use atoll_base::{ServiceName, Tasks};
use atoll_store::Sql;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::bus::memory::Memory;

/// Everybody but `stranger` may do everything; `strict` takes objects only.
struct Open;

impl Rights for Open {
    fn may_publish(&self, caller: &ServiceName, _: &str) -> bool {
        caller.as_str() != "stranger"
    }

    fn may_read(&self, caller: &ServiceName, _: &str) -> bool {
        caller.as_str() != "stranger"
    }

    fn check(&self, topic: &str, value: Option<&Bytes>, _: Option<&str>) -> Result<(), String> {
        match value {
            Some(value) if topic == "strict" && !value.starts_with(b"{") => {
                Err("/: it is no object".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// An API, and what is behind it.
struct World {
    bus: Memory,
    sql: Sql,
    tasks: Tasks,
    caller: &'static str,
    limits: Limits,
    folder: Arc<tempfile::TempDir>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl World {
    fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let bus = Memory::default();
        bus.create("orders", 1);
        bus.create("wide", 3);
        bus.create("strict", 1);
        Self {
            bus,
            sql: Sql::open(&folder.path().join("state.db"), &[MIGRATION]).unwrap(),
            tasks: Tasks::new(),
            caller: "shop",
            limits: Limits::default(),
            folder,
        }
    }

    /// The same bus and the same file, with nothing else kept.
    fn restarted(&self) -> Self {
        Self {
            bus: self.bus.clone(),
            sql: Sql::open(&self.folder.path().join("state.db"), &[MIGRATION]).unwrap(),
            tasks: Tasks::new(),
            caller: self.caller,
            limits: self.limits,
            folder: Arc::clone(&self.folder),
        }
    }

    fn router(&self) -> Router {
        self.over(self.bus.clone())
    }

    /// The same API over another bus.
    fn over(&self, bus: impl Bus) -> Router {
        let rights = Arc::new(Open);
        let (sql, tasks) = (self.sql.clone(), self.tasks.clone());
        router(State::new(Arc::new(bus), rights, sql, tasks, self.limits))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let caller = Caller(ServiceName::new(self.caller).unwrap());
        request.extension(caller).body(body).unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.router().oneshot(request).await.unwrap()).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.send(self.request("POST", path, headers, body.into()))
            .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path, &[], Body::empty()))
            .await
    }
}

impl Answer {
    async fn of(response: axum::response::Response) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    fn is_problem(&self, status: u16, says: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let detail = self.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(says), "{detail}");
    }

    #[track_caller]
    fn is_published(&self, count: usize) -> Vec<Value> {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, 201, "{text}");
        let records = self.json()["records"].as_array().unwrap().clone();
        assert_eq!(records.len(), count, "{text}");
        records
    }
}
