//! Errors of the admin API: one shape for all, with the code that `atoll explain` knows.

use atoll_base::Coded;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::types::Problem;
use crate::node::OrderError;

/// The width of mistakes drawn in an answer.
const DRAWING_WIDTH: usize = 100;

impl Problem {
    /// A problem with a status and a detail.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: None,
            drawing: None,
            mistakes: Box::default(),
        }
    }

    fn coded(status: StatusCode, error: &dyn Coded) -> Self {
        Self {
            code: Some(error.code().to_string()),
            ..Self::new(status, error.to_string())
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        atoll_console::answer_problem(self.status, &self)
    }
}

impl From<atoll_deploy::Error> for Problem {
    fn from(error: atoll_deploy::Error) -> Self {
        use atoll_deploy::Error;
        let status = match &error {
            Error::NoService(_) | Error::NoRevision { .. } => StatusCode::NOT_FOUND,
            Error::Busy { .. } => StatusCode::CONFLICT,
            Error::Scale { .. } | Error::Pruned { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Build { .. } | Error::RolledBack { .. } | Error::Late { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Error::Artifact { .. } | Error::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Error::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::coded(status, &error)
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Deploy(error) => error.into(),
            OrderError::Topics(error) => Self::coded(StatusCode::CONFLICT, &error),
            OrderError::Manifest(report) => Self {
                code: Some("ATL0100".to_owned()),
                drawing: Some(report.render(false, DRAWING_WIDTH)),
                mistakes: report.mistakes().into(),
                ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, report.to_string())
            },
            OrderError::OtherService(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
        }
    }
}

impl From<atoll_telemetry::Error> for Problem {
    fn from(error: atoll_telemetry::Error) -> Self {
        Self::coded(StatusCode::INTERNAL_SERVER_ERROR, &error)
    }
}

/// There is no such path.
pub async fn not_found(uri: Uri) -> Problem {
    let detail = format!("there is no {}; see /v1/openapi.json", uri.path());
    Problem::new(StatusCode::NOT_FOUND, detail)
}
