//! `[logs]` of `atoll.toml`.

use atoll_base::{ByteCount, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much of the services' output is kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// All logs together take at most this much disk; the oldest go first. At least 1MiB.
    /// Default 1GiB.
    pub max_size: ByteCount,
    /// Lines older than this go. Default 7d.
    pub max_age: HumanDuration,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            max_size: ByteCount::gib(1),
            max_age: HumanDuration::secs(7 * 24 * 3600),
        }
    }
}

impl LogsConfig {
    /// The size at which a segment is closed and the next begun: an eighth of the whole, so that
    /// dropping the oldest never drops much, and at most 16 MiB, so that a search skips well.
    pub(crate) fn segment_bytes_max(&self) -> u64 {
        (self.max_size.0 / 8).clamp(64 << 10, 16 << 20)
    }
}
