//! What a role may do. Pure: method and path in, yes or no out.
//!
//! A viewer looks. An operator changes what runs: deploys, restarts, redrives, purges. An admin also
//! says who may come, reads who did what, and stops the node. What is not listed needs an operator if
//! it changes anything: a route that is added and forgotten here is safe by default.

use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What somebody may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// And change what runs.
    Operator,
    /// And say who may do so.
    Admin,
}

/// Paths that are an admin's alone, with all below them.
const ADMINS: [&str; 4] = ["/v1/tokens", "/v1/audit", "/v1/keys", "/v1/node/stop"];

impl Role {
    /// The role that a request needs.
    pub fn needed(method: &Method, path: &str) -> Self {
        let below = |own: &str| {
            let rest = path.strip_prefix(own);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if ADMINS.into_iter().any(below) {
            Self::Admin
        } else if is_safe(method) {
            Self::Viewer
        } else {
            Self::Operator
        }
    }

    /// The role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Whether a request changes nothing (RFC 9110, section 9.2.1).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Viewer, Self::Operator, Self::Admin];
        let found = all.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("'{text}' is no role: viewer, operator or admin"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_is_a_viewer_and_who_changes_an_operator() {
        let needed = |method: Method, path| Role::needed(&method, path);
        assert_eq!(needed(Method::GET, "/v1/services"), Role::Viewer);
        assert_eq!(needed(Method::POST, "/v1/cache/purge"), Role::Operator);
        assert_eq!(needed(Method::PATCH, "/v1/unheard-of"), Role::Operator);
        assert_eq!(needed(Method::GET, "/v1/tokens"), Role::Admin);
        assert_eq!(needed(Method::GET, "/v1/keys/7/revoke"), Role::Admin);
        assert_eq!(needed(Method::POST, "/v1/node/stop"), Role::Admin);
        assert_eq!(needed(Method::GET, "/v1/tokens-of-joy"), Role::Viewer);
        assert!(Role::Admin > Role::Operator && Role::Operator > Role::Viewer);
    }
}
