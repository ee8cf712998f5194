//! `[telemetry]` of `atoll.toml`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use atoll_base::{ByteCount, HumanDuration, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::otlp::{ExportUrl, PortConfig};

/// What is kept of what happened, where services with an SDK of OpenTelemetry send theirs, and where all of
/// it is sent on to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Logs and spans together take at most this much disk; the oldest go first. At least 1MiB.
    /// Default 1GiB.
    pub max_size: ByteCount,
    /// Logs and spans older than this go. Default 7d.
    pub max_age: HumanDuration,
    /// Which passages of requests through the proxy become spans. Default `all`.
    pub hops: Hops,
    /// Of traces without an error and without a slow span, this part is kept, chosen by the trace id. Default
    /// 100%.
    pub sample: Percent,
    /// A span that takes so long or longer is slow, and its trace is kept whole. Default 1s.
    pub sample_slow: HumanDuration,
    /// Where OTLP over gRPC is taken, or "off". Default "127.0.0.1:4317".
    pub otlp_grpc: PortConfig,
    /// Where OTLP over HTTP is taken, or "off". Default "127.0.0.1:4318".
    pub otlp_http: PortConfig,
    /// Where telemetry is sent on to, by OTLP: "http://collector:4318". Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportUrl>,
    /// How it is carried there. Default `http`.
    pub export_protocol: ExportProtocol,
    /// A file with headers for it, a line for each: `authorization: Bearer …`; relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_headers: Option<PathBuf>,
    /// A file with certificates: only what these have signed is believed of who takes it, instead of what this
    /// system trusts. Relative to this file. Needs an address with `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_ca: Option<PathBuf>,
    /// What waits to be sent on takes at most this much disk; the oldest goes first. Default 256MiB.
    pub export_buffer: ByteCount,
}

/// How telemetry is carried to where it is sent on to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportProtocol {
    /// OTLP over HTTP, as protobuf; mostly at port 4318. `/v1/traces` and so on come after the address.
    #[default]
    Http,
    /// OTLP over gRPC; mostly at port 4317.
    Grpc,
}

/// Which passages of requests become spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hops {
    /// All of them.
    #[default]
    All,
    /// Those that failed. It spares the processor where requests are many and cheap; the map, routes and
    /// costs then know of failures alone. Counters and metrics go on.
    Failed,
}

/// The port for gRPC that OTLP is known by.
const GRPC_PORT: u16 = 4317;
/// The port for HTTP that OTLP is known by.
const HTTP_PORT: u16 = 4318;

/// Rows older than this leave the memory for a Parquet file.
pub(crate) const HOT_AGE_MAX: Duration = Duration::from_secs(600);

impl Default for TelemetryConfig {
    fn default() -> Self {
        let local = |port| PortConfig(Some((Ipv4Addr::LOCALHOST, port).into()));
        Self {
            max_size: ByteCount::gib(1),
            max_age: HumanDuration::secs(7 * 24 * 3600),
            hops: Hops::All,
            sample: Percent::ALL,
            sample_slow: HumanDuration::secs(1),
            otlp_grpc: local(GRPC_PORT),
            otlp_http: local(HTTP_PORT),
            export: None,
            export_protocol: ExportProtocol::Http,
            export_headers: None,
            export_ca: None,
            export_buffer: ByteCount::mib(256),
        }
    }
}

impl TelemetryConfig {
    /// What is wrong with it: the key, what, and what to do.
    pub fn mistakes(&self) -> Vec<(&'static str, String, &'static str)> {
        ExportUrl::mistakes(
            self.export.as_ref(),
            ("export_headers", self.export_headers.is_some()),
            ("export_ca", self.export_ca.is_some()),
            "add `export = \"https://…\"`",
        )
    }

    /// The key of the node's own port to which telemetry would be sent on, if it would.
    pub fn sends_to_own(&self) -> Option<&'static str> {
        let (key, port) = match self.export_protocol {
            ExportProtocol::Http => ("otlp_http", self.otlp_http),
            ExportProtocol::Grpc => ("otlp_grpc", self.otlp_grpc),
        };
        let (address, export) = port.0.zip(self.export.as_ref())?;
        export.leads_to(address).then_some(key)
    }

    /// So many bytes of rows of one kind are gathered in memory, and in its write-ahead log, before a
    /// Parquet file is made of them: at most 32 MiB, and little of the whole, because files go as a whole.
    pub(crate) fn hot_bytes_max(&self) -> usize {
        let share = (self.max_size.0 / 8).clamp(64 << 10, 32 << 20);
        usize::try_from(share).expect("it is at most 32 MiB")
    }
}
