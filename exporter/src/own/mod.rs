//! What synspan tells of itself, by the OpenTelemetry SDK: its metrics and its log, to the exporters that
//! `service.telemetry` names. What it finds out about connections is no part of it.
//!
//! Each of them has a thread of the SDK's own, so that a backend that does not answer makes nothing else wait.

mod export;
pub mod log;
pub mod meter;
mod resource;

pub use resource::resource;

use std::time::Duration;

use crate::deliver::GrpcOptions;

/// What the SDK logs at each try that fails; here it is said when it changes, by the exporter.
pub const SAID_AT_EACH_TRY: &str = "Export.Failed.Exhausted";

/// Where it goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// By OTLP, as the exporter of that id does.
    Otlp(String, Box<GrpcOptions>),
    /// To standard output.
    Console,
}

/// How long the end may take to send what is pending, for each of metrics and log.
const LAST_WORDS: Duration = Duration::from_secs(3);
