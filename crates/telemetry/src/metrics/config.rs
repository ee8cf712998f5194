//! How much is kept of metrics.

use std::time::Duration;

/// How much is kept of metrics.
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// Series at a time. Default 20,000; one takes about 4 KiB.
    pub max_series: usize,
    /// History on disk older than this goes. Default 30 days.
    pub max_age: Duration,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            max_series: 20_000,
            max_age: Duration::from_secs(30 * 24 * 3600),
        }
    }
}
