//! `[scale]` and `[deploy]` of `service.toml`.

use atoll_base::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many instances of a service run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScaleConfig {
    /// Instances that run from the start. Default 1.
    #[schemars(range(min = 1, max = 1000))]
    pub min: u32,
    /// The most that `atoll scale` accepts. Default: no less than `min`, and 16.
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<u32>,
}

impl Default for ScaleConfig {
    fn default() -> Self {
        Self { min: 1, max: None }
    }
}

impl ScaleConfig {
    /// The most instances that may run.
    pub fn most(&self) -> u32 {
        self.max.unwrap_or(16).max(self.min)
    }
}

/// How a new revision takes over.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeployConfig {
    /// The new instances must all be ready within this time, or the deployment fails and the old
    /// revision goes on serving. Default 2m.
    pub timeout: HumanDuration,
    /// For so long after traffic has moved, the old instances stay: if a new one fails in this
    /// time, traffic moves back. Default 2s.
    pub watch: HumanDuration,
    /// Requests that the old instances still have are given this long to finish. Default 30s.
    pub drain: HumanDuration,
}

impl Default for DeployConfig {
    fn default() -> Self {
        Self {
            timeout: HumanDuration::secs(120),
            watch: HumanDuration::secs(2),
            drain: HumanDuration::secs(30),
        }
    }
}
