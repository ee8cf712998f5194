//! The command line's side of the admin API.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use atoll_store::StateDir;
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::types::Problem;
use crate::node::STATE_FOLDER;

/// How often it is looked whether a node whose connection broke has ended.
const LOOKS_FOR_END: u32 = 20;
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// A way to the node of one application. Each call is a connection of its own: it is a local
/// socket, and a node that was started anew in between is found again.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why a call failed, as far as the command line treats it differently.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No node runs.
    #[error("no node runs in {}; start it with `atoll up`", .0.display())]
    NotRunning(PathBuf),
    /// The node refuses.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The connection broke.
    #[error("the connection to the node broke: {0}")]
    Broken(String),
}

/// A body that comes line by line.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Client {
    /// To the node of the application in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self {
            socket: super::path(dir),
        }
    }

    /// `GET` and parse.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let response = self.call(Method::GET, path, Bytes::new()).await?;
        parse(&read(response).await?)
    }

    /// `POST` and parse.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| broken(&error))?;
        let response = self.call(Method::POST, path, body.into()).await?;
        parse(&read(response).await?)
    }

    /// `POST` without a body and without an answer.
    pub async fn command(&self, path: &str) -> Result<(), CallError> {
        self.call(Method::POST, path, Bytes::new()).await.map(drop)
    }

    /// `POST` without an answer.
    pub async fn order(&self, path: &str, body: &impl Serialize) -> Result<(), CallError> {
        let body = serde_json::to_vec(body).map_err(|error| broken(&error))?;
        self.call(Method::POST, path, body.into()).await.map(drop)
    }

    /// `POST`, and the answer line by line.
    pub async fn post_lines(&self, path: &str, body: &impl Serialize) -> Result<Lines, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| broken(&error))?;
        let response = self.call(Method::POST, path, body.into()).await?;
        Ok(Lines {
            body: response.into_body(),
            buffer: Vec::new(),
        })
    }

    /// `GET`, line by line.
    pub async fn lines(&self, path: &str) -> Result<Lines, CallError> {
        let response = self.call(Method::GET, path, Bytes::new()).await?;
        Ok(Lines {
            body: response.into_body(),
            buffer: Vec::new(),
        })
    }

    /// Whether a node answers.
    pub async fn is_running(&self) -> bool {
        super::connect(&self.socket).await.is_ok()
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let stream = super::connect(&self.socket)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let shook = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = match shook {
            Ok(both) => both,
            Err(error) => return Err(self.lost(&error).await),
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the connection")]
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "atoll")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| broken(&error))?;
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => return Err(self.lost(&error).await),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = read(response).await?;
        let problem = serde_json::from_slice(&text)
            .unwrap_or_else(|_| Problem::new(status, String::from_utf8_lossy(&text).into_owned()));
        Err(CallError::Refused(Box::new(problem)))
    }

    /// A connection that broke before there was an answer. The kernel takes connections for a process
    /// that is just ending; then no node runs, in a moment.
    async fn lost(&self, error: &dyn std::fmt::Display) -> CallError {
        let state = self.folder().join(STATE_FOLDER);
        for _ in 0..LOOKS_FOR_END {
            if !StateDir::is_held(&state) {
                return CallError::NotRunning(self.folder().to_owned());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        broken(error)
    }

    /// The application's folder.
    fn folder(&self) -> &Path {
        self.socket.ancestors().nth(3).unwrap_or(&self.socket)
    }

    fn unreachable(&self, error: &io::Error) -> CallError {
        use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
        if matches!(error.kind(), ConnectionRefused | NotFound | NotADirectory) {
            CallError::NotRunning(self.folder().to_owned())
        } else {
            broken(error)
        }
    }
}

impl Lines {
    /// The next line without its end; none at the end of the body.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.context("the connection to the node broke")?;
            if let Ok(mut data) = frame.into_data() {
                while data.has_remaining() {
                    let chunk = data.chunk().len();
                    self.buffer.extend_from_slice(data.chunk());
                    data.advance(chunk);
                }
            }
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes, CallError> {
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| broken(&error))?;
    Ok(body.to_bytes())
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(text).map_err(|error| broken(&error))
}

fn broken(error: &dyn std::fmt::Display) -> CallError {
    CallError::Broken(error.to_string())
}

/// Percent-encodes for a part of a path or for a query.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
