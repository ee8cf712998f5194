//! ApiVersions: what is understood here. The one request that even a client from the future gets an
//! answer to (KIP-511).

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use crate::wire::kinds::KINDS;
use crate::wire::{self, BadRequest, Request};

pub(crate) fn answer(request: &Request) -> Result<Bytes, BadRequest> {
    request.answer(&known(0))
}

/// The answer to a request that is not understood: what is. Only ApiVersions has one.
pub(crate) fn not_known(error: &BadRequest) -> Result<Bytes, BadRequest> {
    match *error {
        BadRequest::Version {
            kind: ApiKey::ApiVersions,
            correlation,
            ..
        } => {
            let code = ResponseError::UnsupportedVersion.code();
            wire::encode(ApiKey::ApiVersions, 0, correlation, &known(code))
        }
        BadRequest::Version { kind, version, .. } => Err(BadRequest::Body {
            kind,
            version,
            reason: "the version is not known here".to_owned(),
        }),
        BadRequest::Kind(kind) => Err(BadRequest::Kind(kind)),
        _ => Err(BadRequest::Head),
    }
}

fn known(error_code: i16) -> ApiVersionsResponse {
    let kinds = KINDS.iter().map(|kind| {
        ApiVersion::default()
            .with_api_key(kind.key as i16)
            .with_min_version(kind.least)
            .with_max_version(kind.most)
    });
    ApiVersionsResponse::default()
        .with_error_code(error_code)
        .with_api_keys(kinds.collect())
}
